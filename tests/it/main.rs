//! Integration tests: the program and its library against peers that these tests play themselves, on loopback.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

#[path = "../support/tls.rs"]
mod tls_support;

mod drain;
mod layers;
mod serve;
mod tls;
