//! What a trust server keeps, and the one way to it (notary-v1 §8.1, §8.3, §8.6).
//!
//! Files are only ever added: old versions stay readable by version and by hash. Which of them are *current* is kept
//! beside them, so that readers see one consistent state whatever is being written. Every write names the generation
//! of the repository that it is based on, and comes to nothing if that is no longer the present one.

pub mod postgres;
pub mod sqlite;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::future::Future;

use bytes::Bytes;
use jiff::Timestamp;

use crate::reference::Gun;
use crate::tuf::{KeyId, Role};

/// A version of a role's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its version.
    pub version: u64,
    /// SHA-256 of its bytes, under which it is found.
    pub sha256: [u8; 32],
    /// Exactly what was uploaded or signed.
    pub bytes: Bytes,
    /// When it was stored.
    pub stored_at: Timestamp,
}

/// A repository as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Rises with every write; never the same for two states of one GUN, not even across a deletion.
    pub generation: u64,
    /// The current files: the four base roles and every delegation that is published.
    pub files: BTreeMap<Role, File>,
    /// The highest version that was ever stored of every role, of those too that are not current any more. Of
    /// snapshot and timestamp, which the server numbers itself, also in earlier lives of the repository (§8.6.8).
    pub used: BTreeMap<Role, u64>,
}

/// What a write changes, all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// New files; each becomes current.
    pub files: BTreeMap<Role, File>,
    /// Roles that are not current any more; their files stay readable by version and hash.
    pub dropped: BTreeSet<Role>,
    /// When the server has to sign again at the latest to be in time; `None` if it never has to.
    pub renew_at: Option<Timestamp>,
    /// Server-held keys that are in use from now on: a key that nobody ever used is given out again (§2.5).
    pub keys_used: BTreeSet<KeyId>,
    /// When, for the changefeed.
    pub at: Timestamp,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Committed {
    /// It is durable: it outlives the power cord.
    Stored,
    /// Somebody else was first; nothing was stored.
    Conflict,
}

/// A repository with all its past, as an import brings it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Every version of every role, current or not; none twice.
    pub files: Vec<(Role, File)>,
    /// Which version of a role is current; each is among the files.
    pub current: BTreeMap<Role, u64>,
    /// [`Repository::used`], at least what the files say.
    pub used: BTreeMap<Role, u64>,
    /// [`Change::renew_at`].
    pub renew_at: Option<Timestamp>,
    /// The server's keys of the repository, sealed by this server.
    pub keys: Vec<SealedKey>,
    /// What the changefeed is to tell of it, the oldest first.
    pub changes: Vec<(Timestamp, Event)>,
}

/// A key that the server holds for one role of one repository, sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKey {
    /// Its id: canonical and TUF id are the same for keys without certificates.
    pub id: KeyId,
    /// `snapshot` or `timestamp`.
    pub role: Role,
    /// The private key as [`crate::trustserver::seal`] made it, of use only with the server's own key.
    pub sealed: Vec<u8>,
    /// Whether anything that was stored relies on it.
    pub used: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An entry of the changefeed (§2.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRecord {
    /// Rises from entry to entry, of all repositories together.
    pub id: u64,
    /// When.
    pub created_at: Timestamp,
    /// Whose.
    pub gun: Gun,
    /// What happened.
    pub event: Event,
}

/// What an entry of the changefeed tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A timestamp was stored.
    Update {
        /// Its version.
        version: u64,
        /// SHA-256 of its bytes.
        sha256: [u8; 32],
    },
    /// The repository was deleted.
    Deletion,
}

/// Which entries of the changefeed are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The first so many after this id.
    After(u64, usize),
    /// The last so many before this id.
    Before(u64, usize),
    /// The last so many there are.
    Newest(usize),
}

