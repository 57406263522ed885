//! What is read, each by a single statement: so it is of one state of the database, whatever is being written.

use std::collections::BTreeMap;

use deadpool_postgres::Object;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::{ChangeRecord, File, Page, Repository, SealedKey};
use super::rows;
use super::session::Failure;
use crate::reference::Gun;
use crate::tuf::Role;

const REPOSITORY: &str = "
SELECT r.generation, o.role, o.used, f.version, f.sha256, f.bytes, f.stored_at
FROM repositories r
LEFT JOIN roles o ON o.gun = r.gun
LEFT JOIN files f ON f.gun = o.gun AND f.role = o.role AND f.version = o.current
WHERE r.gun = $1 AND r.present";

const VACANCY: &str = "
SELECT r.generation, r.present, o.role, o.used
FROM repositories r LEFT JOIN roles o ON o.gun = r.gun
WHERE r.gun = $1";

const CURRENT: &str = "
SELECT f.version, f.sha256, f.bytes, f.stored_at
FROM roles o JOIN files f ON f.gun = o.gun AND f.role = o.role AND f.version = o.current
WHERE o.gun = $1 AND o.role = $2";

const BY_HASH: &str = "
SELECT version, sha256, bytes, stored_at FROM files
WHERE gun = $1 AND role = $2 AND sha256 = $3 ORDER BY version DESC LIMIT 1";

const BY_VERSION: &str = "
SELECT version, sha256, bytes, stored_at FROM files WHERE gun = $1 AND role = $2 AND version = $3";

const VERSIONS: &str = "SELECT role, version FROM files WHERE gun = $1";

const KEYS: &str = "
SELECT id, role, sealed, used, created_at FROM keys WHERE gun = $1 ORDER BY created_at, n";

const DUE: &str = "
SELECT gun FROM repositories WHERE renew_at <= $1 ORDER BY renew_at, gun LIMIT $2";

const REPOSITORIES: &str = "
SELECT gun FROM repositories WHERE gun > $1 AND present ORDER BY gun LIMIT $2";

const AFTER: &str = "
SELECT id, created_at, gun, version, sha256 FROM changes WHERE id > $1 ORDER BY id LIMIT $2";

const BEFORE: &str = "
SELECT id, created_at, gun, version, sha256 FROM changes WHERE id < $1 ORDER BY id DESC LIMIT $2";

const AFTER_OF_GUN: &str = "
SELECT id, created_at, gun, version, sha256 FROM changes WHERE id > $1 AND gun = $3 ORDER BY id LIMIT $2";

const BEFORE_OF_GUN: &str = "
SELECT id, created_at, gun, version, sha256 FROM changes WHERE id < $1 AND gun = $3 ORDER BY id DESC LIMIT $2";

pub(super) async fn repository(client: &Object, gun: &Gun) -> Result<Option<Repository>, Failure> {
    const WHAT: &str = "repository";
    let rows = query(client, REPOSITORY, &[&gun.as_str()]).await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let mut repository = Repository {
        generation: rows::number(first, "generation", WHAT)?,
        files: BTreeMap::new(),
        used: BTreeMap::new(),
    };
    for row in &rows {
        let Some((role, used)) = rows::used(row, WHAT)? else {
            continue;
        };
        if let Some(file) = rows::joined_file(row)? {
            repository.files.insert(role.clone(), file);
        }
        repository.used.insert(role, used);
    }
    Ok(Some(repository))
}

pub(super) async fn vacancy(client: &Object, gun: &Gun) -> Result<(u64, BTreeMap<Role, u64>), Failure> {
    const WHAT: &str = "repository";
    let rows = query(client, VACANCY, &[&gun.as_str()]).await?;
    let Some(first) = rows.first() else {
        return Ok((0, BTreeMap::new()));
    };
    let generation = rows::number(first, "generation", WHAT)?;
    let used = rows.iter().filter_map(|row| rows::used(row, WHAT).transpose());
    let used = used.collect::<Result<_, _>>()?;
    if first.try_get("present")? {
        return Ok((0, used));
    }
    Ok((generation, used))
}

