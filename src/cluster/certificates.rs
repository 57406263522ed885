//! Where certificates of our own are kept in a cluster: the authority in one Secret, what callers trust in the
//! `caBundle` of webhook entries.
//!
//! Everything is read and written by name, so that `get`, `create` and `patch` are all that has to be granted (TLS-04).
//! Each write says which version of the object it is made for, and fails if that is no longer the last one (TLS-05).

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{GetParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Client, Resource as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::REQUEST;

/// Asks for a new authority at once, whatever its value; taken off when there is one.
pub const ROTATE: &str = "countersign.dev/rotate";
/// Who owns `caBundle`, in `managedFields` (TLS-08).
const MANAGER: &str = "countersign-ca";

/// What a Secret holds, by key.
pub type Entries = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// The Secret of the authority, and the webhook configurations of the release.
#[derive(Clone)]
pub struct CertificateStore {
    client: Client,
    namespace: String,
    secret: String,
    configurations: Configurations,
}

/// The two webhook configurations of one name.
#[derive(Clone)]
pub struct Configurations {
    client: Client,
    name: String,
}

/// A kind of webhook configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigurationKind {
    /// `MutatingWebhookConfiguration`
    Mutating,
    /// `ValidatingWebhookConfiguration`
    Validating,
}

/// The Secret as it was read.
pub struct StoredAuthority {
    version: String,
    /// Its data.
    pub entries: Entries,
    /// Whether [`ROTATE`] is among its annotations.
    pub rotate: bool,
}

/// A configuration as it was read.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Which of the two.
    pub kind: ConfigurationKind,
    version: String,
    /// Name and `caBundle` of each entry; without one it is empty.
    pub entries: Vec<(String, Vec<u8>)>,
}

/// An object could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateStoreError {
    /// Somebody else wrote it since it was read: read it again.
    #[error("{what} was changed meanwhile")]
    Conflict {
        /// The object.
        what: String,
    },
    /// RBAC is missing.
    #[error("not permitted to use {what}: {message}")]
    Forbidden {
        /// The object.
        what: String,
        /// What the API server says.
        message: String,
    },
    /// The API server answers, and says no.
    #[error("the API server refused to serve {what}: {message}")]
    Refused {
        /// The object.
        what: String,
        /// What the API server says.
        message: String,
    },
    /// No answer, or none in time.
    #[error("the API server does not answer for {what}")]
    Unreachable {
        /// The object.
        what: String,
        /// Why, unless it is for the time.
        #[source]
        source: Option<Box<kube::Error>>,
    },
    /// An answer that is no such object. Its text is not told: it may be a Secret's.
    #[error("what the API server has for {what} cannot be read")]
    Shape {
        /// The object.
        what: String,
    },
}

impl CertificateStore {
    pub(super) const fn new(
        client: Client,
        namespace: String,
        secret: String,
        configurations: Configurations,
    ) -> Self {
        Self {
            client,
            namespace,
            secret,
            configurations,
        }
    }

    /// The configurations whose entries are to trust the authority.
    pub const fn configurations(&self) -> &Configurations {
        &self.configurations
    }

    /// Reads the Secret; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`CertificateStoreError`], never `Conflict`.
    pub async fn authority(&self) -> Result<Option<StoredAuthority>, CertificateStoreError> {
        let request = self.request().get(&self.secret, &GetParams::default());
        let Some(text) = ask(&self.client, self.what(), request).await? else {
            return Ok(None);
        };
        let shape = |_| CertificateStoreError::Shape { what: self.what() };
        let secret: Secret = serde_json::from_str(&text).map_err(shape)?;
        let data = secret.data.unwrap_or_default().into_iter();
        let annotations = secret.metadata.annotations.unwrap_or_default();
        Ok(Some(StoredAuthority {
            version: secret.metadata.resource_version.unwrap_or_default(),
            entries: data.map(|(key, ByteString(bytes))| (key, bytes.into())).collect(),
            rotate: annotations.contains_key(ROTATE),
        }))
    }

    /// Writes `wanted` in place of `own`, which is what of `before` the caller keeps there; everything else in the
    /// Secret is left alone. `rotated` takes [`ROTATE`] off.
    ///
    /// # Errors
    ///
    /// [`CertificateStoreError::Conflict`] if `before` is no longer what is there.
    pub async fn write(
        &self,
        before: Option<&StoredAuthority>,
        own: &Entries,
        wanted: &Entries,
        rotated: bool,
    ) -> Result<(), CertificateStoreError> {
        let data = |entries: &Entries| -> BTreeMap<String, Value> {
            let encoded = |bytes: &[u8]| json!(ByteString(bytes.to_vec()));
            entries
                .iter()
                .map(|(key, bytes)| (key.clone(), encoded(bytes)))
                .collect()
        };
        let request = match before {
            None => {
                let labels = json!({"app.kubernetes.io/name": "countersign", "app.kubernetes.io/managed-by": "countersign"});
                let metadata = json!({"name": self.secret, "namespace": self.namespace, "labels": labels});
                let secret = json!({
                    "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                    "metadata": metadata, "data": data(wanted),
                });
                let body = serde_json::to_vec(&secret).unwrap_or_default();
                self.request().create(&PostParams::default(), body)
            }
            Some(before) => {
                let mut changes = data(wanted);
                let gone = own.keys().filter(|key| !wanted.contains_key(*key));
                changes.extend(gone.map(|key| (key.clone(), Value::Null)));
                let mut metadata = json!({"resourceVersion": before.version});
                if rotated && let Some(metadata) = metadata.as_object_mut() {
                    metadata.insert("annotations".into(), json!({ROTATE: null}));
                }
                let patch = Patch::Merge(json!({"metadata": metadata, "data": changes}));
                self.request().patch(&self.secret, &manager(), &patch)
            }
        };
        let there = ask(&self.client, self.what(), request).await?;
        // Gone since it was read.
        let gone = || CertificateStoreError::Conflict { what: self.what() };
        there.map(drop).ok_or_else(gone)
    }

