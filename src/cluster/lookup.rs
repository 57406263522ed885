//! Reads what policies name: by name, one at a time, when a watch says that it has changed, and again every now and then.
//! Nothing is listed, and where nothing may be watched either, `get` on the named objects is enough (CRED-23).

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt as _};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::GetParams;
use kube::{Api, Client, Resource as _};
use secrecy::SecretString;
use serde_json::Value;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::REQUEST;
use super::bells::{Bells, Object};
use crate::credential::DockerConfig;
use crate::policy::{Answers, Login, Lookup, LookupError, Material, lookups};

/// Requests at once.
const READS: usize = 8;

type Answer = Result<Material, LookupError>;
/// A namespace, and what is looked up there.
type Place = (String, Lookup);

/// What was found so far.
pub(super) struct Notebook {
    client: Client,
    release_namespace: String,
    known: BTreeMap<Place, Answer>,
    bells: Bells,
    /// What has changed since it was read.
    changed: BTreeSet<Object>,
}

/// What is read although it was read before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Nothing,
    Failures,
    Everything,
}

impl Notebook {
    pub(super) fn new(client: Client, release_namespace: String) -> Self {
        Self {
            bells: Bells::new(client.clone()),
            client,
            release_namespace,
            known: BTreeMap::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Waits until something that is watched may have changed; `None` if nothing is watched.
    pub(super) async fn change(&mut self) -> Option<()> {
        let first = self.bells.next().await?;
        self.changed.insert(first);
        while let Some(object) = self.bells.another() {
            self.changed.insert(object);
        }
        Some(())
    }

    /// Reads what `policies` name, watches it, and forgets the rest. Gives whether anything is other than it was.
    pub(super) async fn read(&mut self, policies: &[Value], again: Again) -> bool {
        let wanted: BTreeSet<Place> = policies.iter().flat_map(|policy| self.places(policy)).collect();
        let objects = wanted.iter().map(object).collect();
        self.bells.hang(&objects);
        self.changed.retain(|object| objects.contains(object));
        let known = |place: &Place| match (again, self.known.get(place)) {
            _ if self.changed.contains(&object(place)) => false,
            (Again::Nothing, Some(_)) | (Again::Failures, Some(Ok(_))) => true,
            (_, None) | (Again::Failures, Some(Err(_))) | (Again::Everything, Some(_)) => false,
        };
        let due: Vec<_> = wanted.iter().filter(|place| !known(place)).cloned().collect();
        let found: Vec<(Place, Found)> = stream::iter(due)
            .map(|place| {
                let client = self.client.clone();
                async move {
                    let found = read(client, &place).await;
                    (place, found)
                }
            })
            .buffer_unordered(READS)
            .collect()
            .await;
        self.changed.clear();
        let before = self.known.clone();
        self.known.retain(|place, _| wanted.contains(place));
        for (place, found) in found {
            self.note(place, found);
        }
        self.known != before
    }

    /// What was found of everything that `policy` names.
    pub(super) fn answers(&self, policy: &Value) -> Answers {
        self.places(policy)
            .filter_map(|place| Some((place.1.clone(), self.known.get(&place)?.clone())))
            .collect()
    }

    /// A policy's own namespace; the webhook's for one of the cluster (CRED-20).
    fn places(&self, policy: &Value) -> impl Iterator<Item = Place> + use<> {
        let own = policy.pointer("/metadata/namespace").and_then(Value::as_str);
        let namespace = own.unwrap_or(&self.release_namespace).to_owned();
        lookups(policy)
            .into_iter()
            .map(move |lookup| (namespace.clone(), lookup))
    }

    /// An outage does not unmake what was read before it, and a change that it hides is looked for again.
    fn note(&mut self, place: Place, found: Found) {
        match found {
            Found::Answer(answer) => {
                self.known.insert(place, answer);
            }
            Found::Outage(error) => {
                self.changed.insert(object(&place));
                let known = self.known.entry(place).or_insert_with(|| Err(error.clone()));
                if known.is_err() {
                    *known = Err(error);
                }
            }
        }
    }
}

fn object((namespace, what): &Place) -> Object {
    Object::of(namespace, what)
}

/// What one request came to.
pub(super) enum Found {
    Answer(Answer),
    Outage(LookupError),
}

pub(super) async fn read(client: Client, (namespace, what): &Place) -> Found {
    let reading = async {
        match what {
            Lookup::Secret(name) => {
                let text = secret(&client, namespace, name).await;
                text.map(|text| login(what, &text).map(Material::Login))
            }
            Lookup::ConfigMap { name, key } => {
                let maps: Api<ConfigMap> = Api::namespaced(client, namespace);
                let found = maps.get(name).await;
                found.map(|map| entry(what, key, map).map(Material::Text))
            }
        }
    };
    let unreadable = |reason: &str| LookupError::Unreadable {
        what: what.clone(),
        namespace: namespace.as_str().into(),
        reason: reason.into(),
    };
    match timeout(REQUEST, reading).await {
        Ok(Ok(answer)) => Found::Answer(answer),
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => {
            Found::Answer(Err(LookupError::Missing {
                what: what.clone(),
                namespace: namespace.as_str().into(),
            }))
        }
        Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
            Found::Answer(Err(unreadable(&status.message)))
        }
        Ok(Err(kube::Error::Api(status))) => Found::Outage(unreadable(&status.message)),
        // What went wrong with a connection is for the log of the watch; here it would change with every try.
        Ok(Err(_)) | Err(_) => Found::Outage(unreadable("the API server does not answer")),
    }
}

/// A Secret as the API server sends it. The client's typed calls would log one that they cannot read.
async fn secret(client: &Client, namespace: &str, name: &str) -> kube::Result<Zeroizing<String>> {
    let request = kube::core::Request::new(Secret::url_path(&(), Some(namespace)))
        .get(name, &GetParams::default())
        .map_err(kube::Error::BuildRequest)?;
    client.request_text(request).await.map(Zeroizing::new)
}

/// The login in a Secret, in either of docker's two shapes (kubernetes-admission §5.2). Other types are refused even if
/// they have the entry.
fn login(what: &Lookup, json: &str) -> Result<Login, LookupError> {
    let what = || what.clone();
    let shape = || LookupError::Shape { what: what() };
    let secret: Secret = serde_json::from_str(json).map_err(|_| shape())?;
    let key = match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => ".dockerconfigjson",
        Some("kubernetes.io/dockercfg") => ".dockercfg",
        other => {
            return Err(LookupError::Type {
                what: what(),
                found: other.unwrap_or_default().into(),
            });
        }
    };
    let entry = secret.data.and_then(|mut data| data.remove(key));
    let ByteString(bytes) = entry.ok_or_else(|| LookupError::Key {
        what: what(),
        key: key.into(),
    })?;
    let bytes = Zeroizing::new(bytes);
    let text = str::from_utf8(&bytes).map_err(|_| shape())?;
    let text = Zeroizing::new(if key == ".dockercfg" {
        format!("{{\"auths\":{text}}}")
    } else {
        text.to_owned()
    });
    DockerConfig::parse(text.as_bytes()).map_err(|_| shape())?;
    Ok(Login::new(SecretString::from(text.as_str())))
}

fn entry(what: &Lookup, key: &str, map: ConfigMap) -> Result<String, LookupError> {
    let entry = map.data.and_then(|mut data| data.remove(key));
    entry.ok_or_else(|| LookupError::Key {
        what: what.clone(),
        key: key.into(),
    })
}
