//! Handshakes: which succeed, which do not, and that none fails while certificates change.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use countersign::serve::{Certificate, Clients, Version};
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::tls_support::{Ca, Client, Pair, Server, config, echo, mounted};

/// Checklist 3.
#[tokio::test]
async fn http_1_is_spoken_with_and_without_alpn() {
    let (ca, directory) = (Ca::new("test"), tempfile::tempdir().unwrap());
    let server = Server::start(config(ca.server().mount(directory.path())), echo).await;
    for (label, alpn, agreed) in [
        (
            "an API server",
            &[b"http/1.1".as_slice()][..],
            Some(b"http/1.1".as_slice()),
        ),
        ("no ALPN at all", &[], None),
        ("HTTP/2 preferred", &[b"h2", b"http/1.1"], Some(b"h2")),
    ] {
        let mut connection = Client::new(&ca.pem(), alpn)
            .connect(server.webhook)
            .await
            .unwrap();
        assert_eq!(connection.0.get_ref().1.alpn_protocol(), agreed, "{label}");
        if agreed != Some(b"h2") {
            assert_eq!(
                connection.post("/validate", b"{}").await.unwrap().status,
                200,
                "{label}"
            );
        }
    }
}

#[tokio::test]
async fn the_least_version_is_a_setting() {
    let (ca, directory) = (Ca::new("test"), tempfile::tempdir().unwrap());
    for (least, version, want) in [
        (Version::Tls12, &TLS12, Some(ProtocolVersion::TLSv1_2)),
        (Version::Tls12, &TLS13, Some(ProtocolVersion::TLSv1_3)),
        (Version::Tls13, &TLS13, Some(ProtocolVersion::TLSv1_3)),
        (Version::Tls13, &TLS12, None),
    ] {
        let mut config = config(ca.server().mount(directory.path()));
        config.tls.minimum = least;
        let server = Server::start(config, echo).await;
        let client = Client::with(&ca.pem(), &[], &[version], None);
        let agreed = client.connect(server.webhook).await.ok();
        let agreed = agreed.and_then(|connection| connection.0.get_ref().1.protocol_version());
        assert_eq!(agreed, want, "at least {least:?}");
    }
}

/// Checklist 46. No TLS library of ours speaks these, so the client's first message is made by hand.
#[tokio::test]
async fn old_versions_and_weak_suites_are_refused() {
    let (ca, directory) = (Ca::new("test"), tempfile::tempdir().unwrap());
    let server = Server::start(config(ca.server().mount(directory.path())), echo).await;
    for (label, version, suite, accepted) in [
        ("TLS 1.2, ECDHE, AES-GCM", 0x0303, 0xC02B, true),
        ("TLS 1.2, ECDHE, ChaCha20", 0x0303, 0xCCA9, true),
        ("TLS 1.2, ECDHE, CBC", 0x0303, 0xC009, false),
        ("TLS 1.2, ECDHE, CBC with SHA-384", 0x0303, 0xC024, false),
        ("TLS 1.2, RSA key exchange, AES-GCM", 0x0303, 0x009C, false),
        ("TLS 1.2, RSA key exchange, CBC", 0x0303, 0x002F, false),
        ("TLS 1.2, finite-field DHE, AES-GCM", 0x0303, 0x009E, false),
        ("TLS 1.1, ECDHE, CBC", 0x0302, 0xC009, false),
        ("TLS 1.1 with a suite of 1.2", 0x0302, 0xC02B, false),
        ("TLS 1.0", 0x0301, 0xC009, false),
        ("SSL 3", 0x0300, 0x000A, false),
    ] {
        let mut stream = TcpStream::connect(server.webhook).await.unwrap();
        stream.write_all(&client_hello(version, suite)).await.unwrap();
        let kind = stream.read_u8().await.unwrap();
        assert_eq!(kind, if accepted { HANDSHAKE } else { ALERT }, "{label}");
    }
}

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// A `ClientHello` for `localhost` that offers one version and one suite.
fn client_hello(version: u16, suite: u16) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let extension = |kind: u16, bytes: &[u8]| [&kind.to_be_bytes(), sized(bytes).as_slice()].concat();
    let server_name = sized(&[&[0], sized(b"localhost").as_slice()].concat());
    let extensions = [
        extension(0, &server_name),
        // Curves x25519 and P-256; uncompressed points; ECDSA and RSA-PSS with SHA-256; extended master secret.
        extension(10, &sized(&[0, 29, 0, 23])),
        extension(11, &[1, 0]),
        extension(13, &sized(&[4, 3, 8, 4])),
        extension(23, &[]),
    ]
    .concat();
    let body = [
        &version.to_be_bytes(),
        [7; 32].as_slice(),
        &[0],
        &sized(&suite.to_be_bytes()),
        &[1, 0],
        &sized(&extensions),
    ]
    .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let handshake = [&[1], &length[1..], &body].concat();
    [&[HANDSHAKE, 3, 1], sized(&handshake).as_slice()].concat()
}

