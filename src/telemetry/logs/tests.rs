use std::io::Write;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::Value;
use tracing::field::Empty;
use tracing::{debug, info, info_span, warn};

use super::*;

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn noon() -> Timestamp {
    "2026-11-22T12:00:00.0625Z".parse().unwrap()
}

fn logged(format: Format, events: impl FnOnce()) -> String {
    let memory = Memory::default();
    let subscriber = subscriber(format, "info", memory.clone(), noon).unwrap();
    tracing::subscriber::with_default(subscriber, events);
    let bytes = memory.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_json_line_holds_the_event_and_the_fields_around_it() {
    let text = logged(Format::Json, || {
        let span = info_span!("admit", uid = "0df1", verdict = Empty);
        let _entered = span.enter();
        span.record("verdict", "denied");
        info!(duration_ms = 12_u64, dry_run = false, image = %"nginx:1.27", "decision");
        debug!("not at this level");
    });
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        line,
        serde_json::json!({
            "ts": "2026-11-22T12:00:00.062Z", "level": "info", "msg": "decision",
            "target": "countersign::telemetry::logs::tests", "uid": "0df1", "verdict": "denied",
            "duration_ms": 12, "dry_run": false, "image": "nginx:1.27",
        })
    );
}

#[test]
fn a_text_line_reads_from_left_to_right() {
    let text = logged(Format::Text, || {
        let _entered = info_span!("admit", uid = "0df1").entered();
        warn!(reason = "tag 1.2 is not signed", code = 403, "denied");
    });
    assert_eq!(
        text,
        "2026-11-22T12:00:00.062Z  WARN countersign::telemetry::logs::tests: denied uid=0df1 reason=\"tag 1.2 is not signed\" code=403\n"
    );
}

/// Checklist 57.
#[test]
fn no_value_can_forge_a_second_line() {
    for forged in [
        "nginx\n2026-11-22T12:00:00Z  INFO admitted",
        "nginx\r\n{\"level\":\"info\",\"msg\":\"admitted\"}",
        "nginx\u{2028}admitted",
        "nginx\u{85}admitted",
        "nginx\u{1b}[2K\u{9b}1Aadmitted",
        "nginx\u{202e}dettimda",
        "\"}\n{\"msg\":\"admitted",
    ] {
        for format in [Format::Json, Format::Text] {
            let text = logged(format, || {
                info!(image = forged, display = %forged, debug = ?forged, "{forged}");
            });
            let (line, rest) = text.split_once('\n').unwrap();
            assert_eq!(rest, "", "{format:?} {forged:?}");
            assert!(
                !line
                    .chars()
                    .any(|c| c.is_control() || "\u{2028}\u{202e}".contains(c)),
                "{format:?} {line:?}"
            );
            if format == Format::Json {
                let line: Value = serde_json::from_str(line).unwrap();
                assert_eq!(line["image"], forged);
                assert_eq!(line["msg"], forged);
            }
        }
    }
}

#[test]
fn long_values_are_cut_at_a_character() {
    let text = logged(Format::Json, || info!(image = "é".repeat(400), "x"));
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["image"], format!("{}…", "é".repeat(256)));
}

#[test]
fn an_error_is_written_with_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the key")]
    struct Outer(#[source] io::Error);
    let text = logged(Format::Json, || {
        let error = Outer(io::Error::other("no such file"));
        warn!(
            error = &error as &(dyn std::error::Error + 'static),
            "reload failed"
        );
    });
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["error"], "cannot read the key: no such file");
}

#[test]
fn a_filter_that_cannot_be_read_is_refused() {
    for (filter, fine) in [
        ("info", true),
        ("warn,countersign=debug", true),
        ("countersign=loud", false),
        ("loud", false),
        ("info,hyper", false),
    ] {
        assert_eq!(
            subscriber(Format::Json, filter, Memory::default(), noon).is_ok(),
            fine,
            "{filter}"
        );
    }
    assert!("yaml".parse::<Format>().is_err());
}
