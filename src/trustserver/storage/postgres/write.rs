//! What is written of repositories, each in one transaction.

use std::collections::BTreeMap;

use deadpool_postgres::{Object, Transaction};
use jiff::Timestamp;
use tokio_postgres::IsolationLevel;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::super::{Change, Committed, Event, File, Whole};
use super::session::Failure;
use super::{keep, rows};
use crate::reference::Gun;
use crate::tuf::Role;

/// How many bytes of files are sent in one message. An upload is one; an import may be hundreds, and a message cannot
/// hold more than 1 GiB.
const BATCH: usize = 16 << 20;

/// A repository that was never there. Whoever inserts second waits for the first, and then inserts nothing.
const CLAIM_NEW: &str = "
INSERT INTO repositories (gun, generation, present, renew_at) VALUES ($1, 1, true, $2)
ON CONFLICT (gun) DO NOTHING";

const CLAIM: &str = "
UPDATE repositories SET generation = generation + 1, present = true, renew_at = $2
WHERE gun = $1 AND generation = $3";

const DROP: &str = "UPDATE roles SET current = NULL WHERE gun = $1 AND role = ANY($2)";

const STORE: &str = "
INSERT INTO files (gun, role, version, sha256, bytes, stored_at)
SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::bytea[], $5::bytea[], $6::timestamptz[])";

const PUBLISH: &str = "
INSERT INTO roles (gun, role, used, current)
SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::bigint[])
ON CONFLICT (gun, role) DO UPDATE SET used = greatest(roles.used, excluded.used), current = excluded.current";

const USE_KEYS: &str = "UPDATE keys SET used = true WHERE gun = $1 AND id = ANY($2) AND NOT used";

/// The number is taken from a row that stays locked until the transaction has ended, so that entries become visible
/// in the order of their numbers. A sequence would not do: it hands out 7 while 6 is not committed, and who has read
/// 7 never asks for 6 again.
const RECORD: &str = "
WITH next AS (UPDATE changefeed SET last = last + 1 RETURNING last)
INSERT INTO changes (id, created_at, gun, version, sha256) SELECT last, $2, $1, $3, $4 FROM next";

const LEAVE: &str = "
UPDATE repositories SET generation = generation + 1, present = false, renew_at = NULL
WHERE gun = $1 AND present";

/// The versions of the roles that the server numbers itself outlive the repository (§8.6.8).
const FORGET_ROLES: &str = "DELETE FROM roles WHERE gun = $1 AND role <> ALL($2)";
const UNPUBLISH: &str = "UPDATE roles SET current = NULL WHERE gun = $1";
const FORGET_FILES: &str = "DELETE FROM files WHERE gun = $1";

const POSTPONE: &str = "UPDATE repositories SET renew_at = $2 WHERE gun = $1 AND present";

/// As [`super::Storage::commit`] says.
pub(super) async fn commit(
    client: &mut Object,
    gun: &Gun,
    generation: u64,
    change: &Change,
) -> Result<Committed, Failure> {
    undone_is_conflict(attempt(client, gun, generation, change).await)
}

async fn attempt(
    client: &mut Object,
    gun: &Gun,
    generation: u64,
    change: &Change,
) -> Result<Committed, Failure> {
    let transaction = begin(client).await?;
    if !claim(&transaction, gun, generation, change.renew_at).await? {
        transaction.rollback().await?;
        return Ok(Committed::Conflict);
    }
    publish(&transaction, gun, change).await?;
    let keys: Vec<_> = change.keys_used.iter().map(ToString::to_string).collect();
    if !keys.is_empty() {
        execute(&transaction, USE_KEYS, &[&gun.as_str(), &keys]).await?;
    }
    if let Some(timestamp) = change.files.get(&Role::Timestamp) {
        let event = Event::Update {
            version: timestamp.version,
            sha256: timestamp.sha256,
        };
        record(&transaction, gun, change.at, &event).await?;
    }
    transaction.commit().await?;
    Ok(Committed::Stored)
}

