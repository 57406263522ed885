//! How often callers may ask (notary-v1 §8.6.7, §8.6.9).
//!
//! Whoever has a name is counted by it, and everybody else by their network address: an IPv6 host usually has a /64 to
//! itself, and could be as many callers as it likes otherwise.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use serde::Deserialize;

use super::{Caller, Charge, Peer, Refusal};

/// Callers that are counted one by one: 100,000 entries take about 10 MiB a limit. With more, which there are in
/// an attack only, all addresses share one count. Names keep theirs: the file and the token service give them out.
const MAX_COUNTED: usize = 100_000;
/// Failed logins of one address in [`WINDOW`]. 20 a minute are 30,000 guesses a day, with which a password of four
/// random words takes a hundred million years; and one caller whose password has changed costs the server, at 250 ms
/// each, 5 s of a core a minute. Whoever shares the address and logged in before is not asked again for a minute.
const MAX_FAILURES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);

/// What there may be too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// Requests of a caller.
    Requests,
    /// Updates of repositories.
    Publishes,
    /// New keys.
    Keys,
    /// Failed logins from an address.
    Logins,
    /// Passwords that wait to be verified, of all callers together.
    Passwords,
}

impl Limit {
    /// Stable word for metrics and audit logs.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Publishes => "publishes",
            Self::Keys => "keys",
            Self::Logins => "logins",
            Self::Passwords => "passwords",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requests => "requests",
            Self::Publishes => "updates",
            Self::Keys => "new keys",
            Self::Logins => "failed logins",
            Self::Passwords => "logins at the same time",
        })
    }
}

/// How often each caller may do what. A field that is left out has the value shown in [`Default`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Rates {
    /// Requests in the long run. A publisher makes a dozen for an update.
    requests_per_second: NonZeroU32,
    /// Requests at once.
    burst: NonZeroU32,
    /// Updates of repositories.
    publishes_per_minute: NonZeroU32,
    /// Keys that the server makes; a repository needs two in its life.
    keys_per_minute: NonZeroU32,
}

impl Default for Rates {
    fn default() -> Self {
        const fn number(n: u32) -> NonZeroU32 {
            match NonZeroU32::new(n) {
                Some(n) => n,
                None => NonZeroU32::MIN,
            }
        }
        Self {
            requests_per_second: number(50),
            burst: number(200),
            publishes_per_minute: number(60),
            keys_per_minute: number(10),
        }
    }
}

/// Whom a count is kept for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Name(&'static str, Box<str>),
    Address(IpAddr),
    /// All addresses, while there are more than [`MAX_COUNTED`].
    Crowd,
}

impl Key {
    pub(super) fn new(name: Option<&str>, by: &'static str, peer: &Peer) -> Self {
        name.map_or_else(
            || Self::Address(network(peer)),
            |name| Self::Name(by, name.into()),
        )
    }

    pub(super) fn of(caller: &Caller, peer: &Peer) -> Self {
        Self::new(caller.name.as_deref(), caller.by, peer)
    }
}

/// The address that a peer is counted by.
pub(super) fn network(peer: &Peer) -> IpAddr {
    match peer.address.ip().to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address @ IpAddr::V4(_) => address,
    }
}

/// The counts.
#[derive(Debug)]
pub(super) struct Limits {
    requests: Meter,
    publishes: Meter,
    keys: Meter,
    failures: Failures,
}

impl Limits {
    pub(super) fn new(rates: &Rates) -> Self {
        Self {
            requests: Meter::new(Quota::per_second(rates.requests_per_second).allow_burst(rates.burst)),
            publishes: Meter::new(Quota::per_minute(rates.publishes_per_minute)),
            keys: Meter::new(Quota::per_minute(rates.keys_per_minute)),
            failures: Failures::default(),
        }
    }

    pub(super) fn request(&self, key: &Key) -> Result<(), Refusal> {
        self.requests.take(key, Limit::Requests)
    }

    pub(super) fn charge(&self, key: &Key, charge: Charge) -> Result<(), Refusal> {
        match charge {
            Charge::Publish => self.publishes.take(key, Limit::Publishes),
            Charge::NewKey => self.keys.take(key, Limit::Keys),
        }
    }

    /// The logins of a peer.
    pub(super) fn logins(&self, peer: &Peer, now: Timestamp) -> Logins<'_> {
        Logins {
            failures: &self.failures,
            address: network(peer),
            now,
        }
    }
}

