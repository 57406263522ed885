use proptest::prelude::*;

use super::*;

const HEX: &str = "183f0249d5f05b52ae8b9b3f7c9ba895708f3e5a32aab808814b84a2acb5497a";

#[test]
fn references_normalise_as_the_specification_lists() {
    for (input, gun, tag) in [
        ("alpine", "docker.io/library/alpine", "latest"),
        ("team/app:2", "docker.io/team/app", "2"),
        ("docker.io/alpine:3", "docker.io/library/alpine", "3"),
        ("index.docker.io/alpine:3", "docker.io/library/alpine", "3"),
        (
            "index.docker.io/library/alpine:3",
            "docker.io/library/alpine",
            "3",
        ),
        (
            "registry-1.docker.io/library/alpine",
            "registry-1.docker.io/library/alpine",
            "latest",
        ),
        ("localhost/app", "localhost/app", "latest"),
        ("localhost:5000/app", "localhost:5000/app", "latest"),
        ("reg.example:443/a/b:x", "reg.example:443/a/b", "x"),
        ("[::1]:5000/app", "[::1]:5000/app", "latest"),
        ("[::1]/app", "[::1]/app", "latest"),
        ("example.com:5000", "docker.io/library/example.com", "5000"),
        ("docker.io", "docker.io/library/docker.io", "latest"),
        ("a__b/c.d-e---f_g", "docker.io/a__b/c.d-e---f_g", "latest"),
        ("docker.io:443/alpine", "docker.io:443/alpine", "latest"),
        ("app:A_b.c-D", "docker.io/library/app", "A_b.c-D"),
    ] {
        let reference = Reference::parse(input).unwrap_or_else(|e| panic!("{input}: {e}"));
        assert_eq!(reference.gun().as_str(), gun, "{input}");
        assert_eq!(reference.tag().map(Tag::as_str), Some(tag), "{input}");
        assert_eq!(reference.digest(), None, "{input}");
    }
}

#[test]
fn a_digest_stands_alone_or_behind_a_tag() {
    let alone = Reference::parse(&format!("app@sha256:{HEX}")).unwrap();
    assert_eq!(alone.gun().as_str(), "docker.io/library/app");
    assert_eq!(
        (alone.tag(), alone.digest().unwrap().to_string()),
        (None, format!("sha256:{HEX}"))
    );

    let both = Reference::parse(&format!("app:1@sha256:{HEX}")).unwrap();
    assert_eq!(both.to_string(), format!("docker.io/library/app:1@sha256:{HEX}"));

    for (algorithm, length) in [("sha384", 96), ("sha512", 128)] {
        let text = format!("docker.io/library/app@{algorithm}:{}", "ab".repeat(length / 2));
        assert_eq!(Reference::parse(&text).unwrap().to_string(), text);
    }
}

#[test]
fn malformed_references_are_refused() {
    let long = format!("reg.example/{}", "a".repeat(MAX_GUN_BYTES));
    let tag = format!("app:{}", "t".repeat(129));
    for input in [
        "",
        " ",
        " alpine",
        "alpine ",
        "alpine\n",
        "/alpine",
        "alpine/",
        "a//b",
        "-a",
        "a-",
        "a_",
        "a___b",
        "a..b",
        "a._b",
        "a-.b",
        "A",
        "team/App",
        "docker.io/Alpine",
        "app:",
        "app:-1",
        "app:.1",
        "app:a b",
        "app:é",
        "app@",
        "app:1@",
        "app@sha256:",
        "app@sha256:abcd",
        "app@md5:d41d8cd98f00b204e9800998ecf8427e",
        "reg.example:/app",
        "reg.example:x/app",
        "-reg.example/app",
        "reg-.example/app",
        "reg..example/app",
        "reg_x.example/app",
        "[::1/app",
        "[]/app",
        "[::g]/app",
        "[fe80::1%eth0]/app",
        "[::1]5000/app",
        "auto:1:2",
        "a@b@c",
        "ａpp",
        "app\u{200b}",
        HEX,
        &long,
        &tag,
        &format!("app@sha256:{}", HEX.to_uppercase()),
        &format!("app@SHA256:{HEX}"),
        &format!("app@sha256:{HEX}0"),
        &format!("app@sha512:{HEX}"),
        &format!("app@sha256:{HEX}:1"),
        &format!("app@sha256:{HEX}@sha256:{HEX}"),
    ] {
        assert!(Reference::parse(input).is_err(), "{input:?} was accepted");
    }
}

#[test]
fn hosts_with_upper_case_letters_are_refused_and_the_message_says_what_to_write() {
    for input in [
        "DOCKER.IO/library/alpine",
        "Index.Docker.io/library/alpine",
        "MyTeam/app",
        "reg.Example:5000/app",
        "[::A]/app",
    ] {
        let error = Reference::parse(input).unwrap_err();
        assert!(
            matches!(error, ReferenceError::HostUpperCase { .. }),
            "{input}: {error:?}"
        );
        assert!(error.to_string().contains("lower case"));
    }
}

#[test]
fn the_longest_names_that_fit_are_accepted() {
    let path = "a".repeat(MAX_GUN_BYTES - "reg.example/".len());
    assert_eq!(
        Reference::parse(&format!("reg.example/{path}"))
            .unwrap()
            .gun()
            .as_str()
            .len(),
        MAX_GUN_BYTES
    );
    assert!(Reference::parse(&format!("app:{}", "t".repeat(128))).is_ok());
}

#[test]
fn a_gun_gives_its_host_and_path_and_adds_nothing() {
    let gun: Gun = "reg.example:5000/team/app".parse().unwrap();
    assert_eq!((gun.host(), gun.path()), ("reg.example:5000", "team/app"));
    assert!("alpine".parse::<Gun>().is_err());
    assert!("reg.example/app:1".parse::<Gun>().is_err());
}

proptest! {
    #[test]
    fn no_input_panics(text in "\\PC{0,80}") {
        drop(Reference::parse(&text));
    }

    #[test]
    fn what_parses_prints_as_something_that_parses_to_the_same(
        text in "([a-z]{1,4}(\\.[a-z]{1,4})?(:[0-9]{1,4})?/)?[a-z0-9]{1,5}([._-][a-z0-9]{1,3})?(/[a-z0-9]{1,3})?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,8})?(@sha256:[0-9a-f]{64})?"
    ) {
        if let Ok(first) = Reference::parse(&text) {
            let printed = first.to_string();
            prop_assert_eq!(Reference::parse(&printed).unwrap(), first);
            prop_assert_eq!(Reference::parse(&printed).unwrap().to_string(), printed);
        }
    }

    #[test]
    fn digests_round_trip(bytes in proptest::array::uniform32(any::<u8>())) {
        let digest = Digest::sha256(bytes);
        prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
    }
}
