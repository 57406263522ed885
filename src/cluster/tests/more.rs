//! The default policy, what is told of trust servers and watches, and what is read when it is needed.

use std::sync::Mutex as Blocking;

use super::*;
use crate::policy::resource::ConditionStatus;

fn contact(status: ConditionStatus) -> Contact {
    let reason = if status == ConditionStatus::False {
        "Network"
    } else {
        "Answering"
    };
    Contact {
        status,
        reason: reason.to_owned(),
        message: format!("played: {status:?}"),
    }
}

/// A status as another replica wrote it `age` before the beginning of time, which is now.
fn told_by_another(policy: &mut Value, reachable: &str, since: &str) {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "observedGeneration": 1, "lastTransitionTime": since,
            "reason": reason, "message": message})
    };
    policy["status"] = json!({"observedGeneration": 1, "rules": 1, "conditions": [
        condition("Ready", "True", "InForce", "the policy is in force as written"),
        condition("Degraded", "False", "InForce", "the policy is in force as written"),
        condition("TrustServerReachable", reachable, "Network", "another replica's"),
    ]});
}

fn reachable(status: &Value) -> (String, String) {
    let conditions = status["status"]["conditions"].as_array().unwrap();
    let found = conditions
        .iter()
        .find(|found| found["type"] == "TrustServerReachable")
        .unwrap();
    let text = |name: &str| found[name].as_str().unwrap().to_owned();
    (text("status"), text("reason"))
}

fn with_contact(world: World, seen: &Arc<Blocking<ConditionStatus>>) -> Played {
    let seen = Arc::clone(seen);
    start_as(world, move |cluster| {
        cluster.with_hooks(Hooks::new(|_| {}, move |_| contact(*seen.lock().unwrap())))
    })
}

/// CRD-21.
#[tokio::test(start_paused = true)]
async fn the_default_is_in_force_until_the_cluster_has_a_policy_of_its_own() {
    let mut default = policy("standing-in");
    default["metadata"] = json!({"name": "standing-in"});
    let mut own = policy("own");
    own["kind"] = json!("TrustPolicy");
    own["metadata"]["namespace"] = json!("shop");
    let world = World {
        own: vec![own],
        ..World::default()
    };
    let mut played = start_as(world, |cluster| cluster.with_default(vec![default]));
    assert_eq!(played.names().await, ["standing-in", "shop/own"]);
    let status = played.statuses.recv().await.unwrap();
    assert_eq!(
        status["metadata"]["name"], "own",
        "what is not stored has no status"
    );
    played.end_watch(event("ADDED", &policy("a"))).await;
    assert_eq!(played.names().await, ["a", "shop/own"]);
    played.end_watch(event("DELETED", &policy("a"))).await;
    assert_eq!(played.names().await, ["standing-in", "shop/own"]);
}

/// A change of what this replica sees is written, once.
#[tokio::test(start_paused = true)]
async fn what_is_seen_of_trust_servers_is_written_when_it_changes() {
    let seen = Arc::new(Blocking::new(ConditionStatus::Unknown));
    let world = World {
        policies: vec![policy("a")],
        ..World::default()
    };
    let mut played = with_contact(world, &seen);
    let first = played.statuses.recv().await.unwrap();
    assert_eq!(reachable(&first).0, "Unknown");
    *seen.lock().unwrap() = ConditionStatus::False;
    let second = played.statuses.recv().await.unwrap();
    assert_eq!(reachable(&second), ("False".to_owned(), "Network".to_owned()));
    let mut stored = policy("a");
    stored["status"] = second["status"].clone();
    played.end_watch(event("MODIFIED", &stored)).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(played.statuses.try_recv().is_err());
}

/// Two replicas that disagree: what the other one said last stands, but not for ever, as it may be gone.
#[tokio::test(start_paused = true)]
async fn what_another_replica_said_stands_for_a_while() {
    for (since, contradicted) in [("1969-12-31T23:59:00Z", false), ("1969-12-31T23:00:00Z", true)] {
        let seen = Arc::new(Blocking::new(ConditionStatus::True));
        let mut told = policy("a");
        told["status"] = json!(null);
        let world = World {
            policies: vec![told],
            ..World::default()
        };
        let mut played = with_contact(world, &seen);
        assert_eq!(reachable(&played.statuses.recv().await.unwrap()).0, "True");
        let mut stored = policy("a");
        told_by_another(&mut stored, "False", since);
        played.end_watch(event("MODIFIED", &stored)).await;
        // The played wall clock stands still.
        tokio::time::sleep(Duration::from_secs(60)).await;
        match played.statuses.try_recv() {
            Ok(status) => assert_eq!((reachable(&status).0.as_str(), contradicted), ("True", true)),
            Err(_) => assert!(!contradicted),
        }
    }
}

