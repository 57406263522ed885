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
    /// Unknown `labels` (`None`) are any that the selector asks for.
    pub(super) fn covers(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        match self {
            Self::Cluster(selector) => selector.matches(namespace, labels),
            Self::Namespace(own) => own == namespace,
        }
    }

    /// Whether it asks for other labels than the name.
    pub(super) fn reads_labels(&self) -> bool {
        match self {
            Self::Cluster(Selector(conditions)) => {
                conditions.iter().any(|condition| condition.key != NAME_LABEL)
            }
            Self::Namespace(_) => false,
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

    /// What keeps a selector from deciding anything: conditions without sense, and where labels are not known, which
    /// is in files, those about labels. To take them for absent would leave the namespaces ungoverned that the author
    /// meant.
    pub(super) fn report(
        spec: &NamespaceSelector,
        labels_known: bool,
        mut report: impl FnMut(&FieldPath, ScopeError),
    ) {
        let path = FieldPath::of(&["spec", "namespaceSelector"]);
        let unknown = |key: &str| !labels_known && key != NAME_LABEL;
        for key in spec.match_labels.keys().filter(|key| unknown(key)) {
            report(&path.field("matchLabels").field(key), ScopeError::Label);
        }
        let path = path.field("matchExpressions");
        for (i, condition) in spec.match_expressions.iter().enumerate() {
            if unknown(&condition.key) {
                report(&path.item(i).field("key"), ScopeError::Label);
            }
            if !condition.is_sound() {
                report(&path.item(i), ScopeError::Values);
            }
        }
    }

    /// Whether every condition has the values that its operator needs.
    pub(super) fn is_sound(spec: &NamespaceSelector) -> bool {
        spec.match_expressions.iter().all(LabelCondition::is_sound)
    }

    fn matches(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.0.iter().all(|condition| {
            let value = match labels {
                _ if condition.key == NAME_LABEL => Some(namespace),
                Some(labels) => labels.get(&condition.key).map(String::as_str),
                None => return true,
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

impl LabelCondition {
    fn is_sound(&self) -> bool {
        let wants_values = matches!(self.operator, Operator::In | Operator::NotIn);
        wants_values != self.values.is_empty()
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
                Selector(vec![condition]).matches("shop", Some(&labels)),
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
        assert!(selector.matches("shop", Some(&labels(&[("tier", "web"), ("team", "a")]))));
        assert!(!selector.matches("shop", Some(&labels(&[("tier", "web")]))));
        assert!(!selector.matches("shop", Some(&labels(&[("team", "a")]))));
        assert!(Selector::new(&NamespaceSelector::default()).matches("shop", Some(&labels(&[]))));
    }

    #[test]
    fn unknown_labels_are_those_asked_for_but_the_name_is_known() {
        let scope = |conditions: Vec<LabelCondition>| Scope::Cluster(Selector(conditions));
        let tier = condition("tier", Operator::In, &["web"]);
        let other = condition(NAME_LABEL, Operator::In, &["other"]);
        assert!(scope(vec![tier.clone()]).covers("shop", None));
        assert!(scope(vec![tier.clone()]).reads_labels());
        assert!(!scope(vec![tier, other.clone()]).covers("shop", None));
        assert!(!scope(vec![other]).reads_labels());
    }
}
