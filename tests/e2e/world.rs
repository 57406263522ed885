//! The parts of the world that tests share: each is brought up by the first test that asks for it.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::balancer::Balancer;
use crate::cluster::Cluster;
use crate::notary::{Publisher, SignerKey};
use crate::objects::pod;
use crate::our_server::OurServer;
use crate::pki;
use crate::process::{self, eventually, part};
use crate::registry::Registry;
use crate::token::{self, TokenServer};
use crate::trust_server::{Build, Signer, TrustServer};
use crate::webhook::{self, Certificate, Webhook};

/// An API server's watch follows a new registration within a second; a busy machine may take longer.
pub(crate) const REGISTERED: Duration = Duration::from_secs(30);

/// A trust server with the keys of one publisher.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) name: &'static str,
    pub(crate) server: TrustServer,
    /// The public key that vouches for every repository of this server.
    pub(crate) root_key: PathBuf,
}

/// Trust servers of every kind, and a registry. The repositories of each server begin with its name.
#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) registry: Registry,
    /// `hub/**`: keys like those of Docker Hub, P-256 in a signer.
    pub(crate) hub: Authority,
    /// `team/**`: serves delegations; alice must have signed.
    pub(crate) team: Authority,
    /// `fragile/**`: may be killed, and keeps its metadata.
    pub(crate) fragile: Authority,
    /// `private/**`: ed25519 server keys; asks for a token.
    pub(crate) private: Authority,
    /// Who signs in delegations.
    pub(crate) alice: SignerKey,
    pub(crate) bob: SignerKey,
    /// Keeps the keys of trust servers.
    pub(crate) signer: Signer,
}

/// The trust servers.
pub(crate) fn trust() -> &'static Trust {
    static TRUST: LazyLock<Trust> = LazyLock::new(Trust::start);
    &TRUST
}

/// A trust server of ours that is open to everybody, and is never killed.
pub(crate) fn our_server() -> &'static OurServer {
    static SERVER: LazyLock<OurServer> = LazyLock::new(|| OurServer::start("our-server"));
    &SERVER
}

/// The control plane.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| Cluster::start("cluster"));
    &CLUSTER
}

/// Makes the kinds of our own known to the API server, which a replica with `--kube` waits for.
pub(crate) fn definitions() {
    static DEFINED: LazyLock<()> = LazyLock::new(|| {
        let crds = process::run(Command::new(env!("CARGO_BIN_EXE_countersign")).arg("crds"));
        let crds = process::write("crds.yaml", crds);
        let crds = crds.to_str().unwrap();
        cluster().kubectl_ok(&["apply", "--server-side", "-f", crds]);
        cluster().kubectl_ok(&["wait", "--for=condition=Established", "--timeout=60s", "-f", crds]);
    });
    *DEFINED;
}

/// Where replicas with `--kube` have their Secrets: the same for all, as each writes the status of every policy.
pub(crate) const RELEASE_NAMESPACE: &str = "countersign-system";

/// Makes [`RELEASE_NAMESPACE`].
pub(crate) fn release_namespace() {
    static MADE: LazyLock<()> = LazyLock::new(|| cluster().namespace(RELEASE_NAMESPACE, &[]));
    *MADE;
}

/// The policy that every webhook of the tests serves.
pub(crate) fn policy() -> &'static PathBuf {
    // JSON is YAML.
    static POLICY: LazyLock<PathBuf> = LazyLock::new(|| {
        let policies = format!("{}\n---\n{}\n", trust().policy(), pinning_policy());
        process::write("policy.yaml", policies)
    });
    &POLICY
}

/// The namespaces whose templates are pinned.
pub(crate) const PINNED_TEMPLATES: [&str; 2] = ["pinned-templates", "templates-pinned-later"];

/// Leaves the judgement to the other policy.
fn pinning_policy() -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy", "metadata": {"name": "pin-templates"},
        "spec": {
            "namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "In", "values": PINNED_TEMPLATES},
            ]},
            "pinWorkloads": true,
            "rules": [{"images": ["**"], "allow": {"reason": "policy default judges"}}],
        },
    })
}

