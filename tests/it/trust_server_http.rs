//! The port of a trust server over real sockets: what stands between its clients and the service.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign::serve::{Addresses, Clients, Config, Drain, Ready, ServeError, Stop, StopHandle};
use countersign::telemetry::{Exposition, Metrics};
use countersign::trustserver::http::Call;
use http::Response;
use rustls::version::{TLS12, TLS13};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::serve::http2;
use crate::tls_support::{Answer, Ca, Client, Connection, config, get};

/// Long enough for anything that ends at all.
const PATIENCE: Duration = Duration::from_secs(20);
const UPDATE: &str = "/v2/reg.example/app/_trust/tuf/";
const READ: &str = "/v2/reg.example/app/_trust/tuf/root.json";

/// A trust server that runs in this process, around an answer of the test's.
struct Server {
    address: SocketAddr,
    admin: SocketAddr,
    ready: Ready,
    metrics: Arc<Metrics>,
    stop: StopHandle,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    async fn start<H, F>(config: Config, answer: H) -> Self
    where
        H: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Bytes>> + Send + 'static,
    {
        let (ready, metrics) = (Ready::of_database(), Arc::new(Metrics::default()));
        let (stop, requests) = Stop::by_hand();
        let (bound, addresses) = oneshot::channel();
        let run = countersign::serve::run_trust_server(
            config,
            |_| async { Ok(()) },
            move |call, ()| answer(call),
            ready.clone(),
            Arc::clone(&metrics),
            requests,
            bound,
        );
        let task = TaskTracker::new().spawn(run);
        let Addresses { webhook, admin } = addresses.await.expect("the server starts");
        ready.database(true);
        Self {
            address: webhook,
            admin: admin.unwrap(),
            ready,
            metrics,
            stop,
            task,
        }
    }

    fn counted(&self, line: &str) -> bool {
        let text = self.metrics.encode(Exposition::Classic).unwrap();
        text.lines().any(|found| found == line)
    }
}

/// Tells what arrived.
async fn told(call: Call) -> Response<Bytes> {
    let names = call.peer.names.join(",");
    Response::new(
        format!(
            "{} {} {} [{names}]",
            call.method,
            call.uri.path(),
            call.body.len()
        )
        .into(),
    )
}

struct Place {
    ca: Ca,
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            ca: Ca::new("test"),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn config(&self) -> Config {
        config(self.ca.server().mount(self.directory.path()))
    }

    /// The same, where certificates of `clients` are taken but not asked for.
    fn with_clients(&self, clients: &Ca, names: &[&str]) -> Config {
        let authorities = self.directory.path().join("clients.crt");
        std::fs::write(&authorities, clients.pem()).unwrap();
        let mut config = self.config();
        config.tls.clients = Some(Clients {
            ca: authorities,
            names: names.iter().map(|&name| name.to_owned()).collect(),
            optional: true,
        });
        config
    }

    async fn connect(&self, server: &Server) -> Connection {
        let client = Client::new(&self.ca.pem(), &[b"http/1.1"]);
        client.connect(server.address).await.unwrap()
    }
}

/// One request on a connection that is kept.
async fn ask(connection: &mut Connection, method: &str, path: &str, body: &[u8]) -> std::io::Result<Answer> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.send(&[head.as_bytes(), body].concat()).await?;
    connection.answer().await
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let place = Place::new();
    let server = Server::start(place.config(), told).await;
    let mut connection = place.connect(&server).await;
    for (method, path, body, status, want) in [
        ("GET", "/v2/", "", 200, "GET /v2/ 0 []"),
        (
            "POST",
            UPDATE,
            "body",
            200,
            "POST /v2/reg.example/app/_trust/tuf/ 4 []",
        ),
        (
            "GET",
            READ,
            "no body counts here",
            200,
            "GET /v2/reg.example/app/_trust/tuf/root.json 0 []",
        ),
        (
            "GET",
            "/nothing",
            "",
            404,
            "{\"errors\":[{\"code\":\"METADATA_NOT_FOUND\",\"message\":\"You have requested metadata that does not exist.\"}]}\n",
        ),
        ("GET", "/v2//", "", 301, ""),
        (
            "DELETE",
            UPDATE,
            "",
            200,
            "DELETE /v2/reg.example/app/_trust/tuf/ 0 []",
        ),
    ] {
        let answer = ask(&mut connection, method, path, body.as_bytes()).await.unwrap();
        assert_eq!((answer.status, text(&answer)), (status, want), "{method} {path}");
        assert!(!answer.closes(), "{method} {path}");
        assert_eq!(
            answer.header("location"),
            (status == 301).then_some("/v2/"),
            "{path}"
        );
    }
    assert!(server.counted("countersign_http_responses_total{code=\"200\"} 4"));
    assert!(server.counted("countersign_connections 1"));
}

