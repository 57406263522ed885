//! The engine against a trust server on loopback: what is asked, what is remembered, what an outage changes.

use std::sync::Arc;
use std::time::Duration;

use countersign::policy::Demand;
use countersign::policy::{PolicySet, Requirement, Verification};
use countersign::reference::Reference;
use countersign::review::logins::PullSources;
use countersign::store::Store;
use countersign::telemetry::Metrics;
use countersign::trust::{Clock, Kind, Options, Pinned, Refusal, Trust, Verify as _};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::repo::{Delegation, Files, GUN, Key, NOW, Repo, alice, digest};
use crate::trust_server::{Fault, TrustServer};

/// Files that a first look asks for: timestamp, root, snapshot, targets, targets/releases.
const COLD: usize = 5;
/// Longer than the engine lets an answer or a failure stand unasked.
const LATER: Duration = Duration::from_secs(6);

/// An engine with one policy over one server.
struct Bench {
    trust: Trust,
    verification: Arc<Verification>,
}

/// How to make one.
struct Setup {
    options: Options,
    store: Store,
    notary: Value,
}

impl Setup {
    fn of(server: &TrustServer) -> Self {
        let notary = json!({"server": server.url(), "root": {"keys": [Key::p256(1).pem()]}});
        Self {
            options: options(NOW),
            store: Store::memory().unwrap(),
            notary,
        }
    }

    fn with(mut self, member: &str, value: Value) -> Self {
        self.notary[member] = value;
        self
    }

    fn kept_in(mut self, dir: &std::path::Path) -> Self {
        self.store = Store::open(dir).unwrap();
        self
    }

    fn at(mut self, now: &str) -> Self {
        self.options = options(now);
        self
    }

    fn start(self) -> Bench {
        let verifiers = json!([{"name": "acme", "notary": self.notary}]);
        Bench::start(self.options, self.store, &verifiers, &json!({"anyOf": ["acme"]}))
    }
}

fn options(now: &str) -> Options {
    Options {
        clock: Clock::At(now.parse().unwrap()),
        ..Options::default()
    }
}

impl Bench {
    fn start(options: Options, store: Store, verifiers: &Value, verify: &Value) -> Self {
        Self::ruled(
            options,
            store,
            verifiers,
            &json!({"images": ["**"], "verify": verify}),
        )
    }

    fn ruled(options: Options, store: Store, verifiers: &Value, rule: &Value) -> Self {
        let policies = policy_of(verifiers, rule);
        let trust = Trust::new(options, Arc::new(store), Arc::new(Metrics::default()));
        trust.prepare(&policies).unwrap();
        let image = Reference::parse(GUN).unwrap();
        let requirement = policies
            .select("default", &std::collections::BTreeMap::new(), &image)
            .remove(0);
        let Requirement {
            demand: Demand::Verify(verification),
            ..
        } = requirement
        else {
            unreachable!()
        };
        Self { trust, verification }
    }

    async fn ask(&self, image: &str) -> Result<Pinned, Refusal> {
        self.ask_within(image, Duration::from_secs(20)).await
    }

    async fn ask_within(&self, image: &str, time: Duration) -> Result<Pinned, Refusal> {
        let image = Reference::parse(&image.replace("GUN", GUN)).unwrap();
        self.trust
            .verify(
                &image,
                &self.verification,
                &PullSources::default(),
                Instant::now() + time,
            )
            .await
    }

    /// The digest, or the reason why there is none.
    async fn word(&self, image: &str) -> String {
        match self.ask(image).await {
            Ok(pinned) => pinned.digest().to_string(),
            Err(refusal) => refusal.reason().to_owned(),
        }
    }
}

fn policy_of(verifiers: &Value, rule: &Value) -> PolicySet {
    let policy = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy", "metadata": {"name": "test"},
        "spec": {"verifiers": verifiers, "rules": [rule]}});
    PolicySet::parse([("test.yaml".into(), policy.to_string())]).unwrap()
}

fn serve(server: &TrustServer, files: &Files) {
    for (name, bytes) in &files.0 {
        server.put(GUN, name, bytes.clone());
    }
}

