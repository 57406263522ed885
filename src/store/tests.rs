use super::*;

const SERVER: &str = "https://trust.example.com/";

fn gun() -> Gun {
    "registry.example.com/team/app".parse().unwrap()
}

fn state(version: u64) -> State {
    let seen = Seen {
        version,
        sha256: [u8::try_from(version % 256).unwrap(); 32],
    };
    State {
        roots: (0..=version.min(3))
            .map(|n| Bytes::from(format!("root {n}")))
            .collect(),
        seen: [Role::Timestamp, Role::Targets, Role::releases()]
            .map(|role| (role, seen))
            .into(),
        files: [(Role::Timestamp, Bytes::from_static(b"timestamp"))].into(),
        verified_at: Some("2030-01-01T00:00:00Z".parse().unwrap()),
    }
}

#[test]
fn what_is_saved_is_loaded_by_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state")).unwrap();
    let empty = store.load(SERVER, &gun()).unwrap();
    assert!(empty.state.is_empty());
    store.save(SERVER, &gun(), &empty, &state(1)).unwrap();
    drop(store);
    let store = Store::open(&dir.path().join("state")).unwrap();
    assert_eq!(store.load(SERVER, &gun()).unwrap().state, state(1));
    assert!(
        store
            .load("https://other.example.com/", &gun())
            .unwrap()
            .state
            .is_empty(),
        "state is per server"
    );
    assert!(
        store
            .load(SERVER, &"registry.example.com/team/other".parse().unwrap())
            .unwrap()
            .state
            .is_empty()
    );
}

#[test]
fn a_save_that_did_not_see_the_latest_state_is_refused() {
    let store = Store::memory().unwrap();
    let first = store.load(SERVER, &gun()).unwrap();
    let second = store.save(SERVER, &gun(), &first, &state(5)).unwrap();
    let late = store.save(SERVER, &gun(), &first, &state(4));
    assert!(matches!(late, Err(StoreError::Conflict { .. })));
    let same = store.save(SERVER, &gun(), &first, &state(5)).unwrap();
    assert_eq!(same.row(), second.row(), "the very same is no conflict");
    store.save(SERVER, &gun(), &second, &state(6)).unwrap();
    assert_eq!(store.load(SERVER, &gun()).unwrap().state.seen, state(6).seen);
}

#[test]
fn what_is_loaded_is_of_one_revision_while_another_process_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, reader) = (Store::open(dir.path()).unwrap(), Store::open(dir.path()).unwrap());
    let writing = std::thread::spawn(move || {
        (1..=300).fold(Record::default(), |record, version| {
            writer.save(SERVER, &gun(), &record, &state(version)).unwrap()
        })
    });
    while !writing.is_finished() {
        let record = reader.load(SERVER, &gun()).unwrap();
        if record.row() > 0 {
            assert_eq!(record.state, state(record.row()));
        }
    }
    assert_eq!(reader.load(SERVER, &gun()).unwrap().row(), 300);
}

#[test]
fn a_repository_is_forgotten_on_one_server_or_on_all_and_no_other_is() {
    let store = Store::memory().unwrap();
    let other: Gun = "registry.example.com/team/other".parse().unwrap();
    let with_authority = format!("{SERVER}#ca=2a");
    for (server, gun) in [
        (SERVER, gun()),
        (&with_authority, gun()),
        ("https://two.example.com/", gun()),
        (SERVER, other.clone()),
    ] {
        store.save(server, &gun, &Record::default(), &state(3)).unwrap();
    }
    let forgotten = store.forget(Some(SERVER), &gun()).unwrap();
    assert_eq!(forgotten.len(), 2);
    assert_eq!(forgotten[1].server, with_authority);
    assert_eq!((forgotten[0].roots, forgotten[0].versions.len()), (4, 3));
    assert_eq!(forgotten[0].versions[0], ("targets".to_owned(), 3));
    assert!(store.load(SERVER, &gun()).unwrap().state.is_empty());
    assert_eq!(
        store.forget(None, &gun()).unwrap()[0].server,
        "https://two.example.com/"
    );
    assert_eq!(store.forget(None, &gun()).unwrap(), []);
    assert_eq!(store.load(SERVER, &other).unwrap().state.seen, state(3).seen);
}

#[test]
#[cfg(unix)]
fn nobody_else_may_read_the_state() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state")).unwrap();
    store.save(SERVER, &gun(), &Record::default(), &state(1)).unwrap();
    for entry in fs::read_dir(dir.path().join("state")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            entry.path()
        );
    }
}

#[test]
fn in_memory_no_files_are_kept() {
    let store = Store::memory().unwrap();
    store.save(SERVER, &gun(), &Record::default(), &state(1)).unwrap();
    let loaded = store.load(SERVER, &gun()).unwrap().state;
    assert!(loaded.files.is_empty());
    assert_eq!(loaded.seen, state(1).seen);
}

#[test]
fn a_damaged_database_is_an_error_and_not_a_fresh_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), vec![b'x'; 8192]).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Open { .. })));
    assert_eq!(fs::read(dir.path().join(FILE)).unwrap().len(), 8192);
}

#[test]
fn a_database_of_a_newer_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let connection = Connection::open(dir.path().join(FILE)).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(
        Store::open(dir.path()),
        Err(StoreError::Layout { found: 99, .. })
    ));
}

/// A child process writes one version after the other and is killed at some moment; what it reported as written
/// is there, whole.
#[test]
fn killing_the_writer_loses_nothing_older() {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Command, Stdio};
    const DIR: &str = "COUNTERSIGN_TEST_STORE_WRITER";
    if let Some(dir) = std::env::var_os(DIR) {
        let store = Store::open(Path::new(&dir)).unwrap();
        let mut record = store.load(SERVER, &gun()).unwrap();
        for version in record
            .state
            .seen
            .get(&Role::Targets)
            .map_or(1, |seen| seen.version + 1)..
        {
            record = store.save(SERVER, &gun(), &record, &state(version)).unwrap();
            writeln!(std::io::stderr(), "written {version}").unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 0..12 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::tests::killing_the_writer_loses_nothing_older",
                "--nocapture",
            ])
            .env(DIR, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stderr.take().unwrap()).lines();
        let mut written = 0;
        for _ in 0..=round {
            let line = lines.next().unwrap().unwrap();
            written = line
                .strip_prefix("written ")
                .unwrap_or_else(|| panic!("{line}"))
                .parse()
                .unwrap();
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        let loaded = Store::open(dir.path())
            .unwrap()
            .load(SERVER, &gun())
            .unwrap()
            .state;
        let version = loaded.seen[&Role::Targets].version;
        assert!(version >= written, "{version} is older than {written}");
        assert_eq!(loaded, state(version), "old or new, never mixed");
    }
}
