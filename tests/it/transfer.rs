//! `countersign server export`, `import` and `import-notary`, as processes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use countersign::reference::Gun;
use countersign::trustserver::storage::sqlite::Sqlite;
use countersign::trustserver::storage::{File, Storage as _};
use countersign::tuf::{KeyId, Role};
use tempfile::TempDir;

const APP: &str = "registry.example.com/team/app";
const OTHER: &str = "registry.example.com/team/other";
/// The passphrase of archives, and the variable for it.
const ARCHIVE: (&str, &str) = ("COUNTERSIGN_ARCHIVE_PASSPHRASE", "correct horse battery");
/// That of the signer's keys in the recorded dumps.
const SIGNER: (&str, &str) = ("NOTARY_SIGNER_TIMESTAMP_1", "signer passphrase");

/// Folders of several servers, and archives.
struct Desk(TempDir);

/// How a command ended, and what it said.
#[derive(Debug)]
struct Ended {
    status: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            status: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// All that is kept of a repository: every version of every role, which are current, and the ids of its keys.
type Kept = (BTreeMap<(Role, u64), File>, BTreeMap<Role, u64>, Vec<KeyId>);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With the recorded repositories at the server called `here`, keys and all.
    fn stocked() -> Self {
        let desk = Self::new();
        let ended = desk.import_notary("here", ("server.sqlite", Some("signer.sqlite")), &[SIGNER]);
        assert_eq!(ended.status, Some(0), "{ended:?}");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, place: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(cargo_bin!("countersign"));
        command
            .env_clear()
            .envs(variables.iter().copied())
            .arg("server")
            .args(arguments)
            .arg("--data")
            .arg(self.path(place))
            .arg("--sealing-key-file")
            .arg(self.path(&format!("{place}.key")))
            .current_dir(self.0.path());
        command
    }

    fn run(&self, place: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        self.command(place, arguments, variables).output().unwrap().into()
    }

    fn import_notary(
        &self,
        place: &str,
        (server, signer): (&str, Option<&str>),
        variables: &[(&str, &str)],
    ) -> Ended {
        let (server, signer) = (recorded(server), signer.map(recorded));
        let mut arguments = vec!["import-notary", "--server-dump", server.to_str().unwrap()];
        if let Some(signer) = &signer {
            arguments.extend(["--signer-dump", signer.to_str().unwrap()]);
        }
        self.run(place, &arguments, variables)
    }

    fn exported(&self, flags: &[&str]) -> Ended {
        let arguments = [&["export", APP, "-o", "app.tar"], flags].concat();
        let ended = self.run("here", &arguments, &[ARCHIVE]);
        assert_eq!(ended.status, Some(0), "{ended:?}");
        ended
    }

    fn kept(&self, place: &str, gun: &str) -> Kept {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let gun: Gun = gun.parse().unwrap();
            let storage = Sqlite::open(&self.path(place)).await.unwrap();
            let mut files = BTreeMap::new();
            for (role, version) in storage.versions(&gun).await.unwrap() {
                let file = storage.by_version(&gun, &role, version).await.unwrap().unwrap();
                let by_hash = storage.by_hash(&gun, &role, &file.sha256).await.unwrap().unwrap();
                assert_eq!(by_hash.bytes, file.bytes);
                files.insert((role, version), file);
            }
            let repository = storage.repository(&gun).await.unwrap();
            let current = repository.map(|it| it.files).unwrap_or_default();
            let current = current.into_iter().map(|(role, file)| (role, file.version));
            let keys = storage.keys(&gun).await.unwrap();
            let mut keys: Vec<_> = keys.into_iter().map(|key| key.id).collect();
            keys.sort();
            (files, current.collect(), keys)
        })
    }
}

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/notary-dump")
        .join(name)
}

#[test]
fn a_repository_is_moved_with_its_keys_byte_for_byte() {
    let desk = Desk::stocked();
    let ended = desk.exported(&[]);
    assert!(ended.err.contains(&format!("{APP}: ")), "{ended:?}");
    assert!(ended.err.ends_with("2 keys\n"), "{ended:?}");
    let ended = desk.run("there", &["import", "app.tar"], &[ARCHIVE]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.out.starts_with(&format!("{APP}: ")), "{ended:?}");
    assert!(ended.out.contains("root 1, "), "{ended:?}");
    assert!(!ended.err.contains("this server has not the key"), "{ended:?}");
    let here = desk.kept("here", APP);
    assert!(here.0.len() > 10 && here.2.len() == 2, "{here:?}");
    assert_eq!(desk.kept("there", APP), here);
    assert!(desk.kept("there", OTHER).0.is_empty());
}

