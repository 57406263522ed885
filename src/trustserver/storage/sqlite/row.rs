//! Our types in columns and back. What comes back and cannot be ours is damage, never a default.

use std::io;
use std::num::TryFromIntError;
use std::str::FromStr;

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::FromSql;

use crate::reference::Gun;
use crate::trustserver::storage::{File, SealedKey};
use crate::tuf::Role;

pub(super) type Result<T> = std::result::Result<T, Trouble>;

/// What went wrong below a method.
#[derive(Debug)]
pub(super) enum Trouble {
    Sqlite(rusqlite::Error),
    /// The counter beside the database.
    Counter(io::Error),
    /// A number that no column takes.
    Range(TryFromIntError),
    /// A row that we did not write.
    Damaged(&'static str),
}

impl From<rusqlite::Error> for Trouble {
    fn from(source: rusqlite::Error) -> Self {
        Self::Sqlite(source)
    }
}

/// A column of a row, whose type must be the one that it was written with.
fn column<T: FromSql>(row: &Row<'_>, name: &str, what: &'static str) -> Result<T> {
    row.get(name).map_err(|error| {
        let unlike = matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::Utf8Error(..)
        );
        if unlike {
            Trouble::Damaged(what)
        } else {
            error.into()
        }
    })
}

/// A number as a column takes it: those of metadata and ours are below 2⁶³.
pub(super) fn number(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(Trouble::Range)
}

/// The same for a limit, where more than there can be is as good.
pub(super) fn at_most(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

pub(super) fn get_number(row: &Row<'_>, name: &str, what: &'static str) -> Result<u64> {
    u64::try_from(column::<i64>(row, name, what)?).map_err(|_| Trouble::Damaged(what))
}

pub(super) fn get_time(row: &Row<'_>, name: &str, what: &'static str) -> Result<Timestamp> {
    Timestamp::from_microsecond(column(row, name, what)?).map_err(|_| Trouble::Damaged(what))
}

pub(super) fn get_hash(row: &Row<'_>, name: &str, what: &'static str) -> Result<[u8; 32]> {
    column(row, name, what)
}

/// What is written as text: names and ids.
fn get_text<T: FromStr>(row: &Row<'_>, name: &str, what: &'static str) -> Result<T> {
    column::<String>(row, name, what)?
        .parse()
        .map_err(|_| Trouble::Damaged(what))
}

pub(super) fn get_gun(row: &Row<'_>) -> Result<Gun> {
    get_text(row, "gun", "repository name")
}

pub(super) fn get_role(row: &Row<'_>) -> Result<Role> {
    get_text(row, "role", "role name")
}

pub(super) fn get_file(row: &Row<'_>) -> Result<File> {
    Ok(File {
        version: get_number(row, "version", "file")?,
        sha256: get_hash(row, "sha256", "file")?,
        bytes: Bytes::from(column::<Vec<u8>>(row, "bytes", "file")?),
        stored_at: get_time(row, "stored_at", "file")?,
    })
}

pub(super) fn get_key(row: &Row<'_>) -> Result<SealedKey> {
    Ok(SealedKey {
        id: get_text(row, "id", "key")?,
        role: get_role(row)?,
        sealed: column(row, "sealed", "key")?,
        used: column(row, "used", "key")?,
        created_at: get_time(row, "created_at", "key")?,
    })
}

/// Whether there is anything in a column that may be empty.
pub(super) fn is_set(row: &Row<'_>, name: &str) -> Result<bool> {
    Ok(row.get_ref(name)? != rusqlite::types::ValueRef::Null)
}
