//! What becomes of a call: who may, what is asked, what is stored, what is answered.

mod error;
mod held;
mod publish;
mod upkeep;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response};
use jiff::Timestamp;
use tokio::sync::{Mutex, MutexGuard};
use tracing::{info, warn};

use self::error::ServiceError;
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
    turns: Vec<Mutex<()>>,
}

/// Repositories that are changed at the same time in one process.
const TURNS: usize = 64;

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
        let turns = std::iter::repeat_with(Mutex::default).take(TURNS).collect();
        Self {
            inner: Arc::new(Inner {
                storage,
                sealer,
                gatekeeper,
                audit,
                options,
                metrics,
                turns,
            }),
        }
    }

    /// Answers a call, whatever it is.
    pub async fn answer(&self, call: Call) -> Response<Bytes> {
        let response = match self.respond(&call).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        };
        if call.method == Method::HEAD {
            return wire::headers_only(response);
        }
        response
    }

    async fn respond(&self, call: &Call) -> Result<Response<Bytes>, ProtocolError> {
        let route = Route::parse(&call.method, &call.uri)?;
        let Some(need) = needed(&route) else {
            return Ok(wire::health());
        };
        let caller = self.admit(call, need).await?;
        self.hosts(&route)?;
        match route {
            Route::Health => Ok(wire::health()),
            Route::Version => Ok(wire::version()),
            Route::Update(gun) => self.update(&gun, call, &caller).await,
            Route::Read { gun, role, form } => self.read(&gun, &role, form, call).await,
            Route::Key { gun, role, rotate } => self.key(&gun, &role, rotate, call, &caller).await,
            Route::Delete(gun) => self.delete(&gun, call, &caller).await,
            Route::Changefeed { gun, page } => self.changefeed(gun.as_ref(), page).await,
        }
    }

    async fn admit(&self, call: &Call, need: Need) -> Result<Caller, ProtocolError> {
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
    ) -> Result<Response<Bytes>, ProtocolError> {
        let storage = &self.inner.storage;
        let file = match form {
            Form::Current => self.current(gun, role).await,
            Form::Hash(sha256) => storage.by_hash(gun, role, &sha256).await,
            Form::Version(version) => storage.by_version(gun, role, version).await,
        };
        let file = file.map_err(failed)?.ok_or(ProtocolError::NotFound)?;
        let ages = self.inner.options.ages;
        Ok(wire::metadata(
            role,
            &file,
            form,
            &call.headers,
            ages,
            clock::now(),
        ))
    }

    async fn current(&self, gun: &Gun, role: &Role) -> Result<Option<File>, StorageError> {
        let storage = &self.inner.storage;
        let file = storage.current(gun, role).await?;
        if !file.as_ref().is_some_and(|file| has_expired(role, file)) {
            return Ok(file);
        }
        // What cannot be renewed is served as it is: whoever verifies says why it is not to be trusted, and whoever
        // publishes can repair it.
        if let Err(error) = self.renew(gun).await {
            warn!(%gun, %role, error = %chain(&error), "an expired file was not renewed");
            return Ok(file);
        }
        storage.current(gun, role).await
    }

    async fn delete(
        &self,
        gun: &Gun,
        call: &Call,
        caller: &Caller,
    ) -> Result<Response<Bytes>, ProtocolError> {
        let _turn = self.turn(gun).await;
        let now = clock::now();
        if self.inner.storage.delete(gun, now).await.map_err(failed)? {
            self.inner.metrics.trust_server_change("deleted");
            self.inner
                .audit
                .write(&Entry::new(now, "delete", gun, caller, &call.peer));
        }
        Ok(wire::empty())
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

    /// Waits until nobody else in this process changes the repository.
    async fn turn(&self, gun: &Gun) -> Option<MutexGuard<'_, ()>> {
        let mut hasher = DefaultHasher::new();
        gun.hash(&mut hasher);
        let turns = &self.inner.turns;
        let place = usize::try_from(hasher.finish() % (TURNS as u64)).unwrap_or_default();
        Some(turns.get(place)?.lock().await)
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
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ServiceError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ServiceError::Panicked)
}
