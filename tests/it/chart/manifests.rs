//! The plain manifests, which are the chart's defaults and three variations of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use crate::manifests::{entries, entry, must_be_safe, objects, of_kind, only, pod_specs, rules, words};

const NAMESPACE: &str = "countersign-system";
const ALL: [&str; 4] = [
    "base",
    "overlays/ha",
    "overlays/audit-only",
    "overlays/cert-manager",
];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn manifests(folder: &str) -> Vec<Value> {
    objects(&read(&format!("manifests/{folder}/install.yaml")))
}

#[test]
fn every_variation_is_safe() {
    for folder in ALL {
        must_be_safe(&manifests(folder), NAMESPACE);
    }
}

/// Templates turn YAML into numbers and text again.
#[test]
fn the_rendered_definitions_are_those_of_the_program() {
    let read_one =
        |value: &Value| -> CustomResourceDefinition { serde_json::from_value(value.clone()).unwrap() };
    let rendered = objects(&read("manifests/crds/crds.yaml"));
    assert!(rendered.len() >= 2);
    for definition in rendered.iter().map(read_one) {
        let name = definition.metadata.name.unwrap();
        let printed = objects(&read(&format!("charts/countersign/files/crds/{name}.yaml")));
        assert!(
            definition.spec == read_one(&printed[0]).spec,
            "{name}: run `make chart`"
        );
    }
}

#[test]
fn entries_fail_closed_where_they_enforce_and_open_where_they_advise() {
    let base = manifests("base");
    let found: Vec<_> = entries(&base)
        .into_iter()
        .map(|entry| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let service = &entry["clientConfig"]["service"];
            let timeout = entry["timeoutSeconds"].as_i64().unwrap();
            (
                text(&entry["name"]),
                text(&service["path"]),
                text(&entry["failurePolicy"]),
                timeout,
            )
        })
        .collect();
    let wanted = [
        ("mutate", "/mutate", "Ignore", 10),
        ("validate", "/validate", "Fail", 10),
        ("audit", "/audit", "Ignore", 5),
        ("audit-workloads", "/audit", "Ignore", 5),
        ("advise", "/advise", "Ignore", 5),
        ("policy", "/policy", "Ignore", 5),
    ];
    let wanted = wanted.map(|(name, path, policy, timeout)| {
        (
            format!("{name}.countersign.dev"),
            path.to_owned(),
            policy.to_owned(),
            timeout,
        )
    });
    assert_eq!(found, wanted);
    assert_eq!(entry(&base, "mutate")["reinvocationPolicy"], "IfNeeded");
    // In audit mode nothing fails for want of an answer.
    for entry in entries(&manifests("overlays/audit-only")) {
        assert_eq!(entry["failurePolicy"], "Ignore", "{}", entry["name"]);
    }
}

/// Checklist 36.
#[test]
fn a_drain_takes_one_replica_at_a_time() {
    for folder in ALL {
        let manifests = manifests(folder);
        let budget = &only(&manifests, "PodDisruptionBudget")["spec"];
        assert_eq!(budget["maxUnavailable"], 1, "{folder}");
        assert_eq!(budget["unhealthyPodEvictionPolicy"], "AlwaysAllow", "{folder}");
        assert_eq!(budget.get("minAvailable"), None, "{folder}");
        let deployment = &only(&manifests, "Deployment")["spec"];
        assert_eq!(budget["selector"], deployment["selector"], "{folder}");
        let rolling = &deployment["strategy"]["rollingUpdate"];
        assert_eq!(rolling, &json!({"maxUnavailable": 0, "maxSurge": 1}), "{folder}");
        let scaled = !of_kind(&manifests, "HorizontalPodAutoscaler").is_empty();
        assert_eq!(deployment.get("replicas").is_none(), scaled, "{folder}");
    }
}

/// Checklist 54.
#[test]
fn secrets_are_read_in_the_own_namespace_only() {
    for folder in ALL {
        let manifests = manifests(folder);
        for (role, rule) in rules(&manifests, "ClusterRole") {
            assert!(!words(&rule["resources"]).contains(&"secrets"), "{role}");
        }
        for role in of_kind(&manifests, "Role") {
            assert_eq!(role["metadata"]["namespace"], NAMESPACE, "{folder}");
        }
    }
}

