use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::reference::Gun;

fn text(error: &ProtocolError) -> String {
    String::from_utf8(error.clone().into_response().into_body().into()).unwrap()
}

fn gun() -> Gun {
    "reg.example/app".parse().unwrap()
}

fn invalid(name: &'static str, message: &str, missing: Option<&'static str>) -> ProtocolError {
    let message = message.to_owned();
    ProtocolError::InvalidUpdate(Some(InvalidUpdate {
        name,
        message,
        missing,
    }))
}

fn unauthorized(need: Need) -> ProtocolError {
    let challenges = Vec::new();
    ProtocolError::Unauthorized { need, challenges }
}

/// The table of §2.8: status, and the body to its last byte.
#[expect(clippy::too_many_lines, reason = "it is one table")]
#[test]
fn every_error_has_the_references_body() {
    let second = Duration::from_secs(1);
    for (error, status, body) in [
        (
            ProtocolError::NoStorage,
            500,
            r#"{"code":"NO_STORAGE","message":"The server is misconfigured and has no storage."}"#,
        ),
        (
            ProtocolError::NoCryptoService,
            500,
            r#"{"code":"NO_CRYPTOSERVICE","message":"The server does not have a signing service configured."}"#,
        ),
        (
            ProtocolError::NoKeyAlgorithm,
            500,
            r#"{"code":"NO_KEYALGORITHM","message":"The server does not have a key algorithm configured."}"#,
        ),
        (
            ProtocolError::NoFilename,
            400,
            r#"{"code":"NO_FILENAME","message":"No file/role name provided."}"#,
        ),
        (
            ProtocolError::InvalidRole {
                role: "releases".to_owned(),
            },
            400,
            r#"{"code":"INVALID_ROLE","message":"The role you are attempting to operate on is invalid.","detail":"releases"}"#,
        ),
        (
            ProtocolError::MalformedJson,
            400,
            r#"{"code":"MALFORMED_JSON","message":"JSON sent by the client could not be parsed by the server"}"#,
        ),
        (
            ProtocolError::MalformedUpload { problem: "no files" },
            400,
            r#"{"code":"MALFORMED_UPLOAD","message":"The body of your request is malformed.","detail":"no files"}"#,
        ),
        (
            invalid("ErrBadTargets", "bad \"x\"", None),
            400,
            r#"{"code":"INVALID_UPDATE","message":"Update sent by the client is invalid.","detail":{"Name":"ErrBadTargets","Error":{"Msg":"bad \"x\""}}}"#,
        ),
        (
            invalid("ErrBadHierarchy", "no snapshot", Some("snapshot")),
            400,
            r#"{"code":"INVALID_UPDATE","message":"Update sent by the client is invalid.","detail":{"Name":"ErrBadHierarchy","Error":{"Missing":"snapshot","Msg":"no snapshot"}}}"#,
        ),
        (
            ProtocolError::InvalidUpdate(None),
            400,
            r#"{"code":"INVALID_UPDATE","message":"Update sent by the client is invalid."}"#,
        ),
        (
            ProtocolError::Version,
            400,
            r#"{"code":"VERSION","message":"A newer version of metadata is already available.","detail":{}}"#,
        ),
        (
            ProtocolError::Updating,
            500,
            r#"{"code":"UPDATING","message":"An error has occurred while updating the TUF repository."}"#,
        ),
        (
            ProtocolError::NotFound,
            404,
            r#"{"code":"METADATA_NOT_FOUND","message":"You have requested metadata that does not exist."}"#,
        ),
        (
            ProtocolError::GenericNotFound,
            404,
            r#"{"code":"GENERIC_NOT_FOUND","message":"You have requested a resource that does not exist."}"#,
        ),
        (
            ProtocolError::InvalidGun,
            400,
            r#"{"code":"INVALID_GUN","message":"The server does not support actions on images of this name."}"#,
        ),
        (
            ProtocolError::InvalidParameters,
            400,
            r#"{"code":"INVALID_PARAMETERS","message":"The parameters provided are not valid."}"#,
        ),
        (
            ProtocolError::Unknown,
            500,
            r#"{"code":"UNKNOWN","message":"unknown error"}"#,
        ),
        (
            unauthorized(Need::Push(gun())),
            401,
            r#"{"code":"UNAUTHORIZED","message":"authentication required","detail":[{"Type":"repository","Class":"","Name":"reg.example/app","Action":"push"},{"Type":"repository","Class":"","Name":"reg.example/app","Action":"pull"}]}"#,
        ),
        (
            unauthorized(Need::Known),
            401,
            r#"{"code":"UNAUTHORIZED","message":"authentication required","detail":[{"Type":"registry","Class":"","Name":"catalog","Action":"*"}]}"#,
        ),
        (
            ProtocolError::Denied,
            403,
            r#"{"code":"DENIED","message":"requested access to the resource is denied"}"#,
        ),
        (
            ProtocolError::Unsupported { allow: "GET" },
            405,
            r#"{"code":"UNSUPPORTED","message":"The operation is unsupported."}"#,
        ),
        (
            ProtocolError::Unavailable { retry_after: second },
            503,
            r#"{"code":"UNAVAILABLE","message":"service unavailable"}"#,
        ),
        (
            ProtocolError::TooManyRequests { retry_after: second },
            429,
            r#"{"code":"TOOMANYREQUESTS","message":"too many requests"}"#,
        ),
        (
            ProtocolError::TooLarge,
            413,
            r#"{"code":"MALFORMED_UPLOAD","message":"The body of your request is malformed.","detail":"the body is larger than this server accepts"}"#,
        ),
        (
            ProtocolError::TooSlow,
            408,
            r#"{"code":"MALFORMED_UPLOAD","message":"The body of your request is malformed.","detail":"the body did not arrive in time"}"#,
        ),
        (
            ProtocolError::Late,
            504,
            r#"{"code":"UNAVAILABLE","message":"service unavailable"}"#,
        ),
    ] {
        let response = error.clone().into_response();
        assert_eq!(response.status(), status, "{error:?}");
        assert_eq!(
            response.headers()[CONTENT_TYPE],
            "application/json; charset=utf-8"
        );
        assert_eq!(text(&error), format!("{{\"errors\":[{body}]}}\n"));
    }
}

