//! One test for each row of the threat table (notary-v1 §9) that concerns a verifier, named after the attack.
//! Rows about transport are in `notary.rs`, rows about workloads in `admission.rs`.

use countersign::tuf::{Conditions, Error, Limits, Pin};
use serde_json::{Value, json};

use crate::repo::{Authority, Delegation, Files, GUN, Key, Pair, Repo, alice, digest};
use crate::verify::{View, lookup, requiring, resolve};

fn fixture(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn an_honest_repository_is_accepted_in_one_round() {
    let outcome = View::new()
        .signer("alice")
        .run(&Repo::new().with_alice(&[("2.0", "two")]).publish());
    assert_eq!(outcome.rounds.len(), 1, "{:?}", outcome.rounds);
    let collection = outcome.result.unwrap().collection;
    assert_eq!(lookup(&collection, "1.0"), digest("one"));
    assert_eq!(lookup(&collection, "2.0"), digest("two"));
    assert_eq!(lookup(&collection, "3.0"), "tag_not_signed");
}

// T1
#[test]
fn rollback_of_timestamp_or_snapshot_is_refused() {
    let seen = View::new().having_seen(&Repo::new().all_versions(7).publish());
    for role in ["timestamp", "snapshot", "targets"] {
        let old = Repo::new().all_versions(8).version(role, 6);
        assert_eq!(seen.verdict(&old.publish()), "rollback", "{role}");
    }
    assert_eq!(seen.verdict(&Repo::new().all_versions(8).publish()), "accepted");
}

// T2
#[test]
fn rollback_of_a_delegation_by_the_trust_server_is_refused() {
    let new = Repo::new()
        .with_alice(&[("1.2", "fixed")])
        .version("targets/releases", 5);
    let seen = View::new().having_seen(&new.publish());
    // The server holds snapshot and timestamp keys: it can sign any older file of the delegation back in.
    let old = Repo::new()
        .with_alice(&[("1.2", "vulnerable")])
        .version("targets/releases", 4)
        .version("snapshot", 2);
    assert_eq!(seen.verdict(&old.version("timestamp", 2).publish()), "rollback");
}

// T3
#[test]
fn equivocation_is_refused() {
    let seen = View::new().having_seen(&Repo::new().with_alice(&[("2.0", "two")]).publish());
    let base = || Repo::new().with_alice(&[("2.0", "two")]);
    let newer = |repo: Repo| repo.version("timestamp", 2).version("snapshot", 2);
    for (what, other) in [
        ("timestamp", base().expires("timestamp", "2030-02-02T00:00:00Z")),
        (
            "snapshot",
            base()
                .expires("snapshot", "2030-02-02T00:00:00Z")
                .version("timestamp", 2),
        ),
        ("targets", newer(base().tag("1.0", "other"))),
        ("delegation", newer(Repo::new().with_alice(&[("2.0", "other")]))),
        ("root", newer(base().expires("root", "2031-01-01T00:00:00Z"))),
    ] {
        assert_eq!(seen.verdict(&other.publish()), "equivocation", "{what}");
    }
}

// T4
#[test]
fn freeze_ends_when_metadata_expires() {
    for role in ["root", "timestamp", "snapshot", "targets", "targets/releases"] {
        let repo = Repo::new()
            .with_alice(&[("2.0", "two")])
            .expires(role, "2030-01-01T00:00:00Z");
        assert_eq!(
            View::new().verdict(&repo.publish()),
            "expired",
            "{role}: expires <= now is expired"
        );
        let repo = Repo::new()
            .with_alice(&[("2.0", "two")])
            .expires(role, "2030-01-01T00:00:01Z");
        let collection = View::new().collection(&repo.publish());
        assert_eq!(
            collection.expires().to_string(),
            "2030-01-01T00:00:01Z",
            "{role}: believed no longer than that"
        );
    }
}

// T5
#[test]
fn freeze_by_not_found_denies_a_known_repository() {
    assert_eq!(View::new().verdict(&Files::default()), "no_trust_data");
    let seen = View::new().having_seen(&Repo::new().publish());
    assert_eq!(seen.verdict(&Files::default()), "trust_data_gone");
}

// T6
#[test]
fn fast_forward_ends_with_a_rotation_of_the_servers_keys() {
    let huge = (1 << 53) - 1;
    let seen = View::new().having_seen(
        &Repo::new()
            .version("timestamp", huge)
            .version("snapshot", huge)
            .publish(),
    );
    let mut files = Repo::new().publish();
    let mut healed = Repo::new().version("root", 2).version("targets", 2);
    healed.timestamp = Key::ed25519(40);
    healed.publish_to(&mut files);
    assert_eq!(seen.verdict(&files), "accepted");
    // With the old keys nothing is forgotten, and versions beyond 2^53 − 1 are no versions.
    assert_eq!(seen.verdict(&Repo::new().all_versions(2).publish()), "rollback");
    assert_eq!(
        View::new().verdict(&Repo::new().version("timestamp", huge + 1).publish()),
        "malformed"
    );
}

// T6: the roots of an interrupted run are kept, and so what they make us forget must be forgotten with them.
#[test]
fn fast_forward_ends_even_if_the_run_that_sees_the_rotation_is_interrupted() {
    let huge = (1 << 53) - 1;
    let mut files = Repo::new().version("timestamp", huge).publish();
    let seen = View::new().having_seen(&files);
    let mut healed = Repo::new().version("root", 2).version("targets", 2);
    healed.timestamp = Key::ed25519(40);
    healed.publish_to(&mut files);
    let interrupted = seen.run_against(|path| {
        let kept = files.0.get(path).filter(|_| !path.starts_with("targets"));
        kept.cloned()
    });
    assert_eq!(interrupted.result.unwrap_err().reason(), "missing");
    let rooted = seen.after(interrupted.roots.unwrap());
    assert_eq!(rooted.verdict(&files), "accepted");
}

// T6: a rotation of targets keys forgets nothing.
#[test]
fn a_rotated_targets_key_does_not_excuse_a_rollback_of_targets() {
    let seen = View::new().having_seen(&Repo::new().all_versions(9).publish());
    let mut files = Repo::new().all_versions(9).publish();
    let mut rotated = Repo::new()
        .all_versions(10)
        .version("root", 2)
        .version("targets", 8);
    rotated.targets = Key::p256(20);
    rotated.publish_to(&mut files);
    assert_eq!(seen.verdict(&files), "rollback");
}

// T7
#[test]
fn mix_and_match_of_files_from_different_states_is_refused() {
    let (old, new) = (
        Repo::new().publish(),
        Repo::new().tag("1.2", "x").all_versions(2).publish(),
    );
    for file in ["snapshot", "targets"] {
        let mut mixed = new.clone();
        mixed
            .0
            .insert(format!("{file}.json"), old.0[&format!("{file}.json")].clone());
        assert_eq!(
            View::new().verdict(&mixed),
            "accepted",
            "{file}: the right one is fetched by its hash"
        );
        mixed
            .0
            .retain(|path, _| !path.starts_with(&format!("{file}.")) || path == &format!("{file}.json"));
        assert_eq!(View::new().verdict(&mixed), "missing", "{file}");
        let by_hash = new
            .0
            .keys()
            .find(|path| path.starts_with(&format!("{file}.")) && path.len() > 70);
        let by_hash = by_hash
            .filter(|path| new.0[*path] == new.0[&format!("{file}.json")])
            .unwrap();
        mixed
            .0
            .insert(by_hash.clone(), old.0[&format!("{file}.json")].clone());
        assert_eq!(View::new().verdict(&mixed), "hash", "{file}");
    }
}

// T7: the length is part of the description.
#[test]
fn a_file_of_another_length_than_stated_is_refused() {
    let longer = Repo::new().edit("timestamp", |timestamp| {
        let length = timestamp["meta"]["snapshot"]["length"].as_u64().unwrap();
        timestamp["meta"]["snapshot"]["length"] = json!(length + 1);
    });
    assert_eq!(View::new().verdict(&longer.publish()), "hash");
}

// T8
#[test]
fn omission_of_a_known_delegation_from_the_snapshot_is_refused() {
    let repo = Repo::new().with_alice(&[("2.0", "two")]);
    let seen = View::new().signer("alice").having_seen(&repo.publish());
    for name in ["targets/releases", "targets/alice"] {
        let mut omitting = repo.clone().version("snapshot", 2).version("timestamp", 2);
        omitting.delegation(name).published = false;
        assert_eq!(seen.verdict(&omitting.publish()), "omitted", "{name}");
    }
    // Together with its delegation it may go.
    let mut without = repo.all_versions(2);
    without.delegations.clear();
    assert_eq!(seen.verdict(&without.publish()), "accepted");
}

// T9, T54
#[test]
fn downgrade_from_releases_to_targets_is_refused() {
    let repo = || Repo::new().tag("2.0", "stale").with_alice(&[("2.0", "fresh")]);
    assert_eq!(
        lookup(&View::new().collection(&repo().publish()), "2.0"),
        digest("fresh")
    );
    let releases = "targets/releases";
    for (how, lie, reason) in [
        (
            "expired",
            repo().expires(releases, "2029-12-31T00:00:00Z"),
            "expired",
        ),
        ("unsigned", repo().signed_by(releases, &[]), "no_signatures"),
        (
            "badly signed",
            repo().signed_by(releases, &[Key::p256(66)]),
            "threshold",
        ),
        (
            "not JSON",
            repo().rewrite(releases, |_| b"{}".to_vec()),
            "malformed",
        ),
    ] {
        assert_eq!(View::new().verdict(&lie.publish()), reason, "{how}");
    }
    let mut files = repo().publish();
    files.remove(releases);
    assert_eq!(View::new().verdict(&files), "missing", "withheld");
}

// T9: the one state that looks alike and is normal.
#[test]
fn releases_that_were_never_published_follow_the_policy() {
    let mut repo = Repo::new().with_alice(&[]);
    repo.delegation("targets/releases").published = false;
    let collection = View::new().collection(&repo.publish());
    assert_eq!(lookup(&collection, "1.0"), digest("one"));
    let strict = Conditions {
        releases_required: true,
        ..Conditions::default()
    };
    assert_eq!(
        resolve(&collection, "1.0", &strict).unwrap_err().reason(),
        "releases_missing"
    );
    let undelegated = View::new().collection(&Repo::new().publish());
    assert!(
        resolve(&undelegated, "1.0", &strict).is_ok(),
        "nothing is missing where nothing is delegated"
    );
}

// T10
#[test]
fn endless_metadata_is_refused_at_the_limits() {
    let mut many = Repo::new();
    for n in 0..20 {
        many = many.tag(&format!("v{n}"), "x");
    }
    let files = many.with_alice(&[("2.0", "two")]).publish();
    let view = || View::new().signer("alice");
    assert_eq!(view().verdict(&files), "accepted");
    for (what, view) in [
        (
            "tags of a role",
            view().limits(|limits| limits.targets_per_role = 10),
        ),
        (
            "bytes of a role",
            view().limits(|limits| limits.targets_bytes = 700),
        ),
        ("bytes in all", view().limits(|limits| limits.total_bytes = 3000)),
        ("roles", view().limits(|limits| limits.roles = 2)),
        ("depth", view().limits(|limits| limits.depth = 0)),
    ] {
        assert_eq!(view.verdict(&files), "limit", "{what}");
    }
    let deep = Repo::new().edit("targets", |targets| {
        let nested = (0..40).fold(json!(1), |inner, _| json!([inner]));
        targets["targets"]["1.0"]["custom"] = nested;
    });
    assert_eq!(View::new().verdict(&deep.publish()), "malformed");
}

// T10: what is asked for at once is in memory at once.
#[test]
fn no_round_asks_for_more_than_a_run_may_read() {
    let most = 64 << 20;
    let mut repo = Repo::new();
    let mut view = View::new().attribution();
    for n in 0..20 {
        let name = format!("signer{n}");
        view = view.signer(&name);
        repo.delegations.push(Delegation::new(&name, &[alice()], &[]));
        repo.delegations
            .push(Delegation::new(&format!("other{n}"), &[alice()], &[]));
    }
    let outcome = view.run(&repo.publish());
    assert!(outcome.result.is_ok());
    assert!(
        outcome.bytes.iter().all(|bytes| *bytes <= most),
        "{:?}",
        outcome.bytes
    );
    // A server that holds the snapshot key may claim any length.
    let endless = repo.edit("snapshot", |snapshot| {
        for (name, meta) in snapshot["meta"].as_object_mut().unwrap() {
            if name.starts_with("targets/") {
                meta["length"] = (16 << 20).into();
            }
        }
    });
    let outcome = view.run(&endless.publish());
    assert!(outcome.result.is_err());
    assert!(
        outcome.bytes.iter().all(|bytes| *bytes <= most),
        "{:?}",
        outcome.bytes
    );
}

// T10: every round runs over the chain again, so a walk of a thousand versions must not take a hundred rounds.
#[test]
fn a_long_walk_takes_few_rounds() {
    let limits = Limits {
        roots: 200,
        ..Limits::default()
    };
    let server = |path: &str| {
        let version: u64 = match path.strip_suffix("root.json")? {
            "" => limits.roots,
            version => version.strip_suffix('.')?.parse().ok()?,
        };
        Repo::new()
            .version("root", version)
            .publish()
            .0
            .remove("root.json")
    };
    let foreign = View::pinned(Pin::keys([Key::p256(9).pem().as_str()]).unwrap());
    let outcome = foreign.limits(|own| *own = limits).run_against(server);
    assert_eq!(outcome.result.unwrap_err().reason(), "pin");
    assert!(outcome.rounds.len() < 8, "{} rounds", outcome.rounds.len());
    let most = limits.total_bytes;
    assert!(
        outcome.bytes.iter().all(|bytes| *bytes <= most),
        "{:?}",
        outcome.bytes
    );
}

// T10: a root that claims a huge version does not make us ask for all before it.
#[test]
fn an_endless_chain_of_roots_is_refused() {
    let seen = View::new().having_seen(&Repo::new().publish());
    let far = Repo::new().version("root", 5000).publish();
    assert_eq!(seen.verdict(&far), "limit");
    let elsewhere = View::pinned(Pin::keys([Key::p256(9).pem().as_str()]).unwrap());
    assert_eq!(elsewhere.verdict(&far), "limit");
}

// T12
#[test]
fn arbitrary_content_signed_by_foreign_keys_is_refused() {
    let foreign = Key::p256(66);
    for role in ["targets", "snapshot", "timestamp", "targets/releases"] {
        let repo = Repo::new()
            .with_alice(&[])
            .signed_by(role, std::slice::from_ref(&foreign));
        assert_eq!(View::new().verdict(&repo.publish()), "threshold", "{role}");
        let unsigned = Repo::new().with_alice(&[]).signed_by(role, &[]);
        assert_eq!(
            View::new().verdict(&unsigned.publish()),
            "no_signatures",
            "{role}"
        );
    }
    let root = Repo::new().signed_by("root", &[foreign.certified(GUN)]);
    assert_eq!(View::new().verdict(&root.publish()), "pin");
    let seen = View::new().having_seen(&Repo::new().publish());
    let mut usurper = Repo::new().version("root", 2);
    usurper.root = vec![foreign.certified(GUN)];
    let mut files = Repo::new().publish();
    usurper.publish_to(&mut files);
    assert_eq!(seen.verdict(&files), "root_chain");
}

// T12: a forged file is called forged even if it is expired as well.
#[test]
fn a_forged_and_expired_file_is_called_forged() {
    let repo = Repo::new()
        .expires("timestamp", "2000-01-01T00:00:00Z")
        .signed_by("timestamp", &[Key::p256(66)]);
    assert_eq!(View::new().verdict(&repo.publish()), "threshold");
}

// T13, T14
#[test]
fn a_server_break_in_adds_no_tags() {
    // Snapshot and timestamp keys sign anything; targets is still the publisher's.
    let forged = Repo::new()
        .tag("evil", "evil")
        .signed_by("targets", &[Key::ed25519(3), Key::ed25519(4)]);
    assert_eq!(View::new().verdict(&forged.publish()), "threshold");
}

// T15
#[test]
fn duplicate_members_inject_no_tags() {
    let evil = br#"{"evil":{"hashes":{"sha256":"GD8CSdXwW1Kui5s/fJuolXCPPloyqrgIgUuEoqy1SXo="},"length":1}}"#;
    for (role, member) in [
        ("targets", "targets"),
        ("targets", "delegations"),
        ("root", "roles"),
        ("snapshot", "meta"),
    ] {
        let name = member.to_owned();
        let repo = Repo::new().rewrite(role, move |raw| {
            let text = String::from_utf8(raw).unwrap();
            let injected = format!("{{\"{name}\":{},\"{name}\":", String::from_utf8_lossy(evil));
            text.replacen(&format!("\"{name}\":"), &injected[1..], 1)
                .into_bytes()
        });
        assert_eq!(
            View::new().verdict(&repo.publish()),
            "malformed",
            "{member} of {role}"
        );
    }
}

// T16, T17
#[test]
fn a_stolen_targets_or_signer_key_does_not_meet_a_requirement_of_another_signer() {
    let repo = Repo::new().tag("2.0", "evil").with_alice(&[]);
    let collection = View::new().signer("alice").collection(&repo.publish());
    assert_eq!(
        resolve(&collection, "2.0", &requiring("alice", None))
            .unwrap_err()
            .reason(),
        "signer_missing"
    );

    let mut split = Repo::new().with_alice(&[("2.0", "two")]);
    split
        .delegation("targets/alice")
        .tags
        .insert("2.0".to_owned(), "other".to_owned());
    let collection = View::new().signer("alice").collection(&split.publish());
    assert_eq!(
        resolve(&collection, "2.0", &requiring("alice", None))
            .unwrap_err()
            .reason(),
        "signer_disagrees"
    );

    // The targets key can delegate to itself under alice's name; a pinned signer key sees that.
    let mut usurped = Repo::new().with_alice(&[("2.0", "evil")]);
    usurped.delegation("targets/alice").keys = vec![Key::p256(66)];
    let collection = View::new().signer("alice").collection(&usurped.publish());
    assert!(resolve(&collection, "2.0", &requiring("alice", None)).is_ok());
    let pinned = requiring("alice", Some(&alice()));
    assert_eq!(
        resolve(&collection, "2.0", &pinned).unwrap_err().reason(),
        "signer_key"
    );

    let honest = View::new()
        .signer("alice")
        .collection(&Repo::new().with_alice(&[("2.0", "two")]).publish());
    assert_eq!(resolve(&honest, "2.0", &pinned).unwrap().signers, ["alice"]);
    let nobody = View::new()
        .signer("bob")
        .collection(&Repo::new().with_alice(&[("2.0", "two")]).publish());
    assert_eq!(
        resolve(&nobody, "2.0", &requiring("bob", None))
            .unwrap_err()
            .reason(),
        "signer_absent"
    );
}

// T17
#[test]
fn a_delegation_needs_its_own_threshold() {
    let two = [Key::p256(5), Key::p256(6)];
    let mut repo = Repo::new();
    repo.delegations.push(Delegation {
        threshold: 2,
        ..Delegation::new("releases", &two, &[("2.0", "two")])
    });
    assert_eq!(View::new().verdict(&repo.publish()), "accepted");
    let alone = repo.signed_by("targets/releases", &two[..1]);
    assert_eq!(View::new().verdict(&alone.publish()), "threshold");
}

// T19
#[test]
fn one_private_key_in_two_certificates_counts_once() {
    let key = Key::p256(1);
    let twice = [key.certified(GUN), key.certified_until(GUN, (2001, 2099))];
    let mut repo = Repo::new().threshold("root", 2);
    repo.root = twice.to_vec();
    assert_eq!(View::new().verdict(&repo.publish()), "threshold");
    repo.root = vec![key.certified(GUN), Key::p256(7).certified(GUN)];
    assert_eq!(View::new().verdict(&repo.publish()), "accepted");

    let mut raw_and_certified = Repo::new();
    let keys = [alice(), alice().certified("anything")];
    raw_and_certified.delegations.push(Delegation {
        threshold: 2,
        ..Delegation::new("releases", &keys, &[("2.0", "two")])
    });
    assert_eq!(View::new().verdict(&raw_and_certified.publish()), "threshold");
}

// T19: a compressed point would be a second id for one key; the reference reads uncompressed ones only.
#[test]
fn a_second_spelling_of_a_key_is_not_a_second_key() {
    let key = Key::p256(5);
    let Pair::P256(pair) = &*key.pair else {
        unreachable!()
    };
    let point = pair.verifying_key().to_sec1_point(true);
    let prefix = hex::decode("3039301306072a8648ce3d020106082a8648ce3d030107032200").unwrap();
    let compressed = Key {
        public: [prefix.as_slice(), point.as_bytes()].concat(),
        ..key.clone()
    };
    let mut repo = Repo::new();
    repo.delegations.push(Delegation {
        threshold: 2,
        ..Delegation::new("releases", &[key, compressed], &[])
    });
    assert_eq!(View::new().verdict(&repo.publish()), "threshold");
}

// T20
#[test]
fn a_signature_repeated_counts_once() {
    let two = [Key::p256(5), Key::p256(6)];
    let mut repo = Repo::new();
    repo.delegations.push(Delegation {
        threshold: 2,
        ..Delegation::new("releases", &two, &[])
    });
    let repeated = repo.signed_by("targets/releases", &[two[0].clone(), two[0].clone()]);
    assert_eq!(View::new().verdict(&repeated.publish()), "threshold");
}

// T21
#[test]
fn a_key_under_a_foreign_id_is_refused() {
    let swap = |map: &mut Value, from: &Key, to: &Key| {
        map[from.id()] = to.listed();
    };
    let root = Repo::new().edit("root", move |root| {
        swap(&mut root["keys"], &Key::p256(2), &Key::p256(66));
    });
    assert_eq!(View::new().verdict(&root.publish()), "malformed");
    // Also where the key never signs.
    let unused = Repo::new().edit("root", |root| {
        root["keys"]["00".repeat(32)] = Key::p256(66).listed();
    });
    assert_eq!(View::new().verdict(&unused.publish()), "malformed");
    let targets = Repo::new().with_alice(&[]).edit("targets", move |targets| {
        swap(&mut targets["delegations"]["keys"], &alice(), &Key::p256(66));
    });
    assert_eq!(View::new().verdict(&targets.publish()), "malformed");
}

// T22
#[test]
fn a_method_that_does_not_fit_the_key_never_verifies() {
    let method = |key: Key, method: &'static str| {
        let mut repo = Repo::new();
        repo.targets = key.clone();
        View::new().verdict(&repo.signed_by("targets", &[key.method(method)]).publish())
    };
    for (key, good, bad) in [
        (
            Key::p256(2),
            vec!["ecdsa", "ECDSA"],
            vec!["eddsa", "rsapss", "none", "", "hmac"],
        ),
        (Key::p384(2), vec!["ecdsa"], vec!["eddsa", "rsapss"]),
        (Key::p521(2), vec!["ecdsa"], vec!["eddsa", "rsapss"]),
        (Key::ed25519(2), vec!["eddsa"], vec!["ecdsa", "rsapss"]),
        (Key::rsa(), vec!["rsapss", "rsapkcs1v15"], vec!["ecdsa", "eddsa"]),
    ] {
        for word in good {
            assert_eq!(method(key.clone(), word), "accepted", "{} {word}", key.keytype);
        }
        for word in bad {
            assert_eq!(method(key.clone(), word), "threshold", "{} {word}", key.keytype);
        }
    }
    // A key type we do not know is no error; its signatures say nothing.
    let unknown = Key {
        keytype: "sphincs+",
        ..Key::p256(2)
    };
    let mut repo = Repo::new();
    repo.targets = unknown;
    assert_eq!(View::new().verdict(&repo.publish()), "threshold");
    // Nor may an RSA key come under the name of an elliptic curve.
    let mut repo = Repo::new();
    repo.targets = Key {
        keytype: "ecdsa",
        ..Key::rsa()
    };
    assert_eq!(View::new().verdict(&repo.publish()), "threshold");
}

