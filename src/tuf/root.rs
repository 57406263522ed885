//! The chain of roots: each signed by the one before it (notary-v1 §4.4, §4.5, §5.7 steps 2–4).

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::key::PublicKey;
use super::metadata::Root;
use super::{Error, Pin, Role};
use crate::reference::{Gun, MAX_GUN_BYTES};

/// Names a message repeats from root certificates, which anybody can have made out to anything. The message is kept and
/// logged; so each name is cut to the length of the longest GUN.
const NAMES_TOLD: usize = 3;

/// Roots of one repository, oldest first, every link verified. Never empty.
#[derive(Debug)]
pub(super) struct Chain {
    older: Vec<Root>,
    newest: Root,
    /// The files, in the same order.
    files: Vec<Bytes>,
}

/// What decides whether a root key counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct RootRules<'a> {
    pub(super) gun: &'a Gun,
    pub(super) pin: &'a Pin,
    pub(super) now: Timestamp,
}

/// Whether certificates must be valid now. Those of roots that have a successor need not be: an expired certificate
/// must not prevent the very rotation that replaces it (§4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dates {
    Enforced,
    Ignored,
}

/// Whether versions may be skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// The next root is exactly one version on.
    Refused,
    /// A server without versioned roots: any later root that verifies (§5.7 step 3).
    Accepted,
}

impl Chain {
    /// Begins a chain with a root that something else vouches for: a pin, first use, or our memory.
    pub(super) fn anchored(root: Root, file: Bytes, rules: RootRules<'_>) -> Result<Self, Error> {
        let keys = rules.keys(&root, Dates::Ignored)?;
        root.envelope.meets(&Role::Root, &keys, root.root.threshold)?;
        Ok(Self {
            older: Vec::new(),
            newest: root,
            files: vec![file],
        })
    }

    /// Rebuilds a chain from our memory; `None` if there is none. Its gaps were accepted when it was made.
    pub(super) fn restored(files: &[Bytes], rules: RootRules<'_>) -> Result<Option<Self>, Error> {
        let mut chain: Option<Self> = None;
        for file in files {
            let root = Root::parse(file)?;
            match &mut chain {
                None => chain = Some(Self::anchored(root, file.clone(), rules)?),
                Some(chain) => chain.extend(root, file.clone(), rules, Gap::Accepted)?,
            }
        }
        Ok(chain)
    }

    /// Accepts `next` if a threshold of the newest root's keys and a threshold of its own signed it.
    pub(super) fn extend(
        &mut self,
        next: Root,
        file: Bytes,
        rules: RootRules<'_>,
        gap: Gap,
    ) -> Result<(), Error> {
        let broken = || Error::RootChain {
            trusted: self.newest.version,
            offered: next.version,
        };
        if next.version <= self.newest.version
            || gap == Gap::Refused && next.version != self.newest.version + 1
        {
            return Err(broken());
        }
        let previous = rules.keys(&self.newest, Dates::Ignored)?;
        next.envelope
            .meets(&Role::Root, &previous, self.newest.root.threshold)
            .map_err(|_| broken())?;
        let own = rules.keys(&next, Dates::Ignored)?;
        next.envelope.meets(&Role::Root, &own, next.root.threshold)?;
        self.older.push(std::mem::replace(&mut self.newest, next));
        self.files.push(file);
        Ok(())
    }

    pub(super) const fn newest(&self) -> &Root {
        &self.newest
    }

    pub(super) fn files(&self) -> &[Bytes] {
        &self.files
    }

    /// The chain's root of that version.
    pub(super) fn version(&self, version: u64) -> Option<&Root> {
        self.older
            .iter()
            .chain([&self.newest])
            .find(|root| root.version == version)
    }

    /// Whether some root of the chain meets the pin: from there on the links vouch (design §9.3).
    pub(super) fn meets_pin(&self, rules: RootRules<'_>) -> bool {
        self.older
            .iter()
            .chain([&self.newest])
            .any(|root| rules.pin_met_by(root))
    }

    /// Holds the newest root to what only the newest must satisfy (step 4), and says until when that lasts.
    pub(super) fn in_force(&self, rules: RootRules<'_>) -> Result<Timestamp, Error> {
        let root = &self.newest;
        let keys = rules.keys(root, Dates::Enforced)?;
        root.envelope.meets(&Role::Root, &keys, root.root.threshold)?;
        if root.expires <= rules.now {
            return Err(Error::Expired {
                role: Role::Root,
                at: root.expires,
            });
        }
        let dated = keys.iter().filter(|key| !rules.pin.pins_bare(key));
        let certificates = dated.filter_map(|key| Some(key.bundle()?.leaf().not_after()));
        Ok(certificates.fold(root.expires, Timestamp::min))
    }
}

impl RootRules<'_> {
    /// Whether the pin is met by `root`, however old it is.
    pub(super) fn pin_met_by(self, root: &Root) -> bool {
        self.keys(root, Dates::Ignored)
            .is_ok_and(|keys| self.pin.met_by(root, &keys, self.now))
    }

    /// Why no pin could ever be met by `root`, if its certificates are the reason.
    pub(super) fn acceptable(self, root: &Root) -> Result<(), Error> {
        self.keys(root, Dates::Enforced).map(drop)
    }

    /// The root keys whose certificates are acceptable; their original entries and ids, never rebuilt ones (§4.4).
    fn keys(self, root: &Root, dates: Dates) -> Result<Vec<Arc<PublicKey>>, Error> {
        let named: Vec<_> = root
            .root
            .keys
            .iter()
            .filter(|key| self.names_repository(key))
            .collect();
        if named.is_empty() {
            let listed = root
                .root
                .keys
                .iter()
                .filter_map(|key| key.bundle()?.leaf().common_name())
                .map(|name| name.chars().take(MAX_GUN_BYTES).collect());
            return Err(Error::Name {
                gun: self.gun.clone(),
                found: listed.take(NAMES_TOLD).collect(),
            });
        }
        let sound: Vec<_> = named
            .into_iter()
            .filter(|key| self.sound(key, dates))
            .cloned()
            .collect();
        if sound.is_empty() {
            Err(Error::Certificate)
        } else {
            Ok(sound)
        }
    }

    /// The common name must be the GUN, whatever the pin: one key may serve many repositories (design §9.1, T33).
    /// Names ending in `*`, which the reference takes for prefixes, are names like any other here (T28).
    fn names_repository(self, key: &PublicKey) -> bool {
        self.pin.accepts_any_name()
            || key.bundle().and_then(|bundle| bundle.leaf().common_name()) == Some(self.gun.as_str())
    }

    fn sound(self, key: &PublicKey, dates: Dates) -> bool {
        let now = (dates == Dates::Enforced && !self.pin.pins_bare(key)).then_some(self.now);
        key.bundle()
            .is_none_or(|bundle| bundle.is_one_leaf_with_authorities() && bundle.leaf().defect(now).is_none())
    }
}
