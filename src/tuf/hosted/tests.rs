//! Publishers and a server, in one process and without a wire.

mod exactness;
mod honest;
mod lies;
mod property;
mod renewal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value as Json;

use super::super::canonical::Value;
use super::super::edit::document;
use super::super::edit::{Change, Draft, Published};
use super::super::{
    Algorithm, Answer, Form, PublicKey, Purpose, Request, State, Step, Task, Update, Verified,
};
use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long what the server signs is good.
const SNAPSHOT: Duration = Duration::from_secs(30 * 24 * 3600);
const TIMESTAMP: Duration = Duration::from_secs(3 * 24 * 3600);

type Files = BTreeMap<Role, Bytes>;

fn role(name: &str) -> Role {
    name.parse().unwrap()
}

fn name(signer: &str) -> super::super::DelegationName {
    format!("targets/{signer}").parse().unwrap()
}

/// One repository, everybody's keys, and everything that was ever stored.
#[derive(Clone)]
struct Scene {
    gun: Gun,
    now: Timestamp,
    /// Of people, by their names.
    people: BTreeMap<&'static str, Arc<PrivateKey>>,
    /// Of the server.
    held: HeldKeys,
    /// Every key by the id under which some file lists it.
    listed: BTreeMap<KeyId, Arc<PrivateKey>>,
    holding: Holding,
    roots: Vec<Bytes>,
    limits: Limits,
}

impl Scene {
    /// Nothing is published yet.
    fn vacant() -> Self {
        let mut scene = Self {
            gun: "registry.example.com/team/app".parse().unwrap(),
            now: "2031-05-01T10:00:00Z".parse().unwrap(),
            people: BTreeMap::new(),
            held: HeldKeys::new(),
            listed: BTreeMap::new(),
            holding: Holding::default(),
            roots: Vec::new(),
            limits: Limits::default(),
        };
        for who in ["root", "root2", "targets", "targets2", "snapshot", "alice", "bob"] {
            let key = Arc::new(PrivateKey::generate(Algorithm::EcdsaP256).unwrap());
            scene.listed.insert(key.id(), Arc::clone(&key));
            scene.people.insert(who, key);
        }
        scene
    }

    /// A repository whose snapshot the server makes, as docker begins one.
    fn docker() -> Self {
        let mut scene = Self::vacant();
        let snapshot = scene.server_key();
        let upload = scene.initial(&snapshot);
        scene.publish(&upload);
        scene
    }

    /// A repository whose snapshot the publisher makes, as notary begins one.
    fn notary() -> Self {
        let mut scene = Self::vacant();
        let snapshot = scene.public("snapshot");
        let upload = scene.initial(&snapshot);
        scene.publish(&upload);
        scene
    }

    /// The same with alice and bob, both of whom may sign releases and have.
    fn with_signers(mut self) -> Self {
        let mut changes = Vec::new();
        for who in ["alice", "bob"] {
            changes.push(self.delegate(who, &[who]));
            changes.push(self.delegate("releases", &[who]));
        }
        self.change(&changes);
        let roles = ["targets/alice", "targets/bob", "targets/releases"];
        self.change(&[release("1.0", 1, &roles), release("legacy", 9, &["targets"])]);
        self
    }

    fn initial(&mut self, snapshot: &Arc<PublicKey>) -> Files {
        let timestamp = self.server_key();
        let root = self.certificate("root");
        let draft = Draft::initial(&[root], &self.public("targets"), snapshot, &timestamp);
        self.signed(draft)
    }

    /// A new key of the server.
    fn server_key(&mut self) -> Arc<PublicKey> {
        let key = Arc::new(PrivateKey::generate(Algorithm::Ed25519).unwrap());
        self.listed.insert(key.id(), Arc::clone(&key));
        self.held.insert(key.id(), Arc::clone(&key));
        Arc::new(key.public().clone())
    }