// T23
#[test]
fn a_signature_of_another_length_or_encoding_is_refused() {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    let reencode = |change: fn(Vec<u8>) -> Vec<u8>| {
        Repo::new().rewrite("targets", move |raw| {
            let mut file: Value = serde_json::from_slice(&raw).unwrap();
            let signature = BASE64_STANDARD
                .decode(file["signatures"][0]["sig"].as_str().unwrap())
                .unwrap();
            file["signatures"][0]["sig"] = json!(BASE64_STANDARD.encode(change(signature)));
            file.to_string().into_bytes()
        })
    };
    let der = |signature: Vec<u8>| {
        p256::ecdsa::Signature::from_slice(&signature)
            .unwrap()
            .to_der()
            .as_bytes()
            .to_vec()
    };
    for (how, repo) in [
        ("DER", reencode(der)),
        ("shorter", reencode(|mut signature| signature.split_off(1))),
        ("longer", reencode(|signature| [vec![0], signature].concat())),
        ("empty", reencode(|_| Vec::new())),
        ("zeros", reencode(|signature| vec![0; signature.len()])),
    ] {
        assert_eq!(View::new().verdict(&repo.publish()), "threshold", "{how}");
    }
}

// T24
#[test]
fn ambiguous_encodings_are_refused() {
    for (what, from, to) in [
        ("a number as a fraction", "\"version\":1}", "\"version\":1.0}"),
        ("a number with an exponent", "\"version\":1}", "\"version\":1e0}"),
        ("a version of zero", "\"version\":1}", "\"version\":0}"),
        ("a negative length", "\"length\":1490", "\"length\":-1"),
        ("data after the file", "\"signatures\"", "\"x\":0}{\"signatures\""),
        ("a space after the file", "\"}]}", "\"}]} "),
        ("lax base64", "=\"},\"length\"", "\"},\"length\""),
        ("a control character", "\"1.0\"", "\"1.0\\u0000\""),
        ("a lone surrogate", "\"1.0\"", "\"1.0\\ud800\""),
        (
            "a time without a zone",
            "T00:00:00Z\",\"targets\"",
            "T00:00:00\",\"targets\"",
        ),
    ] {
        let repo = Repo::new().rewrite("targets", move |raw| {
            let text = String::from_utf8(raw).unwrap();
            assert!(text.contains(from), "{what}: {from} is not in {text}");
            text.replacen(from, to, 1).into_bytes()
        });
        let reason = View::new().verdict(&repo.publish());
        assert!(reason == "malformed" || reason == "threshold", "{what}: {reason}");
    }
    let mark = Repo::new().rewrite("targets", |raw| [b"\xef\xbb\xbf".to_vec(), raw].concat());
    assert_eq!(
        View::new().verdict(&mark.publish()),
        "malformed",
        "byte order mark"
    );
    let utf8 = Repo::new().rewrite("targets", |raw| {
        raw.into_iter()
            .map(|b| if b == b'n' { 0xff } else { b })
            .collect()
    });
    assert_eq!(View::new().verdict(&utf8.publish()), "malformed", "invalid UTF-8");
}

