//! A trust server's storage in a real PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use countersign::reference::Gun;
use countersign::trustserver::storage::postgres::{Options, Postgres};
use countersign::trustserver::storage::{Change, Committed, File, Storage as _, StorageError};
use countersign::tuf::{Role, sha256};
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::task::JoinSet;

use crate::postgres_server::{Database, shared};
use crate::storage_suite::storage_tests;

mod failures;
mod replicas;
mod transport;

storage_tests!(fresh);

async fn fresh() -> ((), Postgres) {
    ((), open(&shared().database()).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_at_once_agree_on_the_schema() {
    let database = shared().database();
    let mut openers = JoinSet::new();
    for _ in 0..8 {
        let url = database.url();
        openers.spawn(async move { Postgres::open(&url, few()).await });
    }
    for opened in openers.join_all().await {
        opened.unwrap().ping().await.unwrap();
    }
    assert_eq!(database.run("SELECT version FROM schema_version"), "1");
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_and_left_alone() {
    let database = shared().database();
    open(&database).await;
    database.run("UPDATE schema_version SET version = 1000");
    let error = refused(&database.url()).await;
    assert!(error.contains("newer"), "{error}");
    assert_eq!(database.run("SELECT version FROM schema_version"), "1000");
}

#[tokio::test]
async fn a_role_that_may_make_no_tables_can_serve_once_they_are_made() {
    let database = shared().database();
    open(&database).await;
    database.run(
        "CREATE ROLE clerk LOGIN PASSWORD 'clerk';
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO clerk",
    );
    let url = database.url_with("?user=clerk&password=clerk");
    let storage = Postgres::open(&url, few()).await.unwrap();
    let stored = commit(&storage, &gun("registry.example/clerk"), 1).await.unwrap();
    assert_eq!(stored, Committed::Stored);
    storage.ping().await.unwrap();
}

#[tokio::test]
async fn what_is_stored_is_durable_whatever_the_default_of_the_server() {
    let database = shared().database();
    let storage = open(&database).await;
    assert_eq!(database.run("SHOW synchronous_commit"), "off");
    database.run(
        "CREATE TABLE seen (setting text);
        CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$;
        CREATE TRIGGER see AFTER INSERT ON changes FOR EACH ROW EXECUTE FUNCTION see()",
    );
    let name = gun("registry.example/durable");
    assert_eq!(commit(&storage, &name, 1).await.unwrap(), Committed::Stored);
    assert!(storage.delete(&name, Timestamp::UNIX_EPOCH).await.unwrap());
    assert_eq!(database.run("SELECT setting FROM seen"), "on\non");
}

async fn open(database: &Database<'_>) -> Postgres {
    Postgres::open(&database.url(), few()).await.unwrap()
}

/// Stories run beside each other, and share what connections a server has.
fn few() -> Options {
    Options {
        connections: 4,
        ..Options::default()
    }
}

/// Why a database is not opened, as a log tells it.
async fn refused(url: &SecretString) -> String {
    chain(&Postgres::open(url, few()).await.unwrap_err())
}

fn chain(error: &StorageError) -> String {
    let first: &dyn std::error::Error = error;
    let causes: Vec<_> = std::iter::successors(Some(first), |error| error.source())
        .map(ToString::to_string)
        .collect();
    causes.join(": ")
}

fn gun(name: &str) -> Gun {
    name.parse().unwrap()
}

const ROLES: [Role; 4] = [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp];

/// The `version`th file of every role; `author` tells them apart from those of others who are at that version too.
fn publication(author: &str, version: u64) -> Change {
    let files = ROLES.map(|role| {
        let bytes = Bytes::from(format!("{role} {version} {author}"));
        let file = File {
            version,
            sha256: sha256(&bytes),
            bytes,
            stored_at: Timestamp::UNIX_EPOCH,
        };
        (role, file)
    });
    Change {
        files: BTreeMap::from(files),
        dropped: BTreeSet::new(),
        renew_at: None,
        keys_used: BTreeSet::new(),
        at: Timestamp::UNIX_EPOCH,
    }
}

/// Takes a repository, all of whose roles are at version `version - 1`, to the next.
async fn commit(storage: &Postgres, gun: &Gun, version: u64) -> Result<Committed, StorageError> {
    storage.commit(gun, version - 1, publication("", version)).await
}

/// The one version that all roles of a repository are at, as its generation is; 0 if there is no repository.
async fn whole(storage: &Postgres, gun: &Gun) -> u64 {
    let Some(present) = storage.repository(gun).await.unwrap() else {
        return 0;
    };
    let version = present.generation;
    assert_eq!(present.files.len(), ROLES.len(), "{gun:?}");
    for (role, file) in &present.files {
        assert_eq!(file.version, version, "{gun:?} {role}");
        assert_eq!(file.sha256, sha256(&file.bytes), "{gun:?} {role}");
    }
    version
}
