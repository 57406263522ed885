//! What `tuf::edit` signs, held against a server's validation and against the verifier.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign::reference::{Gun, Tag};
use countersign::tuf::edit::{Change, Draft, EditError, Published, Signed, SignerState, Terms};
use countersign::tuf::{
    Algorithm, Conditions, DelegationName, KeyId, Pin, PrivateKey, PublicKey, Purpose, Role, State, Verified,
    sha256,
};
use jiff::Timestamp;
use proptest::prelude::*;

use crate::ledger::Ledger;
use crate::repo::{GUN, Key, NOW, Repo};
use crate::verify::View;

fn gun() -> Gun {
    GUN.parse().unwrap()
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn name(signer: &str) -> DelegationName {
    format!("targets/{signer}").parse().unwrap()
}

fn role(signer: &str) -> Role {
    Role::Delegation(name(signer))
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// Keys by id.
#[derive(Default)]
struct Ring(BTreeMap<KeyId, Arc<PrivateKey>>);

impl Ring {
    fn make(&mut self) -> Arc<PublicKey> {
        let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
        let public = Arc::new(key.public().clone());
        self.0.insert(key.id(), Arc::new(key));
        public
    }

    fn certificate(&mut self) -> Arc<PublicKey> {
        let id = self.make().canonical();
        self.reissue(id)
    }

    fn reissue(&self, id: KeyId) -> Arc<PublicKey> {
        Arc::new(self.0[&id].root_certificate(&gun(), now()).unwrap())
    }

    fn ids(&self) -> BTreeSet<KeyId> {
        self.0.keys().copied().collect()
    }
}

/// A repository, its publisher and its server.
struct World {
    ring: Ring,
    server: Ledger,
    state: State,
}

impl World {
    /// With the snapshot in the server's hands, or in ours.
    fn new(own_snapshot: bool) -> Self {
        let mut world = Self {
            ring: Ring::default(),
            server: Ledger::new(),
            state: State::default(),
        };
        let (root, targets) = (world.ring.certificate(), world.ring.make());
        let parse = |text: &str| Arc::new(PublicKey::parse(text.as_bytes()).unwrap());
        let snapshot = if own_snapshot {
            world.ring.make()
        } else {
            parse(&world.server.key("snapshot"))
        };
        let timestamp = parse(&world.server.key("timestamp"));
        let draft = Draft::initial(&[root], &targets, &snapshot, &timestamp);
        let signed = draft.sign(&world.ring.0, &Terms::reference(now())).unwrap();
        world.upload(&signed).unwrap();
        world
    }

    fn upload(&mut self, signed: &Signed) -> Result<(), crate::ledger::Refusal> {
        let files = signed.files.iter();
        let parts: Vec<_> = files
            .map(|file| (file.role.to_string(), file.bytes.to_vec()))
            .collect();
        self.server.publish(&parts)
    }

    fn view(&self, purpose: Purpose) -> View {
        let mut view = View::pinned(Pin::first_use())
            .attribution()
            .after(self.state.clone());
        view.task.purpose = purpose;
        view
    }

    fn published(&self) -> Arc<Published> {
        let verified = self
            .view(Purpose::Publish)
            .run(&self.server.files)
            .result
            .unwrap();
        Arc::new(Published::of(&gun(), &verified).unwrap())
    }

    fn draft(&self, changes: &[Change]) -> Result<Draft, EditError> {
        let mut draft = self.published().edit();
        for change in changes {
            draft.apply(change)?;
        }
        for begun in draft.begins() {
            let version = self.server.version(begun.as_str());
            draft.above(begun, version);
        }
        Ok(draft)
    }

    fn sign(&self, changes: &[Change]) -> Result<Signed, EditError> {
        self.draft(changes)?.sign(&self.ring.0, &Terms::reference(now()))
    }

    /// Makes the changes, and verifies what has become of the repository.
    fn publish(&mut self, changes: &[Change]) -> Verified {
        let signed = self.sign(changes).unwrap();
        self.upload(&signed).unwrap();
        let verified = self.view(Purpose::Trust).run(&self.server.files).result.unwrap();
        self.state = verified.state.clone();
        verified
    }

    fn release(&self, text: &str, content: &str) -> Change {
        Change::Release {
            tag: tag(text),
            sha256: sha256(content.as_bytes()),
            length: 1490,
            roles: self.published().signable(&tag(text), &self.ring.ids()),
        }
    }

    fn delegate(&mut self, signer: &str) -> Vec<Change> {
        let key = self.ring.make();
        let delegate = |name| Change::Delegate {
            name,
            keys: vec![Arc::clone(&key)],
            threshold: None,
            paths: vec!["".into()],
        };
        vec![delegate(name(signer)), delegate(DelegationName::releases())]
    }
}

fn digest_of(verified: &Verified, text: &str) -> String {
    crate::verify::lookup(&verified.collection, text)
}

#[test]
fn a_tag_signed_without_signers_is_released_by_targets() {
    for own_snapshot in [false, true] {
        let mut world = World::new(own_snapshot);
        let verified = world.publish(&[world.release("1.0", "one")]);
        assert_eq!(digest_of(&verified, "1.0"), crate::repo::digest("one"));
        assert_eq!(
            (world.server.version("root"), world.server.version("targets")),
            (1, 2)
        );
    }
}

#[test]
fn a_tag_signed_with_signers_is_in_their_files_and_released() {
    let mut world = World::new(false);
    let changes = world.delegate("alice");
    world.publish(&changes);
    let verified = world.publish(&[world.release("1.0", "one")]);
    let resolution = crate::verify::resolve(&verified.collection, "1.0", &Conditions::default()).unwrap();
    assert_eq!(
        (resolution.role, resolution.signers),
        (Role::releases(), vec!["alice".to_owned()])
    );
    assert_eq!(
        world.server.version("targets"),
        2,
        "the owner's file is left alone"
    );
}

#[test]
fn what_is_so_already_is_not_signed_again() {
    let mut world = World::new(false);
    world.publish(&[world.release("1.0", "one")]);
    let again = world.draft(&[world.release("1.0", "one")]).unwrap();
    assert!(again.is_unchanged());
}

#[test]
fn a_withdrawn_tag_is_gone_and_nothing_else() {
    let mut world = World::new(false);
    world.publish(&[world.release("1.0", "one"), world.release("1.1", "eleven")]);
    let roles = world.published().signed_in(&tag("1.0"));
    let verified = world.publish(&[Change::Withdraw {
        tag: tag("1.0"),
        roles,
    }]);
    assert_eq!(digest_of(&verified, "1.0"), "tag_not_signed");
    assert_eq!(digest_of(&verified, "1.1"), crate::repo::digest("eleven"));
    let missing = Change::Withdraw {
        tag: tag("1.0"),
        roles: [Role::Targets].into(),
    };
    assert!(matches!(world.sign(&[missing]), Err(EditError::NoSuchTag { .. })));
}

#[test]
fn every_base_role_is_rotated_with_the_signatures_that_that_takes() {
    let mut world = World::new(false);
    world.publish(&[world.release("1.0", "one")]);
    let (root, targets, own) = (world.ring.certificate(), world.ring.make(), world.ring.make());
    let reissued = world.ring.reissue(root.canonical());
    for (role, key) in [
        (Role::Root, root),
        (Role::Targets, targets),
        (Role::Snapshot, own),
        (Role::Root, reissued),
    ] {
        let before = world.server.version(role.as_str());
        let verified = world.publish(&[Change::Replace {
            role: role.clone(),
            keys: vec![key],
        }]);
        assert!(world.server.version(role.as_str()) > before, "{role}");
        assert_eq!(digest_of(&verified, "1.0"), crate::repo::digest("one"), "{role}");
    }
    assert_eq!(world.server.version("root"), 5);
    world.server.rotate("snapshot");
    let server = PublicKey::parse(world.server.key("snapshot").as_bytes()).unwrap();
    world.publish(&[Change::Replace {
        role: Role::Snapshot,
        keys: vec![Arc::new(server)],
    }]);
    let verified = world.publish(&[world.release("1.1", "eleven")]);
    assert_eq!(digest_of(&verified, "1.1"), crate::repo::digest("eleven"));
}

#[test]
fn a_rotation_does_not_lower_how_many_must_sign() {
    let (one, other) = (Key::p256(1).certified(GUN), Key::p256(21).certified(GUN));
    let mut repo = Repo::new().threshold("root", 2).threshold("targets", 1);
    repo.root = vec![one, other];
    let verified = View::pinned(Pin::first_use())
        .run(&repo.publish())
        .result
        .unwrap();
    let published = Arc::new(Published::of(&gun(), &verified).unwrap());
    let mut ring = Ring::default();
    let replace = |keys| Change::Replace {
        role: Role::Root,
        keys,
    };
    let first = ring.certificate();
    let again = ring.reissue(first.canonical());
    for keys in [vec![first.clone()], vec![first.clone(), again]] {
        let lowered = published.edit().apply(&replace(keys));
        assert!(
            matches!(
                lowered,
                Err(EditError::Threshold {
                    threshold: 2,
                    keys: 1,
                    ..
                })
            ),
            "{lowered:?}"
        );
    }
    let mut draft = published.edit();
    draft.apply(&replace(vec![first, ring.certificate()])).unwrap();
    assert!(
        draft
            .needs()
            .iter()
            .all(|need| need.role != Role::Root || need.threshold == 2)
    );
}

#[test]
fn a_rotation_of_the_root_without_its_old_key_is_not_signed() {
    let mut world = World::new(false);
    let old = world.published().key_ids(&Role::Root);
    let new = world.ring.certificate();
    world.ring.0.retain(|id, _| !old.contains(id));
    let refused = world.sign(&[Change::Replace {
        role: Role::Root,
        keys: vec![new],
    }]);
    assert!(
        matches!(
            refused,
            Err(EditError::Keys {
                role: Role::Root,
                held: 0,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn removing_a_signer_signs_releases_anew_if_another_signer_is_here_and_tells_if_not() {
    for other_is_here in [true, false] {
        let mut world = World::new(false);
        let alice = world.delegate("alice");
        let alices_key = world.ring.ids();
        world.publish(&alice);
        // Alice alone has signed so far.
        world.publish(&[world.release("1.0", "one")]);
        let bob = world.delegate("bob");
        let bobs_key: Vec<_> = world.ring.ids().difference(&alices_key).copied().collect();
        world.publish(&bob);
        if !other_is_here {
            world.ring.0.remove(&bobs_key[0]);
        }
        let keys = world.published().key_ids(&role("alice"));
        let changes = [
            Change::Undelegate { name: name("alice") },
            Change::RemoveKeys {
                name: DelegationName::releases(),
                keys,
            },
        ];
        let signed = world.sign(&changes).unwrap();
        if other_is_here {
            assert!(signed.orphans.is_empty());
            world.upload(&signed).unwrap();
            let verified = world
                .view(Purpose::Trust)
                .run(&world.server.files)
                .result
                .unwrap();
            assert_eq!(digest_of(&verified, "1.0"), crate::repo::digest("one"));
        } else {
            assert_eq!(signed.orphans, [Role::releases()]);
        }
    }
}

#[test]
fn a_signer_who_comes_back_does_not_bring_old_tags_back() {
    let mut world = World::new(false);
    let alice = world.delegate("alice");
    world.publish(&alice);
    world.publish(&[world.release("1.0", "one")]);
    let keys = world.published().key_ids(&role("alice"));
    world.publish(&[
        Change::Undelegate { name: name("alice") },
        Change::Undelegate {
            name: DelegationName::releases(),
        },
    ]);
    world.ring.0.retain(|id, _| !keys.contains(id));
    let mut alice = world.delegate("alice");
    alice.extend([role("alice"), Role::releases()].map(|role| Change::Resign { role }));
    let verified = world.publish(&alice);
    assert_eq!(digest_of(&verified, "1.0"), "tag_not_signed");
    assert_eq!(
        world.server.version("targets/alice"),
        2,
        "versions go on where they ended"
    );
}

#[test]
fn a_file_that_does_not_verify_is_adopted_or_emptied_only_by_name() {
    let mut world = World::new(false);
    let alice = world.delegate("alice");
    world.publish(&alice);
    world.publish(&[world.release("1.0", "one")]);
    let keys = world.published().key_ids(&role("alice"));
    let bob = world.delegate("bob");
    let Change::Delegate { keys: bobs, .. } = &bob[0] else {
        panic!("bob has no key");
    };
    let bobs = Arc::clone(&bobs[0]);
    let held: Vec<_> = keys
        .iter()
        .map(|id| (*id, world.ring.0.remove(id).unwrap()))
        .collect();
    let bobs_key = world.ring.0.remove(&bobs.canonical()).unwrap();
    world.ring.0.extend(held);
    // The owner, who has no signer's key, replaces alice's by bob's.
    let mut changes = bob;
    changes.push(Change::RemoveKeys {
        name: DelegationName::releases(),
        keys: keys.clone(),
    });
    world.ring.0.retain(|id, _| !keys.contains(id));
    let signed = world.sign(&changes).unwrap();
    assert_eq!(signed.orphans, [Role::releases()]);
    world.upload(&signed).unwrap();
    world.ring.0.insert(bobs_key.id(), bobs_key);
    let unsound = world.published();
    let state = unsound
        .delegations()
        .into_iter()
        .find(|signer| signer.name == DelegationName::releases());
    assert!(matches!(state.unwrap().state, SignerState::Unsound(_)));
    assert_eq!(unsound.unsound_tags(&DelegationName::releases()), ["1.0"]);
    for change in [
        world.release("2.0", "two"),
        Change::Resign {
            role: Role::releases(),
        },
    ] {
        assert!(matches!(world.sign(&[change]), Err(EditError::Unsound { .. })));
    }
    let emptied = world
        .sign(&[Change::Empty {
            name: DelegationName::releases(),
        }])
        .unwrap();
    assert!(!String::from_utf8_lossy(&emptied.files[0].bytes).contains("1.0"));
    let verified = world.publish(&[Change::Adopt {
        name: DelegationName::releases(),
    }]);
    assert_eq!(digest_of(&verified, "1.0"), crate::repo::digest("one"));
    let nothing = world.sign(&[Change::Adopt {
        name: DelegationName::releases(),
    }]);
    assert!(matches!(nothing, Err(EditError::Sound { .. })));
}

#[test]
fn a_tag_outside_a_signers_paths_is_not_signed() {
    let mut world = World::new(false);
    let key = world.ring.make();
    world.publish(&[Change::Delegate {
        name: name("alice"),
        keys: vec![key],
        threshold: None,
        paths: vec!["v1".into()],
    }]);
    let release = |text: &str| Change::Release {
        tag: tag(text),
        sha256: [1; 32],
        length: 1,
        roles: [role("alice")].into(),
    };
    assert!(matches!(
        world.sign(&[release("v2")]),
        Err(EditError::Path { .. })
    ));
    assert!(world.sign(&[release("v1.7")]).is_ok());
    assert!(
        world
            .published()
            .signable(&tag("v2"), &world.ring.ids())
            .is_empty()
    );
}

#[test]
fn attack_a_server_that_loses_a_file_does_not_turn_its_versions_back() {
    let mut world = World::new(false);
    let alice = world.delegate("alice");
    world.publish(&alice);
    world.publish(&[world.release("1.0", "one")]);
    world.publish(&[world.release("1.1", "eleven")]);
    world.server.files.remove("targets/alice");
    let mut draft = world.published().edit();
    draft.apply(&Change::Empty { name: name("alice") }).unwrap();
    let signed = draft.sign(&world.ring.0, &Terms::reference(now())).unwrap();
    let made = signed.files.iter().find(|file| file.role == role("alice"));
    assert_eq!(made.unwrap().version, 3);
}

#[test]
fn a_version_is_above_all_that_was_ever_seen() {
    let mut world = World::new(false);
    let alice = world.delegate("alice");
    world.publish(&alice);
    let mut draft = world.draft(&[world.release("1.0", "one")]).unwrap();
    draft.above(role("alice"), 41);
    let signed = draft.sign(&world.ring.0, &Terms::reference(now())).unwrap();
    let version = |wanted: &Role| {
        signed
            .files
            .iter()
            .find(|file| file.role == *wanted)
            .unwrap()
            .version
    };
    assert_eq!((version(&role("alice")), version(&Role::releases())), (42, 1));
    let mut draft = world.draft(&[world.release("1.0", "one")]).unwrap();
    draft.above(role("alice"), (1 << 53) - 1);
    let exhausted = draft.sign(&world.ring.0, &Terms::reference(now()));
    assert!(matches!(exhausted, Err(EditError::Exhausted { .. })));
}

/// One random wish.
#[derive(Clone, Debug)]
enum Wish {
    Sign(u8, u8),
    Revoke(u8),
    Add(u8),
    Remove(u8),
    Root,
    Reissue,
    Targets,
    OwnSnapshot,
    ServerSnapshot,
    Witness,
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        6 => (0..5_u8, any::<u8>()).prop_map(|(tag, content)| Wish::Sign(tag, content)),
        3 => (0..5_u8).prop_map(Wish::Revoke),
        2 => (0..3_u8).prop_map(Wish::Add),
        1 => (0..3_u8).prop_map(Wish::Remove),
        1 => Just(Wish::Root),
        1 => Just(Wish::Reissue),
        1 => Just(Wish::Targets),
        1 => Just(Wish::OwnSnapshot),
        1 => Just(Wish::ServerSnapshot),
        1 => Just(Wish::Witness),
    ]
}

impl World {
    /// The changes of a wish; none where it does not fit.
    fn changes(&mut self, wish: &Wish) -> Vec<Change> {
        let published = self.published();
        let delegated = |signer: u8| {
            published
                .delegations()
                .iter()
                .any(|it| it.name == name(&format!("s{signer}")))
        };
        match wish {
            Wish::Sign(tag, content) => vec![self.release(&format!("t{tag}"), &content.to_string())],
            Wish::Revoke(text) => {
                let tag = tag(&format!("t{text}"));
                let roles = published.signed_in(&tag);
                if roles.is_empty() {
                    Vec::new()
                } else {
                    vec![Change::Withdraw { tag, roles }]
                }
            }
            Wish::Add(signer) if delegated(*signer) => Vec::new(),
            Wish::Add(signer) => {
                let mut changes = self.delegate(&format!("s{signer}"));
                let lives = published.delegations();
                for role in [role(&format!("s{signer}")), Role::releases()] {
                    let lives = lives.iter().any(|it| Role::Delegation(it.name.clone()) == role);
                    // Whoever remembers its file takes a role that comes back without one for an omission (T8).
                    if !lives && (published.is_listed(&role) || self.state.seen.contains_key(&role)) {
                        changes.push(Change::Resign { role });
                    }
                }
                changes
            }
            Wish::Remove(signer) if !delegated(*signer) => Vec::new(),
            Wish::Remove(signer) => {
                let gone = name(&format!("s{signer}"));
                let keys = published.key_ids(&Role::Delegation(gone.clone()));
                let releases = DelegationName::releases();
                let last = published.key_ids(&Role::releases()) == keys;
                let then = if last {
                    Change::Undelegate { name: releases }
                } else {
                    Change::RemoveKeys { name: releases, keys }
                };
                vec![Change::Undelegate { name: gone }, then]
            }
            Wish::Root => self.replaced(Role::Root),
            Wish::Reissue => {
                let id = *published.key_ids(&Role::Root).first().unwrap();
                vec![Change::Replace {
                    role: Role::Root,
                    keys: vec![self.ring.reissue(id)],
                }]
            }
            Wish::Targets => self.replaced(Role::Targets),
            Wish::OwnSnapshot => self.replaced(Role::Snapshot),
            Wish::ServerSnapshot => {
                self.server.rotate("snapshot");
                let key = PublicKey::parse(self.server.key("snapshot").as_bytes()).unwrap();
                vec![Change::Replace {
                    role: Role::Snapshot,
                    keys: vec![Arc::new(key)],
                }]
            }
            Wish::Witness => {
                let roles = [Role::Targets, Role::releases()].into_iter();
                let there = roles.filter(|role| published.version(role).is_some());
                there.map(|role| Change::Resign { role }).collect()
            }
        }
    }

    fn replaced(&mut self, role: Role) -> Vec<Change> {
        let key = if role == Role::Root {
            self.ring.certificate()
        } else {
            self.ring.make()
        };
        vec![Change::Replace {
            role,
            keys: vec![key],
        }]
    }

    /// Released tags and their digests, from the roles alone: releases over targets.
    fn model(&self) -> BTreeMap<String, [u8; 32]> {
        let published = self.published();
        let mut tags = BTreeMap::new();
        for role in [Role::Targets, Role::releases()] {
            for row in published.rows() {
                if let Some((sha256, _)) = published.entry(&role, &row.tag) {
                    tags.insert(row.tag.to_string(), sha256);
                }
            }
        }
        tags
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_is_published_in_whatever_order_verifies_and_versions_rise(
        wishes in proptest::collection::vec(wish(), 1..14),
        own_snapshot in any::<bool>(),
    ) {
        let mut world = World::new(own_snapshot);
        for wish in wishes {
            let before: BTreeMap<_, _> = world.server.current.keys()
                .map(|role| (role.clone(), world.server.version(role))).collect();
            let changes = world.changes(&wish);
            let draft = world.draft(&changes).unwrap();
            if draft.is_unchanged() {
                continue;
            }
            let signed = draft.sign(&world.ring.0, &Terms::reference(now())).unwrap();
            for file in &signed.files {
                let old = before.get(file.role.as_str()).copied().unwrap_or_default();
                prop_assert_eq!(file.version, old + 1, "{} after {:?}", file.role, wish);
            }
            let uploaded = world.upload(&signed);
            prop_assert!(uploaded.is_ok(), "{:?} after {:?}", uploaded, wish);
            let run = world.view(Purpose::Trust).run(&world.server.files);
            let verified = match run.result {
                Ok(verified) => verified,
                Err(error) => return Err(TestCaseError::fail(format!("{error} after {wish:?}"))),
            };
            world.state = verified.state.clone();
            let model = world.model();
            let tags: Vec<_> = verified.collection.tags().map(ToString::to_string).collect();
            prop_assert_eq!(&tags, &model.keys().cloned().collect::<Vec<_>>());
            for (tag, sha256) in model {
                prop_assert_eq!(digest_of(&verified, &tag), format!("sha256:{}", hex::encode(sha256)));
            }
        }
    }
}

/// A delegation that was there before, with a snapshot of the publisher's that forgot it.
#[test]
fn a_role_that_comes_back_is_published_at_once() {
    let mut world = World::new(true);
    for wish in [Wish::Add(1), Wish::Sign(0, 0), Wish::Remove(1), Wish::Add(0)] {
        let changes = world.changes(&wish);
        let signed = world.draft(&changes).unwrap();
        let signed = signed.sign(&world.ring.0, &Terms::reference(now())).unwrap();
        world.upload(&signed).unwrap();
        let run = world.view(Purpose::Trust).run(&world.server.files);
        world.state = run.result.unwrap().state;
    }
}

#[test]
fn a_look_to_publish_excuses_expiry_and_broken_delegations_and_nothing_else() {
    const PAST: &str = "2029-01-01T00:00:00Z";
    let honest = || {
        Repo::new()
            .with_alice(&[("2.0", "two")])
            .version("targets/alice", 3)
    };
    let expired = || {
        let roles = ["root", "targets", "snapshot", "timestamp", "targets/releases"].into_iter();
        roles.fold(honest(), |repo, role| repo.expires(role, PAST))
    };
    let next = || honest().all_versions(2);
    let foreign = [Key::p256(99)];
    let (honest_files, expired_files) = (honest().publish(), expired().publish());
    for (label, seen, files, want, unsound) in [
        ("honest", Some(&honest_files), honest_files.clone(), "accepted", 0),
        ("all expired", None, expired_files, "accepted", 0),
        (
            "releases by a foreign key",
            Some(&honest_files),
            next()
                .version("targets/releases", 2)
                .signed_by("targets/releases", &foreign)
                .publish(),
            "accepted",
            1,
        ),
        (
            "an older delegation",
            Some(&honest_files),
            next().version("targets/alice", 2).publish(),
            "rollback",
            0,
        ),
        (
            "two contents of one version",
            Some(&honest_files),
            honest().tag("3.0", "three").publish(),
            "equivocation",
            0,
        ),
        (
            "targets by a foreign key",
            Some(&honest_files),
            next().signed_by("targets", &foreign).publish(),
            "threshold",
            0,
        ),
    ] {
        let view = View::new().attribution();
        let mut view = seen.map_or_else(|| view.clone(), |seen| view.clone().having_seen(seen));
        view.task.purpose = Purpose::Publish;
        let run = view.run(&files);
        let found = run
            .result
            .as_ref()
            .map_or_else(countersign::tuf::Error::reason, |_| "accepted");
        assert_eq!(found, want, "{label}");
        assert_eq!(
            run.result.map_or(0, |verified| verified.unsound.len()),
            unsound,
            "{label}"
        );
    }
}
