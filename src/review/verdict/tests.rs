use super::*;

fn complaint(length: usize) -> Complaint {
    Complaint::new(&"t".repeat(length), "; advice")
}

/// ADM-51, checklist 28.
#[test]
fn a_message_fits_and_says_what_it_leaves_out() {
    for (label, count, length, lines, tail) in [
        ("one", 1, 100, 1, "; advice"),
        ("five", 5, 100, 5, "; advice"),
        ("six", 6, 100, 6, "and 1 more"),
        ("a hundred", 100, 100, 6, "and 95 more"),
        ("advice does not fit", 5, 200, 5, "t"),
        ("not even all texts", 5, 300, 4, "and 2 more"),
        ("one too long", 1, 1020, 1, "t"),
    ] {
        let complaints = vec![complaint(length); count];
        let got = message(&complaints);
        assert!(got.len() <= 1024, "{label}: {}", got.len());
        assert_eq!(got.lines().count(), lines, "{label}: {got}");
        assert!(got.ends_with(tail), "{label}: {got}");
    }
}

#[test]
fn a_complaint_stays_on_one_line() {
    let got = Complaint::new("a\nb", "; \u{202e}c\r").full();
    assert_eq!(got, "a\\nb; \\u{202e}c\\r");
}

/// ADM-54, checklist 29.
#[test]
fn warnings_are_few_short_and_printable() {
    let long = "é".repeat(400);
    let got = warnings([long, "a\tb".to_owned(), "a\tb".to_owned()]);
    assert_eq!(got.len(), 2);
    assert_eq!(got[0].chars().count(), 256);
    assert_eq!(got[1], "a\\tb");
    let many = warnings((0..25).map(|i| format!("warning {i}")));
    assert_eq!(many.len(), 10);
    assert_eq!(many[9], "and 16 more warnings");
    assert_eq!(
        warnings((0..10).map(|i| format!("warning {i}"))).last().unwrap(),
        "warning 9"
    );
}

/// ADM-56, checklist 30.
#[test]
fn the_images_annotation_is_json_that_fits() {
    let one = Outcome {
        path: "/spec/containers/0/image",
        image: None,
        digest: Some(format!("sha256:{}", "ab".repeat(32))),
        result: "trusted",
        reason: "signed",
    };
    for count in [0, 1, 5, 1000] {
        let text = outcomes(&vec![one.clone(); count], MAX_ANNOTATION);
        assert!(text.len() <= 1024, "{count}");
        let list: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let more = list.last().and_then(|last| last["more"].as_u64()).unwrap_or(0);
        let shown = if more > 0 { list.len() - 1 } else { list.len() };
        assert_eq!(shown + usize::try_from(more).unwrap(), count);
    }
    assert_eq!(
        outcomes(&[Outcome { digest: None, ..one }], MAX_ANNOTATION),
        r#"[{"path":"/spec/containers/0/image","result":"trusted","reason":"signed"}]"#
    );
}

#[test]
fn the_gravest_status_is_the_greatest() {
    assert!(Status::Forbidden > Status::BadRequest && Status::BadRequest > Status::ServiceUnavailable);
}

proptest::proptest! {
    /// OBS-21, checklist 57.
    #[test]
    fn printable_text_is_one_short_line(text in ".*|\\PC*|[\\x00-\\x1f\\u{80}-\\u{9f}x]*", limit in 3_usize..40) {
        let line = printable(&text, limit);
        proptest::prop_assert!(line.len() <= limit);
        proptest::prop_assert!(!line.chars().any(char::is_control));
    }
}