    fn public(&self, who: &str) -> Arc<PublicKey> {
        Arc::new(self.people[who].public().clone())
    }

    /// A root certificate, made now.
    fn certificate(&mut self, who: &str) -> Arc<PublicKey> {
        self.certificate_for(who, &self.gun.clone())
    }

    fn certificate_for(&mut self, who: &str, gun: &Gun) -> Arc<PublicKey> {
        let key = Arc::clone(&self.people[who]);
        let certificate = key.root_certificate(gun, self.now).unwrap();
        self.listed.insert(certificate.id(), key);
        Arc::new(certificate)
    }

    fn delegate(&self, to: &str, keys: &[&str]) -> Change {
        Change::Delegate {
            name: name(to),
            keys: keys.iter().map(|who| self.public(who)).collect(),
            threshold: None,
            paths: vec!["".into()],
        }
    }

    fn remove(&self, from: &str, who: &str) -> Change {
        Change::RemoveKeys {
            name: name(from),
            keys: [self.people[who].id()].into(),
        }
    }

    fn terms(&self) -> Terms {
        Terms {
            now: self.now,
            snapshot: SNAPSHOT,
            timestamp: TIMESTAMP,
        }
    }

    fn edit_terms(&self) -> super::super::edit::Terms {
        super::super::edit::Terms::reference(self.now)
    }

    /// The draft's files, signed by all people who may.
    fn signed(&self, draft: Draft) -> Files {
        self.signed_by(draft, &self.people.keys().copied().collect::<Vec<_>>())
    }

    fn signed_by(&self, mut draft: Draft, who: &[&str]) -> Files {
        for role in draft.begins() {
            let used = self.holding.used.get(&role).copied().unwrap_or_default();
            draft.above(role, used);
        }
        let keys = who
            .iter()
            .map(|who| (self.people[who].id(), Arc::clone(&self.people[who])));
        let signed = draft.sign(&keys.collect(), &self.edit_terms()).unwrap();
        signed
            .files
            .into_iter()
            .map(|file| (file.role, file.bytes))
            .collect()
    }

    /// What a publisher would upload to make these changes.
    fn upload(&self, changes: &[Change]) -> Files {
        self.upload_by(changes, &self.people.keys().copied().collect::<Vec<_>>())
    }

    fn upload_by(&self, changes: &[Change], who: &[&str]) -> Files {
        let verified = self.look(Purpose::Publish, State::default()).unwrap();
        let published = Arc::new(Published::of(&self.gun, &verified).unwrap());
        let mut draft = published.edit();
        for change in changes {
            draft.apply(change).unwrap();
        }
        self.signed_by(draft, who)
    }

    fn judge(&self, upload: &Files) -> Result<Accepted, Rejection> {
        accept(
            &self.gun,
            &self.holding,
            upload,
            &self.held,
            &self.terms(),
            &self.limits,
        )
    }

