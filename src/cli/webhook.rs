//! `countersign webhook`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use bytes::Bytes;
use clap::Args as ClapArgs;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::kube_flags::{KubeFlags, prepare_each};
use super::log_flags::LogFlags;
use super::policy_flags::{PolicyFlags, prepare, store};
use super::serving_flags::ServingFlags;
use super::{Status, duration, signs};
use crate::admission::{Admission, Phase, Policies};
use crate::clock;
use crate::cluster::{Access, CertificateStore, Cluster, Namespaces, PullSecrets, References};
use crate::policy::{Compiled, Mode, PolicySet};
use crate::policy_files::{PolicyFiles, PolicyFilesError};
use crate::serve::{self, Config, Endpoint, Ready, Rejected, ServeError, Stop};
use crate::store::records::Records;
use crate::telemetry::Metrics;
use crate::trust::{Keeper, Options, Trust};

/// Arguments of `webhook`.
#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    policies: PolicyFlags,
    #[command(flatten)]
    kube: KubeFlags,
    /// Where to remember what was seen, without which a restart forgets and rollbacks go unnoticed
    #[arg(
        long,
        value_name = "DIR",
        env = "COUNTERSIGN_STATE_DIR",
        help_heading = "Verification"
    )]
    state_dir: Option<PathBuf>,
    /// One deadline for everything that the verification of an image fetches
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse, env = "COUNTERSIGN_TIMEOUT", help_heading = "Verification")]
    timeout: Duration,
    /// How long an answer of a trust server is believed before it is asked again
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration::parse, env = "COUNTERSIGN_FRESH_FOR", help_heading = "Verification")]
    fresh_for: Duration,
    /// Longest time for one review, whatever the API server grants
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse, env = "COUNTERSIGN_REVIEW_TIMEOUT", help_heading = "Verification")]
    review_timeout: Duration,
    /// enforce obeys the policies; audit denies nothing and pins nothing, whatever policies and labels say
    #[arg(long, value_name = "MODE", default_value = "enforce", value_parser = mode, env = "COUNTERSIGN_MODE", help_heading = "Verification")]
    mode: Mode,
    #[command(flatten)]
    serving: ServingFlags,
    #[command(flatten)]
    logs: LogFlags,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Status> {
    args.logs.install()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let source = runtime.block_on(source(args))?;
    let config = args.serving.config(store_in(args, &source))?;
    let metrics = Arc::new(Metrics::default());
    metrics.mode(args.mode.word());
    let trust = trust(args, &source, Arc::clone(&metrics))?;
    let source = match source {
        Source::Files(files, policies) => {
            prepare(&trust, &policies)?;
            Source::Files(files, policies)
        }
        Source::Cluster(cluster) => {
            let cluster = args.kube.equip(*cluster, &trust, args.mode)?;
            let hooks = signs::hooks(Arc::clone(&metrics), trust.clone());
            Source::Cluster(Box::new(cluster.with_hooks(hooks)))
        }
    };
    info!(version = env!("CARGO_PKG_VERSION"), mode = args.mode.word(), policies = source.count(), listen = %config.listen, "starting");
    if args.mode == Mode::Audit {
        warn!("--mode audit: nothing is denied and nothing pinned, whatever policies and labels say");
    }
    runtime.block_on(serve(args, config, source, trust, metrics))
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "enforce" => Ok(Mode::Enforce),
        "audit" => Ok(Mode::Audit),
        _ => Err("enforce or audit is expected".to_owned()),
    }
}

/// Where certificates of our own are, if they are in the cluster.
fn store_in(args: &Args, source: &Source) -> Option<CertificateStore> {
    let (cluster, secret) = (source.cluster()?, args.serving.secret()?);
    Some(cluster.certificate_store(secret, args.kube.configurations(cluster)?))
}

/// Where policies come from.
#[derive(Debug)]
enum Source {
    /// Files, read already, or flags in their place.
    Files(Option<PolicyFiles>, PolicySet),
    /// The cluster, not asked yet.
    Cluster(Box<Cluster>),
}

