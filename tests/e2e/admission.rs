//! Pods, as people make them.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::notary::Publisher;
use crate::objects::{deployment, image, named_pod, pod};
use crate::process::{eventually, text};
use crate::world::{brisk, cluster, front, trust};

/// Verified metadata serves for a second before it is asked for anew; a busy machine may take longer.
const PICKED_UP: Duration = Duration::from_secs(30);

#[test]
fn a_signed_tag_is_pinned_to_the_digest_that_was_signed() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "pinned");
    let digest = trust.release(&repository, "1.0", "pinned", None);
    front().namespace("pinned", "enforce");
    let tag = format!("{}:1.0", repository.gun);
    let pod = cluster().create(&pod("pinned", &tag));
    assert_eq!(image(&pod), format!("{tag}@{digest}"));
}

#[test]
fn an_unsigned_tag_is_denied_with_a_text_that_helps() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "unsigned");
    trust.release(&repository, "1.0", "signed", None);
    trust.registry.push("hub/unsigned", "1.1", "not signed");
    front().namespace("unsigned", "enforce");
    let gun = &repository.gun;
    let refusal = cluster().refusal(&pod("unsigned", &format!("{gun}:1.1")));
    let server = trust.hub.server.url();
    let server = server.trim_start_matches("https://");
    for part in [
        "Error from server (Forbidden)".to_owned(),
        r#"admission webhook "validate.countersign.dev" denied the request"#.to_owned(),
        format!(r#"container "web": {gun}:1.1 is not trusted: tag 1.1 is not signed in {gun}"#),
        format!("(policy default, rule 1, verifier hub at {server})"),
        "signed tags: 1.0".to_owned(),
    ] {
        assert!(refusal.contains(&part), "{part} is not in {refusal}");
    }
}

#[test]
fn a_repository_without_trust_data_is_denied() {
    let trust = trust();
    front().namespace("unknown", "enforce");
    let gun = trust.gun(&trust.hub, "never-initialised");
    let refusal = cluster().refusal(&pod("unknown", &format!("{gun}:1.0")));
    assert!(refusal.contains("is not trusted"), "{refusal}");
}

#[test]
fn a_rule_decides_alone_where_it_asks_for_no_signature() {
    front().namespace("rules", "enforce");
    let pause = cluster().create(&pod("rules", "registry.k8s.io/pause:3.10"));
    assert_eq!(image(&pause), "registry.k8s.io/pause:3.10");
    let refusal = cluster().refusal(&pod("rules", "nginx"));
    assert!(refusal.contains("only images of the tests run here"), "{refusal}");
}

#[test]
fn a_namespace_without_the_label_is_left_alone() {
    front();
    cluster().namespace("unlabelled", &[("e2e", "url")]);
    let pod = cluster().create(&pod("unlabelled", "nginx"));
    assert_eq!(image(&pod), "nginx");
}

#[test]
fn init_ephemeral_and_volume_images_are_judged_like_others() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "places");
    let digest = trust.release(&repository, "1.0", "places", None);
    let (signed, unsigned) = (
        format!("{}:1.0", repository.gun),
        format!("{}:2.0", repository.gun),
    );
    let pinned = format!("{signed}@{digest}");
    front().namespace("places", "enforce");
    let full = |init: &str, sidecar: &str, volume: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "full", "namespace": "places"},
            "spec": {
                "initContainers": [
                    {"name": "prepare", "image": init},
                    {"name": "sidecar", "image": sidecar, "restartPolicy": "Always"},
                ],
                "containers": [{"name": "web", "image": signed, "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
                "volumes": [{"name": "data", "image": {"reference": volume}}],
            },
        })
    };

    for (place, object) in [
        ("prepare", full(&unsigned, &signed, &signed)),
        ("sidecar", full(&signed, &unsigned, &signed)),
        ("data", full(&signed, &signed, &unsigned)),
    ] {
        let refusal = cluster().refusal(&object);
        assert!(
            refusal.contains("tag 2.0 is not signed") && refusal.contains(place),
            "{refusal}"
        );
    }
    let stored = cluster().create(&full(&signed, &signed, &signed));
    for place in [
        "/spec/initContainers/0/image",
        "/spec/initContainers/1/image",
        "/spec/containers/0/image",
        "/spec/volumes/0/image/reference",
    ] {
        assert_eq!(stored.pointer(place).unwrap(), pinned.as_str(), "{place}");
    }

    let refused = debug("places", "full", "bad", &unsigned);
    assert!(
        text(&refused.stderr).contains("tag 2.0 is not signed"),
        "{}",
        text(&refused.stderr)
    );
    for container in ["first", "second"] {
        let admitted = debug("places", "full", container, &signed);
        assert!(admitted.status.success(), "{}", text(&admitted.stderr));
    }
    let stored = cluster().get("places", "pod/full");
    for index in 0..2 {
        assert_eq!(
            stored["spec"]["ephemeralContainers"][index]["image"],
            pinned.as_str()
        );
    }
}

