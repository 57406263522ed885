//! What each phase answers to what.

use super::*;

/// ADM-20, ADM-24, ADM-40, ADM-41, ADM-44.
#[tokio::test]
async fn mutating_pins_every_signed_tag_and_nothing_else() {
    let object = pod(&[
        "nginx",
        "registry.example.com/app:bad",
        "registry.k8s.io/pause:3.10",
        "app:1.2",
    ]);
    let response = respond(Phase::Mutate, &created(&object)).await;
    assert_eq!(
        patch_of(&response).unwrap(),
        json!([
            {"op": "test", "path": "/spec/containers/0/image", "value": "nginx"},
            {"op": "replace", "path": "/spec/containers/0/image", "value": pinned("docker.io/library/nginx:latest")},
            {"op": "test", "path": "/spec/containers/3/image", "value": "app:1.2"},
            {"op": "replace", "path": "/spec/containers/3/image", "value": pinned("docker.io/library/app:1.2")},
        ])
    );
    assert!(warnings_of(&response).is_empty());
    assert_eq!(response["auditAnnotations"]["decision"], "allowed");
}

/// ADM-18, ADM-19, ADM-20, ADM-25, checklist 23.
#[tokio::test]
async fn mutating_never_denies() {
    for image in [
        "",
        " ",
        "auto",
        "Not a reference",
        "app:bad",
        "app:down",
        "denied.example.com/app:1",
        "other.example.com/app:1",
        "registry.k8s.io/pause:3.10",
        "app@sha256:abababababababababababababababababababababababababababababababab",
        "app:1@sha256:cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
    ] {
        let response = respond(Phase::Mutate, &created(&pod(&[image]))).await;
        if image == "auto" {
            // A name like any other: whether it is pinned is the policy's business.
            assert_eq!(response["allowed"], true);
        } else {
            assert!(is_silent_yes(&response), "{image}: {response}");
        }
    }
}

/// ADM-21, ADM-25, ADM-50, checklist 25.
#[tokio::test]
async fn validating_admits_what_is_pinned_or_allowed_and_denies_the_rest() {
    let good = pinned("docker.io/library/app:1.2");
    let wrong = format!("app:1.2@sha256:{}", "cd".repeat(32));
    for (image, want) in [
        (good.as_str(), None),
        ("registry.k8s.io/pause:3.10", None),
        (&wrong, Some((403, "the digest is not that of the signed tag"))),
        (
            "app:1.2",
            Some((403, "not pinned to a digest (the mutating step did not run")),
        ),
        (
            "app:bad",
            Some((403, "tag bad is not signed in docker.io/library/app")),
        ),
        ("app:down", Some((503, "could not be verified: no answer"))),
        (
            "denied.example.com/app:1",
            Some((403, "only images of registry.example.com run here")),
        ),
        ("other.example.com/app:1", Some((403, "no rule covers"))),
        ("Not a reference", Some((400, "is not an image reference"))),
        ("", Some((400, "names no image"))),
    ] {
        let response = respond(Phase::Validate, &created(&pod(&[image]))).await;
        match want {
            None => assert!(is_silent_yes(&response), "{image}: {response}"),
            Some((code, text)) => {
                let (got, message) = denial(&response);
                assert_eq!(got, code, "{image}: {message}");
                assert!(message.contains(text), "{image}: {message}");
            }
        }
    }
}

/// Design §8 to the letter, ADM-50.
#[tokio::test]
async fn an_unsigned_tag_is_denied_in_the_words_of_the_design() {
    let mut object = pod(&["registry.example.com/app:bad"]);
    object["spec"]["containers"][0]["name"] = json!("web");
    let response = respond(Phase::Validate, &created(&object)).await;
    assert_eq!(
        response["status"],
        json!({
            "status": "Failure", "code": 403, "reason": "Forbidden",
            "message": "container \"web\": registry.example.com/app:bad is not trusted: tag bad is not signed in \
                        registry.example.com/app (policy default, rule 1, verifier acme at trust.example.com); \
                        signed tags: 1.0, 1.1",
        })
    );
}

