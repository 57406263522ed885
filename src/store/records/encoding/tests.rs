use proptest::prelude::*;

use super::*;

pub(in crate::store::records) const SERVER: &str = "https://trust.example.com/";

pub(in crate::store::records) fn gun() -> Gun {
    "registry.example.com/team/app".parse().unwrap()
}

/// A root file of that version. Nobody looks at its signatures here.
pub(in crate::store::records) fn root(version: u64) -> Bytes {
    let file = include_str!("../../../../tests/fixtures/appendix-a/root.json");
    let (start, end) = file.split_once("\"version\":1}").unwrap();
    Bytes::from(format!("{start}\"version\":{version}}}{end}"))
}

/// What was seen after `version` publications.
pub(in crate::store::records) fn state(version: u64) -> State {
    let files: BTreeMap<_, _> = [Role::Timestamp, Role::Snapshot, Role::Targets, Role::releases()]
        .into_iter()
        .map(|role| {
            let file = Bytes::from(format!("{role} {version}"));
            (role, file)
        })
        .collect();
    let seen = |(role, file): (&Role, &Bytes)| {
        let sha256 = sha256(file);
        (role.clone(), Seen { version, sha256 })
    };
    State {
        roots: vec![root(1)],
        seen: files.iter().map(seen).collect(),
        files,
        verified_at: Some("2030-01-01T00:00:00Z".parse().unwrap()),
    }
}

fn spec() -> TrustRecordSpec {
    encode(SERVER, &gun(), &state(5)).unwrap()
}

#[test]
fn what_is_written_is_read() {
    assert_eq!(decode(&spec(), SERVER, &gun()), Ok(state(5)));
    let json = serde_json::to_value(spec()).unwrap();
    assert_eq!(json["verifiedAt"], "2030-01-01T00:00:00Z");
    assert_eq!(json["delegations"]["targets/releases"]["version"], 5);
}

#[test]
fn times_are_rounded_to_the_older_side() {
    let mut state = state(5);
    state.verified_at = Some("2030-01-01T00:00:00.9Z".parse().unwrap());
    let read = decode(&encode(SERVER, &gun(), &state).unwrap(), SERVER, &gun()).unwrap();
    assert_eq!(read.verified_at, Some("2030-01-01T00:00:00Z".parse().unwrap()));
}

#[test]
fn files_that_are_too_large_or_outdated_are_left_out_and_nothing_else_is() {
    // What does not compress; beyond the limit after compression, or already before.
    let noise = |bytes: usize| {
        let hashes = (0..=bytes / 32).flat_map(|n| sha256(&n.to_be_bytes()));
        hashes.take(bytes).collect::<Vec<_>>()
    };
    for (what, file, kept) in [
        ("noise that fits", noise(FILES - 1024), true),
        ("noise that does not", noise(FILES + 1), false),
        ("what compresses well", vec![b'x'; FILES_UNPACKED / 2], true),
        (
            "what compresses well, but is large",
            vec![b'x'; FILES_UNPACKED + 1],
            false,
        ),
    ] {
        let mut state = state(5);
        let (file, version) = (Bytes::from(file), 5);
        let sha256 = sha256(&file);
        state.seen.insert(Role::Targets, Seen { version, sha256 });
        state.files.insert(Role::Targets, file);
        let read = decode(&encode(SERVER, &gun(), &state).unwrap(), SERVER, &gun()).unwrap();
        assert_eq!(read.files.is_empty(), !kept, "{what}");
        assert_eq!((read.roots, read.seen), (state.roots, state.seen), "{what}");
    }
    let mut forgotten = state(5);
    forgotten.seen.remove(&Role::Timestamp);
    let read = decode(&encode(SERVER, &gun(), &forgotten).unwrap(), SERVER, &gun()).unwrap();
    assert_eq!(read.files.len(), 3, "the timestamp's file goes with it");
}

