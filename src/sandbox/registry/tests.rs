use tokio_util::sync::DropGuard;

use super::*;

/// A registry that ends with this, and how to talk to it.
struct World {
    registry: Registry,
    http: reqwest::Client,
    _stop: DropGuard,
}

impl World {
    async fn new() -> Self {
        let stop = CancellationToken::new();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let registry = Registry::start(loopback, &TaskTracker::new(), stop.clone()).await;
        Self {
            registry: registry.unwrap(),
            http: reqwest::Client::new(),
            _stop: stop.drop_guard(),
        }
    }

    async fn ask(&self, method: &str, path: &str, body: &[u8]) -> reqwest::Response {
        let url = format!("http://{}{path}", self.registry.address());
        let request = self.http.request(method.parse().unwrap(), url);
        let request = request.header("content-type", "application/vnd.oci.image.manifest.v1+json");
        request.body(body.to_vec()).send().await.unwrap()
    }

    async fn status(&self, method: &str, path: &str, body: &[u8]) -> u16 {
        self.ask(method, path, body).await.status().as_u16()
    }

    async fn location(&self, method: &str, path: &str, body: &[u8]) -> String {
        let answer = self.ask(method, path, body).await;
        answer.headers()["location"].to_str().unwrap().to_owned()
    }
}

fn digest(bytes: &[u8]) -> String {
    crate::reference::Digest::sha256(crate::tuf::sha256(bytes)).to_string()
}

#[tokio::test]
async fn what_was_pushed_is_pulled_as_it_was() {
    let world = World::new().await;
    let image = Image::new("one");
    let gun = "localhost/acme/app".parse().unwrap();
    assert!(world.registry.push(&gun, &"1.0".parse().unwrap(), &image));
    let by_tag = "/v2/acme/app/manifests/1.0".to_owned();
    let by_digest = format!("/v2/acme/app/manifests/{}", image.digest());
    for path in [by_tag, by_digest] {
        let answer = world.ask("GET", &path, b"").await;
        assert_eq!(answer.headers()["content-type"], image.media_type, "{path}");
        assert_eq!(
            answer.headers()["docker-content-digest"],
            image.digest().to_string()
        );
        assert_eq!(answer.bytes().await.unwrap(), image.manifest, "{path}");
        let head = world.ask("HEAD", &path, b"").await;
        let length = image.manifest.len().to_string();
        assert_eq!(head.headers()["content-length"], length, "{path}");
        assert!(head.bytes().await.unwrap().is_empty());
    }
    for blob in [&image.config, &image.layer] {
        let answer = world
            .ask("GET", &format!("/v2/acme/app/blobs/{}", digest(blob)), b"")
            .await;
        assert_eq!(answer.bytes().await.unwrap(), blob);
    }
    let tags = world.ask("GET", "/v2/acme/app/tags/list", b"").await;
    let tags: serde_json::Value = tags.json().await.unwrap();
    assert_eq!(tags, serde_json::json!({"name": "acme/app", "tags": ["1.0"]}));
    let all: serde_json::Value = world.ask("GET", "/v2/_catalog", b"").await.json().await.unwrap();
    assert_eq!(all, serde_json::json!({"repositories": ["acme/app"]}));
}

/// In one go, as skopeo may; in pieces, as docker does; and by a mount of what is there already.
#[tokio::test]
async fn blobs_arrive_in_every_way_that_clients_send_them() {
    let world = World::new().await;
    let (one, two) = (digest(b"one"), digest(b"two"));
    let at_once = format!("/v2/a/b/blobs/uploads/?digest={one}");
    assert_eq!(world.status("POST", &at_once, b"one").await, 201);
    let upload = world.location("POST", "/v2/a/b/blobs/uploads/", b"").await;
    let upload = world.location("PATCH", &upload, b"t").await;
    let upload = world.location("PATCH", &upload, b"w").await;
    assert_eq!(world.ask("GET", &upload, b"").await.headers()["range"], "0-1");
    let last = format!("{upload}?digest={two}");
    assert_eq!(world.status("PUT", &last, b"o").await, 201);
    for (blob, bytes) in [(&one, "one"), (&two, "two")] {
        let found = world.ask("GET", &format!("/v2/a/b/blobs/{blob}"), b"").await;
        assert_eq!(found.bytes().await.unwrap(), bytes);
    }
    let mount = format!("/v2/other/blobs/uploads/?mount={two}&from=a/b");
    assert_eq!(world.status("POST", &mount, b"").await, 201);
    let unknown = format!("/v2/other/blobs/uploads/?mount={}&from=a/b", digest(b"x"));
    assert_eq!(world.status("POST", &unknown, b"").await, 202);
}

#[tokio::test]
async fn what_is_not_what_it_says_is_refused() {
    let world = World::new().await;
    let wrong = digest(b"something else");
    let upload = world.location("POST", "/v2/a/blobs/uploads/", b"").await;
    for (method, path, want) in [
        ("PUT", format!("{upload}?digest={wrong}"), 400),
        ("PUT", upload.clone(), 400),
        ("POST", format!("/v2/a/blobs/uploads/?digest={wrong}"), 400),
        ("POST", "/v2/a/blobs/uploads/?digest=md5:1".to_owned(), 400),
        ("PUT", format!("/v2/a/manifests/{wrong}"), 400),
        ("PUT", "/v2/a/manifests/1.0".to_owned(), 400),
        ("GET", "/v2/a/manifests/1.0".to_owned(), 404),
        ("GET", format!("/v2/a/blobs/{wrong}"), 404),
        ("GET", "/v2/a/tags/list".to_owned(), 404),
        ("PATCH", "/v2/a/blobs/uploads/99".to_owned(), 404),
        ("GET", "/v2/../secret/manifests/1.0".to_owned(), 404),
        ("GET", "/v2/A/manifests/1.0".to_owned(), 404),
        ("GET", "/v2/a:1/manifests/1.0".to_owned(), 404),
        ("GET", "/v1/search".to_owned(), 404),
        ("DELETE", "/v2/a/manifests/1.0".to_owned(), 405),
        ("GET", "/v2/".to_owned(), 200),
    ] {
        let body: &[u8] = if method == "GET" { b"" } else { b"bytes" };
        assert_eq!(world.status(method, &path, body).await, want, "{method} {path}");
    }
}

#[tokio::test]
async fn a_manifest_above_its_limit_is_refused() {
    let world = World::new().await;
    let large = format!("{{\"a\": \"{}\"}}", "a".repeat(4 << 20));
    let put = world.status("PUT", "/v2/a/manifests/1.0", large.as_bytes()).await;
    assert_eq!(put, 413);
}

#[test]
fn a_shelf_that_is_full_takes_no_more_and_gives_back_what_nobody_kept() {
    let shelf = Shelf::new(4096);
    let held = shelf.hold([0; 3000]).unwrap();
    assert!(shelf.hold([1; 2000]).is_none());
    drop(held);
    let held = shelf.hold([1; 4096]).unwrap();
    shelf.keep_blob(held);
    assert!(shelf.hold([2; 1]).is_none());
}

#[test]
fn uploads_that_nobody_finishes_make_room_for_others() {
    let shelf = Shelf::new(1 << 20);
    let first = shelf.begin();
    for _ in 0..64 {
        shelf.begin();
    }
    assert!(shelf.take_upload(first).is_none());
}
