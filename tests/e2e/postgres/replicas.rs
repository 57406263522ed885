//! Two servers on one database, and many who write at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use countersign::reference::Gun;
use countersign::trustserver::storage::postgres::Postgres;
use countersign::trustserver::storage::{Committed, Event, Page, Storage as _};
use jiff::Timestamp;
use tokio::task::JoinSet;

use super::{ROLES, gun, open, publication, whole};
use crate::postgres_server::shared;

/// Who writes at once, on either of two servers.
const WRITERS: u64 = 8;
/// How often each of them succeeds.
const WRITES: u64 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writers_of_one_repository_no_update_is_lost() {
    let database = shared().database();
    let replicas = [open(&database).await, open(&database).await];
    let name = gun("registry.example/busy");
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let storage = replica(&replicas, number).clone();
        writers.spawn(write_until_stored(
            storage,
            name.clone(),
            format!("writer {number}"),
        ));
    }
    let mut stored: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    stored.sort_unstable();

    let all = WRITERS * WRITES;
    assert_eq!(whole(&replicas[0], &name).await, all);
    let versions: Vec<_> = stored.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, (1..=all).collect::<Vec<_>>(), "each was told once");
    for (version, author) in &stored {
        let wanted = publication(author, *version);
        for role in ROLES {
            let found = replicas[1].by_version(&name, &role, *version).await.unwrap();
            assert_eq!(found.as_ref(), wanted.files.get(&role), "{role} {version}");
        }
    }
    let every = usize::try_from(all + 1).unwrap();
    let feed = replicas[0]
        .changes(Some(&name), Page::After(0, every))
        .await
        .unwrap();
    let told: Vec<_> = feed.iter().map(|record| version_of(&record.event)).collect();
    assert_eq!(told, versions);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_many_repositories_do_not_disturb_each_other() {
    let database = shared().database();
    let replicas = [open(&database).await, open(&database).await];
    let name = |number: u64| gun(&format!("registry.example/own-{number}"));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let (storage, name) = (replica(&replicas, number).clone(), name(number));
        writers.spawn(async move {
            for version in 1..=WRITES {
                let committed = super::commit(&storage, &name, version).await.unwrap();
                assert_eq!(committed, Committed::Stored, "{name:?} {version}");
            }
        });
    }
    writers.join_all().await;
    for number in 0..WRITERS {
        assert_eq!(whole(&replicas[0], &name(number)).await, WRITES);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_changefeed_misses_nothing_that_is_written_meanwhile() {
    let database = shared().database();
    let replicas = [open(&database).await, open(&database).await];
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    readers.spawn(follow(replicas[0].clone(), Arc::clone(&done)));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let storage = replica(&replicas, number).clone();
        let name = gun(&format!("registry.example/told-{number}"));
        writers.spawn(write_until_stored(storage, name, "one of many".to_owned()));
    }
    writers.join_all().await;
    done.store(true, Ordering::Release);
    let seen = readers.join_all().await.concat();
    let all: Vec<_> = (1..=WRITERS * WRITES).collect();
    assert_eq!(seen, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_and_a_write_at_once_come_one_after_the_other() {
    let database = shared().database();
    let replicas = [open(&database).await, open(&database).await];
    for round in 0..20 {
        let name = gun(&format!("registry.example/torn-{round}"));
        let first = replicas[0].commit(&name, 0, publication("", 1)).await.unwrap();
        assert_eq!(first, Committed::Stored);
        let (deleted, written) = tokio::join!(
            replicas[0].delete(&name, Timestamp::UNIX_EPOCH),
            replicas[1].commit(&name, 1, publication("", 2)),
        );
        assert!(deleted.unwrap(), "{name:?}");
        // Whoever was first, nothing is left in the end.
        let generation = if written.unwrap() == Committed::Stored {
            3
        } else {
            2
        };
        assert_eq!(replicas[0].repository(&name).await.unwrap(), None);
        assert_eq!(replicas[0].versions(&name).await.unwrap(), []);
        assert_eq!(replicas[0].vacancy(&name).await.unwrap().0, generation);
    }
}

fn replica(replicas: &[Postgres; 2], number: u64) -> &Postgres {
    &replicas[usize::from(number % 2 == 1)]
}

/// Adds versions as a server does: it looks where the repository is, goes one on, and begins again if another was
/// faster. Returns those that were its own.
async fn write_until_stored(storage: Postgres, name: Gun, author: String) -> Vec<(u64, String)> {
    let mut stored = Vec::new();
    while stored.len() < usize::try_from(WRITES).unwrap() {
        let generation = match storage.repository(&name).await.unwrap() {
            Some(present) => present.generation,
            None => 0,
        };
        let change = publication(&author, generation + 1);
        match storage.commit(&name, generation, change).await.unwrap() {
            Committed::Stored => stored.push((generation + 1, author.clone())),
            Committed::Conflict => {}
        }
    }
    stored
}

/// Reads the changefeed as a mirror does, always after the last entry it has, until nothing more will come.
async fn follow(storage: Postgres, done: Arc<AtomicBool>) -> Vec<u64> {
    let mut seen: Vec<u64> = Vec::new();
    loop {
        let last = done.load(Ordering::Acquire);
        let from = seen.last().copied().unwrap_or(0);
        let page = storage.changes(None, Page::After(from, 7)).await.unwrap();
        if page.is_empty() && last {
            return seen;
        }
        seen.extend(page.iter().map(|record| record.id));
    }
}

fn version_of(event: &Event) -> u64 {
    match event {
        Event::Update { version, .. } => *version,
        Event::Deletion => 0,
    }
}
