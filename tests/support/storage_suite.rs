//! What every storage of a trust server must do (notary-v1 §8.1, §8.3, §8.6), told in stories. Each story begins with
//! an empty database.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use countersign::reference::Gun;
use countersign::trustserver::storage::{
    Change, ChangeRecord, Committed, Event, File, Page, Repository, SealedKey, Storage, Whole,
};
use countersign::tuf::{KeyId, Role, sha256};
use jiff::{SignedDuration, Timestamp};

/// A test for every story: `storage_tests!(fresh)`, where `fresh().await` is a pair of whatever must be kept as long as
/// the database is used, and the database, empty.
macro_rules! storage_tests {
    ($fresh:expr) => {
        $crate::storage_suite::storage_tests! { @each $fresh;
            a_commit_makes_its_files_current_and_keeps_the_old_ones
            a_commit_on_another_generation_stores_nothing
            of_concurrent_commits_on_one_generation_one_wins
            readers_see_one_state_while_others_commit
            a_commit_that_fails_half_way_leaves_nothing
            a_stored_version_is_never_replaced
            dropped_roles_are_not_current_but_stay_readable
            a_hash_finds_nothing_in_another_repository_or_role
            a_delete_takes_exactly_one_repository
            the_numbers_of_the_server_go_on_after_a_deletion
            no_generation_comes_twice_across_a_deletion
            a_vacancy_that_was_filled_meanwhile_lets_nobody_write
            the_changefeed_tells_updates_and_deletions_in_order
            the_changefeed_has_pages_in_both_directions
            the_changefeed_of_one_repository_tells_of_no_other
            an_unused_key_is_given_out_again
            of_keys_made_at_the_same_time_one_is_kept
            keys_outlive_their_repository
            repositories_are_due_in_order_and_can_be_postponed
            repositories_are_listed_by_name_in_pages
            a_data_key_is_kept_once_and_replaced_knowingly
            large_files_come_back_as_they_were
            restoring_replaces_everything_but_what_must_not_fall
            restoring_on_another_generation_restores_nothing
            a_database_that_works_says_so
            all_of_it_is_there_for_another_connection
        }
    };
    (@each $fresh:expr; $($story:ident)*) => { $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $story() {
            let (_keep, storage) = $fresh().await;
            $crate::storage_suite::$story(storage).await;
        }
    )* };
}
pub(crate) use storage_tests;

/// A name in a registry, and names that begin with it.
const APP: &str = "registry.example/app";
const NEIGHBOURS: [&str; 4] = [
    "registry.example/app-x",
    "registry.example/app/x",
    "registry.example/app2",
    "registry.example/ap",
];
/// As large as a targets file may be.
const LARGE: usize = 16 * 1024 * 1024;
const ROOT: Role = Role::Root;
const TARGETS: Role = Role::Targets;
const SNAPSHOT: Role = Role::Snapshot;
const TIMESTAMP: Role = Role::Timestamp;

fn gun(name: &str) -> Gun {
    name.parse().unwrap()
}

fn delegation(name: &str) -> Role {
    Role::signer(name).unwrap()
}

/// So many minutes after some time, with as many digits as are kept.
fn at(minutes: i64) -> Timestamp {
    let start: Timestamp = "2031-05-01T10:00:00.123456Z".parse().unwrap();
    start + SignedDuration::from_mins(minutes)
}

fn file(text: &str, version: u64) -> File {
    let bytes = Bytes::from(format!("{text} {version}"));
    File {
        version,
        sha256: sha256(&bytes),
        bytes,
        stored_at: at(i64::try_from(version).unwrap()),
    }
}

/// New files of these versions, whose text says whose they are.
fn change<const N: usize>(text: &str, files: [(Role, u64); N]) -> Change {
    let files = files.map(|(role, version)| {
        let file = file(&format!("{text} {role}"), version);
        (role, file)
    });
    Change {
        files: files.into(),
        dropped: BTreeSet::new(),
        renew_at: None,
        keys_used: BTreeSet::new(),
        at: at(0),
    }
}

/// A first publication, or the `version`th.
fn publication(text: &str, version: u64) -> Change {
    change(
        text,
        [
            (ROOT, version),
            (TARGETS, version),
            (SNAPSHOT, version),
            (TIMESTAMP, version),
        ],
    )
}

fn key(number: u8, role: Role) -> SealedKey {
    SealedKey {
        id: key_id(number),
        role,
        sealed: vec![number, 0, 255],
        used: false,
        created_at: at(i64::from(number)),
    }
}

fn key_id(number: u8) -> KeyId {
    format!("{number:064x}").parse().unwrap()
}

/// Stores `change` where nobody else writes; the repository after it.
async fn store(storage: &impl Storage, name: &str, change: Change) -> Repository {
    let gun = gun(name);
    let generation = match storage.repository(&gun).await.unwrap() {
        Some(present) => present.generation,
        None => storage.vacancy(&gun).await.unwrap().0,
    };
    let committed = storage.commit(&gun, generation, change).await.unwrap();
    assert_eq!(committed, Committed::Stored, "{name}");
    storage.repository(&gun).await.unwrap().unwrap()
}

