//! What a publisher changes and signs (notary-v1 §7.7, §7.8), without I/O.
//!
//! ```text
//! Verified ─▶ Published ─ edit ─▶ Draft ─ apply(Change)… ─▶ needs ─ keys ─▶ sign ─▶ Signed: files to be uploaded
//! ```
//!
//! A [`Published`] is made of a verified repository only, so nothing that did not verify is signed again unless a
//! [`Change::Adopt`] says so by name. Versions rise by one, above everything ever seen of a role; one version never
//! gets two contents; what is written is held against the verifier's own rules before it leaves this module.

mod apply;
pub(super) mod document;
mod published;
mod sign;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

pub use published::{Content, Published, Row, SignerKeys, SignerState};
pub(super) use sign::MAX_VERSION;
pub use sign::{Need, Signed, SignedFile, Terms};

use super::{DelegationName, Error, KeyId, PrivateKeyError, PublicKey, Role};
use crate::reference::Tag;
use document::{RootDocument, SnapshotDocument, TargetsDocument};

/// One change of a repository.
#[derive(Clone, Debug)]
pub enum Change {
    /// The tag is this digest, in these roles.
    Release {
        /// The tag.
        tag: Tag,
        /// SHA-256 of the manifest or index.
        sha256: [u8; 32],
        /// Its length in bytes.
        length: u64,
        /// `targets` or delegations.
        roles: BTreeSet<Role>,
    },
    /// The tag is nothing any more, in these roles.
    Withdraw {
        /// The tag.
        tag: Tag,
        /// `targets` or delegations.
        roles: BTreeSet<Role>,
    },
    /// These keys may sign for the delegation, which is made if it is not there; keys and paths that it has stay.
    Delegate {
        /// The delegation, directly below `targets`.
        name: DelegationName,
        /// Keys to add.
        keys: Vec<Arc<PublicKey>>,
        /// How many of its keys must sign from now on; else as many as did, which is one at the beginning.
        threshold: Option<u64>,
        /// Prefixes of tags to add (§6.4); `""` is every tag.
        paths: Vec<Box<str>>,
    },
    /// These keys may not sign for the delegation any more.
    RemoveKeys {
        /// The delegation.
        name: DelegationName,
        /// Canonical ids.
        keys: BTreeSet<KeyId>,
    },
    /// The delegation and what is below it are gone.
    Undelegate {
        /// The delegation.
        name: DelegationName,
    },
    /// The base role has these keys instead of its own (§7.11).
    Replace {
        /// A base role.
        role: Role,
        /// Its keys from now on.
        keys: Vec<Arc<PublicKey>>,
    },
    /// The file is signed again as it is: new version, new expiry (witness).
    Resign {
        /// `root`, `targets` or a delegation.
        role: Role,
    },
    /// The file of a delegation, which does not verify, is vouched for as it is.
    Adopt {
        /// The delegation.
        name: DelegationName,
    },
    /// The file of a delegation, which does not verify, begins anew without a tag.
    Empty {
        /// The delegation.
        name: DelegationName,
    },
}

/// A repository being changed.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What it was; `None` if it is only now made.
    before: Option<Arc<Published>>,
    root: RootDocument,
    targets: TargetsDocument,
    delegations: BTreeMap<DelegationName, TargetsDocument>,
    snapshot: SnapshotDocument,
    /// What has to be signed.
    dirty: BTreeSet<Role>,
    /// Versions that were used up, as far as something else than the documents says so.
    floors: BTreeMap<Role, u64>,
}

impl Draft {
    /// A repository that is only now made (§7.9). `targets` is empty.
    pub fn initial(
        root: &[Arc<PublicKey>],
        targets: &Arc<PublicKey>,
        snapshot: &Arc<PublicKey>,
        timestamp: &Arc<PublicKey>,
    ) -> Self {
        let mut document = RootDocument::new();
        document.replace(&Role::Root, root);
        for (role, key) in [
            (Role::Targets, targets),
            (Role::Snapshot, snapshot),
            (Role::Timestamp, timestamp),
        ] {
            document.replace(&role, std::slice::from_ref(key));
        }
        Self {
            before: None,
            root: document,
            targets: TargetsDocument::default(),
            delegations: BTreeMap::new(),
            snapshot: SnapshotDocument::default(),
            dirty: [Role::Root, Role::Targets].into(),
            floors: BTreeMap::new(),
        }
    }

