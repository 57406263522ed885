//! Trust state that all replicas of a cluster share: one `TrustRecord` object for each repository (design §5).
//!
//! ```text
//!            load: GET, strongly consistent ─▶ decode ─▶ held against the floor ─▶ Record
//!            save: encode ─▶ a turn ─▶ POST or PUT of the version that was loaded ─▶ floor
//! other replicas ─ watch ─▶ floor ─▶ Change: reset, lost (and written back)
//! ```
//!
//! The floor is what this replica has seen. It is lowered by an audited reset only: whatever else takes a record away or
//! puts an older one in its place is told loudly, and undone.

mod encoding;
mod floor;
mod order;
mod rate;
mod reset;
pub mod resource;
mod watching;

use std::fmt;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client, CustomResourceExt as _};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

pub use reset::{Note, reset};
pub use watching::Change;

use encoding::{decode, encode, kept};
use floor::Floor;
use rate::Writes;
use resource::{TrustRecord, TrustRecordSpec};

use super::{Record, Revision, StoreError, aside};
use crate::policy::strict;
use crate::reference::Gun;
use crate::tuf::{self, State};

/// One request to the API server: it answers in milliseconds or has trouble.
const REQUEST: Duration = Duration::from_secs(2);
/// Of a record that only says once more that the server vouches for it, how often all replicas together write it. What
/// serves in an outage is taken for older than it is by up to this and the time between two looks of one replica,
/// which is the safe side; hours are usual for `maxStaleness`, and 1,000 repositories make less than two writes a second.
const CONFIRM: Duration = Duration::from_secs(10 * 60);
/// Says why a record is about to be deleted. It goes when a replica writes the record again.
const RESET: &str = "countersign.dev/reset";
/// Readable characters of an object's name.
const SLUG: usize = 42;
/// Bytes of the hash in an object's name. Who finds another repository of the same name makes both unusable, not more.
const HASH: usize = 10;

/// The definition of the kind.
pub fn crd() -> CustomResourceDefinition {
    strict(TrustRecord::crd())
}

/// The trust records of a cluster, as one replica sees them.
pub struct Records {
    api: Api<DynamicObject>,
    floor: Floor,
    writes: Writes,
}

impl Records {
    /// Those in the cluster behind `client`. Nothing is asked yet.
    pub fn new(client: Client) -> Self {
        Self {
            api: Api::all_with(client, &kind()),
            floor: Floor::new(),
            writes: Writes::new(),
        }
    }

    /// What is remembered of `gun` on `server`, asked of the API server itself; empty if it was never seen.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the API server does not answer, if the object is not what a replica writes, or if it is gone or
    /// older than what this replica has seen. Nobody is believed to be seen for the first time because of that.
    pub async fn load(&self, server: &str, gun: &Gun, deadline: Instant) -> Result<Record, StoreError> {
        let name = name(server, gun);
        let deadline = deadline.min(Instant::now() + REQUEST);
        let mut changes = self.floor.changes();
        loop {
            changes.mark_unchanged();
            let found = self.get(&name, gun, deadline).await?;
            if let Some(record) = self.held_against_floor(&name, server, gun, found).await? {
                return Ok(record);
            }
            // The watch is about to tell whether that was meant.
            let told = timeout_at(deadline, changes.changed()).await;
            if !matches!(told, Ok(Ok(()))) {
                return Err(StoreError::Lost { gun: gun.clone() });
            }
        }
    }

    /// `None` if the floor knows better.
    async fn held_against_floor(
        &self,
        name: &str,
        server: &str,
        gun: &Gun,
        found: Option<DynamicObject>,
    ) -> Result<Option<Record>, StoreError> {
        let Some(object) = found else {
            let unseen = self.floor.get(name).is_none();
            return Ok(unseen.then(Record::default));
        };
        let damaged = |why| StoreError::Damaged {
            gun: gun.to_string(),
            why,
        };
        let spec = spec_of(&object).map_err(damaged)?;
        let (server, owner) = (server.to_owned(), gun.clone());
        let (spec, state) = aside(move || {
            let state = decode(&spec, &server, &owner);
            (spec, state)
        })
        .await;
        let state = state.map_err(damaged)?;
        if !self.floor.take(name, object.metadata.uid.as_deref(), &spec) {
            return Ok(None);
        }
        Ok(Some(Record {
            state,
            revision: Revision::Object(Box::new(object.metadata)),
        }))
    }

    /// Replaces what is remembered of `gun` by `state`, which was derived from `loaded`. Nothing is written if that is
    /// there already, or differs only in that the server was asked again a short while ago.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if somebody else has written other versions since: load again and verify again, so
    /// that the higher ones win. Who writes the very same, as all do who look at one publication, is no conflict.
    pub async fn save(
        &self,
        server: &str,
        gun: &Gun,
        loaded: &Record,
        state: &State,
        deadline: Instant,
    ) -> Result<Record, StoreError> {
        let state = with_files_of(loaded, state);
        let (before, base, owner) = (loaded.state.clone(), server.to_owned(), gun.clone());
        let encoded = aside(move || {
            let news = is_news(&before, &state);
            let spec = news.then(|| encode(&base, &owner, &state)).transpose();
            spec.map(|spec| (spec, state))
        });
        let (Some(spec), state) = encoded.await? else {
            return Ok(loaded.clone());
        };
        if !self.writes.turn(deadline).await {
            return Err(StoreError::Throttled { gun: gun.clone() });
        }
        let name = name(server, gun);
        let object = object_of(&name, &spec, &loaded.revision);
        if let Some(written) = self.write(&object, gun, deadline).await? {
            self.floor.take(&name, written.metadata.uid.as_deref(), &spec);
            return Ok(Record {
                state,
                revision: Revision::Object(Box::new(written.metadata)),
            });
        }
        let present = self.load(server, gun, deadline).await?;
        if present.state.roots == state.roots && present.state.seen == state.seen {
            Ok(present)
        } else {
            Err(StoreError::Conflict { gun: gun.clone() })
        }
    }