async fn serving(repo: &Repo) -> TrustServer {
    let server = TrustServer::start().await;
    serve(&server, &repo.publish());
    server
}

fn asked(server: &TrustServer) -> usize {
    server
        .requests()
        .iter()
        .filter(|logged| logged.target.contains("/_trust/"))
        .count()
}

/// Moves the engine's clock without waiting.
async fn advance(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_cold_verification_is_one_parallel_round() {
    let server = serving(&Repo::new().with_alice(&[("2.0", "two")])).await;
    server.withhold_until(COLD);
    let bench = Setup::of(&server).start();
    assert_eq!(bench.word("GUN:2.0").await, digest("two"));
    assert_eq!(asked(&server), COLD);
}

#[tokio::test]
async fn a_warm_verification_asks_nothing() {
    let server = serving(&Repo::new()).await;
    let bench = Setup::of(&server).start();
    assert_eq!(bench.word("GUN:1.0").await, digest("one"));
    for _ in 0..10 {
        assert_eq!(bench.word("GUN:1.1").await, digest("eleven"));
    }
    assert_eq!(asked(&server), COLD);
}

#[tokio::test]
async fn a_refresh_asks_for_the_timestamp_alone_when_nothing_changed() {
    let server = serving(&Repo::new()).await;
    let bench = Setup::of(&server).start();
    bench.ask("GUN:1.0").await.unwrap();
    advance(Duration::from_secs(61)).await;
    assert_eq!(bench.word("GUN:1.0").await, digest("one"));
    assert_eq!(
        (asked(&server), server.requests_for("timestamp.json")),
        (COLD + 1, 2)
    );
}

#[tokio::test]
async fn a_tag_signed_again_is_picked_up_once_the_answer_is_no_longer_fresh() {
    let server = serving(&Repo::new()).await;
    let bench = Setup::of(&server).start();
    assert_eq!(bench.word("GUN:1.0").await, digest("one"));
    serve(
        &server,
        &Repo::new().tag("1.0", "other").all_versions(2).publish(),
    );
    advance(Duration::from_secs(61)).await;
    assert_eq!(bench.word("GUN:1.0").await, digest("other"));
}

#[tokio::test]
async fn a_digest_that_another_replica_pinned_a_moment_ago_is_not_denied() {
    let server = serving(&Repo::new()).await;
    let (slow, quick) = (Setup::of(&server).start(), Setup::of(&server).start());
    slow.ask("GUN:1.0").await.unwrap();
    quick.ask("GUN:1.0").await.unwrap();
    serve(
        &server,
        &Repo::new().tag("1.0", "other").all_versions(2).publish(),
    );
    advance(LATER).await;
    // Something it does not know makes one of the two look again.
    assert_eq!(quick.word("GUN:9").await, "tag_not_signed");
    assert_eq!(quick.word("GUN:1.0").await, digest("other"));
    assert_eq!(
        slow.word("GUN:1.0").await,
        digest("one"),
        "which is fresh enough to be believed"
    );
    let pinned = format!("GUN:1.0@{}", digest("one"));
    assert_eq!(quick.word(&pinned).await, digest("one"));
    assert_eq!(
        quick.word(&format!("GUN:1.0@{}", digest("never signed"))).await,
        "digest_mismatch"
    );
    advance(Duration::from_secs(61)).await;
    assert_eq!(quick.word(&pinned).await, "digest_mismatch", "but not for long");
    assert_eq!(slow.word("GUN:1.0").await, digest("other"));
}

#[tokio::test]
async fn a_tag_signed_a_moment_ago_is_not_refused_from_memory() {
    let server = serving(&Repo::new()).await;
    let bench = Setup::of(&server).start();
    assert_eq!(bench.word("GUN:1.2").await, "tag_not_signed");
    assert_eq!(bench.word("GUN:1.2").await, "tag_not_signed");
    assert_eq!(asked(&server), COLD, "but not every refusal makes a request");
    serve(&server, &Repo::new().tag("1.2", "new").all_versions(2).publish());
    advance(LATER).await;
    assert_eq!(bench.word("GUN:1.2").await, digest("new"));
}

#[tokio::test]
async fn a_repository_that_signs_for_the_first_time_is_found_soon() {
    let server = TrustServer::start().await;
    let bench = Setup::of(&server).start();
    assert_eq!(bench.word("GUN:1.0").await, "no_trust_data");
    let before = asked(&server);
    assert_eq!(bench.word("GUN:1.0").await, "no_trust_data");
    assert_eq!(asked(&server), before);
    serve(&server, &Repo::new().publish());
    advance(LATER).await;
    assert_eq!(bench.word("GUN:1.0").await, digest("one"));
}

#[tokio::test]
async fn many_at_once_share_one_round() {
    let server = serving(&Repo::new()).await;
    let bench = Setup::of(&server).start();
    let answers = join_all((0..100).map(|_| bench.word("GUN:1.0"))).await;
    assert!(answers.iter().all(|answer| *answer == digest("one")));
    assert_eq!(asked(&server), COLD);
}

#[tokio::test]
async fn one_who_gives_up_cancels_nobody_else() {
    let server = serving(&Repo::new()).await;
    server.withhold_until(COLD + 1);
    let bench = Setup::of(&server).start();
    let impatient = async {
        let refusal = bench
            .ask_within("GUN:1.0", Duration::from_millis(100))
            .await
            .unwrap_err();
        assert_eq!(
            (refusal.kind(), refusal.reason()),
            (Kind::Unavailable, "deadline")
        );
        // One more request lets all of them through.
        let other = format!("{}/v2/{GUN}/_trust/tuf/other.json", server.url());
        reqwest::Client::new().get(other).send().await.unwrap();
    };
    let (patient, ()) = tokio::join!(bench.word("GUN:1.0"), impatient);
    assert_eq!(patient, digest("one"));
    assert_eq!(asked(&server), COLD + 1);
}

#[tokio::test]
async fn a_hanging_server_is_given_up_at_the_deadline() {
    let server = serving(&Repo::new()).await;
    server.misbehave("timestamp.json", Fault::Hang);
    let mut setup = Setup::of(&server);
    setup.options.timeout = Duration::from_millis(200);
    let refusal = setup.start().ask("GUN:1.0").await.unwrap_err();
    assert_eq!((refusal.kind(), refusal.reason()), (Kind::Unavailable, "timeout"));
}

#[tokio::test]
async fn verified_metadata_serves_through_an_outage_as_long_as_the_policy_allows() {
    let server = serving(&Repo::new()).await;
    let lenient = Setup::of(&server).with("maxStaleness", json!("12h")).start();
    let strict = Setup::of(&server).start();
    for bench in [&lenient, &strict] {
        assert_eq!(bench.ask("GUN:1.0").await.unwrap().stale(), None);
    }
    server.misbehave("", Fault::Status(500, Vec::new(), String::new()));
    advance(Duration::from_secs(61)).await;
    let pinned = lenient.ask("GUN:1.0").await.unwrap();
    assert_eq!(
        (pinned.digest().to_string(), pinned.stale().is_some()),
        (digest("one"), true)
    );
    assert_eq!(
        lenient.word("GUN:1.2").await,
        "tag_not_signed",
        "what was not signed then is not signed now"
    );
    let refusal = strict.ask("GUN:1.0").await.unwrap_err();
    assert_eq!(
        (refusal.kind(), refusal.reason()),
        (Kind::Unavailable, "server_error")
    );

    let before = asked(&server);
    lenient.ask("GUN:1.0").await.unwrap();
    assert_eq!(
        asked(&server),
        before,
        "a server that is down is not asked for every image"
    );
    server.behave();
    advance(LATER).await;
    assert_eq!(lenient.ask("GUN:1.0").await.unwrap().stale(), None);
    assert_eq!(strict.word("GUN:1.0").await, digest("one"));
}

#[tokio::test]
async fn a_refusal_from_fresh_memory_stands_though_the_server_has_gone_away() {
    let server = serving(&Repo::new()).await;
    let bench = Setup::of(&server).start();
    bench.ask("GUN:1.0").await.unwrap();
    server.misbehave("", Fault::Status(500, Vec::new(), String::new()));
    advance(LATER).await;
    let refusal = bench.ask("GUN:1.2").await.unwrap_err();
    assert_eq!(
        (refusal.kind(), refusal.reason()),
        (Kind::Untrusted, "tag_not_signed"),
        "known, not unavailable"
    );
}

#[tokio::test]
async fn a_repository_that_began_anew_is_denied_until_its_trust_is_reset() {
    let dir = tempfile::tempdir().unwrap();
    let server = serving(&Repo::new().all_versions(5)).await;
    let bench = Setup::of(&server).kept_in(dir.path()).start();
    bench.ask("GUN:1.0").await.unwrap();
    let mut anew = Repo::new();
    anew.root = vec![Key::p256(1).certified_until(GUN, (2001, 2099))];
    serve(&server, &anew.publish());
    advance(Duration::from_secs(61)).await;
    assert_eq!(bench.word("GUN:1.0").await, "equivocation");
    let forgotten = Store::open(dir.path())
        .unwrap()
        .forget(None, &GUN.parse().unwrap())
        .unwrap();
    assert_eq!(forgotten.len(), 1);
    advance(LATER).await;
    assert_eq!(
        bench.word("GUN:1.0").await,
        digest("one"),
        "the running engine takes notice"
    );
}

#[tokio::test]
async fn only_an_outage_excuses_stale_metadata() {
    for (what, status, kind, reason) in [
        ("gone", 404, Kind::Untrusted, "trust_data_gone"),
        ("login refused", 401, Kind::Unavailable, "unauthorized"),
        ("forbidden", 403, Kind::Unavailable, "forbidden"),
        ("redirected", 302, Kind::Unavailable, "redirect"),
    ] {
        let server = serving(&Repo::new()).await;
        let bench = Setup::of(&server).with("maxStaleness", json!("12h")).start();
        bench.ask("GUN:1.0").await.unwrap();
        server.misbehave(
            "",
            Fault::Status(status, vec![("location", "/elsewhere".to_owned())], String::new()),
        );
        advance(Duration::from_secs(61)).await;
        let refusal = bench.ask("GUN:1.0").await.unwrap_err();
        assert_eq!((refusal.kind(), refusal.reason()), (kind, reason), "{what}");
        // An outage right after it does not bring back what an answer took away.
        server.behave();
        server.misbehave("", Fault::Status(503, Vec::new(), String::new()));
        advance(LATER).await;
        let later = bench.ask("GUN:1.0").await;
        assert!(later.is_err(), "{what}, then an outage: {later:?}");
    }
}

#[tokio::test]
async fn an_outage_does_not_bring_back_what_the_server_disowned_not_even_from_the_store() {
    for (what, answer) in [("gone", 404), ("login refused", 401), ("forbidden", 403)] {
        let dir = tempfile::tempdir().unwrap();
        let server = serving(&Repo::new()).await;
        let setup = || {
            Setup::of(&server)
                .with("maxStaleness", json!("12h"))
                .kept_in(dir.path())
        };
        let bench = setup().start();
        bench.ask("GUN:1.0").await.unwrap();
        server.misbehave("", Fault::Status(answer, Vec::new(), String::new()));
        advance(Duration::from_secs(61)).await;
        bench.ask("GUN:1.0").await.unwrap_err();
        server.behave();
        server.misbehave("", Fault::Status(503, Vec::new(), String::new()));
        advance(LATER).await;
        assert_eq!(bench.word("GUN:1.0").await, "server_error", "{what}");
        assert_eq!(
            setup().start().word("GUN:1.0").await,
            "server_error",
            "{what}, restarted"
        );
        server.behave();
        advance(LATER).await;
        assert_eq!(bench.word("GUN:1.0").await, digest("one"), "{what}, and back");
    }
}

#[tokio::test]
async fn an_untrusted_answer_is_not_overridden_by_what_was_trusted_before() {
    let server = serving(&Repo::new()).await;
    let bench = Setup::of(&server).with("maxStaleness", json!("12h")).start();
    bench.ask("GUN:1.0").await.unwrap();
    serve(
        &server,
        &Repo::new()
            .all_versions(2)
            .signed_by("timestamp", &[Key::p256(66)])
            .publish(),
    );
    advance(Duration::from_secs(61)).await;
    assert_eq!(bench.word("GUN:1.0").await, "threshold");
}

#[tokio::test]
async fn metadata_in_memory_is_not_believed_past_its_expiry() {
    let dir = tempfile::tempdir().unwrap();
    let server = serving(&Repo::new().expires("timestamp", "2030-01-01T06:00:00Z")).await;
    let setup = || {
        Setup::of(&server)
            .with("maxStaleness", json!("48h"))
            .kept_in(dir.path())
    };
    setup().start().ask("GUN:1.0").await.unwrap();
    server.misbehave("", Fault::Status(500, Vec::new(), String::new()));
    let before = setup().at("2030-01-01T05:59:59Z").start();
    assert_eq!(before.word("GUN:1.0").await, digest("one"));
    let after = setup().at("2030-01-01T06:00:00Z").start();
    assert_eq!(after.word("GUN:1.0").await, "server_error");
}

#[tokio::test]
async fn a_restart_during_an_outage_serves_what_the_store_remembers_and_no_longer_than_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let server = serving(&Repo::new()).await;
    let setup = || {
        Setup::of(&server)
            .with("maxStaleness", json!("12h"))
            .kept_in(dir.path())
    };
    setup().start().ask("GUN:1.0").await.unwrap();
    server.misbehave("", Fault::Cut);
    for (now, word) in [
        ("2030-01-01T11:59:00Z", digest("one")),
        ("2030-01-01T12:01:00Z", "network".to_owned()),
    ] {
        let restarted = setup().at(now).start();
        assert_eq!(restarted.word("GUN:1.0").await, word, "{now}");
        assert_eq!(restarted.word("GUN:1.0").await, word, "{now}, asked again");
    }
    let before = setup().at("2029-12-31T23:00:00Z").start();
    assert_eq!(
        before.word("GUN:1.0").await,
        "network",
        "verified by a clock that was ahead: nobody knows how old it is"
    );
    let other_pin = Setup::of(&server)
        .with("maxStaleness", json!("12h"))
        .with("root", json!({"keys": [Key::p256(9).pem()]}))
        .kept_in(dir.path());
    assert_eq!(
        other_pin.start().word("GUN:1.0").await,
        "network",
        "another pin is not met by the same files"
    );
}