fn versions(files: &BTreeMap<Role, File>) -> Vec<(Role, u64)> {
    files
        .iter()
        .map(|(role, file)| (role.clone(), file.version))
        .collect()
}

pub(crate) async fn a_commit_makes_its_files_current_and_keeps_the_old_ones<S: Storage>(storage: S) {
    let gun = gun(APP);
    assert_eq!(storage.repository(&gun).await.unwrap(), None);
    assert_eq!(storage.vacancy(&gun).await.unwrap(), (0, BTreeMap::new()));
    let first = publication("first", 1);
    let made = store(&storage, APP, first.clone()).await;
    assert!(made.generation > 0);
    assert_eq!(made.files, first.files);

    let second = change(
        "second",
        [
            (TARGETS, 2),
            (delegation("alice"), 1),
            (SNAPSHOT, 2),
            (TIMESTAMP, 2),
        ],
    );
    let now = store(&storage, APP, second.clone()).await;
    assert!(now.generation > made.generation);
    let mut expected = first.files.clone();
    expected.extend(second.files.clone());
    assert_eq!(now.files, expected);
    assert_eq!(now.used, versions(&expected).into_iter().collect());

    for (role, file) in &expected {
        assert_eq!(
            storage.current(&gun, role).await.unwrap().as_ref(),
            Some(file),
            "{role}"
        );
    }
    for (role, file) in first.files.iter().chain(&second.files) {
        let found = storage.by_version(&gun, role, file.version).await.unwrap();
        assert_eq!(found.as_ref(), Some(file), "{role}");
        let found = storage.by_hash(&gun, role, &file.sha256).await.unwrap();
        assert_eq!(found.as_ref(), Some(file), "{role}");
    }
    let listed = [
        (ROOT, 1),
        (TARGETS, 1),
        (TARGETS, 2),
        (SNAPSHOT, 1),
        (SNAPSHOT, 2),
        (TIMESTAMP, 1),
        (TIMESTAMP, 2),
        (delegation("alice"), 1),
    ];
    assert_eq!(storage.versions(&gun).await.unwrap(), listed);
    for absent in [0, 3, u64::MAX] {
        assert_eq!(storage.by_version(&gun, &TARGETS, absent).await.unwrap(), None);
    }
    assert_eq!(storage.current(&gun, &delegation("bob")).await.unwrap(), None);
}

pub(crate) async fn a_commit_on_another_generation_stores_nothing<S: Storage>(storage: S) {
    let gun = gun(APP);
    for wrong in [1, u64::MAX] {
        let committed = storage
            .commit(&gun, wrong, publication("wrong", 1))
            .await
            .unwrap();
        assert_eq!(committed, Committed::Conflict);
        assert_eq!(storage.repository(&gun).await.unwrap(), None);
    }
    let first = store(&storage, APP, publication("first", 1)).await;
    let second = store(&storage, APP, publication("second", 2)).await;
    for stale in [0, first.generation, second.generation + 1, u64::MAX] {
        let mut late = publication("late", 3);
        late.renew_at = Some(at(1));
        assert_eq!(
            storage.commit(&gun, stale, late).await.unwrap(),
            Committed::Conflict
        );
    }
    assert_eq!(storage.repository(&gun).await.unwrap(), Some(second));
    assert_eq!(storage.by_version(&gun, &TARGETS, 3).await.unwrap(), None);
    assert_eq!(storage.changes(None, Page::Newest(10)).await.unwrap().len(), 2);
    assert_eq!(storage.due(at(100), 10).await.unwrap(), []);
}

pub(crate) async fn of_concurrent_commits_on_one_generation_one_wins<S: Storage>(storage: S) {
    let gun = gun(APP);
    for round in 0..5 {
        let generation = match storage.repository(&gun).await.unwrap() {
            Some(present) => present.generation,
            None => storage.vacancy(&gun).await.unwrap().0,
        };
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let (storage, gun) = (storage.clone(), gun.clone());
            writers.spawn(async move {
                let text = format!("writer {writer}");
                let committed = storage
                    .commit(&gun, generation, publication(&text, round + 1))
                    .await;
                (text, committed.unwrap())
            });
        }
        let ended = writers.join_all().await;
        let winners: Vec<_> = ended
            .iter()
            .filter(|(_, end)| *end == Committed::Stored)
            .collect();
        let [(winner, _)] = winners.as_slice() else {
            panic!("{ended:?}");
        };
        let now = storage.repository(&gun).await.unwrap().unwrap();
        assert_eq!(now.files, publication(winner, round + 1).files);
    }
    assert_eq!(storage.changes(None, Page::Newest(100)).await.unwrap().len(), 5);
}

