//! A trust server under load, as its own process over TLS on loopback: `cargo bench --profile quick --bench server`.
//!
//! Uploads are signed beforehand, so that the rates are the server's. What is printed goes into docs/benchmarks.md.
//! `COUNTERSIGN_BINARY` names another program to measure, `COUNTERSIGN_MEASURE_DATABASE` a PostgreSQL database to use
//! instead of a folder, and `COUNTERSIGN_MEASURE_REPOSITORIES` how many repositories there are to be (10,000). Needs wrk.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "these are measurements"
)]

mod process;
mod publisher;

use std::process::Command;
use std::time::{Duration, Instant};

use countersign::tuf::sha256;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};

use process::{Server, World};
use publisher::Publisher;

/// Publishers at a time, and readers.
const MANY: usize = 32;
/// Seconds of each measurement of reads.
const SECONDS: u32 = 5;
/// Updates by each publisher in each measurement of updates.
const UPDATES: usize = 25;
/// Readers that stop reading when they have the head of a large file.
const SLOW: usize = 64;
/// Tags of that file, which make 9 MiB.
const TAGS: usize = 100_000;
/// Life of timestamps where renewals are measured: the shortest there is, due after forty seconds.
const SHORT: &str = "60s";
/// Repositories that are renewed.
const RENEWED: usize = 1_000;

fn main() {
    // Not where `cargo test` runs it to see that it works, for it takes minutes.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    provider();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    println!("| what | measured |\n| --- | --- |");
    let world = World::new();
    runtime.block_on(load(&world));
    if !world.is_shared() {
        runtime.block_on(renewals(&World::new()));
    }
}

fn provider() {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .unwrap();
}

fn row(what: &str, measured: impl std::fmt::Display) {
    println!("| {what} | {measured} |");
}

async fn load(world: &World) {
    small(world).await;
    let server = world.start(&[]).await;
    row("start until ready, with all of them", millis(server.ready_after));
    row("memory after that", server.memory("VmRSS"));
    large(&server, &Publisher::new(&server)).await;
}

/// Repositories of usual size, few and many.
async fn small(world: &World) {
    let server = world.start(&[]).await;
    row("start until ready, empty", millis(server.ready_after));
    row("memory, idle", server.memory("VmRSS"));
    let publisher = Publisher::new(&server);
    publisher.send(&publisher.repository("first", 0).await).await;
    reads(&server, &publisher).await;
    updates(&server, &publisher).await;
    fill(&server, &publisher).await;
    row("memory, highest until then", server.memory("VmHWM"));
}

fn millis(took: Duration) -> String {
    format!("{} ms", took.as_millis())
}

async fn reads(server: &Server, publisher: &Publisher<'_>) {
    let snapshot = publisher.get("first", "snapshot.json").await;
    let targets = publisher.get("first", "targets.json").await;
    let timestamp = publisher.get("first", "timestamp.json").await;
    let by_hash = |role: &str, file: &[u8]| format!("{role}.{}.json", hex::encode(sha256(file)));
    let tag = format!("if-none-match: \"{}\"", hex::encode(sha256(&timestamp)));
    for (what, file, header) in [
        ("timestamp.json", "timestamp.json".to_owned(), None),
        ("snapshot by hash", by_hash("snapshot", &snapshot), None),
        ("targets by hash", by_hash("targets", &targets), None),
        ("timestamp.json, 304", "timestamp.json".to_owned(), Some(&tag)),
        ("a file that is not there", by_hash("targets", b""), None),
    ] {
        for connections in [1, MANY] {
            let rate = wrk(
                &server.file("first", &file),
                connections,
                header.map(String::as_str),
            );
            row(&format!("{what}, {connections} connections"), rate);
        }
    }
}

/// What wrk finds: requests a second, median and tail.
fn wrk(url: &str, connections: usize, header: Option<&str>) -> String {
    let mut command = Command::new("wrk");
    command.args([
        "-t",
        "1",
        "-c",
        &connections.to_string(),
        "-d",
        &format!("{SECONDS}s"),
        "--latency",
    ]);
    if let Some(header) = header {
        command.args(["-H", header]);
    }
    let output = command.arg(url).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let after = |word: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(word));
        line.unwrap_or("?").trim().to_owned()
    };
    let (rate, median, tail) = (after("Requests/sec:"), after("50%"), after("99%"));
    format!("{rate}/s, p50 {median}, p99 {tail}")
}

