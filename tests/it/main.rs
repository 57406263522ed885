//! Integration tests: the program and its library against peers that these tests play themselves, on loopback.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "these are tests"
)]

#[path = "../support/repo.rs"]
mod repo;
#[path = "../support/verify.rs"]
mod verify;

mod admission;
mod layers;
mod policy;
mod reference_data;
mod threats;
