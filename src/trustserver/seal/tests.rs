use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tempfile::TempDir;

use super::cipher::KEY;
use super::*;
use crate::trustserver::storage::sqlite::Sqlite;
use crate::tuf::Algorithm;

const TIMESTAMP: Role = Role::Timestamp;

async fn database() -> (TempDir, Sqlite) {
    let dir = tempfile::tempdir().unwrap();
    let storage = Sqlite::open(dir.path()).await.unwrap();
    (dir, storage)
}

fn operator(byte: u8) -> OperatorKey {
    OperatorKey::of_text(&hex::encode([byte; KEY])).unwrap()
}

async fn sealer(storage: &Sqlite) -> Sealer {
    Sealer::open(storage, &operator(1)).await.unwrap()
}

fn gun(name: &str) -> Gun {
    format!("registry.example/{name}").parse().unwrap()
}

fn private_key() -> PrivateKey {
    PrivateKey::generate(Algorithm::Ed25519).unwrap()
}

#[tokio::test]
async fn a_sealed_key_opens_where_it_belongs_also_after_a_restart() {
    let (_dir, storage) = database().await;
    for algorithm in [Algorithm::Ed25519, Algorithm::EcdsaP256] {
        let key = PrivateKey::generate(algorithm).unwrap();
        let kept = sealer(&storage)
            .await
            .seal(&gun("app"), &TIMESTAMP, &key, Timestamp::UNIX_EPOCH);
        let kept = kept.unwrap();
        assert_eq!((kept.id, kept.used), (key.id(), false));
        let plain = key.encode().unwrap();
        assert!(
            !kept
                .sealed
                .windows(16)
                .any(|part| plain.windows(16).any(|secret| secret == part))
        );

        let opened = sealer(&storage).await.unseal(&gun("app"), &kept).unwrap();
        assert_eq!(opened.encode().unwrap(), plain);
    }
}

#[tokio::test]
async fn a_key_sealed_twice_reads_different() {
    let (_dir, storage) = database().await;
    let (sealer, key) = (sealer(&storage).await, private_key());
    let seal = || {
        sealer
            .seal(&gun("app"), &TIMESTAMP, &key, Timestamp::UNIX_EPOCH)
            .unwrap()
    };
    assert_ne!(seal().sealed, seal().sealed);
}

#[tokio::test]
async fn a_sealed_key_moved_to_another_repository_role_or_id_does_not_open() {
    let (_dir, storage) = database().await;
    let sealer = sealer(&storage).await;
    let kept = sealer
        .seal(&gun("app"), &TIMESTAMP, &private_key(), Timestamp::UNIX_EPOCH)
        .unwrap();
    let damaged = |gun: &Gun, key: &SealedKey| {
        let refused = sealer.unseal(gun, key).unwrap_err();
        assert!(matches!(refused, SealError::Damaged { .. }), "{refused}");
    };
    damaged(&gun("app2"), &kept);
    let role = Role::Snapshot;
    damaged(&gun("app"), &SealedKey { role, ..kept.clone() });
    let id = private_key().id();
    damaged(&gun("app"), &SealedKey { id, ..kept.clone() });
    assert!(sealer.unseal(&gun("app"), &kept).is_ok());
}

#[tokio::test]
async fn a_key_sealed_under_the_id_of_another_is_not_taken_for_it() {
    let (_dir, storage) = database().await;
    let sealer = sealer(&storage).await;
    let (ours, theirs) = (private_key(), private_key());
    let mut kept = sealer
        .seal(&gun("app"), &TIMESTAMP, &ours, Timestamp::UNIX_EPOCH)
        .unwrap();
    let place = place(&gun("app"), &TIMESTAMP, ours.id());
    kept.sealed = sealer
        .data_key
        .seal(FORM, &place, &theirs.encode().unwrap())
        .unwrap();
    let refused = sealer.unseal(&gun("app"), &kept).unwrap_err();
    assert!(matches!(refused, SealError::Damaged { .. }), "{refused}");
}

