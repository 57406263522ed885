//! Repositories in archives: what an attacker puts into one, and what clients make of what was moved.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use countersign::reference::Gun;
use countersign::trustserver::interchange::dump::Dump;
use countersign::trustserver::interchange::{
    Archive, Imported, InterchangeError, Over, Parcel, archive, export, import,
};
use countersign::trustserver::seal::{OperatorKey, Sealer};
use countersign::trustserver::storage::sqlite::Sqlite;
use countersign::trustserver::storage::{File, Storage};
use countersign::tuf::{
    Answer, Error, Form, Limits, Pin, Purpose, Request, Role, State, Step, Task, Update, Verified, sha256,
};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::repo::{Files, GUN, Key, NOW, Repo};

/// Text of 32 bytes in hex.
const SEALING_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A server's database.
struct Place {
    storage: Sqlite,
    sealer: Sealer,
    _folder: TempDir,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Sqlite::open(folder.path()).await.unwrap();
        let key = OperatorKey::of_text(SEALING_KEY).unwrap();
        Self {
            sealer: Sealer::open(&storage, &key).await.unwrap(),
            storage,
            _folder: folder,
        }
    }

    async fn import(&self, parcel: &Parcel, over: Over) -> Result<Imported, InterchangeError> {
        import(&self.storage, &self.sealer, parcel, over, now()).await
    }

    /// What goes into another place by an archive.
    async fn exported(&self, gun: &str) -> Parcel {
        let parcel = export(&self.storage, &self.sealer, &name(gun)).await.unwrap();
        let bytes = archive::write(&parcel, None, now(), Vec::new()).unwrap();
        Archive::read(bytes.as_slice()).unwrap().open(None).unwrap()
    }

    /// What a client makes of the repository that remembers `prior`.
    async fn verified(&self, gun: &str, prior: State, now: Timestamp) -> Result<Box<Verified>, Error> {
        let task = Task {
            gun: name(gun),
            pin: Arc::new(Pin::first_use()),
            signers: BTreeSet::new(),
            attribution: true,
            purpose: Purpose::Trust,
            limits: Limits::default(),
            now,
        };
        let (mut update, mut requests) = Update::begin(task, prior);
        loop {
            let mut answers = Vec::new();
            for request in requests {
                let file = self.file(gun, &request).await;
                let answer = file.map_or(Answer::Absent, |file| Answer::Found(file.bytes));
                answers.push((request, answer));
            }
            match update.supply(answers)? {
                Step::Fetch(more) => requests = more,
                Step::Done(verified) => return Ok(verified),
            }
        }
    }

    async fn file(&self, gun: &str, request: &Request) -> Option<File> {
        let (storage, gun, role) = (&self.storage, name(gun), &request.role);
        let file = match request.form {
            Form::Current => storage.current(&gun, role).await,
            Form::Hash(hash) => storage.by_hash(&gun, role, &hash).await,
            Form::Version(version) => storage.by_version(&gun, role, version).await,
        };
        file.unwrap()
    }
}

