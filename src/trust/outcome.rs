//! What verification comes to.

use std::fmt;
use std::time::Duration;

use super::remote::Setback;
use super::verifier::Fault;
use crate::reference::{Digest, Tag};
use crate::telemetry::chain;
use crate::tuf;

/// An image that trust data vouches for. Only this module makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    pub(super) digest: Digest,
    pub(super) role: Option<String>,
    pub(super) signers: Vec<String>,
    pub(super) verifier: Option<Source>,
    pub(super) stale: Option<Duration>,
}

impl Pinned {
    /// A digest that passes unverified because the rule says `digests: Allow`.
    pub(super) const fn unverified(digest: Digest) -> Self {
        Self {
            digest,
            role: None,
            signers: Vec::new(),
            verifier: None,
            stale: None,
        }
    }

    /// The digest that was signed.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The role that released it: `targets` or `targets/releases`. `None` for a digest admitted unverified by
    /// `digests: Allow`.
    pub fn role(&self) -> Option<&str> {
        self.role.as_deref()
    }

    /// Who else signed the same digest for the same tag, without `targets/`.
    pub fn signers(&self) -> &[String] {
        &self.signers
    }

    /// Who vouches.
    pub const fn verifier(&self) -> Option<&Source> {
        self.verifier.as_ref()
    }

    /// Age of the metadata if it served although the trust server could not be asked.
    pub const fn stale(&self) -> Option<Duration> {
        self.stale
    }
}

/// A verifier and the server it asked, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The verifier's name in its policy.
    pub verifier: String,
    /// Host (and port) of its server.
    pub server: String,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "verifier {} at {}", self.verifier, self.server)
    }
}

/// Which kind of no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The metadata was read and does not vouch for the image. Final: no failure policy may override it.
    Untrusted,
    /// We could not find out.
    Unavailable,
}

/// Why an image was not pinned. `Display` is the cause alone: `tag 1.2 is not signed in registry.example.com/app`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Refusal {
    pub(super) kind: Kind,
    pub(super) reason: &'static str,
    pub(super) cause: String,
    pub(super) sources: Vec<Source>,
    pub(super) similar: Vec<Tag>,
}

impl Kind {
    /// The word in metrics and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Untrusted => "denied",
            Self::Unavailable => "unavailable",
        }
    }
}

impl From<&Setback> for Refusal {
    fn from(setback: &Setback) -> Self {
        let (kind, reason) = match setback {
            Setback::Untrusted(error) => (Kind::Untrusted, error.reason()),
            Setback::Unavailable(error) => (Kind::Unavailable, error.reason()),
            Setback::Store(_) => (Kind::Unavailable, "state"),
        };
        Self::new(kind, reason, chain(setback))
    }
}

impl Refusal {
    const fn new(kind: Kind, reason: &'static str, cause: String) -> Self {
        Self {
            kind,
            reason,
            cause,
            sources: Vec::new(),
            similar: Vec::new(),
        }
    }

    /// The deadline came first.
    pub(super) fn late() -> Self {
        Self::new(
            Kind::Unavailable,
            "deadline",
            "verification did not end in time".to_owned(),
        )
    }

    /// The task that verified is gone; its panic is in the log.
    pub(super) fn crashed() -> Self {
        Self::new(
            Kind::Unavailable,
            "internal",
            "verification failed inside: see the log".to_owned(),
        )
    }

    /// The clock cannot be right.
    pub(super) fn clock(error: &tuf::Error) -> Self {
        Self::new(Kind::Unavailable, error.reason(), error.to_string())
    }

    /// The server that an image implies cannot be asked.
    pub(super) fn setup(fault: &Fault) -> Self {
        Self::new(Kind::Unavailable, "setup", chain(fault))
    }

    /// The same refusal, said by `source`.
    pub(super) fn of(self, source: Source) -> Self {
        Self {
            sources: vec![source],
            ..self
        }
    }

    /// Whether another login might open what was refused.
    pub(super) fn wants_login(&self) -> bool {
        matches!(self.reason, "unauthorized" | "forbidden")
    }

    /// The same refusal, with what was tried to avoid it.
    pub(super) fn after(mut self, tried: &str) -> Self {
        self.cause = format!("{}; {tried}", self.cause);
        self
    }

    /// *Untrusted* or *unavailable*.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Stable `snake_case` word for metrics, JSON output and tests.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }

    /// The verifiers that refused, in the order of the rule.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Signed tags much like the one asked for, at most five.
    pub fn similar(&self) -> &[Tag] {
        &self.similar
    }
}

/// Pins and refusals made up for the tests of other modules.
#[doc(hidden)]
pub mod fake {
    use super::{Digest, Kind, Pinned, Refusal, Source, Tag};

    /// A pin from verifier `acme` at `trust.example.com`.
    pub fn pinned(digest: Digest) -> Pinned {
        Pinned {
            digest,
            role: Some("targets".to_owned()),
            signers: Vec::new(),
            verifier: Some(source()),
            stale: None,
        }
    }

    /// A refusal from the same verifier.
    pub fn refusal(kind: Kind, reason: &'static str, cause: &str, similar: Vec<Tag>) -> Refusal {
        Refusal {
            kind,
            reason,
            cause: cause.to_owned(),
            sources: vec![source()],
            similar,
        }
    }

    fn source() -> Source {
        Source {
            verifier: "acme".to_owned(),
            server: "trust.example.com".to_owned(),
        }
    }
}
