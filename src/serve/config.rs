//! What `countersign webhook` and `countersign server` are told. Defaults are what the Helm chart runs the webhook with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::CertificateStore;

/// Sockets, certificates, limits and drain times.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the API server calls: TLS only.
    pub listen: SocketAddr,
    /// Where kubelet and Prometheus call: plain HTTP, `/livez`, `/readyz`, `/metrics` (AVL-19). `None` opens no port.
    pub admin: Option<SocketAddr>,
    /// The serving certificate and what clients must present.
    pub tls: Tls,
    /// Bounds of everything that queues or waits.
    pub limits: Limits,
    /// How the server leaves.
    pub drain: Drain,
}

impl Config {
    /// Defaults around a certificate: all interfaces, 8443 and 8080.
    pub fn new(certificate: Certificate) -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8443)),
            admin: Some(SocketAddr::from(([0, 0, 0, 0], 8080))),
            tls: Tls::new(certificate),
            limits: Limits::default(),
            drain: Drain::default(),
        }
    }
}

/// How connections are secured.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Where the key pair comes from.
    pub certificate: Certificate,
    /// Whom to let in; `None` lets everybody in, as the API server is anonymous by default (ADM-08).
    pub clients: Option<Clients>,
    /// The oldest version spoken (TLS-21).
    pub minimum: Version,
    /// IANA names of the cipher suites to offer, in any order; empty means all that TLS-21 permits.
    pub suites: Vec<String>,
    /// How often files are compared with what is served. A Secret volume must be picked up within 60 s (TLS-20), and
    /// inotify does not see the kubelet's symlink swap; the default of 10 s leaves time for a failed attempt.
    pub poll: Duration,
}

impl Tls {
    /// Anonymous clients, TLS 1.2 or newer.
    pub fn new(certificate: Certificate) -> Self {
        Self {
            certificate,
            clients: None,
            minimum: Version::Tls12,
            suites: Vec::new(),
            poll: Duration::from_secs(10),
        }
    }
}

/// Where the serving key pair comes from.
#[derive(Clone, Debug)]
pub enum Certificate {
    /// Two PEM files that something else renews, such as cert-manager.
    Files {
        /// The chain, leaf first.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// A directory in which we keep an authority and a leaf of our own (`ca.crt`, `ca.key`, `tls.crt`, `tls.key`).
    SelfSigned {
        /// Made if it does not exist. Several processes may share it.
        directory: PathBuf,
        /// Host names and addresses of the leaf.
        names: Vec<String>,
    },
    /// An authority in a Secret that all replicas share, and a leaf of this replica alone that is nowhere but in memory
    /// (TLS-01).
    Cluster {
        /// The Secret, and the webhook configurations that are to trust the authority.
        store: Box<CertificateStore>,
        /// Host names and addresses of the leaf.
        names: Vec<String>,
        /// How long certificates are good.
        lifetimes: Lifetimes,
    },
}

/// How long certificates of our own are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of an authority; at two thirds of it the next one is announced.
    pub authority: Duration,
    /// Of a leaf.
    pub leaf: Duration,
}

impl Default for Lifetimes {
    /// A year and a week (TLS-01).
    fn default() -> Self {
        Self {
            authority: Duration::from_secs(365 * 24 * 3600),
            leaf: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

impl Certificate {
    /// A directory of our own, for the names of this machine.
    pub fn self_signed(directory: PathBuf) -> Self {
        Self::SelfSigned {
            directory,
            names: LOCAL_NAMES.map(str::to_owned).to_vec(),
        }
    }
}

/// Clients that may connect (ADM-08, notary-v1 §2.9). Everybody else fails the handshake.
#[derive(Clone, Debug)]
pub struct Clients {
    /// PEM file with the authorities of client certificates.
    pub ca: PathBuf,
    /// Common names or subject alternative names, any of which must be in the certificate; empty permits all that the
    /// authorities signed.
    pub names: Vec<String>,
    /// Whether clients without a certificate are let in as well. One that is presented is verified all the same.
    pub optional: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2 with forward secrecy and authenticated encryption only.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Bounds of everything that queues or waits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections beyond this many are closed after one request. The API server keeps up to 25 idle connections per
    /// webhook entry (ADM-03): 25 × 4 entries × 9 API servers = 900, rounded up.
    pub connections: usize,
    /// Connections beyond [`connections`](Self::connections) that are still accepted; further ones wait in the
    /// kernel's queue, which is better than being refused: a refusal is a failed call (ADM-05), a wait is not.
    pub overflow: usize,
    /// Requests decided at a time; further ones get 503 and are repeated (ADM-05). Enough for 100 admissions a second
    /// that all wait 2 s for a cold trust server (ADM-59).
    pub requests: usize,
    /// Bytes of one body. A review holds the object twice, each up to the API server's 3 MiB (ADM-66).
    pub body: usize,
    /// Bytes of all bodies in memory, so that a few clients cannot exhaust the pod's: 16 of the largest, or some
    /// thousands of usual size.
    pub bodies: usize,
    /// Bytes of all answers of a trust server that their clients have not read yet: 16 of the largest files, or some
    /// thousands of usual size. A quarter is for small ones alone.
    pub answers: usize,
    /// Longest time for one request, whatever its `timeout` parameter says: the largest `timeoutSeconds` (§1.14).
    pub request_time: Duration,
    /// Time for a TLS handshake: what the API server itself allows (ADM-03).
    pub handshake: Duration,
    /// How long a connection may stay idle. Must be above the 90 s after which the API server closes it, so that it is
    /// never we who close a connection that is about to be used again (ADM-04).
    pub idle: Duration,
    /// How long a connection may stay idle while others wait for its place. Clients send their first request at once,
    /// so this hardly meets them, but one that opens all connections there are and says nothing keeps them no longer.
    pub idle_when_full: Duration,
    /// Time to finish a request's head once it has begun (ADM-69).
    pub head: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            overflow: 64,
            requests: 256,
            body: 8 << 20,
            bodies: 128 << 20,
            answers: 256 << 20,
            request_time: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(180),
            idle_when_full: Duration::from_secs(2),
            head: Duration::from_secs(10),
        }
    }
}

/// How the server leaves (AVL-20…23). The sum must stay below the pod's termination grace period:
/// 10 + 5 + 30 < 60 s.
#[derive(Clone, Debug)]
pub struct Drain {
    /// Still serving, but unready and asking every client to reconnect elsewhere: the time it takes until all nodes
    /// have taken this replica out of the Service.
    pub delay: Duration,
    /// No longer deciding: requests on connections that are still open get 503 and are repeated elsewhere.
    pub refuse: Duration,
    /// Longest time for requests still in flight after that: the largest `timeoutSeconds`.
    pub grace: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(10),
            refuse: Duration::from_secs(5),
            grace: Duration::from_secs(30),
        }
    }
}

/// Names of the machine itself, for trying things out.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
