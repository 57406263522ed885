//! One file beside the server: SQLite.
//!
//! Every write is one transaction that takes the write lock when it begins and is synced to disk before it counts
//! (§8.6.6). So any number of processes may have the file open: what one decides on is still true when it writes, or
//! the generation tells it otherwise. Reads have connections of their own and see one state from their first line to
//! their last, whatever is being written (§8.6.4).
//!
//! A copy of a folder of this kind is a backup. [`Sqlite::regressed`] tells that one was put back.

mod counter;
mod data_key;
mod feed;
mod keys;
mod query;
mod repositories;
mod row;
mod schema;
mod writer;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, Transaction};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use self::counter::Counter;
pub use self::counter::Regression;
use self::row::Trouble;
use self::writer::{Outcome, Writer};
use super::{
    Change, ChangeRecord, Committed, File, Page, Repository, SealedKey, Storage, StorageError, Whole,
};
use crate::reference::Gun;
use crate::tuf::Role;

/// The database in the folder.
const FILE: &str = "trust.sqlite";
/// Nobody else's.
const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIRECTORY: u32 = 0o700;
/// How long to wait for another process that is writing: the largest of its transactions take a second or two.
const BUSY: Duration = Duration::from_secs(10);
/// Connections that read. A read takes microseconds of one processor; more of them would only wait for each other.
const READERS: usize = 4;

/// Repositories in one file on this machine.
#[derive(Clone, Debug)]
pub struct Sqlite {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Not a lock of threads: those who wait for it must not use up the threads that reads need.
    writer: Arc<tokio::sync::Mutex<Writer>>,
    /// Connections that are not reading just now.
    idle: Mutex<Vec<Connection>>,
    readers: Arc<Semaphore>,
    regression: Option<Regression>,
}

impl Sqlite {
    /// Opens the database in `dir`, and makes both if they are not there. A database of an earlier program is brought
    /// up to date.
    ///
    /// # Errors
    ///
    /// [`StorageError::Open`] if the folder or the database cannot be made or read, or the database is of a newer
    /// program, or of another program altogether.
    pub async fn open(dir: &Path) -> Result<Self, StorageError> {
        let dir = dir.to_owned();
        blocking("opening it", move || Ok(Self::open_now(&dir))).await?
    }

    fn open_now(dir: &Path) -> Result<Self, StorageError> {
        let path = dir.join(FILE);
        let place = path.display().to_string();
        let opened = prepare(dir, &path);
        let (writer, regression) = opened.map_err(|source| StorageError::Open { place, source })?;
        Ok(Self {
            shared: Arc::new(Shared {
                path,
                writer: Arc::new(tokio::sync::Mutex::new(writer)),
                idle: Mutex::new(Vec::new()),
                readers: Arc::new(Semaphore::new(READERS)),
                regression,
            }),
        })
    }

    /// How the database, when it was opened, was behind what this server wrote before: an older one was put in its
    /// place (§8.6.6). Clients refuse what is served from it, and other versions signed again under numbers that were
    /// used before are equivocation (T3). It is told at every opening until it is accepted.
    pub fn regressed(&self) -> Option<Regression> {
        self.shared.regression
    }

    /// Takes the database for what it is: it is ahead of everything written before from now on.
    ///
    /// # Errors
    ///
    /// [`StorageError::Failed`] if that cannot be written.
    pub async fn accept_regression(&self) -> Result<(), StorageError> {
        let mut writer = Arc::clone(&self.shared.writer).lock_owned().await;
        blocking("accepting an older one", move || writer.accept_regression()).await
    }

    /// Runs `query` against one state of the database.
    async fn read<T: Send + 'static>(
        &self,
        doing: &'static str,
        query: impl FnOnce(&Transaction<'_>) -> row::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let readers = Arc::clone(&self.shared.readers);
        let turn = readers
            .acquire_owned()
            .await
            .map_err(|source| failed(doing, source))?;
        let shared = Arc::clone(&self.shared);
        blocking(doing, move || {
            let _turn = turn;
            let mut connection = shared.reader()?;
            let answer = query(&connection.transaction()?)?;
            // One that failed is not kept: whatever is wrong with it would be wrong again.
            shared.idle().push(connection);
            Ok(answer)
        })
        .await
    }

    /// Runs `change` in one transaction, which is durable when this returns.
    async fn write<T: Send + 'static>(
        &self,
        doing: &'static str,
        change: impl FnOnce(&Transaction<'_>) -> row::Result<Outcome<T>> + Send + 'static,
    ) -> Result<T, StorageError> {
        let mut writer = Arc::clone(&self.shared.writer).lock_owned().await;
        blocking(doing, move || writer.write(change)).await
    }
}