/// One replica that answers for the namespaces of most tests, called by URL.
pub(crate) fn front() -> &'static Front {
    static FRONT: LazyLock<Front> = LazyLock::new(|| {
        let webhook = Webhook::start("webhook-url", policy(), &Certificate::Loopback);
        Front::by_url("url", vec![webhook])
    });
    &FRONT
}

/// One replica that asks trust servers again after a second, for the tests that sign a tag anew.
pub(crate) fn brisk() -> &'static Front {
    static FRONT: LazyLock<Front> = LazyLock::new(|| {
        let webhook = Webhook::with(
            "webhook-brisk",
            policy(),
            &Certificate::Loopback,
            &["--fresh-for=1s"],
        );
        Front::by_url("brisk", vec![webhook])
    });
    &FRONT
}

/// Replicas behind a balancer, registered for namespaces of their own.
#[derive(Debug)]
pub(crate) struct Front {
    name: &'static str,
    pub(crate) balancer: Balancer,
    /// The replicas; a test that restarts them takes them out.
    pub(crate) replicas: std::sync::Mutex<Vec<Webhook>>,
}

impl Authority {
    pub(crate) fn new(host: &str, name: &'static str, server: TrustServer) -> Self {
        // The first repository makes the root key, and the later ones find it in the keyring.
        let seed = Publisher::new(&server, name, &format!("{host}/{name}/seed"));
        seed.init();
        Self {
            name,
            server,
            root_key: seed.root_key(),
        }
    }
}

impl Trust {
    fn start() -> Self {
        print_versions();
        let registry = Registry::start();
        let signer = Signer::start();
        let tokens = TokenServer::start();
        let keys = process::new_folder("signers");
        let authority = |name, server| Authority::new(&registry.host, name, server);
        Self {
            hub: authority(
                "hub",
                TrustServer::start("hub", Build::Packaged, Some(&signer), None),
            ),
            team: authority(
                "team",
                TrustServer::start("team", Build::Durable, Some(&signer), None),
            ),
            fragile: authority(
                "fragile",
                TrustServer::start("fragile", Build::Durable, Some(&signer), None),
            ),
            private: authority(
                "private",
                TrustServer::start("private", Build::Packaged, None, Some(&tokens)),
            ),
            alice: SignerKey::generate(&keys, "alice"),
            bob: SignerKey::generate(&keys, "bob"),
            registry,
            signer,
        }
    }

    /// `localhost:PORT/SERVER/NAME`: the name of a repository, which is its GUN too.
    pub(crate) fn gun(&self, authority: &Authority, name: &str) -> String {
        format!("{}/{}/{name}", self.registry.host, authority.name)
    }

    /// A new, empty repository with the root key of its server.
    pub(crate) fn repository(&self, authority: &Authority, name: &str) -> Publisher {
        let publisher = Publisher::new(&authority.server, authority.name, &self.gun(authority, name));
        publisher.init();
        publisher
    }

    /// Pushes an image and signs it in `roles`, or in `targets`. Gives its digest.
    pub(crate) fn release(
        &self,
        publisher: &Publisher,
        tag: &str,
        text: &str,
        roles: Option<&str>,
    ) -> String {
        let repository = publisher.gun.split_once('/').unwrap().1;
        let image = self.registry.push(repository, tag, text);
        publisher.sign(tag, &image, roles);
        image.digest
    }

    /// A folder with docker's configuration: a login for the registry, which serves its trust server too.
    pub(crate) fn docker_config(&self) -> PathBuf {
        let config = json!({"auths": {&self.registry.host: {"auth": token::login()}}});
        process::write("docker/config.json", config.to_string())
    }

    fn policy(&self) -> Value {
        let rule = |authority: &Authority| {
            json!({
                "images": [format!("{}/{}/**", self.registry.host, authority.name)],
                "verify": {"anyOf": [authority.name]},
            })
        };
        let alice = std::fs::read_to_string(&self.alice.public).unwrap();
        let mut team = verifier(&self.team);
        team["notary"]["signers"] = json!([{"name": "alice", "key": alice}]);
        let mut private = verifier(&self.private);
        private["notary"]["credentials"] = json!({"dockerConfig": self.docker_config()});
        json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy", "metadata": {"name": "default"},
            "spec": {
                "verifiers": [verifier(&self.hub), team, verifier(&self.fragile), private],
                "rules": [
                    rule(&self.hub), rule(&self.team), rule(&self.fragile), rule(&self.private),
                    {"images": ["docker.io/library/countersign-e2e"], "verify": {"anyOf": ["hub"]}},
                    {"images": ["registry.k8s.io/**"], "allow": {"reason": "cluster plumbing"}},
                    {"images": ["**"], "deny": {"message": "only images of the tests run here"}},
                ],
            },
        })
    }
}

