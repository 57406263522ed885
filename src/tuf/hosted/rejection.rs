//! Why an upload is not stored, in the words that clients of the reference understand (notary-v1 §2.8).

use std::error::Error as _;
use std::fmt;

use super::super::{Error, FormatError, Role};

/// Nothing of the upload is stored. [`fmt::Display`] is the message for the client: one line, the causes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    kind: Kind,
    why: Why,
}

/// The kinds that a client can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Validation,
    Hierarchy,
    Root,
    Targets,
    Snapshot,
    Version,
}

impl Kind {
    /// The kind of what is wrong with the file of `role`.
    pub(super) const fn of(role: &Role) -> Self {
        match role {
            // A timestamp is never uploaded: with one, the server's own state is at fault.
            Role::Timestamp => Self::Validation,
            Role::Root => Self::Root,
            Role::Targets | Role::Delegation(_) => Self::Targets,
            Role::Snapshot => Self::Snapshot,
        }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Why {
    #[error("the upload has no files")]
    Empty,
    #[error("timestamps are made by the server: the upload must not have one")]
    Timestamp,
    #[error("no pre-existing root and no root provided in update")]
    NoRoot,
    #[error("targets must be loaded first: a new repository needs targets metadata")]
    NoTargets,
    /// §3.2: what is not written as the reference writes it may be hashed differently by others.
    #[error("{role} metadata is not written as a publisher writes it")]
    Inexact {
        role: Role,
        #[source]
        source: FormatError,
    },
    #[error(transparent)]
    Metadata(#[from] Error),
    /// The reference's words.
    #[error("Root modifications must increment the version. Current {current}, new {offered}")]
    RootVersion { current: u64, offered: u64 },
    #[error("{role} version {offered} does not follow version {current}")]
    Gap { role: Role, current: u64, offered: u64 },
    #[error("{role} cannot begin with version {offered}: that leaves too few to come")]
    FarAhead { role: Role, offered: u64 },
    #[error("{role} version {offered} is not above version {stored}, which was stored before")]
    Stale { role: Role, offered: u64, stored: u64 },
    #[error("the version of {role} has reached the largest number there is")]
    Exhausted { role: Role },
    #[error("root needs {threshold} {role} keys of this server, it holds {held} of those that root lists")]
    NotHeld { role: Role, held: usize, threshold: u64 },
    #[error(
        "no snapshot was included in update and server does not hold current snapshot key for repository: \
         root needs {threshold} of its keys, {held} are held"
    )]
    NoSnapshot { held: usize, threshold: u64 },
    #[error("{role} is not delegated by a published role")]
    NotDelegated { role: Role },
    #[error("the role above {role} does not verify, so nobody vouches for {role}")]
    ParentUnsound { role: Role },
    #[error("the new root leaves the stored targets.json without a valid signature: upload it signed anew")]
    TargetsLeftBehind {
        #[source]
        source: Error,
    },
    #[error("the snapshot does not list {role}, which is published")]
    NotListed { role: Role },
    #[error("the snapshot lists {role}, which neither the upload nor the server has")]
    NotThere { role: Role },
    #[error("the server's {role} key did not sign")]
    Signature { role: Role },
    #[error("what is stored of this repository is damaged, so nothing is signed for it")]
    Damaged {
        #[source]
        source: Error,
    },
}

impl Rejection {
    pub(super) const fn new(kind: Kind, why: Why) -> Self {
        Self { kind, why }
    }

    /// What is wrong with the uploaded file of `role`.
    pub(super) const fn of(role: &Role, why: Why) -> Self {
        Self::new(Kind::of(role), why)
    }

    pub(super) const fn file(role: &Role, error: Error) -> Self {
        Self::of(role, Why::Metadata(error))
    }

    pub(super) const fn invalid(why: Why) -> Self {
        Self::new(Kind::Validation, why)
    }

    pub(super) const fn damaged(source: Error) -> Self {
        Self::invalid(Why::Damaged { source })
    }

    /// The name that clients know: `Name` of `INVALID_UPDATE`, or `VERSION`, which is a code of its own.
    pub const fn name(&self) -> &'static str {
        match self.kind {
            Kind::Validation => "ErrValidation",
            Kind::Hierarchy => "ErrBadHierarchy",
            Kind::Root => "ErrBadRoot",
            Kind::Targets => "ErrBadTargets",
            Kind::Snapshot => "ErrBadSnapshot",
            Kind::Version => "VERSION",
        }
    }

    /// Whether the upload was made from an older state than the present one: whoever made it should look again.
    pub const fn is_version(&self) -> bool {
        matches!(self.kind, Kind::Version)
    }

    /// The role whose absence is the fault, `Missing` of `ErrBadHierarchy`.
    pub const fn missing(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Hierarchy => Some("snapshot"),
            Kind::Validation | Kind::Root | Kind::Targets | Kind::Snapshot | Kind::Version => None,
        }
    }

    /// Whether what is stored is at fault, and not what was uploaded.
    pub const fn is_damage(&self) -> bool {
        matches!(self.why, Why::Damaged { .. })
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)?;
        let mut cause = self.why.source();
        while let Some(source) = cause {
            write!(f, ": {source}")?;
            cause = source.source();
        }
        Ok(())
    }
}

/// The causes are in the message already.
impl std::error::Error for Rejection {}
