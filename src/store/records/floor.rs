//! What this replica has seen of each record: never forgotten but by a reset (design §5).
//!
//! A version in here may have been seen in a reply before the watch tells of it, so an event may be late. What the floor
//! misses is therefore doubted at first, and only believed lost after the API server was asked.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::order::{covers, merged};
use super::resource::TrustRecordSpec;

/// What is remembered of all records, by the names of the objects.
#[derive(Debug)]
pub(super) struct Floor {
    entries: Mutex<HashMap<String, Entry>>,
    changed: watch::Sender<()>,
    doubted: Notify,
}

/// What is remembered of one record.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Without its files.
    pub(super) spec: Arc<TrustRecordSpec>,
    /// Of the object that was last seen.
    uid: Option<String>,
    pub(super) doubt: Option<Doubt>,
}

/// Why an object may have to be written back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It was deleted, which was told. It is gone for certain.
    Deleted,
    /// A complete list did not have it.
    Unlisted,
    /// An event showed less than was seen before, or came late.
    Lower,
    /// It holds less than was seen before, which was told.
    PutBack,
}

/// What the deletion of an object means.
#[derive(Debug)]
pub(super) enum Gone {
    /// Nothing: it was not the object that is remembered.
    Other,
    /// It was reset, and is forgotten.
    Reset(Arc<TrustRecordSpec>),
    /// It was lost.
    Lost(Arc<TrustRecordSpec>),
}

impl Floor {
    pub(super) fn new() -> Self {
        Self {
            entries: Mutex::default(),
            changed: watch::Sender::new(()),
            doubted: Notify::new(),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Entry> {
        self.lock().get(name).cloned()
    }

    /// Takes in an object that was read or written just now. False if more is remembered; then nothing changes.
    pub(super) fn take(&self, name: &str, uid: Option<&str>, spec: &TrustRecordSpec) -> bool {
        let mut entries = self.lock();
        if entries.get(name).is_some_and(|known| !covers(spec, &known.spec)) {
            return false;
        }
        let entry = Entry {
            spec: Arc::new(TrustRecordSpec {
                files: None,
                ..spec.clone()
            }),
            uid: uid.map(str::to_owned),
            doubt: None,
        };
        entries.insert(name.to_owned(), entry);
        drop(entries);
        self.changed.send_replace(());
        true
    }

    /// Doubts an object that holds less than is remembered. What it knows better is remembered too.
    pub(super) fn lower(&self, name: &str, uid: Option<&str>, spec: &TrustRecordSpec) {
        if let Some(known) = self.lock().get_mut(name) {
            known.uid = uid.map(str::to_owned);
            known.spec = Arc::new(merged(&known.spec, spec));
            known.doubt.get_or_insert(Doubt::Lower);
        }
        self.doubted.notify_one();
    }

    /// Notes that it was told what became of an object.
    pub(super) fn told(&self, name: &str, doubt: Doubt) {
        if let Some(known) = self.lock().get_mut(name) {
            known.doubt = Some(doubt);
        }
    }

    /// Notes that the object `uid` was deleted.
    pub(super) fn deleted(&self, name: &str, uid: Option<&str>, reset: bool) -> Gone {
        let mut entries = self.lock();
        let Some(known) = entries.get_mut(name) else {
            return Gone::Other;
        };
        let gone_already = known.doubt == Some(Doubt::Deleted);
        // An object that was made since is not the one that was deleted.
        if !gone_already && known.uid.as_deref() != uid {
            return Gone::Other;
        }
        let spec = Arc::clone(&known.spec);
        let gone = if reset {
            entries.remove(name);
            Gone::Reset(spec)
        } else {
            known.doubt = Some(Doubt::Deleted);
            Gone::Lost(spec)
        };
        drop(entries);
        self.changed.send_replace(());
        self.doubted.notify_one();
        gone
    }

    /// Doubts all that a complete list did not have.
    pub(super) fn listed(&self, names: &HashSet<String>) {
        for (name, known) in self.lock().iter_mut() {
            let told = matches!(known.doubt, Some(Doubt::Deleted | Doubt::PutBack));
            if !names.contains(name) && !told {
                known.doubt = Some(Doubt::Unlisted);
            }
        }
        self.doubted.notify_one();
    }

    /// The names of what may have to be written back.
    pub(super) fn doubtful(&self) -> Vec<String> {
        let entries = self.lock();
        let doubtful = entries.iter().filter(|(_, known)| known.doubt.is_some());
        doubtful.map(|(name, _)| name.clone()).collect()
    }

    /// Waits until something may have to be written back.
    pub(super) async fn doubts(&self) {
        self.doubted.notified().await;
    }

    /// Sees every change of what is remembered.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