#[test]
fn headers_say_what_to_do_next() {
    let challenges = ["Bearer realm=\"https://auth.example\"", "Basic realm=\"trust\""];
    let unauthorized = ProtocolError::Unauthorized {
        need: Need::Pull(gun()),
        challenges: challenges.map(HeaderValue::from_static).to_vec(),
    };
    let response = unauthorized.into_response();
    let values: Vec<_> = response.headers().get_all(WWW_AUTHENTICATE).iter().collect();
    assert_eq!(values, challenges);

    let response = ProtocolError::Unsupported { allow: "GET, HEAD" }.into_response();
    assert_eq!(response.headers()[ALLOW], "GET, HEAD");

    for (millis, want) in [(0, "1"), (1_000, "1"), (1_001, "2"), (60_000, "60")] {
        let retry_after = Duration::from_millis(millis);
        for error in [
            ProtocolError::Unavailable { retry_after },
            ProtocolError::TooManyRequests { retry_after },
        ] {
            assert_eq!(error.into_response().headers()[RETRY_AFTER], want);
        }
    }

    let response = ProtocolError::Moved {
        location: "/v2/?a=b".to_owned(),
    }
    .into_response();
    assert_eq!((response.status().as_u16(), response.body().len()), (301, 0));
    assert_eq!(response.headers()[LOCATION], "/v2/?a=b");
}

/// The longest names there can be leave room for the whole detail.
#[test]
fn a_refusal_for_the_longest_name_fits() {
    let gun: Gun = format!("reg.example/{}", "a".repeat(243)).parse().unwrap();
    let body = text(&unauthorized(Need::Push(gun.clone())));
    assert!(body.len() < 1_024, "{}", body.len());
    let read: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(read["errors"][0]["detail"][1]["Name"], gun.as_str());
}

#[test]
fn long_messages_are_cut_and_say_so() {
    for (label, message) in [
        ("plain", "a".repeat(5_000)),
        ("escaped", "\"\\\n\u{1}".repeat(500)),
        ("wide", "€😀é".repeat(500)),
        ("just too long", "a".repeat(900)),
    ] {
        for error in [
            invalid("ErrBadSnapshot", &message, Some("snapshot")),
            ProtocolError::InvalidRole {
                role: message.clone(),
            },
        ] {
            let body = text(&error);
            assert!(
                (1_000..1_024).contains(&body.len()) || message.len() < 1_000,
                "{label}: {}",
                body.len()
            );
            let read: Value = serde_json::from_str(&body).unwrap();
            let detail = &read["errors"][0]["detail"];
            let told = detail.as_str().or(detail["Error"]["Msg"].as_str()).unwrap();
            let kept = told.strip_suffix('…').unwrap_or(told);
            assert!(message.starts_with(kept), "{label}");
        }
    }
}

proptest! {
    #[test]
    fn every_body_is_short_valid_json_on_one_line(message in "\\PC{0,1200}|[\\x00-\\x7f]{0,1200}", role: bool) {
        let error = if role {
            ProtocolError::InvalidRole { role: message }
        } else {
            invalid("ErrBadHierarchy", &message, Some("snapshot"))
        };
        let body = text(&error);
        prop_assert!(body.len() < 1_024);
        prop_assert_eq!(body.find('\n'), Some(body.len() - 1));
        let read: Value = serde_json::from_str(&body).unwrap();
        prop_assert_eq!(&read["errors"][0]["code"], error.code());
        prop_assert_eq!(read["errors"].as_array().unwrap().len(), 1);
    }
}
