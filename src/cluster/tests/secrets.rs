//! What policies name, read and watched, and never shown.

use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// What becomes of watches of Secrets.
#[derive(Default)]
pub(super) enum Bells {
    /// They are not answered.
    #[default]
    Silent,
    /// They are forbidden.
    Forbidden,
    /// They are open; what is sent here is said in all of them.
    Open(Vec<mpsc::UnboundedSender<Bytes>>),
}

/// The value of the Secret that is never to be seen, and the same in base64 as it is stored.
const SECRET: [&str; 2] = ["hunter2", "aHVudGVyMg"];

pub(super) async fn answer(world: &Mutex<World>, request: Request<Body>) -> (u16, Said) {
    let mut world = world.lock().await;
    let target = request.uri().path_and_query().unwrap().to_string();
    world.asked.push(target.clone());
    let plain = |(status, text): (u16, String)| (status, said(text));
    if target.contains("watch=true") {
        let accepted = request.headers()["accept"].to_str().unwrap();
        assert!(accepted.contains("as=PartialObjectMetadata"), "{accepted}");
        return match &mut world.bells {
            Bells::Silent => {
                drop(world);
                std::future::pending().await
            }
            Bells::Forbidden => plain(status(403)),
            Bells::Open(open) => {
                let (ring, heard) = mpsc::unbounded_channel();
                open.push(ring);
                let said = stream::unfold(heard, |mut heard| async move {
                    let said = heard.recv().await?;
                    Some((Ok::<_, io::Error>(Frame::data(said)), heard))
                });
                (200, StreamBody::new(said).boxed_unsync())
            }
        };
    }
    let known = target.starts_with("/api/v1/namespaces/release/secrets/login")
        || target.starts_with("/api/v1/namespaces/shop/secrets/login");
    plain(match &world.secret {
        _ if world.secrets_down => status(500),
        Some(Value::String(broken)) if known => (200, broken.clone()),
        Some(secret) if known => (200, secret.to_string()),
        Some(_) | None => status(404),
    })
}

/// A policy with a login.
fn with_login(mut policy: Value) -> Value {
    policy["spec"]["verifiers"] = json!([{"name": "acme", "notary": {
        "server": "https://trust.example.com", "root": {"trustOnFirstUse": true},
        "credentials": {"secretRef": {"name": "login"}},
    }}]);
    policy
}

/// `{"r.example.com": {"auth": base64 of user:hunter2}}`.
fn login(user: &str) -> Value {
    use base64::Engine as _;
    let base64 = |text: String| base64::prelude::BASE64_STANDARD.encode(text);
    let auth = base64(format!("{user}:hunter2"));
    let data = base64(format!(r#"{{"r.example.com": {{"auth": "{auth}"}}}}"#));
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockercfg",
        "metadata": {"name": "login"}, "data": {".dockercfg": data},
    })
}

impl Played {
    async fn fault(&mut self) -> Option<String> {
        self.adopted.recv().await.unwrap()[0].1.clone()
    }

