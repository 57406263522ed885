use super::*;

const POLICY: &str = r#"apiVersion: countersign.dev/v1alpha1
kind: ClusterTrustPolicy
metadata: {name: default}
spec:
  verifiers:
  - name: acme
    notary:
      server: https://trust.example.com
      root: {keyIDs: ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]}
  rules:
  - images: ["docker.io/library/*"]
    verify: {anyOf: [acme]}
"#;

fn examine(text: &str, home: Home) -> Examined {
    examine_files([(PathBuf::from("p.yaml"), text.to_owned())], home)
}

fn lines(errors: &[PolicyError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_policy_without_fault_gets_no_finding_and_its_verifiers_are_handed_on() {
    for home in [Home::Cluster, Home::Files] {
        let examined = examine(POLICY, home);
        assert_eq!(
            (lines(&examined.errors), lines(&examined.warnings)),
            (vec![], vec![])
        );
        let verifiers: Vec<_> = examined
            .verifiers()
            .map(|verifier| verifier.name.clone())
            .collect();
        assert_eq!((examined.policies, verifiers), (1, vec!["acme".to_owned()]));
    }
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let unused = POLICY.replace("verify: {anyOf: [acme]}", "deny: {message: no}");
    assert_eq!(
        lines(&examine(&unused, Home::Cluster).warnings),
        [
            r#"p.yaml:6: document 1: spec.verifiers[0]: no rule names verifier "acme": name it, or take it out"#
        ]
    );
    let twice = POLICY.replace(
        r#"["docker.io/library/*"]"#,
        r#"["nginx", "docker.io/library/nginx"]"#,
    );
    let examined = examine(&twice, Home::Cluster);
    assert!(examined.errors.is_empty());
    assert!(
        lines(&examined.warnings)[0]
            .contains("spec.rules[0].images[1]: this rule has \"docker.io/library/nginx\" already")
    );
}

#[test]
fn each_place_has_fields_that_the_other_does_not_know() {
    let with = |line: &str| POLICY.replace("      root:", &format!("      {line}\n      root:"));
    let secret = with("credentials: {secretRef: {name: login}}");
    assert!(examine(&secret, Home::Cluster).errors.is_empty());
    assert!(
        examine(&secret, Home::Cluster).warnings.is_empty(),
        "nobody has looked"
    );
    assert!(lines(&examine(&secret, Home::Files).errors)[0].contains("only in the cluster"));
    let file = with("credentials: {dockerConfig: config.json}");
    assert!(lines(&examine(&file, Home::Cluster).errors)[0].contains("only in policy files"));
    assert!(examine(&file, Home::Files).errors.is_empty());
    let elsewhere = with("credentials: {secretRef: {name: other/login}}");
    assert!(lines(&examine(&elsewhere, Home::Cluster).errors)[0].contains("cannot exist"));
}

#[test]
fn names_are_compared_across_files_and_kinds_apart() {
    let files = ["a.yaml", "b.yaml"].map(|name| (PathBuf::from(name), POLICY.to_owned()));
    let examined = examine_files(files, Home::Cluster);
    assert_eq!(
        lines(&examined.errors),
        [
            "b.yaml:3: document 1: metadata.name: another policy has this kind and name (a.yaml:1): rename one of them"
        ]
    );
    let own = POLICY
        .replace("ClusterTrustPolicy", "TrustPolicy")
        .replace("{name: default}", "{name: default, namespace: shop}");
    assert!(
        examine(&format!("{POLICY}---\n{own}"), Home::Cluster)
            .errors
            .is_empty()
    );
}

/// A verifier that the compiler refuses is not tried; the others are, and each fault is told where it is.
#[test]
fn what_shows_only_in_use_is_told_at_the_verifier() {
    let more = "  - name: broken\n    notary: {root: {keyIDs: [short]}}\n  rules:";
    let two = POLICY
        .replace("  rules:", more)
        .replace("[acme]", "[acme, broken]");
    let examined = examine(&two, Home::Cluster).unusable(|verifier| Some(format!("tried {}", verifier.name)));
    let found = lines(&examined.errors);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        found[0],
        "p.yaml:6: document 1: spec.verifiers[0]: cannot be used: tried acme"
    );
    assert!(found[1].contains("\"short\" is not a key id"));
    assert_eq!(examined.into_policies().unwrap_err().len(), 2);
}

/// A missing Secret is told, and does not keep the rest from being looked at.
#[test]
fn a_reference_that_leads_nowhere_is_a_warning_of_an_object() {
    let what = crate::policy::Lookup::Secret("login".to_owned());
    let missing = LookupError::Missing {
        what: what.clone(),
        namespace: "release".into(),
    };
    let object = |tag: &str| {
        format!(
            r#"{{"apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy", "metadata": {{"name": "a"}},
            "spec": {{"verifiers": [{{"name": "acme", "notary": {{"root": {{"trustOnFirstUse": true}},
            "credentials": {{"secretRef": {{"name": "login"}}}}}}}}],
            "rules": [{{"images": ["a.io/x{tag}"], "verify": {{"anyOf": ["acme"]}}}}]}}}}"#
        )
    };
    let answers = Answers::from([(what, Err(missing))]);
    let examined = examine_object(&read_object(&object("")).unwrap(), &answers);
    assert!(examined.errors.is_empty());
    assert!(
        lines(&examined.warnings)[0]
            .ends_with("Secret \"login\" is not in namespace release: create it there")
    );
    assert_eq!(examined.verifiers().count(), 1);
    let examined = examine_object(&read_object(&object("/[")).unwrap(), &answers);
    assert_eq!((examined.errors.len(), examined.warnings.len()), (1, 1));
    assert!(read_object("{}").is_err());
}