/// ADM-50: the gravest of all.
#[tokio::test]
async fn several_kinds_of_no_give_the_gravest() {
    for (images, code, reason) in [
        (vec!["app:down", "app:down"], 503, "ServiceUnavailable"),
        (vec!["app:down", "app:bad"], 403, "Forbidden"),
        (vec!["A b", "app:bad"], 403, "Forbidden"),
        (vec!["A b", "app:down"], 400, "BadRequest"),
    ] {
        let response = respond(Phase::Validate, &created(&pod(&images))).await;
        assert_eq!(denial(&response).0, code, "{images:?}");
        assert_eq!(response["status"]["reason"], reason, "{images:?}");
    }
}

/// ADM-51, ADM-52, checklist 28.
#[tokio::test]
async fn all_failing_images_are_in_one_answer_in_the_order_of_the_object() {
    let names: Vec<_> = (0..8).rev().map(|i| format!("r.example/a{i}:bad")).collect();
    let images: Vec<_> = names.iter().map(String::as_str).collect();
    let review = created(&pod(&images));
    let (_, message) = denial(&respond(Phase::Validate, &review).await);
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(lines.len(), 6, "{message}");
    for (index, line) in lines.iter().take(5).enumerate() {
        assert!(
            line.starts_with(&format!("container \"c{index}\": r.example/a{}:bad", 7 - index)),
            "{message}"
        );
    }
    assert_eq!(lines[5], "and 3 more");
    assert_eq!(denial(&respond(Phase::Validate, &review).await).1, message);
}

/// ADM-17, checklist 12, 13, 14: no list is exempt.
#[tokio::test]
async fn every_list_is_pinned_and_enforced() {
    for (list, entry, path, word) in [
        (
            "initContainers",
            json!({"name": "x", "image": "IMAGE", "restartPolicy": "Always"}),
            "image",
            "init container",
        ),
        (
            "ephemeralContainers",
            json!({"name": "x", "image": "IMAGE"}),
            "image",
            "ephemeral container",
        ),
        (
            "volumes",
            json!({"name": "x", "image": {"reference": "IMAGE"}}),
            "image/reference",
            "volume",
        ),
    ] {
        let with = |image: &str| {
            let mut object = pod(&[&pinned("docker.io/library/app:1")]);
            let entry: Value = serde_json::from_str(&entry.to_string().replace("IMAGE", image)).unwrap();
            object["spec"][list] = json!([entry]);
            created(&object)
        };
        let patch = patch_of(&respond(Phase::Mutate, &with("side:1")).await).unwrap();
        assert_eq!(patch[1]["path"], format!("/spec/{list}/0/{path}"));
        assert_eq!(patch.as_array().unwrap().len(), 2);
        let (code, message) = denial(&respond(Phase::Validate, &with("side:bad")).await);
        assert_eq!(code, 403);
        assert!(
            message.starts_with(&format!("{word} \"x\": side:bad is not trusted")),
            "{message}"
        );
    }
}

/// ADM-30, ADM-31, ADM-33, checklist 14, 15.
#[tokio::test]
async fn only_changed_images_are_looked_at() {
    let old = pod(&["app:bad", "app:1"]);
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let mut swapped = pod(&["app:bad", "app:bad2"]);
    swapped["metadata"]["deletionTimestamp"] = json!("2026-08-01T10:00:00Z");
    for phase in Phase::ALL {
        let response = respond(phase, &review("pods", "UPDATE", &labelled, &old)).await;
        assert!(is_silent_yes(&response), "{phase:?}");
        assert!(response.get("auditAnnotations").is_none());
    }
    let (_, message) = denial(&respond(Phase::Validate, &review("pods", "UPDATE", &swapped, &old)).await);
    assert!(
        message.starts_with("container \"c1\": app:bad2") && message.lines().count() == 1,
        "{message}"
    );
    let added = pod(&["app:bad", "app:1", "app:2"]);
    let patch = patch_of(&respond(Phase::Mutate, &review("pods", "UPDATE", &added, &old)).await).unwrap();
    assert_eq!(patch.as_array().unwrap().len(), 2);
    assert_eq!(patch[0]["path"], "/spec/containers/2/image");
}

