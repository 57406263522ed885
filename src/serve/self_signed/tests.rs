use std::collections::VecDeque;
use std::thread;

use jiff::SignedDuration;
use rustls_pki_types::CertificateDer;

use super::*;
use crate::serve::ready::Life;

const NAMES: [&str; 4] = ["localhost", "webhook.countersign.svc", "127.0.0.1", "::1"];

struct Place {
    directory: tempfile::TempDir,
    names: Vec<String>,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            names: NAMES.map(str::to_owned).to_vec(),
        }
    }

    fn own(&self) -> SelfSigned {
        SelfSigned::new(self.directory.path().join("tls"), self.names.clone())
    }

    fn maintain(&self, now: Timestamp) -> Current {
        self.own().maintain(now).unwrap()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.own().path(name)).unwrap()
    }

    fn authorities(&self, now: Timestamp) -> Vec<Authority> {
        self.own().stored_authorities(now)
    }
}

fn start() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn after(hours: i64) -> Timestamp {
    start().checked_add(SignedDuration::from_hours(hours)).unwrap()
}

fn leaf(current: &Current) -> CertificateDer<'static> {
    tls::certificates(&current.chain).unwrap().remove(0)
}

fn life(current: &Current) -> Life {
    tls::life(&leaf(current)).unwrap()
}

#[test]
fn an_empty_directory_gets_an_authority_and_a_leaf() {
    let place = Place::new();
    let current = place.maintain(start());
    let Life {
        not_before,
        not_after,
    } = life(&current);
    assert_eq!(not_before.to_string(), "2026-11-22T11:55:00Z");
    assert_eq!(not_after.to_string(), "2026-11-29T12:00:00Z");
    assert_eq!(current.authority.unwrap().to_string(), "2027-11-22T12:00:00Z");
    assert!(vouched(
        &leaf(&current),
        &place.names,
        &place.authorities(start()),
        start()
    ));
    assert_eq!(current.chain, place.read(LEAF));
    for (name, mode) in [
        (AUTHORITIES, 0o644),
        (AUTHORITY_KEYS, 0o600),
        (LEAF, 0o644),
        (LEAF_KEY, 0o600),
    ] {
        let found = fs::metadata(place.own().path(name)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{name}");
    }
    let files = fs::read_dir(place.own().path("")).unwrap().count();
    assert_eq!(files, 5, "nothing temporary is left behind");
}

#[test]
fn what_is_good_is_kept_and_what_is_due_renewed() {
    let place = Place::new();
    let first = place.maintain(start());
    let authorities = place.read(AUTHORITIES);
    let two_thirds = 7 * 24 * 2 / 3;
    assert_eq!(place.maintain(after(two_thirds - 1)).chain, first.chain);
    let second = place.maintain(after(two_thirds + 1));
    assert_ne!(second.chain, first.chain);
    assert_ne!(*second.key, *first.key, "a leaf's key is fresh");
    assert_eq!(place.read(AUTHORITIES), authorities);
}

#[test]
fn other_names_make_another_leaf() {
    let mut place = Place::new();
    let first = place.maintain(start());
    place.names.swap(0, 3);
    assert_eq!(
        place.maintain(start()).chain,
        first.chain,
        "the order says nothing"
    );
    place.names.push("2001:db8:0:0::7".to_owned());
    let second = place.maintain(start());
    assert_ne!(second.chain, first.chain);
    assert_eq!(
        place.maintain(start()).chain,
        second.chain,
        "addresses have many spellings"
    );
}

/// TLS-06, over three years, for clients that read `ca.crt` once a day and leaves that are lost as often.
#[test]
fn whoever_reads_the_bundle_daily_trusts_every_leaf() {
    let place = Place::new();
    place.maintain(start());
    let mut days: VecDeque<Vec<u8>> = VecDeque::from([place.read(AUTHORITIES)]);
    let mut signers = 0;
    let mut overlaps = 0;
    for hour in (0..3 * 365 * 24).step_by(24) {
        let now = after(hour);
        fs::remove_file(place.own().path(LEAF)).unwrap();
        let current = place.maintain(now);
        days.push_back(place.read(AUTHORITIES));
        let yesterday = days.pop_front().unwrap();
        let known: Vec<_> = tls::certificates(&yesterday)
            .unwrap()
            .into_iter()
            .map(|certificate| Authority::resume(certificate, &mut Vec::new()).unwrap())
            .collect();
        assert!(
            vouched(&leaf(&current), &place.names, &known, now),
            "day {}",
            hour / 24
        );
        overlaps += usize::from(known.len() > 1);
        signers = signers.max(known.len());
    }
    assert_eq!(signers, 2, "an old authority goes when it has expired");
    assert!(overlaps > 100);
}

#[test]
fn broken_or_missing_files_are_made_again() {
    for name in [AUTHORITIES, AUTHORITY_KEYS, LEAF, LEAF_KEY] {
        for broken in [
            None,
            Some(&b""[..]),
            Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ] {
            let place = Place::new();
            place.maintain(start());
            match broken {
                None => fs::remove_file(place.own().path(name)).unwrap(),
                Some(bytes) => fs::write(place.own().path(name), bytes).unwrap(),
            }
            let current = place.maintain(start());
            let authorities = place.authorities(start());
            assert!(
                vouched(&leaf(&current), &place.names, &authorities, start()),
                "{name} {broken:?}"
            );
            assert!(
                authorities.iter().any(|authority| authority.signs(start())),
                "{name} {broken:?}"
            );
            assert_eq!(place.maintain(start()).chain, current.chain, "{name} {broken:?}");
        }
    }
}

#[test]
fn a_pair_from_a_time_to_come_is_not_used() {
    let place = Place::new();
    place.maintain(after(1_000));
    let current = place.maintain(start());
    assert!(life(&current).contains(start()));
}

#[test]
fn processes_that_share_the_directory_agree() {
    let place = Place::new();
    let chains: Vec<_> = thread::scope(|scope| {
        let processes: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| place.maintain(start()).chain))
            .collect();
        processes
            .into_iter()
            .map(|process| process.join().unwrap())
            .collect()
    });
    assert!(chains.iter().all(|chain| *chain == chains[0]));
    assert_eq!(place.authorities(start()).len(), 1);
}

#[test]
fn a_name_that_is_none_is_refused() {
    let mut place = Place::new();
    place.names.push("bücher.example".to_owned());
    assert!(matches!(
        place.own().maintain(start()),
        Err(SelfSignedError::Certificate(_))
    ));
}
