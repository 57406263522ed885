//! Why metadata is not trusted.

use jiff::Timestamp;

use super::{FormatError, Role};
use crate::reference::Gun;

/// The metadata was read, or is known to be missing, and cannot be trusted. Not finding out is another matter and
/// never one of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither root nor timestamp: nobody signs in this repository.
    #[error("{gun} has no trust data")]
    NoTrustData {
        /// The repository.
        gun: Gun,
    },
    /// We have seen trust data of this repository, and now the server says there is none (T5).
    #[error(
        "the trust data of {gun} is gone from the server; if that is intended, run countersign trust reset"
    )]
    Gone {
        /// The repository.
        gun: Gun,
    },
    /// The file is not metadata (§3.3, §3.8).
    #[error("{role} metadata is malformed")]
    Malformed {
        /// Whose file.
        role: Role,
        /// What is wrong with it.
        #[source]
        source: FormatError,
    },
    /// Nobody signed.
    #[error("{role} metadata carries no signature")]
    NoSignatures {
        /// Whose file.
        role: Role,
    },
    /// Too few distinct keys of the role signed (§3.7).
    #[error("{role} metadata has {valid} valid signatures of its role's keys, {threshold} are needed")]
    Threshold {
        /// Whose file.
        role: Role,
        /// Distinct canonical keys that signed.
        valid: usize,
        /// How many must.
        threshold: u64,
    },
    /// No pinned anchor signed any root of the chain.
    #[error("the root of {gun} is not the pinned one")]
    Pin {
        /// The repository.
        gun: Gun,
    },
    /// No root key's certificate names the repository (§4.4, T28, T33).
    #[error("the root certificate is made out to {found:?}, not to {gun}")]
    Name {
        /// The repository.
        gun: Gun,
        /// The common names there are.
        found: Box<[String]>,
    },
    /// No root key's certificate is acceptable now (§3.11).
    #[error("no valid root certificate is left: they are expired, not yet valid, or weak")]
    Certificate,
    /// The next root is not signed by the root before it, or a root in between is missing (§4.5).
    #[error("no chain of signed roots leads from version {trusted} to version {offered}")]
    RootChain {
        /// The version we trust.
        trusted: u64,
        /// The version the server offers.
        offered: u64,
    },
    /// Older than what we have seen (T1, T2).
    #[error("{role} metadata is version {offered}, but version {trusted} was seen before")]
    Rollback {
        /// Whose file.
        role: Role,
        /// The version the server offers.
        offered: u64,
        /// The version seen before.
        trusted: u64,
    },
    /// Same version, other content (T3).
    #[error("{role} metadata of version {version} has two different contents")]
    Equivocation {
        /// Whose file.
        role: Role,
        /// The version.
        version: u64,
    },
    /// `expires <= now` (design §9.4, T4).
    #[error("{role} metadata expired on {at}")]
    Expired {
        /// Whose file.
        role: Role,
        /// When.
        at: Timestamp,
    },
    /// Not the bytes that the file above names (T7).
    #[error("{role} metadata is not what {by} names")]
    Hash {
        /// Whose file.
        role: Role,
        /// The role that names its hash and length.
        by: Role,
    },
    /// The snapshot names another root than the server's (step 11).
    #[error("the snapshot names another root than the one served")]
    RootMismatch,
    /// Named by the snapshot or by us, and not served.
    #[error("{role} metadata is listed but the server does not have it")]
    Missing {
        /// Whose file.
        role: Role,
    },
    /// Still delegated, seen before, and no longer in the snapshot (T8).
    #[error("{role} was published before and is now left out of the snapshot")]
    Omitted {
        /// Whose file.
        role: Role,
    },
    /// Larger or more than the verifier's limits (T10).
    #[error("{what} exceed the limit of {most}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        most: u64,
    },
    /// The clock shows a time before this program was built (T44).
    #[error("the clock shows {now}, a time before this program was built: set it right")]
    Clock {
        /// What the clock shows.
        now: Timestamp,
    },
}

impl Error {
    /// Stable `snake_case` word for metrics, JSON output and tests.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoTrustData { .. } => "no_trust_data",
            Self::Gone { .. } => "trust_data_gone",
            Self::Malformed { .. } => "malformed",
            Self::NoSignatures { .. } => "no_signatures",
            Self::Threshold { .. } => "threshold",
            Self::Pin { .. } => "pin",
            Self::Name { .. } => "name",
            Self::Certificate => "certificate",
            Self::RootChain { .. } => "root_chain",
            Self::Rollback { .. } => "rollback",
            Self::Equivocation { .. } => "equivocation",
            Self::Expired { .. } => "expired",
            Self::Hash { .. } => "hash",
            Self::RootMismatch => "root_mismatch",
            Self::Missing { .. } => "missing",
            Self::Omitted { .. } => "omitted",
            Self::Limit { .. } => "limit",
            Self::Clock { .. } => "clock",
        }
    }

    /// Whether a publisher who may delegate repairs this by publishing: of a delegation's file, it is bad but not a
    /// sign that somebody turns versions back.
    pub(super) const fn is_repairable(&self) -> bool {
        matches!(
            self,
            Self::Threshold { .. }
                | Self::NoSignatures { .. }
                | Self::Malformed { .. }
                | Self::Missing { .. }
                | Self::Hash { .. }
        )
    }

    /// Whether files fetched in one round while a publisher was writing could look like this: then one more round
    /// tells (§5.7 step 11).
    pub(super) fn may_be_a_race(&self) -> bool {
        matches!(self, Self::RootMismatch)
            || matches!(self, Self::Threshold { role, .. } if *role != Role::Root)
    }
}
