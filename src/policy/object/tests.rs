use std::collections::BTreeMap;

use super::*;
use crate::policy::{Demand, Labels, Lookup, LookupError, Material, PolicySet};
use crate::reference::Reference;

const KEY: &str =
    "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaaaa\n-----END PUBLIC KEY-----\n";

/// A policy as the API server gives it: `acme` verifies `acme.example.com/**`, `other` verifies `other.example.com/**`,
/// plumbing is allowed.
fn object() -> Value {
    let verifier = |name: &str| json!({"name": name, "notary": {"root": {"keys": [KEY]}}});
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy",
        "metadata": {"name": "default", "uid": "u", "generation": 3, "managedFields": [{"manager": "kubectl"}]},
        "spec": {
            "mode": "Enforce",
            "verifiers": [verifier("acme"), verifier("other")],
            "rules": [
                {"images": ["acme.example.com/**"], "verify": {"anyOf": ["acme"]}},
                {"images": ["other.example.com/**"], "verify": {"allOf": ["other"]}},
                {"images": ["registry.k8s.io/**"], "allow": {"reason": "plumbing"}},
            ],
        },
        "status": {"conditions": [{"anything": "goes"}]},
    })
}

fn with(path: &str, value: Value) -> Value {
    let mut object = object();
    let (parent, field) = path.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap();
    match field.parse::<usize>() {
        Ok(index) => parent[index] = value,
        Err(_) => parent[field] = value,
    }
    object
}

fn compile(object: &Value) -> Compiled {
    compile_object(object, &Answers::new())
}

/// What is demanded of an image of each host in namespace `shop`: the first word of it, or the message of a denial.
fn demands(compiled: &Compiled) -> Vec<String> {
    let set = PolicySet::new([Arc::clone(&compiled.policy)]);
    let demand = |host: &str| {
        let image = Reference::parse(&format!("{host}/app:1")).unwrap();
        let labels = Labels::new();
        match set
            .select("shop", &labels, &image)
            .pop()
            .map(|found| found.demand)
        {
            Some(Demand::Deny { message }) => message.to_string(),
            Some(Demand::Verify(_)) => "verify".to_owned(),
            Some(Demand::Allow { .. }) => "allow".to_owned(),
            Some(Demand::Uncovered) => "uncovered".to_owned(),
            None => "nothing".to_owned(),
        }
    };
    [
        "acme.example.com",
        "other.example.com",
        "registry.k8s.io",
        "nobody.example.com",
    ]
    .map(demand)
    .to_vec()
}

#[test]
fn a_sound_policy_is_in_force_whatever_else_the_object_carries() {
    let compiled = compile(&object());
    assert_eq!(compiled.fault, None);
    assert_eq!(demands(&compiled), ["verify", "verify", "allow", "uncovered"]);
}

#[test]
fn a_broken_key_denies_the_images_of_its_verifier_and_no_others() {
    let compiled = compile(&with("/spec/verifiers/0/notary/root/keys/0", json!("no key")));
    let fault = compiled.fault.clone().unwrap();
    assert_eq!(fault.reason, "Invalid");
    assert!(
        fault
            .message
            .starts_with("spec.verifiers[0].notary.root.keys[0]: "),
        "{fault:?}"
    );
    let found = demands(&compiled);
    assert!(
        found[0].starts_with("verifier acme cannot be used: spec.verifiers[0]"),
        "{found:?}"
    );
    assert_eq!(found[1..], ["verify", "allow", "uncovered"]);
    let left: Vec<_> = compiled
        .policy
        .verifiers
        .iter()
        .map(|left| left.name.as_str())
        .collect();
    assert_eq!(left, ["other"]);
}

#[test]
fn a_policy_that_cannot_be_read_denies_everything_it_selects() {
    for (label, object) in [
        ("unknown field", with("/spec/rulez", json!([]))),
        ("no rules", with("/spec/rules", json!([]))),
        ("no spec", {
            let mut object = object();
            object["spec"].take();
            object
        }),
        ("bad pattern", with("/spec/rules/2/images/0", json!("a//b"))),
        (
            "verifier of no kind",
            with("/spec/verifiers/0", json!({"name": "acme"})),
        ),
        (
            "a tie",
            with("/spec/rules/2/images/0", json!("acme.example.com/**")),
        ),
        (
            "an unknown verifier",
            with("/spec/rules/0/verify/anyOf/0", json!("acmee")),
        ),
        (
            "another version",
            with("/apiVersion", json!("countersign.dev/v9")),
        ),
    ] {
        let compiled = compile(&object);
        assert_eq!(compiled.fault.as_ref().unwrap().reason, "Invalid", "{label}");
        for message in demands(&compiled) {
            assert!(
                message.starts_with("policy default cannot be used: "),
                "{label}: {message}"
            );
        }
        assert_eq!(compiled.policy.mode, Mode::Enforce, "{label}");
    }
}

