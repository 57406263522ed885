use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;
use tokio::time::timeout;

use super::*;
use crate::trustserver::access::Peer;

const FILE: &str =
    r#"{"signed":{"_type":"Targets","expires":"2031-05-01T10:00:00.5+02:00","version":1},"signatures":[]}"#;

fn call(kind: &str, body: impl Into<Bytes>) -> Call {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_bytes(kind.as_bytes()).unwrap());
    Call {
        method: Method::POST,
        uri: "/v2/reg.example/app/_trust/tuf/".parse().unwrap(),
        headers,
        body: body.into(),
        peer: Peer {
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            names: Vec::new(),
        },
    }
}

/// One part with this disposition after `form-data`.
fn part(disposition: &str, file: &str) -> String {
    format!(
        "--B\r\nContent-Disposition: form-data{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n{file}\r\n"
    )
}

fn named(name: &str, file: &str) -> String {
    part(&format!("; name=\"files\"; filename=\"{name}\""), file)
}

async fn sent(parts: &str) -> Result<Vec<String>, ProtocolError> {
    let call = call("multipart/form-data; boundary=B", format!("{parts}--B--\r\n"));
    let files = upload(&call, &Limits::default()).await?;
    Ok(files.keys().map(ToString::to_string).collect())
}

fn invalid(role: &str) -> Result<Vec<String>, ProtocolError> {
    let role = role.to_owned();
    Err(ProtocolError::InvalidRole { role })
}

/// What Go's clients send, byte for byte.
#[tokio::test]
async fn files_arrive_by_role_as_they_were_sent() {
    let kind = "multipart/form-data; boundary=2b4f0d9c7a61e83f2b4f0d9c7a61e83f2b4f0d9c7a61e83f2b4f0d9c7a61";
    let body = "--2b4f0d9c7a61e83f2b4f0d9c7a61e83f2b4f0d9c7a61e83f2b4f0d9c7a61\r\nContent-Disposition: form-data; name=\"files\"; filename=\"targets/releases\"\r\nContent-Type: application/octet-stream\r\n\r\nFILE\r\n--2b4f0d9c7a61e83f2b4f0d9c7a61e83f2b4f0d9c7a61e83f2b4f0d9c7a61\r\nContent-Disposition: form-data; name=\"files\"; filename=\"root\"\r\nContent-Type: application/octet-stream\r\n\r\nFILE\r\n--2b4f0d9c7a61e83f2b4f0d9c7a61e83f2b4f0d9c7a61e83f2b4f0d9c7a61--\r\n";
    let files = upload(&call(kind, body.replace("FILE", FILE)), &Limits::default())
        .await
        .unwrap();
    let want = [(Role::Root, FILE), (Role::releases(), FILE)];
    assert_eq!(files, want.map(|(role, file)| (role, Bytes::from(file))).into());
}

/// §2.4: the name is taken whole, never only what stands behind its last slash.
#[tokio::test]
async fn a_file_name_is_the_role() {
    for (disposition, want) in [
        (
            "; name=\"files\"; filename=\"targets/releases\"",
            Ok(vec!["targets/releases".to_owned()]),
        ),
        (
            "; filename=\"targets/a/b/c\"",
            Ok(vec!["targets/a/b/c".to_owned()]),
        ),
        (
            "; filename=targets/releases; name=files",
            Ok(vec!["targets/releases".to_owned()]),
        ),
        (";FileName = \"root\" ; name=\"x\"", Ok(vec!["root".to_owned()])),
        (
            "; filename=\"targets/releases.json\"",
            Ok(vec!["targets/releases".to_owned()]),
        ),
        ("; filename=\"snapshot.json\";", Ok(vec!["snapshot".to_owned()])),
        ("; filename=\"root.json.json\"", invalid("root.json")),
        ("; filename=\"releases\"", invalid("releases")),
        ("; filename=\"/targets/releases\"", invalid("/targets/releases")),
        ("; filename=\"targets/../root\"", invalid("targets/../root")),
        ("; filename=\"targets/releases \"", invalid("targets/releases ")),
        ("; filename=\"Root\"", invalid("Root")),
        ("; filename=\"targets/é\"", invalid("targets/é")),
        ("; filename=\"timestamp\"", invalid("timestamp")),
        ("; filename=\"timestamp.json\"", invalid("timestamp")),
        ("; filename=\"\"", Err(ProtocolError::NoFilename)),
        ("; filename=\".json\"", Err(ProtocolError::NoFilename)),
        ("; filename=", Err(ProtocolError::NoFilename)),
        ("; name=\"root\"", Err(ProtocolError::NoFilename)),
        ("", Err(ProtocolError::NoFilename)),
    ] {
        assert_eq!(sent(&part(disposition, FILE)).await, want, "{disposition}");
    }
    let bare = format!("--B\r\nContent-Type: text/plain\r\n\r\n{FILE}\r\n");
    assert_eq!(sent(&bare).await, Err(ProtocolError::NoFilename));
}