pub(crate) async fn readers_see_one_state_while_others_commit<S: Storage>(storage: S) {
    const LAST: u64 = 40;
    store(&storage, APP, publication("state", 1)).await;
    let writer = storage.clone();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        for version in 2..=LAST {
            store(&writer, APP, publication("state", version)).await;
        }
    });
    for _ in 0..3 {
        let reader = storage.clone();
        tasks.spawn(async move {
            let mut generation = 0;
            loop {
                let seen = reader.repository(&gun(APP)).await.unwrap().unwrap();
                let version = seen.files[&TIMESTAMP].version;
                assert_eq!(seen.files, publication("state", version).files);
                assert_eq!(seen.used, versions(&seen.files).into_iter().collect());
                assert!(seen.generation >= generation);
                generation = seen.generation;
                if version == LAST {
                    break;
                }
            }
        });
    }
    tasks.join_all().await;
}

pub(crate) async fn a_commit_that_fails_half_way_leaves_nothing<S: Storage>(storage: S) {
    let gun = gun(APP);
    let before = store(&storage, APP, publication("first", 1)).await;
    storage.keep_key(&gun, key(1, TIMESTAMP)).await.unwrap();
    // The timestamp comes last in order, and is there already.
    let mut half = change("half", [(ROOT, 2), (TARGETS, 2), (TIMESTAMP, 1)]);
    half.renew_at = Some(at(1));
    half.dropped.insert(SNAPSHOT);
    half.keys_used.insert(key_id(1));
    storage.commit(&gun, before.generation, half).await.unwrap_err();
    assert_eq!(storage.repository(&gun).await.unwrap(), Some(before));
    assert_eq!(storage.by_version(&gun, &ROOT, 2).await.unwrap(), None);
    assert_eq!(storage.keys(&gun).await.unwrap(), [key(1, TIMESTAMP)]);
    assert_eq!(storage.due(at(100), 10).await.unwrap(), []);
    assert_eq!(storage.changes(None, Page::Newest(10)).await.unwrap().len(), 1);
    store(&storage, APP, publication("second", 2)).await;
}

pub(crate) async fn a_stored_version_is_never_replaced<S: Storage>(storage: S) {
    let gun = gun(APP);
    let before = store(&storage, APP, publication("first", 1)).await;
    let again = change("again", [(TARGETS, 1)]);
    storage.commit(&gun, before.generation, again).await.unwrap_err();
    let found = storage.by_version(&gun, &TARGETS, 1).await.unwrap();
    assert_eq!(found.as_ref(), Some(&before.files[&TARGETS]));
}

pub(crate) async fn dropped_roles_are_not_current_but_stay_readable<S: Storage>(storage: S) {
    let gun = gun(APP);
    let alice = delegation("alice");
    store(&storage, APP, publication("first", 1)).await;
    let delegated = store(
        &storage,
        APP,
        change("second", [(alice.clone(), 7), (TIMESTAMP, 2)]),
    )
    .await;
    let file = delegated.files[&alice].clone();
    let mut dropping = change("third", [(TIMESTAMP, 3)]);
    dropping.dropped = BTreeSet::from([alice.clone(), delegation("nobody")]);
    let now = store(&storage, APP, dropping).await;
    assert!(!now.files.contains_key(&alice));
    assert_eq!(now.used[&alice], 7);
    assert!(!now.used.contains_key(&delegation("nobody")));
    assert_eq!(storage.current(&gun, &alice).await.unwrap(), None);
    assert_eq!(
        storage.by_version(&gun, &alice, 7).await.unwrap().as_ref(),
        Some(&file)
    );
    assert_eq!(
        storage
            .by_hash(&gun, &alice, &file.sha256)
            .await
            .unwrap()
            .as_ref(),
        Some(&file)
    );
    let back = store(&storage, APP, change("fourth", [(alice.clone(), 8)])).await;
    assert_eq!(back.files[&alice].version, 8);
}

/// Cross-GUN reads by checksum (T45).
pub(crate) async fn a_hash_finds_nothing_in_another_repository_or_role<S: Storage>(storage: S) {
    let secret = store(&storage, APP, publication("secret", 1)).await;
    for other in NEIGHBOURS {
        store(&storage, other, publication("open", 1)).await;
    }
    for (role, file) in &secret.files {
        for other in NEIGHBOURS.map(gun) {
            assert_eq!(
                storage.by_hash(&other, role, &file.sha256).await.unwrap(),
                None,
                "{other} {role}"
            );
        }
        for wrong in [ROOT, TARGETS, SNAPSHOT, TIMESTAMP, delegation("alice")] {
            let found = storage.by_hash(&gun(APP), &wrong, &file.sha256).await.unwrap();
            assert_eq!(found.as_ref(), (wrong == *role).then_some(file), "{wrong}");
        }
    }
    let never = gun("registry.example/never");
    let found = storage.by_hash(&never, &ROOT, &secret.files[&ROOT].sha256).await;
    assert_eq!(found.unwrap(), None);
}

