//! Updates as they are judged: an honest one to a repository with delegations, changed as the input says, six bytes a
//! change.
//!
//! What is accepted is stored byte for byte as it was uploaded, verifies for newcomers and for those who remember the
//! state before, and says what the honest update says: nobody without a key can make it say anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use countersign::reference::Gun;
use countersign::tuf::edit::{self, Change, Draft, Published};
use countersign::tuf::hosted::{Accepted, HeldKeys, Holding, Terms, accept, examine};
use countersign::tuf::{
    Algorithm, Answer, Collection, DelegationName, Form, KeyId, Limits, Pin, PrivateKey, PublicKey, Purpose,
    Role, State, Step, Task, Update, Verified, root_version, sha256,
};

const GUN: &str = "registry.example.com/team/app";
const NOW: &str = "2031-05-01T10:00:00Z";
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A run has at most two attempts, each a round for roots, one for delegations at a time, and walks of 64 stretches.
const ROUNDS: usize = 200;

type Files = BTreeMap<Role, Bytes>;

pub(crate) fn run(data: &[u8]) {
    let scene = &*SCENE;
    let upload = changed(&scene.upload, data);
    let Ok(accepted) = scene.accept(&upload) else {
        return;
    };
    let after = scene.after(&accepted);
    for (role, file) in &upload {
        assert_eq!(
            after.files.get(role),
            Some(file),
            "{role} is stored otherwise than it came"
        );
    }
    let gun: Gun = GUN.parse().unwrap();
    examine(&gun, &after, NOW.parse().unwrap(), &Limits::default())
        .expect("what was accepted does not verify");
    let roots = [&scene.holding, &after];
    for memory in [State::default(), scene.before.clone()] {
        let found = look(&after.files, &roots, memory).expect("readers refuse what was accepted");
        if upload.keys().eq(scene.upload.keys()) {
            assert!(
                same(&found.collection, scene.collection.as_ref().unwrap()),
                "it says something else"
            );
        }
    }
}

/// A repository, and an honest update of everything that people sign.
struct Scene {
    holding: Holding,
    held: HeldKeys,
    before: State,
    upload: Files,
    /// What the repository says after the honest update.
    collection: Option<Collection>,
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let gun: Gun = GUN.parse().unwrap();
    let now = NOW.parse().unwrap();
    let make = || Arc::new(PrivateKey::generate(Algorithm::EcdsaP256).unwrap());
    let public = |key: &PrivateKey| Arc::new(key.public().clone());
    let (root, targets, alice, snapshot, timestamp) = (make(), make(), make(), make(), make());
    let people: BTreeMap<KeyId, _> = [&root, &targets, &alice]
        .map(|key| (key.id(), Arc::clone(key)))
        .into();
    let held: HeldKeys = [&snapshot, &timestamp]
        .map(|key| (key.id(), Arc::clone(key)))
        .into();
    let certificate: Arc<PublicKey> = Arc::new(root.root_certificate(&gun, now).unwrap());
    let draft = Draft::initial(
        &[certificate],
        &public(&targets),
        &public(&snapshot),
        &public(&timestamp),
    );
    let sign = |draft: Draft| -> Files {
        let signed = draft.sign(&people, &edit::Terms::reference(now)).unwrap();
        signed
            .files
            .into_iter()
            .map(|file| (file.role, file.bytes))
            .collect()
    };
    let mut scene = Scene {
        holding: Holding::default(),
        held,
        before: State::default(),
        upload: sign(draft),
        collection: None,
    };
    let first = scene.accept(&scene.upload).unwrap();
    scene.holding = scene.after(&first);
    let name: DelegationName = "targets/alice".parse().unwrap();
    let alice = Change::Delegate {
        name: name.clone(),
        keys: vec![public(&alice)],
        paths: vec!["".into()],
        threshold: None,
    };
    let release = |tag: &str, content| Change::Release {
        tag: tag.parse().unwrap(),
        sha256: [content; 32],
        length: 1000,
        roles: [Role::Targets, Role::Delegation(name.clone())].into(),
    };
    let witness = Change::Resign { role: Role::Root };
    for changes in [vec![alice, release("1.0", 1)], vec![release("2.0", 2), witness]] {
        let verified = look(&scene.holding.files, &[&scene.holding], State::default()).unwrap();
        scene.before = verified.state.clone();
        let mut draft = Arc::new(Published::of(&gun, &verified).unwrap()).edit();
        for change in changes {
            draft.apply(&change).unwrap();
        }
        scene.upload = sign(draft);
        let accepted = scene.accept(&scene.upload).unwrap();
        let after = scene.after(&accepted);
        let verified = look(&after.files, &[&scene.holding, &after], State::default()).unwrap();
        scene.collection = Some(verified.collection);
        if scene.upload.contains_key(&Role::Root) {
            break;
        }
        scene.holding = after;
    }
    scene
});

