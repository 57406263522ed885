//! Pods, as people make them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{eventually, text};
use crate::world::{cluster, front, pod, trust};

/// Verified metadata serves for a while before it is asked for anew.
const PICKED_UP: Duration = Duration::from_secs(150);

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
    let full = |init: &str, volume: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "full", "namespace": "places"},
            "spec": {
                "initContainers": [{"name": "prepare", "image": init}],
                "containers": [{"name": "web", "image": signed, "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
                "volumes": [{"name": "data", "image": {"reference": volume}}],
            },
        })
    };

    for (place, object) in [
        ("prepare", full(&unsigned, &signed)),
        ("data", full(&signed, &unsigned)),
    ] {
        let refusal = cluster().refusal(&object);
        assert!(
            refusal.contains("tag 2.0 is not signed") && refusal.contains(place),
            "{refusal}"
        );
    }
    let stored = cluster().create(&full(&signed, &signed));
    for place in [
        "/spec/initContainers/0/image",
        "/spec/containers/0/image",
        "/spec/volumes/0/image/reference",
    ] {
        assert_eq!(stored.pointer(place).unwrap(), pinned.as_str(), "{place}");
    }

    let debug = |container: &str, image: &str| {
        let (container, image) = (format!("--container={container}"), format!("--image={image}"));
        cluster().kubectl(&[
            "debug",
            "-n",
            "places",
            "full",
            "--attach=false",
            &container,
            &image,
            "--",
            "true",
        ])
    };
    let refused = debug("bad", &unsigned);
    assert!(
        text(&refused.stderr).contains("tag 2.0 is not signed"),
        "{}",
        text(&refused.stderr)
    );
    for container in ["first", "second"] {
        let admitted = debug(container, &signed);
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

#[test]
fn an_update_of_another_field_leaves_images_alone() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "before");
    trust.release(&repository, "1.0", "before", None);
    let (signed, unsigned) = (
        format!("{}:1.0", repository.gun),
        format!("{}:2.0", repository.gun),
    );
    front();
    // Older than the label, so neither pinned nor verified.
    cluster().namespace("before", &[("e2e", "url")]);
    let names = [&signed, &unsigned].map(|image| {
        let pod = cluster().create(&pod("before", image));
        pod["metadata"]["name"].as_str().unwrap().to_owned()
    });
    cluster().kubectl_ok(&["label", "namespace", "before", "countersign.dev/mode=enforce"]);
    eventually("the label takes effect", PICKED_UP, || {
        let output = cluster().kubectl_with(&["create", "--dry-run=server"], &pod("before", "nginx"));
        (!output.status.success()).then_some(())
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
    front().namespace("again", "enforce");
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
        cluster().kubectl_ok(&["get", "pods", "-n", "dry", "-o", "name"]),
        ""
    );
}

fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap()
}
