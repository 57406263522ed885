//! Replicas that see different things, or the same, or nothing.

use super::played::Outage;
use super::*;

#[tokio::test(start_paused = true)]
async fn what_one_replica_saves_is_loaded_by_another_and_by_the_next_process() {
    let api = Played::default();
    let one = api.deaf();
    let first = one.load(SERVER, &gun(), soon()).await.unwrap();
    assert!(first.state.is_empty());
    let saved = one.save(SERVER, &gun(), &first, &state(5), soon()).await.unwrap();
    assert_eq!(saved.state, state(5));
    assert_eq!(
        api.deaf().load(SERVER, &gun(), soon()).await.unwrap().state,
        state(5)
    );
    let other = api
        .deaf()
        .load("https://other.example.com/", &gun(), soon())
        .await;
    assert!(other.unwrap().state.is_empty(), "state is per server");
}

#[tokio::test(start_paused = true)]
async fn rollback_by_a_slower_replica_conflicts_and_the_higher_version_stays() {
    let api = Played::default();
    let (quick, slow) = (api.deaf(), api.deaf());
    let none = slow.load(SERVER, &gun(), soon()).await.unwrap();
    let five = quick
        .save(SERVER, &gun(), &none, &state(5), soon())
        .await
        .unwrap();
    // Neither by making the record, nor by replacing it.
    let late = slow.save(SERVER, &gun(), &none, &state(4), soon()).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    let seen = slow.load(SERVER, &gun(), soon()).await.unwrap();
    quick
        .save(SERVER, &gun(), &five, &state(7), soon())
        .await
        .unwrap();
    let late = slow.save(SERVER, &gun(), &seen, &state(6), soon()).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    let present = slow.load(SERVER, &gun(), soon()).await.unwrap();
    assert_eq!(version(&present.state), 7);
}

