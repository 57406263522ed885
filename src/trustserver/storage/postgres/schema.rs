//! The tables, and how those of an older program become ours.

use std::error::Error;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::time::timeout;
use tokio_postgres::Transaction;

/// A migration a version: the first makes the tables, each further one changes what the one before has left. What
/// was released is never edited.
const MIGRATIONS: [&str; 1] = [FIRST];

/// Names compare byte for byte, as they do with us, whatever the language of the database.
const FIRST: &str = "
CREATE TABLE repositories (
    gun text COLLATE \"C\" PRIMARY KEY,
    generation bigint NOT NULL CHECK (generation > 0),
    -- False after a deletion: the row stays, so that no generation comes twice.
    present boolean NOT NULL,
    renew_at timestamptz
);
CREATE INDEX repositories_due ON repositories (renew_at, gun) WHERE renew_at IS NOT NULL;

CREATE TABLE files (
    gun text COLLATE \"C\" NOT NULL REFERENCES repositories,
    role text COLLATE \"C\" NOT NULL,
    version bigint NOT NULL CHECK (version >= 0),
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    bytes bytea NOT NULL,
    stored_at timestamptz NOT NULL,
    PRIMARY KEY (gun, role, version)
);
CREATE INDEX files_by_hash ON files (gun, role, sha256);

CREATE TABLE roles (
    gun text COLLATE \"C\" NOT NULL REFERENCES repositories,
    role text COLLATE \"C\" NOT NULL,
    -- The highest version ever; current is null where none is published.
    used bigint NOT NULL,
    current bigint,
    PRIMARY KEY (gun, role),
    FOREIGN KEY (gun, role, current) REFERENCES files
);

CREATE TABLE keys (
    -- The order in which they came.
    n bigint GENERATED ALWAYS AS IDENTITY,
    -- Keys may be there before the repository is.
    gun text COLLATE \"C\" NOT NULL,
    id text COLLATE \"C\" NOT NULL,
    role text COLLATE \"C\" NOT NULL,
    sealed bytea NOT NULL,
    used boolean NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (gun, role, id)
);

CREATE TABLE changes (
    id bigint PRIMARY KEY,
    created_at timestamptz NOT NULL,
    gun text COLLATE \"C\" NOT NULL,
    -- Both are null for a deletion.
    version bigint,
    sha256 bytea CHECK (octet_length(sha256) = 32),
    CHECK ((version IS NULL) = (sha256 IS NULL))
);
CREATE INDEX changes_by_gun ON changes (gun, id);

-- One row each.
CREATE TABLE changefeed (one boolean PRIMARY KEY DEFAULT true CHECK (one), last bigint NOT NULL);
INSERT INTO changefeed (last) VALUES (0);
CREATE TABLE data_key (one boolean PRIMARY KEY DEFAULT true CHECK (one), sealed bytea NOT NULL);
";

/// A database that we do not understand.
#[derive(Debug, thiserror::Error)]
#[error("its schema is of version {found}, and this program knows none above {known}: it is of a newer one")]
struct Newer {
    found: i32,
    known: usize,
}

/// The lock under which servers that start at once take turns; any number that nobody else uses, here the first
/// letters of our name.
const LOCK: i64 = i64::from_be_bytes(*b"countsgn");
/// For a large database to change its layout; a rolling update waits for it.
const WITHIN: Duration = Duration::from_secs(600);

/// Brings the schema up to date, in one transaction; whoever comes second finds it done.
pub(super) async fn migrate(pool: &Pool) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut client = pool.get().await?;
    timeout(WITHIN, async {
        let transaction = client.transaction().await?;
        // The limit of a session is for statements that answer somebody.
        transaction
            .batch_execute("SET LOCAL statement_timeout = 0")
            .await?;
        transaction
            .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
            .await?;
        advance(&transaction).await?;
        Ok(transaction.commit().await?)
    })
    .await?
}

async fn advance(transaction: &Transaction<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
    let version = version(transaction).await?;
    let newer = || Newer {
        found: version,
        known: MIGRATIONS.len(),
    };
    let done = usize::try_from(version).map_err(|_| newer())?;
    for migration in MIGRATIONS.get(done..).ok_or_else(newer)? {
        transaction.batch_execute(migration).await?;
    }
    let now = i32::try_from(MIGRATIONS.len())?;
    if now != version {
        transaction
            .execute("UPDATE schema_version SET version = $1", &[&now])
            .await?;
    }
    Ok(())
}

/// The version that is there: zero in a new database.
async fn version(transaction: &Transaction<'_>) -> Result<i32, tokio_postgres::Error> {
    // Asked for first: an owner may have taken from us the right to make tables once they are made.
    let there = "SELECT to_regclass('schema_version') IS NOT NULL";
    if !transaction.query_one(there, &[]).await?.try_get::<_, bool>(0)? {
        transaction
            .batch_execute(
                "CREATE TABLE schema_version (
                    one boolean PRIMARY KEY DEFAULT true CHECK (one), version integer NOT NULL);
                INSERT INTO schema_version (version) VALUES (0);",
            )
            .await?;
    }
    transaction
        .query_one("SELECT version FROM schema_version", &[])
        .await?
        .try_get(0)
}
