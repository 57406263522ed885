use std::path::Path;

use bytes::Bytes;
use secrecy::SecretString;
use tempfile::TempDir;

use super::manifest::MAX_ROLES;
use super::*;
use crate::trustserver::seal::OperatorKey;
use crate::trustserver::storage::sqlite::Sqlite;
use crate::trustserver::storage::{Change, ChangeRecord, File};
use crate::tuf::hosted::{self, Holding};
use crate::tuf::{Algorithm, PrivateKey, sha256};

/// What everything here is about: it comes from a dump of the reference's database, keys and all.
pub(super) const GUN: &str = "registry.example.com/team/app";
/// Another repository of the same dump, but for the databases from which it was deleted.
pub(super) const OTHER: &str = "registry.example.com/team/other";
/// What the reference's signer was given for its keys.
pub(super) const SIGNER: &str = "signer passphrase";

/// A server's database with a sealer of its own.
pub(super) struct Place {
    pub(super) storage: Sqlite,
    pub(super) sealer: Sealer,
    _dir: TempDir,
}

impl Place {
    pub(super) async fn new(key: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage = Sqlite::open(dir.path()).await.unwrap();
        let operator = OperatorKey::of_text(&hex::encode([key; 32])).unwrap();
        let sealer = Sealer::open(&storage, &operator).await.unwrap();
        Self {
            storage,
            sealer,
            _dir: dir,
        }
    }

    /// With all repositories of the recorded dump.
    async fn stocked() -> Self {
        let place = Self::new(1).await;
        let dump = dump::Dump::read(&recorded("server.sqlite"), Some(&recorded("signer.sqlite"))).unwrap();
        let report = dump
            .import(
                &place.storage,
                &place.sealer,
                &passphrases(),
                Over::Nothing,
                now(),
            )
            .await
            .unwrap();
        assert_eq!(report.imported.len(), 2, "{report:?}");
        place
    }

    async fn import(&self, parcel: &Parcel, over: Over) -> Result<Imported> {
        import(&self.storage, &self.sealer, parcel, over, now()).await
    }

    async fn export(&self) -> Parcel {
        export(&self.storage, &self.sealer, &gun()).await.unwrap()
    }

    async fn is_empty(&self) -> bool {
        self.storage.repositories(None, 10).await.unwrap().is_empty()
            && self.storage.versions(&gun()).await.unwrap().is_empty()
            && self
                .storage
                .changes(None, Page::Newest(10))
                .await
                .unwrap()
                .is_empty()
            && self.storage.keys(&gun()).await.unwrap().is_empty()
    }
}

pub(super) fn recorded(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/notary-dump")
        .join(name)
}

pub(super) fn passphrases() -> BTreeMap<String, SecretString> {
    BTreeMap::from([("timestamp_1".to_owned(), SecretString::from(SIGNER))])
}

pub(super) fn gun() -> Gun {
    GUN.parse().unwrap()
}

/// A few hours after the dumps were recorded.
pub(super) fn now() -> Timestamp {
    let text = std::fs::read_to_string(recorded("recorded_at")).unwrap();
    text.trim().parse().unwrap()
}

fn passphrase() -> SecretString {
    SecretString::from("correct horse battery")
}

fn packed(parcel: &Parcel) -> Vec<u8> {
    archive::write(parcel, Some(&passphrase()), now(), Vec::new()).unwrap()
}

fn unpacked(bytes: &[u8]) -> Result<Parcel> {
    Archive::read(bytes)?.open(Some(&passphrase()))
}

fn role(name: &str) -> Role {
    name.parse().unwrap()
}

/// The same parcel once more: keys are not copied lightly outside tests.
fn again(parcel: &Parcel) -> Parcel {
    let keys = parcel.keys.iter().map(|key| ParcelKey {
        key: PrivateKey::decode(&key.key.encode().unwrap()).unwrap(),
        role: key.role.clone(),
        used: key.used,
        created_at: key.created_at,
    });
    Parcel {
        gun: parcel.gun.clone(),
        files: parcel.files.clone(),
        current: parcel.current.clone(),
        used: parcel.used.clone(),
        changes: parcel.changes.clone(),
        keys: keys.collect(),
    }
}

