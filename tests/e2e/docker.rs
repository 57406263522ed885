//! Docker and us on the same repositories, with one key store, at our trust server and at the reference's.

use std::process::Command;

use serde_json::{Value, json};

use crate::docker_engine::Docker;
use crate::hand::Ended;
use crate::notary::SignerKey;
use crate::process::{self, run};
use crate::trust_server::{Build, TrustServer};
use crate::world::{our_server, trust};

/// A repository and the person who publishes to it with both programs.
struct Desk {
    docker: Docker,
    gun: String,
}

impl Desk {
    fn new(server: &str, name: &str) -> Self {
        Self {
            docker: Docker::new(server, name),
            gun: format!("{}/docker/{name}", trust().registry.host),
        }
    }

    fn image(&self, tag: &str) -> String {
        format!("{}:{tag}", self.gun)
    }

    /// Builds an image, and pushes it; content trust signs it on the way. Gives its digest.
    fn push(&self, tag: &str) -> String {
        let image = self.image(tag);
        self.docker.build(&image, tag);
        let said = self.docker.does(&["push", &image]).said;
        assert!(said.contains("Successfully signed"), "{said}");
        digest_in(&said)
    }

    /// Builds an image, and pushes it without a signature.
    fn push_unsigned(&self, tag: &str) -> String {
        let image = self.image(tag);
        self.docker.build(&image, tag);
        digest_in(
            &self
                .docker
                .does(&["push", "--disable-content-trust", &image])
                .said,
        )
    }

    /// Runs `countersign …` with docker's environment.
    fn ours(&self, arguments: &[&str]) -> Ended {
        process::output(&mut self.docker.countersign(arguments)).into()
    }

    fn we_do(&self, arguments: &[&str]) -> Ended {
        let ended = self.ours(arguments);
        assert_eq!(ended.status, Some(0), "{arguments:?}: {ended:?}");
        ended
    }

    /// What both programs say of the repository, which must be the same.
    fn inspect(&self) -> Value {
        let ended = self.we_do(&["trust", "inspect", &self.gun, "--output", "json"]);
        let ours: Value = serde_json::from_str::<Value>(&ended.out).unwrap()[0].take();
        assert_eq!(ours, self.docker.inspect(&self.gun));
        ours
    }

    /// Who signed a tag, and which digest; null where nobody did.
    fn signed(&self, tag: &str) -> Value {
        let inspected = self.inspect();
        let tags = inspected["SignedTags"].as_array().unwrap();
        let found = tags.iter().find(|signed| signed["SignedTag"] == tag);
        found.map_or(Value::Null, |signed| json!([signed["Digest"], signed["Signers"]]))
    }

    /// Whether docker, with no image in store, pulls what was signed.
    fn pulls(&self, tag: &str, digest: &str) -> bool {
        let image = self.image(tag);
        let pinned = format!("{}@{digest}", self.gun);
        for name in [&image, &pinned] {
            // It may not be there.
            self.docker.run(&["image", "rm", "--force", name]);
        }
        let pulled = self.docker.run(&["pull", &image]);
        assert!(
            pulled.success || pulled.said.contains("trust data"),
            "refused, but for the lack of a signature: {}",
            pulled.said
        );
        pulled.success && pulled.said.contains(digest)
    }
}

/// `1.0: digest: sha256:… size: 524`, as `docker push` ends.
fn digest_in(said: &str) -> String {
    let words: Vec<_> = said.split_whitespace().collect();
    let at = words
        .iter()
        .position(|word| *word == "digest:")
        .unwrap_or_else(|| panic!("{said}"));
    words[at + 1].to_owned()
}

