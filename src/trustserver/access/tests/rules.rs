use super::*;

const RULES: &str = "
clientCertificates: true
rules:
- {who: [ci], repositories: [registry.example.com/team/], actions: [pull, push]}
- {who: [alice], repositories: [registry.example.com/team/app], actions: ['*']}
- {who: [bob], repositories: [registry.example.com/team/app], actions: [push]}
- {who: [auditor], repositories: ['**'], actions: [catalog]}
- {who: [root], repositories: ['**'], actions: ['*']}
- {who: ['certificate:build.example.com'], repositories: [registry.example.com/team/], actions: [pull, push]}
- {who: ['*'], repositories: [registry.example.com/public/], actions: [pull]}
";

fn rules() -> Access {
    let tokens = ["ci", "alice", "bob", "auditor", "root"]
        .map(|name| format!("- {{name: {name}, sha256: {}}}\n", sha256(name)))
        .concat();
    access(&format!("{RULES}tokens:\n{tokens}"))
}

#[tokio::test]
async fn callers_may_do_what_rules_grant_and_nothing_else() {
    let access = rules();
    let app = || gun(APP);
    for (label, who, need, granted) in [
        ("under a prefix", "ci", Need::Push(app()), true),
        (
            "a prefix is no wildcard for deleting",
            "ci",
            Need::Admin(app()),
            false,
        ),
        (
            "team is not team-evil",
            "ci",
            Need::Pull(gun("registry.example.com/team-evil/app")),
            false,
        ),
        (
            "nor the repository team",
            "ci",
            Need::Pull(gun("registry.example.com/team")),
            false,
        ),
        (
            "nor on another host",
            "ci",
            Need::Pull(gun("registry.example.com.evil.example/team/app")),
            false,
        ),
        (
            "nor on another port",
            "ci",
            Need::Pull(gun("registry.example.com:5000/team/app")),
            false,
        ),
        ("* is everything", "alice", Need::Admin(app()), true),
        (
            "a name is one name",
            "alice",
            Need::Pull(gun("registry.example.com/team/app2")),
            false,
        ),
        (
            "nor what is under it",
            "alice",
            Need::Pull(gun("registry.example.com/team/app/x")),
            false,
        ),
        ("push without pull", "bob", Need::Push(app()), false),
        (
            "everybody who is known",
            "bob",
            Need::Pull(gun("registry.example.com/public/x")),
            true,
        ),
        ("catalog", "auditor", Need::Catalog, true),
        ("catalog is no pull", "auditor", Need::Pull(app()), false),
        ("* of everything", "root", Need::Catalog, true),
        ("* of something is no catalog", "alice", Need::Catalog, false),
        ("known", "bob", Need::Known, true),
    ] {
        let got = with(&access, &format!("Bearer {who}"), &need).await;
        let want = if granted {
            format!("static {who}")
        } else {
            "insufficient".to_owned()
        };
        assert_eq!(got, want, "{label}");
    }
    let public = Need::Pull(gun("registry.example.com/public/x"));
    assert_eq!(
        with(&access, "", &public).await,
        "no_credentials",
        "* is not anybody"
    );
}

#[tokio::test]
async fn certificates_are_callers_by_any_of_their_names() {
    let access = rules();
    let push = Need::Push(gun(APP));
    for (names, want) in [
        (&["build.example.com"][..], "certificate build.example.com"),
        (&["node", "build.example.com"], "certificate node"),
        (&["evil.example.com"], "insufficient"),
        // A certificate of that name is not the holder of the token of that name.
        (&["ci"], "insufficient"),
        (&["root"], "insufficient"),
        (&["certificate:build.example.com"], "insufficient"),
        (&["*"], "insufficient"),
        (&[], "no_credentials"),
    ] {
        assert_eq!(
            from_with(&access, &certified(names), "", &push).await,
            want,
            "{names:?}"
        );
    }
    let both = certified(&["build.example.com"]);
    assert_eq!(
        from_with(&access, &both, "Bearer bob", &push).await,
        "insufficient"
    );
    assert_eq!(from_with(&access, &both, "Bearer junk", &push).await, "secret");
}

#[tokio::test]
async fn certificates_are_nobody_unless_the_file_says_so() {
    let off = access(&RULES.replace("clientCertificates: true", ""));
    let build = certified(&["build.example.com"]);
    assert_eq!(
        from_with(&off, &build, "", &Need::Push(gun(APP))).await,
        "no_credentials"
    );
    assert_eq!(from_with(&off, &build, "", &Need::Known).await, "no_credentials");
}

#[tokio::test]
async fn whoever_is_somebody_may_do_what_anybody_may() {
    let hash = sha256("s");
    let access = access(&format!(
        "{{anonymous: [pull], tokens: [{{name: ci, sha256: {hash}}}]}}"
    ));
    assert_eq!(
        with(&access, "Bearer s", &Need::Pull(gun(APP))).await,
        "static ci"
    );
    assert_eq!(with(&access, "", &Need::Pull(gun(APP))).await, "anonymous");
    assert_eq!(with(&access, "", &Need::Push(gun(APP))).await, "no_credentials");
    assert_eq!(with(&access, "", &Need::Catalog).await, "no_credentials");
}

#[test]
fn only_repositories_under_the_prefixes_are_hosted() {
    let some = access("gunPrefixes: [registry.example.com/team/, docker.io/]");
    for (name, hosted) in [
        (APP, true),
        ("docker.io/library/nginx", true),
        ("registry.example.com/team-evil/app", false),
        ("registry.example.com/other/app", false),
        ("docker.io.evil.example/app", false),
    ] {
        assert_eq!(some.hosts(&gun(name)), hosted, "{name}");
    }
    assert!(access("{}").hosts(&gun(APP)));
}