/// Takes the repository to its next generation; false if it is not at `generation`.
async fn claim(
    transaction: &Transaction<'_>,
    gun: &Gun,
    generation: u64,
    renew_at: Option<Timestamp>,
) -> Result<bool, Failure> {
    let gun = gun.as_str();
    let rows = match i64::try_from(generation) {
        Ok(0) => execute(transaction, CLAIM_NEW, &[&gun, &renew_at]).await?,
        Ok(generation) => execute(transaction, CLAIM, &[&gun, &renew_at, &generation]).await?,
        // No repository gets there.
        Err(_) => 0,
    };
    Ok(rows == 1)
}

/// Adds the new files, which become the current ones of their roles; dropped roles have none any more.
async fn publish(transaction: &Transaction<'_>, gun: &Gun, change: &Change) -> Result<(), Failure> {
    if !change.dropped.is_empty() {
        let dropped: Vec<_> = change.dropped.iter().map(Role::as_str).collect();
        execute(transaction, DROP, &[&gun.as_str(), &dropped]).await?;
    }
    let files: Vec<_> = change.files.iter().collect();
    store(transaction, gun, &files).await?;
    let versions = files.iter().map(|&(role, file)| {
        let standing = Standing {
            used: file.version,
            current: Some(file.version),
        };
        (role, standing)
    });
    stand(transaction, gun, versions.collect()).await
}

/// Where a role stands after a write.
struct Standing {
    used: u64,
    current: Option<u64>,
}

/// Where the roles of `whole` stand: what was used is at least what there is.
fn standings(whole: &Whole) -> BTreeMap<&Role, Standing> {
    let mut standings = BTreeMap::new();
    let stored = whole.files.iter().map(|(role, file)| (role, file.version));
    let used = whole.used.iter().map(|(role, version)| (role, *version));
    for (role, version) in stored.chain(used) {
        let standing = standings.entry(role).or_insert(Standing {
            used: version,
            current: whole.current.get(role).copied(),
        });
        standing.used = standing.used.max(version);
    }
    standings
}

async fn stand(
    transaction: &Transaction<'_>,
    gun: &Gun,
    standings: BTreeMap<&Role, Standing>,
) -> Result<(), Failure> {
    if standings.is_empty() {
        return Ok(());
    }
    let roles: Vec<_> = standings.keys().map(|role| role.as_str()).collect();
    let used = standings.values().map(|standing| rows::stored(standing.used));
    let used: Vec<_> = used.collect::<Result<_, _>>()?;
    let current = standings
        .values()
        .map(|standing| standing.current.map(rows::stored).transpose());
    let current: Vec<_> = current.collect::<Result<_, _>>()?;
    execute(transaction, PUBLISH, &[&gun.as_str(), &roles, &used, &current]).await?;
    Ok(())
}

/// Adds files. A version that is there already is an error of the database's.
async fn store(transaction: &Transaction<'_>, gun: &Gun, files: &[(&Role, &File)]) -> Result<(), Failure> {
    let mut rest = files;
    while !rest.is_empty() {
        let (batch, others) = rest.split_at(batch(rest));
        rest = others;
        let roles: Vec<_> = batch.iter().map(|(role, _)| role.as_str()).collect();
        let versions = batch.iter().map(|(_, file)| rows::stored(file.version));
        let versions: Vec<_> = versions.collect::<Result<_, _>>()?;
        let hashes: Vec<_> = batch.iter().map(|(_, file)| file.sha256.as_slice()).collect();
        let bytes: Vec<&[u8]> = batch.iter().map(|(_, file)| file.bytes.as_ref()).collect();
        let times: Vec<_> = batch.iter().map(|(_, file)| file.stored_at).collect();
        let gun = gun.as_str();
        execute(
            transaction,
            STORE,
            &[&gun, &roles, &versions, &hashes, &bytes, &times],
        )
        .await?;
    }
    Ok(())
}

/// How many of `files`, at least one, go into one message.
fn batch(files: &[(&Role, &File)]) -> usize {
    let mut bytes = 0_usize;
    let fitting = files.iter().take_while(|(_, file)| {
        bytes = bytes.saturating_add(file.bytes.len());
        bytes <= BATCH
    });
    fitting.count().max(1)
}

