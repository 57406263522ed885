//! How the engine works.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock;
use crate::cluster::PullSecrets;
use crate::tuf::{Error, Limits};

/// How the engine works, whatever the policy.
#[derive(Clone, Debug)]
pub struct Options {
    /// One deadline for everything that a verification fetches.
    pub timeout: Duration,
    /// How long an answer of a trust server is believed before it is asked again.
    pub fresh_for: Duration,
    /// Caps on what a server may make us read.
    pub limits: Limits,
    /// Whether to find out who else signed, beyond what the policy asks.
    pub attribution: bool,
    /// Whether docker's credential helpers may be run.
    pub credential_helpers: bool,
    /// Where the logins of workloads are; of none, unless that is wanted.
    pub pull_secrets: PullSecrets,
    /// What time it is.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            fresh_for: Duration::from_secs(60),
            limits: Limits::default(),
            attribution: false,
            credential_helpers: false,
            pull_secrets: PullSecrets::default(),
            clock: Clock::Real,
        }
    }
}

/// Where the time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The machine's clock, which must not be before this program was built.
    Real,
    /// A given instant, to judge as of then.
    At(Timestamp),
}

impl Clock {
    /// The time by this clock. Only the machine's has a floor: `--at` may ask about any instant (design §9.4).
    pub(super) fn now(self) -> Result<Timestamp, Error> {
        match self {
            Self::At(instant) => Ok(instant),
            Self::Real => plausible(clock::now()),
        }
    }
}

/// Refuses a time that has certainly passed: by it, expired metadata would look valid (§5.7 step 1, T44).
fn plausible(now: Timestamp) -> Result<Timestamp, Error> {
    if now < clock::built() {
        Err(Error::Clock { now })
    } else {
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_build_is_refused() {
        let early = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(plausible(early).unwrap_err().reason(), "clock");
        assert_eq!(plausible(clock::built()), Ok(clock::built()));
        assert!(Clock::Real.now().is_ok());
        assert_eq!(Clock::At(early).now(), Ok(early));
    }
}
