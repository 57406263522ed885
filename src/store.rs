//! Trust state that outlives a restart (design §5): one SQLite database in the state directory, or [`records`] in the
//! cluster, which all replicas share.
//!
//! Every change is one transaction, synced to disk before it counts, so a process that is killed in the middle of a
//! write leaves the state before or after it. A database that cannot be read is an error, never a fresh start:
//! forgetting is how rollbacks succeed.

mod error;
mod record;
pub mod records;

use std::collections::BTreeMap;
use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use tokio::task::spawn_blocking;

pub use error::StoreError;
use record::Revision;
pub use record::{Forgotten, Record};

use crate::reference::Gun;
use crate::tuf::{Role, Seen, State};

/// The database in the state directory.
const FILE: &str = "trust.db";
/// Layout version, kept in `user_version`. Zero is a database just made.
const LAYOUT: i64 = 1;
/// How long to wait for another process that is writing: its transactions take milliseconds.
const BUSY: Duration = Duration::from_secs(5);

/// The server of ?2, or every one. An authority that only its user vouches for stands behind the URL.
const ON_SERVER: &str = "(?2 IS NULL OR server = ?2 OR instr(server, ?2 || '#ca=') = 1)";
const SCHEMA: &str = "
CREATE TABLE repository (
    server TEXT NOT NULL, gun TEXT NOT NULL, revision INTEGER NOT NULL, verified_at TEXT,
    PRIMARY KEY (server, gun)) WITHOUT ROWID;
CREATE TABLE root (
    server TEXT NOT NULL, gun TEXT NOT NULL, position INTEGER NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (server, gun, position)) WITHOUT ROWID;
CREATE TABLE role (
    server TEXT NOT NULL, gun TEXT NOT NULL, role TEXT NOT NULL, version INTEGER NOT NULL, sha256 BLOB NOT NULL, bytes BLOB,
    PRIMARY KEY (server, gun, role)) WITHOUT ROWID;
";

/// Where trust state is kept.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
    /// Files are kept only where they outlive the process: in memory they would be there twice.
    durable: bool,
    /// Whether the database was made by this very opening.
    new: bool,
}

