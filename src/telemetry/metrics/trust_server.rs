//! Metrics of a trust server.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Metrics, Outcome, Reason, add};

#[derive(Debug)]
pub(super) struct TrustServer {
    publishes: Family<Outcome, Counter>,
    renewals: Family<Outcome, Counter>,
    changes: Family<Event, Counter>,
    refusals: Family<Reason, Counter>,
    repositories: Family<State, Gauge>,
    expiry: Family<Role, Gauge>,
    database: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Event {
    event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Role {
    role: &'static str,
}

impl TrustServer {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let r = registry.sub_registry_with_prefix("server");
        Self {
            publishes: add(r, "publishes", "Updates that publishers sent", Family::default()),
            renewals: add(
                r,
                "renewals",
                "Attempts to sign timestamp and snapshot again",
                Family::default(),
            ),
            changes: add(
                r,
                "changes",
                "Repositories deleted and keys made",
                Family::default(),
            ),
            refusals: add(
                r,
                "access_refusals",
                "Calls that were not permitted",
                Family::default(),
            ),
            repositories: add(
                r,
                "repositories",
                "Repositories, as the last examination found them",
                Family::default(),
            ),
            expiry: add(
                r,
                "metadata_expiry_timestamp_seconds",
                "The first end of a file's life among all repositories",
                Family::default(),
            ),
            database: add(r, "database_up", "Whether the database answers", Gauge::default()),
        }
    }

    pub(super) fn start_at_zero(&self) {
        for result in ["accepted", "conflict", "rejected", "error"] {
            drop(self.publishes.get_or_create(&Outcome { result }));
        }
        for result in ["ok", "error"] {
            drop(self.renewals.get_or_create(&Outcome { result }));
        }
        for event in ["deleted", "key_made"] {
            drop(self.changes.get_or_create(&Event { event }));
        }
        for reason in ["unauthorized", "too_many"] {
            drop(self.refusals.get_or_create(&Reason { reason }));
        }
        for state in ["sound", "unsound"] {
            drop(self.repositories.get_or_create(&State { state }));
        }
    }
}

impl Metrics {
    /// A publisher's update was `accepted`, met a `conflict`, was `rejected`, or failed with an `error` of ours.
    pub fn trust_server_publish(&self, result: &'static str) {
        let publishes = &self.trust_server.publishes;
        publishes.get_or_create(&Outcome { result }).inc();
    }

    /// Timestamp and snapshot were to be signed again: `ok` or `error`.
    pub fn trust_server_renewal(&self, result: &'static str) {
        let renewals = &self.trust_server.renewals;
        renewals.get_or_create(&Outcome { result }).inc();
    }

    /// A repository was `deleted`, or a `key_made`.
    pub fn trust_server_change(&self, event: &'static str) {
        self.trust_server.changes.get_or_create(&Event { event }).inc();
    }

    /// A call was not permitted: `unauthorized` or `too_many`.
    pub fn trust_server_refusal(&self, reason: &'static str) {
        self.trust_server.refusals.get_or_create(&Reason { reason }).inc();
    }

    /// How many repositories were found `sound` or `unsound`.
    pub fn trust_server_repositories(&self, state: &'static str, count: i64) {
        let repositories = &self.trust_server.repositories;
        repositories.get_or_create(&State { state }).set(count);
    }

    /// When the first file of a role expires, in seconds since the epoch; `certificate` is that of a root.
    pub fn trust_server_expiry(&self, role: &'static str, epoch_seconds: i64) {
        self.trust_server
            .expiry
            .get_or_create(&Role { role })
            .set(epoch_seconds);
    }

    /// Whether the database answers.
    pub fn trust_server_database(&self, up: bool) {
        self.trust_server.database.set(up.into());
    }
}
