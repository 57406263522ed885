//! Answers to requests that are granted (notary-v1 §2.2, §2.3, §2.5, §2.7).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH,
    LAST_MODIFIED, PRAGMA,
};
use http::{Response, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde::{Deserialize, Serialize};

use super::route::Form;
use crate::trustserver::storage::{ChangeRecord, Event, File};
use crate::tuf::{PublicKey, Role};

/// For how many seconds caches may answer in our place; 0 forbids it (§2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheAges {
    /// The current file of a role: as long as an update, and a revocation, may go unnoticed.
    pub current: u32,
    /// A file by version or hash, which never changes.
    pub fixed: u32,
}

impl Default for CacheAges {
    /// The reference's: five minutes and thirty days.
    fn default() -> Self {
        Self {
            current: 300,
            fixed: 30 * 24 * 3_600,
        }
    }
}

impl CacheAges {
    /// The largest age that the reference takes: a year.
    pub const MOST: u32 = 31_536_000;
}

/// A file, or 304 if the caller has it (`If-None-Match`; dates are no evidence of what somebody has).
///
/// A timestamp is what tells that everything else is fresh, so no cache may hand it out when it has expired: its age
/// is cut to what is left of its life at `now` (the reference lets caches serve it for five minutes more). Within its
/// life a cached timestamp is old but sound: it names a snapshot by hash, and files by hash stay readable, so whoever
/// gets it sees the repository as it was `current` seconds ago, whole. The default of 300 s is far below the third of
/// its life that a timestamp has left when it is renewed.
///
/// What a caller logged in for is `private`: a cache that others share must not give it to them. The reference says
/// `public` to everybody. Of callers who are known otherwise, [`keep_private`] says so.
pub fn metadata(
    role: &Role,
    file: &File,
    form: Form,
    headers: &HeaderMap,
    ages: CacheAges,
    now: Timestamp,
) -> Response<Bytes> {
    let tag = format!("\"{}\"", hex::encode(file.sha256));
    let known = has(headers, &tag);
    let mut response = Response::new(if known { Bytes::new() } else { file.bytes.clone() });
    let answer = response.headers_mut();
    if !known {
        answer.insert(CONTENT_TYPE, JSON);
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.insert(ETAG, tag);
    }
    if let Some(date) = date(file.stored_at) {
        answer.insert(LAST_MODIFIED, date);
    }
    let current = form == Form::Current;
    let age = match (current, role) {
        (true, Role::Timestamp) => ages.current.min(left(&file.bytes, now)),
        (true, _) => ages.current,
        (false, _) => ages.fixed,
    };
    cache(answer, age, current, headers.contains_key(AUTHORIZATION));
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    response
}

/// Lets no cache that others share keep an answer: it is for a caller who is known, be it by a certificate, which no
/// header shows.
pub fn keep_private(response: &mut Response<Bytes>) {
    let told = response
        .headers()
        .get(CACHE_CONTROL)
        .and_then(|told| told.to_str().ok());
    let Some(public) = told.and_then(|told| told.strip_prefix("public, ")) else {
        return;
    };
    let directives = public
        .split(", ")
        .filter(|directive| !directive.starts_with("s-maxage="));
    let text = format!("private, {}", directives.collect::<Vec<_>>().join(", "));
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(CACHE_CONTROL, value);
    }
}

/// `{}`: here is a trust server.
pub fn version() -> Response<Bytes> {
    json(Bytes::from_static(b"{}"))
}

/// `{}`, as the reference says that nothing is wrong with it. Whoever asks too early or too late is told 503 before
/// it comes to this.
pub fn health() -> Response<Bytes> {
    json(Bytes::from_static(b"{}"))
}

/// A public key, its members in the reference's order, which is not canonical (§2.5).
pub fn key(key: &PublicKey) -> Response<Bytes> {
    let public = BASE64_STANDARD.encode(key.public());
    let listed = Listed {
        keytype: key.keytype(),
        keyval: Keyval {
            public: &public,
            private: (),
        },
    };
    written(&listed)
}

/// Entries of the changefeed, the oldest first (§2.7).
pub fn changefeed(records: &[ChangeRecord]) -> Response<Bytes> {
    let records: Vec<_> = records.iter().map(Entry::of).collect();
    written(&Feed {
        count: records.len(),
        records,
    })
}

/// 200 and nothing else: it is done.
pub fn empty() -> Response<Bytes> {
    Response::new(Bytes::new())
}

/// The same answer for HEAD: no body, but its length.
pub fn headers_only(mut response: Response<Bytes>) -> Response<Bytes> {
    let length = response.body().len();
    if response.status() != StatusCode::NOT_MODIFIED {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = Bytes::new();
    response
}

/// Whether `headers` say that the caller has what is tagged `tag`. Tags are compared weakly (RFC 9110 §13.1.2).
fn has(headers: &HeaderMap, tag: &str) -> bool {
    let lists = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|list| list.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`; years beyond 9999 have no date.
fn date(at: Timestamp) -> Option<HeaderValue> {
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()?;
    HeaderValue::from_str(&text).ok()
}

/// Until when a file is good, as it says itself; nothing in it is verified.
pub fn expires(file: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Expiring {
        signed: Signed,
    }
    #[derive(Deserialize)]
    struct Signed {
        expires: Timestamp,
    }
    let Expiring { signed } = serde_json::from_slice(file).ok()?;
    Some(signed.expires)
}

/// Seconds until a file expires; 0 for one that does not say when.
fn left(file: &[u8], now: Timestamp) -> u32 {
    let left = expires(file).map_or(0, |expires| expires.as_second().saturating_sub(now.as_second()));
    u32::try_from(left.max(0)).unwrap_or(u32::MAX)
}

fn cache(headers: &mut HeaderMap, age: u32, current: bool, private: bool) {
    if age == 0 {
        headers.insert(
            CACHE_CONTROL,
            HeaderValue::from_static("max-age=0, no-cache, no-store"),
        );
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        return;
    }
    let checked = if current { ", must-revalidate" } else { "" };
    let text = if private {
        format!("private, max-age={age}{checked}")
    } else {
        format!("public, max-age={age}, s-maxage={age}{checked}")
    };
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(CACHE_CONTROL, value);
    }
}

fn written(value: &impl Serialize) -> Response<Bytes> {
    // Texts and numbers, which nothing can keep from being written.
    json(serde_json::to_vec(value).unwrap_or_default().into())
}

fn json(body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

#[derive(Serialize)]
struct Listed<'a> {
    keytype: &'a str,
    keyval: Keyval<'a>,
}

#[derive(Serialize)]
struct Keyval<'a> {
    public: &'a str,
    private: (),
}

#[derive(Serialize)]
struct Feed<'a> {
    count: usize,
    records: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "CreatedAt")]
    created_at: Timestamp,
    #[serde(rename = "GUN")]
    gun: &'a str,
    #[serde(rename = "Version")]
    version: u64,
    #[serde(rename = "SHA256")]
    sha256: String,
    #[serde(rename = "Category")]
    category: &'static str,
}

impl<'a> Entry<'a> {
    fn of(record: &'a ChangeRecord) -> Self {
        let (version, sha256, category) = match &record.event {
            Event::Update { version, sha256 } => (*version, hex::encode(sha256), "update"),
            Event::Deletion => (0, String::new(), "deletion"),
        };
        Self {
            id: record.id.to_string(),
            created_at: record.created_at,
            gun: record.gun.as_str(),
            version,
            sha256,
            category,
        }
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

#[cfg(test)]
mod tests;
