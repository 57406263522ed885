//! The webhook of the sandbox: `countersign webhook --policy`, but that it asks the trust server anew for every review,
//! so that whoever tries something out sees what it did at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::servers::{ServerError, config};
use crate::admission::{Admission, Phase, Policies};
use crate::cluster::References;
use crate::policy::{Mode, PolicySet};
use crate::policy_files::PolicyFiles;
use crate::serve::{self, Addresses, Endpoint, Ready, Rejected, Stop};
use crate::store::Store;
use crate::telemetry::{Metrics, chain};
use crate::trust::{Options, Trust};

/// What the webhook needs.
pub(super) struct Webhook {
    /// Where certificates are.
    pub(super) tls: PathBuf,
    /// Where it listens; 0 is a free port.
    pub(super) port: u16,
    /// Read again when it changes.
    pub(super) policy: PathBuf,
    /// What was seen.
    pub(super) seen: PathBuf,
}

impl Webhook {
    /// Serves until told to stop.
    pub(super) async fn run(self, stop: Stop, bound: oneshot::Sender<Addresses>) -> Result<(), ServerError> {
        let (files, policies) = PolicyFiles::open([self.policy])?;
        let metrics = Arc::new(Metrics::default());
        let options = Options {
            fresh_for: Duration::ZERO,
            ..Options::default()
        };
        let store = Arc::new(Store::open(&self.seen)?);
        let trust = Trust::new(options, store, Arc::clone(&metrics));
        prepare(&trust, &policies).map_err(ServerError::Verifier)?;
        let force = Arc::new(ArcSwap::from_pointee(policies));
        let handler = handler(&trust, &force, &metrics);
        let ready = Ready::default();
        ready.policies_loaded();
        let config = config(self.tls, SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)));
        let adopting = files.watch(|read| {
            let usable = read.map_err(|error| error.to_string());
            let usable = usable.and_then(|policies| prepare(&trust, &policies).map(|()| policies));
            match usable {
                Ok(policies) => {
                    info!("policy read again");
                    force.store(Arc::new(policies));
                }
                Err(error) => warn!(%error, "policy not usable: the last good one stays in force"),
            }
        });
        let outcome = tokio::select! {
            outcome = serve::run(config, handler, ready, metrics, stop, bound) => outcome,
            never = adopting => match never {},
        };
        trust.finish().await;
        Ok(outcome?)
    }
}

fn prepare(trust: &Trust, policies: &PolicySet) -> Result<(), String> {
    trust.prepare(policies).map_err(|faults| {
        let lines: Vec<_> = faults.iter().map(|fault| chain(fault)).collect();
        lines.join("; ")
    })
}

/// Answers reviews, and looks at policies.
fn handler(
    trust: &Trust,
    force: &Arc<ArcSwap<PolicySet>>,
    metrics: &Arc<Metrics>,
) -> impl Fn(Endpoint, Bytes, Option<String>) -> Answering + Send + Sync + 'static {
    let verify = Arc::new(trust.clone());
    let admission = Admission::new(verify, Arc::clone(force), Arc::clone(metrics), REVIEW);
    let admission = Arc::new(admission);
    let (trust, references) = (trust.clone(), References::default());
    let written = Policies::new(trust, references, Mode::Enforce, Arc::clone(metrics), REVIEW);
    let written = Arc::new(written);
    move |endpoint, body, query| {
        let (admission, written) = (Arc::clone(&admission), Arc::clone(&written));
        Box::pin(async move {
            let query = query.as_deref();
            let phase = match endpoint {
                Endpoint::Mutate => Some(Phase::Mutate),
                Endpoint::Validate => Some(Phase::Validate),
                Endpoint::Audit => Some(Phase::Audit),
                Endpoint::Advise => Some(Phase::Advise),
                Endpoint::Policy => None,
            };
            let reply = match phase {
                Some(phase) => admission.answer(phase, &body, query).await,
                None => written.answer(&body, query).await,
            };
            reply.map_err(|malformed| Rejected::malformed(malformed.to_string()))
        })
    }
}

type Answering = std::pin::Pin<Box<dyn Future<Output = Result<Vec<u8>, Rejected>> + Send>>;

/// Longest time for one review, as for `countersign webhook`.
const REVIEW: Duration = Duration::from_secs(10);
