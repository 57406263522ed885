//! What became of each policy, written to its status.
//!
//! Every replica writes, by server-side apply under one name: they say the same, and what is there already is not
//! written again. A replica says each thing once, so that two who disagree do not go on contradicting each other. No
//! leader is needed for that, and none whose loss would keep the status silent.
//!
//! Of trust servers two replicas may see different things for long. So each tells what it sees when that changes, lets
//! stand what another one said, and contradicts it only after [`STANDS`]: who said it may be gone.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

use super::REQUEST;
use super::kind::Kind;
use super::signs::Contact;
use crate::policy::resource::{Condition, ConditionStatus, PolicyStatus};
use crate::policy::{Compiled, PolicyName};

/// The field manager.
const MANAGER: &str = "countersign";
/// A status that could not be written is tried again after this, and written no more often (CRD-34).
const RETRY: Duration = Duration::from_secs(5);
/// How long what another replica said of trust servers stands.
const STANDS: Duration = Duration::from_secs(600);
/// The condition about trust servers.
const REACHABLE: &str = "TrustServerReachable";
/// Most characters of a condition's message, as its schema has it.
const MESSAGE: usize = 1024;

/// What is to be said about one policy.
#[derive(Clone, Debug)]
pub(super) struct Report {
    name: PolicyName,
    uid: Option<String>,
    said: Said,
    /// What this replica has seen of its trust servers.
    contact: Option<Contact>,
    /// What its status said when we read it.
    before: PolicyStatus,
}

/// What makes two reports the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    generation: Option<i64>,
    rules: Option<i32>,
    ready: bool,
    reason: String,
    message: String,
}

impl Report {
    pub(super) fn new(object: &DynamicObject, compiled: &Compiled, contact: Option<Contact>) -> Self {
        let status = object.data.get("status").cloned().unwrap_or_default();
        let (ready, reason, message) = match &compiled.fault {
            None => (true, "InForce", "the policy is in force as written"),
            Some(fault) => (false, fault.reason, fault.message.as_str()),
        };
        Self {
            name: (*compiled.policy.name).clone(),
            uid: object.metadata.uid.clone(),
            said: Said {
                generation: object.metadata.generation,
                rules: i32::try_from(compiled.policy.rules()).ok(),
                ready,
                reason: reason.to_owned(),
                message: message.chars().take(MESSAGE).collect(),
            },
            contact,
            // One that cannot be read is replaced.
            before: serde_json::from_value(status).unwrap_or_default(),
        }
    }

    /// Whether somebody has said it all already.
    fn is_told(&self) -> bool {
        let said = &self.said;
        let tells = |condition: &Condition| {
            condition.kind == "Ready"
                && (condition.status == ConditionStatus::True) == said.ready
                && condition.reason == said.reason
                && condition.message == said.message
                && condition.observed_generation == said.generation
        };
        self.before.observed_generation == said.generation
            && self.before.rules == said.rules
            && self.before.conditions.iter().any(tells)
    }

    /// Whether the status says of trust servers what this replica has seen, or need not: `news` is whether that is new.
    fn contact_stands(&self, news: bool, now: Timestamp) -> bool {
        let Some(contact) = &self.contact else { return true };
        let before = self
            .before
            .conditions
            .iter()
            .find(|before| before.kind == REACHABLE);
        let Some(before) = before else { return false };
        let same = (before.status, &before.reason, &before.message)
            == (contact.status, &contact.reason, &contact.message);
        // What is not known contradicts nothing.
        let silent = contact.status == ConditionStatus::Unknown;
        let stands = || {
            let age = Duration::try_from(now.duration_since(before.last_transition_time.0));
            age.is_ok_and(|age| age < STANDS)
        };
        same || silent || (!news && stands())
    }

