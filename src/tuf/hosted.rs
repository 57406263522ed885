//! What a trust server accepts and signs (notary-v1 §8.2, §8.4, §8.6), without I/O.
//!
//! What is stored, an upload, the keys that the server holds and one clock reading in; what is to be stored, or why
//! nothing is, out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::edit::SignedFile;
use super::{KeyId, PrivateKey, Role};

/// A repository as the server has it. Empty before the first publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// The current file of every role.
    pub files: BTreeMap<Role, Bytes>,
    /// The highest version that was ever stored of every role.
    pub used: BTreeMap<Role, u64>,
}

/// The keys that the server holds for a repository, by id.
pub type HeldKeys = BTreeMap<KeyId, Arc<PrivateKey>>;

/// How long what the server signs is good, and from when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The present.
    pub now: Timestamp,
    /// Of snapshots.
    pub snapshot: Duration,
    /// Of timestamps.
    pub timestamp: Duration,
}

/// What is to be stored, all of it at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// New files, uploaded and signed here, in the order in which they depend on each other.
    pub files: Vec<SignedFile>,
    /// Roles that are no part of the repository any more.
    pub dropped: BTreeSet<Role>,
    /// Keys of the server that the new state relies on.
    pub keys_used: BTreeSet<KeyId>,
    /// When the server should sign again; `None` if nothing can be signed any more, such as under a root that expires
    /// before that.
    pub renew_at: Option<Timestamp>,
}
