//! Requests to the registry and what they come to (OCI distribution-spec 1.1, "Endpoints").

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RANGE};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::shelf::{Held, Shelf};
use crate::reference::{Digest, Reference, Tag};
use crate::tuf::sha256;

/// A request, read but for its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// `GET /v2/`
    Ping,
    /// `GET /v2/_catalog`
    Catalog,
    /// `GET /v2/<name>/tags/list`
    Tags(String),
    /// `GET` or `HEAD` of a manifest.
    Manifest(String, Wanted),
    /// `PUT` of a manifest, with its media type.
    PutManifest(String, Wanted, String),
    /// `GET` or `HEAD` of a blob.
    Blob(Digest),
    /// `POST` of an upload, of all of a blob if its digest is there; `mount` names one that may be there already.
    Begin {
        repository: String,
        digest: Option<Digest>,
        mount: Option<Digest>,
    },
    /// `GET` of an upload.
    Progress(String, u64),
    /// `PATCH` of an upload.
    Append(String, u64),
    /// `PUT` of an upload, with the digest.
    Finish(String, u64, Digest),
}

/// A tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Tag(Tag),
    Digest(Digest),
}

/// Why a request comes to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No such endpoint.
    Path,
    /// An endpoint that takes other methods, or a method that this registry does without.
    Method,
    /// A name that no repository has.
    Name,
    /// Neither a tag nor a digest, or a digest that the bytes do not have.
    Digest,
    /// No such manifest.
    Manifest,
    /// A manifest that is none.
    Invalid,
    /// No such blob.
    Blob,
    /// No such upload.
    Upload,
    /// A body above the limit.
    TooLarge,
    /// No room.
    Full,
    /// The body broke off.
    Broken,
    /// The body did not arrive in time.
    Slow,
}

impl Call {
    /// Reads a request's head.
    pub(super) fn read(parts: &Parts) -> Result<Self, Failure> {
        let path = parts.uri.path();
        let rest = path.strip_prefix("/v2").ok_or(Failure::Path)?;
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        match rest {
            "" | "/" if reads => return Ok(Self::Ping),
            "/_catalog" if reads => return Ok(Self::Catalog),
            "" | "/" | "/_catalog" => return Err(Failure::Method),
            _ => {}
        }
        let rest = rest.strip_prefix('/').ok_or(Failure::Path)?;
        if let Some(name) = rest.strip_suffix("/tags/list") {
            let name = repository(name)?;
            return if reads {
                Ok(Self::Tags(name))
            } else {
                Err(Failure::Method)
            };
        }
        if let Some((name, wanted)) = rest.rsplit_once("/manifests/") {
            return Self::manifest(parts, repository(name)?, wanted);
        }
        if let Some((name, id)) = rest.rsplit_once("/blobs/uploads/") {
            return Self::upload(parts, repository(name)?, id);
        }
        let (name, digest) = rest.rsplit_once("/blobs/").ok_or(Failure::Path)?;
        repository(name)?;
        if !reads {
            return Err(Failure::Method);
        }
        Ok(Self::Blob(digest.parse().map_err(|_| Failure::Digest)?))
    }

    fn manifest(parts: &Parts, name: String, wanted: &str) -> Result<Self, Failure> {
        let wanted = match (wanted.parse(), wanted.parse()) {
            (Ok(digest), _) => Wanted::Digest(digest),
            (_, Ok(tag)) => Wanted::Tag(tag),
            _ => return Err(Failure::Manifest),
        };
        match parts.method {
            Method::GET | Method::HEAD => Ok(Self::Manifest(name, wanted)),
            Method::PUT => {
                let kind = parts.headers.get(CONTENT_TYPE);
                let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
                Ok(Self::PutManifest(name, wanted, kind.to_owned()))
            }
            _ => Err(Failure::Method),
        }
    }

    fn upload(parts: &Parts, repository: String, id: &str) -> Result<Self, Failure> {
        let query = parts.uri.query();
        if id.is_empty() {
            let from = parameter(query, "from")?;
            return match parts.method {
                Method::POST => Ok(Self::Begin {
                    repository,
                    digest: digest(query, "digest")?,
                    mount: digest(query, "mount")?.filter(|_| from.is_some()),
                }),
                _ => Err(Failure::Method),
            };
        }
        let id = id.parse().map_err(|_| Failure::Upload)?;
        match parts.method {
            Method::GET => Ok(Self::Progress(repository, id)),
            Method::PATCH => Ok(Self::Append(repository, id)),
            Method::PUT => {
                let digest = digest(query, "digest")?.ok_or(Failure::Digest)?;
                Ok(Self::Finish(repository, id, digest))
            }
            _ => Err(Failure::Method),
        }
    }