#[test]
fn a_termination_leaves_time_to_drain() {
    for pod in pod_specs(&manifests("base")) {
        let grace = pod["terminationGracePeriodSeconds"].as_i64().unwrap();
        let arguments = words(&pod["containers"][0]["args"]);
        assert!(arguments.contains(&"--drain-delay=10s"), "{arguments:?}");
        // Delay, the longest timeoutSeconds, and ten more (AVL-20).
        assert!(grace >= 10 + 10 + 10, "{grace}");
    }
}

/// AVL-34.
#[test]
fn the_guard_covers_every_way_to_a_label() {
    let guard = objects(&read("manifests/guard/guard.yaml"));
    let spec = &only(&guard, "ValidatingAdmissionPolicy")["spec"];
    assert_eq!(spec["failurePolicy"], "Fail");
    let rule = &spec["matchConstraints"]["resourceRules"][0];
    assert_eq!(
        words(&rule["resources"]),
        ["namespaces", "namespaces/status", "namespaces/finalize"]
    );
    assert_eq!(words(&rule["operations"]), ["CREATE", "UPDATE"]);
    let binding = only(&guard, "ValidatingAdmissionPolicyBinding");
    assert_eq!(words(&binding["spec"]["validationActions"]), ["Deny"]);
}

#[test]
fn the_program_knows_every_flag_it_is_started_with() {
    use clap::CommandFactory as _;
    let commands = countersign::cli::Cli::command();
    let flags: BTreeSet<_> = commands
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .filter_map(clap::Arg::get_long)
        .collect();
    for folder in ALL {
        for pod in pod_specs(&manifests(folder)) {
            for argument in words(&pod["containers"][0]["args"]) {
                let Some(flag) = argument.strip_prefix("--") else {
                    continue;
                };
                let flag = flag.split('=').next().unwrap();
                assert!(flags.contains(flag), "{folder}: there is no --{flag}");
            }
        }
    }
}

/// Names of series of this program's or of the API server's.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let metrics = words.filter(|word| {
        ["countersign_", "process_", "apiserver_"]
            .iter()
            .any(|prefix| word.starts_with(prefix))
    });
    metrics
        .map(|name| {
            let series = ["_bucket", "_count", "_sum"].iter();
            let base = series.fold(name, |name, suffix| name.strip_suffix(suffix).unwrap_or(name));
            // A counter of the API server's is really called that.
            if name.starts_with("apiserver_") {
                name
            } else {
                base
            }
            .to_owned()
        })
        .collect()
}

/// Checklist 56. That the documented metrics exist is shown by `docs::documented_metrics_are_those_there_are`.
#[test]
fn dashboard_and_alerts_use_only_metrics_that_exist() {
    let documented = metrics(&read("docs/operating.md"));
    // What the API server counts (OBS-03).
    let apiserver = [
        "apiserver_admission_webhook_rejection_count",
        "apiserver_admission_webhook_fail_open_count",
    ];
    for file in ["files/dashboard.json", "templates/prometheusrule.yaml"] {
        let used = metrics(&read(&format!("charts/countersign/{file}")));
        assert!(used.len() > 10, "{file}");
        for name in used {
            let known = documented.contains(&name) || apiserver.contains(&name.as_str());
            assert!(known, "{file}: {name}");
        }
    }
}

#[test]
fn every_alert_is_explained() {
    let alerts = read("charts/countersign/templates/prometheusrule.yaml");
    let page = read("docs/alerts.md");
    let headings: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let names: BTreeSet<_> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert_eq!(names, headings);
    for name in names {
        let anchor = format!("runbook_url: {{{{ .runbookUrl }}}}{}\n", name.to_lowercase());
        assert!(alerts.contains(&anchor), "{name}");
    }
}

#[test]
fn the_image_holds_a_program_and_no_shell() {
    let file = read("Dockerfile");
    let (_, last) = file.rsplit_once("\nFROM ").unwrap();
    assert!(last.starts_with("scratch\n"), "{last}");
    assert!(last.contains("\nUSER 65532:65532\n"), "{last}");
    assert!(last.contains("\nENTRYPOINT [\"/countersign\"]\n"), "{last}");
    assert!(!last.contains("\nRUN "), "{last}");
    assert!(file.contains(&format!("ARG VERSION={}\n", env!("CARGO_PKG_VERSION"))));
}
