use proptest::prelude::*;

use super::super::select::{Mode, Workloads};
use super::super::verifier::{Credentials, DigestRule, ReleasesMissing, VerifierKind};
use super::*;
use crate::reference::Reference;

const DESIGN: &str = include_str!("../../../tests/fixtures/policy/design.yaml");
const KEY: &str = "-----BEGIN PUBLIC KEY-----AAAA-----END PUBLIC KEY-----";

fn parse(text: &str) -> Result<PolicySet, Vec<String>> {
    let file = PathBuf::from("/etc/policies/p.yaml");
    PolicySet::parse([(file, text.to_owned())])
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// A policy that compiles until a line of it is replaced.
fn honest() -> String {
    format!(
        r#"apiVersion: countersign.dev/v1alpha1
kind: ClusterTrustPolicy
metadata: {{name: default}}
spec:
  verifiers:
  - name: acme
    notary:
      server: https://trust.example.com
      root: {{keys: ["{KEY}"]}}
  rules:
  - images: ["**"]
    verify: {{anyOf: [acme]}}
"#
    )
}

fn notary(set: &PolicySet) -> super::super::verifier::Notary {
    let VerifierKind::Notary(notary) = &set.verifiers().next().unwrap().1.kind;
    notary.clone()
}

fn rule_of(set: &PolicySet, image: &str) -> Option<usize> {
    let image = Reference::parse(image).unwrap();
    set.select("shop", &BTreeMap::new(), &image)[0].rule
}

#[test]
fn the_policy_of_the_design_compiles() {
    let set = parse(DESIGN).unwrap();
    let policy = &set.policies()[0];
    assert_eq!(policy.name.to_string(), "default");
    assert_eq!(
        (policy.mode, policy.workloads, policy.pin_workloads),
        (Mode::Enforce, Workloads::Advise, false)
    );
    let notary = notary(&set);
    assert_eq!(notary.server.unwrap().as_str(), "https://trust.example.com/");
    assert!(notary.ca.unwrap().starts_with("-----BEGIN CERTIFICATE-----\n"));
    let login = PathBuf::from("/etc/policies/login/config.json");
    assert_eq!(notary.credentials, Some(Credentials::DockerConfig(login)));
    assert_eq!((notary.root.keys.len(), notary.root.minimum), (1, 1));
    assert_eq!(notary.signers[0].name, "alice");
    assert_eq!(notary.max_staleness.as_secs(), 12 * 3600);
    assert_eq!(notary.releases_missing, ReleasesMissing::Allow);
    for (image, rule) in [
        ("nginx", 1),
        ("registry.example.com/a/b:1", 1),
        ("registry.k8s.io/pause:3.9", 2),
        ("quay.io/a/b", 3),
        ("team/app", 3),
    ] {
        assert_eq!(rule_of(&set, image), Some(rule), "{image}");
    }
}

#[test]
fn what_is_left_out_has_a_safe_default() {
    let set = parse(&honest().replace("      server: https://trust.example.com\n", "")).unwrap();
    let notary = notary(&set);
    assert_eq!(notary.server, None);
    assert_eq!((&notary.ca, &notary.credentials), (&None, &None));
    assert!(notary.max_staleness.is_zero());
    assert!(!notary.root.trust_on_first_use && !notary.root.skip_name_check);
    let requirement = &set.select("any", &BTreeMap::new(), &Reference::parse("a").unwrap())[0];
    assert_eq!(
        (requirement.mode, requirement.workloads),
        (Mode::Enforce, Workloads::Advise)
    );
    let Demand::Verify(verification) = &requirement.demand else {
        panic!()
    };
    assert_eq!(
        (verification.combine, verification.digests),
        (Combine::Any, DigestRule::Signed)
    );
}

/// Each mistake, put into the honest policy, brings its message.
fn each_is_refused(mistakes: &[(&str, &str, &str)]) {
    for (old, new, want) in mistakes {
        let text = honest().replace(old, new);
        assert_ne!(text, honest(), "{old} is there");
        let errors = parse(&text).unwrap_err().join("\n");
        assert!(errors.contains(want), "{new}:\n  got  {errors}\n  want {want}");
    }
}

fn key() -> String {
    format!("root: {{keys: [\"{KEY}\"]}}")
}

#[test]
fn what_does_not_fit_the_schema_is_named_with_its_place_and_a_remedy() {
    let key = key();
    let rule = "\n  - images: [\"**\"]\n    verify: {anyOf: [acme]}\n";
    each_is_refused(&[
        (
            key.as_str(),
            "rooot: {}",
            r#"p.yaml:9: document 1: spec.verifiers[0].notary.rooot: unknown field, did you mean "root"?"#,
        ),
        (
            "spec:",
            "sepc: {}\nspec:",
            r#"p.yaml:4: document 1: sepc: unknown field, did you mean "spec"?"#,
        ),
        (
            "{name: default}",
            "{nmae: default}",
            r#"metadata.nmae: unknown field, did you mean "name"?"#,
        ),
        (
            "{anyOf: [acme]}",
            "{qqqqqqq: [acme]}",
            "unknown field, use one of: allOf, anyOf",
        ),
        (
            "spec:",
            "spec:\n  mode: enforce",
            r#"spec.mode: "enforce" is not allowed here, did you mean "Enforce"?"#,
        ),
        (
            "spec:",
            "spec:\n  pinWorkloads: yes",
            "pinWorkloads: expected true or false, found text",
        ),
        (
            "name: acme",
            "name: 7",
            "spec.verifiers[0].name: expected text, found a number",
        ),
        (
            "    verify: {anyOf: [acme]}",
            "    verify:",
            "spec.rules[0].verify: expected a map, found nothing",
        ),
        (
            rule,
            " []\n",
            "p.yaml:10: document 1: spec.rules: must have 1 to 128 items, has 0",
        ),
        (
            "spec:",
            "spec:\n  mode: Audit\n  mode: Audit",
            "p.yaml:5: document 1: spec.mode: given again in line 6",
        ),
        (
            &format!("      {key}\n"),
            "",
            r#"spec.verifiers[0].notary: required field is missing: add "root""#,
        ),
        (
            "kind: ClusterTrustPolicy",
            "kind: ClusterTrustPolcy",
            r#"did you mean "ClusterTrustPolicy"?"#,
        ),
        (
            "v1alpha1",
            "v1",
            r#"apiVersion: "countersign.dev/v1" is not allowed here"#,
        ),
        (
            &key,
            &key.replace('}', ", minimum: 17}"),
            "minimum: must be between 1 and 16, is 17",
        ),
        ("spec:", "spec: }", "p.yaml:4: not YAML that can be read"),
    ]);
}

#[test]
fn names_and_scopes_that_a_file_cannot_have_are_refused() {
    each_is_refused(&[
        (
            "{name: default}",
            "{name: Default}",
            "metadata.name: \"Default\" is not a name",
        ),
        ("{name: default}", "{}", "metadata.name: \"\" is not a name"),
        (
            "{name: default}",
            "{name: default, namespace: shop}",
            "metadata.namespace: a ClusterTrustPolicy has no namespace",
        ),
        (
            "kind: ClusterTrustPolicy",
            "kind: TrustPolicy",
            "metadata: a TrustPolicy needs metadata.namespace",
        ),
        (
            "spec:",
            "spec:\n  namespaceSelector: {matchLabels: {team: a}}",
            "spec.namespaceSelector.matchLabels.team: a policy file does not know",
        ),
        (
            "spec:",
            "spec:\n  namespaceSelector: {matchExpressions: [{key: a.b/c, operator: Exists}]}",
            "matchExpressions[0].key: a policy file does not know",
        ),
        (
            "spec:",
            "spec:\n  namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In}]}",
            "In and NotIn need values",
        ),
    ]);
}

#[test]
fn verifier_names_and_trust_pins_that_cannot_work_are_refused() {
    let key = key();
    each_is_refused(&[
        (
            "name: acme",
            "name: Acme",
            "spec.verifiers[0].name: \"Acme\" is not a name",
        ),
        (
            "  - name: acme",
            "  - name: acme\n  - name: acme",
            "spec.verifiers[0]: a verifier needs exactly one kind",
        ),
        (
            &key,
            "root: {}",
            "spec.verifiers[0].notary.root: needs exactly one of \"keys\", \"keyIDs\", \"ca\" and \"trustOnFirstUse: true\", has 0",
        ),
        (&key, &key.replace('}', ", trustOnFirstUse: true}"), "has 2"),
        (
            &key,
            &key.replace('}', ", minimum: 2}"),
            "root.minimum: asks for 2 keys, but 1 are pinned",
        ),
        (
            &key,
            "root: {trustOnFirstUse: true, minimum: 1}",
            "asks for 1 keys, but 0 are pinned",
        ),
        (
            &key,
            "root: {keyIDs: [ABC]}",
            "root.keyIDs[0]: \"ABC\" is not a key id",
        ),
        (&key, &key.replace("AAAA", "…"), "root.keys[0]: expected PEM"),
        (
            &key,
            &key.replace("PUBLIC", "EC PRIVATE"),
            "root.keys[0]: this is a private key",
        ),
        (
            &key,
            &key.replace("]}", &format!(", \"{KEY}\"], minimum: 2}}")),
            "root.keys[1]: \"AAAA\" is there twice",
        ),
        (
            &key,
            &format!("root: {{ca: \"{KEY}\"}}"),
            "root.ca: expected PEM: \"-----BEGIN CERTIFICATE-----\"",
        ),
    ]);
}

#[test]
fn servers_and_their_options_that_cannot_work_are_refused() {
    let key = key();
    each_is_refused(&[
        (
            "https://trust",
            "http://trust",
            "notary.server: \"http://trust.example.com\" is not the URL of a trust server: write https://; http is for loopback only",
        ),
        ("https://trust", "ftp://trust", "write https://"),
        ("https://trust", "https://me:pw@trust", "take out the user name"),
        ("example.com\n", "example.com/?a=b\n", "take out what follows"),
        (
            "https://trust.example.com",
            "trust.example.com",
            "write https://host",
        ),
        (
            &key,
            &format!("{key}\n      maxStaleness: 12d"),
            "\"12d\" is not a duration",
        ),
        (
            &key,
            &format!("{key}\n      maxStaleness: 8785h"),
            "at most 366 days",
        ),
        (
            &key,
            &format!("{key}\n      maxStaleness: 18446744073709551615h"),
            "is not a duration",
        ),
        (
            &key,
            &format!("{key}\n      signers: [{{name: Bob}}]"),
            "signers[0].name: \"Bob\" is not a signer",
        ),
        (
            &key,
            &format!("{key}\n      signers: [{{name: releases}}]"),
            "and not \"releases\"",
        ),
        (
            &key,
            &format!("{key}\n      signers: [{{name: a}}, {{name: a}}]"),
            "signers[1].name: \"a\" is there twice",
        ),
        (
            &key,
            &format!("{key}\n      credentials: {{secretRef: {{name: s}}}}"),
            "credentials.secretRef: only in the cluster: in a policy file write credentials.dockerConfig",
        ),
        (
            &key,
            &format!("{key}\n      credentials: {{}}"),
            "needs exactly one of \"dockerConfig\" and \"secretRef\"",
        ),
        (
            &key,
            &format!("{key}\n      ca: {{configMapRef: {{name: s}}}}"),
            "ca.configMapRef: only in the cluster: in a policy file write ca.pem",
        ),
    ]);
}

#[test]
fn rules_that_could_not_decide_are_refused() {
    each_is_refused(&[
        (
            "anyOf: [acme]",
            "anyOf: [acmee]",
            r#"spec.rules[0].verify.anyOf[0]: this policy defines no verifier "acmee", did you mean "acme"?"#,
        ),
        (
            "anyOf: [acme]",
            "anyOf: [acme, acme]",
            "anyOf[1]: \"acme\" is there twice",
        ),
        (
            "anyOf: [acme]",
            "anyOf: []",
            "anyOf: must have 1 to 8 items, has 0",
        ),
        (
            "anyOf: [acme]",
            "anyOf: [acme], allOf: [acme]",
            "exactly one of \"anyOf\" and \"allOf\"",
        ),
        (
            "verify: {anyOf: [acme]}",
            "deny: {message: no}\n    allow: {reason: so}",
            "spec.rules[0]: rule 1 needs exactly one of \"verify\", \"allow\" and \"deny\", has 2",
        ),
        ("    verify: {anyOf: [acme]}\n", "", "has 0"),
        (
            "verify: {anyOf: [acme]}",
            "allow: {reason: so}\n    digests: Require",
            "spec.rules[0].digests: \"digests\" goes with \"verify\" only",
        ),
        (
            "images: [\"**\"]\n",
            "images: [\"a/b:1\"]\n    digests: Allow\n",
            "spec.rules[0].images[0]: \"digests: Allow\" lets any digest pass, whatever tag is written before it",
        ),
        (
            "[\"**\"]",
            "[\"a/***\"]",
            "spec.rules[0].images[0]: \"**\" stands for whole segments",
        ),
        ("[\"**\"]", "[]", "images: must have 1 to 32 items"),
    ]);
}

#[test]
fn everything_that_is_wrong_is_told_at_once_in_the_order_of_files_and_lines() {
    let broken = honest()
        .replace("spec:", "spec:\n  mood: Audit")
        .replace("metadata:", "metadaten: {}\nmetadata:");
    let other = honest().replace("acme]", "nobody]").replace("https", "http");
    let both = format!("{broken}---\n{other}");
    let files = [
        ("b.yaml", "}"),
        ("a.yaml", both.as_str()),
        ("c.yaml", "# nothing\n"),
    ];
    let files = files.map(|(file, text)| (PathBuf::from(file), text.to_owned()));
    let errors = PolicySet::parse(files).unwrap_err();
    let places: Vec<_> = errors.iter().map(|error| error.place.to_string()).collect();
    assert_eq!(
        places,
        [
            "a.yaml:3: document 1: metadaten",
            "a.yaml:6: document 1: spec.mood",
            "a.yaml:23: document 2: spec.verifiers[0].notary.server",
            "a.yaml:27: document 2: spec.rules[0].verify.anyOf[0]",
            "b.yaml:1",
            "c.yaml",
        ]
    );
}

#[test]
fn two_policies_of_one_name_are_refused_unless_their_kinds_or_namespaces_differ() {
    let namespaced = |namespace: &str| {
        let metadata = format!("{{name: default, namespace: {namespace}}}");
        honest()
            .replace("{name: default}", &metadata)
            .replace("ClusterTrustPolicy", "TrustPolicy")
    };
    let files = [honest(), namespaced("a"), namespaced("b")].join("---\n");
    let set = parse(&files).unwrap();
    let names: Vec<_> = set
        .policies()
        .iter()
        .map(|policy| policy.name.to_string())
        .collect();
    assert_eq!(names, ["default", "a/default", "b/default"]);
    let errors = parse(&[honest(), honest()].join("---\n")).unwrap_err();
    assert!(
        errors[0].contains("another policy has this kind and name (/etc/policies/p.yaml:1)"),
        "{errors:?}"
    );
}

#[test]
fn the_same_policy_makes_equal_verifiers_however_its_keys_are_folded() {
    let folded = honest().replace("-----AAAA-----", "-----\\n A A\\nAA \\n-----");
    assert_ne!(folded, honest());
    let verifier = |text: &str| Arc::clone(parse(text).unwrap().verifiers().next().unwrap().1);
    assert_eq!(verifier(&honest()), verifier(&folded));
    assert_ne!(verifier(&honest()), verifier(&honest().replace("AAAA", "AAAB")));
}

#[test]
fn durations_add_up() {
    for (text, seconds) in [
        ("0s", 0),
        ("90m", 5400),
        ("12h", 43200),
        ("1h30m", 5400),
        ("1h1m1s", 3661),
        ("8784h", 31_622_400),
    ] {
        let root = "      root: ";
        let text = honest().replace(root, &format!("      maxStaleness: {text}\n{root}"));
        assert_eq!(
            notary(&parse(&text).unwrap()).max_staleness.as_secs(),
            seconds,
            "{text}"
        );
    }
}

#[test]
fn hostile_yaml_is_refused_in_time() {
    let deep = format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000));
    let bomb: String = (1..40).fold("a0: &a0 [x, x]\n".to_owned(), |text, i| {
        let before = i - 1;
        format!("{text}a{i}: &a{i} [*a{before}, *a{before}]\n")
    });
    let long = " ".repeat(usize::try_from(document::MAX_FILE_BYTES).unwrap() + 1);
    for (attack, text) in [("deep", deep), ("bomb", bomb), ("long", long)] {
        assert!(parse(&text).is_err(), "{attack}");
    }
}

