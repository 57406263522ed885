//! The webhook port and the plain port over real sockets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign::serve::{Endpoint, Rejected};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::tls_support::{Ca, Client, Server, config, echo, get, mounted};

async fn started() -> (Server, Client, tempfile::TempDir) {
    let (ca, directory) = (Ca::new("test"), tempfile::tempdir().unwrap());
    let server = Server::start(config(ca.server().mount(directory.path())), echo).await;
    (server, Client::api_server(&ca.pem()), directory)
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let (server, client, _directory) = started().await;
    let mut connection = client.connect(server.webhook).await.unwrap();
    for body in ["{}", "{\"a\":1}"] {
        for path in ["/mutate", "/validate?timeout=10s", "/audit", "/advise"] {
            let answer = connection.post(path, body.as_bytes()).await.unwrap();
            assert_eq!(
                (answer.status, answer.body.as_slice()),
                (200, body.as_bytes()),
                "{path}"
            );
            assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
            assert!(!answer.closes(), "{path}");
        }
    }
    assert_eq!(server.metric("countersign_connections"), 1);
    assert_eq!(server.metric("countersign_http_responses_total{code=\"200\"}"), 8);
}

/// Checklist 7 and 8, as a client sees it that is still sending when the answer could come: bodies are larger than what
/// the kernel holds, and closing on unread data would reset the connection.
#[tokio::test]
async fn refused_requests_are_answered_before_the_connection_ends() {
    let (server, client, _directory) = started().await;
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    let chunked = [
        b"POST /validate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
        chunk.repeat(24),
        b"0\r\n\r\n".to_vec(),
    ]
    .concat();
    let body = vec![b' '; 24 << 20];
    let declared = [
        b"POST /validate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 25165824\r\n\r\n".as_slice(),
        &body,
    ]
    .concat();
    let put = b"PUT /validate HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}".to_vec();
    let yaml =
        b"POST /audit HTTP/1.1\r\nhost: a\r\ncontent-type: text/yaml\r\ncontent-length: 2\r\n\r\n{}".to_vec();
    let path = b"POST /validate/ HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}".to_vec();
    for (label, request, status) in [
        ("chunked and too large", chunked, 413),
        ("declared too large", declared, 413),
        ("not a post", put, 405),
        ("not declared as json", yaml, 415),
        ("wrong path", path, 404),
        ("no http at all", b"\x16\x03\x01\r\n\r\n".to_vec(), 400),
    ] {
        let mut connection = client.connect(server.webhook).await.unwrap();
        connection.send(&request).await.expect(label);
        let answer = connection.answer().await.expect(label);
        assert_eq!(answer.status, status, "{label}");
        assert_eq!(
            answer.header("allow"),
            (status == 405).then_some("POST"),
            "{label}"
        );
        assert_eq!(answer.header("location"), None, "{label}");
    }
}

#[tokio::test]
async fn eight_mebibytes_are_decided() {
    let (server, client, _directory) = started().await;
    let body = vec![b' '; 8 << 20];
    let mut connection = client.connect(server.webhook).await.unwrap();
    let answer = connection.post("/validate", &body).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, body.len()));
}

#[tokio::test]
async fn http_2_is_served_where_a_client_offers_it() {
    let (ca, directory) = (Ca::new("test"), tempfile::tempdir().unwrap());
    let server = Server::start(config(ca.server().mount(directory.path())), echo).await;
    let client = http2(&ca);
    for status in [200, 404] {
        let path = if status == 200 {
            "validate?timeout=2s"
        } else {
            "nothing"
        };
        let request = client.post(format!("https://localhost:{}/{path}", server.webhook.port()));
        let answer = request
            .header("content-type", "application/json")
            .body("{}")
            .send();
        let answer = answer.await.unwrap();
        assert_eq!(
            (answer.version(), answer.status().as_u16()),
            (reqwest::Version::HTTP_2, status)
        );
    }
}

