use proptest::prelude::*;

use super::*;

/// `user:pass:word`.
const AUTH: &str = "dXNlcjpwYXNzOndvcmQ=";

fn gun(text: &str) -> Gun {
    text.parse().unwrap()
}

fn config(auths: &[(&str, &str)]) -> DockerConfig {
    let auths: serde_json::Map<_, _> = auths
        .iter()
        .map(|&(place, user)| {
            (
                place.to_owned(),
                serde_json::json!({"username": user, "password": "secret"}),
            )
        })
        .collect();
    DockerConfig::parse(serde_json::json!({ "auths": auths }).to_string().as_bytes()).unwrap()
}

fn user(credential: &Credential) -> &str {
    match credential {
        Credential::Basic { user, .. } => user,
        Credential::IdentityToken(_) => "identity token",
        Credential::RegistryToken(_) => "registry token",
    }
}

fn users<'a>(found: &[&'a Credential]) -> Vec<&'a str> {
    found.iter().map(|credential| user(credential)).collect()
}

#[test]
fn entries_match_as_in_the_kubelet() {
    for (entry, image, want) in [
        ("registry.example.com", "registry.example.com/app", true),
        ("https://registry.example.com", "registry.example.com/app", true),
        ("http://registry.example.com/", "registry.example.com/app", true),
        (
            "https://registry.example.com/v2/",
            "registry.example.com/app",
            true,
        ),
        (
            "registry.example.com/v1/team",
            "registry.example.com/team/app",
            true,
        ),
        (
            "registry.example.com/team",
            "registry.example.com/teams/app",
            true,
        ),
        (
            "registry.example.com/team/",
            "registry.example.com/teams/app",
            false,
        ),
        (
            "registry.example.com/other",
            "registry.example.com/team/app",
            false,
        ),
        ("registry.example.com:5000", "registry.example.com:5000/app", true),
        ("registry.example.com:5000", "registry.example.com/app", false),
        ("registry.example.com", "registry.example.com:5000/app", false),
        ("*.example.com", "registry.example.com/app", true),
        ("*.com", "registry.example.com/app", false),
        ("*.*.com", "registry.example.com/app", true),
        ("reg*.example.com", "registry.example.com/app", true),
        ("registry[0-9].example.com", "registry1.example.com/app", true),
        ("registry?.example.com", "registry.example.com/app", false),
        ("*.example.com:5000", "registry.example.com:5000/app", true),
        ("registry.example.com:*", "registry.example.com:5000/app", false),
        ("[::1]:5000", "[::1]:5000/app", true),
        ("docker.io", "docker.io/library/nginx", true),
        ("https://index.docker.io/v1/", "docker.io/library/nginx", true),
        ("index.docker.io", "docker.io/library/nginx", true),
        ("https://index.docker.io/v1/", "registry.example.com/app", false),
    ] {
        let found = config(&[(entry, "u")]).for_registry(&gun(image)).len();
        assert_eq!(found == 1, want, "{entry} for {image}");
    }
}

#[test]
fn all_matches_are_candidates_and_longer_paths_come_first() {
    let config = config(&[
        ("registry.example.com", "host"),
        ("registry.example.com/team/app", "app"),
        ("*.example.com", "glob"),
        ("registry.example.com/team", "team"),
        ("elsewhere.example.com", "elsewhere"),
    ]);
    let found = config.for_registry(&gun("registry.example.com/team/app"));
    assert_eq!(users(&found), ["app", "team", "host", "glob"]);
}

#[test]
fn the_hub_of_old_serves_only_if_nothing_matches() {
    let config = config(&[
        ("https://index.docker.io/v1/", "old"),
        ("docker.io/library", "new"),
    ]);
    assert_eq!(
        users(&config.for_registry(&gun("docker.io/library/nginx"))),
        ["new"]
    );
    assert_eq!(users(&config.for_registry(&gun("docker.io/acme/app"))), ["old"]);
}

#[test]
fn a_login_for_the_trust_server_comes_before_one_for_the_registry() {
    let config = config(&[
        ("registry.example.com", "registry"),
        ("trust.example.com:4443", "trust"),
        ("trust.example.com:4443/registry.example.com/team", "team"),
    ]);
    let found = config.for_trust("trust.example.com:4443", &gun("registry.example.com/team/app"));
    assert_eq!(users(&found), ["team", "trust", "registry"]);
    let found = config.for_trust("registry.example.com", &gun("registry.example.com/team/app"));
    assert_eq!(users(&found), ["registry"]);
}

