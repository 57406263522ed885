//! What is read of repositories.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Params, Row, Transaction, params};

use super::row::{self, Result, at_most, get_file, get_gun, get_number, get_role};
use crate::reference::Gun;
use crate::trustserver::storage::{File, Repository};
use crate::tuf::Role;

/// Every row of an answer.
pub(super) fn all<T>(
    transaction: &Transaction<'_>,
    sql: &str,
    params: impl Params,
    of: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut query = transaction.prepare(sql)?;
    let mut rows = query.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(of(row)?);
    }
    Ok(found)
}

/// The first row of an answer, if it has any.
pub(super) fn first<T>(
    transaction: &Transaction<'_>,
    sql: &str,
    params: impl Params,
    of: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let mut query = transaction.prepare(sql)?;
    let mut rows = query.query(params)?;
    rows.next()?.map(of).transpose()
}

/// Where a name stands: its generation, and whether there is a repository.
pub(super) struct Standing {
    pub(super) generation: u64,
    pub(super) live: bool,
}

pub(super) fn standing(transaction: &Transaction<'_>, gun: &Gun) -> Result<Standing> {
    let sql = "SELECT generation, live FROM repository WHERE gun = ?";
    let found = first(transaction, sql, [gun.as_str()], |row| {
        Ok(Standing {
            generation: get_number(row, "generation", "repository")?,
            live: row.get("live")?,
        })
    })?;
    Ok(found.unwrap_or(Standing {
        generation: 0,
        live: false,
    }))
}

fn used(transaction: &Transaction<'_>, gun: &Gun) -> Result<BTreeMap<Role, u64>> {
    let sql = "SELECT role, used FROM role WHERE gun = ?";
    let used = all(transaction, sql, [gun.as_str()], |row| {
        Ok((get_role(row)?, get_number(row, "used", "role")?))
    })?;
    Ok(used.into_iter().collect())
}

pub(super) fn repository(transaction: &Transaction<'_>, gun: &Gun) -> Result<Option<Repository>> {
    let Standing { generation, live } = standing(transaction, gun)?;
    if !live {
        return Ok(None);
    }
    let sql =
        "SELECT f.* FROM role r JOIN file f ON f.gun = r.gun AND f.role = r.role AND f.version = r.current
        WHERE r.gun = ?";
    let files = all(transaction, sql, [gun.as_str()], |row| {
        Ok((get_role(row)?, get_file(row)?))
    })?;
    Ok(Some(Repository {
        generation,
        files: files.into_iter().collect(),
        used: used(transaction, gun)?,
    }))
}

pub(super) fn vacancy(transaction: &Transaction<'_>, gun: &Gun) -> Result<(u64, BTreeMap<Role, u64>)> {
    let Standing { generation, live } = standing(transaction, gun)?;
    Ok((if live { 0 } else { generation }, used(transaction, gun)?))
}

pub(super) fn current(transaction: &Transaction<'_>, gun: &Gun, role: &Role) -> Result<Option<File>> {
    let sql =
        "SELECT f.* FROM role r JOIN file f ON f.gun = r.gun AND f.role = r.role AND f.version = r.current
        WHERE r.gun = ? AND r.role = ?";
    first(transaction, sql, [gun.as_str(), role.as_str()], get_file)
}

/// By repository and role first: the same bytes may be stored under other names, where they are not for everybody
/// (T45).
pub(super) fn by_hash(
    transaction: &Transaction<'_>,
    gun: &Gun,
    role: &Role,
    sha256: &[u8; 32],
) -> Result<Option<File>> {
    let sql = "SELECT * FROM file WHERE gun = ? AND role = ? AND sha256 = ? ORDER BY version DESC LIMIT 1";
    first(
        transaction,
        sql,
        params![gun.as_str(), role.as_str(), sha256],
        get_file,
    )
}

pub(super) fn by_version(
    transaction: &Transaction<'_>,
    gun: &Gun,
    role: &Role,
    version: u64,
) -> Result<Option<File>> {
    // Versions come from URLs: one that no column takes is one that there is not.
    let Ok(version) = row::number(version) else {
        return Ok(None);
    };
    let sql = "SELECT * FROM file WHERE gun = ? AND role = ? AND version = ?";
    first(
        transaction,
        sql,
        params![gun.as_str(), role.as_str(), version],
        get_file,
    )
}

pub(super) fn versions(transaction: &Transaction<'_>, gun: &Gun) -> Result<Vec<(Role, u64)>> {
    let sql = "SELECT role, version FROM file WHERE gun = ?";
    let mut versions = all(transaction, sql, [gun.as_str()], |row| {
        Ok((get_role(row)?, get_number(row, "version", "file")?))
    })?;
    // Roles have an order of their own, root first.
    versions.sort();
    Ok(versions)
}

pub(super) fn due(transaction: &Transaction<'_>, at: Timestamp, most: usize) -> Result<Vec<Gun>> {
    let sql = "SELECT gun FROM repository WHERE renew_at IS NOT NULL AND renew_at <= ? ORDER BY renew_at, gun LIMIT ?";
    all(
        transaction,
        sql,
        params![at.as_microsecond(), at_most(most)],
        get_gun,
    )
}

pub(super) fn repositories(
    transaction: &Transaction<'_>,
    after: Option<&Gun>,
    most: usize,
) -> Result<Vec<Gun>> {
    // No name is empty, so that all come after the empty text.
    let after = after.map_or("", Gun::as_str);
    let sql = "SELECT gun FROM repository WHERE live AND gun > ? ORDER BY gun LIMIT ?";
    all(transaction, sql, params![after, at_most(most)], get_gun)
}