    /// Says in every open watch that something has changed, once there is one.
    async fn ring(&self) {
        loop {
            if let Bells::Open(open) = &self.world.lock().await.bells
                && !open.is_empty()
            {
                let event = event(
                    "MODIFIED",
                    &json!({"metadata": {"annotations": {"last": SECRET[0]}}}),
                );
                for bell in open {
                    let _ended = bell.send(event.clone().into());
                }
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn asked(&self, part: &str) -> usize {
        let world = self.world.lock().await;
        world.asked.iter().filter(|target| target.contains(part)).count()
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_found_when_it_comes_and_stays_through_an_outage() {
    let mut played = start(World {
        policies: vec![with_login(policy("a"))],
        ..World::default()
    });
    let fault = played.fault().await.unwrap();
    assert!(
        fault.ends_with("Secret \"login\" is not in namespace release: create it there"),
        "{fault}"
    );
    played.world.lock().await.secret = Some(login("a"));
    assert_eq!(played.fault().await, None);
    // An outage unmakes nothing, however long; that the Secret is gone is news.
    played.world.lock().await.secrets_down = true;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(played.adopted.try_recv().is_err());
    let mut world = played.world.lock().await;
    (world.secrets_down, world.secret) = (false, None);
    drop(world);
    assert!(played.fault().await.is_some());
}

/// §5 of the specification, CRED-23: one name, and the time that a rotation takes.
#[tokio::test(start_paused = true)]
async fn a_rotated_login_is_in_force_within_seconds_where_it_may_be_watched() {
    let mut played = start(World {
        policies: vec![with_login(policy("a"))],
        secret: Some(login("old")),
        bells: Bells::Open(Vec::new()),
        ..World::default()
    });
    assert_eq!(played.fault().await, None);
    for user in ["new", "newer"] {
        played.world.lock().await.secret = Some(login(user));
        let began = Instant::now();
        played.ring().await;
        assert_eq!(played.fault().await, None);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    assert_eq!(played.asked("watch=true").await, 1);
    let one = "/api/v1/namespaces/release/secrets?&watch=true&timeoutSeconds=240&fieldSelector=metadata.name%3Dlogin&resourceVersion=";
    assert_eq!(
        played.asked(one).await,
        1,
        "{:?}",
        played.world.lock().await.asked
    );
    // Many changes are one.
    let before = played.asked("secrets/login").await;
    for _ in 0..50 {
        played.ring().await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(played.asked("secrets/login").await <= before + 2);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_watched_is_read_every_half_minute() {
    let mut played = start(World {
        policies: vec![with_login(policy("a"))],
        secret: Some(login("old")),
        bells: Bells::Forbidden,
        ..World::default()
    });
    assert_eq!(played.fault().await, None);
    tokio::time::sleep(Duration::from_secs(5)).await;
    played.world.lock().await.secret = Some(login("new"));
    let began = Instant::now();
    assert_eq!(played.fault().await, None);
    assert!(
        began.elapsed() <= Duration::from_secs(31),
        "{:?}",
        began.elapsed()
    );
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(
        played.asked("watch=true").await,
        1,
        "it is not asked for again and again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_is_begun_again_and_one_that_nobody_needs_ends() {
    let mut played = start(World {
        policies: vec![with_login(policy("a"))],
        secret: Some(login("old")),
        bells: Bells::Open(Vec::new()),
        ..World::default()
    });
    assert_eq!(played.fault().await, None);
    played.ring().await;
    // The API server ends it.
    played.world.lock().await.bells = Bells::Open(Vec::new());
    played.world.lock().await.secret = Some(login("new"));
    played.ring().await;
    assert_eq!(played.fault().await, None);
    // The policy needs no login any more.
    let mut edited = policy("a");
    edited["metadata"]["generation"] = json!(2);
    played.end_watch(event("MODIFIED", &edited)).await;
    played.fault().await;
    let Bells::Open(open) = &played.world.lock().await.bells else {
        panic!("they are open")
    };
    let last = open.last().unwrap().clone();
    last.closed().await;
}

/// CRED-20: a namespace's policy gets what is in its own namespace.
#[tokio::test(start_paused = true)]
async fn a_policy_of_a_namespace_has_its_login_from_there() {
    let mut own = with_login(policy("own"));
    own["kind"] = json!("TrustPolicy");
    own["metadata"]["namespace"] = json!("shop");
    let mut played = start(World {
        own: vec![own],
        secret: Some(login("a")),
        bells: Bells::Open(Vec::new()),
        ..World::default()
    });
    assert_eq!(played.fault().await, None);
    played.ring().await;
    assert_eq!(played.asked("/namespaces/release/").await, 0);
    assert!(played.asked("/namespaces/shop/secrets/login").await >= 1);
}

/// "Secrets are watched, never logged", however broken they are.
#[tokio::test(start_paused = true)]
async fn nothing_of_a_secret_reaches_the_log_or_a_status() {
    let sink = Sink::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(sink.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let mut played = start(World {
        policies: vec![with_login(policy("a"))],
        secret: Some(login("a")),
        bells: Bells::Open(Vec::new()),
        ..World::default()
    });
    tracing::trace!("captured");
    let mut faults = vec![played.fault().await];
    let with_data = |data: Value| {
        let mut secret = login("a");
        secret["data"] = data;
        secret
    };
    for broken in [
        with_data(json!({".dockercfg": "hunter2"})),
        with_data(json!({".dockercfg": ["hunter2"]})),
        with_data(json!({".dockercfg": "aHVudGVyMg=="})),
        with_data(json!("hunter2")),
        json!({"type": "hunter2-is-no-type-of-ours", "kind": 7, "data": {"hunter2": "aHVudGVyMg=="}}),
        json!("hunter2, which is not JSON"),
        json!(["hunter2"]),
    ] {
        played.world.lock().await.secret = Some(broken.clone());
        played.ring().await;
        tokio::time::sleep(Duration::from_secs(40)).await;
        while let Ok(adopted) = played.adopted.try_recv() {
            faults.push(adopted[0].1.clone());
        }
        assert!(faults.last().unwrap().is_some(), "{broken}");
    }
    drop(guard);
    let mut said = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    assert!(said.contains("captured"), "{said}");
    while let Ok(status) = played.statuses.try_recv() {
        said += &status.to_string();
    }
    said.extend(faults.into_iter().flatten());
    // The type of a Secret is told, and is no secret.
    let said = said.replace("hunter2-is-no-type-of-ours", "");
    for secret in SECRET {
        assert!(!said.contains(secret), "{said}");
    }
}

#[derive(Clone, Default)]
struct Sink(Arc<std::sync::Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Sink {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
