//! Why a repository did not come in or out.

use std::io;

use super::Rollback;
use crate::reference::Gun;
use crate::trustserver::seal::SealError;
use crate::trustserver::storage::StorageError;
use crate::tuf::hosted::Rejection;
use crate::tuf::{KeyFileError, KeyId, Role};

/// Why a repository did not come in or out. Nothing was stored of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterchangeError {
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A key cannot be sealed, or opened.
    #[error("key {id} of {gun} is not to be had")]
    Seal {
        /// The repository.
        gun: Gun,
        /// The key.
        id: KeyId,
        /// Why.
        #[source]
        source: Box<SealError>,
    },
    /// The archive or dump cannot be read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// The archive cannot be written.
    #[error("cannot be written")]
    Write(#[source] io::Error),
    /// It is something else.
    #[error("not an archive of a repository")]
    Foreign,
    /// Of a newer program.
    #[error("an archive of version {version}, of which this program knows nothing")]
    Version {
        /// The version.
        version: u64,
    },
    /// Not as it was written: cut off, changed, or put together by other means.
    #[error("the archive is damaged: its {what} is not what it should be")]
    Damaged {
        /// The part.
        what: &'static str,
    },
    /// More than any repository has.
    #[error("more than {most} for {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        most: u64,
    },
    /// A file is not what it is said to be, is there twice, or is missing.
    #[error("{role} version {version} of {gun} is missing, there twice, or another file")]
    File {
        /// The repository.
        gun: Gun,
        /// The role.
        role: Role,
        /// The version.
        version: u64,
    },
    /// A key of the archive does not open.
    #[error("key {id}")]
    Key {
        /// The key.
        id: KeyId,
        /// Why.
        #[source]
        source: KeyFileError,
    },
    /// Another key is inside than the name says.
    #[error("what is kept as key {id} is another key")]
    KeyId {
        /// The name.
        id: KeyId,
    },
    /// A server holds no keys of that role.
    #[error("key {id} is for a role whose keys no server holds")]
    KeyRole {
        /// The key.
        id: KeyId,
    },
    /// There is no such repository.
    #[error("there is no repository {gun}")]
    Absent {
        /// Its name.
        gun: Gun,
    },
    /// There is such a repository.
    #[error("{gun} is there already")]
    Exists {
        /// Its name.
        gun: Gun,
    },
    /// Clients may have seen a newer version.
    #[error(
        "{gun} would go back: {} version {} is not above {}, which was used here before",
        .rollback.role, .rollback.offered, .rollback.used
    )]
    Rollback {
        /// The repository.
        gun: Gun,
        /// The first role that would go back.
        rollback: Rollback,
    },
    /// The current files are not a state of this repository.
    #[error("the files of {gun} do not verify")]
    Unverified {
        /// The repository.
        gun: Gun,
        /// Why.
        #[source]
        source: Box<Rejection>,
    },
    /// A root that its predecessor did not sign.
    #[error("the roots of {gun} do not follow from each other")]
    Chain {
        /// The repository.
        gun: Gun,
        /// Why.
        #[source]
        source: Box<Rejection>,
    },
    /// Clients ask for the next root until there is none, and would come to one that is not in force.
    #[error("root version {version} of {gun} is newer than the one that is current")]
    Ahead {
        /// The repository.
        gun: Gun,
        /// The version.
        version: u64,
    },
    /// Clients that trust a root that is there could not get to the new ones; they may be of another owner.
    #[error(
        "{gun} is there with another root of version {version}, or one that is missing in what is imported"
    )]
    Severed {
        /// The repository.
        gun: Gun,
        /// The version.
        version: u64,
    },
    /// Somebody else writes to it all the time.
    #[error("{gun} was written to meanwhile")]
    Busy {
        /// The repository.
        gun: Gun,
    },
}

impl InterchangeError {
    /// Whether the repository was looked at and the answer is no. Else it could not be looked at: there is something to
    /// be put right before that.
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Storage(_) | Self::Seal { .. } | Self::Read(_) | Self::Write(_) | Self::Key { .. } => false,
            Self::Foreign
            | Self::Version { .. }
            | Self::Damaged { .. }
            | Self::Limit { .. }
            | Self::File { .. }
            | Self::KeyId { .. }
            | Self::KeyRole { .. }
            | Self::Absent { .. }
            | Self::Exists { .. }
            | Self::Rollback { .. }
            | Self::Unverified { .. }
            | Self::Chain { .. }
            | Self::Ahead { .. }
            | Self::Severed { .. }
            | Self::Busy { .. } => true,
        }
    }
}
