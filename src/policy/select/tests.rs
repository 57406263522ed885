use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

const HEAD: &str = "apiVersion: countersign.dev/v1alpha1\n";

fn set(documents: &[&str]) -> PolicySet {
    let text = documents
        .iter()
        .map(|document| format!("{HEAD}{document}\n"))
        .collect::<Vec<_>>()
        .join("---\n");
    PolicySet::parse([(PathBuf::from("p.yaml"), text)]).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn team() -> PolicySet {
    set(&[
        "kind: TrustPolicy
metadata: {name: strict, namespace: shop}
spec: {rules: [{images: [nginx], allow: {reason: ours}}]}",
        "kind: ClusterTrustPolicy
metadata: {name: web}
spec:
  mode: Audit
  workloads: Deny
  pinWorkloads: true
  namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system]}]}
  rules: [{images: [\"**\"], deny: {message: not here}}, {images: [\"docker.io/**\"], allow: {reason: hub}}]",
        "kind: ClusterTrustPolicy
metadata: {name: all}
spec: {rules: [{images: [\"**\"], allow: {reason: so}}]}",
    ])
}

fn demands(namespace: &str, image: &str) -> Vec<String> {
    let image = Reference::parse(image).unwrap();
    team()
        .select(namespace, &BTreeMap::new(), &image)
        .iter()
        .map(|requirement| {
            let demand = match &requirement.demand {
                Demand::Allow { reason } => reason,
                Demand::Deny { message } => message,
                Demand::Uncovered => "uncovered",
                Demand::Verify(_) => "verify",
            };
            format!("{} {:?} {demand}", requirement.policy, requirement.rule)
        })
        .collect()
}

#[test]
fn every_policy_that_applies_makes_its_demand_in_a_stable_order() {
    for (namespace, image, want) in [
        (
            "shop",
            "nginx",
            vec!["all Some(1) so", "web Some(2) hub", "shop/strict Some(1) ours"],
        ),
        (
            "shop",
            "quay.io/a/b",
            vec![
                "all Some(1) so",
                "web Some(1) not here",
                "shop/strict None uncovered",
            ],
        ),
        ("other", "nginx", vec!["all Some(1) so", "web Some(2) hub"]),
        ("kube-system", "quay.io/a/b", vec!["all Some(1) so"]),
    ] {
        assert_eq!(demands(namespace, image), want, "{image} in {namespace}");
    }
}

#[test]
fn mode_workloads_and_pinning_are_each_policy_s_own() {
    let image = Reference::parse("nginx").unwrap();
    let requirements = team().select("shop", &BTreeMap::new(), &image);
    let modes: Vec<_> = requirements
        .iter()
        .map(|found| (found.mode, found.workloads))
        .collect();
    assert_eq!(
        modes,
        [
            (Mode::Enforce, Workloads::Advise),
            (Mode::Audit, Workloads::Deny),
            (Mode::Enforce, Workloads::Advise),
        ]
    );
    assert!(team().pin_workloads("shop", &BTreeMap::new()));
    assert!(!team().pin_workloads("kube-system", &BTreeMap::new()));
}

/// CRD-20, checklist 51: alone it would admit what no policy admits.
#[test]
fn a_namespace_s_own_policy_has_no_say_where_no_cluster_policy_applies() {
    let own = "kind: TrustPolicy
metadata: {name: own, namespace: shop}
spec: {mode: Audit, rules: [{images: [\"**\"], allow: {reason: ours}}]}";
    let elsewhere = "kind: ClusterTrustPolicy
metadata: {name: elsewhere}
spec:
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}
  rules: [{images: [\"**\"], allow: {reason: so}}]";
    let image = Reference::parse("nginx").unwrap();
    for documents in [&[own] as &[_], &[own, elsewhere]] {
        let set = set(documents);
        assert!(set.select("shop", &BTreeMap::new(), &image).is_empty());
        assert_eq!(set.mode("shop", &BTreeMap::new()), Mode::Enforce);
    }
}

/// Design §3: an image that is no reference has no rule, but it is in a namespace.
#[test]
fn a_namespace_is_watched_if_every_policy_that_applies_there_watches() {
    let policy = |name: &str, mode: &str, namespace: &str| {
        format!(
            "kind: ClusterTrustPolicy
metadata: {{name: {name}}}
spec:
  mode: {mode}
  namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}
  rules: [{{images: [\"**\"], allow: {{reason: so}}}}]"
        )
    };
    let watching = [
        policy("a", "Audit", "shop"),
        policy("b", "Audit", "both"),
        policy("c", "Enforce", "both"),
    ];
    let watching = set(&watching.each_ref().map(String::as_str));
    for (namespace, want) in [
        ("shop", Mode::Audit),
        ("both", Mode::Enforce),
        ("none", Mode::Enforce),
    ] {
        assert_eq!(watching.mode(namespace, &BTreeMap::new()), want, "{namespace}");
    }
}

/// A tag before a digest is a claim that the runtime never looks at.
#[test]
fn a_rule_that_allows_tags_does_not_allow_any_digest_under_their_names() {
    let set = set(&["kind: ClusterTrustPolicy
metadata: {name: default}
spec:
  rules:
  - {images: [\"acme/app\"], deny: {message: signed images only}}
  - {images: [\"acme/app:dev-*\"], allow: {reason: under development}}
  - {images: [\"acme/app:1-*\"], deny: {message: withdrawn}}"]);
    let digest = format!("@sha256:{}", "ab".repeat(32));
    for (image, rule) in [
        ("acme/app:dev-1".to_owned(), 2),
        (format!("acme/app:dev-1{digest}"), 1),
        (format!("acme/app{digest}"), 1),
        (format!("acme/app:1-1{digest}"), 3),
    ] {
        let reference = Reference::parse(&image).unwrap();
        let found = set.select("shop", &BTreeMap::new(), &reference);
        assert_eq!(found[0].rule, Some(rule), "{image}");
    }
}

#[test]
fn no_policy_makes_no_demand() {
    let image = Reference::parse("nginx").unwrap();
    assert!(
        PolicySet::default()
            .select("shop", &BTreeMap::new(), &image)
            .is_empty()
    );
}

proptest! {
    #[test]
    fn select_never_panics(
        namespace in "\\PC{0,20}",
        labels in prop::collection::btree_map("\\PC{0,20}", "\\PC{0,20}", 0..4),
        image in "[a-z]{1,8}(\\.io)?(/[a-z]{1,8}){0,3}(:[a-z0-9]{1,8})?(@sha256:[0-9a-f]{64})?",
    ) {
        if let Ok(image) = Reference::parse(&image) {
            let found = team().select(&namespace, &labels, &image);
            // Policy `all` governs every namespace.
            prop_assert!(!found.is_empty());
        }
    }
}
