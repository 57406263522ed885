//! The pipeline on one screen: a review in, changed images, what policy demands of them, what is proved, a reply out.
//!
//! Everything but `proof` is a plain function. What each phase makes of the findings is in `ruling`.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join;
use serde_json::Value;
use tokio::time::Instant;

use crate::cluster::{Access, Authorize, Namespaces};
use crate::policy::{Labels, Mode, PolicySet, Requirement};
use crate::reference::Reference;
use crate::review::images::{self, Image, Unreadable};
use crate::review::logins::PullSources;
pub use crate::review::wire::Malformed;
use crate::review::wire::{self, Operation, Request};
use crate::review::workload::{Place, is_rewritable, resource_word};
use crate::telemetry::Metrics;
use crate::trust::Verify;

pub use self::deadline::deadline;
use self::decision::Decision;
pub use self::policies::Policies;
use self::proof::Rules;
use self::ruling::Stance;

mod bypass;
mod deadline;
mod decision;
mod finding;
mod policies;
mod proof;
mod record;
mod ruling;
mod text;

/// The four entries the API server calls (ADM-60). Each is a path of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// `/mutate`: pins what it can prove, in templates only where a policy wants it; never denies.
    Mutate,
    /// `/validate`: the authority, on the final object.
    Validate,
    /// `/audit`: for namespaces in audit mode; warns of what would be denied.
    Audit,
    /// `/advise`: for pod templates.
    Advise,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 4] = [Self::Mutate, Self::Validate, Self::Audit, Self::Advise];

    /// The phase that says what becomes of a request where nothing may be denied (AUD-01); `None` if nothing does.
    const fn in_mode(self, mode: Mode) -> Option<Self> {
        match (mode, self) {
            (Mode::Enforce, phase) => Some(phase),
            (Mode::Audit, Self::Mutate) => None,
            (Mode::Audit, Self::Validate | Self::Audit | Self::Advise) => Some(Self::Audit),
        }
    }

    /// The word for logs and metrics, and the last segment of the path.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mutate => "mutate",
            Self::Validate => "validate",
            Self::Audit => "audit",
            Self::Advise => "advise",
        }
    }
}

/// Answers reviews.
#[derive(Debug)]
pub struct Admission<V, A = Access> {
    verify: Arc<V>,
    policies: Arc<ArcSwap<PolicySet>>,
    namespaces: Namespaces,
    access: A,
    mode: Mode,
    metrics: Arc<Metrics>,
    limit: Duration,
}

impl<V: Verify> Admission<V> {
    /// An admission under whatever `policies` hold when a review arrives. No decision takes longer than `limit`,
    /// however long the API server would wait.
    pub fn new(
        verify: Arc<V>,
        policies: Arc<ArcSwap<PolicySet>>,
        metrics: Arc<Metrics>,
        limit: Duration,
    ) -> Self {
        Self {
            verify,
            policies,
            namespaces: Namespaces::default(),
            access: Access::default(),
            mode: Mode::Enforce,
            metrics,
            limit,
        }
    }
}

impl<V: Verify, A: Authorize> Admission<V, A> {
    /// The same where namespaces have labels. Without them a review carries the name of its namespace, which policies
    /// match as a label, and no other label.
    #[must_use]
    pub fn in_cluster(self, namespaces: Namespaces) -> Self {
        Self { namespaces, ..self }
    }

    /// The same where `access` knows who may do without content trust. Without it nobody may.
    #[must_use]
    pub fn with_access<B: Authorize>(self, access: B) -> Admission<V, B> {
        Admission {
            verify: self.verify,
            policies: self.policies,
            namespaces: self.namespaces,
            access,
            metrics: self.metrics,
            limit: self.limit,
            mode: self.mode,
        }
    }