fn rules(patterns: &[Vec<String>]) -> String {
    use std::fmt::Write as _;
    let mut text = honest();
    text.truncate(text.find("  - images").unwrap());
    for images in patterns {
        let _ = write!(text, "  - images: {images:?}\n    deny: {{message: no}}\n");
    }
    text
}

#[test]
fn ties_are_refused_and_name_both_rules() {
    for (one, two, tie) in [
        ("a.io/x", "a.io/x", true),
        ("nginx", "docker.io/library/nginx", true),
        ("a.io/x*", "a.io/*x", false),
        ("a.io/*x", "a.io/*y", false),
        ("a.io/*x*", "a.io/*y*", true),
        ("*.a.io/**", "*.b.io/**", false),
        ("a.io/x:1*", "a.io/x:2*", false),
        ("a.io/x:*1", "a.io/x:*2", false),
        ("a.io/x:*1*", "a.io/x:*2*", true),
        ("a.io/**", "a.io/*", false),
    ] {
        let found = parse(&rules(&[vec![one.to_owned()], vec![two.to_owned()]]));
        assert_eq!(found.is_err(), tie, "{one} and {two}: {found:?}");
        if let Err(errors) = found {
            assert!(
                errors[0].contains("spec.rules[1].images[0]: rules 1 and 2 tie"),
                "{errors:?}"
            );
        }
        assert!(
            parse(&rules(&[vec![one.to_owned(), two.to_owned()]])).is_ok(),
            "one rule cannot tie with itself"
        );
    }
}

