//! Whether the cluster still calls us for what it should: whoever may write webhook configurations may switch enforcement
//! off, and nothing else would show it (AVL-36).

use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhook,
    ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{Api, Client};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, error};

use super::REQUEST;
use super::signs::{Hooks, Sign};

/// What was weakened is told after this at the latest.
const EVERY: Duration = Duration::from_secs(30);

/// What the entry that matters must have, of either kind.
struct Entry {
    name: String,
    failure_policy: Option<String>,
    rules: Vec<RuleWithOperations>,
    objects: Option<LabelSelector>,
    path: Option<String>,
}

/// Looks at the configurations called `name`, of both kinds, again and again. `fail_closed` is whether the one that
/// validates must deny while nobody answers.
pub(super) async fn watch(client: Client, name: String, fail_closed: bool, hooks: Hooks) -> Infallible {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tell("mutating", &name, mutating(&client, &name).await, &hooks);
        tell(
            "validating",
            &name,
            validating(&client, &name, fail_closed).await,
            &hooks,
        );
    }
}

/// What was found; an outage is no finding.
fn tell(kind: &'static str, name: &str, found: Option<Vec<String>>, hooks: &Hooks) {
    let Some(faults) = found else {
        debug!(kind, name, "a webhook configuration could not be looked at");
        return;
    };
    let weakened = !faults.is_empty();
    if weakened {
        error!(
            kind,
            name,
            faults = faults.join("; "),
            "a webhook configuration lets through what it should not"
        );
    }
    (hooks.tell)(Sign::Registration { kind, weakened });
}

async fn mutating(client: &Client, name: &str) -> Option<Vec<String>> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let found = timeout(REQUEST, api.get_opt(name)).await.ok()?.ok()?;
    let entries = found.map(|found| {
        let entries = found.webhooks.into_iter().flatten();
        let entry = |entry: MutatingWebhook| Entry {
            name: entry.name,
            failure_policy: entry.failure_policy,
            rules: entry.rules.unwrap_or_default(),
            objects: entry.object_selector,
            path: path(entry.client_config),
        };
        entries.map(entry).collect::<Vec<_>>()
    });
    Some(faults(
        "mutate.countersign.dev",
        "/mutate",
        false,
        entries.as_deref(),
    ))
}

async fn validating(client: &Client, name: &str, fail_closed: bool) -> Option<Vec<String>> {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let found = timeout(REQUEST, api.get_opt(name)).await.ok()?.ok()?;
    let entries = found.map(|found| {
        let entries = found.webhooks.into_iter().flatten();
        let entry = |entry: ValidatingWebhook| Entry {
            name: entry.name,
            failure_policy: entry.failure_policy,
            rules: entry.rules.unwrap_or_default(),
            objects: entry.object_selector,
            path: path(entry.client_config),
        };
        entries.map(entry).collect::<Vec<_>>()
    });
    Some(faults(
        "validate.countersign.dev",
        "/validate",
        fail_closed,
        entries.as_deref(),
    ))
}

/// The path that is called.
fn path(config: WebhookClientConfig) -> Option<String> {
    match config.url {
        Some(url) => url.parse::<url::Url>().ok().map(|url| url.path().to_owned()),
        None => config.service?.path,
    }
}

/// What is wrong with the entry `name` among those of a configuration; `None` if there is no configuration.
fn faults(name: &str, wanted: &str, fail_closed: bool, entries: Option<&[Entry]>) -> Vec<String> {
    let Some(entries) = entries else {
        return vec!["it is not there: nothing is called".to_owned()];
    };
    let Some(entry) = entries.iter().find(|entry| entry.name == name) else {
        return vec![format!("it has no entry {name}")];
    };
    let mut faults = Vec::new();
    // The API server's default is Fail.
    let ignores = entry
        .failure_policy
        .as_ref()
        .is_some_and(|policy| policy != "Fail");
    if fail_closed && ignores {
        faults.push(format!(
            "failurePolicy of {name} is not Fail: whoever keeps it from answering runs anything"
        ));
    }
    for (resource, operations) in [
        ("pods", ["CREATE", "UPDATE"].as_slice()),
        ("pods/ephemeralcontainers", &["UPDATE"]),
    ] {
        for operation in operations {
            if !entry.rules.iter().any(|rule| covers(rule, resource, operation)) {
                faults.push(format!("rules of {name} leave out {operation} of {resource}"));
            }
        }
    }
    let chosen = |selector: &LabelSelector| {
        selector
            .match_labels
            .as_ref()
            .is_some_and(|labels| !labels.is_empty())
            || selector
                .match_expressions
                .as_ref()
                .is_some_and(|labels| !labels.is_empty())
    };
    if entry.objects.as_ref().is_some_and(chosen) {
        faults.push(format!(
            "objectSelector of {name} leaves out Pods by labels, which are their authors' to write"
        ));
    }
    if entry.path.as_deref() != Some(wanted) {
        faults.push(format!("{name} does not call {wanted}"));
    }
    faults
}

