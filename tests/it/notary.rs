//! The client of trust servers against a fake one: every failure class, and every attack on the transport.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::credential::{Credential, DockerConfig};
use countersign::fetch::{Error, Identity, Observation, Origin};
use countersign::notary::{Config, Helpers, Login, Server, default_server};
use countersign::reference::Gun;
use countersign::tuf::{Answer, Form, Request, Role};
use futures_util::future::join_all;
use tokio::time::Instant;
use url::Url;

use crate::trust_server::{Fault, TrustServer, Wants};

const GUN: &str = "registry.example.com/app";
/// For what never ends.
const SOON: Duration = Duration::from_millis(300);
/// For what ends by itself.
const LATER: Duration = Duration::from_secs(10);

fn gun() -> Gun {
    GUN.parse().unwrap()
}

fn timestamp() -> Request {
    Request {
        role: Role::Timestamp,
        form: Form::Current,
        limit: 64 * 1024,
        speculative: false,
    }
}

fn probe() -> Request {
    Request {
        role: Role::releases(),
        speculative: true,
        ..timestamp()
    }
}

fn config(server: &TrustServer) -> Config {
    Config::new(Url::parse(server.url()).unwrap())
}

fn client(server: &TrustServer, login: Login) -> Server {
    Server::new(Config {
        login,
        ..config(server)
    })
    .unwrap()
}

fn alice(password: &str) -> Login {
    Login::Credential(Credential::Basic {
        user: "alice".to_owned(),
        password: password.into(),
    })
}

async fn within(client: &Server, request: &Request, patience: Duration) -> Result<Answer, Error> {
    client.fetch(&gun(), request, Instant::now() + patience).await
}

async fn ask(client: &Server) -> Result<Answer, Error> {
    within(client, &timestamp(), LATER).await
}

fn word(got: &Result<Answer, Error>) -> &'static str {
    match got {
        Ok(Answer::Found(_)) => "found",
        Ok(Answer::Absent) => "absent",
        Err(error) => error.reason(),
    }
}

fn status(status: u16) -> Fault {
    Fault::Status(status, Vec::new(), String::new())
}

/// A server that has a timestamp.
async fn serving(wants: Wants) -> TrustServer {
    let server = TrustServer::builder().wants(wants).start().await;
    server.put(GUN, "timestamp.json", "{}");
    server
}

#[tokio::test]
async fn a_file_comes_as_its_bytes_and_its_absence_as_absence() {
    let server = serving(Wants::Nothing).await;
    let client = client(&server, Login::Anonymous);
    assert_eq!(ask(&client).await.unwrap(), Answer::Found("{}".into()));
    server.remove(GUN, "timestamp.json");
    assert_eq!(ask(&client).await.unwrap(), Answer::Absent);
    let first = &server.requests()[0];
    assert_eq!((first.target.as_str(), &first.authorization), ("/v2/", &None));
    assert_eq!(
        first.headers["user-agent"],
        concat!("countersign/", env!("CARGO_PKG_VERSION"))
    );
    assert!(client.date().is_some());
}

#[tokio::test]
async fn a_base_url_may_have_a_path() {
    let server = TrustServer::start().await;
    let base = Url::parse(&format!("{}/prefix/", server.url())).unwrap();
    let client = Server::new(Config {
        base,
        ..config(&server)
    })
    .unwrap();
    assert_eq!(word(&ask(&client).await), "absent");
    let targets: Vec<_> = server
        .requests()
        .into_iter()
        .map(|request| request.target)
        .collect();
    assert_eq!(
        targets,
        [
            "/prefix/v2/",
            "/prefix/v2/registry.example.com/app/_trust/tuf/timestamp.json"
        ]
    );
}