#[tokio::test(start_paused = true)]
async fn replicas_that_see_one_publication_do_not_conflict() {
    let api = Played::default();
    let (one, two) = (api.deaf(), api.deaf());
    let none = Record::default();
    one.save(SERVER, &gun(), &none, &state(5), soon()).await.unwrap();
    let made = two.save(SERVER, &gun(), &none, &state(5), soon()).await.unwrap();
    one.save(SERVER, &gun(), &made, &state(6), soon()).await.unwrap();
    let replaced = two.save(SERVER, &gun(), &made, &state(6), soon()).await.unwrap();
    assert_eq!(version(&replaced.state), 6);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_api_server_is_never_a_first_use() {
    let api = Played::default();
    let records = api.deaf();
    for outage in [
        Outage::Status(500, true),
        Outage::Status(403, true),
        Outage::Status(404, true),
        Outage::Status(404, false),
        Outage::Hang,
    ] {
        api.fail(Some(outage));
        let begun = Instant::now();
        let loaded = records.load(SERVER, &gun(), soon()).await;
        assert!(
            matches!(loaded, Err(StoreError::Cluster { .. } | StoreError::Slow { .. })),
            "{outage:?}: {loaded:?}"
        );
        assert!(begun.elapsed() <= REQUEST, "{outage:?}");
        let saved = records
            .save(SERVER, &gun(), &Record::default(), &state(1), soon())
            .await;
        assert!(saved.is_err(), "{outage:?}");
    }
    api.fail(None);
    assert!(
        records
            .load(SERVER, &gun(), soon())
            .await
            .unwrap()
            .state
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn only_what_changes_is_written() {
    let api = Played::default();
    let records = api.deaf();
    let one = records
        .save(SERVER, &gun(), &Record::default(), &state(5), soon())
        .await
        .unwrap();
    assert_eq!(api.asked(), ["POST"]);
    let at = |minutes: i64| {
        let time = state(5).verified_at.unwrap() + jiff::SignedDuration::from_mins(minutes);
        State {
            verified_at: Some(time),
            ..state(5)
        }
    };
    let disowned = State {
        verified_at: None,
        ..state(5)
    };
    let mut without_a_file = at(1);
    without_a_file.files.remove(&Role::releases());
    for (what, state, written) in [
        ("the same", state(5), false),
        ("vouched for again", at(9), false),
        ("another verifier loads less", without_a_file, false),
        ("vouched for after a while", at(10), true),
        ("disowned", disowned, true),
        ("something new", state(6), true),
    ] {
        let saved = records.save(SERVER, &gun(), &one, &state, soon()).await;
        assert!(saved.is_ok() || written, "{what}");
        assert_eq!(
            api.asked().first().is_some_and(|method| method == "PUT"),
            written,
            "{what}"
        );
        api.put(restored(&one));
        api.asked();
    }
}

/// The object as it was when `record` was loaded.
fn restored(record: &Record) -> serde_json::Value {
    let spec = encode(SERVER, &gun(), &record.state).unwrap();
    serde_json::to_value(object_of(&name(SERVER, &gun()), &spec, &record.revision)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_others_note_on_an_object_stays_but_for_a_reset_that_did_not_happen() {
    let api = Played::default();
    let records = api.deaf();
    records
        .save(SERVER, &gun(), &Record::default(), &state(5), soon())
        .await
        .unwrap();
    let mut object = api.object().unwrap();
    object["metadata"]["annotations"] = json!({RESET: "{}", "team": "shop"});
    api.put(object);
    let loaded = records.load(SERVER, &gun(), soon()).await.unwrap();
    records
        .save(SERVER, &gun(), &loaded, &state(6), soon())
        .await
        .unwrap();
    let annotations = &api.object().unwrap()["metadata"]["annotations"];
    assert_eq!(*annotations, json!({"team": "shop"}));
}

#[tokio::test(start_paused = true)]
async fn what_one_replica_sees_counts_for_the_others_at_once() {
    let api = Played::default();
    let ((one, _), (two, _)) = (api.replica().await, api.replica().await);
    let mut record = Record::default();
    let newest = |version: u64| state(version).seen[&Role::Timestamp].sha256;
    for version in [5, 6] {
        record = one
            .save(SERVER, &gun(), &record, &state(version), soon())
            .await
            .unwrap();
        api.asked();
        let heard = async {
            while !two.remembers(SERVER, &gun(), newest(version)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let within = Duration::from_secs(2);
        tokio::time::timeout(within, heard).await.unwrap();
        assert!(!two.remembers(SERVER, &gun(), newest(version - 1)));
        assert!(api.asked().is_empty(), "the watch tells");
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_record_is_an_error_and_not_a_fresh_start() {
    let api = Played::default();
    let (records, _) = api.replica().await;
    records
        .save(SERVER, &gun(), &Record::default(), &state(5), soon())
        .await
        .unwrap();
    for (what, pointer, value) in [
        ("no content", "/spec", json!({})),
        (
            "another repository's",
            "/spec/gun",
            json!("registry.example.com/other"),
        ),
        ("no roots", "/spec/root/chain", json!("AAAA")),
    ] {
        let good = api.object().unwrap();
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        api.put(bad);
        let loaded = records.load(SERVER, &gun(), soon()).await;
        assert!(
            matches!(loaded, Err(StoreError::Damaged { .. })),
            "{what}: {loaded:?}"
        );
        api.put(good);
    }
    assert_eq!(
        records.load(SERVER, &gun(), soon()).await.unwrap().state,
        state(5)
    );
}

#[tokio::test(start_paused = true)]
async fn writes_beyond_the_rate_wait_within_their_deadline() {
    let api = Played::default();
    let records = api.deaf();
    let mut record = Record::default();
    let begun = Instant::now();
    for n in 1..=60 {
        record = records
            .save(SERVER, &gun(), &record, &state(n), soon())
            .await
            .unwrap();
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    let hurried = records
        .save(SERVER, &gun(), &record, &state(61), Instant::now())
        .await;
    assert!(
        matches!(hurried, Err(StoreError::Throttled { .. })),
        "{hurried:?}"
    );
    assert_eq!(api.asked().len(), 60);
}
