//! Whether this replica may be sent requests, and why not (AVL-19).

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio::sync::watch;

/// The named conditions of readiness. Cloned handles see the same state. Trust servers and registries are no
/// conditions: all replicas would go unready together when one of those fails.
#[derive(Clone, Debug)]
pub struct Ready(watch::Sender<Conditions>);

/// What readiness consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conditions {
    /// Life of the certificate that is served, once there is one.
    pub certificate: Option<Life>,
    /// Whether policies have been read completely once; `None` where they are not used.
    pub policies: Option<bool>,
    /// Whether the database answers; `None` where there is none.
    pub database: Option<bool>,
    /// Whether the cluster's trust records have been read completely once; `None` where they are not used.
    pub trust_records: Option<bool>,
    /// The server is leaving.
    pub draining: bool,
    /// What else is worth knowing, by name; none of it is a condition.
    pub facts: BTreeMap<&'static str, &'static str>,
}

/// From when until when a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Good from then on.
    pub not_before: Timestamp,
    /// No longer good after that.
    pub not_after: Timestamp,
}

impl Life {
    /// Whether a certificate with this life is good at `now`.
    pub fn contains(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

impl Default for Ready {
    /// Waits for policies.
    fn default() -> Self {
        Self(watch::Sender::new(Conditions {
            policies: Some(false),
            ..Conditions::NONE
        }))
    }
}

impl Conditions {
    /// Nothing but a certificate to wait for.
    const NONE: Self = Self {
        certificate: None,
        policies: None,
        database: None,
        trust_records: None,
        draining: false,
        facts: BTreeMap::new(),
    };
}

impl Ready {
    /// Waits for a database instead of policies.
    pub fn of_database() -> Self {
        Self(watch::Sender::new(Conditions {
            database: Some(false),
            ..Conditions::NONE
        }))
    }

    /// Whether the database answers. Unlike policies, which stay known, one that is gone makes this replica unready
    /// again: it has nothing to answer with.
    pub fn database(&self, answers: bool) {
        self.0.send_modify(|state| state.database = Some(answers));
    }

    /// Policies are loaded, and readiness no longer waits for them. Losing their source later does not take that back.
    pub fn policies_loaded(&self) {
        self.0.send_modify(|state| state.policies = Some(true));
    }

    /// Readiness waits for trust records from now on.
    pub fn await_trust_records(&self) {
        self.0.send_modify(|state| {
            state.trust_records.get_or_insert(false);
        });
    }

    /// Trust records are loaded, and readiness no longer waits for them.
    pub fn trust_records_loaded(&self) {
        self.0.send_modify(|state| state.trust_records = Some(true));
    }

    /// Says something about this replica that does not decide whether it is ready.
    pub fn tell(&self, name: &'static str, fact: &'static str) {
        self.0.send_modify(|state| {
            state.facts.insert(name, fact);
        });
    }

    /// What was told, in the order of names.
    pub(super) fn facts(&self) -> BTreeMap<&'static str, &'static str> {
        self.0.borrow().facts.clone()
    }

    /// Sees every change, for those who wait for one.
    pub fn watch(&self) -> watch::Receiver<Conditions> {
        self.0.subscribe()
    }

    /// The conditions by name at `now`, in the order `/readyz?verbose` lists them.
    pub fn conditions(&self, now: Timestamp) -> impl Iterator<Item = (&'static str, bool)> + Clone {
        let state = self.0.borrow();
        let certificate = state.certificate.is_some_and(|life| life.contains(now));
        let conditions = [
            Some(("certificate", certificate)),
            state.policies.map(|loaded| ("policies", loaded)),
            state.database.map(|answers| ("database", answers)),
            state.trust_records.map(|loaded| ("trust-records", loaded)),
            Some(("not-draining", !state.draining)),
        ];
        conditions.into_iter().flatten()
    }

    pub(super) fn certificate_loaded(&self, life: Life) {
        self.0.send_modify(|state| state.certificate = Some(life));
    }

    pub(super) fn draining(&self) {
        self.0.send_modify(|state| state.draining = true);
    }

    /// Whether all is there that requests are answered from.
    pub(super) fn can_judge(&self) -> bool {
        let state = self.0.borrow();
        let missing = Some(false);
        ![state.policies, state.database, state.trust_records].contains(&missing)
    }
}
