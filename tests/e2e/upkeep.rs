//! A release of the chart while it runs: replicas that go, certificates that are replaced or lost, and a trust server that
//! cannot be believed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::load::Load;
use crate::process::eventually;
use crate::release::{CONFIGURATION, IN_FORCE, NAMESPACE, Release, release, signed};
use crate::world::trust;

/// What a replica mends, it mends within a minute (TLS-07, TLS-09).
const MENDED: Duration = Duration::from_secs(60);

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