/// Updates of repositories that are there: one publisher, many of one repository, many of their own.
async fn updates(server: &Server, publisher: &Publisher<'_>) {
    for (what, publishers, shared) in [
        ("updates by one publisher", 1, false),
        (
            "updates by 32 publishers of repositories of their own",
            MANY,
            false,
        ),
        ("updates by 8 publishers of roles of one repository", 8, true),
    ] {
        let series = publisher.series(what.len(), publishers, UPDATES, shared).await;
        let size = server.database_size();
        let took = &Took::default();
        let begun = Instant::now();
        join_all(series.iter().map(|uploads| async move {
            for upload in uploads {
                took.of(publisher.send(upload)).await;
            }
        }))
        .await;
        row(what, took.told(begun.elapsed()));
        if !shared
            && publishers > 1
            && let Some((before, after)) = size.zip(server.database_size())
        {
            let each = (after.saturating_sub(before)) / (publishers * UPDATES) as u64;
            row("database, bytes an update", each);
        }
    }
}

/// Makes repositories until there are as many as are wanted.
async fn fill(server: &Server, publisher: &Publisher<'_>) {
    let count = World::repositories();
    let keys = Took::default();
    let begun = Instant::now();
    let uploads: Vec<_> = stream::iter(0..count)
        .map(|number| {
            let keys = &keys;
            async move { keys.of(publisher.repository(&format!("many/{number}"), 0)).await }
        })
        .buffered(MANY)
        .collect()
        .await;
    row("two new keys each, by 32 publishers", keys.told(begun.elapsed()));
    let (sent, size, begun) = (Took::default(), server.database_size(), Instant::now());
    stream::iter(&uploads)
        .for_each_concurrent(MANY, |upload| sent.of(publisher.send(upload)))
        .await;
    row(
        &format!("first updates of {count} repositories, 32 at a time"),
        sent.told(begun.elapsed()),
    );
    if let Some((before, after)) = size.zip(server.database_size()) {
        row(
            "database, bytes a repository, beside keys",
            (after - before) / count as u64,
        );
    }
    row("memory with all of them", server.memory("VmRSS"));
}

/// An update as large as it may be, and readers of it who stop reading.
async fn large(server: &Server, publisher: &Publisher<'_>) {
    let upload = publisher.repository("large", TAGS).await;
    row(
        "largest update",
        format!("{:.1} MiB", upload.bytes() as f64 / f64::from(1 << 20)),
    );
    let begun = Instant::now();
    publisher.send(&upload).await;
    row("the largest update takes", millis(begun.elapsed()));
    row("memory, highest by then", server.memory("VmHWM"));
    let url = server.file("large", "targets.json");
    let before = server.memory("VmRSS");
    let opened = join_all((0..SLOW).map(|_| publisher.begin(&url))).await;
    let answered = opened.iter().flatten().count();
    row(
        &format!("memory while {SLOW} read it and stop ({answered} of them answered)"),
        format!("{} ({before} before)", server.memory("VmRSS")),
    );
    drop(opened);
}

/// Timestamps signed again, from the first that is due to the last.
async fn renewals(world: &World) {
    let server = world.start(&["--timestamp-life", SHORT]).await;
    let publisher = Publisher::new(&server);
    stream::iter(0..RENEWED)
        .for_each_concurrent(MANY, |number| {
            let publisher = &publisher;
            async move {
                publisher
                    .send(&publisher.repository(&format!("short/{number}"), 0).await)
                    .await;
            }
        })
        .await;
    let count = async || {
        server
            .metric("countersign_server_renewals_total{result=\"ok\"}")
            .await
    };
    let mut first = None;
    loop {
        let renewed = count().await;
        if renewed > 0 && first.is_none() {
            first = Some((Instant::now(), renewed));
        }
        if let Some((begun, already)) = first
            && begun.elapsed() > Duration::from_secs(15)
        {
            let rate = (renewed - already) as f64 / begun.elapsed().as_secs_f64();
            row(
                &format!("renewals, {RENEWED} repositories due in a short time"),
                format!("{rate:.0}/s"),
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// How long calls took.
#[derive(Default)]
struct Took {
    micros: std::sync::Mutex<Vec<u128>>,
}

impl Took {
    async fn of<T>(&self, work: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let answer = work.await;
        self.micros.lock().unwrap().push(begun.elapsed().as_micros());
        answer
    }

    fn told(&self, whole: Duration) -> String {
        let mut micros = self.micros.lock().unwrap().clone();
        micros.sort_unstable();
        let at = |share: usize| {
            micros
                .get(micros.len() * share / 100)
                .copied()
                .unwrap_or_default() as f64
                / 1000.0
        };
        let rate = micros.len() as f64 / whole.as_secs_f64();
        format!("{rate:.0}/s, p50 {:.1} ms, p99 {:.1} ms", at(50), at(99))
    }
}
