//! A database that several servers share: PostgreSQL.
//!
//! Every write is one transaction, and the first thing it does is to take the repository's row from the generation
//! that it is based on to the next one. Whoever comes second waits for the first to end, finds another generation,
//! and is told of the conflict. So no two writers of one repository ever work at the same time, and readers wait for
//! nobody: each read is a single statement, which sees one state of the database.
//!
//! The last thing that a write does is to take the next number of the changefeed, and it keeps that row until it is
//! durable. Entries thus become visible in the order of their numbers: a reader who asks for what comes after the
//! last one it has seen misses none (notary-v1 §2.7). The price is that writes of all repositories end one after
//! the other.
//!
//! Instants are kept to the microsecond; what is finer is cut off.

mod connect;
mod keep;
mod read;
mod rows;
mod schema;
mod session;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use deadpool_postgres::Pool;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::time::timeout;

use super::{
    Change, ChangeRecord, Committed, File, Page, Repository, SealedKey, Storage, StorageError, Whole,
};
use crate::reference::Gun;
use crate::tuf::Role;
use connect::Target;
use session::{IMPORT, OPERATION, Session};

/// How many connections a server keeps at most. PostgreSQL permits 97 to ordinary users unless told otherwise, which
/// is enough for nine servers; and no more than a few transactions are ever useful at once, as they end one after the
/// other.
const CONNECTIONS: usize = 10;

/// How to get to the database.
#[derive(Clone, Debug)]
pub struct Options {
    /// Certificates in PEM that may vouch for the database beside those of the system.
    pub authorities: Option<PathBuf>,
    /// How many connections are kept at most.
    pub connections: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            authorities: None,
            connections: CONNECTIONS,
        }
    }
}

/// Repositories in PostgreSQL.
#[derive(Clone)]
pub struct Postgres {
    pool: Pool,
    /// Where that is, without its password.
    place: Arc<str>,
}

impl Postgres {
    /// Connects to the database at `url`, `postgresql://user:password@host/name`, and brings its schema up to date.
    ///
    /// What `sslmode` says in it is kept to more strictly than by others. `require`, `verify-ca` and `verify-full`
    /// are one: TLS with a server that proves its name. So is `prefer`, which is the default, except that there is
    /// no TLS to loopback addresses and sockets. Only `disable` sends anything in the clear to another machine.
    ///
    /// A pooler between server and database must give each connection a session of its own.
    ///
    /// # Errors
    ///
    /// [`StorageError::Open`] if the URL cannot be read, the database cannot be reached or is of a newer program. It
    /// does not tell the password.
    pub async fn open(url: &SecretString, options: Options) -> Result<Self, StorageError> {
        let unknown = |source: connect::UrlError| StorageError::Open {
            place: "PostgreSQL".to_owned(),
            source: source.into(),
        };
        let target = Target::parse(url).map_err(unknown)?;
        let place: Arc<str> = target.place().into();
        let failed = |source| StorageError::Open {
            place: place.to_string(),
            source,
        };
        let pool = target.pool(&options).map_err(|error| failed(error.into()))?;
        schema::migrate(&pool).await.map_err(failed)?;
        Ok(Self { pool, place })
    }