// T1 and T2 across a restart.
#[tokio::test]
async fn rollback_is_refused_after_a_restart_if_state_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = serving(&Repo::new().all_versions(5)).await;
    Setup::of(&server)
        .kept_in(dir.path())
        .start()
        .ask("GUN:1.0")
        .await
        .unwrap();
    serve(&server, &Repo::new().all_versions(4).publish());
    assert_eq!(
        Setup::of(&server)
            .kept_in(dir.path())
            .start()
            .word("GUN:1.0")
            .await,
        "rollback"
    );
    assert_eq!(
        Setup::of(&server).start().word("GUN:1.0").await,
        digest("one"),
        "which is what forgetting costs"
    );
}

#[tokio::test]
async fn two_processes_on_one_state_let_the_higher_version_win() {
    let dir = tempfile::tempdir().unwrap();
    let server = serving(&Repo::new().all_versions(5)).await;
    let (one, two) = (
        Setup::of(&server).kept_in(dir.path()).start(),
        Setup::of(&server).kept_in(dir.path()).start(),
    );
    let (first, second) = tokio::join!(one.word("GUN:1.0"), two.word("GUN:1.0"));
    assert_eq!((first, second), (digest("one"), digest("one")));
    serve(&server, &Repo::new().all_versions(6).publish());
    advance(Duration::from_secs(61)).await;
    one.ask("GUN:1.0").await.unwrap();
    serve(&server, &Repo::new().all_versions(5).publish());
    advance(Duration::from_secs(61)).await;
    assert_eq!(one.word("GUN:1.0").await, "rollback");
    // What the other process has in memory is what the server serves; but version 6 has been seen.
    assert_eq!(two.word("GUN:1.0").await, "rollback");
}

