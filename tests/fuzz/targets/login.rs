//! The `Authorization` header of a trust server: whatever it is, only the few that are right let anybody in.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use countersign::trustserver::access::{Access, Caller, Need, Peer, Refusal};
use futures_util::FutureExt as _;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

const NOW: &str = "2033-05-18T03:33:20Z";
const RULES: &str = "
token: {realm: 'https://auth.example.com/token', service: trust.example.com, issuer: auth.example.com, jwks: jwks.json}
tokens:
- {name: ci, sha256: 3ed8a5c6e873f982d6f9fc6d07caa2ef36e05299883387029dba04f1d68052d9}
rules:
- {who: [ci], repositories: ['**'], actions: [pull]}
";
const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"fuzz","x":"2yEFyU3n4oBGfYgGeo3ST5L1X3SpWkyG44aapNIcLtE","y":"BAnt7cA_uY_QhE3CjrW-PEWIshYBkq8VSp0jILbo9bQ"}]}"#;
/// The token whose hash the rules have.
const STATIC: &str = "a-token-that-a-machine-has-0123456789abcdef";
/// A token of the token service: alice may pull the repository, for an hour around [`NOW`].
const TOKEN: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImZ1enoifQ.eyJpc3MiOiJhdXRoLmV4YW1wbGUuY29tIiwic3ViIjoiYWxpY2UiLCJhdWQiOiJ0cnVzdC5leGFtcGxlLmNvbSIsImV4cCI6MjAwMDAwMzYwMCwibmJmIjoxOTk5OTk5OTQwLCJpYXQiOjE5OTk5OTk5NDAsImp0aSI6IjEiLCJhY2Nlc3MiOlt7InR5cGUiOiJyZXBvc2l0b3J5IiwibmFtZSI6InJlZ2lzdHJ5LmV4YW1wbGUuY29tL3RlYW0vYXBwIiwiYWN0aW9ucyI6WyJwdWxsIl19XX0.iMPkTbR8asc0gctZ0hSRYsrEZpT8AwElMMvFe0RG7kUSAY_LMh1C3218HnhdFbilGtiLI6Gz2yOyesL0cxtXlw";

/// The headers that are right.
pub(crate) fn honest() -> [String; 3] {
    let basic = BASE64_STANDARD.encode(format!("ci:{STATIC}"));
    [
        format!("Bearer {STATIC}"),
        format!("Basic {basic}"),
        format!("Bearer {TOKEN}"),
    ]
}

static ACCESS: LazyLock<Access> = LazyLock::new(access);

/// The rules, read from files as a server does.
pub(crate) fn access() -> Access {
    let name = format!(
        "countersign-fuzz-login-{}-{}",
        std::process::id(),
        somebody().address.ip()
    );
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("access.yaml"), RULES).unwrap();
    std::fs::write(folder.join("jwks.json"), JWKS).unwrap();
    let access = Access::read(&folder.join("access.yaml")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    access
}

pub(crate) fn run(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else {
        return;
    };
    match admitted(&ACCESS, value) {
        Ok(caller) => assert!(is_honest(data), "{caller:?} is let in"),
        Err(Refusal::Unauthorized { challenges, .. }) => {
            assert!(!is_honest(data), "{:?} is refused", String::from_utf8_lossy(data));
            assert!(!challenges.is_empty());
        }
        // After a hundred thousand addresses the next ones share their attempts.
        Err(Refusal::TooMany { .. }) => {}
    }
}

/// Whether somebody who sends `value` may pull the repository.
pub(crate) fn admitted(access: &Access, value: HeaderValue) -> Result<Caller, Refusal> {
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    let need = Need::Pull("registry.example.com/team/app".parse().unwrap());
    let (peer, now) = (somebody(), NOW.parse().unwrap());
    access
        .admit(&peer, &headers, &need, now)
        .now_or_never()
        .expect("there are no passwords that would take time")
}

/// Schemes have no case (RFC 9110 §11.1), and spaces around what follows them mean nothing.
fn is_honest(data: &[u8]) -> bool {
    let parts = |text: &str| {
        let (scheme, rest) = text.split_once(' ')?;
        Some((scheme.to_ascii_lowercase(), rest.trim_matches(' ').to_owned()))
    };
    let given = std::str::from_utf8(data).ok().and_then(parts);
    given.is_some() && honest().iter().any(|honest| parts(honest) == given)
}

/// Somebody else each time: one address has few attempts.
fn somebody() -> Peer {
    static NEXT: AtomicU32 = AtomicU32::new(0x0b00_0000);
    let address = Ipv4Addr::from(NEXT.fetch_add(1, Ordering::Relaxed));
    Peer {
        address: SocketAddr::new(address.into(), 4443),
        names: Vec::new(),
    }
}
