use proptest::prelude::*;

use super::*;

fn parse(method: &str, uri: &str) -> Parsed {
    Route::parse(&method.parse().unwrap(), &uri.parse().unwrap())
}

fn gun() -> Gun {
    "reg.example/app".parse().unwrap()
}

/// What is asked for, as [`parse`] returns it.
type Parsed = Result<Route, ProtocolError>;

fn read(role: &str, form: Form) -> Route {
    let (gun, role) = (gun(), role.parse().unwrap());
    Route::Read { gun, role, form }
}

fn key(role: Role, rotate: bool) -> Route {
    let gun = gun();
    Route::Key { gun, role, rotate }
}

/// §2.1, row by row.
#[test]
fn every_endpoint_is_found() {
    let changes = |gun| {
        let page = Page::After(0, 5);
        Route::Changefeed { gun, page }
    };
    for (method, path, want) in [
        ("GET", "/v2/", Ok(Route::Version)),
        ("GET", "/_notary_server/health", Ok(Route::Health)),
        ("HEAD", "/_notary_server/health", Ok(Route::Health)),
        ("POST", "/_notary_server/health", Err(ProtocolError::NotFound)),
        (
            "POST",
            "/v2/reg.example/app/_trust/tuf/",
            Ok(Route::Update(gun())),
        ),
        (
            "GET",
            "/v2/reg.example/app/_trust/tuf/root.json",
            Ok(read("root", Form::Current)),
        ),
        (
            "GET",
            "/v2/reg.example/app/_trust/tuf/timestamp.key",
            Ok(key(Role::Timestamp, false)),
        ),
        (
            "POST",
            "/v2/reg.example/app/_trust/tuf/snapshot.key",
            Ok(key(Role::Snapshot, true)),
        ),
        (
            "DELETE",
            "/v2/reg.example/app/_trust/tuf/",
            Ok(Route::Delete(gun())),
        ),
        (
            "GET",
            "/v2/reg.example/app/_trust/changefeed?records=5",
            Ok(changes(Some(gun()))),
        ),
        ("GET", "/v2/_trust/changefeed?records=5", Ok(changes(None))),
    ] {
        assert_eq!(parse(method, path), want, "{method} {path}");
    }
}

/// §2.2, with the odd forms.
#[test]
fn every_form_of_a_file_is_read() {
    let (lower, upper) = ("ab".repeat(32), "AB".repeat(32));
    let hash = Form::Hash([0xab; 32]);
    for (file, want) in [
        ("timestamp.json", Ok(read("timestamp", Form::Current))),
        (
            "targets/releases.json",
            Ok(read("targets/releases", Form::Current)),
        ),
        ("targets/a/b/c.json", Ok(read("targets/a/b/c", Form::Current))),
        (&*format!("root.{lower}.json"), Ok(read("root", hash))),
        (
            &*format!("targets/releases.{upper}.json"),
            Ok(read("targets/releases", hash)),
        ),
        ("3.root.json", Ok(read("root", Form::Version(3)))),
        ("007.targets/a/b.json", Ok(read("targets/a/b", Form::Version(7)))),
        ("0.root.json", Ok(read("root", Form::Version(0)))),
        (
            "18446744073709551615.root.json",
            Ok(read("root", Form::Version(u64::MAX))),
        ),
        ("18446744073709551616.root.json", Err(ProtocolError::NotFound)),
        (
            &*format!("root.{}.json", "ab".repeat(48)),
            Err(ProtocolError::NotFound),
        ),
        (
            &*format!("root.{}.json", "ab".repeat(64)),
            Err(ProtocolError::NotFound),
        ),
        (
            &*format!("root.{}.json", "ab".repeat(31)),
            Err(ProtocolError::NotFound),
        ),
        (
            &*format!("root.{}.json", "zz".repeat(32)),
            Err(ProtocolError::NotFound),
        ),
        (&*format!("3.root.{lower}.json"), Err(ProtocolError::NotFound)),
    ] {
        let path = format!("/v2/reg.example/app/_trust/tuf/{file}");
        assert_eq!(parse("GET", &path), want, "{file}");
        assert_eq!(parse("HEAD", &path), want, "HEAD {file}");
    }
}

