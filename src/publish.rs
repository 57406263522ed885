//! Publishing: what a person wants of a repository, turned into signed files on its trust server (notary-v1 §7).
//!
//! ```text
//! look (verify all) ─▶ plan ─▶ edit ─▶ unlock keys ─▶ sign ─▶ upload ─▶ look again
//!        ▲                                                │
//!        └────────────── somebody else was faster ────────┘
//! ```
//!
//! Nothing is signed on top of what does not verify, or is older than what was seen. A change is planned anew on what
//! another publisher made meanwhile, so neither change is lost. Keys are stored before the server hears of them, and
//! removed only after it has accepted their successors.

mod error;
mod init;
mod keyring;
mod plan;
mod report;
mod rotate;
mod run;

use std::time::Duration;

use jiff::Timestamp;

pub use error::PublishError;
pub use init::{Initial, SnapshotBy};
pub use keyring::{Held, Keyring, KeyringError};
pub use plan::{NewSigner, Signing, Witness};
pub use report::{Report, Written, expiring};
pub use rotate::Rotation;
pub use run::look;

use crate::trust::Site;
use crate::tuf::edit::Terms;

/// How publishing is done, whatever is published.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// One deadline for each attempt: look, sign, upload.
    pub timeout: Duration,
    /// How long what is signed is good.
    pub terms: Lifetimes,
    /// Whether the server is to be told.
    pub effect: Effect,
    /// What vouches for a repository that is looked at for the first time.
    pub anchor: Anchor,
    /// Whether a change is made that leaves tags without a valid signature.
    pub force: bool,
}

/// How long what is signed is good.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Of root.
    pub root: Duration,
    /// Of `targets` and delegations.
    pub targets: Duration,
    /// Of the snapshot, where we make it.
    pub snapshot: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let reference = Terms::reference(Timestamp::UNIX_EPOCH);
        Self {
            root: reference.root,
            targets: reference.targets,
            snapshot: reference.snapshot,
        }
    }
}

impl Lifetimes {
    const fn from(self, now: Timestamp) -> Terms {
        Terms {
            now,
            root: self.root,
            targets: self.targets,
            snapshot: self.snapshot,
        }
    }
}

/// Whether the server is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is.
    Publish,
    /// Everything is done but the upload: no key is made, stored or removed.
    DryRun,
}

/// What vouches for a repository that is looked at for the first time. Later ones are vouched for by what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// What the site was set up with.
    Configured,
    /// A root key of ours must have signed its root. Without one, what a server made up around our public key could be
    /// given our signature.
    OwnRoot,
    /// Whatever is there.
    FirstUse,
}

/// One repository, and the keys to publish it with.
pub struct Publisher<'a, K> {
    site: &'a Site,
    keys: &'a K,
    options: Options,
    progress: &'a dyn Fn(Progress),
}

/// What is going on, for who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The repository is verified.
    Looking,
    /// Keys are unlocked and used.
    Signing,
    /// Files are on their way.
    Uploading,
    /// Another publisher was faster: once more, for the so-manieth time.
    Again(u32),
    /// What was published is verified.
    Confirming,
}

impl<'a, K: Keyring> Publisher<'a, K> {
    /// A publisher of the repository at `site`.
    pub const fn new(site: &'a Site, keys: &'a K, options: Options, progress: &'a dyn Fn(Progress)) -> Self {
        Self {
            site,
            keys,
            options,
            progress,
        }
    }
}