#[tokio::test]
async fn each_way_to_fail_keeps_its_name() {
    for (label, fault, want, outage) in [
        ("400", status(400), "unexpected_status", false),
        ("401 without a challenge", status(401), "unauthorized", false),
        ("403", status(403), "forbidden", false),
        ("404", status(404), "absent", false),
        (
            "429",
            Fault::Status(429, vec![("retry-after", "60".to_owned())], String::new()),
            "throttled",
            true,
        ),
        ("500", status(500), "server_error", true),
        (
            "500 for an unknown role",
            Fault::UnknownRole("timestamp"),
            "server_error",
            true,
        ),
        (
            "503",
            Fault::Status(503, vec![("retry-after", "60".to_owned())], String::new()),
            "server_error",
            true,
        ),
        ("hang", Fault::Hang, "timeout", true),
        ("cut", Fault::Cut, "network", true),
    ] {
        let server = serving(Wants::Nothing).await;
        server.misbehave("timestamp.json", fault);
        let patience = if label == "hang" { SOON } else { LATER };
        let got = within(&client(&server, Login::Anonymous), &timestamp(), patience).await;
        assert_eq!(word(&got), want, "{label}");
        assert_eq!(got.is_err_and(|error| error.is_outage()), outage, "{label}");
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_an_outage() {
    let server = serving(Wants::Nothing).await;
    let client = client(&server, Login::Anonymous);
    let address = server.address();
    drop(server);
    // Nobody listens there now: the fake's socket is closed when its task is.
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let got = ask(&client).await;
    assert_eq!(word(&got), "network");
    assert!(got.unwrap_err().is_outage());
}

#[tokio::test]
async fn an_unknown_role_is_absent_to_a_probe() {
    let server = serving(Wants::Nothing).await;
    server.misbehave("targets/releases.json", Fault::UnknownRole("targets/releases"));
    let client = client(&server, Login::Anonymous);
    assert_eq!(word(&within(&client, &probe(), LATER).await), "absent");
    let needed = Request {
        speculative: false,
        ..probe()
    };
    assert_eq!(word(&within(&client, &needed, LATER).await), "server_error");
}

#[tokio::test]
async fn endless_data_is_cut_at_the_limit() {
    let server = serving(Wants::Nothing).await;
    server.misbehave("timestamp.json", Fault::Endless);
    assert_eq!(word(&ask(&client(&server, Login::Anonymous)).await), "too_large");
    assert_eq!(server.requests_for("timestamp.json"), 1);
}

#[tokio::test]
async fn oversized_metadata_is_refused_by_its_length() {
    let server = serving(Wants::Nothing).await;
    let client = client(&server, Login::Anonymous);
    for (length, want) in [(64 * 1024, "found"), (64 * 1024 + 1, "too_large")] {
        server.behave();
        server.misbehave("timestamp.json", Fault::Oversized(length));
        assert_eq!(word(&ask(&client).await), want, "{length}");
    }
}

#[tokio::test]
async fn a_gzip_bomb_is_cut_at_the_limit() {
    let server = serving(Wants::Nothing).await;
    let client = client(&server, Login::Anonymous);
    server.misbehave_times(1, "timestamp.json", Fault::Gzip);
    assert_eq!(
        ask(&client).await.unwrap(),
        Answer::Found("{}".into()),
        "honest compression is undone"
    );
    server.misbehave_times(
        1,
        "timestamp.json",
        Fault::Status(
            200,
            vec![("content-encoding", "gzip".to_owned())],
            "no gzip".to_owned(),
        ),
    );
    assert_eq!(word(&ask(&client).await), "protocol");
    server.misbehave("timestamp.json", Fault::GzipBomb(1 << 22));
    assert_eq!(word(&ask(&client).await), "too_large");
}

#[tokio::test]
async fn slow_retrieval_ends_at_the_deadline() {
    let server = serving(Wants::Nothing).await;
    server.misbehave("timestamp.json", Fault::Drip);
    let started = Instant::now();
    let got = within(&client(&server, Login::Anonymous), &timestamp(), SOON).await;
    assert_eq!(word(&got), "timeout");
    assert!(started.elapsed() < LATER);
}

#[tokio::test]
async fn a_server_that_hangs_at_the_ping_or_the_token_is_held_to_the_deadline_too() {
    for suffix in ["/v2/", "/token"] {
        let server = serving(Wants::AnonymousToken).await;
        server.misbehave(suffix, Fault::Hang);
        let got = within(&client(&server, Login::Anonymous), &timestamp(), SOON).await;
        assert_eq!(word(&got), "timeout", "{suffix}");
    }
}

#[tokio::test]
async fn a_redirect_of_metadata_is_not_followed() {
    let (server, evil) = (serving(Wants::Nothing).await, serving(Wants::Nothing).await);
    let client = client(&server, Login::Anonymous);
    for code in [301, 302, 307, 308] {
        server.behave();
        server.misbehave(
            "timestamp.json",
            Fault::Redirect(code, format!("{}/v2/{GUN}/_trust/tuf/timestamp.json", evil.url())),
        );
        let got = ask(&client).await;
        assert_eq!(word(&got), "redirect", "{code}");
        assert!(!got.unwrap_err().is_outage());
    }
    assert!(evil.requests().is_empty());
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_a_definite_answer_never() {
    for (label, fault, times, want, requests) in [
        ("503 once", status(503), 1, "found", 2),
        ("503 twice", status(503), 2, "found", 3),
        ("503 for good", status(503), usize::MAX, "server_error", 3),
        (
            "429 with leave to return at once",
            Fault::Status(429, vec![("retry-after", "0".to_owned())], String::new()),
            1,
            "found",
            2,
        ),
        ("cut once", Fault::Cut, 1, "found", 2),
        ("404 once", status(404), 1, "absent", 1),
        ("403 once", status(403), 1, "forbidden", 1),
        ("400 once", status(400), 1, "unexpected_status", 1),
        ("500 once", status(500), 1, "server_error", 1),
    ] {
        let server = serving(Wants::Nothing).await;
        server.misbehave_times(times, "timestamp.json", fault);
        assert_eq!(
            word(&ask(&client(&server, Login::Anonymous)).await),
            want,
            "{label}"
        );
        assert_eq!(server.requests_for("timestamp.json"), requests, "{label}");
    }
}

#[tokio::test]
async fn a_wait_longer_than_the_deadline_ends_the_attempt_at_once() {
    let server = serving(Wants::Nothing).await;
    server.misbehave(
        "timestamp.json",
        Fault::Status(429, vec![("retry-after", "60".to_owned())], String::new()),
    );
    let started = Instant::now();
    let error = ask(&client(&server, Login::Anonymous)).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.retry_after()),
        ("throttled", Some(Duration::from_secs(60)))
    );
    assert!(started.elapsed() < LATER / 2);
    assert_eq!(server.requests_for("timestamp.json"), 1);
}

#[tokio::test]
async fn files_asked_for_at_once_travel_at_once_after_one_ping_and_one_token() {
    let server = serving(Wants::Token("alice", "secret")).await;
    let client = client(&server, alice("secret"));
    server.withhold_until(5);
    let deadline = Instant::now() + LATER;
    let (gun, requests) = (gun(), [timestamp(), timestamp(), timestamp(), probe(), probe()]);
    let answers = join_all(
        requests
            .iter()
            .map(|request| client.fetch(&gun, request, deadline)),
    )
    .await;
    assert_eq!(
        answers.iter().map(word).collect::<Vec<_>>(),
        ["found", "found", "found", "absent", "absent"]
    );
    assert_eq!(
        (
            server.requests_for("/v2/"),
            server.requests_for("/token"),
            server.requests().len()
        ),
        (1, 1, 7)
    );
}

#[tokio::test]
async fn connections_are_kept() {
    let server = serving(Wants::Token("alice", "secret")).await;
    let client = client(&server, alice("secret"));
    for _ in 0..5 {
        assert_eq!(word(&ask(&client).await), "found");
    }
    assert_eq!(server.connections(), 1);
}

/// The environment of a test cannot be changed, so this one runs itself again in another.
#[tokio::test]
async fn a_proxy_comes_from_the_environment() {
    const INNER: &str = "COUNTERSIGN_TEST_BEHIND_PROXY";
    if std::env::var_os(INNER).is_some() {
        let client = Server::new(Config::new(Url::parse("http://trust.invalid").unwrap())).unwrap();
        assert_eq!(word(&ask(&client).await), "found");
        return;
    }
    let proxy = TrustServer::start().await;
    proxy.put(GUN, "timestamp.json", "{}");
    let inner = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "notary::a_proxy_comes_from_the_environment"])
        .env(INNER, "1")
        .env("HTTP_PROXY", proxy.url())
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .await
        .unwrap();
    assert!(
        inner.status.success(),
        "{}",
        String::from_utf8_lossy(&inner.stdout)
    );
    assert_eq!(proxy.requests()[0].target, "http://trust.invalid/v2/");
}