fn covers(rule: &RuleWithOperations, resource: &str, operation: &str) -> bool {
    let lists = |list: &Option<Vec<String>>, words: &[&str]| {
        list.iter().flatten().any(|word| words.contains(&word.as_str()))
    };
    let all = if resource.contains('/') {
        ["pods/*", "*/*"]
    } else {
        ["*", "*/*"]
    };
    lists(&rule.api_groups, &["", "*"])
        && lists(&rule.api_versions, &["v1", "*"])
        && lists(&rule.operations, &[operation, "*"])
        && lists(&rule.resources, &[&[resource], all.as_slice()].concat())
        && rule.scope.as_deref().is_none_or(|scope| scope != "Cluster")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entry(change: impl FnOnce(&mut Value)) -> Entry {
        let mut value = json!({"failurePolicy": "Fail", "path": "/validate", "rules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"], "scope": "Namespaced"},
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods/ephemeralcontainers"]},
        ]});
        change(&mut value);
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        Entry {
            name: "validate.countersign.dev".to_owned(),
            failure_policy: text("failurePolicy"),
            rules: serde_json::from_value(value["rules"].clone()).unwrap(),
            objects: serde_json::from_value(value["objectSelector"].clone()).unwrap(),
            path: text("path"),
        }
    }

    fn found(entry: Entry) -> Vec<String> {
        faults("validate.countersign.dev", "/validate", true, Some(&[entry]))
    }

    #[test]
    fn an_entry_as_it_is_shipped_has_no_fault() {
        assert!(found(entry(|_| {})).is_empty());
        assert!(
            found(entry(|entry| entry["failurePolicy"] = Value::Null)).is_empty(),
            "the default is Fail"
        );
        let wide =
            json!([{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}]);
        assert!(found(entry(|entry| entry["rules"] = wide)).is_empty());
    }

    #[test]
    fn whatever_lets_pods_through_is_a_fault() {
        let missing =
            |entries: Option<&[Entry]>| faults("validate.countersign.dev", "/validate", true, entries);
        assert_eq!(missing(None), ["it is not there: nothing is called"]);
        assert_eq!(missing(Some(&[])), ["it has no entry validate.countersign.dev"]);
        for (fault, entry) in [
            (
                "failurePolicy",
                entry(|entry| entry["failurePolicy"] = json!("Ignore")),
            ),
            (
                "leave out UPDATE of pods/ephemeralcontainers",
                entry(|entry| drop(entry["rules"].as_array_mut().unwrap().pop())),
            ),
            (
                "leave out CREATE of pods",
                entry(|entry| entry["rules"][0]["operations"] = json!(["UPDATE"])),
            ),
            (
                "leave out CREATE of pods",
                entry(|entry| entry["rules"][0]["scope"] = json!("Cluster")),
            ),
            (
                "leave out CREATE of pods",
                entry(|entry| entry["rules"][0]["apiGroups"] = json!(["apps"])),
            ),
            (
                "objectSelector",
                entry(|entry| entry["objectSelector"] = json!({"matchLabels": {"a": "b"}})),
            ),
            (
                "does not call /validate",
                entry(|entry| entry["path"] = json!("/mutate")),
            ),
        ] {
            let found = found(entry);
            assert!(
                found.iter().any(|found| found.contains(fault)),
                "{fault}: {found:?}"
            );
        }
    }
}
