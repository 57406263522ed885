//! Break-glass, and those who would like to have it (design §3).

use super::*;
use crate::cluster::Unanswered;
use crate::review::wire::Identity;

const ANNOTATION: &str = "countersign.dev/disable-content-trust";

/// An API server that knows one user who may, in namespace `shop`; and how often it was asked.
#[derive(Clone, Default)]
struct Rights {
    outage: Option<Unanswered>,
    asked: Arc<Mutex<Vec<(Identity, String)>>>,
}

impl Authorize for Rights {
    async fn may_bypass(
        &self,
        user: &Identity,
        namespace: &str,
        deadline: Instant,
    ) -> Result<bool, Unanswered> {
        assert!(deadline > Instant::now());
        self.asked
            .lock()
            .unwrap()
            .push((user.clone(), namespace.to_owned()));
        match self.outage {
            Some(outage) => Err(outage),
            None => Ok(user.name == "oncall" && namespace == "shop"),
        }
    }
}

fn with_reason(object: &Value, reason: &str) -> Value {
    let mut object = object.clone();
    object["metadata"]["annotations"] = json!({ANNOTATION: reason});
    object
}

fn by(user: Value, mut review: Value) -> Value {
    review["request"]["userInfo"] = user;
    review
}

fn oncall(review: Value) -> Value {
    by(
        json!({"username": "oncall", "groups": ["system:authenticated"]}),
        review,
    )
}

async fn respond_to(
    rights: &Rights,
    metrics: &Arc<Metrics>,
    phase: Phase,
    review: &Value,
    workloads: Workloads,
) -> Value {
    let policies = Arc::new(ArcSwap::from_pointee(PolicySet::default()));
    let admission = Admission::new(Arc::<Oracle>::default(), policies, Arc::clone(metrics), LIMIT)
        .with_access(rights.clone());
    let reply = admission
        .answer_under(
            phase,
            review.to_string().as_bytes(),
            None,
            &for_workloads(workloads),
            &enforced,
        )
        .await
        .unwrap();
    serde_json::from_slice::<Value>(&reply).unwrap()["response"].clone()
}

async fn respond_by(rights: &Rights, review: &Value) -> Value {
    respond_to(
        rights,
        &Arc::default(),
        Phase::Validate,
        review,
        Workloads::Advise,
    )
    .await
}

#[tokio::test]
async fn who_may_gets_the_object_in_with_a_reason_a_warning_and_a_record() {
    let review = oncall(created(&with_reason(
        &pod(&["app:bad", "app:1"]),
        "incident 4711",
    )));
    let (rights, metrics) = (Rights::default(), Arc::default());
    for dry_run in [false, true] {
        let mut review = review.clone();
        review["request"]["dryRun"] = json!(dry_run);
        let response = respond_to(&rights, &metrics, Phase::Validate, &review, Workloads::Advise).await;
        assert_eq!(response["allowed"], true, "{response}");
        assert!(response.get("patch").is_none());
        let warnings = warnings_of(&response);
        assert_eq!(
            warnings[0],
            "content trust is disabled for this object: \"incident 4711\""
        );
        assert!(
            warnings[1].starts_with("would be denied: container \"c0\": app:bad is not trusted"),
            "{warnings:?}"
        );
        let recorded = &response["auditAnnotations"];
        assert_eq!(recorded["bypass"], "incident 4711");
        assert_eq!(recorded["decision"], "would-deny");
    }
    let told = metrics.encode(crate::telemetry::Exposition::Classic).unwrap();
    assert!(
        told.contains("countersign_bypass_total{outcome=\"accepted\"} 2"),
        "{told}"
    );
}

/// An outage of the trust server is what it is for: the answer comes although verification takes all the time.
#[tokio::test(start_paused = true)]
async fn an_outage_of_the_trust_server_does_not_keep_a_bypass_from_counting() {
    for image in ["app:down", "app:hang", "not a reference"] {
        let review = oncall(created(&with_reason(&pod(&[image]), "outage")));
        let response = respond_by(&Rights::default(), &review).await;
        assert_eq!(response["allowed"], true, "{image}: {response}");
    }
}

#[tokio::test]
async fn nothing_is_asked_where_nothing_would_be_denied() {
    let rights = Rights::default();
    let object = with_reason(&pod(&["app:bad"]), "please");
    for phase in [Phase::Mutate, Phase::Audit] {
        let response = respond_to(
            &rights,
            &Arc::default(),
            phase,
            &oncall(created(&object)),
            Workloads::Advise,
        )
        .await;
        assert_eq!(response["allowed"], true, "{phase:?}");
    }
    let unannotated = oncall(created(&pod(&["app:bad"])));
    denial(&respond_by(&rights, &unannotated).await);
    assert!(rights.asked.lock().unwrap().is_empty());
    // Nothing wrong with the image: nothing to tell.
    let good = with_reason(&pod(&[&pinned("app:1")]), "please");
    let response = respond_by(&rights, &oncall(created(&good))).await;
    assert!(is_silent_yes(&response), "{response}");
    assert!(response["auditAnnotations"].get("bypass").is_none());
}

