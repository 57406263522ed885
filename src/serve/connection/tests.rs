//! Time is virtual: [`pass`] costs none.

use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::serve::reply;

const REQUEST: &[u8] = b"POST /validate HTTP/1.1\r\nhost: webhook\r\ncontent-length: 2\r\n\r\n{}";

struct Port {
    stage: watch::Sender<Stage>,
    shared: Shared,
}

impl Port {
    fn new() -> Self {
        let stage = watch::Sender::new(Stage::Serving);
        let shared = Shared {
            limits: Limits::default(),
            stage: stage.subscribe(),
            full: watch::channel(false).1,
            tasks: TaskTracker::new(),
        };
        Self { stage, shared }
    }

    fn open(&self, once: bool) -> DuplexStream {
        let (client, server) = tokio::io::duplex(1_024);
        let shared = self.shared.clone();
        self.shared.tasks.spawn(async move {
            let service = |_request| async { reply::json(b"{}".to_vec()) };
            serve(server, Protocol::Http1, once, service, &shared).await;
        });
        client
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Sends a request and reads one answer; the head alone, since the body is always `{}`.
async fn ask(client: &mut DuplexStream) -> String {
    client.write_all(REQUEST).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n{}") {
        answer.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(answer).unwrap()
}

async fn is_closed(client: &mut DuplexStream) -> bool {
    let end = timeout(Duration::from_millis(1), client.read(&mut [0; 64])).await;
    matches!(end, Ok(Ok(0)))
}

/// Checklist 4: the API server closes idle connections after 90 s, and it must be the one who does.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_still_usable_after_95_seconds() {
    let mut client = Port::new().open(false);
    for idle in [95, 95, 170] {
        assert!(
            ask(&mut client).await.starts_with("HTTP/1.1 200"),
            "before {idle} s"
        );
        pass(idle).await;
        assert!(!is_closed(&mut client).await, "after {idle} s");
    }
    assert!(ask(&mut client).await.starts_with("HTTP/1.1 200"));
}

/// Go's transport opens connections ahead of need and keeps those like any other.
#[tokio::test(start_paused = true)]
async fn a_connection_without_any_request_yet_lives_as_long() {
    let mut client = Port::new().open(false);
    pass(95).await;
    assert!(ask(&mut client).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_uses_ends() {
    let port = Port::new();
    let mut silent = port.open(false);
    let mut used = port.open(false);
    ask(&mut used).await;
    pass(181).await;
    for client in [&mut silent, &mut used] {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_in_has_ten_seconds() {
    let port = Port::new();
    for answered in [0, 1] {
        let mut client = port.open(false);
        for _ in 0..answered {
            ask(&mut client).await;
            pass(60).await;
        }
        let began = tokio::time::Instant::now();
        for byte in REQUEST {
            if client.write_all(&[*byte]).await.is_err() {
                break;
            }
            pass(1).await;
        }
        let took = began.elapsed();
        assert!(is_closed(&mut client).await);
        assert!(
            (10..=12).contains(&took.as_secs()),
            "after {answered} requests: {took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_given_up() {
    let port = Port::new();
    let (mut client, server) = tokio::io::duplex(64);
    let shared = port.shared.clone();
    port.shared.tasks.spawn(async move {
        let service = |_request| async { reply::json(vec![b'x'; 4_096]) };
        serve(server, Protocol::Http1, false, service, &shared).await;
    });
    client.write_all(REQUEST).await.unwrap();
    port.shared.tasks.close();
    timeout(Duration::from_secs(15), port.shared.tasks.wait())
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn answers_ask_for_a_new_connection_when_the_server_leaves() {
    for (stage, once, close) in [
        (Stage::Serving, false, false),
        (Stage::Serving, true, true),
        (Stage::Leaving, false, true),
        (Stage::Refusing, false, true),
    ] {
        let port = Port::new();
        let mut client = port.open(once);
        port.stage.send_replace(stage);
        pass(5).await;
        let answer = ask(&mut client).await;
        assert_eq!(
            answer.contains("connection: close\r\n"),
            close,
            "{stage:?} {answer}"
        );
        assert_eq!(is_closed(&mut client).await, close, "{stage:?}");
    }
}

/// An answer that is being worked on when the drain begins carries the header too.
#[tokio::test(start_paused = true)]
async fn a_request_in_flight_is_answered_with_the_header() {
    let port = Port::new();
    let (mut client, server) = tokio::io::duplex(1_024);
    let shared = port.shared.clone();
    port.shared.tasks.spawn(async move {
        let service = |_request| async {
            pass(8).await;
            reply::json(b"{}".to_vec())
        };
        serve(server, Protocol::Http1, false, service, &shared).await;
    });
    let stage = port.stage.clone();
    port.shared.tasks.spawn(async move {
        pass(4).await;
        stage.send_replace(Stage::Closing);
    });
    let answer = ask(&mut client).await;
    assert!(
        answer.contains(StatusCode::OK.as_str()) && answer.contains("connection: close\r\n"),
        "{answer}"
    );
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_last() {
    let port = Port::new();
    let mut client = port.open(false);
    ask(&mut client).await;
    for (stage, closed) in [
        (Stage::Leaving, false),
        (Stage::Refusing, false),
        (Stage::Closing, true),
    ] {
        port.stage.send_replace(stage);
        pass(1).await;
        assert_eq!(is_closed(&mut client).await, closed, "{stage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_http_2_connection_that_nobody_uses_ends() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for hello in [PREFACE, b""] {
        let port = Port::new();
        let (mut client, server) = tokio::io::duplex(1_024);
        let shared = port.shared.clone();
        port.shared.tasks.spawn(async move {
            let service = |_request| async { reply::json(b"{}".to_vec()) };
            serve(server, Protocol::Http2, false, service, &shared).await;
        });
        client.write_all(hello).await.unwrap();
        let began = tokio::time::Instant::now();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(300),
            "{:?}",
            began.elapsed()
        );
    }
}

#[test]
fn a_client_without_alpn_speaks_http_1() {
    for (alpn, want) in [
        (None, Protocol::Http1),
        (Some(&b"http/1.1"[..]), Protocol::Http1),
        (Some(b"h2"), Protocol::Http2),
    ] {
        assert_eq!(Protocol::agreed(alpn), want);
    }
}

/// Weak pings and a window of a byte now and then keep a connection busy for ever; what it holds must come back.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_read_in_its_time_ends_its_connection() {
    for read in [false, true] {
        let port = Port::new();
        let (mut client, server) = tokio::io::duplex(1_024);
        let (shared, sent) = (port.shared.clone(), CancellationToken::new());
        let waiting = Waiting {
            sent: sent.clone(),
            limit: Duration::from_secs(40),
        };
        port.shared.tasks.spawn(async move {
            let service = move |_request| {
                let waiting = waiting.clone();
                async move {
                    let mut response = reply::json(b"{}".to_vec());
                    response.extensions_mut().insert(waiting);
                    response
                }
            };
            serve(server, Protocol::Http1, false, service, &shared).await;
        });
        ask(&mut client).await;
        if read {
            sent.cancel();
        }
        pass(39).await;
        assert!(!is_closed(&mut client).await, "{read}");
        pass(2).await;
        assert_eq!(is_closed(&mut client).await, !read, "{read}");
    }
}
