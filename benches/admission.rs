//! The whole admission over a trust server that plays itself: everything but the webhook's own socket.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign::admission::{Admission, Phase};
use countersign::policy::PolicySet;
use countersign::store::Store;
use countersign::telemetry::Metrics;
use countersign::trust::{Clock, Options, Trust};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::policy;
use crate::repo::{GUN, Key, NOW, Repo};
use crate::trust_server::TrustServer;

/// Tags of the repository: more than containers of any review.
const TAGS: usize = 1_000;
/// Longer than any measurement, so that it stays warm.
const FRESH: Duration = Duration::from_hours(24);

/// A webhook without its socket.
pub struct World {
    runtime: Runtime,
    admission: Admission<Trust>,
    server: TrustServer,
}

/// The world, warmed up.
pub fn world() -> &'static World {
    static WORLD: LazyLock<World> = LazyLock::new(World::new);
    &WORLD
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let server = runtime.block_on(TrustServer::start());
        let mut repo = Repo::new();
        repo.tags = (0..TAGS)
            .map(|number| (format!("v{number:07}"), format!("content {number}")))
            .collect();
        for (name, bytes) in repo.publish().by_hash().0 {
            server.put(GUN, &name, bytes);
        }
        let policies = policies(server.url());
        let metrics = Arc::new(Metrics::default());
        let options = Options {
            fresh_for: FRESH,
            clock: Clock::At(NOW.parse().unwrap()),
            ..Options::default()
        };
        let trust = Trust::new(options, Arc::new(Store::memory().unwrap()), Arc::clone(&metrics));
        trust.prepare(&policies).unwrap();
        let policies = Arc::new(ArcSwap::from_pointee(policies));
        let limit = Duration::from_secs(10);
        let world = Self {
            runtime,
            admission: Admission::new(Arc::new(trust), policies, metrics, limit),
            server,
        };
        let answer = world.answer(&crate::review::of_pod(1));
        assert!(String::from_utf8(answer).unwrap().contains("JSONPatch"));
        world
    }

    /// Answers `/mutate`.
    pub fn answer(&self, body: &[u8]) -> Vec<u8> {
        self.runtime
            .block_on(self.admission.answer(Phase::Mutate, body, None))
            .unwrap()
    }

    /// How many requests for metadata there were.
    pub fn requests(&self) -> usize {
        self.server.requests_for(".json")
    }
}

fn policies(url: &str) -> PolicySet {
    policy::of(&json!({
        "verifiers": [{"name": "acme", "notary": {"server": url, "root": {"keys": [Key::p256(1).pem()]}}}],
        "rules": [{"images": ["registry.example.com/**"], "verify": {"anyOf": ["acme"]}}],
    }))
}