// T24: other bytes, same value, same signature.
#[test]
fn the_signature_covers_the_value_and_not_its_spelling() {
    let spelled = Repo::new().rewrite("targets", |raw| {
        let file: Value = serde_json::from_slice(&raw).unwrap();
        serde_json::to_string_pretty(&file)
            .unwrap()
            .replace("\"1.0\"", "\"1\\u002e0\"")
            .into_bytes()
    });
    assert_eq!(
        lookup(&View::new().collection(&spelled.publish()), "1.0"),
        digest("one")
    );
    let newline = Repo::new().rewrite("timestamp", |raw| [raw, b"\n".to_vec()].concat());
    assert_eq!(View::new().verdict(&newline.publish()), "accepted");
}

// T25
#[test]
fn members_that_differ_by_case_only_are_refused() {
    for (role, member) in [
        ("root", "Version"),
        ("timestamp", "EXPIRES"),
        ("snapshot", "Meta"),
        ("targets", "Targets"),
        ("targets", "ver\u{17f}ion"),
        ("targets", "Delegations"),
        ("root", "Roles"),
        ("root", "\u{212a}eys"),
    ] {
        let repo = Repo::new().edit(role, move |document| document[member] = json!({}));
        assert_eq!(
            View::new().verdict(&repo.publish()),
            "malformed",
            "{member} in {role}"
        );
    }
    let nested = Repo::new().edit("targets", |targets| {
        targets["targets"]["1.0"]["Hashes"] = json!({});
    });
    assert_eq!(View::new().verdict(&nested.publish()), "malformed");
    // Members nobody knows are signed and ignored (design §9.8); map keys are the publisher's.
    let unknown = Repo::new()
        .tag("Version", "v")
        .edit("targets", |targets| targets["x-note"] = json!({"a": [1]}));
    assert_eq!(View::new().verdict(&unknown.publish()), "accepted");
}

