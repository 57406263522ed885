//! Keys that the server holds (§2.5, §8.5).

use std::collections::BTreeSet;

use rusqlite::{Transaction, params};

use super::query;
use super::row::{Result, get_key};
use super::writer::Outcome::{self, Changed, Same};
use crate::reference::Gun;
use crate::trustserver::storage::SealedKey;
use crate::tuf::KeyId;

pub(super) fn all(transaction: &Transaction<'_>, gun: &Gun) -> Result<Vec<SealedKey>> {
    let sql = "SELECT * FROM key WHERE gun = ? ORDER BY created_at, position";
    query::all(transaction, sql, [gun.as_str()], get_key)
}

pub(super) fn keep(transaction: &Transaction<'_>, gun: &Gun, key: SealedKey) -> Result<Outcome<SealedKey>> {
    let sql =
        "SELECT * FROM key WHERE gun = ? AND role = ? AND NOT used ORDER BY created_at, position LIMIT 1";
    let unused = query::first(transaction, sql, [gun.as_str(), key.role.as_str()], get_key)?;
    if let Some(unused) = unused {
        return Ok(Same(unused));
    }
    add(transaction, gun, &key)?;
    Ok(Changed(key))
}

/// Of a key that is held already nothing changes but that it may have been used.
pub(super) fn add(transaction: &Transaction<'_>, gun: &Gun, key: &SealedKey) -> Result<()> {
    let sql = "INSERT INTO key (gun, role, id, sealed, used, created_at) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (gun, role, id) DO UPDATE SET used = used OR excluded.used";
    transaction.prepare(sql)?.execute(params![
        gun.as_str(),
        key.role.as_str(),
        key.id.to_string(),
        key.sealed,
        key.used,
        key.created_at.as_microsecond(),
    ])?;
    Ok(())
}

pub(super) fn mark_used(transaction: &Transaction<'_>, gun: &Gun, ids: &BTreeSet<KeyId>) -> Result<()> {
    let mut update =
        transaction.prepare("UPDATE key SET used = TRUE WHERE gun = ? AND id = ? AND NOT used")?;
    for id in ids {
        update.execute([gun.as_str(), &id.to_string()])?;
    }
    Ok(())
}