/// Checklist 45: pairs change under clients that connect all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_handshake_fails_while_the_pair_is_replaced() {
    let (ca, directory) = (Ca::new("test"), tempfile::tempdir().unwrap());
    let server = Server::start(config(ca.server().mount(directory.path())), echo).await;
    let (tasks, enough) = (TaskTracker::new(), Arc::new(AtomicBool::new(false)));
    let (done, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..4 {
        let (client, address, enough) = (Client::api_server(&ca.pem()), server.webhook, Arc::clone(&enough));
        let (done, failed) = (Arc::clone(&done), Arc::clone(&failed));
        tasks.spawn(async move {
            while !enough.load(Ordering::Relaxed) {
                match client.connect(address).await {
                    Ok(mut connection) => drop(connection.post("/validate", b"{}").await.unwrap()),
                    Err(_) => drop(failed.fetch_add(1, Ordering::Relaxed)),
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut kept = Client::api_server(&ca.pem())
        .connect(server.webhook)
        .await
        .unwrap();
    for _ in 0..5 {
        let pair = ca.server();
        pair.mount(directory.path());
        served(&server, &ca, &pair.der()).await;
    }
    enough.store(true, Ordering::Relaxed);
    tasks.close();
    tasks.wait().await;
    assert_eq!(
        failed.load(Ordering::Relaxed),
        0,
        "of {}",
        done.load(Ordering::Relaxed)
    );
    assert_eq!(
        kept.post("/validate", b"{}").await.unwrap().status,
        200,
        "old connections go on"
    );
    assert_eq!(
        server.metric("countersign_certificate_reloads_total{result=\"ok\"}"),
        6
    );
}

/// Connects until the server shows `certificate`.
async fn served(server: &Server, ca: &Ca, certificate: &CertificateDer<'_>) {
    let client = Client::api_server(&ca.pem());
    let seen = async { while client.connect(server.webhook).await.unwrap().certificate() != *certificate {} };
    timeout(Duration::from_secs(20), seen).await.unwrap();
}

#[tokio::test]
async fn a_broken_pair_keeps_the_old_one() {
    let (ca, directory) = (Ca::new("test"), tempfile::tempdir().unwrap());
    let old = ca.server();
    let server = Server::start(config(old.mount(directory.path())), echo).await;
    let (one, other) = (ca.server(), ca.server());
    let mixed = Pair {
        certificate: one.certificate.clone(),
        key: other.key.clone(),
    };
    let garbage = Pair {
        certificate: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
        key: one.key.clone(),
    };
    let empty = Pair {
        certificate: String::new(),
        key: String::new(),
    };
    for (label, pair) in [
        ("halves of two pairs", mixed),
        ("garbage", garbage),
        ("empty", empty),
    ] {
        let errors = server.metric("countersign_certificate_reloads_total{result=\"error\"}");
        pair.mount(directory.path());
        let counted = async {
            // Two more: the first may have begun before the pair was there.
            while server.metric("countersign_certificate_reloads_total{result=\"error\"}") < errors + 2 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), counted).await.expect(label);
        let client = Client::api_server(&ca.pem());
        let connection = client.connect(server.webhook).await.expect(label);
        assert_eq!(connection.certificate(), old.der(), "{label}");
    }
    one.mount(directory.path());
    served(&server, &ca, &one.der()).await;
}

/// TLS-14; a caller that comes early waits instead of failing.
#[tokio::test]
async fn a_server_without_a_pair_waits_for_it() {
    let (ca, directory) = (Ca::new("test"), tempfile::tempdir().unwrap());
    let server = Server::start(config(mounted(directory.path())), echo).await;
    let client = Client::api_server(&ca.pem());
    let early = client.connect(server.webhook);
    let mount = async {
        tokio::task::yield_now().await;
        ca.server().mount(directory.path());
    };
    let (early, ()) = tokio::join!(early, mount);
    assert_eq!(early.unwrap().post("/validate", b"{}").await.unwrap().status, 200);
}

/// Checklist 47.
#[tokio::test]
async fn where_clients_are_known_others_fail_the_handshake() {
    let (ca, clients, directory) = (Ca::new("test"), Ca::new("clients"), tempfile::tempdir().unwrap());
    let mut config = config(ca.server().mount(directory.path()));
    let authorities = directory.path().join("clients.crt");
    std::fs::write(&authorities, clients.pem()).unwrap();
    config.tls.clients = Some(Clients {
        ca: authorities,
        names: vec!["kube-apiserver".to_owned(), "api.example.com".to_owned()],
        optional: false,
    });
    let server = Server::start(config, echo).await;
    let stranger = Ca::new("clients");
    for (label, identity, accepted) in [
        (
            "by common name",
            Some(clients.client("kube-apiserver", &[])),
            true,
        ),
        (
            "by alternative name",
            Some(clients.client("x", &["api.example.com"])),
            true,
        ),
        (
            "another name",
            Some(clients.client("intruder", &["intruder.example.com"])),
            false,
        ),
        (
            "another authority",
            Some(stranger.client("kube-apiserver", &[])),
            false,
        ),
        ("no certificate", None, false),
    ] {
        for version in [&TLS12, &TLS13] {
            let client = Client::with(&ca.pem(), &[b"http/1.1"], &[version], identity.as_ref());
            for _ in 0..2 {
                // In TLS 1.3 the client has finished before the server refuses, so it takes a request to see.
                let outcome = async {
                    let mut connection = client.connect(server.webhook).await?;
                    connection.post("/validate", b"{}").await?;
                    Ok::<_, std::io::Error>(connection.0.get_ref().1.handshake_kind())
                };
                match outcome.await {
                    Ok(kind) => {
                        assert!(accepted, "{label}");
                        assert_ne!(kind, Some(HandshakeKind::Resumed), "{label}: verified each time");
                    }
                    Err(_) => assert!(!accepted, "{label}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_directory_of_our_own_needs_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("tls");
    let certificate = Certificate::SelfSigned {
        directory: folder.clone(),
        names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
    };
    let server = Server::start(config(certificate.clone()), echo).await;
    let first = trusted(&server, &folder).await;
    let second = Server::start(config(certificate), echo).await;
    assert_eq!(
        trusted(&second, &folder).await,
        first,
        "replicas that share it serve one leaf"
    );

    std::fs::write(folder.join("tls.key"), "broken").unwrap();
    let mut life = server.ready.watch();
    life.borrow_and_update();
    timeout(Duration::from_secs(20), life.changed())
        .await
        .unwrap()
        .unwrap();
    assert_ne!(
        trusted(&server, &folder).await,
        first,
        "a broken leaf is made anew"
    );
    for (name, mode) in [("ca.key", 0o600), ("tls.key", 0o600)] {
        let found = std::fs::metadata(folder.join(name)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{name}");
    }
    assert!(server.metric("countersign_certificate_not_after_timestamp_seconds{kind=\"ca\"}") > 0);
}

async fn trusted(server: &Server, folder: &Path) -> CertificateDer<'static> {
    let authorities = std::fs::read_to_string(folder.join("ca.crt")).unwrap();
    let client = Client::api_server(&authorities);
    let mut connection = client.connect(server.webhook).await.unwrap();
    assert_eq!(connection.post("/validate", b"{}").await.unwrap().status, 200);
    connection.certificate()
}
