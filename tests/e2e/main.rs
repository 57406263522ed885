//! The story of the README against real peers: the reference trust server, signer and client, a registry, and a
//! Kubernetes control plane, all on loopback. `tests/tools/provision` brings them; the first test runs it.
//!
//! Logs of every peer stay in `target/tmp/e2e` until the next run.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

#[path = "../support/manifests.rs"]
mod manifests;
#[path = "../support/storage_suite.rs"]
mod storage_suite;

// The peers.
mod api;
mod balancer;
mod cluster;
mod docker_engine;
mod hand;
mod https;
mod kubelet;
mod load;
mod notary;
mod objects;
mod our_server;
mod pki;
mod postgres_server;
mod process;
mod recorder;
mod registry;
mod release;
mod remote;
mod token;
mod trust_server;
mod upload;
mod webhook;
mod world;

// The stories.
mod admission;
mod audit;
mod break_glass;
mod bytes;
mod certificates;
mod chart;
mod cluster_policy;
mod docker;
mod down;
mod guard;
mod helm;
mod interop;
mod keys;
mod kills;
mod logins;
mod moving;
mod neighbours;
mod nodes;
mod outage;
mod policy_admission;
mod postgres;
mod publish;
mod restart;
mod server_access;
mod transport;
mod trust_records;
mod two_servers;
mod upkeep;
mod verify;
mod workloads;
