//! What the file grants, and to whom.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::Need;
use crate::reference::Gun;

/// Stands before the names of certificates in `who`: whoever may have a certificate of any name is not thereby the
/// user of that name.
const CERTIFICATE: &str = "certificate:";
const ANYBODY_KNOWN: &str = "*";
const ALL_REPOSITORIES: &str = "**";

/// Something that may be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum Action {
    /// Read metadata, and a repository's changes.
    #[serde(rename = "pull")]
    Pull,
    /// Publish. Useless without `pull`, which publishing needs as well (§2.1).
    #[serde(rename = "push")]
    Push,
    /// Read the changes of all repositories together; to be granted for all of them.
    #[serde(rename = "catalog")]
    Catalog,
    /// Everything, deleting repositories and rotating the server's keys included.
    #[serde(rename = "*")]
    All,
}

/// Who may do what to which repositories. Rules only ever add.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Rule {
    /// Names of static tokens and of users, `certificate:` and a name in a certificate, or `*` for all of these.
    who: BTreeSet<String>,
    /// Whose.
    repositories: Vec<Pattern>,
    /// What.
    actions: BTreeSet<Action>,
}

/// The repositories of a rule: `**`, all of a prefix that ends in a slash, or one GUN.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
enum Pattern {
    All,
    Under(Prefix),
    Exactly(Gun),
}

/// The beginning of GUNs up to a slash, so that `…/team` is not the beginning of `…/team-evil/app` (§9 T28).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Prefix(String);

/// What the file says about repositories and callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) anonymous: BTreeSet<Action>,
    pub(super) granted: Vec<Rule>,
    pub(super) prefixes: Vec<Prefix>,
}

impl Rules {
    pub(super) fn hosts(&self, gun: &Gun) -> bool {
        self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| prefix.covers(gun))
    }

    pub(super) fn permit_anonymous(&self, need: &Need) -> bool {
        match need {
            // Go clients look for a way to log in here, and nowhere else (§1.7).
            Need::Known => self.anonymous.contains(&Action::All),
            Need::Pull(_) | Need::Push(_) | Need::Admin(_) | Need::Catalog => suffice(&self.anonymous, need),
        }
    }

    pub(super) fn permit_named(&self, name: &str, need: &Need) -> bool {
        self.permit(need, |who| who == name)
    }

    pub(super) fn permit_certified(&self, names: &[String], need: &Need) -> bool {
        self.permit(need, |who| {
            who.strip_prefix(CERTIFICATE)
                .is_some_and(|name| names.iter().any(|other| other == name))
        })
    }

    /// For a caller who is known: what rules and the grant to anybody allow together.
    fn permit(&self, need: &Need, is: impl Fn(&str) -> bool) -> bool {
        let mut granted = self.anonymous.clone();
        for rule in &self.granted {
            if rule.concerns(need) && rule.who.iter().any(|who| who == ANYBODY_KNOWN || is(who)) {
                granted.extend(&rule.actions);
            }
        }
        *need == Need::Known || suffice(&granted, need)
    }
}

impl Rule {
    /// Whether it grants `catalog` for all repositories if at all: for some of them it would grant nothing.
    pub(super) fn grants_catalog_for_all(&self) -> bool {
        !self.actions.contains(&Action::Catalog) || self.repositories.contains(&Pattern::All)
    }

    fn concerns(&self, need: &Need) -> bool {
        match need {
            Need::Known => false,
            Need::Catalog => self.repositories.contains(&Pattern::All),
            Need::Pull(gun) | Need::Push(gun) | Need::Admin(gun) => {
                self.repositories.iter().any(|pattern| pattern.covers(gun))
            }
        }
    }
}

impl Pattern {
    fn covers(&self, gun: &Gun) -> bool {
        match self {
            Self::All => true,
            Self::Under(prefix) => prefix.covers(gun),
            Self::Exactly(name) => name == gun,
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        if text == ALL_REPOSITORIES {
            Ok(Self::All)
        } else if text.ends_with('/') {
            Prefix::try_from(text).map(Self::Under)
        } else {
            text.parse().map(Self::Exactly).map_err(|_| PatternError(text))
        }
    }
}

impl Prefix {
    fn covers(&self, gun: &Gun) -> bool {
        gun.as_str().starts_with(&self.0)
    }
}

impl TryFrom<String> for Prefix {
    type Error = PatternError;

    /// Whatever a GUN can follow is the beginning of one.
    fn try_from(text: String) -> Result<Self, PatternError> {
        if text.ends_with('/') && format!("{text}x").parse::<Gun>().is_ok() {
            Ok(Self(text))
        } else {
            Err(PatternError(text))
        }
    }
}

/// Neither a repository nor the beginning of any.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} is neither a full repository name, nor the beginning of one up to a slash, nor ** where that is allowed"
)]
pub(super) struct PatternError(String);

fn suffice(granted: &BTreeSet<Action>, need: &Need) -> bool {
    let has = |action| granted.contains(&action) || granted.contains(&Action::All);
    match need {
        Need::Known => true,
        Need::Pull(_) => has(Action::Pull),
        Need::Push(_) => has(Action::Push) && has(Action::Pull),
        Need::Admin(_) => has(Action::All),
        Need::Catalog => has(Action::Catalog),
    }
}