    async fn session(&self, doing: &'static str) -> Result<Session, StorageError> {
        Session::lease(&self.pool, doing).await
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The pool's own would show the connection's settings.
        f.debug_struct("Postgres")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Storage for Postgres {
    async fn repository(&self, gun: &Gun) -> Result<Option<Repository>, StorageError> {
        let session = self.session("reading a repository").await?;
        let outcome = timeout(OPERATION, read::repository(&session, gun)).await;
        session.settle(outcome)
    }

    async fn vacancy(&self, gun: &Gun) -> Result<(u64, BTreeMap<Role, u64>), StorageError> {
        let session = self.session("looking for earlier lives of a repository").await?;
        let outcome = timeout(OPERATION, read::vacancy(&session, gun)).await;
        session.settle(outcome)
    }

    async fn current(&self, gun: &Gun, role: &Role) -> Result<Option<File>, StorageError> {
        let session = self.session("reading a current file").await?;
        let outcome = timeout(OPERATION, read::current(&session, gun, role)).await;
        session.settle(outcome)
    }

    async fn by_hash(&self, gun: &Gun, role: &Role, sha256: &[u8; 32]) -> Result<Option<File>, StorageError> {
        let session = self.session("reading a file by its hash").await?;
        let outcome = timeout(OPERATION, read::by_hash(&session, gun, role, sha256)).await;
        session.settle(outcome)
    }

    async fn by_version(&self, gun: &Gun, role: &Role, version: u64) -> Result<Option<File>, StorageError> {
        let session = self.session("reading a file by its version").await?;
        let outcome = timeout(OPERATION, read::by_version(&session, gun, role, version)).await;
        session.settle(outcome)
    }

    async fn commit(&self, gun: &Gun, generation: u64, change: Change) -> Result<Committed, StorageError> {
        let mut session = self.session("storing a change").await?;
        let outcome = timeout(OPERATION, write::commit(&mut session, gun, generation, &change)).await;
        session.settle(outcome)
    }

    async fn versions(&self, gun: &Gun) -> Result<Vec<(Role, u64)>, StorageError> {
        let session = self.session("listing versions").await?;
        let outcome = timeout(OPERATION, read::versions(&session, gun)).await;
        session.settle(outcome)
    }

    async fn restore(&self, gun: &Gun, generation: u64, whole: Whole) -> Result<Committed, StorageError> {
        let mut session = self.session("restoring a repository").await?;
        let outcome = timeout(IMPORT, write::restore(&mut session, gun, generation, &whole)).await;
        session.settle(outcome)
    }

    async fn delete(&self, gun: &Gun, at: Timestamp) -> Result<bool, StorageError> {
        let mut session = self.session("deleting a repository").await?;
        let outcome = timeout(OPERATION, write::delete(&mut session, gun, at)).await;
        session.settle(outcome)
    }

    async fn keys(&self, gun: &Gun) -> Result<Vec<SealedKey>, StorageError> {
        let session = self.session("reading keys").await?;
        let outcome = timeout(OPERATION, read::keys(&session, gun)).await;
        session.settle(outcome)
    }

    async fn keep_key(&self, gun: &Gun, key: SealedKey) -> Result<SealedKey, StorageError> {
        let mut session = self.session("keeping a key").await?;
        let outcome = timeout(OPERATION, keep::keep_key(&mut session, gun, key)).await;
        session.settle(outcome)
    }

    async fn changes(&self, gun: Option<&Gun>, page: Page) -> Result<Vec<ChangeRecord>, StorageError> {
        let session = self.session("reading the changefeed").await?;
        let outcome = timeout(OPERATION, read::changes(&session, gun, page)).await;
        session.settle(outcome)
    }

    async fn due(&self, at: Timestamp, most: usize) -> Result<Vec<Gun>, StorageError> {
        let session = self.session("looking for what is due").await?;
        let outcome = timeout(OPERATION, read::due(&session, at, most)).await;
        session.settle(outcome)
    }

    async fn postpone(&self, gun: &Gun, until: Timestamp) -> Result<(), StorageError> {
        let session = self.session("putting off a repository").await?;
        let outcome = timeout(OPERATION, write::postpone(&session, gun, until)).await;
        session.settle(outcome)
    }

    async fn repositories(&self, after: Option<&Gun>, most: usize) -> Result<Vec<Gun>, StorageError> {
        let session = self.session("listing repositories").await?;
        let outcome = timeout(OPERATION, read::repositories(&session, after, most)).await;
        session.settle(outcome)
    }

    async fn data_key(&self) -> Result<Option<Vec<u8>>, StorageError> {
        let session = self.session("reading the data key").await?;
        let outcome = timeout(OPERATION, read::data_key(&session)).await;
        session.settle(outcome)
    }

    async fn keep_data_key(&self, old: Option<&[u8]>, new: &[u8]) -> Result<bool, StorageError> {
        let session = self.session("keeping the data key").await?;
        let outcome = timeout(OPERATION, keep::keep_data_key(&session, old, new)).await;
        session.settle(outcome)
    }

    async fn ping(&self) -> Result<(), StorageError> {
        let session = self.session("answering whether it is there").await?;
        let outcome = timeout(OPERATION, keep::ping(&session)).await;
        session.settle(outcome)
    }
}
