//! Integration tests: the program and its library against peers that these tests play themselves, on loopback.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "these are tests"
)]

#[path = "../fuzz/targets/all.rs"]
mod fuzz_targets;
#[path = "../support/ledger.rs"]
mod ledger;
#[path = "../support/manifests.rs"]
mod manifests;
#[path = "../support/repo.rs"]
mod repo;
#[path = "../support/storage_suite.rs"]
mod storage_suite;
#[path = "../support/tls.rs"]
mod tls_support;
#[path = "../support/trust_server.rs"]
mod trust_server;
#[path = "../support/verify.rs"]
mod verify;

mod admission;
mod chart;
mod cli;
mod docs;
mod drain;
mod fuzz;
mod interchange;
mod keys;
mod layers;
mod notary;
mod policy;
mod policy_cli;
mod probe;
mod publish;
mod pull_secrets;
mod reference_data;
mod sandbox;
mod serve;
mod server_cli;
mod storage;
mod threats;
mod tls;
mod transfer;
mod trust;
mod trust_server_http;
mod trust_service;
