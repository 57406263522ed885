//! Repositories out of dumps of the reference server's and signer's databases.
//!
//! Read are what `mysqldump` writes, what `pg_dump` writes in plain form (with `COPY` or `--inserts`), and the file of a
//! SQLite database. Of each repository the current state is what the reference would serve: the newest timestamp, and
//! by hash what it leads to (notary-v1 §8.1). Each is imported by itself; what is wrong with one keeps no other out.

mod assemble;
mod jwe;
mod staging;
mod statement;
mod token;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, Read};
use std::path::Path;

use jiff::Timestamp;
use secrecy::SecretString;

pub use self::assemble::{KeyFault, Unusable, WhyNoKey};
pub use self::jwe::JweError;
pub use self::staging::LeftOut;
use self::staging::{Staging, read_sqlite};
use self::token::{Ahead, Dialect, Tokens};
use super::{Imported, InterchangeError, Over, Sealer, Storage, import};
use crate::trustserver::storage::StorageError;

/// How much of a file is looked at to see what it is. `pg_dump` and `mysqldump` say so in their first lines.
const HEAD: usize = 4096;

/// The tables that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    /// Metadata.
    Files,
    /// The changefeed.
    Changes,
    /// The signer's keys.
    Keys,
}

impl Table {
    fn named(name: &str) -> Option<Self> {
        [Self::Files, Self::Changes, Self::Keys]
            .into_iter()
            .find(|table| table.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Files => "tuf_files",
            Self::Changes => "changefeed",
            Self::Keys => "private_keys",
        }
    }
}

/// Dumps that were read, of the server's database and, if there is one, of the signer's.
pub struct Dump {
    staging: Staging,
}

/// What became of the repositories of a dump.
#[derive(Debug, Default)]
pub struct Report {
    /// What was imported, in order of name.
    pub imported: Vec<Moved>,
    /// What was not, by its name in the dump, and why.
    pub refused: Vec<(String, Unusable)>,
    /// The first thousand rows that were left out.
    pub left_out: Vec<LeftOut>,
    /// How many rows were left out.
    pub left_out_count: u64,
    /// How many of them had been deleted.
    pub deleted_count: u64,
}

impl Report {
    /// Whether everything that the dump holds came in: a repository at least, none refused, and no row left out that
    /// was not deleted.
    pub const fn is_complete(&self) -> bool {
        !self.imported.is_empty() && self.refused.is_empty() && self.left_out_count <= self.deleted_count
    }
}

/// A repository that was imported from a dump.
#[derive(Debug)]
pub struct Moved {
    /// As from anywhere else.
    pub imported: Imported,
    /// How many old versions were left behind, as a repository may have only so many bytes.
    pub left_behind: usize,
    /// Keys that root lists for the server, and that could not be taken over, with the reason.
    pub keys: Vec<KeyFault>,
}

impl Dump {
    /// Reads the dumps into a temporary database, which needs as much room as they do.
    ///
    /// # Errors
    ///
    /// [`DumpError`] if one cannot be read, or is nothing that we read.
    pub fn read(server: &Path, signer: Option<&Path>) -> Result<Self, DumpError> {
        let mut staging = Staging::new()?;
        for path in [Some(server), signer].into_iter().flatten() {
            read(path, &mut staging)?;
        }
        Ok(Self { staging })
    }

    /// The names of the passphrases under which the signer kept its keys: what the reference reads from
    /// `NOTARY_SIGNER_<NAME>`.
    ///
    /// # Errors
    ///
    /// [`DumpError`] if the temporary database fails.
    pub fn aliases(&self) -> Result<Vec<String>, DumpError> {
        self.staging.aliases()
    }

