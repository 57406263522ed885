use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Frame;
use tokio::sync::{Notify, watch};

use super::*;
use crate::serve::config::Limits;
use crate::serve::lifecycle::Stage;
use crate::serve::ready::Ready;
use crate::telemetry::{Exposition, Metrics};

/// Nobody's answer is ready before the handler's future is; tests choose what it does.
type Work = Pin<Box<dyn Future<Output = Result<Vec<u8>, Rejected>> + Send>>;
type Handler = Box<dyn Fn(Endpoint, Bytes, Option<String>) -> Work + Send + Sync>;

struct Port {
    webhook: Arc<Webhook<Handler>>,
    ready: Ready,
    stage: watch::Sender<Stage>,
    metrics: Arc<Metrics>,
}

impl Port {
    fn new(
        limits: Limits,
        handler: impl Fn(Endpoint, Bytes, Option<String>) -> Work + Send + Sync + 'static,
    ) -> Self {
        let (ready, metrics) = (Ready::default(), Arc::new(Metrics::default()));
        ready.policies_loaded();
        let stage = watch::Sender::new(Stage::Serving);
        let handler: Handler = Box::new(handler);
        let gate = Gate::new(limits, ready.clone(), stage.subscribe(), Arc::clone(&metrics));
        let webhook = Webhook::new(handler, gate);
        Self {
            webhook: Arc::new(webhook),
            ready,
            stage,
            metrics,
        }
    }

    fn counted(&self, line: &str) -> bool {
        let text = self.metrics.encode(Exposition::OpenMetrics).unwrap();
        text.lines().any(|found| found == line)
    }
}

fn echo() -> Port {
    Port::new(Limits::default(), |_, body, _| {
        Box::pin(async move { Ok(body.to_vec()) })
    })
}

