//! Our client, as a publisher uses it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::notary::Publisher;
use crate::pki;
use crate::process::{self, output, text};
use crate::world::trust;

/// A person with a key store and a memory of their own.
#[derive(Debug)]
pub(crate) struct Hand {
    server: String,
    pub(crate) keys: PathBuf,
    state: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

impl Hand {
    /// Somebody who publishes to the trust server at this URL.
    pub(crate) fn new(server: &str, name: &str) -> Self {
        Self::with_keys(server, name, &process::new_folder(&format!("hands/{name}/keys")))
    }

    /// With the key store of somebody else, which is a person's of the reference client too.
    pub(crate) fn with_keys(server: &str, name: &str, keys: &Path) -> Self {
        Self {
            server: server.to_owned(),
            keys: keys.to_owned(),
            state: process::new_folder(&format!("hands/{name}/state")),
        }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command
            .arg("trust")
            .args(arguments)
            .env_remove("DOCKER_CONTENT_TRUST_SERVER")
            .env("DOCKER_CONFIG", trust().docker_config().parent().unwrap())
            .env("NOTARY_ROOT_PASSPHRASE", "passphrase of root")
            .env("NOTARY_TARGETS_PASSPHRASE", "passphrase of targets")
            .env("NOTARY_SNAPSHOT_PASSPHRASE", "passphrase of snapshot")
            .env("NOTARY_DELEGATION_PASSPHRASE", "passphrase of delegations")
            .env("COUNTERSIGN_TRUST_SERVER", &self.server)
            .env("COUNTERSIGN_CA", pki::authority())
            .env("COUNTERSIGN_TRUST_DIR", &self.keys)
            .env("COUNTERSIGN_STATE_DIR", &self.state);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        output(&mut self.command(arguments)).into()
    }

    /// Runs a command that must succeed.
    pub(crate) fn does(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.status, Some(0), "{arguments:?}: {ended:?}");
        ended
    }

    /// What `inspect` says of a repository.
    pub(crate) fn inspect(&self, gun: &str) -> Value {
        let ended = self.does(&["inspect", gun, "--output", "json"]);
        serde_json::from_str::<Value>(&ended.out).unwrap()[0].take()
    }

    /// What `countersign verify` says of an image, to whom has never seen it, trusting the root key of `gun`.
    pub(crate) fn verdict(&self, image: &str) -> String {
        let gun = image.rsplit_once(':').unwrap().0;
        let root = self.inspect(gun)["AdministrativeKeys"][0]["Keys"][0]["ID"].clone();
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command
            .args([
                "verify",
                image,
                "--output",
                "json",
                "--root-key-id",
                root.as_str().unwrap(),
            ])
            .env("DOCKER_CONFIG", trust().docker_config().parent().unwrap())
            .env("COUNTERSIGN_TRUST_SERVER", &self.server)
            .env("COUNTERSIGN_CA", pki::authority());
        let answer: Value = serde_json::from_slice(&output(&mut command).stdout).unwrap();
        match answer["digest"].as_str() {
            Some(digest) => digest.to_owned(),
            None => answer["reason"].as_str().unwrap().to_owned(),
        }
    }
}

/// Pushes an image; gives its reference and digest.
pub(crate) fn push(gun: &str, tag: &str, content: &str) -> (String, String) {
    let repository = gun.split_once('/').unwrap().1;
    let image = trust().registry.push(repository, tag, content);
    (format!("{gun}:{tag}"), image.digest)
}

/// Whether `notary list` shows the tag with the digest.
pub(crate) fn lists(publisher: &Publisher, tag: &str, digest: &str) -> bool {
    let hex = digest.trim_start_matches("sha256:");
    publisher.list().lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(tag) && words.next() == Some(hex)
    })
}
