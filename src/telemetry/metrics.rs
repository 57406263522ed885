//! What the process counts.

mod certificates;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use self::certificates::Certificates;
use super::exposition::{self, Exposition};
use super::nearest::Nearest;
use super::process::Process;

mod cluster;
mod trust_server;

use self::cluster::Cluster;
use self::trust_server::TrustServer;

type Histograms<S> = Family<S, Histogram, fn() -> Histogram>;

/// Every metric of the process (kubernetes-admission §7.1, prefix `countersign_`).
///
/// Labels are words from closed sets, never images, namespaces or error text, so the number of series does not grow
/// with what is deployed. Recording is a hash look-up under a read lock and an atomic addition.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    admissions: Family<Admission, Counter>,
    admission_seconds: Histograms<Decided>,
    bypasses: Family<Attempt, Counter>,
    verifications: Family<Verification, Counter>,
    verification_seconds: Histograms<Verified>,
    upstream: Family<Upstream, Counter>,
    upstream_seconds: Histograms<Upstream>,
    trust_fetch_seconds: Histograms<Outcome>,
    metadata_expiry: Arc<Nearest>,
    clock_skew: Gauge<f64, AtomicU64>,
    stale_served: Counter,
    pull_secrets: Family<Outcome, Counter>,
    trust_records_lost: Counter,
    policy_ready: Gauge,
    policy_reloads: Family<Outcome, Counter>,
    certificates: Certificates,
    cluster: Cluster,
    trust_server: TrustServer,
    inflight: Gauge,
    shed: Family<Reason, Counter>,
    responses: Family<Status, Counter>,
    panics: Counter,
    connections: Gauge,
    handshakes: Family<Outcome, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Admission {
    phase: &'static str,
    operation: &'static str,
    resource: &'static str,
    decision: &'static str,
    dry_run: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    phase: &'static str,
    decision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verification {
    verifier: &'static str,
    result: &'static str,
    reason: &'static str,
    cache: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verified {
    verifier: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Upstream {
    kind: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    code: u16,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        let r = registry.sub_registry_with_prefix("countersign");
        r.register("build", "What is running", Info::new(build()));
        let metadata_expiry = Arc::new(Nearest::default());
        r.register_collector(Box::new(Arc::clone(&metadata_expiry)));
        let metrics = Self {
            admissions: add(
                r,
                "admission_requests",
                "Admission requests answered",
                Family::default(),
            ),
            admission_seconds: seconds(r, "admission_duration", "Time to answer an admission request"),
            bypasses: counters(r, "bypass", "Denials that an annotation asked to lift"),
            verifications: add(r, "image_verifications", "Images verified", Family::default()),
            verification_seconds: seconds(r, "image_verification_duration", "Time to verify one image"),
            upstream: add(
                r,
                "upstream_requests",
                "Requests to other servers",
                Family::default(),
            ),
            upstream_seconds: seconds(
                r,
                "upstream_request_duration",
                "Time of one request to another server",
            ),
            trust_fetch_seconds: seconds(r, "trust_fetch_duration", "Time to fetch a repository's metadata"),
            metadata_expiry,
            clock_skew: add(
                r,
                "trust_server_clock_skew_seconds",
                "How far the clock of the trust server that answered last was ahead of ours",
                Gauge::default(),
            ),
            stale_served: add(
                r,
                "stale_served",
                "Images admitted on metadata that could not be refreshed",
                Counter::default(),
            ),
            pull_secrets: counters(r, "pull_secrets", "Pull secrets of workloads looked at"),
            trust_records_lost: add(r, "trust_records_lost", "Trust records lost", Counter::default()),
            policy_ready: add(r, "policy_ready", "Whether policies are loaded", Gauge::default()),
            policy_reloads: add(
                r,
                "policy_reloads",
                "Attempts to load policies",
                Family::default(),
            ),
            certificates: Certificates::new(r),
            cluster: Cluster::new(r),
            trust_server: TrustServer::new(r),
            inflight: add(
                r,
                "requests_inflight",
                "Requests being answered",
                Gauge::default(),
            ),
            shed: add(
                r,
                "requests_shed",
                "Requests answered 503, to be repeated",
                Family::default(),
            ),
            responses: add(
                r,
                "http_responses",
                "Answers of the webhook port by status",
                Family::default(),
            ),
            panics: add(r, "panics", "Requests that ended in a panic", Counter::default()),
            connections: add(
                r,
                "connections",
                "Open connections of the webhook port",
                Gauge::default(),
            ),
            handshakes: add(
                r,
                "tls_handshakes",
                "TLS handshakes of the webhook port",
                Family::default(),
            ),
            registry,
        };
        metrics.start_at_zero();
        metrics
    }
}

impl Metrics {
    /// One admission request: `phase` (mutate, validate, audit, advise, policy), `decision` (allowed, denied, `would_deny`, error).
    pub fn admission(
        &self,
        phase: &'static str,
        operation: &'static str,
        resource: &'static str,
        decision: &'static str,
        dry_run: bool,
        took: Duration,
    ) {
        let labels = Admission {
            phase,
            operation,
            resource,
            decision,
            dry_run,
        };
        self.admissions.get_or_create(&labels).inc();
        self.admission_seconds
            .get_or_create(&Decided { phase, decision })
            .observe(took.as_secs_f64());
    }

    /// Somebody asked for a denial to be lifted: `accepted`, `denied`, `unavailable` or `no_reason`.
    pub fn bypass(&self, outcome: &'static str) {
        self.bypasses.get_or_create(&Attempt { outcome }).inc();
    }

    /// One image verified: `result` (trusted, denied, unavailable), `reason` a word from `Refusal::reason` or
    /// `signed`, `cache` (hit, miss).
    pub fn verification(
        &self,
        verifier: &'static str,
        result: &'static str,
        reason: &'static str,
        cache: &'static str,
        took: Duration,
    ) {
        let labels = Verification {
            verifier,
            result,
            reason,
            cache,
        };
        self.verifications.get_or_create(&labels).inc();
        self.verification_seconds
            .get_or_create(&Verified { verifier, result })
            .observe(took.as_secs_f64());
    }

    /// One request to a server: `kind` (trust, token, ping), `code` the class of the status (`2xx`…) or `error`.
    pub fn upstream(&self, kind: &'static str, code: &'static str, took: Duration) {
        let labels = Upstream { kind, code };
        self.upstream.get_or_create(&labels).inc();
        self.upstream_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// The whole retrieval of a repository's metadata, however many requests it took.
    pub fn trust_fetch(&self, result: &'static str, took: Duration) {
        self.trust_fetch_seconds
            .get_or_create(&Outcome { result })
            .observe(took.as_secs_f64());
    }

    /// The nearest expiry among all verified metadata in memory, in seconds since the epoch. Without metadata there is
    /// no series: a zero would read as "expired in 1970".
    pub fn nearest_metadata_expiry(&self, epoch_seconds: Option<i64>) {
        self.metadata_expiry.set(epoch_seconds);
    }

    /// How far a trust server's clock was ahead of ours when it last answered, in seconds; negative if behind (T44).
    pub fn clock_skew(&self, seconds: f64) {
        self.clock_skew.set(seconds);
    }

    /// An image was admitted on verified metadata that could not be refreshed (design §9.5).
    pub fn stale_served(&self) {
        self.stale_served.inc();
    }

    /// A pull secret of a workload was looked at: `ok`, `missing`, `malformed` or `unavailable` (CRED-02).
    pub fn pull_secret(&self, result: &'static str) {
        self.pull_secrets.get_or_create(&Outcome { result }).inc();
    }

    /// A trust record was deleted or put back by somebody who did not say that it was meant (design §5).
    pub fn trust_record_lost(&self) {
        self.trust_records_lost.inc();
    }

    /// Whether policies are loaded.
    pub fn policy_ready(&self, ready: bool) {
        self.policy_ready.set(ready.into());
    }

    /// Policies were read anew: `result` is `ok` or `error`.
    pub fn policy_reload(&self, result: &'static str) {
        self.policy_reloads.get_or_create(&Outcome { result }).inc();
    }

    /// Counts a request as in flight until the returned guard is dropped.
    pub fn request(&self) -> InFlight {
        self.inflight.inc();
        InFlight(self.inflight.clone())
    }

    /// Counts a connection as open until the returned guard is dropped.
    pub fn connection(&self) -> InFlight {
        self.connections.inc();
        InFlight(self.connections.clone())
    }

    /// A request got 503 and is to be repeated elsewhere: `overload`, `memory`, `not_ready` or `draining`.
    pub fn shed(&self, reason: &'static str) {
        self.shed.get_or_create(&Reason { reason }).inc();
    }

    /// The webhook port answered with status `code`.
    pub fn response(&self, code: u16) {
        self.responses.get_or_create(&Status { code }).inc();
    }

    /// A request ended in a panic.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// A TLS handshake ended: `ok`, `error` or `timeout`.
    pub fn handshake(&self, result: &'static str) {
        self.handshakes.get_or_create(&Outcome { result }).inc();
    }

    /// All of it as text for a scraper.
    ///
    /// # Errors
    ///
    /// [`fmt::Error`] when a value cannot be written, which a `String` never causes.
    pub fn encode(&self, exposition: Exposition) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(match exposition {
            Exposition::OpenMetrics => text,
            Exposition::Classic => exposition::classic(&text),
        })
    }

    /// Creates the series of known labels, so that a first event is seen as an increase (OBS-02). The combinations of
    /// operation and resource that never happen are left out.
    fn start_at_zero(&self) {
        for phase in PHASES {
            for decision in DECISIONS {
                drop(self.admission_seconds.get_or_create(&Decided { phase, decision }));
                drop(self.admissions.get_or_create(&Admission {
                    phase,
                    operation: "CREATE",
                    resource: if phase == "policy" {
                        "clustertrustpolicies"
                    } else {
                        "pods"
                    },
                    decision,
                    dry_run: false,
                }));
            }
        }
        for (result, reason) in [
            ("trusted", "signed"),
            ("denied", "tag_not_signed"),
            ("unavailable", "network"),
        ] {
            let verifier = "notary";
            drop(
                self.verification_seconds
                    .get_or_create(&Verified { verifier, result }),
            );
            for cache in ["hit", "miss"] {
                drop(self.verifications.get_or_create(&Verification {
                    verifier,
                    result,
                    reason,
                    cache,
                }));
            }
        }
        for result in ["ok", "missing", "malformed", "unavailable"] {
            drop(self.pull_secrets.get_or_create(&Outcome { result }));
        }
        for outcome in ["accepted", "denied", "unavailable", "no_reason"] {
            drop(self.bypasses.get_or_create(&Attempt { outcome }));
        }
        for kind in ["trust", "token"] {
            for code in ["2xx", "4xx", "5xx", "error"] {
                drop(self.upstream.get_or_create(&Upstream { kind, code }));
            }
        }
        self.cluster.start_at_zero();
        self.trust_server.start_at_zero();
        for result in ["ok", "error"] {
            drop(self.policy_reloads.get_or_create(&Outcome { result }));
        }
        self.certificates.start_at_zero();
        for result in ["ok", "error", "timeout"] {
            drop(self.handshakes.get_or_create(&Outcome { result }));
        }
        for reason in ["overload", "memory", "not_ready", "draining"] {
            drop(self.shed.get_or_create(&Reason { reason }));
        }
        for code in [200, 400, 404, 405, 408, 413, 415, 500, 503, 504] {
            drop(self.responses.get_or_create(&Status { code }));
        }
    }
}

/// Something being done, counted in a gauge until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it at once counts nothing"]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn counters<S>(registry: &mut Registry, name: &str, help: &str) -> Family<S, Counter>
where
    S: Clone + fmt::Debug + Eq + std::hash::Hash + EncodeLabelSet + Send + Sync + 'static,
{
    add(registry, name, help, Family::default())
}

fn seconds<S>(registry: &mut Registry, name: &str, help: &str) -> Histograms<S>
where
    S: Clone + fmt::Debug + Eq + std::hash::Hash + EncodeLabelSet + Send + Sync + 'static,
{
    let family = Histograms::new_with_constructor(histogram as fn() -> Histogram);
    add(registry, &format!("{name}_seconds"), help, family)
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

/// Version and, where the build sets them, revision and compiler.
fn build() -> Vec<(&'static str, &'static str)> {
    vec![
        ("version", env!("CARGO_PKG_VERSION")),
        (
            "revision",
            option_env!("COUNTERSIGN_REVISION").unwrap_or("unknown"),
        ),
        ("rustc", option_env!("COUNTERSIGN_RUSTC").unwrap_or("unknown")),
    ]
}

const PHASES: [&str; 5] = ["mutate", "validate", "audit", "advise", "policy"];
const DECISIONS: [&str; 4] = ["allowed", "denied", "would_deny", "error"];

/// OBS-02: fine around the warm answer (5 ms) and around `timeoutSeconds` (1–30 s).
const BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0,
];

#[cfg(test)]
mod tests;
