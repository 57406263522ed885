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
fn a_longer_life_is_given_at_once_and_a_shorter_one_in_time() {
    let scene = Scene::docker();
    let mut terms = scene.terms();
    let renewed = |terms| renew(&scene.gun, &scene.holding, &scene.held, &terms, &scene.limits).unwrap();
    terms.timestamp = DAY * 14;
    assert!(renewed(terms).is_some());
    terms.timestamp = DAY;
    assert_eq!(renewed(terms), None, "a third of the new life is left");
}