    fn request(&self) -> Request {
        Request::new(Secret::url_path(&(), Some(&self.namespace)))
    }

    fn what(&self) -> String {
        format!("Secret {} in namespace {}", self.secret, self.namespace)
    }
}

impl Configurations {
    pub(super) const fn new(client: Client, name: String) -> Self {
        Self { client, name }
    }

    /// Their name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads those that are there, one of each kind at most.
    ///
    /// # Errors
    ///
    /// [`CertificateStoreError`], never `Conflict`.
    pub async fn read(&self) -> Result<Vec<Configuration>, CertificateStoreError> {
        let mut found = Vec::new();
        for kind in ConfigurationKind::ALL {
            let request = kind.request().get(&self.name, &GetParams::default());
            let Some(text) = ask(&self.client, self.what(kind), request).await? else {
                continue;
            };
            let shape = |_| CertificateStoreError::Shape {
                what: self.what(kind),
            };
            let registered: Registered = serde_json::from_str(&text).map_err(shape)?;
            let entries = registered.webhooks.into_iter().map(|entry| {
                let bundle = entry.client_config.ca_bundle.unwrap_or_default();
                (entry.name, bundle.0)
            });
            found.push(Configuration {
                kind,
                version: registered.metadata.resource_version.unwrap_or_default(),
                entries: entries.collect(),
            });
        }
        Ok(found)
    }

    /// Makes `bundle` the `caBundle` of all entries of `read`.
    ///
    /// A strategic merge patch, not an apply: an applier owns the entries it names, and whoever applies the rest could
    /// never take one away again. This way nothing is owned but the field (TLS-08).
    ///
    /// # Errors
    ///
    /// [`CertificateStoreError::Conflict`] if `read` is no longer what is there.
    pub async fn publish(&self, read: &Configuration, bundle: &[u8]) -> Result<(), CertificateStoreError> {
        let bundle = ByteString(bundle.to_vec());
        let entry =
            |(name, _): &(String, Vec<u8>)| json!({"name": name, "clientConfig": {"caBundle": bundle}});
        let entries: Vec<_> = read.entries.iter().map(entry).collect();
        let patch = json!({"metadata": {"resourceVersion": read.version}, "webhooks": entries});
        let request = read.kind.request();
        let request = request.patch(&self.name, &manager(), &Patch::Strategic(patch));
        let what = || self.what(read.kind);
        let there = ask(&self.client, what(), request).await?;
        let gone = || CertificateStoreError::Conflict { what: what() };
        there.map(drop).ok_or_else(gone)
    }

    fn what(&self, kind: ConfigurationKind) -> String {
        format!("{} {}", kind.kind(), self.name)
    }
}

impl ConfigurationKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Mutating, Self::Validating];

    /// `mutating` or `validating`, for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mutating => "mutating",
            Self::Validating => "validating",
        }
    }

    /// As in the API.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Mutating => "MutatingWebhookConfiguration",
            Self::Validating => "ValidatingWebhookConfiguration",
        }
    }

    fn request(self) -> Request {
        Request::new(match self {
            Self::Mutating => MutatingWebhookConfiguration::url_path(&(), None),
            Self::Validating => ValidatingWebhookConfiguration::url_path(&(), None),
        })
    }
}

/// What of a configuration matters here, the same in both kinds.
#[derive(Deserialize)]
struct Registered {
    metadata: ObjectMeta,
    #[serde(default)]
    webhooks: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(rename = "clientConfig")]
    client_config: ClientConfig,
}

#[derive(Deserialize)]
struct ClientConfig {
    #[serde(rename = "caBundle")]
    ca_bundle: Option<ByteString>,
}

fn manager() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// The text of an answer, `None` if there is no such object. The client's typed calls would log one that they cannot
/// read, and this may be a Secret.
async fn ask(
    client: &Client,
    what: String,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Option<Zeroizing<String>>, CertificateStoreError> {
    let answer = match request {
        Ok(request) => timeout(REQUEST, client.request_text(request)).await,
        Err(error) => Ok(Err(kube::Error::BuildRequest(error))),
    };
    match answer {
        Ok(Ok(text)) => Ok(Some(Zeroizing::new(text))),
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Ok(None),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
            Err(CertificateStoreError::Conflict { what })
        }
        Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => Err(CertificateStoreError::Forbidden {
            what,
            message: status.message,
        }),
        Ok(Err(kube::Error::Api(status))) => Err(CertificateStoreError::Refused {
            what,
            message: status.message,
        }),
        Ok(Err(error)) => Err(CertificateStoreError::Unreachable {
            what,
            source: Some(Box::new(error)),
        }),
        Err(_) => Err(CertificateStoreError::Unreachable { what, source: None }),
    }
}

impl fmt::Debug for CertificateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateStore")
            .field("namespace", &self.namespace)
            .field("secret", &self.secret)
            .field("configurations", &self.configurations.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Configurations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Configurations").field(&self.name).finish()
    }
}

impl fmt::Debug for StoredAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredAuthority")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
