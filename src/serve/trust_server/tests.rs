use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use tokio::sync::{Notify, watch};

use super::*;
use crate::serve::config::Limits;
use crate::serve::lifecycle::Stage;
use crate::serve::ready::Ready;
use crate::telemetry::{Exposition, Metrics};

/// Lets everybody in.
type Door = fn(Call) -> std::future::Ready<Result<(), Response<Bytes>>>;
/// Nobody's answer is ready before the handler's future is; tests choose what it does.
type Work = Pin<Box<dyn Future<Output = Response<Bytes>> + Send>>;
type Handler = Box<dyn Fn(Call, ()) -> Work + Send + Sync>;

struct Port {
    server: TrustServer<Door, Handler>,
    ready: Ready,
    stage: watch::Sender<Stage>,
    metrics: Arc<Metrics>,
}

impl Port {
    fn new(limits: Limits, handler: impl Fn(Call) -> Work + Send + Sync + 'static) -> Self {
        let (ready, metrics) = (Ready::of_database(), Arc::new(Metrics::default()));
        ready.database(true);
        let stage = watch::Sender::new(Stage::Serving);
        let gate = Gate::new(limits, ready.clone(), stage.subscribe(), Arc::clone(&metrics));
        let handler: Handler = Box::new(move |call, ()| handler(call));
        let door: Door = |_| std::future::ready(Ok(()));
        Self {
            server: TrustServer::new(door, handler, gate),
            ready,
            stage,
            metrics,
        }
    }

    async fn ask<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
    {
        let peer = Peer {
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            names: vec!["alice".to_owned()],
        };
        self.server.respond(request, &peer).await
    }

    fn counted(&self, line: &str) -> bool {
        let text = self.metrics.encode(Exposition::OpenMetrics).unwrap();
        text.lines().any(|found| found == line)
    }
}

/// Answers with the body it got.
fn echo(limits: Limits) -> Port {
    Port::new(limits, |call| Box::pin(async move { Response::new(call.body) }))
}

const UPDATE: &str = "/v2/reg.example/app/_trust/tuf/";
const READ: &str = "/v2/reg.example/app/_trust/tuf/root.json";