    /// Imports every repository that verifies.
    ///
    /// # Errors
    ///
    /// [`InterchangeError::Storage`] if the database fails, and [`DumpError`] if the temporary one does; what was
    /// imported until then stays. What is wrong with a repository is no error, but in the report.
    pub async fn import<S: Storage>(
        self,
        storage: &S,
        sealer: &Sealer,
        passphrases: &BTreeMap<String, SecretString>,
        over: Over,
        now: Timestamp,
    ) -> Result<Report, DumpError> {
        let mut report = Report::default();
        for name in self.staging.guns()? {
            let assembled = match assemble::assemble(&self.staging, &name, passphrases)? {
                Ok(assembled) => assembled,
                Err(why) => {
                    report.refused.push((name, why));
                    continue;
                }
            };
            match import(storage, sealer, &assembled.parcel, over, now).await {
                Ok(imported) => report.imported.push(Moved {
                    imported,
                    left_behind: assembled.left_behind,
                    keys: assembled.faults,
                }),
                Err(InterchangeError::Storage(source)) => return Err(DumpError::Storage(source)),
                Err(why) => report.refused.push((name, Unusable::Refused(why))),
            }
        }
        report.left_out = self.staging.left_out;
        report.left_out_count = self.staging.left_out_count;
        report.deleted_count = self.staging.deleted_count;
        Ok(report)
    }
}

fn read(path: &Path, staging: &mut Staging) -> Result<(), DumpError> {
    let mut from = Ahead::new(File::open(path)?);
    let mut head = Vec::with_capacity(HEAD);
    File::open(path)?.take(HEAD as u64).read_to_end(&mut head)?;
    match kind(&head)? {
        Kind::Sqlite => read_sqlite(path, staging),
        Kind::Sql(dialect) => {
            from.fill_buf()?;
            let mut tokens = Tokens::new(from, dialect);
            statement::read(&mut tokens, &mut |table, row| staging.take(table, row))
        }
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sql(Dialect),
    Sqlite,
}

fn kind(head: &[u8]) -> Result<Kind, DumpError> {
    let has = |text: &str| head.windows(text.len()).any(|window| window == text.as_bytes());
    if head.starts_with(b"SQLite format 3\0") {
        Ok(Kind::Sqlite)
    } else if head.starts_with(b"PGDMP") {
        Err(DumpError::CustomFormat)
    } else if head.starts_with(&[0x1f, 0x8b]) {
        Err(DumpError::Packed)
    } else if has("PostgreSQL database dump") || has("standard_conforming_strings") {
        Ok(Kind::Sql(Dialect::Postgres))
    } else if has("MySQL dump") || has("MariaDB dump") || has("`") {
        Ok(Kind::Sql(Dialect::MySql))
    } else {
        Err(DumpError::Unknown)
    }
}

/// Why a dump cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// The file, or the temporary one, cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The database to import into failed.
    #[error(transparent)]
    Storage(StorageError),
    /// A database file of SQLite, or the temporary one, cannot be read or written.
    #[error("SQLite failed")]
    Sqlite(#[from] rusqlite::Error),
    /// Neither kind of dump, nor a database file.
    #[error("neither a dump of mysqldump or pg_dump nor a SQLite database")]
    Unknown,
    /// `pg_dump -Fc`.
    #[error("a dump in PostgreSQL's custom format; `pg_restore -f FILE` makes a plain one of it")]
    CustomFormat,
    /// Compressed.
    #[error("the dump is compressed; `gunzip` it first")]
    Packed,
    /// It ends in the middle.
    #[error("the dump ends in the middle of a statement")]
    Truncated,
    /// A value, statement or list longer than any of the reference's.
    #[error("the dump has a value, or a list of columns, that is longer than any of the reference server's")]
    TooLong,
    /// Text that is none, or digits that are none.
    #[error("the dump has a value that cannot be read")]
    Value,
    /// A statement about a table that we know, in a form that we do not.
    #[error("the dump has a statement in a form that neither mysqldump nor pg_dump writes")]
    Statement,
    /// Rows without the names of their columns.
    #[error(
        "the dump has rows of {table} and does not say what their columns are: dump it with CREATE TABLE"
    )]
    Columns {
        /// The table.
        table: &'static str,
    },
    /// A column that has to be there.
    #[error("a row of the dump has no {column}, or one that cannot be read")]
    Column {
        /// The column.
        column: &'static str,
    },
}

#[cfg(test)]
mod tests;
