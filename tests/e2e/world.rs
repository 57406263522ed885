//! The parts of the world that tests share: each is brought up by the first test that asks for it.

use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use crate::cluster::Cluster;
use crate::notary::{Publisher, SignerKey};
use crate::process::{self, part};
use crate::registry::Registry;
use crate::token::TokenServer;
use crate::trust_server::{Build, Signer, TrustServer};

/// Trust servers of every kind, and a registry. Each server holds the repositories of one first path segment.
#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) registry: Registry,
    /// `hub/**`: keys like those of Docker Hub, P-256 in a signer.
    pub(crate) hub: TrustServer,
    /// `team/**`: serves delegations.
    pub(crate) team: TrustServer,
    /// `fragile/**`: may be killed, and keeps its metadata.
    pub(crate) fragile: TrustServer,
    /// `private/**`: ed25519 server keys; asks for a token.
    pub(crate) private: TrustServer,
    /// Who signs in delegations.
    pub(crate) alice: SignerKey,
    pub(crate) bob: SignerKey,
    _signer: Signer,
}

/// The trust servers.
pub(crate) fn trust() -> &'static Trust {
    static TRUST: LazyLock<Trust> = LazyLock::new(Trust::start);
    &TRUST
}

/// The control plane.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::start);
    &CLUSTER
}

impl Trust {
    fn start() -> Self {
        print_versions();
        let signer = Signer::start();
        let tokens = TokenServer::start();
        let keys = process::new_folder("signers");
        Self {
            registry: Registry::start(),
            hub: TrustServer::start("hub", Build::Packaged, Some(&signer), None),
            team: TrustServer::start("team", Build::Durable, Some(&signer), None),
            fragile: TrustServer::start("fragile", Build::Durable, Some(&signer), None),
            private: TrustServer::start("private", Build::Packaged, None, Some(&tokens)),
            alice: SignerKey::generate(&keys, "alice"),
            bob: SignerKey::generate(&keys, "bob"),
            _signer: signer,
        }
    }

    /// The name of a repository, which is its GUN too.
    pub(crate) fn gun(&self, repository: &str) -> String {
        format!("{}/{repository}", self.registry.host)
    }

    /// A new, empty repository on `server`.
    pub(crate) fn repository(&self, server: &TrustServer, repository: &str) -> Publisher {
        let publisher = Publisher::new(server, &self.gun(repository));
        publisher.init();
        publisher
    }

    /// Docker's configuration with the login for the registry, which serves its trust server too.
    pub(crate) fn docker_config(&self) -> PathBuf {
        let config = serde_json::json!({"auths": {&self.registry.host: {"auth": crate::token::login()}}});
        process::write("docker/config.json", config.to_string())
    }
}

/// Past libtest's capture, so that the log of a run says what it ran against.
fn print_versions() {
    let versions = std::fs::read_to_string(part("VERSIONS")).unwrap();
    let lines = versions.lines().filter(|line| !line.starts_with('#'));
    let text: Vec<_> = lines.collect();
    let _ = writeln!(std::io::stderr(), "real parts: {}", text.join(", "));
}
