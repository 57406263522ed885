use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn options(server: &str) -> Options {
    Options {
        server: url(server),
        origin: Origin::Configured,
        ca_pem: None,
        identity: None,
        observer: None,
    }
}

fn redirect(status: u16, from: &str, location: &str) -> Response {
    Response {
        url: url(from),
        status: StatusCode::from_u16(status).unwrap(),
        headers: [(header::LOCATION, location.parse().unwrap())]
            .into_iter()
            .collect(),
        body: bytes::Bytes::new(),
    }
}

#[test]
fn a_servers_url_is_plain() {
    for (server, configured, from_image) in [
        ("https://trust.example.com", true, true),
        ("https://trust.example.com:4443/prefix/", true, true),
        ("http://trust.example.com", true, false),
        ("ftp://trust.example.com", false, false),
        ("https://u:p@trust.example.com", false, false),
        ("https://trust.example.com/?x", false, false),
        ("https://trust.example.com/#x", false, false),
        ("file:///x", false, false),
    ] {
        assert_eq!(
            server_url(&url(server), Origin::Configured).is_ok(),
            configured,
            "{server}"
        );
        assert_eq!(
            server_url(&url(server), Origin::Image).is_ok(),
            from_image,
            "{server}"
        );
    }
}

#[test]
fn unreadable_certificates_are_named() {
    let with = |ca_pem: Option<&str>, identity: Option<Identity>| {
        let ca_pem = ca_pem.map(str::to_owned);
        Client::new(Options {
            ca_pem,
            identity,
            ..options("https://trust.example.com")
        })
        .unwrap_err()
    };
    assert!(matches!(
        with(Some("not a certificate"), None),
        SetupError::NoAuthority
    ));
    let identity = Identity {
        cert_pem: "x".to_owned(),
        key_pem: "y".into(),
    };
    assert!(matches!(with(None, Some(identity)), SetupError::Identity(_)));
}

#[test]
fn a_redirect_takes_a_login_nowhere_else() {
    let from = "https://trust.example.com/v2/";
    for (label, status, location, form, want) in [
        ("same host", 302, "/elsewhere", false, Some(true)),
        ("another host", 302, "https://evil.example/", false, Some(false)),
        (
            "another port",
            307,
            "https://trust.example.com:444/",
            false,
            Some(false),
        ),
        ("down to http", 302, "http://trust.example.com/", false, None),
        ("to a file", 302, "file:///etc/passwd", false, None),
        ("nowhere", 302, "https://", false, None),
        ("a form to the same host", 307, "/elsewhere", true, Some(true)),
        ("a form to another host", 307, "https://evil.example/", true, None),
        ("a form turned into a question", 302, "/elsewhere", true, None),
    ] {
        let mut request = Request::ping(url(from)).authorized(Some("Basic x".parse().unwrap()));
        request.ask = if form {
            Ask::Form("refresh_token=x".into())
        } else {
            Ask::Get
        };
        let got = request
            .redirected(&redirect(status, from, location))
            .ok()
            .flatten();
        assert_eq!(got.map(|next| next.authorization.is_some()), want, "{label}");
    }
    assert!(
        Request::ping(url(from))
            .redirected(&redirect(200, from, "/x"))
            .unwrap()
            .is_none()
    );
}

#[test]
fn each_status_means_one_thing_and_only_breakdowns_are_outages() {
    for (status, reason, outage) in [
        (302, "redirect", false),
        (304, "redirect", false),
        (400, "unexpected_status", false),
        (401, "unauthorized", false),
        (403, "forbidden", false),
        (404, "unexpected_status", false),
        (429, "throttled", true),
        (500, "server_error", true),
        (503, "server_error", true),
    ] {
        let error = redirect(status, "https://trust.example.com", "/").refusal();
        assert_eq!((error.reason(), error.is_outage()), (reason, outage), "{status}");
    }
}
