//! Templates where a policy wants them pinned (`pinWorkloads`, ADM-30…37).

use super::*;

/// §1.3: resource, pointer of the template, pinned on CREATE, pinned on UPDATE.
pub(super) const RESOURCES: [(&str, &str, bool, bool); 8] = [
    ("deployments", "/spec/template", true, true),
    ("statefulsets", "/spec/template", true, true),
    ("daemonsets", "/spec/template", true, true),
    ("replicasets", "/spec/template", true, true),
    ("cronjobs", "/spec/jobTemplate/spec/template", true, true),
    ("jobs", "/spec/template", true, false),
    ("podtemplates", "/template", false, false),
    ("replicationcontrollers", "/spec/template", false, false),
];

/// An object whose pod template is at `pointer`.
pub(super) fn around(pointer: &str, template: &Value) -> Value {
    let mut object = template.clone();
    for member in pointer.rsplit('/').filter(|member| !member.is_empty()) {
        object = json!({ member: object });
    }
    object["metadata"] = json!({"name": "w"});
    object
}

fn owned(mut object: Value, owners: &Value) -> Value {
    object["metadata"]["ownerReferences"] = owners.clone();
    object
}

fn updated(object: &Value, old: &Value) -> Value {
    review("deployments", "UPDATE", object, old)
}

/// ADM-24, ADM-34, §1.3.
#[tokio::test]
async fn a_template_is_pinned_as_its_resource_and_the_operation_allow() {
    for (resource, pointer, create, update) in RESOURCES {
        let old = around(pointer, &pod(&["app:0", "app:1"]));
        let new = around(pointer, &pod(&["app:2", "app:1"]));
        for (operation, old, pins) in [("CREATE", Value::Null, create), ("UPDATE", old, update)] {
            let response = respond_pinning(&review(resource, operation, &new, &old)).await;
            let first = patched(&new, &response)
                .pointer(&format!("{pointer}/spec/containers/0/image"))
                .cloned();
            let want = if pins {
                pinned("docker.io/library/app:2")
            } else {
                "app:2".to_owned()
            };
            assert_eq!(first, Some(json!(want)), "{operation} {resource}");
            // Those with nothing to do were not even looked at.
            assert_eq!(is_silent_yes(&response), !pins, "{operation} {resource}");
            assert_eq!(response.get("auditAnnotations").is_some(), pins);
        }
    }
}

/// ADM-34, checklist 19: a `ReplicaSet` that differs from its Deployment's template makes the controller create another.
#[tokio::test]
async fn what_a_controller_made_is_left_alone_and_so_is_what_cannot_tell() {
    for (owners, pins) in [
        (json!([]), true),
        (json!([{"kind": "Team", "name": "shop", "uid": "1"}]), true),
        (
            json!([{"kind": "Team", "name": "shop", "controller": false}]),
            true,
        ),
        (
            json!([{"kind": "Deployment", "name": "web", "controller": true}]),
            false,
        ),
        (
            json!([{"kind": "Team", "name": "shop"}, {"kind": "Rollout", "name": "web", "controller": true}]),
            false,
        ),
        (json!("Deployment/web"), false),
        (
            json!([{"kind": "Deployment", "name": "web", "controller": "true"}]),
            false,
        ),
        (json!(["Deployment/web"]), false),
    ] {
        for (resource, pointer, ..) in RESOURCES {
            let object = owned(around(pointer, &pod(&["app:1"])), &owners);
            for old in [Value::Null, around(pointer, &pod(&["app:0"]))] {
                let operation = if old.is_null() { "CREATE" } else { "UPDATE" };
                let response = respond_pinning(&review(resource, operation, &object, &old)).await;
                if !pins {
                    assert!(is_silent_yes(&response), "{operation} {resource} {owners}");
                } else if resource == "deployments" {
                    assert!(patch_of(&response).is_some(), "{operation} {owners}");
                }
            }
        }
    }
}

/// ADM-35: owners keep a template from being rewritten, not from being judged; Pods are pinned whatever they say.
#[tokio::test]
async fn an_owner_spares_no_other_step() {
    let controller = json!([{"kind": "Rollout", "name": "web", "controller": true}]);
    let template = created(&owned(deployment(&["app:bad"]), &controller));
    assert_eq!(
        denial(&respond_under(Phase::Advise, &template, &for_workloads(Workloads::Deny)).await).0,
        403
    );
    let response = respond_pinning(&created(&owned(pod(&["app:1"]), &controller))).await;
    assert!(patch_of(&response).is_some());
}

