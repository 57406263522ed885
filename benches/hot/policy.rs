//! Policies, and the demand they make of one image.

use std::collections::BTreeMap;
use std::path::PathBuf;

use countersign::policy::{PolicySet, Requirement};
use countersign::reference::Reference;
use divan::black_box;
use serde_json::{Value, json};

/// Most rules of one policy.
const RULES: usize = 100;

/// One policy for each `spec`.
pub fn of(specs: &[Value]) -> PolicySet {
    let files = specs.iter().enumerate().map(|(number, spec)| {
        let policy = json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy",
            "metadata": {"name": format!("policy-{number}")}, "spec": spec,
        });
        (PathBuf::from(format!("{number}.yaml")), policy.to_string())
    });
    PolicySet::parse(files).unwrap()
}

/// Policies with so many rules in all, each for another team.
pub fn with_rules(rules: usize) -> PolicySet {
    let rule = |number: &usize| json!({"images": [format!("registry.example.com/team{number}/**")], "allow": {"reason": "measured"}});
    let numbers: Vec<_> = (1..=rules).collect();
    let specs: Vec<_> = numbers
        .chunks(RULES)
        .map(|numbers| json!({"rules": numbers.iter().map(rule).collect::<Vec<_>>()}))
        .collect();
    of(&specs)
}

/// What is demanded of an image of the first team.
pub fn select(policies: &PolicySet) -> Vec<Requirement> {
    let image = Reference::parse("registry.example.com/team1/app:1.0").unwrap();
    policies.select("shop", &BTreeMap::new(), black_box(&image))
}
