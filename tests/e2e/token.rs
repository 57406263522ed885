//! The part of a registry's token service that a trust server relies on: whoever shows the password gets a signed
//! token for what was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use url::Url;

use crate::pki;

const USER: &str = "robot";
const PASSWORD: &str = "robot's password";
const SERVICE: &str = "trust.e2e";
const ISSUER: &str = "e2e token service";
/// How long a token serves, in seconds: longer than the tests run.
const LIFETIME: i64 = 3600;

/// A token service on loopback. Its thread lives as long as the process.
#[derive(Debug)]
pub(crate) struct TokenServer {
    port: u16,
}

impl TokenServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = Arc::new(tls_config());
        let minter = pki::issue("token", &["token.e2e"]);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                // A client that breaks off has its reasons; the next one is served.
                let _ = answer(socket, &tls, &minter);
            }
        });
        Self { port }
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

/// Base64 of user and password: what docker's configuration and `NOTARY_AUTH` hold.
pub(crate) fn login() -> String {
    BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"))
}

fn tls_config() -> ServerConfig {
    let identity = pki::loopback();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(identity.der.clone())],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.pkcs8.clone())),
        )
        .unwrap()
}

fn answer(socket: TcpStream, tls: &Arc<ServerConfig>, minter: &pki::Identity) -> std::io::Result<()> {
    let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    let mut head = Vec::new();
    for line in BufReader::new((&mut stream).take(64 * 1024)).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let (status, body) = reply(&head, minter);
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn reply(head: &[String], minter: &pki::Identity) -> (&'static str, String) {
    let expected = format!("Basic {}", login());
    let authorization = head
        .iter()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        .map(|(_, value)| value);
    match authorization {
        Some(value) if value != expected => (
            "401 Unauthorized",
            json!({"details": "wrong password"}).to_string(),
        ),
        // Nobody in particular gets a token that allows nothing, as registries do it.
        None => ("200 OK", json!({"token": mint(&json!([]), minter)}).to_string()),
        Some(_) => {
            let access = asked(head.first().map_or("", String::as_str));
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
