//! `countersign trust key`, as a process: a key store, files, passphrases.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use tempfile::TempDir;

/// Far more than any of these commands needs, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of all fixtures.
const PASSPHRASE: &str = "correct horse";
const ROOT: &str = "5af014f4c2f2fe42f6c7f6b0a37bf8b1f5cbd720146ed5c20018ce8785388a3e";
const GUN: &str = "registry.example.com/team/app";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/keys")
        .join(name)
}

/// A person's home directory.
struct Home(TempDir);

/// How a command ended, and what it said.
#[derive(Debug)]
struct Ended {
    status: i32,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let ended = Self {
            status: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(
            !ended.out.contains(PASSPHRASE) && !ended.err.contains(PASSPHRASE),
            "{ended:?}"
        );
        ended
    }
}

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Where docker keeps keys.
    fn private(&self) -> PathBuf {
        self.path(".docker/trust/private")
    }

    /// `countersign trust key …` with nothing of the environment of whoever runs the tests, and no terminal.
    fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin!("countersign"));
        command
            .env_clear()
            .env("HOME", self.0.path())
            .current_dir(self.0.path())
            .args(["trust", "key"])
            .args(arguments)
            .timeout(PATIENCE);
        command
    }

    /// The same with docker's variables set.
    fn key(&self, arguments: &[&str]) -> Ended {
        let mut command = self.bare(arguments);
        for role in ["ROOT", "REPOSITORY"] {
            command.env(format!("DOCKER_CONTENT_TRUST_{role}_PASSPHRASE"), PASSPHRASE);
        }
        command.output().unwrap().into()
    }

    /// The keys of the store, by role.
    fn list(&self) -> Vec<(String, String)> {
        let ended = self.key(&["list", "--output", "json"]);
        assert_eq!(ended.status, 0, "{ended:?}");
        let keys: Vec<Value> = serde_json::from_str(&ended.out).unwrap();
        let text = |key: &Value, name: &str| key[name].as_str().unwrap().to_owned();
        let mut keys: Vec<_> = keys
            .iter()
            .map(|key| (text(key, "role"), text(key, "id")))
            .collect();
        keys.sort();
        keys
    }

    /// Puts the three keys of the worked example into the store.
    fn with_example(self) -> Self {
        fs::create_dir_all(self.private()).unwrap();
        for name in ["root", "snapshot", "alice"] {
            let text = fs::read_to_string(fixture(&format!("appendix-a/{name}.key"))).unwrap();
            let expected: Value =
                serde_json::from_slice(&fs::read(fixture("expected.json")).unwrap()).unwrap();
            let id = expected[format!("appendix-a/{name}.key")]["id"]
                .as_str()
                .unwrap()
                .to_owned();
            private_file(&self.private().join(format!("{id}.key")), &text);
        }
        for folder in [".docker", ".docker/trust", ".docker/trust/private"] {
            fs::set_permissions(self.path(folder), Permissions::from_mode(0o700)).unwrap();
        }
        self
    }

    fn stored(&self, id: &str) -> String {
        fs::read_to_string(self.private().join(format!("{id}.key"))).unwrap()
    }
}

