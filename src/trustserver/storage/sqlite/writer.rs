//! The one connection of a process that writes.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::counter::Counter;
use super::row::{Result, Trouble, number};

/// A write that is no older shows that the database can be written to; asking more often must not cost more syncs.
const PROOF: Duration = Duration::from_secs(1);

/// What a change came to.
pub(super) enum Outcome<T> {
    /// It is to be committed.
    Changed(T),
    /// Nothing was written.
    Same(T),
}

#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    counter: Counter,
    written_at: Option<Instant>,
}

impl Writer {
    pub(super) fn new(connection: Connection, counter: Counter) -> Self {
        Self {
            connection,
            counter,
            written_at: None,
        }
    }

    /// Runs `change` in one transaction. A failure leaves nothing of it.
    pub(super) fn write<T>(
        &mut self,
        change: impl FnOnce(&Transaction<'_>) -> Result<Outcome<T>>,
    ) -> Result<T> {
        // At once, so that what is read first is still true when it is written.
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let answer = match change(&transaction)? {
            Outcome::Same(answer) => return Ok(answer),
            Outcome::Changed(answer) => answer,
        };
        if self.counter.counts() {
            transaction.execute("UPDATE written SET commits = commits + 1", [])?;
        }
        let commits = commits(&transaction)?;
        transaction.commit()?;
        self.written_at = Some(Instant::now());
        self.counter.note(commits);
        Ok(answer)
    }

    /// Shows that writing works.
    pub(super) fn ping(&mut self) -> Result<()> {
        if self.written_at.is_none_or(|at| at.elapsed() > PROOF) {
            self.write(|_| Ok(Outcome::Changed(())))?;
        }
        self.counter.settle();
        Ok(())
    }

    /// Counts on from the counter, and past it: of the states before and after none has the same count.
    pub(super) fn accept_regression(&mut self) -> Result<()> {
        let ahead = number(self.counter.accepted())?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("UPDATE written SET commits = max(commits, ?) + 1", [ahead])?;
        let commits = commits(&transaction)?;
        transaction.commit()?;
        self.counter.accept(commits).map_err(Trouble::Counter)
    }
}

/// How many writes there were.
pub(super) fn commits(connection: &Connection) -> rusqlite::Result<u64> {
    let commits: i64 = connection.query_row("SELECT commits FROM written", [], |row| row.get(0))?;
    Ok(u64::try_from(commits).unwrap_or_default())
}