impl Source {
    fn cluster(&self) -> Option<&Cluster> {
        match self {
            Self::Files(..) => None,
            Self::Cluster(cluster) => Some(cluster),
        }
    }

    /// How many policies there are, if that is known.
    fn count(&self) -> Option<usize> {
        match self {
            Self::Files(_, policies) => Some(policies.policies().len()),
            Self::Cluster(_) => None,
        }
    }
}

async fn source(args: &Args) -> anyhow::Result<Source> {
    if !args.kube.given() {
        let (files, policies) = args.policies.read(None)?;
        return Ok(Source::Files(files, policies));
    }
    if args.policies.given() {
        bail!(
            "--kube takes the policies from the cluster: leave --policy, the trust flags and their variables away"
        );
    }
    if args.state_dir.is_some() {
        bail!(
            "--kube keeps what was seen in the cluster, as TrustRecord objects that all replicas share: leave --state-dir and \
             its variable away"
        );
    }
    Ok(Source::Cluster(Box::new(args.kube.connect().await?)))
}

fn trust(args: &Args, source: &Source, metrics: Arc<Metrics>) -> anyhow::Result<Trust> {
    let keeper = match source {
        Source::Cluster(cluster) => Keeper::from(Arc::new(Records::new(cluster.client()))),
        Source::Files(..) => {
            let store = store(args.state_dir.as_deref(), |what| {
                warn!(cost = what, "nothing is remembered from before");
            })?;
            Keeper::from(Arc::new(store))
        }
    };
    let options = Options {
        timeout: args.timeout,
        fresh_for: args.fresh_for,
        pull_secrets: match source {
            Source::Files(..) => PullSecrets::default(),
            Source::Cluster(cluster) => args.kube.pull_secrets(cluster),
        },
        ..Options::default()
    };
    Ok(Trust::new(options, keeper, metrics))
}

