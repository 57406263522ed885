use super::*;

#[test]
fn every_metric_of_the_table_is_there_from_the_start() {
    let text = Metrics::default().encode(Exposition::OpenMetrics).unwrap();
    for name in [
        "countersign_admission_requests_total",
        "countersign_admission_duration_seconds_bucket",
        "countersign_image_verifications_total",
        "countersign_image_verification_duration_seconds_bucket",
        "countersign_upstream_requests_total",
        "countersign_policy_ready",
        "countersign_policy_reloads_total",
        "countersign_certificate_reloads_total",
        "countersign_requests_inflight",
        "countersign_requests_shed_total",
        "countersign_http_responses_total",
        "countersign_stale_served_total",
        "countersign_panics_total",
        "countersign_connections",
        "countersign_build_info",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
        "process_cpu_seconds_total",
    ] {
        let found = text.lines().any(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        assert!(found, "{name} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn counters_of_known_words_start_at_zero() {
    let text = Metrics::default().encode(Exposition::OpenMetrics).unwrap();
    for line in [
        r#"countersign_admission_requests_total{phase="validate",operation="CREATE",resource="pods",decision="denied",dry_run="false"} 0"#,
        r#"countersign_requests_shed_total{reason="overload"} 0"#,
        r#"countersign_certificate_reloads_total{result="error"} 0"#,
        "countersign_panics_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[test]
fn what_is_recorded_is_exposed() {
    let metrics = Arc::new(Metrics::default());
    metrics.admission(
        "validate",
        "CREATE",
        "pods",
        "denied",
        false,
        Duration::from_millis(7),
    );
    metrics.upstream("trust", "2xx", Duration::from_millis(30));
    metrics.trust_fetch("ok", Duration::from_secs(1));
    metrics.nearest_metadata_expiry(Some(1_800_000_000));
    metrics.certificate_not_after("leaf", 1_790_000_000);
    let _request = metrics.request();
    drop(metrics.request());
    let text = metrics.encode(Exposition::Classic).unwrap();
    for line in [
        r#"countersign_admission_requests_total{phase="validate",operation="CREATE",resource="pods",decision="denied",dry_run="false"} 1"#,
        r#"countersign_admission_duration_seconds_bucket{le="0.005",phase="validate",decision="denied"} 0"#,
        r#"countersign_admission_duration_seconds_bucket{le="0.01",phase="validate",decision="denied"} 1"#,
        r#"countersign_upstream_requests_total{kind="trust",code="2xx"} 1"#,
        r#"countersign_trust_fetch_duration_seconds_count{result="ok"} 1"#,
        "countersign_metadata_expiry_timestamp_seconds 1800000000",
        r#"countersign_certificate_not_after_timestamp_seconds{kind="leaf"} 1790000000"#,
        "countersign_requests_inflight 1",
        "# TYPE countersign_admission_requests_total counter",
        "# TYPE countersign_build_info gauge",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[test]
fn without_metadata_there_is_no_expiry_to_alarm_about() {
    let metrics = Metrics::default();
    metrics.nearest_metadata_expiry(Some(1));
    metrics.nearest_metadata_expiry(None);
    let text = metrics.encode(Exposition::OpenMetrics).unwrap();
    assert!(
        !text.contains("\ncountersign_metadata_expiry_timestamp_seconds "),
        "{text}"
    );
}

/// Checklist 56: what is deployed does not become a label.
#[test]
fn ten_thousand_images_add_no_series() {
    let metrics = Metrics::default();
    let record = |image: u64| {
        let pick = |words: [&'static str; 4], shift: u32| {
            words[usize::try_from(image.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> shift & 3).unwrap()]
        };
        let took = Duration::from_micros(image);
        let decision = pick(DECISIONS, 40);
        metrics.admission(
            pick(["mutate", "validate", "audit", "advise"], 30),
            "CREATE",
            "pods",
            decision,
            image.is_multiple_of(2),
            took,
        );
        metrics.verification(
            "notary",
            "trusted",
            pick(["signed", "expired", "rollback", "threshold"], 50),
            "hit",
            took,
        );
        metrics.upstream("trust", pick(["2xx", "4xx", "5xx", "error"], 20), took);
        metrics.nearest_metadata_expiry(i64::try_from(image).ok());
    };
    let series = || {
        let text = metrics.encode(Exposition::OpenMetrics).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    (0..1_000).for_each(record);
    let before = series();
    (1_000..10_000).for_each(record);
    assert_eq!(series(), before);
    assert!(before < 1_000, "{before} series");
}