/// What trusts the repositories of one server.
pub(crate) fn verifier(authority: &Authority) -> Value {
    let key = std::fs::read_to_string(&authority.root_key).unwrap();
    json!({"name": authority.name, "notary": {
        "server": authority.server.url(),
        "ca": {"pem": pki::authority_pem()},
        "root": {"keys": [key]},
    }})
}

impl Front {
    /// Replicas that the API server calls by the URL of their balancer.
    pub(crate) fn by_url(name: &'static str, replicas: Vec<Webhook>) -> Self {
        let front = Self::balance(name, replicas);
        let url = format!("https://127.0.0.1:{}", front.balancer.port);
        front.register(&pki::authority_pem(), json!({"url": url}));
        front
    }

    /// Replicas that the API server calls by a Service, which is a name for loopback here as there is no network
    /// inside the cluster. `authority` is what they serve with.
    pub(crate) fn by_service(
        name: &'static str,
        service: &str,
        replicas: Vec<Webhook>,
        authority: &str,
    ) -> Self {
        let front = Self::balance(name, replicas);
        let port = front.balancer.port;
        cluster().namespace(service, &[]);
        cluster().create(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": service, "namespace": service},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
        }));
        let config = json!({"service": {"name": service, "namespace": service, "port": port}});
        front.register(authority, config);
        front
    }

    /// A namespace that these replicas answer for.
    pub(crate) fn namespace(&self, name: &str, mode: &str) {
        cluster().namespace(name, &[("e2e", self.name), ("countersign.dev/mode", mode)]);
    }

    /// A namespace that is older than its label: what `fill` makes in it is neither pinned nor judged.
    pub(crate) fn namespace_with_a_past(&self, name: &str, mode: &str, fill: impl FnOnce()) {
        cluster().namespace(name, &[("e2e", self.name)]);
        fill();
        let label = format!("countersign.dev/mode={mode}");
        cluster().kubectl_ok(&["label", "namespace", name, &label]);
        let forbidden = pod(name, "forbidden.example.com/app:1.0");
        eventually("the label takes effect", REGISTERED, || {
            let output = cluster().kubectl_with(&["create", "--dry-run=server"], &forbidden);
            let said = process::text(&output.stderr);
            (said.contains("denied the request") || said.contains("Warning: ")).then_some(())
        });
    }

    /// Takes all replicas away, without a word.
    pub(crate) fn stop(&self) {
        self.replicas.lock().unwrap().clear();
        self.balancer.set(&[]);
    }

    fn balance(name: &'static str, replicas: Vec<Webhook>) -> Self {
        let balancer = Balancer::start();
        balancer.set(&replicas.iter().map(|replica| replica.backend).collect::<Vec<_>>());
        Self {
            name,
            balancer,
            replicas: std::sync::Mutex::new(replicas),
        }
    }

    /// Registers, and waits until the API server acts on it.
    fn register(&self, authority: &str, mut client_config: Value) {
        use base64::Engine;
        client_config["caBundle"] = json!(base64::prelude::BASE64_STANDARD.encode(authority));
        webhook::register(cluster(), self.name, &client_config);
        let probe = format!("probe-{}", self.name);
        self.namespace(&probe, "enforce");
        let forbidden = pod(&probe, "forbidden.example.com/app:1.0");
        eventually("the registration takes effect", REGISTERED, || {
            let output = cluster().kubectl_with(&["create", "--dry-run=server"], &forbidden);
            process::text(&output.stderr)
                .contains("denied the request")
                .then_some(())
        });
    }
}

/// Past libtest's capture, so that the log of a run says what it ran against.
fn print_versions() {
    let versions = std::fs::read_to_string(part("VERSIONS")).unwrap();
    let lines: Vec<_> = versions.lines().filter(|line| !line.starts_with('#')).collect();
    let _ = writeln!(std::io::stderr(), "real parts: {}", lines.join(", "));
}
