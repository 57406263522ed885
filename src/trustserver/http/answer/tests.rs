use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::constant(1_900_000_000, 0);

fn file(bytes: &str) -> File {
    File {
        version: 3,
        sha256: [0xab; 32],
        bytes: Bytes::copy_from_slice(bytes.as_bytes()),
        stored_at: Timestamp::constant(784_111_777, 5),
    }
}

/// A timestamp that expires so many seconds from now.
fn expiring(seconds: i64) -> File {
    let at = Timestamp::from_second(NOW.as_second() + seconds).unwrap();
    file(&format!(
        "{{\"signed\":{{\"_type\":\"Timestamp\",\"expires\":\"{at}\",\"version\":3}},\"signatures\":[]}}"
    ))
}

fn get(role: &Role, file: &File, form: Form, ages: CacheAges) -> Response<Bytes> {
    metadata(role, file, form, &HeaderMap::new(), ages, NOW)
}

fn asking(name: &'static str, values: &[&str]) -> HeaderMap {
    let values = values
        .iter()
        .map(|value| (name.parse().unwrap(), value.parse().unwrap()));
    values.collect()
}

fn body(response: Response<Bytes>) -> String {
    String::from_utf8(response.into_body().into()).unwrap()
}

#[test]
fn a_file_is_answered_as_it_is_stored() {
    let response = get(
        &Role::Targets,
        &file("{\"a\": 1}\n"),
        Form::Current,
        CacheAges::default(),
    );
    assert_eq!(response.status(), 200);
    for (name, want) in [
        ("content-type", "application/json"),
        ("etag", &*format!("\"{}\"", "ab".repeat(32))),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        (
            "cache-control",
            "public, max-age=300, s-maxage=300, must-revalidate",
        ),
    ] {
        assert_eq!(response.headers()[name], want);
    }
    assert_eq!(body(response), "{\"a\": 1}\n");
}

/// §2.3.
#[test]
fn caches_are_told_how_long() {
    let (hash, version) = (Form::Hash([0xab; 32]), Form::Version(3));
    let ages = |current, fixed| CacheAges { current, fixed };
    let none = "max-age=0, no-cache, no-store";
    for (form, ages, want) in [
        (
            hash,
            CacheAges::default(),
            "public, max-age=2592000, s-maxage=2592000",
        ),
        (
            version,
            CacheAges::default(),
            "public, max-age=2592000, s-maxage=2592000",
        ),
        (
            Form::Current,
            ages(7, 8),
            "public, max-age=7, s-maxage=7, must-revalidate",
        ),
        (hash, ages(7, 8), "public, max-age=8, s-maxage=8"),
        (Form::Current, ages(0, 8), none),
        (version, ages(7, 0), none),
    ] {
        let response = get(&Role::Root, &file("{}"), form, ages);
        assert_eq!(response.headers()[CACHE_CONTROL], want, "{form:?} {ages:?}");
        assert_eq!(
            response.headers().contains_key(PRAGMA),
            want == none,
            "{form:?} {ages:?}"
        );
    }
}

#[test]
fn no_cache_serves_a_timestamp_that_has_expired() {
    let none = "max-age=0, no-cache, no-store";
    for (label, file, want) in [
        (
            "fresh",
            expiring(14 * 24 * 3_600),
            "public, max-age=300, s-maxage=300, must-revalidate",
        ),
        (
            "about to expire",
            expiring(20),
            "public, max-age=20, s-maxage=20, must-revalidate",
        ),
        ("expired this moment", expiring(0), none),
        ("long expired", expiring(-1_000_000), none),
        ("not one that can be read", file("{}"), none),
    ] {
        let response = get(&Role::Timestamp, &file, Form::Current, CacheAges::default());
        assert_eq!(response.headers()[CACHE_CONTROL], want, "{label}");
        let fixed = get(&Role::Timestamp, &file, Form::Version(3), CacheAges::default());
        assert_eq!(
            fixed.headers()[CACHE_CONTROL],
            "public, max-age=2592000, s-maxage=2592000",
            "{label}"
        );
    }
}

#[test]
fn shared_caches_do_not_keep_what_a_caller_logged_in_for() {
    let headers = asking("authorization", &["Bearer x"]);
    for (form, want) in [
        (Form::Current, "private, max-age=300, must-revalidate"),
        (Form::Version(3), "private, max-age=2592000"),
    ] {
        let response = metadata(
            &Role::Root,
            &file("{}"),
            form,
            &headers,
            CacheAges::default(),
            NOW,
        );
        assert_eq!(response.headers()[CACHE_CONTROL], want);
    }
}

