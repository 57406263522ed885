//! A workload's own logins, in the order in which they are tried, and what they may open (CRED-24).

use std::fmt::Write as _;
use std::sync::Arc;

use tokio::time::Instant;

use super::servers::Servers;
use super::verifier::Notary;
use crate::cluster::{PullSecret, PullSecrets};
use crate::credential::{Credential, DockerConfig, fingerprint};
use crate::notary::MOST_LOGINS;
use crate::policy::Lending;
use crate::reference::Gun;
use crate::review::logins::PullSources;
use crate::telemetry::Metrics;

/// Pull secrets named in a message.
const MOST_NAMED: usize = 4;

/// Which logins an answer was obtained with. Whoever has the same ones may have it; nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope([u8; 32]);

/// The logins of a workload that fit one trust server and repository. They end with the value.
#[derive(Clone, Debug)]
pub(super) struct Borrowed {
    logins: Arc<[Credential]>,
    /// What was looked at, in words.
    account: String,
}

impl Borrowed {
    /// Reads what `sources` name, as far as that can be done before `deadline`.
    pub(super) async fn read(
        secrets: &PullSecrets,
        metrics: &Metrics,
        (notary, gun): (&Notary, &Gun),
        sources: &PullSources,
        deadline: Instant,
    ) -> Self {
        let found = secrets.find(sources, deadline).await;
        let host = Servers::host(&notary.policy, gun);
        let mut logins = Vec::new();
        for secret in &found {
            metrics.pull_secret(
                secret
                    .config
                    .as_ref()
                    .map_or_else(|unusable| unusable.word(), |_| "ok"),
            );
            if let Ok(config) = &secret.config {
                logins.extend(fitting(notary, config, &host, gun).into_iter().cloned());
            }
        }
        // No more than are tried, so that the scope is that of what was tried.
        logins.truncate(MOST_LOGINS);
        Self {
            logins: logins.into(),
            account: account(notary, &found, &sources.namespace),
        }
    }

    /// `None` if there are none.
    pub(super) fn scope(&self) -> Option<Scope> {
        (!self.logins.is_empty()).then(|| Scope(fingerprint(&self.logins)))
    }

    pub(super) fn logins(&self) -> Arc<[Credential]> {
        Arc::clone(&self.logins)
    }

    pub(super) fn account(&self) -> &str {
        &self.account
    }
}

/// Those that the server may see.
fn fitting<'a>(notary: &Notary, config: &'a DockerConfig, host: &str, gun: &Gun) -> Vec<&'a Credential> {
    match (notary.names_server(), notary.policy.lending) {
        (true, Lending::Own) => config.for_server(host, gun),
        (true, Lending::Registry) | (false, _) => config.for_trust(host, gun),
    }
}

/// Which sources were tried (§5.1).
fn account(notary: &Notary, found: &[PullSecret], namespace: &str) -> String {
    let mut text = "logins tried: ".to_owned();
    let own = notary.policy.credentials.is_some();
    text.push_str(if own { "the policy's" } else { "none of the policy" });
    if found.is_empty() {
        let _ = write!(text, ", and no pull secret is named in namespace {namespace}");
        return text;
    }
    let _ = write!(text, ", pull secrets of namespace {namespace}");
    for secret in found.iter().take(MOST_NAMED) {
        let _ = write!(text, " {:?}", secret.name);
        if let Err(unusable) = &secret.config {
            let _ = write!(text, " ({})", unusable.word());
        }
    }
    if found.len() > MOST_NAMED {
        let _ = write!(text, " and {} more", found.len() - MOST_NAMED);
    }
    text
}