// T26
#[test]
fn crafted_metadata_crashes_nothing() {
    for raw in [
        "",
        "null",
        "[]",
        "{}",
        "0",
        "{\"signed\":null,\"signatures\":[]}",
        "{\"signatures\":[]}",
        "{\"signed\":{}}",
        "{\"signed\":[],\"signatures\":null}",
        "{\"signed\":{},\"signatures\":[null]}",
        "{\"signed\":{},\"signatures\":[{\"keyid\":1,\"method\":2,\"sig\":3}]}",
        "{\"signed\":{\"_type\":\"Root\",\"roles\":null,\"keys\":null,\"version\":1,\"expires\":\"2120-01-01T00:00:00Z\"},\"signatures\":[]}",
        "{\"signed\":{\"_type\":\"Root\",\"roles\":{\"root\":null},\"keys\":{},\"version\":1,\"expires\":\"x\"},\"signatures\":[]}",
    ] {
        for role in ["root", "timestamp", "snapshot", "targets"] {
            let repo = Repo::new().rewrite(role, move |_| raw.as_bytes().to_vec());
            let reason = View::new().verdict(&repo.publish());
            assert!(
                matches!(reason, "malformed" | "no_signatures"),
                "{role} = {raw}: {reason}"
            );
        }
    }
}

