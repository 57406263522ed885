//! Logs and metrics: set up once, passed in, no globals.

use std::time::Duration;

/// Every metric of the process (kubernetes-admission §7.1, prefix `countersign_`). Labels are words from closed
/// sets, never images, namespaces or error text.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// One admission request: `phase` (mutate, validate, audit, advise), `decision` (allowed, denied, `would_deny`, error).
    pub fn admission(
        &self,
        _phase: &'static str,
        _operation: &'static str,
        _resource: &'static str,
        _decision: &'static str,
        _dry_run: bool,
        _took: Duration,
    ) {
    }

    /// One image verified: `result` (trusted, denied, unavailable), `reason` a word from `Refusal::reason` or
    /// `signed`, `cache` (hit, miss).
    pub fn verification(
        &self,
        _verifier: &'static str,
        _result: &'static str,
        _reason: &'static str,
        _cache: &'static str,
        _took: Duration,
    ) {
    }

    /// One request to a server: `kind` (trust, token, ping), `code` the class of the status (`2xx`…) or `error`.
    pub fn upstream(&self, _kind: &'static str, _code: &'static str, _took: Duration) {}

    /// The whole retrieval of a repository's metadata, however many requests it took.
    pub fn trust_fetch(&self, _result: &'static str, _took: Duration) {}

    /// The nearest expiry among all verified metadata in memory, in seconds since the epoch.
    pub fn nearest_metadata_expiry(&self, _epoch_seconds: Option<i64>) {}
}