#[tokio::test]
async fn each_kind_of_login_opens_its_server() {
    let identity = || Login::Credential(Credential::IdentityToken("refresh".into()));
    let registry = || Login::Credential(Credential::RegistryToken("ready".into()));
    for (label, wants, login, want) in [
        ("basic", Wants::Basic("alice", "secret"), alice("secret"), "found"),
        (
            "basic, wrong",
            Wants::Basic("alice", "secret"),
            alice("wrong"),
            "unauthorized",
        ),
        (
            "basic, none",
            Wants::Basic("alice", "secret"),
            Login::Anonymous,
            "unauthorized",
        ),
        (
            "basic, with a token for another scheme",
            Wants::Basic("alice", "secret"),
            identity(),
            "unauthorized",
        ),
        ("token", Wants::Token("alice", "secret"), alice("secret"), "found"),
        (
            "token, wrong",
            Wants::Token("alice", "secret"),
            alice("wrong"),
            "unauthorized",
        ),
        (
            "token, none",
            Wants::Token("alice", "secret"),
            Login::Anonymous,
            "unauthorized",
        ),
        (
            "anonymous token",
            Wants::AnonymousToken,
            Login::Anonymous,
            "found",
        ),
        (
            "identity token",
            Wants::IdentityToken("refresh"),
            identity(),
            "found",
        ),
        (
            "identity token, wrong",
            Wants::IdentityToken("other"),
            identity(),
            "unauthorized",
        ),
        ("registry token", Wants::Bearer("ready"), registry(), "found"),
        (
            "registry token, wrong",
            Wants::Bearer("other"),
            registry(),
            "unauthorized",
        ),
    ] {
        let server = serving(wants).await;
        let got = ask(&client(&server, login)).await;
        assert_eq!(word(&got), want, "{label}");
        assert!(!got.is_err_and(|error| error.is_outage()), "{label}");
    }
}

