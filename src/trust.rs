//! One image in, a [`Pinned`] digest or a [`Refusal`] out.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::policy::Verification;
use crate::reference::{Digest, Reference, Tag};

/// Finds out whether an image is trusted. The one seam that tests of `admission` replace.
pub trait Verify: Send + Sync + 'static {
    /// Holds `image` against `verification` and answers before `deadline`.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that says whether the image is untrusted or whether that could not be found out.
    fn verify(
        &self,
        image: &Reference,
        verification: &Verification,
        deadline: Instant,
    ) -> impl Future<Output = Result<Pinned, Refusal>> + Send;
}

/// An image that trust data vouches for. Only this module makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    digest: Digest,
    role: Option<String>,
    signers: Vec<String>,
    verifier: Option<Source>,
    stale: Option<Duration>,
}

impl Pinned {
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
    kind: Kind,
    reason: &'static str,
    cause: String,
    sources: Vec<Source>,
    similar: Vec<Tag>,
}

impl Refusal {
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
