//! Whatever is accepted verifies: for who comes first, and for who remembers any state before.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::json;

use super::*;

const SIGNERS: [&str; 2] = ["alice", "bob"];

/// What somebody does.
#[derive(Clone, Debug)]
enum Deed {
    Release(u8, Vec<&'static str>),
    Delegate(&'static str, &'static str),
    RemoveKey(&'static str, &'static str),
    Undelegate(&'static str),
    Repair(&'static str),
    Rotate(Role, bool),
    Resign(Role),
    /// So many days pass, and the server does what is due.
    Wait(u8),
}

fn deed() -> impl Strategy<Value = Deed> {
    let place = || select(vec!["alice", "bob", "releases"]);
    let roles = vec!["targets", "targets/alice", "targets/bob", "targets/releases"];
    let base = vec![Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp];
    let signable = vec![Role::Root, Role::Targets, Role::releases()];
    prop_oneof![
        4 => (any::<u8>(), proptest::sample::subsequence(roles, 1..4)).prop_map(|(n, roles)| Deed::Release(n, roles)),
        3 => (place(), select(SIGNERS.to_vec())).prop_map(|(to, who)| Deed::Delegate(to, who)),
        2 => (place(), select(SIGNERS.to_vec())).prop_map(|(from, who)| Deed::RemoveKey(from, who)),
        2 => place().prop_map(Deed::Undelegate),
        2 => place().prop_map(Deed::Repair),
        2 => (select(base), any::<bool>()).prop_map(|(role, other)| Deed::Rotate(role, other)),
        1 => select(signable).prop_map(Deed::Resign),
        3 => (1_u8..40).prop_map(Deed::Wait),
    ]
}

impl Scene {
    fn changes(&mut self, deed: &Deed) -> Vec<Change> {
        match deed {
            Deed::Release(n, roles) => vec![release(&format!("{}", n % 4), *n, roles)],
            Deed::Delegate(to, who) => {
                let role = role(&format!("targets/{to}"));
                // Who delegates again to a role that was seen must publish it too: readers take its absence for an
                // attack (§5.7 step 9).
                vec![self.delegate(to, &[who]), Change::Resign { role }]
            }
            Deed::RemoveKey(from, who) => vec![self.remove(from, who)],
            Deed::Undelegate(who) => vec![Change::Undelegate { name: name(who) }],
            Deed::Repair(who) => vec![Change::Empty { name: name(who) }],
            Deed::Rotate(role, other) => {
                let key = match role {
                    Role::Root => self.certificate(if *other { "root" } else { "root2" }),
                    Role::Targets => self.public(if *other { "targets" } else { "targets2" }),
                    Role::Snapshot if *other => self.public("snapshot"),
                    Role::Snapshot | Role::Timestamp | Role::Delegation(_) => self.server_key(),
                };
                let keys = vec![key];
                vec![Change::Replace {
                    role: role.clone(),
                    keys,
                }]
            }
            Deed::Resign(role) => vec![Change::Resign { role: role.clone() }],
            Deed::Wait(_) => Vec::new(),
        }
    }

    /// Does it, if it can be done here.
    fn play(&mut self, deed: &Deed) {
        if let Deed::Wait(days) = deed {
            self.now += DAY * u32::from(*days);
            if let Some(renewed) = self.renewed().unwrap() {
                self.store(&renewed);
            }
            return;
        }
        let verified = self.look(Purpose::Publish, State::default()).unwrap();
        let mut draft = Arc::new(Published::of(&self.gun, &verified).unwrap()).edit();
        let changes = self.changes(deed);
        if changes.iter().any(|change| draft.apply(change).is_err()) || draft.is_unchanged() {
            return;
        }
        for role in draft.begins() {
            let used = self.holding.used.get(&role).copied().unwrap_or_default();
            draft.above(role, used);
        }
        let keys: BTreeMap<_, _> = self
            .people
            .values()
            .map(|key| (key.id(), Arc::clone(key)))
            .collect();
        let Ok(signed) = draft.sign(&keys, &self.edit_terms()) else {
            return;
        };
        let upload = signed.files.into_iter().map(|file| (file.role, file.bytes));
        self.publish(&upload.collect());
    }

    /// Holds what is stored against the verifier, with nothing in mind and with each of `memories`.
    fn holds(&self, memories: &[State]) -> State {
        let examined = self.examined();
        let found = self.look(Purpose::Publish, State::default()).unwrap();
        let unsound: BTreeSet<_> = found
            .unsound
            .keys()
            .map(|name| Role::Delegation(name.clone()))
            .collect();
        assert_eq!(unsound, examined.unsound);
        for memory in memories.iter().chain([&State::default()]) {
            let whole = examined.unsound.is_empty() && examined.expired.is_empty();
            let purpose = if whole { Purpose::Trust } else { Purpose::Publish };
            self.look(purpose, memory.clone()).unwrap();
        }
        found.state
    }
}

/// Every place in a document.
fn places(value: &Json, at: String, found: &mut Vec<String>) {
    match value {
        Json::Object(members) => {
            for (name, value) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(value, format!("{at}/{name}"), found);
            }
        }
        Json::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, format!("{at}/{index}"), found);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
    found.push(at);
}

fn scalar() -> impl Strategy<Value = Json> {
    prop_oneof![
        select(vec![
            Json::Null,
            json!(true),
            json!([]),
            json!({}),
            json!([""]),
            json!("targets"),
            json!("targets/alice"),
            json!("AAAA"),
            json!("2031-05-02T00:00:00Z"),
        ]),
        (0_i64..1 << 53).prop_map(Json::from),
        (0_i64..4).prop_map(Json::from),
        "[ -~]{0,12}".prop_map(Json::from),
    ]
}

/// Honest uploads to repositories of both kinds, with everything in them that an upload can have.
static HONEST: LazyLock<Vec<(Scene, Files)>> = LazyLock::new(|| {
    let mut vacant = Scene::vacant();
    let snapshot = vacant.server_key();
    let initial = vacant.initial(&snapshot);
    let mut all = vec![(vacant, initial)];
    for mut scene in [Scene::docker().with_signers(), Scene::notary().with_signers()] {
        let (role, keys) = (Role::Root, vec![scene.certificate("root2")]);
        let changes = [
            Change::Replace { role, keys },
            release("2.0", 2, &["targets", "targets/alice", "targets/releases"]),
            scene.delegate("bob", &["alice"]),
        ];
        let upload = scene.upload(&changes);
        all.push((scene, upload));
    }
    all
});

/// Accepted or not, nothing panics, and what is accepted verifies.
fn harmless(scene: &Scene, upload: &Files) {
    let Ok(accepted) = scene.judge(upload) else { return };
    let memory = if scene.holding.files.is_empty() {
        Vec::new()
    } else {
        vec![scene.look(Purpose::Publish, State::default()).unwrap().state]
    };
    let mut scene = scene.clone();
    scene.store(&accepted);
    scene.holds(&memory);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn whatever_was_accepted_verifies_for_newcomers_and_for_all_who_remember(
        docker in any::<bool>(),
        deeds in proptest::collection::vec(deed(), 1..12),
    ) {
        let mut scene = if docker { Scene::docker() } else { Scene::notary() }.with_signers();
        let mut memories = vec![scene.holds(&[])];
        for deed in &deeds {
            scene.play(deed);
            memories.push(scene.holds(&memories));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn lies_that_are_signed_never_lead_to_a_state_that_does_not_verify(
        (which, file, place) in any::<(Index, Index, Index)>(),
        value in proptest::option::of(scalar()),
        other in any::<Index>(),
    ) {
        let (scene, upload) = which.get(&HONEST);
        let mut upload = upload.clone();
        let role = file.get(&upload.keys().cloned().collect::<Vec<_>>()).clone();
        let file = scene.forged(&upload[&role], |signed| {
            let mut found = Vec::new();
            places(signed, String::new(), &mut found);
            let from = signed.pointer(&found[other.index(found.len())]).unwrap().clone();
            let at = &found[place.index(found.len())];
            match (value, at.rsplit_once('/')) {
                (Some(value), _) => *signed.pointer_mut(at).unwrap() = value,
                (None, Some((parent, last))) if other.index(2) == 0 => {
                    let last = last.replace("~1", "/").replace("~0", "~");
                    if let Some(members) = signed.pointer_mut(parent).unwrap().as_object_mut() {
                        members.remove(&last);
                    }
                }
                (None, _) => *signed.pointer_mut(at).unwrap() = from,
            }
        });
        upload.insert(role, file);
        harmless(scene, &upload);
    }

    #[test]
    fn bytes_that_change_on_the_way_never_lead_to_a_state_that_does_not_verify(
        (which, file, from, to) in any::<(Index, Index, Index, Index)>(),
        (first, last) in any::<(Index, Index)>(),
        noise in proptest::collection::vec(any::<u8>(), 0..4),
    ) {
        let (scene, upload) = which.get(&HONEST);
        let mut upload = upload.clone();
        let roles: Vec<_> = upload.keys().cloned().collect();
        let source = upload[from.get(&roles)].clone();
        let target = to.get(&roles).clone();
        let mut bytes = upload[file.get(&roles)].to_vec();
        let mut range = [first.index(bytes.len()), last.index(bytes.len())];
        range.sort_unstable();
        bytes.splice(range[0]..range[1].min(range[0] + 3), noise);
        upload.insert(file.get(&roles).clone(), bytes.into());
        harmless(scene, &upload);
        upload.insert(target, source);
        harmless(scene, &upload);
    }

    #[test]
    fn no_input_panics(roles in proptest::collection::btree_map(
        select(vec!["root", "targets", "snapshot", "timestamp", "targets/alice", "targets/x/y"]),
        prop_oneof![
            any::<Vec<u8>>(),
            r#"\{"signed":\{"_type":"(Root|Targets|Snapshot)",("[a-z]{1,8}":(null|1|\{\}|\[\]),){0,3}"version":1\},"signatures":\[\]\}"#
                .prop_map(String::into_bytes),
        ],
        0..4,
    )) {
        let upload: Files = roles.into_iter().map(|(name, file)| (role(name), file.into())).collect();
        for (scene, _) in HONEST.iter() {
            harmless(scene, &upload);
            let holding = Holding { files: upload.clone(), used: BTreeMap::new() };
            assert!(examine(&scene.gun, &holding, scene.now, &scene.limits).is_err());
            assert!(renew(&scene.gun, &holding, &scene.held, &scene.terms(), &scene.limits).is_err());
            drop(listed_keys(&holding, &Role::Snapshot));
        }
    }
}
