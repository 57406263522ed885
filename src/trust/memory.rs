//! What is known of each repository, in memory: verified collections, and recent failures.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use moka::sync::Cache;
use tokio::time::Instant;

use super::Refusal;
use super::borrowed::Scope;
use crate::reference::Gun;
use crate::tuf::{Collection, Role, Verified};

/// Tags and repositories that memory holds at most, weighed as one for each tag of each role and [`OVERHEAD`] for each repository:
/// a tag takes about 100 bytes, so all of them some 50 MB of the 256 MB a replica is given (AVL-15).
const CAPACITY: u64 = 500_000;
/// What a repository weighs besides its tags.
const OVERHEAD: u32 = 20;
/// How long the memory of a repository that nobody asks for is kept.
const IDLE: Duration = Duration::from_secs(24 * 3600);
/// How long a failure is kept: longer than any stands. So long is a repository known to want a login.
pub(super) const FAILED: Duration = Duration::from_secs(60);
/// How long after the last image a repository is kept fresh in the background.
const ACTIVE: Duration = Duration::from_secs(3600);

/// What is known of all repositories by way of workloads' own logins may have this part of the room, apart from the
/// rest: whoever may write Secrets makes up as many lists of logins as they like.
const SHARE: u64 = 10;

/// One repository as one verifier sees it, as two may disagree about pins and signers; and, if it was seen with a
/// workload's own logins, with which (CRED-24).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The verifier's number.
    pub(super) verifier: u64,
    pub(super) gun: Gun,
    pub(super) scope: Option<Scope>,
}

/// Everything known.
#[derive(Debug)]
pub(super) struct Memory {
    known: Cache<Key, Known>,
    /// The repositories images were asked of lately: those are kept fresh.
    active: Cache<Key, ()>,
    /// Why the last look failed; kept apart, so that a failure does not push verified metadata out.
    failed: Cache<Key, Failure>,
}

/// A verified repository.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) collection: Arc<Collection>,
    /// SHA-256 of the timestamp that vouches for it: while the server serves the same, nothing has changed.
    pub(super) timestamp: [u8; 32],
    /// By the wall clock: staleness outlives restarts.
    pub(super) verified_at: Timestamp,
    /// When the store was last told.
    pub(super) confirmed_at: Timestamp,
    /// When this process last asked the server; never, if it was verified from the store alone.
    pub(super) asked: Option<Instant>,
    /// What was believed until the latest change.
    pub(super) before: Option<Before>,
}

/// What a repository said until a moment ago.
#[derive(Clone, Debug)]
pub(super) struct Before {
    pub(super) collection: Arc<Collection>,
    pub(super) replaced: Instant,
}

impl Known {
    /// What a run verified at `at`; `None` if it left no timestamp behind, which no complete run does.
    pub(super) fn of(verified: Verified, at: Timestamp, asked: Option<Instant>) -> Option<Self> {
        let timestamp = verified.state.seen.get(&Role::Timestamp)?.sha256;
        let collection = Arc::new(verified.collection);
        Some(Self {
            collection,
            timestamp,
            verified_at: at,
            confirmed_at: at,
            asked,
            before: None,
        })
    }

    /// This knowledge in place of `old`, which is kept for a while if it was still believed.
    fn replacing(self, old: Option<Known>, fresh_for: Duration) -> Self {
        let before = match old {
            Some(old) if old.timestamp == self.timestamp => old.before,
            Some(old) if old.younger_than(fresh_for) => Some(Before {
                collection: old.collection,
                replaced: Instant::now(),
            }),
            Some(_) | None => None,
        };
        Self {
            before: before.filter(|before| before.replaced.elapsed() < fresh_for),
            ..self
        }
    }

    /// Whether the server was asked less than `age` ago.
    pub(super) fn younger_than(&self, age: Duration) -> bool {
        self.asked.is_some_and(|asked| asked.elapsed() < age)
    }
}

/// A look that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) refusal: Refusal,
    /// Whether verified metadata may serve instead (design §9.5).
    pub(super) outage: bool,
    pub(super) at: Instant,
}

impl Failure {
    pub(super) fn of(refusal: Refusal, outage: bool) -> Self {
        Self {
            refusal,
            outage,
            at: Instant::now(),
        }
    }
}

impl Memory {
    /// For what everybody may know.
    pub(super) fn new() -> Self {
        Self::of(CAPACITY)
    }

    /// For what those may know who have the logins.
    pub(super) fn private() -> Self {
        Self::of(CAPACITY / SHARE)
    }

    fn of(capacity: u64) -> Self {
        let weigh = |_: &Key, known: &Known| {
            u32::try_from(known.collection.entries())
                .unwrap_or(u32::MAX)
                .saturating_add(OVERHEAD)
        };
        Self {
            known: Cache::builder()
                .max_capacity(capacity)
                .weigher(weigh)
                .time_to_idle(IDLE)
                .build(),
            active: Cache::builder()
                .max_capacity(capacity / u64::from(OVERHEAD))
                .time_to_live(ACTIVE)
                .build(),
            failed: Cache::builder()
                .max_capacity(capacity / u64::from(OVERHEAD))
                .time_to_live(FAILED)
                .build(),
        }
    }

    /// Notes that an image of the repository was asked for.
    pub(super) fn touch(&self, key: &Key) {
        self.active.insert(key.clone(), ());
    }

    pub(super) fn known(&self, key: &Key) -> Option<Known> {
        self.known.get(key)
    }

    /// The last failure, if it is younger than `age`.
    pub(super) fn failure(&self, key: &Key, age: Duration) -> Option<Failure> {
        self.failed.get(key).filter(|failure| failure.at.elapsed() < age)
    }

    /// Takes `known` in, and gives it back with what it replaces, if that was believed until now.
    pub(super) fn remember(&self, key: &Key, known: Known, fresh_for: Duration) -> Known {
        self.failed.invalidate(key);
        let known = known.replacing(self.known.get(key), fresh_for);
        self.known.insert(key.clone(), known.clone());
        known
    }

    /// Keeps what was verified from the store, for as long as the server is away.
    pub(super) fn keep(&self, key: &Key, known: Known) {
        self.known.insert(key.clone(), known);
    }

    /// Forgets a repository as a verifier sees it, with whatever logins, and why the last looks failed.
    pub(super) fn forget(&self, verifier: u64, gun: &Gun) {
        let same = |key: &Key| key.verifier == verifier && key.gun == *gun;
        for (key, _) in self.known.iter().filter(|(key, _)| same(key)) {
            self.known.invalidate(&*key);
        }
        for (key, _) in self.failed.iter().filter(|(key, _)| same(key)) {
            self.failed.invalidate(&*key);
        }
    }

    /// Notes a failure. One that is no outage is an answer: what was known before counts no more.
    pub(super) fn fail(&self, key: &Key, failure: Failure) {
        if !failure.outage {
            self.known.invalidate(key);
        }
        self.failed.insert(key.clone(), failure);
    }

    /// The active repositories whose server was last asked at least `age` ago.
    pub(super) fn due(&self, age: Duration) -> Vec<Key> {
        let old = self.known.iter().filter(|(_, known)| !known.younger_than(age));
        old.map(|(key, _)| Key::clone(&key))
            .filter(|key| self.active.contains_key(key))
            .collect()
    }

    /// The first instant at which some verified metadata expires.
    pub(super) fn nearest_expiry(&self) -> Option<Timestamp> {
        self.known
            .iter()
            .map(|(_, known)| known.collection.expires())
            .min()
    }
}
