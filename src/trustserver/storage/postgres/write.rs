//! What is written, each in one transaction.

use deadpool_postgres::{Object, Transaction};
use jiff::Timestamp;
use tokio_postgres::IsolationLevel;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::super::{Change, Committed, SealedKey};
use super::rows;
use super::session::Failure;
use crate::reference::Gun;
use crate::tuf::Role;

/// How often a key is tried to be kept while others use up the one that stood in its way.
const ATTEMPTS: usize = 5;

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
SELECT $1, role, version, version FROM unnest($2::text[], $3::bigint[]) AS new (role, version)
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

/// `keys_unused` permits one unused key a role; a used one is no hindrance, but does not come beside an unused one.
const KEEP_KEY: &str = "
INSERT INTO keys (gun, id, role, sealed, used, created_at)
SELECT $1, $2, $3, $4, $5, $6
WHERE NOT EXISTS (SELECT FROM keys WHERE gun = $1 AND role = $3 AND NOT used)
ON CONFLICT (gun, role) WHERE NOT used DO NOTHING";

const UNUSED_KEY: &str = "
SELECT id, role, sealed, used, created_at FROM keys WHERE gun = $1 AND role = $2 AND NOT used";

const FIRST_DATA_KEY: &str = "INSERT INTO data_key (sealed) VALUES ($1) ON CONFLICT DO NOTHING";
const NEXT_DATA_KEY: &str = "UPDATE data_key SET sealed = $1 WHERE sealed = $2";

/// A lock on a row is a write, of a row that nobody changes: it fails where nothing can be written, is durable when
/// it returns, and keeps nobody waiting.
const PING: &str = "SELECT FROM schema_version FOR KEY SHARE";

/// As [`super::Storage::commit`] says.
pub(super) async fn commit(
    client: &mut Object,
    gun: &Gun,
    generation: u64,
    change: &Change,
) -> Result<Committed, Failure> {
    match attempt(client, gun, generation, change).await {
        // The database saw two transactions in each other's way, and undid this one.
        Err(Failure::Database(error)) if is_race(&error) => Ok(Committed::Conflict),
        outcome => outcome,
    }
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
        let event = (rows::stored(timestamp.version)?, timestamp.sha256.as_slice());
        record(&transaction, gun, change.at, Some(event)).await?;
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

async fn publish(transaction: &Transaction<'_>, gun: &Gun, change: &Change) -> Result<(), Failure> {
    let gun = gun.as_str();
    if !change.dropped.is_empty() {
        let dropped: Vec<_> = change.dropped.iter().map(Role::as_str).collect();
        execute(transaction, DROP, &[&gun, &dropped]).await?;
    }
    if change.files.is_empty() {
        return Ok(());
    }
    let roles: Vec<_> = change.files.keys().map(Role::as_str).collect();
    let files = || change.files.values();
    let versions: Vec<_> = files()
        .map(|file| rows::stored(file.version))
        .collect::<Result<_, _>>()?;
    let hashes: Vec<_> = files().map(|file| file.sha256.as_slice()).collect();
    let bytes: Vec<&[u8]> = files().map(|file| file.bytes.as_ref()).collect();
    let times: Vec<_> = files().map(|file| file.stored_at).collect();
    execute(
        transaction,
        STORE,
        &[&gun, &roles, &versions, &hashes, &bytes, &times],
    )
    .await?;
    execute(transaction, PUBLISH, &[&gun, &roles, &versions]).await?;
    Ok(())
}

/// The last of a transaction: from here on all others wait for its end.
async fn record(
    transaction: &Transaction<'_>,
    gun: &Gun,
    at: Timestamp,
    event: Option<(i64, &[u8])>,
) -> Result<(), Failure> {
    let (version, sha256) = event.unzip();
    execute(transaction, RECORD, &[&gun.as_str(), &at, &version, &sha256]).await?;
    Ok(())
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
    execute(&transaction, UNPUBLISH, &[&name]).await?;
    execute(&transaction, FORGET_FILES, &[&name]).await?;
    record(&transaction, gun, at, None).await?;
    transaction.commit().await?;
    Ok(true)
}

/// As [`super::Storage::postpone`] says.
pub(super) async fn postpone(client: &Object, gun: &Gun, until: Timestamp) -> Result<(), Failure> {
    let statement = client.prepare_cached(POSTPONE).await?;
    client.execute(&statement, &[&gun.as_str(), &until]).await?;
    Ok(())
}

/// As [`super::Storage::keep_key`] says.
pub(super) async fn keep_key(client: &Object, gun: &Gun, key: SealedKey) -> Result<SealedKey, Failure> {
    let (gun, role, id) = (gun.as_str(), key.role.as_str(), key.id.to_string());
    let keep = client.prepare_cached(KEEP_KEY).await?;
    let unused = client.prepare_cached(UNUSED_KEY).await?;
    for _ in 0..ATTEMPTS {
        let new: [&(dyn ToSql + Sync); 6] = [&gun, &id, &role, &key.sealed, &key.used, &key.created_at];
        if client.execute(&keep, &new).await? == 1 {
            return Ok(key);
        }
        // Whatever was in the way may be used by now.
        if let Some(row) = client.query_opt(&unused, &[&gun, &role]).await? {
            return rows::key(&row);
        }
    }
    Err(Failure::Contended)
}

/// As [`super::Storage::keep_data_key`] says.
pub(super) async fn keep_data_key(client: &Object, old: Option<&[u8]>, new: &[u8]) -> Result<bool, Failure> {
    let rows = match old {
        None => client.execute(FIRST_DATA_KEY, &[&new]).await?,
        Some(old) => client.execute(NEXT_DATA_KEY, &[&new, &old]).await?,
    };
    Ok(rows == 1)
}

/// As [`super::Storage::ping`] says.
pub(super) async fn ping(client: &Object) -> Result<(), Failure> {
    let statement = client.prepare_cached(PING).await?;
    client.query_one(&statement, &[]).await?;
    Ok(())
}

async fn begin(client: &mut Object) -> Result<Transaction<'_>, Failure> {
    Ok(client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .start()
        .await?)
}

async fn execute(
    transaction: &Transaction<'_>,
    statement: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<u64, Failure> {
    let statement = transaction.prepare_cached(statement).await?;
    Ok(transaction.execute(&statement, parameters).await?)
}

/// Whether the database undid a transaction for another one's sake. A version that is there twice is none: the
/// generation was the right one, so nobody was faster.
fn is_race(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED
    })
}
