use std::path::PathBuf;

use jiff::SignedDuration;

use super::*;
use crate::telemetry::Exposition;

struct Place {
    directory: tempfile::TempDir,
    ready: Ready,
    metrics: Arc<Metrics>,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            ready: Ready::default(),
            metrics: Arc::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn certificates(&self, certificate: Certificate) -> Arc<Certificates> {
        let certificates = Certificates::new(
            Tls::new(certificate),
            self.ready.clone(),
            Arc::clone(&self.metrics),
        );
        Arc::new(certificates.unwrap())
    }

    fn own(&self) -> Arc<Certificates> {
        self.certificates(Certificate::self_signed(self.directory.path().to_owned()))
    }

    /// The pair that [`own`](Self::own) made, as files that nobody renews.
    fn files(&self) -> Arc<Certificates> {
        self.certificates(Certificate::Files {
            certificate: self.path("tls.crt"),
            key: self.path("tls.key"),
        })
    }

    fn reloads(&self) -> (u32, u32) {
        let text = self.metrics.encode(Exposition::Classic).unwrap();
        let count = |result: &str| {
            let name = format!("countersign_certificate_reloads_total{{result=\"{result}\"}} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&name));
            value.unwrap().parse().unwrap()
        };
        (count("ok"), count("error"))
    }

    fn is_ready(&self, now: Timestamp) -> bool {
        self.ready.conditions(now).next().unwrap().1
    }
}

fn day(number: i64) -> Timestamp {
    let start: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    start
        .checked_add(SignedDuration::from_hours(24 * number))
        .unwrap()
}

#[tokio::test]
async fn our_own_certificate_is_renewed_before_it_ends() {
    let place = Place::new();
    let certificates = place.own();
    for (today, reloads) in [(0, 1), (1, 1), (4, 1), (5, 2), (9, 2), (10, 3)] {
        certificates.refresh(day(today)).await;
        assert!(place.is_ready(day(today)), "day {today}");
        assert_eq!(place.reloads(), (reloads, 0), "day {today}");
    }
    assert!(!place.is_ready(day(100)), "nobody refreshed it");
}

#[tokio::test]
async fn a_certificate_that_runs_out_in_service_is_unready_and_counted() {
    let place = Place::new();
    place.own().refresh(day(0)).await;
    let place = Place {
        ready: Ready::default(),
        metrics: Arc::default(),
        ..place
    };
    let certificates = place.files();
    for (today, ready, reloads) in [
        (0, true, (1, 0)),
        (6, true, (1, 0)),
        (8, false, (1, 1)),
        (9, false, (1, 2)),
    ] {
        certificates.refresh(day(today)).await;
        assert_eq!(
            (place.is_ready(day(today)), place.reloads()),
            (ready, reloads),
            "day {today}"
        );
    }
    assert!(
        certificates.current().is_some(),
        "callers see an expired certificate rather than nothing"
    );
}

#[tokio::test]
async fn a_pair_that_is_not_good_yet_is_taken_up_when_it_is() {
    let place = Place::new();
    place.own().refresh(day(10)).await;
    let place = Place {
        ready: Ready::default(),
        ..place
    };
    let certificates = place.files();
    certificates.refresh(day(9)).await;
    assert!(certificates.current().is_none());
    certificates.refresh(day(11)).await;
    assert!(certificates.current().is_some() && place.is_ready(day(11)));
}

#[tokio::test]
async fn what_went_wrong_is_told_once_until_it_changes() {
    let place = Place::new();
    let certificates = place.files();
    let complaint = || certificates.seen.lock().unwrap().complaint.clone();
    certificates.refresh(day(0)).await;
    let missing = complaint().unwrap();
    assert!(
        missing.starts_with("cannot read ") && missing.contains("tls.crt: No such file"),
        "{missing}"
    );
    fs::write(place.path("tls.crt"), "").unwrap();
    fs::write(place.path("tls.key"), "").unwrap();
    certificates.refresh(day(0)).await;
    assert_eq!(complaint().unwrap(), "the certificate file holds no certificate");
    place.own().refresh(day(0)).await;
    certificates.refresh(day(0)).await;
    assert_eq!(complaint(), None);
}