impl Shared {
    fn reader(&self) -> row::Result<Connection> {
        let idle = self.idle().pop();
        idle.map_or_else(|| Ok(schema::reader(&self.path)?), Ok)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prepare(
    dir: &Path,
    path: &Path,
) -> Result<(Writer, Option<Regression>), Box<dyn std::error::Error + Send + Sync>> {
    make_private(dir, path)?;
    let connection = schema::writer(path)?;
    let (counter, regression) = Counter::open(dir, || writer::commits(&connection))?;
    Ok((Writer::new(connection, counter), regression))
}

/// Makes the folder and an empty database, for nobody else. SQLite gives its journals the mode of the database.
fn make_private(dir: &Path, path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(PRIVATE_DIRECTORY).create(dir)?;
    let mut options = fs::OpenOptions::new();
    options.create(true).append(true).mode(PRIVATE_FILE).open(path)?;
    // A new name in a folder lasts once the folder is written.
    fs::File::open(dir)?.sync_all()
}

/// Runs `work` where waiting for a disk hinders nobody.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> row::Result<T> + Send + 'static,
) -> Result<T, StorageError> {
    match spawn_blocking(work).await {
        Ok(result) => result.map_err(|trouble| trouble.while_doing(doing)),
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(error) => Err(failed(doing, error)),
    }
}

fn failed(doing: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> StorageError {
    StorageError::Failed {
        doing,
        source: Box::new(source),
    }
}

impl Trouble {
    fn while_doing(self, doing: &'static str) -> StorageError {
        match self {
            Self::Damaged(what) => StorageError::Damaged { what },
            Self::Sqlite(source) => failed(doing, source),
            Self::Counter(source) => failed(doing, source),
            Self::Range(source) => failed(doing, source),
        }
    }
}

impl Storage for Sqlite {
    async fn repository(&self, gun: &Gun) -> Result<Option<Repository>, StorageError> {
        let gun = gun.clone();
        self.read("reading a repository", move |t| query::repository(t, &gun))
            .await
    }

    async fn vacancy(&self, gun: &Gun) -> Result<(u64, BTreeMap<Role, u64>), StorageError> {
        let gun = gun.clone();
        self.read("reading a vacancy", move |t| query::vacancy(t, &gun))
            .await
    }

    async fn current(&self, gun: &Gun, role: &Role) -> Result<Option<File>, StorageError> {
        let (gun, role) = (gun.clone(), role.clone());
        self.read("reading a current file", move |t| query::current(t, &gun, &role))
            .await
    }

    async fn by_hash(&self, gun: &Gun, role: &Role, sha256: &[u8; 32]) -> Result<Option<File>, StorageError> {
        let (gun, role, sha256) = (gun.clone(), role.clone(), *sha256);
        self.read("reading a file by its hash", move |t| {
            query::by_hash(t, &gun, &role, &sha256)
        })
        .await
    }

    async fn by_version(&self, gun: &Gun, role: &Role, version: u64) -> Result<Option<File>, StorageError> {
        let (gun, role) = (gun.clone(), role.clone());
        self.read("reading a version of a file", move |t| {
            query::by_version(t, &gun, &role, version)
        })
        .await
    }

    async fn commit(&self, gun: &Gun, generation: u64, change: Change) -> Result<Committed, StorageError> {
        let gun = gun.clone();
        self.write("storing files", move |t| {
            repositories::commit(t, &gun, generation, &change)
        })
        .await
    }

    async fn versions(&self, gun: &Gun) -> Result<Vec<(Role, u64)>, StorageError> {
        let gun = gun.clone();
        self.read("listing versions", move |t| query::versions(t, &gun))
            .await
    }

    async fn restore(&self, gun: &Gun, generation: u64, whole: Whole) -> Result<Committed, StorageError> {
        let gun = gun.clone();
        self.write("restoring a repository", move |t| {
            repositories::restore(t, &gun, generation, &whole)
        })
        .await
    }

    async fn delete(&self, gun: &Gun, at: Timestamp) -> Result<bool, StorageError> {
        let gun = gun.clone();
        self.write("deleting a repository", move |t| {
            repositories::delete(t, &gun, at)
        })
        .await
    }

    async fn keys(&self, gun: &Gun) -> Result<Vec<SealedKey>, StorageError> {
        let gun = gun.clone();
        self.read("reading keys", move |t| keys::all(t, &gun)).await
    }

    async fn keep_key(&self, gun: &Gun, key: SealedKey) -> Result<SealedKey, StorageError> {
        let gun = gun.clone();
        self.write("keeping a key", move |t| keys::keep(t, &gun, key))
            .await
    }

    async fn changes(&self, gun: Option<&Gun>, page: Page) -> Result<Vec<ChangeRecord>, StorageError> {
        let gun = gun.cloned();
        self.read("reading the changefeed", move |t| {
            feed::page(t, gun.as_ref(), page)
        })
        .await
    }

    async fn due(&self, at: Timestamp, most: usize) -> Result<Vec<Gun>, StorageError> {
        self.read("looking for what is due", move |t| query::due(t, at, most))
            .await
    }

    async fn postpone(&self, gun: &Gun, until: Timestamp) -> Result<(), StorageError> {
        let gun = gun.clone();
        self.write("postponing a repository", move |t| {
            repositories::postpone(t, &gun, until)
        })
        .await
    }

    async fn repositories(&self, after: Option<&Gun>, most: usize) -> Result<Vec<Gun>, StorageError> {
        let after = after.cloned();
        self.read("listing repositories", move |t| {
            query::repositories(t, after.as_ref(), most)
        })
        .await
    }

    async fn data_key(&self) -> Result<Option<Vec<u8>>, StorageError> {
        self.read("reading the data key", data_key::get).await
    }

    async fn keep_data_key(&self, old: Option<&[u8]>, new: &[u8]) -> Result<bool, StorageError> {
        let (old, new) = (old.map(<[u8]>::to_vec), new.to_vec());
        self.write("keeping the data key", move |t| {
            data_key::keep(t, old.as_deref(), &new)
        })
        .await
    }

    async fn ping(&self) -> Result<(), StorageError> {
        self.read("answering", |t| Ok(t.query_row("SELECT 1", [], |_| Ok(()))?))
            .await?;
        let mut writer = Arc::clone(&self.shared.writer).lock_owned().await;
        blocking("writing to it", move || writer.ping()).await
    }
}

#[cfg(test)]
mod tests;
