//! The storage of a trust server in a folder, told the stories that hold for every storage, and what only a folder has.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use countersign::trustserver::storage::sqlite::Sqlite;
use tempfile::TempDir;

use crate::storage_suite::{find_all, storage_tests, write_all};

async fn fresh() -> (TempDir, Sqlite) {
    let dir = tempfile::tempdir().unwrap();
    let storage = Sqlite::open(dir.path()).await.unwrap();
    (dir, storage)
}

storage_tests!(fresh);

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let (dir, storage) = fresh().await;
    write_all(&storage).await;
    drop(storage);
    find_all(&Sqlite::open(dir.path()).await.unwrap()).await;
}

#[tokio::test]
async fn nobody_else_reads_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a/b");
    let storage = Sqlite::open(&folder).await.unwrap();
    write_all(&storage).await;
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.clone()), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(path.clone()), 0o600, "{}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(
        names,
        [
            "trust.counter",
            "trust.sqlite",
            "trust.sqlite-shm",
            "trust.sqlite-wal"
        ]
    );
}
