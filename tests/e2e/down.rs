//! A webhook that is not there, or does not answer: what goes on without it, and what does not.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::objects::{deployment, named_pod, pod};
use crate::process::{eventually, output_of_input, text};
use crate::webhook::{Certificate, Webhook};
use crate::world::{Front, cluster, policy, trust};

/// A request that needs no webhook takes milliseconds; one that waits for a webhook ten seconds.
const AT_ONCE: Duration = Duration::from_secs(5);
/// The API server follows a change of a registration within a second; a busy machine may take longer.
const NOTICED: Duration = Duration::from_secs(30);
const DENIED: &str = r#"failed calling webhook "validate.countersign.dev""#;

fn front(name: &'static str) -> Front {
    let webhook = Webhook::start(&format!("webhook-{name}"), policy(), &Certificate::Loopback);
    Front::by_url(name, vec![webhook])
}

#[test]
fn without_a_webhook_pods_can_be_deleted_evicted_labelled_and_finished_but_not_made() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "down");
    trust.release(&repository, "1.0", "down", None);
    let [signed, unsigned] = ["1.0", "2.0"].map(|tag| format!("{}:{tag}", repository.gun));
    let (front, namespace) = (front("down"), "down");
    front.namespace_with_a_past(namespace, "enforce", || {
        cluster().create(&named_pod(namespace, "old", &unsigned));
        cluster().create(&named_pod(namespace, "evicted", &unsigned));
    });
    cluster().create(&named_pod(namespace, "pinned", &signed));
    front.stop();
    let refusal = cluster().refusal(&pod(namespace, &signed));
    assert!(
        refusal.contains("(InternalError)") && refusal.contains(DENIED),
        "{refusal}"
    );

    for name in ["old", "pinned"] {
        let name = format!("pod/{name}");
        let change = |arguments: &[&str]| {
            cluster().kubectl_ok(&[arguments, &["-n", namespace, &name]].concat());
        };
        let patch = |patch: &Value, more: &[&str]| {
            let patch = patch.to_string();
            let arguments = ["patch", "-n", namespace, &name, "--type=merge", "-p", &patch];
            cluster().kubectl_ok(&[&arguments[..], more].concat());
        };
        patch(
            &json!({"metadata": {"labels": {"seen": "yes"}, "finalizers": ["example.com/hold"]}}),
            &[],
        );
        patch(&json!({"status": {"phase": "Failed"}}), &["--subresource=status"]);
        change(&["delete", "--wait=false"]);
        assert_eq!(cluster().get(namespace, &name)["status"]["phase"], "Failed");
        patch(&json!({"metadata": {"finalizers": null}}), &[]);
        change(&["wait", "--for=delete", "--timeout=10s"]);
    }
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "evicted", "namespace": namespace},
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods/evicted/eviction");
    let evicted = output_of_input(
        cluster().command().args(["create", "--raw", &path, "-f", "-"]),
        &eviction.to_string(),
    );
    assert!(evicted.status.success(), "{}", text(&evicted.stderr));
    assert!(cluster().pods(namespace, "").is_empty());
}

#[test]
fn a_namespace_in_audit_mode_never_waits_for_a_webhook_that_is_gone_or_hangs() {
    let (front, namespace) = (front("audit-down"), "audit-down");
    front.namespace(namespace, "audit");
    front.stop();
    cluster().create(&named_pod(namespace, "gone", "nginx"));
    front.balancer.hang();
    let began = Instant::now();
    cluster().create(&named_pod(namespace, "hanging", "nginx"));
    assert!(began.elapsed() < 2 * AT_ONCE, "{:?}", began.elapsed());
    assert!(front.balancer.held() > 0, "the webhook was asked");
    cluster().create(&deployment(namespace, "nginx"));
    eventually("a Pod of the deployment", NOTICED, || {
        cluster().pods(namespace, "app=Deployment").pop()
    });
}

#[test]
fn one_command_restores_the_cluster_while_the_webhook_hangs() {
    let (front, namespace) = (front("hanging"), "hanging");
    front.namespace(namespace, "enforce");
    front.stop();
    front.balancer.hang();
    thread::scope(|scope| {
        // It waits for one entry after the other, and goes through or fails when their time is over.
        scope.spawn(|| cluster().kubectl_with(&["create"], &pod(namespace, "nginx")));
        eventually("the webhook hangs", NOTICED, || {
            (front.balancer.held() > 0).then_some(())
        });
        let began = Instant::now();
        cluster().kubectl_ok(&[
            "delete",
            "validatingwebhookconfiguration,mutatingwebhookconfiguration",
            "-l",
            "app.kubernetes.io/instance=hanging",
        ]);
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        eventually("Pods can be made", NOTICED, || {
            let made = cluster().kubectl_with(&["create", "--request-timeout=2s"], &pod(namespace, "nginx"));
            made.status.success().then_some(())
        });
    });
}
