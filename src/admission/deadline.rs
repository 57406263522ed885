//! How long an admission may take (ADM-01, ADM-58).

use std::time::Duration;

/// The time for a decision: what the API server grants in its query, at most `limit`, less a margin of half a second
/// to a second for the way back, so that we answer with a reason instead of being cut off. Always above zero.
///
/// A query without `timeout`, or with one that is no positive Go duration, grants `limit`.
pub fn deadline(query: Option<&str>, limit: Duration) -> Duration {
    let limit = limit.min(LONGEST);
    let granted = query
        .and_then(timeout)
        .map_or(limit, |timeout| timeout.min(limit));
    let margin = (granted / 4).clamp(MARGIN_LEAST, MARGIN_MOST).min(granted / 2);
    granted.saturating_sub(margin).max(SHORTEST)
}

/// Encoding, a pooled connection within the cluster, and a garbage collection of the API server.
const MARGIN_LEAST: Duration = Duration::from_millis(500);
/// More than this buys nothing.
const MARGIN_MOST: Duration = Duration::from_secs(1);
/// The API server waits no longer for any webhook (§1.14).
const LONGEST: Duration = Duration::from_secs(30);
/// Enough for an answer from memory.
const SHORTEST: Duration = Duration::from_millis(1);

fn timeout(query: &str) -> Option<Duration> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("timeout="))?;
    go_duration(value).filter(|timeout| !timeout.is_zero())
}

/// A Go duration that is not negative: `10s`, `1m30s`, `1.5h`, `250ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = split(rest, |b| b.is_ascii_digit() || b == b'.');
        let (unit, after) = split(after, |b| !(b.is_ascii_digit() || b == b'.'));
        seconds += number.parse::<f64>().ok()? * unit_seconds(unit)?;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// `text` up to the first byte that does not `belong`; all such bytes are ASCII, or all but such are.
fn split(text: &str, belongs: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|b| !belongs(b)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "h" => 3600.0,
        "m" => 60.0,
        "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" | "μs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// ADM-01, ADM-58, checklist 5.
    #[test]
    fn the_deadline_is_the_smaller_limit_less_a_margin() {
        for (query, limit_ms, want_ms) in [
            (None, 10_000, 9_000),
            (Some("timeout=10s"), 10_000, 9_000),
            (Some("timeout=30s"), 10_000, 9_000),
            (Some("timeout=5s"), 10_000, 4_000),
            (Some("timeout=2s"), 10_000, 1_500),
            (Some("timeout=1s"), 10_000, 500),
            (Some("timeout=500ms"), 10_000, 250),
            (Some("a=b&timeout=0m20s&c"), 90_000, 19_000),
            (Some("timeout=1h"), 90_000, 29_000),
            (Some("timeout=1.5s"), 10_000, 1_000),
            (Some("timeout=1ns"), 10_000, 1),
            (None, 0, 1),
        ] {
            assert_eq!(
                deadline(query, Duration::from_millis(limit_ms)),
                Duration::from_millis(want_ms),
                "{query:?} {limit_ms}"
            );
        }
    }

    #[test]
    fn a_query_that_is_garbage_grants_the_own_limit() {
        for query in [
            "",
            "timeout",
            "timeout=",
            "timeout=0s",
            "timeout=-5s",
            "timeout=10",
            "timeout=s",
            "timeout=..s",
            "timeout=1x",
            "timeout=99999999999999999999999h",
            "timeout=%31s",
            "timeout=é",
            "dry=timeout=1s",
        ] {
            assert_eq!(deadline(Some(query), LIMIT), Duration::from_secs(9), "{query}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_query_panics_or_leaves_no_time(query in "(timeout=)?.{0,20}", limit in 0_u64..40_000) {
            let limit = Duration::from_millis(limit);
            let got = deadline(Some(&query), limit);
            proptest::prop_assert!(!got.is_zero() && got <= limit.max(SHORTEST));
        }
    }
}