/// Deletion by prefix (T45).
pub(crate) async fn a_delete_takes_exactly_one_repository<S: Storage>(storage: S) {
    let first = publication("first", 1);
    store(&storage, APP, first.clone()).await;
    let mut neighbours = Vec::new();
    for other in NEIGHBOURS {
        let mut change = publication(other, 1);
        change.renew_at = Some(at(1));
        neighbours.push((gun(other), store(&storage, other, change).await));
    }
    let app = gun(APP);
    assert!(storage.delete(&app, at(5)).await.unwrap());
    assert_eq!(storage.repository(&app).await.unwrap(), None);
    assert_eq!(storage.versions(&app).await.unwrap(), []);
    for (role, file) in &first.files {
        assert_eq!(storage.current(&app, role).await.unwrap(), None);
        assert_eq!(storage.by_version(&app, role, 1).await.unwrap(), None);
        assert_eq!(storage.by_hash(&app, role, &file.sha256).await.unwrap(), None);
    }
    for (other, before) in neighbours {
        assert_eq!(storage.repository(&other).await.unwrap(), Some(before), "{other}");
    }
    assert_eq!(storage.due(at(9), 10).await.unwrap().len(), NEIGHBOURS.len());

    let told = storage.changes(None, Page::Newest(100)).await.unwrap().len();
    assert!(!storage.delete(&app, at(6)).await.unwrap());
    assert!(
        !storage
            .delete(&gun("registry.example/never"), at(6))
            .await
            .unwrap()
    );
    assert_eq!(
        storage.changes(None, Page::Newest(100)).await.unwrap().len(),
        told
    );
}

/// What clients remember of the roles that only the server numbers would be a rollback else (§8.6.8).
pub(crate) async fn the_numbers_of_the_server_go_on_after_a_deletion<S: Storage>(storage: S) {
    let gun = gun(APP);
    let alice = delegation("alice");
    let files = [
        (ROOT, 3),
        (TARGETS, 9),
        (alice, 4),
        (SNAPSHOT, 11),
        (TIMESTAMP, 12),
    ];
    store(&storage, APP, change("first life", files)).await;
    storage.delete(&gun, at(1)).await.unwrap();
    let tombstones = BTreeMap::from([(SNAPSHOT, 11), (TIMESTAMP, 12)]);
    assert_eq!(storage.vacancy(&gun).await.unwrap().1, tombstones);

    let files = [(ROOT, 1), (TARGETS, 1), (SNAPSHOT, 12), (TIMESTAMP, 13)];
    let again = store(&storage, APP, change("second life", files.clone())).await;
    assert_eq!(versions(&again.files), files);
    assert_eq!(again.used, files.into());
    // Even if one comes below what was, which is not for the storage to judge, what was is not forgotten.
    storage.delete(&gun, at(2)).await.unwrap();
    let third = store(&storage, APP, publication("third life", 1)).await;
    assert_eq!(
        third.used,
        BTreeMap::from([(ROOT, 1), (TARGETS, 1), (SNAPSHOT, 12), (TIMESTAMP, 13)])
    );
}

pub(crate) async fn no_generation_comes_twice_across_a_deletion<S: Storage>(storage: S) {
    let gun = gun(APP);
    let mut seen = BTreeSet::new();
    for life in 1..=3 {
        let (vacant, _) = storage.vacancy(&gun).await.unwrap();
        assert!(seen.insert(vacant), "{vacant} in {seen:?}");
        for version in 1..=2 {
            let now = store(&storage, APP, publication(&format!("life {life}"), version)).await;
            assert!(seen.insert(now.generation), "{} in {seen:?}", now.generation);
        }
        assert!(storage.delete(&gun, at(life)).await.unwrap());
    }
    for stale in seen {
        let late = storage.commit(&gun, stale, publication("late", 1)).await.unwrap();
        assert_eq!(late, Committed::Conflict);
    }
    assert_eq!(storage.repository(&gun).await.unwrap(), None);
}

pub(crate) async fn a_vacancy_that_was_filled_meanwhile_lets_nobody_write<S: Storage>(storage: S) {
    let gun = gun(APP);
    for life in 1..=2 {
        let before = store(&storage, APP, publication("theirs", 1)).await;
        // They came between our look at the repository, which was not there, and our question for the vacancy.
        let (generation, _) = storage.vacancy(&gun).await.unwrap();
        let ours = storage
            .commit(&gun, generation, publication("ours", 2))
            .await
            .unwrap();
        assert_eq!(ours, Committed::Conflict);
        assert_eq!(storage.repository(&gun).await.unwrap(), Some(before));
        storage.delete(&gun, at(life)).await.unwrap();
        let gone = storage
            .commit(&gun, generation, publication("ours", 2))
            .await
            .unwrap();
        assert_eq!(gone, Committed::Conflict);
    }
}

fn update(change: &Change) -> Event {
    let timestamp = &change.files[&TIMESTAMP];
    Event::Update {
        version: timestamp.version,
        sha256: timestamp.sha256,
    }
}

