//! What can go wrong with a key store, and what is odd about one.

use std::io;
use std::path::PathBuf;

use crate::tuf::{KeyFileError, KeyId};

/// A key cannot be read or stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyStoreError {
    /// The operating system refused.
    #[error("cannot use {}", path.display())]
    Access {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has been busy here for too long.
    #[error("{} is held by another process", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// More files than anybody has keys.
    #[error("{} holds more than {} files", path.display(), super::MAX_FILES)]
    Full {
        /// The directory.
        path: PathBuf,
    },
    /// A file that is not called as keys are.
    #[error("{} is not named by a key id", path.display())]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// A file that is too long, or no file.
    #[error("{} is not a file of at most {} bytes", path.display(), super::MAX_FILE)]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// The content is no key, or does not open.
    #[error("cannot use {}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyFileError,
    },
    /// The file is named by the id of another key.
    #[error("{} holds another key, {found}", path.display())]
    Misnamed {
        /// The file.
        path: PathBuf,
        /// The id of the key in it.
        found: KeyId,
    },
    /// There is a file for the key already.
    #[error("{} exists; it was left as it is", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what it was when it was read.
    #[error("{} was changed by another process; nothing was done", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

/// Something about a key store that a person should look at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// Others may read a key, or exchange it.
    #[error("{} is open to others (mode {mode:03o}); `chmod go= {}` closes it", path.display(), path.display())]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// The permission bits.
        mode: u32,
    },
    /// Whoever may change the link decides which keys are used.
    #[error("{} is a symbolic link: its keys are somewhere else", path.display())]
    Link {
        /// The file or directory.
        path: PathBuf,
    },
    /// Whoever reads the file has the key.
    #[error("{} is not encrypted; `countersign trust key passwd` encrypts it", path.display())]
    Clear {
        /// The file.
        path: PathBuf,
    },
    /// A file that could not be used.
    #[error("{} is left out", path.display())]
    Skipped {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyStoreError,
    },
}
