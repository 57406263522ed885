//! The workloads' own logins: read when they are needed, by name, from the namespace of the request (CRED-20), and
//! forgotten within a minute (CRED-24).

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::GetParams;
use kube::{Client, Resource as _};
use serde::Deserialize;
use tokio::time::{Instant, interval, timeout, timeout_at};
use tracing::warn;

use super::REQUEST;
use super::lookup::{Found, read};
use crate::credential::DockerConfig;
use crate::fetch::Flights;
use crate::policy::{Lookup, LookupError, Material, is_object_name};
use crate::review::logins::PullSources;

/// How long what was read serves; with the sweep it is gone within 60 seconds (CRED-24).
const FOUND: Duration = Duration::from_secs(45);
/// How long it counts that there is nothing to use (CRED-24).
const LOST: Duration = Duration::from_secs(10);
/// How often what is too old is dropped, whether or not somebody asks.
const SWEEP: Duration = Duration::from_secs(10);
/// Answers kept at once. With the largest text 16 MiB; beyond that each is read when it is needed.
const MOST: usize = 256;
/// Largest login in bytes: hundreds of registries. A Secret may have 1 MiB.
const LARGEST: usize = 64 << 10;
/// How long a fault that was logged is not logged again.
const LOGGED: Duration = Duration::from_secs(3600);
/// Service accounts name no more than this that is looked at, as in a Pod.
const MOST_OF_ACCOUNT: usize = 16;

/// The pull secrets of workloads; none unless it was made for a cluster. Clones are one.
#[derive(Clone, Default)]
pub struct PullSecrets(Option<Arc<Reader>>);

/// One pull secret that a workload names.
#[derive(Clone, Debug)]
pub struct PullSecret {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub config: Result<Arc<DockerConfig>, Unusable>,
}

/// Why a pull secret is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// There is none of that name.
    Missing,
    /// It holds no login, or is of another type, or cannot exist.
    Malformed,
    /// The API server did not let us see it.
    Unavailable,
}

impl Unusable {
    /// The word for metrics and messages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Unavailable => "unavailable",
        }
    }
}

type Config = Result<Arc<DockerConfig>, Unusable>;
type Names = Result<Arc<[String]>, Unusable>;
/// A namespace, and a name in it.
type Place = (String, String);

struct Reader {
    client: Client,
    secrets: Kept<Config>,
    accounts: Kept<Names>,
    reading: Flights<Place, Config>,
    logged: Kept<()>,
}

impl PullSecrets {
    pub(super) fn of(client: Client) -> Self {
        Self(Some(Arc::new(Reader {
            client,
            secrets: Kept::default(),
            accounts: Kept::default(),
            reading: Flights::default(),
            logged: Kept::default(),
        })))
    }

    /// Reads the pull secrets of workloads through `client`.
    #[doc(hidden)]
    pub fn through(client: Client) -> Self {
        Self::of(client)
    }

    /// Whether workloads' logins are used at all.
    pub const fn are_used(&self) -> bool {
        self.0.is_some()
    }

    /// Everything that `sources` name, in order, as far as it can be read before `deadline`.
    pub async fn find(&self, sources: &PullSources, deadline: Instant) -> Vec<PullSecret> {
        let Some(reader) = &self.0 else {
            return Vec::new();
        };
        let namespace = &sources.namespace;
        // Of a namespace that is none, nothing is read: it would be part of a path.
        if !is_object_name(namespace) {
            return Vec::new();
        }
        let names: Arc<[String]> = match &sources.account {
            Some(account) => reader.account(namespace, account, deadline).await,
            None => sources.secrets.as_slice().into(),
        };
        let reads = names.iter().map(|name| reader.secret(namespace, name, deadline));
        let configs = join_all(reads).await;
        let found = names.iter().cloned().zip(configs);
        found.map(|(name, config)| PullSecret { name, config }).collect()
    }

    /// Drops what is too old, for ever. To be dropped, or spawned by the caller.
    pub async fn sweep(&self) -> Infallible {
        let mut ticks = interval(SWEEP);
        loop {
            ticks.tick().await;
            if let Some(reader) = &self.0 {
                reader.secrets.sweep();
                reader.accounts.sweep();
            }
        }
    }
}