#[test]
fn every_form_of_an_entry_is_read() {
    let unpadded = AUTH.trim_end_matches('=');
    for (label, entry, want) in [
        ("padded", format!(r#"{{"auth":"{AUTH}"}}"#), "user"),
        ("unpadded", format!(r#"{{"auth":"{unpadded}"}}"#), "user"),
        (
            "auth overrides",
            format!(r#"{{"auth":"{AUTH}","username":"other","password":"x"}}"#),
            "user",
        ),
        (
            "plain",
            r#"{"username":"plain","password":"x","email":"a@b"}"#.to_owned(),
            "plain",
        ),
        (
            "empty auth",
            r#"{"auth":"","username":"plain","password":"x"}"#.to_owned(),
            "plain",
        ),
        (
            "identity token",
            format!(r#"{{"auth":"{AUTH}","identitytoken":"t"}}"#),
            "identity token",
        ),
        (
            "registry token",
            r#"{"registrytoken":"t"}"#.to_owned(),
            "registry token",
        ),
        ("nothing", "{}".to_owned(), ""),
        ("nulls", r#"{"auth":null}"#.to_owned(), ""),
    ] {
        let json = format!(r#"{{"auths":{{"r.io":{entry}}},"HttpHeaders":{{}}}}"#);
        let config = DockerConfig::parse(json.as_bytes()).unwrap();
        let found = users(&config.for_registry(&gun("r.io/app"))).join(",");
        assert_eq!(found, want, "{label}");
        let legacy = DockerConfig::parse_legacy(format!(r#"{{"r.io":{entry}}}"#).as_bytes()).unwrap();
        assert_eq!(
            users(&legacy.for_registry(&gun("r.io/app"))).join(","),
            want,
            "{label}, legacy"
        );
    }
}

#[test]
fn a_password_may_contain_colons() {
    let (user, password) = decode(AUTH).unwrap();
    assert_eq!((user.as_str(), password.expose_secret()), ("user", "pass:word"));
}

#[test]
fn an_unreadable_file_is_refused_without_quoting_it() {
    for (json, want) in [
        ("", ConfigError::Json),
        ("42", ConfigError::Json),
        (r#"{"auths":{"r.io":"hunter2"}}"#, ConfigError::Json),
        (
            r#"{"auths":{"r.io":{"auth":"hunter2!"}}}"#,
            ConfigError::Auth { place: "r.io".into() },
        ),
        (
            r#"{"auths":{"r.io":{"auth":"aHVudGVyMg"}}}"#,
            ConfigError::Auth { place: "r.io".into() },
        ),
    ] {
        let error = DockerConfig::parse(json.as_bytes()).unwrap_err();
        assert_eq!(error, want, "{json}");
        assert!(!error.to_string().contains("hunter2"), "{json}");
    }
}

#[test]
fn no_debug_output_shows_a_secret() {
    let json = format!(
        r#"{{"auths":{{"a.io":{{"auth":"{AUTH}"}},"b.io":{{"identitytoken":"hunter2"}},"c.io":{{"registrytoken":"hunter2"}}}}}}"#
    );
    let printed = format!("{:?}", DockerConfig::parse(json.as_bytes()).unwrap());
    assert!(printed.contains("user"));
    assert!(
        !printed.contains("pass:word") && !printed.contains("hunter2"),
        "{printed}"
    );
}

#[test]
fn a_helper_for_the_host_comes_before_the_store() {
    let config = DockerConfig::parse(
        br#"{"credsStore":"secretservice","credHelpers":{"r.io":"ecr-login","bad.io":"../sh","none.io":""}}"#,
    )
    .unwrap();
    let program = |server| config.helper(server).map(|name| name.map(|name| name.program()));
    assert_eq!(program("r.io").unwrap().unwrap(), "docker-credential-ecr-login");
    assert_eq!(
        program("x.io").unwrap().unwrap(),
        "docker-credential-secretservice"
    );
    assert_eq!(program("none.io").unwrap(), None);
    assert_eq!(
        program("bad.io").unwrap_err(),
        ConfigError::Helper { name: "../sh".into() }
    );
    assert_eq!(DockerConfig::default().helper("r.io").unwrap(), None);
}

#[test]
fn the_hub_has_a_key_of_its_own() {
    assert_eq!(
        registry_key(&gun("docker.io/library/nginx")),
        "https://index.docker.io/v1/"
    );
    assert_eq!(registry_key(&gun("r.io:5000/app")), "r.io:5000");
}

#[test]
fn a_helpers_answer_is_a_login_or_an_identity_token() {
    for (json, want) in [
        (r#"{"ServerURL":"r.io","Username":"u","Secret":"s"}"#, "u"),
        (r#"{"Username":"<token>","Secret":"s"}"#, "identity token"),
        (r#"{"Username":"","Secret":""}"#, ""),
        ("{}", ""),
    ] {
        let found = helper_answer(json.as_bytes()).unwrap();
        assert_eq!(found.as_ref().map_or("", user), want, "{json}");
    }
    assert_eq!(
        helper_answer(b"credentials not found").unwrap_err(),
        ConfigError::Json
    );
}

proptest! {
    #[test]
    fn no_file_panics(json in r#"\{"auths":\{"[a-z./:\[\]*]{0,12}":\{"auth":"[A-Za-z=]{0,12}"\}\}\}|.{0,32}"#) {
        if let Ok(config) = DockerConfig::parse(json.as_bytes()) {
            let _ = config.for_registry(&gun("r.io/app"));
        }
    }
}
