//! Trust metadata is what its bytes are: a server hashes what it would have written itself (notary-v1 §3.2), so a
//! client has to write the same, and a server must not.

use serde_json::Value;

use crate::hand::Hand;
use crate::notary::{Publisher, SignerKey};
use crate::process;
use crate::recorder::Recorder;
use crate::registry::Image;
use crate::remote::Remote;
use crate::trust_server::{Build, TrustServer};
use crate::world::{our_server, trust};

#[test]
fn what_the_reference_client_uploads_our_server_keeps_byte_for_byte() {
    let gun = format!("{}/bytes/theirs", trust().registry.host);
    let recorder = Recorder::start(&our_server().url(), "bytes");
    let notary = Publisher::at(&recorder.url(), "bytes", &gun);
    let folder = process::new_folder("bytes-signers");
    let (alice, bob) = (
        SignerKey::generate(&folder, "alice"),
        SignerKey::generate(&folder, "bob"),
    );
    let image = Image {
        digest: format!("sha256:{}", "5e".repeat(32)),
        size: 1000,
    };
    notary.init();
    notary.sign("1.0", &image, None);
    notary.add_signer(&alice);
    notary.add_signer(&bob);
    notary.sign("2.0", &image, Some("targets/alice,targets/releases"));
    // A role that has lost its last key, and has none but null.
    let id = bob.id();
    notary.does(&["delegation", "remove", &gun, "targets/bob", &id, "-y", "-p"]);
    notary.revoke("1.0");
    for role in ["targets", "root"] {
        notary.rotate(role, &[]);
    }
    notary.rotate("snapshot", &[]);
    let uploads = recorder.uploads();
    let remote = Remote::new(&our_server().url(), &gun);
    for uploaded in &uploads {
        let version = serde_json::from_str::<Value>(&uploaded.file).unwrap()["signed"]["version"].clone();
        let kept = remote.get(&format!("{version}.{}.json", uploaded.role)).unwrap();
        assert_eq!(process::text(&kept), uploaded.file, "{} {version}", uploaded.role);
    }
    remote.is_whole();
    let seen = |part: &str| uploads.iter().any(|uploaded| uploaded.file.contains(part));
    for part in ["+05:30\"", "\"keyids\":null", "\"hashes\"", "\"private\":null"] {
        assert!(seen(part), "nothing had {part}");
    }
    for role in ["root", "targets", "snapshot", "targets/alice", "targets/releases"] {
        assert!(uploads.iter().any(|uploaded| uploaded.role == role), "no {role}");
    }
}

#[test]
fn what_we_upload_the_reference_server_would_have_written_alike() {
    let server = TrustServer::start("bytes", Build::Durable, Some(&trust().signer), None);
    let gun = format!("{}/bytes/ours", trust().registry.host);
    let hand = Hand::new(&server.url(), "bytes-ours");
    let folder = process::new_folder("bytes-signers-ours");
    let alice = SignerKey::generate(&folder, "alice");
    let remote = Remote::new(&server.url(), &gun);
    hand.does(&["init", &gun]);
    remote.is_whole();
    let sign = |tag: &str| {
        let (image, digest) = (format!("{gun}:{tag}"), format!("sha256:{}", "5e".repeat(32)));
        hand.does(&["sign", &image, "--digest", &digest, "--size", "1000"]);
        remote.is_whole();
    };
    sign("1.0");
    hand.does(&["revoke", &format!("{gun}:1.0")]);
    remote.is_whole();
    // Go writes these characters in another way than most, unless it is told not to.
    let (public, private) = (alice.public.to_str().unwrap(), alice.private.to_str().unwrap());
    hand.does(&[
        "signer", "add", "alice", &gun, "--key", public, "--path", "<&>", "--path", "2.",
    ]);
    remote.is_whole();
    hand.does(&["key", "load", private, "--name", "alice"]);
    sign("2.0");
    hand.does(&["rotate", "root", &gun]);
    remote.is_whole();
    hand.does(&["signer", "remove", "alice", &gun, "--force"]);
    remote.is_whole();
    let reader = Publisher::at(&server.url(), "bytes-ours-reader", &gun);
    assert!(!reader.list().contains("2.0"), "{}", reader.list());
}
