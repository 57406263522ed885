//! Errors as clients of the reference read them (notary-v1 §2.8).

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::trustserver::access::Need;

/// A request that is not answered with what it asks for.
///
/// Messages are the reference's, since its clients show them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Nothing to store files in.
    #[error("The server is misconfigured and has no storage.")]
    NoStorage,
    /// Nothing to sign with.
    #[error("The server does not have a signing service configured.")]
    NoCryptoService,
    /// No kind of key to make.
    #[error("The server does not have a key algorithm configured.")]
    NoKeyAlgorithm,
    /// A part of an upload does not say whose file it is.
    #[error("No file/role name provided.")]
    NoFilename,
    /// No role has this name, or none that may be uploaded.
    #[error("The role you are attempting to operate on is invalid.")]
    InvalidRole {
        /// The name.
        role: String,
    },
    /// A part of an upload is no metadata.
    #[error("JSON sent by the client could not be parsed by the server")]
    MalformedJson,
    /// An upload cannot be taken apart.
    #[error("The body of your request is malformed.")]
    MalformedUpload {
        /// What is wrong, in a few words.
        problem: &'static str,
    },
    /// An upload was judged, and nothing of it is stored. `None` for a failure that is not the upload's.
    #[error("Update sent by the client is invalid.")]
    InvalidUpdate(Option<InvalidUpdate>),
    /// Somebody else has published meanwhile.
    #[error("A newer version of metadata is already available.")]
    Version,
    /// The upload could not be stored.
    #[error("An error has occurred while updating the TUF repository.")]
    Updating,
    /// No such file, repository or path.
    #[error("You have requested metadata that does not exist.")]
    NotFound,
    /// No such thing below `/v2/`.
    #[error("You have requested a resource that does not exist.")]
    GenericNotFound,
    /// An update of what this server keeps no repositories of that name for, or nobody could.
    #[error("The server does not support actions on images of this name.")]
    InvalidGun,
    /// Parameters of the changefeed.
    #[error("The parameters provided are not valid.")]
    InvalidParameters,
    /// Something failed that is not the caller's.
    #[error("unknown error")]
    Unknown,
    /// The caller must say who it is, or is not permitted to.
    #[error("authentication required")]
    Unauthorized {
        /// What permission it takes.
        need: Need,
        /// Values of `WWW-Authenticate`.
        challenges: Vec<HeaderValue>,
    },
    /// Not permitted, whoever it is. Go clients need a 401 (§2.9).
    #[error("requested access to the resource is denied")]
    Denied,
    /// A method that the protocol does not know.
    #[error("The operation is unsupported.")]
    Unsupported {
        /// The value of `Allow`.
        allow: &'static str,
    },
    /// Not now; the same server or another may be able to later.
    #[error("service unavailable")]
    Unavailable {
        /// When to ask again.
        retry_after: Duration,
    },
    /// More requests than this client may send.
    #[error("too many requests")]
    TooManyRequests {
        /// When to ask again.
        retry_after: Duration,
    },
    /// A body above the limit.
    #[error("The body of your request is malformed.")]
    TooLarge,
    /// A body that did not arrive in time.
    #[error("The body of your request is malformed.")]
    TooSlow,
    /// No answer was found in the time there is. An update may have been stored nevertheless.
    #[error("service unavailable")]
    Late,
    /// The path is not written as it should be.
    #[error("the path is not canonical")]
    Moved {
        /// Where it is: path and query.
        location: String,
    },
}

/// Why an upload is not accepted, in the words of the reference's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidUpdate {
    /// `ErrValidation`, `ErrBadHierarchy`, `ErrBadRoot`, `ErrBadTargets` or `ErrBadSnapshot`.
    pub name: &'static str,
    /// What a publisher reads; cut where the body would become too long.
    pub message: String,
    /// The role that is missing, of `ErrBadHierarchy`.
    pub missing: Option<&'static str>,
}

