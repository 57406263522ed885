//! Request lines: a method and a target. What is found has names that are names; redirections lead to an end, on this
//! host; HEAD finds what GET finds, or nothing.

use countersign::trustserver::http::{ProtocolError, Route};
use http::{Method, Uri};

pub(crate) fn run(data: &[u8]) {
    let Some((method, target)) = std::str::from_utf8(data)
        .ok()
        .and_then(|text| text.split_once(' '))
    else {
        return;
    };
    let (Ok(method), Ok(uri)) = (method.parse::<Method>(), target.parse::<Uri>()) else {
        return;
    };
    match Route::parse(&method, &uri) {
        Ok(route) => assert_named(&route, &method, &uri),
        Err(error) => {
            if let ProtocolError::Moved { location } = &error {
                assert_ends(&method, location);
            }
            let status = error.into_response().status();
            assert!(status.is_client_error() || status.is_redirection(), "{status}");
        }
    }
}

fn assert_named(route: &Route, method: &Method, uri: &Uri) {
    assert!(!route.name().is_empty());
    let gun = match route {
        Route::Update(gun) | Route::Read { gun, .. } | Route::Key { gun, .. } | Route::Delete(gun) => {
            Some(gun)
        }
        Route::Changefeed { gun, .. } => gun.as_ref(),
        Route::Health | Route::Version => None,
    };
    if let Some(gun) = gun {
        assert!(
            gun.as_str()
                .split('/')
                .all(|part| !matches!(part, "" | "." | ".." | "_trust"))
        );
    }
    let changes = matches!(route, Route::Update(_) | Route::Key { .. } | Route::Delete(_));
    assert!(method != Method::HEAD || !changes, "HEAD would change something");
    if method == Method::GET {
        let head = Route::parse(&Method::HEAD, uri).ok();
        assert!(changes || head.as_ref() == Some(route), "HEAD is not GET");
    }
}

fn assert_ends(method: &Method, location: &str) {
    // Browsers take backslashes for slashes in a path, but not behind it.
    let path = location.split('?').next().unwrap_or_default();
    assert!(
        path.starts_with('/') && !path.starts_with("//") && !path.contains('\\'),
        "{location} leads elsewhere"
    );
    let uri: Uri = location.parse().expect("a location is a target");
    assert!(
        !matches!(Route::parse(method, &uri), Err(ProtocolError::Moved { .. })),
        "{location} leads on"
    );
}
