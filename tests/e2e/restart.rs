//! A rolling update of the webhook while Pods are made without a pause.

use std::time::Duration;

use crate::load::Load;
use crate::pki;
use crate::process::eventually;
use crate::webhook::{self, Webhook};
use crate::world::{Front, cluster, policy, trust};

/// A replica waits for its endpoint to move and drains.
const REPLACED: Duration = Duration::from_secs(90);

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

    Load::during(cluster(), name, &tag, &format!("{tag}@{digest}"), |load| {
        for number in [3, 4] {
            front.replace_oldest(|| replica(number));
            load.await_more();
        }
    });
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
        let status = old.process.wait(REPLACED);
        assert!(status.success(), "{status}: {}", old.process.log_tail());
        replicas.push(successor());
        let backends: Vec<_> = replicas.iter().map(|replica| replica.backend).collect();
        self.balancer.set(&backends);
        eventually("both replicas are ready", REPLACED, || {
            (self.balancer.ready() == 2).then_some(())
        });
    }
}
