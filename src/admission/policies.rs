//! `/policy`: policies are judged when they are written, by the compiler that puts them in force (CRD-23).
//!
//! What is refused here would have denied what it governs. References to objects that are not there are only warned of,
//! as the order in which objects are applied is not ours to judge. Nothing else that is written is ever held up: neither
//! a status nor the removal of a finalizer, nor a deletion.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::deadline::deadline;
use super::decision::Decision;
use super::{Malformed, record};
use crate::cluster::References;
use crate::policy::{Mode, PolicyError, examine_object, line, read_object};
use crate::review::verdict::{self, Complaint, Ruling, Status};
use crate::review::wire::policy::Text;
use crate::review::wire::{self, Operation, Request};
use crate::review::workload::resource_word;
use crate::telemetry::{Metrics, chain};
use crate::trust::Trust;

/// The word for logs and metrics, and the path.
const PHASE: &str = "policy";

/// Answers reviews of policies.
#[derive(Debug)]
pub struct Policies {
    trust: Trust,
    references: References,
    mode: Mode,
    metrics: Arc<Metrics>,
    limit: Duration,
}

impl Policies {
    /// With `Mode::Audit` nothing is denied, and what would be is said (AUD-01). No answer takes longer than `limit`.
    pub const fn new(
        trust: Trust,
        references: References,
        mode: Mode,
        metrics: Arc<Metrics>,
        limit: Duration,
    ) -> Self {
        Self {
            trust,
            references,
            mode,
            metrics,
            limit,
        }
    }

    /// Answers the review in `body`, the body of a request whose URL had `query`, with the body of a response with status
    /// 200.
    ///
    /// # Errors
    ///
    /// [`Malformed`], to be answered with status 400 (ADM-67).
    pub async fn answer(&self, body: &[u8], query: Option<&str>) -> Result<Vec<u8>, Malformed> {
        let started = Instant::now();
        let request = wire::parse(body).inspect_err(|_| {
            let operation = Operation::Other.word();
            self.metrics
                .admission(PHASE, operation, "other", "error", false, started.elapsed());
        })?;
        let until = started + deadline(query, self.limit);
        let decision = self.decide(&request, until).await.heard_by(&request.user);
        let took = started.elapsed();
        self.metrics.admission(
            PHASE,
            request.operation.word(),
            resource_word(&request),
            decision.word(),
            request.dry_run,
            took,
        );
        record::line(PHASE, self.mode, &request, &decision, took);
        Ok(decision.into_reply(request.uid.clone()).to_bytes())
    }

    async fn decide(&self, request: &Request<'_>, until: Instant) -> Decision {
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return Decision::allow("operation", None);
        }
        if !request.subresource.is_empty() {
            return Decision::allow("subresource", None);
        }
        if resource_word(request) == "other" || request.resource.group != GROUP {
            return Decision::allow("unknown_resource", Some(UNKNOWN));
        }
        let Some(policy) = request.policy() else {
            return self.ruled(&["the object cannot be read".to_owned()], Vec::new());
        };
        if request.operation == Operation::Update
            && request.old_policy().is_some_and(|old| policy.same_spec(&old))
        {
            return Decision::allow("unchanged", None);
        }
        let (errors, warnings) = self.examine(&policy, &request.namespace, until).await;
        self.ruled(&errors, warnings)
    }

    /// What is wrong, and what is hardly meant.
    async fn examine(
        &self,
        policy: &Text<'_>,
        namespace: &str,
        until: Instant,
    ) -> (Vec<String>, Vec<String>) {
        let lines = |errors: &[PolicyError]| errors.iter().map(line).collect();
        let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
        let document = match read_object(&policy.to_json(namespace)) {
            Ok(document) => document,
            Err(errors) => return (lines(&errors), Vec::new()),
        };
        let answers = self.references.answers(&document.to_json(), until).await;
        let examined = examine_object(&document, &answers)
            .unusable(|verifier| self.trust.check(verifier).err().map(|fault| chain(&fault)));
        (lines(&examined.errors), lines(&examined.warnings))
    }

    fn ruled(&self, errors: &[String], warnings: Vec<String>) -> Decision {
        if errors.is_empty() {
            let warnings = verdict::warnings(warnings);
            let ruling = Ruling::Allowed {
                patch: None,
                warnings,
            };
            return Decision::of(ruling, "policy_valid");
        }
        let ruling = match self.mode {
            // 400: who may write policies is not the question, and of `Invalid` kubectl would not show the message.
            Mode::Enforce => Ruling::Denied {
                status: Status::BadRequest,
                message: {
                    let complaints: Vec<_> = errors.iter().map(|error| Complaint::new(error, "")).collect();
                    verdict::message(&complaints)
                },
            },
            Mode::Audit => {
                let denied = errors.iter().map(|error| format!("would be denied: {error}"));
                Ruling::Allowed {
                    patch: None,
                    warnings: verdict::warnings(denied.chain(warnings)),
                }
            }
        };
        Decision {
            would_deny: true,
            error: Some(errors.join("; ")),
            ..Decision::of(ruling, "policy_invalid")
        }
    }
}

const GROUP: &str = "countersign.dev";
const UNKNOWN: &str = "countersign does not know this resource and admitted it unseen: the rules of policy.countersign.dev are too wide";

#[cfg(test)]
mod tests;
