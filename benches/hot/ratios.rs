//! Figures that mean something on any machine: quotients of times that one run has measured.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::metadata::{self, Repository};
use crate::signature::{self, Algorithm};
use crate::{admission, login, policy, reference, review, server};

/// Batches measured; the fastest counts, as whatever else the machine does only ever adds time.
const BATCHES: usize = 15;
/// Length of a batch: a thousand times what reading the clock costs.
const BATCH: Duration = Duration::from_millis(5);

/// Seconds that one call of `work` takes.
fn seconds<T>(mut work: impl FnMut() -> T) -> f64 {
    let mut calls = 1_u32;
    loop {
        let took = batch(calls, &mut work);
        if took >= BATCH {
            break;
        }
        calls *= 2;
    }
    (0..BATCHES)
        .map(|_| batch(calls, &mut work).as_secs_f64() / f64::from(calls))
        .fold(f64::INFINITY, f64::min)
}

fn batch<T>(calls: u32, work: &mut impl FnMut() -> T) -> Duration {
    let begun = Instant::now();
    for _ in 0..calls {
        black_box(work());
    }
    begun.elapsed()
}

fn row(what: &str, unit: &str, work: f64, of: f64) {
    println!("| {what} | {unit} | {:.3} |", work / of);
}

/// Measures and prints a Markdown table.
pub fn print() {
    let p256 = seconds(|| signature::verify(Algorithm::P256));
    println!("\n| what | in units of | ratio |\n| --- | --- | ---: |");
    row(
        "parse a reference",
        "P-256 verification",
        seconds(reference),
        p256,
    );
    for algorithm in [Algorithm::Ed25519, Algorithm::Rsa2048] {
        let what = format!("{algorithm:?} verification");
        row(
            &what,
            "P-256 verification",
            seconds(|| signature::verify(algorithm)),
            p256,
        );
    }
    targets();
    updates();
    policies();
    admissions(p256);
    servers(p256);
}

fn targets() {
    let (small, large) = (metadata::targets(1_000), metadata::targets(100_000));
    let parsed = seconds(|| metadata::parse(&large));
    let what = "parse targets of 100,000 tags";
    row(
        what,
        "serde_json of the same",
        parsed,
        seconds(|| metadata::parse_elsewhere(&large)),
    );
    row(
        what,
        "targets of 1,000 tags",
        parsed,
        seconds(|| metadata::parse(&small)),
    );
    let value = metadata::parse(&large);
    let encoded = seconds(|| value.canonical());
    let hashed = seconds(|| signature::hash(&large));
    row(
        "encode targets of 100,000 tags",
        "SHA-256 of the same",
        encoded,
        hashed,
    );
}

fn updates() {
    let (small, large) = (Repository::with_tags(2), Repository::with_tags(1_000));
    let cold = seconds(|| small.update());
    let signatures = seconds(signature::of_repository);
    row(
        "cold update of 2 tags",
        "its 6 signature checks",
        cold,
        signatures,
    );
    row(
        "cold update of 1,000 tags",
        "of 2 tags",
        seconds(|| large.update()),
        cold,
    );
    let few = Repository::with_tags(10).update();
    let many = Repository::with_tags(10_000).update();
    let resolve = |collection| seconds(|| metadata::resolve(collection));
    row(
        "resolve among 10,000 tags",
        "among 10 tags",
        resolve(&many),
        resolve(&few),
    );
}

fn policies() {
    let select = |rules| {
        let policies = policy::with_rules(rules);
        seconds(|| policy::select(&policies))
    };
    let one = select(1);
    for rules in [100, 1_000] {
        row(
            &format!("select among {rules} rules"),
            "among 1 rule",
            select(rules),
            one,
        );
    }
}

fn admissions(p256: f64) {
    let world = admission::world();
    let before = world.requests();
    let pin = |containers| {
        let body = review::of_pod(containers);
        seconds(|| review::pin(&body))
    };
    let admit = |containers| {
        let body = review::of_pod(containers);
        seconds(|| world.answer(&body))
    };
    let (pinned, admitted) = (pin(1), admit(1));
    row("read and answer a review", "P-256 verification", pinned, p256);
    row("warm admission", "P-256 verification", admitted, p256);
    row("warm admission", "read and answer a review", admitted, pinned);
    for containers in [10, 100] {
        let pod = format!("{containers} containers");
        row(
            &format!("read and answer, {pod}"),
            "1 container",
            pin(containers),
            pinned,
        );
        row(
            &format!("warm admission, {pod}"),
            "1 container",
            admit(containers),
            admitted,
        );
    }
    assert_eq!(world.requests(), before, "warm admissions asked the trust server");
}

fn servers(p256: f64) {
    let accept = |delegations, tags| {
        let hosted = server::Hosted::new(delegations, tags);
        (seconds(|| hosted.accept()), seconds(|| hosted.renew()))
    };
    let (accepted, renewed) = accept(1, 100);
    row(
        "judge an update, 1 delegation, 100 tags",
        "P-256 verification",
        accepted,
        p256,
    );
    row(
        "sign a timestamp again, the same",
        "P-256 verification",
        renewed,
        p256,
    );
    for (delegations, tags) in [(10, 100), (60, 100), (1, 10_000)] {
        let what = format!("{delegations} delegations, {tags} tags");
        let (more, again) = accept(delegations, tags);
        row(
            &format!("judge an update, {what}"),
            "1 delegation, 100 tags",
            more,
            accepted,
        );
        row(
            &format!("sign a timestamp again, {what}"),
            "1 delegation, 100 tags",
            again,
            renewed,
        );
    }
    let call = server::Hosted::new(1, 10_000).call();
    row(
        "take an update of 10,000 tags apart",
        "SHA-256 of the same",
        seconds(|| server::take_apart(&call)),
        seconds(|| signature::hash(&call.body)),
    );
    let (uri, access, token) = (server::request(), login::access(), server::token());
    row(
        "read a request line",
        "P-256 verification",
        seconds(|| server::route(&uri)),
        p256,
    );
    row(
        "admit a token that is known",
        "P-256 verification",
        seconds(|| server::admit(&access, &token)),
        p256,
    );
}