// T26: thresholds and key lists that cannot be met, or are met by nobody.
#[test]
fn a_role_without_keys_or_with_a_threshold_of_zero_vouches_for_nothing() {
    for (what, threshold, keys, reason) in [
        ("threshold 0", json!(0), None, "malformed"),
        (
            "threshold beyond reason",
            json!(9_007_199_254_740_991_u64),
            None,
            "threshold",
        ),
        ("no keys", json!(1), Some(json!([])), "threshold"),
        ("null keys", json!(1), Some(Value::Null), "threshold"),
        (
            "a key that is not there",
            json!(1),
            Some(json!(["00".repeat(32)])),
            "malformed",
        ),
    ] {
        let repo = Repo::new().edit("root", move |root| {
            root["roles"]["targets"]["threshold"] = threshold.clone();
            if let Some(keys) = &keys {
                root["roles"]["targets"]["keyids"] = keys.clone();
            }
        });
        assert_eq!(View::new().verdict(&repo.publish()), reason, "{what}");
    }
}

// T27
#[test]
fn an_expired_root_certificate_does_not_prevent_its_own_replacement() {
    let expired = Key::p256(1).certified_until(GUN, (2000, 2029));
    let renewed = Key::p256(1).certified(GUN);
    let mut old = Repo::new();
    old.root = vec![expired.clone()];
    let by_id = |key: &Key| View::pinned(Pin::key_ids([key.id().as_str()]).unwrap());
    assert_eq!(
        by_id(&expired).verdict(&old.publish()),
        "certificate",
        "the newest root needs a valid one"
    );

    let seen = by_id(&expired)
        .at("2028-01-01T00:00:00Z")
        .having_seen(&old.publish());
    let mut files = old.publish();
    old.rotate_root(&[renewed]).all_versions(2).publish_to(&mut files);
    assert_eq!(
        seen.clone().at("2030-01-01T00:00:00Z").verdict(&files),
        "accepted",
        "with memory"
    );
    assert_eq!(by_id(&expired).verdict(&files), "accepted", "without");
}

// §5.7 step 4: a bare key that is pinned outlives its certificates.
#[test]
fn the_dates_of_a_pinned_bare_keys_certificate_do_not_matter() {
    let mut repo = Repo::new();
    repo.root = vec![Key::p256(1).certified_until(GUN, (2000, 2029))];
    assert_eq!(View::new().verdict(&repo.publish()), "accepted");
    let tofu = View::pinned(Pin::first_use());
    assert_eq!(tofu.verdict(&repo.publish()), "certificate");
}

// T28
#[test]
fn wildcard_names_in_certificates_cover_nothing() {
    for name in [
        "registry.example.com/team*",
        "registry.example.com/team/*",
        "*",
        "registry.example.com/team/app*",
    ] {
        let mut repo = Repo::new();
        repo.root = vec![Key::p256(1).certified(name)];
        assert_eq!(View::new().verdict(&repo.publish()), "name", "{name}");
        let any = View::pinned(Pin::keys([Key::p256(1).pem().as_str()]).unwrap().any_name());
        assert_eq!(
            any.verdict(&repo.publish()),
            "accepted",
            "{name}: only where the policy says so"
        );
    }
}

// T30
#[test]
fn pins_are_held_against_a_cached_root_too() {
    let files = Repo::new().publish();
    let state = View::pinned(Pin::first_use()).run(&files).result.unwrap().state;
    let foreign = View::pinned(Pin::keys([Key::p256(9).pem().as_str()]).unwrap()).after(state);
    assert_eq!(foreign.verdict(&files), "pin");
}

// T31
#[test]
fn first_use_is_trusted_only_if_asked_and_only_once() {
    let files = Repo::new().publish();
    let tofu = View::pinned(Pin::first_use());
    let first = tofu.run(&files);
    assert_eq!(
        first.roots, None,
        "a first root is kept only after a complete run"
    );
    let seen = tofu.after(first.result.unwrap().state);
    let mut other = Repo::new().all_versions(2);
    other.root = vec![Key::p256(9).certified(GUN)];
    assert_eq!(seen.verdict(&other.publish()), "equivocation");
    assert_eq!(seen.verdict(&other.version("root", 2).publish()), "root_chain");
}

// T10: a message that is kept and logged does not repeat whatever a certificate says.
#[test]
fn long_names_in_certificates_are_not_repeated_at_length() {
    let mut repo = Repo::new();
    let long = "x".repeat(20_000);
    repo.root = (1..=9).map(|seed| Key::p256(seed).certified(&long)).collect();
    let error = View::new().run(&repo.publish()).result.unwrap_err();
    assert_eq!(error.reason(), "name");
    assert!(
        error.to_string().len() < 1_000,
        "{} bytes",
        error.to_string().len()
    );
}

