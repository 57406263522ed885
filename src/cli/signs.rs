//! What a cluster tells of itself, counted; and what it is told of trust servers.

use std::sync::Arc;

use crate::clock;
use crate::cluster::{Contact, Hooks, MODES, Sign};
use crate::policy::Compiled;
use crate::policy::resource::ConditionStatus;
use crate::telemetry::Metrics;
use crate::trust::{self, Trust};

/// The hooks of a cluster whose signs are counted in `metrics`, with what `trust` has seen of its servers.
pub(super) fn hooks(metrics: Arc<Metrics>, trust: Trust) -> Hooks {
    Hooks::new(
        move |sign| count(&metrics, sign),
        move |policy| contact(trust.contact(policy)),
    )
}

fn count(metrics: &Metrics, sign: Sign) {
    match sign {
        Sign::Failed(kind) => metrics.watch_error(kind),
        Sign::Synced(kind) => metrics.watch_synced(kind, clock::now().as_second()),
        Sign::Namespaces(counts) => {
            for (mode, count) in MODES.into_iter().zip(counts) {
                metrics.namespaces(mode, count);
            }
        }
        Sign::Registration { kind, weakened } => metrics.webhook_configuration_weakened(kind, weakened),
    }
}

fn contact(seen: trust::Contact) -> Contact {
    let (status, reason, message) = match seen {
        trust::Contact::NoServer => (
            ConditionStatus::Unknown,
            "NoServer".to_owned(),
            "no verifier names a trust server: each image implies its own".to_owned(),
        ),
        trust::Contact::NotAsked => (
            ConditionStatus::Unknown,
            "NotAsked".to_owned(),
            "not every trust server has been asked for an image yet".to_owned(),
        ),
        trust::Contact::Answering => (
            ConditionStatus::True,
            "Answering".to_owned(),
            "the trust servers answered when they were last asked".to_owned(),
        ),
        trust::Contact::Silent { reason, message } => (ConditionStatus::False, camel(reason), message),
    };
    Contact {
        status,
        reason,
        message,
    }
}

/// `forbidden_address` as `ForbiddenAddress`: reasons of conditions are CamelCase.
fn camel(word: &str) -> String {
    let capital = |part: &str| {
        let mut letters = part.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    word.split('_').map(capital).collect()
}

/// Counts the policies that a cluster has. Gives whether the default stands in for them.
pub(super) fn count_policies(metrics: &Metrics, policies: &[Compiled]) -> bool {
    let cluster_wide = |compiled: &&Compiled| compiled.policy.name.namespace.is_none();
    for (kind, wide) in [("ClusterTrustPolicy", true), ("TrustPolicy", false)] {
        let of = || policies.iter().filter(|compiled| cluster_wide(compiled) == wide);
        let faulty = of().filter(|compiled| compiled.fault.is_some()).count();
        metrics.policies(kind, of().count() - faulty, faulty);
    }
    let stored = policies.iter().filter(cluster_wide).filter_map(|compiled| {
        let generation = compiled.generation?;
        Some((compiled.policy.name.name.as_str(), generation))
    });
    metrics.policy_generations(stored);
    let default = policies.iter().any(|compiled| compiled.generation.is_none());
    metrics.default_policy(default);
    default
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_become_camel_case() {
        for (word, want) in [
            ("network", "Network"),
            ("forbidden_address", "ForbiddenAddress"),
            ("", ""),
        ] {
            assert_eq!(camel(word), want);
        }
    }
}
