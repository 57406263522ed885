//! Replicas that come and go without a failed call (AVL-20…24).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use countersign::serve::{Config, Drain, Endpoint, Rejected, ServeError, Stop};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::serve::http2;
use crate::tls_support::{Ca, Client, Connection, Server, config, echo, get};

/// Long enough for a drain to be over, if it ever is.
const PATIENCE: Duration = Duration::from_secs(20);

struct Cluster {
    ca: Ca,
    directory: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Self {
        Self {
            ca: Ca::new("test"),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// A configuration with a drain of tests' length.
    fn config(&self, delay: u64, refuse: u64) -> Config {
        Config {
            drain: Drain {
                delay: Duration::from_millis(delay),
                refuse: Duration::from_millis(refuse),
                grace: PATIENCE,
            },
            ..config(self.ca.server().mount(self.directory.path()))
        }
    }

    fn client(&self) -> Client {
        Client::api_server(&self.ca.pem())
    }
}

/// Calls as an API server does: one connection kept as long as the server lets it, a new one to any ready replica.
async fn call_on(
    client: Client,
    endpoints: watch::Receiver<Vec<SocketAddr>>,
    enough: Arc<AtomicBool>,
    counts: Arc<Counts>,
) {
    let mut kept: Option<Connection> = None;
    while !enough.load(Ordering::Relaxed) {
        let turn = counts.calls.fetch_add(1, Ordering::Relaxed);
        let ready = endpoints.borrow().clone();
        let connected = match kept.take() {
            Some(connection) => Ok(connection),
            None => client.connect(ready[turn % ready.len()]).await,
        };
        let Ok(mut connection) = connected else {
            counts.failures.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        match connection.post("/validate", b"{}").await {
            Ok(answer) if answer.status == 200 => kept = (!answer.closes()).then_some(connection),
            Ok(answer) if answer.header("retry-after").is_some() => {
                counts.repeats.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) | Err(_) => {
                counts.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[derive(Default)]
struct Counts {
    calls: AtomicUsize,
    failures: AtomicUsize,
    repeats: AtomicUsize,
}

/// Checklist 35, in small: a rolling restart under constant load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_replaced_under_load_without_a_failed_call() {
    let cluster = Cluster::new();
    let (tasks, enough, counts) = (
        TaskTracker::new(),
        Arc::new(AtomicBool::new(false)),
        Arc::new(Counts::default()),
    );
    let mut old = Server::start(cluster.config(300, 100), echo).await;
    let (endpoints, watched) = watch::channel(vec![old.webhook]);
    for _ in 0..8 {
        tasks.spawn(call_on(
            cluster.client(),
            watched.clone(),
            Arc::clone(&enough),
            Arc::clone(&counts),
        ));
    }
    for _ in 0..3 {
        let new = Server::start(cluster.config(300, 100), echo).await;
        endpoints.send_replace(vec![old.webhook, new.webhook]);
        served(&new).await;
        // The pod is told to stop and leaves the endpoints at the same time; callers hear of it later.
        old.stop.stop();
        let mut conditions = old.ready.watch();
        conditions.wait_for(|state| state.draining).await.unwrap();
        endpoints.send_replace(vec![new.webhook]);
        timeout(PATIENCE, old.ended()).await.unwrap().unwrap();
        old = new;
    }
    enough.store(true, Ordering::Relaxed);
    tasks.close();
    tasks.wait().await;
    let calls = counts.calls.load(Ordering::Relaxed);
    assert_eq!(counts.failures.load(Ordering::Relaxed), 0, "of {calls}");
    assert!(calls > 100, "{calls} calls are no load");
}

/// Waits until calls reach `server`.
async fn served(server: &Server) {
    let answers = async {
        while server.metric("countersign_http_responses_total{code=\"200\"}") < 1 {
            tokio::task::yield_now().await;
        }
    };
    // The load keeps to its old connections until those close, so a call of our own may have to do.
    let _either = timeout(Duration::from_millis(50), answers).await;
}

#[tokio::test]
async fn a_leaving_server_serves_is_unready_and_asks_for_new_connections() {
    let cluster = Cluster::new();
    let server = Server::start(cluster.config(60_000, 0), echo).await;
    let mut old = cluster.client().connect(server.webhook).await.unwrap();
    assert!(!old.post("/validate", b"{}").await.unwrap().closes());
    server.stop.stop();
    server
        .ready
        .watch()
        .wait_for(|state| state.draining)
        .await
        .unwrap();

    let mut new = cluster.client().connect(server.webhook).await.unwrap();
    for connection in [&mut old, &mut new] {
        let answer = connection.post("/validate", b"{}").await.unwrap();
        assert_eq!((answer.status, answer.closes()), (200, true));
    }
    let unready = get(server.admin, "/readyz").await;
    assert_eq!(unready.status, 503);
    assert!(
        String::from_utf8(unready.body)
            .unwrap()
            .contains("[-]not-draining failed\n")
    );
    assert_eq!(get(server.admin, "/livez").await.status, 200);
}

#[tokio::test]
async fn requests_after_the_delay_are_sent_elsewhere_and_those_before_finished() {
    let cluster = Cluster::new();
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let server = Server::start(cluster.config(50, 20_000), {
        let (entered, go) = (Arc::clone(&entered), Arc::clone(&go));
        move |_: Endpoint, body: Bytes, _: Option<String>| {
            let (entered, go) = (Arc::clone(&entered), Arc::clone(&go));
            async move {
                if body == "slow" {
                    entered.notify_one();
                    go.notified().await;
                }
                Ok::<_, Rejected>(body.to_vec())
            }
        }
    })
    .await;
    let mut slow = cluster.client().connect(server.webhook).await.unwrap();
    let mut idle = cluster.client().connect(server.webhook).await.unwrap();
    let address = server.webhook;
    let refused = async {
        entered.notified().await;
        server.stop.stop();
        // The port is closed once the delay is over.
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let refused = idle.post("/validate", b"{}").await.unwrap();
        go.notify_one();
        refused
    };
    let (finished, refused) = tokio::join!(slow.post("/validate", b"slow"), refused);
    let finished = finished.unwrap();
    assert_eq!((finished.status, finished.closes()), (200, true));
    assert_eq!(
        (refused.status, refused.header("retry-after"), refused.closes()),
        (503, Some("1"), true)
    );
    assert_eq!(
        server.metric("countersign_requests_shed_total{reason=\"draining\"}"),
        1
    );
    timeout(PATIENCE, server.ended()).await.unwrap().unwrap();
}

/// A connection that nobody has accepted yet when the port closes would be reset, and the call would fail.
#[tokio::test]
async fn callers_in_the_queue_are_answered_when_the_port_closes() {
    let cluster = Cluster::new();
    let mut config = cluster.config(50, 20_000);
    (config.limits.connections, config.limits.overflow) = (1, 0);
    let server = Server::start(config, echo).await;
    let mut only = cluster.client().connect(server.webhook).await.unwrap();
    only.post("/validate", b"{}").await.unwrap();
    let queued = async {
        let mut queued = cluster.client().connect(server.webhook).await.unwrap();
        queued.post("/validate", b"{}").await.unwrap()
    };
    server.stop.stop();
    let queued = queued.await;
    assert_eq!(
        (queued.status, queued.header("retry-after"), queued.closes()),
        (503, Some("1"), true)
    );
    assert_eq!(only.post("/validate", b"{}").await.unwrap().status, 503);
    timeout(PATIENCE, server.ended()).await.unwrap().unwrap();
}

#[tokio::test]
async fn idle_connections_do_not_hold_a_drain_up() {
    let cluster = Cluster::new();
    let server = Server::start(cluster.config(10, 10), echo).await;
    let mut idle = cluster.client().connect(server.webhook).await.unwrap();
    idle.post("/validate", b"{}").await.unwrap();
    server.stop.stop();
    timeout(PATIENCE / 2, server.ended()).await.unwrap().unwrap();
}

#[tokio::test]
async fn http_2_clients_are_told_to_go_without_losing_a_request() {
    let cluster = Cluster::new();
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let server = Server::start(cluster.config(10, 10_000), {
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
    let client = http2(&cluster.ca);
    let request = client.post(format!("https://localhost:{}/validate", server.webhook.port()));
    let request = request.header("content-type", "application/json").body("{}");
    let stopping = async {
        entered.notified().await;
        server.stop.stop();
        server
            .ready
            .watch()
            .wait_for(|state| state.draining)
            .await
            .unwrap();
        go.notify_one();
    };
    let (answer, ()) = tokio::join!(request.send(), stopping);
    assert_eq!(answer.unwrap().status(), 200);
    // Well before the 10 s of refusing are over: the connection is gone.
    timeout(Duration::from_secs(5), server.ended())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_second_request_to_stop_ends_the_server_at_once() {
    let cluster = Cluster::new();
    let entered = Arc::new(Notify::new());
    let server = Server::start(cluster.config(60_000, 60_000), {
        let entered = Arc::clone(&entered);
        move |_: Endpoint, _: Bytes, _: Option<String>| {
            entered.notify_one();
            std::future::pending::<Result<Vec<u8>, Rejected>>()
        }
    })
    .await;
    let mut hanging = cluster.client().connect(server.webhook).await.unwrap();
    let stopping = async {
        entered.notified().await;
        server.stop.stop();
        server.stop.stop();
        timeout(PATIENCE, server.ended()).await.unwrap()
    };
    let (answer, ended) = tokio::join!(hanging.post("/validate", b"{}"), stopping);
    assert!(answer.is_err(), "{answer:?}");
    assert!(
        matches!(ended, Err(ServeError::Aborted { unfinished: 1 })),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_signal_asks_to_stop() {
    let cluster = Cluster::new();
    let tasks = TaskTracker::new();
    let stop = Stop::on_signals(&tasks).unwrap();
    let server = Server::start_with(cluster.config(0, 0), echo, stop).await;
    let own = std::process::id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-TERM", &own])
        .status()
        .unwrap();
    assert!(sent.success());
    timeout(PATIENCE, server.ended()).await.unwrap().unwrap();
}