#[tokio::test]
async fn verifiers_that_need_different_signers_of_one_repository_do_not_refuse_each_other() {
    let names = ["a", "b", "c", "d", "e"];
    let mut repo = Repo::new();
    let mut verifiers = Vec::new();
    let server = TrustServer::start().await;
    for name in names {
        repo.delegations
            .push(Delegation::new(name, &[alice()], &[("1.0", "one")]));
        let root = json!({"keys": [Key::p256(1).pem()]});
        verifiers.push(json!({"name": name,
            "notary": {"server": server.url(), "root": root, "signers": [{"name": name}]}}));
    }
    serve(&server, &repo.publish());
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let bench = Bench::start(options(NOW), store, &json!(verifiers), &json!({"allOf": names}));
    assert_eq!(bench.word("GUN:1.0").await, digest("one"));
}

#[tokio::test]
async fn a_store_that_fails_denies() {
    let dir = tempfile::tempdir().unwrap();
    let server = serving(&Repo::new()).await;
    let bench = Setup::of(&server).kept_in(dir.path()).start();
    let saboteur = rusqlite::Connection::open(dir.path().join("trust.db")).unwrap();
    saboteur.execute_batch("DROP TABLE role").unwrap();
    let refusal = bench.ask("GUN:1.0").await.unwrap_err();
    assert_eq!((refusal.kind(), refusal.reason()), (Kind::Unavailable, "state"));
}