#[test]
fn a_repository_is_moved_without_its_keys_and_what_that_means_is_told() {
    let desk = Desk::stocked();
    desk.exported(&["--without-keys"]);
    let ended = desk.run("there", &["import", "app.tar"], &[]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    for told in [
        "this server has not the key of its timestamp",
        &format!("countersign trust rotate timestamp {APP}"),
        &format!("countersign trust rotate snapshot --server-managed {APP}"),
    ] {
        assert!(ended.err.contains(told), "{told}: {ended:?}");
    }
    let (here, there) = (desk.kept("here", APP), desk.kept("there", APP));
    assert_eq!((here.0, here.1), (there.0, there.1));
    assert_eq!(there.2, []);
    // Or its keys are there, and nobody has the passphrase.
    desk.run("here", &["export", APP, "-o", "keys.tar"], &[ARCHIVE]);
    let ended = desk.run("elsewhere", &["import", "keys.tar", "--without-keys"], &[]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(desk.kept("elsewhere", APP).2, []);
}

#[test]
fn an_archive_goes_through_a_pipe() {
    let desk = Desk::stocked();
    let archive = desk
        .command("here", &["export", APP], &[ARCHIVE])
        .output()
        .unwrap();
    assert!(archive.status.success());
    let mut command = desk.command("there", &["import", "-"], &[ARCHIVE]);
    let ended: Ended = command.write_stdin(archive.stdout).output().unwrap().into();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(desk.kept("there", APP), desk.kept("here", APP));
}

#[test]
fn a_wrong_passphrase_or_none_is_wrong_usage_and_stores_nothing() {
    let desk = Desk::stocked();
    desk.exported(&[]);
    let wrong = (ARCHIVE.0, "another passphrase");
    for (variables, told) in [
        (&[wrong][..], "passphrase is wrong"),
        (
            &[],
            "--passphrase-fd or the variable COUNTERSIGN_ARCHIVE_PASSPHRASE",
        ),
    ] {
        let ended = desk.run("there", &["import", "app.tar"], variables);
        assert_eq!(ended.status, Some(2), "{ended:?}");
        assert!(ended.err.contains(told), "{ended:?}");
        assert!(desk.kept("there", APP).0.is_empty());
    }
    let short = (ARCHIVE.0, "short");
    let ended = desk.run("here", &["export", APP, "-o", "short.tar"], &[short]);
    assert_eq!(ended.status, Some(2), "{ended:?}");
    assert!(!desk.path("short.tar").exists());
}

#[test]
fn a_repository_that_is_there_stays_unless_it_is_to_be_replaced() {
    let desk = Desk::stocked();
    desk.exported(&[]);
    let before = desk.kept("here", APP);
    let ended = desk.run("here", &["import", "app.tar"], &[ARCHIVE]);
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert_eq!(ended.err, format!("error: app.tar: {APP} is there already\n"));
    let ended = desk.run("here", &["import", "app.tar", "--replace"], &[ARCHIVE]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(desk.kept("here", APP), before);
}

/// Two archives of one repository, the second of which has one more timestamp: the same dump with a row left out.
fn older_and_newer(desk: &Desk) {
    let path = recorded("server.pg-copy.sql");
    let text = fs::read_to_string(path).unwrap();
    let row = |line: &&str| line.contains(&format!("\t{APP}\ttimestamp\t"));
    let newest = text.lines().filter(row).max_by_key(|line| {
        let version = line.split("\ttimestamp\t").nth(1).unwrap();
        version.split('\t').next().unwrap().parse::<u64>().unwrap()
    });
    let newest = newest.unwrap();
    let older: Vec<_> = text.lines().filter(|line| *line != newest).collect();
    fs::write(desk.path("older.sql"), older.join("\n") + "\n").unwrap();
    fs::write(desk.path("newer.sql"), text).unwrap();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the program went by the clock too")]
fn a_repository_goes_back_only_if_that_is_allowed_and_is_then_due_at_once() {
    let desk = Desk::new();
    older_and_newer(&desk);
    let signer = recorded("signer.pg-copy.sql");
    let import = |dump, flags: &[&str]| {
        let dumps = [
            "import-notary",
            "--server-dump",
            dump,
            "--signer-dump",
            signer.to_str().unwrap(),
        ];
        desk.run("here", &[&dumps, flags].concat(), &[SIGNER])
    };
    assert_eq!(import("newer.sql", &[]).status, Some(0));
    let newer = desk.kept("here", APP);
    let ended = import("older.sql", &["--replace"]);
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(
        ended.err.contains(&format!("{APP} would go back: "))
            && ended.err.contains("1 repositories imported, 1 not"),
        "{ended:?}"
    );
    assert_eq!(desk.kept("here", APP), newer);
    // Neither is there a way to it without saying both.
    let ended = import("older.sql", &["--allow-rollback"]);
    assert_eq!(ended.status, Some(2), "{ended:?}");
    let ended = import("older.sql", &["--replace", "--allow-rollback"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(
        ended.err.contains("timestamp went back from version"),
        "{ended:?}"
    );
    assert!(
        ended
            .err
            .contains("signs what it holds the keys of anew within seconds"),
        "{ended:?}"
    );
    assert!(desk.kept("here", APP).1[&Role::Timestamp] < newer.1[&Role::Timestamp]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let due = runtime.block_on(async {
        let storage = Sqlite::open(&desk.path("here")).await.unwrap();
        storage.due(jiff::Timestamp::now(), 10).await.unwrap()
    });
    assert!(due.iter().any(|gun| gun.as_str() == APP), "{due:?}");
}

#[test]
fn every_recorded_dump_is_imported_with_keys_and_without() {
    for form in [
        "mysql.sql",
        "mysql-hex.sql",
        "pg-copy.sql",
        "pg-inserts.sql",
        "sqlite",
    ] {
        let (server, signer) = (format!("server.{form}"), format!("signer.{form}"));
        let desk = Desk::new();
        let ended = desk.import_notary("keys", (&server, Some(&signer)), &[SIGNER]);
        assert_eq!(ended.status, Some(0), "{form}: {ended:?}");
        assert_eq!(ended.out.lines().count(), 2, "{form}: {ended:?}");
        assert!(
            ended.err.ends_with("2 repositories imported, 0 not\n"),
            "{form}: {ended:?}"
        );
        assert_eq!(desk.kept("keys", APP).2.len(), 2, "{form}");
        let ended = desk.import_notary("bare", (&server, None), &[]);
        assert_eq!(ended.status, Some(0), "{form}: {ended:?}");
        assert_eq!(desk.kept("bare", APP).0, desk.kept("keys", APP).0, "{form}");
        assert_eq!(desk.kept("bare", APP).2, [], "{form}");
    }
}

#[test]
fn keys_whose_passphrase_nobody_gives_are_left_out_and_named() {
    let desk = Desk::new();
    let dumps = ("server.sqlite", Some("signer.sqlite"));
    let ended = desk.import_notary("here", dumps, &[]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    for told in [
        r#"warning: the signer's keys under "timestamp_1" are left out: "#,
        "NOTARY_SIGNER_TIMESTAMP_1",
        "there is no passphrase for its alias",
        "2 repositories imported, 0 not",
    ] {
        assert!(ended.err.contains(told), "{told}: {ended:?}");
    }
    assert_eq!(desk.kept("here", APP).2, []);
}

#[test]
fn what_is_no_archive_or_not_there_is_told_apart() {
    let desk = Desk::stocked();
    fs::write(desk.path("odd.tar"), b"PK\x03\x04").unwrap();
    let ended = desk.run("here", &["import", "odd.tar"], &[]);
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert_eq!(ended.err, "error: odd.tar: not an archive of a repository\n");
    let ended = desk.run("here", &["import", "nowhere.tar", "odd.tar"], &[]);
    assert_eq!(ended.status, Some(2), "{ended:?}");
    assert!(
        ended.err.starts_with("error: nowhere.tar: cannot be read: "),
        "{ended:?}"
    );
    let ended = desk.run(
        "here",
        &["export", "registry.example.com/no/such", "-o", "no.tar"],
        &[],
    );
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert_eq!(
        ended.err,
        "error: there is no repository registry.example.com/no/such\n"
    );
    assert!(!desk.path("no.tar").exists());
    let ended = desk.run("here", &["import-notary", "--server-dump", "odd.tar"], &[]);
    assert_eq!(ended.status, Some(2), "{ended:?}");
}

#[test]
fn passphrases_come_from_a_descriptor_and_are_shown_nowhere() {
    let desk = Desk::stocked();
    let mut command = desk.command(
        "here",
        &["export", APP, "-o", "app.tar", "--passphrase-fd", "0"],
        &[],
    );
    let exported: Ended = command
        .write_stdin("correct horse battery\n")
        .output()
        .unwrap()
        .into();
    assert_eq!(exported.status, Some(0), "{exported:?}");
    let imported = desk.run("there", &["import", "app.tar"], &[ARCHIVE]);
    assert_eq!(imported.status, Some(0), "{imported:?}");
    let wrong = (ARCHIVE.0, "no horse at all");
    let refused = desk.run("elsewhere", &["import", "app.tar"], &[wrong]);
    for ended in [&exported, &imported, &refused] {
        for secret in ["horse", "signer passphrase"] {
            assert!(
                !ended.out.contains(secret) && !ended.err.contains(secret),
                "{ended:?}"
            );
        }
    }
    // There is no flag that would take one.
    for command in ["export", "import", "import-notary"] {
        let help = desk.run("here", &[command, "--help"], &[]);
        assert!(!help.out.contains("--passphrase "), "{help:?}");
    }
    let archive = fs::read(desk.path("app.tar")).unwrap();
    let needle = b"BEGIN PRIVATE KEY";
    assert!(!archive.windows(needle.len()).any(|window| window == needle));
}