#[test]
fn patterns_made_to_be_compared_for_ever_are_refused() {
    let images = |rule: usize| {
        (0..32)
            .map(|i| format!("a.io/*{}", format!("{:0>5}*", rule * 32 + i).repeat(30)))
            .collect::<Vec<_>>()
    };
    let errors = parse(&rules(&(0..128).map(images).collect::<Vec<_>>())).unwrap_err();
    assert!(
        errors
            .iter()
            .any(|error| error.contains("ties cannot be ruled out") || error.contains("tie")),
        "{errors:?}"
    );
}

proptest! {
    #[test]
    fn the_winner_is_unique_whenever_a_policy_compiles(
        patterns in prop::collection::vec(
            prop::collection::vec("(a\\.io|\\*)(/([ab]|\\*|\\*\\*)){1,2}(:[12*])?", 1..3), 1..5),
        image in "a\\.io(/[ab]){1,2}(:[12])",
    ) {
        let image = Reference::parse(&image).unwrap();
        if let Ok(set) = parse(&rules(&patterns)) {
            let matching: Vec<_> = patterns
                .iter()
                .enumerate()
                .flat_map(|(rule, images)| images.iter().map(move |text| (rule, Pattern::parse(text).unwrap())))
                .filter(|(_, pattern)| pattern.matches(&image))
                .map(|(rule, pattern)| (pattern.specificity(), rule))
                .collect();
            let best = matching.iter().map(|(specificity, _)| specificity).max();
            let winners: BTreeSet<_> =
                matching.iter().filter(|(specificity, _)| Some(specificity) == best).map(|(_, rule)| rule + 1).collect();
            prop_assert!(winners.len() <= 1, "{patterns:?} {image}");
            let requirement = &set.select("shop", &BTreeMap::new(), &image)[0];
            prop_assert_eq!(requirement.rule, winners.first().copied());
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}|([a-zA-Z:{}\\[\\]*&\"' \n-]){0,200}") {
        let _ = parse(&text);
        let _ = parse(&honest().replace("acme", &text));
    }
}