#[test]
fn of_an_unreadable_policy_the_mode_and_a_sound_selector_still_count() {
    let broken = |selector: Value, mode: &str| {
        let mut object = with("/spec/rules", json!([]));
        object["spec"]["namespaceSelector"] = selector;
        object["spec"]["mode"] = json!(mode);
        compile(&object).policy
    };
    let governs = |policy: &Arc<Policy>, tier: &str| {
        let labels = Labels::from([("tier".to_owned(), tier.to_owned())]);
        let image = Reference::parse("a").unwrap();
        !PolicySet::new([Arc::clone(policy)])
            .select("shop", &labels, &image)
            .is_empty()
    };
    let sound = broken(json!({"matchLabels": {"tier": "web"}}), "Audit");
    assert_eq!(sound.mode, Mode::Audit);
    assert!(governs(&sound, "web") && !governs(&sound, "db"));
    for (label, selector) in [
        ("not a selector", json!("web")),
        (
            "in nothing",
            json!({"matchExpressions": [{"key": "tier", "operator": "In"}]}),
        ),
        (
            "an operator from the future",
            json!({"matchExpressions": [{"key": "tier", "operator": "Like", "values": ["db"]}]}),
        ),
    ] {
        let policy = broken(selector, "Observe");
        assert_eq!(policy.mode, Mode::Enforce, "{label}");
        assert!(governs(&policy, "web") && governs(&policy, "db"), "{label}");
    }
}

#[test]
fn references_are_resolved_or_deny() {
    let mut object = with(
        "/spec/verifiers/0/notary/credentials",
        json!({"secretRef": {"name": "login"}}),
    );
    object["spec"]["verifiers"][0]["notary"]["server"] = json!("https://trust.example.com");
    let what = Lookup::Secret("login".to_owned());
    let login = crate::policy::Login::new("{}".into());
    let found = Answers::from([(what.clone(), Ok(Material::Login(login)))]);
    assert_eq!(compile_object(&object, &found).fault, None);

    let namespace = "countersign-system".into();
    let missing = LookupError::Missing {
        what: what.clone(),
        namespace,
    };
    for (answers, why) in [
        (
            Answers::from([(what, Err(missing))]),
            "not in namespace countersign-system",
        ),
        (Answers::new(), "has not been read yet"),
    ] {
        let compiled = compile_object(&object, &answers);
        let fault = compiled.fault.clone().unwrap();
        assert_eq!(fault.reason, "ReferenceUnresolved");
        assert!(fault.message.contains(why), "{fault:?}");
        assert!(demands(&compiled)[0].contains(why));
        assert_eq!(demands(&compiled)[1], "verify");
    }
}

#[test]
fn no_policy_in_a_cluster_names_a_file_of_the_webhook() {
    let compiled = compile(&with(
        "/spec/verifiers/0/notary/credentials",
        json!({"dockerConfig": "/etc/docker/config.json"}),
    ));
    assert!(compiled.fault.unwrap().message.contains("only in policy files"));
}

#[test]
fn a_namespaced_policy_governs_its_own_namespace_only_even_when_it_is_broken() {
    let mut object = with("/kind", json!("TrustPolicy"));
    object["metadata"]["namespace"] = json!("shop");
    object["spec"]["rules"] = json!("none");
    let broken = compile(&object);
    assert_eq!(broken.policy.name.to_string(), "shop/default");
    let set = PolicySet::new([compile(&self::object()).policy, broken.policy]);
    let image = Reference::parse("registry.k8s.io/pause:1").unwrap();
    assert_eq!(set.select("shop", &Labels::new(), &image).len(), 2);
    assert_eq!(set.select("other", &Labels::new(), &image).len(), 1);
}

#[test]
fn verifiers_that_turn_out_to_be_unusable_are_taken_out() {
    let faults = BTreeMap::from([("other".to_owned(), "no such key".to_owned())]);
    let compiled = without_verifiers(&compile(&object()), &faults);
    assert_eq!(
        demands(&compiled),
        [
            "verify",
            "verifier other cannot be used: no such key",
            "allow",
            "uncovered"
        ]
    );
    assert_eq!(compiled.fault.unwrap().reason, "VerifierUnusable");
}

#[test]
fn where_labels_are_unknown_a_policy_that_may_apply_denies() {
    let mut object = with("/spec/namespaceSelector", json!({"matchLabels": {"tier": "web"}}));
    object["spec"]["mode"] = json!("Audit");
    let set = PolicySet::new([compile(&object).policy]);
    let image = Reference::parse("acme.example.com/app:1").unwrap();
    assert_eq!(set.select("shop", None, &image)[0].mode, Mode::Enforce);
    assert_eq!(set.mode("shop", None), Mode::Enforce);
    let labels = Labels::from([("tier".to_owned(), "web".to_owned())]);
    assert_eq!(set.select("shop", &labels, &image)[0].mode, Mode::Audit);
}