// T33
#[test]
fn metadata_of_another_repository_is_refused() {
    let other = "registry.example.com/team/other";
    assert_eq!(View::new().gun(other).verdict(&Repo::new().publish()), "name");
    assert_eq!(
        View::new().gun(other).verdict(&Repo::named(other).publish()),
        "accepted",
        "one key, many repositories"
    );
    let mut bare = Repo::new();
    bare.root = vec![Key::p256(1)];
    assert_eq!(
        View::new().verdict(&bare.publish()),
        "name",
        "a root key without certificate names nobody"
    );
}

// T34
#[test]
fn a_digest_does_not_bypass_and_must_agree_with_its_tag() {
    let collection = View::new().collection(
        &Repo::new()
            .tag("2.0", "stale")
            .with_alice(&[("2.0", "fresh")])
            .publish(),
    );
    let ask = |tag: Option<&str>, content: &str| {
        let tag = tag.map(|tag| tag.parse().unwrap());
        let digest = digest(content).parse().unwrap();
        collection
            .resolve(tag.as_ref(), Some(&digest), &Conditions::default())
            .map_or_else(|unsigned| unsigned.reason(), |_| "trusted")
    };
    for (tag, content, verdict) in [
        (Some("1.0"), "one", "trusted"),
        (Some("1.0"), "eleven", "digest_mismatch"),
        (Some("3.0"), "one", "tag_not_signed"),
        (None, "one", "trusted"),
        (None, "never signed", "digest_not_signed"),
        (None, "fresh", "trusted"),
        // Overridden for its only tag: not the effective entry of anything (design §9.6).
        (None, "stale", "digest_not_signed"),
    ] {
        assert_eq!(ask(tag, content), verdict, "{tag:?} {content}");
    }
    let sha512 = format!("sha512:{}", "ab".repeat(64)).parse().unwrap();
    let refused = collection
        .resolve(None, Some(&sha512), &Conditions::default())
        .unwrap_err();
    assert_eq!(refused.reason(), "digest_not_signed");
}

// T38
#[test]
fn names_that_are_no_tags_are_ignored() {
    let repo = Repo::new()
        .tag("1.0\u{430}", "homoglyph")
        .tag("-x", "x")
        .tag("", "empty")
        .tag("a/b", "path");
    let collection = View::new().collection(&repo.publish());
    let tags: Vec<_> = collection.tags().map(ToString::to_string).collect();
    assert_eq!(tags, ["1.0", "1.1"]);
}

// T39
#[test]
fn entries_outside_a_delegations_paths_do_not_count() {
    let mut repo = Repo::new()
        .tag("1.0", "targets")
        .with_alice(&[("1.0", "releases"), ("2.0", "two")]);
    repo.delegation("targets/releases").paths = vec!["2", "v"];
    let collection = View::new().collection(&repo.publish());
    assert_eq!(lookup(&collection, "1.0"), digest("targets"));
    assert_eq!(lookup(&collection, "2.0"), digest("two"));
    repo.delegation("targets/releases").paths = Vec::new();
    assert_eq!(
        lookup(&View::new().collection(&repo.publish()), "2.0"),
        "tag_not_signed",
        "no path, no tags"
    );
}

// T39: children cannot have more than their parents.
#[test]
fn a_nested_delegation_cannot_escape_its_parents_paths() {
    let paths = |parent: Vec<&'static str>, child: Vec<&'static str>| {
        let mut repo = Repo::new().tag("v1.2", "x");
        let tags = [("v1.2", "x")];
        repo.delegations.push(Delegation {
            paths: parent,
            ..Delegation::new("ci", &[Key::p256(7)], &[])
        });
        repo.delegations.push(Delegation {
            paths: child,
            ..Delegation::new("ci/nightly", &[Key::p256(8)], &tags)
        });
        let collection = View::new().signer("ci/nightly").collection(&repo.publish());
        resolve(&collection, "v1.2", &requiring("ci/nightly", None)).is_ok()
    };
    for (parent, child, counts) in [
        (vec![""], vec![""], true),
        (vec!["v1"], vec!["v1.2"], true),
        (vec!["v1"], vec!["v1"], true),
        (vec!["v1"], vec![""], false),
        (vec!["v1"], vec!["v"], false),
        (vec!["v2"], vec!["v2"], false),
    ] {
        assert_eq!(
            paths(parent.clone(), child.clone()),
            counts,
            "{parent:?} > {child:?}"
        );
    }
}

// T40
#[test]
fn a_delegation_with_an_invalid_name_or_foreign_parent_is_refused() {
    for name in [
        "targets/a/b",
        "releases",
        "targets",
        "root",
        "targets/../x",
        "targets/A",
        "targets/",
        "snapshot",
    ] {
        let repo = Repo::new().with_alice(&[]).edit("targets", move |targets| {
            targets["delegations"]["roles"][0]["name"] = json!(name);
        });
        assert_eq!(View::new().verdict(&repo.publish()), "malformed", "{name}");
    }
    let twice = Repo::new().with_alice(&[]).edit("targets", |targets| {
        targets["delegations"]["roles"][0]["name"] = json!("targets/releases");
    });
    assert_eq!(
        View::new().verdict(&twice.publish()),
        "malformed",
        "two delegations of one name"
    );
}

// T41
#[test]
fn a_broken_delegation_that_nobody_needs_blocks_nothing() {
    for (how, mut repo) in [
        (
            "badly signed",
            Repo::new().signed_by("targets/bob", &[Key::p256(66)]),
        ),
        (
            "expired",
            Repo::new().expires("targets/bob", "2000-01-01T00:00:00Z"),
        ),
        (
            "malformed",
            Repo::new().rewrite("targets/bob", |_| b"junk".to_vec()),
        ),
    ] {
        repo.delegations
            .push(Delegation::new("bob", &[Key::p256(7)], &[("1.0", "one")]));
        let repo = repo.with_alice(&[("2.0", "two")]);
        assert_eq!(View::new().verdict(&repo.publish()), "accepted", "{how}");
        let outcome = View::new()
            .attribution()
            .run(&repo.publish())
            .result
            .unwrap()
            .collection;
        let signers = resolve(&outcome, "2.0", &Conditions::default()).unwrap().signers;
        assert_eq!(signers, ["alice"], "{how}");
        assert_ne!(
            View::new().signer("bob").verdict(&repo.publish()),
            "accepted",
            "{how}: but who needs bob is told"
        );
    }
}

// T44
#[test]
fn the_clock_is_read_once_and_given() {
    let repo = Repo::new().expires("timestamp", "2030-01-14T00:00:00Z").publish();
    assert_eq!(View::new().at("2030-01-13T23:59:59Z").verdict(&repo), "accepted");
    assert_eq!(View::new().at("2030-01-14T00:00:00Z").verdict(&repo), "expired");
    let early = View::pinned(Pin::first_use()).at("1999-12-01T00:00:00Z");
    assert_eq!(
        early.verdict(&repo),
        "certificate",
        "a certificate of next year is not valid yet"
    );
}

