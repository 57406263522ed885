//! `--mode audit` (AUD-01, AUD-02, checklist 42).

use super::*;

async fn respond_in(mode: Mode, phase: Phase, review: &Value) -> Value {
    let body = review.to_string();
    let deny = for_workloads(Workloads::Deny);
    let admission = admission(&Arc::default()).in_mode(mode);
    let reply = admission
        .answer_under(phase, body.as_bytes(), None, &deny, &pinning)
        .await
        .unwrap();
    serde_json::from_slice::<Value>(&reply).unwrap()["response"].clone()
}

#[tokio::test(start_paused = true)]
async fn under_audit_no_path_denies_and_none_pins() {
    let broken = json!({"metadata": {"name": "p"}, "spec": {"containers": {"not": "a list"}}});
    for (what, review) in [
        ("unsigned", created(&pod(&["app:bad"]))),
        ("signed", created(&pod(&["app:1"]))),
        ("denied by a rule", created(&pod(&["denied.example.com/app:1"]))),
        ("an outage", created(&pod(&["app:down"]))),
        ("no end", created(&pod(&["app:hang"]))),
        ("no reference", created(&pod(&["NOT A REFERENCE"]))),
        ("unreadable", created(&broken)),
        (
            "a template",
            review("deployments", "CREATE", &deployment(&["app:bad"]), &Value::Null),
        ),
    ] {
        for phase in Phase::ALL {
            let response = respond_in(Mode::Audit, phase, &review).await;
            assert_eq!(response["allowed"], true, "{what} {phase:?}: {response}");
            assert!(response.get("patch").is_none(), "{what} {phase:?}");
            let silent = phase == Phase::Mutate || what == "signed";
            assert_eq!(
                response.get("warnings").is_none(),
                silent,
                "{what} {phase:?}: {response}"
            );
        }
    }
    let enforced = respond_in(Mode::Enforce, Phase::Validate, &created(&pod(&["app:bad"]))).await;
    assert_eq!(enforced["allowed"], false);
    let pinned = respond_in(Mode::Enforce, Phase::Mutate, &created(&pod(&["app:1"]))).await;
    assert!(pinned["patch"].is_string());
}

/// AUD-03: the same word in the annotation, and what would be denied in the warning.
#[tokio::test]
async fn what_would_be_denied_is_said() {
    let response = respond_in(Mode::Audit, Phase::Validate, &created(&pod(&["app:bad"]))).await;
    assert_eq!(response["auditAnnotations"]["decision"], "would-deny");
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("would be denied: container \"c0\": app:bad"),
        "{warning}"
    );
}