    /// Most bytes of the body.
    pub(super) const fn limit(&self) -> usize {
        match self {
            Self::PutManifest(..) => MANIFEST,
            Self::Begin { .. } | Self::Append(..) | Self::Finish(..) => BLOB,
            Self::Ping
            | Self::Catalog
            | Self::Tags(_)
            | Self::Manifest(..)
            | Self::Blob(_)
            | Self::Progress(..) => 0,
        }
    }

    /// Does what is asked.
    pub(super) fn answer(self, content: &Shelf, body: Held) -> Result<Answer, Failure> {
        match self {
            Self::Ping => Ok(of_json(&json!({}))),
            Self::Catalog => Ok(of_json(&json!({"repositories": content.repositories()}))),
            Self::Tags(name) => {
                let tags = content.tags(&name).ok_or(Failure::Name)?;
                Ok(of_json(&json!({"name": name, "tags": tags})))
            }
            Self::Manifest(name, wanted) => manifest(content, &name, wanted),
            Self::PutManifest(name, wanted, kind) => put_manifest(content, &name, &wanted, kind, body),
            Self::Blob(digest) => {
                let bytes = content.blob(&digest).ok_or(Failure::Blob)?;
                let answer = with_type(StatusCode::OK, "application/octet-stream", bytes);
                Ok(with(answer, DIGEST, &digest.to_string()))
            }
            Self::Begin {
                repository,
                digest,
                mount,
            } => begin(content, &repository, digest.as_ref(), mount, body),
            Self::Progress(name, id) => {
                let held = content.take_upload(id).ok_or(Failure::Upload)?;
                let answer = uploading(StatusCode::NO_CONTENT, &name, id, held.len());
                content.resume(id, held);
                Ok(answer)
            }
            Self::Append(name, id) => {
                let held = go_on(content, id, &body)?;
                let answer = uploading(StatusCode::ACCEPTED, &name, id, held.len());
                content.resume(id, held);
                Ok(answer)
            }
            Self::Finish(name, id, digest) => {
                let held = go_on(content, id, &body)?;
                finish(content, &name, held, &digest)
            }
        }
    }
}

/// What the registry answers.
pub(super) type Answer = Response<Full<Bytes>>;

fn manifest(shelf: &Shelf, name: &str, wanted: Wanted) -> Result<Answer, Failure> {
    let digest = match wanted {
        Wanted::Digest(digest) => digest,
        Wanted::Tag(tag) => shelf.tag(name, &tag).ok_or(Failure::Manifest)?,
    };
    let (kind, bytes) = shelf.manifest(&digest).ok_or(Failure::Manifest)?;
    let answer = with(Response::new(Full::new(bytes)), CONTENT_TYPE, &kind);
    Ok(with(answer, DIGEST, &digest.to_string()))
}

fn put_manifest(
    shelf: &Shelf,
    name: &str,
    wanted: &Wanted,
    kind: String,
    body: Held,
) -> Result<Answer, Failure> {
    // What is no JSON object no client would take for a manifest.
    if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body.bytes()).is_err() {
        return Err(Failure::Invalid);
    }
    let tag = match wanted {
        Wanted::Tag(tag) => Some(tag),
        Wanted::Digest(said) => {
            let found = Digest::sha256(sha256(body.bytes()));
            if found != *said {
                return Err(Failure::Digest);
            }
            None
        }
    };
    let digest = shelf.keep_manifest(name, tag, kind, body);
    Ok(created(&format!("/v2/{name}/manifests/{digest}"), &digest))
}

fn begin(
    shelf: &Shelf,
    name: &str,
    digest: Option<&Digest>,
    mount: Option<Digest>,
    body: Held,
) -> Result<Answer, Failure> {
    // Blobs of all repositories are kept in one place: mounting is finding.
    if let Some(digest) = mount.filter(|digest| shelf.blob(digest).is_some()) {
        return Ok(created(&format!("/v2/{name}/blobs/{digest}"), &digest));
    }
    match digest {
        Some(digest) => finish(shelf, name, body, digest),
        None => Ok(uploading(StatusCode::ACCEPTED, name, shelf.begin(), 0)),
    }
}

