//! Against an API server that is played here: it keeps objects by their versions, and tells watchers what changes.

mod played;
mod sharing;
mod taking_away;

use super::*;
use crate::tuf::Role;
use encoding::tests::{SERVER, gun, state};
use played::Played;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

/// The version of the timestamp in a state; zero if there is none.
fn version(state: &State) -> u64 {
    state.seen.get(&Role::Timestamp).map_or(0, |seen| seen.version)
}

#[test]
fn names_of_objects_are_readable_and_those_of_a_dns_label() {
    let of = |gun: &str| name(SERVER, &gun.parse().unwrap());
    let plain = of("registry.example.com/team/app");
    assert!(plain.starts_with("registry-example-com-team-app-"), "{plain}");
    let long = of(&format!("registry.example.com/{}/app", "a_b".repeat(60)));
    for name in [&plain, &long, &of("localhost:5000/a"), &of("[::1]:5000/a")] {
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        assert!(
            name.len() <= 63 && name.bytes().all(|b| letters(b) || b == b'-'),
            "{name}"
        );
        assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
    }
    let others = [
        of("registry.example.com/team_app"),
        name("https://other.example.com/", &gun()),
    ];
    assert!(
        !others.contains(&plain),
        "one name, one repository on one server: {others:?}"
    );
}