fn events(records: Vec<ChangeRecord>) -> Vec<(Timestamp, Event)> {
    records
        .into_iter()
        .map(|record| (record.created_at, record.event))
        .collect()
}

#[tokio::test]
async fn what_is_exported_is_imported_elsewhere_byte_for_byte() {
    let (here, there) = (Place::stocked().await, Place::new(2).await);
    let parcel = here.export().await;
    let archive = packed(&parcel);
    let imported = there
        .import(&unpacked(&archive).unwrap(), Over::Nothing)
        .await
        .unwrap();
    assert!(imported.is_signed_here());
    assert_eq!(imported.rollbacks, []);

    let (old, new) = (
        here.storage.repository(&gun()).await.unwrap().unwrap(),
        there.storage.repository(&gun()).await.unwrap().unwrap(),
    );
    assert_eq!((old.files, old.used), (new.files, new.used));
    let versions = here.storage.versions(&gun()).await.unwrap();
    assert!(versions.len() > 10);
    assert_eq!(versions, there.storage.versions(&gun()).await.unwrap());
    for (role, version) in versions {
        let file = here.storage.by_version(&gun(), &role, version).await.unwrap();
        assert_eq!(
            file,
            there.storage.by_version(&gun(), &role, version).await.unwrap()
        );
    }
    let feed =
        |place: Sqlite| async move { events(place.changes(Some(&gun()), Page::Newest(100)).await.unwrap()) };
    assert_eq!(
        feed(here.storage.clone()).await,
        feed(there.storage.clone()).await
    );
    // The keys are the same keys, sealed by another server.
    for (old, new) in here
        .storage
        .keys(&gun())
        .await
        .unwrap()
        .iter()
        .zip(there.storage.keys(&gun()).await.unwrap())
    {
        assert_eq!(
            (old.id, &old.role, old.used, old.created_at),
            (new.id, &new.role, new.used, new.created_at)
        );
        assert_ne!(old.sealed, new.sealed);
        there.sealer.unseal(&gun(), &new).unwrap();
    }
    assert_eq!(
        packed_without_keys(&parcel),
        packed_without_keys(&there.export().await)
    );
}

fn packed_without_keys(parcel: &Parcel) -> Vec<u8> {
    archive::write(parcel, None, now(), Vec::new()).unwrap()
}

#[tokio::test]
async fn an_imported_repository_is_signed_anew_by_the_server_that_took_it() {
    let (here, there) = (Place::stocked().await, Place::new(2).await);
    there.import(&here.export().await, Over::Nothing).await.unwrap();
    // Recorded timestamps are good for two weeks: due after two thirds of that.
    let later = now() + std::time::Duration::from_secs(13 * 86_400);
    assert_eq!(there.storage.due(now(), 10).await.unwrap(), []);
    assert_eq!(there.storage.due(later, 10).await.unwrap(), [gun()]);
    let used = there.export().await.used;
    let renewed = renewed(&there, later).await;
    let timestamp = renewed.files.last().unwrap();
    assert_eq!(timestamp.role, Role::Timestamp);
    assert_eq!(timestamp.version, used[&Role::Timestamp] + 1);
}

/// What a server at `place` signs when it looks at the repository.
async fn renewed(place: &Place, at: Timestamp) -> hosted::Accepted {
    let repository = place.storage.repository(&gun()).await.unwrap().unwrap();
    let files = repository.files.into_iter();
    let holding = Holding {
        files: files.map(|(role, file)| (role, file.bytes)).collect(),
        used: repository.used,
    };
    let mut keys = hosted::HeldKeys::new();
    for key in place.storage.keys(&gun()).await.unwrap() {
        keys.insert(key.id, place.sealer.unseal(&gun(), &key).unwrap().into());
    }
    let terms = hosted::Terms {
        now: at,
        snapshot: std::time::Duration::from_secs(1000 * 86_400),
        timestamp: std::time::Duration::from_secs(14 * 86_400),
    };
    let renewed = hosted::renew(&gun(), &holding, &keys, &terms, &Limits::default());
    renewed.unwrap().unwrap()
}