#[tokio::test]
async fn a_tampered_sealed_key_does_not_open() {
    let (_dir, storage) = database().await;
    let sealer = sealer(&storage).await;
    let kept = sealer
        .seal(&gun("app"), &TIMESTAMP, &private_key(), Timestamp::UNIX_EPOCH)
        .unwrap();
    let refused = |bytes: Vec<u8>| {
        let key = SealedKey {
            sealed: bytes,
            ..kept.clone()
        };
        sealer.unseal(&gun("app"), &key).unwrap_err()
    };
    for place in 0..kept.sealed.len() {
        let mut bytes = kept.sealed.clone();
        bytes[place] ^= 1;
        let refused = refused(bytes);
        assert_eq!(
            matches!(refused, SealError::Newer),
            place == 0,
            "{place}: {refused}"
        );
    }
    for length in 0..kept.sealed.len() {
        let refused = refused(kept.sealed[..length].to_vec());
        assert!(
            matches!(refused, SealError::Damaged { .. }),
            "{length}: {refused}"
        );
    }
    assert!(matches!(
        refused([&kept.sealed[..], &[0]].concat()),
        SealError::Damaged { .. }
    ));
}

#[tokio::test]
async fn a_key_of_another_database_does_not_open() {
    let ((_one, one), (_other, other)) = (database().await, database().await);
    let kept = sealer(&one)
        .await
        .seal(&gun("app"), &TIMESTAMP, &private_key(), Timestamp::UNIX_EPOCH);
    let refused = sealer(&other)
        .await
        .unseal(&gun("app"), &kept.unwrap())
        .unwrap_err();
    assert!(matches!(refused, SealError::Damaged { .. }), "{refused}");
}

