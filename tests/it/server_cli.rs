//! `countersign server` as a process: what keeps it from starting, and what it says then.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use countersign::trustserver::seal::{OperatorKey, SealError, Sealer};
use countersign::trustserver::storage::sqlite::{Regression, Sqlite};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// A folder for a server.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn server(&self, arguments: &[&str]) -> Command {
        self.sealed_server("sealing.key", arguments)
    }

    fn sealed_server(&self, key: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin("countersign"));
        command
            .args(["server", "--open", "--drain-delay", "0s"])
            .args(["--admin-listen", "127.0.0.1:0", "--data"])
            .arg(self.data())
            .arg("--sealing-key-file")
            .arg(self.path(key))
            .arg("--self-signed-dir")
            .arg(self.path("tls"))
            .args(arguments);
        alone(&mut command);
        command
    }

    fn reseal(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin("countersign"));
        command.args(["server", "reseal", "--data"]).arg(self.data());
        command.arg("--sealing-key-file").arg(self.path("sealing.key"));
        command.args(arguments);
        alone(&mut command);
        command
    }

    /// Serves until it says that it listens; the lines of its log until then.
    async fn serves(&self, arguments: &[&str]) -> Vec<Value> {
        self.serves_with("sealing.key", arguments).await
    }

    async fn serves_with(&self, key: &str, arguments: &[&str]) -> Vec<Value> {
        let mut command = self.sealed_server(key, &["--listen", "127.0.0.1:0"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut log: Vec<Value> = Vec::new();
        loop {
            let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended: {log:?}"));
            log.push(serde_json::from_str(&line).unwrap());
            if log.last().unwrap()["msg"] == "listening" {
                child.kill().await.unwrap();
                return log;
            }
        }
    }

    async fn sealed_with(&self, key: &str) -> Result<Sealer, SealError> {
        let storage = Sqlite::open(&self.data()).await.unwrap();
        Sealer::open(&storage, &OperatorKey::of_file(&self.path(key)).unwrap()).await
    }
}

fn alone(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COUNTERSIGN_") {
            command.env_remove(name);
        }
    }
    command.kill_on_drop(true);
}

/// How a command that ends ended: its status, and what it said.
async fn ended(mut command: Command) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    (status.code(), said)
}

async fn refuses(command: Command, words: &[&str]) {
    let (status, said) = ended(command).await;
    assert_eq!(status, Some(2), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} in {said}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_server_says_where_it_listens() {
    let place = Place::new();
    let log = place.serves(&[]).await;
    let last = log.last().unwrap();
    assert!(
        last["address"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{last}"
    );
    assert!(last.get("webhook").is_none(), "{last}");
}

#[tokio::test]
async fn what_keeps_a_server_from_starting_is_named() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let words = [&format!("cannot listen on {address}"), "Address already in use"];
    refuses(place.server(&["--listen", &address]), &words).await;

    std::fs::write(place.path("other.key"), format!("{}\n", "ab".repeat(32))).unwrap();
    let wrong = place.sealed_server("other.key", &[]);
    refuses(wrong, &["sealed with another sealing key than the given one"]).await;

    std::fs::write(place.path("short.key"), "ab\n").unwrap();
    let short = place.sealed_server("short.key", &[]);
    refuses(short, &["a sealing key is 32 bytes"]).await;
}

/// Not by its mode: tests may run as somebody whom no mode keeps out.
#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let place = Place::new();
    std::fs::write(place.data(), "a file").unwrap();
    let data = place.data();
    refuses(
        place.server(&[]),
        &["the database", text(&data), "cannot be opened"],
    )
    .await;
}

/// T3: what was served before must not be served otherwise, nor be forgotten.
#[tokio::test]
async fn an_older_database_is_not_served_until_somebody_says_so_once() {
    let place = Place::new();
    place.serves(&[]).await;
    // The server was ahead of what is there now.
    std::fs::write(place.data().join("trust.counter"), "1000000\n").unwrap();
    for _ in 0..2 {
        let words = ["--accept-older-database", "an older one was put in its place"];
        refuses(place.server(&["--listen", "127.0.0.1:0"]), &words).await;
    }
    let log = place.serves(&["--accept-older-database"]).await;
    assert!(
        log.iter().any(|line| line["level"] == "warn"
            && line["msg"]
                .as_str()
                .unwrap()
                .starts_with("an older database is accepted")),
        "{log:?}"
    );
    place.serves(&[]).await;
    let log = place.serves(&["--accept-older-database"]).await;
    assert!(
        log.iter()
            .any(|line| line["msg"].as_str().unwrap().contains("without need")),
        "{log:?}"
    );
    let storage = Sqlite::open(&place.data()).await.unwrap();
    assert_eq!(storage.regressed(), None);
}

#[tokio::test]
async fn a_database_without_its_count_is_not_served_either() {
    let place = Place::new();
    place.serves(&[]).await;
    std::fs::remove_file(place.data().join("trust.counter")).unwrap();
    let words = ["--accept-older-database", "is lost"];
    refuses(place.server(&["--listen", "127.0.0.1:0"]), &words).await;
    let storage = Sqlite::open(&place.data()).await.unwrap();
    assert_eq!(storage.regressed(), Some(Regression::Unknown));
}

#[tokio::test]
async fn a_resealed_database_opens_with_the_new_key_only() {
    let place = Place::new();
    place.serves(&[]).await;
    let new = place.path("new.key");
    let (status, said) = ended(place.reseal(&["--new-sealing-key-file", text(&new)])).await;
    assert_eq!(status, Some(0), "{said}");
    assert!(said.starts_with("resealed"), "{said}");
    place.sealed_with("new.key").await.unwrap();
    let refused = place.sealed_with("sealing.key").await.unwrap_err();
    assert!(matches!(refused, SealError::WrongKey), "{refused}");

    // Once more with the key that does not count any more: nothing happens, and no key is made.
    let newer = place.path("newer.key");
    let again = place.reseal(&["--new-sealing-key-file", text(&newer)]);
    refuses(again, &["sealed with another sealing key"]).await;
    assert!(!newer.exists());
    place.serves_with("new.key", &[]).await;
}

#[tokio::test]
async fn resealing_asks_for_both_keys_and_for_something_sealed() {
    let place = Place::new();
    refuses(
        place.reseal(&["--new-sealing-key-file", "x"]),
        &["the sealing key file", "cannot be used"],
    )
    .await;
    assert!(!place.path("sealing.key").exists());
    std::fs::write(place.path("sealing.key"), format!("{}\n", "ab".repeat(32))).unwrap();
    let new = place.path("new.key");
    refuses(
        place.reseal(&["--new-sealing-key-file", text(&new)]),
        &["nothing is sealed in this database yet"],
    )
    .await;
    place.serves(&[]).await;
    refuses(place.reseal(&[]), &["no new key"]).await;
}
