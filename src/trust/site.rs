//! A repository where it is published: on its trust server, with the memory of what was seen there.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use super::keeper::Keeper;
use super::options::Clock;
use super::remote::{Reach, Remote, Setback};
use super::servers::{Connection, Servers};
use super::verifier::{Fault, Notary};
use crate::fetch;
use crate::notary::Server;
use crate::policy;
use crate::reference::Gun;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use crate::tuf::{Answer, DelegationName, Error, Form, Limits, Pin, Purpose, Request, Role, Task, Verified};

/// Every place where one publisher's repositories are: trust servers, their memory, and the anchor.
#[derive(Debug)]
pub struct Sites {
    servers: Servers,
    notary: Notary,
    store: Keeper,
}

impl Sites {
    /// Prepares to publish as `settings` say: which server, which login, which anchor. Nothing is sent yet. Credential
    /// helpers are run: whoever publishes is a person or their build.
    ///
    /// # Errors
    ///
    /// [`Fault`] if a setting cannot be used.
    pub fn new(settings: &policy::Notary, store: Arc<Store>) -> Result<Self, Fault> {
        let servers = Servers::new(true, Arc::new(Metrics::default()));
        let notary = Notary::compile(0, "publisher", settings)?;
        servers.admit(&notary.policy)?;
        Ok(Self {
            servers,
            notary,
            store: Keeper::from(store),
        })
    }

    /// Where `gun` is published.
    ///
    /// # Errors
    ///
    /// [`Fault`] if its server cannot be asked.
    pub fn site(&self, gun: &Gun) -> Result<Site, Fault> {
        Ok(Site {
            gun: gun.clone(),
            connection: self.servers.of(&self.notary.policy, gun)?,
            notary: self.notary.clone(),
            needed: BTreeSet::new(),
            store: self.store.clone(),
        })
    }
}

/// One repository where it is published.
#[derive(Clone, Debug)]
pub struct Site {
    gun: Gun,
    connection: Arc<Connection>,
    notary: Notary,
    needed: BTreeSet<DelegationName>,
    store: Keeper,
}

impl Site {
    /// The repository.
    pub const fn gun(&self) -> &Gun {
        &self.gun
    }

    /// Its trust server.
    pub fn server(&self) -> &Server {
        &self.connection.server
    }

    /// The same, but with another anchor.
    #[must_use]
    pub fn pinned(&self, pin: Pin) -> Self {
        let mut site = self.clone();
        site.notary.pin = Arc::new(pin);
        site
    }

    /// The same, but the files of these delegations must verify too.
    #[must_use]
    pub fn needing(&self, delegations: impl IntoIterator<Item = DelegationName>) -> Self {
        let mut site = self.clone();
        site.needed.extend(delegations);
        site
    }

    /// The same, but with a memory that ends with the value: of a repository that nothing vouches for, so that having been
    /// looked at is not what vouches for it from then on.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if there is no memory left.
    pub fn forgetful(&self) -> Result<Self, StoreError> {
        let mut site = self.clone();
        site.store = Keeper::from(Arc::new(Store::memory()?));
        Ok(site)
    }

    /// Whether the repository was seen before, so that what was seen vouches for it.
    ///
    /// # Errors
    ///
    /// [`Setback::Store`] if the memory cannot be read.
    pub async fn is_known(&self, deadline: Instant) -> Result<bool, Setback> {
        let known = self
            .store
            .load(&self.connection.name, &self.gun, deadline)
            .await?;
        Ok(!known.state.roots.is_empty())
    }

    /// A version of a role's file as the server has it, unverified; `None` if it has none.
    ///
    /// # Errors
    ///
    /// [`fetch::Error`] if the server does not say.
    pub async fn file(
        &self,
        role: &Role,
        version: u64,
        deadline: Instant,
    ) -> Result<Option<Bytes>, fetch::Error> {
        let request = Request {
            role: role.clone(),
            form: Form::Version(version),
            limit: Limits::default().targets_bytes,
            speculative: true,
        };
        match self.server().fetch(&self.gun, &request, deadline).await? {
            Answer::Found(file) => Ok(Some(file)),
            Answer::Absent => Ok(None),
        }
    }

    /// Verifies the repository anew, with every signer's file, and remembers what was seen.
    ///
    /// # Errors
    ///
    /// [`Setback`] if it does not verify for that purpose, or that could not be found out.
    pub async fn look(
        &self,
        purpose: Purpose,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Verified, Setback> {
        let task = Task {
            gun: self.gun.clone(),
            pin: Arc::clone(&self.notary.pin),
            signers: self.needed.clone(),
            attribution: true,
            purpose,
            limits: Limits::default(),
            now,
        };
        let remote = Remote {
            connection: &self.connection,
            store: &self.store,
            reach: Reach::All,
        };
        remote.update(&task, deadline).await
    }

    /// Forgets what was seen of the repository: it was deleted by its own publisher. In a cluster, where others remember
    /// too, that is for the cluster's administrator to do.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the memory cannot be written.
    pub fn forget(&self) -> Result<(), StoreError> {
        match &self.store {
            Keeper::Local(store) => store.forget(Some(&self.connection.name), &self.gun).map(drop),
            Keeper::Cluster(_) => Ok(()),
        }
    }
}

/// The present, by a clock that cannot be wrong by years: what is signed carries dates.
///
/// # Errors
///
/// [`Error::Clock`] if the clock shows a time before this program was built.
pub fn present() -> Result<Timestamp, Error> {
    Clock::Real.now()
}
