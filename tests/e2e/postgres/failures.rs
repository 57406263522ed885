//! Servers that are killed, lines that go dead, and callers that go away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign::reference::Gun;
use countersign::trustserver::storage::postgres::Postgres;
use countersign::trustserver::storage::{Committed, Storage as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{pause, resume, timeout};

use super::{chain, commit, few, gun, open, publication, whole};
use crate::postgres_server::{PostgresServer, shared};

/// Well above the deadlines of the storage: who waits longer hangs.
const HANGS: Duration = Duration::from_secs(60);
/// Repositories that are written to when the server dies.
const REPOSITORIES: u64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_the_middle_of_commits_leaves_every_repository_whole() {
    let server = PostgresServer::start("postgres-killed");
    let database = server.database();
    let replicas = [open(&database).await, open(&database).await];
    for _ in 0..3 {
        let stored: Vec<_> = (0..REPOSITORIES).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let mut writers = JoinSet::new();
        for (number, stored) in (0..).zip(&stored) {
            let storage = replicas[usize::from(number % 2 == 1)].clone();
            writers.spawn(write_until_it_fails(storage, name(number), Arc::clone(stored)));
        }
        // In the middle: each has come some way, and all go on.
        while stored.iter().any(|stored| stored.load(Ordering::Relaxed) < 5) {
            tokio::task::yield_now().await;
        }
        server.kill();
        let told = timeout(HANGS, writers.join_all()).await.unwrap();
        server.start_again();

        for (name, last) in told {
            // The last one may have been stored without our being told, and then as a whole.
            let version = whole(&replicas[0], &name).await;
            assert!(
                version == last || version == last + 1,
                "{name:?}: {version}, told {last}"
            );
            for role in super::ROLES {
                let file = replicas[1].by_version(&name, &role, version).await.unwrap();
                assert!(file.is_some(), "{name:?} {role} {version}");
                let beyond = replicas[1].by_version(&name, &role, version + 1).await.unwrap();
                assert_eq!(beyond, None, "{name:?} {role} {version}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_an_error_until_it_is_back() {
    let server = PostgresServer::start("postgres-away");
    let database = server.database();
    let storage = open(&database).await;
    assert_eq!(commit(&storage, &name(0), 1).await.unwrap(), Committed::Stored);
    server.kill();
    for _ in 0..3 {
        let error = timeout(HANGS, commit(&storage, &name(0), 2)).await.unwrap();
        let error = chain(&error.unwrap_err());
        assert!(!error.contains(crate::postgres_server::PASSWORD), "{error}");
        timeout(HANGS, storage.ping()).await.unwrap().unwrap_err();
    }
    server.start_again();
    assert_eq!(whole(&storage, &name(0)).await, 1);
    let committed = commit(&storage, &name(0), 2).await.unwrap();
    assert_eq!(committed, Committed::Stored);
    storage.ping().await.unwrap();
}

#[tokio::test]
async fn a_line_that_goes_dead_is_an_error_and_not_a_hang() {
    let database = shared().database();
    open(&database).await;
    let mut line = Line::to(shared().port()).await;
    let url = database.url_at(&line.address, "");
    let storage = Postgres::open(&url, few()).await.unwrap();
    assert_eq!(commit(&storage, &name(0), 1).await.unwrap(), Committed::Stored);

    line.cut();
    // Nothing comes any more, so the clock is at the next deadline at once.
    pause();
    let deadline = timeout(HANGS, storage.repository(&name(0))).await.unwrap();
    let error = chain(&deadline.unwrap_err());
    assert!(error.contains("no answer in time"), "{error}");
    timeout(HANGS, commit(&storage, &name(0), 2))
        .await
        .unwrap()
        .unwrap_err();
    resume();
    line.mend();

    let version = whole(&storage, &name(0)).await;
    let next = commit(&storage, &name(0), version + 1).await.unwrap();
    assert_eq!(next, Committed::Stored);
    line.carriers.abort_all();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_leaves_all_of_a_change_or_nothing() {
    let database = shared().database();
    let storage = open(&database).await;
    let (mut version, mut gone) = (0, 0_u64);
    for patience in (0..60).map(|tenths| Duration::from_micros(100 * tenths)) {
        let change = publication("impatient", version + 1);
        let committed = timeout(patience, storage.commit(&name(0), version, change)).await;
        gone += u64::from(committed.is_err());
        // A change that nobody waits for any more may still be on its way: the next one tells who was first.
        while whole(&storage, &name(0)).await == version {
            let change = publication("patient", version + 1);
            let _ = storage.commit(&name(0), version, change).await.unwrap();
        }
        version += 1;
        assert_eq!(whole(&storage, &name(0)).await, version);
    }
    assert!(gone > 0, "nobody went away");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_written_to_says_so() {
    let database = shared().database();
    let storage = open(&database).await;
    let switch = |setting: &str| {
        database.run(&format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I {setting}', current_database()); END $$"
        ));
        database.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
    };
    switch("SET default_transaction_read_only = on");
    // The first may still find out that its connection is gone.
    for _ in 0..2 {
        timeout(HANGS, storage.ping()).await.unwrap().unwrap_err();
    }
    switch("RESET default_transaction_read_only");
    storage.ping().await.unwrap();
}

fn name(number: u64) -> Gun {
    gun(&format!("registry.example/failing-{number}"))
}

/// Commits until the server is gone. Returns the last version that it was told of.
async fn write_until_it_fails(storage: Postgres, name: Gun, stored: Arc<AtomicU64>) -> (Gun, u64) {
    let mut version = whole(&storage, &name).await;
    while let Ok(committed) = commit(&storage, &name, version + 1).await {
        assert_eq!(committed, Committed::Stored, "{name:?} {version}");
        version += 1;
        stored.fetch_add(1, Ordering::Relaxed);
    }
    (name, version)
}

/// A way to the server that can go dead, as a network does: nothing is closed, and nothing comes through.
struct Line {
    address: String,
    dead: watch::Sender<bool>,
    carriers: JoinSet<()>,
}

impl Line {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (dead, state) = watch::channel(false);
        let mut carriers = JoinSet::new();
        carriers.spawn(async move {
            let mut carriers = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                carriers.spawn(carry(from_near, to_far, state.clone()));
                carriers.spawn(carry(from_far, to_near, state.clone()));
            }
        });
        Self {
            address,
            dead,
            carriers,
        }
    }

    fn cut(&mut self) {
        self.dead.send_replace(true);
    }

    fn mend(&mut self) {
        self.dead.send_replace(false);
    }
}

/// Carries what comes until either side closes.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut dead: watch::Receiver<bool>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if dead.wait_for(|dead| !dead).await.is_err() || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