#[tokio::test]
async fn a_token_request_says_what_the_token_is_for() {
    let server = serving(Wants::Token("alice", "secret")).await;
    ask(&client(&server, alice("secret"))).await.unwrap();
    let requests = server.requests();
    let token = requests
        .iter()
        .find(|request| request.target.starts_with("/token"))
        .unwrap();
    assert_eq!(
        token.target,
        "/token?service=fake&scope=repository%3Aregistry.example.com%2Fapp%3Apull&account=alice"
    );
    let metadata = requests.last().unwrap();
    assert_eq!(metadata.authorization.as_deref(), Some("Bearer token-0"));
}

#[tokio::test]
async fn a_token_is_kept_until_it_expires() {
    let server = TrustServer::builder()
        .wants(Wants::AnonymousToken)
        .expires_in(3600)
        .start()
        .await;
    let client = client(&server, Login::Anonymous);
    for (advance, tokens) in [(0, 1), (1800, 1), (1760, 1), (20, 2)] {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(advance)).await;
        tokio::time::resume();
        assert_eq!(word(&ask(&client).await), "absent");
        assert_eq!(server.requests_for("/token"), tokens, "{advance} s on");
    }
}

#[tokio::test]
async fn each_repository_has_a_token_of_its_own() {
    let server = serving(Wants::AnonymousToken).await;
    let client = client(&server, Login::Anonymous);
    let other: Gun = "registry.example.com/other".parse().unwrap();
    ask(&client).await.unwrap();
    client
        .fetch(&other, &timestamp(), Instant::now() + LATER)
        .await
        .unwrap();
    assert_eq!(server.requests_for("/token"), 2);
    assert_eq!(server.requests_for("/v2/"), 1);
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once() {
    let server = serving(Wants::AnonymousToken).await;
    let client = client(&server, Login::Anonymous);
    ask(&client).await.unwrap();
    server.revoke_tokens();
    assert_eq!(word(&ask(&client).await), "found");
    assert_eq!(server.requests_for("/token"), 2);
    server.misbehave("timestamp.json", status(401));
    assert_eq!(word(&ask(&client).await), "unauthorized");
    assert_eq!(
        server.requests_for("/token"),
        3,
        "a new token that is refused is not replaced"
    );
}

#[tokio::test]
async fn a_server_that_begins_to_want_a_login_gets_it() {
    let server = serving(Wants::Nothing).await;
    let client = client(&server, alice("secret"));
    for wants in [
        Wants::Nothing,
        Wants::Basic("alice", "secret"),
        Wants::Token("alice", "secret"),
    ] {
        server.want(wants.clone());
        assert_eq!(word(&ask(&client).await), "found", "{wants:?}");
    }
    assert_eq!(
        server.requests_for("/v2/"),
        1,
        "what it wants is learned from its refusals"
    );
}

#[tokio::test]
async fn a_failed_ping_is_not_remembered() {
    let server = serving(Wants::Basic("alice", "secret")).await;
    server.misbehave_times(3, "/v2/", status(503));
    let client = client(&server, alice("secret"));
    assert_eq!(word(&ask(&client).await), "server_error");
    assert_eq!(word(&ask(&client).await), "found");
}

#[tokio::test]
async fn every_login_that_matches_is_tried() {
    let json = br#"{"auths":{
        "registry.example.com":{"username":"alice","password":"secret"},
        "registry.example.com/app":{"username":"alice","password":"rotated away"}}}"#;
    for wants in [Wants::Basic("alice", "secret"), Wants::Token("alice", "secret")] {
        let server = serving(wants.clone()).await;
        let login = Login::Config(Arc::new(DockerConfig::parse(json).unwrap()));
        assert_eq!(word(&ask(&client(&server, login)).await), "found", "{wants:?}");
    }
}

