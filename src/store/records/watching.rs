//! What other replicas write, and what somebody takes away.

use std::collections::HashSet;
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::join;
use futures_util::stream::StreamExt as _;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::time::{Instant, timeout};
use tracing::{debug, error, info, warn};

use super::floor::{Doubt, Gone};
use super::order::merged;
use super::resource::TrustRecordSpec;
use super::{RESET, Records, encoding, name, object_of, spec_of};
use crate::reference::Gun;
use crate::store::{Revision, StoreError};

/// Records in one answer to a list: at 1 MiB each, the most that is in memory at once.
const PAGE: u32 = 32;
/// What could not be written back is tried again after this.
const RETRY: Duration = Duration::from_secs(5);
/// As good as for ever: records are written back one after the other, so each has its turn within a second.
const FAR: Duration = Duration::from_secs(3600);
/// Failures of one sort are logged as often as this (CRD-35).
const LOGGED: Duration = Duration::from_secs(60);

/// What became of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// All records that there were have been seen.
    Listed,
    /// A repository's trust was reset: it begins anew.
    Reset {
        /// Base URL of the trust server.
        server: String,
        /// The repository.
        gun: Gun,
    },
    /// A record was deleted or put back without a reset. It is being written back.
    Lost,
}

impl Records {
    /// Follows all records and tells of their changes, from the first complete list on. Writes back what is lost.
    ///
    /// Never returns; to be dropped, or spawned by the caller.
    pub async fn watch(&self, tell: impl Fn(Change)) -> Infallible {
        let (never, _) = join(self.follow(&tell), self.write_back(&tell)).await;
        never
    }

