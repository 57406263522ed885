//! One repository's state as a store gives it.

use kube::core::ObjectMeta;

use crate::tuf::State;

/// A repository's state as it was loaded, and which revision of it that was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// What was remembered.
    pub state: State,
    pub(super) revision: Revision,
}

/// Which of its revisions a record is, so that none is put in the place of another than it was derived from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Revision {
    /// Nothing is stored.
    #[default]
    None,
    /// Of a row; the first is 1.
    Row(u64),
    /// Of an object: its metadata, with the version that the API server gave it.
    Object(Box<ObjectMeta>),
}

impl Record {
    /// The revision of the row; zero if there is none.
    pub(super) const fn row(&self) -> u64 {
        if let Revision::Row(number) = self.revision {
            number
        } else {
            0
        }
    }
}

/// What was remembered of a repository, for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Base URL of the trust server.
    pub server: String,
    /// Roots in the chain; none if it could not be read.
    pub roots: i64,
    /// Each role and the highest version seen of it.
    pub versions: Vec<(String, i64)>,
}
