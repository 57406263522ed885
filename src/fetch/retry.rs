//! When a request is repeated, and when that may be.
//!
//! Only where the server gave no answer that counts: a connection that failed, and 429, 502, 503 and 504. Never
//! after 401, 403, 404 or 400, which are answers, after a plain 500, which is the reference's answer to an unknown
//! role (notary-v1 §2.2), or after a `POST`.

use std::time::Duration;

use http::header::RETRY_AFTER;

use super::{Error, Request, Response, parse_date};

/// How long to wait before `attempt` (the first is 0) is followed by another; `None` if it is not. `random` spreads
/// clients that failed together.
pub(super) fn pause(
    request: &Request,
    outcome: &Result<Response, Error>,
    attempt: u32,
    random: u16,
) -> Option<Duration> {
    if attempt >= MOST || !request.ask.repeatable() {
        return None;
    }
    let jitter = FIRST.mul_f64(f64::from(random) / f64::from(u16::MAX));
    let own = (FIRST + jitter) * 2_u32.pow(attempt);
    match outcome {
        Ok(response) if matches!(response.status.as_u16(), 429 | 502 | 503 | 504) => {
            Some(after(response).map_or(own, |asked| asked + jitter))
        }
        Err(Error::Network { .. }) => Some(own),
        Ok(_) | Err(_) => None,
    }
}

/// `Retry-After`, as seconds or as a date. A date is held against the server's own `Date`, so that no clock of ours
/// comes into it.
pub(super) fn after(response: &Response) -> Option<Duration> {
    let text = response.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = text.parse().ok().or_else(|| {
        let wait = parse_date(text)?.as_second() - response.date()?.as_second();
        Some(u64::try_from(wait).unwrap_or_default())
    })?;
    Some(Duration::from_secs(seconds).min(LONGEST))
}

/// Two bytes from the crypto provider; the middle if it fails, for nothing secret depends on them.
pub(crate) fn random() -> u16 {
    let mut bytes = [0; 2];
    aws_lc_rs::rand::fill(&mut bytes).map_or(u16::MAX / 2, |()| u16::from_ne_bytes(bytes))
}

/// Repetitions of one request.
const MOST: u32 = 2;
/// The first wait without jitter: at 100–200 ms and 200–400 ms two repetitions cost 0.6 s at most, which leaves an
/// admission's 5 s most of their time.
const FIRST: Duration = Duration::from_millis(100);
/// More is not believed: a day is longer than anybody waits for, and short enough to add to any instant.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};
    use url::Url;

    use super::*;

    fn request() -> Request {
        Request::metadata(Url::parse("https://trust.example.com/v2/x").unwrap(), 1)
    }

    fn response(status: u16, headers: &[(&'static str, &str)]) -> Response {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        Response {
            url: request().url,
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: bytes::Bytes::new(),
        }
    }

    #[test]
    fn only_what_gave_no_answer_is_repeated() {
        for status in [200, 301, 400, 401, 403, 404, 410, 500, 501] {
            assert_eq!(
                pause(&request(), &Ok(response(status, &[])), 0, 0),
                None,
                "{status}"
            );
        }
        for status in [429, 502, 503, 504] {
            assert!(
                pause(&request(), &Ok(response(status, &[])), 0, 0).is_some(),
                "{status}"
            );
        }
        let host: crate::fetch::Host = "trust.example.com".into();
        for error in [
            Error::Timeout { host: host.clone() },
            Error::Slow { host: host.clone() },
            Error::TooLarge {
                host: host.clone(),
                limit: 1,
            },
            Error::ForbiddenAddress { host },
        ] {
            assert_eq!(pause(&request(), &Err(error), 0, 0), None);
        }
    }

    #[test]
    fn a_form_is_never_sent_twice() {
        let mut form = request();
        form.ask = super::super::request::Ask::Form("refresh_token=x".into());
        assert_eq!(pause(&form, &Ok(response(503, &[])), 0, 0), None);
    }

    #[test]
    fn waits_grow_with_jitter_and_end_after_two() {
        let busy = Ok(response(503, &[]));
        let millis =
            |attempt, random| pause(&request(), &busy, attempt, random).map(|pause| pause.as_millis());
        assert_eq!((millis(0, 0), millis(0, u16::MAX)), (Some(100), Some(200)));
        assert_eq!((millis(1, 0), millis(1, u16::MAX)), (Some(200), Some(400)));
        assert_eq!(millis(2, 0), None);
    }

    #[test]
    fn a_wait_that_the_server_asks_for_is_kept() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (label, headers, want) in [
            ("seconds", vec![("retry-after", "7")], Some(7)),
            ("at once", vec![("retry-after", "0")], Some(0)),
            (
                "a date",
                vec![date, ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")],
                Some(30),
            ),
            (
                "a date gone by",
                vec![date, ("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")],
                Some(0),
            ),
            (
                "a date without the server's own",
                vec![("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")],
                None,
            ),
            (
                "for ever",
                vec![("retry-after", "18446744073709551615")],
                Some(24 * 3600),
            ),
            ("nonsense", vec![("retry-after", "-1")], None),
            ("nothing", vec![], None),
        ] {
            let response = response(429, &headers);
            assert_eq!(after(&response).map(|wait| wait.as_secs()), want, "{label}");
            let pause = pause(&request(), &Ok(response), 0, 0).unwrap();
            assert_eq!(pause, want.map_or(FIRST, Duration::from_secs), "{label}");
        }
    }
}