// notary-v1 §1.6: what docker keeps beside its config.json.
#[tokio::test]
async fn certificates_in_dockers_folder_are_used() {
    let server = TrustServer::builder().client_certificate().start().await;
    serve(&server, &Repo::new().publish());
    let dir = tempfile::tempdir().unwrap();
    let tls = dir.path().join("tls").join(server.address().to_string());
    std::fs::create_dir_all(&tls).unwrap();
    let config = dir.path().join("config.json");
    std::fs::write(&config, "{}").unwrap();
    let bench = || {
        Setup::of(&server)
            .with("credentials", json!({"dockerConfig": config}))
            .start()
    };
    assert_eq!(bench().word("GUN:1.0").await, "tls", "an authority nobody knows");
    let (certificate, key) = server.client_identity();
    for (name, text) in [
        ("ca.crt", server.ca_pem()),
        ("client.cert", certificate),
        ("client.key", key),
    ] {
        std::fs::write(tls.join(name), text).unwrap();
    }
    assert_eq!(bench().word("GUN:1.0").await, digest("one"));
    std::fs::remove_file(tls.join("client.cert")).unwrap();
    let policies = policy_of(
        &json!([{"name": "acme", "notary": {"server": server.url(), "root": {"trustOnFirstUse": true},
        "credentials": {"dockerConfig": config}}}]),
        &json!({"images": ["**"], "verify": {"anyOf": ["acme"]}}),
    );
    let trust = Trust::new(
        options(NOW),
        Arc::new(Store::memory().unwrap()),
        Arc::new(Metrics::default()),
    );
    let faults = trust.prepare(&policies).unwrap_err();
    assert!(
        format!("{:?}", faults[0].source).contains("TlsPair"),
        "a key without its certificate: {faults:?}"
    );
}

