//! What is asked of a server, as the scope of a token says it (notary-v1 §1.7).

use crate::reference::Gun;

/// What a token is to allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// To read.
    Pull,
    /// To publish.
    Push,
    /// Everything: to rotate a server's key, and to delete.
    All,
}

impl Access {
    /// The word for it in a scope.
    pub(super) const fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push,pull",
            Self::All => "*",
        }
    }
}

/// What a server calls a repository in the scope of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// A trust server: by the whole GUN.
    Gun,
    /// A registry: by the name within it.
    Path,
}

impl Names {
    /// The name of `gun` in a scope.
    pub(super) fn of(self, gun: &Gun) -> &str {
        match self {
            Self::Gun => gun.as_str(),
            Self::Path => gun.path(),
        }
    }
}