#[tokio::test]
async fn a_docker_login_is_found_for_the_trust_server_before_the_registry() {
    let server = serving(Wants::Basic("trust", "secret")).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let file = |trust: &str| {
        format!(
            r#"{{"auths":{{"{}":{{"username":"{trust}","password":"secret"}},"registry.example.com":{{"username":"registry","password":"x"}}}}}}"#,
            server.address()
        )
    };
    std::fs::write(&path, file("trust")).unwrap();
    let client = client(
        &server,
        Login::File {
            path: path.clone(),
            helpers: Helpers::Ignore,
        },
    );
    assert_eq!(word(&ask(&client).await), "found");
    assert!(server.requests().iter().all(|request| {
        !request
            .authorization
            .as_deref()
            .unwrap_or("")
            .ends_with("cmVnaXN0cnk6eA==")
    }));
    server.want(Wants::Basic("rotated", "secret"));
    assert_eq!(word(&ask(&client).await), "unauthorized");
    std::fs::write(&path, file("rotated")).unwrap();
    assert_eq!(word(&ask(&client).await), "found", "a new login needs no restart");
}

#[tokio::test]
async fn an_unreadable_login_is_named_only_if_it_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, "{").unwrap();
    for (wants, want) in [(Wants::Nothing, "found"), (Wants::AnonymousToken, "login")] {
        let server = serving(wants).await;
        let login = Login::File {
            path: path.clone(),
            helpers: Helpers::Ignore,
        };
        assert_eq!(word(&ask(&client(&server, login)).await), want);
    }
}