/// What came before, and `body` behind it.
fn go_on(shelf: &Shelf, id: u64, body: &Held) -> Result<Held, Failure> {
    let mut held = shelf.take_upload(id).ok_or(Failure::Upload)?;
    if held.len() + body.len() > BLOB {
        return Err(Failure::TooLarge);
    }
    shelf.append(&mut held, body.bytes()).ok_or(Failure::Full)?;
    Ok(held)
}

fn finish(shelf: &Shelf, name: &str, held: Held, said: &Digest) -> Result<Answer, Failure> {
    if Digest::sha256(sha256(held.bytes())) != *said {
        return Err(Failure::Digest);
    }
    let digest = shelf.keep_blob(held);
    Ok(created(&format!("/v2/{name}/blobs/{digest}"), &digest))
}

/// A repository's name, by the grammar of references.
fn repository(name: &str) -> Result<String, Failure> {
    let reference = Reference::parse(&format!("localhost/{name}")).map_err(|_| Failure::Name)?;
    // Neither tag nor digest was in it.
    (reference.gun().path() == name)
        .then(|| name.to_owned())
        .ok_or(Failure::Name)
}

fn parameter(query: Option<&str>, name: &str) -> Result<Option<String>, Failure> {
    let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let value = pairs.find(|(key, _)| key == name).map(|(_, value)| value);
    match value {
        Some(value) if value.len() > LONGEST_PARAMETER => Err(Failure::Digest),
        value => Ok(value.map(std::borrow::Cow::into_owned)),
    }
}

fn digest(query: Option<&str>, name: &str) -> Result<Option<Digest>, Failure> {
    let value = parameter(query, name)?;
    value
        .map(|value| value.parse().map_err(|_| Failure::Digest))
        .transpose()
}

fn of_json(value: &serde_json::Value) -> Answer {
    with_type(StatusCode::OK, "application/json", value.to_string())
}

fn created(location: &str, digest: &Digest) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::CREATED;
    with(with(answer, LOCATION, location), DIGEST, &digest.to_string())
}

fn uploading(status: StatusCode, name: &str, id: u64, length: usize) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    let answer = with(answer, LOCATION, &format!("/v2/{name}/blobs/uploads/{id}"));
    // Both ends count, so that nothing at all looks like one byte: clients know.
    let range = format!("0-{}", length.saturating_sub(1));
    with(answer, RANGE, &range)
}

fn with_type(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    with(answer, CONTENT_TYPE, kind)
}

fn with(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    // What is in them was read from a header or made by us.
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

impl Failure {
    /// Status, code and message of the answer (distribution-spec, "Error Codes").
    const fn words(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Path => (StatusCode::NOT_FOUND, "UNSUPPORTED", "no such endpoint"),
            Self::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                "UNSUPPORTED",
                "the sandbox's registry does without this",
            ),
            Self::Name => (StatusCode::NOT_FOUND, "NAME_UNKNOWN", "no such repository"),
            Self::Digest => (
                StatusCode::BAD_REQUEST,
                "DIGEST_INVALID",
                "the digest is none, or not that of the bytes",
            ),
            Self::Manifest => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "no such manifest"),
            Self::Invalid => (
                StatusCode::BAD_REQUEST,
                "MANIFEST_INVALID",
                "the manifest is no JSON object",
            ),
            Self::Blob => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "no such blob"),
            Self::Upload => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "no such upload"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", "too large"),
            Self::Full => (
                StatusCode::INSUFFICIENT_STORAGE,
                "DENIED",
                "the sandbox's registry is full: it is in memory, and small",
            ),
            Self::Broken => (
                StatusCode::BAD_REQUEST,
                "BLOB_UPLOAD_INVALID",
                "the body broke off",
            ),
            Self::Slow => (
                StatusCode::REQUEST_TIMEOUT,
                "BLOB_UPLOAD_INVALID",
                "the body did not arrive in time",
            ),
        }
    }

    /// The answer that says so.
    pub(super) fn into_response(self) -> Answer {
        let (status, code, message) = self.words();
        let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
        let answer = with_type(status, "application/json", body);
        if self == Self::Method {
            return with(answer, ALLOW, "GET, HEAD, POST, PATCH, PUT");
        }
        answer
    }
}

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Registries take manifests of 4 MiB at most (distribution-spec, "Pushing manifests").
const MANIFEST: usize = 4 << 20;
/// One layer: half of the room there is.
const BLOB: usize = 256 << 20;
/// A digest of SHA-512 has 135 characters, a repository's name 255.
const LONGEST_PARAMETER: usize = 512;
