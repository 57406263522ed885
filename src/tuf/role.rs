//! Role names (notary-v1 §3.9).

use std::fmt;
use std::str::FromStr;

/// Longest delegation name in bytes.
const MAX_NAME: usize = 255;
/// What every delegation name begins with.
const TARGETS: &str = "targets/";

/// Whose signature a metadata file carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The anchor: names the keys of the four base roles.
    Root,
    /// The publisher's tags and delegations.
    Targets,
    /// Hashes of all other files, so that they cannot be mixed.
    Snapshot,
    /// The hash of the snapshot, signed often.
    Timestamp,
    /// A role below `targets`.
    Delegation(DelegationName),
}

impl Role {
    /// `targets/releases`, where docker's publishers release tags (§6.5).
    pub fn releases() -> Self {
        Self::Delegation(DelegationName::releases())
    }

    /// The delegation of signer `name`: `targets/<name>`.
    ///
    /// # Errors
    ///
    /// [`RoleError`] if that is not a delegation name.
    pub fn signer(name: &str) -> Result<Self, RoleError> {
        format!("{TARGETS}{name}").parse().map(Self::Delegation)
    }

    /// The role that delegates to this one, if it is a delegation.
    pub fn parent(&self) -> Option<Self> {
        let Self::Delegation(name) = self else { return None };
        let (parent, _) = name.0.rsplit_once('/')?;
        parent.parse().ok()
    }

    /// The name in URLs, snapshots and messages.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
            Self::Delegation(name) => &name.0,
        }
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "root" => Ok(Self::Root),
            "targets" => Ok(Self::Targets),
            "snapshot" => Ok(Self::Snapshot),
            "timestamp" => Ok(Self::Timestamp),
            _ => text.parse().map(Self::Delegation),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The full name of a delegation, `targets/…`: lower case, path-clean, at most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DelegationName(Box<str>);

impl DelegationName {
    /// `targets/releases`, where docker's publishers release tags (§6.5).
    pub fn releases() -> Self {
        Self("targets/releases".into())
    }

    /// Levels below `targets`: 1 for `targets/alice`.
    pub fn depth(&self) -> usize {
        self.0.matches('/').count()
    }

    /// The name without `targets/`: how docker calls the signer.
    pub fn signer(&self) -> &str {
        self.0.strip_prefix(TARGETS).unwrap_or(&self.0)
    }
}

impl FromStr for DelegationName {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || RoleError { name: text.into() };
        let below = text.strip_prefix(TARGETS).ok_or_else(error)?;
        let clean = below.split('/').all(|segment| {
            !segment.is_empty()
                && segment
                    .bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
        });
        if clean && text.len() <= MAX_NAME {
            Ok(Self(text.into()))
        } else {
            Err(error())
        }
    }
}

impl fmt::Display for DelegationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that no role can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a role name")]
pub struct RoleError {
    name: Box<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delegation_names_follow_the_grammar() {
        for good in ["targets/releases", "targets/a/b-c_d", "targets/0"] {
            assert_eq!(good.parse::<Role>().unwrap().as_str(), good);
        }
        let long = format!("targets/{}", "a".repeat(248));
        for bad in [
            "",
            "targets/",
            "targets//a",
            "targets/a/",
            "targets/A",
            "targets/a.b",
            "targets/..",
            "other/a",
            "targets/é",
            &long,
        ] {
            assert!(bad.parse::<Role>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_parent_is_the_name_without_its_last_segment() {
        let nested: Role = "targets/a/b".parse().unwrap();
        assert_eq!(nested.parent().unwrap().as_str(), "targets/a");
        assert_eq!(nested.parent().unwrap().parent(), Some(Role::Targets));
        assert_eq!(Role::Targets.parent(), None);
    }
}
