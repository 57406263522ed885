//! A reference server's repositories go over to ours, under the same address: readers notice nothing, and publishers
//! have to give them new server's keys, with whichever client they have.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::hand::{Hand, lists};
use crate::notary::Publisher;
use crate::our_server::{OurServer, Storage};
use crate::pki;
use crate::process::{self, output, text};
use crate::registry::Image;
use crate::remote::Remote;
use crate::trust_server::{Build, TrustServer};
use crate::world::trust;

/// What every repository has of files that clients ask for.
const FILES: [&str; 8] = [
    "root.json",
    "targets.json",
    "snapshot.json",
    "timestamp.json",
    "1.root.json",
    "2.root.json",
    "1.targets.json",
    "targets/releases.json",
];

/// A repository, its publisher, and a reader who remembers what it saw.
struct Moved {
    notary: Publisher,
    remote: Remote,
    server: String,
    root: String,
    state: PathBuf,
}

impl Moved {
    /// With its snapshot key at the publisher, or at the server as docker does it.
    fn publish(reference: &TrustServer, name: &str, own_snapshot: bool) -> Self {
        let gun = format!("{}/moving/{name}", trust().registry.host);
        let notary = Publisher::new(reference, &format!("moving-{name}"), &gun);
        if own_snapshot {
            notary.does(&["init", &gun, "-p"]);
        } else {
            notary.init();
        }
        notary.sign("1.0", &image("1.0"), None);
        notary.sign("1.1", &image("1.1"), None);
        Self {
            remote: Remote::new(&reference.url(), &gun),
            server: reference.url(),
            root: notary.root_key_id(),
            state: process::new_folder(&format!("moving-{name}-reader")),
            notary,
        }
    }

    /// Every file of [`FILES`], where there is one.
    fn files(&self) -> Vec<Option<Vec<u8>>> {
        FILES.iter().map(|file| self.remote.get(file)).collect()
    }

    /// What the webhook's side makes of a tag, from what it saw before.
    fn reads(&self, tag: &str) -> String {
        let image = format!("{}:{tag}", self.notary.gun);
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command
            .args(["verify", &image, "--output=json", "--root-key-id", &self.root])
            .env("COUNTERSIGN_TRUST_SERVER", &self.server)
            .env("COUNTERSIGN_CA", pki::authority())
            .env("COUNTERSIGN_STATE_DIR", &self.state);
        let said = output(&mut command);
        let answer: Value =
            serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", text(&said.stderr)));
        let found = answer["digest"].as_str().or(answer["reason"].as_str());
        found.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

/// An image that nobody has to pull.
fn image(tag: &str) -> Image {
    use sha2::Digest as _;
    let content = format!("manifest of {tag}");
    Image {
        digest: format!("sha256:{}", hex::encode(sha2::Sha256::digest(&content))),
        size: content.len(),
    }
}

/// Imports what the reference had into the database of a server of ours.
fn import(reference: &TrustServer, storage: &Storage) -> String {
    let Storage::Folder(folder) = storage else {
        panic!("a folder is wanted")
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command
        .args(["server", "import-notary", "--server-dump"])
        .arg(reference.database())
        .arg("--data")
        .arg(folder)
        .arg("--sealing-key-file")
        .arg(storage.sealing_key());
    let said = output(&mut command);
    assert_eq!(said.status.code(), Some(0), "{}", text(&said.stderr));
    text(&said.stderr)
}

#[test]
fn a_reference_servers_repositories_go_on_at_ours_under_the_same_address() {
    let reference = TrustServer::start("moving", Build::Durable, Some(&trust().signer), None);
    let (first, second) = (
        Moved::publish(&reference, "first", true),
        Moved::publish(&reference, "second", false),
    );
    let mut before = Vec::new();
    for it in [&first, &second] {
        assert_eq!(it.reads("1.1"), image("1.1").digest);
        before.push(it.files());
    }
    reference.kill();
    let storage = Storage::folder("moved");
    let told = import(&reference, &storage);
    assert!(told.contains("2 repositories imported, 0 not"), "{told}");
    // The signer keeps its keys in memory here, so none comes along.
    assert!(told.contains("nobody can publish"), "{told}");
    let ours = OurServer::on_port(reference.port(), "moved", storage);
    assert_eq!(ours.url(), reference.url());

    for (it, before) in [&first, &second].into_iter().zip(before) {
        assert_eq!(it.files(), before);
        it.remote.is_whole();
        assert_eq!(it.reads("1.1"), image("1.1").digest);
        assert!(lists(&it.notary, "1.0", &image("1.0").digest));
    }

    // One owner has the reference's client, the other one ours with the same keys.
    first.notary.rotate("timestamp", &["-r"]);
    first.notary.rotate("snapshot", &["-r"]);
    first.notary.sign("2.0", &image("2.0"), None);
    let hand = Hand::with_keys(&ours.url(), "moving-second", second.notary.folder());
    let gun = &second.notary.gun;
    hand.does(&["inspect", gun, "--tofu"]);
    // The server takes no root under which it cannot sign snapshot and timestamp both.
    let refused = hand.run(&["rotate", "timestamp", gun]);
    assert_ne!(refused.status, Some(0), "{refused:?}");
    let (snapshot, timestamp) = (second.remote.keys("snapshot"), second.remote.keys("timestamp"));
    hand.does(&["rotate", "snapshot", gun, "--server-managed"]);
    assert_ne!(second.remote.keys("snapshot"), snapshot);
    assert_ne!(second.remote.keys("timestamp"), timestamp);
    let new = image("2.0");
    let (tagged, size) = (format!("{gun}:2.0"), new.size.to_string());
    hand.does(&["sign", &tagged, "--digest", &new.digest, "--size", &size]);

    for it in [&first, &second] {
        assert_eq!(it.reads("2.0"), new.digest);
        assert_eq!(it.reads("1.0"), image("1.0").digest);
        assert!(lists(&it.notary, "2.0", &new.digest));
        it.remote.is_whole();
    }
}