    /// `speaks` is whether it says what this replica has seen of trust servers, or what stands there.
    fn status(&self, speaks: bool, now: Timestamp) -> PolicyStatus {
        let said = &self.said;
        let (ready, degraded) = if said.ready {
            (ConditionStatus::True, ConditionStatus::False)
        } else {
            (ConditionStatus::False, ConditionStatus::True)
        };
        let main = |kind, status| self.condition(kind, status, &said.reason, &said.message, now);
        let stood = self
            .before
            .conditions
            .iter()
            .find(|before| before.kind == REACHABLE);
        let reachable = match (stood, &self.contact) {
            (Some(stood), Some(_)) if !speaks => Some(Condition {
                observed_generation: said.generation,
                ..stood.clone()
            }),
            (_, contact) => contact.as_ref().map(|contact| {
                let message: String = contact.message.chars().take(MESSAGE).collect();
                self.condition(REACHABLE, contact.status, &contact.reason, &message, now)
            }),
        };
        PolicyStatus {
            observed_generation: said.generation,
            rules: said.rules,
            conditions: [main("Ready", ready), main("Degraded", degraded)]
                .into_iter()
                .chain(reachable)
                .collect(),
        }
    }

    /// The time of the last transition is that of the status, not of the reason.
    fn condition(
        &self,
        kind: &str,
        status: ConditionStatus,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> Condition {
        let before = self.before.conditions.iter();
        let mut same = before.filter(|before| before.kind == kind && before.status == status);
        Condition {
            kind: kind.to_owned(),
            status,
            observed_generation: self.said.generation,
            last_transition_time: same
                .next()
                .map_or(Time(now), |before| before.last_transition_time.clone()),
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }
}

/// What one object was told by this replica, and when.
#[derive(Debug)]
struct Told {
    uid: Option<String>,
    said: Said,
    contact: Option<Contact>,
    written: Option<Instant>,
}

/// Writes reports.
pub(super) struct Reporter<N> {
    client: Client,
    now: N,
    told: BTreeMap<PolicyName, Told>,
}

impl<N: Fn() -> Timestamp> Reporter<N> {
    pub(super) const fn new(client: Client, now: N) -> Self {
        Self {
            client,
            now,
            told: BTreeMap::new(),
        }
    }

    pub(super) async fn run(mut self, mut wanted: watch::Receiver<Vec<Report>>) -> Infallible {
        let mut settled = true;
        loop {
            let changed = wanted.changed();
            if settled {
                if changed.await.is_err() {
                    return std::future::pending().await;
                }
            } else {
                // Whether something changed meanwhile or not, there is something to write.
                let _ = timeout_at(Instant::now() + RETRY, changed).await;
            }
            let reports = wanted.borrow_and_update().clone();
            settled = self.write(&reports).await;
        }
    }

    /// Gives whether all is said.
    async fn write(&mut self, reports: &[Report]) -> bool {
        self.told
            .retain(|name, _| reports.iter().any(|report| report.name == *name));
        let mut settled = true;
        for report in reports {
            settled &= self.write_one(report).await;
        }
        settled
    }

    async fn write_one(&mut self, report: &Report) -> bool {
        let now = (self.now)();
        let before = self.told.get(&report.name).filter(|told| told.uid == report.uid);
        let written = before.and_then(|told| told.written);
        let told = report.is_told() || before.is_some_and(|told| told.said == report.said);
        let news = before.is_none_or(|told| told.contact != report.contact);
        let speaks = !report.contact_stands(news, now);
        let waits = || written.is_some_and(|written| written.elapsed() < RETRY);
        if (!told || speaks) && (waits() || !self.tell(report, speaks, now).await) {
            return false;
        }
        let written = if told && !speaks {
            written
        } else {
            Some(Instant::now())
        };
        self.told.insert(
            report.name.clone(),
            Told {
                uid: report.uid.clone(),
                said: report.said.clone(),
                contact: report.contact.clone(),
                written,
            },
        );
        true
    }

    async fn tell(&self, report: &Report, speaks: bool, now: Timestamp) -> bool {
        let kind = Kind::of(&report.name);
        let resource = kind.resource();
        let api: Api<DynamicObject> = match &report.name.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let ApiResource {
            api_version, kind, ..
        } = resource;
        let body = json!({
            "apiVersion": api_version, "kind": kind, "metadata": {"name": report.name.name},
            "status": report.status(speaks, now),
        });
        let parameters = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&body);
        let writing = api.patch_status(&report.name.name, &parameters, &patch);
        match timeout(REQUEST, writing).await {
            Ok(Ok(_)) => true,
            // It is gone, and its status with it.
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => true,
            Ok(Err(error)) => {
                warn!(policy = %report.name, %error, "the status of a policy cannot be written");
                false
            }
            Err(_) => {
                warn!(policy = %report.name, "the status of a policy cannot be written: the API server does not answer");
                false
            }
        }
    }
}