#[test]
fn roles_with_dots_or_odd_parts_are_not_found() {
    for file in [
        "targets/a.b.json",
        "targets/A.json",
        "targets/a%20b.json",
        "targets/a%09.json",
        "targets/.json",
        "targets/%C3%A9.json",
        "targets/%00.json",
        "targetsa.json",
        "Root.json",
        "mirrors.json",
        ".json",
        ".root.json",
        "root..json",
        "1..json",
        "1.json",
        "-1.root.json",
        "+1.root.json",
        "root.json.json",
        "root",
        "root.key",
        "targets.key",
        "targets/releases.key",
        "timestamp.key/",
        &format!("targets/{}.json", "a".repeat(300)),
    ] {
        let path = format!("/v2/reg.example/app/_trust/tuf/{file}");
        assert_eq!(parse("GET", &path), Err(ProtocolError::NotFound), "{file}");
    }
}

#[test]
fn what_nobody_asks_for_is_not_found() {
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/v2"),
        ("POST", "/v2/"),
        ("GET", "/v1/"),
        ("GET", "/v2/reg.example/app/_trust/"),
        ("GET", "/v2/reg.example/app/_trust/tuf"),
        ("GET", "/v2/reg.example/app/_trust/tuf/"),
        ("HEAD", "/v2/reg.example/app/_trust/tuf/"),
        ("PUT", "/v2/reg.example/app/_trust/tuf/"),
        ("POST", "/v2/reg.example/app/_trust/tuf/root.json"),
        ("DELETE", "/v2/reg.example/app/_trust/tuf/root.json"),
        ("POST", "/v2/reg.example/app/_trust/tuf/root.key"),
        ("HEAD", "/v2/reg.example/app/_trust/tuf/timestamp.key"),
        ("DELETE", "/v2/reg.example/app/_trust/tuf/timestamp.key"),
        ("POST", "/v2/reg.example/app/_trust/changefeed?records=1"),
        ("GET", "/v2/reg.example/app/_trust/changefeed/"),
        ("GET", "/v2/_trust/tuf/root.json"),
        ("GET", "/v2/reg.example/app/tags/list"),
        ("GET", "/v2/reg.example/app/_trust/tuf/%ff.json"),
        ("GET", "/v2/reg.example/app/_trust/tuf/%zz.json"),
        ("GET", "*"),
    ] {
        assert_eq!(
            parse(method, path),
            Err(ProtocolError::NotFound),
            "{method} {path}"
        );
    }
}

#[test]
fn repositories_are_named_exactly() {
    let long = format!("reg.example/{}", "a".repeat(243));
    let longer = format!("{long}a");
    for (gun, name) in [
        ("docker.io/library/alpine", Some("docker.io/library/alpine")),
        ("reg.example:5000/team/app", Some("reg.example:5000/team/app")),
        ("reg.example%3A5000/team%2Fapp", Some("reg.example:5000/team/app")),
        ("[2001:db8::1]:5000/app", Some("[2001:db8::1]:5000/app")),
        ("%5B2001:db8::1%5D:5000/app", Some("[2001:db8::1]:5000/app")),
        ("%5b::1%5d/app", Some("[::1]/app")),
        (&*long, Some(&*long)),
        (&*longer, None),
        ("REG.example/app", None),
        ("reg.example/App", None),
        ("app", None),
        ("*/app", None),
        ("reg.example/a%20b", None),
        ("reg.example/app%00", None),
        ("reg.example/app/_trust/tuf/x", None),
    ] {
        let path = format!("/v2/{gun}/_trust/tuf/");
        let update = name.map(|name| Route::Update(name.parse().unwrap()));
        // What is no repository's name, but a path below another's, is no update of anything.
        let wrong = if gun.contains("/_trust/") {
            ProtocolError::NotFound
        } else {
            ProtocolError::InvalidGun
        };
        assert_eq!(parse("POST", &path), update.ok_or(wrong), "POST {gun}");
        let delete = name.map(|name| Route::Delete(name.parse().unwrap()));
        assert_eq!(
            parse("DELETE", &path),
            delete.ok_or(ProtocolError::NotFound),
            "DELETE {gun}"
        );
        for file in ["root.json", "timestamp.key"] {
            let got = parse("GET", &format!("{path}{file}"));
            assert_eq!(got.is_ok(), name.is_some(), "{gun}");
            assert!(matches!(got, Ok(_) | Err(ProtocolError::NotFound)), "{gun}");
        }
    }
}

