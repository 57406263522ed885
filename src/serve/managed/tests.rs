//! Replicas against one API server that is played here, with as much of a cluster as certificates need.

mod played;
mod replicas;

use serde_json::json;

use self::played::{Played, count, foreign, start};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn lifetimes() -> Lifetimes {
    Lifetimes::default()
}

fn replica(played: &Played) -> Managed {
    let names = vec!["countersign.release.svc".to_owned()];
    Managed::new(played.store(), names, lifetimes(), Arc::default())
}

fn issuer(replica: &Managed) -> Option<CertificateDer<'static>> {
    replica.leaf.as_ref().map(|leaf| leaf.issuer.clone())
}

#[tokio::test(start_paused = true)]
async fn a_cluster_with_nothing_in_it_gets_everything_in_one_turn() {
    let played = Played::new();
    let mut replica = replica(&played);
    let current = replica.turn(start()).await.unwrap();
    assert_eq!(current.authority.unwrap().to_string(), "2027-11-22T12:00:00Z");
    let leaf = read_certificates(&current.chain).remove(0);
    let life = tls::life(&leaf).unwrap();
    assert_eq!(life.not_before.to_string(), "2026-11-22T11:55:00Z");
    assert_eq!(life.not_after.to_string(), "2026-11-29T12:00:00Z");
    let secret = played.secret().unwrap();
    assert_eq!(secret["type"], "Opaque");
    let keys: Vec<_> = secret["data"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["ca.crt", "tls.crt", "tls.key"]);
    assert_eq!(played.bundles(), vec![secret["data"]["ca.crt"].clone(); 3]);
    let writes = played.writes();
    assert_eq!(writes, 3, "the Secret and two configurations");
    let again = replica.turn(start()).await.unwrap();
    assert!(
        again.chain == current.chain && played.writes() == writes,
        "a second turn writes nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn an_empty_secret_that_is_there_already_is_filled() {
    let played = Played::new();
    played
        .lock()
        .put_secret(json!({"metadata": {"name": "ca", "labels": {"made-by": "the chart"}}}));
    let mut replica = replica(&played);
    assert!(replica.turn(start()).await.is_some());
    let secret = played.secret().unwrap();
    assert_eq!(secret["metadata"]["labels"], json!({"made-by": "the chart"}));
    assert_eq!(played.bundles(), vec![secret["data"]["ca.crt"].clone(); 3]);
    assert_eq!(
        count(
            &replica,
            "countersign_certificate_authority_changes_total",
            "founded"
        ),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn replicas_that_start_at_once_agree_on_one_authority() {
    let played = Played::new();
    played.lock().meet = 2;
    let (mut one, mut other) = (replica(&played), replica(&played));
    let (first, second) = tokio::join!(one.turn(start()), other.turn(start()));
    assert!(first.is_some() && second.is_some());
    assert_eq!(issuer(&one), issuer(&other));
    assert_eq!(
        played.lock().conflicts.first(),
        Some(&("POST", "secrets")),
        "one of them came second"
    );
    assert_ne!(
        first.unwrap().key,
        second.unwrap().key,
        "each has a key of its own"
    );
}

#[tokio::test(start_paused = true)]
async fn an_update_that_lost_a_race_is_made_again_from_what_is_there() {
    let played = Played::new();
    let mut replica = replica(&played);
    replica.turn(start()).await.unwrap();
    let before = issuer(&replica);
    played.annotate(crate::cluster::ROTATE);
    // Somebody writes the Secret, and then a configuration, between our reading and our writing.
    played.lock().interfere = vec!["secrets", "mutatingwebhookconfigurations"];
    replica.turn(start()).await.unwrap();
    assert_eq!(
        played.lock().conflicts,
        [("PATCH", "secrets"), ("PATCH", "mutatingwebhookconfigurations")]
    );
    let secret = played.secret().unwrap();
    assert!(secret["data"]["next.crt"].is_string());
    assert_eq!(secret["data"]["somebody"], "ZWxzZQ==", "what is not ours stays");
    assert_eq!(secret["metadata"]["annotations"], json!({"somebody": "else"}));
    assert_eq!(played.bundles(), vec![secret["data"]["ca.crt"].clone(); 3]);
    assert_eq!(issuer(&replica), before, "announced, not yet in use");
}

#[tokio::test(start_paused = true)]
async fn a_forced_rotation_waits_until_every_entry_has_trusted_the_next_for_a_minute() {
    let played = Played::new();
    let mut replica = replica(&played);
    replica.turn(start()).await.unwrap();
    let before = issuer(&replica);
    played.annotate(crate::cluster::ROTATE);
    replica.turn(start()).await.unwrap();
    for _ in 0..59 {
        tokio::time::advance(Duration::from_secs(1)).await;
        replica.turn(start()).await.unwrap();
        assert_eq!(issuer(&replica), before);
    }
    // It begins anew if an entry loses it meanwhile.
    played.lock().set_bundle(0, json!(""));
    replica.turn(start()).await.unwrap();
    for _ in 0..59 {
        tokio::time::advance(Duration::from_secs(1)).await;
        replica.turn(start()).await.unwrap();
        assert_eq!(issuer(&replica), before);
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    replica.turn(start()).await.unwrap();
    assert_ne!(issuer(&replica), before);
    let bundle = played.trusted_everywhere();
    assert!(
        bundle.len() == 2 && bundle.contains(&before.unwrap()),
        "the old one stays"
    );
}

#[tokio::test(start_paused = true)]
async fn a_foreign_bundle_is_corrected_and_counted() {
    let played = Played::new();
    let mut replica = replica(&played);
    replica.turn(start()).await.unwrap();
    for (reason, bundle) in [
        ("foreign", json!("Zm9yZWlnbg==")),
        ("foreign", foreign()),
        ("missing", json!(null)),
    ] {
        let before = count(&replica, "countersign_ca_bundle_writes_total", reason);
        let right = played.bundles();
        played.lock().set_bundle(1, bundle.clone());
        replica.turn(start()).await.unwrap();
        assert_eq!(played.bundles(), right, "{bundle}");
        let after = count(&replica, "countersign_ca_bundle_writes_total", reason);
        assert_eq!(after, before + 1, "{bundle}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_secret_is_made_again_while_leaves_stay_trusted() {
    for lost in [None, Some(json!("")), Some(json!("Z2FyYmFnZQ=="))] {
        let played = Played::new();
        let (mut one, mut other) = (replica(&played), replica(&played));
        one.turn(start()).await.unwrap();
        other.turn(start()).await.unwrap();
        let before = issuer(&one).unwrap();
        match &lost {
            None => played.lock().delete_secret(),
            Some(garbage) => played.lock().corrupt_secret(garbage),
        }
        one.turn(start()).await.unwrap();
        other.turn(start()).await.unwrap();
        assert_eq!(played.trusted_everywhere().len(), 2, "{lost:?}");
        assert_eq!(
            [issuer(&one), issuer(&other)],
            [Some(before.clone()), Some(before.clone())],
            "{lost:?}"
        );
        let recovered = |replica| {
            count(
                replica,
                "countersign_certificate_authority_changes_total",
                "recovered",
            )
        };
        assert_eq!((recovered(&one), recovered(&other)), (1, 0), "{lost:?}");
        tokio::time::advance(MINUTE).await;
        one.turn(start()).await.unwrap();
        other.turn(start()).await.unwrap();
        assert_eq!(issuer(&one), issuer(&other), "{lost:?}");
        assert_ne!(issuer(&one), Some(before), "{lost:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_api_server_it_waits_and_later_goes_on_with_what_it_has() {
    let played = Played::new();
    let mut replica = replica(&played);
    for status in [500, 403, 0] {
        played.lock().outage = Some(status);
        assert!(replica.turn(start()).await.is_none(), "{status}");
        assert!(replica.complaint.is_some(), "{status}");
    }
    played.lock().outage = None;
    let first = replica.turn(start()).await.unwrap();
    assert!(replica.complaint.is_none());
    played.lock().outage = Some(0);
    assert!(replica.turn(start()).await.unwrap().chain == first.chain);
    // Five days later, still cut off: the leaf is renewed all the same.
    let later = start()
        .checked_add(jiff::SignedDuration::from_hours(5 * 24))
        .unwrap();
    let second = replica.turn(later).await.unwrap();
    assert!(second.chain != first.chain && second.key != first.key);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_told_once_a_minute_and_with_its_remedy_in_sight() {
    let played = Played::new();
    let mut replica = replica(&played);
    played.lock().outage = Some(403);
    replica.turn(start()).await;
    let (said, at) = replica.complaint.clone().unwrap();
    assert_eq!(
        said,
        "not permitted to use MutatingWebhookConfiguration countersign-release: played"
    );
    tokio::time::advance(MINUTE / 2).await;
    replica.turn(start()).await;
    assert_eq!(replica.complaint.clone().unwrap().1, at);
    tokio::time::advance(MINUTE).await;
    replica.turn(start()).await;
    assert_ne!(replica.complaint.clone().unwrap().1, at);
    played.lock().outage = None;
    played.lock().configurations.clear();
    replica.turn(start()).await;
    let (said, _) = replica.complaint.clone().unwrap();
    assert_eq!(said, "no webhook configuration countersign-release has entries");
    assert!(replica.leaf.is_none(), "nobody could call");
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_may_not_be_written_keeps_new_replicas_out_and_old_ones_in() {
    let played = Played::new();
    let mut old = replica(&played);
    old.turn(start()).await.unwrap();
    played.lock().read_only = true;
    played.lock().set_bundle(2, json!("Zm9yZWlnbg=="));
    let mut new = replica(&played);
    assert!(old.turn(start()).await.is_some());
    assert!(new.turn(start()).await.is_none(), "TLS-03");
    let (said, _) = new.complaint.clone().unwrap();
    assert!(
        said.starts_with("not permitted to use ValidatingWebhookConfiguration"),
        "{said}"
    );
}

#[test]
fn short_lives_wait_shorter() {
    let of = |seconds| Lifetimes {
        authority: Duration::from_secs(seconds),
        leaf: Duration::from_secs(10),
    };
    for (life, settle, poll) in [
        (24, 2_000, 500),
        (12 * 60, 60_000, 5_000),
        (365 * 24 * 3600, 60_000, 5_000),
    ] {
        assert_eq!(settle_time(&of(life)).as_millis(), settle, "{life}");
        let pause = pause(&of(life)).as_millis();
        assert!(
            (poll * 9 / 10..=poll * 11 / 10).contains(&pause),
            "{life}: {pause}"
        );
    }
}