// T52
#[test]
fn weak_certificates_never_count() {
    let sha1 =
        Key::from_pem(&fixture("weak-certificates/sha1.key")).wrapped(&fixture("weak-certificates/sha1.pem"));
    let mut repo = Repo::new();
    repo.root = vec![sha1.clone()];
    let pinned = View::pinned(Pin::key_ids([sha1.id().as_str()]).unwrap());
    assert_eq!(pinned.verdict(&repo.publish()), "certificate");
    let bare = View::pinned(Pin::keys([sha1.pem().as_str()]).unwrap());
    assert_eq!(
        bare.verdict(&repo.publish()),
        "certificate",
        "not even for a pinned key"
    );

    let short = Key::rsa().wrapped(&fixture("weak-certificates/rsa1024.pem"));
    repo.root = vec![short.clone()];
    let pinned = View::pinned(Pin::key_ids([short.id().as_str()]).unwrap());
    assert_eq!(pinned.verdict(&repo.publish()), "certificate");

    let mut delegated = Repo::new();
    delegated
        .delegations
        .push(Delegation::new("releases", &[sha1], &[("2.0", "two")]));
    assert_eq!(
        View::new().verdict(&delegated.publish()),
        "threshold",
        "as a delegation's key"
    );
}

// §4.4 step 2: root keys come in leaf certificates; the reference asks nothing like it of delegations.
#[test]
fn an_authority_is_no_root_certificate_but_may_be_a_signers() {
    let mut repo = Repo::new();
    repo.root = vec![Key::p256(1).in_authority_certificate(GUN)];
    assert_eq!(View::new().verdict(&repo.publish()), "certificate");
    let mut repo = Repo::new();
    let alice = alice().in_authority_certificate("alice");
    repo.delegations
        .push(Delegation::new("releases", &[alice], &[("2.0", "two")]));
    assert_eq!(
        lookup(&View::new().collection(&repo.publish()), "2.0"),
        digest("two")
    );
}

// T53
#[test]
fn an_entry_without_sha256_is_unusable_and_hides_nothing() {
    let only_sha512 = |entry: &mut Value| entry["hashes"] = json!({"sha512": "AAAA"});
    let repo = Repo::new()
        .tag("2.0", "stale")
        .with_alice(&[("2.0", "fresh")])
        .edit("targets/releases", move |targets| {
            only_sha512(&mut targets["targets"]["2.0"]);
        });
    assert_eq!(
        lookup(&View::new().collection(&repo.publish()), "2.0"),
        "no_sha256"
    );
    for role in ["timestamp", "snapshot"] {
        let repo = Repo::new().edit(role, |document| {
            for (_, entry) in document["meta"].as_object_mut().unwrap() {
                entry["hashes"].as_object_mut().unwrap().remove("sha256");
            }
        });
        assert_eq!(View::new().verdict(&repo.publish()), "malformed", "{role}");
    }
    let wrong = Repo::new().edit("timestamp", |timestamp| {
        use base64::Engine as _;
        timestamp["meta"]["snapshot"]["hashes"]["sha512"] =
            json!(base64::prelude::BASE64_STANDARD.encode([0; 64]));
    });
    assert_eq!(
        View::new().verdict(&wrong.publish()),
        "hash",
        "both hashes count where both are given"
    );
}

// §4.2: authorities.
#[test]
fn a_pinned_authority_vouches_for_the_roots_it_issued_and_no_others() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let mut repo = Repo::new();
    repo.root = vec![Key::p256(1).issued(GUN, &ours)];
    let pinned = |authority: &Authority| View::pinned(Pin::authorities(&authority.pem).unwrap());
    assert_eq!(pinned(&ours).verdict(&repo.publish()), "accepted");
    assert_eq!(pinned(&theirs).verdict(&repo.publish()), "pin");
    assert_eq!(
        pinned(&ours).verdict(&Repo::new().publish()),
        "pin",
        "self-signed"
    );
    repo.root = vec![Key::p256(1).issued("registry.example.com/team/other", &ours)];
    assert_eq!(pinned(&ours).verdict(&repo.publish()), "name");
}

// Design §9.2.
#[test]
fn a_pin_may_ask_for_several_of_its_keys() {
    let keys = [Key::p256(1), Key::p256(7), Key::p256(8)];
    let pems: Vec<_> = keys.iter().map(Key::pem).collect();
    let pin = |minimum| {
        View::pinned(
            Pin::keys(pems.iter().map(String::as_str))
                .unwrap()
                .minimum(minimum),
        )
    };
    let mut repo = Repo::new();
    repo.root = vec![keys[0].certified(GUN), keys[1].certified(GUN)];
    let one = repo.clone().signed_by("root", &repo.root[..1]);
    assert_eq!(pin(1).verdict(&one.publish()), "accepted");
    assert_eq!(pin(2).verdict(&one.publish()), "pin", "listed is not signed");
    assert_eq!(pin(2).verdict(&repo.publish()), "accepted");
    assert_eq!(pin(3).verdict(&repo.publish()), "pin");
}

#[test]
fn a_pin_is_met_by_certificate_id_canonical_id_and_public_key() {
    let files = Repo::new().publish();
    let certified = Key::p256(1).certified(GUN);
    let bare = Key::p256(1).id();
    let published: Value = serde_json::from_slice(&files.0["root.json"]).unwrap();
    let listed = published["signed"]["roles"]["root"]["keyids"][0]
        .as_str()
        .unwrap()
        .to_owned();
    for (what, pin) in [
        ("TUF id", Pin::key_ids([listed.as_str()]).unwrap()),
        ("canonical id", Pin::key_ids([bare.as_str()]).unwrap()),
        ("public key", Pin::keys([Key::p256(1).pem().as_str()]).unwrap()),
        (
            "certificate",
            Pin::keys([String::from_utf8(certified.public).unwrap().as_str()]).unwrap(),
        ),
    ] {
        assert_eq!(View::pinned(pin).verdict(&files), "accepted", "{what}");
    }
    assert_eq!(
        View::pinned(Pin::key_ids(["ab".repeat(32).as_str()]).unwrap()).verdict(&files),
        "pin"
    );
}

// Roots: §4.5, §5.7 steps 2 and 3.

fn rotated(times: u8) -> (Files, Repo) {
    let mut repo = Repo::new();
    let mut files = repo.publish();
    for n in 0..times {
        repo = repo.rotate_root(&[Key::p256(100 + n).certified(GUN)]);
        let version = u64::from(n) + 2;
        repo = repo.all_versions(version);
        repo.publish_to(&mut files);
    }
    (files, repo)
}

#[test]
fn a_pin_on_an_old_root_survives_many_rotations() {
    let (files, _) = rotated(40);
    let outcome = View::new().run(&files);
    assert_eq!(
        outcome.rounds.len(),
        4,
        "versions are asked for in stretches: {:?}",
        outcome.rounds
    );
    let state = outcome.result.unwrap().state;
    assert_eq!(state.roots.len(), 41);
    // The chain is remembered: the server may drop the old versions.
    let mut newest = files.clone();
    newest.0.retain(|path, _| !path.ends_with(".root.json"));
    assert_eq!(View::new().verdict(&newest), "pin");
    assert_eq!(View::new().after(state).verdict(&newest), "accepted");
}

