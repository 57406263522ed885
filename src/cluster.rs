//! Policies that are objects of a cluster, watched, and where our certificates are kept in it.
//!
//! ```text
//! ClusterTrustPolicy ─┐           Secrets, ConfigMaps ─ lookup ─┐
//! TrustPolicy ────────┼─ watch ─▶ policy::compile_object ◀──────┘ ─▶ adopt ─▶ status
//! Namespace ──────────┘ labels ─▶ Namespaces
//! ```
//!
//! A policy goes only when the API server says that it was deleted, in an event or by a list that is complete: an
//! outage, a watch that breaks off and a list that fails leave everything as it was (CRD-32). One that is broken stays
//! and denies (CRD-23).

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join3;
use jiff::Timestamp;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use serde_json::Value;
use tokio::sync::watch;

use crate::policy::Compiled;

mod access;
mod bells;
mod certificates;
mod kind;
mod lookup;
mod namespaces;
mod probe;
mod pull_secrets;
mod references;
mod registration;
mod report;
mod signs;
mod watching;

pub use access::{Access, Authorize, Unanswered};
pub use certificates::{
    CertificateStore, CertificateStoreError, Configuration, ConfigurationKind, Configurations, Entries,
    ROTATE, StoredAuthority,
};
pub use namespaces::Namespaces;
pub use probe::{ProbeError, Probed};
pub use pull_secrets::{PullSecret, PullSecrets, Unusable};
pub use references::References;
pub use signs::{Contact, Hooks, MODES, Sign};

/// One request to the API server, other than a list or a watch: it answers in milliseconds or has trouble.
const REQUEST: Duration = Duration::from_secs(2);

/// The API server, and where the webhook itself is.
pub struct Cluster {
    client: Client,
    release_namespace: String,
    labels: namespaces::Writer,
    namespaces: Namespaces,
    hooks: Hooks,
    default: Vec<Value>,
    registration: Option<(String, bool)>,
}

impl Cluster {
    /// The cluster that [`connect`] finds. `release_namespace` is where objects are that cluster-wide policies name.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if there is nothing to connect with.
    pub async fn connect(kubeconfig: Option<&Path>, release_namespace: &str) -> Result<Self, ConnectError> {
        Ok(Self::new(connect(kubeconfig).await?, release_namespace))
    }

    /// The cluster behind `client`.
    pub fn new(client: Client, release_namespace: &str) -> Self {
        let (namespaces, labels) = Namespaces::watched(client.clone());
        Self {
            client,
            release_namespace: release_namespace.to_owned(),
            labels,
            namespaces,
            hooks: Hooks::default(),
            default: Vec::new(),
            registration: None,
        }
    }

    /// The client, for what else is kept in the cluster.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The same with `hooks` to tell and to ask.
    #[must_use]
    pub fn with_hooks(self, hooks: Hooks) -> Self {
        Self { hooks, ..self }
    }

    /// The same with cluster-wide policies for a cluster that has none (CRD-21).
    #[must_use]
    pub fn with_default(self, default: Vec<Value>) -> Self {
        Self { default, ..self }
    }

    /// The same with an eye on the webhook configurations of this name, of both kinds. `fail_closed` is whether the one
    /// that validates must deny while nobody answers.
    #[must_use]
    pub fn registered_as(self, name: &str, fail_closed: bool) -> Self {
        let registration = Some((name.to_owned(), fail_closed));
        Self { registration, ..self }
    }

    /// The labels of namespaces, as far as [`Self::watch`] has seen them.
    pub fn namespaces(&self) -> Namespaces {
        self.namespaces.clone()
    }

    /// The webhook configurations of this name, of both kinds.
    pub fn configurations(&self, name: &str) -> Configurations {
        Configurations::new(self.client.clone(), name.to_owned())
    }

    /// The Secret of this name in the release namespace, for an authority that `configurations` are to trust.
    pub fn certificate_store(&self, secret: &str, configurations: Configurations) -> CertificateStore {
        let namespace = self.release_namespace.clone();
        CertificateStore::new(self.client.clone(), namespace, secret.to_owned(), configurations)
    }

    /// The API server as the authority on rights.
    pub fn access(&self) -> Access {
        Access::of(self.client.clone())
    }

    /// The logins of workloads.
    pub fn pull_secrets(&self) -> PullSecrets {
        PullSecrets::of(self.client.clone())
    }

    /// What policies name, for those that are not in force.
    pub fn references(&self) -> References {
        References::new(self.client.clone(), self.release_namespace.clone())
    }

    /// Hands all policies to `adopt` once policies and namespaces have been listed completely, and again after each
    /// change. What `adopt` makes of them is written to their status, with the time by `now`.
    ///
    /// Never returns; to be dropped, or spawned by the caller.
    pub async fn watch(
        self,
        now: impl Fn() -> Timestamp,
        adopt: impl FnMut(Vec<Compiled>) -> Vec<Compiled>,
    ) -> Infallible {
        let (reports, wanted) = watch::channel(Vec::new());
        let reporter = report::Reporter::new(self.client.clone(), now);
        let notebook = lookup::Notebook::new(self.client.clone(), self.release_namespace);
        let looking = async {
            match self.registration {
                Some((name, fail_closed)) => {
                    registration::watch(self.client.clone(), name, fail_closed, self.hooks.clone()).await
                }
                None => std::future::pending().await,
            }
        };
        let watching = watching::Watching::new(&self.client, self.labels, notebook);
        let watching = watching.with(self.hooks.clone(), self.default);
        let (never, ..) = join3(watching.run(adopt, reports), reporter.run(wanted), looking).await;
        never
    }
}

/// Makes a client from the file `kubeconfig`, or from what `KUBECONFIG` names, or from what a pod is given. Nothing is
/// asked of the API server yet.
///
/// # Errors
///
/// [`ConnectError`] if there is nothing to connect with.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let options = KubeConfigOptions::default();
    let config = match kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path).map_err(Box::new)?;
            Config::from_custom_kubeconfig(read, &options)
                .await
                .map_err(Box::new)?
        }
        None if std::env::var_os("KUBECONFIG").is_some() => {
            Config::from_kubeconfig(&options).await.map_err(Box::new)?
        }
        None => Config::incluster()?,
    };
    Ok(Client::try_from(config).map_err(Box::new)?)
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("release_namespace", &self.release_namespace)
            .finish_non_exhaustive()
    }
}

/// Why there is no connection to an API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A kubeconfig that cannot be used.
    #[error("the kubeconfig cannot be used")]
    Kubeconfig(#[from] Box<KubeconfigError>),
    /// Not in a pod.
    #[error("not in a pod with a service account: give --kubeconfig or KUBECONFIG")]
    InCluster(#[from] InClusterError),
    /// Certificates or logins that cannot be used.
    #[error("the API server cannot be connected to")]
    Client(#[from] Box<kube::Error>),
}

#[cfg(test)]
mod tests;