    /// Whether nothing has to be signed.
    pub fn is_unchanged(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Versions of `role` up to this one were used up: the next is above it.
    pub fn above(&mut self, role: Role, version: u64) {
        let floor = self.floors.entry(role).or_default();
        *floor = version.max(*floor);
    }

    /// The delegations whose file is made by this change: an earlier life of theirs may have used up versions.
    pub fn begins(&self) -> Vec<Role> {
        let dirty = self.dirty.iter().filter(|role| match role {
            Role::Delegation(name) => self
                .delegations
                .get(name)
                .is_some_and(|document| document.version == 0),
            Role::Root | Role::Targets | Role::Snapshot | Role::Timestamp => false,
        });
        dirty.cloned().collect()
    }
}

/// Why a change cannot be made or signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// A file of the repository cannot be read as what it is.
    #[error(transparent)]
    File(#[from] Error),
    /// The role is not delegated.
    #[error("{role} is no role of the repository")]
    NoSuchRole {
        /// The role.
        role: Role,
    },
    /// The tag is in none of the roles.
    #[error("tag {tag} is not signed in {role}")]
    NoSuchTag {
        /// The tag.
        tag: Tag,
        /// The role.
        role: Role,
    },
    /// The key signs for something else, or for nothing.
    #[error("key {key} is no key of {role}")]
    NoSuchKey {
        /// Its canonical id.
        key: KeyId,
        /// The role.
        role: Role,
    },
    /// A delegation below another cannot be made here.
    #[error("{name} is below another delegation: only those directly below targets can be changed")]
    Nested {
        /// The delegation.
        name: DelegationName,
    },
    /// The file is published and was not loaded: there are more roles than are.
    #[error("{role} was not loaded: the repository has more roles than are looked at")]
    NotLoaded {
        /// The role.
        role: Role,
    },
    /// The role may not sign the tag.
    #[error("{role} may not sign tag {tag}: none of its paths covers it")]
    Path {
        /// The role.
        role: Role,
        /// The tag.
        tag: Tag,
    },
    /// The role's file does not verify, so nothing can be added to it.
    #[error(
        "{role} does not verify: witness it with --adopt to vouch for its tags, or with --empty to drop them"
    )]
    Unsound {
        /// The role.
        role: Role,
        /// What is wrong with it.
        #[source]
        source: Error,
    },
    /// The role's file is fine, and was to be adopted or emptied.
    #[error("{role} verifies: there is nothing to adopt or to drop")]
    Sound {
        /// The role.
        role: Role,
    },
    /// A rotation of something that is no base role, or to no key.
    #[error(
        "{role} cannot be rotated: only root, targets, snapshot and timestamp can, each to at least one key"
    )]
    NoRotation {
        /// The role.
        role: Role,
    },
    /// The role would have fewer keys than must sign.
    #[error("{role} would have {keys} keys, and {threshold} of them would have to sign")]
    Threshold {
        /// The role.
        role: Role,
        /// How many must sign.
        threshold: u64,
        /// How many different keys there would be.
        keys: usize,
    },
    /// Too few of the role's keys are at hand.
    #[error(
        "{role} needs {threshold} of its keys to sign, {held} are at hand: {}",
        ids(keys)
    )]
    Keys {
        /// The role.
        role: Role,
        /// How many are at hand.
        held: usize,
        /// How many are needed.
        threshold: u64,
        /// Canonical ids of the role's keys.
        keys: BTreeSet<KeyId>,
    },
    /// A key did not sign.
    #[error("key {key} did not sign {role}")]
    Signature {
        /// Its canonical id.
        key: KeyId,
        /// The role.
        role: Role,
        /// Why.
        #[source]
        source: PrivateKeyError,
    },
    /// The version cannot rise any more (T6).
    #[error("the version of {role} has reached the largest number there is: rotate its key")]
    Exhausted {
        /// The role.
        role: Role,
    },
    /// What was signed is not what our own verifier accepts.
    #[error("what was signed for {role} would not verify")]
    Refused {
        /// The role.
        role: Role,
        /// Why.
        #[source]
        source: Error,
    },
}

fn ids(keys: &BTreeSet<KeyId>) -> String {
    let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
    keys.join(", ")
}

/// One file as it is served now, and until when it is good.
#[derive(Clone, Debug)]
struct Current {
    file: Bytes,
    expires: Timestamp,
}

#[cfg(test)]
mod tests;