impl Reader {
    async fn secret(self: &Arc<Self>, namespace: &str, name: &str, deadline: Instant) -> Config {
        // It would be part of a path (CRED-20).
        if !is_object_name(name) {
            return Err(Unusable::Malformed);
        }
        let place = (namespace.to_owned(), name.to_owned());
        if let Some(known) = self.secrets.get(&place) {
            return known;
        }
        let (reader, wanted) = (Arc::clone(self), place.clone());
        let reading = self
            .reading
            .join(place, || async move { reader.read(wanted).await }.boxed());
        timeout_at(deadline, reading)
            .await
            .unwrap_or(Err(Unusable::Unavailable))
    }

    async fn read(&self, place: Place) -> Config {
        let (namespace, name) = &place;
        let what = (namespace.clone(), Lookup::Secret(name.clone()));
        let config = match read(self.client.clone(), &what).await {
            Found::Answer(Ok(Material::Login(login))) if login.expose().len() <= LARGEST => {
                DockerConfig::parse(login.expose().as_bytes()).map_err(|_| Unusable::Malformed)
            }
            Found::Answer(Err(LookupError::Missing { .. })) => Err(Unusable::Missing),
            Found::Answer(Err(LookupError::Unreadable { .. })) | Found::Outage(_) => {
                Err(Unusable::Unavailable)
            }
            Found::Answer(Ok(_) | Err(_)) => Err(Unusable::Malformed),
        };
        if let Err(unusable) = &config {
            self.log(&place, "pull secret", *unusable);
        }
        let config = config.map(Arc::new);
        self.secrets
            .put(place, config.clone(), if config.is_ok() { FOUND } else { LOST });
        config
    }

    /// The names that a service account has; none if it cannot be read.
    async fn account(&self, namespace: &str, name: &str, deadline: Instant) -> Arc<[String]> {
        if !is_object_name(name) {
            return Arc::default();
        }
        let place = (namespace.to_owned(), name.to_owned());
        if let Some(known) = self.accounts.get(&place) {
            return known.unwrap_or_default();
        }
        let reading = timeout(REQUEST, account(&self.client, namespace, name));
        let names = match timeout_at(deadline, reading).await {
            Ok(Ok(names)) => names,
            Ok(Err(_)) | Err(_) => Err(Unusable::Unavailable),
        };
        if let Err(unusable) = &names {
            self.log(&place, "service account", *unusable);
        }
        let time = if names.is_ok() { FOUND } else { LOST };
        self.accounts.put(place, names.clone(), time);
        names.unwrap_or_default()
    }

    /// Once, and not each time that a Pod is made (CRED-02).
    fn log(&self, place: &Place, what: &'static str, unusable: Unusable) {
        let key = (place.0.clone(), format!("{what} {}", place.1));
        if self.logged.get(&key).is_some() {
            return;
        }
        self.logged.put(key, (), LOGGED);
        let (namespace, name) = place;
        warn!(
            namespace,
            name,
            what,
            reason = unusable.word(),
            "a login of a workload is passed over"
        );
    }
}

#[derive(Deserialize)]
struct Account {
    #[serde(default, rename = "imagePullSecrets")]
    secrets: Option<Vec<Named>>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: Option<String>,
}

async fn account(client: &Client, namespace: &str, name: &str) -> Names {
    let request = kube::core::Request::new(ServiceAccount::url_path(&(), Some(namespace)))
        .get(name, &GetParams::default())
        .map_err(|_| Unusable::Malformed)?;
    let text = match client.request_text(request).await {
        Ok(text) => text,
        Err(kube::Error::Api(status)) if status.is_not_found() => return Err(Unusable::Missing),
        Err(_) => return Err(Unusable::Unavailable),
    };
    let account: Account = serde_json::from_str(&text).map_err(|_| Unusable::Malformed)?;
    let names = account
        .secrets
        .into_iter()
        .flatten()
        .filter_map(|named| named.name);
    Ok(names
        .filter(|name| !name.is_empty())
        .take(MOST_OF_ACCOUNT)
        .collect())
}

/// What is remembered for a while.
struct Kept<V>(Mutex<HashMap<Place, (Instant, V)>>);

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V: Clone> Kept<V> {
    fn get(&self, place: &Place) -> Option<V> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, value) = all.get(place)?;
        (*until > Instant::now()).then(|| value.clone())
    }

    fn put(&self, place: Place, value: V, time: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if all.len() >= MOST {
            all.retain(|_, (until, _)| *until > now);
        }
        if all.len() < MOST {
            all.insert(place, (now + time, value));
        }
    }

    fn sweep(&self) {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (until, _)| *until > now);
    }
}

impl fmt::Debug for PullSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PullSecrets").field(&self.are_used()).finish()
    }
}

#[cfg(test)]
mod tests;
