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
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{debug, error};

use super::REQUEST;
use super::signs::{Hooks, Sign};

/// What was weakened is told after this at the latest.
const EVERY: Duration = Duration::from_secs(30);
/// What stays wrong is logged as often as this (CRD-35).
const LOGGED: Duration = Duration::from_secs(60);

/// What the entry that matters must have, of either kind.
struct Entry {
    name: String,
    failure_policy: Option<String>,
    rules: Vec<RuleWithOperations>,
    objects: Option<LabelSelector>,
    path: Option<String>,
}

/// The entries of a configuration; `None` if there is no such object.
struct Seen(Option<Vec<Entry>>);

/// Looks at the configurations called `name`, of both kinds, again and again. `fail_closed` is whether the one that
/// validates must deny while nobody answers.
pub(super) async fn watch(client: Client, name: String, fail_closed: bool, hooks: Hooks) -> Infallible {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = [const { None }; 2];
    loop {
        ticks.tick().await;
        let [mutated, validated] = &mut told;
        let seen = in_time(mutating(&client, &name)).await;
        let wanted = ("mutate.countersign.dev", "/mutate", false);
        tell("mutating", &name, wanted, seen, &hooks, mutated);
        let seen = in_time(validating(&client, &name)).await;
        let wanted = ("validate.countersign.dev", "/validate", fail_closed);
        tell("validating", &name, wanted, seen, &hooks, validated);
    }
}

/// `None` if it could not be found out: an outage is no finding, nor is a right that is missing.
async fn in_time(looking: impl Future<Output = kube::Result<Seen>>) -> Option<Seen> {
    match timeout(REQUEST, looking).await {
        Ok(Ok(seen)) => Some(seen),
        Ok(Err(error)) => {
            debug!(%error, "a webhook configuration could not be looked at");
            None
        }
        Err(_) => {
            debug!("a webhook configuration could not be looked at: the API server does not answer");
            None
        }
    }
}

/// Tells what was found, and logs it when it changes and every [`LOGGED`]. `wanted` is the name of an entry, its path, and
/// whether it has to fail closed; `told` is what was logged last, and when.
fn tell(
    kind: &'static str,
    name: &str,
    wanted: (&str, &str, bool),
    seen: Option<Seen>,
    hooks: &Hooks,
    told: &mut Option<(String, Instant)>,
) {
    let Some(Seen(entries)) = seen else { return };
    let (entry, path, fail_closed) = wanted;
    let faults = faults(entry, path, fail_closed, entries.as_deref()).join("; ");
    (hooks.tell)(Sign::Registration {
        kind,
        present: entries.is_some(),
        weakened: !faults.is_empty(),
    });
    if faults.is_empty() {
        *told = None;
        return;
    }
    let lately = |(before, at): &(String, Instant)| *before == faults && at.elapsed() < LOGGED;
    if !told.as_ref().is_some_and(lately) {
        error!(
            kind,
            name, faults, "a webhook configuration lets through what it should not"
        );
        *told = Some((faults, Instant::now()));
    }
}

async fn mutating(client: &Client, name: &str) -> kube::Result<Seen> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let entry = |it: MutatingWebhook| {
        Entry::new(
            it.name,
            it.failure_policy,
            it.rules,
            it.object_selector,
            it.client_config,
        )
    };
    let found = api.get_opt(name).await?;
    let entries = found.map(|found| found.webhooks.into_iter().flatten().map(entry).collect());
    Ok(Seen(entries))
}

async fn validating(client: &Client, name: &str) -> kube::Result<Seen> {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let entry = |it: ValidatingWebhook| {
        Entry::new(
            it.name,
            it.failure_policy,
            it.rules,
            it.object_selector,
            it.client_config,
        )
    };
    let found = api.get_opt(name).await?;
    let entries = found.map(|found| found.webhooks.into_iter().flatten().map(entry).collect());
    Ok(Seen(entries))
}

impl Entry {
    fn new(
        name: String,
        failure_policy: Option<String>,
        rules: Option<Vec<RuleWithOperations>>,
        objects: Option<LabelSelector>,
        client: WebhookClientConfig,
    ) -> Self {
        Self {
            name,
            failure_policy,
            rules: rules.unwrap_or_default(),
            objects,
            path: path(client),
        }
    }
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
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tokio_util::task::TaskTracker;
    use tower_test::mock;

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

    #[tokio::test(start_paused = true)]
    async fn a_configuration_that_goes_is_told_and_an_outage_tells_nothing() {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let (signs, mut told) = tokio::sync::mpsc::unbounded_channel();
        let hooks = Hooks::new(
            move |sign| signs.send(sign).unwrap(),
            |_| unreachable!("no policy is asked about"),
        );
        let looking = watch(Client::new(service, "default"), "ours".to_owned(), true, hooks);
        // It ends with the runtime of its test.
        TaskTracker::new().spawn(looking);
        let absent =
            json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": ""});
        let broken =
            json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": ""});
        for (code, body, present) in [
            (200, json!({"metadata": {"name": "ours"}}), Some(true)),
            (403, broken, None),
            (404, absent, Some(false)),
        ] {
            for kind in ["mutating", "validating"] {
                let (request, send) = handle.next_request().await.unwrap();
                let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/ours");
                assert_eq!(request.uri().path(), path);
                let answer = Response::builder().status(code);
                send.send_response(answer.body(Body::from(body.to_string().into_bytes())).unwrap());
                if let Some(present) = present {
                    let weakened = true;
                    let want = Sign::Registration {
                        kind,
                        present,
                        weakened,
                    };
                    assert_eq!(told.recv().await, Some(want));
                }
            }
        }
        assert!(told.is_empty());
    }
}