/// Pods are pinned as ever: a digest that was signed does no harm.
#[tokio::test]
async fn mutating_pins_as_ever() {
    let review = oncall(created(&with_reason(&pod(&["app:1", "app:bad"]), "please")));
    let response = respond_to(
        &Rights::default(),
        &Arc::default(),
        Phase::Mutate,
        &review,
        Workloads::Advise,
    )
    .await;
    assert_eq!(patch_of(&response).unwrap().as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn attack_an_annotation_without_the_right_admits_nothing() {
    let (rights, metrics) = (Rights::default(), Arc::default());
    let review = created(&with_reason(&pod(&["app:bad"]), "I said so"));
    let response = respond_to(&rights, &metrics, Phase::Validate, &review, Workloads::Advise).await;
    let (code, message) = denial(&response);
    assert_eq!(code, 403);
    assert!(
        message.starts_with("container \"c0\": app:bad is not trusted"),
        "{message}"
    );
    assert!(
        message.ends_with(
            "\nthe annotation countersign.dev/disable-content-trust does not count: you need the verb bypass on \
             trustpolicies.countersign.dev in namespace shop"
        ),
        "{message}"
    );
    assert!(response["auditAnnotations"].get("bypass").is_none());
    let told = metrics.encode(crate::telemetry::Exposition::Classic).unwrap();
    assert!(
        told.contains("countersign_bypass_total{outcome=\"denied\"} 1"),
        "{told}"
    );
}

/// Who was allowed to set it is not who asks now.
#[tokio::test]
async fn attack_an_annotation_that_another_has_set_is_no_standing_permit() {
    let stored = with_reason(&pod(&["app:1"]), "set by oncall");
    let mut changed = stored.clone();
    changed["spec"]["containers"][0]["image"] = json!("app:bad");
    let update = review("pods", "UPDATE", &changed, &stored);
    let (code, message) = denial(&respond_by(&Rights::default(), &update).await);
    assert!(code == 403 && message.contains("does not count"), "{message}");
    let response = respond_by(&Rights::default(), &oncall(update.clone())).await;
    assert_eq!(response["allowed"], true);
    // Nor is one that this very request takes away.
    changed["metadata"]["annotations"] = json!({});
    let update = oncall(review("pods", "UPDATE", &changed, &stored));
    assert_eq!(denial(&respond_by(&Rights::default(), &update).await).0, 403);
    let mut debug = stored.clone();
    debug["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "app:bad"}]);
    let mut debug = review("pods", "UPDATE", &debug, &stored);
    debug["request"]["subResource"] = json!("ephemeralcontainers");
    assert_eq!(denial(&respond_by(&Rights::default(), &debug).await).0, 403);
}

/// The API server hears who asks as it authenticated them, complete and unchanged, and of the request's namespace.
#[tokio::test]
async fn attack_names_and_groups_come_from_the_review_alone() {
    let rights = Rights::default();
    let mut object = with_reason(&pod(&["app:bad"]), "please");
    object["metadata"]["namespace"] = json!("elsewhere");
    object["userInfo"] = json!({"username": "oncall"});
    object["metadata"]["annotations"]["username"] = json!("oncall");
    let user = json!({
        "username": "mallory", "uid": "7", "groups": ["oncall", "system:masters\n"],
        "extra": {"scopes.example.com": ["a", "b"], "empty": null},
    });
    denial(&respond_by(&rights, &by(user, created(&object))).await);
    let asked = rights.asked.lock().unwrap().clone();
    let [(user, namespace)] = asked.as_slice() else {
        panic!("{asked:?}")
    };
    assert_eq!(
        (user.name.as_str(), user.uid.as_str(), namespace.as_str()),
        ("mallory", "7", "shop")
    );
    assert_eq!(user.groups, ["oncall", "system:masters\n"]);
    assert_eq!(user.extra["scopes.example.com"], ["a", "b"]);
    assert!(user.extra["empty"].is_empty());
}

#[tokio::test]
async fn attack_a_user_who_cannot_be_read_is_not_asked_about() {
    let groups: Vec<_> = (0..10_000).map(|i| format!("group-{i:08}")).collect();
    for user in [
        json!({"username": "oncall", "groups": groups}),
        json!({"username": "", "groups": ["oncall"]}),
        json!({"username": "oncall", "extra": "x"}),
        Value::Null,
    ] {
        let rights = Rights::default();
        let review = by(user, created(&with_reason(&pod(&["app:bad"]), "please")));
        let (_, message) = denial(&respond_by(&rights, &review).await);
        assert!(message.contains("could not be found out"), "{message}");
        assert!(rights.asked.lock().unwrap().is_empty());
    }
}

/// Nobody knows is not no, and not yes either.
#[tokio::test]
async fn an_outage_of_the_api_server_and_files_alone_admit_nothing_and_say_why() {
    let metrics = Arc::default();
    for (outage, why) in [
        (Unanswered::Silent, "the API server does not answer"),
        (
            Unanswered::Forbidden,
            "the API server does not let the webhook ask",
        ),
        (Unanswered::Unclear, "the API server could not tell"),
        (
            Unanswered::NoCluster,
            "the webhook runs without access to the cluster",
        ),
    ] {
        let rights = Rights {
            outage: Some(outage),
            ..Rights::default()
        };
        let review = oncall(created(&with_reason(&pod(&["app:bad"]), "please")));
        let response = respond_to(&rights, &metrics, Phase::Validate, &review, Workloads::Advise).await;
        let (code, message) = denial(&response);
        // What is wrong with the image decides, not what is wrong with the API server.
        assert_eq!(code, 403);
        assert!(
            message.contains(&format!("could not be found out: {why}")),
            "{message}"
        );
    }
    let told = metrics.encode(crate::telemetry::Exposition::Classic).unwrap();
    assert!(
        told.contains("countersign_bypass_total{outcome=\"unavailable\"} 4"),
        "{told}"
    );
    let review = oncall(created(&with_reason(&pod(&["app:bad"]), "please")));
    let (_, message) = denial(&respond(Phase::Validate, &review).await);
    assert!(message.contains("without access to the cluster"), "{message}");
}

#[tokio::test]
async fn attack_a_reason_without_a_word_does_not_count() {
    for reason in ["", "  ", "\u{200b}", "--", "\n"] {
        let rights = Rights::default();
        let review = oncall(created(&with_reason(&pod(&["app:bad"]), reason)));
        let (_, message) = denial(&respond_by(&rights, &review).await);
        assert!(
            message.ends_with("does not count: give a reason as its value"),
            "{message}"
        );
        assert!(rights.asked.lock().unwrap().is_empty());
    }
    let mut object = pod(&["app:bad"]);
    for annotations in [
        json!({ANNOTATION: 7}),
        json!([ANNOTATION]),
        json!({"Countersign.dev/disable-content-trust": "x"}),
    ] {
        object["metadata"]["annotations"] = annotations;
        let (_, message) = denial(&respond_by(&Rights::default(), &oncall(created(&object))).await);
        assert!(!message.contains("does not count"), "{message}");
    }
}

/// ADM-54, ADM-56, OBS-21.
#[tokio::test]
async fn attack_a_reason_forges_no_line_and_floods_nothing() {
    let forged = "ok\nlevel=error \u{1b}[31m\u{202e}evil\r\n";
    let huge = "x".repeat(200_000);
    for reason in [forged, &huge] {
        let review = oncall(created(&with_reason(&pod(&["app:bad"]), reason)));
        let response = respond_by(&Rights::default(), &review).await;
        assert_eq!(response["allowed"], true);
        for warning in warnings_of(&response) {
            assert!(warning.chars().count() <= 256, "{warning}");
            assert!(!warning.chars().any(char::is_control), "{warning}");
        }
        let recorded = response["auditAnnotations"]["bypass"].as_str().unwrap();
        assert!(recorded.len() <= 1024 && !recorded.chars().any(char::is_control));
    }
}

/// A denial that is long already leaves room for the note.
#[tokio::test]
async fn a_note_is_kept_whole_within_the_limit() {
    let images: Vec<_> = (0..9)
        .map(|i| format!("registry.example.com/{}/{i}:bad", "long/".repeat(40)))
        .collect();
    let images: Vec<_> = images.iter().map(String::as_str).collect();
    let review = created(&with_reason(&pod(&images), "please"));
    let (_, message) = denial(&respond_by(&Rights::default(), &review).await);
    assert!(message.ends_with("in namespace shop"), "{message}");
}

/// What is on a template is for its Pods, and means nothing; what is on the object counts for the object alone.
#[tokio::test]
async fn a_workload_is_bypassed_by_its_own_annotation_and_its_pods_are_not() {
    let own = with_reason(&deployment(&["app:bad"]), "please");
    let mut template = deployment(&["app:bad"]);
    template["spec"]["template"]["metadata"]["annotations"] = json!({ANNOTATION: "please"});
    for (object, admitted) in [(own, true), (template, false)] {
        let review = oncall(created(&object));
        let response = respond_to(
            &Rights::default(),
            &Arc::default(),
            Phase::Advise,
            &review,
            Workloads::Deny,
        )
        .await;
        assert_eq!(response["allowed"], admitted, "{response}");
    }
    let controller = json!({"username": "system:serviceaccount:kube-system:replicaset-controller"});
    let review = by(controller, created(&with_reason(&pod(&["app:bad"]), "please")));
    assert_eq!(denial(&respond_by(&Rights::default(), &review).await).0, 403);
}
