//! Reading a body within its limits: bytes, pace, deadline.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::{Error, Host};

/// What one body may cost.
pub(super) struct Limits {
    pub(super) host: Host,
    /// Most bytes, after decompression.
    pub(super) limit: u64,
    pub(super) deadline: Instant,
}

impl Limits {
    /// The whole body, or an error. `announced` is its `Content-Length`, which a compressed body has not.
    pub(super) async fn read(
        self,
        announced: Option<u64>,
        chunks: impl Stream<Item = reqwest::Result<Bytes>>,
    ) -> Result<Bytes, Error> {
        if announced.is_some_and(|length| length > self.limit) {
            return Err(self.too_large());
        }
        let mut chunks = pin!(chunks);
        let mut body = BytesMut::new();
        let started = Instant::now();
        while let Some(chunk) = self.next(&mut chunks, started, length(&body)).await? {
            if length(&body) + length(&chunk) > self.limit {
                return Err(self.too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// The first `most` bytes of an error's body, or what could be had of them: the status is the answer, and
    /// nothing that happens to the body may hide it.
    pub(super) async fn read_some(
        self,
        most: u64,
        chunks: impl Stream<Item = reqwest::Result<Bytes>>,
    ) -> Bytes {
        let mut chunks = pin!(chunks);
        let mut body = BytesMut::new();
        let started = Instant::now();
        while length(&body) < most
            && let Ok(Some(chunk)) = self.next(&mut chunks, started, length(&body)).await
        {
            body.extend_from_slice(&chunk);
        }
        body.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        body.freeze()
    }

    async fn next(
        &self,
        chunks: &mut (impl Stream<Item = reqwest::Result<Bytes>> + Unpin),
        started: Instant,
        received: u64,
    ) -> Result<Option<Bytes>, Error> {
        let patience = started + GRACE + Duration::from_secs(received / PACE);
        match timeout_at(self.deadline.min(patience), chunks.next()).await {
            Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
            Ok(Some(Err(error))) => Err(Error::from_transport(&self.host, error)),
            Ok(None) => Ok(None),
            Err(_) if patience < self.deadline => Err(Error::Slow {
                host: self.host.clone(),
            }),
            Err(_) => Err(Error::Timeout {
                host: self.host.clone(),
            }),
        }
    }

    fn too_large(&self) -> Error {
        Error::TooLarge {
            host: self.host.clone(),
            limit: self.limit,
        }
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// How long a body may take whatever its size: an admission's usual deadline.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes that buy another second. The largest file allowed by default, 16 MiB, then takes 17 minutes at most, and a
/// modem of 1998 keeps that pace; whoever does not is holding us up (T11).
const PACE: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::stream;
    use tokio::time::sleep;

    use super::*;

    fn limits(limit: u64, deadline: Duration) -> Limits {
        Limits {
            host: "trust.example.com".into(),
            limit,
            deadline: Instant::now() + deadline,
        }
    }

    /// A body of `count` chunks of `size` bytes, one every `pause`.
    fn drip(count: usize, size: usize, pause: Duration) -> impl Stream<Item = reqwest::Result<Bytes>> {
        stream::unfold(count, move |left| async move {
            sleep(pause).await;
            (left > 0).then(|| (Ok(Bytes::from(vec![b'x'; size])), left - 1))
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_held_to_bytes_pace_and_deadline() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        for (label, limit, deadline, announced, body, want) in [
            (
                "exactly the limit",
                100,
                minute,
                None,
                drip(10, 10, Duration::ZERO),
                "100",
            ),
            (
                "one byte more",
                99,
                minute,
                None,
                drip(10, 10, Duration::ZERO),
                "too_large",
            ),
            (
                "announced too large",
                99,
                minute,
                Some(100),
                drip(0, 0, Duration::ZERO),
                "too_large",
            ),
            (
                "announced small, sent large",
                99,
                minute,
                Some(1),
                drip(10, 10, Duration::ZERO),
                "too_large",
            ),
            (
                "a byte a second",
                1000,
                minute,
                None,
                drip(100, 1, second),
                "slow_retrieval",
            ),
            (
                "the least pace",
                1 << 20,
                minute,
                None,
                drip(20, 16 * 1024, second),
                "327680",
            ),
            (
                "past the deadline",
                1000,
                2 * second,
                None,
                drip(100, 1, second),
                "timeout",
            ),
            (
                "nothing at all",
                1000,
                minute,
                None,
                drip(1, 1, minute),
                "slow_retrieval",
            ),
        ] {
            let got = limits(limit, deadline).read(announced, body).await;
            let got = got.map_or_else(|error| error.reason().to_owned(), |body| body.len().to_string());
            assert_eq!(got, want, "{label}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_body_is_not_read_beyond_its_limit() {
        let read = Cell::new(0);
        let endless = stream::repeat_with(|| {
            read.set(read.get() + 1);
            Ok(Bytes::from_static(&[0; 1024]))
        });
        let got = limits(10 * 1024, Duration::from_secs(60))
            .read(None, endless)
            .await;
        assert_eq!(got.unwrap_err().reason(), "too_large");
        assert_eq!(read.get(), 11);
    }

    #[tokio::test(start_paused = true)]
    async fn of_an_errors_body_whatever_came_counts() {
        let minute = Duration::from_secs(60);
        for (label, body, want) in [
            ("whole", drip(3, 10, Duration::ZERO), 30),
            ("cut", drip(1000, 10, Duration::ZERO), 64),
            ("slow", drip(1000, 1, Duration::from_secs(2)), 2),
        ] {
            assert_eq!(limits(1, minute).read_some(64, body).await.len(), want, "{label}");
        }
    }
}
