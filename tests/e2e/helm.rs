//! The chart, from its installation to its end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::objects::{deployment, named_pod, pod};
use crate::process::{self, eventually, text};
use crate::release::{IN_FORCE, NAME, NAMESPACE, release, signed};
use crate::world::{trust, verifier};

const DELETE_CONFIGURATIONS: [&str; 4] = [
    "delete",
    "validatingwebhookconfiguration,mutatingwebhookconfiguration",
    "-l",
    "app.kubernetes.io/instance=countersign",
];

#[test]
fn an_installed_release_does_in_each_namespace_what_its_label_asks_for() {
    let (tag, pinned) = signed("installed");
    let unsigned = tag.replace(":1.0", ":2.0");
    let release = release();
    for (namespace, mode) in [
        ("enforced", "enforce"),
        ("audited", "audit"),
        ("left-out", "off"),
        ("unlabelled", ""),
    ] {
        release.namespace(namespace, mode);
    }
    assert_eq!(release.verdict("enforced", &tag), Ok(pinned));
    let refusal = release.verdict("enforced", &unsigned).unwrap_err();
    for part in [
        "Error from server (Forbidden)",
        r#"admission webhook "validate.countersign.dev" denied the request"#,
        "tag 2.0 is not signed",
        "(policy default, rule 1, verifier hub at ",
    ] {
        assert!(refusal.contains(part), "{part} is not in {refusal}");
    }
    for (namespace, warns) in [("audited", true), ("left-out", false), ("unlabelled", false)] {
        let output = release
            .cluster
            .kubectl_with(&["create"], &named_pod(namespace, "web", &unsigned));
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(
            said.contains("Warning: ") && said.contains("tag 2.0 is not signed"),
            warns,
            "{namespace}: {said}"
        );
        let stored = release.cluster.get(namespace, "pod/web");
        assert_eq!(stored["spec"]["containers"][0]["image"], unsigned.as_str());
    }
    for namespace in ["enforced", "audited"] {
        let said = release.cluster.apply(&deployment(namespace, &unsigned));
        assert!(
            said.contains("Warning: ") && said.contains("tag 2.0 is not signed"),
            "{namespace}: {said}"
        );
    }
    release.assert_sound();
}

#[test]
fn a_policy_of_the_cluster_takes_the_place_of_the_default_while_it_is_there() {
    let (tag, pinned) = signed("policies");
    let release = release();
    release.namespace("policies", "enforce");
    let becomes =
        |what: &str, wanted: &dyn Fn() -> bool| eventually(what, IN_FORCE, || wanted().then_some(()));
    assert_eq!(release.verdict("policies", &tag), Ok(pinned.clone()));
    let mut policy = json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy", "metadata": {"name": "own"},
        "spec": {"rules": [{"images": ["**"], "deny": {"message": "nothing runs here"}}]},
    });
    release.cluster.apply(&policy);
    let denied = |why: &str| {
        release
            .verdict("policies", &tag)
            .is_err_and(|said| said.contains(why))
    };
    becomes("the policy is in force", &|| denied("nothing runs here"));
    policy["spec"]["verifiers"] = json!([verifier(&trust().hub)]);
    policy["spec"]["rules"] = json!([{"images": ["**"], "verify": {"anyOf": ["hub"]}}]);
    release.cluster.apply(&policy);
    becomes("the edit is in force", &|| {
        release.verdict("policies", &tag) == Ok(pinned.clone())
    });
    assert!(release.verdict("policies", "registry.k8s.io/pause:3.10").is_err());
    release
        .cluster
        .kubectl_ok(&["delete", "clustertrustpolicy", "own"]);
    becomes("the default is back", &|| {
        release.verdict("policies", "registry.k8s.io/pause:3.10").is_ok()
    });
    release.assert_sound();
}

#[test]
fn an_upgrade_changes_what_it_says_and_the_second_one_nothing_and_a_rollback_takes_it_back() {
    let (tag, pinned) = signed("upgraded");
    let unsigned = tag.replace(":1.0", ":2.0");
    let release = release();
    release.namespace("upgraded", "enforce");
    let before = release.objects();
    assert!(before.len() > 15, "{before:?}");
    release.upgrade_only(&json!({}));
    assert_eq!(release.objects(), before, "nothing was to change");

    let status: Value = serde_json::from_str(&release.helm(&["status", NAME, "-o", "json"])).unwrap();
    let revision = status["version"].to_string();
    let audit = json!({"mode": "audit"});
    release.upgrade_only(&audit);
    release.await_rollout();
    // Neither policies nor labels make the webhook deny now.
    eventually("nothing is denied", IN_FORCE, || {
        release.verdict("upgraded", &unsigned).ok()
    });
    let changed = release.objects();
    assert_ne!(changed, before);
    release.upgrade_only(&audit);
    assert_eq!(release.objects(), changed, "nothing was to change");

    release.helm(&["rollback", NAME, &revision]);
    release.await_served();
    assert_eq!(release.verdict("upgraded", &tag), Ok(pinned));
    assert!(release.verdict("upgraded", &unsigned).is_err());
    release.assert_sound();
}

