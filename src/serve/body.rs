//! Reading a body within its limits (ADM-66, ADM-69).

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::reply::{Busy, Refusal};

/// Memory that all bodies share. Charged as bytes arrive, so announcing a large body costs others nothing.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Semaphore>);

/// A body, and its share of the budget until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(
            (bytes / PAGE).min(Semaphore::MAX_PERMITS),
        )))
    }

    /// A share of so many bytes.
    pub(super) fn share(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        u32::try_from(bytes.div_ceil(PAGE))
            .ok()
            .and_then(|pages| Arc::clone(&self.0).try_acquire_many_owned(pages).ok())
            .ok_or(Refusal::Busy(Busy::Memory))
    }

    /// Takes what `held` lacks to cover `bytes`.
    fn cover(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), Refusal> {
        let have = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let lack = bytes.div_ceil(PAGE).saturating_sub(have);
        let share = self.share(lack.saturating_mul(PAGE))?;
        match held {
            Some(held) => held.merge(share),
            None => *held = Some(share),
        }
        Ok(())
    }
}

/// Reads `body` up to `limit` bytes.
///
/// On a refusal the rest of the body is read and thrown away: closing a connection with unread data makes the kernel
/// reset it, and the client would see that instead of the answer.
pub(super) async fn read<B>(
    mut body: B,
    limit: usize,
    budget: &Budget,
    deadline: Instant,
) -> Result<Held, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut share = None;
    let mut bytes = BytesMut::new();
    loop {
        let data = match next(&mut body, deadline).await {
            Ok(Some(data)) => data,
            Ok(None) => break,
            Err(refusal) => return Err(refusal),
        };
        let size = bytes.len().saturating_add(data.remaining());
        let fits = if size > limit {
            Err(Refusal::TooLarge)
        } else {
            budget.cover(&mut share, size)
        };
        if let Err(refusal) = fits {
            drop((bytes, share));
            discard(body, limit, deadline).await;
            return Err(refusal);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Held {
        bytes: bytes.freeze(),
        _share: share,
    })
}

/// Reads and forgets what is left of a body, within a multiple of `limit`.
pub(super) async fn discard<B>(mut body: B, limit: usize, deadline: Instant)
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut left = limit.saturating_mul(DISCARDED);
    while let Ok(Some(data)) = next(&mut body, deadline).await
        && left > 0
    {
        left = left.saturating_sub(data.len());
    }
}

/// The next piece of data.
async fn next<B>(body: &mut B, deadline: Instant) -> Result<Option<Bytes>, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        let frame = timeout_at(deadline, body.frame())
            .await
            .map_err(|_| Refusal::TooSlow)?;
        match frame.transpose().map_err(|_| Refusal::Broken)? {
            None => return Ok(None),
            // Trailers say nothing to us.
            Some(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The budget's unit: what is charged at least, and rounded up to.
const PAGE: usize = 4_096;
/// How many times the largest body is worth throwing away to get an answer through.
const DISCARDED: usize = 4;