pub(crate) async fn the_changefeed_tells_updates_and_deletions_in_order<S: Storage>(storage: S) {
    assert_eq!(storage.changes(None, Page::After(0, 10)).await.unwrap(), []);
    let mut first = publication("first", 1);
    first.at = at(1);
    store(&storage, APP, first.clone()).await;
    // Without a timestamp there is nothing that clients could see.
    store(&storage, APP, change("unseen", [(TARGETS, 2)])).await;
    let mut renewed = change("renewed", [(TIMESTAMP, 2)]);
    renewed.at = at(2);
    store(&storage, APP, renewed.clone()).await;
    storage.delete(&gun(APP), at(3)).await.unwrap();
    let told = storage.changes(None, Page::After(0, 10)).await.unwrap();
    let events: Vec<_> = told
        .iter()
        .map(|record| (record.created_at, record.gun.clone(), record.event.clone()))
        .collect();
    let app = gun(APP);
    let expected = [
        (at(1), app.clone(), update(&first)),
        (at(2), app.clone(), update(&renewed)),
        (at(3), app, Event::Deletion),
    ];
    assert_eq!(events, expected);
    assert!(told.is_sorted_by(|a, b| a.id < b.id));
    assert!(told.iter().all(|record| record.id > 0));
}

/// Some entries of two repositories.
async fn feed(storage: &impl Storage) -> Vec<ChangeRecord> {
    for version in 1..=5 {
        store(storage, APP, publication("one", version)).await;
        store(storage, NEIGHBOURS[2], publication("other", version)).await;
    }
    storage.delete(&gun(APP), at(9)).await.unwrap();
    let all = storage.changes(None, Page::After(0, usize::MAX)).await.unwrap();
    assert_eq!(all.len(), 11);
    all
}

pub(crate) async fn the_changefeed_has_pages_in_both_directions<S: Storage>(storage: S) {
    let all = feed(&storage).await;
    let page = async |page| storage.changes(None, page).await.unwrap();
    assert_eq!(page(Page::After(0, 4)).await, all[..4]);
    assert_eq!(page(Page::After(all[3].id, 4)).await, all[4..8]);
    assert_eq!(page(Page::After(all[8].id, 4)).await, all[9..]);
    assert_eq!(page(Page::After(all[10].id, 4)).await, []);
    assert_eq!(page(Page::After(u64::MAX, 4)).await, []);
    assert_eq!(page(Page::Before(all[10].id, 3)).await, all[7..10]);
    assert_eq!(page(Page::Before(all[2].id, 5)).await, all[..2]);
    assert_eq!(page(Page::Before(all[0].id, 5)).await, []);
    assert_eq!(page(Page::Before(0, 5)).await, []);
    assert_eq!(page(Page::Before(u64::MAX, 2)).await, all[9..]);
    assert_eq!(page(Page::Newest(3)).await, all[8..]);
    assert_eq!(page(Page::Newest(usize::MAX)).await, all);
    for none in [Page::After(0, 0), Page::Before(all[5].id, 0), Page::Newest(0)] {
        assert_eq!(page(none).await, []);
    }
}

pub(crate) async fn the_changefeed_of_one_repository_tells_of_no_other<S: Storage>(storage: S) {
    let all = feed(&storage).await;
    let app = gun(APP);
    let (own, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|record| record.gun == app);
    assert_eq!(own.len(), 6);
    let page = async |page| storage.changes(Some(&app), page).await.unwrap();
    assert_eq!(page(Page::After(0, 2)).await, own[..2]);
    assert_eq!(page(Page::After(own[1].id, 100)).await, own[2..]);
    // An id of somebody else's entry is a place in the feed like any other.
    assert_eq!(page(Page::After(others[1].id, 1)).await, own[2..3]);
    assert_eq!(page(Page::Before(own[5].id, 2)).await, own[3..5]);
    assert_eq!(page(Page::Newest(2)).await, own[4..]);
    let never = gun("registry.example/a");
    assert_eq!(storage.changes(Some(&never), Page::Newest(9)).await.unwrap(), []);
}

pub(crate) async fn an_unused_key_is_given_out_again<S: Storage>(storage: S) {
    let app = gun(APP);
    assert_eq!(storage.keys(&app).await.unwrap(), []);
    let first = key(1, TIMESTAMP);
    assert_eq!(storage.keep_key(&app, first.clone()).await.unwrap(), first);
    assert_eq!(storage.keep_key(&app, key(2, TIMESTAMP)).await.unwrap(), first);
    // Each role has keys of its own, and so has each repository.
    assert_eq!(
        storage.keep_key(&app, key(3, SNAPSHOT)).await.unwrap(),
        key(3, SNAPSHOT)
    );
    let other = gun(NEIGHBOURS[2]);
    assert_eq!(
        storage.keep_key(&other, key(4, TIMESTAMP)).await.unwrap(),
        key(4, TIMESTAMP)
    );
    assert_eq!(
        storage.keys(&app).await.unwrap(),
        [first.clone(), key(3, SNAPSHOT)]
    );

    let mut change = publication("first", 1);
    change.keys_used = BTreeSet::from([first.id, key_id(4), key_id(77)]);
    store(&storage, APP, change).await;
    let used = SealedKey { used: true, ..first };
    assert_eq!(
        storage.keys(&app).await.unwrap(),
        [used.clone(), key(3, SNAPSHOT)]
    );
    assert_eq!(storage.keys(&other).await.unwrap(), [key(4, TIMESTAMP)]);
    // Now a rotation makes a new one, again and again the same until it is used.
    assert_eq!(
        storage.keep_key(&app, key(5, TIMESTAMP)).await.unwrap(),
        key(5, TIMESTAMP)
    );
    assert_eq!(
        storage.keep_key(&app, key(6, TIMESTAMP)).await.unwrap(),
        key(5, TIMESTAMP)
    );
    assert_eq!(
        storage.keys(&app).await.unwrap(),
        [used, key(3, SNAPSHOT), key(5, TIMESTAMP)]
    );
}

