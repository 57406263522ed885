//! The storage of a trust server in a folder, told the stories that hold for every storage, and what only a folder has.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use countersign::reference::Gun;
use countersign::trustserver::storage::sqlite::Sqlite;
use countersign::trustserver::storage::{Change, Committed, File, Page, Storage as _};
use countersign::tuf::{Role, sha256};
use jiff::Timestamp;
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

/// In which folder a process that a test started writes.
const CHILD: &str = "COUNTERSIGN_TEST_STORAGE";
/// How a child says that a write is durable.
const STORED: &str = "stored ";

fn app() -> Gun {
    "registry.example/app".parse().unwrap()
}

/// Writes a version on top of whatever is there, if nobody else is faster; which.
async fn write_next(storage: &Sqlite) -> Option<u64> {
    let (generation, last) = match storage.repository(&app()).await.unwrap() {
        Some(present) => (present.generation, present.used[&Role::Timestamp]),
        None => (storage.vacancy(&app()).await.unwrap().0, 0),
    };
    let version = last + 1;
    let bytes = format!("version {version}").into_bytes();
    let file = File {
        version,
        sha256: sha256(&bytes),
        bytes: bytes.into(),
        stored_at: Timestamp::UNIX_EPOCH,
    };
    let change = Change {
        files: [(Role::Timestamp, file)].into(),
        dropped: BTreeSet::new(),
        renew_at: None,
        keys_used: BTreeSet::new(),
        at: Timestamp::UNIX_EPOCH,
    };
    let committed = storage.commit(&app(), generation, change).await.unwrap();
    (committed == Committed::Stored).then_some(version)
}

/// Runs this very test in another process, which writes in `dir`.
fn child(test: &str, dir: &Path) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", test]).env(CHILD, dir);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// What a child says it has stored, as it says so.
fn stored(child: &mut Child) -> impl Iterator<Item = u64> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines = lines.map_while(Result::ok);
    // The test runner does not end the line in which it names the test.
    lines.filter_map(|line| line.split_once(STORED)?.1.parse().ok())
}

/// The child's part: writes `most` versions and says so.
async fn write_as_child(dir: &OsStr, most: usize) {
    let storage = Sqlite::open(Path::new(dir)).await.unwrap();
    let (mut out, mut left) = (io::stdout(), most);
    while left > 0 {
        if let Some(version) = write_next(&storage).await {
            writeln!(out, "{STORED}{version}").unwrap();
            left -= 1;
        }
    }
}

#[tokio::test]
async fn processes_that_share_a_folder_take_nothing_from_each_other() {
    const EACH: usize = 20;
    if let Some(dir) = env::var_os(CHILD) {
        return write_as_child(&dir, EACH).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let test = "storage::processes_that_share_a_folder_take_nothing_from_each_other";
    let mut children: Vec<_> = (0..3).map(|_| child(test, dir.path())).collect();
    let mut versions: Vec<_> = children
        .iter_mut()
        .map(stored)
        .collect::<Vec<_>>()
        .into_iter()
        .flatten()
        .collect();
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    versions.sort_unstable();
    assert!(versions.iter().copied().eq(1..=60), "{versions:?}");

    let storage = Sqlite::open(dir.path()).await.unwrap();
    assert_eq!(storage.regressed(), None);
    assert_eq!(storage.versions(&app()).await.unwrap().len(), 60);
    let told = storage.changes(None, Page::After(0, 100)).await.unwrap();
    assert!(told.is_sorted_by(|a, b| a.id < b.id));
    assert_eq!(told.len(), 60);
}

#[tokio::test]
async fn a_killed_server_has_lost_nothing_that_it_said_was_stored() {
    if let Some(dir) = env::var_os(CHILD) {
        return write_as_child(&dir, usize::MAX).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let test = "storage::a_killed_server_has_lost_nothing_that_it_said_was_stored";
    for life in 1..=3 {
        let mut child = child(test, dir.path());
        let mut stored = stored(&mut child);
        stored.nth(10 * life).unwrap();
        child.kill().unwrap();
        let last = stored.last();
        child.wait().unwrap();

        let storage = Sqlite::open(dir.path()).await.unwrap();
        // The counter was not written after the last commits; that is no alarm.
        assert_eq!(storage.regressed(), None);
        let now = storage.repository(&app()).await.unwrap().unwrap();
        let version = now.files[&Role::Timestamp].version;
        assert!(last.is_none_or(|said| said <= version), "{last:?} {version}");
        assert_eq!(now.files[&Role::Timestamp].bytes, format!("version {version}"));
        assert_eq!(now.generation, version);
    }
}
