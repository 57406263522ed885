//! What becomes of a call: who may, what is asked, what is stored, what is answered.

mod error;
mod held;
mod publish;
mod turns;
mod upkeep;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response};
use jiff::Timestamp;
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, info};

use self::error::ServiceError;
use self::turns::Turns;
use super::access::{Caller, Charge, Gatekeeper, Need, Refusal};
use super::audit::{Audit, Entry};
use super::http::{self as wire, CacheAges, Call, Form, ProtocolError, Route};
use super::seal::Sealer;
use super::storage::{File, Page, Storage, StorageError};
use crate::clock;
use crate::reference::Gun;
use crate::telemetry::{Metrics, chain};
use crate::tuf::hosted::{Holding, Terms};
use crate::tuf::{Algorithm, Limits, Role};

/// How a trust server serves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Kind of the keys that the server makes.
    pub algorithm: Algorithm,
    /// How long timestamps are good (§7.10: 14 days).
    pub timestamp_life: Duration,
    /// How long snapshots are good that the server signs (§7.10: three years).
    pub snapshot_life: Duration,
    /// Bounds of what is accepted. The verifier's own: what nobody would read is not stored.
    pub limits: Limits,
    /// How long answers may be cached on their way (§2.3).
    pub ages: CacheAges,
}

impl Default for Options {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            algorithm: Algorithm::EcdsaP256,
            timestamp_life: DAY.saturating_mul(14),
            snapshot_life: DAY.saturating_mul(3 * 365),
            limits: Limits::default(),
            ages: CacheAges::default(),
        }
    }
}

/// A trust server, but for its sockets. Clones are the same server.
#[derive(Clone)]
pub struct TrustServer<S> {
    inner: Arc<Inner<S>>,
}

struct Inner<S> {
    storage: S,
    sealer: Sealer,
    gatekeeper: Arc<Gatekeeper>,
    audit: Audit,
    options: Options,
    metrics: Arc<Metrics>,
    /// One change of a repository at a time in this process. It saves work that would come to nothing, no more: what
    /// keeps changes apart is [`Storage::commit`].
    turns: Turns,
    /// Places for decisions about whole repositories.
    desks: Arc<Semaphore>,
    /// Repositories that could not be signed again a moment ago.
    hopeless: Cache<Gun, ()>,
    /// Changes that are being stored. They end, and are written down, whether or not their callers wait for it.
    changes: TaskTracker,
}

/// What was found out about a call before its body is read.
#[derive(Clone, Debug)]
pub struct Admitted {
    route: Route,
    caller: Caller,
}

/// Decisions at a time. Each holds a repository and reads all of it, 64 MiB of JSON at most (`Limits::total_bytes`);
/// ordinary ones take milliseconds.
const DESKS: usize = 8;
/// How long a repository is not tried again for readers that could not be signed again: each attempt verifies all of
/// it, and what is in the way, mostly an expired root, is in the way until somebody publishes.
const HOPELESS: Duration = Duration::from_secs(30);
/// Such repositories that are remembered. With more of them at a time, some are tried more often.
const MOST_HOPELESS: u64 = 10_000;

/// How often a change is decided anew because another server was faster. One of those who compete succeeds each time,
/// so this many servers may be at it.
const ATTEMPTS: u32 = 10;

impl<S: Storage> TrustServer<S> {
    /// A server on `storage`.
    pub fn new(
        storage: S,
        sealer: Sealer,
        gatekeeper: Arc<Gatekeeper>,
        audit: Audit,
        options: Options,
        metrics: Arc<Metrics>,
    ) -> Self {
        let hopeless = Cache::builder()
            .max_capacity(MOST_HOPELESS)
            .time_to_live(HOPELESS);
        Self {
            inner: Arc::new(Inner {
                storage,
                sealer,
                gatekeeper,
                audit,
                options,
                metrics,
                turns: Turns::default(),
                desks: Arc::new(Semaphore::new(DESKS)),
                hopeless: hopeless.build(),
                changes: TaskTracker::new(),
            }),
        }
    }

    /// Says who calls, and whether they may: all that can be said without the body.
    ///
    /// # Errors
    ///
    /// The answer to a call that is not admitted.
    pub async fn admit(&self, head: &Call) -> Result<Admitted, Response<Bytes>> {
        self.examine_head(head)
            .await
            .map_err(ProtocolError::into_response)
    }

