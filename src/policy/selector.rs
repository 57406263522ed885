//! Which namespaces a policy governs.

use std::collections::BTreeMap;

use super::error::{FieldPath, ScopeError};
use super::resource::{LabelCondition, NamespaceSelector, Operator};

/// The label that every namespace has, with its name. The API server sets it; here it is never believed but added.
pub(super) const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Where a policy applies.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    /// In the namespaces that the selector matches.
    Cluster(Selector),
    /// In the policy's own namespace.
    Namespace(String),
}

impl Scope {
    pub(super) fn covers(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Cluster(selector) => selector.matches(namespace, labels),
            Self::Namespace(own) => own == namespace,
        }
    }
}

/// Conditions on labels, all of which must hold.
#[derive(Clone, Debug)]
pub(super) struct Selector(Vec<LabelCondition>);

impl Selector {
    /// `matchLabels` is a shorthand for `In` with one value.
    pub(super) fn new(spec: &NamespaceSelector) -> Self {
        let labels = spec.match_labels.iter().map(|(key, value)| LabelCondition {
            key: key.clone(),
            operator: Operator::In,
            values: vec![value.clone()],
        });
        Self(labels.chain(spec.match_expressions.iter().cloned()).collect())
    }

    /// What keeps a selector from deciding anything in a file: labels that a file cannot know. To take them for absent
    /// would leave the namespaces ungoverned that the author meant.
    pub(super) fn report_for_file(spec: &NamespaceSelector, mut report: impl FnMut(&FieldPath, ScopeError)) {
        let path = FieldPath::of(&["spec", "namespaceSelector"]);
        for key in spec.match_labels.keys().filter(|key| *key != NAME_LABEL) {
            report(&path.field("matchLabels").field(key), ScopeError::Label);
        }
        let path = path.field("matchExpressions");
        for (i, condition) in spec.match_expressions.iter().enumerate() {
            if condition.key != NAME_LABEL {
                report(&path.item(i).field("key"), ScopeError::Label);
            }
            let wants_values = matches!(condition.operator, Operator::In | Operator::NotIn);
            if wants_values == condition.values.is_empty() {
                report(&path.item(i), ScopeError::Values);
            }
        }
    }

    fn matches(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|condition| {
            let value = if condition.key == NAME_LABEL {
                Some(namespace)
            } else {
                labels.get(&condition.key).map(String::as_str)
            };
            let listed = value.is_some_and(|value| condition.values.iter().any(|listed| listed == value));
            match condition.operator {
                Operator::In => listed,
                Operator::NotIn => !listed,
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(key: &str, operator: Operator, values: &[&str]) -> LabelCondition {
        LabelCondition {
            key: key.to_owned(),
            operator,
            values: values.iter().map(|&value| value.to_owned()).collect(),
        }
    }

    #[test]
    fn selectors_mean_what_they_mean_to_kubernetes() {
        use Operator::{DoesNotExist, Exists, In, NotIn};
        let labels = BTreeMap::from([
            ("tier".to_owned(), "web".to_owned()),
            // A lie: the namespace is called shop.
            (NAME_LABEL.to_owned(), "other".to_owned()),
        ]);
        for (label, condition, want) in [
            ("in", condition("tier", In, &["db", "web"]), true),
            ("in, another", condition("tier", In, &["db"]), false),
            ("in, absent", condition("team", In, &["a"]), false),
            ("not in", condition("tier", NotIn, &["db"]), true),
            ("not in, listed", condition("tier", NotIn, &["web"]), false),
            ("not in, absent", condition("team", NotIn, &["a"]), true),
            ("exists", condition("tier", Exists, &[]), true),
            ("exists, absent", condition("team", Exists, &[]), false),
            ("absent", condition("team", DoesNotExist, &[]), true),
            ("absent, there", condition("tier", DoesNotExist, &[]), false),
            ("name", condition(NAME_LABEL, In, &["shop"]), true),
            ("name, from labels", condition(NAME_LABEL, In, &["other"]), false),
            (
                "name, always there",
                condition(NAME_LABEL, DoesNotExist, &[]),
                false,
            ),
        ] {
            assert_eq!(
                Selector(vec![condition]).matches("shop", &labels),
                want,
                "{label}"
            );
        }
    }

    #[test]
    fn all_parts_of_a_selector_must_hold() {
        let spec = NamespaceSelector {
            match_labels: BTreeMap::from([("tier".to_owned(), "web".to_owned())]),
            match_expressions: vec![condition("team", Operator::Exists, &[])],
        };
        let selector = Selector::new(&spec);
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect()
        };
        assert!(selector.matches("shop", &labels(&[("tier", "web"), ("team", "a")])));
        assert!(!selector.matches("shop", &labels(&[("tier", "web")])));
        assert!(!selector.matches("shop", &labels(&[("team", "a")])));
        assert!(Selector::new(&NamespaceSelector::default()).matches("shop", &labels(&[])));
    }
}
