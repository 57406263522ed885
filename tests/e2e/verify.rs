//! `countersign verify` against what the reference client signed.

use std::process::Command;

use serde_json::Value;

use crate::notary::Publisher;
use crate::pki;
use crate::process::{self, output, text};
use crate::world::{Authority, trust};

#[test]
fn every_kind_of_trust_server_is_understood() {
    let trust = trust();
    for authority in [&trust.hub, &trust.team, &trust.private] {
        let repository = trust.repository(authority, "verified");
        let digest = trust.release(&repository, "1.0", authority.name, None);
        let answer = Verify::new(authority, &format!("{}:1.0", repository.gun))
            .pinned()
            .answer();
        let (code, answer) = answer;
        assert_eq!(code, Some(0), "{}: {answer}", authority.name);
        assert_eq!(answer["verdict"], "trusted", "{answer}");
        assert_eq!(answer["digest"], digest.as_str(), "{answer}");
        assert_eq!(answer["role"], "targets", "{answer}");
    }
}

#[test]
fn the_text_is_the_pinned_reference() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "text");
    let digest = trust.release(&repository, "1.0", "text", None);
    let tag = format!("{}:1.0", repository.gun);
    let output = output(&mut Verify::new(&trust.hub, &tag).pinned().command);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("{tag}@{digest}\n"));
}

#[test]
fn what_is_not_signed_is_denied() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "denied");
    trust.release(&repository, "1.0", "denied", None);
    for image in [format!("{}:2.0", repository.gun), trust.gun(&trust.hub, "absent")] {
        let (code, answer) = Verify::new(&trust.hub, &image).pinned().answer();
        assert_eq!(
            (code, &answer["verdict"]),
            (Some(1), &"denied".into()),
            "{answer}"
        );
        assert_eq!(answer["digest"], Value::Null, "{answer}");
    }
}

#[test]
fn a_wrong_root_key_is_denied() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "pins");
    trust.release(&repository, "1.0", "pins", None);
    let image = format!("{}:1.0", repository.gun);
    let mut wrong = Verify::new(&trust.hub, &image);
    wrong.command.arg("--root-key").arg(&trust.alice.public);
    assert_eq!(wrong.answer().0, Some(1));
    let mut right = Verify::new(&trust.hub, &image);
    right.command.args(["--root-key-id", &repository.root_key_id()]);
    assert_eq!(right.answer().0, Some(0));
}

#[test]
fn signers_are_named_and_may_be_demanded() {
    let trust = trust();
    let repository = trust.repository(&trust.team, "signers");
    repository.add_signer(&trust.alice);
    repository.add_signer(&trust.bob);
    trust.release(
        &repository,
        "1.0",
        "by both",
        Some("targets/alice,targets/bob,targets/releases"),
    );
    trust.release(&repository, "1.1", "by bob", Some("targets/bob,targets/releases"));
    let demanding = |tag: &str| {
        let mut verify = Verify::new(&trust.team, &format!("{}:{tag}", repository.gun)).pinned();
        let signer = format!("alice={}", trust.alice.public.display());
        verify.command.args(["--signer", &signer]);
        verify.answer()
    };
    let (code, answer) = demanding("1.0");
    assert_eq!(code, Some(0), "{answer}");
    assert_eq!(answer["role"], "targets/releases", "{answer}");
    assert_eq!(answer["signers"], serde_json::json!(["alice", "bob"]), "{answer}");
    assert_eq!(demanding("1.1").0, Some(1));
}

#[test]
fn a_private_server_without_a_login_is_not_a_denial() {
    let trust = trust();
    let repository = trust.repository(&trust.private, "anonymous");
    trust.release(&repository, "1.0", "anonymous", None);
    let mut verify = Verify::new(&trust.private, &format!("{}:1.0", repository.gun)).pinned();
    verify
        .command
        .env("DOCKER_CONFIG", process::new_folder("no-login"));
    let (code, answer) = verify.answer();
    assert_eq!(
        (code, &answer["verdict"]),
        (Some(3), &"unavailable".into()),
        "{answer}"
    );
}

#[test]
fn rotated_keys_are_followed_from_the_root_that_was_first_trusted() {
    let trust = trust();
    let gun = trust.gun(&trust.hub, "rotated");
    // A keyring of its own: rotation leaves several root keys in it.
    let repository = Publisher::new(&trust.hub.server, "rotated", &gun);
    repository.init();
    trust.release(&repository, "1.0", "rotated", None);
    let first = repository.root_key_id();
    for role in ["root", "targets", "root"] {
        repository.rotate(role, &[]);
    }
    let digest = trust.release(&repository, "1.1", "after the rotation", None);
    for pin in [first, repository.root_key_id()] {
        let mut verify = Verify::new(&trust.hub, &format!("{gun}:1.1"));
        verify.command.args(["--root-key-id", &pin]);
        let (code, answer) = verify.answer();
        assert_eq!(code, Some(0), "{answer}");
        assert_eq!(answer["digest"], digest.as_str(), "{answer}");
    }
}

/// One run of `countersign verify`.
struct Verify<'a> {
    authority: &'a Authority,
    command: Command,
}

impl<'a> Verify<'a> {
    fn new(authority: &'a Authority, image: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command
            .args(["verify", image, "--trust-server", &authority.server.url(), "--ca"])
            .arg(pki::authority())
            .env("DOCKER_CONFIG", trust().docker_config().parent().unwrap());
        Self { authority, command }
    }

    /// With the root key of the server's publisher.
    fn pinned(mut self) -> Self {
        self.command.arg("--root-key").arg(&self.authority.root_key);
        self
    }

    /// The exit status and the JSON.
    fn answer(mut self) -> (Option<i32>, Value) {
        let output = output(self.command.args(["--output", "json"]));
        let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            panic!(
                "{:?}: {}{}",
                self.command,
                text(&output.stdout),
                text(&output.stderr)
            )
        });
        (output.status.code(), answer)
    }
}
