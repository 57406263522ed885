//! What the registry holds: blobs and manifests by digest, tags by repository, and uploads that are not finished.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::reference::{Digest, Tag};
use crate::tuf::sha256;

/// Everything the registry holds, in bounded room.
#[derive(Debug)]
pub(super) struct Shelf {
    /// One permit a page.
    room: Arc<Semaphore>,
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    blobs: HashMap<Digest, Kept>,
    manifests: HashMap<Digest, Manifest>,
    repositories: BTreeMap<String, BTreeMap<String, Digest>>,
    uploads: BTreeMap<u64, Held>,
    /// Of the next upload.
    next: u64,
}

/// Bytes that are still coming, and the room they take until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    bytes: BytesMut,
    pages: Option<OwnedSemaphorePermit>,
}

/// Bytes that are complete.
#[derive(Debug)]
struct Kept {
    bytes: Bytes,
    _pages: Option<OwnedSemaphorePermit>,
}

/// A manifest or index.
#[derive(Debug)]
struct Manifest {
    kind: String,
    kept: Kept,
}

impl Held {
    /// The beginning of something.
    pub(super) fn nothing() -> Self {
        Self {
            bytes: BytesMut::new(),
            pages: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn keep(self) -> Kept {
        Kept {
            bytes: self.bytes.freeze(),
            _pages: self.pages,
        }
    }
}

impl Shelf {
    /// A shelf with room for so many bytes.
    pub(super) fn new(room: usize) -> Self {
        Self {
            room: Arc::new(Semaphore::new((room / PAGE).min(Semaphore::MAX_PERMITS))),
            content: Mutex::default(),
        }
    }

    /// Adds to `held`; `None` if there is no room.
    pub(super) fn append(&self, held: &mut Held, data: &[u8]) -> Option<()> {
        let have = held.pages.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let need = (held.len() + data.len()).div_ceil(PAGE);
        if need > have {
            let more = u32::try_from(need - have).ok()?;
            let more = Arc::clone(&self.room).try_acquire_many_owned(more).ok()?;
            match &mut held.pages {
                Some(pages) => pages.merge(more),
                None => held.pages = Some(more),
            }
        }
        held.bytes.extend_from_slice(data);
        Some(())
    }

    /// `bytes` as something that has come; `None` if there is no room.
    pub(super) fn hold(&self, bytes: impl AsRef<[u8]>) -> Option<Held> {
        let mut held = Held::nothing();
        self.append(&mut held, bytes.as_ref())?;
        Some(held)
    }

    /// Begins an upload, and forgets the oldest if there are too many that nobody finished.
    pub(super) fn begin(&self) -> u64 {
        let mut content = self.content();
        let id = content.next;
        content.next += 1;
        if content.uploads.len() >= UPLOADS {
            content.uploads.pop_first();
        }
        content.uploads.insert(id, Held::nothing());
        id
    }

    /// What came of an upload up to now, to be gone on with; it is [`resume`](Self::resume)d or lost.
    pub(super) fn take_upload(&self, id: u64) -> Option<Held> {
        self.content().uploads.remove(&id)
    }

    /// Puts back what [`take_upload`](Self::take_upload) took.
    pub(super) fn resume(&self, id: u64, held: Held) {
        self.content().uploads.insert(id, held);
    }

    /// Keeps a blob under its digest.
    pub(super) fn keep_blob(&self, held: Held) -> Digest {
        let digest = Digest::sha256(sha256(held.bytes()));
        self.content()
            .blobs
            .entry(digest.clone())
            .or_insert_with(|| held.keep());
        digest
    }

    /// Keeps a manifest under its digest and, if there is one, its tag.
    pub(super) fn keep_manifest(
        &self,
        repository: &str,
        tag: Option<&Tag>,
        kind: String,
        held: Held,
    ) -> Digest {
        let digest = Digest::sha256(sha256(held.bytes()));
        let mut content = self.content();
        let kept = held.keep();
        content
            .manifests
            .entry(digest.clone())
            .or_insert(Manifest { kind, kept });
        let tags = content.repositories.entry(repository.to_owned()).or_default();
        if let Some(tag) = tag {
            tags.insert(tag.as_str().to_owned(), digest.clone());
        }
        digest
    }

    /// A blob's bytes.
    pub(super) fn blob(&self, digest: &Digest) -> Option<Bytes> {
        self.content().blobs.get(digest).map(|kept| kept.bytes.clone())
    }

    /// What a tag stands for.
    pub(super) fn tag(&self, repository: &str, tag: &Tag) -> Option<Digest> {
        self.content()
            .repositories
            .get(repository)?
            .get(tag.as_str())
            .cloned()
    }

    /// A manifest's bytes, and what it says it is.
    pub(super) fn manifest(&self, digest: &Digest) -> Option<(String, Bytes)> {
        let content = self.content();
        let manifest = content.manifests.get(digest)?;
        Some((manifest.kind.clone(), manifest.kept.bytes.clone()))
    }

    /// The tags of a repository, if there is one.
    pub(super) fn tags(&self, repository: &str) -> Option<Vec<String>> {
        let content = self.content();
        let tags = content.repositories.get(repository)?;
        Some(tags.keys().cloned().collect())
    }

    /// The names of all repositories.
    pub(super) fn repositories(&self) -> Vec<String> {
        self.content().repositories.keys().cloned().collect()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // Nothing panics half way through a change.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What room is counted in: small images cost little, and layers of any size fit the counter.
const PAGE: usize = 1024;
/// Uploads that were begun and not finished.
const UPLOADS: usize = 64;
