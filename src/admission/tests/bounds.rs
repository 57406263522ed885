//! Time, numbers and accidents.

use super::*;

/// ADM-26.
#[tokio::test]
async fn equal_images_are_verified_once_and_eight_at_a_time() {
    let verify = Arc::new(Oracle::default());
    let names: Vec<_> = (0..30).map(|i| format!("app:{}", i % 20)).collect();
    let images: Vec<_> = names.iter().map(String::as_str).collect();
    respond_with(&verify, Phase::Mutate, &created(&pod(&images)), &default_rules).await;
    assert_eq!(verify.asked.lock().unwrap().len(), 20);
    assert_eq!(verify.peak.load(Ordering::SeqCst), 8);
}

/// ADM-01, ADM-50, ADM-58, checklist 5: we answer before the API server gives up, and what we know by then counts.
#[tokio::test(start_paused = true)]
async fn an_image_that_is_not_verified_in_time_counts_as_unavailable() {
    let review = created(&pod(&["app:hang", "app:1"]));
    for (phase, allowed) in [
        (Phase::Mutate, true),
        (Phase::Validate, false),
        (Phase::Audit, true),
    ] {
        let started = Instant::now();
        let body = review.to_string();
        let reply = admission(&Arc::default())
            .answer_under(
                phase,
                body.as_bytes(),
                Some("timeout=2s"),
                &default_rules,
                &enforced,
            )
            .await
            .unwrap();
        assert!(started.elapsed() < Duration::from_secs(2));
        let reply: Value = serde_json::from_slice(&reply).unwrap();
        assert_eq!(reply["response"]["allowed"], allowed, "{phase:?}");
        if phase == Phase::Mutate {
            assert_eq!(
                patch_of(&reply["response"]).unwrap()[0]["path"],
                "/spec/containers/1/image"
            );
        }
    }
    let only = created(&pod(&["app:hang"]));
    let (code, message) = denial(&respond(Phase::Validate, &only).await);
    assert_eq!(code, 503);
    assert!(message.contains("did not finish in the time"), "{message}");
}

/// One image that hangs does not keep the others from being looked at.
#[tokio::test(start_paused = true)]
async fn a_hanging_image_holds_up_no_other() {
    let mut names = vec!["app:hang".to_owned()];
    names.extend((0..30).map(|i| format!("app:{i}")));
    let images: Vec<_> = names.iter().map(String::as_str).collect();
    let response = respond(Phase::Mutate, &created(&pod(&images))).await;
    assert_eq!(patch_of(&response).unwrap().as_array().unwrap().len(), 2 * 30);
}

/// ADM-61, ADM-68: a panic is never a yes. It reaches the caller, which answers for it.
#[tokio::test]
async fn a_panic_is_not_swallowed() {
    for phase in Phase::ALL {
        let body = created(&pod(&["app:bug"])).to_string();
        let answer = async move {
            admission(&Arc::default())
                .answer_under(phase, body.as_bytes(), None, &default_rules, &enforced)
                .await
        };
        let tracker = tokio_util::task::TaskTracker::new();
        assert!(tracker.spawn(answer).await.unwrap_err().is_panic(), "{phase:?}");
    }
}

/// ADM-21, ADM-22: images of one Pod that no deadline could hold are not worth a try.
#[tokio::test]
async fn too_many_images_are_refused_in_one_go() {
    let verify = Arc::new(Oracle::default());
    let images = vec!["app:1"; images::MAX_IMAGES + 1];
    let review = created(&pod(&images));
    assert!(is_silent_yes_with_error(
        &respond_with(&verify, Phase::Mutate, &review, &default_rules).await
    ));
    let (code, message) = denial(&respond_with(&verify, Phase::Validate, &review, &default_rules).await);
    assert!(code == 400 && message.contains("1001 images"), "{message}");
    assert!(verify.asked.lock().unwrap().is_empty());
}

fn is_silent_yes_with_error(response: &Value) -> bool {
    is_silent_yes(response) && response["auditAnnotations"].get("error").is_some()
}

/// The HTTP layer spawns answers.
#[test]
fn an_answer_may_move_between_threads() {
    fn is_send(_: &impl Send) {}
    let admission = admission(&Arc::default());
    is_send(&admission.answer(Phase::Mutate, b"", None));
}

/// A reference that is not going to be rewritten costs nothing in the mutating phase.
#[tokio::test]
async fn mutating_does_not_verify_what_it_would_not_rewrite() {
    let verify = Arc::new(Oracle::default());
    let review = created(&pod(&[&pinned("app:1")]));
    respond_with(&verify, Phase::Mutate, &review, &default_rules).await;
    assert!(verify.asked.lock().unwrap().is_empty());
    respond_with(&verify, Phase::Validate, &review, &default_rules).await;
    assert_eq!(verify.asked.lock().unwrap().len(), 1);
}