#[test]
fn a_rotation_is_followed_from_memory_and_costs_no_walk_if_it_is_one_step() {
    let (files, _) = rotated(1);
    let seen = View::new().having_seen(&Repo::new().publish());
    let outcome = seen.run(&files);
    assert_eq!(outcome.rounds.len(), 1, "{:?}", outcome.rounds);
    assert_eq!(outcome.result.unwrap().state.roots.len(), 2);
}

#[test]
fn a_root_missing_from_the_chain_is_refused() {
    let (mut files, _) = rotated(4);
    files.0.remove("3.root.json");
    assert_eq!(View::new().verdict(&files), "root_chain");
    let (mut files, _) = rotated(4);
    files
        .0
        .insert("3.root.json".to_owned(), files.0["2.root.json"].clone());
    assert_eq!(
        View::new().verdict(&files),
        "root_chain",
        "a version that is another"
    );
}

#[test]
fn a_root_under_another_version_than_its_own_is_refused() {
    let seen = View::new().having_seen(&Repo::new().publish());
    let mut files = Repo::new().publish();
    for version in 2..=3 {
        Repo::new()
            .all_versions(version)
            .version("root", version)
            .publish_to(&mut files);
    }
    assert_eq!(seen.verdict(&files), "accepted");
    let third = files.0["3.root.json"].clone();
    files.0.insert("2.root.json".to_owned(), third);
    assert_eq!(seen.verdict(&files), "root_chain");
}

#[test]
fn a_server_without_versioned_roots_may_jump_if_the_old_key_signed() {
    let repo = Repo::new();
    let seen = View::new().having_seen(&repo.publish());
    let jumped = repo.version("root", 4).all_versions(2);
    let mut files = jumped.publish();
    files.0.retain(|path, _| !path.ends_with(".root.json"));
    assert_eq!(seen.verdict(&files), "accepted");
    let mut foreign = jumped;
    foreign.root = vec![Key::p256(9).certified(GUN)];
    let mut files = foreign.publish();
    files.0.retain(|path, _| !path.ends_with(".root.json"));
    assert_eq!(seen.verdict(&files), "root_chain");
}

#[test]
fn verified_roots_are_kept_even_if_the_rest_fails() {
    let (mut files, repo) = rotated(2);
    repo.all_versions(9)
        .signed_by("timestamp", &[Key::p256(66)])
        .publish_to(&mut files);
    let outcome = View::new().run(&files);
    assert!(matches!(outcome.result, Err(Error::Threshold { .. })));
    assert_eq!(outcome.roots.unwrap().roots.len(), 3);
}

#[test]
fn an_older_root_than_the_remembered_one_is_a_rollback() {
    let (files, _) = rotated(2);
    let seen = View::new().having_seen(&files);
    assert_eq!(seen.verdict(&Repo::new().all_versions(9).publish()), "rollback");
}

// Races: §5.7 step 11, design §6.

#[test]
fn a_publish_between_two_answers_costs_one_round_by_hash() {
    let old = Repo::new().with_alice(&[("2.0", "two")]);
    let new = old.clone().tag("1.2", "x").all_versions(2);
    let mut files = old.publish();
    new.publish_to(&mut files);
    // The timestamp is the new one, everything else was answered a moment earlier.
    let raced = {
        let mut raced = files.clone();
        for role in ["snapshot", "targets"] {
            raced.0.insert(
                format!("{role}.json"),
                old.publish().0[&format!("{role}.json")].clone(),
            );
        }
        raced
    };
    let outcome = View::new().run(&raced);
    assert!(outcome.rounds.len() <= 3, "{:?}", outcome.rounds);
    assert_eq!(lookup(&outcome.result.unwrap().collection, "1.2"), digest("x"));
}

#[test]
fn a_root_rotation_between_two_answers_is_looked_at_once_more() {
    let (files, _) = rotated(1);
    let old = Repo::new().publish();
    let asked = std::cell::Cell::new(0);
    let outcome = View::new().run_against(|path| {
        if path == "root.json" {
            asked.set(asked.get() + 1);
        }
        if path == "root.json" && asked.get() == 1 {
            old.0.get(path).cloned()
        } else {
            files.0.get(path).cloned()
        }
    });
    assert!(outcome.result.is_ok(), "{:?}", outcome.result);
    let stuck = View::new().run_against(|path| {
        if path == "root.json" {
            old.0.get(path).cloned()
        } else {
            files.0.get(path).cloned()
        }
    });
    assert_eq!(
        stuck.result.unwrap_err().reason(),
        "root_mismatch",
        "but only once"
    );
}

#[test]
fn remembered_files_verify_again_without_the_server() {
    let files = Repo::new().with_alice(&[("2.0", "two")]).publish();
    let seen = View::new().signer("alice").having_seen(&files);
    let state = seen.prior.clone();
    let replayed = seen.run_against(|path| {
        let role = path.strip_suffix(".json")?.parse().ok()?;
        let file = if path == "root.json" {
            state.roots.last()
        } else {
            state.files.get(&role)
        };
        file.map(|file| file.to_vec())
    });
    assert_eq!(lookup(&replayed.result.unwrap().collection, "2.0"), digest("two"));
}

#[test]
fn a_stale_entry_for_an_undelegated_role_in_the_snapshot_is_ignored() {
    // What the reference server leaves behind when the last delegation is removed.
    let repo = Repo::new().with_alice(&[("2.0", "two")]);
    let mut files = repo.publish();
    let bare = repo.clone().edit("targets", |targets| {
        targets["delegations"] = json!({"keys": {}, "roles": null});
    });
    bare.all_versions(2).publish_to(&mut files);
    let collection = View::new().collection(&files);
    assert_eq!(lookup(&collection, "2.0"), "tag_not_signed");
    assert_eq!(lookup(&collection, "1.0"), digest("one"));
}

#[test]
fn a_refusal_suggests_signed_tags_that_look_alike() {
    let repo = Repo::new()
        .tag("latest", "l")
        .tag("1.10", "x")
        .tag("stable", "s")
        .tag("0.9", "n");
    let similar = View::new()
        .collection(&repo.publish())
        .similar(&"1.2".parse().unwrap());
    let similar: Vec<_> = similar.iter().map(ToString::to_string).collect();
    assert_eq!(similar, ["1.0", "1.1", "1.10"]);
}

// Comparing is slow, and users choose what is compared: far away in the order nothing is looked at.
#[test]
fn a_refusal_does_not_compare_a_hundred_thousand_tags() {
    let mut repo = Repo::new();
    for n in 0..1_100 {
        repo = repo.tag(&format!("m{n:04}"), "x");
    }
    let collection = View::new().collection(&repo.tag("n-v1", "far").publish());
    assert_eq!(collection.similar(&"lv1".parse().unwrap()), []);
    assert_eq!(collection.entries(), 1_103);
}
