//! The trust server without sockets and disks: updates judged, timestamps signed again, requests read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign::reference::Gun;
use countersign::trustserver::access::{Access, Caller, Peer};
use countersign::trustserver::http::{Call, Route, upload};
use countersign::tuf::edit::{self, Change, Draft, Published};
use countersign::tuf::hosted::{Accepted, HeldKeys, Holding, Terms, accept, renew};
use countersign::tuf::{
    Algorithm, Answer, DelegationName, KeyId, Limits, Pin, PrivateKey, PublicKey, Purpose, Role, State, Step,
    Task, Update,
};
use divan::black_box;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, Uri};

use crate::login;

const GUN: &str = "registry.example.com/team/app";
const NOW: &str = "2031-05-01T10:00:00Z";
/// When timestamps of [`NOW`] are due.
const LATER: &str = "2031-05-11T10:00:00Z";
const DAY: Duration = Duration::from_secs(24 * 3600);

type Files = BTreeMap<Role, Bytes>;

/// A repository as a server holds it, and an update of one tag.
pub struct Hosted {
    holding: Holding,
    held: HeldKeys,
    people: BTreeMap<KeyId, Arc<PrivateKey>>,
    upload: Files,
}

impl Hosted {
    /// So many delegations, and so many tags in `targets`.
    pub fn new(delegations: usize, tags: usize) -> Self {
        let gun: Gun = GUN.parse().unwrap();
        let now = NOW.parse().unwrap();
        let [root, targets, snapshot, timestamp] =
            [(); 4].map(|()| Arc::new(PrivateKey::generate(Algorithm::EcdsaP256).unwrap()));
        let public = |key: &PrivateKey| Arc::new(key.public().clone());
        let certificate: Arc<PublicKey> = Arc::new(root.root_certificate(&gun, now).unwrap());
        let mut draft = Draft::initial(
            &[certificate],
            &public(&targets),
            &public(&snapshot),
            &public(&timestamp),
        );
        for number in 0..delegations {
            let name: DelegationName = format!("targets/d{number}").parse().unwrap();
            let delegate = Change::Delegate {
                name: name.clone(),
                keys: vec![public(&targets)],
                paths: vec!["".into()],
                threshold: None,
            };
            draft.apply(&delegate).unwrap();
            draft.apply(&release("1.0", Role::Delegation(name))).unwrap();
        }
        for tag in 0..tags {
            draft
                .apply(&release(&format!("v{tag:07}"), Role::Targets))
                .unwrap();
        }
        let mut hosted = Self {
            holding: Holding::default(),
            held: [&snapshot, &timestamp]
                .map(|key| (key.id(), Arc::clone(key)))
                .into(),
            people: [&root, &targets].map(|key| (key.id(), Arc::clone(key))).into(),
            upload: Files::new(),
        };
        hosted.upload = hosted.signed(draft);
        let first = hosted.accept();
        for file in first.files {
            hosted.holding.used.insert(file.role.clone(), file.version);
            hosted.holding.files.insert(file.role, file.bytes);
        }
        let mut draft = hosted.published(&gun).edit();
        draft.apply(&release("next", Role::Targets)).unwrap();
        hosted.upload = hosted.signed(draft);
        hosted
    }

    fn signed(&self, draft: Draft) -> Files {
        let signed = draft.sign(&self.people, &edit::Terms::reference(NOW.parse().unwrap()));
        let files = signed.unwrap().files.into_iter();
        files.map(|file| (file.role, file.bytes)).collect()
    }

    fn published(&self, gun: &Gun) -> Arc<Published> {
        let task = Task {
            gun: gun.clone(),
            pin: Arc::new(Pin::first_use()),
            signers: std::collections::BTreeSet::new(),
            attribution: true,
            purpose: Purpose::Publish,
            limits: Limits::default(),
            now: NOW.parse().unwrap(),
        };
        let (mut update, mut requests) = Update::begin(task, State::default());
        loop {
            let answers = requests.into_iter().map(|request| {
                // There is one version of each file.
                let first = !matches!(request.form, countersign::tuf::Form::Version(version) if version != 1);
                let file = self.holding.files.get(&request.role).filter(|_| first);
                let answer = file.map_or(Answer::Absent, |file| Answer::Found(file.clone()));
                (request, answer)
            });
            match update.supply(answers.collect::<Vec<_>>()).unwrap() {
                Step::Fetch(more) => requests = more,
                Step::Done(verified) => return Arc::new(Published::of(gun, &verified).unwrap()),
            }
        }
    }

    /// Judges the update.
    pub fn accept(&self) -> Accepted {
        let (gun, limits) = (GUN.parse().unwrap(), Limits::default());
        accept(
            &gun,
            black_box(&self.holding),
            &self.upload,
            &self.held,
            &terms(NOW),
            &limits,
        )
        .unwrap()
    }

    /// Signs the timestamp again.
    pub fn renew(&self) -> Accepted {
        let (gun, limits) = (GUN.parse().unwrap(), Limits::default());
        let renewed = renew(&gun, black_box(&self.holding), &self.held, &terms(LATER), &limits);
        renewed.unwrap().unwrap()
    }

    /// The update as it is sent.
    pub fn call(&self) -> Call {
        let mut body = Vec::new();
        for (role, file) in &self.upload {
            let head =
                format!("--b\r\nContent-Disposition: form-data; name=files; filename=\"{role}\"\r\n\r\n");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(file);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--b--\r\n");
        let kind = HeaderValue::from_static("multipart/form-data; boundary=b");
        Call {
            method: Method::POST,
            uri: format!("/v2/{GUN}/_trust/tuf/").parse().unwrap(),
            headers: HeaderMap::from_iter([(http::header::CONTENT_TYPE, kind)]),
            body: body.into(),
            peer: Peer {
                address: "192.0.2.1:1".parse().unwrap(),
                names: Vec::new(),
            },
        }
    }
}

fn terms(now: &str) -> Terms {
    Terms {
        now: now.parse().unwrap(),
        snapshot: 3 * 365 * DAY,
        timestamp: 14 * DAY,
    }
}

fn release(tag: &str, role: Role) -> Change {
    Change::Release {
        tag: tag.parse().unwrap(),
        sha256: [7; 32],
        length: 1000,
        roles: [role].into(),
    }
}

/// Takes an update apart.
pub fn take_apart(call: &Call) -> Files {
    let files = upload(black_box(call), &Limits::default()).now_or_never();
    files.unwrap().unwrap()
}

/// A request for a file by its hash.
pub fn request() -> Uri {
    format!("/v2/{GUN}/_trust/tuf/targets/releases.{}.json", "ab".repeat(32))
        .parse()
        .unwrap()
}

/// Finds out what a request asks for.
pub fn route(uri: &Uri) -> Route {
    Route::parse(&Method::GET, black_box(uri)).unwrap()
}

/// A token of a token service.
pub fn token() -> HeaderValue {
    let [_, _, token] = login::honest();
    token.parse().unwrap()
}

/// Whether whoever has the token may read.
pub fn admit(access: &Access, token: &HeaderValue) -> Caller {
    login::admitted(black_box(access), token.clone()).unwrap()
}
