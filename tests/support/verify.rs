//! Drives `tuf::Update` against files in memory, without a network.

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign::tuf::{
    Answer, Collection, Conditions, Error, Limits, Pin, Purpose, RequiredSigner, Resolution, Role, State,
    Step, Task, Unsigned, Update, Verified,
};

use crate::repo::{Files, GUN, Key, NOW};

/// How a repository is looked at: pinned to the builder's root key, at the builder's present.
#[derive(Clone)]
pub struct View {
    pub task: Task,
    pub prior: State,
}

/// A finished run and what it took.
#[derive(Debug)]
pub struct Outcome {
    pub result: Result<Verified, Error>,
    /// The paths asked for in each round.
    pub rounds: Vec<Vec<String>>,
    /// The bytes that the answers of each round may have.
    pub bytes: Vec<u64>,
    /// What may be kept whatever came of the rest: the roots.
    pub roots: Option<State>,
}

impl View {
    /// Pinned to the bare key of [`Repo::new`](crate::repo::Repo::new)'s root.
    pub fn new() -> Self {
        Self::pinned(Pin::keys([Key::p256(1).pem().as_str()]).unwrap())
    }

    pub fn pinned(pin: Pin) -> Self {
        let task = Task {
            gun: GUN.parse().unwrap(),
            pin: Arc::new(pin),
            signers: BTreeSet::new(),
            attribution: false,
            purpose: Purpose::Trust,
            limits: Limits::default(),
            now: NOW.parse().unwrap(),
        };
        Self {
            task,
            prior: State::default(),
        }
    }

    pub fn gun(mut self, gun: &str) -> Self {
        self.task.gun = gun.parse().unwrap();
        self
    }

    pub fn at(mut self, now: &str) -> Self {
        self.task.now = now.parse().unwrap();
        self
    }

    /// Needs `name`'s signature.
    pub fn signer(mut self, name: &str) -> Self {
        let Role::Delegation(name) = Role::signer(name).unwrap() else {
            unreachable!()
        };
        self.task.signers.insert(name);
        self
    }

    pub fn attribution(mut self) -> Self {
        self.task.attribution = true;
        self
    }

    pub fn limits(mut self, set: impl FnOnce(&mut Limits)) -> Self {
        set(&mut self.task.limits);
        self
    }

    /// Remembers `state`.
    pub fn after(mut self, state: State) -> Self {
        self.prior = state;
        self
    }

    /// Remembers what a successful look at `files` leaves behind.
    pub fn having_seen(self, files: &Files) -> Self {
        let seen = self.run(files).result.unwrap();
        self.after(seen.state)
    }

    /// Looks at `files`.
    pub fn run(&self, files: &Files) -> Outcome {
        let server = |path: &str| files.0.get(path).cloned();
        self.run_against(server)
    }

    /// Looks at whatever `server` answers for a path; `None` is a 404.
    pub fn run_against(&self, server: impl Fn(&str) -> Option<Vec<u8>>) -> Outcome {
        let (mut update, mut requests) = Update::begin(self.task.clone(), self.prior.clone());
        let (mut rounds, mut bytes) = (Vec::new(), Vec::new());
        loop {
            bytes.push(requests.iter().map(|request| request.limit).sum());
            rounds.push(requests.iter().map(countersign::tuf::Request::path).collect());
            assert!(
                rounds.len() < 200,
                "the update does not come to an end: {rounds:?}"
            );
            let answers: Vec<_> = requests
                .drain(..)
                .map(|request| {
                    let answer =
                        server(&request.path()).map_or(Answer::Absent, |raw| Answer::Found(raw.into()));
                    (request, answer)
                })
                .collect();
            let step = update.supply(answers);
            let roots = update.trusted_roots().cloned();
            match step {
                Ok(Step::Fetch(more)) => requests = more,
                Ok(Step::Done(verified)) => {
                    return Outcome {
                        result: Ok(*verified),
                        rounds,
                        bytes,
                        roots,
                    };
                }
                Err(error) => {
                    return Outcome {
                        result: Err(error),
                        rounds,
                        bytes,
                        roots,
                    };
                }
            }
        }
    }

    /// The stable word for what became of it: `accepted`, or the error's reason.
    pub fn verdict(&self, files: &Files) -> &'static str {
        self.run(files)
            .result
            .as_ref()
            .map_or_else(Error::reason, |_| "accepted")
    }

    /// The verified collection.
    pub fn collection(&self, files: &Files) -> Collection {
        self.run(files).result.unwrap().collection
    }
}

/// Looks `tag` up.
pub fn resolve(collection: &Collection, tag: &str, conditions: &Conditions) -> Result<Resolution, Unsigned> {
    collection.resolve(Some(&tag.parse().unwrap()), None, conditions)
}

/// The digest of `tag` or the reason why there is none.
pub fn lookup(collection: &Collection, tag: &str) -> String {
    match resolve(collection, tag, &Conditions::default()) {
        Ok(resolution) => resolution.digest.to_string(),
        Err(unsigned) => unsigned.reason().to_owned(),
    }
}

/// Demands the signature of `name`, by `key` if given.
pub fn requiring(name: &str, key: Option<&Key>) -> Conditions {
    let Role::Delegation(name) = Role::signer(name).unwrap() else {
        unreachable!()
    };
    let key = key.map(|key| countersign::tuf::pinned_key(&key.pem()).unwrap());
    Conditions {
        signers: vec![RequiredSigner { name, key }],
        releases_required: false,
    }
}
