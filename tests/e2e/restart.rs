//! A rolling update of the webhook while Pods are made without a pause.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Certificate, Client, StatusCode};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::pki;
use crate::process::eventually;
use crate::webhook::{self, Webhook};
use crate::world::{Front, cluster, pod, policy, trust};

/// Requests at any time: more than one, so that some are in flight whenever a replica goes.
const WORKERS: usize = 4;
/// Pods made in each phase of the update.
const PER_PHASE: usize = 40;
/// A phase takes seconds; a replica waits for its endpoint to move and drains.
const PHASE: Duration = Duration::from_secs(90);

#[test]
fn a_rolling_restart_of_two_replicas_under_load_fails_not_one_request() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "rolling");
    let digest = trust.release(&repository, "1.0", "rolling", None);
    let tag = format!("{}:1.0", repository.gun);
    let replica = |name| Webhook::start(name, policy(), &webhook::Certificate::Loopback);
    let front = Front::by_url("rolling", vec![replica("webhook-a1"), replica("webhook-b1")]);
    front.namespace("rolling", "enforce");

    let load = Load::default();
    std::thread::scope(|scope| {
        scope.spawn(|| load.run(&tag));
        load.await_more();
        for successor in ["webhook-a2", "webhook-b2"] {
            front.replace_oldest(successor);
            load.await_more();
        }
        load.stop.store(true, Ordering::Relaxed);
    });

    let pinned = format!("{tag}@{digest}");
    let outcomes = load.outcomes.into_inner().unwrap();
    let failures: Vec<_> = outcomes
        .iter()
        .filter(|outcome| **outcome != Ok(pinned.clone()))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {}: {failures:?}",
        failures.len(),
        outcomes.len()
    );
}

impl Front {
    /// As a Deployment does it: one goes when asked to, then another comes.
    fn replace_oldest(&self, successor: &str) {
        let mut replicas = self.replicas.lock().unwrap();
        let mut old = replicas.remove(0);
        old.process.terminate();
        let status = old.process.wait(PHASE);
        assert!(status.success(), "{status}: {}", old.process.log_tail());
        replicas.push(Webhook::start(
            successor,
            policy(),
            &webhook::Certificate::Loopback,
        ));
        let backends: Vec<_> = replicas.iter().map(|replica| replica.backend).collect();
        self.balancer.set(&backends);
        eventually("both replicas are ready", PHASE, || {
            (self.balancer.ready() == 2).then_some(())
        });
    }
}

/// Workers that make Pods until they are stopped, and what became of each.
#[derive(Debug, Default)]
struct Load {
    stop: AtomicBool,
    outcomes: Mutex<Vec<Result<String, String>>>,
}

impl Load {
    fn run(&self, image: &str) {
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(pki::authority_pem().as_bytes()).unwrap()])
            .build()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(join_all((0..WORKERS).map(|_| async {
            while !self.stop.load(Ordering::Relaxed) {
                let outcome = create(&client, image).await;
                self.outcomes.lock().unwrap().push(outcome);
            }
        })));
    }

    /// Waits until a phase's worth of Pods is made.
    fn await_more(&self) {
        let made = || self.outcomes.lock().unwrap().len();
        let enough = made() + PER_PHASE;
        eventually("Pods are made", PHASE, || (made() >= enough).then_some(()));
    }
}

/// Makes a Pod, straight at the API; gives the image that was stored.
async fn create(client: &Client, image: &str) -> Result<String, String> {
    let answer = client
        .post(format!("{}/api/v1/namespaces/rolling/pods", cluster().url))
        .header("authorization", Cluster::authorization())
        .json(&pod("rolling", image))
        .send()
        .await
        .map_err(|error| format!("{error:?}"))?;
    let status = answer.status();
    let body: Value = answer.json().await.map_err(|error| format!("{error:?}"))?;
    if status == StatusCode::CREATED {
        Ok(body["spec"]["containers"][0]["image"]
            .to_string()
            .trim_matches('"')
            .to_owned())
    } else {
        Err(format!("{status}: {}", body["message"]))
    }
}
