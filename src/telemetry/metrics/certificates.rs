//! Metrics of certificates, and of where the cluster trusts them (TLS-22).

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Kind, Metrics, Outcome, Reason, add};

#[derive(Debug)]
pub(super) struct Certificates {
    expiry: Family<Kind, Gauge>,
    reloads: Family<Outcome, Counter>,
    authority_changes: Family<Change, Counter>,
    bundle_writes: Family<Reason, Counter>,
    configurations: Family<Kind, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Change {
    change: &'static str,
}

impl Certificates {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            expiry: add(
                registry,
                "certificate_not_after_timestamp_seconds",
                "End of the serving certificate's life",
                Family::default(),
            ),
            reloads: add(
                registry,
                "certificate_reloads",
                "Attempts to load the serving certificate",
                Family::default(),
            ),
            authority_changes: add(
                registry,
                "certificate_authority_changes",
                "Changes of the authority in the cluster that this replica made",
                Family::default(),
            ),
            bundle_writes: add(
                registry,
                "ca_bundle_writes",
                "Webhook configurations that this replica wrote caBundle of",
                Family::default(),
            ),
            configurations: add(
                registry,
                "webhook_configuration_present",
                "Whether the webhook configuration of a kind is there",
                Family::default(),
            ),
        }
    }

    pub(super) fn start_at_zero(&self) {
        for result in ["ok", "error"] {
            drop(self.reloads.get_or_create(&Outcome { result }));
        }
        for change in ["founded", "announced", "promoted", "mended", "recovered"] {
            drop(self.authority_changes.get_or_create(&Change { change }));
        }
        for reason in ["missing", "outdated", "foreign"] {
            drop(self.bundle_writes.get_or_create(&Reason { reason }));
        }
    }
}

impl Metrics {
    /// The end of life of the serving certificate (`leaf`) or of its authority (`ca`), in seconds since the epoch
    /// (TLS-22).
    pub fn certificate_not_after(&self, kind: &'static str, epoch_seconds: i64) {
        let expiry = &self.certificates.expiry;
        expiry.get_or_create(&Kind { kind }).set(epoch_seconds);
    }

    /// The serving certificate was read anew: `result` is `ok` or `error` (TLS-20).
    pub fn certificate_reload(&self, result: &'static str) {
        let reloads = &self.certificates.reloads;
        reloads.get_or_create(&Outcome { result }).inc();
    }

    /// This replica changed the authority in the cluster: `founded`, `announced`, `promoted`, `mended`, or `recovered`
    /// after it was lost (TLS-07).
    pub fn authority_change(&self, change: &'static str) {
        let changes = &self.certificates.authority_changes;
        changes.get_or_create(&Change { change }).inc();
    }

    /// This replica wrote the `caBundle` of a configuration because it was `missing`, `outdated` or `foreign` (TLS-09).
    pub fn ca_bundle_write(&self, reason: &'static str) {
        let writes = &self.certificates.bundle_writes;
        writes.get_or_create(&Reason { reason }).inc();
    }

    /// Whether the webhook configuration of a kind (`mutating`, `validating`) is there (AVL-36).
    pub fn webhook_configuration_present(&self, kind: &'static str, present: bool) {
        let configurations = &self.certificates.configurations;
        configurations.get_or_create(&Kind { kind }).set(present.into());
    }
}