/// `kubectl debug`.
fn debug(namespace: &str, pod: &str, container: &str, image: &str) -> Output {
    let (container, image) = (format!("--container={container}"), format!("--image={image}"));
    let what = ["debug", "-n", namespace, pod, "--attach=false"];
    cluster().kubectl(&[&what[..], &[&container, &image, "--", "true"]].concat())
}

#[test]
fn a_debug_container_from_before_the_label_stays_as_it_is_when_another_joins_it() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "debugged");
    let digest = trust.release(&repository, "1.0", "debugged", None);
    let tag = format!("{}:1.0", repository.gun);
    let namespace = "debugged";
    front().namespace_with_a_past(namespace, "enforce", || {
        cluster().create(&named_pod(namespace, "old", "nginx"));
        assert!(debug(namespace, "old", "first", &tag).status.success());
    });
    let admitted = debug(namespace, "old", "second", &tag);
    assert!(admitted.status.success(), "{}", text(&admitted.stderr));
    let stored = cluster().get(namespace, "pod/old");
    let image_of = |index: usize| &stored["spec"]["ephemeralContainers"][index]["image"];
    assert_eq!(
        (image_of(0), image_of(1)),
        (&json!(tag), &json!(format!("{tag}@{digest}")))
    );
    assert_eq!(image(&stored), "nginx");
}

#[test]
fn a_pod_applied_again_in_its_tag_form_stays_as_it_is_stored() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "reapplied");
    let digest = trust.release(&repository, "1.0", "reapplied", None);
    let tag = format!("{}:1.0", repository.gun);
    front().namespace("reapplied", "enforce");
    let written = named_pod("reapplied", "web", &tag);
    for _ in 0..2 {
        cluster().apply(&written);
        let stored = cluster().get("reapplied", "pod/web");
        assert_eq!(image(&stored), format!("{tag}@{digest}"));
        assert_eq!(stored["metadata"]["generation"], 1);
    }
}

#[test]
fn a_short_name_is_pinned_with_its_registry_and_its_tag() {
    let trust = trust();
    let gun = "docker.io/library/countersign-e2e";
    let repository = Publisher::new(&trust.hub.server, trust.hub.name, gun);
    repository.init();
    let image_of_it = trust.registry.push("hub/short", "1.0", "short");
    repository.sign("1.0", &image_of_it, None);
    repository.sign("latest", &image_of_it, None);
    front().namespace("short", "enforce");
    for (written, tag) in [("countersign-e2e:1.0", "1.0"), ("countersign-e2e", "latest")] {
        let stored = cluster().create(&pod("short", written));
        assert_eq!(image(&stored), format!("{gun}:{tag}@{}", image_of_it.digest));
    }
}

#[test]
fn owners_are_no_evidence() {
    let trust = trust();
    let unsigned = format!("{}:1.0", trust.gun(&trust.hub, "owned"));
    front().namespace("owned", "enforce");
    cluster().create(&deployment("owned", &unsigned));
    let real = cluster().get("owned", "deployment/web");
    for (kind, uid) in [
        ("Deployment", &real["metadata"]["uid"]),
        ("ReplicaSet", &json!("made-up")),
    ] {
        let mut pod = pod("owned", &unsigned);
        pod["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "apps/v1", "kind": kind, "name": "web", "uid": uid, "controller": true}]);
        let refusal = cluster().refusal(&pod);
        assert!(refusal.contains("is not trusted"), "{kind}: {refusal}");
    }
}

#[test]
fn an_update_of_another_field_leaves_images_alone() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "before");
    trust.release(&repository, "1.0", "before", None);
    let (signed, unsigned) = (
        format!("{}:1.0", repository.gun),
        format!("{}:2.0", repository.gun),
    );
    let mut names = Vec::new();
    front().namespace_with_a_past("before", "enforce", || {
        for image in [&signed, &unsigned] {
            let pod = cluster().create(&pod("before", image));
            names.push(pod["metadata"]["name"].as_str().unwrap().to_owned());
        }
    });

    for (name, image) in names.iter().zip([&signed, &unsigned]) {
        cluster().kubectl_ok(&["annotate", "-n", "before", "pod", name, "note=seen"]);
        cluster().kubectl_ok(&["label", "-n", "before", "pod", name, "seen=yes"]);
        let stored = cluster().get("before", &format!("pod/{name}"));
        assert_eq!(stored["spec"]["containers"][0]["image"], image.as_str());
        let change = format!("web={}:3.0", repository.gun);
        let refused = cluster().kubectl(&["set", "image", "-n", "before", &format!("pod/{name}"), &change]);
        assert!(
            text(&refused.stderr).contains("tag 3.0 is not signed"),
            "{}",
            text(&refused.stderr)
        );
        cluster().kubectl_ok(&[
            "delete",
            "-n",
            "before",
            "pod",
            name,
            "--grace-period=0",
            "--force",
        ]);
    }
}