    /// Whether the timestamp with that hash is the newest that any replica has told of. Asks nobody: the watch tells.
    pub fn remembers(&self, server: &str, gun: &Gun, timestamp: [u8; 32]) -> bool {
        let entry = self.floor.get(&name(server, gun));
        entry.is_some_and(|entry| timestamp_of(&entry.spec) == Some(timestamp))
    }

    /// The object, read from etcd: without a resource version no cache may answer. `None` only if the API server says
    /// that there is no such object; that it knows nothing of the kind is an error.
    async fn get(
        &self,
        name: &str,
        gun: &Gun,
        deadline: Instant,
    ) -> Result<Option<DynamicObject>, StoreError> {
        match timeout_at(deadline, self.api.get(name)).await {
            Ok(Ok(object)) => Ok(Some(object)),
            Ok(Err(error)) if is_absent(&error, name) => Ok(None),
            Ok(Err(error)) => Err(failed(gun, error)),
            Err(_) => Err(StoreError::Slow { gun: gun.clone() }),
        }
    }

    /// Makes the object if it has no version, else replaces that version of it. `None` if another is there.
    async fn write(
        &self,
        object: &DynamicObject,
        gun: &Gun,
        deadline: Instant,
    ) -> Result<Option<DynamicObject>, StoreError> {
        let deadline = deadline.min(Instant::now() + REQUEST);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let parameters = PostParams::default();
        let written = async {
            if object.metadata.resource_version.is_some() {
                self.api.replace(name, &parameters, object).await
            } else {
                self.api.create(&parameters, object).await
            }
        };
        match timeout_at(deadline, written).await {
            Ok(Ok(written)) => Ok(Some(written)),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(None),
            Ok(Err(error)) if is_absent(&error, name) => Ok(None),
            Ok(Err(error)) => Err(failed(gun, error)),
            Err(_) => Err(StoreError::Slow { gun: gun.clone() }),
        }
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

fn kind() -> ApiResource {
    ApiResource::erase::<TrustRecord>(&())
}

/// What an object is called: the repository as far as a name can hold it, and a hash of server and repository.
fn name(server: &str, gun: &Gun) -> String {
    let mut slug = String::new();
    for byte in gun.as_str().to_ascii_lowercase().bytes() {
        if byte.is_ascii_alphanumeric() {
            slug.push(char::from(byte));
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    // Its end says more than the registry's host.
    let end = slug.len().saturating_sub(SLUG);
    let slug = slug.get(end..).unwrap_or_default().trim_matches('-');
    let hash = tuf::sha256(format!("{server}\0{gun}").as_bytes());
    let hash = hex::encode(hash.get(..HASH).unwrap_or_default());
    format!("{slug}-{hash}").trim_start_matches('-').to_owned()
}

fn spec_of(object: &DynamicObject) -> Result<TrustRecordSpec, encoding::Damage> {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    serde_json::from_value(spec).map_err(|_| "it is not of the kind's form")
}

/// The object with `spec`: new, or in the place of the revision that was loaded.
fn object_of(name: &str, spec: &TrustRecordSpec, revision: &Revision) -> DynamicObject {
    let mut object = DynamicObject::new(name, &kind()).data(json!({"spec": spec}));
    if let Revision::Object(metadata) = revision {
        object.metadata = (**metadata).clone();
        object.metadata.managed_fields = None;
        // It goes on, so it was not deleted after all.
        if let Some(annotations) = &mut object.metadata.annotations {
            annotations.remove(RESET);
        }
    }
    object
}

/// `state` with the files that others keep of it: each verifier loads only those of the signers it needs.
fn with_files_of(loaded: &Record, state: &State) -> State {
    let mut state = state.clone();
    for (role, file) in &loaded.state.files {
        if state.seen.get(role) == loaded.state.seen.get(role) {
            state.files.entry(role.clone()).or_insert_with(|| file.clone());
        }
    }
    state
}

/// Whether `after` is worth a write. That the server disowned what it served is, at once.
fn is_news(before: &State, after: &State) -> bool {
    let vouched = match (before.verified_at, after.verified_at) {
        (None, None) => false,
        (Some(before), Some(after)) => after.duration_since(before).unsigned_abs() >= CONFIRM,
        (None, Some(_)) | (Some(_), None) => true,
    };
    vouched || before.roots != after.roots || before.seen != after.seen || before.files != kept(after)
}

fn timestamp_of(spec: &TrustRecordSpec) -> Option<[u8; 32]> {
    let mut sha256 = [0; 32];
    hex::decode_to_slice(&spec.timestamp.as_ref()?.sha256, &mut sha256).ok()?;
    Some(sha256)
}

/// Whether the API server says that there is no object of that name. Of a kind that it does not serve it says something
/// else with the same number.
fn is_absent(error: &kube::Error, name: &str) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    let named = |details: &kube::core::response::StatusDetails| details.name == name;
    status.code == 404 && status.details.as_ref().is_some_and(named)
}

fn failed(gun: &Gun, source: kube::Error) -> StoreError {
    StoreError::Cluster {
        gun: gun.clone(),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests;
