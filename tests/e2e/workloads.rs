//! Pods that controllers make.

use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{eventually, text};
use crate::world::{PINNED_TEMPLATES, cluster, front, pod, trust};

/// Controllers retry with growing pauses.
const CONTROLLED: Duration = Duration::from_secs(60);
/// A change of a namespace's label takes a moment to be seen.
const LABELLED: Duration = Duration::from_secs(30);

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

#[test]
fn a_deployment_whose_template_is_pinned_rolls_out_once() {
    const SERVER_SIDE: [&str; 3] = ["apply", "--server-side", "--force-conflicts"];
    let [namespace, _] = PINNED_TEMPLATES;
    let trust = trust();
    let repository = trust.repository(&trust.hub, "template");
    let digest = trust.release(&repository, "1.0", "template", None);
    front().namespace(namespace, "enforce");
    let tag = format!("{}:1.0", repository.gun);
    let written = deployment(namespace, &tag);
    let stored = || cluster().get(namespace, "deployment/web");
    let apply = |arguments: &[&str]| {
        let output = cluster().kubectl_with(arguments, &written);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    };
    apply(&["apply"]);
    let first = stored();
    assert_eq!(image(&first["spec"]["template"]), format!("{tag}@{digest}"));
    let set = only_set(namespace);

    // Whoever has the tag form goes on applying it.
    apply(&["apply"]);
    assert_eq!(stored()["metadata"]["generation"], 1);
    assert_eq!(stored()["spec"], first["spec"]);
    // The annotations of a Deployment count for its generation, and the first server-side apply changes some.
    apply(&SERVER_SIDE);
    let changed = stored();
    assert_ne!(
        changed["metadata"]["annotations"],
        first["metadata"]["annotations"]
    );
    apply(&SERVER_SIDE);
    assert_eq!(
        stored()["metadata"]["generation"],
        changed["metadata"]["generation"]
    );
    apply(&["replace"]);
    assert_eq!(stored()["spec"], first["spec"]);
    cluster().kubectl_ok(&["annotate", "-n", namespace, "deployment/web", "note=seen"]);
    let annotated = stored();
    assert_eq!(annotated["metadata"]["annotations"]["note"], "seen");
    assert_eq!(annotated["spec"], first["spec"]);
    assert_eq!(set_after_scaling(namespace), set);
}

/// A `ReplicaSet` that differs from its Deployment's template would be made again and again.
#[test]
fn a_template_that_was_not_pinned_stays_so_with_all_that_is_made_of_it() {
    let [_, namespace] = PINNED_TEMPLATES;
    let trust = trust();
    let repository = trust.repository(&trust.hub, "template-before");
    let digest = trust.release(&repository, "1.0", "template-before", None);
    front();
    // Older than the label.
    cluster().namespace(namespace, &[("e2e", "url")]);
    let tag = format!("{}:1.0", repository.gun);
    cluster().create(&deployment(namespace, &tag));
    only_set(namespace);
    cluster().kubectl_ok(&["label", "namespace", namespace, "countersign.dev/mode=enforce"]);
    eventually("the label takes effect", LABELLED, || {
        let output = cluster().kubectl_with(&["create", "--dry-run=server"], &pod(namespace, "nginx"));
        (!output.status.success()).then_some(())
    });

    cluster().kubectl_ok(&["annotate", "-n", namespace, "deployment/web", "note=seen"]);
    let old = only_set(namespace);
    cluster().kubectl_ok(&["delete", "-n", namespace, "replicasets", "--all"]);
    let new = eventually("another replica set", CONTROLLED, || {
        let sets = cluster().get(namespace, "replicasets");
        let uid = sets["items"].get(0)?["metadata"]["uid"].as_str()?.to_owned();
        (uid != old).then_some(uid)
    });
    assert_eq!(set_after_scaling(namespace), new);
    let sets = cluster().get(namespace, "replicasets");
    assert_eq!(image(&sets["items"][0]["spec"]["template"]), tag);
    let pods = cluster().get(namespace, "pods");
    let pinned = format!("{tag}@{digest}");
    let owned = |pod: &&Value| pod["metadata"]["ownerReferences"][0]["uid"] == new.as_str();
    let images: Vec<_> = pods["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(owned)
        .map(image)
        .collect();
    assert_eq!(images, [&pinned, &pinned, &pinned]);
}

/// The uid of the one replica set in a namespace, once there is one.
fn only_set(namespace: &str) -> String {
    let sets = eventually("a replica set", CONTROLLED, || {
        let sets = cluster().get(namespace, "replicasets");
        (!sets["items"].as_array()?.is_empty()).then_some(sets)
    });
    assert_eq!(sets["items"].as_array().unwrap().len(), 1, "{sets}");
    sets["items"][0]["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// The same after the controller has looked for the deployment's replica set a few times more: it makes another each
/// time that it does not recognise it.
fn set_after_scaling(namespace: &str) -> String {
    for replicas in [2, 1, 3] {
        let scale = format!("--replicas={replicas}");
        cluster().kubectl_ok(&["scale", "-n", namespace, "deployment/web", &scale]);
        let deployment = eventually("the controller has scaled", CONTROLLED, || {
            let deployment = cluster().get(namespace, "deployment/web");
            let status = &deployment["status"];
            let seen = status["observedGeneration"] == deployment["metadata"]["generation"];
            (seen && status["replicas"] == replicas).then_some(deployment)
        });
        assert!(
            deployment["status"].get("collisionCount").is_none(),
            "{deployment}"
        );
    }
    only_set(namespace)
}

fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap()
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