#[tokio::test]
async fn verifiers_do_not_share_what_they_believe() {
    let server = serving(&Repo::new()).await;
    let notary = |root: Value| json!({"server": server.url(), "root": root});
    let verifiers = json!([
        {"name": "anybody", "notary": notary(json!({"trustOnFirstUse": true}))},
        {"name": "acme", "notary": notary(json!({"keys": [Key::p256(9).pem()]}))},
    ]);
    for (verify, word) in [
        (json!({"anyOf": ["anybody"]}), digest("one")),
        (json!({"anyOf": ["acme"]}), "pin".to_owned()),
        (json!({"allOf": ["anybody", "acme"]}), "pin".to_owned()),
        (json!({"anyOf": ["acme", "anybody"]}), digest("one")),
    ] {
        let bench = Bench::start(options(NOW), Store::memory().unwrap(), &verifiers, &verify);
        assert_eq!(bench.word("GUN:1.0").await, word, "{verify}");
        assert_eq!(bench.word("GUN:1.0").await, word, "{verify}, warm");
    }
}

#[tokio::test]
async fn any_digest_passes_only_where_the_rule_says_so() {
    let server = serving(&Repo::new()).await;
    let verifiers =
        json!([{"name": "acme", "notary": {"server": server.url(), "root": {"keys": [Key::p256(1).pem()]}}}]);
    let unsigned = format!("GUN@{}", digest("never signed"));
    let rule = json!({"images": ["**"], "verify": {"anyOf": ["acme"]}, "digests": "Allow"});
    let bench = Bench::ruled(options(NOW), Store::memory().unwrap(), &verifiers, &rule);
    let pinned = bench.ask(&unsigned).await.unwrap();
    assert_eq!((pinned.role(), asked(&server)), (None, 0));
    assert_eq!(
        bench.word("GUN:1.2").await,
        "tag_not_signed",
        "tags are verified all the same"
    );
    let strict = Setup::of(&server).start();
    assert_eq!(strict.word(&unsigned).await, "digest_not_signed");
    assert_eq!(
        strict.word(&format!("GUN@{}", digest("one"))).await,
        digest("one")
    );
}