fn name(gun: &str) -> Gun {
    gun.parse().unwrap()
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// Every version of every role that was published in turn; the last ones are current.
fn parcel(states: &[&Repo]) -> Parcel {
    let mut all = Files::default();
    for state in states {
        state.publish_to(&mut all);
    }
    let mut files = Vec::new();
    for (file, bytes) in &all.0 {
        let stem = file.strip_suffix(".json").unwrap();
        let Some((version, role)) = stem.split_once('.') else {
            continue;
        };
        let Ok(version) = version.parse() else { continue };
        let bytes = Bytes::copy_from_slice(bytes);
        let file = File {
            version,
            sha256: sha256(&bytes),
            bytes,
            stored_at: now(),
        };
        files.push((role.parse::<Role>().unwrap(), file));
    }
    let mut current = BTreeMap::new();
    for (role, file) in &files {
        let highest: &mut u64 = current.entry(role.clone()).or_default();
        *highest = file.version.max(*highest);
    }
    Parcel {
        gun: name(GUN),
        used: current.clone(),
        files,
        current,
        changes: Vec::new(),
        keys: Vec::new(),
    }
}

fn root_key(seed: u8) -> Key {
    Key::p256(seed).certified(GUN)
}

/// A repository whose root key was changed once, as it should be.
fn rotated() -> (Repo, Repo) {
    let first = Repo::new();
    let second = first.clone().rotate_root(&[root_key(11)]).all_versions(2);
    (first, second)
}

#[tokio::test]
async fn clients_walk_the_roots_of_an_archive_from_wherever_they_are() {
    let (first, second) = rotated();
    let (old, new) = (Place::new().await, Place::new().await);
    old.import(&parcel(&[&first]), Over::Nothing).await.unwrap();
    let before = old.verified(GUN, State::default(), now()).await.unwrap().state;
    old.import(&parcel(&[&first, &second]), Over::Older)
        .await
        .unwrap();
    new.import(&old.exported(GUN).await, Over::Nothing).await.unwrap();
    let follower = new.verified(GUN, before, now()).await.unwrap();
    let newcomer = new.verified(GUN, State::default(), now()).await.unwrap();
    assert_eq!(follower.state.roots.len(), 2);
    assert_eq!(newcomer.state.seen, follower.state.seen);
    // Whoever was there last sees nothing new.
    let again = new.verified(GUN, follower.state.clone(), now()).await.unwrap();
    assert_eq!(again.state, follower.state);
}

#[tokio::test]
async fn repositories_of_a_dump_verify_from_nothing_and_from_what_was_seen() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/notary-dump");
    let at = std::fs::read_to_string(folder.join("recorded_at")).unwrap();
    let at: Timestamp = at.trim().parse().unwrap();
    for dump in ["server.mysql.sql", "server.pg-copy.sql", "server.sqlite"] {
        let (here, there) = (Place::new().await, Place::new().await);
        let dump = Dump::read(&folder.join(dump), None).unwrap();
        let imported = dump
            .import(&here.storage, &here.sealer, &BTreeMap::new(), Over::Nothing, at)
            .await
            .unwrap();
        assert_eq!(imported.imported.len(), 2);
        for gun in [GUN, "registry.example.com/team/other"] {
            let seen = here.verified(gun, State::default(), at).await.unwrap().state;
            let parcel = here.exported(gun).await;
            import(&there.storage, &there.sealer, &parcel, Over::Nothing, at)
                .await
                .unwrap();
            let moved = there.verified(gun, seen.clone(), at).await.unwrap();
            assert_eq!(moved.state, seen, "{gun}");
        }
    }
}

#[tokio::test]
async fn a_root_that_its_predecessor_did_not_sign_is_refused() {
    let (first, second) = rotated();
    let usurped = second.signed_by("root", &[root_key(11)]);
    let place = Place::new().await;
    for over in [Over::Nothing, Over::Anything] {
        let error = place
            .import(&parcel(&[&first, &usurped]), over)
            .await
            .unwrap_err();
        assert!(matches!(error, InterchangeError::Chain { .. }), "{error}");
    }
    assert!(place.storage.repository(&name(GUN)).await.unwrap().is_none());
}

#[tokio::test]
async fn an_old_root_of_somebody_else_is_refused_though_the_current_one_is_good() {
    let (first, second) = rotated();
    let mut foreign = first.clone();
    foreign.root = vec![root_key(99)];
    let error = Place::new()
        .await
        .import(&parcel(&[&foreign, &second]), Over::Nothing)
        .await
        .unwrap_err();
    assert!(matches!(error, InterchangeError::Chain { .. }), "{error}");
}

#[tokio::test]
async fn a_root_that_was_left_out_breaks_the_chain_of_those_beside_it() {
    let (first, second) = rotated();
    let third = second.clone().rotate_root(&[root_key(12)]).all_versions(3);
    let mut gap = parcel(&[&first, &second, &third]);
    gap.files
        .retain(|(role, file)| *role != Role::Root || file.version != 2);
    let error = Place::new().await.import(&gap, Over::Nothing).await.unwrap_err();
    assert!(matches!(error, InterchangeError::Chain { .. }), "{error}");
}

#[tokio::test]
async fn a_takeover_by_another_owner_with_higher_versions_is_refused_and_told() {
    let place = Place::new().await;
    place
        .import(&parcel(&[&Repo::new()]), Over::Nothing)
        .await
        .unwrap();
    let mut foreign = Repo::new().all_versions(100).version("root", 100);
    foreign.root = vec![root_key(99)];
    let foreign = parcel(&[&foreign]);
    let error = place.import(&foreign, Over::Older).await.unwrap_err();
    assert!(
        matches!(error, InterchangeError::Severed { version: 1, .. }),
        "{error}"
    );
    let imported = place.import(&foreign, Over::Anything).await.unwrap();
    assert_eq!(imported.severed, Some(1));
}

#[tokio::test]
async fn roots_that_an_archive_lacks_are_not_lost_by_importing_it() {
    let (first, second) = rotated();
    let place = Place::new().await;
    place
        .import(&parcel(&[&first, &second]), Over::Nothing)
        .await
        .unwrap();
    let third = second.clone().all_versions(3);
    let error = place.import(&parcel(&[&third]), Over::Older).await.unwrap_err();
    assert!(
        matches!(error, InterchangeError::Severed { version: 1, .. }),
        "{error}"
    );
    place
        .import(&parcel(&[&first, &second, &third]), Over::Older)
        .await
        .unwrap();
}
