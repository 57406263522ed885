//! What the server signs again by itself.

use super::*;

#[test]
fn nothing_is_renewed_before_two_thirds_of_a_life_have_passed() {
    let mut scene = Scene::docker().with_signers();
    let start = scene.now;
    scene.now = start + TIMESTAMP * 2 / 3 - Duration::from_secs(1);
    assert_eq!(scene.renewed(), Ok(None));
    scene.now = start + TIMESTAMP * 2 / 3;
    let accepted = scene.renewed().unwrap().unwrap();
    let roles: Vec<_> = accepted.files.iter().map(|file| file.role.clone()).collect();
    assert_eq!(roles, [Role::Timestamp]);
    assert_eq!(accepted.renew_at, Some(scene.now + TIMESTAMP * 2 / 3));
    let before = scene.look(Purpose::Trust, State::default()).unwrap().state;
    scene.store(&accepted);
    scene.look(Purpose::Trust, before).unwrap();
    assert_eq!(scene.renewed(), Ok(None), "done");
}

#[test]
fn a_snapshot_that_is_due_is_renewed_with_its_timestamp() {
    let mut scene = Scene::docker().with_signers();
    scene.now += SNAPSHOT * 2 / 3;
    let snapshot = scene.version("snapshot");
    let accepted = scene.renewed().unwrap().unwrap();
    let roles: Vec<_> = accepted.files.iter().map(|file| file.role.clone()).collect();
    assert_eq!(roles, [Role::Snapshot, Role::Timestamp]);
    assert_eq!(accepted.keys_used.len(), 2);
    scene.store(&accepted);
    assert_eq!(scene.version("snapshot"), snapshot + 1);
    scene.look(Purpose::Trust, State::default()).unwrap();
}

#[test]
fn a_publishers_snapshot_stays_what_it_is() {
    let mut scene = Scene::notary().with_signers();
    scene.now += DAY * 365 * 2;
    let accepted = scene.renewed().unwrap().unwrap();
    assert_eq!(accepted.files.len(), 1);
    scene.store(&accepted);
    scene.look(Purpose::Trust, State::default()).unwrap();
}

#[test]
fn nothing_is_due_where_root_ends_before() {
    let mut scene = Scene::docker();
    let mut upload = scene.upload(&[Change::Resign { role: Role::Root }]);
    let ends = scene.now + DAY;
    scene.forge(&mut upload, "root", |signed| {
        signed["expires"] = ends.to_string().into();
    });
    let accepted = scene.publish(&upload);
    assert_eq!(accepted.renew_at, None);
    scene.now = ends;
    let expired = scene.now + TIMESTAMP;
    scene.now = expired;
    let rejection = scene.renewed().unwrap_err();
    assert_eq!(rejection.name(), "ErrBadRoot");
    assert!(
        rejection.to_string().contains("root metadata expired"),
        "{rejection}"
    );
    let examined = scene.examined();
    assert!(examined.expired.contains(&Role::Root), "told, and no fault");
}

#[test]
fn without_its_keys_the_server_says_so() {
    let mut scene = Scene::docker();
    scene.held.clear();
    assert_eq!(scene.renewed(), Ok(None), "nothing is due yet");
    scene.now += TIMESTAMP;
    assert_eq!(scene.renewed().unwrap_err().name(), "ErrBadRoot");
}

#[test]
fn versions_end_before_readers_round_them() {
    let mut scene = Scene::docker();
    scene.now += TIMESTAMP;
    scene.holding.used.insert(Role::Timestamp, (1 << 53) - 2);
    let accepted = scene.renewed().unwrap().unwrap();
    assert_eq!(accepted.files[0].version, (1 << 53) - 1);
    scene.holding.used.insert(Role::Timestamp, (1 << 53) - 1);
    assert_eq!(scene.renewed().unwrap_err().name(), "ErrValidation");
}

#[test]
fn another_life_is_given_at_once() {
    let scene = Scene::docker();
    let mut terms = scene.terms();
    let renewed = |terms| renew(&scene.gun, &scene.holding, &scene.held, &terms, &scene.limits).unwrap();
    terms.timestamp = DAY * 14;
    assert!(renewed(terms).is_some());
    terms.timestamp = DAY;
    assert!(
        renewed(terms).is_some(),
        "nobody may serve the longer one to its end"
    );
    terms.timestamp = TIMESTAMP;
    assert_eq!(renewed(terms), None);
}

/// T4, T44: whoever keeps it from being replaced could serve it for as long as the clock was wrong.
#[test]
fn a_timestamp_that_was_made_while_the_clock_was_ahead_is_made_anew() {
    let mut scene = Scene::docker();
    let present = scene.now;
    scene.now += DAY * 300;
    let accepted = scene.renewed().unwrap().unwrap();
    scene.store(&accepted);
    scene.now = present;
    let accepted = scene.renewed().unwrap().unwrap();
    let roles: Vec<_> = accepted.files.iter().map(|file| file.role.clone()).collect();
    assert_eq!(roles, [Role::Timestamp]);
    assert_eq!(accepted.renew_at, Some(present + TIMESTAMP * 2 / 3));
    scene.store(&accepted);
    assert_eq!(scene.renewed(), Ok(None), "once");
}

/// Who can write the database puts back a snapshot that the server did sign once, and that is right about every file.
#[test]
fn an_older_snapshot_put_back_is_vouched_for_by_no_new_timestamp() {
    let mut scene = Scene::docker().with_signers();
    let old = scene.holding.files[&Role::Snapshot].clone();
    scene.now += SNAPSHOT * 2 / 3;
    let accepted = scene.renewed().unwrap().unwrap();
    scene.store(&accepted);
    scene.holding.files.insert(Role::Snapshot, old);
    scene.now += TIMESTAMP;
    assert!(scene.renewed().unwrap_err().is_damage());
}
