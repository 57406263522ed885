//! From rows to what they mean, and from numbers to those of the database.

use bytes::Bytes;
use tokio_postgres::Row;

use super::super::{ChangeRecord, Event, File, SealedKey};
use super::session::Failure;
use crate::reference::Gun;
use crate::tuf::Role;

/// What a row of `version, sha256, bytes, stored_at`, with whatever before them, holds.
pub(super) fn file(row: &Row) -> Result<File, Failure> {
    let bytes: Vec<u8> = row.try_get("bytes")?;
    Ok(File {
        version: number(row, "version", "file")?,
        sha256: hash(row.try_get("sha256")?, "file")?,
        bytes: Bytes::from(bytes),
        stored_at: row.try_get("stored_at")?,
    })
}

/// The same after an outer join, which may have found none.
pub(super) fn joined_file(row: &Row) -> Result<Option<File>, Failure> {
    let version: Option<i64> = row.try_get("version")?;
    version.map(|_| file(row)).transpose()
}

/// What a row of `role, used` says, after an outer join too.
pub(super) fn used(row: &Row, what: &'static str) -> Result<Option<(Role, u64)>, Failure> {
    let role: Option<&str> = row.try_get("role")?;
    let Some(role) = role else { return Ok(None) };
    let role = role.parse().map_err(|_| Failure::Damaged(what))?;
    Ok(Some((role, number(row, "used", what)?)))
}

/// What a row of `role, version` says.
pub(super) fn version(row: &Row) -> Result<(Role, u64), Failure> {
    const WHAT: &str = "file";
    Ok((role(row, WHAT)?, number(row, "version", WHAT)?))
}

pub(super) fn key(row: &Row) -> Result<SealedKey, Failure> {
    let id: &str = row.try_get("id")?;
    Ok(SealedKey {
        id: id.parse().map_err(|_| Failure::Damaged("key"))?,
        role: role(row, "key")?,
        sealed: row.try_get("sealed")?,
        used: row.try_get("used")?,
        created_at: row.try_get("created_at")?,
    })
}

pub(super) fn change(row: &Row) -> Result<ChangeRecord, Failure> {
    const WHAT: &str = "record of the changefeed";
    let sha256: Option<&[u8]> = row.try_get("sha256")?;
    let event = match sha256 {
        Some(sha256) => Event::Update {
            version: number(row, "version", WHAT)?,
            sha256: hash(sha256, WHAT)?,
        },
        None => Event::Deletion,
    };
    Ok(ChangeRecord {
        id: number(row, "id", WHAT)?,
        created_at: row.try_get("created_at")?,
        gun: gun(row)?,
        event,
    })
}

pub(super) fn gun(row: &Row) -> Result<Gun, Failure> {
    let gun: &str = row.try_get("gun")?;
    gun.parse().map_err(|_| Failure::Damaged("name of a repository"))
}

fn role(row: &Row, what: &'static str) -> Result<Role, Failure> {
    let role: &str = row.try_get("role")?;
    role.parse().map_err(|_| Failure::Damaged(what))
}

pub(super) fn number(row: &Row, column: &str, what: &'static str) -> Result<u64, Failure> {
    let number: i64 = row.try_get(column)?;
    u64::try_from(number).map_err(|_| Failure::Damaged(what))
}

fn hash(bytes: &[u8], what: &'static str) -> Result<[u8; 32], Failure> {
    bytes.try_into().map_err(|_| Failure::Damaged(what))
}

/// A number that is to be stored.
pub(super) fn stored(number: u64) -> Result<i64, Failure> {
    i64::try_from(number).map_err(|_| Failure::TooLarge)
}

/// A bound that is only compared with: above the highest number there is nothing.
pub(super) fn bound<N: TryInto<i64>>(number: N) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
