//! An upload of trust metadata, byte by byte, for stories in which it is broken off.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use countersign::keystore::KeyStore;
use countersign::tuf::PrivateKey;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use url::Url;

use crate::pki;

/// Who signs `targets` of one repository.
pub(crate) struct Pen {
    server: Url,
    gun: String,
    key: PrivateKey,
}

/// A request on its way, of which the server has no byte yet.
pub(crate) struct Upload {
    stream: StreamOwned<ClientConnection, TcpStream>,
    request: Vec<u8>,
}

impl Pen {
    /// With the targets key of `gun` from a key store.
    pub(crate) fn new(server: &str, gun: &str, trust_dir: &Path, passphrase: &str) -> Self {
        let listing = KeyStore::new(trust_dir).list().unwrap();
        let passphrase = passphrase.to_owned().into();
        let key = listing.of_role("targets", Some(gun))[0]
            .open(Some(&passphrase))
            .unwrap();
        Self {
            server: server.parse().unwrap(),
            gun: gun.to_owned(),
            key,
        }
    }

    /// The next `targets` after `file`, with one tag more, as a request.
    pub(crate) fn write(&self, file: &[u8], tag: &str, digest: &[u8]) -> Vec<u8> {
        let mut file: Value = serde_json::from_slice(file).unwrap();
        let signed = &mut file["signed"];
        signed["version"] = json!(signed["version"].as_u64().unwrap() + 1);
        let sha256 = BASE64_STANDARD.encode(digest);
        signed["targets"][tag] = json!({"hashes": {"sha256": sha256}, "length": 1000});
        // Names and numbers are plain, so what serde_json writes, in the order of keys, is canonical.
        let signed = signed.to_string();
        let signature = self.key.sign(signed.as_bytes()).unwrap();
        file["signatures"][0]["sig"] = json!(BASE64_STANDARD.encode(signature));
        // The order of these two is fixed (§3.2): a server hashes what it would have written.
        let file = format!(r#"{{"signed":{signed},"signatures":{}}}"#, file["signatures"]);
        let body = format!(
            "--b\r\ncontent-disposition: form-data; name=\"files\"; filename=\"targets\"\r\n\
             content-type: application/octet-stream\r\n\r\n{file}\r\n--b--\r\n"
        );
        let head = format!(
            "POST /v2/{}/_trust/tuf/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: multipart/form-data; boundary=b\r\ncontent-length: {}\r\n\r\n",
            self.gun,
            body.len()
        );
        (head + &body).into_bytes()
    }

    /// Connects, with the handshake done.
    pub(crate) fn connect(&self, request: Vec<u8>) -> Upload {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(pki::authority_pem().as_bytes()).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(("127.0.0.1", self.server.port().unwrap())).unwrap();
        socket.set_nodelay(true).unwrap();
        let mut stream = StreamOwned::new(tls, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        Upload { stream, request }
    }
}

impl Upload {
    pub(crate) fn len(&self) -> usize {
        self.request.len()
    }

    /// Sends so many bytes of the request.
    pub(crate) fn send(&mut self, bytes: usize) {
        self.stream.write_all(&self.request[..bytes]).unwrap();
        self.stream.flush().unwrap();
        self.request.drain(..bytes);
    }

    /// The status of the answer; none if the connection ended without one.
    pub(crate) fn status(mut self) -> Option<u16> {
        let mut answer = Vec::new();
        let mut chunk = [0; 512];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => answer.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let answer = String::from_utf8_lossy(&answer);
        let line = answer.lines().next()?;
        line.split(' ').nth(1)?.parse().ok()
    }
}
