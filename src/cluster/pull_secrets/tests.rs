use std::collections::BTreeMap;

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use tower_test::mock;

use super::*;

/// Objects by their paths, and the paths that were asked for.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Objects>>);

#[derive(Default)]
struct Objects {
    stored: BTreeMap<String, Value>,
    asked: Vec<String>,
}

impl World {
    fn put(&self, path: &str, object: Value) {
        self.0
            .lock()
            .unwrap()
            .stored
            .insert(format!("/api/v1/namespaces/{path}"), object);
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }

    fn serve(&self) -> PullSecrets {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let world = self.clone();
        TaskTracker::new().spawn(async move {
            while let Some((request, send)) = handle.next_request().await {
                assert_eq!(request.method(), "GET");
                let path = request.uri().path_and_query().unwrap().to_string();
                let mut world = world.0.lock().unwrap();
                world.asked.push(path.clone());
                let missing =
                    json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"});
                let object = world.stored.get(&path).unwrap_or(&missing);
                let status = object.get("code").and_then(Value::as_u64).unwrap_or(200);
                let answer = Response::builder().status(u16::try_from(status).unwrap());
                let body = Body::from(object.to_string().into_bytes());
                send.send_response(answer.body(body).unwrap());
            }
        });
        PullSecrets::of(Client::new(service, "default"))
    }
}

fn secret(kind: &str, entry: &str, json: &str) -> Value {
    use base64::Engine as _;
    let data = base64::prelude::BASE64_STANDARD.encode(json);
    json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"name": "x"}, "data": {entry: data}})
}

fn login(user: &str) -> Value {
    let config = json!({"auths": {"r.example.com": {"username": user, "password": "hunter2"}}});
    secret(
        "kubernetes.io/dockerconfigjson",
        ".dockerconfigjson",
        &config.to_string(),
    )
}

fn naming(secrets: &[&str]) -> PullSources {
    PullSources {
        namespace: "shop".to_owned(),
        secrets: secrets.iter().map(|name| (*name).to_owned()).collect(),
        account: None,
    }
}

fn of_account(name: &str) -> PullSources {
    PullSources {
        account: Some(name.to_owned()),
        ..naming(&[])
    }
}

async fn found(secrets: &PullSecrets, sources: &PullSources) -> Vec<(String, &'static str)> {
    let found = secrets.find(sources, Instant::now() + REQUEST).await;
    let word = |config: &Config| config.as_ref().map_or_else(|unusable| unusable.word(), |_| "ok");
    found
        .iter()
        .map(|secret| (secret.name.clone(), word(&secret.config)))
        .collect()
}

