//! Answers that are not verdicts (ADM-05, ADM-06, ADM-67).

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::Full;

/// The body of all our answers.
pub(super) type Body = Full<Bytes>;

/// A handler's answer to a body it cannot read; `text` is shown to whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// 400 for a body that is no review, 503 for "ask again later".
    pub status: StatusCode,
    /// One short line.
    pub text: String,
}

impl Rejected {
    /// 400: the body is not a review that can be answered (ADM-67).
    pub fn malformed(text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            text: text.into(),
        }
    }
}

/// Why a request gets no verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No such path.
    Path,
    /// Something else than `POST`.
    Method,
    /// A body that is not declared as JSON.
    MediaType,
    /// A body above the limit.
    TooLarge,
    /// A body that did not arrive in time.
    TooSlow,
    /// The body broke off.
    Broken,
    /// Not able to decide now; somebody else may be.
    Busy(Busy),
    /// The handler took longer than any caller waits.
    Late,
    /// The handler panicked. Never a verdict (ADM-61).
    Panicked,
    /// The handler's own answer.
    Rejected(Rejected),
}

/// Why no decision can be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Busy {
    /// Policies are not loaded yet.
    NotReady,
    /// The server is leaving.
    Draining,
    /// Enough requests are being decided.
    Overload,
    /// Enough bodies are in memory.
    Memory,
}

impl Busy {
    /// The word in metrics.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::Draining => "draining",
            Self::Overload => "overload",
            Self::Memory => "memory",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::NotReady => "not ready: policies are not loaded yet",
            Self::Draining => "this replica is shutting down",
            Self::Overload => "too many requests at a time",
            Self::Memory => "too much data at a time",
        }
    }
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Path => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Rejected(rejected) => rejected.status,
        }
    }

    fn text(self) -> String {
        let text = match self {
            Self::Path => "no such path: there are /mutate, /validate, /audit, /advise and /policy",
            Self::Method => "an AdmissionReview is sent by POST",
            Self::MediaType => "an AdmissionReview is sent as application/json",
            Self::TooLarge => "the body is larger than any AdmissionReview",
            Self::TooSlow => "the body did not arrive in time",
            Self::Broken => "the body broke off",
            Self::Busy(busy) => busy.text(),
            Self::Late => "the decision took too long",
            Self::Panicked => "internal error",
            Self::Rejected(rejected) => return rejected.text,
        };
        text.to_owned()
    }

    /// The answer. 503 says when to repeat the request and closes the connection, so that the repetition opens a new
    /// one and most likely reaches another replica (ADM-05).
    pub(super) fn into_response(self) -> Response<Body> {
        let status = self.status();
        let method = self == Self::Method;
        let mut response = text(status, self.text());
        let headers = response.headers_mut();
        if method {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE
        ) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// A verdict.
pub(super) fn json(body: Vec<u8>) -> Response<Body> {
    with_type(StatusCode::OK, "application/json", body)
}

/// One line, or several, for people.
pub(super) fn text(status: StatusCode, mut text: String) -> Response<Body> {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    with_type(status, "text/plain; charset=utf-8", text)
}

/// `body` as what it is.
pub(super) fn with_type(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