#[tokio::test]
async fn head_is_answered_without_a_body() {
    let place = Place::new();
    let server = Server::start(place.config(), told).await;
    let mut connection = place.connect(&server).await;
    for path in [READ, "/nothing", "/v2/"] {
        let request = format!("HEAD {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        connection.send(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tokio::io::AsyncReadExt::read_u8(&mut connection.0).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(
            head.contains("\r\ncontent-length: ") && !head.contains("content-length: 0"),
            "{head}"
        );
    }
    // Had there been a body, it would stand where this answer begins.
    assert_eq!(
        ask(&mut connection, "GET", "/v2/", b"").await.unwrap().status,
        200
    );

    let client = http2(&place.ca);
    let answer = client
        .head(format!("https://localhost:{}{READ}", server.address.port()))
        .send();
    let answer = answer.await.unwrap();
    assert_eq!(
        (answer.version(), answer.status().as_u16()),
        (reqwest::Version::HTTP_2, 200)
    );
    assert_eq!(answer.headers()["content-length"], "50");
    assert_eq!(answer.bytes().await.unwrap().len(), 0);
}

#[tokio::test]
async fn http_2_is_spoken_where_a_client_offers_it() {
    let place = Place::new();
    let server = Server::start(place.config(), told).await;
    let client = http2(&place.ca);
    for (path, status) in [("v2/", 200), ("nothing", 404)] {
        let answer = client
            .get(format!("https://localhost:{}/{path}", server.address.port()))
            .send();
        let answer = answer.await.unwrap();
        assert_eq!(
            (answer.version(), answer.status().as_u16()),
            (reqwest::Version::HTTP_2, status)
        );
    }
    let request = client.post(format!("https://localhost:{}{UPDATE}", server.address.port()));
    let answer = request.body("body").send().await.unwrap();
    assert_eq!(
        answer.text().await.unwrap(),
        "POST /v2/reg.example/app/_trust/tuf/ 4 []"
    );
}

/// As a client sees it that is still sending when the answer could come.
#[tokio::test]
async fn bodies_above_the_limit_are_refused_before_the_connection_ends() {
    let place = Place::new();
    let mut config = place.config();
    (config.limits.body, config.limits.bodies) = (1 << 20, 4 << 20);
    let server = Server::start(config, told).await;
    let within = vec![b' '; 1 << 20];
    let answer = ask(&mut place.connect(&server).await, "POST", UPDATE, &within)
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    let chunk = [b"100000\r\n".as_slice(), &within, b"\r\n"].concat();
    let chunked = [
        format!("POST {UPDATE} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes(),
        chunk.repeat(3),
        b"0\r\n\r\n".to_vec(),
    ]
    .concat();
    let declared = [
        format!("POST {UPDATE} HTTP/1.1\r\nhost: a\r\ncontent-length: 3145728\r\n\r\n").into_bytes(),
        within.repeat(3),
    ]
    .concat();
    for (label, request) in [("chunked", chunked), ("declared", declared)] {
        let mut connection = place.connect(&server).await;
        connection.send(&request).await.expect(label);
        let answer = connection.answer().await.expect(label);
        assert_eq!((answer.status, answer.closes()), (413, true), "{label}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/json; charset=utf-8"),
            "{label}"
        );
        assert!(
            text(&answer).starts_with("{\"errors\":[{\"code\":\"MALFORMED_UPLOAD\""),
            "{label}"
        );
    }
}

/// A slow upload is given up, and keeps nobody else waiting.
#[tokio::test]
async fn a_body_that_trickles_in_is_given_up() {
    let place = Place::new();
    let mut config = place.config();
    config.limits.request_time = Duration::from_millis(500);
    config.limits.requests = 1;
    let server = Server::start(config, told).await;
    let mut slow = place.connect(&server).await;
    let head = format!("POST {UPDATE} HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nbegun");
    slow.send(head.as_bytes()).await.unwrap();
    let other = ask(&mut place.connect(&server).await, "GET", READ, b"")
        .await
        .unwrap();
    assert_eq!(other.status, 200);
    let answer = timeout(PATIENCE, slow.answer()).await.unwrap().unwrap();
    assert_eq!((answer.status, answer.closes()), (408, true));
}

#[tokio::test]
async fn a_panic_takes_neither_the_process_nor_other_requests_down() {
    let place = Place::new();
    let answer = |call: Call| async move {
        assert!(call.body != "panic", "on purpose");
        Response::new(call.body)
    };
    let server = Server::start(place.config(), answer).await;
    let mut connection = place.connect(&server).await;
    for (body, status) in [("panic", 500), ("fine", 200)] {
        let answer = ask(&mut connection, "POST", UPDATE, body.as_bytes())
            .await
            .unwrap();
        assert_eq!(answer.status, status, "{body}");
    }
    assert!(server.counted("countersign_panics_total 1"));
}