    /// The same in `mode`, which outranks what policies and labels say: under [`Mode::Audit`] nothing is denied and nothing
    /// pinned, and what would be denied is said (AUD-01, AUD-02).
    #[must_use]
    pub fn in_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Answers the review in `body`, the body of a request whose URL had `query`. The answer is the body of a
    /// response with status 200, whatever was decided.
    ///
    /// # Errors
    ///
    /// [`Malformed`], to be answered with status 400: what cannot be read has no uid to answer to (ADM-67).
    pub async fn answer(&self, phase: Phase, body: &[u8], query: Option<&str>) -> Result<Vec<u8>, Malformed> {
        let started = Instant::now();
        let request = self.parse(phase, body, started)?;
        let until = started + deadline(query, self.limit);
        // One snapshot serves the whole request.
        let policies = self.policies.load_full();
        let labels = self.labels(&policies, &request.namespace, until).await;
        let rules = |namespace: &str, image: &Reference| policies.select(namespace, labels.as_ref(), image);
        let standing = |namespace: &str| Standing {
            unreadable: policies.mode(namespace, labels.as_ref()),
            templates: if policies.pin_workloads(namespace, labels.as_ref()) {
                Templates::Pin
            } else {
                Templates::Keep
            },
        };
        Ok(self
            .decide(phase, &request, (started, until), &rules, &standing)
            .await)
    }

    fn parse<'a>(&self, phase: Phase, body: &'a [u8], started: Instant) -> Result<Request<'a>, Malformed> {
        wire::parse(body).inspect_err(|_| self.count_malformed(phase, started))
    }

    /// Those of the namespace, if any policy asks for them; `None` if they are unknown.
    async fn labels(&self, policies: &PolicySet, namespace: &str, until: Instant) -> Option<Labels> {
        if policies.reads_labels() {
            self.namespaces.labels(namespace, until).await
        } else {
            Some(Labels::new())
        }
    }

    /// The answer to `request`, with the policies as a function.
    async fn decide(
        &self,
        phase: Phase,
        request: &Request<'_>,
        (started, until): (Instant, Instant),
        rules: &(impl Fn(&str, &Reference) -> Vec<Requirement> + Sync),
        standing: &(impl Fn(&str) -> Standing + Sync),
    ) -> Vec<u8> {
        let namespace = request.namespace.as_str();
        let Standing {
            unreadable,
            templates,
        } = standing(namespace);
        let plan = phase
            .in_mode(self.mode)
            .map_or(Plan::allow("audit_mode"), |phase| plan(phase, request, templates));
        let decision = match plan {
            Plan::Allow { reason, warning } => Decision::allow(reason, warning),
            Plan::Refuse { stance, error } => ruling::unreadable(stance, unreadable, &error),
            Plan::Look {
                stance,
                images,
                name,
                sources,
            } => {
                let rules = Rules {
                    select: |image: &Reference| rules(namespace, image),
                    namespace,
                    unreadable,
                };
                let questions = proof::questions(&images, stance, &rules);
                // At once: whoever needs a bypass may need it because verification takes all the time there is.
                let (findings, bypass) = join(
                    proof::find(self.verify.as_ref(), questions, stance.need(), &sources, until),
                    bypass::ask(&self.access, stance, request, until),
                )
                .await;
                let decision = ruling::rule(stance, &images, &findings).about(name);
                match bypass {
                    Some(bypass) => bypass.apply(decision, namespace),
                    None => decision,
                }
            }
        };
        let decision = decision.heard_by(&request.user);
        self.record(phase, request, &decision, started);
        decision.into_reply(request.uid.clone()).to_bytes()
    }

    fn count_malformed(&self, phase: Phase, started: Instant) {
        let (operation, resource) = (Operation::Other.word(), "other");
        self.metrics.admission(
            phase.word(),
            operation,
            resource,
            "error",
            false,
            started.elapsed(),
        );
    }

    fn record(&self, phase: Phase, request: &Request<'_>, decision: &Decision, started: Instant) {
        let took = started.elapsed();
        self.metrics.admission(
            phase.word(),
            request.operation.word(),
            resource_word(request),
            decision.word(),
            request.dry_run,
            took,
        );
        if let Some(bypass) = &decision.bypass {
            self.metrics.bypass(bypass.word());
        }
        record::line(phase.word(), self.mode, request, decision, took);
    }
}