#[test]
fn whoever_has_the_file_is_told_so() {
    let tag = format!("\"{}\"", "ab".repeat(32));
    let (weak, upper) = (format!("W/{tag}"), tag.to_uppercase());
    let list = format!("\"a\", {tag},\"b\"");
    for (values, known) in [
        (&[&*tag][..], true),
        (&[&weak], true),
        (&[&list], true),
        (&["\"a\"", &tag], true),
        (&["*"], true),
        (&["\"a\""], false),
        (&[&upper], false),
        (&["abababab"], false),
        (&[""], false),
        (&["W/"], false),
        (&[], false),
    ] {
        let headers = asking("if-none-match", values);
        let response = metadata(
            &Role::Root,
            &file("{}"),
            Form::Current,
            &headers,
            CacheAges::default(),
            NOW,
        );
        assert_eq!(response.status() == StatusCode::NOT_MODIFIED, known, "{values:?}");
        assert_eq!(response.headers()[ETAG], tag);
        assert!(
            response.headers().contains_key(CACHE_CONTROL) && response.headers().contains_key(LAST_MODIFIED)
        );
        assert_eq!(
            response.headers().contains_key(CONTENT_TYPE),
            !known,
            "{values:?}"
        );
        assert_eq!(response.body().is_empty(), known, "{values:?}");
    }
}

#[test]
fn head_is_told_the_length_alone() {
    let response = headers_only(get(&Role::Root, &file("{}"), Form::Current, CacheAges::default()));
    assert_eq!((response.status().as_u16(), response.body().len()), (200, 0));
    assert_eq!(response.headers()[CONTENT_LENGTH], "2");
    let known = asking("if-none-match", &["*"]);
    let known = metadata(
        &Role::Root,
        &file("{}"),
        Form::Current,
        &known,
        CacheAges::default(),
        NOW,
    );
    assert!(!headers_only(known).headers().contains_key(CONTENT_LENGTH));
}

#[test]
fn the_version_is_an_empty_object() {
    assert_eq!(version().headers()[CONTENT_TYPE], "application/json");
    assert_eq!(body(version()), "{}");
    assert_eq!((empty().status().as_u16(), empty().body().len()), (200, 0));
}

/// §2.5: the reference's order, which is not canonical.
#[test]
fn a_key_is_written_in_the_references_order() {
    let one = PublicKey::new("ecdsa", vec![1, 2, 3, 255]);
    let response = key(&one);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    let text = body(response);
    assert_eq!(
        text,
        r#"{"keytype":"ecdsa","keyval":{"public":"AQID/w==","private":null}}"#
    );
    assert_eq!(PublicKey::parse(text.as_bytes()).unwrap().id(), one.id());
}

/// §2.7.
#[test]
fn changes_are_written_as_the_reference_does() {
    let gun = || "reg.example/app".parse().unwrap();
    let created_at: Timestamp = "2031-05-01T10:00:00Z".parse().unwrap();
    let records = [
        ChangeRecord {
            id: 17,
            created_at,
            gun: gun(),
            event: Event::Update {
                version: 4,
                sha256: [0xab; 32],
            },
        },
        ChangeRecord {
            id: 18,
            created_at,
            gun: gun(),
            event: Event::Deletion,
        },
    ];
    let hash = "ab".repeat(32);
    assert_eq!(
        body(changefeed(&records)),
        format!(
            "{{\"count\":2,\"records\":[{{\"ID\":\"17\",\"CreatedAt\":\"2031-05-01T10:00:00Z\",\"GUN\":\"reg.example/app\",\
             \"Version\":4,\"SHA256\":\"{hash}\",\"Category\":\"update\"}},{{\"ID\":\"18\",\
             \"CreatedAt\":\"2031-05-01T10:00:00Z\",\"GUN\":\"reg.example/app\",\"Version\":0,\"SHA256\":\"\",\
             \"Category\":\"deletion\"}}]}}"
        )
    );
    assert_eq!(body(changefeed(&[])), r#"{"count":0,"records":[]}"#);
    assert_eq!(changefeed(&[]).headers()[CONTENT_TYPE], "application/json");
}

proptest! {
    #[test]
    fn no_header_file_or_date_panics(
        value in "[ -~]{0,80}",
        bytes: Vec<u8>,
        stored: i64,
        current: u32,
    ) {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, value.parse().unwrap());
        let stored_at = Timestamp::from_second(stored % 253_000_000_000).unwrap_or(Timestamp::MIN);
        let file = File { version: 1, sha256: [0; 32], bytes: bytes.into(), stored_at };
        let ages = CacheAges { current, fixed: 0 };
        let _any = metadata(&Role::Timestamp, &file, Form::Current, &headers, ages, NOW);
    }
}

#[test]
fn a_shared_cache_may_not_keep_what_a_certificate_opened() {
    for (form, want) in [
        (Form::Current, "private, max-age=300, must-revalidate"),
        (Form::Version(3), "private, max-age=2592000"),
    ] {
        let mut response = get(&Role::Root, &file("{}"), form, CacheAges::default());
        keep_private(&mut response);
        assert_eq!(response.headers()[CACHE_CONTROL], want);
    }
    let never = CacheAges { current: 0, fixed: 0 };
    let mut response = get(&Role::Root, &file("{}"), Form::Current, never);
    keep_private(&mut response);
    assert_eq!(response.headers()[CACHE_CONTROL], "max-age=0, no-cache, no-store");
}