/// ADM-32, checklist 18.
#[tokio::test]
async fn applying_the_tag_form_again_leaves_the_object_as_it_was() {
    let stored = pod(&[&pinned("app:1")]);
    let applied = pod(&["app:1"]);
    let response = respond(Phase::Mutate, &review("pods", "UPDATE", &applied, &stored)).await;
    assert_eq!(patched(&applied, &response), stored);
}

/// ADM-35, ADM-45, checklist 20.
#[tokio::test]
async fn neither_owners_nor_annotations_are_evidence() {
    let mut object = pod(&["app:bad"]);
    object["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "1", "controller": true}]);
    object["metadata"]["annotations"] =
        json!({"countersign.dev/verified": "true", "kubernetes.io/config.mirror": "x"});
    object["metadata"]["labels"] = json!({"countersign.dev/mode": "off"});
    assert_eq!(denial(&respond(Phase::Validate, &created(&object)).await).0, 403);
}

/// AVL-30, checklist 38.
#[tokio::test]
async fn what_a_kubelet_mirrors_is_let_through_and_only_that() {
    let mut review = created(&pod(&["app:bad"]));
    review["request"]["userInfo"] = json!({"username": "system:node:n1", "groups": ["system:nodes"]});
    for phase in Phase::ALL {
        assert!(is_silent_yes(&respond(phase, &review).await), "{phase:?}");
    }
    review["request"]["subResource"] = json!("ephemeralcontainers");
    assert_eq!(denial(&respond(Phase::Validate, &review).await).0, 403);
    review["request"]["subResource"] = json!("");
    review["request"]["operation"] = json!("UPDATE");
    assert_eq!(denial(&respond(Phase::Validate, &review).await).0, 403);
}

/// AVL-30: what the object says of itself does not make it a mirror, and a name alone does not make a kubelet.
#[tokio::test]
async fn attack_a_pod_that_calls_itself_a_mirror_is_judged() {
    let mut object = pod(&["app:bad"]);
    object["metadata"]["annotations"] = json!({
        "kubernetes.io/config.mirror": "x", "kubernetes.io/config.source": "file", "kubernetes.io/config.hash": "x",
    });
    object["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "1", "controller": true}]);
    object["spec"]["nodeName"] = json!("n1");
    let mut review = created(&object);
    for user in [
        json!({"username": "alice", "groups": ["developers"]}),
        json!({"username": "system:node:n1", "groups": ["system:authenticated"]}),
        json!({"username": "alice", "groups": ["system:nodes:n1", "System:nodes"]}),
        json!({"username": "alice", "extra": {"groups": ["system:nodes"]}}),
    ] {
        review["request"]["userInfo"] = user;
        assert_eq!(
            denial(&respond(Phase::Validate, &review).await).0,
            403,
            "{review}"
        );
    }
}

/// ADM-15, ADM-67, checklist 10.
#[tokio::test]
async fn what_is_not_ours_is_allowed() {
    let object = pod(&["app:bad"]);
    let sub = |name: &str| {
        let mut review = review("pods", "UPDATE", &object, &Value::Null);
        review["request"]["subResource"] = json!(name);
        review
    };
    for phase in Phase::ALL {
        for review in [
            review("pods", "DELETE", &Value::Null, &object),
            review("pods", "CONNECT", &object, &Value::Null),
            review("pods", "FROBNICATE", &object, &Value::Null),
            sub("status"),
            sub("resize"),
        ] {
            assert!(
                is_silent_yes(&respond(phase, &review).await),
                "{phase:?} {review}"
            );
        }
        let response = respond(phase, &review("things", "CREATE", &object, &Value::Null)).await;
        assert_eq!(response["allowed"], true);
        assert!(warnings_of(&response)[0].contains("does not know this resource"));
    }
    assert_eq!(denial(&respond(Phase::Validate, &sub("tomorrow")).await).0, 403);
}

/// ADM-67.
#[tokio::test]
async fn an_object_of_ours_that_cannot_be_read_is_denied_where_denying_is_the_job() {
    for object in [
        Value::Null,
        json!([]),
        json!({}),
        json!({"spec": {"containers": "x"}}),
    ] {
        let review = review("pods", "CREATE", &object, &Value::Null);
        assert!(respond(Phase::Mutate, &review).await["allowed"] == true);
        let (code, message) = denial(&respond(Phase::Validate, &review).await);
        assert!(code == 400 && message.contains("cannot be read"), "{message}");
        let audit = respond(Phase::Audit, &review).await;
        assert_eq!(audit["auditAnnotations"]["decision"], "would-deny");
        assert_eq!(warnings_of(&audit).len(), 1);
        assert_eq!(respond(Phase::Advise, &review).await["allowed"], true);
    }
}

/// Design §3: no policy is no permission.
#[tokio::test]
async fn an_image_that_no_policy_speaks_for_is_denied() {
    let nothing = |_: &str, _: &Reference| Vec::new();
    let review = created(&pod(&["app:1"]));
    assert!(is_silent_yes(
        &respond_under(Phase::Mutate, &review, &nothing).await
    ));
    let (code, message) = denial(&respond_under(Phase::Validate, &review, &nothing).await);
    assert!(
        code == 403 && message.contains("no policy applies in namespace shop"),
        "{message}"
    );
}

/// Design §3: every policy must admit, and a policy that only watches never denies.
#[tokio::test]
async fn a_policy_in_audit_mode_warns_and_still_pins() {
    let audit = in_mode(Mode::Audit);
    let review = created(&pod(&["app:bad", "app:1"]));
    let response = respond_under(Phase::Mutate, &review, &audit).await;
    assert_eq!(
        patch_of(&response).unwrap()[1]["value"],
        pinned("docker.io/library/app:1")
    );
    let mutated = patched(&pod(&["app:bad", "app:1"]), &response);
    let response = respond_under(Phase::Validate, &created(&mutated), &audit).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(response["auditAnnotations"]["decision"], "would-deny");
    let warnings = warnings_of(&response);
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("would be denied: container \"c0\": app:bad is not trusted"),
        "{warnings:?}"
    );
    assert!(response.get("patch").is_none());
}

/// ADM-60, ADM-54, ADM-56, checklist 42.
#[tokio::test]
async fn an_audit_namespace_is_told_and_never_stopped() {
    let object = pod(&["app:1", "app:bad", "app:down", "other.example.com/x:1", "A b", ""]);
    let response = respond(Phase::Audit, &created(&object)).await;
    assert_eq!(response["allowed"], true);
    assert!(response.get("patch").is_none() && response.get("status").is_none());
    let warnings = warnings_of(&response);
    assert_eq!(warnings.len(), 5, "{warnings:?}");
    for warning in &warnings {
        assert!(
            warning.starts_with("would be denied: ") && warning.chars().count() <= 256,
            "{warning}"
        );
        // Nothing pins here, so a tag that verifies is fine.
        assert!(!warning.contains("not pinned"), "{warning}");
    }
    let annotations = &response["auditAnnotations"];
    assert_eq!(annotations["decision"], "would-deny");
    assert_eq!(annotations["policy"], "default");
    assert_eq!(annotations["error"], "no answer");
    let fine = respond(Phase::Audit, &created(&pod(&["app:1"]))).await;
    assert!(is_silent_yes(&fine));
    assert_eq!(fine["auditAnnotations"]["decision"], "allowed");
}

/// ADM-13, ADM-34, design §4 `workloads`.
#[tokio::test]
async fn templates_are_advised_denied_or_ignored_as_policy_says_and_not_rewritten_unasked() {
    let bad = created(&deployment(&["app:bad", "app:1"]));
    for workloads in [Workloads::Advise, Workloads::Deny, Workloads::Ignore] {
        let rules = for_workloads(workloads);
        let response = respond_under(Phase::Mutate, &bad, &rules).await;
        assert!(is_silent_yes(&response), "{workloads:?}");
        for phase in [Phase::Advise, Phase::Validate] {
            let response = respond_under(phase, &bad, &rules).await;
            match workloads {
                Workloads::Advise => assert_eq!(warnings_of(&response).len(), 1, "{response}"),
                Workloads::Deny => assert!(denial(&response).1.lines().count() == 1),
                Workloads::Ignore => assert!(is_silent_yes(&response), "{response}"),
            }
        }
        let audited = respond_under(Phase::Audit, &bad, &rules).await;
        assert_eq!(audited["allowed"], true, "{workloads:?}");
        let silent = workloads == Workloads::Ignore;
        assert_eq!(is_silent_yes(&audited), silent, "{workloads:?}");
        // A tag that verifies is good enough for a template.
        let good = created(&deployment(&["app:1"]));
        assert!(is_silent_yes(&respond_under(Phase::Advise, &good, &rules).await));
    }
    let watching = |namespace: &str, image: &Reference| {
        let mut requirements = for_workloads(Workloads::Deny)(namespace, image);
        requirements[0].mode = Mode::Audit;
        requirements
    };
    assert_eq!(
        respond_under(Phase::Advise, &bad, &watching).await["allowed"],
        true
    );
}

/// ADM-18: something may fill a blank in later.
#[tokio::test]
async fn a_template_without_image_is_only_warned_about() {
    let review = created(&deployment(&["", " registry.k8s.io/pause:3.10 "]));
    let response = respond_under(Phase::Advise, &review, &for_workloads(Workloads::Deny)).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(warnings_of(&response).len(), 1);
}

/// ADM-55, checklist 29.
#[tokio::test]
async fn controllers_are_not_warned_but_the_audit_log_is_told() {
    let mut review = created(&pod(&["app:bad"]));
    review["request"]["userInfo"]["username"] =
        json!("system:serviceaccount:kube-system:replicaset-controller");
    let response = respond(Phase::Audit, &review).await;
    assert!(is_silent_yes(&response));
    assert_eq!(response["auditAnnotations"]["decision"], "would-deny");
}

/// ADM-56, checklist 30.
#[tokio::test]
async fn audit_annotations_have_fixed_keys_and_short_values() {
    let images: Vec<_> = (0..40).map(|i| format!("r.example/a{i}:bad")).collect();
    let images: Vec<_> = images.iter().map(String::as_str).collect();
    let response = respond(Phase::Validate, &created(&pod(&images))).await;
    let annotations = response["auditAnnotations"].as_object().unwrap();
    for (key, value) in annotations {
        assert!(
            ["decision", "policy", "images", "error"].contains(&key.as_str()),
            "{key}"
        );
        assert!(value.as_str().unwrap().len() <= 1024, "{key}");
    }
    assert_eq!(annotations["decision"], "denied");
    let images: Value = serde_json::from_str(annotations["images"].as_str().unwrap()).unwrap();
    assert_eq!(
        images[0],
        json!({"path": "/spec/containers/0/image", "result": "denied", "reason": "not_signed"})
    );
    let pinned = respond(Phase::Mutate, &created(&pod(&["app:1"]))).await;
    let images: Value = serde_json::from_str(pinned["auditAnnotations"]["images"].as_str().unwrap()).unwrap();
    assert_eq!(
        images,
        json!([{"path": "/spec/containers/0/image", "digest": digest().to_string(), "result": "trusted",
                "reason": "signed"}])
    );
}

/// ADM-57, checklist 31.
#[tokio::test]
async fn a_dry_run_gets_the_same_answer() {
    for phase in Phase::ALL {
        let mut review = created(&pod(&["app:1", "app:bad"]));
        let real = respond(phase, &review).await;
        review["request"]["dryRun"] = json!(true);
        assert_eq!(respond(phase, &review).await, real, "{phase:?}");
    }
}

/// Where every policy only watches, what cannot even be read is not denied either.
#[tokio::test]
async fn nothing_unreadable_is_denied_where_every_policy_only_watches() {
    let image = created(&pod(&["A b"]));
    let object = created(&json!({"spec": {"containers": 1}}));
    for (mode, allowed) in [(Mode::Audit, true), (Mode::Enforce, false)] {
        for review in [&image, &object] {
            let reply = admission(&Arc::default())
                .answer_under(
                    Phase::Validate,
                    review.to_string().as_bytes(),
                    None,
                    &default_rules,
                    &|_: &str| Standing {
                        unreadable: mode,
                        ..enforced("shop")
                    },
                )
                .await
                .unwrap();
            let reply: Value = serde_json::from_slice(&reply).unwrap();
            assert_eq!(reply["response"]["allowed"], allowed, "{mode:?} {review}");
            let warned = reply["response"]["warnings"][0]
                .as_str()
                .is_some_and(|text| text.starts_with("would be denied: "));
            assert_eq!(warned, allowed, "{mode:?} {reply}");
        }
    }
}