/// What the policies say of a namespace, whatever the image.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// Whether what cannot be read is denied.
    unreadable: Mode,
    templates: Templates,
}

/// What becomes of pod templates before they are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Templates {
    /// They stay as they were written: the Pods made from them are pinned.
    Keep,
    /// They are pinned like Pods (ADM-37).
    Pin,
}

/// What is to be done about a request.
#[derive(Debug)]
enum Plan {
    /// Nothing in it is ours to judge.
    Allow {
        reason: &'static str,
        warning: Option<&'static str>,
    },
    /// It is ours, but cannot be read.
    Refuse { stance: Stance, error: Unreadable },
    /// These images are new or changed.
    Look {
        stance: Stance,
        images: Vec<Image>,
        /// What the object is called in logs.
        name: String,
        /// Where its logins are.
        sources: PullSources,
    },
}

impl Plan {
    const fn allow(reason: &'static str) -> Self {
        Self::Allow {
            reason,
            warning: None,
        }
    }
}

/// Neither owners nor deletion nor a scale of zero lets a changed image through unseen (ADM-33, ADM-35).
fn plan(phase: Phase, request: &Request<'_>, templates: Templates) -> Plan {
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return Plan::allow("operation");
    }
    let (stance, root) = match Place::of(request) {
        Place::Harmless => return Plan::allow("subresource"),
        Place::Unknown => {
            return Plan::Allow {
                reason: "unknown_resource",
                warning: Some(UNKNOWN_RESOURCE),
            };
        }
        // A mirror of what a kubelet already runs: denying it would hide it, not stop it (AVL-30).
        // It creates them and nothing else, and who is a kubelet the API server has found out, not the object.
        Place::Pod
            if request.user.is_node()
                && request.subresource.is_empty()
                && request.operation == Operation::Create =>
        {
            return Plan::allow("node");
        }
        place @ (Place::Pod | Place::Template { .. }) => {
            match (stance(phase, place, request, templates), place.root()) {
                (Some(stance), Some(root)) => (stance, root),
                _ => return Plan::allow("template"),
            }
        }
    };
    match subject(request, root) {
        Ok((images, ..)) if images.is_empty() => Plan::allow("unchanged"),
        Ok((images, name, sources)) => Plan::Look {
            stance,
            images,
            name,
            sources,
        },
        Err(error) => Plan::Refuse { stance, error },
    }
}

/// Templates are pinned where a policy wants it and no controller would be provoked (ADM-34, ADM-37).
fn stance(phase: Phase, place: Place, request: &Request<'_>, templates: Templates) -> Option<Stance> {
    match (phase, place) {
        (Phase::Mutate, Place::Template { .. }) => {
            (templates == Templates::Pin && is_rewritable(request)).then_some(Stance::Pin)
        }
        _ => Stance::of(phase, place),
    }
}

const UNKNOWN_RESOURCE: &str = "countersign does not know this resource and admitted it unseen: the rules of its webhook configuration are too wide";

/// The images to look at, what to call the object they are in, and where its logins are.
fn subject(request: &Request<'_>, root: &str) -> Result<(Vec<Image>, String, PullSources), Unreadable> {
    let object = request.object().ok_or(Unreadable::NoObject)?;
    let old = (request.operation == Operation::Update)
        .then(|| request.old_object())
        .flatten();
    let images = images::changed(images::extract(&object, old.as_ref(), root)?)?;
    let sources = PullSources::of(&object, root, &request.namespace);
    Ok((images, display_name(request, &object), sources))
}

/// A name that is still to be generated is shown as its beginning and `*` (§1.2).
fn display_name(request: &Request<'_>, object: &Value) -> String {
    let start = object.pointer("/metadata/generateName").and_then(Value::as_str);
    match start {
        Some(start) if request.name.is_empty() => format!("{start}*"),
        Some(_) | None => request.name.clone(),
    }
}

#[cfg(test)]
mod tests;