fn asking(method: &str, uri: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(uri);
    request.body(Full::new(body.into())).unwrap()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

/// A body whose client has stopped sending.
struct Stalled;

impl hyper::body::Body for Stalled {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn only_updates_have_a_body() {
    let port = echo(Limits::default());
    for (method, uri, want) in [
        ("POST", UPDATE, "body"),
        ("GET", READ, ""),
        ("DELETE", UPDATE, ""),
        ("POST", "/v2/reg.example/app/_trust/tuf/timestamp.key", ""),
    ] {
        let response = port.ask(asking(method, uri, "body")).await;
        assert_eq!(
            (response.status().as_u16(), &*text(response).await),
            (200, want),
            "{method} {uri}"
        );
    }
}

#[tokio::test]
async fn head_gets_the_headers_of_get() {
    let port = Port::new(Limits::default(), |_| {
        Box::pin(async { Response::new("body".into()) })
    });
    let response = port.ask(asking("HEAD", READ, "")).await;
    assert_eq!(response.headers()[CONTENT_LENGTH], "4");
    assert_eq!(text(response).await, "");
    let missing = port.ask(asking("HEAD", "/nothing", "")).await;
    assert_eq!(missing.status(), 404);
    assert_ne!(missing.headers()[CONTENT_LENGTH], "0");
    assert_eq!(text(missing).await, "");
}

#[tokio::test]
async fn the_handler_learns_who_calls_and_logs_learn_no_secret() {
    let port = Port::new(Limits::default(), |call| {
        let shown = format!("{:?} {}", call, call.headers["authorization"].to_str().unwrap());
        Box::pin(async move { Response::new(shown.into()) })
    });
    let mut request = asking("GET", READ, "");
    for name in ["authorization", "cookie", "proxy-authorization"] {
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static("hush"));
    }
    let shown = text(port.ask(request).await).await;
    assert!(
        shown.contains("127.0.0.1:1") && shown.contains("alice"),
        "{shown}"
    );
    let (debug, value) = shown.rsplit_once(' ').unwrap();
    assert_eq!((value, debug.matches("hush").count()), ("hush", 0), "{debug}");
}

/// notary-v1 §2.1, and bodies that nobody should send.
#[tokio::test]
async fn what_nobody_could_answer_never_reaches_the_handler() {
    let port = Port::new(
        Limits {
            body: 10,
            ..Limits::default()
        },
        |_| panic!("on purpose"),
    );
    let declared = Request::post(UPDATE).header(CONTENT_LENGTH, 11);
    for (label, request, want) in [
        ("no such path", asking("GET", "/mutate", ""), 404),
        ("no such method", asking("PATCH", UPDATE, ""), 405),
        ("not canonical", asking("GET", "/v2//", ""), 301),
        ("no repository", asking("POST", "/v2/App/_trust/tuf/", "x"), 400),
        ("declared too large", declared.body(Full::default()).unwrap(), 413),
        ("too large", asking("POST", UPDATE, "eleven byte"), 413),
    ] {
        let response = port.ask(request).await;
        assert_eq!(response.status(), want, "{label}");
        assert_eq!(response.headers().contains_key(ALLOW), want == 405, "{label}");
        assert_eq!(response.headers().contains_key(LOCATION), want == 301, "{label}");
        assert_eq!(
            response.headers().contains_key(CONNECTION),
            want == 413,
            "{label}"
        );
        if want != 301 {
            assert_eq!(
                response.headers()[CONTENT_TYPE],
                "application/json; charset=utf-8",
                "{label}"
            );
            assert!(
                text(response).await.starts_with("{\"errors\":[{\"code\":\""),
                "{label}"
            );
        }
    }
    assert!(port.counted("countersign_http_responses_total{code=\"413\"} 2"));
    assert!(port.counted("countersign_panics_total 0"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_given_up() {
    for uri in [UPDATE, "/nothing"] {
        let began = Instant::now();
        let response = echo(Limits::default())
            .ask(Request::post(uri).body(Stalled).unwrap())
            .await;
        assert_eq!(began.elapsed().as_secs(), 30, "{uri}");
        assert_eq!(response.status(), if uri == UPDATE { 408 } else { 404 }, "{uri}");
    }
}

#[tokio::test]
async fn what_cannot_be_answered_now_is_503_in_the_words_of_the_protocol() {
    let (waiting, leaving) = (echo(Limits::default()), echo(Limits::default()));
    waiting.ready.database(false);
    leaving.stage.send_replace(Stage::Refusing);
    let full = echo(Limits {
        bodies: 4_096,
        ..Limits::default()
    });
    for (reason, port) in [("not_ready", &waiting), ("draining", &leaving), ("memory", &full)] {
        let response = port.ask(asking("POST", UPDATE, vec![b' '; 5_000])).await;
        assert_eq!(response.status(), 503, "{reason}");
        assert_eq!(response.headers()[RETRY_AFTER], "1", "{reason}");
        assert_eq!(response.headers()[CONNECTION], "close", "{reason}");
        assert!(
            port.counted(&format!(
                "countersign_requests_shed_total{{reason=\"{reason}\"}} 1"
            )),
            "{reason}"
        );
        let want = "{\"errors\":[{\"code\":\"UNAVAILABLE\",\"message\":\"service unavailable\"}]}\n";
        assert_eq!(text(response).await, want, "{reason}");
    }
    let conditions: Vec<_> = waiting.ready.conditions(crate::clock::now()).collect();
    assert_eq!(
        conditions,
        [
            ("certificate", false),
            ("database", false),
            ("not-draining", true)
        ]
    );
    waiting.ready.database(true);
    assert_eq!(waiting.ask(asking("GET", READ, "")).await.status(), 200);
}

#[tokio::test]
async fn what_is_too_much_at_a_time_is_shed_and_the_rest_served() {
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let limits = Limits {
        requests: 1,
        ..Limits::default()
    };
    let port = Port::new(limits, {
        let (entered, go) = (Arc::clone(&entered), Arc::clone(&go));
        move |_| {
            let (entered, go) = (Arc::clone(&entered), Arc::clone(&go));
            Box::pin(async move {
                entered.notify_one();
                go.notified().await;
                Response::default()
            })
        }
    });
    let second = async {
        entered.notified().await;
        let shed = port.ask(asking("GET", READ, "")).await;
        go.notify_one();
        shed
    };
    let (first, second) = tokio::join!(port.ask(asking("GET", READ, "")), second);
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 503));
    assert!(port.counted("countersign_requests_inflight 0"));
}

#[tokio::test]
async fn a_panic_is_500_and_ends_nothing_else() {
    let port = Port::new(Limits::default(), |call| {
        assert!(call.body != "at once", "on purpose");
        Box::pin(async move {
            assert!(call.body != "later", "on purpose");
            Response::default()
        })
    });
    for (body, want) in [("at once", 500), ("later", 500), ("", 200)] {
        let response = port.ask(asking("POST", UPDATE, body)).await;
        assert_eq!(response.status(), want, "{body}");
        if want == 500 {
            let want = "{\"errors\":[{\"code\":\"UNKNOWN\",\"message\":\"unknown error\"}]}\n";
            assert_eq!(text(response).await, want, "{body}");
        }
    }
    assert!(port.counted("countersign_panics_total 2"));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_given_up() {
    let port = Port::new(Limits::default(), |_| Box::pin(std::future::pending()));
    let began = Instant::now();
    let response = port.ask(asking("GET", READ, "")).await;
    assert_eq!((response.status().as_u16(), began.elapsed().as_secs()), (504, 30));
}

#[tokio::test]
async fn bodies_of_those_who_may_not_send_any_take_no_memory() {
    let limits = Limits {
        bodies: 0,
        ..Limits::default()
    };
    let (ready, metrics) = (Ready::of_database(), Arc::new(Metrics::default()));
    ready.database(true);
    let stage = watch::Sender::new(Stage::Serving);
    let gate = Gate::new(limits, ready, stage.subscribe(), metrics);
    let admit = |head: Call| async move {
        assert_eq!(head.body.len(), 0, "it is not read yet");
        let mut refusal = Response::new(Bytes::new());
        *refusal.status_mut() = StatusCode::UNAUTHORIZED;
        head.headers
            .contains_key(AUTHORIZATION)
            .then_some(())
            .ok_or(refusal)
    };
    let answer = |call: Call, ()| async move { Response::new(call.body) };
    let server = TrustServer::new(admit, answer, gate);
    let peer = Peer {
        address: SocketAddr::from(([127, 0, 0, 1], 1)),
        names: Vec::new(),
    };
    let mut request = asking("POST", UPDATE, vec![b' '; 5_000]);
    let refused = server.respond(request.clone(), &peer).await;
    assert_eq!(refused.status(), 401, "not 503 for want of memory");
    let secret = HeaderValue::from_static("Bearer known");
    request.headers_mut().insert(AUTHORIZATION, secret);
    assert_eq!(server.respond(request, &peer).await.status(), 503);
}

#[tokio::test]
async fn slow_readers_of_large_answers_use_up_no_more_memory_than_there_is() {
    const LARGE: usize = 100 << 10;
    let limits = Limits {
        answers: 200 << 10,
        ..Limits::default()
    };
    let port = Port::new(limits, |call| {
        let size = if call.uri.path() == READ { LARGE } else { 2_000 };
        Box::pin(async move { Response::new(vec![b'x'; size].into()) })
    });
    let small = "/v2/reg.example/app/_trust/tuf/timestamp.json";
    let first = port.ask(asking("GET", READ, "")).await;
    let refused = port.ask(asking("GET", READ, "")).await;
    assert_eq!((first.status().as_u16(), refused.status().as_u16()), (200, 503));
    assert_eq!(refused.headers()[RETRY_AFTER], "1");
    assert_eq!(
        port.ask(asking("GET", small, "")).await.status(),
        200,
        "small ones have room"
    );
    assert_eq!(
        port.ask(asking("HEAD", READ, "")).await.status(),
        200,
        "nothing to hold"
    );
    assert_eq!(text(first).await.len(), LARGE);
    assert_eq!(
        port.ask(asking("GET", READ, "")).await.status(),
        200,
        "it is given back"
    );
    assert!(port.counted("countersign_requests_shed_total{reason=\"memory\"} 1"));
}
