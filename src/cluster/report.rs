//! What became of each policy, written to its status.
//!
//! Every replica writes, by server-side apply under one name: they say the same, and what is there already is not
//! written again. A replica says each thing once, so that two who disagree do not go on contradicting each other.

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
use crate::policy::resource::{Condition, ConditionStatus, PolicyStatus};
use crate::policy::{Compiled, PolicyName};

/// The field manager.
const MANAGER: &str = "countersign";
/// A status that could not be written is tried again after this, and written no more often (CRD-34).
const RETRY: Duration = Duration::from_secs(5);
/// Most characters of a condition's message, as its schema has it.
const MESSAGE: usize = 1024;

/// What is to be said about one policy.
#[derive(Clone, Debug)]
pub(super) struct Report {
    name: PolicyName,
    uid: Option<String>,
    said: Said,
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
    pub(super) fn new(object: &DynamicObject, compiled: &Compiled) -> Self {
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

    fn status(&self, now: Timestamp) -> PolicyStatus {
        let said = &self.said;
        let (ready, degraded) = if said.ready {
            (ConditionStatus::True, ConditionStatus::False)
        } else {
            (ConditionStatus::False, ConditionStatus::True)
        };
        let condition = |kind: &str, status: ConditionStatus| {
            let before = self.before.conditions.iter();
            let same = before.filter(|before| before.kind == kind && before.status == status);
            Condition {
                kind: kind.to_owned(),
                status,
                observed_generation: said.generation,
                last_transition_time: same
                    .map(|before| before.last_transition_time.clone())
                    .next()
                    .unwrap_or(Time(now)),
                reason: said.reason.clone(),
                message: said.message.clone(),
            }
        };
        PolicyStatus {
            observed_generation: said.generation,
            rules: said.rules,
            conditions: vec![condition("Ready", ready), condition("Degraded", degraded)],
        }
    }
}

/// Writes reports.
pub(super) struct Reporter<N> {
    client: Client,
    now: N,
    /// By policy: which object, and what it was told.
    told: BTreeMap<PolicyName, (Option<String>, Said)>,
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
            let this = (report.uid.clone(), report.said.clone());
            if self.told.get(&report.name) == Some(&this) {
                continue;
            }
            if report.is_told() || self.tell(report).await {
                self.told.insert(report.name.clone(), this);
            } else {
                settled = false;
            }
        }
        settled
    }

    async fn tell(&self, report: &Report) -> bool {
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
            "status": report.status((self.now)()),
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