/// What is unknown here is no reason to contradict who knows.
#[tokio::test(start_paused = true)]
async fn who_has_not_asked_contradicts_nobody() {
    let seen = Arc::new(Blocking::new(ConditionStatus::Unknown));
    let mut told = policy("a");
    told_by_another(&mut told, "False", "1969-01-01T00:00:00Z");
    let world = World {
        policies: vec![told],
        ..World::default()
    };
    let mut played = with_contact(world, &seen);
    assert_eq!(played.names().await, ["a"]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(played.statuses.try_recv().is_err());
}

/// CRD-34: an edit that follows another at once waits its turn.
#[tokio::test(start_paused = true)]
async fn a_status_is_written_no_more_often_than_every_five_seconds() {
    let mut played = start(World {
        policies: vec![policy("a")],
        ..World::default()
    });
    drop(played.statuses.recv().await.unwrap());
    let began = tokio::time::Instant::now();
    let mut edited = policy("a");
    edited["metadata"]["generation"] = json!(2);
    played.end_watch(event("MODIFIED", &edited)).await;
    let status = played.statuses.recv().await.unwrap();
    assert_eq!(status["status"]["observedGeneration"], 2);
    let waited = began.elapsed();
    assert!(
        (Duration::from_secs(4)..=Duration::from_secs(10)).contains(&waited),
        "{waited:?}"
    );
}

/// CRD-32, OBS-01.
#[tokio::test(start_paused = true)]
async fn failing_watches_are_counted_and_not_called_up_to_date() {
    let signs = Arc::new(Blocking::new(Vec::new()));
    let told = Arc::clone(&signs);
    let hooks = Hooks::new(
        move |sign| told.lock().unwrap().push(sign),
        |_| contact(ConditionStatus::Unknown),
    );
    let mut played = start_as(world(), |cluster| cluster.with_hooks(hooks));
    assert_eq!(played.names().await, ["a", "b"]);
    let synced = Sign::Synced("clustertrustpolicies");
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(signs.lock().unwrap().contains(&synced));
    assert!(signs.lock().unwrap().contains(&Sign::Namespaces([0, 0, 0, 1, 0])));
    // The definition is deleted.
    played.world.lock().await.outages = vec![404; 1_000];
    let gone = json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"});
    played.end_watch(event("ERROR", &gone)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    signs.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_secs(300)).await;
    let heard = signs.lock().unwrap().clone();
    assert!(heard.contains(&Sign::Failed("clustertrustpolicies")));
    assert!(!heard.contains(&synced) && heard.contains(&Sign::Synced("namespaces")));
    assert!(
        played.adopted.try_recv().is_err(),
        "what was seen last stays in force"
    );
}

/// A namespace that was made a moment ago, and that the watch has not shown yet.
#[tokio::test(start_paused = true)]
async fn labels_of_a_new_namespace_are_asked_for() {
    let mut played = start(world());
    assert_eq!(played.names().await, ["a", "b"]);
    let until = tokio::time::Instant::now() + Duration::from_secs(5);
    let labels = played.namespaces.labels("fresh", until).await;
    assert_eq!(labels.unwrap()["tier"], "closed");
    assert_eq!(played.namespaces.labels("nowhere", until).await, None);
}

/// CRED-20: what a policy of a namespace names is in that namespace.
#[tokio::test(start_paused = true)]
async fn a_policy_of_a_namespace_reads_its_own_config_map() {
    let own = |kind: &str, namespace: Value| {
        let mut object = policy("own");
        object["kind"] = json!(kind);
        object["metadata"]["namespace"] = namespace;
        object["spec"]["verifiers"] = json!([{"name": "acme", "notary": {
            "server": "https://trust.example.com", "root": {"trustOnFirstUse": true}, "ca": {"configMapRef": {"name": "cas"}},
        }}]);
        object
    };
    let mut played = start(World {
        policies: vec![own("ClusterTrustPolicy", Value::Null)],
        own: vec![own("TrustPolicy", json!("shop"))],
        ..World::default()
    });
    let adopted = played.adopted.recv().await.unwrap();
    let [(_, wide), (name, narrow)] = adopted.as_slice() else {
        panic!("{adopted:?}")
    };
    assert!(
        wide.as_ref()
            .unwrap()
            .contains("ConfigMap \"cas\" is not in namespace release"),
        "{wide:?}"
    );
    assert_eq!((name.as_str(), narrow), ("shop/own", &None));
}