#[tokio::test]
async fn repositories_in_use_are_refreshed_in_the_background() {
    let server = serving(&Repo::new()).await;
    let mut setup = Setup::of(&server);
    setup.options.fresh_for = Duration::from_millis(400);
    let bench = setup.start();
    bench.ask("GUN:1.0").await.unwrap();
    let stop = CancellationToken::new();
    let background = bench.trust.clone().keep_fresh(stop.clone());
    let watch = async {
        let begun = std::time::Instant::now();
        while server.requests_for("timestamp.json") < 4 {
            assert!(begun.elapsed() < Duration::from_secs(10), "nothing is refreshed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let before = asked(&server);
        assert_eq!(bench.word("GUN:1.0").await, digest("one"));
        assert!(
            asked(&server) <= before + 1,
            "the image did not wait for the server"
        );
        stop.cancel();
    };
    tokio::join!(background, watch);
}

#[tokio::test]
async fn a_policy_that_stays_keeps_its_memory_and_one_that_cannot_be_used_changes_nothing() {
    let server = serving(&Repo::new()).await;
    let bench = Setup::of(&server).start();
    bench.ask("GUN:1.0").await.unwrap();
    let policy = |key: &str| {
        let notary = json!({"server": server.url(), "root": {"keys": [key]}});
        policy_of(
            &json!([{"name": "acme", "notary": notary}]),
            &json!({"images": ["**"], "verify": {"anyOf": ["acme"]}}),
        )
    };
    bench.trust.prepare(&policy(&Key::p256(1).pem())).unwrap();
    bench.ask("GUN:1.0").await.unwrap();
    assert_eq!(asked(&server), COLD);
    let broken = "-----BEGIN PUBLIC KEY-----\naGVsbG8=\n-----END PUBLIC KEY-----\n";
    assert_eq!(bench.trust.prepare(&policy(broken)).unwrap_err().len(), 1);
    bench.ask("GUN:1.0").await.unwrap();
    assert_eq!(asked(&server), COLD);
}

// T44
#[tokio::test]
async fn a_clock_before_the_build_is_told_and_nothing_is_believed_by_it() {
    // `--at` may be any time; only the real clock has a floor (design §9.4).
    let server = serving(&Repo::new()).await;
    let past = Setup::of(&server).at("2020-01-01T00:00:00Z").start();
    assert_eq!(past.word("GUN:1.0").await, digest("one"));
    assert!(countersign::clock::now() > countersign::clock::built());
}
