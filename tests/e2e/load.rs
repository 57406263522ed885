//! Pods made without a pause.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::api::client;
use crate::cluster::{Cluster, authorization};
use crate::objects::{image, pod};
use crate::process::eventually;

/// Requests at any time: more than one, so that some are in flight whenever a replica goes.
const WORKERS: usize = 4;
/// Pods made in each phase of what happens meanwhile.
const PER_PHASE: usize = 40;
/// A phase takes seconds; a replica waits for its endpoint to move and drains.
const PHASE: Duration = Duration::from_secs(90);

/// Workers that make Pods until they are stopped, and what became of each.
#[derive(Debug, Default)]
pub(crate) struct Load {
    stop: AtomicBool,
    outcomes: Mutex<Vec<Result<String, String>>>,
}

impl Load {
    /// Makes Pods of one image while `meanwhile` runs. Each must have become `expected`.
    pub(crate) fn during(
        cluster: &Cluster,
        namespace: &str,
        tag: &str,
        expected: &str,
        meanwhile: impl FnOnce(&Self),
    ) {
        let load = Self::default();
        thread::scope(|scope| {
            scope.spawn(|| load.run(cluster, namespace, tag));
            // However it ends, so that the workers end too.
            let _stop = Stop(&load.stop);
            load.await_more();
            meanwhile(&load);
            load.await_more();
        });
        let outcomes = load.outcomes.into_inner().unwrap();
        let failures: Vec<_> = outcomes
            .iter()
            .filter(|outcome| outcome.as_ref().map(String::as_str) != Ok(expected))
            .collect();
        assert!(
            failures.is_empty(),
            "{} of {}: {failures:?}",
            failures.len(),
            outcomes.len()
        );
    }

    /// Waits until a phase's worth of Pods is made.
    pub(crate) fn await_more(&self) {
        let made = || self.outcomes.lock().unwrap().len();
        let enough = made() + PER_PHASE;
        eventually("Pods are made", PHASE, || (made() >= enough).then_some(()));
    }

    fn run(&self, cluster: &Cluster, namespace: &str, tag: &str) {
        let client = client();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(join_all((0..WORKERS).map(|_| async {
            while !self.stop.load(Ordering::Relaxed) {
                let outcome = create(&client, cluster, namespace, tag).await;
                self.outcomes.lock().unwrap().push(outcome);
            }
        })));
    }
}

#[derive(Debug)]
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Makes a Pod, straight at the API; gives the image that was stored.
async fn create(client: &Client, cluster: &Cluster, namespace: &str, tag: &str) -> Result<String, String> {
    let answer = client
        .post(format!("{}/api/v1/namespaces/{namespace}/pods", cluster.url))
        .header("authorization", authorization())
        .json(&pod(namespace, tag))
        .send()
        .await
        .map_err(|error| format!("{error:?}"))?;
    let status = answer.status();
    let body: Value = answer.json().await.map_err(|error| format!("{error:?}"))?;
    if status == StatusCode::CREATED {
        Ok(image(&body).to_owned())
    } else {
        Err(format!("{status}: {}", body["message"]))
    }
}