fn private_file(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_generated_key_is_in_dockers_store_and_its_public_half_beside_it() {
    let home = Home::new();
    let made = home.key(&["generate", "alice"]);
    assert_eq!(made.status, 0, "{made:?}");
    let id = made.out.trim();
    assert_eq!(home.list(), [("alice".to_owned(), id.to_owned())]);
    assert!(
        home.stored(id)
            .starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\nrole: alice\n\n")
    );
    let public = fs::read_to_string(home.path("alice.pub")).unwrap();
    assert!(public.starts_with("-----BEGIN PUBLIC KEY-----\nrole: alice\n\n"));
    assert_eq!(countersign::tuf::pinned_key(&public).unwrap().to_string(), id);
    assert_eq!(mode(&home.path("alice.pub")), 0o600);
    assert_eq!(mode(&home.private()), 0o700);
    assert_eq!(mode(&home.private().join(format!("{id}.key"))), 0o600);

    // The public half was given to others: it is not overwritten, and no key is made in vain.
    let again = home.key(&["generate", "alice"]);
    assert_eq!(again.status, 2);
    assert!(
        again.err.contains("an existing file is not overwritten"),
        "{again:?}"
    );
    assert_eq!(home.list().len(), 1);
    assert_eq!(fs::read_to_string(home.path("alice.pub")).unwrap(), public);
}

#[test]
fn a_new_root_key_comes_with_a_warning_to_keep_a_copy() {
    let home = Home::new();
    let made = home.key(&["generate", "root", "--strong"]);
    assert_eq!(made.status, 0, "{made:?}");
    assert!(made.err.contains("cannot be recovered"), "{made:?}");
    assert!(
        made.err.contains("countersign trust key export --all"),
        "{made:?}"
    );
    assert_eq!(home.list(), [("root".to_owned(), made.out.trim().to_owned())]);
}

#[test]
fn names_that_are_no_signers_are_refused() {
    let home = Home::new();
    for name in [
        "Alice",
        "-alice",
        "_a",
        "a/b",
        "../a",
        "releases",
        "targets",
        "snapshot",
        "timestamp",
        "",
    ] {
        let ended = home.key(&["generate", "--", name]);
        assert_eq!(ended.status, 2, "{name}: {ended:?}");
    }
    assert!(home.list().is_empty());
}

#[test]
fn without_a_terminal_and_a_passphrase_nothing_is_made_and_the_remedy_is_told() {
    let home = Home::new();
    let ended = Ended::from(home.bare(&["generate", "alice"]).output().unwrap());
    assert_eq!(ended.status, 2);
    assert!(ended.err.contains("--passphrase-fd"), "{ended:?}");
    assert!(
        ended.err.contains("DOCKER_CONTENT_TRUST_REPOSITORY_PASSPHRASE"),
        "{ended:?}"
    );
    assert!(!home.path("alice.pub").exists());
    assert!(home.list().is_empty());
}

#[test]
fn a_passphrase_comes_from_a_descriptor_before_docker_before_notary() {
    const DOCKER: &str = "DOCKER_CONTENT_TRUST_ROOT_PASSPHRASE";
    const NOTARY: &str = "NOTARY_ROOT_PASSPHRASE";
    let home = Home::new().with_example();
    let run = |set: &[(&str, &str)], input: Option<&str>| {
        let mut command = home.bare(&["passwd", ROOT, "--new-passphrase-fd", "0"]);
        command
            .envs(set.iter().copied())
            .write_stdin("another passphrase\n");
        if let Some(input) = input {
            private_file(&home.path("passphrase"), input);
            let program = cargo_bin!("countersign");
            let mut shell = Command::new("sh");
            let script = r#"exec "$0" trust key passwd "$1" --passphrase-fd 3 --new-passphrase-fd 4 3<passphrase 4<passphrase"#;
            shell.args(["-c", script]).arg(program).arg(ROOT);
            shell
                .env_clear()
                .env("HOME", home.0.path())
                .envs(set.iter().copied());
            command = shell;
            command.current_dir(home.0.path());
        }
        Ended::from(command.timeout(PATIENCE).output().unwrap()).status
    };
    // The descriptor's wins over a wrong one in the environment; the key keeps its passphrase.
    assert_eq!(run(&[(DOCKER, "wrong")], Some("correct horse\n")), 0);
    assert_eq!(run(&[(DOCKER, PASSPHRASE)], Some("incorrect\n")), 2);
    assert_eq!(run(&[(DOCKER, "wrong"), (NOTARY, PASSPHRASE)], None), 2);
    assert_eq!(run(&[(DOCKER, ""), (NOTARY, PASSPHRASE)], None), 0);
    assert_eq!(run(&[(DOCKER, PASSPHRASE)], None), 2);
    assert_eq!(run(&[(DOCKER, "another passphrase")], None), 0);
}

#[test]
fn a_short_passphrase_is_refused_wherever_it_comes_from() {
    let home = Home::new();
    for input in ["seven77\n", "\n", ""] {
        let mut command = home.bare(&["generate", "alice", "--passphrase-fd", "0"]);
        let ended = Ended::from(command.write_stdin(input).output().unwrap());
        assert_eq!(ended.status, 2, "{ended:?}");
    }
    let mut command = home.bare(&["generate", "alice"]);
    command.env("NOTARY_DELEGATION_PASSPHRASE", "seven77");
    let ended = Ended::from(command.output().unwrap());
    assert!(ended.err.contains("at least 8 characters"), "{ended:?}");
    assert!(home.list().is_empty());
}

#[test]
fn a_wrong_passphrase_changes_nothing_and_says_where_it_came_from() {
    let home = Home::new().with_example();
    let before = home.stored(ROOT);
    let mut command = home.bare(&["passwd", ROOT, "--new-passphrase-fd", "0"]);
    command
        .env("DOCKER_CONTENT_TRUST_ROOT_PASSPHRASE", "wrong")
        .write_stdin("another passphrase");
    let ended = Ended::from(command.output().unwrap());
    assert_eq!(ended.status, 2);
    assert!(
        ended.err.contains("DOCKER_CONTENT_TRUST_ROOT_PASSPHRASE"),
        "{ended:?}"
    );
    assert!(ended.err.contains("the passphrase is wrong"), "{ended:?}");
    assert_eq!(home.stored(ROOT), before);
}

#[test]
fn a_backup_restores_every_key_as_it_was() {
    let home = Home::new().with_example();
    let exported = home.key(&["export", "--all", "backup.pem"]);
    assert_eq!(exported.status, 0, "{exported:?}");
    assert_eq!(mode(&home.path("backup.pem")), 0o600);
    let backup = fs::read_to_string(home.path("backup.pem")).unwrap();
    assert_eq!(backup.matches("-----BEGIN ENCRYPTED PRIVATE KEY-----").count(), 3);
    assert_eq!(
        home.key(&["export", "--all", "backup.pem"]).status,
        2,
        "a backup is not overwritten"
    );
    let shown = home.key(&["export", "--all", "-"]);
    assert_eq!(shown.out, backup);

    let other = Home::new();
    fs::copy(home.path("backup.pem"), other.path("backup.pem")).unwrap();
    // Encrypted blocks are stored as they are: no passphrase is needed.
    let imported = Ended::from(other.bare(&["import", "backup.pem"]).output().unwrap());
    assert_eq!(imported.status, 0, "{imported:?}");
    assert_eq!(other.list(), home.list());
    for (_, id) in home.list() {
        assert_eq!(other.stored(&id), home.stored(&id));
    }
    let again = other.key(&["import", "backup.pem"]);
    assert_eq!(again.status, 0, "{again:?}");
    assert_eq!(again.out.matches("is there already").count(), 3);
}

#[test]
fn some_keys_are_exported_by_id_or_by_repository() {
    let home = Home::new().with_example();
    let one = home.key(&["export", "--key", ROOT, "-"]);
    assert_eq!(one.out.matches("BEGIN").count(), 1);
    assert!(
        one.out.contains(&format!("path: {ROOT}\nrole: root\n")),
        "{one:?}"
    );
    let repository = home.key(&["export", "--keys-of", "registry.example.test/demo/app", "-"]);
    assert_eq!(repository.out.matches("BEGIN").count(), 1);
    assert_eq!(
        home.key(&["export", "--keys-of", "registry.example.test/demo", "-"])
            .status,
        1
    );
    assert_eq!(home.key(&["export", "--key", &"00".repeat(32), "-"]).status, 1);
    assert_eq!(home.key(&["export", "-"]).status, 2, "which keys is to be said");
}

#[test]
fn the_public_half_of_a_stored_key_is_what_was_given_out_when_it_was_made() {
    let home = Home::new();
    let made = home.key(&["generate", "alice"]);
    let id = made.out.trim();
    let given = fs::read_to_string(home.path("alice.pub")).unwrap();
    let printed = home.key(&["export", "--public", "--key", id, "-"]);
    assert_eq!(
        (printed.status, printed.out.as_str()),
        (0, given.as_str()),
        "{printed:?}"
    );
    let written = home.key(&["export", "--public", "--key", id, "again.pub"]);
    assert_eq!(written.status, 0, "{written:?}");
    assert_eq!(fs::read_to_string(home.path("again.pub")).unwrap(), given);
    assert_eq!(
        home.key(&["export", "--public", "--key", id, "again.pub"]).status,
        2
    );
    for wrong in [
        &["export", "--public", "--all", "-"][..],
        &["export", "--public", "-"],
    ] {
        let refused = home.key(wrong);
        assert_eq!((refused.status, refused.out.as_str()), (2, ""), "{refused:?}");
    }
    let other = home.key(&["generate", "bob"]);
    let both = ["export", "--public", "--key", id, "--key", other.out.trim(), "-"];
    assert_eq!(home.key(&both).status, 2, "one at a time");
}

#[test]
fn a_key_stored_in_clear_leaves_the_store_encrypted() {
    let home = Home::new();
    fs::create_dir_all(home.private()).unwrap();
    let expected: Value = serde_json::from_slice(&fs::read(fixture("expected.json")).unwrap()).unwrap();
    let id = expected["notary/clear.key"]["id"].as_str().unwrap();
    fs::copy(
        fixture("notary/clear.key"),
        home.private().join(format!("{id}.key")),
    )
    .unwrap();
    let exported = home.key(&["export", "--all", "-"]);
    assert_eq!(exported.status, 0, "{exported:?}");
    assert!(
        exported
            .out
            .starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"),
        "{exported:?}"
    );
    assert!(exported.err.contains("stored in clear"), "{exported:?}");

    assert!(home.key(&["list"]).err.contains("is not encrypted"));
    let mut command = home.bare(&["passwd", id, "--new-passphrase-fd", "0"]);
    let encrypted = Ended::from(command.write_stdin(PASSPHRASE).output().unwrap());
    assert_eq!(encrypted.status, 0, "{encrypted:?}");
    assert!(!home.key(&["list"]).err.contains("is not encrypted"));
}

#[test]
fn a_bundle_of_notary_is_imported_and_one_bad_key_hides_no_other() {
    let home = Home::new();
    let bundle = fs::read_to_string(fixture("notary/bundle.pem")).unwrap();
    // The keys of a repository without the repository, and one key that is there with other content.
    let spoilt = bundle.replacen(&format!("gun: {GUN}\n"), "", 1);
    fs::write(home.path("bundle.pem"), spoilt).unwrap();
    let imported = home.key(&["import", "bundle.pem"]);
    assert_eq!(imported.status, 2, "{imported:?}");
    assert!(imported.err.contains("say to which with --gun"), "{imported:?}");
    assert!(
        imported.err.contains("1 of the keys were not imported"),
        "{imported:?}"
    );
    assert_eq!(home.list().len(), 4);
    let rest = home.key(&["import", "bundle.pem", "--gun", GUN]);
    assert_eq!(rest.status, 0, "{rest:?}");
    assert_eq!(home.list().len(), 5);
}

#[test]
fn an_import_overwrites_no_key() {
    let home = Home::new().with_example();
    let before = home.stored(ROOT);
    let liar = fs::read_to_string(fixture("appendix-a/alice.key")).unwrap();
    fs::write(
        home.path("liar.pem"),
        liar.replace("role: alice", &format!("path: {ROOT}\nrole: root")),
    )
    .unwrap();
    let ended = home.key(&["import", "liar.pem"]);
    assert_eq!(ended.status, 2, "{ended:?}");
    assert!(ended.err.contains("it was left as it is"), "{ended:?}");
    assert_eq!(home.stored(ROOT), before);
}

#[test]
fn a_path_header_cannot_lead_out_of_the_key_store() {
    let home = Home::new();
    let text = fs::read_to_string(fixture("appendix-a/root.key")).unwrap();
    for path in ["../../../escaped", "/tmp/escaped", "..", "a/../../../escaped"] {
        fs::write(
            home.path("in.pem"),
            text.replace("role: root", &format!("path: {path}\nrole: root")),
        )
        .unwrap();
        let ended = home.key(&["import", "in.pem"]);
        assert_eq!(ended.status, 0, "{ended:?}");
        // No id is in the path, so that of the key counts: it had to be opened, and is encrypted anew.
        assert_eq!(home.list(), [("root".to_owned(), ROOT.to_owned())]);
        assert!(!home.path("escaped").exists() && !Path::new("/tmp/escaped").exists());
        assert_eq!(home.key(&["remove", ROOT, "--force"]).status, 0);
    }
}

#[test]
fn loading_an_encrypted_file_stores_the_key() {
    // Docker reports success here and stores nothing.
    let home = Home::new();
    let file = home.path("key.pem");
    private_file(
        &file,
        &fs::read_to_string(fixture("openssl/P-256.enc.pem")).unwrap(),
    );
    let loaded = home.key(&["load", "key.pem", "--name", "bob"]);
    assert_eq!(loaded.status, 0, "{loaded:?}");
    assert_eq!(home.list(), [("bob".to_owned(), loaded.out.trim().to_owned())]);
    let stored = countersign::tuf::KeyFile::parse(&home.stored(loaded.out.trim())).unwrap();
    let key = stored.open(Some(&PASSPHRASE.to_owned().into())).unwrap();
    assert_eq!(key.id().to_string(), loaded.out.trim());

    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let open = home.key(&["load", "key.pem"]);
    assert_eq!(open.status, 2);
    assert!(open.err.contains("open to others (mode 640)"), "{open:?}");
}

#[test]
fn removing_asks_a_person_or_wants_to_be_forced() {
    let home = Home::new().with_example();
    let asked = home.key(&["remove", ROOT]);
    assert_eq!(asked.status, 2);
    assert!(asked.err.contains("--force"), "{asked:?}");
    assert_eq!(home.list().len(), 3);
    assert_eq!(
        home.key(&["remove", "--force", &ROOT[..16]]).status,
        2,
        "a part of an id is none"
    );
    assert_eq!(home.key(&["remove", "--force", ROOT]).status, 0);
    assert_eq!(home.list().len(), 2);
    assert_eq!(home.key(&["remove", "--force", ROOT]).status, 1);
}

#[test]
fn keys_of_an_old_layout_are_used_and_copied_on_request() {
    let home = Home::new();
    let roots = home.private().join("root_keys");
    fs::create_dir_all(&roots).unwrap();
    fs::copy(fixture("appendix-a/root.key"), roots.join(format!("{ROOT}.key"))).unwrap();
    assert_eq!(home.list(), [("root".to_owned(), ROOT.to_owned())]);
    let copied = home.key(&["import"]);
    assert_eq!(copied.status, 0, "{copied:?}");
    assert!(roots.join(format!("{ROOT}.key")).exists());
    assert_eq!(
        home.stored(ROOT),
        fs::read_to_string(fixture("appendix-a/root.key")).unwrap()
    );
    assert_eq!(home.key(&["import"]).status, 1, "there is nothing left to copy");
}

#[test]
fn a_table_for_people_lists_root_keys_first() {
    let home = Home::new().with_example();
    let listed = home.key(&["list"]);
    let first: Vec<_> = listed
        .out
        .lines()
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(first, ["ROLE", "root", "alice", "snapshot"]);
    assert!(listed.err.is_empty(), "{listed:?}");
    fs::set_permissions(home.private(), Permissions::from_mode(0o755)).unwrap();
    assert!(home.key(&["list"]).err.contains("is open to others (mode 755)"));
}

#[test]
fn a_process_that_is_killed_at_any_moment_leaves_whole_keys_only() {
    const RUNS: u32 = 100;
    let home = Home::new();
    let bundle = fs::read_to_string(fixture("notary/bundle.pem")).unwrap();
    let blocks = bundle.split_inclusive("-----END ENCRYPTED PRIVATE KEY-----\n");
    let whole: Vec<_> = blocks
        .map(|block| {
            block
                .lines()
                .filter(|line| !line.starts_with("path:"))
                .collect::<Vec<_>>()
                .join("\n")
                + "\n"
        })
        .collect();
    // How long it takes when nobody interferes; the runs are killed at moments spread over that.
    let began = Instant::now();
    let path = fixture("notary/bundle.pem");
    assert_eq!(home.key(&["import", path.to_str().unwrap()]).status, 0);
    let undisturbed = began.elapsed();
    for run in 0..RUNS {
        let trust_dir = home.path(&format!("run-{run}"));
        let mut command = std::process::Command::new(cargo_bin!("countersign"));
        let null = std::process::Stdio::null;
        let mut child = command
            .env_clear()
            .args(["trust", "key", "import", "--trust-dir"])
            .arg(&trust_dir)
            .arg(&path)
            .stdin(null())
            .stdout(null())
            .stderr(null())
            .spawn()
            .unwrap();
        std::thread::sleep(undisturbed * run / RUNS);
        child.kill().unwrap();
        child.wait().unwrap();
        let store = countersign::keystore::KeyStore::new(&trust_dir);
        let listing = store.list().unwrap();
        assert!(listing.warnings.is_empty(), "{:?}", listing.warnings);
        for key in &listing.keys {
            assert!(
                whole.contains(&fs::read_to_string(&key.path).unwrap()),
                "{}",
                key.path.display()
            );
        }
        // The lock died with the process, and what it left is in nobody's way.
        if run % 20 == 0 {
            let again = home.key(&[
                "import",
                "--trust-dir",
                trust_dir.to_str().unwrap(),
                path.to_str().unwrap(),
            ]);
            assert_eq!(again.status, 0, "{again:?}");
        }
    }
}
