//! The part of a registry's token service that a trust server relies on: whoever shows the password gets a signed
//! token for what was asked.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use url::Url;

use crate::https::{self, Request};
use crate::pki;

pub(crate) const USER: &str = "robot";
pub(crate) const PASSWORD: &str = "robot's password";
const SERVICE: &str = "trust.e2e";
const ISSUER: &str = "e2e token service";
/// How long a token serves, in seconds: longer than the tests run.
const LIFETIME: i64 = 3600;

/// A token service on loopback.
#[derive(Debug)]
pub(crate) struct TokenServer {
    port: u16,
}

impl TokenServer {
    pub(crate) fn start() -> Self {
        let minter = pki::issue("token", &["token.e2e"]);
        Self {
            port: https::serve(move |request| reply(request, &minter)),
        }
    }

    /// The `auth` section of a trust server.
    pub(crate) fn server_config(&self) -> Value {
        json!({"type": "token", "options": {
            "realm": format!("https://localhost:{}/token", self.port),
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": pki::authority(),
        }})
    }
}

impl TokenServer {
    /// The same for ours.
    pub(crate) fn rules(&self) -> Value {
        json!({"token": {
            "realm": format!("https://localhost:{}/token", self.port),
            "service": SERVICE,
            "issuer": ISSUER,
            "rootCertBundle": pki::authority(),
        }})
    }
}

/// Base64 of user and password: what docker's configuration and `NOTARY_AUTH` hold.
pub(crate) fn login() -> String {
    BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"))
}

fn reply(request: &Request, minter: &pki::Identity) -> (&'static str, String) {
    let expected = format!("Basic {}", login());
    match request.header("authorization") {
        Some(value) if value != expected => (
            "401 Unauthorized",
            json!({"details": "wrong password"}).to_string(),
        ),
        // Nobody in particular gets a token that allows nothing, as registries do it.
        None => ("200 OK", json!({"token": mint(&json!([]), minter)}).to_string()),
        Some(_) => {
            let access = asked(request.head.first().map_or("", String::as_str));
            (
                "200 OK",
                json!({"token": mint(&access, minter), "expires_in": LIFETIME}).to_string(),
            )
        }
    }
}

/// The `scope` of a request line, as the token's claim.
fn asked(request_line: &str) -> Value {
    let target = request_line.split(' ').nth(1).unwrap_or("/");
    let url = Url::parse("https://localhost").unwrap().join(target).unwrap();
    url.query_pairs()
        .filter(|(name, _)| name == "scope")
        .filter_map(|(_, scope)| {
            let (kind, rest) = scope.split_once(':')?;
            // A repository's name may hold a port, so a colon.
            let (name, actions) = rest.rsplit_once(':')?;
            Some(json!({"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()}))
        })
        .collect()
}

fn mint(access: &Value, minter: &pki::Identity) -> String {
    let now = countersign::clock::now().as_second();
    let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [BASE64_STANDARD.encode(&minter.der)]});
    let claims = json!({
        "iss": ISSUER, "sub": USER, "aud": SERVICE, "jti": "1", "access": access,
        "iat": now, "nbf": now - 10, "exp": now + LIFETIME,
    });
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &minter.pkcs8).unwrap();
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()))
}