/// A database of repositories. Cheap to clone; all clones are the same database. Times are kept to the microsecond.
///
/// No method decides anything: what a repository may become is for [`crate::tuf::hosted`] to say.
pub trait Storage: Clone + Send + Sync + 'static {
    /// The repository as it is now; `None` if there is none. Repositories that were deleted are none.
    fn repository(&self, gun: &Gun) -> impl Future<Output = Result<Option<Repository>, StorageError>> + Send;

    /// What a repository that is not there begins with: the generation that a first write names, and
    /// [`Repository::used`] of its earlier lives. If it is there by now, the generation is 0, which a repository that
    /// is there never has: else a first write would come to pass on top of somebody else's.
    fn vacancy(
        &self,
        gun: &Gun,
    ) -> impl Future<Output = Result<(u64, BTreeMap<Role, u64>), StorageError>> + Send;

    /// The current file of a role.
    fn current(
        &self,
        gun: &Gun,
        role: &Role,
    ) -> impl Future<Output = Result<Option<File>, StorageError>> + Send;

    /// The file of this very repository and role that has this hash (§2.6: a hash alone finds nothing).
    fn by_hash(
        &self,
        gun: &Gun,
        role: &Role,
        sha256: &[u8; 32],
    ) -> impl Future<Output = Result<Option<File>, StorageError>> + Send;

    /// A version of a role's file, current or not.
    fn by_version(
        &self,
        gun: &Gun,
        role: &Role,
        version: u64,
    ) -> impl Future<Output = Result<Option<File>, StorageError>> + Send;

    /// Stores `change` in one transaction, with a record in the changefeed for a new timestamp, if the repository is
    /// still at `generation`. Durable when it returns.
    fn commit(
        &self,
        gun: &Gun,
        generation: u64,
        change: Change,
    ) -> impl Future<Output = Result<Committed, StorageError>> + Send;

    /// Which versions there are of every role, current or not, in order of role and version.
    fn versions(&self, gun: &Gun) -> impl Future<Output = Result<Vec<(Role, u64)>, StorageError>> + Send;

    /// Makes `whole` the repository in one transaction, if it is still at `generation`: nothing is left of the files
    /// that were stored before, whether the repository was there or not. [`Repository::used`] never falls by it: of
    /// every role the higher version counts. Keys that are held stay, and stay used; those of `whole` come beside
    /// them. Records are added to the changefeed with new ids and their own times. Durable when it returns.
    fn restore(
        &self,
        gun: &Gun,
        generation: u64,
        whole: Whole,
    ) -> impl Future<Output = Result<Committed, StorageError>> + Send;

    /// Deletes all files of exactly this repository, and records that; whether there was one. Keys stay (§2.6).
    fn delete(&self, gun: &Gun, at: Timestamp) -> impl Future<Output = Result<bool, StorageError>> + Send;

    /// Every key that is held for a repository, the oldest first.
    fn keys(&self, gun: &Gun) -> impl Future<Output = Result<Vec<SealedKey>, StorageError>> + Send;

    /// Keeps a new key, durably, unless there is an unused one of its role already: that one is returned then, so
    /// that asking often makes no heap of keys (§2.5). Safe against others who do the same at the same time.
    fn keep_key(
        &self,
        gun: &Gun,
        key: SealedKey,
    ) -> impl Future<Output = Result<SealedKey, StorageError>> + Send;

    /// Entries of the changefeed, the oldest first; of one repository, or of all.
    fn changes(
        &self,
        gun: Option<&Gun>,
        page: Page,
    ) -> impl Future<Output = Result<Vec<ChangeRecord>, StorageError>> + Send;

    /// Repositories whose [`Change::renew_at`] is not after `at`, the most urgent first, at most `most`.
    fn due(&self, at: Timestamp, most: usize) -> impl Future<Output = Result<Vec<Gun>, StorageError>> + Send;

    /// Sets when a repository is due next without changing it otherwise: an attempt failed and is not to be repeated
    /// at once.
    fn postpone(&self, gun: &Gun, until: Timestamp) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Repositories in order of their names, beginning after `after`, at most `most`.
    fn repositories(
        &self,
        after: Option<&Gun>,
        most: usize,
    ) -> impl Future<Output = Result<Vec<Gun>, StorageError>> + Send;

    /// The sealed data key that all keys are sealed with, if one was kept already ([`crate::trustserver::seal`]).
    fn data_key(&self) -> impl Future<Output = Result<Option<Vec<u8>>, StorageError>> + Send;

    /// Keeps a first data key, or replaces `old` by it when the server's own key was changed; whether that was so.
    fn keep_data_key(
        &self,
        old: Option<&[u8]>,
        new: &[u8],
    ) -> impl Future<Output = Result<bool, StorageError>> + Send;

    /// Whether the database answers and can be written to.
    fn ping(&self) -> impl Future<Output = Result<(), StorageError>> + Send;
}

/// The database did not do what it was asked to. Nothing was stored; only of a write whose last answer was lost on the
/// way, [`StorageError::Failed`], everything may have been.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// It cannot be opened, or is of a newer program.
    #[error("the database {place} cannot be opened")]
    Open {
        /// The file or server, without its password.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It does not answer, or answers with an error.
    #[error("the database failed while {doing}")]
    Failed {
        /// What was asked of it.
        doing: &'static str,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// What it answers was not written by us.
    #[error("the database holds a {what} that cannot be read")]
    Damaged {
        /// What cannot be read.
        what: &'static str,
    },
}
