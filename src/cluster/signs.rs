//! What happens in the watches, told to who counts it; and what they are told of trust servers.

use std::fmt;
use std::sync::Arc;

use crate::policy::Policy;
use crate::policy::resource::ConditionStatus;

/// Something that is worth counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A list or a watch of this resource failed.
    Failed(&'static str),
    /// What is known of this resource is as the API server has it.
    Synced(&'static str),
    /// How many namespaces have each mode: one of [`MODES`].
    Namespaces([usize; MODES.len()]),
    /// The webhook configuration of this kind (`mutating`, `validating`) was looked at.
    Registration {
        /// Which of the two.
        kind: &'static str,
        /// Whether it is missing, or lets through what it should not.
        weakened: bool,
    },
}

/// The values of the label `countersign.dev/mode`, `none` for a namespace without it, and `other` for a value that means
/// nothing.
pub const MODES: [&str; 5] = ["enforce", "audit", "off", "none", "other"];

/// What is known of the trust servers of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Whether they answer.
    pub status: ConditionStatus,
    /// Why, as one CamelCase word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

type Tell = dyn Fn(Sign) + Send + Sync;
type Ask = dyn Fn(&Policy) -> Contact + Send + Sync;

/// Who counts, and who knows of trust servers.
#[derive(Clone)]
pub struct Hooks {
    pub(super) tell: Arc<Tell>,
    pub(super) contact: Option<Arc<Ask>>,
}

impl Hooks {
    /// `tell` hears of every sign, `contact` says whether the trust servers of a policy answer.
    pub fn new(
        tell: impl Fn(Sign) + Send + Sync + 'static,
        contact: impl Fn(&Policy) -> Contact + Send + Sync + 'static,
    ) -> Self {
        Self {
            tell: Arc::new(tell),
            contact: Some(Arc::new(contact)),
        }
    }

    pub(super) fn contact(&self, policy: &Policy) -> Option<Contact> {
        self.contact.as_ref().map(|contact| contact(policy))
    }
}

/// Nobody counts, and nobody knows.
impl Default for Hooks {
    fn default() -> Self {
        Self {
            tell: Arc::new(|_| {}),
            contact: None,
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}
