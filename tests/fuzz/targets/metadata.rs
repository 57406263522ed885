//! A whole update against a server that answers anything: its files from nothing, or the files of a recording with
//! changes.
//!
//! A changed recording is refused or says what the honest one says: whoever lacks the keys cannot make it say
//! anything else.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use countersign::tuf::{
    Answer, Collection, Conditions, Form, Limits, Pin, Purpose, Request, Role, State, Step, Task, Update,
    sha256,
};

/// The recording of the specification's worked example: names as a server serves them.
pub(crate) const FILES: [(&str, &[u8]); 6] = [
    ("root", include_bytes!("../../fixtures/appendix-a/root.json")),
    (
        "timestamp",
        include_bytes!("../../fixtures/appendix-a/timestamp.json"),
    ),
    (
        "snapshot",
        include_bytes!("../../fixtures/appendix-a/snapshot.json"),
    ),
    (
        "targets",
        include_bytes!("../../fixtures/appendix-a/targets.json"),
    ),
    (
        "targets/releases",
        include_bytes!("../../fixtures/appendix-a/targets/releases.json"),
    ),
    (
        "targets/alice",
        include_bytes!("../../fixtures/appendix-a/targets/alice.json"),
    ),
];
const GUN: &str = "registry.example.test/demo/app";
const ROOT_KEY: &str = "5af014f4c2f2fe42f6c7f6b0a37bf8b1f5cbd720146ed5c20018ce8785388a3e";
const NOW: &str = "2030-01-01T00:00:00Z";
/// A run has at most two attempts, each a round for roots, one for delegations at a time, and walks of 64 stretches.
const ROUNDS: usize = 200;
/// Between the files of a server that makes all of them up.
const SEPARATOR: u8 = 0;

pub(crate) fn run(data: &[u8]) {
    match data.split_first() {
        Some((first, rest)) if first % 4 == 0 => drop(update(&task(true), State::default(), &invented(rest))),
        Some((first, rest)) => {
            let files = changed(rest);
            let prior = if first % 2 == 0 {
                remembered()
            } else {
                State::default()
            };
            if let Ok(collection) = update(&task(false), prior, &files) {
                assert_same(&collection);
            }
        }
        None => (),
    }
}

type Files = Vec<(&'static str, Bytes)>;

/// Files made of nothing but the input.
fn invented(data: &[u8]) -> Files {
    let parts = data.split(|byte| *byte == SEPARATOR).map(Bytes::copy_from_slice);
    FILES.iter().map(|(role, _)| *role).zip(parts).collect()
}

/// The recording, changed as the input says, six bytes a change.
fn changed(data: &[u8]) -> Files {
    let mut files: Vec<_> = FILES.iter().map(|(role, raw)| (*role, raw.to_vec())).collect();
    for change in data.chunks_exact(6) {
        let &[file, kind, high, low, value, length] = change else {
            continue;
        };
        let count = files.len();
        let donor = files[usize::from(value) % count].1.clone();
        let raw = &mut files[usize::from(file) % count].1;
        let at = usize::from(u16::from_be_bytes([high, low])) % (raw.len() + 1);
        let end = (at + usize::from(length)).min(raw.len());
        match kind % 6 {
            0 => raw[at..end].fill(value),
            1 => raw.insert(at, value),
            2 => drop(raw.drain(at..end)),
            3 => raw.truncate(at),
            4 => drop(raw.splice(at..end, donor.iter().copied().skip(at).take(usize::from(length)))),
            _ => *raw = donor,
        }
    }
    files.into_iter().map(|(role, raw)| (role, raw.into())).collect()
}

fn task(first_use: bool) -> Task {
    let pin = if first_use {
        Pin::first_use()
    } else {
        Pin::key_ids([ROOT_KEY]).unwrap()
    };
    Task {
        gun: GUN.parse().unwrap(),
        pin: Arc::new(pin),
        signers: BTreeSet::new(),
        attribution: true,
        purpose: Purpose::Trust,
        limits: Limits::default(),
        now: NOW.parse().unwrap(),
    }
}

/// What the recording says as it is, and what is remembered of it.
static HONEST: LazyLock<(Collection, State)> = LazyLock::new(|| {
    let files = changed(&[]);
    let (mut update, mut requests) = Update::begin(task(false), State::default());
    loop {
        match update.supply(answers(requests, &files)).unwrap() {
            Step::Fetch(more) => requests = more,
            Step::Done(verified) => return (verified.collection, verified.state),
        }
    }
});

fn remembered() -> State {
    HONEST.1.clone()
}

fn assert_same(collection: &Collection) {
    let honest = &HONEST.0;
    assert!(
        collection.tags().eq(honest.tags()),
        "a change without keys changed the tags"
    );
    for tag in honest.tags() {
        let conditions = Conditions::default();
        assert_eq!(
            collection
                .resolve(Some(tag), None, &conditions)
                .map(|found| found.digest),
            honest
                .resolve(Some(tag), None, &conditions)
                .map(|found| found.digest),
            "a change without keys changed a digest"
        );
    }
}

/// Runs to its end; `Err` if what the server says is refused.
fn update(task: &Task, prior: State, files: &Files) -> Result<Collection, ()> {
    let (mut update, mut requests) = Update::begin(task.clone(), prior);
    let mut round = 0;
    loop {
        round += 1;
        assert!(round < ROUNDS, "the update does not come to an end");
        match update.supply(answers(requests, files)) {
            Ok(Step::Fetch(more)) => requests = more,
            Ok(Step::Done(verified)) => return Ok(verified.collection),
            Err(error) => {
                assert!(!error.reason().is_empty() && !error.to_string().is_empty());
                return Err(());
            }
        }
    }
}

fn answers(requests: Vec<Request>, files: &Files) -> Vec<(Request, Answer)> {
    requests
        .into_iter()
        .map(|request| {
            let file = file(&request, files).map_or(Answer::Absent, Answer::Found);
            (request, file)
        })
        .collect()
}

fn file(request: &Request, files: &Files) -> Option<Bytes> {
    let (_, raw) = files.iter().find(|(role, _)| *role == request.role.as_str())?;
    let served = match &request.form {
        Form::Current => true,
        Form::Hash(hash) => sha256(raw) == *hash,
        Form::Version(version) => request.role == Role::Root && *version == 1,
    };
    served.then(|| raw.clone())
}
