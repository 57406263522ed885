//! Policy files: read or refused with findings, and what was read selects without a panic.

use std::collections::BTreeMap;
use std::path::PathBuf;

use countersign::policy::PolicySet;
use countersign::reference::Reference;

const IMAGES: [&str; 3] = [
    "nginx",
    "registry.example.com:5000/team/app:1.0",
    "registry.k8s.io/pause:3.10",
];

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match PolicySet::parse([(PathBuf::from("policy.yaml"), text.to_owned())]) {
        Ok(policies) => select(&policies),
        Err(findings) => {
            assert!(!findings.is_empty(), "refused without a finding");
            for finding in findings {
                assert!(!finding.to_string().is_empty());
            }
        }
    }
}

/// As many answers as policies apply, whatever the image.
fn select(policies: &PolicySet) {
    let labels = BTreeMap::new();
    for namespace in ["", "shop", "kube-system"] {
        let answers = IMAGES.map(|image| {
            policies
                .select(namespace, &labels, &Reference::parse(image).unwrap())
                .len()
        });
        assert!(answers.iter().all(|count| *count == answers[0]));
        assert!(answers[0] <= policies.policies().len());
        policies.pin_workloads(namespace, &labels);
    }
}
