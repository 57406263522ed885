use super::*;

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_place() {
    let folder = Folder::new().with("htpasswd", passwords::ALICE);
    let hash = sha256("s");
    for (label, rules, want) in [
        (
            "unknown field",
            "rules: []\nrule: []\n".to_owned(),
            "access.yaml:2",
        ),
        (
            "unknown field within",
            "limits:\n  requestsPerSecond: 5\n  brust: 3\n".to_owned(),
            "access.yaml:3",
        ),
        ("field by name", "brust: 3".to_owned(), "brust"),
        (
            "no action",
            "rules:\n- who: [a]\n  repositories: ['**']\n  actions: [write]\n".to_owned(),
            "access.yaml:4",
        ),
        (
            "prefix without a slash",
            "rules:\n- who: [a]\n  repositories: [registry.example.com]\n  actions: [pull]\n".to_owned(),
            "registry.example.com is neither",
        ),
        (
            "prefix that climbs",
            "gunPrefixes: ['registry.example.com/../']".to_owned(),
            "registry.example.com/../ is neither",
        ),
        (
            "prefix that begins other names too",
            "gunPrefixes: ['registry.example.com/team']".to_owned(),
            "registry.example.com/team is neither",
        ),
        (
            "prefix of everything",
            "gunPrefixes: ['/']".to_owned(),
            "/ is neither",
        ),
        (
            "no hash",
            "tokens: [{name: ci, sha256: abc}]".to_owned(),
            "64 hex digits",
        ),
        (
            "a token by name twice",
            format!("tokens: [{{name: ci, sha256: {hash}}}, {{name: ci, sha256: {hash}}}]"),
            "ci is there twice",
        ),
        (
            "a token by the name of a user",
            format!("htpasswd: htpasswd\ntokens: [{{name: alice, sha256: {hash}}}]"),
            "alice is there twice",
        ),
        (
            "a token by the name of all",
            format!("tokens: [{{name: '*', sha256: {hash}}}]"),
            "the name of a token",
        ),
        (
            "a token by the name of a certificate",
            format!("tokens: [{{name: 'certificate:a', sha256: {hash}}}]"),
            "the name of a token",
        ),
        (
            "no limit at all",
            "limits: {burst: 0}".to_owned(),
            "access.yaml:1",
        ),
    ] {
        let error = folder.read(&rules).expect_err(label);
        let said = crate::telemetry::chain(&error);
        assert!(said.contains(want), "{label}: {said}");
    }
}

#[test]
fn what_is_wrong_with_a_file_that_is_named_is_said_with_its_place() {
    let folder = Folder::new()
        .with("empty", "")
        .with("sha", "alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
        .with(
            "apr1",
            "# people\n\nalice:$apr1$Z3x1NvJv$WnXGmEdQ3oYLrqmkPGOOd/\n",
        )
        .with("crypt", "alice:rqXexS6ZhobKA\n")
        .with("dear", passwords::ALICE.replace("$04$", "$31$"))
        .with("oct.json", r#"{"keys":[{"kty":"oct","kid":"k","k":"c2VjcmV0"}]}"#);
    let token = "token: {realm: 'https://a.example/t', service: s, issuer: i";
    for (label, rules, want) in [
        ("no keys", format!("{token}}}"), "neither rootCertBundle nor jwks"),
        (
            "no such file",
            "htpasswd: nowhere".to_owned(),
            "nowhere cannot be read",
        ),
        ("a folder", "htpasswd: .".to_owned(), "is not a file"),
        (
            "no certificates",
            format!("{token}, rootCertBundle: empty}}"),
            "no usable PEM",
        ),
        (
            "no key set",
            format!("{token}, jwks: empty}}"),
            "holds no key set",
        ),
        ("a secret key", format!("{token}, jwks: oct.json}}"), "secret key"),
        (
            "no URL",
            "token: {realm: auth, service: s, issuer: i}".to_owned(),
            "realm is not an absolute URL",
        ),
        (
            "a header within a service",
            "token: {realm: 'https://a.example', service: \"s\\r\\nX: y\", issuer: i}".to_owned(),
            "not plain ASCII",
        ),
        ("SHA-1", "htpasswd: sha".to_owned(), "htpasswd -B"),
        ("MD5, on its line", "htpasswd: apr1".to_owned(), "apr1:3"),
        ("crypt", "htpasswd: crypt".to_owned(), "not hashed with bcrypt"),
        ("bcrypt for hours", "htpasswd: dear".to_owned(), "cost of bcrypt"),
        (
            "catalog of some",
            "rules: [{who: [a], repositories: ['registry.example.com/'], actions: [catalog]}]".to_owned(),
            "catalog is granted",
        ),
    ] {
        let error = folder.read(&rules).expect_err(label);
        let said = crate::telemetry::chain(&error);
        assert!(said.contains(want), "{label}: {said}");
    }
    let huge = "#".repeat((1 << 20) + 1);
    assert!(matches!(folder.read(&huge), Err(AccessError::TooLong { .. })));
}
