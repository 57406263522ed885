//! Keys (§2.5, §8.5), the data key that they are sealed with, and whether anything can be kept at all.

use deadpool_postgres::{Object, Transaction};

use super::super::SealedKey;
use super::rows;
use super::session::Failure;
use super::write::{begin, execute};
use crate::reference::Gun;
use crate::tuf::{Role, sha256};

/// Keeps others out until the transaction ends. There may be no row to lock yet.
const LOCK: &str = "SELECT pg_advisory_xact_lock($1)";

const UNUSED: &str = "
SELECT id, role, sealed, used, created_at FROM keys
WHERE gun = $1 AND role = $2 AND NOT used ORDER BY created_at, n LIMIT 1";

/// Of a key that is held already nothing changes but that it may have been used.
const ADD: &str = "
INSERT INTO keys (gun, id, role, sealed, used, created_at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (gun, role, id) DO UPDATE SET used = keys.used OR excluded.used";

const FIRST_DATA_KEY: &str = "INSERT INTO data_key (sealed) VALUES ($1) ON CONFLICT DO NOTHING";
const NEXT_DATA_KEY: &str = "UPDATE data_key SET sealed = $1 WHERE sealed = $2";

/// A lock on a row is a write, of a row that nobody changes: it fails where nothing can be written, is durable when
/// it returns, and keeps nobody waiting.
const PING: &str = "SELECT FROM schema_version FOR KEY SHARE";

/// As [`super::Storage::keep_key`] says.
pub(super) async fn keep_key(client: &mut Object, gun: &Gun, key: SealedKey) -> Result<SealedKey, Failure> {
    let transaction = begin(client).await?;
    execute(&transaction, LOCK, &[&lock(gun, &key.role)]).await?;
    // A statement of its own: it has to see what was kept while we waited for the lock.
    let unused = transaction.prepare_cached(UNUSED).await?;
    let unused = transaction
        .query_opt(&unused, &[&gun.as_str(), &key.role.as_str()])
        .await?;
    if let Some(row) = unused {
        return rows::key(&row);
    }
    add(&transaction, gun, &key).await?;
    transaction.commit().await?;
    Ok(key)
}

pub(super) async fn add(transaction: &Transaction<'_>, gun: &Gun, key: &SealedKey) -> Result<(), Failure> {
    let (gun, id, role) = (gun.as_str(), key.id.to_string(), key.role.as_str());
    execute(
        transaction,
        ADD,
        &[&gun, &id, &role, &key.sealed, &key.used, &key.created_at],
    )
    .await?;
    Ok(())
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

/// The number of the lock for the keys of a role. Two that share one wait for each other without need, no more.
fn lock(gun: &Gun, role: &Role) -> i64 {
    let hash = sha256(format!("{} {role}", gun.as_str()).as_bytes());
    i64::from_be_bytes(hash.first_chunk().copied().unwrap_or_default())
}