/// ADM-20, checklist 23.
#[tokio::test]
async fn pinning_a_template_never_denies_and_never_warns() {
    for image in [
        "",
        " ",
        "auto ",
        "Not a reference",
        "app:bad",
        "app:down",
        "denied.example.com/app:1",
        "other.example.com/app:1",
        "registry.k8s.io/pause:3.10",
        "app:1@sha256:cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
    ] {
        let response = respond_pinning(&created(&deployment(&[image]))).await;
        if image == "auto " {
            // A name like any other: whether it is pinned is the policy's business.
            assert_eq!(response["allowed"], true);
        } else {
            assert!(is_silent_yes(&response), "{image}: {response}");
        }
    }
    for object in [Value::Null, json!([]), json!({"spec": {"template": {"spec": 7}}})] {
        let response = respond_pinning(&review("deployments", "CREATE", &object, &Value::Null)).await;
        assert!(is_silent_yes(&response), "{object}: {response}");
    }
}

/// ADM-18: blanks are legal in templates. What is parsed is trimmed, what is tested for is what was written.
#[tokio::test]
async fn blanks_around_an_image_are_read_over_and_replaced_with_it() {
    let response = respond_pinning(&created(&deployment(&[
        "\tapp:1 ",
        " registry.k8s.io/pause:3.10",
    ])))
    .await;
    assert_eq!(
        patch_of(&response).unwrap(),
        json!([
            {"op": "test", "path": "/spec/template/spec/containers/0/image", "value": "\tapp:1 "},
            {"op": "replace", "path": "/spec/template/spec/containers/0/image",
             "value": pinned("docker.io/library/app:1")},
        ])
    );
}

/// ADM-30, ADM-31, checklist 16: neither an annotation nor a change of another image touches one that was there.
#[tokio::test]
async fn only_changed_images_of_a_template_are_pinned() {
    let old = deployment(&["app:1", "app:2"]);
    let mut annotated = old.clone();
    annotated["metadata"]["annotations"] = json!({"note": "x"});
    annotated["spec"]["template"]["metadata"]["annotations"] = json!({"restartedAt": "now"});
    annotated["spec"]["replicas"] = json!(7);
    let response = respond_pinning(&updated(&annotated, &old)).await;
    assert!(is_silent_yes(&response) && response.get("auditAnnotations").is_none());
    let response = respond_pinning(&updated(&deployment(&["app:1", "app:3"]), &old)).await;
    let patch = patch_of(&response).unwrap();
    assert_eq!(patch.as_array().unwrap().len(), 2);
    assert_eq!(patch[0]["path"], "/spec/template/spec/containers/1/image");
}

/// ADM-32, checklist 18: whatever way the stored text was written.
#[tokio::test]
async fn applying_the_tag_form_of_a_template_again_changes_nothing() {
    for (stored, applied) in [
        (pinned("docker.io/library/app:1"), "app:1"),
        (pinned("app:1"), "app:1"),
        (pinned(" app:1"), "docker.io/library/app:1"),
        (pinned("docker.io/library/app:1"), " app:1 "),
        (pinned("docker.io/library/app:latest"), "app"),
    ] {
        let (old, new) = (deployment(&[&stored]), deployment(&[applied]));
        let response = respond_pinning(&updated(&new, &old)).await;
        assert_eq!(patched(&new, &response), old, "{stored}");
    }
}

/// Every policy has to admit what is pinned, as in Pods: also one that says nothing about templates.
#[tokio::test]
async fn a_template_is_pinned_only_if_its_pods_would_be() {
    let object = created(&deployment(&["app:1", "r.example/app:1"]));
    let pins_of = |workloads, mode| {
        let object = &object;
        async move {
            let rules = move |namespace: &str, image: &Reference| {
                let mut requirements = default_rules(namespace, image);
                if image.gun().host() == "r.example" {
                    let message = "not here".into();
                    let demand = Demand::Deny { message };
                    requirements.push(requirement("strict", mode, workloads, demand));
                }
                requirements
            };
            let response = respond_where(&Arc::default(), Phase::Mutate, object, &rules, &pinning).await;
            patch_of(&response).unwrap().as_array().unwrap().len() / 2
        }
    };
    for workloads in [Workloads::Advise, Workloads::Deny, Workloads::Ignore] {
        assert_eq!(pins_of(workloads, Mode::Enforce).await, 1, "{workloads:?}");
        assert_eq!(pins_of(workloads, Mode::Audit).await, 2, "{workloads:?}");
    }
}

/// ADM-13: what is said of templates does not depend on whether they are pinned.
#[tokio::test]
async fn only_the_mutating_phase_differs() {
    let review = created(&deployment(&["app:bad", "app:1"]));
    for phase in [Phase::Validate, Phase::Audit, Phase::Advise] {
        for workloads in [Workloads::Advise, Workloads::Deny, Workloads::Ignore] {
            let rules = for_workloads(workloads);
            assert_eq!(
                respond_where(&Arc::default(), phase, &review, &rules, &pinning).await,
                respond_under(phase, &review, &rules).await,
                "{phase:?} {workloads:?}"
            );
        }
    }
}
