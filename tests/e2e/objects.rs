//! Objects as people write them. Every Pod among them, or made of them, has one container, `web`.

use serde_json::{Value, json};

/// A Pod with a name of its own.
pub(crate) fn pod(namespace: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "pod-", "namespace": namespace},
        "spec": {"containers": [{"name": "web", "image": image}]},
    })
}

/// A Pod with a name that is known.
pub(crate) fn named_pod(namespace: &str, name: &str, image: &str) -> Value {
    let mut pod = pod(namespace, image);
    pod["metadata"] = json!({"name": name, "namespace": namespace});
    pod
}

/// A Deployment `web`.
pub(crate) fn deployment(namespace: &str, image: &str) -> Value {
    controller(namespace, "apps/v1", "Deployment", &json!({}), image)
}

/// A `StatefulSet` `web`.
pub(crate) fn stateful_set(namespace: &str, image: &str) -> Value {
    controller(
        namespace,
        "apps/v1",
        "StatefulSet",
        &json!({"serviceName": "web"}),
        image,
    )
}

/// A `DaemonSet` `web`.
pub(crate) fn daemon_set(namespace: &str, image: &str) -> Value {
    controller(namespace, "apps/v1", "DaemonSet", &json!({}), image)
}

/// A Job `web`.
pub(crate) fn job(namespace: &str, image: &str) -> Value {
    let mut job = controller(namespace, "batch/v1", "Job", &json!({}), image);
    // A Job makes the selector itself.
    job["spec"].as_object_mut().unwrap().remove("selector");
    job["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    job
}

/// A `CronJob` `web` that is due every minute.
pub(crate) fn cron_job(namespace: &str, image: &str) -> Value {
    let mut spec = job(namespace, image)["spec"].take();
    spec["template"]["metadata"] = json!({"labels": {"app": "CronJob"}});
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "web", "namespace": namespace},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": spec}},
    })
}

fn controller(namespace: &str, api_version: &str, kind: &str, spec: &Value, image: &str) -> Value {
    // Each kind finds its own Pods only.
    let labels = json!({"app": kind});
    let mut object = json!({
        "apiVersion": api_version, "kind": kind, "metadata": {"name": "web", "namespace": namespace}, "spec": spec,
    });
    object["spec"]["selector"] = json!({"matchLabels": labels});
    object["spec"]["template"] = json!({
        "metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": image}]},
    });
    object
}

/// The image of the container of a Pod or of a template.
pub(crate) fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap()
}