    /// `accepted`, or the name of the rejection.
    fn verdict(&self, upload: &Files) -> &'static str {
        self.judge(upload)
            .map_or_else(|rejection| rejection.name(), |_| "accepted")
    }

    fn publish(&mut self, upload: &Files) -> Accepted {
        let accepted = self
            .judge(upload)
            .unwrap_or_else(|rejection| panic!("{rejection}"));
        self.store(&accepted);
        accepted
    }

    fn change(&mut self, changes: &[Change]) -> Accepted {
        let upload = self.upload(changes);
        self.publish(&upload)
    }

    fn renewed(&self) -> Result<Option<Accepted>, Rejection> {
        renew(&self.gun, &self.holding, &self.held, &self.terms(), &self.limits)
    }

    fn examined(&self) -> Examined {
        examine(&self.gun, &self.holding, self.now, &self.limits).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Stores what was accepted, as a database would: a version is used once.
    fn store(&mut self, accepted: &Accepted) {
        for file in &accepted.files {
            let used = self.holding.used.entry(file.role.clone()).or_default();
            assert!(
                file.version > *used || file.role == Role::Snapshot,
                "{} {} is used",
                file.role,
                file.version
            );
            *used = file.version.max(*used);
            assert_eq!(Stated::of(&file.role, &file.bytes).unwrap().version, file.version);
            assert!(!file.signers.is_empty());
            self.holding.files.insert(file.role.clone(), file.bytes.clone());
            if file.role == Role::Root {
                self.roots.push(file.bytes.clone());
            }
        }
        for role in &accepted.dropped {
            self.holding.files.remove(role).unwrap();
        }
    }

    /// What a verifier that remembers `prior` finds here.
    fn look(&self, purpose: Purpose, prior: State) -> Result<Verified, Error> {
        let task = Task {
            gun: self.gun.clone(),
            pin: Arc::new(Pin::first_use()),
            signers: BTreeSet::new(),
            attribution: true,
            purpose,
            limits: self.limits,
            now: self.now,
        };
        let (mut update, mut round) = Update::begin(task, prior);
        loop {
            let answers: Vec<_> = round
                .into_iter()
                .map(|request| (request.clone(), self.answer(&request)))
                .collect();
            match update.supply(answers)? {
                Step::Fetch(next) => round = next,
                Step::Done(verified) => return Ok(*verified),
            }
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        let current = self.holding.files.get(&request.role);
        let found = match &request.form {
            Form::Current => current,
            Form::Hash(sha256) => current.filter(|file| super::super::sha256(file) == *sha256),
            Form::Version(version) => self
                .roots
                .iter()
                .find(|root| super::super::root_version(root).unwrap() == *version),
        };
        found.map_or(Answer::Absent, |file| Answer::Found(file.clone()))
    }

    fn version(&self, of: &str) -> u64 {
        let role = role(of);
        Stated::of(&role, &self.holding.files[&role]).unwrap().version
    }

    /// `file` with other content, signed by whoever signed it before.
    fn forged(&self, file: &[u8], edit: impl FnOnce(&mut Json)) -> Bytes {
        let mut json: Json = serde_json::from_slice(file).unwrap();
        edit(&mut json["signed"]);
        let ids = json["signatures"].as_array().unwrap().iter();
        let ids: Vec<KeyId> = ids
            .map(|signature| signature["keyid"].as_str().unwrap().parse().unwrap())
            .collect();
        self.written(&json["signed"], &ids)
    }

    /// `signed` as a file, signed with the keys that are listed under `ids`.
    fn written(&self, signed: &Json, ids: &[KeyId]) -> Bytes {
        let signed = Value::parse(signed.to_string().as_bytes()).unwrap();
        let message = signed.canonical();
        let signatures: Vec<_> = ids
            .iter()
            .map(|id| {
                let key = &self.listed[id];
                (*id, key.method(), key.sign(message.as_bytes()).unwrap())
            })
            .collect();
        document::file(&signed, &signatures)
    }

    /// The uploaded file of `of`, with other content.
    fn forge(&self, upload: &mut Files, of: &str, edit: impl FnOnce(&mut Json)) {
        let role = role(of);
        let file = self.forged(&upload[&role], edit);
        upload.insert(role, file);
    }
}

fn release(tag: &str, content: u8, roles: &[&str]) -> Change {
    Change::Release {
        tag: tag.parse().unwrap(),
        sha256: [content; 32],
        length: 1000,
        roles: roles.iter().map(|name| role(name)).collect(),
    }
}

/// A file in whose text something is replaced; whatever signed it signed something else.
fn rewrite(upload: &mut Files, of: &str, from: &str, to: &str) {
    let role = role(of);
    let text = std::str::from_utf8(&upload[&role]).unwrap().to_owned();
    assert!(text.contains(from), "{from} is not in {text}");
    upload.insert(role, text.replacen(from, to, 1).into());
}
