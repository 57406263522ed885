//! What a cluster's policies and watches come to, and in which mode they are obeyed.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Kind, Metrics, add};

/// Policies whose generation is told by name, at most: a cluster has a few, and names are their authors' to choose.
const NAMED: usize = 64;
/// What is watched.
const KINDS: [&str; 3] = ["clustertrustpolicies", "trustpolicies", "namespaces"];

#[derive(Debug)]
pub(super) struct Cluster {
    mode: Family<Mode, Gauge>,
    policies: Family<State, Gauge>,
    generations: Family<Named, Gauge>,
    default: Gauge,
    namespaces: Family<Mode, Gauge>,
    synced: Family<Kind, Gauge>,
    watch_errors: Family<Kind, Counter>,
    weakened: Family<Kind, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mode {
    mode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    kind: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    kind: &'static str,
    name: String,
}

impl Cluster {
    pub(super) fn new(r: &mut Registry) -> Self {
        Self {
            mode: add(
                r,
                "mode_info",
                "Whether policies are obeyed or only audited",
                Family::default(),
            ),
            policies: add(r, "policies", "Policies of the cluster", Family::default()),
            generations: add(
                r,
                "policy_loaded_generation",
                "Generation of a cluster-wide policy that this replica has loaded",
                Family::default(),
            ),
            default: add(
                r,
                "default_policy_in_force",
                "Whether the default policy stands in for those of the cluster",
                Gauge::default(),
            ),
            namespaces: add(
                r,
                "namespaces",
                "Namespaces by their mode label",
                Family::default(),
            ),
            synced: add(
                r,
                "watch_last_sync_timestamp_seconds",
                "When what is watched was last known to be up to date",
                Family::default(),
            ),
            watch_errors: add(
                r,
                "watch_errors",
                "Lists and watches that failed",
                Family::default(),
            ),
            weakened: add(
                r,
                "webhook_configuration_weakened",
                "Whether the webhook configuration of a kind is missing or lets through what it should not",
                Family::default(),
            ),
        }
    }

    pub(super) fn start_at_zero(&self) {
        for kind in KINDS {
            drop(self.watch_errors.get_or_create(&Kind { kind }));
        }
    }
}

impl Metrics {
    /// In which mode policies are obeyed: `enforce`, as they say, or `audit` (AUD-01).
    pub fn mode(&self, mode: &'static str) {
        self.cluster.mode.clear();
        self.cluster.mode.get_or_create(&Mode { mode }).set(1);
    }

    /// How many policies of a kind (`ClusterTrustPolicy`, `TrustPolicy`) are in force as written, and how many cannot be
    /// used.
    pub fn policies(&self, kind: &'static str, ready: usize, faulty: usize) {
        for (state, count) in [("ready", ready), ("faulty", faulty)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.cluster
                .policies
                .get_or_create(&State { kind, state })
                .set(count);
        }
    }

    /// The generations of the cluster-wide policies in force, by name, in place of all before (CRD-33). The first 64
    /// count; policies of namespaces, of which there may be any number, do not.
    pub fn policy_generations<'a>(&self, generations: impl IntoIterator<Item = (&'a str, i64)>) {
        self.cluster.generations.clear();
        for (name, generation) in generations.into_iter().take(NAMED) {
            let name = name.to_owned();
            let kind = "ClusterTrustPolicy";
            self.cluster
                .generations
                .get_or_create(&Named { kind, name })
                .set(generation);
        }
    }

    /// Whether the default policy stands in for those of the cluster (CRD-21).
    pub fn default_policy(&self, in_force: bool) {
        self.cluster.default.set(in_force.into());
    }

    /// How many namespaces have a mode (AVL-35).
    pub fn namespaces(&self, mode: &'static str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.cluster.namespaces.get_or_create(&Mode { mode }).set(count);
    }

    /// What is known of a resource was up to date at this time, in seconds since the epoch.
    pub fn watch_synced(&self, kind: &'static str, epoch_seconds: i64) {
        self.cluster
            .synced
            .get_or_create(&Kind { kind })
            .set(epoch_seconds);
    }

    /// A list or a watch of a resource failed.
    pub fn watch_error(&self, kind: &'static str) {
        self.cluster.watch_errors.get_or_create(&Kind { kind }).inc();
    }

    /// Whether the webhook configuration of a kind (`mutating`, `validating`) is missing or lets through what it should
    /// not (AVL-36).
    pub fn webhook_configuration_weakened(&self, kind: &'static str, weakened: bool) {
        self.cluster
            .weakened
            .get_or_create(&Kind { kind })
            .set(weakened.into());
    }
}
