//! From policies to the [`Requirement`]s an image has to meet.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::pattern::{Pattern, Specificity};
use super::selector::Scope;
use super::verifier::{Verification, Verifier};
use crate::reference::Reference;

/// Labels of a namespace.
pub type Labels = BTreeMap<String, String>;

/// Every policy in force, as one consistent snapshot.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    policies: Vec<Arc<Policy>>,
}

impl PolicySet {
    /// A set of compiled policies, whatever their order.
    pub fn new(policies: impl IntoIterator<Item = Arc<Policy>>) -> Self {
        let mut policies: Vec<_> = policies.into_iter().collect();
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        Self { policies }
    }

    /// What each policy that applies in a namespace (by name and labels) demands of `image`: one requirement a
    /// policy, all of which must be met. Empty means that no policy applies, which admits nothing: a namespace's own
    /// policies tighten what the cluster's say, and where none of those applies they have nothing to tighten (CRD-20).
    ///
    /// The cluster's policies come first, each kind by name. The namespace's own name is matched as its label
    /// `kubernetes.io/metadata.name`, whatever `labels` say. With unknown labels (`None`) every policy applies that
    /// may, and one that only may apply denies whatever it says: perhaps it is not what governs.
    pub fn select<'a>(
        &self,
        namespace: &str,
        labels: impl Into<Option<&'a Labels>>,
        image: &Reference,
    ) -> Vec<Requirement> {
        let labels = labels.into();
        self.applying(namespace, labels)
            .map(|policy| match labels {
                None if policy.scope.reads_labels() => policy.in_doubt(),
                _ => policy.require(image),
            })
            .collect()
    }

    /// Whether a policy asks for other labels of a namespace than its name.
    pub fn reads_labels(&self) -> bool {
        self.policies.iter().any(|policy| policy.scope.reads_labels())
    }

    /// Whether a policy that applies in a namespace wants images in pod templates rewritten to their digests.
    pub fn pin_workloads<'a>(&self, namespace: &str, labels: impl Into<Option<&'a Labels>>) -> bool {
        self.applying(namespace, labels.into())
            .any(|policy| policy.pin_workloads)
    }

    /// What becomes, in a namespace (by name and labels), of an image that no rule can be looked up for: where every
    /// policy that applies only watches, so do we.
    pub fn mode<'a>(&self, namespace: &str, labels: impl Into<Option<&'a Labels>>) -> Mode {
        let labels = labels.into();
        let mut modes = self
            .applying(namespace, labels)
            .map(|policy| policy.mode_for(labels))
            .peekable();
        if modes.peek().is_some() && modes.all(|mode| mode == Mode::Audit) {
            Mode::Audit
        } else {
            Mode::Enforce
        }
    }

    /// Every policy, the cluster's first, each kind by name.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// Every verifier that a policy defines.
    pub fn verifiers(&self) -> impl Iterator<Item = (&PolicyName, &Arc<Verifier>)> {
        self.policies
            .iter()
            .flat_map(|policy| policy.verifiers.iter().map(|verifier| (&*policy.name, verifier)))
    }

    fn applying(&self, namespace: &str, labels: Option<&Labels>) -> impl Iterator<Item = &Arc<Policy>> {
        let covering = || {
            let policies = self.policies.iter();
            policies.filter(move |policy| policy.scope.covers(namespace, labels))
        };
        let governed = covering().any(|policy| policy.name.namespace.is_none());
        covering().filter(move |_| governed)
    }
}

/// One policy, compiled.
#[derive(Debug)]
pub struct Policy {
    /// Its name.
    pub name: Arc<PolicyName>,
    /// Whether its refusals deny.
    pub mode: Mode,
    /// What it wants done about pod templates.
    pub workloads: Workloads,
    /// Whether it wants images in pod templates rewritten to their digests.
    pub pin_workloads: bool,
    pub(super) scope: Scope,
    pub(super) verifiers: Vec<Arc<Verifier>>,
    /// In the order of the policy.
    pub(super) rules: Vec<Rule>,
    /// Why nothing can be admitted in its name: it cannot be read.
    pub(super) fault: Option<Arc<str>>,
}

/// What is demanded of some images.
#[derive(Debug)]
pub(super) struct Rule {
    /// With the index of each in the rule as it was written.
    pub(super) patterns: Vec<(usize, Pattern)>,
    pub(super) demand: Demand,
}

impl Rule {
    /// How specifically the rule speaks of `image`; `None` if it does not.
    ///
    /// A runtime goes by the digest, and the tag before it is whatever the author of the pod likes to write. A rule
    /// that verifies holds it against what was signed; one that allows would take any content of the repository for
    /// the tags it means.
    fn specificity(&self, image: &Reference) -> Option<Specificity> {
        let believes_tag = image.digest().is_none() || !matches!(self.demand, Demand::Allow { .. });
        let matching = self
            .patterns
            .iter()
            .filter(|(_, pattern)| pattern.matches(image) && (believes_tag || !pattern.names_tags()));
        matching.map(|(_, pattern)| pattern.specificity()).max()
    }
}