/// The last of a transaction: from here on all others wait for its end.
async fn record(
    transaction: &Transaction<'_>,
    gun: &Gun,
    at: Timestamp,
    event: &Event,
) -> Result<(), Failure> {
    let (version, sha256) = match event {
        Event::Update { version, sha256 } => (Some(rows::stored(*version)?), Some(sha256.as_slice())),
        Event::Deletion => (None, None),
    };
    execute(transaction, RECORD, &[&gun.as_str(), &at, &version, &sha256]).await?;
    Ok(())
}

/// As [`super::Storage::restore`] says.
pub(super) async fn restore(
    client: &mut Object,
    gun: &Gun,
    generation: u64,
    whole: &Whole,
) -> Result<Committed, Failure> {
    undone_is_conflict(replace(client, gun, generation, whole).await)
}

async fn replace(
    client: &mut Object,
    gun: &Gun,
    generation: u64,
    whole: &Whole,
) -> Result<Committed, Failure> {
    let transaction = begin(client).await?;
    if !claim(&transaction, gun, generation, whole.renew_at).await? {
        transaction.rollback().await?;
        return Ok(Committed::Conflict);
    }
    remove_files(&transaction, gun).await?;
    let files: Vec<_> = whole.files.iter().map(|(role, file)| (role, file)).collect();
    store(&transaction, gun, &files).await?;
    stand(&transaction, gun, standings(whole)).await?;
    for key in &whole.keys {
        keep::add(&transaction, gun, key).await?;
    }
    for (at, event) in &whole.changes {
        record(&transaction, gun, *at, event).await?;
    }
    transaction.commit().await?;
    Ok(Committed::Stored)
}

/// As [`super::Storage::delete`] says.
pub(super) async fn delete(client: &mut Object, gun: &Gun, at: Timestamp) -> Result<bool, Failure> {
    let name = gun.as_str();
    let kept = [Role::Snapshot.as_str(), Role::Timestamp.as_str()];
    let transaction = begin(client).await?;
    if execute(&transaction, LEAVE, &[&name]).await? == 0 {
        transaction.rollback().await?;
        return Ok(false);
    }
    execute(&transaction, FORGET_ROLES, &[&name, &kept.as_slice()]).await?;
    remove_files(&transaction, gun).await?;
    record(&transaction, gun, at, &Event::Deletion).await?;
    transaction.commit().await?;
    Ok(true)
}

/// As [`super::Storage::postpone`] says.
pub(super) async fn postpone(client: &Object, gun: &Gun, until: Timestamp) -> Result<(), Failure> {
    let statement = client.prepare_cached(POSTPONE).await?;
    client.execute(&statement, &[&gun.as_str(), &until]).await?;
    Ok(())
}

pub(super) async fn begin(client: &mut Object) -> Result<Transaction<'_>, Failure> {
    Ok(client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .start()
        .await?)
}

pub(super) async fn execute(
    transaction: &Transaction<'_>,
    statement: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<u64, Failure> {
    let statement = transaction.prepare_cached(statement).await?;
    Ok(transaction.execute(&statement, parameters).await?)
}

async fn remove_files(transaction: &Transaction<'_>, gun: &Gun) -> Result<(), Failure> {
    execute(transaction, UNPUBLISH, &[&gun.as_str()]).await?;
    execute(transaction, FORGET_FILES, &[&gun.as_str()]).await?;
    Ok(())
}

/// The database saw two transactions in each other's way, and undid this one: somebody else was first. A version that
/// is there already tells nothing of the kind: the generation was the right one, so nobody was faster.
fn undone_is_conflict(outcome: Result<Committed, Failure>) -> Result<Committed, Failure> {
    match outcome {
        Err(Failure::Database(error)) if error.code().is_some_and(is_race) => Ok(Committed::Conflict),
        outcome => outcome,
    }
}

fn is_race(code: &SqlState) -> bool {
    *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED
}
