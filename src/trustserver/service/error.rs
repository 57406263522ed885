//! What keeps a call from being answered as it was meant.

use super::super::http::{InvalidUpdate, ProtocolError};
use super::super::seal::SealError;
use super::super::storage::StorageError;
use crate::telemetry::chain;
use crate::tuf::PrivateKeyError;
use crate::tuf::hosted::Rejection;
use tracing::error;

/// Why something did not happen.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServiceError {
    /// The repository would not be what it must be.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A key that is held cannot be used.
    #[error("a key of the server cannot be used")]
    Sealed(#[from] SealError),
    /// A key cannot be made.
    #[error("no key can be made")]
    Key(#[from] PrivateKeyError),
    /// Others changed the repository whenever we were about to.
    #[error("the repository is being changed by too many at a time")]
    Crowded,
    /// The decision panicked: nothing was stored.
    #[error("the decision ended in a panic")]
    Panicked,
}

impl ServiceError {
    /// What a publisher is told. Of what failed here only that it did: the rest is in the log.
    pub(super) fn for_publisher(self) -> ProtocolError {
        match self {
            Self::Rejected(rejection) if rejection.is_damage() => {
                error!(error = %rejection, "what is stored does not verify");
                ProtocolError::InvalidUpdate(None)
            }
            Self::Rejected(rejection) if rejection.is_version() => ProtocolError::Version,
            Self::Rejected(rejection) => ProtocolError::InvalidUpdate(Some(InvalidUpdate {
                name: rejection.name(),
                message: rejection.to_string(),
                missing: rejection.missing(),
            })),
            Self::Crowded => ProtocolError::Version,
            other @ (Self::Storage(_) | Self::Sealed(_) | Self::Key(_) | Self::Panicked) => {
                error!(error = %chain(&other), "update failed");
                ProtocolError::Updating
            }
        }
    }

    /// The same for calls that store no files.
    pub(super) fn internal(self) -> ProtocolError {
        error!(error = %chain(&self), "call failed");
        ProtocolError::Unknown
    }
}