    async fn follow(&self, tell: &impl Fn(Change)) -> Infallible {
        let config = watcher::Config::default().page_size(PAGE);
        let mut events = pin!(watcher(self.api.clone(), config).default_backoff());
        let mut listed = HashSet::new();
        let mut logged = Logged::default();
        loop {
            match events.next().await {
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(object))) => {
                    listed.insert(object.name_any());
                    self.seen(&object);
                }
                Some(Ok(Event::InitDone)) => {
                    self.floor.listed(&listed);
                    tell(Change::Listed);
                }
                Some(Ok(Event::Apply(object))) => self.seen(&object),
                Some(Ok(Event::Delete(object))) => self.gone(&object, tell),
                Some(Err(error)) if logged.may() => {
                    warn!(what = "trustrecords", %error, "a watch failed and is begun again: what was seen last stays in force");
                }
                Some(Err(error)) => debug!(what = "trustrecords", %error, "a watch failed"),
                None => return std::future::pending().await,
            }
        }
    }

    fn seen(&self, object: &DynamicObject) {
        let name = object.name_any();
        let (_, spec) = match owned(object) {
            Ok(owned) => owned,
            Err(why) => {
                error!(
                    name,
                    why, "a trust record is damaged: what it is about is refused"
                );
                return;
            }
        };
        let uid = object.metadata.uid.as_deref();
        if !self.floor.take(&name, uid, &spec) {
            self.floor.lower(&name, uid, &spec);
        }
    }

    fn gone(&self, object: &DynamicObject, tell: &impl Fn(Change)) {
        let name = object.name_any();
        let note = object.annotations().get(RESET);
        match self
            .floor
            .deleted(&name, object.metadata.uid.as_deref(), note.is_some())
        {
            Gone::Other => {}
            Gone::Reset(spec) => {
                warn!(
                    gun = spec.gun,
                    server = spec.server,
                    reset = note,
                    "trust was reset: the repository begins anew"
                );
                if let Ok(gun) = spec.gun.parse() {
                    let server = spec.server.clone();
                    tell(Change::Reset { server, gun });
                }
            }
            Gone::Lost(spec) => lost(&spec, tell),
        }
    }

    async fn write_back(&self, tell: &impl Fn(Change)) -> Infallible {
        let mut logged = Logged::default();
        let mut settled = true;
        loop {
            if settled {
                self.floor.doubts().await;
            } else {
                // Whether there is something new or not, there is something left.
                let _ = timeout(RETRY, self.floor.doubts()).await;
            }
            settled = true;
            for name in self.floor.doubtful() {
                let Err(error) = self.settle(&name, tell).await else {
                    continue;
                };
                settled = false;
                if logged.may() {
                    warn!(name, %error, "a trust record is not written back yet");
                }
            }
        }
    }

    /// Finds out what became of a record that is doubted, and writes back what is lost of it.
    async fn settle(&self, name: &str, tell: &impl Fn(Change)) -> Result<(), StoreError> {
        let Some((known, doubt)) = self
            .floor
            .get(name)
            .and_then(|known| Some((known.clone(), known.doubt?)))
        else {
            return Ok(());
        };
        let gun: Gun = known.spec.gun.parse().map_err(|_| StoreError::Damaged {
            gun: known.spec.gun.clone(),
            why: "it names no repository",
        })?;
        let patience = || Instant::now() + super::REQUEST;
        let found = self.get(name, &gun, patience()).await?;
        let (spec, revision) = match &found {
            None if doubt == Doubt::Lower => return Ok(()), // The watch is about to tell why it is gone.
            None => ((*known.spec).clone(), Revision::None),
            Some(object) => {
                let damaged = |why| StoreError::Damaged {
                    gun: gun.to_string(),
                    why,
                };
                let (_, spec) = owned(object).map_err(damaged)?;
                let uid = object.metadata.uid.as_deref();
                if self.floor.take(name, uid, &spec) {
                    return Ok(());
                }
                self.floor.lower(name, uid, &spec);
                let revision = Revision::Object(Box::new(object.metadata.clone()));
                (merged(&known.spec, &spec), revision)
            }
        };
        if matches!(doubt, Doubt::Unlisted | Doubt::Lower) {
            lost(&known.spec, tell);
            let put_back = found.is_some();
            self.floor
                .told(name, if put_back { Doubt::PutBack } else { Doubt::Deleted });
        }
        let spec = TrustRecordSpec {
            verified_at: None,
            ..spec
        };
        // However many were deleted: they wait for their turns.
        self.writes.turn(Instant::now() + FAR).await;
        let doubted = self.floor.get(name).is_some_and(|known| known.doubt.is_some());
        if !doubted {
            return Ok(()); // It was reset meanwhile, or another replica was quicker.
        }
        let written = self
            .write(&object_of(name, &spec, &revision), &gun, patience())
            .await?;
        let Some(written) = written else {
            return Err(StoreError::Conflict { gun });
        };
        self.floor.take(name, written.metadata.uid.as_deref(), &spec);
        info!(%gun, server = spec.server, "trust record written back");
        Ok(())
    }
}

fn lost(spec: &TrustRecordSpec, tell: &impl Fn(Change)) {
    error!(
        gun = spec.gun,
        server = spec.server,
        "a trust record was deleted or put back without a reset: what this replica remembers is written back"
    );
    tell(Change::Lost);
}

/// What an object says, and of whom. An object by another name than its content has is nobody's.
fn owned(object: &DynamicObject) -> Result<(Gun, TrustRecordSpec), encoding::Damage> {
    let spec = spec_of(object)?;
    let gun: Gun = spec.gun.parse().map_err(|_| "it names no repository")?;
    if object.name_any() != name(&spec.server, &gun) {
        return Err("its name is not that of its repository");
    }
    encoding::essence(&spec)?;
    Ok((gun, spec))
}

/// When something was last logged.
#[derive(Default)]
struct Logged(Option<Instant>);

impl Logged {
    /// Whether it may be logged again now.
    fn may(&mut self) -> bool {
        let due = self.0.is_none_or(|at| at.elapsed() >= LOGGED);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}