#[tokio::test]
async fn a_hostile_realm_gets_no_password() {
    let thief = serving(Wants::AnonymousToken).await;
    let thiefs_realm = format!("{}/token", thief.url());
    for (label, realm, realms, want) in [
        (
            "http behind https",
            thiefs_realm.as_str(),
            vec![],
            "hostile_realm",
        ),
        (
            "a login of its own",
            "https://u:p@auth.example.com/",
            vec![],
            "hostile_realm",
        ),
        (
            "not on the list",
            "https://localhost:1/token",
            vec!["auth.example.com".to_owned()],
            "hostile_realm",
        ),
        (
            "a metadata address",
            "https://169.254.169.254/token",
            vec![],
            "forbidden_address",
        ),
        (
            "a metadata address in disguise",
            "https://[::ffff:a9fe:a9fe]/token",
            vec![],
            "forbidden_address",
        ),
    ] {
        let server = TrustServer::builder()
            .tls()
            .wants(Wants::Token("alice", "secret"))
            .realm(realm)
            .start()
            .await;
        let config = Config {
            ca_pem: Some(server.ca_pem()),
            login: alice("secret"),
            realms,
            ..config(&server)
        };
        let got = ask(&Server::new(config).unwrap()).await;
        assert_eq!(word(&got), want, "{label}");
        assert!(!got.unwrap_err().is_outage(), "{label}");
        assert!(
            server
                .requests()
                .iter()
                .all(|request| request.authorization.is_none()),
            "{label}"
        );
    }
    assert!(thief.requests().is_empty());
}

#[tokio::test]
async fn a_redirected_token_request_takes_no_password_along() {
    let (server, thief) = (
        serving(Wants::Token("alice", "secret")).await,
        serving(Wants::AnonymousToken).await,
    );
    server.misbehave("/token", Fault::Redirect(307, format!("{}/token", thief.url())));
    assert_eq!(
        word(&ask(&client(&server, alice("secret"))).await),
        "unauthorized"
    );
    assert!(thief.requests_for("/token") > 0, "the redirect is followed");
    assert!(
        thief
            .requests()
            .iter()
            .all(|request| request.authorization.is_none())
    );
}

#[tokio::test]
async fn a_redirected_token_request_takes_no_identity_token_along() {
    let (server, thief) = (
        serving(Wants::IdentityToken("refresh")).await,
        serving(Wants::AnonymousToken).await,
    );
    server.misbehave("/token", Fault::Redirect(307, format!("{}/token", thief.url())));
    let login = Login::Credential(Credential::IdentityToken("refresh".into()));
    assert_eq!(word(&ask(&client(&server, login)).await), "redirect");
    assert!(thief.requests().is_empty());
}

#[tokio::test]
async fn a_redirected_ping_cannot_choose_the_token_service() {
    let server = serving(Wants::Nothing).await;
    let thief = serving(Wants::Token("alice", "secret")).await;
    server.misbehave("/v2/", Fault::Redirect(302, format!("{}/v2/", thief.url())));
    assert_eq!(word(&ask(&client(&server, alice("secret"))).await), "found");
    assert_eq!(thief.requests_for("/token"), 0);
}

#[tokio::test]
async fn redirects_in_a_circle_end() {
    let server = serving(Wants::AnonymousToken).await;
    server.misbehave("/token", Fault::Redirect(302, "/token".to_owned()));
    assert_eq!(word(&ask(&client(&server, Login::Anonymous)).await), "redirect");
    assert_eq!(server.requests_for("/token"), 6, "the first and five more");
}

