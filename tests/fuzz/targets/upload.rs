//! Updates as they arrive: the first line is the content type, the rest is the body.
//!
//! Whatever is taken apart is made of pieces of the body, within the limits, and reads the same when it is put together
//! again.

use std::collections::BTreeMap;

use bytes::Bytes;
use countersign::trustserver::access::Peer;
use countersign::trustserver::http::{Call, ProtocolError, upload};
use countersign::tuf::{Limits, Role};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method};

type Files = BTreeMap<Role, Bytes>;

/// Few and small, so that inputs of a few hundred bytes come up against them.
fn limits() -> Limits {
    Limits {
        roles: 3,
        root_bytes: 256,
        ..Limits::default()
    }
}

pub(crate) fn run(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let (kind, rest) = data.split_at(end);
    let body = Bytes::copy_from_slice(rest.get(1..).unwrap_or_default());
    match taken_apart(kind, &body) {
        Ok(files) => assert_sound(&files, &body),
        Err(error) => {
            let status = error.into_response().status();
            assert!(status.is_client_error(), "{status}");
        }
    }
}

fn taken_apart(kind: &[u8], body: &Bytes) -> Result<Files, ProtocolError> {
    let mut headers = HeaderMap::new();
    if let Ok(kind) = HeaderValue::from_bytes(kind) {
        headers.insert("content-type", kind);
    }
    let call = Call {
        method: Method::POST,
        uri: "/v2/reg.example/app/_trust/tuf/".parse().unwrap(),
        headers,
        body: body.clone(),
        peer: Peer {
            address: "192.0.2.1:1".parse().unwrap(),
            names: Vec::new(),
        },
    };
    upload(&call, &limits())
        .now_or_never()
        .expect("what is in memory is waited for")
}

fn assert_sound(files: &Files, body: &Bytes) {
    assert!((1..=limits().roles).contains(&files.len()));
    assert!(!files.contains_key(&Role::Timestamp));
    for (role, file) in files {
        assert!(
            *role != Role::Root || file.len() <= 256,
            "a root of {}",
            file.len()
        );
        assert!(
            body.windows(file.len()).any(|part| part == file),
            "{role} is not in the body"
        );
    }
    // A boundary that no file has in it.
    let boundary = (0..=body.len())
        .map(|n| format!("b{n}"))
        .find(|boundary| !contains(body, boundary.as_bytes()))
        .unwrap();
    let mut again = Vec::new();
    for (role, file) in files {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=files; filename=\"{role}\"\r\n\r\n"
        );
        again.extend_from_slice(head.as_bytes());
        again.extend_from_slice(file);
        again.extend_from_slice(b"\r\n");
    }
    again.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let kind = format!("multipart/form-data; boundary={boundary}");
    let read = taken_apart(kind.as_bytes(), &again.into());
    assert!(
        read.is_ok_and(|read| read == *files),
        "put together it is another one"
    );
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}
