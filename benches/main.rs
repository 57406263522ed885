//! The hot paths, each alone, and then as ratios within one run: `make bench`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    reason = "these are measurements"
)]

#[expect(
    clippy::indexing_slicing,
    dead_code,
    reason = "the builder of the tests; measurements need less of it"
)]
#[path = "../tests/support/repo.rs"]
mod repo;
#[expect(
    clippy::indexing_slicing,
    dead_code,
    reason = "the server of the tests; measurements need less of it"
)]
#[path = "../tests/support/trust_server.rs"]
mod trust_server;
#[expect(
    clippy::indexing_slicing,
    dead_code,
    reason = "the driver of the tests; measurements need less of it"
)]
#[path = "../tests/support/verify.rs"]
mod verify;

mod admission;
mod metadata;
mod policy;
mod ratios;
mod review;
mod signature;

use countersign::reference::Reference;
use divan::{Bencher, black_box};

use metadata::Repository;
use signature::Algorithm;

fn main() {
    divan::main();
    // `cargo test` runs this too, each measurement once, to see that it works.
    if std::env::args().any(|argument| argument == "--bench") {
        ratios::print();
    }
}

const REFERENCE: &str = "registry.example.com:5000/team/app:1.27.3";

/// Reads one reference.
fn reference() -> Reference {
    Reference::parse(black_box(REFERENCE)).unwrap()
}

#[divan::bench]
fn reference_parse(bencher: Bencher<'_, '_>) {
    bencher.bench(reference);
}

#[divan::bench(args = [Algorithm::P256, Algorithm::Ed25519, Algorithm::Rsa2048])]
fn signature_verify(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    bencher.bench(|| signature::verify(algorithm));
}

#[divan::bench(args = [1_000, 100_000])]
fn targets_parse(bencher: Bencher<'_, '_>, tags: usize) {
    let file = metadata::targets(tags);
    bencher.bench(|| metadata::parse(&file));
}

#[divan::bench(args = [1_000, 100_000])]
fn targets_encode(bencher: Bencher<'_, '_>, tags: usize) {
    let value = metadata::parse(&metadata::targets(tags));
    bencher.bench(|| value.canonical());
}

#[divan::bench(args = [2, 1_000])]
fn update_cold(bencher: Bencher<'_, '_>, tags: usize) {
    let repository = Repository::with_tags(tags);
    bencher.bench(|| repository.update());
}

#[divan::bench(args = [10, 10_000])]
fn resolve(bencher: Bencher<'_, '_>, tags: usize) {
    let collection = Repository::with_tags(tags).update();
    bencher.bench(|| metadata::resolve(&collection));
}

#[divan::bench(args = [1, 100, 1_000])]
fn policy_select(bencher: Bencher<'_, '_>, rules: usize) {
    let policies = policy::with_rules(rules);
    bencher.bench(|| policy::select(&policies));
}

#[divan::bench(args = [1, 10, 100])]
fn review_and_reply(bencher: Bencher<'_, '_>, containers: usize) {
    let body = review::of_pod(containers);
    bencher.bench(|| review::pin(&body));
}

#[divan::bench(args = [1, 10, 100])]
fn admission_warm(bencher: Bencher<'_, '_>, containers: usize) {
    let world = admission::world();
    let body = review::of_pod(containers);
    bencher.bench(|| world.answer(&body));
}
