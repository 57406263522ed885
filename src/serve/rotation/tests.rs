use std::slice::from_ref;

use jiff::SignedDuration;

use super::*;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn start() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn after(days: i64) -> Timestamp {
    start()
        .checked_add(SignedDuration::from_hours(24 * days))
        .unwrap()
}

fn minutes(minutes: i64) -> Timestamp {
    start().checked_add(SignedDuration::from_mins(minutes)).unwrap()
}

/// A step on what is stored; callers know the authorities in `settled`.
fn step(
    entries: &Entries,
    now: Timestamp,
    forced: bool,
    settled: &[CertificateDer<'static>],
) -> (Entries, Change) {
    step_knowing(entries, now, forced, settled, &[])
}

fn step_knowing(
    entries: &Entries,
    now: Timestamp,
    forced: bool,
    settled: &[CertificateDer<'static>],
    known: &[CertificateDer<'static>],
) -> (Entries, Change) {
    let settled = |authority: &CertificateDer<'_>| settled.iter().any(|it| it == authority);
    let view = View {
        now,
        lifetime: YEAR,
        forced,
        known,
        settled: &settled,
    };
    let (keyring, change) = Keyring::read(entries).advance(&view).unwrap();
    (keyring.entries(), change)
}

fn founded() -> Entries {
    let (entries, change) = step(&Entries::new(), start(), false, &[]);
    assert_eq!(change, Change::Founded);
    entries
}

fn bundle_of(entries: &Entries) -> Vec<CertificateDer<'static>> {
    read_certificates(&entries[BUNDLE])
}

fn certificate(entries: &Entries, key: &str) -> CertificateDer<'static> {
    read_certificates(&entries[key]).remove(0)
}

#[test]
fn an_authority_is_founded_announced_promoted_and_dropped_when_it_is_over() {
    let first = founded();
    assert_eq!(first.len(), 3, "{:?}", first.keys());
    let old = certificate(&first, SIGNING);
    assert_eq!(bundle_of(&first), from_ref(&old));
    assert_eq!(
        step(&first, after(243), false, &[]).0,
        first,
        "it is not time yet"
    );

    let (second, change) = step(&first, after(244), false, &[]);
    assert_eq!(change, Change::Announced);
    let new = certificate(&second, NEXT);
    assert_eq!(certificate(&second, SIGNING), old);
    assert_eq!(bundle_of(&second), [new.clone(), old.clone()]);
    let known = [old.clone()];
    assert_eq!(
        step(&second, after(244), false, &known).0,
        second,
        "callers do not know it"
    );

    let known = [old.clone(), new.clone()];
    let (third, change) = step(&second, after(244), false, &known);
    assert_eq!(change, Change::Promoted);
    assert_eq!(third.len(), 3, "the old key is gone: {:?}", third.keys());
    assert_eq!(certificate(&third, SIGNING), new);
    assert_eq!(bundle_of(&third), [new.clone(), old]);
    assert_eq!(step(&third, after(365), false, &known).0, third);

    let (fourth, change) = step(&third, after(366), false, &known);
    assert_eq!(change, Change::Mended);
    assert_eq!(bundle_of(&fourth), [new]);
    assert_eq!(step(&fourth, after(366), false, &known).0, fourth);
}

#[test]
fn an_operator_can_ask_for_a_new_authority_once_at_a_time() {
    let first = founded();
    let (second, change) = step(&first, start(), true, &[]);
    assert_eq!(change, Change::Announced);
    let (again, change) = step(&second, start(), true, &[]);
    assert_eq!(again, second);
    assert!(
        !change.is_new(),
        "the request stays until the rotation in progress is over"
    );
    let known = bundle_of(&second);
    let (third, change) = step(&second, start(), true, &known);
    assert_eq!(change, Change::Promoted);
    assert_eq!(step(&third, start(), true, &known).1, Change::Announced);
}

#[test]
fn whatever_is_lost_the_bundle_keeps_what_leaves_in_service_were_signed_by() {
    let first = founded();
    let old = certificate(&first, SIGNING);
    let garbage =
        || Zeroizing::new(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec());
    for (label, lost, known) in [
        (
            "everything, while entries trust it",
            Entries::new(),
            vec![old.clone()],
        ),
        ("the key", without(&first, SIGNING_KEY), vec![]),
        ("the certificate", without(&first, SIGNING), vec![]),
        (
            "a key of somebody else's",
            with(&first, SIGNING_KEY, founded()[SIGNING_KEY].clone()),
            vec![],
        ),
        (
            "certificates that are none",
            with(&with(&first, SIGNING, garbage()), BUNDLE, garbage()),
            vec![old.clone()],
        ),
    ] {
        let (entries, change) = step_knowing(&lost, start(), false, &[], &known);
        assert_eq!(change, Change::Recovered, "{label}");
        let new = certificate(&entries, NEXT);
        assert_eq!(bundle_of(&entries), [new.clone(), old.clone()], "{label}");
        assert!(!entries.contains_key(SIGNING), "{label}");
        assert_eq!(step(&entries, start(), false, &[]).0, entries, "{label}");
        let (entries, change) = step(&entries, start(), false, from_ref(&new));
        assert_eq!(
            (change, certificate(&entries, SIGNING)),
            (Change::Promoted, new),
            "{label}"
        );
    }
    let (entries, change) = step(&without(&first, BUNDLE), start(), false, &[]);
    assert_eq!(
        (change, entries),
        (Change::Mended, first.clone()),
        "a bundle is made of what signs"
    );
    let stranger = rcgen::generate_simple_self_signed(vec!["stranger".to_owned()]).unwrap();
    let (entries, change) = step_knowing(
        &Entries::new(),
        start(),
        false,
        &[],
        &[stranger.cert.der().clone()],
    );
    assert_eq!(
        (change, bundle_of(&entries).len()),
        (Change::Founded, 1),
        "not every certificate is ours"
    );
    let (entries, change) = step_knowing(&Entries::new(), after(400), false, &[], &[old]);
    assert_eq!(
        (change, bundle_of(&entries).len()),
        (Change::Founded, 1),
        "what is over is not kept"
    );
}

fn with(entries: &Entries, key: &str, bytes: Zeroizing<Vec<u8>>) -> Entries {
    let mut entries = entries.clone();
    entries.insert(key.to_owned(), bytes);
    entries
}

fn without(entries: &Entries, key: &str) -> Entries {
    let mut entries = entries.clone();
    assert!(entries.remove(key).is_some());
    entries
}

/// TLS-01: replicas whose clocks are off by up to five minutes each.
#[test]
fn clocks_that_differ_by_ten_minutes_do_not_fight() {
    let (ahead, behind) = (minutes(5), minutes(-5));
    let (entries, _) = step(&Entries::new(), ahead, false, &[]);
    for now in [ahead, start(), behind] {
        assert_eq!(step(&entries, now, false, &[]).0, entries, "{now}");
    }
    let (entries, _) = step(&entries, ahead, true, &[]);
    for now in [ahead, start(), behind] {
        assert_eq!(step(&entries, now, false, &[]).0, entries, "{now}");
    }
    let known = bundle_of(&entries);
    let (entries, change) = step(&entries, behind, false, &known);
    assert_eq!(change, Change::Promoted);
    assert_eq!(step(&entries, ahead, false, &known).0, entries);
    // A clock that is wrong altogether made this one.
    let (entries, _) = step(&Entries::new(), after(30), false, &[]);
    assert_eq!(step(&entries, start(), false, &[]).1, Change::Recovered);
}

#[test]
fn a_leaf_is_signed_by_what_callers_trust() {
    let first = founded();
    let old = certificate(&first, SIGNING);
    let (announced, _) = step(&first, start(), true, &[]);
    let new = certificate(&announced, NEXT);
    let (recovered, _) = step_knowing(&Entries::new(), start(), false, &[], from_ref(&old));
    let fresh = certificate(&recovered, NEXT);
    let stranger = &old;
    for (label, entries, served, trusted, want) in [
        ("at the start", &first, None, &[&old][..], Some(&old)),
        ("before entries trust it", &first, None, &[], None),
        ("while it goes on", &first, Some(&old), &[&old], Some(&old)),
        ("while entries are wrong", &first, Some(&old), &[], Some(&old)),
        (
            "another is announced",
            &announced,
            Some(&old),
            &[&old, &new],
            Some(&old),
        ),
        (
            "nobody can sign, but the old leaf is good",
            &recovered,
            Some(stranger),
            &[stranger, &fresh],
            None,
        ),
        (
            "nobody can sign, and there is no leaf",
            &recovered,
            None,
            &[stranger, &fresh],
            Some(&fresh),
        ),
        (
            "nobody can sign, and no entry trusts the next",
            &recovered,
            None,
            &[stranger],
            None,
        ),
        (
            "what was taken in need is kept",
            &recovered,
            Some(&fresh),
            &[&fresh],
            Some(&fresh),
        ),
    ] {
        let keyring = Keyring::read(entries);
        let signer = keyring.signer(served, |authority| trusted.contains(&authority));
        assert_eq!(signer.map(|it| &it.certificate), want, "{label}");
    }
}

#[test]
fn a_bundle_does_not_grow_for_ever() {
    let mut entries = founded();
    for _ in 0..20 {
        entries = step(&entries, start(), true, &[]).0;
        let known = bundle_of(&entries);
        entries = step(&entries, start(), false, &known).0;
    }
    assert_eq!(bundle_of(&entries).len(), MOST);
    assert_eq!(bundle_of(&entries)[0], certificate(&entries, SIGNING));
}