#[test]
fn other_methods_are_told_which_there_are() {
    for (method, path, want) in [
        ("PATCH", "/v2/", "GET, HEAD"),
        ("PATCH", "/v2/reg.example/app/_trust/tuf/", "DELETE, POST"),
        ("TRACE", "/v2/reg.example/app/_trust/tuf/root.json", "GET, HEAD"),
        ("get", "/v2/reg.example/app/_trust/tuf/timestamp.key", "GET, POST"),
        ("PATCH", "/v2/_trust/changefeed", "GET, HEAD"),
        ("OPTIONS", "*", "DELETE, GET, HEAD, POST"),
        ("PROPFIND", "/nothing", "DELETE, GET, HEAD, POST"),
        ("CONNECT", "reg.example:443", "DELETE, GET, HEAD, POST"),
    ] {
        let want = Err(ProtocolError::Unsupported { allow: want });
        assert_eq!(parse(method, path), want, "{method} {path}");
    }
}

#[test]
fn paths_that_are_not_clean_are_sent_to_the_clean_one() {
    for (path, want) in [
        ("//v2/", "/v2/"),
        (
            "/v2//reg.example/app/_trust/tuf/",
            "/v2/reg.example/app/_trust/tuf/",
        ),
        (
            "/v2/x/../reg.example/app/_trust/tuf/root.json",
            "/v2/reg.example/app/_trust/tuf/root.json",
        ),
        ("/v2/x/%2E%2e/a", "/v2/a"),
        ("/v2/a%2F%2Fb", "/v2/a/b"),
        (
            "/v2/./_trust/changefeed?records=1&x=%20",
            "/v2/_trust/changefeed?records=1&x=%20",
        ),
        ("//evil.example/%5Cx", "/evil.example/%5Cx"),
        ("/..//evil.example", "/evil.example"),
        ("/./%5Cevil.example", "/%5Cevil.example"),
    ] {
        let moved = Err(ProtocolError::Moved {
            location: want.to_owned(),
        });
        for method in ["GET", "HEAD", "POST", "DELETE", "PATCH"] {
            assert_eq!(parse(method, path), moved, "{method} {path}");
        }
    }
}

/// §2.7.
#[test]
fn the_part_of_the_changefeed_is_read_as_the_reference_does() {
    for (query, want) in [
        ("records=5", Some(Page::After(0, 5))),
        ("records=0", Some(Page::After(0, 100))),
        ("records=5&change_id=17", Some(Page::After(17, 5))),
        ("change_id=17&records=-5", Some(Page::Before(17, 5))),
        ("records=5&change_id=-1", Some(Page::Newest(5))),
        ("records=-5&change_id=-1", Some(Page::Newest(5))),
        ("records=0&change_id=-1", Some(Page::Newest(100))),
        ("records=-5", Some(Page::Newest(5))),
        ("records=-5&change_id=0", Some(Page::Newest(5))),
        ("records=5&change_id=", Some(Page::After(0, 5))),
        ("records=1000", Some(Page::After(0, 1_000))),
        ("records=1001", Some(Page::After(0, 1_000))),
        ("records=9223372036854775807", Some(Page::After(0, 1_000))),
        ("records=-9223372036854775808", Some(Page::Newest(1_000))),
        ("records=1&records=2", Some(Page::After(0, 1))),
        ("records=%35", Some(Page::After(0, 5))),
        ("", None),
        ("records", None),
        ("records=", None),
        ("records=x", None),
        ("records=1.5", None),
        ("records=+5", None),
        ("Records=5", None),
        ("records=9223372036854775808", None),
        ("records=5&change_id=x", None),
        ("records=5&change_id=99999999999999999999", None),
    ] {
        let got = parse("GET", &format!("/v2/_trust/changefeed?{query}"));
        let want = want.map(|page| Route::Changefeed { gun: None, page });
        assert_eq!(got, want.ok_or(ProtocolError::InvalidParameters), "{query}");
    }
    let unasked = parse("GET", "/v2/reg.example/app/_trust/changefeed");
    assert_eq!(unasked, Err(ProtocolError::InvalidParameters));
}

proptest! {
    #[test]
    fn no_request_line_panics(
        method in "GET|HEAD|POST|PUT|DELETE|PATCH|[A-Z]{1,8}",
        path in "(/|v2|_trust|tuf|reg\\.example|targets|root|\\.json|\\.key|changefeed|%[0-9a-zA-Z]{0,2}|[!-~]){0,24}",
        query in "(records|change_id|=|&|-|%|[0-9a-z]){0,12}",
    ) {
        if let Ok(uri) = format!("/{path}?{query}").parse() {
            let _any = Route::parse(&method.parse().unwrap(), &uri);
        }
    }

    #[test]
    fn any_file_is_found_or_not(file in "\\PC{0,80}") {
        let _any = named(&file);
    }
}
