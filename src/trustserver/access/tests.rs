//! What is granted and refused, attack by attack. Everything is read from files, as a server does.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;

mod files;
mod limits;
mod passwords;
mod reload;
mod rules;
mod tokens;

const APP: &str = "registry.example.com/team/app";

/// A folder with the file of the rules and what it names.
pub(super) struct Folder(TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(super) fn with(self, name: &str, contents: impl AsRef<[u8]>) -> Self {
        self.write(name, contents);
        self
    }

    pub(super) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.0.path().join(name), contents).unwrap();
    }

    pub(super) fn rules(&self) -> PathBuf {
        self.0.path().join("access.yaml")
    }

    pub(super) fn read(&self, rules: &str) -> Result<Access, AccessError> {
        self.write("access.yaml", rules);
        Access::read(&self.rules())
    }

    pub(super) fn access(&self, rules: &str) -> Access {
        self.read(rules).unwrap()
    }
}

pub(super) fn access(rules: &str) -> Access {
    Folder::new().access(rules)
}

pub(super) fn now() -> Timestamp {
    Timestamp::constant(2_000_000_000, 0)
}

pub(super) fn gun(name: &str) -> Gun {
    name.parse().unwrap()
}

pub(super) fn peer(address: &str) -> Peer {
    Peer {
        address: SocketAddr::new(address.parse().unwrap(), 4443),
        names: Vec::new(),
    }
}

pub(super) fn certified(names: &[&str]) -> Peer {
    Peer {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        ..peer("192.0.2.1")
    }
}

pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

pub(super) fn sha256(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

pub(super) fn headers(authorization: &[&str]) -> HeaderMap {
    authorization
        .iter()
        .map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap()))
        .collect()
}

/// Who is admitted, and how; or why not.
pub(super) fn outcome(result: &Result<Caller, Refusal>) -> String {
    match result {
        Ok(Caller { name, by }) => name
            .as_ref()
            .map_or_else(|| (*by).to_owned(), |name| format!("{by} {name}")),
        Err(Refusal::Unauthorized { why, .. }) => why.reason().to_owned(),
        Err(Refusal::TooMany { limit, .. }) => format!("too many {}", limit.reason()),
    }
}

pub(super) async fn from_with(access: &Access, peer: &Peer, authorization: &str, need: &Need) -> String {
    let headers = if authorization.is_empty() {
        HeaderMap::new()
    } else {
        headers(&[authorization])
    };
    outcome(&access.admit(peer, &headers, need, now()).await)
}

pub(super) async fn with(access: &Access, authorization: &str, need: &Need) -> String {
    from_with(access, &peer("192.0.2.1"), authorization, need).await
}