#[test]
fn what_must_not_be_forgotten_is_refused_loudly_if_it_does_not_fit() {
    let mut long = state(5);
    long.roots = (1..=2_000_u64)
        .map(|version| {
            let noise: String = (0..8_u64)
                .map(|n| hex::encode(sha256(&(version * 8 + n).to_be_bytes())))
                .collect();
            Bytes::from(
                String::from_utf8(root(version).to_vec())
                    .unwrap()
                    .replace("\"expires\"", &format!("\"custom\":\"{noise}\",\"expires\"")),
            )
        })
        .collect();
    let mut broad = state(5);
    for n in 0..=DELEGATIONS {
        let role = format!("targets/signer-{n}").parse().unwrap();
        broad.seen.insert(role, state(5).seen[&Role::Targets]);
    }
    for (what, state) in [("bytes of compressed roots", long), ("delegations", broad)] {
        match encode(SERVER, &gun(), &state) {
            Err(StoreError::TooLarge { what: told, .. }) => assert_eq!(told, what),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn every_object_stays_far_below_what_etcd_takes() {
    let most = CHAIN.div_ceil(3) * 4 + FILES.div_ceil(3) * 4 + DELEGATIONS * 400 + super::SERVER;
    assert!(most < 1024 * 1024, "{most}");
}

#[test]
fn what_no_replica_writes_is_damaged_and_no_fresh_start() {
    type Lie = fn(&mut TrustRecordSpec);
    let lies: [(Lie, &str); 14] = [
        (
            |spec| spec.server = "https://other.example.com/".into(),
            "of another repository",
        ),
        (
            |spec| spec.gun = "registry.example.com/other".into(),
            "of another repository",
        ),
        (|spec| spec.root.version = 2, "another than it says"),
        (|spec| spec.root.sha256 = "0".repeat(64), "another than it says"),
        (
            |spec| spec.root.chain = pack(&[], 1, 99).unwrap(),
            "another than it says",
        ),
        (
            |spec| spec.root.chain = "no base64".into(),
            "roots cannot be unpacked",
        ),
        (|spec| spec.root.chain.truncate(80), "roots cannot be unpacked"),
        (
            |spec| spec.root.chain = pack(&[root(1), root(1)], 9999, 9999).unwrap(),
            "out of order",
        ),
        (
            |spec| spec.root.chain = pack(&[Bytes::from("{}")], 9, 99).unwrap(),
            "root of it cannot be read",
        ),
        (|spec| spec.targets.as_mut().unwrap().version = -1, "no version"),
        (
            |spec| spec.targets.as_mut().unwrap().sha256 = "zz".into(),
            "no SHA-256",
        ),
        (
            |spec| {
                let file = spec.targets.clone().unwrap();
                spec.delegations.insert("targets".into(), file);
            },
            "delegation that cannot be",
        ),
        (
            |spec| spec.files = Some("e30=".into()),
            "files cannot be unpacked",
        ),
        (
            |spec| {
                let other = [(Role::Targets, Bytes::from("another"))].into();
                spec.files = pack_files(&other);
            },
            "not what was seen",
        ),
    ];
    for (lie, told) in lies {
        let mut spec = spec();
        lie(&mut spec);
        let why = decode(&spec, SERVER, &gun()).unwrap_err();
        assert!(why.contains(told), "{told}: {why}");
    }
}

#[test]
fn a_bomb_is_not_unpacked() {
    let bomb = pack(
        &[Bytes::from(vec![0; 4 * CHAIN_UNPACKED])],
        usize::MAX,
        usize::MAX,
    )
    .unwrap();
    assert!(bomb.len() < CHAIN);
    assert_eq!(unpack(&bomb, CHAIN, CHAIN_UNPACKED), None);
    let trailed = {
        let mut packed = BASE64_STANDARD
            .decode(pack(&[root(1)], 9999, 9999).unwrap())
            .unwrap();
        packed.push(0);
        BASE64_STANDARD.encode(packed)
    };
    assert_eq!(
        unpack(&trailed, CHAIN, CHAIN_UNPACKED),
        None,
        "bytes behind the end"
    );
}

fn any_state() -> impl Strategy<Value = State> {
    let roots = proptest::collection::btree_set(1_u64..1 << 53, 1..5);
    let delegation = "targets/[a-z0-9_-]{1,20}(/[a-z0-9_-]{1,20})?";
    let content = proptest::collection::vec(any::<u8>(), 0..300);
    let versions = proptest::collection::btree_map(
        prop_oneof![
            Just("timestamp".to_owned()),
            Just("snapshot".to_owned()),
            Just("targets".to_owned()),
            delegation.prop_map(|name| name),
        ],
        (1_u64..1 << 53, content, any::<bool>()),
        0..20,
    );
    let time = proptest::option::of(0_i64..4_102_444_800);
    (roots, versions, time).prop_map(|(roots, versions, time)| {
        let mut state = State {
            roots: roots.into_iter().map(root).collect(),
            verified_at: time.map(|second| Timestamp::from_second(second).unwrap()),
            ..State::default()
        };
        for (role, (version, file, with_file)) in versions {
            let (role, file): (Role, _) = (role.parse().unwrap(), Bytes::from(file));
            let sha256 = sha256(&file);
            state.seen.insert(role.clone(), Seen { version, sha256 });
            if with_file {
                state.files.insert(role, file);
            }
        }
        state
    })
}

proptest! {
    #[test]
    fn any_state_comes_back_as_it_was(state in any_state()) {
        let spec = encode(SERVER, &gun(), &state).unwrap();
        let json = serde_json::to_string(&spec).unwrap();
        let read: TrustRecordSpec = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(decode(&read, SERVER, &gun()), Ok(state));
    }

    #[test]
    fn nothing_that_is_unpacked_panics(text in "[A-Za-z0-9+/=]{0,200}") {
        let mut spec = spec();
        spec.root.chain.clone_from(&text);
        let _ = decode(&spec, SERVER, &gun());
        spec = self::spec();
        spec.files = Some(text);
        let _ = decode(&spec, SERVER, &gun());
    }
}