fn post(uri: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(uri)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body.into()))
        .unwrap()
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
async fn a_verdict_is_json_neither_compressed_nor_redirected() {
    let response = echo().webhook.respond(post("/validate?timeout=10s", "{}")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    assert!(!response.headers().contains_key(CONTENT_ENCODING));
    assert_eq!(text(response).await, "{}");
}

#[tokio::test]
async fn the_handler_learns_the_entry_and_the_query() {
    let port = Port::new(Limits::default(), |endpoint, _, query| {
        Box::pin(async move { Ok(format!("{} {query:?}", endpoint.name()).into_bytes()) })
    });
    for (uri, want) in [
        ("/mutate?timeout=2s", "mutate Some(\"timeout=2s\")"),
        ("/audit", "audit None"),
    ] {
        assert_eq!(text(port.webhook.respond(post(uri, "{}")).await).await, want);
    }
}

/// ADM-67, the lines about what is not a review at all.
#[tokio::test]
async fn unexpected_input_gets_the_listed_answer() {
    let port = Port::new(Limits::default(), |_, _, _| {
        Box::pin(async { Err(Rejected::malformed("not an AdmissionReview")) })
    });
    let put = Request::put("/validate").body(Full::default()).unwrap();
    let yaml = Request::post("/validate").header(CONTENT_TYPE, "text/yaml");
    let huge = Request::post("/validate")
        .header(CONTENT_TYPE, "application/json")
        .header(CONTENT_LENGTH, (8 << 20) + 1);
    for (label, request, want) in [
        ("wrong path", post("/nothing", "{}"), 404),
        ("not a post", put, 405),
        ("not declared as json", yaml.body(Full::default()).unwrap(), 415),
        ("declared too large", huge.body(Full::default()).unwrap(), 413),
        ("too large", post("/validate", vec![b' '; (8 << 20) + 1]), 413),
        ("not a review", post("/validate", "[]"), 400),
    ] {
        let response = port.webhook.respond(request).await;
        assert_eq!(response.status(), want, "{label}");
        assert_eq!(response.headers().contains_key(ALLOW), want == 405, "{label}");
        assert!(!response.headers().contains_key(RETRY_AFTER), "{label}");
        assert!(
            port.counted(&format!("countersign_http_responses_total{{code=\"{want}\"}} 1")) || want == 413,
            "{label}"
        );
        assert!(text(response).await.len() < 100, "{label}");
    }
}

#[tokio::test]
async fn eight_mebibytes_are_accepted() {
    let response = echo()
        .webhook
        .respond(post("/validate", vec![b' '; 8 << 20]))
        .await;
    assert_eq!(response.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_ends_with_the_time_the_caller_grants() {
    for (uri, want) in [
        ("/validate?timeout=2s", 2),
        ("/validate", 30),
        ("/validate?timeout=900s", 30),
    ] {
        let request = Request::post(uri).header(CONTENT_TYPE, "application/json");
        let began = Instant::now();
        let response = echo().webhook.respond(request.body(Stalled).unwrap()).await;
        assert_eq!(response.status(), 408, "{uri}");
        assert_eq!(response.headers()[CONNECTION], "close", "{uri}");
        assert_eq!(began.elapsed().as_secs(), want, "{uri}");
    }
}

/// ADM-61: a server that cannot decide says so in a way that the API server repeats.
#[tokio::test]
async fn not_able_to_decide_is_503_with_a_time_to_repeat() {
    let unready = {
        let port = echo();
        let stage = port.stage.subscribe();
        let ready = Ready::default();
        let handler: Handler = Box::new(|_, _, _| Box::pin(async { Ok(Vec::new()) }));
        let gate = Gate::new(Limits::default(), ready.clone(), stage, Arc::clone(&port.metrics));
        let webhook = Webhook::new(handler, gate);
        Port {
            webhook: Arc::new(webhook),
            ready,
            ..port
        }
    };
    let leaving = echo();
    leaving.stage.send_replace(Stage::Refusing);
    let full = Port::new(
        Limits {
            bodies: 4_096,
            ..Limits::default()
        },
        |_, _, _| Box::pin(async { Ok(Vec::new()) }),
    );
    for (reason, port) in [("not_ready", &unready), ("draining", &leaving), ("memory", &full)] {
        let response = port.webhook.respond(post("/validate", vec![b' '; 5_000])).await;
        assert_eq!(response.status(), 503, "{reason}");
        assert_eq!(response.headers()[RETRY_AFTER], "1", "{reason}");
        assert_eq!(response.headers()[CONNECTION], "close", "{reason}");
        assert!(
            port.counted(&format!(
                "countersign_requests_shed_total{{reason=\"{reason}\"}} 1"
            )),
            "{reason}"
        );
    }
    unready.ready.policies_loaded();
    assert_eq!(
        unready.webhook.respond(post("/validate", "{}")).await.status(),
        200
    );
    // Where memory is shared, it has to be there as well.
    unready.ready.await_trust_records();
    assert_eq!(
        unready.webhook.respond(post("/validate", "{}")).await.status(),
        503
    );
    let waits = ("trust-records", false);
    assert!(
        unready
            .ready
            .conditions(crate::clock::now())
            .any(|condition| condition == waits)
    );
    unready.ready.trust_records_loaded();
    assert_eq!(
        unready.webhook.respond(post("/validate", "{}")).await.status(),
        200
    );
    assert_eq!(
        full.webhook.respond(post("/validate", "{}")).await.status(),
        200,
        "memory is given back"
    );
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
        move |_, _, _| {
            let (entered, go) = (Arc::clone(&entered), Arc::clone(&go));
            Box::pin(async move {
                entered.notify_one();
                go.notified().await;
                Ok(b"{}".to_vec())
            })
        }
    });
    let second = async {
        entered.notified().await;
        let shed = port.webhook.respond(post("/validate", "{}")).await;
        go.notify_one();
        shed
    };
    let (first, second) = tokio::join!(port.webhook.respond(post("/validate", "{}")), second);
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 503));
    assert!(port.counted("countersign_requests_shed_total{reason=\"overload\"} 1"));
    assert!(port.counted("countersign_requests_inflight 0"));
}

/// ADM-68, and ADM-61: never a verdict.
#[tokio::test]
async fn a_panic_is_500_and_ends_nothing_else() {
    let port = Port::new(Limits::default(), |_, body, _| {
        assert!(body != "at once", "on purpose");
        Box::pin(async move {
            assert!(body != "later", "on purpose");
            Ok(body.to_vec())
        })
    });
    for (body, want) in [("at once", 500), ("later", 500), ("{}", 200)] {
        assert_eq!(
            port.webhook.respond(post("/validate", body)).await.status(),
            want,
            "{body}"
        );
    }
    assert!(port.counted("countersign_panics_total 2"));
    assert!(port.counted("countersign_requests_inflight 0"));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_given_up_when_nobody_waits_any_more() {
    let port = Port::new(Limits::default(), |_, _, _| Box::pin(std::future::pending()));
    let began = Instant::now();
    let response = port.webhook.respond(post("/validate?timeout=2s", "{}")).await;
    assert_eq!((response.status().as_u16(), began.elapsed().as_secs()), (504, 2));
}

#[test]
fn the_trace_of_a_request_is_taken_from_a_well_formed_header() {
    for (header, want) in [
        (
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            Some("0af7651916cd43dd8448eb211c80319c"),
        ),
        ("00-short-b7ad6b7169203331-01", None),
        ("nonsense", None),
        ("00-zzf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", header.parse().unwrap());
        assert_eq!(trace_id(&headers), want, "{header}");
    }
}