impl Store {
    /// Opens the database in `dir`, and makes both if they are not there.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the directory or the database cannot be made or read.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        make_private_directory(dir).map_err(|source| StoreError::Directory {
            dir: dir.into(),
            source,
        })?;
        let path = dir.join(FILE);
        make_private_file(&path).map_err(|source| StoreError::Directory {
            dir: dir.into(),
            source,
        })?;
        let opened = Connection::open(&path).and_then(|connection| Self::prepare(connection, true));
        opened
            .map_err(|source| StoreError::Open {
                path: path.clone(),
                source,
            })?
            .of_known_layout(path)
    }

    /// Keeps state for the life of the process only. The caller must say what that costs.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if SQLite refuses, which only a lack of memory explains.
    pub fn memory() -> Result<Self, StoreError> {
        let opened = Connection::open_in_memory().and_then(|connection| Self::prepare(connection, false));
        opened.map_err(|source| StoreError::Access { source })
    }

    fn prepare(mut connection: Connection, durable: bool) -> rusqlite::Result<Self> {
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // In WAL mode only FULL syncs every commit; NORMAL may lose the newest ones when power fails.
        connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let new = layout(&transaction)? == 0;
        if new {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "user_version", LAYOUT)?;
        }
        transaction.commit()?;
        Ok(Self {
            connection: Mutex::new(connection),
            durable,
            new,
        })
    }

    /// Whether nothing can be remembered because the database was made just now. Where there should have been one,
    /// that is a loss, and to be told loudly (design §5).
    pub const fn is_new(&self) -> bool {
        self.new
    }

    fn of_known_layout(self, path: PathBuf) -> Result<Self, StoreError> {
        let found = layout(&self.lock()).map_err(|source| StoreError::Access { source })?;
        if found == LAYOUT {
            Ok(self)
        } else {
            Err(StoreError::Layout { path, found })
        }
    }

    /// What is remembered of `gun` on `server`; empty if it was never seen.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database cannot be read, or holds what this program never writes.
    pub fn load(&self, server: &str, gun: &Gun) -> Result<Record, StoreError> {
        // One transaction: else another process could write between two reads, and state older than its revision would
        // be loaded, which a later `save` would put back over the newer.
        let mut connection = self.lock();
        let loaded = connection
            .transaction()
            .and_then(|transaction| load(&transaction, server, gun));
        let loaded = loaded.map_err(|source| StoreError::Access { source })?;
        loaded.ok_or_else(|| StoreError::Content { gun: gun.clone() })
    }

    /// Replaces what is remembered of `gun` by `state`, which was derived from `loaded`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if somebody else has written other versions since: load again and verify again, so
    /// that the higher ones win. Who writes the very same, as all do who look at one publication, is no conflict.
    pub fn save(
        &self,
        server: &str,
        gun: &Gun,
        loaded: &Record,
        state: &State,
    ) -> Result<Record, StoreError> {
        let revision = loaded.row().saturating_add(1);
        let saved = self.write(server, gun, loaded, |transaction| {
            write_repository(transaction, server, gun, revision, state)?;
            write_roots(transaction, server, gun, &state.roots)?;
            write_roles(transaction, server, gun, state, self.durable)
        })?;
        if saved {
            return Ok(Record {
                state: state.clone(),
                revision: Revision::Row(revision),
            });
        }
        let present = self.load(server, gun)?;
        if present.state.roots == state.roots && present.state.seen == state.seen {
            Ok(present)
        } else {
            Err(StoreError::Conflict { gun: gun.clone() })
        }
    }

    /// Forgets `gun`, on `server`, with whatever authority, or on all: the audited way out when a repository was meant to begin anew
    /// (notary-v1 §4.8). Says what was forgotten.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database cannot be read or written.
    pub fn forget(&self, server: Option<&str>, gun: &Gun) -> Result<Vec<Forgotten>, StoreError> {
        let mut connection = self.lock();
        let mut attempt = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let forgotten = remembered(&transaction, server, gun)?;
            for table in ["repository", "root", "role"] {
                let clear = format!("DELETE FROM {table} WHERE gun = ?1 AND {ON_SERVER}");
                transaction.execute(&clear, params![gun.as_str(), server])?;
            }
            transaction.commit()?;
            Ok(forgotten)
        };
        attempt().map_err(|source| StoreError::Access { source })
    }

    /// Runs `change` in one transaction, if the repository is still at the revision that was loaded.
    fn write(
        &self,
        server: &str,
        gun: &Gun,
        loaded: &Record,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<bool, StoreError> {
        let mut connection = self.lock();
        let attempt = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if revision(&transaction, server, gun)? != loaded.row() {
                return Ok(false);
            }
            change(&transaction)?;
            transaction.commit()?;
            Ok(true)
        };
        attempt().map_err(|source| StoreError::Access { source })
    }

    /// A panic while the lock was held rolled its transaction back, so the connection is as good as before.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remembered(
    transaction: &Transaction<'_>,
    server: Option<&str>,
    gun: &Gun,
) -> rusqlite::Result<Vec<Forgotten>> {
    let known = format!(
        "SELECT server, (SELECT count(*) FROM root r WHERE r.server = p.server AND r.gun = p.gun)
        FROM repository p WHERE gun = ?1 AND {ON_SERVER} ORDER BY server"
    );
    let mut query = transaction.prepare(&known)?;
    let found = query.query_map(params![gun.as_str(), server], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    let found = found.collect::<rusqlite::Result<Vec<(String, i64)>>>()?;
    let mut query =
        transaction.prepare("SELECT role, version FROM role WHERE server = ? AND gun = ? ORDER BY role")?;
    let with_versions = found.into_iter().map(|(server, roots)| {
        let versions = query.query_map(params![server, gun.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        let versions = versions.collect::<rusqlite::Result<_>>()?;
        Ok(Forgotten {
            server,
            roots,
            versions,
        })
    });
    with_versions.collect()
}

fn make_private_directory(dir: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// SQLite gives its journals the mode of the database.
fn make_private_file(path: &Path) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn layout(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn revision(connection: &Connection, server: &str, gun: &Gun) -> rusqlite::Result<u64> {
    let mut query = connection.prepare("SELECT revision FROM repository WHERE server = ? AND gun = ?")?;
    let found = query
        .query_row(params![server, gun.as_str()], |row| row.get::<_, i64>(0))
        .optional()?;
    Ok(found
        .and_then(|revision| u64::try_from(revision).ok())
        .unwrap_or_default())
}

/// `None` if a row holds what cannot have been written.
fn load(connection: &Connection, server: &str, gun: &Gun) -> rusqlite::Result<Option<Record>> {
    let key = params![server, gun.as_str()];
    let mut query = connection.prepare("SELECT verified_at FROM repository WHERE server = ? AND gun = ?")?;
    let Some(verified_at) = query
        .query_row(key, |row| row.get::<_, Option<String>>(0))
        .optional()?
    else {
        return Ok(Some(Record::default()));
    };
    let mut query =
        connection.prepare("SELECT bytes FROM root WHERE server = ? AND gun = ? ORDER BY position")?;
    let roots = query.query_map(key, |row| row.get::<_, Vec<u8>>(0).map(Bytes::from))?;
    let roots = roots.collect::<rusqlite::Result<_>>()?;
    let mut query =
        connection.prepare("SELECT role, version, sha256, bytes FROM role WHERE server = ? AND gun = ?")?;
    let rows = query.query_map(key, |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, i64>(1)?,
            row.get::<_, Vec<u8>>(2)?,
            row.get::<_, Option<Vec<u8>>>(3)?,
        ))
    })?;
    let (mut seen, mut files) = (BTreeMap::new(), BTreeMap::new());
    for row in rows {
        let (role, version, sha256, bytes) = row?;
        let (Ok(role), Ok(version), Ok(sha256)) =
            (role.parse::<Role>(), u64::try_from(version), sha256.try_into())
        else {
            return Ok(None);
        };
        files.extend(bytes.map(|bytes| (role.clone(), bytes.into())));
        seen.insert(role, Seen { version, sha256 });
    }
    let Ok(verified_at) = verified_at.map(|time| time.parse()).transpose() else {
        return Ok(None);
    };
    let state = State {
        roots,
        seen,
        files,
        verified_at,
    };
    Ok(Some(Record {
        state,
        revision: Revision::Row(revision(connection, server, gun)?),
    }))
}

fn write_repository(
    transaction: &Transaction<'_>,
    server: &str,
    gun: &Gun,
    revision: u64,
    state: &State,
) -> rusqlite::Result<()> {
    let verified_at = state.verified_at.map(|time| time.to_string());
    let mut statement = transaction.prepare("INSERT OR REPLACE INTO repository VALUES (?, ?, ?, ?)")?;
    let revision = i64::try_from(revision).unwrap_or(i64::MAX);
    statement
        .execute(params![server, gun.as_str(), revision, verified_at])
        .map(drop)
}

fn write_roots(
    transaction: &Transaction<'_>,
    server: &str,
    gun: &Gun,
    roots: &[Bytes],
) -> rusqlite::Result<()> {
    let mut clear = transaction.prepare("DELETE FROM root WHERE server = ? AND gun = ?")?;
    clear.execute(params![server, gun.as_str()])?;
    let mut insert = transaction.prepare("INSERT INTO root VALUES (?, ?, ?, ?)")?;
    for (position, bytes) in (0_i64..).zip(roots) {
        insert.execute(params![server, gun.as_str(), position, &bytes[..]])?;
    }
    Ok(())
}

fn write_roles(
    transaction: &Transaction<'_>,
    server: &str,
    gun: &Gun,
    state: &State,
    with_files: bool,
) -> rusqlite::Result<()> {
    let mut clear = transaction.prepare("DELETE FROM role WHERE server = ? AND gun = ?")?;
    clear.execute(params![server, gun.as_str()])?;
    let mut insert = transaction.prepare("INSERT INTO role VALUES (?, ?, ?, ?, ?, ?)")?;
    for (role, seen) in &state.seen {
        let file = state.files.get(role).filter(|_| with_files).map(|file| &file[..]);
        // Versions are at most 2^53 − 1: `tuf::canonical` reads no larger number.
        let version = i64::try_from(seen.version).unwrap_or(i64::MAX);
        insert.execute(params![
            server,
            gun.as_str(),
            role.as_str(),
            version,
            seen.sha256.as_slice(),
            file
        ])?;
    }
    Ok(())
}

/// Runs what computes for long or waits for the disk where it holds nobody else up.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}

#[cfg(test)]
mod tests;
