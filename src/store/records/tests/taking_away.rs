//! Records that are deleted, put back, or reset.

use tokio::sync::mpsc;

use super::*;

type Told = mpsc::UnboundedReceiver<Change>;

/// Two replicas that have both seen version 5, and what they are told from then on.
async fn two() -> (Played, [(std::sync::Arc<Records>, Told); 2]) {
    let api = Played::default();
    let (one, mut told_one) = api.replica().await;
    let (two, mut told_two) = api.replica().await;
    one.save(SERVER, &gun(), &Record::default(), &state(5), soon())
        .await
        .unwrap();
    // Until the watches have told.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(told_one.try_recv().is_err() && told_two.try_recv().is_err());
    (api, [(one, told_one), (two, told_two)])
}

async fn lost(told: &mut Told) {
    while told.recv().await.unwrap() != Change::Lost {}
}

/// One of them tells; the other may find the record written back already.
async fn lost_by_one(told: [&mut Told; 2]) {
    let [one, two] = told;
    tokio::select! {
        () = lost(one) => {}
        () = lost(two) => {}
    }
}

/// The version that a replica that knows nothing would go by, once it is `wanted`.
async fn becomes(api: &Played, wanted: u64) {
    for _ in 0..100 {
        if let Ok(record) = api.deaf().load(SERVER, &gun(), soon()).await
            && version(&record.state) == wanted
        {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("not {wanted}: {:?}", api.object());
}

#[tokio::test(start_paused = true)]
async fn rollback_by_deleting_the_record_is_told_and_undone() {
    let (api, [(one, mut told_one), (_two, mut told_two)]) = two().await;
    api.delete();
    lost(&mut told_one).await;
    lost(&mut told_two).await;
    becomes(&api, 5).await;
    let loaded = one.load(SERVER, &gun(), soon()).await.unwrap();
    assert_eq!(loaded.state.seen, state(5).seen);
    assert_eq!(loaded.state.verified_at, None, "nobody has vouched for it since");
    assert!(told_one.try_recv().is_err(), "once is enough");
}

#[tokio::test(start_paused = true)]
async fn rollback_by_deleting_the_record_while_nobody_watches_is_undone_too() {
    let (api, [(_one, mut told_one), (_two, mut told_two)]) = two().await;
    api.lag(true);
    api.delete();
    api.expire_watches();
    lost_by_one([&mut told_one, &mut told_two]).await;
    becomes(&api, 5).await;
}

#[tokio::test(start_paused = true)]
async fn rollback_by_restoring_an_older_record_is_told_and_undone() {
    let (api, [(one, mut told_one), (_two, mut told_two)]) = two().await;
    let old = api.object().unwrap();
    let loaded = one.load(SERVER, &gun(), soon()).await.unwrap();
    one.save(SERVER, &gun(), &loaded, &state(6), soon())
        .await
        .unwrap();
    api.put(old);
    lost_by_one([&mut told_one, &mut told_two]).await;
    becomes(&api, 6).await;
}

#[tokio::test(start_paused = true)]
async fn rollback_by_an_older_record_of_the_same_name_is_told_and_undone() {
    let (api, [(_one, mut told), _]) = two().await;
    let mut other = api.object().unwrap();
    let older = encode(SERVER, &gun(), &state(4)).unwrap();
    other["spec"] = serde_json::to_value(older).unwrap();
    other["metadata"]["uid"] = serde_json::Value::Null;
    api.lag(true);
    api.delete();
    api.put(other);
    api.lag(false);
    lost(&mut told).await;
    becomes(&api, 5).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_believed_of_a_deleted_record_until_it_is_known_why() {
    let (api, [(one, _told), _]) = two().await;
    api.lag(true);
    api.delete();
    let loaded = one.load(SERVER, &gun(), soon()).await;
    assert!(matches!(loaded, Err(StoreError::Lost { .. })), "{loaded:?}");
}

#[tokio::test(start_paused = true)]
async fn events_that_come_late_are_no_loss() {
    let (api, [(one, mut told_one), (two, _told_two)]) = two().await;
    api.lag(true);
    let loaded = one.load(SERVER, &gun(), soon()).await.unwrap();
    one.save(SERVER, &gun(), &loaded, &state(6), soon())
        .await
        .unwrap();
    let loaded = two.load(SERVER, &gun(), soon()).await.unwrap();
    two.save(SERVER, &gun(), &loaded, &state(7), soon())
        .await
        .unwrap();
    assert_eq!(version(&one.load(SERVER, &gun(), soon()).await.unwrap().state), 7);
    api.asked();
    api.lag(false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(told_one.try_recv().is_err(), "it knew already");
    assert!(
        api.asked().iter().all(|method| method == "GET"),
        "nothing is written"
    );
    becomes(&api, 7).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_only_delays_what_is_written_back() {
    let (api, [(_one, mut told), _]) = two().await;
    api.delete();
    api.fail(Some(played::Outage::Status(404, false)));
    lost(&mut told).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(api.object(), None);
    api.fail(None);
    becomes(&api, 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_believed_by_all_and_the_repository_begins_anew() {
    let (api, [(one, mut told_one), (two, mut told_two)]) = two().await;
    let note = Note {
        reason: Some("made anew".to_owned()),
        at: "2030-01-02T00:00:00Z".parse().unwrap(),
    };
    let nothing = reset(&api.client(), Some("https://other.example.com/"), &gun(), &note).await;
    assert_eq!(nothing.unwrap(), []);
    let forgotten = reset(&api.client(), None, &gun(), &note).await.unwrap();
    assert_eq!(forgotten.len(), 1);
    assert_eq!((forgotten[0].server.as_str(), forgotten[0].roots), (SERVER, 1));
    assert!(
        forgotten[0]
            .versions
            .contains(&("targets/releases".to_owned(), 5)),
        "{forgotten:?}"
    );
    let told = Change::Reset {
        server: SERVER.to_owned(),
        gun: gun(),
    };
    assert_eq!(told_one.recv().await.as_ref(), Some(&told));
    assert_eq!(told_two.recv().await.as_ref(), Some(&told));
    let anew = one.load(SERVER, &gun(), soon()).await.unwrap();
    assert!(anew.state.is_empty());
    one.save(SERVER, &gun(), &anew, &state(1), soon()).await.unwrap();
    let loaded = two.load(SERVER, &gun(), soon()).await.unwrap();
    assert_eq!(version(&loaded.state), 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    becomes(&api, 1).await;
    assert_eq!(reset(&api.client(), None, &gun(), &note).await.unwrap().len(), 1);
    assert_eq!(reset(&api.client(), None, &gun(), &note).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_reset_says_who_when_and_why_before_it_deletes() {
    let (api, _replicas) = two().await;
    api.lag(true);
    api.asked();
    let note = Note {
        reason: Some("restored\nfrom a backup".to_owned()),
        at: "2030-01-02T00:00:00Z".parse().unwrap(),
    };
    reset(&api.client(), Some(SERVER), &gun(), &note).await.unwrap();
    assert_eq!(api.asked(), ["PATCH", "DELETE"]);
    let deleted = api
        .held()
        .into_iter()
        .find(|event| event["type"] == "DELETED")
        .unwrap();
    let said = deleted["object"]["metadata"]["annotations"][RESET]
        .as_str()
        .unwrap();
    let said: serde_json::Value = serde_json::from_str(said).unwrap();
    assert_eq!(
        said,
        json!({"by": "ada", "at": "2030-01-02T00:00:00Z", "reason": "restored\nfrom a backup"})
    );
}

#[tokio::test(start_paused = true)]
async fn a_reset_takes_up_what_a_replica_writes_in_between() {
    let (api, [(_one, mut told), _]) = two().await;
    let note = Note {
        reason: None,
        at: "2030-01-02T00:00:00Z".parse().unwrap(),
    };
    api.asked();
    api.meddle();
    assert_eq!(reset(&api.client(), None, &gun(), &note).await.unwrap().len(), 1);
    assert_eq!(api.asked(), ["PATCH", "DELETE", "GET", "PATCH", "DELETE"]);
    assert!(matches!(told.recv().await, Some(Change::Reset { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_put_back_can_be_reset() {
    let (api, [(one, mut told), _]) = two().await;
    let mut other = api.object().unwrap();
    let older = encode(SERVER, &gun(), &state(4)).unwrap();
    other["spec"] = serde_json::to_value(older).unwrap();
    other["metadata"]["uid"] = serde_json::Value::Null;
    api.lag(true);
    api.delete();
    api.put(other);
    let note = Note {
        reason: None,
        at: "2030-01-02T00:00:00Z".parse().unwrap(),
    };
    reset(&api.client(), None, &gun(), &note).await.unwrap();
    api.lag(false);
    lost(&mut told).await;
    while !matches!(told.recv().await, Some(Change::Reset { .. })) {}
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(one.load(SERVER, &gun(), soon()).await.unwrap().state.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_record_can_be_reset() {
    let (api, _replicas) = two().await;
    let mut bad = api.object().unwrap();
    bad["spec"]["root"] = json!({"version": 1});
    api.put(bad);
    let note = Note {
        reason: None,
        at: "2030-01-02T00:00:00Z".parse().unwrap(),
    };
    let forgotten = reset(&api.client(), None, &gun(), &note).await.unwrap();
    assert_eq!((forgotten.len(), forgotten[0].roots), (1, 0));
    assert_eq!(api.object(), None);
}