impl ProtocolError {
    /// The word that clients tell errors apart by.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoStorage => "NO_STORAGE",
            Self::NoCryptoService => "NO_CRYPTOSERVICE",
            Self::NoKeyAlgorithm => "NO_KEYALGORITHM",
            Self::NoFilename => "NO_FILENAME",
            Self::InvalidRole { .. } => "INVALID_ROLE",
            Self::MalformedJson => "MALFORMED_JSON",
            // §2.8 has no word for the last two; clients go by the status alone.
            Self::MalformedUpload { .. } | Self::TooLarge | Self::TooSlow => "MALFORMED_UPLOAD",
            Self::InvalidUpdate(_) => "INVALID_UPDATE",
            Self::Version => "VERSION",
            Self::Updating => "UPDATING",
            Self::NotFound | Self::Moved { .. } => "METADATA_NOT_FOUND",
            Self::GenericNotFound => "GENERIC_NOT_FOUND",
            Self::InvalidGun => "INVALID_GUN",
            Self::InvalidParameters => "INVALID_PARAMETERS",
            Self::Unknown => "UNKNOWN",
            Self::Unauthorized { .. } => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported { .. } => "UNSUPPORTED",
            Self::Unavailable { .. } | Self::Late => "UNAVAILABLE",
            Self::TooManyRequests { .. } => "TOOMANYREQUESTS",
        }
    }

    /// The status it is answered with.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NoStorage
            | Self::NoCryptoService
            | Self::NoKeyAlgorithm
            | Self::Updating
            | Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NoFilename
            | Self::InvalidRole { .. }
            | Self::MalformedJson
            | Self::MalformedUpload { .. }
            | Self::InvalidUpdate(_)
            | Self::Version
            | Self::InvalidGun
            | Self::InvalidParameters => StatusCode::BAD_REQUEST,
            Self::NotFound | Self::GenericNotFound => StatusCode::NOT_FOUND,
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unsupported { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Moved { .. } => StatusCode::MOVED_PERMANENTLY,
        }
    }

    /// The answer.
    pub fn into_response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = self.status();
        if let Self::Moved { location } = self {
            // Escaped, so it always is a header's value.
            if let Ok(location) = location.parse() {
                response.headers_mut().insert(LOCATION, location);
            }
            return response;
        }
        *response.body_mut() = self.body().into();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        if let Self::Unavailable { retry_after } | Self::TooManyRequests { retry_after } = self {
            headers.insert(RETRY_AFTER, seconds(retry_after).into());
        }
        if let Self::Unsupported { allow } = self {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Self::Unauthorized { challenges, .. } = self {
            for challenge in challenges {
                headers.append(WWW_AUTHENTICATE, challenge);
            }
        }
        response
    }

    /// The body, cut to what clients read of it.
    fn body(&self) -> String {
        let text = self.text();
        let whole = self.written(text);
        let excess = whole.len().saturating_sub(MOST_BYTES);
        if excess == 0 {
            return whole;
        }
        self.written(&shortened(text, excess))
    }

    /// The body with `text` in the place of what may be long.
    fn written(&self, text: &str) -> String {
        let message = self.to_string();
        let error = Entry {
            code: self.code(),
            message: &message,
            detail: self.detail(text),
        };
        // Nothing in it can fail to be written.
        let mut body = serde_json::to_string(&Body { errors: [error] }).unwrap_or_default();
        body.push('\n');
        body
    }

    /// What may be long.
    fn text(&self) -> &str {
        if let Self::InvalidRole { role: text }
        | Self::InvalidUpdate(Some(InvalidUpdate { message: text, .. })) = self
        {
            text
        } else {
            ""
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what has no detail needs none, and the table of the tests has them all"
    )]
    fn detail<'a>(&'a self, text: &'a str) -> Option<Detail<'a>> {
        Some(match self {
            Self::InvalidRole { .. } => Detail::Text(text),
            Self::MalformedUpload { problem } => Detail::Text(problem),
            Self::TooLarge => Detail::Text("the body is larger than this server accepts"),
            Self::TooSlow => Detail::Text("the body did not arrive in time"),
            Self::InvalidUpdate(Some(invalid)) => Detail::Invalid {
                name: invalid.name,
                error: Told {
                    missing: invalid.missing,
                    msg: text,
                },
            },
            Self::Version => Detail::Nothing {},
            Self::Unauthorized { need, .. } => Detail::Access(Access::of(need)),
            _ => return None,
        })
    }
}

#[derive(Serialize)]
struct Body<'a> {
    errors: [Entry<'a>; 1],
}

#[derive(Serialize)]
struct Entry<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Detail<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Detail<'a> {
    Text(&'a str),
    Nothing {},
    Invalid {
        #[serde(rename = "Name")]
        name: &'static str,
        #[serde(rename = "Error")]
        error: Told<'a>,
    },
    Access(Vec<Access<'a>>),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Told<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<&'static str>,
    msg: &'a str,
}

/// One permission, as registries write it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Access<'a> {
    r#type: &'static str,
    class: &'static str,
    name: &'a str,
    action: &'static str,
}

impl<'a> Access<'a> {
    fn of(need: &'a Need) -> Vec<Self> {
        let (kind, name, actions) = match need {
            Need::Known | Need::Catalog => ("registry", "catalog", ["*"].as_slice()),
            Need::Pull(gun) => ("repository", gun.as_str(), ["pull"].as_slice()),
            Need::Push(gun) => ("repository", gun.as_str(), ["push", "pull"].as_slice()),
            Need::Admin(gun) => ("repository", gun.as_str(), ["*"].as_slice()),
        };
        let access = |&action| Self {
            r#type: kind,
            class: "",
            name,
            action,
        };
        actions.iter().map(access).collect()
    }
}

/// `text` without so much of its end as takes `excess` bytes in JSON, and a mark that something is missing.
fn shortened(text: &str, excess: usize) -> String {
    let mut left = excess.saturating_add(CUT.len_utf8());
    let cut = text.char_indices().rev().find_map(|(at, char)| {
        left = left.saturating_sub(written(char));
        (left == 0).then_some(at)
    });
    let mut short = text.get(..cut.unwrap_or(0)).unwrap_or_default().to_owned();
    short.push(CUT);
    short
}

/// Bytes of a character in JSON.
const fn written(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => char.len_utf8(),
    }
}

/// Rounded up: whoever comes earlier comes in vain.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs()
        .saturating_add(u64::from(wait.subsec_nanos() > 0))
        .max(1)
}

/// Go clients read 1,024 bytes of a body, and nothing of a longer one (§2.8).
const MOST_BYTES: usize = 1_023;
/// Stands for what was cut.
const CUT: char = '…';

#[cfg(test)]
mod tests;
