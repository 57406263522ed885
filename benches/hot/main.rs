//! The hot paths, each alone, and then as ratios within one run: `make bench`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    reason = "these are measurements"
)]

#[expect(
    clippy::expect_used,
    dead_code,
    reason = "what is fuzzed; measurements need its token"
)]
#[path = "../../tests/fuzz/targets/login.rs"]
mod login;
#[expect(
    clippy::panic,
    dead_code,
    reason = "the builder of the tests; measurements need less of it"
)]
#[path = "../../tests/support/repo.rs"]
mod repo;
#[expect(dead_code, reason = "the server of the tests; measurements need less of it")]
#[path = "../../tests/support/trust_server.rs"]
mod trust_server;
#[expect(dead_code, reason = "the driver of the tests; measurements need less of it")]
#[path = "../../tests/support/verify.rs"]
mod verify;

mod admission;
mod metadata;
mod policy;
mod ratios;
mod review;
mod server;
mod signature;

use countersign::reference::Reference;
use divan::{Bencher, black_box};

use metadata::Repository;
use signature::Algorithm;

fn main() {
    divan::main();
    // Not where `cargo test` runs each once to see that it works, nor with a choice of benchmarks.
    if std::env::args().skip(1).eq(["--bench"]) {
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

/// Delegations, and tags of `targets`.
const REPOSITORIES: [(usize, usize); 4] = [(1, 100), (10, 100), (60, 100), (1, 10_000)];

#[divan::bench(args = REPOSITORIES)]
fn hosted_accept(bencher: Bencher<'_, '_>, (delegations, tags): (usize, usize)) {
    let hosted = server::Hosted::new(delegations, tags);
    bencher.bench(|| hosted.accept());
}

#[divan::bench(args = REPOSITORIES)]
fn hosted_renew(bencher: Bencher<'_, '_>, (delegations, tags): (usize, usize)) {
    let hosted = server::Hosted::new(delegations, tags);
    bencher.bench(|| hosted.renew());
}

#[divan::bench(args = [100, 10_000])]
fn upload_parse(bencher: Bencher<'_, '_>, tags: usize) {
    let call = server::Hosted::new(1, tags).call();
    bencher.bench(|| server::take_apart(&call));
}

#[divan::bench]
fn route_parse(bencher: Bencher<'_, '_>) {
    let uri = server::request();
    bencher.bench(|| server::route(&uri));
}

#[divan::bench]
fn access_token_known(bencher: Bencher<'_, '_>) {
    let (access, token) = (login::access(), server::token());
    bencher.bench(|| server::admit(&access, &token));
}

#[divan::bench]
fn access_token_new(bencher: Bencher<'_, '_>) {
    let token = server::token();
    bencher
        .with_inputs(login::access)
        .bench_refs(|access| server::admit(access, &token));
}
