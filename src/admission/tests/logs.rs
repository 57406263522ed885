//! What is written down (OBS-20, OBS-21).

use std::io;

use tracing_subscriber::fmt::MakeWriter;

use super::*;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Sink {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The decision lines that `reviews` give rise to, each in its phase.
async fn lines(reviews: &[(Phase, Value)]) -> Vec<Value> {
    let sink = Sink::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(sink.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    for (phase, review) in reviews {
        respond(*phase, review).await;
    }
    drop(guard);
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// OBS-20: one line a request, at info what was decided and at debug what was let through.
#[tokio::test]
async fn every_request_leaves_one_line() {
    let bad = created(&pod(&["app:bad"]));
    let got = lines(&[
        (Phase::Mutate, created(&pod(&["app:1"]))),
        (Phase::Mutate, bad.clone()),
        (Phase::Validate, bad.clone()),
        (Phase::Audit, bad),
        (Phase::Validate, created(&pod(&["app:down"]))),
    ])
    .await;
    let summary: Vec<_> = got
        .iter()
        .map(|line| {
            let fields = &line["fields"];
            let text = |name: &str| fields[name].as_str().unwrap().to_owned();
            (line["level"].as_str().unwrap(), text("decision"), text("reason"))
        })
        .collect();
    let line = |level, decision: &str, reason: &str| (level, decision.to_owned(), reason.to_owned());
    assert_eq!(
        summary,
        [
            line("INFO", "allowed", "signed"),
            line("DEBUG", "allowed", "not_signed"),
            line("INFO", "denied", "not_signed"),
            line("INFO", "would_deny", "not_signed"),
            line("INFO", "error", "unreachable"),
        ]
    );
    let fields = &got[2]["fields"];
    assert_eq!(fields["uid"], "u-1");
    assert_eq!(fields["namespace"], "shop");
    assert_eq!(fields["phase"], "validate");
    assert!(fields["images"].as_str().unwrap().contains("app:bad"));
}

/// OBS-21, checklist 57.
#[tokio::test]
async fn nothing_of_the_object_but_its_images_is_logged() {
    let mut object = pod(&["app:bad\nforged=line", "x"]);
    object["spec"]["containers"][0]["env"] = json!([{"name": "TOKEN", "value": "hunter2"}]);
    object["metadata"]["annotations"] = json!({"note": "hunter2"});
    object["metadata"]["name"] = json!(null);
    object["metadata"]["generateName"] = json!("web-");
    let mut review = created(&object);
    review["request"]["name"] = json!("");
    review["request"]["userInfo"]["extra"] = json!({"scopes": ["hunter2"]});
    let broken = super::review("pods", "CREATE", &json!({"spec": "hunter2"}), &Value::Null);
    let mut reviews = vec![(Phase::Validate, broken)];
    for phase in Phase::ALL {
        reviews.push((phase, review.clone()));
    }
    let got = lines(&reviews).await;
    assert_eq!(got.len(), reviews.len());
    assert_eq!(got[2]["fields"]["name"], "web-*");
    for line in got {
        let text = line.to_string();
        assert!(!text.contains("hunter2") && !text.contains("alice"), "{text}");
        for value in line["fields"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_str)
        {
            assert!(!value.chars().any(char::is_control), "{value}");
        }
    }
}