/// The logins of one address.
#[derive(Clone, Copy)]
pub(super) struct Logins<'a> {
    failures: &'a Failures,
    address: IpAddr,
    now: Timestamp,
}

/// A login that counts as failed, whatever becomes of the client, until it is forgiven.
#[must_use]
pub(super) struct Attempt<'a> {
    failures: &'a Failures,
    key: Key,
}

impl<'a> Logins<'a> {
    /// Refuses those that have none left.
    pub(super) fn left(self) -> Result<(), Refusal> {
        self.failures.left(&Key::Address(self.address), self.now)
    }

    /// Begins one.
    pub(super) fn attempt(self) -> Result<Attempt<'a>, Refusal> {
        self.failures.attempt(Key::Address(self.address), self.now)
    }
}

impl Attempt<'_> {
    /// It did not fail.
    pub(super) fn forgive(self) {
        if let Ok(mut windows) = self.failures.windows.lock()
            && let Some((_, count)) = windows.get_mut(&self.key)
        {
            *count = count.saturating_sub(1);
        }
    }
}

/// A limit for each key.
struct Meter {
    counts: DefaultKeyedRateLimiter<Key>,
    sweeps: Sweeps,
}

impl Meter {
    fn new(quota: Quota) -> Self {
        Self {
            counts: RateLimiter::keyed(quota),
            sweeps: Sweeps::default(),
        }
    }

    fn take(&self, key: &Key, limit: Limit) -> Result<(), Refusal> {
        self.counts
            .check_key(self.seat(key))
            .map_err(|early| too_many(early.wait_time_from(DefaultClock::default().now()), limit))
    }

    /// `key`, or the crowd if there is no room for another address. Those that have their full allowance again are
    /// the same as new ones, and are dropped.
    fn seat<'a>(&self, key: &'a Key) -> &'a Key {
        if self.counts.len() < MAX_COUNTED {
            return key;
        }
        if self.sweeps.due() {
            self.counts.retain_recent();
        }
        if self.counts.len() < MAX_COUNTED || matches!(key, Key::Name(..)) {
            key
        } else {
            &Key::Crowd
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter")
            .field("counts", &self.counts.len())
            .finish_non_exhaustive()
    }
}

/// Failed logins by address, in windows that begin with the first.
#[derive(Debug, Default)]
struct Failures {
    windows: Mutex<HashMap<Key, (Timestamp, u32)>>,
    sweeps: Sweeps,
}

impl Failures {
    fn left(&self, key: &Key, now: Timestamp) -> Result<(), Refusal> {
        let Ok(windows) = self.windows.lock() else {
            return Err(too_many(WINDOW, Limit::Logins));
        };
        match windows.get(key) {
            Some((begun, count)) if *count >= MAX_FAILURES => {
                left(*begun, now).map_or(Ok(()), |left| Err(too_many(left, Limit::Logins)))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn attempt(&self, mut key: Key, now: Timestamp) -> Result<Attempt<'_>, Refusal> {
        let Ok(mut windows) = self.windows.lock() else {
            return Err(too_many(WINDOW, Limit::Logins));
        };
        if windows.len() >= MAX_COUNTED && !windows.contains_key(&key) {
            if self.sweeps.due() {
                windows.retain(|_, (begun, _)| left(*begun, now).is_some());
            }
            if windows.len() >= MAX_COUNTED {
                key = Key::Crowd;
            }
        }
        let (begun, count) = windows.entry(key.clone()).or_insert((now, 0));
        match left(*begun, now) {
            None => (*begun, *count) = (now, 1),
            Some(left) if *count >= MAX_FAILURES => return Err(too_many(left, Limit::Logins)),
            Some(_) => *count += 1,
        }
        Ok(Attempt { failures: self, key })
    }
}

/// When to look for counts that may be dropped: it takes about a millisecond for all, too long for each request.
#[derive(Debug, Default)]
struct Sweeps(AtomicU32);

impl Sweeps {
    fn due(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed).is_multiple_of(1024)
    }
}

/// What is left of a window. One that begins in the future is from before the clock was set back, and over.
fn left(begun: Timestamp, now: Timestamp) -> Option<Duration> {
    let past = Duration::try_from(now.duration_since(begun)).ok()?;
    WINDOW.checked_sub(past).filter(|left| !left.is_zero())
}

/// `Retry-After` counts seconds; a client that comes back within the second would be refused again.
pub(super) fn too_many(wait: Duration, limit: Limit) -> Refusal {
    Refusal::TooMany {
        retry_after: Duration::from_secs(wait.as_secs() + 1),
        limit,
    }
}