impl Policy {
    /// How many rules it has.
    pub fn rules(&self) -> usize {
        self.rules.len()
    }

    /// The verifiers it defines and can use.
    pub fn verifiers(&self) -> impl Iterator<Item = &Arc<Verifier>> {
        self.verifiers.iter()
    }

    /// The policy without the verifiers of these names. Rules that ask for one of them deny, with the message beside
    /// its name; the others say what they said.
    pub(super) fn without(&self, broken: &BTreeMap<String, Arc<str>>) -> Self {
        let rules = self.rules.iter().map(|rule| Rule {
            patterns: rule.patterns.clone(),
            demand: rule.demand.without(broken),
        });
        let verifiers = self.verifiers.iter();
        Self {
            name: Arc::clone(&self.name),
            mode: self.mode,
            workloads: self.workloads,
            pin_workloads: self.pin_workloads,
            scope: self.scope.clone(),
            verifiers: verifiers
                .filter(|verifier| !broken.contains_key(&verifier.name))
                .cloned()
                .collect(),
            rules: rules.collect(),
            fault: self.fault.clone(),
        }
    }

    fn mode_for(&self, labels: Option<&Labels>) -> Mode {
        if labels.is_none() && self.scope.reads_labels() {
            Mode::Enforce
        } else {
            self.mode
        }
    }

    /// What is required where it is not known whether the policy applies.
    fn in_doubt(&self) -> Requirement {
        let message = "the labels of the namespace, on which this policy depends, could not be read";
        Requirement {
            policy: Arc::clone(&self.name),
            mode: Mode::Enforce,
            workloads: self.workloads,
            rule: None,
            demand: Demand::Deny {
                message: message.into(),
            },
        }
    }

    fn require(&self, image: &Reference) -> Requirement {
        let rule = self.rule(image);
        let unruled = || match &self.fault {
            Some(fault) => Demand::Deny {
                message: Arc::clone(fault),
            },
            None => Demand::Uncovered,
        };
        Requirement {
            policy: Arc::clone(&self.name),
            mode: self.mode,
            workloads: self.workloads,
            rule: rule.map(|(index, _)| index + 1),
            demand: rule.map_or_else(unruled, |(_, rule)| rule.demand.clone()),
        }
    }

    /// The rule with the most specific pattern that matches `image`. Compilation has made sure that there is one only.
    fn rule(&self, image: &Reference) -> Option<(usize, &Rule)> {
        self.rules
            .iter()
            .enumerate()
            .filter_map(|(index, rule)| Some((rule.specificity(image)?, (index, rule))))
            .max_by(|(a, _), (b, _)| a.cmp(b))
            .map(|(_, found)| found)
    }
}

/// How a policy is called in messages: `default`, or `namespace/name` for a namespaced one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName {
    /// The namespace of a `TrustPolicy`; `None` for a `ClusterTrustPolicy`.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// Whether a policy's refusals deny or only warn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, schemars::JsonSchema)]
#[schemars(inline)]
pub enum Mode {
    /// Refused images are denied.
    #[default]
    Enforce,
    /// Refused images are admitted with a warning.
    Audit,
}

impl Mode {
    /// The word in logs, metrics and flags.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

/// What happens to pod templates of Deployments and the like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, schemars::JsonSchema)]
#[schemars(inline)]
pub enum Workloads {
    /// Warn about refused images.
    #[default]
    Advise,
    /// Deny them.
    Deny,
    /// Say nothing.
    Ignore,
}

/// What one policy demands of one image.
#[derive(Clone, Debug)]
pub struct Requirement {
    /// Which policy.
    pub policy: Arc<PolicyName>,
    /// Whether that policy's refusals deny.
    pub mode: Mode,
    /// What that policy wants done about pod templates.
    pub workloads: Workloads,
    /// The rule that speaks for the image, counted from 1; `None` if the policy has no rule for it.
    pub rule: Option<usize>,
    /// What that rule demands.
    pub demand: Demand,
}

/// The three kinds of rule, and the absence of one.
#[derive(Clone, Debug)]
pub enum Demand {
    /// Admitted unverified.
    Allow {
        /// The policy author's words.
        reason: Arc<str>,
    },
    /// Refused whatever its signatures.
    Deny {
        /// The policy author's words.
        message: Arc<str>,
    },
    /// No rule covers the image: refused.
    Uncovered,
    /// Admitted if its trust data verifies.
    Verify(Arc<Verification>),
}

impl Demand {
    /// The demand, or a denial with the message of a `broken` verifier that it names.
    fn without(&self, broken: &BTreeMap<String, Arc<str>>) -> Self {
        let Self::Verify(verification) = self else {
            return self.clone();
        };
        let named = &verification.verifiers;
        match named.iter().find_map(|verifier| broken.get(&verifier.name)) {
            Some(message) => Self::Deny {
                message: Arc::clone(message),
            },
            None => self.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
