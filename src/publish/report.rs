//! What came of publishing.

use std::time::Duration;

use jiff::Timestamp;

use crate::reference::Gun;
use crate::tuf::edit::{Published, SignedFile};
use crate::tuf::{KeyId, Role};

/// What came of publishing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The repository.
    pub gun: Gun,
    /// What was written; nothing, if everything was so already.
    pub written: Vec<Written>,
    /// What to think of besides.
    pub warnings: Vec<String>,
    /// How often another publisher was faster.
    pub conflicts: u32,
    /// Whether the repository was made.
    pub initialised: bool,
    /// Whether it is no more.
    pub deleted: bool,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Whose.
    pub role: Role,
    /// Its version.
    pub version: u64,
    /// Who signed it: canonical ids.
    pub signers: Vec<KeyId>,
}

impl From<&SignedFile> for Written {
    fn from(file: &SignedFile) -> Self {
        Self {
            role: file.role.clone(),
            version: file.version,
            signers: file.signers.iter().copied().collect(),
        }
    }
}

impl Report {
    /// The end of a repository.
    pub fn deleted(gun: Gun) -> Self {
        Self {
            deleted: true,
            ..Self::unchanged(gun, 0)
        }
    }

    pub(super) const fn unchanged(gun: Gun, conflicts: u32) -> Self {
        Self {
            gun,
            written: Vec::new(),
            warnings: Vec::new(),
            conflicts,
            initialised: false,
            deleted: false,
        }
    }
}

/// What of a publisher's files expires within a year, or has (notary-v1 §4.6): time enough to find the root key.
pub fn expiring(published: &Published, now: Timestamp) -> Vec<String> {
    let soon = now.checked_add(YEAR).unwrap_or(Timestamp::MAX);
    let gun = published.gun();
    let roles = published.roles().filter(|role| match role {
        Role::Root | Role::Targets | Role::Delegation(_) => true,
        Role::Snapshot | Role::Timestamp => false,
    });
    let mut warnings: Vec<_> = roles
        .filter_map(|role| {
            let at = published.expires(role).filter(|at| *at <= soon)?;
            Some(format!(
                "{role} of {gun} {}: renew it with countersign trust witness",
                when(at, now)
            ))
        })
        .collect();
    if let Some(at) = published.certificate_expires().filter(|at| *at <= soon) {
        warnings.push(format!(
            "the root certificate of {gun} {}: renew it with countersign trust rotate root --reissue, for neither docker \
             nor notary can once it has",
            when(at, now)
        ));
    }
    warnings
}

fn when(at: Timestamp, now: Timestamp) -> String {
    let day = at.strftime("%Y-%m-%d");
    if at <= now {
        format!("expired on {day}")
    } else {
        format!("expires on {day}")
    }
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
