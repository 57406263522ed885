use proptest::prelude::*;

use super::*;
use crate::tuf::{Form, Role};

fn gun(text: &str) -> Gun {
    text.parse().unwrap()
}

fn request(role: Role, form: Form) -> Request {
    Request {
        role,
        form,
        limit: 1000,
        speculative: false,
    }
}

#[test]
fn the_default_server_follows_dockers_rule() {
    for (name, want) in [
        ("docker.io/library/nginx", "https://notary.docker.io/"),
        ("registry.example.com/app", "https://registry.example.com/"),
        (
            "registry.example.com:5000/app",
            "https://registry.example.com:5000/",
        ),
        ("registry.example.com:443/app", "https://registry.example.com/"),
        ("[2001:db8::1]:5000/app", "https://[2001:db8::1]:5000/"),
    ] {
        assert_eq!(default_server(&gun(name)).unwrap().as_str(), want, "{name}");
    }
    for name in ["1.2.3.4.5/app", "registry.example.com:99999/app", "[:]/app"] {
        assert!(default_server(&gun(name)).is_err(), "{name}");
    }
}

#[test]
fn a_metadata_url_is_base_gun_and_file() {
    let (releases, root) = (Role::releases(), Role::Root);
    for (base, name, request, want) in [
        (
            "https://trust.example.com",
            "docker.io/library/nginx",
            request(Role::Timestamp, Form::Current),
            "https://trust.example.com/v2/docker.io/library/nginx/_trust/tuf/timestamp.json",
        ),
        (
            "https://trust.example.com:4443/some/prefix/",
            "r.io:5000/app",
            request(releases, Form::Hash([0xab; 32])),
            "https://trust.example.com:4443/some/prefix/v2/r.io:5000/app/_trust/tuf/targets/releases.\
             abababababababababababababababababababababababababababababababab.json",
        ),
        (
            "http://127.0.0.1:4443",
            "[::1]:5000/app",
            request(root, Form::Version(3)),
            "http://127.0.0.1:4443/v2/[::1]:5000/app/_trust/tuf/3.root.json",
        ),
    ] {
        let base = Base::new(&Url::parse(base).unwrap());
        assert_eq!(base.metadata(&gun(name), &request).unwrap().as_str(), want);
    }
}

#[test]
fn a_server_taken_from_an_image_must_be_https() {
    let http = || Url::parse("http://registry.example.com").unwrap();
    assert!(Server::new(Config::new(http())).is_ok());
    assert!(
        Server::new(Config {
            origin: Origin::Image,
            ..Config::new(http())
        })
        .is_err()
    );
}

proptest! {
    #[test]
    fn no_name_escapes_its_place(name in r"[a-z0-9.:-]{1,20}/[a-z0-9._/-]{1,40}", role in r"targets/[a-z0-9_/-]{1,20}") {
        if let (Ok(gun), Ok(role)) = (name.parse::<Gun>(), role.parse::<Role>()) {
            let base = Base::new(&Url::parse("https://trust.example.com").unwrap());
            let url = base.metadata(&gun, &request(role.clone(), Form::Current)).unwrap();
            prop_assert_eq!(url.host_str(), Some("trust.example.com"));
            prop_assert_eq!(url.path(), format!("/v2/{gun}/_trust/tuf/{role}.json"));
            prop_assert!(url.query().is_none() && url.fragment().is_none());
        }
    }
}