#[tokio::test]
async fn a_wrong_operator_key_is_told_from_a_damaged_record() {
    let (_dir, storage) = database().await;
    let wrapped = sealer(&storage).await.wrapped;
    let program = OperatorKey::program("/bin/false".into());
    for wrong in [operator(2), program] {
        let refused = Sealer::open(&storage, &wrong).await.unwrap_err();
        assert!(matches!(refused, SealError::WrongKey), "{refused}");
    }
    for place in 0..wrapped.len() {
        let mut bytes = wrapped.clone();
        bytes[place] ^= 0x80;
        let refused = operator(1).unwrap(&bytes).await.unwrap_err();
        match place {
            0 => assert!(matches!(refused, SealError::Newer), "{refused}"),
            1..=16 => assert!(matches!(refused, SealError::WrongKey), "{refused}"),
            _ => assert!(matches!(refused, SealError::DataKey), "{refused}"),
        }
    }
    for length in [0, 1, 16, 17, 40, wrapped.len() - 1] {
        let refused = operator(1).unwrap(&wrapped[..length]).await.unwrap_err();
        assert!(matches!(refused, SealError::DataKey), "{length}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_at_the_same_time_have_one_data_key() {
    let (_dir, storage) = database().await;
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let storage = storage.clone();
        starting.spawn(async move { sealer(&storage).await });
    }
    let sealers = starting.join_all().await;
    let key = private_key();
    let kept = sealers[0]
        .seal(&gun("app"), &TIMESTAMP, &key, Timestamp::UNIX_EPOCH)
        .unwrap();
    for sealer in sealers {
        assert_eq!(sealer.unseal(&gun("app"), &kept).unwrap().id(), key.id());
    }
}

#[tokio::test]
async fn changing_the_operators_key_keeps_every_key_and_retires_the_old_one() {
    let (_dir, storage) = database().await;
    let mut first = sealer(&storage).await;
    let kept = first
        .seal(&gun("app"), &TIMESTAMP, &private_key(), Timestamp::UNIX_EPOCH)
        .unwrap();
    let mut late = sealer(&storage).await;
    first.rewrap(&storage, &operator(2)).await.unwrap();
    let refused = Sealer::open(&storage, &operator(1)).await.unwrap_err();
    assert!(matches!(refused, SealError::WrongKey), "{refused}");
    let second = Sealer::open(&storage, &operator(2)).await.unwrap();
    second.unseal(&gun("app"), &kept).unwrap();

    let refused = late.rewrap(&storage, &operator(3)).await.unwrap_err();
    assert!(matches!(refused, SealError::Raced), "{refused}");
    first.rewrap(&storage, &operator(4)).await.unwrap();
    Sealer::open(&storage, &operator(4))
        .await
        .unwrap()
        .unseal(&gun("app"), &kept)
        .unwrap();
}

/// A program that says `script`.
fn program(dir: &Path, script: &str) -> OperatorKey {
    let path = dir.join("kms");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    OperatorKey::program(path)
}

#[tokio::test]
async fn a_program_wraps_and_unwraps_the_data_key() {
    let (dir, storage) = database().await;
    // What it makes of a key is the base64 of text here, and comes back as it was given.
    let kms = program(
        dir.path(),
        r#"case "$1" in wrap) sed 's/^/d3JhcHBl/' ;; unwrap) sed 's/^d3JhcHBl//' ;; esac"#,
    );
    let mut sealer = Sealer::open(&storage, &kms).await.unwrap();
    let key = private_key();
    let kept = sealer
        .seal(&gun("app"), &TIMESTAMP, &key, Timestamp::UNIX_EPOCH)
        .unwrap();
    let again = Sealer::open(&storage, &kms).await.unwrap();
    assert_eq!(again.unseal(&gun("app"), &kept).unwrap().id(), key.id());
    let refused = Sealer::open(&storage, &operator(1)).await.unwrap_err();
    assert!(matches!(refused, SealError::WrongKey), "{refused}");
    sealer.rewrap(&storage, &operator(1)).await.unwrap();
    Sealer::open(&storage, &operator(1))
        .await
        .unwrap()
        .unseal(&gun("app"), &kept)
        .unwrap();
}

#[tokio::test]
async fn a_program_that_fails_is_told_apart_and_never_quoted() {
    let (dir, storage) = database().await;
    let path = dir.path().join("kms");
    for (script, says) in [
        ("cat >/dev/null; exit 3", "it failed (exit status: 3)"),
        ("exec yes", "it printed more than 64 KiB"),
        ("echo '!secret!'", "it did not print anything in base64"),
        ("true", "it did not print a wrapped key in base64"),
    ] {
        let refused = Sealer::open(&storage, &program(dir.path(), script))
            .await
            .unwrap_err();
        let SealError::Program {
            program,
            verb,
            source,
        } = refused
        else {
            panic!("{script}: {refused}");
        };
        assert_eq!((program, verb), (path.clone(), "wrap"), "{script}");
        assert_eq!(source.to_string(), says, "{script}");
    }
    let absent = OperatorKey::program(dir.path().join("absent"));
    let refused = Sealer::open(&storage, &absent).await.unwrap_err();
    let run = matches!(
        &refused,
        SealError::Program {
            source: ProgramError::Run(_),
            ..
        }
    );
    assert!(run, "{refused:?}");
    assert_eq!(storage.data_key().await.unwrap(), None);
}

#[tokio::test]
async fn a_service_that_unwraps_to_another_key_is_not_believed() {
    let (dir, storage) = database().await;
    let kms = program(dir.path(), "cat");
    Sealer::open(&storage, &kms).await.unwrap();
    let other = BASE64_STANDARD.encode([9; KEY]);
    let lying = program(dir.path(), &format!("cat >/dev/null; echo {other}"));
    let refused = Sealer::open(&storage, &lying).await.unwrap_err();
    assert!(matches!(refused, SealError::WrongKey), "{refused}");
    let short = program(dir.path(), "cat >/dev/null; echo AAAA");
    let refused = Sealer::open(&storage, &short).await.unwrap_err();
    assert!(
        matches!(refused, SealError::Program { verb: "unwrap", .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn a_program_that_cannot_unwrap_what_it_wraps_does_not_become_the_operators_key() {
    let (dir, storage) = database().await;
    let mut sealer = sealer(&storage).await;
    let one_way = program(dir.path(), r#"[ "$1" = wrap ] && cat"#);
    sealer.rewrap(&storage, &one_way).await.unwrap_err();
    Sealer::open(&storage, &operator(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_program_that_never_answers_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let silent = program(dir.path(), "exec sleep 600");
    let refused = silent.wrap(&Secret::generate().unwrap()).await.unwrap_err();
    let late = matches!(
        &refused,
        SealError::Program {
            source: ProgramError::Late,
            ..
        }
    );
    assert!(late, "{refused:?}");
}

#[test]
fn keys_are_read_as_base64_or_hex() {
    let bytes: Vec<u8> = (0..32).collect();
    let (base64, hex) = (BASE64_STANDARD.encode(&bytes), hex::encode(&bytes));
    for text in [
        &base64,
        &hex,
        &hex.to_uppercase(),
        &format!(" {base64}\r\n"),
        &format!("{hex}\n"),
    ] {
        let Ok(OperatorKey::Key(key)) = OperatorKey::of_text(text) else {
            panic!("{text}");
        };
        assert_eq!(key.0.bytes()[..], bytes, "{text}");
    }
    let long = "A".repeat(1000);
    for wrong in [
        "",
        "\n",
        "secret",
        &hex[1..],
        &base64[1..],
        &format!("{hex}00"),
        &format!("{base64}{base64}"),
        &long,
    ] {
        assert!(
            matches!(OperatorKey::of_text(wrong), Err(SealError::Text)),
            "{wrong}"
        );
    }
}

fn bytes(key: &OperatorKey) -> [u8; KEY] {
    match key {
        OperatorKey::Key(key) => *key.0.bytes(),
        OperatorKey::Program(program) => panic!("{}", program.display()),
    }
}

#[test]
fn a_key_file_is_made_when_asked_to_and_for_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sealing.key");
    let refused = OperatorKey::of_file(&path).unwrap_err();
    assert!(
        matches!(&refused, SealError::File { path: named, .. } if *named == path),
        "{refused}"
    );
    assert!(!path.exists());

    let makers: Vec<_> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| OperatorKey::of_file_or_new(&path).unwrap()))
            .collect();
        makers
            .into_iter()
            .map(|maker| bytes(&maker.join().unwrap()))
            .collect()
    });
    assert!(makers.iter().all(|made| *made == makers[0]));
    assert_eq!(bytes(&OperatorKey::of_file(&path).unwrap()), makers[0]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_key_file_with_something_else_in_it_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sealing.key");
    fs::write(&path, "something else").unwrap();
    assert!(matches!(OperatorKey::of_file_or_new(&path), Err(SealError::Text)));
    assert_eq!(fs::read_to_string(&path).unwrap(), "something else");
    assert!(matches!(
        OperatorKey::of_file(dir.path()),
        Err(SealError::File { .. })
    ));
}

#[tokio::test]
async fn no_debug_prints_a_secret() {
    let (_dir, storage) = database().await;
    let operator = operator(0xa7);
    let sealer = Sealer::open(&storage, &operator).await.unwrap();
    let kept = sealer
        .seal(&gun("app"), &TIMESTAMP, &private_key(), Timestamp::UNIX_EPOCH)
        .unwrap();
    let printed = format!(
        "{operator:?} {operator:#?} {sealer:?} {:?}",
        sealer.unseal(&gun("app"), &kept)
    );
    for secret in [
        [0xa7; KEY].as_slice(),
        sealer.data_key.bytes(),
        &sealer.unseal(&gun("app"), &kept).unwrap().encode().unwrap(),
    ] {
        let part = &secret[secret.len() - 8..];
        let lines: Vec<_> = part.iter().map(ToString::to_string).collect();
        for form in [
            hex::encode(part),
            hex::encode_upper(part),
            BASE64_STANDARD.encode(secret),
            lines.join(", "),
        ] {
            assert!(!printed.contains(&form), "{printed}");
        }
    }
}
