//! Why trust state cannot be kept or read.

use std::path::PathBuf;

use super::LAYOUT;
use crate::reference::Gun;

/// Why trust state cannot be kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The state directory cannot be made.
    #[error("cannot make the state directory {}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database cannot be opened.
    #[error("cannot open the trust state in {}: restore it from a backup, or move it away to trust anew", path.display())]
    Open {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A newer program wrote the database.
    #[error("the trust state in {} has layout {found}, this program knows layout {LAYOUT}: use the newer program", path.display())]
    Layout {
        /// The database.
        path: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// The database does not answer.
    #[error("the trust state cannot be read or written")]
    Access {
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The database holds what this program never wrote.
    #[error("the trust state of {gun} is damaged: restore it from a backup")]
    Content {
        /// The repository.
        gun: Gun,
    },
    /// Another process wrote in between.
    #[error("the trust state of {gun} was changed by another process")]
    Conflict {
        /// The repository.
        gun: Gun,
    },
}