    async fn examine_head(&self, head: &Call) -> Result<Admitted, ProtocolError> {
        let route = Route::parse(&head.method, &head.uri)?;
        let caller = match needed(&route) {
            Some(need) => self.caller(head, need).await?,
            None => Caller::anybody(),
        };
        self.hosts(&route)?;
        if let Route::Update(gun) = &route {
            self.charge(&caller, head, Charge::Publish, gun)?;
        }
        Ok(Admitted { route, caller })
    }

    /// Answers a call that was admitted.
    pub async fn answer(&self, call: Call, admitted: Admitted) -> Response<Bytes> {
        match self.respond(&call, admitted).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        }
    }

    async fn respond(&self, call: &Call, admitted: Admitted) -> Result<Response<Bytes>, ProtocolError> {
        let Admitted { route, caller } = admitted;
        match route {
            Route::Health => Ok(wire::health()),
            Route::Version => Ok(wire::version()),
            Route::Update(gun) => self.update(&gun, call, &caller).await,
            Route::Read { gun, role, form } => self.read(&gun, &role, form, call, &caller).await,
            Route::Key { gun, role, rotate } => self.key(&gun, &role, rotate, call, &caller).await,
            Route::Delete(gun) => self.delete(&gun, call, &caller).await,
            Route::Changefeed { gun, page } => self.changefeed(gun.as_ref(), page).await,
        }
    }

    async fn caller(&self, call: &Call, need: Need) -> Result<Caller, ProtocolError> {
        let access = self.inner.gatekeeper.current();
        let admitted = access.admit(&call.peer, &call.headers, &need, clock::now()).await;
        admitted.map_err(|refusal| self.refused(refusal, need, call))
    }

    /// What a caller does that is counted by itself.
    fn charge(&self, caller: &Caller, call: &Call, charge: Charge, gun: &Gun) -> Result<(), ProtocolError> {
        let access = self.inner.gatekeeper.current();
        let charged = access.charge(caller, &call.peer, charge);
        charged.map_err(|refusal| self.refused(refusal, Need::Push(gun.clone()), call))
    }

    fn refused(&self, refusal: Refusal, need: Need, call: &Call) -> ProtocolError {
        info!(peer = %call.peer.address, method = %call.method, path = call.uri.path(), error = %chain(&refusal), "call refused");
        match refusal {
            Refusal::Unauthorized { challenges, .. } => {
                self.inner.metrics.trust_server_refusal("unauthorized");
                let challenges = challenges
                    .iter()
                    .filter_map(|text| HeaderValue::from_str(text).ok());
                ProtocolError::Unauthorized {
                    need,
                    challenges: challenges.collect(),
                }
            }
            Refusal::TooMany { retry_after, .. } => {
                self.inner.metrics.trust_server_refusal("too_many");
                ProtocolError::TooManyRequests { retry_after }
            }
        }
    }

    /// Whether repositories of that name are kept here at all (§2.9).
    fn hosts(&self, route: &Route) -> Result<(), ProtocolError> {
        let (gun, outside) = match route {
            Route::Health | Route::Version | Route::Changefeed { gun: None, .. } => return Ok(()),
            Route::Update(gun) => (gun, ProtocolError::InvalidGun),
            Route::Read { gun, .. }
            | Route::Key { gun, .. }
            | Route::Delete(gun)
            | Route::Changefeed { gun: Some(gun), .. } => (gun, ProtocolError::NotFound),
        };
        if self.inner.gatekeeper.current().hosts(gun) {
            Ok(())
        } else {
            Err(outside)
        }
    }

    /// A file, its bytes as they were stored. A timestamp or snapshot that has expired is signed again first (§8.4).
    async fn read(
        &self,
        gun: &Gun,
        role: &Role,
        form: Form,
        call: &Call,
        caller: &Caller,
    ) -> Result<Response<Bytes>, ProtocolError> {
        let storage = &self.inner.storage;
        let file = match form {
            Form::Current => self.current(gun, role).await,
            Form::Hash(sha256) => storage.by_hash(gun, role, &sha256).await,
            Form::Version(version) => storage.by_version(gun, role, version).await,
        };
        let file = file.map_err(failed)?.ok_or(ProtocolError::NotFound)?;
        let ages = self.inner.options.ages;
        let mut response = wire::metadata(role, &file, form, &call.headers, ages, clock::now());
        if caller.name.is_some() {
            wire::keep_private(&mut response);
        }
        Ok(response)
    }

    async fn current(&self, gun: &Gun, role: &Role) -> Result<Option<File>, StorageError> {
        let storage = &self.inner.storage;
        let file = storage.current(gun, role).await?;
        if !file.as_ref().is_some_and(|file| has_expired(role, file)) {
            return Ok(file);
        }
        self.renew_for_reader(gun, role).await?;
        // What cannot be renewed is served as it is: whoever verifies says why it is not to be trusted, and whoever
        // publishes can repair it.
        storage.current(gun, role).await
    }

    async fn delete(
        &self,
        gun: &Gun,
        call: &Call,
        caller: &Caller,
    ) -> Result<Response<Bytes>, ProtocolError> {
        let _turn = self.inner.turns.take(gun).await;
        let (me, gun, caller, peer) = (self.clone(), gun.clone(), caller.clone(), call.peer.clone());
        let deleted = self.to_its_end(async move {
            let now = clock::now();
            if me.inner.storage.delete(&gun, now).await? {
                me.inner.metrics.trust_server_change("deleted");
                me.inner
                    .audit
                    .write(&Entry::new(now, "delete", &gun, &caller, &peer));
            }
            Ok(())
        });
        deleted.await.map_err(ServiceError::internal)?;
        Ok(wire::empty())
    }

    /// Runs a change and what is written down of it to its end: a caller who hangs up at the right moment must not
    /// have changed something that no audit log knows of (§8.6.10).
    async fn to_its_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, ServiceError>> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let change = self.inner.changes.spawn(change.in_current_span());
        change.await.map_err(|_| ServiceError::Panicked)?
    }

    /// Waits until what is being stored is stored and written down. To be called when no more calls come.
    pub async fn settle(&self) {
        self.inner.changes.close();
        self.inner.changes.wait().await;
    }

    async fn changefeed(&self, gun: Option<&Gun>, page: Page) -> Result<Response<Bytes>, ProtocolError> {
        let records = self.inner.storage.changes(gun, page).await.map_err(failed)?;
        Ok(wire::changefeed(&records))
    }

    /// The repository as it is decided upon, and the generation that a change of it names.
    async fn holding(&self, gun: &Gun) -> Result<(u64, Holding), StorageError> {
        if let Some(repository) = self.inner.storage.repository(gun).await? {
            let files = repository
                .files
                .into_iter()
                .map(|(role, file)| (role, file.bytes));
            let holding = Holding {
                files: files.collect(),
                used: repository.used,
            };
            return Ok((repository.generation, holding));
        }
        let (generation, used) = self.inner.storage.vacancy(gun).await?;
        let files = BTreeMap::new();
        Ok((generation, Holding { files, used }))
    }

    fn terms(&self, now: Timestamp) -> Terms {
        Terms {
            now,
            snapshot: self.inner.options.snapshot_life,
            timestamp: self.inner.options.timestamp_life,
        }
    }

    /// Waits for a place to decide about a whole repository. Taken before it is read, and kept until the work is done,
    /// also when nobody waits for it any more.
    async fn desk(&self) -> Result<OwnedSemaphorePermit, ServiceError> {
        let desks = Arc::clone(&self.inner.desks);
        desks.acquire_owned().await.map_err(|_| ServiceError::Panicked)
    }
}

