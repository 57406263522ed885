//! Policies, and the demand they make of one image.

use std::collections::BTreeMap;
use std::path::PathBuf;

use countersign::policy::{PolicySet, Requirement};
use countersign::reference::Reference;
use divan::black_box;
use serde_json::{Value, json};

/// The policy `spec`.
pub fn of(spec: &Value) -> PolicySet {
    let policy = json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy", "metadata": {"name": "default"},
        "spec": spec,
    });
    PolicySet::parse([(PathBuf::from("policy.yaml"), policy.to_string())]).unwrap()
}

/// One policy with so many rules, the last of which is for our image.
pub fn with_rules(rules: usize) -> PolicySet {
    let rule = |number: usize| json!({"images": [format!("registry.example.com/team{number}/**")], "allow": {"reason": "measured"}});
    let rules: Vec<_> = (1..=rules).map(rule).collect();
    of(&json!({"rules": rules}))
}

/// What is demanded of an image of the first team.
pub fn select(policies: &PolicySet) -> Vec<Requirement> {
    let image = Reference::parse("registry.example.com/team1/app:1.0").unwrap();
    policies.select("shop", &BTreeMap::new(), black_box(&image))
}