impl Scene {
    fn accept(&self, upload: &Files) -> Result<Accepted, ()> {
        let terms = Terms {
            now: NOW.parse().unwrap(),
            snapshot: 30 * DAY,
            timestamp: 3 * DAY,
        };
        let gun = GUN.parse().unwrap();
        accept(
            &gun,
            &self.holding,
            upload,
            &self.held,
            &terms,
            &Limits::default(),
        )
        .map_err(|rejection| {
            assert!(!rejection.name().is_empty() && !rejection.to_string().is_empty());
        })
    }

    fn after(&self, accepted: &Accepted) -> Holding {
        let mut after = self.holding.clone();
        for file in &accepted.files {
            after.files.insert(file.role.clone(), file.bytes.clone());
            let used = after.used.entry(file.role.clone()).or_default();
            *used = file.version.max(*used);
        }
        after.files.retain(|role, _| !accepted.dropped.contains(role));
        after
    }
}

/// `upload` with changes to bytes, and now and then to whose a file is, or whether there is one.
fn changed(upload: &Files, data: &[u8]) -> Files {
    let mut files: Vec<_> = upload
        .iter()
        .map(|(role, raw)| (role.clone(), raw.to_vec()))
        .collect();
    for change in data.chunks_exact(6) {
        let &[file, kind, high, low, value, length] = change else {
            continue;
        };
        let count = files.len();
        let other = usize::from(value) % count;
        let donor = files[other].clone();
        let (role, raw) = &mut files[usize::from(file) % count];
        let at = usize::from(u16::from_be_bytes([high, low])) % (raw.len() + 1);
        let end = (at + usize::from(length)).min(raw.len());
        match kind % 9 {
            0 => raw[at..end].fill(value),
            1 => raw.insert(at, value),
            2 => drop(raw.drain(at..end)),
            3 => raw.truncate(at),
            4 => drop(raw.splice(
                at..end,
                donor.1.iter().copied().skip(at).take(usize::from(length)),
            )),
            5 => *raw = donor.1,
            6 => *role = donor.0,
            7 => *role = Role::Snapshot,
            _ if count > 1 => drop(files.remove(other)),
            _ => {}
        }
    }
    files.into_iter().map(|(role, raw)| (role, raw.into())).collect()
}

fn same(found: &Collection, honest: &Collection) -> bool {
    let conditions = countersign::tuf::Conditions::default();
    let digest = |of: &Collection, tag| {
        of.resolve(Some(tag), None, &conditions)
            .map(|found| found.digest)
            .ok()
    };
    found.tags().eq(honest.tags()) && honest.tags().all(|tag| digest(found, tag) == digest(honest, tag))
}

/// What a reader that remembers `memory` finds in `files`; older roots are in `known`.
fn look(files: &Files, known: &[&Holding], memory: State) -> Result<Verified, String> {
    let task = Task {
        gun: GUN.parse().unwrap(),
        pin: Arc::new(Pin::first_use()),
        signers: BTreeSet::new(),
        attribution: true,
        purpose: Purpose::Publish,
        limits: Limits::default(),
        now: NOW.parse().unwrap(),
    };
    let (mut update, mut requests) = Update::begin(task, memory);
    for _ in 0..ROUNDS {
        let answers = requests.into_iter().map(|request| {
            let found = match &request.form {
                Form::Current => files.get(&request.role),
                Form::Hash(hash) => files.get(&request.role).filter(|file| sha256(file) == *hash),
                Form::Version(version) => known
                    .iter()
                    .filter_map(|known| known.files.get(&Role::Root))
                    .find(|root| root_version(root).ok() == Some(*version)),
            };
            let answer = found.map_or(Answer::Absent, |file| Answer::Found(file.clone()));
            (request, answer)
        });
        let answers: Vec<_> = answers.collect();
        match update.supply(answers).map_err(|error| error.to_string())? {
            Step::Fetch(more) => requests = more,
            Step::Done(verified) => return Ok(*verified),
        }
    }
    Err("the update does not come to an end".to_owned())
}