/// What a call must be permitted; `None` if it is for everybody (§2.1).
fn needed(route: &Route) -> Option<Need> {
    Some(match route {
        Route::Health => return None,
        Route::Version => Need::Known,
        Route::Update(gun)
        | Route::Key {
            gun, rotate: false, ..
        } => Need::Push(gun.clone()),
        Route::Read { gun, .. } | Route::Changefeed { gun: Some(gun), .. } => Need::Pull(gun.clone()),
        Route::Key {
            gun, rotate: true, ..
        }
        | Route::Delete(gun) => Need::Admin(gun.clone()),
        Route::Changefeed { gun: None, .. } => Need::Catalog,
    })
}

/// Of files that the server signs; the others are their publishers' affair.
fn has_expired(role: &Role, file: &File) -> bool {
    matches!(role, Role::Timestamp | Role::Snapshot)
        && wire::expires(&file.bytes).is_some_and(|expires| expires <= clock::now())
}

/// What callers hear of a database that fails: nothing but that.
fn failed(error: StorageError) -> ProtocolError {
    ServiceError::from(error).internal()
}

/// Runs what takes the processor for a while where it keeps nobody else from being answered.
async fn aside<T: Send + 'static>(
    desk: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServiceError> {
    let work = move || {
        let _kept = desk;
        work()
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ServiceError::Panicked)
}
