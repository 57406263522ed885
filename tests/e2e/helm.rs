//! The chart, from its installation to its end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::load::Load;
use crate::objects::{deployment, named_pod, pod};
use crate::process::{self, eventually, text};
use crate::release::{CONFIGURATION, IN_FORCE, NAME, NAMESPACE, ROLLED_OUT, Release, release};
use crate::world::{trust, verifier};

/// What a replica mends, it mends within a minute (TLS-07, TLS-09).
const MENDED: Duration = Duration::from_secs(60);
const DELETE_CONFIGURATIONS: [&str; 4] = [
    "delete",
    "validatingwebhookconfiguration,mutatingwebhookconfiguration",
    "-l",
    "app.kubernetes.io/instance=countersign",
];

/// A repository with one signed tag: the tag's reference, and the pinned one.
fn signed(name: &str) -> (String, String) {
    let trust = trust();
    let repository = trust.repository(&trust.hub, name);
    let digest = trust.release(&repository, "1.0", name, None);
    let tag = format!("{}:1.0", repository.gun);
    (tag.clone(), format!("{tag}@{digest}"))
}

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
fn replicas_that_are_all_lost_at_once_come_back_although_their_namespace_is_labelled() {
    let (tag, pinned) = signed("lost");
    let release = release();
    release.namespace("lost", "enforce");
    let before = release.pods();
    let delete = [
        "delete",
        "pods",
        "-n",
        NAMESPACE,
        "--all",
        "--force",
        "--grace-period=0",
    ];
    release.cluster.kubectl_ok(&delete);
    release.await_served();
    let uids = |pods: &[Value]| -> Vec<_> { pods.iter().map(|pod| pod["metadata"]["uid"].clone()).collect() };
    let after = uids(&release.pods());
    assert!(uids(&before).iter().all(|uid| !after.contains(uid)));
    assert_eq!(release.verdict("lost", &tag), Ok(pinned));
}