/// Runs the server and what belongs to it. A part that ends takes the process with it.
async fn serve(
    args: &Args,
    config: Config,
    source: Source,
    trust: Trust,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Status> {
    let force = Force {
        policies: Arc::default(),
        trust: trust.clone(),
        metrics: Arc::clone(&metrics),
        ready: Ready::default(),
        has_default: args.kube.has_default(),
    };
    force.ready.tell("mode", args.mode.word());
    let (namespaces, access, references) = match &source {
        Source::Files(..) => (Namespaces::default(), Access::default(), References::default()),
        Source::Cluster(cluster) => (cluster.namespaces(), cluster.access(), cluster.references()),
    };
    if let Source::Files(_, policies) = &source {
        force.enter(policies.clone());
    }
    let policies = Arc::clone(&force.policies);
    let admission = Admission::new(
        Arc::new(trust.clone()),
        policies,
        Arc::clone(&metrics),
        args.review_timeout,
    );
    let admission = Arc::new(
        admission
            .in_cluster(namespaces)
            .with_access(access)
            .in_mode(args.mode),
    );
    let written = Policies::new(
        trust.clone(),
        references,
        args.mode,
        Arc::clone(&metrics),
        args.review_timeout,
    );
    let written = Arc::new(written);
    let handler = move |endpoint: Endpoint, body: Bytes, query: Option<String>| {
        let (admission, written) = (Arc::clone(&admission), Arc::clone(&written));
        async move {
            let query = query.as_deref();
            let reply = match phase(endpoint) {
                Some(phase) => admission.answer(phase, &body, query).await,
                None => written.answer(&body, query).await,
            };
            reply.map_err(|malformed| Rejected::malformed(malformed.to_string()))
        }
    };
    let ready = force.ready.clone();
    let (tasks, ending) = (TaskTracker::new(), CancellationToken::new());
    let stop = Stop::on_signals(&tasks).context("cannot listen for signals")?;
    let (bound, _unheard) = oneshot::channel();
    let refreshing = tasks.spawn(trust.clone().keep_fresh(ending.clone()));
    let records_ready = force.ready.clone();
    if matches!(source, Source::Cluster(_)) {
        records_ready.await_trust_records();
    }
    let following = trust
        .clone()
        .follow(ending.clone(), move || records_ready.trust_records_loaded());
    let following = tasks.spawn(following);
    let watching = force.watch(source);
    let outcome = tokio::select! {
        outcome = serve::run(config, handler, ready, metrics, stop, bound) => outcome,
        () = watching => Err(ServeError::Task(None)),
        ended = refreshing => Err(ServeError::Task(ended.err())),
        ended = following => Err(ServeError::Task(ended.err())),
    };
    ending.cancel();
    trust.finish().await;
    outcome.map(|()| Status::Success).map_err(anyhow::Error::from)
}

/// `None` where no images are judged, but policies.
const fn phase(endpoint: Endpoint) -> Option<Phase> {
    Some(match endpoint {
        Endpoint::Mutate => Phase::Mutate,
        Endpoint::Validate => Phase::Validate,
        Endpoint::Audit => Phase::Audit,
        Endpoint::Advise => Phase::Advise,
        Endpoint::Policy => return None,
    })
}

/// The policies in force, and what has to follow them.
struct Force {
    policies: Arc<ArcSwap<PolicySet>>,
    trust: Trust,
    metrics: Arc<Metrics>,
    ready: Ready,
    /// Whether there is a policy for a cluster without any.
    has_default: bool,
}

impl Force {
    /// Takes changed policies into use, and a cluster's first ones.
    async fn watch(self, source: Source) {
        match source {
            Source::Files(None, _) => std::future::pending().await,
            Source::Files(Some(files), _) => {
                files.watch(|read| self.adopt(read)).await;
            }
            Source::Cluster(cluster) => {
                cluster
                    .watch(clock::now, |policies| self.adopt_each(policies))
                    .await;
            }
        }
    }

    fn enter(&self, policies: PolicySet) {
        self.policies.store(Arc::new(policies));
        self.metrics.policy_ready(true);
        self.ready.policies_loaded();
    }

    /// Of files: what cannot be read or used leaves the last good ones in force, loudly.
    fn adopt(&self, read: Result<PolicySet, PolicyFilesError>) {
        let set = match read {
            Ok(set) => set,
            Err(error) => {
                self.metrics.policy_reload("error");
                error!(%error, "policies not read: the last good ones stay in force");
                return;
            }
        };
        if let Err(faults) = prepare(&self.trust, &set) {
            self.metrics.policy_reload("error");
            error!(error = %faults, "policies not usable: the last good ones stay in force");
            return;
        }
        let count = set.policies().len();
        self.enter(set);
        self.metrics.policy_reload("ok");
        info!(policies = count, "policies read again");
    }

    /// Of a cluster: what is wrong with one policy denies what that one governs, loudly, and leaves the others alone.
    fn adopt_each(&self, policies: Vec<Compiled>) -> Vec<Compiled> {
        let (set, policies) = prepare_each(&self.trust, policies);
        let unusable = policies
            .iter()
            .filter_map(|compiled| Some((compiled, compiled.fault.as_ref()?)));
        let mut faults = 0;
        for (compiled, fault) in unusable {
            faults += 1;
            error!(policy = %compiled.policy.name, reason = fault.reason, error = fault.message, "policy not usable: what it governs is denied");
        }
        let default = signs::count_policies(&self.metrics, &policies);
        if self.has_default {
            let word = if default { "in-force" } else { "standing-by" };
            self.ready.tell("default-policy", word);
        }
        if default {
            warn!("the cluster has no ClusterTrustPolicy: the default policy is in force");
        }
        self.enter(set);
        self.metrics
            .policy_reload(if faults == 0 { "ok" } else { "error" });
        info!(
            policies = policies.len(),
            faults, default, "policies read from the cluster"
        );
        policies
    }
}
