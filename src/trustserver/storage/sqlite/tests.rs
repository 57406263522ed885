use std::sync::mpsc;

use super::*;

async fn ping(dir: &Path) -> Sqlite {
    let storage = Sqlite::open(dir).await.unwrap();
    storage.ping().await.unwrap();
    storage
}

/// One write, whatever the pings before it.
async fn write(storage: &Sqlite) {
    let old = storage.data_key().await.unwrap();
    assert!(storage.keep_data_key(old.as_deref(), b"any").await.unwrap());
}

/// Puts the files of a closed database into another folder.
fn copy(from: &Path, to: &Path, names: &[&str]) {
    for name in names {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

fn source(error: &StorageError) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}

#[tokio::test]
async fn an_older_database_put_back_is_noticed_until_it_is_accepted() {
    let (dir, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(ping(dir.path()).await);
    copy(dir.path(), backup.path(), &[FILE]);
    let storage = ping(dir.path()).await;
    for _ in 0..5 {
        write(&storage).await;
    }
    drop(storage);

    copy(backup.path(), dir.path(), &[FILE]);
    let storage = Sqlite::open(dir.path()).await.unwrap();
    let older = Some(Regression::Older {
        database: 1,
        counter: 7,
    });
    assert_eq!(storage.regressed(), older);
    // Not even by as many writes does it become the newest.
    for _ in 0..9 {
        write(&storage).await;
    }
    drop(storage);
    let storage = Sqlite::open(dir.path()).await.unwrap();
    assert_eq!(storage.regressed(), older);
    storage.accept_regression().await.unwrap();
    write(&storage).await;
    drop(storage);
    assert_eq!(Sqlite::open(dir.path()).await.unwrap().regressed(), None);

    copy(backup.path(), dir.path(), &[FILE]);
    assert!(Sqlite::open(dir.path()).await.unwrap().regressed().is_some());
}

#[tokio::test]
async fn a_database_that_is_gone_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    drop(ping(dir.path()).await);
    fs::remove_file(dir.path().join(FILE)).unwrap();
    let regressed = Sqlite::open(dir.path()).await.unwrap().regressed();
    let gone = Regression::Older {
        database: 0,
        counter: 1,
    };
    assert_eq!(regressed, Some(gone));
}

#[tokio::test]
async fn a_lost_or_spoilt_counter_is_noticed_until_it_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    drop(ping(dir.path()).await);
    let counter = dir.path().join("trust.counter");
    fs::remove_file(&counter).unwrap();
    for spoilt in [&b""[..], b"-1", b"1 2", b"\xff", b"9999999999999999999999999"] {
        let storage = ping(dir.path()).await;
        assert_eq!(storage.regressed(), Some(Regression::Unknown));
        drop(storage);
        fs::write(&counter, spoilt).unwrap();
    }
    let storage = ping(dir.path()).await;
    storage.accept_regression().await.unwrap();
    drop(storage);
    assert_eq!(Sqlite::open(dir.path()).await.unwrap().regressed(), None);
}

#[tokio::test]
async fn a_counter_that_is_behind_is_no_alarm() {
    let dir = tempfile::tempdir().unwrap();
    let storage = ping(dir.path()).await;
    for _ in 0..5 {
        write(&storage).await;
    }
    let counter = fs::read_to_string(dir.path().join("trust.counter")).unwrap();
    drop(storage);
    // As if the process had been killed before it could write it.
    fs::write(dir.path().join("trust.counter"), counter).unwrap();
    assert_eq!(Sqlite::open(dir.path()).await.unwrap().regressed(), None);
    let whole = fs::read_to_string(dir.path().join("trust.counter")).unwrap();
    assert_eq!(whole, "6\n");
}

#[tokio::test]
async fn databases_that_are_not_fit_are_refused() {
    for (unfit, says) in [
        (
            "PRAGMA user_version = 99",
            "newer version of this program (layout 99",
        ),
        ("PRAGMA application_id = 7", "another program"),
        ("PRAGMA user_version = -1", "another program"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        drop(ping(dir.path()).await);
        let connection = Connection::open(dir.path().join(FILE)).unwrap();
        connection.execute_batch(unfit).unwrap();
        drop(connection);
        let refused = Sqlite::open(dir.path()).await.unwrap_err();
        assert!(matches!(refused, StorageError::Open { .. }), "{refused}");
        assert!(source(&refused).contains(says), "{unfit}: {}", source(&refused));
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join(FILE),
        "no database at all, only some text, repeated".repeat(99),
    )
    .unwrap();
    assert!(Sqlite::open(dir.path()).await.is_err());
}

#[tokio::test]
async fn a_damaged_row_is_damage_and_no_default() {
    let dir = tempfile::tempdir().unwrap();
    let storage = ping(dir.path()).await;
    let gun: Gun = "registry.example/app".parse().unwrap();
    for (damage, what) in [
        (
            "INSERT INTO repository VALUES ('registry.example/app', -1, TRUE, 1)",
            "repository",
        ),
        (
            "UPDATE repository SET generation = 1; INSERT INTO role VALUES ('registry.example/app', '../x', 1, NULL)",
            "role name",
        ),
        ("UPDATE role SET role = 'root', used = 'x'", "role"),
        (
            "UPDATE role SET used = 1; INSERT INTO file VALUES ('registry.example/app', 'root', 1, x'00', 0, x''); UPDATE role SET current = 1",
            "file",
        ),
    ] {
        let connection = Connection::open(dir.path().join(FILE)).unwrap();
        connection.execute_batch(damage).unwrap();
        let refused = storage.repository(&gun).await.unwrap_err();
        assert!(
            matches!(refused, StorageError::Damaged { what: it } if it == what),
            "{damage}: {refused}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_takes_long_blocks_no_reader() {
    let dir = tempfile::tempdir().unwrap();
    let storage = ping(dir.path()).await;
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (end, may_end) = mpsc::channel::<()>();
    let slow = storage.write("waiting", move |transaction| {
        transaction.execute("INSERT INTO data_key VALUES (1, 'unseen')", [])?;
        begun.send(()).unwrap();
        may_end.recv().unwrap();
        Ok(Outcome::Changed(()))
    });
    let readers = async {
        has_begun.await.unwrap();
        for _ in 0..2 * READERS {
            assert_eq!(storage.data_key().await.unwrap(), None);
        }
        // Writers that wait take no thread away from readers either.
        let gun: Gun = "registry.example/app".parse().unwrap();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..600 {
            let (storage, gun) = (storage.clone(), gun.clone());
            waiting.spawn(async move { storage.postpone(&gun, Timestamp::UNIX_EPOCH).await });
        }
        assert_eq!(storage.repositories(None, 1).await.unwrap(), []);
        end.send(()).unwrap();
        waiting.join_all().await
    };
    let (written, waited) = tokio::join!(slow, readers);
    written.unwrap();
    assert!(waited.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_may_be_opened_by_many_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let dir = dir.path().to_owned();
        opening.spawn(async move { Sqlite::open(&dir).await.unwrap() });
    }
    let opened = opening.join_all().await;
    let mut keeping = tokio::task::JoinSet::new();
    for storage in &opened {
        let storage = storage.clone();
        keeping.spawn(async move { storage.keep_data_key(None, b"any").await.unwrap() });
    }
    let kept = keeping.join_all().await;
    assert_eq!(kept.into_iter().filter(|kept| *kept).count(), 1);
    drop(opened);
    assert_eq!(Sqlite::open(dir.path()).await.unwrap().regressed(), None);
}
