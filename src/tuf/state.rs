//! What is remembered of a repository between runs (design §5, notary-v1 §5.7).

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;

use super::Role;

/// The trust state of one repository on one trust server. Empty before first contact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The chain of trusted roots, oldest first; the last one is in force. Kept whole, so that a pin on an older
    /// root outlives a server that no longer serves it (design §9.3).
    pub roots: Vec<Bytes>,
    /// Highest version seen of every role below root, and what it contained.
    pub seen: BTreeMap<Role, Seen>,
    /// The newest verified files, from which the repository can be verified again while its server is away.
    pub files: BTreeMap<Role, Bytes>,
    /// When the last complete run succeeded.
    pub verified_at: Option<Timestamp>,
}

/// One version of one role's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its version.
    pub version: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

impl State {
    /// Whether nothing is known of the repository.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty() && self.seen.is_empty()
    }
}