pub(crate) async fn of_keys_made_at_the_same_time_one_is_kept<S: Storage>(storage: S) {
    let app = gun(APP);
    let mut askers = tokio::task::JoinSet::new();
    for number in 1..=8 {
        let (storage, app) = (storage.clone(), app.clone());
        askers.spawn(async move { storage.keep_key(&app, key(number, TIMESTAMP)).await.unwrap() });
    }
    let given = askers.join_all().await;
    let kept = storage.keys(&app).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert!(given.iter().all(|key| *key == kept[0]), "{given:?}");
}

pub(crate) async fn keys_outlive_their_repository<S: Storage>(storage: S) {
    let app = gun(APP);
    storage.keep_key(&app, key(1, TIMESTAMP)).await.unwrap();
    let mut first = publication("first", 1);
    first.keys_used.insert(key_id(1));
    store(&storage, APP, first).await;
    let before = storage.keys(&app).await.unwrap();
    storage.delete(&app, at(1)).await.unwrap();
    assert_eq!(storage.keys(&app).await.unwrap(), before);
}

pub(crate) async fn repositories_are_due_in_order_and_can_be_postponed<S: Storage>(storage: S) {
    let due_at = |minutes| {
        let mut change = publication("first", 1);
        change.renew_at = Some(at(minutes));
        change
    };
    for (name, minutes) in [("c", 30), ("a", 20), ("d", 40), ("b", 20)] {
        store(&storage, &format!("registry.example/{name}"), due_at(minutes)).await;
    }
    store(&storage, "registry.example/never", publication("first", 1)).await;
    let due = async |minutes, most| {
        let due = storage.due(at(minutes), most).await.unwrap();
        due.iter().map(|gun| gun.path().to_owned()).collect::<Vec<_>>()
    };
    assert!(due(19, 10).await.is_empty());
    assert_eq!(due(20, 10).await, ["a", "b"]);
    assert_eq!(due(100, 10).await, ["a", "b", "c", "d"]);
    assert_eq!(due(100, 3).await, ["a", "b", "c"]);
    assert!(due(100, 0).await.is_empty());

    let a = gun("registry.example/a");
    let before = storage.repository(&a).await.unwrap();
    storage.postpone(&a, at(35)).await.unwrap();
    assert_eq!(storage.repository(&a).await.unwrap(), before);
    assert_eq!(due(100, 10).await, ["b", "c", "a", "d"]);
    // A commit decides anew; a deletion ends it; what is not there does not become due.
    let mut signed = change("signed", [(TIMESTAMP, 2)]);
    signed.renew_at = Some(at(50));
    store(&storage, "registry.example/b", signed).await;
    store(
        &storage,
        "registry.example/c",
        change("by hand", [(TIMESTAMP, 2)]),
    )
    .await;
    storage.delete(&gun("registry.example/d"), at(1)).await.unwrap();
    for absent in ["registry.example/d", "registry.example/x"] {
        storage.postpone(&gun(absent), at(1)).await.unwrap();
    }
    assert_eq!(due(100, 10).await, ["a", "b"]);
    assert_eq!(
        storage.repository(&gun("registry.example/x")).await.unwrap(),
        None
    );
}

pub(crate) async fn repositories_are_listed_by_name_in_pages<S: Storage>(storage: S) {
    assert_eq!(storage.repositories(None, 10).await.unwrap(), []);
    // Byte for byte: no language's order.
    let ordered = [
        "registry.example/ap",
        "registry.example/app",
        "registry.example/app-x",
        "registry.example/app/x",
        "registry.example/app2",
        "registry.example/app_x",
        "registry.example:5000/app",
    ]
    .map(gun);
    for gun in ordered.iter().rev() {
        store(&storage, gun.as_str(), publication("first", 1)).await;
    }
    store(&storage, "registry.example/gone", publication("first", 1)).await;
    storage
        .delete(&gun("registry.example/gone"), at(1))
        .await
        .unwrap();
    storage
        .keep_key(&gun("registry.example/new"), key(1, TIMESTAMP))
        .await
        .unwrap();
    let page = async |after, most| storage.repositories(after, most).await.unwrap();
    assert_eq!(page(None, 100).await, ordered);
    assert_eq!(page(None, 2).await, ordered[..2]);
    assert_eq!(page(Some(&ordered[1]), 3).await, ordered[2..5]);
    let between = gun("registry.example/app-a");
    assert_eq!(page(Some(&between), 1).await, ordered[2..3]);
    assert_eq!(page(Some(&ordered[6]), 3).await, []);
}