#[tokio::test]
async fn an_image_cannot_make_us_ask_ourselves() {
    let server = TrustServer::builder().tls().start().await;
    let port = server.address().port();
    for host in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        "169.254.169.254".to_owned(),
    ] {
        let gun: Gun = format!("{host}/app").parse().unwrap();
        let base = default_server(&gun).unwrap();
        let config = Config {
            origin: Origin::Image,
            ca_pem: Some(server.ca_pem()),
            ..Config::new(base)
        };
        let got = Server::new(config)
            .unwrap()
            .fetch(&gun, &timestamp(), Instant::now() + LATER)
            .await;
        assert_eq!(word(&got), "forbidden_address", "{host}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused_on_loopback_too() {
    let server = TrustServer::builder().tls().start().await;
    server.put(GUN, "timestamp.json", "{}");
    let got = ask(&client(&server, alice("secret"))).await;
    assert_eq!(word(&got), "tls");
    assert!(!got.unwrap_err().is_outage());
    assert!(server.requests().is_empty());
    let trusting = Config {
        ca_pem: Some(server.ca_pem()),
        ..config(&server)
    };
    assert_eq!(word(&ask(&Server::new(trusting).unwrap()).await), "found");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_or_no_http_is_no_outage() {
    let (plain, secure) = (
        TrustServer::start().await,
        TrustServer::builder().tls().start().await,
    );
    for (base, want) in [
        (plain.url().replace("http:", "https:"), "tls"),
        (secure.url().replace("https:", "http:"), "protocol"),
    ] {
        let client = Server::new(Config::new(Url::parse(&base).unwrap())).unwrap();
        let got = ask(&client).await;
        assert_eq!(word(&got), want, "{base}: {got:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_one_is_wanted() {
    let server = TrustServer::builder().client_certificate().start().await;
    server.put(GUN, "timestamp.json", "{}");
    let with = |identity: Option<Identity>| {
        Server::new(Config {
            ca_pem: Some(server.ca_pem()),
            identity,
            ..config(&server)
        })
        .unwrap()
    };
    let (cert_pem, key_pem) = server.client_identity();
    let identity = Identity {
        cert_pem,
        key_pem: key_pem.into(),
    };
    assert_eq!(word(&ask(&with(Some(identity))).await), "found");
    let got = ask(&with(None)).await;
    assert_eq!(word(&got), "tls");
}

#[tokio::test]
async fn one_who_gives_up_takes_nobody_else_along() {
    let server = serving(Wants::AnonymousToken).await;
    server.misbehave_times(1, "/token", Fault::Hang);
    let client = client(&server, Login::Anonymous);
    assert_eq!(word(&within(&client, &timestamp(), SOON).await), "timeout");
    assert_eq!(
        word(&ask(&client).await),
        "found",
        "what nobody waits for any more is not waited for"
    );
}

#[tokio::test]
async fn every_exchange_is_observed() {
    let server = serving(Wants::AnonymousToken).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let observer = Arc::new(move |Observation { kind, outcome, .. }| {
        log.lock().unwrap().push(format!("{} {outcome}", kind.name()));
    });
    let client = Server::new(Config {
        observer: Some(observer),
        ..config(&server)
    })
    .unwrap();
    ask(&client).await.unwrap();
    server.misbehave("timestamp.json", Fault::Hang);
    within(&client, &timestamp(), SOON).await.unwrap_err();
    assert_eq!(
        *seen.lock().unwrap(),
        ["ping 4xx", "token 2xx", "trust 2xx", "trust error"]
    );
}

#[tokio::test]
async fn no_error_and_no_debug_output_shows_a_secret() {
    let server = serving(Wants::Basic("alice", "other")).await;
    let client = client(&server, alice("hunter2"));
    let error = ask(&client).await.unwrap_err();
    let printed = format!("{client:?} {error:?} {error}");
    assert!(!printed.contains("hunter2"), "{printed}");
}
