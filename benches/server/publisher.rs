//! Uploads that are signed before they are sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use countersign::reference::Gun;
use countersign::tuf::edit::{Change, Draft, Published, SignedFile, Terms};
use countersign::tuf::{
    Algorithm, Answer, DelegationName, Form, KeyId, Limits, Pin, PrivateKey, PublicKey, Purpose, Role, State,
    Step, Task, Update,
};
use jiff::Timestamp;
use reqwest::{Client, Response};

use crate::process::Server;

/// The body of an update, and where it goes.
pub(crate) struct Upload {
    url: String,
    body: Bytes,
}

impl Upload {
    fn of(url: String, files: &[SignedFile]) -> Self {
        let mut body = Vec::new();
        for file in files {
            let name = &file.role;
            let head =
                format!("--b\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{name}\"\r\n\r\n");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(&file.bytes);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--b--\r\n");
        Self {
            url,
            body: body.into(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.body.len()
    }
}

pub(crate) fn gun(repository: &str) -> String {
    format!("registry.example.com/{repository}")
}

/// Somebody with the keys of all repositories.
pub(crate) struct Publisher<'s> {
    server: &'s Server,
    client: Client,
    root: Arc<PrivateKey>,
    targets: Arc<PrivateKey>,
    now: Timestamp,
}

impl<'s> Publisher<'s> {
    pub(crate) fn new(server: &'s Server) -> Self {
        let authority = reqwest::Certificate::from_pem(&server.authority()).unwrap();
        let client = Client::builder()
            .tls_certs_only([authority])
            .http1_only()
            .no_proxy();
        let key = || Arc::new(PrivateKey::generate(Algorithm::EcdsaP256).unwrap());
        Self {
            server,
            client: client.build().unwrap(),
            root: key(),
            targets: key(),
            now: countersign::clock::now(),
        }
    }

    /// The first update of a repository, with so many tags, for the keys that the server makes for it.
    pub(crate) async fn repository(&self, name: &str, tags: usize) -> Upload {
        let (snapshot, timestamp) = (
            self.key(name, "snapshot").await,
            self.key(name, "timestamp").await,
        );
        let gun: Gun = gun(name).parse().unwrap();
        let certificate = Arc::new(self.root.root_certificate(&gun, self.now).unwrap());
        let targets = Arc::new(self.targets.public().clone());
        let mut draft = Draft::initial(&[certificate], &targets, &snapshot, &timestamp);
        for tag in 0..tags {
            draft
                .apply(&release(&format!("v{tag:07}"), 1, Role::Targets))
                .unwrap();
        }
        Upload::of(self.server.file(name, ""), &self.sign(draft))
    }

    /// Updates of repositories that are there, a series for each publisher; of one role each of one repository if it
    /// is `shared`.
    pub(crate) async fn series(
        &self,
        salt: usize,
        publishers: usize,
        updates: usize,
        shared: bool,
    ) -> Vec<Vec<Upload>> {
        let mut all = Vec::new();
        for number in 0..publishers {
            let name = format!("series{salt}/{}", if shared { 0 } else { number });
            if number == 0 || !shared {
                self.send(&self.repository(&name, 0).await).await;
            }
            let role = if shared {
                let role: DelegationName = format!("targets/s{number}").parse().unwrap();
                let delegate = Change::Delegate {
                    name: role.clone(),
                    keys: vec![Arc::new(self.targets.public().clone())],
                    paths: vec!["".into()],
                    threshold: None,
                };
                let first = release("v0", 0, Role::Delegation(role.clone()));
                self.send(&self.next(&name, &[delegate, first], 0).await).await;
                Role::Delegation(role)
            } else {
                Role::Targets
            };
            let mut series = Vec::new();
            for update in 0..updates {
                let change = release("1.0", u8::try_from(update % 200 + 1).unwrap(), role.clone());
                series.push(self.next(&name, &[change], update as u64).await);
            }
            all.push(series);
        }
        all
    }

    /// An update on top of what is there, so many versions later.
    async fn next(&self, name: &str, changes: &[Change], later: u64) -> Upload {
        let published = self.published(name).await;
        let mut draft = published.edit();
        for change in changes {
            if later > 0
                && let Change::Release { roles, .. } = change
            {
                for role in roles {
                    let version = published.version(role).unwrap_or_default();
                    draft.above(role.clone(), version + later);
                }
            }
            draft.apply(change).unwrap();
        }
        Upload::of(self.server.file(name, ""), &self.sign(draft))
    }

    fn sign(&self, draft: Draft) -> Vec<SignedFile> {
        let keys = [&self.root, &self.targets].map(|key| (key.id(), Arc::clone(key)));
        let keys: BTreeMap<KeyId, _> = keys.into();
        draft.sign(&keys, &Terms::reference(self.now)).unwrap().files
    }

    async fn published(&self, name: &str) -> Arc<Published> {
        let gun: Gun = gun(name).parse().unwrap();
        let task = Task {
            gun: gun.clone(),
            pin: Arc::new(Pin::first_use()),
            signers: BTreeSet::new(),
            attribution: true,
            purpose: Purpose::Publish,
            limits: Limits::default(),
            now: self.now,
        };
        let (mut update, mut requests) = Update::begin(task, State::default());
        loop {
            let mut answers = Vec::new();
            for request in requests {
                let file = match &request.form {
                    Form::Version(version) => format!("{version}.{}.json", request.role),
                    Form::Current | Form::Hash(_) => format!("{}.json", request.role),
                };
                let found = self
                    .client
                    .get(self.server.file(name, &file))
                    .send()
                    .await
                    .unwrap();
                let answer = if found.status().is_success() {
                    Answer::Found(found.bytes().await.unwrap())
                } else {
                    Answer::Absent
                };
                answers.push((request, answer));
            }
            match update.supply(answers).unwrap() {
                Step::Fetch(more) => requests = more,
                Step::Done(verified) => return Arc::new(Published::of(&gun, &verified).unwrap()),
            }
        }
    }

    async fn key(&self, name: &str, role: &str) -> Arc<PublicKey> {
        let key = self.get(name, &format!("{role}.key")).await;
        Arc::new(PublicKey::parse(&key).unwrap())
    }

    pub(crate) async fn get(&self, name: &str, file: &str) -> Bytes {
        let answer = self
            .client
            .get(self.server.file(name, file))
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "{file}: {}", answer.status());
        answer.bytes().await.unwrap()
    }

    pub(crate) async fn send(&self, upload: &Upload) {
        let request = self.client.post(&upload.url).body(upload.body.clone());
        let request = request.header("content-type", "multipart/form-data; boundary=b");
        let answer = request.send().await.unwrap();
        let status = answer.status();
        assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap());
    }

    /// Reads the head of an answer; none if the server has no room for it.
    pub(crate) async fn begin(&self, url: &str) -> Option<Response> {
        let answer = self.client.get(url).send().await.ok()?;
        answer.status().is_success().then_some(answer)
    }
}

fn release(tag: &str, content: u8, role: Role) -> Change {
    Change::Release {
        tag: tag.parse().unwrap(),
        sha256: [content; 32],
        length: 1000,
        roles: [role].into(),
    }
}
