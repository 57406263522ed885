use http::{HeaderMap, StatusCode};

use super::*;
use crate::fetch::{Ask, Redirects};

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn asked(login: Option<&Credential>) -> Request {
    TokenRequest {
        realm: &url("https://auth.example.com/token?tenant=1"),
        service: Some("notary"),
        scope: "repository:docker.io/library/nginx:pull",
        login,
    }
    .build()
}

#[test]
fn without_a_login_a_token_is_asked_for_by_query() {
    let request = asked(None);
    assert_eq!(
        request.url.as_str(),
        "https://auth.example.com/token?tenant=1&service=notary&scope=repository%3Adocker.io%2Flibrary%2Fnginx%3Apull"
    );
    assert!(request.authorization.is_none() && matches!(request.ask, Ask::Get));
    assert_eq!(request.redirects, Redirects::Follow);
}

#[test]
fn a_user_goes_into_the_query_and_the_password_only_into_the_header() {
    let login = Credential::Basic {
        user: "alice".to_owned(),
        password: "hunter2".into(),
    };
    let request = asked(Some(&login));
    assert!(request.url.as_str().ends_with("&account=alice"));
    assert_eq!(
        request.authorization.as_ref().unwrap(),
        "Basic YWxpY2U6aHVudGVyMg=="
    );
    let printed = format!("{request:?}");
    assert!(
        !printed.contains("hunter2") && !printed.contains("YWxpY2U6aHVudGVyMg"),
        "{printed}"
    );
}

#[test]
fn an_identity_token_is_posted() {
    let request = asked(Some(&Credential::IdentityToken("s&cret".into())));
    assert_eq!(request.url.as_str(), "https://auth.example.com/token?tenant=1");
    let Ask::Form(form) = &request.ask else {
        panic!("no form");
    };
    assert_eq!(
        form.expose_secret(),
        "grant_type=refresh_token&refresh_token=s%26cret&service=notary\
         &scope=repository%3Adocker.io%2Flibrary%2Fnginx%3Apull&client_id=countersign"
    );
    assert!(!format!("{request:?}").contains("s%26cret"));
}

#[test]
fn a_registry_token_stays_with_the_registry() {
    let request = asked(Some(&Credential::RegistryToken("hunter2".into())));
    assert!(request.authorization.is_none() && matches!(request.ask, Ask::Get));
    assert!(!request.url.as_str().contains("hunter2"));
}

#[test]
fn a_realm_that_could_steal_a_login_gets_none() {
    let (secure, plain) = ("https://trust.example.com:4443", "http://trust.example.com");
    let nobody: &[&str] = &[];
    for (label, server, realm, allowed, want) in [
        ("https", secure, "https://auth.example.com/token", nobody, true),
        (
            "the server itself",
            secure,
            "https://trust.example.com/token",
            &["elsewhere.example"],
            true,
        ),
        (
            "on the list",
            secure,
            "https://auth.example.com/token",
            &["auth.example.com"],
            true,
        ),
        (
            "on the list, port and all",
            secure,
            "https://a.example:444/",
            &["a.example:444"],
            true,
        ),
        (
            "not on the list",
            secure,
            "https://auth.example.com/token",
            &["elsewhere.example"],
            false,
        ),
        (
            "another port than on the list",
            secure,
            "https://a.example:444/",
            &["a.example"],
            false,
        ),
        (
            "http behind https",
            secure,
            "http://auth.example.com/token",
            nobody,
            false,
        ),
        (
            "http behind http",
            plain,
            "http://auth.example.com/token",
            nobody,
            true,
        ),
        (
            "https behind http",
            plain,
            "https://auth.example.com/token",
            nobody,
            true,
        ),
        ("relative", secure, "/token", nobody, false),
        ("a file", secure, "file:///etc/passwd", nobody, false),
        (
            "a login of its own",
            secure,
            "https://u:p@auth.example.com/",
            nobody,
            false,
        ),
        ("empty", secure, "", nobody, false),
    ] {
        let allowed: Vec<String> = allowed.iter().map(|&host| host.to_owned()).collect();
        let got = realm_url(&url(server), realm, &allowed);
        assert_eq!(got.map_err(|error| error.reason()).is_ok(), want, "{label}");
    }
}

fn answer(status: u16, date: Option<&str>, body: &str) -> Response {
    Response {
        url: url("https://auth.example.com/token"),
        status: StatusCode::from_u16(status).unwrap(),
        headers: date
            .map(|date| (http::header::DATE, date.parse().unwrap()))
            .into_iter()
            .collect::<HeaderMap>(),
        body: body.to_owned().into(),
    }
}

#[test]
fn a_token_is_read_with_its_term() {
    let date = Some("Tue, 01 May 2029 10:00:00 GMT");
    for (label, date, body, token, seconds) in [
        ("token", None, r#"{"token":"t"}"#, "t", 30),
        (
            "access token wins",
            None,
            r#"{"token":"t","access_token":"a"}"#,
            "a",
            30,
        ),
        (
            "empty access token",
            None,
            r#"{"token":"t","access_token":""}"#,
            "t",
            30,
        ),
        ("its term", None, r#"{"token":"t","expires_in":300}"#, "t", 270),
        (
            "too short a term",
            None,
            r#"{"token":"t","expires_in":1}"#,
            "t",
            30,
        ),
        (
            "a negative term",
            None,
            r#"{"token":"t","expires_in":-1}"#,
            "t",
            30,
        ),
        (
            "an endless term",
            None,
            r#"{"token":"t","expires_in":18446744073709551615}"#,
            "t",
            86_370,
        ),
        (
            "issued now",
            date,
            r#"{"token":"t","expires_in":300,"issued_at":"2029-05-01T10:00:00Z"}"#,
            "t",
            270,
        ),
        (
            "issued a while ago",
            date,
            r#"{"token":"t","expires_in":300,"issued_at":"2029-05-01T09:58:00Z"}"#,
            "t",
            150,
        ),
        (
            "issued long ago",
            date,
            r#"{"token":"t","expires_in":300,"issued_at":"2019-05-01T10:00:00Z"}"#,
            "t",
            0,
        ),
        (
            "issued in the future",
            date,
            r#"{"token":"t","expires_in":300,"issued_at":"2039-05-01T10:00:00Z"}"#,
            "t",
            270,
        ),
        (
            "no clock to hold it against",
            None,
            r#"{"token":"t","expires_in":300,"issued_at":"2019-05-01T10:00:00Z"}"#,
            "t",
            270,
        ),
    ] {
        let got = read_token(&answer(200, date, body)).unwrap();
        assert_eq!(got.authorization, format!("Bearer {token}"), "{label}");
        assert_eq!(got.lifetime.as_secs(), seconds, "{label}");
        assert!(!format!("{got:?}").contains("Bearer"), "{label}");
    }
}

#[test]
fn an_answer_without_a_token_is_no_token() {
    for (status, body, want) in [
        (200, "{}", "protocol"),
        (200, "not json", "protocol"),
        (200, r#"{"token":"a\nb"}"#, "protocol"),
        (401, "", "unauthorized"),
        (403, "", "forbidden"),
        (404, "", "unexpected_status"),
        (429, "", "throttled"),
        (500, "", "server_error"),
    ] {
        assert_eq!(
            read_token(&answer(status, None, body)).unwrap_err().reason(),
            want,
            "{status} {body}"
        );
    }
}
