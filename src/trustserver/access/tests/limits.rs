use super::*;

#[tokio::test]
async fn callers_share_no_allowance_with_each_other() {
    let access = access(&format!(
        "{{anonymous: [pull], limits: {{requestsPerSecond: 1, burst: 2}}, tokens: [{{name: ci, sha256: {}}}]}}",
        sha256("s")
    ));
    let need = Need::Pull(gun(APP));
    for (label, address, header, want) in [
        ("the first", "192.0.2.1", "", "anonymous"),
        ("the second", "192.0.2.1", "", "anonymous"),
        ("the third is one too many", "192.0.2.1", "", "too many requests"),
        (
            "the same address within IPv6",
            "::ffff:192.0.2.1",
            "",
            "too many requests",
        ),
        ("another address", "192.0.2.2", "", "anonymous"),
        (
            "somebody at the first address",
            "192.0.2.1",
            "Bearer s",
            "static ci",
        ),
        ("wherever they are", "192.0.2.9", "Bearer s", "static ci"),
        ("by name", "192.0.2.8", "Bearer s", "too many requests"),
        ("an IPv6 host", "2001:db8:1:2::1", "", "anonymous"),
        ("with many addresses", "2001:db8:1:2:ffff::2", "", "anonymous"),
        ("is one caller", "2001:db8:1:2:3:4:5:6", "", "too many requests"),
        ("and its neighbour another", "2001:db8:1:3::1", "", "anonymous"),
        ("whoever is refused counts too", "192.0.2.3", "Bearer x", "secret"),
        ("again", "192.0.2.3", "Bearer x", "secret"),
        (
            "and then not any more",
            "192.0.2.3",
            "Bearer x",
            "too many requests",
        ),
    ] {
        assert_eq!(
            from_with(&access, &peer(address), header, &need).await,
            want,
            "{label}"
        );
    }
}

#[test]
fn updates_and_new_keys_are_counted_by_themselves() {
    let access = access("limits: {publishesPerMinute: 2, keysPerMinute: 1}");
    let caller = Caller {
        name: Some("ci".to_owned()),
        by: "static",
    };
    let charge = |what| access.charge(&caller, &peer("192.0.2.1"), what);
    assert_eq!(charge(Charge::Publish), Ok(()));
    assert_eq!(charge(Charge::NewKey), Ok(()));
    assert_eq!(charge(Charge::Publish), Ok(()));
    for (what, limit) in [(Charge::Publish, Limit::Publishes), (Charge::NewKey, Limit::Keys)] {
        let Err(Refusal::TooMany {
            retry_after,
            limit: got,
        }) = charge(what)
        else {
            panic!("{what:?}")
        };
        assert_eq!(got, limit);
        assert!(retry_after >= Duration::from_secs(1) && retry_after <= Duration::from_secs(61));
    }
    let open = Access::open_to_all();
    for _ in 0..1000 {
        assert_eq!(open.charge(&caller, &peer("192.0.2.1"), Charge::NewKey), Ok(()));
    }
}

#[test]
fn a_million_addresses_take_no_more_room_than_a_hundred_thousand() {
    let access = access("limits: {publishesPerMinute: 1}");
    let publish = |name: Option<&str>, address: u32| {
        let caller = Caller {
            name: name.map(str::to_owned),
            by: "token",
        };
        let from = peer(&std::net::Ipv4Addr::from_bits(address).to_string());
        access.charge(&caller, &from, Charge::Publish).is_ok()
    };
    assert!((0..100_000).all(|address| publish(None, address)));
    assert!(publish(None, 200_000), "the first of all others");
    assert!(!publish(None, 200_001), "who share one count");
    assert!(!publish(None, 7), "and those before them lose theirs to it");
    assert!(publish(Some("ci"), 200_002), "but nobody's name does");
}