/// The challenges of a refused call.
pub(super) async fn challenges(access: &Access, authorization: &[&str], need: &Need) -> Vec<String> {
    let refused = access
        .admit(&peer("192.0.2.1"), &headers(authorization), need, now())
        .await;
    match refused {
        Err(Refusal::Unauthorized { challenges, .. }) => challenges,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn open_to_all_is_open_to_all() {
    let open = Access::open_to_all();
    assert!(open.is_open_to_all() && open.hosts(&gun(APP)));
    for need in [Need::Known, Need::Admin(gun(APP)), Need::Catalog] {
        assert_eq!(with(&open, "Bearer junk", &need).await, "anonymous");
    }
    assert!(!access("{}").is_open_to_all());
}

#[tokio::test]
async fn what_is_not_said_is_not_granted() {
    let nothing = access("{}");
    for need in [
        Need::Known,
        Need::Pull(gun(APP)),
        Need::Push(gun(APP)),
        Need::Admin(gun(APP)),
        Need::Catalog,
    ] {
        assert_eq!(with(&nothing, "", &need).await, "no_credentials");
    }
    let known = access(&format!("tokens: [{{name: ci, sha256: {}}}]", sha256("s")));
    assert_eq!(with(&known, "Bearer s", &Need::Known).await, "static ci");
    assert_eq!(
        with(&known, "Bearer s", &Need::Pull(gun(APP))).await,
        "insufficient"
    );
}

#[tokio::test]
async fn authorization_headers_that_cannot_be_read_are_refused_not_taken_for_none() {
    let access = access(&format!(
        "{{anonymous: [pull], tokens: [{{name: ci, sha256: {}}}], rules: [{{who: [ci], repositories: ['**'], actions: ['*']}}]}}",
        sha256("s")
    ));
    let need = Need::Pull(gun(APP));
    for (label, header, want) in [
        ("no header", "", "anonymous"),
        ("a good token", "Bearer s", "static ci"),
        ("another case", "bEaReR  s ", "static ci"),
        ("as a password", &*basic("ci", "s"), "static ci"),
        ("another's token as a password", &*basic("alice", "s"), "password"),
        ("a wrong token", "Bearer t", "secret"),
        (
            "the hash instead of the token",
            &format!("Bearer {}", sha256("s")),
            "secret",
        ),
        ("no token", "Bearer", "malformed"),
        ("an empty token", "Bearer  ", "malformed"),
        (
            "no colon",
            &format!("Basic {}", STANDARD.encode("ci")),
            "malformed",
        ),
        ("no name", &*basic("", "s"), "malformed"),
        ("no password", &*basic("ci", ""), "malformed"),
        ("no base64", "Basic ###", "malformed"),
        ("another scheme", "Digest username=ci", "scheme"),
        (
            "an endless token",
            &format!("Bearer {}", "s".repeat(17 << 10)),
            "token_too_long",
        ),
        (
            "an endless password",
            &*basic("ci", &"s".repeat(9 << 10)),
            "malformed",
        ),
    ] {
        let caller = peer("192.0.2.1");
        assert_eq!(from_with(&access, &caller, header, &need).await, want, "{label}");
    }
    let two = headers(&["Bearer s", "Bearer t"]);
    let result = access.admit(&peer("192.0.2.1"), &two, &need, now()).await;
    assert_eq!(outcome(&result), "malformed", "two headers");
}

#[tokio::test]
async fn challenges_are_those_of_the_reference() {
    let folder = Folder::new()
        .with("ca.pem", tokens::Service::new().bundle())
        .with("htpasswd", passwords::ALICE);
    let token = "token: {realm: 'https://auth.example.com/token', service: trust.example.com, issuer: auth.example.com, rootCertBundle: ca.pem}\n";
    let bearer = r#"Bearer realm="https://auth.example.com/token",service="trust.example.com""#;
    let password = r#"Basic realm="Countersign trust server""#;
    let services = folder.access(token);
    let app = || gun(APP);
    for (need, sent, want) in [
        (Need::Known, &[][..], r#",scope="registry:catalog:*""#),
        (Need::Catalog, &[], r#",scope="registry:catalog:*""#),
        (
            Need::Pull(app()),
            &[],
            r#",scope="repository:registry.example.com/team/app:pull""#,
        ),
        (
            Need::Push(app()),
            &[],
            r#",scope="repository:registry.example.com/team/app:push,pull""#,
        ),
        (
            Need::Admin(app()),
            &[],
            r#",scope="repository:registry.example.com/team/app:*""#,
        ),
        (
            Need::Pull(app()),
            &["Bearer junk"],
            r#",scope="repository:registry.example.com/team/app:pull",error="invalid_token""#,
        ),
    ] {
        let got = challenges(&services, sent, &need).await;
        assert_eq!(got, [format!("{bearer}{want}")], "{need:?} {sent:?}");
    }
    let ping = format!(r#"{bearer},scope="registry:catalog:*""#);
    let names = format!("tokens: [{{name: ci, sha256: {}}}]\n", sha256("s"));
    for (label, rules, want) in [
        ("passwords", "htpasswd: htpasswd".to_owned(), vec![password]),
        ("static tokens, sent as passwords", names.clone(), vec![password]),
        (
            "both",
            format!("{token}htpasswd: htpasswd"),
            vec![ping.as_str(), password],
        ),
        // A second challenge makes clients without credentials fail; who has a static token sends it unasked.
        (
            "static tokens beside",
            format!("{token}{names}"),
            vec![ping.as_str()],
        ),
        (
            "certificates",
            "clientCertificates: true".to_owned(),
            vec![r#"Certificate realm="Countersign trust server""#],
        ),
    ] {
        let got = challenges(&folder.access(&rules), &[], &Need::Known).await;
        assert_eq!(got, want, "{label}");
    }
}

#[tokio::test]
async fn the_detail_lists_what_the_call_needs() {
    let refused = access("{}")
        .admit(
            &peer("192.0.2.1"),
            &HeaderMap::new(),
            &Need::Push(gun(APP)),
            now(),
        )
        .await;
    let Err(Refusal::Unauthorized { detail, .. }) = refused else {
        panic!("{refused:?}")
    };
    let json = serde_json::to_string(&detail).unwrap();
    assert_eq!(
        json,
        r#"[{"Type":"repository","Class":"","Name":"registry.example.com/team/app","Action":"push"},{"Type":"repository","Class":"","Name":"registry.example.com/team/app","Action":"pull"}]"#
    );
}

#[tokio::test]
async fn the_ping_is_refused_to_nobody_only_where_nobody_may_do_everything() {
    for (rules, want) in [
        ("anonymous: [pull]", "no_credentials"),
        ("anonymous: [pull, push]", "no_credentials"),
        ("anonymous: ['*']", "anonymous"),
    ] {
        assert_eq!(with(&access(rules), "", &Need::Known).await, want, "{rules}");
    }
}

proptest! {
    #[test]
    fn no_authorization_header_panics_or_is_believed(
        scheme in "(Bearer|Basic|bearer|basic|[A-Za-z]{0,6})",
        rest in prop_oneof![
            "[ -~]{0,200}",
            "[A-Za-z0-9_-]{0,80}(\\.[A-Za-z0-9_-]{0,80}){0,4}",
            prop::collection::vec(any::<u8>(), 0..120).prop_map(|bytes| STANDARD.encode(bytes)),
            ("\\{\"alg\":\"(none|HS256|RS256|ES256|EdDSA)\",\"(kid|x5c|jwk|crit)\":[ -~]{0,40}\\}", "[ -~]{0,60}")
                .prop_map(|(header, claims)| tokens::joined(header.as_bytes(), claims.as_bytes(), b"x")),
        ],
        raw in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        thread_local! {
            static STATE: (tokio::runtime::Runtime, Access) = (
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
                Folder::new()
                    .with("ca.pem", tokens::Service::new().bundle())
                    .with("htpasswd", passwords::ALICE)
                    .access("token: {realm: 'https://a.example/t', service: s, issuer: i, rootCertBundle: ca.pem}\nhtpasswd: htpasswd\n"),
            );
        }
        STATE.with(|(runtime, access)| {
            let values = [
                HeaderValue::from_bytes(format!("{scheme} {rest}").as_bytes()),
                HeaderValue::from_bytes(&raw),
            ];
            for (i, value) in values.into_iter().flatten().enumerate() {
                let headers: HeaderMap = std::iter::once((AUTHORIZATION, value)).collect();
                // Each from another place, or all but twenty would be refused unread.
                let from = peer(&format!("10.{}.{}.{i}", rest.len() % 256, raw.first().unwrap_or(&0)));
                let result = runtime.block_on(access.admit(&from, &headers, &Need::Known, now()));
                prop_assert!(result.is_err());
            }
            Ok(())
        })?;
    }
}
