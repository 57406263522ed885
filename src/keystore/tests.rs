use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::tuf::{Algorithm, Labels, Strength};

const PASSPHRASE: &str = "correct horse";
const GUN: &str = "registry.example.test/demo/app";
const ROOT: &str = "5af014f4c2f2fe42f6c7f6b0a37bf8b1f5cbd720146ed5c20018ce8785388a3e";

fn secret() -> SecretString {
    PASSPHRASE.to_owned().into()
}

fn fixture(name: &str) -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keys");
    fs::read_to_string(fixtures.join(name)).unwrap()
}

/// A trust directory that holds the keys of the worked example.
fn example() -> (tempfile::TempDir, KeyStore) {
    let home = tempfile::tempdir().unwrap();
    let store = KeyStore::new(&home.path().join("trust"));
    for name in ["root", "snapshot", "alice"] {
        let file = KeyFile::parse(&fixture(&format!("appendix-a/{name}.key"))).unwrap();
        let key = file.open(Some(&secret())).unwrap();
        store.add(key.id(), &file).unwrap();
    }
    (home, store)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn warnings(store: &KeyStore) -> Vec<String> {
    let listing = store.list().unwrap();
    listing.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn keys_are_found_by_role_repository_and_exact_id() {
    let (_home, store) = example();
    let listing = store.list().unwrap();
    assert_eq!(listing.keys.len(), 3);
    assert!(listing.warnings.is_empty(), "{:?}", listing.warnings);
    let [root] = listing.roots().try_into().unwrap();
    assert_eq!(root.id.to_string(), ROOT);
    assert_eq!(root.open(Some(&secret())).unwrap().id(), root.id);
    assert_eq!(listing.of_role("snapshot", Some(GUN)).len(), 1);
    assert_eq!(
        listing
            .of_role("snapshot", Some("registry.example.test/demo"))
            .len(),
        0
    );
    assert_eq!(listing.of_role("alice", None).len(), 1);
    assert_eq!(listing.of_role("ali", None).len(), 0);
    assert!(listing.key(ROOT.parse().unwrap()).is_some());
    assert!(listing.key("ab".repeat(32).parse().unwrap()).is_none());
}

#[test]
fn files_and_directories_are_nobody_elses() {
    let (home, store) = example();
    assert_eq!(mode(&home.path().join("trust")), 0o700);
    assert_eq!(mode(store.directory()), 0o700);
    for entry in fs::read_dir(store.directory()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn a_store_that_does_not_exist_is_empty_and_is_not_made_by_looking() {
    let home = tempfile::tempdir().unwrap();
    let store = KeyStore::new(&home.path().join("trust"));
    assert!(store.list().unwrap().keys.is_empty());
    assert!(!home.path().join("trust").exists());
}

#[test]
fn a_stored_key_is_never_overwritten_by_adding() {
    let (_home, store) = example();
    let id = ROOT.parse().unwrap();
    let other = KeyFile::parse(&fixture("notary/root.key")).unwrap();
    assert!(matches!(store.add(id, &other), Err(KeyStoreError::Exists { .. })));
    assert_eq!(
        *store.list().unwrap().key(id).unwrap().text,
        fixture("appendix-a/root.key")
    );
}

#[test]
fn what_another_process_has_changed_is_left_alone() {
    let (_home, store) = example();
    let listing = store.list().unwrap();
    let root = listing.roots()[0];
    fs::write(&root.path, fixture("notary/root.key")).unwrap();
    assert!(matches!(
        store.replace(root, &root.file),
        Err(KeyStoreError::Changed { .. })
    ));
    assert!(matches!(store.remove(root), Err(KeyStoreError::Changed { .. })));
    assert_eq!(
        fs::read_to_string(&root.path).unwrap(),
        fixture("notary/root.key")
    );
    fs::remove_file(&root.path).unwrap();
    assert!(matches!(
        store.replace(root, &root.file),
        Err(KeyStoreError::Changed { .. })
    ));
    assert!(!root.path.exists());
}

#[test]
fn processes_that_change_the_same_key_lose_no_change_unnoticed() {
    let (_home, store) = example();
    let listing = store.list().unwrap();
    let root = listing.roots()[0];
    let text = fixture("appendix-a/root.key");
    let changed: Vec<KeyFile> = (0..8)
        .map(|number| KeyFile::parse(&text.replace("role: root", &format!("role: signer-{number}"))).unwrap())
        .collect();
    let won = std::thread::scope(|scope| {
        let tries: Vec<_> = changed
            .iter()
            .map(|file| scope.spawn(|| store.replace(root, file).is_ok()))
            .collect();
        tries.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
    let winner = won.iter().position(|won| *won).unwrap();
    let listing = store.list().unwrap();
    assert_eq!(
        listing.key(root.id).unwrap().role(),
        changed[winner].labels.role()
    );
}

#[test]
fn an_interrupted_write_leaves_the_old_file() {
    let (_home, store) = example();
    // What a process that is killed leaves behind: half of a file, under a name of its own.
    fs::write(
        store.directory().join(".tmpAbC"),
        &fixture("notary/root.key")[..100],
    )
    .unwrap();
    let listing = store.list().unwrap();
    assert_eq!(listing.keys.len(), 3);
    assert!(listing.warnings.is_empty());
    // The new file takes the place of the old one; nothing is written into that.
    let root = listing.roots()[0];
    fs::set_permissions(&root.path, fs::Permissions::from_mode(0o400)).unwrap();
    store.replace(root, &root.file).unwrap();
    assert_eq!(mode(&root.path), 0o600);
}

#[test]
fn a_file_named_by_the_id_of_another_key_does_not_open() {
    let (_home, store) = example();
    let path = store.directory().join(format!("{ROOT}.key"));
    fs::write(&path, fixture("appendix-a/alice.key").replace("alice", "root")).unwrap();
    let listing = store.list().unwrap();
    let error = listing.roots()[0].open(Some(&secret())).unwrap_err();
    assert!(matches!(error, KeyStoreError::Misnamed { .. }), "{error}");
}

#[test]
fn a_gun_header_that_lies_does_not_make_a_root_key_a_repositorys() {
    let (_home, store) = example();
    let path = store.directory().join(format!("{ROOT}.key"));
    let lie =
        fixture("appendix-a/root.key").replace("role: root", "gun: registry.example.test/other\nrole: root");
    fs::write(path, lie).unwrap();
    assert_eq!(store.list().unwrap().roots()[0].gun(), None);
}

#[test]
fn permissions_and_links_that_let_others_in_are_told() {
    let (home, store) = example();
    fs::set_permissions(store.directory(), fs::Permissions::from_mode(0o755)).unwrap();
    let root = store.directory().join(format!("{ROOT}.key"));
    fs::set_permissions(&root, fs::Permissions::from_mode(0o644)).unwrap();
    let told = warnings(&store);
    assert!(
        told[0].contains("(mode 755)") && told[1].contains("(mode 644)"),
        "{told:?}"
    );

    let elsewhere = home.path().join("elsewhere");
    fs::rename(store.directory(), &elsewhere).unwrap();
    symlink(&elsewhere, store.directory()).unwrap();
    assert!(warnings(&store)[0].contains("is a symbolic link"));
}

#[test]
fn a_linked_key_file_is_told_and_replacing_it_leaves_its_target_alone() {
    let (home, store) = example();
    let path = store.directory().join(format!("{ROOT}.key"));
    let target = home.path().join("target");
    fs::rename(&path, &target).unwrap();
    symlink(&target, &path).unwrap();
    let listing = store.list().unwrap();
    assert!(listing.warnings[0].to_string().contains("symbolic link"));
    let root = listing.roots()[0];
    store
        .replace(root, &KeyFile::parse(&fixture("appendix-a/root.key")).unwrap())
        .unwrap();
    assert!(!path.is_symlink());
    store.remove(store.list().unwrap().roots()[0]).unwrap();
    assert_eq!(
        fs::read_to_string(target).unwrap(),
        fixture("appendix-a/root.key")
    );
}

#[test]
fn what_is_no_key_is_left_out_and_told() {
    let (_home, store) = example();
    let name = |digits: &str| store.directory().join(format!("{}.key", digits.repeat(32)));
    fs::write(name("00"), "x".repeat(400 * 1024)).unwrap();
    fs::write(name("11"), [0xff, 0xfe]).unwrap();
    fs::write(name("22"), "no key").unwrap();
    fs::create_dir(name("33")).unwrap();
    symlink("/dev/zero", name("44")).unwrap();
    symlink("nowhere", name("55")).unwrap();
    fs::write(store.directory().join("mine.key"), fixture("appendix-a/root.key")).unwrap();
    let listing = store.list().unwrap();
    assert_eq!(listing.keys.len(), 3);
    let skipped = listing
        .warnings
        .iter()
        .filter(|it| matches!(it, Warning::Skipped { .. }));
    assert_eq!(skipped.count(), 7, "{:?}", listing.warnings);
}

#[test]
fn old_layouts_are_read_copied_and_never_removed() {
    let home = tempfile::tempdir().unwrap();
    let store = KeyStore::new(home.path());
    let roots = store.directory().join("root_keys");
    let tuf = store.directory().join("tuf_keys").join(GUN);
    fs::create_dir_all(&roots).unwrap();
    fs::create_dir_all(&tuf).unwrap();
    let snapshot = KeyFile::parse(&fixture("appendix-a/snapshot.key")).unwrap();
    let id = snapshot.open(Some(&secret())).unwrap().id();
    let bare = |name: &str, header: &str| fixture(name).replace(header, "");
    fs::write(
        roots.join(format!("{ROOT}_root.key")),
        bare("appendix-a/root.key", "role: root\n\n"),
    )
    .unwrap();
    let header = format!("gun: {GUN}\nrole: snapshot\n\n");
    fs::write(
        tuf.join(format!("{id}_snapshot.key")),
        bare("appendix-a/snapshot.key", &header),
    )
    .unwrap();
    // A link to a directory above, as it would lead a walk in circles.
    symlink(store.directory(), tuf.join("loop")).unwrap();

    let listing = store.list().unwrap();
    assert_eq!(listing.roots()[0].id.to_string(), ROOT);
    assert_eq!(listing.of_role("snapshot", Some(GUN))[0].id, id);
    assert!(listing.keys.iter().all(|key| key.old_layout));

    assert_eq!(store.migrate(&listing).unwrap().len(), 2);
    assert!(roots.join(format!("{ROOT}_root.key")).exists());
    let copied = store.list().unwrap();
    assert_eq!(copied.keys.len(), 2);
    assert!(copied.keys.iter().all(|key| !key.old_layout));
    assert_eq!(*copied.key(id).unwrap().text, fixture("appendix-a/snapshot.key"));
    assert!(copied.roots()[0].open(Some(&secret())).is_ok());
    assert!(store.migrate(&copied).unwrap().is_empty());
}

#[test]
fn a_new_key_is_stored_and_opens_again() {
    let home = tempfile::tempdir().unwrap();
    let store = KeyStore::new(home.path());
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let labels = Labels::new("targets", Some(GUN)).unwrap();
    let file = KeyFile::seal(&key, labels, &secret(), Strength::Interoperable).unwrap();
    let path = store.add(key.id(), &file).unwrap();
    assert_eq!(path, store.directory().join(format!("{}.key", key.id())));
    let listing = store.list().unwrap();
    let [entry] = listing.of_role("targets", Some(GUN)).try_into().unwrap();
    assert_eq!(entry.open(Some(&secret())).unwrap().public(), key.public());
    assert!(matches!(entry.open(None), Err(KeyStoreError::Key { .. })));
}

#[test]
fn the_text_of_a_key_in_clear_is_not_printed() {
    let directory = tempfile::tempdir().unwrap();
    let private = directory.path().join("private");
    fs::create_dir_all(&private).unwrap();
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let clear = fixture("notary/clear.key");
    fs::write(private.join(format!("{}.key", key.id())), &clear).unwrap();
    let listing = KeyStore::new(directory.path()).list().unwrap();
    let secret = clear.lines().find(|line| line.len() == 64).unwrap();
    assert_eq!(listing.keys.len(), 1);
    assert!(!format!("{listing:?}").contains(secret));
}
