//! `AdmissionReview` of `admission.k8s.io/v1`, both ways (§1.2, §1.8).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::review::patch::Patch;
use crate::review::verdict::{Ruling, Status};

mod object;
pub mod policy;

/// The only version spoken (ADM-12).
const VERSION: &str = "admission.k8s.io/v1";
/// The type of both question and answer.
const KIND: &str = "AdmissionReview";

/// Reads the body of an HTTP request.
///
/// # Errors
///
/// [`Malformed`], which the HTTP layer answers with status 400: without a uid there is nobody to answer (ADM-67).
pub fn parse(body: &[u8]) -> Result<Request<'_>, Malformed> {
    let review: Review<'_> = serde_json::from_slice(body).map_err(|error| Malformed::Json {
        line: error.line(),
        column: error.column(),
    })?;
    if review.kind.as_deref() != Some(KIND) {
        return Err(Malformed::Kind);
    }
    if review.api_version.as_deref() != Some(VERSION) {
        return Err(Malformed::Version);
    }
    let request = review.request.ok_or(Malformed::Request)?;
    if request.uid.is_empty() {
        return Err(Malformed::Uid);
    }
    Ok(request)
}

/// Why a body is not a review. The texts are short and quote nothing of the body (OBS-21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Not JSON, or a member has another type than it must have.
    #[error("the body is not an AdmissionReview: unexpected content at line {line}, column {column}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// Another kind of object.
    #[error("the body is not an AdmissionReview")]
    Kind,
    /// Another version.
    #[error("only AdmissionReview of {VERSION} is understood: set admissionReviewVersions to [v1]")]
    Version,
    /// No `request`.
    #[error("the AdmissionReview has no request")]
    Request,
    /// No `uid`, so that no answer could be matched to the question.
    #[error("the AdmissionReview has no uid")]
    Uid,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    #[serde(borrow)]
    api_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

/// What the API server asks. Members we do not know are ignored, and `null` is as good as nothing (ADM-11).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    /// Copied to the answer; fresh for every call, so it links nothing (§1.2).
    #[serde(default, deserialize_with = "or_default")]
    pub uid: String,
    /// Type of `object`, after conversion.
    #[serde(default, deserialize_with = "or_default")]
    pub kind: Kind,
    /// The resource written to, after conversion. What decides how the object is read.
    #[serde(default, deserialize_with = "or_default")]
    pub resource: Resource,
    /// `ephemeralcontainers`, `status`, …; empty for the resource itself.
    #[serde(default, deserialize_with = "or_default", rename = "subResource")]
    pub subresource: String,
    /// Empty while a generated name is still to come.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// Authoritative, unlike the object's own.
    #[serde(default, deserialize_with = "or_default")]
    pub namespace: String,
    /// What is being done.
    #[serde(default, deserialize_with = "or_default")]
    pub operation: Operation,
    /// Who does it. Never evidence of trust; read for the node exclusion (AVL-30), for who sees warnings, and for the
    /// API server to say whether this user may do without content trust.
    #[serde(borrow, default, deserialize_with = "user", rename = "userInfo")]
    pub user: User<'a>,
    /// Changes nothing about the decision (ADM-57).
    #[serde(default, deserialize_with = "or_default")]
    pub dry_run: bool,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    old_object: Option<&'a RawValue>,
}

impl Request<'_> {
    /// What names and images the object would have if it were stored; `None` on DELETE, or if it cannot be read
    /// (nested too deep, more than the API server could store).
    pub fn object(&self) -> Option<Value> {
        self.object.and_then(object::read)
    }

    /// The same of the object as it is stored; `None` on CREATE, or if it cannot be read.
    pub fn old_object(&self) -> Option<Value> {
        self.old_object.and_then(object::read)
    }

    /// What the object as it would be stored has as its annotation `name`; `None` also if that cannot be read. Anybody
    /// can write one, so that it is at most a wish (ADM-35).
    pub fn annotation(&self, name: &str) -> Option<String> {
        object::annotation(self.object?, name)
    }

    /// The object as a policy of ours: what makes it one, as JSON text. `None` on DELETE, or if it has not the shape of any
    /// object.
    pub fn policy(&self) -> Option<policy::Text<'_>> {
        self.object.and_then(policy::Text::read)
    }

    /// The same of the object as it is stored.
    pub fn old_policy(&self) -> Option<policy::Text<'_>> {
        self.old_object.and_then(policy::Text::read)
    }

    /// Whether an owner of the object claims to control it. Anybody can write that, so it is reason enough to leave the
    /// object as it is, and never to trust it (ADM-34, ADM-35). Owners that cannot be read count as one that does.
    pub fn is_controlled(&self) -> bool {
        self.object.is_none_or(object::is_controlled)
    }
}

/// Leaves the objects out: environment values hold secrets (OBS-21).
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("uid", &self.uid)
            .field("resource", &self.resource)
            .field("subresource", &self.subresource)
            .field("namespace", &self.namespace)
            .field("operation", &self.operation)
            .finish_non_exhaustive()
    }
}

/// A group, version and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Kind {
    /// Empty for the core group.
    #[serde(default, deserialize_with = "or_default")]
    pub group: String,
    /// `Pod`, `Deployment`, …
    #[serde(default, deserialize_with = "or_default")]
    pub kind: String,
}

/// A group and resource; the version does not matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Resource {
    /// Empty for the core group.
    #[serde(default, deserialize_with = "or_default")]
    pub group: String,
    /// `pods`, `deployments`, …
    #[serde(default, deserialize_with = "or_default")]
    pub resource: String,
}