pub(crate) async fn a_data_key_is_kept_once_and_replaced_knowingly<S: Storage>(storage: S) {
    assert_eq!(storage.data_key().await.unwrap(), None);
    assert!(!storage.keep_data_key(Some(b"none"), b"first").await.unwrap());
    assert_eq!(storage.data_key().await.unwrap(), None);

    let mut servers = tokio::task::JoinSet::new();
    for number in 0..6_u8 {
        let storage = storage.clone();
        servers.spawn(async move {
            storage
                .keep_data_key(None, &[number, 0, 255])
                .await
                .unwrap()
                .then_some(number)
        });
    }
    let kept: Vec<_> = servers.join_all().await.into_iter().flatten().collect();
    let [number] = kept.as_slice() else {
        panic!("{kept:?}");
    };
    let first = vec![*number, 0, 255];
    assert_eq!(storage.data_key().await.unwrap().as_ref(), Some(&first));

    assert!(!storage.keep_data_key(Some(b"another"), b"second").await.unwrap());
    assert_eq!(storage.data_key().await.unwrap().as_ref(), Some(&first));
    assert!(storage.keep_data_key(Some(&first), b"second").await.unwrap());
    assert!(!storage.keep_data_key(Some(&first), b"third").await.unwrap());
    assert_eq!(storage.data_key().await.unwrap().unwrap(), b"second");
}

pub(crate) async fn large_files_come_back_as_they_were<S: Storage>(storage: S) {
    let bytes: Vec<_> = (0..LARGE).map(|i| (i % 251).to_le_bytes()[0]).collect();
    let mut large = publication("first", 1);
    let file = File {
        version: 1,
        sha256: sha256(&bytes),
        bytes: bytes.into(),
        stored_at: at(0),
    };
    large.files.insert(TARGETS, file.clone());
    let empty = File {
        bytes: Bytes::new(),
        sha256: sha256(&[]),
        ..file.clone()
    };
    large.files.insert(delegation("empty"), empty);
    let made = store(&storage, APP, large.clone()).await;
    assert!(made.files == large.files);
    let found = storage.by_hash(&gun(APP), &TARGETS, &file.sha256).await.unwrap();
    assert!(found == Some(file));
}

/// A repository with a past, as an import has it.
fn whole() -> Whole {
    let files = [
        (ROOT, 1),
        (ROOT, 2),
        (TARGETS, 4),
        (SNAPSHOT, 5),
        (TIMESTAMP, 5),
        (TIMESTAMP, 6),
    ];
    Whole {
        files: files
            .map(|(role, version)| {
                let file = file(&format!("imported {role}"), version);
                (role, file)
            })
            .into(),
        current: BTreeMap::from([(ROOT, 2), (TARGETS, 4), (SNAPSHOT, 5), (TIMESTAMP, 6)]),
        used: BTreeMap::from([
            (ROOT, 2),
            (TARGETS, 4),
            (SNAPSHOT, 8),
            (TIMESTAMP, 6),
            (delegation("bob"), 3),
        ]),
        renew_at: Some(at(60)),
        keys: vec![key(2, TIMESTAMP), key(3, SNAPSHOT)],
        changes: vec![
            (
                at(1),
                Event::Update {
                    version: 5,
                    sha256: [5; 32],
                },
            ),
            (at(2), Event::Deletion),
        ],
    }
}

pub(crate) async fn restoring_replaces_everything_but_what_must_not_fall<S: Storage>(storage: S) {
    let app = gun(APP);
    let alice = delegation("alice");
    storage.keep_key(&app, key(1, TIMESTAMP)).await.unwrap();
    let mut first = change(
        "first",
        [
            (ROOT, 1),
            (TARGETS, 9),
            (alice.clone(), 2),
            (SNAPSHOT, 3),
            (TIMESTAMP, 9),
        ],
    );
    first.keys_used.insert(key_id(1));
    let before = store(&storage, APP, first.clone()).await;
    storage.keep_key(&app, key(2, TIMESTAMP)).await.unwrap();

    let mut whole = whole();
    whole.keys[0].used = true;
    let restored = storage
        .restore(&app, before.generation, whole.clone())
        .await
        .unwrap();
    assert_eq!(restored, Committed::Stored);
    let now = storage.repository(&app).await.unwrap().unwrap();
    assert!(now.generation > before.generation);
    assert_eq!(
        versions(&now.files),
        whole.current.clone().into_iter().collect::<Vec<_>>()
    );
    let used = [
        (ROOT, 2),
        (TARGETS, 9),
        (SNAPSHOT, 8),
        (TIMESTAMP, 9),
        (alice.clone(), 2),
        (delegation("bob"), 3),
    ];
    assert_eq!(now.used, used.into());
    for (role, file) in &whole.files {
        let found = storage.by_version(&app, role, file.version).await.unwrap();
        assert_eq!(found.as_ref(), Some(file));
    }
    assert_eq!(storage.current(&app, &alice).await.unwrap(), None);
    assert_eq!(
        storage
            .by_hash(&app, &TARGETS, &first.files[&TARGETS].sha256)
            .await
            .unwrap(),
        None
    );
    assert_eq!(storage.versions(&app).await.unwrap().len(), whole.files.len());
    assert_eq!(storage.due(at(60), 9).await.unwrap(), [gun(APP)]);
    let used = |number| SealedKey {
        used: true,
        ..key(number, TIMESTAMP)
    };
    assert_eq!(
        storage.keys(&app).await.unwrap(),
        [used(1), used(2), key(3, SNAPSHOT)]
    );
    let told = storage.changes(Some(&app), Page::Newest(9)).await.unwrap();
    let told: Vec<_> = told
        .into_iter()
        .map(|record| (record.created_at, record.event))
        .collect();
    assert_eq!(told[0], (first.at, update(&first)));
    assert_eq!(told[1..], whole.changes);
}

