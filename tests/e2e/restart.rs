//! A rolling update of the webhook while Pods are made without a pause.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Certificate, Client, StatusCode};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::objects::pod;
use crate::pki;
use crate::process::eventually;
use crate::webhook::{self, Webhook};
use crate::world::{Front, cluster, policy, trust};

/// Requests at any time: more than one, so that some are in flight whenever a replica goes.
const WORKERS: usize = 4;
/// Pods made in each phase of the update.
const PER_PHASE: usize = 40;
/// A phase takes seconds; a replica waits for its endpoint to move and drains.
const PHASE: Duration = Duration::from_secs(90);

#[test]
fn a_rolling_restart_under_load_fails_not_one_request_over_http2() {
    roll("rolling-url", |replicas| Front::by_url("rolling-url", replicas));
}

#[test]
fn a_rolling_restart_under_load_fails_not_one_request_over_http1() {
    roll("rolling-service", |replicas| {
        Front::by_service("rolling-service", pki::SERVICE, replicas, &pki::authority_pem())
    });
}

fn roll(name: &str, front: impl Fn(Vec<Webhook>) -> Front) {
    let trust = trust();
    let repository = trust.repository(&trust.hub, name);
    let digest = trust.release(&repository, "1.0", name, None);
    let tag = format!("{}:1.0", repository.gun);
    let replica = |number| start(&format!("{name}-{number}"));
    let front = front(vec![replica(1), replica(2)]);
    front.namespace(name, "enforce");

    let load = Load::default();
    thread::scope(|scope| {
        scope.spawn(|| load.run(name, &tag));
        load.await_more();
        for number in [3, 4] {
            front.replace_oldest(|| replica(number));
            load.await_more();
        }
        load.stop.store(true, Ordering::Relaxed);
    });

    let pinned = format!("{tag}@{digest}");
    let outcomes = load.outcomes.into_inner().unwrap();
    let failures: Vec<_> = outcomes
        .iter()
        .filter(|outcome| outcome.as_ref() != Ok(&pinned))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {}: {failures:?}",
        failures.len(),
        outcomes.len()
    );
}

fn start(name: &str) -> Webhook {
    Webhook::start(name, policy(), &webhook::Certificate::Loopback)
}

impl Front {
    /// As a Deployment does it: one goes when asked to, then another comes.
    fn replace_oldest(&self, successor: impl Fn() -> Webhook) {
        let mut replicas = self.replicas.lock().unwrap();
        let mut old = replicas.remove(0);
        old.process.terminate();
        let status = old.process.wait(PHASE);
        assert!(status.success(), "{status}: {}", old.process.log_tail());
        replicas.push(successor());
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
    fn run(&self, namespace: &str, image: &str) {
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
                let outcome = create(&client, namespace, image).await;
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
async fn create(client: &Client, namespace: &str, image: &str) -> Result<String, String> {
    let answer = client
        .post(format!("{}/api/v1/namespaces/{namespace}/pods", cluster().url))
        .header("authorization", Cluster::authorization())
        .json(&pod(namespace, image))
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
