//! Pods that controllers make.

use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{eventually, text};
use crate::world::{cluster, front, trust};

/// Controllers retry with growing pauses.
const CONTROLLED: Duration = Duration::from_secs(60);

#[test]
fn pods_of_a_deployment_are_pinned_and_the_deployment_stays_as_it_was_written() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "deployed");
    let digest = trust.release(&repository, "1.0", "deployed", None);
    front().namespace("deployed", "enforce");
    let tag = format!("{}:1.0", repository.gun);
    let output = cluster().kubectl_with(&["create"], &deployment("deployed", &tag));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        !text(&output.stderr).contains("Warning"),
        "{}",
        text(&output.stderr)
    );

    let pods = eventually("a Pod of the deployment", CONTROLLED, || {
        let pods = cluster().get("deployed", "pods");
        (!pods["items"].as_array()?.is_empty()).then_some(pods)
    });
    let image = |object: &Value| {
        object["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(image(&pods["items"][0]), format!("{tag}@{digest}"));
    let sets = cluster().get("deployed", "replicasets");
    assert_eq!(sets["items"].as_array().unwrap().len(), 1);
    let deployment = cluster().get("deployed", "deployment/web");
    assert_eq!(image(&deployment["spec"]["template"]), tag);
    // One rollout, whatever admission does to the Pods.
    assert_eq!(deployment["metadata"]["generation"], 1);
}

#[test]
fn an_unsigned_deployment_warns_at_once_and_its_pods_say_why_they_are_missing() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "advised");
    trust.release(&repository, "1.0", "advised", None);
    front().namespace("advised", "enforce");
    let output = cluster().kubectl_with(
        &["create"],
        &deployment("advised", &format!("{}:2.0", repository.gun)),
    );
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("Warning: ") && said.contains("tag 2.0 is not signed"),
        "{said}"
    );
    let event = eventually("an event of the replica set", CONTROLLED, || {
        let events = cluster().get("advised", "events");
        let failed = events["items"]
            .as_array()?
            .iter()
            .find(|event| event["reason"] == "FailedCreate")?;
        Some(failed["message"].as_str()?.to_owned())
    });
    assert!(event.contains("tag 2.0 is not signed"), "{event}");
}

fn deployment(namespace: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    })
}
