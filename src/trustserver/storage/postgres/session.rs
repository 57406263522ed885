//! A connection while something is done with it, and how long anything may take.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio::time::error::Elapsed;

use super::StorageError;

/// To reach a server of the same data centre; each address of each host gets it anew.
pub(super) const CONNECT: Duration = Duration::from_secs(3);
/// To connect, encrypt, log in and set up a session: two hosts that do not answer, and one that does.
pub(super) const CREATE: Duration = Duration::from_secs(10);
/// To wait for one of the pool's connections. Transactions take milliseconds, so who waits longer than this waits
/// for a database in trouble, and so would the client, who rather gets an answer.
pub(super) const WAIT: Duration = Duration::from_secs(5);
/// For what was sent to be acknowledged by the other machine. Less than [`OPERATION`], so that a connection that
/// leads nowhere is gone by then.
pub(super) const SILENCE: Duration = Duration::from_secs(10);
/// How long a connection without traffic is taken for a good one, and between further questions: firewalls forget
/// them after minutes.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(30);
/// For everything one method does. Above the statement timeout of [`SETTINGS`], so that a slow database is told by
/// its own error, and only a silent one by this.
pub(super) const OPERATION: Duration = Duration::from_secs(15);

/// For an import: hundreds of megabytes, and an operator who waits for them.
pub(super) const IMPORT: Duration = Duration::from_secs(600);

/// What every session begins with.
///
/// * Durable means durable, whatever the server's default (§8.6.6); what is stricter is left.
/// * `read committed`: a writer that waited for another has to see what that one wrote.
/// * A statement gets 10 s: the largest writes 16 MiB (§2.4), which takes a slow disk less than one.
/// * A transaction whose owner is silent for 10 s is undone: that machine is gone, and it may hold the row that all
///   others wait for.
pub(super) const SETTINGS: &str = "
SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
SET default_transaction_isolation = 'read committed';
SET statement_timeout = '10s';
SET idle_in_transaction_session_timeout = '10s';
";

/// Why something did not come about.
#[derive(Debug)]
pub(super) enum Failure {
    /// The database, or the way to it.
    Database(tokio_postgres::Error),
    /// A row that we did not write.
    Damaged(&'static str),
    /// Numbers end at 2⁶³ − 1 there.
    TooLarge,
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

/// What [`StorageError`] tells as its source where the driver has no error of its own.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("no answer in time")]
    Silence,
    #[error("a number is larger than it can hold")]
    TooLarge,
}

/// A connection that is ours for as long as one method takes.
pub(super) struct Session {
    doing: &'static str,
    client: Object,
}

impl Session {
    pub(super) async fn lease(pool: &Pool, doing: &'static str) -> Result<Self, StorageError> {
        let client = pool.get().await.map_err(|error| failed(doing, error))?;
        Ok(Self { doing, client })
    }

    /// Ends the session with what became of it.
    pub(super) fn settle<T>(self, outcome: Result<Result<T, Failure>, Elapsed>) -> Result<T, StorageError> {
        let Ok(outcome) = outcome else {
            // Nobody else shall wait for the answer that this one did not get.
            drop(Object::take(self.client));
            return Err(failed(self.doing, Trouble::Silence));
        };
        outcome.map_err(|failure| match failure {
            Failure::Database(error) => failed(self.doing, error),
            Failure::Damaged(what) => StorageError::Damaged { what },
            Failure::TooLarge => failed(self.doing, Trouble::TooLarge),
        })
    }
}

impl Deref for Session {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Object {
        &mut self.client
    }
}

fn failed(doing: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> StorageError {
    StorageError::Failed {
        doing,
        source: Box::new(source),
    }
}
