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
    /// Somebody else writes to it all the time.
    #[error("{gun} was written to meanwhile")]
    Busy {
        /// The repository.
        gun: Gun,
    },
}
