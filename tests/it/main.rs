//! Integration tests: the program and its library against peers that these tests play themselves, on loopback.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

#[path = "../support/trust_server.rs"]
mod trust_server;

mod layers;
mod notary;
