//! Two of our trust servers on one database are one trust server, of which one half may go.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use crate::balancer::Balancer;
use crate::hand::Hand;
use crate::notary::{Publisher, SignerKey};
use crate::our_server::{OurServer, Storage};
use crate::postgres_server;
use crate::process::{self, eventually, output};
use crate::registry::Image;
use crate::remote::Remote;
use crate::world::trust;

/// How many tags each publisher signs. One replica dies when the first has signed half of them.
const TAGS: usize = 8;
/// How long a publisher tries again who is refused since others were quicker.
const PATIENCE: Duration = Duration::from_secs(60);

fn storage(name: &str) -> Storage {
    Storage::Database {
        url: postgres_server::shared()
            .database()
            .url()
            .expose_secret()
            .to_owned(),
        sealing_key: process::new_folder(name).join("sealing.key"),
    }
}

#[test]
fn what_one_replica_was_told_the_other_knows() {
    let storage = storage("replicas-agree");
    let first = OurServer::with("agree-1", storage.clone());
    let second = OurServer::with("agree-2", storage);
    let gun = format!("{}/replicas/agree", trust().registry.host);
    // The first makes the keys of snapshot and timestamp, the second signs with them, and the other way round.
    let hand = Hand::new(&first.url(), "agree");
    let elsewhere = Hand::with_keys(&second.url(), "agree-elsewhere", &hand.keys);
    let sign = |by: &Hand, tag: &str| {
        let image = format!("{gun}:{tag}");
        by.does(&[
            "sign",
            &image,
            "--digest",
            &image_of(tag).digest,
            "--size",
            "1000",
        ]);
    };
    hand.does(&["init", &gun]);
    sign(&elsewhere, "1.0");
    elsewhere.does(&["rotate", "timestamp", &gun]);
    sign(&hand, "2.0");
    hand.does(&["rotate", "snapshot", &gun, "--server-managed"]);
    sign(&elsewhere, "3.0");
    let remotes = [&first, &second].map(|server| Remote::new(&server.url(), &gun));
    for file in ["timestamp", "snapshot", "root", "targets"] {
        let [first, second] = remotes
            .each_ref()
            .map(|remote| remote.get(&format!("{file}.json")).unwrap());
        assert_eq!(first, second, "{file}");
    }
    // Keys that the reference asks for on one side before it publishes on the other.
    let gun = format!("{}/replicas/agree-notary", trust().registry.host);
    Publisher::at(&first.url(), "agree-notary", &gun).does(&["init", &gun]);
    let notary = Publisher::at(&second.url(), "agree-notary", &gun);
    notary.publish();
    notary.rotate("snapshot", &["-r"]);
    notary.sign("1.0", &image_of("1.0"), None);
    let reader = Publisher::at(&first.url(), "agree-notary-reader", &gun);
    assert!(reader.list().contains("1.0"), "{}", reader.list());
}