pub(crate) async fn restoring_on_another_generation_restores_nothing<S: Storage>(storage: S) {
    let app = gun(APP);
    assert_eq!(
        storage.restore(&app, 7, whole()).await.unwrap(),
        Committed::Conflict
    );
    assert_eq!(storage.repository(&app).await.unwrap(), None);
    let before = store(&storage, APP, publication("first", 1)).await;
    assert_eq!(
        storage.restore(&app, 0, whole()).await.unwrap(),
        Committed::Conflict
    );
    assert_eq!(storage.repository(&app).await.unwrap(), Some(before));
    storage.delete(&app, at(1)).await.unwrap();

    let (generation, _) = storage.vacancy(&app).await.unwrap();
    assert_eq!(
        storage.restore(&app, generation, whole()).await.unwrap(),
        Committed::Stored
    );
    let now = storage.repository(&app).await.unwrap().unwrap();
    assert!(now.generation > generation);
    assert_eq!(now.used, whole().used);
    assert_eq!(
        storage.restore(&app, generation, whole()).await.unwrap(),
        Committed::Conflict
    );
}

pub(crate) async fn a_database_that_works_says_so<S: Storage>(storage: S) {
    for _ in 0..3 {
        storage.ping().await.unwrap();
    }
    store(&storage, APP, publication("first", 1)).await;
    storage.ping().await.unwrap();
}

pub(crate) async fn all_of_it_is_there_for_another_connection<S: Storage>(storage: S) {
    write_all(&storage).await;
    find_all(&storage.clone()).await;
}

/// Something of every kind, which [`find_all`] finds again, later or elsewhere.
pub(crate) async fn write_all(storage: &impl Storage) {
    let app = gun(APP);
    storage.keep_key(&app, key(1, TIMESTAMP)).await.unwrap();
    assert!(storage.keep_data_key(None, b"sealed").await.unwrap());
    let mut first = publication("first", 1);
    first.keys_used.insert(key_id(1));
    store(storage, APP, first).await;
    let mut second = change("second", [(SNAPSHOT, 2), (TIMESTAMP, 2)]);
    second.renew_at = Some(at(30));
    store(storage, APP, second).await;
    let gone = "registry.example/gone";
    store(storage, gone, publication("gone", 6)).await;
    storage.delete(&gun(gone), at(2)).await.unwrap();
}

/// What [`write_all`] wrote.
pub(crate) async fn find_all(storage: &impl Storage) {
    let app = gun(APP);
    let now = storage.repository(&app).await.unwrap().unwrap();
    let mut expected = publication("first", 1).files;
    expected.extend(change("second", [(SNAPSHOT, 2), (TIMESTAMP, 2)]).files);
    assert_eq!(now.files, expected);
    assert_eq!(storage.versions(&app).await.unwrap().len(), 6);
    assert_eq!(storage.data_key().await.unwrap().unwrap(), b"sealed");
    let keys = storage.keys(&app).await.unwrap();
    assert!(
        matches!(&keys[..], [key] if key.used && key.id == key_id(1)),
        "{keys:?}"
    );
    assert_eq!(storage.due(at(30), 9).await.unwrap(), [gun(APP)]);
    assert_eq!(storage.repositories(None, 9).await.unwrap(), [gun(APP)]);
    assert_eq!(storage.changes(None, Page::Newest(9)).await.unwrap().len(), 4);
    let (generation, used) = storage.vacancy(&gun("registry.example/gone")).await.unwrap();
    assert!(generation > 0);
    assert_eq!(used, BTreeMap::from([(SNAPSHOT, 6), (TIMESTAMP, 6)]));
    let stale = storage
        .commit(&app, now.generation - 1, publication("stale", 3))
        .await
        .unwrap();
    assert_eq!(stale, Committed::Conflict);
}