#[test]
fn what_is_rendered_can_be_applied_by_others_twice_without_a_conflict_or_a_change() {
    let release = release();
    let rendered = release.render(&json!({}));
    assert_eq!(release.render(&json!({})), rendered);
    // All but the Pod of `helm test`, which is made for each test.
    let lasting: Vec<_> = rendered
        .split("\n---\n")
        .filter(|object| !object.contains("helm.sh/hook: test"))
        .collect();
    let file = process::write("helm/rendered.yaml", lasting.join("\n---\n"));
    let apply = [
        "apply",
        "--server-side",
        "-n",
        NAMESPACE,
        "-f",
        file.to_str().unwrap(),
    ];
    release.cluster.kubectl_ok(&apply);
    let applied = release.objects();
    release.cluster.kubectl_ok(&apply);
    assert_eq!(release.objects(), applied);
    release.upgrade(&json!({}));
    assert_eq!(release.objects(), applied);

    // What others applied they own as well, and would hold against the next change: the release begins anew.
    release.assert_sound();
    release.helm(&["uninstall", NAME]);
    release.upgrade(&json!({}));
    release.overlook();
}

#[test]
fn the_tests_of_the_chart_pass() {
    let release = release();
    let printed = release.helm(&["test", NAME, "--timeout=60s"]);
    assert!(printed.contains("Succeeded"), "{printed}");
    // A Job asks the same after an upgrade, which waits for it.
    release.upgrade(&json!({"startupCheck": {"enabled": true}}));
    release.upgrade(&json!({}));
    release.assert_sound();
}

#[test]
fn the_registration_can_be_taken_away_and_comes_back_with_an_upgrade() {
    let (tag, pinned) = signed("taken-away");
    let release = release();
    release.namespace("taken-away", "enforce");
    release.cluster.kubectl_ok(&DELETE_CONFIGURATIONS);
    eventually("nothing is judged", IN_FORCE, || {
        (release.verdict("taken-away", "nginx") == Ok("nginx".to_owned())).then_some(())
    });
    release.upgrade(&json!({}));
    assert_eq!(release.verdict("taken-away", &tag), Ok(pinned));
    release.assert_sound();
}

#[test]
fn an_uninstalled_release_leaves_definitions_and_policies_and_stands_in_nobody_s_way() {
    let (tag, pinned) = signed("uninstalled");
    let release = release();
    let cluster = &release.cluster;
    release.namespace("uninstalled", "enforce");
    let policy = json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy", "metadata": {"name": "kept"},
        "spec": {
            "verifiers": [verifier(&trust().hub)],
            "rules": [{"images": [format!("{}/hub/**", trust().registry.host)], "verify": {"anyOf": ["hub"]}}],
        },
    });
    cluster.apply(&policy);
    release.assert_sound();
    release.helm(&["uninstall", NAME]);
    let configurations = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
    let left = |kinds: &str| {
        cluster.kubectl_ok(&[
            "get",
            kinds,
            "-A",
            "-o",
            "name",
            "-l",
            "app.kubernetes.io/instance=countersign",
        ])
    };
    assert_eq!(left(configurations), "");
    eventually("Pods can be made", Duration::from_secs(5), || {
        let made = cluster.kubectl_with(&["create"], &pod("uninstalled", "nginx"));
        made.status.success().then_some(())
    });
    assert_eq!(
        left(
            "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
        ),
        ""
    );
    assert_eq!(
        left("deployments,services,serviceaccounts,roles,rolebindings,configmaps,poddisruptionbudgets"),
        ""
    );
    assert_eq!(left("customresourcedefinitions").lines().count(), 3);
    assert_eq!(
        cluster.get("default", "clustertrustpolicy/kept")["spec"]["rules"],
        policy["spec"]["rules"]
    );

    release.upgrade(&json!({}));
    assert_eq!(release.verdict("uninstalled", &tag), Ok(pinned));
    assert!(
        release
            .verdict("uninstalled", "registry.k8s.io/pause:3.10")
            .is_err(),
        "the policy is in force again"
    );
    cluster.kubectl_ok(&["delete", "clustertrustpolicy", "kept"]);
    // While they ended, the replicas had no roles any more.
    release.overlook();
}