#[test]
fn publishers_at_two_replicas_lose_nothing_when_one_is_killed() {
    let storage = storage("replicas-killed");
    let replicas = ["replica-1", "replica-2"].map(|name| OurServer::with(name, storage.clone()));
    let balancer = Balancer::start();
    balancer.set(&replicas.each_ref().map(OurServer::backend));
    let url = format!("https://localhost:{}", balancer.port);
    let host = &trust().registry.host;
    let (shared, own) = (
        format!("{host}/replicas/shared"),
        format!("{host}/replicas/owners"),
    );
    let folder = process::new_folder("replicas-signers");
    let signers = ["alice", "bob", "carol"].map(|name| SignerKey::generate(&folder, name));

    let owner = Hand::new(&url, "replicas-owner");
    owner.does(&["init", &shared, &own]);
    for signer in &signers {
        owner.does(&[
            "signer",
            "add",
            &signer.name,
            &shared,
            "--key",
            signer.public.to_str().unwrap(),
        ]);
    }
    let [alice, bob, carol] = &signers;
    let half = AtomicBool::new(false);
    thread::scope(|scope| {
        // In one repository three signers, each in a delegation of their own, and all in `targets/releases`.
        for signer in [alice, bob] {
            let (url, gun, half) = (&url, &shared, &half);
            scope.spawn(move || {
                let hand = Hand::new(url, &format!("replicas-{}", signer.name));
                hand.does(&[
                    "key",
                    "load",
                    signer.private.to_str().unwrap(),
                    "--name",
                    &signer.name,
                ]);
                publish_ours(&hand, gun, &signer.name, half);
            });
        }
        scope.spawn(|| {
            let notary = Publisher::at(&url, "replicas-carol", &shared);
            notary.does(&["key", "import", carol.private.to_str().unwrap(), "-r", "carol"]);
            publish_theirs(&notary, "carol", Some("targets/carol,targets/releases"));
        });
        // In another one owners with the same key, ours and the reference's.
        scope.spawn(|| publish_ours(&owner, &own, "ours", &half));
        scope.spawn(|| {
            let notary = Publisher::with_keys_of(&url, "replicas-owner-notary", &own, &owner.keys);
            publish_theirs(&notary, "theirs", None);
        });
        scope.spawn(|| {
            eventually("half of the tags are signed", PATIENCE * 2, || {
                half.load(Ordering::Relaxed).then_some(())
            });
            replicas[0].kill();
        });
    });

    let of = |names: &[&str]| -> BTreeSet<String> {
        names
            .iter()
            .flat_map(|name| (0..TAGS).map(move |number| format!("{name}-{number}")))
            .collect()
    };
    replicas[0].restart();
    for (gun, expected) in [
        (&shared, of(&["alice", "bob", "carol"])),
        (&own, of(&["ours", "theirs"])),
    ] {
        for (number, replica) in replicas.iter().enumerate() {
            let reader = format!("replicas-reader-{number}");
            let inspected = Hand::with_keys(&replica.url(), &reader, &owner.keys).inspect(gun);
            let tags = inspected["SignedTags"].as_array().unwrap().iter();
            let tags: BTreeSet<_> = tags
                .map(|tag| tag["SignedTag"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(tags, expected, "{gun} at replica {number}");
            Remote::new(&replica.url(), gun).is_whole();
        }
        let [first, second] = replicas
            .each_ref()
            .map(|it| Remote::new(&it.url(), gun).get("timestamp.json"));
        assert_eq!(first, second);
    }
}

/// Signs tags, each until it is published: others are quicker now and then, and a replica dies.
fn publish_ours(hand: &Hand, gun: &str, name: &str, half: &AtomicBool) {
    for number in 0..TAGS {
        let image = format!("{gun}:{name}-{number}");
        let digest = image_of(name).digest;
        eventually("it is published", PATIENCE, || {
            let arguments = ["sign", &image, "--digest", &digest, "--size", "1000", "--tofu"];
            let ended = hand.run(&arguments);
            assert!(matches!(ended.status, Some(0 | 3)), "{ended:?}");
            (ended.status == Some(0)).then_some(())
        });
        if number == TAGS / 2 {
            half.store(true, Ordering::Relaxed);
        }
    }
}

/// The same by the reference's client, which gives up at once; what it has staged stays.
fn publish_theirs(notary: &Publisher, name: &str, roles: Option<&str>) {
    for number in 0..TAGS {
        notary.stage(&format!("{name}-{number}"), &image_of(name), roles);
        eventually("it is published", PATIENCE, || {
            let published = output(notary.command().args(["publish", &notary.gun]));
            published.status.success().then_some(())
        });
    }
}

fn image_of(name: &str) -> Image {
    use sha2::Digest as _;
    Image {
        digest: format!("sha256:{}", hex::encode(sha2::Sha256::digest(name))),
        size: 1000,
    }
}
