//! What a policy names that is being written: whether it is there is worth a word.

use std::fmt;

use kube::Client;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::lookup::{Again, Notebook};
use crate::policy::Answers;

/// The Secrets and `ConfigMap`s that policies name. Outside of a cluster nothing is known of any.
#[derive(Clone, Default)]
pub struct References(Option<(Client, String)>);

impl References {
    pub(super) const fn new(client: Client, release_namespace: String) -> Self {
        Self(Some((client, release_namespace)))
    }

    /// What is found of everything that `policy` names, until the deadline; nothing if that is too short. It is read from
    /// the namespace that goes with the policy, by the webhook's own rights (CRED-20).
    pub async fn answers(&self, policy: &Value, until: Instant) -> Answers {
        let Some((client, release_namespace)) = self.0.clone() else {
            return Answers::new();
        };
        let mut notebook = Notebook::new(client, release_namespace);
        let policies = std::slice::from_ref(policy);
        match timeout_at(until, notebook.read(policies, Again::Nothing)).await {
            Ok(_) => notebook.answers(policy),
            Err(_) => Answers::new(),
        }
    }
}

impl fmt::Debug for References {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("References").finish_non_exhaustive()
    }
}