#[tokio::test]
async fn an_archive_without_keys_is_served_until_its_timestamp_expires() {
    let (here, there) = (Place::stocked().await, Place::new(2).await);
    let archive = packed_without_keys(&here.export().await);
    let archive = Archive::read(archive.as_slice()).unwrap();
    assert!(!archive.has_keys());
    let imported = there
        .import(&archive.open(None).unwrap(), Over::Nothing)
        .await
        .unwrap();
    assert!(!imported.is_signed_here());
    assert!(imported.served_until.unwrap() > now());
    let late = now() + std::time::Duration::from_secs(1000 * 86_400);
    assert_eq!(there.storage.due(late, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_repository_that_is_there_is_not_replaced_unasked() {
    let here = Place::stocked().await;
    let parcel = here.export().await;
    let error = here.import(&parcel, Over::Nothing).await.unwrap_err();
    assert!(matches!(error, InterchangeError::Exists { .. }), "{error}");
    let before = here.storage.changes(None, Page::Newest(100)).await.unwrap();
    here.import(&parcel, Over::Older).await.unwrap();
    let repository = here.storage.repository(&gun()).await.unwrap().unwrap();
    assert_eq!(repository.used, parcel.used);
    // Nobody hears everything twice: only what is current.
    let after = here.storage.changes(None, Page::Newest(100)).await.unwrap();
    assert_eq!(after.len(), before.len() + 1);
}

/// The parcel as it was one publish before: the current files are those of the previous timestamp.
fn rolled_back(parcel: &Parcel) -> Parcel {
    let mut old = again(parcel);
    let find = |role: &Role, version: u64| {
        let mut files = parcel.files.iter();
        files.any(|(other, file)| other == role && file.version == version)
    };
    for role in [Role::Snapshot, Role::Timestamp] {
        let version = old.current[&role];
        assert!(find(&role, version - 1));
        old.files
            .retain(|(other, file)| *other != role || file.version < version);
        old.current.insert(role.clone(), version - 1);
        old.used.insert(role, version - 1);
    }
    // The last publish was of this role, which had no version before.
    let alice = role("targets/alice");
    old.files.retain(|(role, _)| *role != alice);
    old.current.remove(&alice);
    old.used.remove(&alice);
    old
}

#[tokio::test]
async fn a_rolled_back_state_is_refused_unless_that_is_what_is_wanted() {
    let here = Place::stocked().await;
    let parcel = here.export().await;
    let old = rolled_back(&parcel);
    for over in [Over::Nothing, Over::Older] {
        let error = here.import(&old, over).await.unwrap_err();
        let refused = matches!(
            (&error, over),
            (InterchangeError::Exists { .. }, Over::Nothing)
                | (InterchangeError::Rollback { .. }, Over::Older)
        );
        assert!(refused, "{error}");
        assert_eq!(here.export().await.current, parcel.current);
    }
    let imported = here.import(&old, Over::Anything).await.unwrap();
    let rolled: Vec<_> = imported
        .rollbacks
        .iter()
        .map(|rollback| rollback.role.as_str())
        .collect();
    assert_eq!(rolled, ["snapshot", "timestamp"]);
    // What the server signs next is above everything that anybody has seen.
    assert_eq!(here.export().await.used, parcel.used);
}

#[tokio::test]
async fn a_rolled_back_state_is_refused_also_where_the_repository_was_deleted() {
    let here = Place::stocked().await;
    let parcel = here.export().await;
    let old = rolled_back(&parcel);
    assert!(here.storage.delete(&gun(), now()).await.unwrap());
    let error = here.import(&old, Over::Nothing).await.unwrap_err();
    assert!(matches!(error, InterchangeError::Rollback { .. }), "{error}");
    // The very state that was deleted may come back.
    here.import(&parcel, Over::Nothing).await.unwrap();
}

#[tokio::test]
async fn another_file_of_the_same_version_is_a_rollback_too() {
    let here = Place::stocked().await;
    let parcel = here.export().await;
    let repository = here.storage.repository(&gun()).await.unwrap().unwrap();
    let mut timestamp = repository.files[&Role::Timestamp].clone();
    let mut text = timestamp.bytes.to_vec();
    text.push(b'\n');
    timestamp.sha256 = sha256(&text);
    timestamp.bytes = text.into();
    let used = parcel.used.clone();
    let mut other = again(&parcel);
    for (role, file) in &mut other.files {
        if *role == Role::Timestamp && file.version == timestamp.version {
            *file = timestamp.clone();
        }
    }
    let rollbacks = rollbacks(&other, Some(&repository), &used);
    assert_eq!(rollbacks.len(), 1);
    assert_eq!(rollbacks[0].role, Role::Timestamp);
}

#[tokio::test]
async fn another_repositorys_files_are_refused() {
    let (here, there) = (Place::stocked().await, Place::new(2).await);
    let other = export(&here.storage, &here.sealer, &OTHER.parse().unwrap())
        .await
        .unwrap();
    // Under the name of this one, as a whole: root's certificates are made out to the other name.
    let mut renamed = again(&other);
    renamed.gun = gun();
    // This one's files, but for one role.
    let mut mixed = vec![renamed];
    for name in ["root", "targets", "snapshot", "timestamp", "targets/alice"] {
        let mut parcel = again(&here.export().await);
        let swapped = other.files.iter().filter(|(other, _)| *other == role(name));
        parcel.files.retain(|(own, _)| *own != role(name));
        parcel.files.extend(swapped.cloned());
        mixed.push(parcel);
    }
    for parcel in mixed {
        let error = there.import(&parcel, Over::Anything).await.unwrap_err();
        assert!(matches!(error, InterchangeError::Unverified { .. }), "{error}");
        assert!(there.is_empty().await);
    }
}

/// The current root of `parcel` under another version: nobody has signed that.
fn with_unsigned_root(parcel: &Parcel, version: u64) -> Parcel {
    let current = parcel.current[&Role::Root];
    let root = parcel.roots().find(|file| file.version == current).unwrap();
    let text = String::from_utf8(root.bytes.to_vec()).unwrap();
    let (old, new) = (format!("\"version\":{current}"), format!("\"version\":{version}"));
    assert!(text.contains(&old));
    let bytes = Bytes::from(text.replace(&old, &new));
    let file = File {
        version,
        sha256: sha256(&bytes),
        bytes,
        stored_at: now(),
    };
    let mut other = again(parcel);
    other.files.push((Role::Root, file));
    let used = other.used.entry(Role::Root).or_default();
    *used = (*used).max(version);
    other
}

#[tokio::test]
async fn a_root_above_the_current_one_is_refused_as_clients_would_walk_to_it() {
    let (here, there) = (Place::stocked().await, Place::new(2).await);
    let parcel = here.export().await;
    let other = with_unsigned_root(&parcel, parcel.current[&Role::Root] + 1);
    let error = there.import(&other, Over::Anything).await.unwrap_err();
    assert!(matches!(error, InterchangeError::Ahead { .. }), "{error}");
    assert!(there.is_empty().await);
}

#[tokio::test]
async fn a_spare_key_that_the_maker_of_an_archive_knows_is_never_given_out() {
    let (here, there) = (Place::stocked().await, Place::new(2).await);
    let mut parcel = here.export().await;
    let planted = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    let id = planted.id();
    parcel.keys.push(ParcelKey {
        key: planted,
        role: Role::Timestamp,
        used: false,
        created_at: Timestamp::UNIX_EPOCH,
    });
    there
        .import(&unpacked(&packed(&parcel)).unwrap(), Over::Nothing)
        .await
        .unwrap();
    let own = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    let sealed = there.sealer.seal(&gun(), &Role::Timestamp, &own, now()).unwrap();
    let given = there.storage.keep_key(&gun(), sealed).await.unwrap();
    assert_eq!(given.id, own.id());
    assert_ne!(given.id, id);
}

#[tokio::test]
async fn a_key_of_a_role_that_no_server_signs_is_refused() {
    let (here, there) = (Place::stocked().await, Place::new(2).await);
    let mut parcel = here.export().await;
    parcel.keys[0].role = Role::Targets;
    let error = there.import(&parcel, Over::Nothing).await.unwrap_err();
    assert!(matches!(error, InterchangeError::KeyRole { .. }), "{error}");
    assert!(there.is_empty().await);
}

#[tokio::test]
async fn a_fast_forward_that_leaves_no_versions_to_sign_with_is_refused() {
    let (here, there) = (Place::stocked().await, Place::new(2).await);
    let mut parcel = here.export().await;
    parcel.used.insert(Role::Timestamp, (1 << 53) - 1);
    let error = there.import(&parcel, Over::Nothing).await.unwrap_err();
    assert!(
        matches!(
            error,
            InterchangeError::Limit {
                what: "a version",
                ..
            }
        ),
        "{error}"
    );
    assert!(there.is_empty().await);
}

#[tokio::test]
async fn a_time_of_storing_in_the_future_puts_no_signature_off() {
    let (here, there) = (Place::stocked().await, Place::new(2).await);
    let mut parcel = here.export().await;
    for (_, file) in &mut parcel.files {
        file.stored_at = "9000-01-01T00:00:00Z".parse().unwrap();
    }
    let imported = there.import(&parcel, Over::Nothing).await.unwrap();
    let until = imported.served_until.unwrap();
    assert_eq!(there.storage.due(until, 10).await.unwrap(), [gun()]);
}

#[tokio::test]
async fn what_went_back_is_signed_again_at_once_above_what_was_used() {
    let here = Place::stocked().await;
    let parcel = here.export().await;
    here.import(&rolled_back(&parcel), Over::Anything).await.unwrap();
    assert_eq!(here.storage.due(now(), 10).await.unwrap(), [gun()]);
    let renewed = renewed(&here, now()).await;
    for role in [Role::Snapshot, Role::Timestamp] {
        let signed = renewed.files.iter().find(|file| file.role == role).unwrap();
        assert_eq!(signed.version, parcel.used[&role] + 1, "{role}");
    }
}

#[test]
fn endless_roles_are_refused_before_they_are_read() {
    let roles: Vec<_> = (0..=MAX_ROLES).map(|role| format!("\"{role}\":1")).collect();
    let manifest = format!(
        r#"{{"format":"countersign-repository","version":1,"gun":"{GUN}","exported_at":"2030-01-01T00:00:00Z",
        "used":{{{}}},"keys":[],"files":[],"changes":[]}}"#,
        roles.join(",")
    );
    let mut tar = tar::Writer::new(Vec::new(), 0);
    tar.append("manifest.json", manifest.as_bytes()).unwrap();
    let error = Archive::read(tar.finish().unwrap().as_slice()).unwrap_err();
    assert!(
        matches!(error, InterchangeError::Damaged { what: "manifest" }),
        "{error}"
    );
}

#[tokio::test]
async fn a_state_without_one_of_its_files_is_refused() {
    let (here, there) = (Place::stocked().await, Place::new(2).await);
    for name in ["root", "targets", "snapshot", "timestamp", "targets/alice"] {
        let mut parcel = here.export().await;
        parcel.current.remove(&role(name));
        let error = there.import(&parcel, Over::Nothing).await.unwrap_err();
        assert!(
            matches!(error, InterchangeError::Unverified { .. }),
            "{name}: {error}"
        );
    }
    assert!(there.is_empty().await);
}

/// What a change of a parcel, written as an archive all the same, leads to when it is read.
async fn spoiled(change: impl FnOnce(&mut Parcel)) -> InterchangeError {
    let here = Place::stocked().await;
    let mut parcel = here.export().await;
    change(&mut parcel);
    unpacked(&packed(&parcel)).unwrap_err()
}

#[tokio::test]
async fn files_that_are_not_what_the_manifest_says_are_refused() {
    let error = spoiled(|parcel| parcel.files[0].1.version += 100).await;
    assert!(matches!(error, InterchangeError::File { .. }), "{error}");
    let error = spoiled(|parcel| {
        let twice = parcel
            .files
            .iter()
            .find(|(role, file)| !parcel.is_current(role, file))
            .cloned();
        parcel.files.extend(twice);
    })
    .await;
    assert!(matches!(error, InterchangeError::File { .. }), "{error}");
    let error = spoiled(|parcel| parcel.files[0].1.bytes = Bytes::from_static(b"{}")).await;
    assert!(matches!(error, InterchangeError::Damaged { .. }), "{error}");
    let error = spoiled(|parcel| assert!(parcel.used.remove(&Role::Timestamp).is_some())).await;
    assert!(matches!(error, InterchangeError::File { .. }), "{error}");
}

#[tokio::test]
async fn a_key_under_another_keys_id_is_refused() {
    let here = Place::stocked().await;
    let parcel = here.export().await;
    let id = parcel.keys[0].key.id().to_string();
    let mut other = again(&parcel);
    other.keys.truncate(1);
    other.keys[0].key = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    let new = other.keys[0].key.id().to_string();
    let bytes = replaced(&packed(&other), &new, &id);
    let error = unpacked(&bytes).unwrap_err();
    assert!(matches!(error, InterchangeError::KeyId { .. }), "{error}");
    let wrong = SecretString::from("another passphrase");
    let error = Archive::read(packed(&parcel).as_slice())
        .unwrap()
        .open(Some(&wrong))
        .unwrap_err();
    assert!(matches!(error, InterchangeError::Key { .. }), "{error}");
}

/// An archive with one text put in the place of another as long, and the sums of its headers put right.
fn replaced(archive: &[u8], old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut bytes = archive.to_vec();
    let found: Vec<_> = archive
        .windows(old.len())
        .enumerate()
        .filter(|(_, window)| *window == old.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!found.is_empty());
    for at in found {
        bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
    }
    let manifest = bytes[512..]
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or_default();
    let sum = format!(
        "{}  manifest.json\n",
        hex::encode(sha256(&bytes[512..512 + manifest]))
    );
    let at = bytes
        .windows(15)
        .rposition(|window| window == b"  manifest.json")
        .unwrap()
        - 64;
    bytes[at..at + sum.len()].copy_from_slice(sum.as_bytes());
    for at in (0..bytes.len()).step_by(512) {
        if bytes.get(at + 257..at + 262) == Some(b"ustar") {
            bytes[at + 148..at + 156].fill(b' ');
            let sum: u32 = bytes[at..at + 512].iter().map(|byte| u32::from(*byte)).sum();
            bytes[at + 148..at + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    bytes
}

#[tokio::test]
async fn path_tricks_in_names_are_refused() {
    let here = Place::stocked().await;
    let archive = packed(&here.export().await);
    let hash = archive.windows(6).position(|window| window == b"files/").unwrap();
    let name = String::from_utf8(archive[hash..hash + 16].to_vec()).unwrap();
    for trick in [
        "/etc/passwd-0000",
        "files/../../../x",
        "..//////////////",
        "files/\0/////////",
    ] {
        let error = unpacked(&replaced(&archive, &name, trick)).unwrap_err();
        assert!(
            matches!(error, InterchangeError::Damaged { .. }),
            "{trick}: {error}"
        );
    }
    for (old, new) in [
        ("\"targets/alice\"", "\"targets/../ab\""),
        ("\"targets/alice\"", "\"../../alice/1\""),
        (GUN, "registry.example.com/../../ab"),
        (GUN, "registry.example.com/team/App"),
    ] {
        let error = unpacked(&replaced(&archive, old, new)).unwrap_err();
        assert!(
            matches!(error, InterchangeError::Damaged { what: "manifest" }),
            "{new}: {error}"
        );
    }
}

#[tokio::test]
async fn an_archive_that_was_cut_off_or_changed_anywhere_is_refused() {
    let here = Place::stocked().await;
    let archive = packed_without_keys(&here.export().await);
    let read = |bytes: &[u8]| Archive::read(bytes).map(drop);
    read(&archive).unwrap();
    for end in (0..archive.len()).step_by(509) {
        assert!(read(&archive[..end]).is_err(), "{end}");
    }
    let files = archive
        .windows(6)
        .rposition(|window| window == b"files/")
        .unwrap();
    for at in [0, 130, 512, 600, files + 512, files + 700] {
        let mut changed = archive.clone();
        changed[at] ^= 1;
        assert!(read(&changed).is_err(), "{at}");
    }
}

#[test]
fn something_else_is_no_archive() {
    for bytes in [
        &b""[..],
        b"PK\x03\x04",
        &[0; 2048],
        b"{\"format\":\"countersign-repository\"}",
    ] {
        assert!(matches!(Archive::read(bytes), Err(InterchangeError::Foreign)));
    }
    let mut tar = tar::Writer::new(Vec::new(), 0);
    tar.append("manifest.json", br#"{"format":"somebody-elses","version":1}"#)
        .unwrap();
    let bytes = tar.finish().unwrap();
    assert!(matches!(
        Archive::read(bytes.as_slice()),
        Err(InterchangeError::Foreign)
    ));
    let mut tar = tar::Writer::new(Vec::new(), 0);
    tar.append(
        "manifest.json",
        br#"{"format":"countersign-repository","version":2,"more":[]}"#,
    )
    .unwrap();
    let bytes = tar.finish().unwrap();
    assert!(matches!(
        Archive::read(bytes.as_slice()),
        Err(InterchangeError::Version { version: 2 })
    ));
}

/// An archive whose manifest lists `files`, each with its version and length, and has nothing after it.
fn listing(files: impl Iterator<Item = (u64, u64)>) -> Vec<u8> {
    let hash = hex::encode([7; 32]);
    let files: Vec<_> = files
        .map(|(version, length)| {
            format!(
                r#"{{"role":"timestamp","version":{version},"sha256":"{hash}","length":{length},"stored_at":"2030-01-01T00:00:00Z"}}"#
            )
        })
        .collect();
    let manifest = format!(
        r#"{{"format":"countersign-repository","version":1,"gun":"{GUN}","exported_at":"2030-01-01T00:00:00Z",
        "used":{{}},"keys":[],"files":[{}],"changes":[]}}"#,
        files.join(",")
    );
    let mut tar = tar::Writer::new(Vec::new(), 0);
    tar.append("manifest.json", manifest.as_bytes()).unwrap();
    let sum = format!("{}  manifest.json\n", hex::encode(sha256(manifest.as_bytes())));
    tar.append("manifest.json.sha256", sum.as_bytes()).unwrap();
    tar.finish().unwrap()
}

#[test]
fn endless_entries_are_refused_before_any_is_read() {
    let archive = listing((0..=MAX_FILES as u64).map(|version| (version, 0)));
    let error = Archive::read(archive.as_slice()).unwrap_err();
    assert!(
        matches!(error, InterchangeError::Limit { what: "files", .. }),
        "{error}"
    );
}

#[test]
fn files_without_end_behind_the_last_one_are_refused() {
    let mut archive = listing(std::iter::empty());
    archive.truncate(archive.len() - 1024);
    let mut endless = tar::Writer::new(archive, 0);
    endless.append("files/more", &[0; 4096]).unwrap();
    let archive = endless.finish().unwrap();
    let error = Archive::read(archive.as_slice()).unwrap_err();
    assert!(
        matches!(error, InterchangeError::Damaged { what: "end" }),
        "{error}"
    );
}

#[test]
fn a_zip_bomb_of_lengths_is_refused_by_what_it_says() {
    for lengths in [vec![u64::MAX], vec![17 << 20], vec![16 << 20; 65]] {
        let files = lengths
            .iter()
            .enumerate()
            .map(|(version, length)| (version as u64, *length));
        let error = Archive::read(listing(files).as_slice()).unwrap_err();
        assert!(matches!(error, InterchangeError::Limit { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_repository_that_is_not_there_is_not_exported() {
    let place = Place::new(1).await;
    let error = export(&place.storage, &place.sealer, &gun()).await.unwrap_err();
    assert!(matches!(error, InterchangeError::Absent { .. }), "{error}");
}

#[tokio::test]
async fn a_publish_that_was_faster_keeps_its_place() {
    let here = Place::stocked().await;
    let parcel = here.export().await;
    let whole = Whole {
        files: parcel.files.clone(),
        current: parcel.current.clone(),
        used: parcel.used.clone(),
        renew_at: None,
        keys: Vec::new(),
        changes: Vec::new(),
    };
    let generation = here.storage.repository(&gun()).await.unwrap().unwrap().generation;
    let change = Change {
        files: BTreeMap::new(),
        dropped: BTreeSet::new(),
        renew_at: None,
        keys_used: BTreeSet::new(),
        at: now(),
    };
    assert_eq!(
        here.storage.commit(&gun(), generation, change).await.unwrap(),
        Committed::Stored
    );
    assert_eq!(
        here.storage.restore(&gun(), generation, whole).await.unwrap(),
        Committed::Conflict
    );
}
