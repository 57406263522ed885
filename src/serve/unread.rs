//! Answers that wait until their clients have read them.
//!
//! An answer is in memory from when it is made until its last byte is sent, and how long that takes is for its client
//! to say. So each holds a share of a budget until then, and has a time in which it must be read.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::body::Budget;
use super::reply::{Body, Refusal};

/// Memory for answers. Those who fetch the largest files at a crawl leave room for everybody else's small ones.
pub(super) struct Unread {
    small: Budget,
    large: Budget,
}

/// An answer that is not read yet, as its connection sees it.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Cancelled when nothing is left to send.
    pub(super) sent: CancellationToken,
    /// How long its client has.
    pub(super) limit: Duration,
}

/// The bytes of an answer, and what is given back with the last of them.
struct Kept {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
    _sent: DropGuard,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Unread {
    /// For answers of `bytes` together, a quarter of them for small ones.
    pub(super) fn new(bytes: usize) -> Self {
        let small = bytes / 4;
        Self {
            small: Budget::new(small),
            large: Budget::new(bytes.saturating_sub(small)),
        }
    }

    /// Keeps a share of the memory until `response` is sent or given up.
    pub(super) fn hold(&self, response: Response<Bytes>) -> Result<Response<Body>, Refusal> {
        let size = response.body().len();
        if size <= UNCOUNTED {
            return Ok(response.map(Full::new));
        }
        let budget = if size <= SMALL { &self.small } else { &self.large };
        let share = budget.share(size)?;
        let sent = CancellationToken::new();
        let waiting = Waiting {
            sent: sent.clone(),
            limit: UNREAD + Duration::from_secs(u64::try_from(size / PACE).unwrap_or_default()),
        };
        let mut response = response.map(|bytes| {
            Full::new(Bytes::from_owner(Kept {
                bytes,
                _share: share,
                _sent: sent.drop_guard(),
            }))
        });
        response.extensions_mut().insert(waiting);
        Ok(response)
    }
}

/// Answers up to this are not counted: errors, which must be told even when memory is short (notary-v1 §2.8 keeps them
/// below 1 KiB).
const UNCOUNTED: usize = 1 << 10;
/// Small answers: timestamps, keys, most snapshots and roots.
const SMALL: usize = 64 << 10;
/// How long any answer may wait for its client: as long as a request may take.
const UNREAD: Duration = Duration::from_secs(30);
/// Bytes a second that a client must read of a large one: half a megabit. The largest file then has five minutes.
const PACE: usize = 64 << 10;
