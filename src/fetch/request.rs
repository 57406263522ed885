//! Requests as data.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use zeroize::Zeroizing;

use super::{Kind, Response};
use crate::fetch::Error;

/// One request, built without a client and sent by [`super::Client::send`]. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Request {
    /// What for.
    pub kind: Kind,
    /// Where to.
    pub url: Url,
    /// The `Authorization` header; always marked sensitive.
    pub authorization: Option<HeaderValue>,
    /// What is asked, and what is sent along.
    pub ask: Ask,
    /// The `Accept` header.
    pub accept: Option<HeaderValue>,
    /// Most bytes of a successful answer, after decompression.
    pub limit: u64,
    /// What a redirect means.
    pub redirects: Redirects,
}

/// What is asked, and what is sent along.
#[derive(Clone, Debug)]
pub enum Ask {
    /// `GET`.
    Get,
    /// `POST` of a form, which is secret.
    Form(SecretString),
    /// `POST` of something else.
    Post {
        /// What it is.
        content_type: Option<HeaderValue>,
        /// The body.
        body: Bytes,
    },
    /// `DELETE`.
    Delete,
}

impl Ask {
    /// Whether asking twice is asking once.
    pub(super) const fn repeatable(&self) -> bool {
        matches!(self, Self::Get)
    }
}

/// What a redirect means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// It is the answer, and a refusal to most.
    Refuse,
    /// It is followed, five times at most.
    Follow,
}

impl Request {
    /// Asks for a metadata file of at most `limit` bytes.
    pub const fn metadata(url: Url, limit: u64) -> Self {
        Self {
            kind: Kind::Trust,
            url,
            authorization: None,
            ask: Ask::Get,
            accept: None,
            limit,
            redirects: Redirects::Refuse,
        }
    }

    /// Changes what a trust server holds.
    pub fn change(url: Url, ask: Ask) -> Self {
        let limit = CHANGE_BODY;
        Self {
            kind: Kind::Publish,
            ask,
            ..Self::metadata(url, limit)
        }
    }

    /// Asks a registry for a manifest.
    pub fn manifest(url: Url, accept: HeaderValue, limit: u64) -> Self {
        Self {
            kind: Kind::Registry,
            accept: Some(accept),
            redirects: Redirects::Follow,
            ..Self::metadata(url, limit)
        }
    }

    /// Asks what login a server wants.
    pub const fn ping(url: Url) -> Self {
        let (limit, redirects) = (PING_BODY, Redirects::Follow);
        Self {
            kind: Kind::Ping,
            url,
            authorization: None,
            ask: Ask::Get,
            accept: None,
            limit,
            redirects,
        }
    }

    /// Asks a token service.
    pub(super) fn token(url: Url, form: Option<SecretString>) -> Self {
        let (limit, redirects) = (TOKEN_BODY, Redirects::Follow);
        Self {
            kind: Kind::Token,
            url,
            authorization: None,
            ask: form.map_or(Ask::Get, Ask::Form),
            accept: None,
            limit,
            redirects,
        }
    }

    /// The same with an `Authorization` header.
    #[must_use]
    pub fn authorized(mut self, authorization: Option<HeaderValue>) -> Self {
        self.authorization = authorization;
        self
    }

    /// The request that `response` redirects this one to; `None` if it is no redirect.
    ///
    /// # Errors
    ///
    /// [`Error::Redirect`] if it leads nowhere, from https to http, or would take a form anywhere but back to the
    /// same server: the form holds a refresh token.
    pub(super) fn redirected(&self, response: &Response) -> Result<Option<Self>, Error> {
        if !FOLLOWED.contains(&response.status) {
            return Ok(None);
        }
        let location = response
            .headers
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        let url = location
            .and_then(|location| self.url.join(location).ok())
            .ok_or_else(|| response.refusal())?;
        let secure = url.scheme() == "https" || (url.scheme() == "http" && self.url.scheme() == "http");
        let stays = url.origin() == self.url.origin();
        let repeats = matches!(
            response.status,
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
        let may_follow = self.ask.repeatable() || stays && repeats;
        if !secure || !may_follow {
            return Err(response.refusal());
        }
        let mut next = self.clone();
        next.url = url;
        // A login is for the host it matched (CRED-21).
        next.authorization = next.authorization.filter(|_| stays);
        Ok(Some(next))
    }
}

/// `Authorization: Basic`. `None` if the base64 were no header, which it always is.
pub fn basic(user: &str, password: &SecretString) -> Option<HeaderValue> {
    let pair = Zeroizing::new(format!("{user}:{}", password.expose_secret()));
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
    sensitive(&format!("Basic {}", *encoded))
}

/// `Authorization: Bearer`. `None` if the token has characters that no header may have.
pub fn bearer(token: &SecretString) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {}", token.expose_secret()))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

const FOLLOWED: [StatusCode; 5] = [
    StatusCode::MOVED_PERMANENTLY,
    StatusCode::FOUND,
    StatusCode::SEE_OTHER,
    StatusCode::TEMPORARY_REDIRECT,
    StatusCode::PERMANENT_REDIRECT,
];
/// `{}`, or a page that somebody put there.
const PING_BODY: u64 = 64 * 1024;
/// A key, or nothing.
const CHANGE_BODY: u64 = 64 * 1024;
/// A token with its certificate chain has under 10 KB.
const TOKEN_BODY: u64 = 256 * 1024;