/// CRED-02.
#[tokio::test(start_paused = true)]
async fn what_is_missing_or_malformed_is_passed_over_and_the_order_is_kept() {
    let world = World::default();
    world.put("shop/secrets/z", login("z"));
    world.put(
        "shop/secrets/old",
        secret(
            "kubernetes.io/dockercfg",
            ".dockercfg",
            r#"{"r.example.com":{"username":"u","password":"p"}}"#,
        ),
    );
    world.put(
        "shop/secrets/opaque",
        secret("Opaque", ".dockerconfigjson", r#"{"auths":{}}"#),
    );
    world.put(
        "shop/secrets/torn",
        secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", "{"),
    );
    world.put("shop/secrets/huge", login(&"x".repeat(LARGEST)));
    world.put(
        "shop/secrets/hidden",
        json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden"}),
    );
    world.put(
        "shop/secrets/down",
        json!({"kind": "Status", "status": "Failure", "code": 500}),
    );
    let secrets = world.serve();
    let names = ["z", "gone", "old", "opaque", "torn", "huge", "hidden", "down"];
    let words: Vec<_> = found(&secrets, &naming(&names)).await.into_iter().collect();
    let want = [
        "ok",
        "missing",
        "ok",
        "malformed",
        "malformed",
        "malformed",
        "unavailable",
        "unavailable",
    ];
    let want: Vec<_> = names.iter().map(|name| (*name).to_owned()).zip(want).collect();
    assert_eq!(words, want);
}

/// CRED-20: a name is no path, whatever the API server lets through, and the namespace is the request's.
#[tokio::test(start_paused = true)]
async fn attack_a_name_leads_to_no_other_namespace() {
    let world = World::default();
    world.put("kube-system/secrets/admin", login("admin"));
    let secrets = world.serve();
    for name in [
        "../../kube-system/secrets/admin",
        "admin?x=",
        "a/b",
        "..",
        "%2e%2e",
        "Admin",
        "a\n",
        "kube-system/admin",
    ] {
        assert_eq!(
            found(&secrets, &naming(&[name])).await,
            [(name.to_owned(), "malformed")]
        );
        assert!(found(&secrets, &of_account(name)).await.is_empty());
    }
    let mut elsewhere = naming(&["admin"]);
    elsewhere.namespace = "shop/../kube-system".to_owned();
    assert!(found(&secrets, &elsewhere).await.is_empty());
    assert!(world.asked().is_empty());
}

/// CRED-24.
#[tokio::test(start_paused = true)]
async fn what_was_read_serves_for_less_than_a_minute_and_what_was_not_for_ten_seconds() {
    let world = World::default();
    world.put("shop/secrets/a", login("a"));
    let secrets = world.serve();
    let sources = naming(&["a", "b"]);
    for (after, want) in [(0, 2), (5, 0), (6, 1), (31, 1), (4, 1)] {
        tokio::time::sleep(Duration::from_secs(after)).await;
        found(&secrets, &sources).await;
        assert_eq!(world.asked().len(), want, "after {after} more seconds");
    }
    // Nobody asks any more: it goes by itself.
    let sweeping = secrets.clone();
    tokio::select! {
        _ = sweeping.sweep() => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => {}
    }
    let reader = secrets.0.as_ref().unwrap();
    assert!(reader.secrets.0.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_service_account_is_asked_where_the_pod_names_none() {
    let world = World::default();
    world.put("shop/secrets/a", login("a"));
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": [{"name": "a"}, {}, {"name": ""}]});
    world.put("shop/serviceaccounts/builder", account);
    world.put("shop/serviceaccounts/bare", json!({"imagePullSecrets": null}));
    let secrets = world.serve();
    assert_eq!(
        found(&secrets, &of_account("builder")).await,
        [("a".to_owned(), "ok")]
    );
    for name in ["bare", "gone"] {
        assert!(found(&secrets, &of_account(name)).await.is_empty());
    }
    world.asked();
    found(&secrets, &of_account("builder")).await;
    assert!(world.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn those_who_want_the_same_at_once_ask_once_and_memory_is_bounded() {
    let world = World::default();
    world.put("shop/secrets/a", login("a"));
    let secrets = world.serve();
    let sources = naming(&["a"]);
    join_all((0..50).map(|_| found(&secrets, &sources))).await;
    assert_eq!(world.asked().len(), 1);
    for number in 0..MOST + 50 {
        found(&secrets, &naming(&[&format!("s{number}")])).await;
    }
    let reader = secrets.0.as_ref().unwrap();
    for kept in [
        reader.secrets.0.lock().unwrap().len(),
        reader.logged.0.lock().unwrap().len(),
    ] {
        assert!(kept <= MOST);
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_hangs_is_waited_for_until_the_deadline() {
    let (service, _handle) = mock::pair::<Request<Body>, Response<Body>>();
    let secrets = PullSecrets::of(Client::new(service, "default"));
    let began = Instant::now();
    let found = secrets
        .find(&naming(&["a"]), began + Duration::from_millis(500))
        .await;
    assert_eq!(found[0].config.as_ref().unwrap_err().word(), "unavailable");
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(!PullSecrets::default().are_used());
}
