//! The rules in force, and their renewal while the server runs.
//!
//! Contents are polled and compared, as everywhere here: a mounted `ConfigMap` or `Secret` rotates by a symlink that a
//! watch on the file does not see. New contents count once two looks in a row have seen them, for half of a file that
//! is being written may be more permissive than the whole.
//!
//! What cannot be read leaves the last good rules in force, loudly: to refuse everything for a slip of the hand would
//! stop every deployment that is verified here. The price is that whoever was to be shut out stays in until the file
//! is right, which is why it is an error in the log and not a warning.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::spawn_blocking;
use tracing::{error, info};

use super::{Access, AccessError, Sources};
use crate::telemetry::chain;

/// Time between looks at the files.
const POLL: Duration = Duration::from_secs(10);
/// Time until the second look at a change: longer than it takes to write a file.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Holds the rules, and takes up new ones. Shared by all connections.
#[derive(Debug)]
pub struct Gatekeeper {
    current: ArcSwap<Access>,
    watched: Option<Watched>,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    seen: Mutex<Seen>,
}

/// What was found in the files, so that what stays as it is is not taken up, or complained about, again and again.
#[derive(Debug)]
struct Seen {
    in_force: Sources,
    /// Something else that was there at the last look.
    candidate: Option<Sources>,
    complaint: Option<String>,
}

/// What came of a look at the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing new, or nothing good.
    Unchanged,
    /// Something new; look again soon.
    Changed,
    /// New rules are in force.
    Replaced,
}

impl Gatekeeper {
    /// Reads the rules of a file. Blocks.
    ///
    /// # Errors
    ///
    /// [`AccessError`] names the file, and the line or field in it.
    pub fn open(path: PathBuf) -> Result<Self, AccessError> {
        let in_force = Sources::read(&path)?;
        let access = in_force.compile()?;
        let seen = Mutex::new(Seen {
            in_force,
            candidate: None,
            complaint: None,
        });
        Ok(Self {
            current: ArcSwap::from_pointee(access),
            watched: Some(Watched { path, seen }),
        })
    }

    /// Keeps to these rules for ever.
    pub fn fixed(access: Access) -> Self {
        Self {
            current: ArcSwap::from_pointee(access),
            watched: None,
        }
    }

    /// The rules in force. To be asked for once a call, so that all of it is judged by the same.
    pub fn current(&self) -> Arc<Access> {
        self.current.load_full()
    }

    /// Looks at the files every ten seconds. Never returns; to be dropped, or spawned by the caller.
    pub async fn keep_fresh(self: Arc<Self>) -> Infallible {
        let mut pause = POLL;
        loop {
            tokio::time::sleep(pause).await;
            let me = Arc::clone(&self);
            pause = match spawn_blocking(move || me.look()).await {
                Ok(Look::Changed) => SECOND_LOOK,
                Ok(Look::Unchanged | Look::Replaced) | Err(_) => POLL,
            };
        }
    }

    pub(super) fn look(&self) -> Look {
        let Some(watched) = &self.watched else {
            return Look::Unchanged;
        };
        let Ok(mut seen) = watched.seen.lock() else {
            return Look::Unchanged;
        };
        match self.renew(watched, &mut seen) {
            Ok(look) => {
                if look != Look::Changed {
                    seen.complaint = None;
                }
                look
            }
            Err(failure) => {
                complain(&mut seen, &failure);
                Look::Unchanged
            }
        }
    }

    fn renew(&self, watched: &Watched, seen: &mut Seen) -> Result<Look, AccessError> {
        let candidate = seen.candidate.take();
        let found = Sources::read(&watched.path)?;
        if found == seen.in_force {
            return Ok(Look::Unchanged);
        }
        if candidate.as_ref() != Some(&found) {
            seen.candidate = Some(found);
            return Ok(Look::Changed);
        }
        // Kept, so that contents that come to nothing are not looked at twice each time.
        seen.candidate = candidate;
        let access = found.succeed(&seen.in_force, &self.current.load())?;
        self.current.store(Arc::new(access));
        seen.in_force = found;
        seen.candidate = None;
        info!(path = %watched.path.display(), "access rules replaced");
        Ok(Look::Replaced)
    }
}

fn complain(seen: &mut Seen, failure: &AccessError) {
    let chain = chain(failure);
    if seen.complaint.as_ref() != Some(&chain) {
        error!(error = %chain, "access rules cannot be replaced, the old ones stay");
        seen.complaint = Some(chain);
    }
}