#[test]
fn a_rollout_and_a_drain_under_load_fail_not_one_request() {
    let (tag, pinned) = signed("rolling");
    let release = release();
    release.namespace("rolling", "enforce");
    Load::during(&release.cluster, "rolling", &tag, &pinned, |load| {
        release
            .cluster
            .kubectl_ok(&["rollout", "restart", "-n", NAMESPACE, "deployment/countersign"]);
        release.await_served();
        load.await_more();
        let old = release.pods();
        // It asks for evictions until the disruption budget grants them.
        let drain = [
            "drain",
            "kubelet",
            "--delete-emptydir-data",
            "--timeout=120s",
            "--pod-selector",
        ];
        release
            .cluster
            .kubectl_ok(&[&drain[..], &["app.kubernetes.io/component=webhook"]].concat());
        release.cluster.kubectl_ok(&["uncordon", "kubelet"]);
        release.await_served();
        let new = release.pods();
        assert!(old.iter().all(|old| {
            new.iter()
                .all(|new| new["metadata"]["uid"] != old["metadata"]["uid"])
        }));
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
    await_rollout(&release);
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

fn await_rollout(release: &Release) {
    let timeout = format!("--timeout={}s", ROLLED_OUT.as_secs());
    let rollout = [
        "rollout",
        "status",
        "-n",
        NAMESPACE,
        "deployment/countersign",
        &timeout,
    ];
    release.cluster.kubectl_ok(&rollout);
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
}

#[test]
fn the_tests_of_the_chart_pass() {
    let release = release();
    let printed = release.helm(&["test", NAME, "--timeout=60s"]);
    assert!(printed.contains("Succeeded"), "{printed}");
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

/// The `caBundle`s of all entries.
fn bundles(release: &Release) -> Vec<String> {
    ["mutating", "validating"]
        .into_iter()
        .flat_map(|kind| {
            let object = release
                .cluster
                .get("default", &format!("{kind}webhookconfiguration/{CONFIGURATION}"));
            let entries = object["webhooks"].as_array().unwrap().clone();
            entries.into_iter().map(|entry| {
                entry["clientConfig"]["caBundle"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
        })
        .collect()
}

/// The Secret with the authority, as it is stored.
fn authority(release: &Release) -> Value {
    release.cluster.get(NAMESPACE, "secret/countersign-ca")["data"].clone()
}

#[test]
fn what_is_lost_or_damaged_of_the_certificates_is_mended_within_a_minute() {
    let (tag, pinned) = signed("mended");
    let release = release();
    release.namespace("mended", "enforce");
    let good = bundles(&release);
    assert!(
        good.iter().all(|bundle| *bundle == good[0] && !bundle.is_empty()),
        "{good:?}"
    );

    let foreign = crate::pki::authority_pem();
    let foreign = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, foreign);
    let patch =
        json!([{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": foreign}]).to_string();
    let target = format!("validatingwebhookconfiguration/{CONFIGURATION}");
    release
        .cluster
        .kubectl_ok(&["patch", &target, "--type=json", "-p", &patch]);
    eventually("the bundle is ours again", MENDED, || {
        (bundles(&release) == good).then_some(())
    });

    let lost = authority(&release);
    release
        .cluster
        .kubectl_ok(&["delete", "-n", NAMESPACE, "secret/countersign-ca"]);
    eventually("there is another authority", MENDED, || {
        let found = release
            .cluster
            .kubectl(&["get", "-n", NAMESPACE, "secret/countersign-ca"]);
        (found.status.success() && authority(&release) != lost).then_some(())
    });
    eventually("Pods are judged", MENDED, || {
        (release.verdict("mended", &tag) == Ok(pinned.clone())).then_some(())
    });
    release.assert_sound();
}

#[test]
fn an_authority_is_replaced_under_load_without_a_failed_request() {
    let (tag, pinned) = signed("rotated");
    let release = release();
    release.namespace("rotated", "enforce");
    // A twelfth of the authority's life is what a new one is announced for.
    release.upgrade(&json!({"certificates": {"selfManaged": {"caLifetime": "6m", "leafLifetime": "1m"}}}));
    // One that was lost a moment ago has a successor that signs only when it is known everywhere.
    let signing = || authority(&release)["tls.crt"].as_str().map(str::to_owned);
    let old = eventually("an authority signs", 2 * MENDED, signing);
    let alone = bundles(&release);
    Load::during(&release.cluster, "rotated", &tag, &pinned, |load| {
        let annotate = [
            "annotate",
            "-n",
            NAMESPACE,
            "secret/countersign-ca",
            "countersign.dev/rotate=now",
        ];
        release.cluster.kubectl_ok(&annotate);
        eventually("both authorities are trusted", MENDED, || {
            let bundles = bundles(&release);
            bundles
                .iter()
                .zip(&alone)
                .all(|(now, before)| now.len() > before.len())
                .then_some(())
        });
        assert_eq!(
            authority(&release)["tls.crt"],
            old,
            "the old one signs until the new one is known"
        );
        eventually("the new one signs", MENDED, || {
            (authority(&release)["tls.crt"] != old).then_some(())
        });
        load.await_more();
        load.await_more();
    });
    release.assert_sound();
}

#[test]
fn a_trust_server_that_goes_back_in_time_is_refused_by_every_replica_even_after_all_restarted() {
    let trust = trust();
    let release = release();
    let namespace = "rolled-back";
    release.namespace(namespace, "enforce");
    let repository = trust.repository(&release.past, "app");
    let digest = trust.release(&repository, "1.0", "good", None);
    let vulnerable = trust.release(&repository, "old", "vulnerable", None);
    let past = release.past.server.stored();
    repository.revoke("old");
    let pinned = format!("{}:1.0@{digest}", repository.gun);
    let revoked = format!("{}:old@{vulnerable}", repository.gun);
    let replicas = release.kubelet.backends();
    let [one, _] = replicas[..] else {
        panic!("{replicas:?}")
    };
    assert_eq!(release.verdict_of(one, namespace, &pinned)["allowed"], true);
    assert_eq!(release.verdict_of(one, namespace, &revoked)["allowed"], false);

    release.past.server.go_back_to(&past);
    // What is denied at first because it was revoked, is denied later because the server is not believed.
    let refuse = |what: &str| {
        for replica in release.kubelet.backends() {
            eventually(what, IN_FORCE, || {
                let answer = release.verdict_of(replica, namespace, &revoked);
                assert_eq!(answer["allowed"], false, "{answer}");
                let said = answer["status"]["message"].as_str().unwrap();
                said.contains("was seen before").then_some(())
            });
        }
    };
    refuse("both replicas notice, also the one that never asked the server before");
    release.cluster.kubectl_ok(&[
        "delete",
        "pods",
        "-n",
        NAMESPACE,
        "--all",
        "--force",
        "--grace-period=0",
    ]);
    release.await_served();
    refuse("those that were not there before notice too");
    release.assert_sound();
}
