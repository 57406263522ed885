//! Pods that controllers make.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::objects::{cron_job, daemon_set, deployment, image, job, named_pod, stateful_set};
use crate::process::{eventually, text};
use crate::world::{PINNED_TEMPLATES, brisk, cluster, front, trust};

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

    let pod = only_pod("deployed", "Deployment");
    assert_eq!(image(&pod), format!("{tag}@{digest}"));
    let deployment = cluster().get("deployed", "deployment/web");
    assert_eq!(image(&deployment["spec"]["template"]), tag);
    // One rollout, whatever admission does to the Pods.
    assert_eq!(deployment["metadata"]["generation"], 1);
    let set = only_set("deployed");
    assert_eq!(set_after_scaling("deployed"), set);
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
    let tag = format!("{}:1.0", repository.gun);
    front().namespace_with_a_past(namespace, "enforce", || {
        cluster().create(&deployment(namespace, &tag));
        only_set(namespace);
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

#[test]
fn every_kind_of_controller_makes_pods_that_run_what_was_signed() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "kinds");
    let digest = trust.release(&repository, "1.0", "kinds", None);
    let tag = format!("{}:1.0", repository.gun);
    front().namespace("kinds", "enforce");
    // A DaemonSet makes a Pod for each node.
    cluster().node("kinds");
    let mut daemon_set = daemon_set("kinds", &tag);
    daemon_set["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "kinds"});
    for (kind, object) in [
        ("Deployment", deployment("kinds", &tag)),
        ("StatefulSet", stateful_set("kinds", &tag)),
        ("DaemonSet", daemon_set),
        ("Job", job("kinds", &tag)),
    ] {
        cluster().create(&object);
        assert_eq!(
            image(&only_pod("kinds", kind)),
            format!("{tag}@{digest}"),
            "{kind}"
        );
    }
    cluster().kubectl_ok(&["delete", "-n", "kinds", "job/web"]);
    cluster().create(&cron_job("kinds", &tag));
    let pod = eventually("a Pod when the minute is full", 2 * CONTROLLED, || {
        cluster().pods("kinds", "app=CronJob").pop()
    });
    assert_eq!(image(&pod), format!("{tag}@{digest}"));
    cluster().kubectl_ok(&["delete", "-n", "kinds", "cronjob/web"]);
}

#[test]
fn an_old_replica_set_scales_up_with_what_its_tag_means_by_then() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "revisions");
    let first = trust.release(&repository, "1.0", "first", None);
    let other = trust.release(&repository, "2.0", "other", None);
    let [one, two] = ["1.0", "2.0"].map(|tag| format!("{}:{tag}", repository.gun));
    let namespace = "revisions";
    brisk().namespace(namespace, "enforce");
    cluster().create(&deployment(namespace, &one));
    let pod = only_pod(namespace, "Deployment");
    assert_eq!(image(&pod), format!("{one}@{first}"));
    let set = only_set(namespace);

    let second = trust.release(&repository, "1.0", "second", None);
    eventually("the new digest is in force", CONTROLLED, || {
        let output = cluster().kubectl_with(
            &["create", "--dry-run=server", "-o", "json"],
            &named_pod(namespace, "probe", &one),
        );
        text(&output.stdout).contains(&second).then_some(())
    });
    cluster().kubectl_ok(&["scale", "-n", namespace, "deployment/web", "--replicas=2"]);
    let images = || -> BTreeSet<String> {
        let pods = cluster().pods(namespace, "app=Deployment");
        pods.iter().map(|pod| image(pod).to_owned()).collect()
    };
    let both = BTreeSet::from([format!("{one}@{first}"), format!("{one}@{second}")]);
    eventually("a second Pod", CONTROLLED, || (images() == both).then_some(()));
    assert_eq!(only_set(namespace), set);

    cluster().kubectl_ok(&[
        "set",
        "image",
        "-n",
        namespace,
        "deployment/web",
        &format!("web={two}"),
    ]);
    rolled_out(namespace);
    assert_eq!(images(), BTreeSet::from([format!("{two}@{other}")]));
    cluster().kubectl_ok(&["rollout", "undo", "-n", namespace, "deployment/web"]);
    rolled_out(namespace);
    assert_eq!(images(), BTreeSet::from([format!("{one}@{second}")]));
    let sets = cluster().get(namespace, "replicasets");
    let sets = sets["items"].as_array().unwrap();
    assert_eq!(sets.len(), 2, "the old one serves again");
    assert!(sets.iter().any(|it| it["metadata"]["uid"] == set.as_str()));
}