/// Two readers of such a name could find two roles in it.
#[tokio::test]
async fn a_name_that_can_be_read_in_two_ways_is_refused() {
    for disposition in [
        "; filename=\"targets\\/releases\"",
        "; filename=\"ro\\\"ot\"",
        "; filename=\"root\\\\\"",
        "; filename=ro\\ot",
        "; filename*=UTF-8''root",
        "; filename=\"root\"; filename*=UTF-8''targets",
        "; filename*=UTF-8''targets; filename=\"root\"",
        "; filename=\"root\"; filename=\"targets\"",
        "; filename=\"root\"; FILENAME=targets",
        "; filename=\"root",
        "; filename=\"root\"x",
        "; filename=ro\"ot\"",
        "; filename",
        "; name=\"a\\\"; filename=\"root\"",
    ] {
        let got = sent(&part(disposition, FILE)).await;
        assert!(
            matches!(got, Err(ProtocolError::MalformedUpload { .. })),
            "{disposition}: {got:?}"
        );
    }
}

/// The form library finds `filename=` inside of quotes; we do not.
#[tokio::test]
async fn a_name_inside_of_another_parameters_quotes_is_not_one() {
    let hidden = "; name=\"x; filename=root\"";
    assert_eq!(sent(&part(hidden, FILE)).await, Err(ProtocolError::NoFilename));
    let both = "; name=\"x; filename=root;\"; filename=\"targets\"";
    assert_eq!(sent(&part(both, FILE)).await, Ok(vec!["targets".to_owned()]));
}

#[tokio::test]
async fn a_part_is_one_metadata_file_and_nothing_else() {
    for (label, file, fine) in [
        ("honest", FILE.to_owned(), true),
        ("with one newline", format!("{FILE}\n"), true),
        ("with two newlines", format!("{FILE}\n\n"), false),
        ("with a space behind it", format!("{FILE} "), false),
        ("with another value behind it", format!("{FILE}{FILE}"), false),
        ("with bytes behind it", format!("{FILE}x}}"), false),
        ("empty", String::new(), false),
        ("cut", FILE.trim_end_matches('}').to_owned(), false),
        ("null", "null".to_owned(), false),
        ("an array", format!("[{FILE}]"), false),
        ("without signatures", FILE.replace("signatures", "sigs"), false),
        ("null signatures", FILE.replace("[]", "null"), false),
        ("without signed", "{\"signatures\":[]}".to_owned(), false),
        ("without type", FILE.replace("_type", "type"), false),
        ("without expiry", FILE.replace("expires", "expire"), false),
        ("with an expiry that is no time", FILE.replace("2031-", "never"), false),
        ("without version", FILE.replace("version", "Version"), false),
        ("with a version that is no integer", FILE.replace(":1}", ":1.5}"), false),
        ("signed twice", FILE.replace("{\"signed\":{", "{\"signed\":{\"_type\":\"Root\",\"expires\":\"2031-05-01T10:00:00Z\",\"version\":1},\"signed\":{"), false),
        ("deeply nested", FILE.replace("[]", &"[".repeat(100_000)), false),
    ] {
        let want = if fine { Ok(vec!["targets".to_owned()]) } else { Err(ProtocolError::MalformedJson) };
        assert_eq!(sent(&named("targets", &file)).await, want, "{label}");
    }
    let bytes = [
        b"--B\r\nContent-Disposition: form-data; filename=root\r\n\r\n\xff\xfe".as_slice(),
        b"\r\n--B--\r\n",
    ];
    let binary = call("multipart/form-data; boundary=B", bytes.concat());
    assert_eq!(
        upload(&binary, &Limits::default()).await,
        Err(ProtocolError::MalformedJson)
    );
}

/// §2.4: name, role and content of one part before those of the next.
#[tokio::test]
async fn parts_are_judged_in_turn() {
    let (nameless, senseless) = (named("", "x"), named("nobody", "x"));
    let (broken, fine) = (named("root", "x"), named("root", FILE));
    for (parts, want) in [
        (
            format!("{nameless}{senseless}{broken}"),
            Err(ProtocolError::NoFilename),
        ),
        (format!("{senseless}{nameless}"), invalid("nobody")),
        (format!("{broken}{nameless}"), Err(ProtocolError::MalformedJson)),
        (format!("{fine}{nameless}"), Err(ProtocolError::NoFilename)),
    ] {
        assert_eq!(sent(&parts).await, want, "{parts}");
    }
}

