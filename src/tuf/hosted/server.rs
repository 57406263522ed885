//! What the server makes and signs: the snapshot, if it holds its key, and the timestamp.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::super::canonical::Value;
use super::super::edit::document::{self, Document as _, SnapshotDocument};
use super::super::edit::{MAX_VERSION, SignedFile};
use super::super::envelope::RoleKeys;
use super::super::metadata::Root;
use super::super::root::{Chain, RootRules};
use super::super::{Error, KeyId, PrivateKey, Role};
use super::rejection::{Kind, Rejection, Why};
use super::whole::{Files, Stated, Tree};
use super::{HeldKeys, Holding, Terms};

/// The keys of one role that the server holds, among those that root lists for it.
pub(super) struct Hand {
    role: Role,
    /// With the id under which root lists each.
    keys: Vec<(KeyId, Arc<PrivateKey>)>,
    threshold: u64,
}

impl Hand {
    fn of(role: Role, listed: &RoleKeys, held: &HeldKeys) -> Self {
        let keys = listed
            .keys
            .iter()
            .filter_map(|key| Some((key.id(), Arc::clone(held.get(&key.canonical())?))));
        Self {
            role,
            keys: keys.collect(),
            threshold: listed.threshold,
        }
    }

    /// Canonical ids.
    pub(super) fn ids(&self) -> BTreeSet<KeyId> {
        self.keys.iter().map(|(_, key)| key.id()).collect()
    }

    /// Whether what these keys sign counts.
    pub(super) fn suffices(&self) -> bool {
        u64::try_from(self.ids().len()).is_ok_and(|held| held >= self.threshold)
    }

    fn sign(&self, document: &Value, version: u64) -> Result<SignedFile, Rejection> {
        let message = document.canonical();
        let signatures = self.keys.iter().map(|(id, key)| {
            let bytes = key.sign(message.as_bytes());
            bytes.map(|bytes| (*id, key.method(), bytes))
        });
        let signatures: Vec<_> = signatures.collect::<Result<_, _>>().map_err(|_| {
            Rejection::invalid(Why::Signature {
                role: self.role.clone(),
            })
        })?;
        Ok(SignedFile {
            role: self.role.clone(),
            version,
            bytes: document::file(document, &signatures),
            signers: self.ids(),
        })
    }
}

/// The server's keys under one root.
pub(super) struct Hands {
    pub(super) snapshot: Hand,
    pub(super) timestamp: Hand,
}

impl Hands {
    pub(super) fn of(root: &Root, held: &HeldKeys) -> Self {
        Self {
            snapshot: Hand::of(Role::Snapshot, &root.snapshot, held),
            timestamp: Hand::of(Role::Timestamp, &root.timestamp, held),
        }
    }

    /// Refuses a root under which the server could not sign: what it accepted would never be served (§8.2 steps 4 and
    /// 5).
    pub(super) fn require(&self, snapshot: bool) -> Result<(), Rejection> {
        if !self.timestamp.suffices() {
            let why = Why::NotHeld {
                role: Role::Timestamp,
                held: self.timestamp.ids().len(),
                threshold: self.timestamp.threshold,
            };
            return Err(Rejection::of(&Role::Root, why));
        }
        if snapshot && !self.snapshot.suffices() {
            let why = Why::NoSnapshot {
                held: self.snapshot.ids().len(),
                threshold: self.snapshot.threshold,
            };
            return Err(Rejection::new(Kind::Hierarchy, why));
        }
        Ok(())
    }

    /// Every key of the server that root lists, whether it has signed yet or not.
    pub(super) fn ids(&self) -> BTreeSet<KeyId> {
        self.snapshot
            .ids()
            .into_iter()
            .chain(self.timestamp.ids())
            .collect()
    }
}

/// What the server signs with, on top of what.
pub(super) struct Desk<'a> {
    pub(super) holding: &'a Holding,
    pub(super) hands: &'a Hands,
    pub(super) terms: &'a Terms,
}

impl Desk<'_> {
    /// A snapshot of the stored bytes: entries of roles that are no part of `tree` are not in it any more (§8.6.3).
    pub(super) fn snapshot(&self, files: &Files, tree: &Tree) -> Result<SignedFile, Rejection> {
        let mut document = SnapshotDocument::default();
        for role in [&Role::Root].into_iter().chain(tree.roles()) {
            if let Some(file) = files.get(role) {
                document.describe(role, file);
            }
        }
        let version = self.next_version(&Role::Snapshot)?;
        let document = document.encode(version, end(self.terms.now, self.terms.snapshot));
        self.hands.snapshot.sign(&document, version)
    }

    pub(super) fn timestamp(&self, snapshot: &Bytes) -> Result<SignedFile, Rejection> {
        let version = self.next_version(&Role::Timestamp)?;
        let document = document::timestamp(snapshot, version, end(self.terms.now, self.terms.timestamp));
        self.hands.timestamp.sign(&document, version)
    }

    /// One above everything that was ever stored of the role, in earlier lives of the repository too (§8.6.8).
    fn next_version(&self, role: &Role) -> Result<u64, Rejection> {
        let file = self.holding.files.get(role);
        let current = file.map_or(Ok(0), |file| Ok(Stated::of(role, file)?.version));
        let current = current.map_err(Rejection::damaged)?;
        let used = self.holding.used.get(role).copied().unwrap_or_default();
        let next = current.max(used).saturating_add(1);
        if next > MAX_VERSION {
            return Err(Rejection::invalid(Why::Exhausted { role: role.clone() }));
        }
        Ok(next)
    }

    /// When something of `files` is to be signed again; `None` if root does not let us by then.
    pub(super) fn renew_at(&self, files: &Files, chain: &Chain, rules: RootRules<'_>) -> Option<Timestamp> {
        let due = self.due(files).ok()?;
        let at = due.into_values().min()?.max(self.terms.now);
        chain.in_force(RootRules { now: at, ..rules }).ok().map(|_| at)
    }

    /// When each file that the server can sign again is to be: at two thirds of its life, which leaves the last third
    /// for outages (§8.6.5). A timestamp that is good for longer than the server makes them was made while the clock was
    /// ahead, or when lives were longer: whoever keeps it from being replaced could serve it for so long (T4, T44). And a
    /// file that went back, as only an import lets it, is due at once: clients that saw the newer version refuse this one
    /// until there is one above both.
    pub(super) fn due(&self, files: &Files) -> Result<BTreeMap<Role, Timestamp>, Error> {
        let mut signed = vec![(Role::Timestamp, self.terms.timestamp)];
        if self.hands.snapshot.suffices() {
            signed.push((Role::Snapshot, self.terms.snapshot));
        }
        let due = signed.into_iter().map(|(role, life)| {
            let file = files.get(&role);
            let file = file.ok_or_else(|| Error::Missing { role: role.clone() })?;
            let Stated { version, expires } = Stated::of(&role, file)?;
            let ahead = role == Role::Timestamp && expires > end(self.terms.now, life.saturating_add(ASTRAY));
            let went_back = self.holding.used.get(&role).is_some_and(|used| *used > version);
            let at = expires.checked_sub(life / 3).unwrap_or(Timestamp::MIN);
            let at = if ahead || went_back {
                self.terms.now.min(at)
            } else {
                at
            };
            Ok((role, at))
        });
        due.collect()
    }
}

/// An end beyond the calendar is its last day.
fn end(now: Timestamp, life: Duration) -> Timestamp {
    now.checked_add(life).unwrap_or(Timestamp::MAX)
}

/// How far the clocks of servers that share a database may be apart.
pub(crate) const ASTRAY: Duration = Duration::from_secs(60);