/// As upper-case hexadecimal digits, without `sha256:`: what `inspect` shows.
fn shown(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

fn continues_what_docker_made(server: &str, name: &str) {
    let desk = Desk::new(server, name);
    let one = desk.push("1.0");
    assert_eq!(desk.signed("1.0"), json!([shown(&one), ["Repo Admin"]]));
    assert!(desk.pulls("1.0", &one));

    // The owner signs with docker's keys, and docker reads it.
    let two = desk.push_unsigned("2.0");
    assert!(!desk.pulls("2.0", &two), "nobody has signed it");
    desk.we_do(&["trust", "sign", &desk.image("2.0")]);
    assert_eq!(desk.signed("2.0"), json!([shown(&two), ["Repo Admin"]]));
    assert!(desk.pulls("2.0", &two));

    // Docker's signers: one with a key that docker makes, one that we add with a key that docker loads.
    desk.docker.does(&["trust", "key", "generate", "alice"]);
    desk.docker
        .does(&["trust", "signer", "add", "--key", "alice.pub", "alice", &desk.gun]);
    let bob = SignerKey::generate(desk.docker.home(), "bob");
    run(Command::new("chmod").arg("600").arg(&bob.private));
    desk.docker.does(&[
        "trust",
        "key",
        "load",
        "--name",
        "bob",
        bob.private.to_str().unwrap(),
    ]);
    desk.we_do(&[
        "trust",
        "signer",
        "add",
        "bob",
        &desk.gun,
        "--key",
        bob.public.to_str().unwrap(),
    ]);
    let signers = desk.inspect()["Signers"].clone();
    assert_eq!(
        (&signers[0]["Name"], &signers[1]["Name"]),
        (&json!("bob"), &json!("alice"))
    );

    // Both sign as whoever's keys are at hand.
    let three = desk.push_unsigned("3.0");
    desk.docker.does(&["trust", "sign", &desk.image("3.0")]);
    assert_eq!(desk.signed("3.0"), json!([shown(&three), ["alice", "bob"]]));
    let four = desk.push_unsigned("4.0");
    desk.we_do(&["trust", "sign", &desk.image("4.0")]);
    assert_eq!(desk.signed("4.0"), json!([shown(&four), ["alice", "bob"]]));
    assert!(desk.pulls("3.0", &three) && desk.pulls("4.0", &four));

    // Each withdraws what the other signed.
    desk.we_do(&["trust", "revoke", &desk.image("3.0")]);
    assert!(desk.signed("3.0").is_null() && !desk.pulls("3.0", &three));
    desk.docker
        .does(&["trust", "revoke", "--yes", &desk.image("4.0")]);
    assert!(desk.signed("4.0").is_null() && !desk.pulls("4.0", &four));

    // Docker knows no rotation, but follows one.
    for role in ["targets", "snapshot", "timestamp", "root"] {
        let managed: &[&str] = if role == "snapshot" {
            &["--server-managed"]
        } else {
            &[]
        };
        desk.we_do(&[&["trust", "rotate", role, &desk.gun], managed].concat());
    }
    assert!(desk.pulls("1.0", &one));
    let five = desk.push("5.0");
    assert_eq!(desk.signed("5.0"), json!([shown(&five), ["alice", "bob"]]));
    desk.docker
        .does(&["trust", "signer", "remove", "--force", "alice", &desk.gun]);
    assert_eq!(desk.inspect()["Signers"].as_array().unwrap().len(), 1);
}

fn docker_continues_what_we_made(server: &str, name: &str) {
    let desk = Desk::new(server, name);
    let one = desk.push_unsigned("1.0");
    let signed = desk.we_do(&["trust", "sign", &desk.image("1.0")]);
    assert!(signed.out.contains("initialised"), "{signed:?}");
    assert_eq!(desk.signed("1.0"), json!([shown(&one), ["Repo Admin"]]));
    assert!(desk.pulls("1.0", &one));
    // With our keys, which are of both passphrases.
    let two = desk.push("2.0");
    assert_eq!(desk.signed("2.0"), json!([shown(&two), ["Repo Admin"]]));
    desk.docker
        .does(&["trust", "revoke", "--yes", &desk.image("1.0")]);
    assert!(desk.signed("1.0").is_null());
    // A signer whose key we make, and whom docker adds and removes.
    desk.we_do(&[
        "trust",
        "key",
        "generate",
        "carol",
        "--dir",
        desk.docker.home().to_str().unwrap(),
    ]);
    desk.docker
        .does(&["trust", "signer", "add", "--key", "carol.pub", "carol", &desk.gun]);
    let three = desk.push("3.0");
    assert_eq!(desk.signed("3.0"), json!([shown(&three), ["carol"]]));
    let refused = desk.ours(&["trust", "signer", "remove", "carol", &desk.gun]);
    assert_eq!(
        refused.status,
        Some(1),
        "tags would lose their only signature: {refused:?}"
    );
    desk.we_do(&["trust", "signer", "remove", "--force", "carol", &desk.gun]);
    assert!(desk.inspect()["Signers"].as_array().is_none_or(Vec::is_empty));
}

/// `docker trust sign` makes a signer of the name of the login for a new repository.
fn docker_makes_a_signer_of_the_login(server: &str, name: &str) {
    let desk = Desk::new(server, name);
    let one = desk.push_unsigned("1.0");
    desk.docker.does(&["trust", "sign", &desk.image("1.0")]);
    assert_eq!(desk.signed("1.0"), json!([shown(&one), ["robot"]]));
    let two = desk.push_unsigned("2.0");
    desk.we_do(&["trust", "sign", &desk.image("2.0")]);
    assert_eq!(desk.signed("2.0"), json!([shown(&two), ["robot"]]));
    assert!(desk.pulls("2.0", &two));
}

/// Each story at our server, and at one of the reference's of its own, which dies of concurrent map writes when many
/// ask at once.
fn at_either_server(name: &str, story: fn(&str, &str)) {
    story(&our_server().url(), &format!("ours-{name}"));
    let reference = TrustServer::start(
        &format!("docker-{name}"),
        Build::Durable,
        Some(&trust().signer),
        None,
    );
    story(&reference.url(), &format!("theirs-{name}"));
}

#[test]
fn what_docker_made_we_continue_and_docker_reads_it() {
    at_either_server("continued", continues_what_docker_made);
}

#[test]
fn what_we_made_docker_continues() {
    at_either_server("made-by-us", docker_continues_what_we_made);
}

#[test]
fn docker_makes_a_signer_of_the_login_whose_key_we_use() {
    at_either_server("login", docker_makes_a_signer_of_the_login);
}