#[test]
fn a_job_that_was_suspended_before_the_label_can_be_resumed() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "suspended");
    let digest = trust.release(&repository, "1.0", "suspended", None);
    let tag = format!("{}:1.0", repository.gun);
    let namespace = "suspended";
    front().namespace_with_a_past(namespace, "enforce", || {
        let mut job = job(namespace, &tag);
        job["spec"]["suspend"] = true.into();
        cluster().create(&job);
    });
    cluster().kubectl_ok(&[
        "patch",
        "-n",
        namespace,
        "job/web",
        "-p",
        r#"{"spec": {"suspend": false}}"#,
    ]);
    assert_eq!(image(&only_pod(namespace, "Job")), format!("{tag}@{digest}"));
    assert_eq!(
        image(&cluster().get(namespace, "job/web")["spec"]["template"]),
        tag
    );
}

#[test]
fn a_deployment_from_before_the_label_is_annotated_without_a_rollout() {
    let trust = trust();
    let unsigned = format!("{}:1.0", trust.gun(&trust.hub, "never-signed"));
    let namespace = "annotated";
    front().namespace_with_a_past(namespace, "enforce", || {
        cluster().create(&deployment(namespace, &unsigned));
        only_pod(namespace, "Deployment");
    });
    let set = only_set(namespace);
    cluster().kubectl_ok(&["annotate", "-n", namespace, "deployment/web", "note=seen"]);
    observed(namespace);
    assert_eq!(only_set(namespace), set);
    let deployment = cluster().get(namespace, "deployment/web");
    assert_eq!(image(&deployment["spec"]["template"]), unsigned);
    assert_eq!(cluster().pods(namespace, "app=Deployment").len(), 1);
}

/// Plays the kubelet until the Deployment's last change is done: its Pods say that they are ready.
fn rolled_out(namespace: &str) {
    let ready = r#"{"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}"#;
    eventually("the rollout is complete", CONTROLLED, || {
        for pod in cluster().pods(namespace, "app=Deployment") {
            let name = format!("pod/{}", pod["metadata"]["name"].as_str()?);
            // It may be gone by now.
            cluster().kubectl(&[
                "patch",
                "-n",
                namespace,
                &name,
                "--subresource=status",
                "-p",
                ready,
            ]);
        }
        let deployment = cluster().get(namespace, "deployment/web");
        let (status, wanted) = (&deployment["status"], &deployment["spec"]["replicas"]);
        let counts = ["replicas", "updatedReplicas", "availableReplicas"];
        let done = counts.iter().all(|count| status[count] == *wanted);
        let seen = status["observedGeneration"] == deployment["metadata"]["generation"];
        (done && seen && cluster().pods(namespace, "app=Deployment").len() as u64 == wanted.as_u64()?)
            .then_some(())
    });
}

/// Waits until the controller has seen the last change of the Deployment, which it never has to make anew.
fn observed(namespace: &str) -> Value {
    let deployment = eventually("the controller has seen the change", CONTROLLED, || {
        let deployment = cluster().get(namespace, "deployment/web");
        let seen = deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"];
        seen.then_some(deployment)
    });
    assert!(
        deployment["status"].get("collisionCount").is_none(),
        "{deployment}"
    );
    deployment
}

/// The one Pod of a controller of this kind, once there is one.
fn only_pod(namespace: &str, kind: &str) -> Value {
    let mut pods = eventually("a Pod", CONTROLLED, || {
        let pods = cluster().pods(namespace, &format!("app={kind}"));
        (!pods.is_empty()).then_some(pods)
    });
    assert_eq!(pods.len(), 1, "{pods:?}");
    pods.remove(0)
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
        eventually("the controller has scaled", CONTROLLED, || {
            (observed(namespace)["status"]["replicas"] == replicas).then_some(())
        });
    }
    only_set(namespace)
}