/// notary-v1 §2.9: clients may have a certificate, and may have none.
#[tokio::test]
async fn names_of_an_optional_certificate_reach_the_service() {
    let (place, clients) = (Place::new(), Ca::new("clients"));
    let server = Server::start(place.with_clients(&clients, &[]), told).await;
    for (label, identity, names) in [
        ("no certificate", None, "[]"),
        (
            "common name first",
            Some(clients.client("alice", &["a.example", "alice@example.com"])),
            "[alice,a.example,alice@example.com]",
        ),
        ("common name alone", Some(clients.client("bob", &[])), "[bob]"),
    ] {
        for version in [&TLS12, &TLS13] {
            let client = Client::with(&place.ca.pem(), &[b"http/1.1"], &[version], identity.as_ref());
            // Twice: what is resumed would not be verified.
            for _ in 0..2 {
                let mut connection = client.connect(server.address).await.expect(label);
                let answer = ask(&mut connection, "GET", "/v2/", b"").await.expect(label);
                assert_eq!(text(&answer), format!("GET /v2/ 0 {names}"), "{label}");
                let kind = connection.0.get_ref().1.handshake_kind();
                assert_ne!(kind, Some(rustls::HandshakeKind::Resumed), "{label}");
            }
        }
    }
}

/// Optional is the certificate, not its verification.
#[tokio::test]
async fn a_forged_certificate_is_refused_where_none_would_do() {
    let (place, clients) = (Place::new(), Ca::new("clients"));
    let server = Server::start(place.with_clients(&clients, &["alice"]), told).await;
    // The same name, signed by somebody who took the authority's.
    let forged = Ca::new("clients").client("alice", &[]);
    let foreign = place.ca.client("alice", &[]);
    let as_server = clients.server();
    let unnamed = clients.client("mallory", &[]);
    for (label, identity, accepted) in [
        ("honest", clients.client("alice", &[]), true),
        ("signed by a namesake", forged, false),
        ("signed by another authority", foreign, false),
        ("a server's", as_server, false),
        ("another name than is let in", unnamed, false),
    ] {
        for version in [&TLS12, &TLS13] {
            let client = Client::with(&place.ca.pem(), &[b"http/1.1"], &[version], Some(&identity));
            // In TLS 1.3 the client has finished before the server refuses, so it takes a request to see.
            let outcome = async {
                let mut connection = client.connect(server.address).await?;
                ask(&mut connection, "GET", "/v2/", b"").await
            };
            assert_eq!(outcome.await.is_ok(), accepted, "{label}");
        }
    }
}

#[tokio::test]
async fn a_leaving_server_finishes_what_it_began_and_sends_the_rest_elsewhere() {
    let place = Place::new();
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let config = Config {
        drain: Drain {
            delay: Duration::from_millis(50),
            refuse: PATIENCE,
            grace: PATIENCE,
        },
        ..place.config()
    };
    let server = Server::start(config, {
        let (entered, go) = (Arc::clone(&entered), Arc::clone(&go));
        move |call: Call| {
            let (entered, go) = (Arc::clone(&entered), Arc::clone(&go));
            async move {
                if call.body == "slow" {
                    entered.notify_one();
                    go.notified().await;
                }
                Response::new(call.body)
            }
        }
    })
    .await;
    let mut slow = place.connect(&server).await;
    let mut idle = place.connect(&server).await;
    let refused = async {
        entered.notified().await;
        server.stop.stop();
        // The port is closed once the delay is over.
        while tokio::net::TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let refused = ask(&mut idle, "GET", READ, b"").await.unwrap();
        go.notify_one();
        refused
    };
    let (finished, refused) = tokio::join!(ask(&mut slow, "POST", UPDATE, b"slow"), refused);
    let finished = finished.unwrap();
    assert_eq!((finished.status, finished.closes()), (200, true));
    assert_eq!((refused.status, refused.closes()), (503, true));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(text(&refused).contains("\"UNAVAILABLE\""));
    assert!(server.counted("countersign_requests_shed_total{reason=\"draining\"} 1"));
    timeout(PATIENCE, server.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn readiness_waits_for_the_database() {
    let place = Place::new();
    let server = Server::start(place.config(), told).await;
    let mut connection = place.connect(&server).await;
    for (answers, status, readiness) in [
        (
            false,
            503,
            "[+]certificate ok\n[-]database failed\n[+]not-draining ok\nnot ready\n",
        ),
        (
            true,
            200,
            "[+]certificate ok\n[+]database ok\n[+]not-draining ok\nready\n",
        ),
    ] {
        server.ready.database(answers);
        let probe = get(server.admin, "/readyz?verbose").await;
        assert_eq!((probe.status, text(&probe)), (status, readiness));
        let answer = ask(&mut connection, "GET", READ, b"").await.unwrap();
        assert_eq!(answer.status, status);
        connection = place.connect(&server).await;
    }
}