#[test]
fn a_digest_is_admitted_only_if_it_is_signed() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "digests");
    let signed = trust.release(&repository, "1.0", "signed", None);
    let other = trust.release(&repository, "1.1", "signed as well", None);
    let unsigned = trust.registry.push("hub/digests", "2.0", "not signed").digest;
    front().namespace("digests", "enforce");
    let gun = &repository.gun;
    for good in [format!("{gun}@{signed}"), format!("{gun}:1.1@{other}")] {
        let pod = cluster().create(&pod("digests", &good));
        assert_eq!(image(&pod), good);
    }
    for (bad, what) in [
        (format!("{gun}@{unsigned}"), "a digest that nobody signed"),
        (format!("{gun}:1.0@{other}"), "a signed digest under another tag"),
    ] {
        let refusal = cluster().refusal(&pod("digests", &bad));
        assert!(refusal.contains("is not trusted"), "{what}: {refusal}");
    }
}

#[test]
fn a_tag_that_is_signed_again_or_revoked_is_picked_up() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "again");
    let first = trust.release(&repository, "1.0", "first", None);
    trust.release(&repository, "old", "old", None);
    brisk().namespace("again", "enforce");
    let tag = format!("{}:1.0", repository.gun);
    assert_eq!(
        image(&cluster().create(&pod("again", &tag))),
        format!("{tag}@{first}")
    );

    let second = trust.release(&repository, "1.0", "second", None);
    repository.revoke("old");
    eventually("the new digest is in force", PICKED_UP, || {
        (image(&cluster().create(&pod("again", &tag))) == format!("{tag}@{second}")).then_some(())
    });
    let refusal = cluster().refusal(&pod("again", &format!("{}:old", repository.gun)));
    assert!(refusal.contains("is not trusted"), "{refusal}");
    // A replica that has not asked since may pin the first digest for a while, so it passes as long.
    eventually("the old digest is refused", PICKED_UP, || {
        cluster().refused(&pod("again", &format!("{tag}@{first}")))
    });
}

#[test]
fn delegations_count_and_every_signer_asked_for_must_have_signed() {
    let trust = trust();
    let repository = trust.repository(&trust.team, "app");
    repository.add_signer(&trust.alice);
    repository.add_signer(&trust.bob);
    let digest = trust.release(
        &repository,
        "1.0",
        "by alice",
        Some("targets/alice,targets/releases"),
    );
    trust.release(&repository, "1.1", "by bob", Some("targets/bob,targets/releases"));
    trust.release(&repository, "1.2", "not released", Some("targets/alice"));
    front().namespace("delegations", "enforce");
    let tag = format!("{}:1.0", repository.gun);
    assert_eq!(
        image(&cluster().create(&pod("delegations", &tag))),
        format!("{tag}@{digest}")
    );
    for (tag, why) in [("1.1", "alice"), ("1.2", "is not signed")] {
        let refusal = cluster().refusal(&pod("delegations", &format!("{}:{tag}", repository.gun)));
        assert!(refusal.contains(why), "{tag}: {refusal}");
    }
}

#[test]
fn a_trust_server_that_asks_for_a_token_gets_one() {
    let trust = trust();
    let repository = trust.repository(&trust.private, "app");
    let digest = trust.release(&repository, "1.0", "private", None);
    front().namespace("private", "enforce");
    let tag = format!("{}:1.0", repository.gun);
    assert_eq!(
        image(&cluster().create(&pod("private", &tag))),
        format!("{tag}@{digest}")
    );
}

#[test]
fn a_dry_run_is_pinned_and_denied_like_the_real_thing_and_keeps_nothing() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "dry");
    let digest = trust.release(&repository, "1.0", "dry", None);
    front().namespace("dry", "enforce");
    let dry = ["create", "--dry-run=server", "-o", "json"];
    let tag = format!("{}:1.0", repository.gun);
    let output = cluster().kubectl_with(&dry, &pod("dry", &tag));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(image(&answer), format!("{tag}@{digest}"));
    let refused = cluster().kubectl_with(&dry, &pod("dry", &format!("{}:2.0", repository.gun)));
    assert!(text(&refused.stderr).contains("tag 2.0 is not signed"));
    assert_eq!(
        cluster().kubectl_ok(&["get", "pods,events", "-n", "dry", "-o", "name"]),
        ""
    );
}