pub(super) async fn current(client: &Object, gun: &Gun, role: &Role) -> Result<Option<File>, Failure> {
    file(client, CURRENT, &[&gun.as_str(), &role.as_str()]).await
}

pub(super) async fn by_hash(
    client: &Object,
    gun: &Gun,
    role: &Role,
    sha256: &[u8; 32],
) -> Result<Option<File>, Failure> {
    file(
        client,
        BY_HASH,
        &[&gun.as_str(), &role.as_str(), &sha256.as_slice()],
    )
    .await
}

pub(super) async fn by_version(
    client: &Object,
    gun: &Gun,
    role: &Role,
    version: u64,
) -> Result<Option<File>, Failure> {
    // A version that cannot be stored was not.
    let Ok(version) = i64::try_from(version) else {
        return Ok(None);
    };
    file(client, BY_VERSION, &[&gun.as_str(), &role.as_str(), &version]).await
}

pub(super) async fn versions(client: &Object, gun: &Gun) -> Result<Vec<(Role, u64)>, Failure> {
    let rows = query(client, VERSIONS, &[&gun.as_str()]).await?;
    let mut versions: Vec<_> = rows.iter().map(rows::version).collect::<Result<_, _>>()?;
    // The database would compare roles as text.
    versions.sort_unstable();
    Ok(versions)
}

pub(super) async fn keys(client: &Object, gun: &Gun) -> Result<Vec<SealedKey>, Failure> {
    let rows = query(client, KEYS, &[&gun.as_str()]).await?;
    rows.iter().map(rows::key).collect()
}

pub(super) async fn changes(
    client: &Object,
    gun: Option<&Gun>,
    page: Page,
) -> Result<Vec<ChangeRecord>, Failure> {
    let (id, most, after) = match page {
        Page::After(id, most) => (id, most, true),
        Page::Before(id, most) => (id, most, false),
        Page::Newest(most) => (u64::MAX, most, false),
    };
    let (id, most) = (rows::bound(id), rows::bound(most));
    let rows = match (gun, after) {
        (None, true) => query(client, AFTER, &[&id, &most]).await?,
        (None, false) => query(client, BEFORE, &[&id, &most]).await?,
        (Some(gun), true) => query(client, AFTER_OF_GUN, &[&id, &most, &gun.as_str()]).await?,
        (Some(gun), false) => query(client, BEFORE_OF_GUN, &[&id, &most, &gun.as_str()]).await?,
    };
    let mut records: Vec<_> = rows.iter().map(rows::change).collect::<Result<_, _>>()?;
    if !after {
        records.reverse();
    }
    Ok(records)
}

pub(super) async fn due(client: &Object, at: Timestamp, most: usize) -> Result<Vec<Gun>, Failure> {
    let rows = query(client, DUE, &[&at, &rows::bound(most)]).await?;
    rows.iter().map(rows::gun).collect()
}

pub(super) async fn repositories(
    client: &Object,
    after: Option<&Gun>,
    most: usize,
) -> Result<Vec<Gun>, Failure> {
    // No name is empty, so all of them come after that.
    let after = after.map_or("", Gun::as_str);
    let rows = query(client, REPOSITORIES, &[&after, &rows::bound(most)]).await?;
    rows.iter().map(rows::gun).collect()
}

pub(super) async fn data_key(client: &Object) -> Result<Option<Vec<u8>>, Failure> {
    let rows = query(client, "SELECT sealed FROM data_key", &[]).await?;
    Ok(rows.first().map(|row| row.try_get("sealed")).transpose()?)
}

async fn file(
    client: &Object,
    statement: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Option<File>, Failure> {
    let rows = query(client, statement, parameters).await?;
    rows.first().map(rows::file).transpose()
}

/// Prepared once a connection: then a read is one way there and back.
async fn query(
    client: &Object,
    statement: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Failure> {
    let statement = client.prepare_cached(statement).await?;
    Ok(client.query(&statement, parameters).await?)
}
