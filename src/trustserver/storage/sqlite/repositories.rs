//! What is written of repositories.

use jiff::Timestamp;
use rusqlite::{Transaction, params};

use super::query::standing;
use super::row::{Result, number};
use super::writer::Outcome::{self, Changed, Same};
use super::{feed, keys};
use crate::reference::Gun;
use crate::trustserver::storage::{Change, Committed, Event, File, Whole};
use crate::tuf::Role;

pub(super) fn commit(
    transaction: &Transaction<'_>,
    gun: &Gun,
    generation: u64,
    change: &Change,
) -> Result<Outcome<Committed>> {
    if standing(transaction, gun)?.generation != generation {
        return Ok(Same(Committed::Conflict));
    }
    advance(transaction, gun, generation, change.renew_at)?;
    for role in &change.dropped {
        let sql = "UPDATE role SET current = NULL WHERE gun = ? AND role = ?";
        transaction.prepare(sql)?.execute([gun.as_str(), role.as_str()])?;
    }
    for (role, file) in &change.files {
        add(transaction, gun, role, file)?;
        make_current(transaction, gun, role, file.version)?;
    }
    keys::mark_used(transaction, gun, &change.keys_used)?;
    if let Some(timestamp) = change.files.get(&Role::Timestamp) {
        let event = Event::Update {
            version: timestamp.version,
            sha256: timestamp.sha256,
        };
        feed::append(transaction, gun, change.at, &event)?;
    }
    Ok(Changed(Committed::Stored))
}

pub(super) fn restore(
    transaction: &Transaction<'_>,
    gun: &Gun,
    generation: u64,
    whole: &Whole,
) -> Result<Outcome<Committed>> {
    if standing(transaction, gun)?.generation != generation {
        return Ok(Same(Committed::Conflict));
    }
    remove_files(transaction, gun)?;
    advance(transaction, gun, generation, whole.renew_at)?;
    for (role, file) in &whole.files {
        add(transaction, gun, role, file)?;
    }
    for (role, version) in &whole.used {
        use_version(transaction, gun, role, *version)?;
    }
    for (role, version) in &whole.current {
        make_current(transaction, gun, role, *version)?;
    }
    for key in &whole.keys {
        keys::add(transaction, gun, key)?;
    }
    for (at, event) in &whole.changes {
        feed::append(transaction, gun, *at, event)?;
    }
    Ok(Changed(Committed::Stored))
}

pub(super) fn delete(transaction: &Transaction<'_>, gun: &Gun, at: Timestamp) -> Result<Outcome<bool>> {
    if !standing(transaction, gun)?.live {
        return Ok(Same(false));
    }
    let sql =
        "UPDATE repository SET live = FALSE, generation = generation + 1, renew_at = NULL WHERE gun = ?";
    transaction.execute(sql, [gun.as_str()])?;
    remove_files(transaction, gun)?;
    // Clients remember these two, which only the server numbers: a new life goes on above them (§8.6.8).
    let sql = "DELETE FROM role WHERE gun = ? AND role NOT IN (?, ?)";
    let kept = params![gun.as_str(), Role::Snapshot.as_str(), Role::Timestamp.as_str()];
    transaction.execute(sql, kept)?;
    feed::append(transaction, gun, at, &Event::Deletion)?;
    Ok(Changed(true))
}

pub(super) fn postpone(transaction: &Transaction<'_>, gun: &Gun, until: Timestamp) -> Result<Outcome<()>> {
    let sql = "UPDATE repository SET renew_at = ? WHERE gun = ? AND live";
    transaction.execute(sql, params![until.as_microsecond(), gun.as_str()])?;
    Ok(Changed(()))
}

/// The generation after `generation`, in which there is a repository.
fn advance(
    transaction: &Transaction<'_>,
    gun: &Gun,
    generation: u64,
    renew_at: Option<Timestamp>,
) -> Result<()> {
    let sql = "INSERT INTO repository (gun, generation, live, renew_at) VALUES (?1, ?2, TRUE, ?3)
        ON CONFLICT (gun) DO UPDATE SET generation = ?2, live = TRUE, renew_at = ?3";
    let renew_at = renew_at.map(Timestamp::as_microsecond);
    let next = number(generation.saturating_add(1))?;
    transaction
        .prepare(sql)?
        .execute(params![gun.as_str(), next, renew_at])?;
    Ok(())
}

/// A version that is there already is never replaced: that is an error of SQLite's.
fn add(transaction: &Transaction<'_>, gun: &Gun, role: &Role, file: &File) -> Result<()> {
    let sql = "INSERT INTO file (gun, role, version, sha256, stored_at, bytes) VALUES (?, ?, ?, ?, ?, ?)";
    transaction.prepare(sql)?.execute(params![
        gun.as_str(),
        role.as_str(),
        number(file.version)?,
        file.sha256,
        file.stored_at.as_microsecond(),
        file.bytes.as_ref(),
    ])?;
    use_version(transaction, gun, role, file.version)
}

fn use_version(transaction: &Transaction<'_>, gun: &Gun, role: &Role, version: u64) -> Result<()> {
    let sql = "INSERT INTO role (gun, role, used) VALUES (?1, ?2, ?3)
        ON CONFLICT (gun, role) DO UPDATE SET used = max(used, ?3)";
    let version = number(version)?;
    transaction
        .prepare(sql)?
        .execute(params![gun.as_str(), role.as_str(), version])?;
    Ok(())
}

fn make_current(transaction: &Transaction<'_>, gun: &Gun, role: &Role, version: u64) -> Result<()> {
    let sql = "UPDATE role SET current = ? WHERE gun = ? AND role = ?";
    let version = number(version)?;
    transaction
        .prepare(sql)?
        .execute(params![version, gun.as_str(), role.as_str()])?;
    Ok(())
}

fn remove_files(transaction: &Transaction<'_>, gun: &Gun) -> Result<()> {
    transaction.execute("UPDATE role SET current = NULL WHERE gun = ?", [gun.as_str()])?;
    transaction.execute("DELETE FROM file WHERE gun = ?", [gun.as_str()])?;
    Ok(())
}
