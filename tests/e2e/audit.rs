//! Namespaces that only watch.

use std::time::Duration;

use serde_json::Value;

use crate::objects::pod;
use crate::process::{eventually, text};
use crate::world::{cluster, front, trust};

const WRITTEN: Duration = Duration::from_secs(10);

#[test]
fn audit_mode_admits_unchanged_and_says_what_it_would_have_denied() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "audited");
    trust.release(&repository, "1.0", "audited", None);
    front().namespace("audited", "audit");
    let (signed, unsigned) = (
        format!("{}:1.0", repository.gun),
        format!("{}:2.0", repository.gun),
    );
    for (image, warns) in [(&signed, false), (&unsigned, true)] {
        let output = cluster().kubectl_with(&["create", "-o", "json"], &pod("audited", image));
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        let stored: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(stored["spec"]["containers"][0]["image"], image.as_str());
        let warned = said.contains("Warning: ") && said.contains("tag 2.0 is not signed");
        assert_eq!(warned, warns, "{image}: {said}");
    }
    await_decisions("audited", "audit", &["allowed", "would-deny"]);
}

#[test]
fn every_decision_is_in_the_audit_log() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "logged");
    trust.release(&repository, "1.0", "logged", None);
    front().namespace("logged", "enforce");
    cluster().create(&pod("logged", &format!("{}:1.0", repository.gun)));
    cluster().refusal(&pod("logged", &format!("{}:2.0", repository.gun)));
    await_decisions("logged", "validate", &["allowed", "denied"]);
    let events = cluster().audit_events("logged");
    let annotations = events.iter().filter_map(|event| event["annotations"].as_object());
    let ours: Vec<_> = annotations
        .flatten()
        .filter_map(|(key, value)| Some((key.split_once(".countersign.dev/")?, value.as_str()?)))
        .collect();
    let named = |wanted| ours.iter().any(|((_, key), _)| *key == wanted);
    assert!(
        ["decision", "policy", "images"].into_iter().all(named),
        "{ours:?}"
    );
    for ((entry, key), value) in &ours {
        assert!(["mutate", "validate", "advise"].contains(entry), "{entry}");
        assert!(["decision", "policy", "images", "error"].contains(key), "{key}");
        assert!(value.len() <= 1024, "{value}");
    }
}

/// Waits for the annotations `decision` of one webhook entry, in the order of the requests. The API server may write
/// an event after it has answered.
fn await_decisions(namespace: &str, entry: &str, expected: &[&str]) {
    let key = format!("{entry}.countersign.dev/decision");
    eventually("the decisions are in the audit log", WRITTEN, || {
        let events = cluster().audit_events(namespace);
        let decisions: Vec<_> = events
            .iter()
            .filter_map(|event| event["annotations"][&key].as_str())
            .collect();
        (decisions == expected).then_some(())
    });
}
