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
    /// The API server does not serve trust records, or refuses.
    #[error("the trust record of {gun} cannot be read or written")]
    Cluster {
        /// The repository.
        gun: Gun,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server does not answer.
    #[error("the trust record of {gun} cannot be read or written: the API server does not answer in time")]
    Slow {
        /// The repository.
        gun: Gun,
    },
    /// A replica may write no more often.
    #[error("the trust record of {gun} was not written in time: too many are being written")]
    Throttled {
        /// The repository.
        gun: Gun,
    },
    /// The record is gone or older than what this replica has seen, and nobody has said that it was meant.
    #[error(
        "the trust record of {gun} was deleted or put back, and what is remembered of it is not written back yet"
    )]
    Lost {
        /// The repository.
        gun: Gun,
    },
    /// A record holds what this program never wrote.
    #[error(
        "the trust record of {gun} is damaged: {why}: restore it from a backup, or forget it with countersign trust reset"
    )]
    Damaged {
        /// The repository.
        gun: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// What has to be remembered does not fit into a record.
    #[error("the trust record of {gun} cannot hold more than {most} {what}: nothing of it may be left out")]
    TooLarge {
        /// The repository.
        gun: Gun,
        /// Of what there is too much.
        what: &'static str,
        /// How much there may be.
        most: usize,
    },
}