#[tokio::test]
async fn too_much_too_little_and_twice_are_refused() {
    let many = |count| {
        (0..count)
            .map(|n| named(&format!("targets/r{n}"), FILE))
            .collect::<String>()
    };
    let large = |bytes: usize| named("root", &FILE.replace("[]", &format!("[{}]", " ".repeat(bytes))));
    for (label, parts, fine) in [
        ("as many as a verifier reads", many(64), true),
        ("one more", many(65), false),
        (
            "a role twice",
            named("root", FILE) + &named("root.json", FILE),
            false,
        ),
        (
            "as large as a verifier reads",
            large((512 << 10) - FILE.len()),
            true,
        ),
        ("one byte more", large((512 << 10) - FILE.len() + 1), false),
    ] {
        let got = sent(&parts).await;
        assert_eq!(got.is_ok(), fine, "{label}");
        assert!(
            fine || matches!(got, Err(ProtocolError::MalformedUpload { .. })),
            "{label}"
        );
    }
    let empty = sent("").await;
    assert_eq!(empty, Err(ProtocolError::MalformedUpload { problem: "no files" }));
}

#[tokio::test]
async fn a_body_is_exactly_one_form() {
    let part = named("root", FILE);
    let whole = format!("{part}--B--\r\n");
    let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
    let kind = "multipart/form-data; boundary=B";
    for (label, kind, body, fine) in [
        ("honest", kind, whole.clone(), true),
        ("without the last line end", kind, format!("{part}--B--"), true),
        (
            "quoted boundary",
            "Multipart/Form-Data; boundary=\"B\"",
            whole.clone(),
            true,
        ),
        ("bytes before it", kind, format!("x\r\n{whole}"), false),
        ("a line before it", kind, format!("\r\n{whole}"), false),
        ("bytes behind it", kind, format!("{whole}x"), false),
        ("half a line end behind it", kind, format!("{whole}\r"), false),
        ("another form behind it", kind, format!("{whole}{whole}"), false),
        ("padding behind its end", kind, format!("{part}--B-- \r\n"), false),
        ("no end", kind, part.clone(), false),
        ("half an end", kind, format!("{part}--B-"), false),
        (
            "a part that breaks off",
            kind,
            "--B\r\nContent-Disp".to_owned(),
            false,
        ),
        (
            "a part without headers' end",
            kind,
            "--B\r\nA: b\r\n--B--\r\n".to_owned(),
            false,
        ),
        (
            "broken headers",
            kind,
            whole.replace("Content-Type: ", "Content Type "),
            false,
        ),
        ("bare line feeds", kind, whole.replace("\r\n", "\n"), false),
        (
            "another boundary",
            "multipart/form-data; boundary=C",
            whole.clone(),
            false,
        ),
        (
            "the beginning of a boundary",
            kind,
            whole.replace("--B\r\n", "--Bx\r\n"),
            false,
        ),
        (
            "an empty boundary",
            "multipart/form-data; boundary=\"\"",
            whole.clone(),
            false,
        ),
        ("no boundary", "multipart/form-data", whole.clone(), false),
        ("too long a boundary", &long, whole.clone(), false),
        ("mixed", "multipart/mixed; boundary=B", whole.clone(), false),
        ("json", "application/json", FILE.to_owned(), false),
        ("no type that can be read", "é", whole.clone(), false),
        ("nothing", kind, String::new(), false),
    ] {
        let got = upload(&call(kind, body), &Limits::default()).await;
        assert_eq!(got.is_ok(), fine, "{label}: {got:?}");
        assert!(
            fine || matches!(got, Err(ProtocolError::MalformedUpload { .. })),
            "{label}: {got:?}"
        );
    }
    let mut untyped = call(kind, whole);
    untyped.headers.clear();
    assert!(upload(&untyped, &Limits::default()).await.is_err());
}

proptest! {
    #[test]
    fn no_body_panics_or_hangs(
        pieces in proptest::collection::vec(
            "--B|--B--|\r\n|\r\n\r\n|\r|\n|Content-Disposition: form-data; filename=\"root\"|filename=|;|\"|\\\\|[ -~]{0,12}|\\PC{0,4}",
            0..40,
        ),
        bytes: Vec<u8>,
        framed: bool,
    ) {
        let mut body = pieces.concat().into_bytes();
        body.extend(bytes);
        if framed {
            body = [b"--B\r\n".as_slice(), &body, b"\r\n--B--\r\n"].concat();
        }
        let call = call("multipart/form-data; boundary=B", body);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let ended = runtime.block_on(async {
            let limits = Limits::default();
            timeout(Duration::from_secs(5), upload(&call, &limits)).await.is_ok()
        });
        prop_assert!(ended, "it hangs");
    }

    #[test]
    fn no_disposition_panics(text in "[;=\"\\\\ a-z*]{0,40}|\\PC{0,40}") {
        let _any = file_name(&text);
    }

    #[test]
    fn no_content_type_panics(text in "(multipart/form-data)?[ -~]{0,60}") {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, text.parse().unwrap());
        let _any = boundary(&headers);
    }
}