/// Who asks.
#[derive(Clone, Default)]
pub struct User<'a> {
    /// Personal data: stays out of logs (OBS-21).
    pub name: String,
    /// Whether the group of kubelets is among the groups, as authenticated.
    node: bool,
    raw: Option<&'a RawValue>,
}

/// What is always read of a user.
#[derive(Deserialize)]
struct Known {
    #[serde(default, deserialize_with = "or_default", rename = "username")]
    name: String,
    #[serde(default, deserialize_with = "holds_nodes", rename = "groups")]
    node: bool,
}

/// Everything an authorizer may go by, as the API server authenticated it. Personal data: stays out of logs (OBS-21).
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Identity {
    /// Never empty.
    #[serde(default, deserialize_with = "or_default", rename = "username")]
    pub name: String,
    /// Tells apart users who had the same name one after the other; may be empty.
    #[serde(default, deserialize_with = "or_default")]
    pub uid: String,
    /// Every group.
    #[serde(default, deserialize_with = "or_default")]
    pub groups: Vec<String>,
    /// What the authenticator knows besides: scopes of a token, for one.
    #[serde(default, deserialize_with = "extra")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

impl User<'_> {
    /// The whole identity; `None` if it cannot be read, names nobody or is larger than [`MAX_IDENTITY`].
    pub fn identity(&self) -> Option<Identity> {
        let raw = self.raw?.get();
        let read = (raw.len() <= MAX_IDENTITY).then(|| serde_json::from_str(raw).ok())?;
        read.filter(|identity: &Identity| !identity.name.is_empty())
    }

    /// Whether this is a kubelet, which may create mirror pods only (AVL-30).
    pub const fn is_node(&self) -> bool {
        self.node
    }

    /// Whether nobody reads what this user is warned of: kubelets, the scheduler, controllers (ADM-55).
    pub fn is_machinery(&self) -> bool {
        self.is_node()
            || self.name.starts_with("system:kube-")
            || self.name.starts_with("system:serviceaccount:kube-system:")
    }
}

/// What is done to the object. A PATCH arrives as `UPDATE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// A new object.
    Create,
    /// A changed one.
    Update,
    /// Never ours to refuse.
    Delete,
    /// `exec`, `attach` and the like.
    Connect,
    /// One that is not known yet.
    #[default]
    #[serde(other)]
    Other,
}

impl Operation {
    /// The word for logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Other => "other",
        }
    }
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What the API server is told, audit annotations included.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The request's.
    pub uid: String,
    /// Yes or no.
    pub ruling: Ruling,
    /// Kept by the API server in its audit log, below the webhook's name (ADM-56).
    pub annotations: BTreeMap<&'static str, String>,
}

impl Reply {
    /// The answer's body. Never empty: an empty body would be a failed call (ADM-06).
    pub fn to_bytes(&self) -> Vec<u8> {
        let review = ReviewOut {
            api_version: VERSION,
            kind: KIND,
            response: self.response(),
        };
        json!(review).to_string().into_bytes()
    }

    fn response(&self) -> Response<'_> {
        let mut response = Response {
            uid: &self.uid,
            allowed: false,
            status: None,
            patch: None,
            patch_type: None,
            audit_annotations: &self.annotations,
            warnings: &[],
        };
        match &self.ruling {
            Ruling::Allowed { patch, warnings } => {
                response.allowed = true;
                response.patch = patch.as_ref().map(Patch::to_base64);
                response.patch_type = patch.as_ref().map(|_| "JSONPatch");
                response.warnings = warnings;
            }
            Ruling::Denied { status, message } => response.status = Some(StatusOut::new(*status, message)),
        }
        response
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReviewOut<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<StatusOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: &'a BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

/// A `metav1.Status` with every member the API server looks at (ADM-50).
#[derive(Serialize)]
struct StatusOut<'a> {
    status: &'static str,
    code: u16,
    reason: &'static str,
    message: &'a str,
}

impl<'a> StatusOut<'a> {
    const fn new(status: Status, message: &'a str) -> Self {
        Self {
            status: "Failure",
            code: status.code(),
            reason: status.reason(),
            message,
        }
    }
}

/// The rest is read again by whoever needs it: a body may have millions of groups.
fn user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<User<'de>, D::Error> {
    let Some(raw) = Option::<&RawValue>::deserialize(deserializer)? else {
        return Ok(User::default());
    };
    let Known { name, node } = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
    Ok(User {
        name,
        node,
        raw: Some(raw),
    })
}

/// An empty list of Go is `null` in JSON.
fn extra<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    let read: Option<BTreeMap<String, Option<Vec<String>>>> = Option::deserialize(deserializer)?;
    let filled = |(key, values): (String, Option<Vec<String>>)| (key, values.unwrap_or_default());
    Ok(read.unwrap_or_default().into_iter().map(filled).collect())
}

/// Reads a list of groups without keeping it: a body may have millions.
fn holds_nodes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Groups;

    impl<'de> Visitor<'de> for Groups {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of groups")
        }

        fn visit_unit<E>(self) -> Result<bool, E> {
            Ok(false)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut groups: A) -> Result<bool, A::Error> {
            let mut found = false;
            while let Some(group) = groups.next_element::<Cow<'_, str>>()? {
                found |= group == NODES;
            }
            Ok(found)
        }
    }

    deserializer.deserialize_any(Groups)
}

/// Largest identity in bytes of JSON: a thousand groups of 64 characters.
const MAX_IDENTITY: usize = 64 << 10;
/// The group of kubelets; `NodeRestriction` lets them create mirror pods only.
const NODES: &str = "system:nodes";

#[cfg(test)]
mod tests;