/// A client that offers HTTP/2, as one of a loopback URL does.
pub(crate) fn http2(ca: &Ca) -> reqwest::Client {
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let root = reqwest::Certificate::from_pem(ca.pem().as_bytes()).unwrap();
    reqwest::Client::builder()
        .tls_certs_only([root])
        .no_proxy()
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_panic_takes_neither_the_process_nor_other_requests_down() {
    let (ca, directory) = (Ca::new("test"), tempfile::tempdir().unwrap());
    let handler = |_, body: Bytes, _| async move {
        assert!(body != "panic", "on purpose");
        Ok(body.to_vec())
    };
    let server = Server::start(config(ca.server().mount(directory.path())), handler).await;
    let client = Client::api_server(&ca.pem());
    let mut connection = client.connect(server.webhook).await.unwrap();
    for (body, status) in [("panic", 500), ("{}", 200)] {
        let answer = connection.post("/validate", body.as_bytes()).await.unwrap();
        assert_eq!(answer.status, status, "{body}");
    }
    assert_eq!(server.metric("countersign_panics_total"), 1);
}

/// Beyond the cap a connection is good for one request; beyond the allowance it waits. Neither fails.
#[tokio::test]
async fn too_many_connections_are_slowed_down_not_refused() {
    let (ca, directory) = (Ca::new("test"), tempfile::tempdir().unwrap());
    let mut config = config(ca.server().mount(directory.path()));
    (config.limits.connections, config.limits.overflow) = (1, 1);
    let server = Server::start(config, echo).await;
    let client = Client::api_server(&ca.pem());
    let mut first = client.connect(server.webhook).await.unwrap();
    let mut second = client.connect(server.webhook).await.unwrap();
    let third = client.connect(server.webhook);
    tokio::pin!(third);
    tokio::select! {
        biased;
        answer = second.post("/validate", b"{}") => assert!(answer.unwrap().closes()),
        _ = &mut third => panic!("there was no room"),
    }
    let mut third = third.await.unwrap();
    assert!(third.post("/validate", b"{}").await.unwrap().closes());
    assert!(!first.post("/validate", b"{}").await.unwrap().closes());
}

/// Whoever opens all connections there are and says nothing does not keep the API server out.
#[tokio::test]
async fn silent_connections_give_way_when_every_place_is_taken() {
    let (ca, directory) = (Ca::new("test"), tempfile::tempdir().unwrap());
    let mut config = config(ca.server().mount(directory.path()));
    (config.limits.connections, config.limits.overflow) = (2, 1);
    config.limits.idle_when_full = Duration::from_millis(50);
    let server = Server::start(config, echo).await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let client = Client::new(&ca.pem(), &[alpn]);
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(client.connect(server.webhook).await.unwrap());
        }
        let mut late = Client::api_server(&ca.pem())
            .connect(server.webhook)
            .await
            .unwrap();
        assert_eq!(late.post("/validate", b"{}").await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn overload_is_shed_with_a_time_to_repeat() {
    let (ca, directory) = (Ca::new("test"), tempfile::tempdir().unwrap());
    let mut config = config(ca.server().mount(directory.path()));
    config.limits.requests = 1;
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let server = Server::start(config, {
        let (entered, go) = (Arc::clone(&entered), Arc::clone(&go));
        move |_: Endpoint, body: Bytes, _: Option<String>| {
            let (entered, go) = (Arc::clone(&entered), Arc::clone(&go));
            async move {
                entered.notify_one();
                go.notified().await;
                Ok::<_, Rejected>(body.to_vec())
            }
        }
    })
    .await;
    let client = Client::api_server(&ca.pem());
    let mut first = client.connect(server.webhook).await.unwrap();
    let mut second = client.connect(server.webhook).await.unwrap();
    let shed = async {
        entered.notified().await;
        let shed = second.post("/validate", b"{}").await.unwrap();
        go.notify_one();
        shed
    };
    let (first, shed) = tokio::join!(first.post("/validate", b"{}"), shed);
    assert_eq!(first.unwrap().status, 200);
    assert_eq!(
        (shed.status, shed.header("retry-after"), shed.closes()),
        (503, Some("1"), true)
    );
}

#[tokio::test]
async fn a_client_that_never_shakes_hands_is_cut_off() {
    let (ca, directory) = (Ca::new("test"), tempfile::tempdir().unwrap());
    let mut config = config(ca.server().mount(directory.path()));
    config.limits.handshake = Duration::from_millis(50);
    let server = Server::start(config, echo).await;
    let mut silent = TcpStream::connect(server.webhook).await.unwrap();
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap_or(0), 0);
    assert_eq!(
        server.metric("countersign_tls_handshakes_total{result=\"timeout\"}"),
        1
    );
}

/// Checklist 37.
#[tokio::test]
async fn probes_name_what_is_missing() {
    let (ca, directory) = (Ca::new("test"), tempfile::tempdir().unwrap());
    let server = Server::start(config(mounted(directory.path())), echo).await;
    for path in ["/livez", "/healthz"] {
        assert_eq!(
            get(server.admin, path).await.status,
            200,
            "{path}: alive without a certificate"
        );
    }
    let unready = get(server.admin, "/readyz").await;
    assert_eq!(unready.status, 503);
    let text = String::from_utf8(unready.body).unwrap();
    assert_eq!(
        text,
        "[-]certificate failed\n[+]policies ok\n[+]not-draining ok\nnot ready\n"
    );

    ca.server().mount(directory.path());
    let mut conditions = server.ready.watch();
    conditions
        .wait_for(|state| state.certificate.is_some())
        .await
        .unwrap();
    let ready = get(server.admin, "/readyz").await;
    assert_eq!((ready.status, ready.body.as_slice()), (200, b"ok\n".as_slice()));
    let verbose = String::from_utf8(get(server.admin, "/readyz?verbose").await.body).unwrap();
    assert_eq!(
        verbose,
        "[+]certificate ok\n[+]policies ok\n[+]not-draining ok\nready\n"
    );
    assert_eq!(get(server.admin, "/mutate").await.status, 404);
}

#[tokio::test]
async fn metrics_are_served_in_both_formats() {
    let (server, _client, _directory) = started().await;
    let classic = get(server.admin, "/metrics").await;
    assert_eq!(
        classic.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let text = String::from_utf8(classic.body).unwrap();
    assert!(text.contains("\n# TYPE countersign_admission_requests_total counter\n"));
    assert!(text.contains("\ncountersign_certificate_not_after_timestamp_seconds{kind=\"leaf\"} "));

    let mut stream = TcpStream::connect(server.admin).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\naccept: application/openmetrics-text;version=1.0.0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut newer = String::new();
    stream.read_to_string(&mut newer).await.unwrap();
    assert!(newer.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
    assert!(newer.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_plain_port_only_reads() {
    let (server, _client, _directory) = started().await;
    let mut stream = TcpStream::connect(server.admin).await.unwrap();
    let request = "POST /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD\r\n"),
        "{answer}"
    );
}
