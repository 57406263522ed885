//! From documents to policies that can decide, or to everything that keeps them from it.
//!
//! A policy comes out whole or not at all: half of one would admit what its author meant to refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::document::{self, Document, Resource};
use super::error::{FieldPath, Hint, PolicyError, Problem, RuleError, ScopeError, VerifierError};
use super::lookup::Answers;
use super::pattern::{Pattern, Specificity, Steps};
use super::resource::{ClusterTrustPolicy, Demands, RuleSpec, VerifierSpec, VerifySpec};
use super::select::{Demand, Policy, PolicyName, PolicySet, Rule};
use super::selector::{Scope, Selector};
use super::verifier::{Combine, DigestRule, Verification, Verifier};

mod notary;

pub(super) use notary::MAX_STALENESS_DAYS;

/// What the comparison of one policy's patterns may take: less than a tenth of a second. 4,096 patterns of which none
/// are alike take none of it; a hundred of 60 characters that differ behind a wildcard only take 18 million.
const TIE_STEPS: Steps = 20_000_000;

impl PolicySet {
    /// Reads and compiles the policies of all `files`, given as name and text.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with any of them, in the order of files and lines.
    pub fn parse(files: impl IntoIterator<Item = (PathBuf, String)>) -> Result<Self, Vec<PolicyError>> {
        let (mut documents, mut errors) = (Vec::new(), Vec::new());
        for (file, text) in files {
            let (read, found) = document::read(&file, &text);
            documents.extend(read);
            errors.extend(found);
        }
        let compiled = Self::compile(&documents);
        if let Err(found) = &compiled {
            errors.extend(found.iter().cloned());
        }
        if errors.is_empty() {
            return compiled;
        }
        errors.sort_by(|a, b| (&a.place.file, a.place.line).cmp(&(&b.place.file, b.place.line)));
        Err(errors)
    }

    /// Compiles policies that were read already.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with any of them.
    pub fn compile(documents: &[Document]) -> Result<Self, Vec<PolicyError>> {
        let mut policies: BTreeMap<PolicyName, (Arc<Policy>, &Document)> = BTreeMap::new();
        let mut errors = Vec::new();
        for document in documents {
            let mut findings = Findings::new(document);
            let policy = policy(document, &mut findings);
            if let Some((_, other)) = policies.get(&policy.name) {
                let other = other.place().into();
                findings.report(&FieldPath::of(&["metadata", "name"]), ScopeError::Taken { other });
            }
            policies.insert((*policy.name).clone(), (Arc::new(policy), document));
            errors.append(&mut findings.errors);
        }
        if errors.is_empty() {
            Ok(Self::new(policies.into_values().map(|(policy, _)| policy)))
        } else {
            Err(errors)
        }
    }
}

/// What is wrong with one document so far.
pub(super) struct Findings<'a> {
    document: &'a Document,
    /// What other objects say; `None` for a file, which has no objects beside it.
    answers: Option<&'a Answers>,
    errors: Vec<PolicyError>,
}

impl<'a> Findings<'a> {
    /// For a document in a file.
    pub(super) const fn new(document: &'a Document) -> Self {
        Self {
            document,
            answers: None,
            errors: Vec::new(),
        }
    }

    /// For the document of an object in a cluster.
    pub(super) const fn in_cluster(document: &'a Document, answers: &'a Answers) -> Self {
        Self {
            document,
            answers: Some(answers),
            errors: Vec::new(),
        }
    }

    pub(super) fn into_errors(self) -> Vec<PolicyError> {
        self.errors
    }

    pub(super) fn report(&mut self, path: &FieldPath, problem: impl Into<Problem>) {
        self.errors.push(self.document.error(path, problem));
    }

    /// The value, or a report and nothing.
    fn keep<T>(&mut self, path: &FieldPath, result: Result<T, impl Into<Problem>>) -> Option<T> {
        result.map_err(|problem| self.report(path, problem)).ok()
    }
}

/// The policy of a document. It is to be used only if there were no findings.
pub(super) fn policy(document: &Document, findings: &mut Findings<'_>) -> Policy {
    let (name, scope, demands) = match &document.resource {
        Resource::Cluster(policy) => {
            let scope = cluster_scope(policy, findings);
            (
                name(&policy.metadata, None, findings),
                scope,
                &policy.spec.demands,
            )
        }
        Resource::Namespaced(policy) => {
            let namespace = own_namespace(&policy.metadata, findings);
            let name = name(&policy.metadata, Some(namespace.clone()), findings);
            (name, Scope::Namespace(namespace), &policy.spec.demands)
        }
    };
    let spec = FieldPath::of(&["spec"]);
    let verifiers = verifiers(&spec.field("verifiers"), &demands.verifiers, findings);
    let rules = rules(&spec.field("rules"), demands, &verifiers, findings);
    refuse_ties(&spec.field("rules"), &rules, findings);
    Policy {
        name: Arc::new(name),
        mode: demands.mode,
        workloads: demands.workloads,
        pin_workloads: demands.pin_workloads,
        scope,
        verifiers: verifiers.into_values().collect(),
        rules,
        fault: None,
    }
}

fn cluster_scope(policy: &ClusterTrustPolicy, findings: &mut Findings<'_>) -> Scope {
    if policy.metadata.namespace.is_some() {
        findings.report(
            &FieldPath::of(&["metadata", "namespace"]),
            ScopeError::NamespaceGiven,
        );
    }
    let selector = &policy.spec.namespace_selector;
    let labels_known = findings.answers.is_some();
    Selector::report(selector, labels_known, |path, problem| {
        findings.report(path, problem);
    });
    Scope::Cluster(Selector::new(selector))
}

fn own_namespace(metadata: &ObjectMeta, findings: &mut Findings<'_>) -> String {
    let namespace = metadata.namespace.clone().unwrap_or_default();
    if namespace.is_empty() {
        findings.report(&FieldPath::of(&["metadata"]), ScopeError::NamespaceMissing);
    } else if !is_label(&namespace) {
        let name = namespace.as_str().into();
        findings.report(
            &FieldPath::of(&["metadata", "namespace"]),
            ScopeError::Name { name },
        );
    }
    namespace
}

fn name(metadata: &ObjectMeta, namespace: Option<String>, findings: &mut Findings<'_>) -> PolicyName {
    let name = metadata.name.clone().unwrap_or_default();
    if !is_object_name(&name) {
        let name = name.as_str().into();
        findings.report(&FieldPath::of(&["metadata", "name"]), ScopeError::Name { name });
    }
    PolicyName { namespace, name }
}

/// RFC 1123 subdomain, as the API server wants names of objects.
pub fn is_object_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    label.bytes().all(|b| alphanumeric(&b) || b == b'-')
        && label.as_bytes().first().is_some_and(alphanumeric)
        && label.as_bytes().last().is_some_and(alphanumeric)
}

fn verifiers(
    path: &FieldPath,
    specs: &[VerifierSpec],
    findings: &mut Findings<'_>,
) -> BTreeMap<String, Arc<Verifier>> {
    let mut verifiers = BTreeMap::new();
    for (i, spec) in specs.iter().enumerate() {
        let path = path.item(i);
        let name = &spec.name;
        if !is_label(name) {
            findings.report(
                &path.field("name"),
                VerifierError::Name {
                    name: name.as_str().into(),
                },
            );
        }
        if specs.iter().take(i).any(|earlier| earlier.name == *name) {
            findings.report(
                &path.field("name"),
                VerifierError::Taken {
                    name: name.as_str().into(),
                },
            );
        }
        let Some(notary) = &spec.notary else {
            findings.report(&path, VerifierError::Kind);
            continue;
        };
        let kind = notary::compile(&path.field("notary"), notary, findings);
        let verifier = Verifier {
            name: name.clone(),
            kind,
        };
        verifiers.insert(name.clone(), Arc::new(verifier));
    }
    verifiers
}

fn rules(
    path: &FieldPath,
    demands: &Demands,
    verifiers: &BTreeMap<String, Arc<Verifier>>,
    findings: &mut Findings<'_>,
) -> Vec<Rule> {
    let mut rules = Vec::with_capacity(demands.rules.len());
    for (i, spec) in demands.rules.iter().enumerate() {
        let path = path.item(i);
        let images = path.field("images");
        let patterns = spec
            .images
            .iter()
            .enumerate()
            // The index stays with the pattern, so that a tie is reported where it is even if others are unreadable.
            .filter_map(|(j, text)| Some((j, findings.keep(&images.item(j), Pattern::parse(text))?)))
            .collect();
        let demand = demand(&path, i + 1, spec, (&demands.verifiers, verifiers), findings);
        let rule = Rule { patterns, demand };
        refuse_unproved_tags(&images, &rule, findings);
        rules.push(rule);
    }
    rules
}

/// Refuses a rule about tags that takes any digest, and with it any tag that somebody writes before one.
fn refuse_unproved_tags(images: &FieldPath, rule: &Rule, findings: &mut Findings<'_>) {
    if !matches!(&rule.demand, Demand::Verify(verification) if verification.digests == DigestRule::Allow) {
        return;
    }
    for (j, pattern) in rule.patterns.iter().filter(|(_, pattern)| pattern.names_tags()) {
        let pattern = pattern.to_string().into();
        findings.report(&images.item(*j), RuleError::DigestsOfTags { pattern });
    }
}

type Known<'a> = (&'a [VerifierSpec], &'a BTreeMap<String, Arc<Verifier>>);

fn demand(
    path: &FieldPath,
    rule: usize,
    spec: &RuleSpec,
    known: Known<'_>,
    findings: &mut Findings<'_>,
) -> Demand {
    if spec.digests.is_some() && spec.verify.is_none() {
        findings.report(&path.field("digests"), RuleError::Digests);
    }
    match (&spec.verify, &spec.allow, &spec.deny) {
        (Some(verify), None, None) => {
            let (combine, verifiers) = combination(&path.field("verify"), verify, known, findings);
            Demand::Verify(Arc::new(Verification {
                combine,
                verifiers,
                digests: spec.digests.unwrap_or_default(),
            }))
        }
        (None, Some(allow), None) => Demand::Allow {
            reason: allow.reason.as_str().into(),
        },
        (None, None, Some(deny)) => Demand::Deny {
            message: deny.message.as_str().into(),
        },
        (verify, allow, deny) => {
            let found = [verify.is_some(), allow.is_some(), deny.is_some()];
            let found = found.into_iter().filter(|&there| there).count();
            findings.report(path, RuleError::Action { rule, found });
            Demand::Uncovered
        }
    }
}

fn combination(
    path: &FieldPath,
    verify: &VerifySpec,
    (specs, compiled): Known<'_>,
    findings: &mut Findings<'_>,
) -> (Combine, Vec<Arc<Verifier>>) {
    let (combine, names, path) = match (&verify.any_of, &verify.all_of) {
        (Some(names), None) => (Combine::Any, names, path.field("anyOf")),
        (None, Some(names)) => (Combine::All, names, path.field("allOf")),
        (None, None) | (Some(_), Some(_)) => {
            findings.report(path, RuleError::Combine);
            return (Combine::All, Vec::new());
        }
    };
    let mut verifiers = Vec::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        if names.iter().take(i).any(|earlier| earlier == name) {
            findings.report(
                &path.item(i),
                RuleError::Repeated {
                    name: name.as_str().into(),
                },
            );
        }
        // One that is defined but unreadable has been reported as such.
        if !specs.iter().any(|spec| spec.name == *name) {
            let hint = Hint::new(name, specs.iter().map(|spec| spec.name.as_str()));
            let name = name.as_str().into();
            findings.report(&path.item(i), RuleError::UnknownVerifier { name, hint });
        }
        verifiers.extend(compiled.get(name).cloned());
    }
    (combine, verifiers)
}

/// Refuses two rules that would speak for one image with equal right. Within a rule it does not matter which of its
/// patterns matches.
fn refuse_ties(path: &FieldPath, rules: &[Rule], findings: &mut Findings<'_>) {
    let mut steps = TIE_STEPS;
    let mut reported = BTreeSet::new();
    for alike in alike(rules).into_values() {
        for (i, &(second, at, two)) in alike.iter().enumerate() {
            for &(first, _, one) in alike.iter().take(i) {
                if first == second || reported.contains(&second) {
                    continue;
                }
                match one.overlaps(two, &mut steps) {
                    Some(false) => {}
                    Some(true) => {
                        reported.insert(second);
                        findings.report(
                            &path.item(second).field("images").item(at),
                            tie((first, one), (second, two)),
                        );
                    }
                    None => return findings.report(path, RuleError::Alike),
                }
            }
        }
    }
}

/// A pattern, the index of its rule, and its own within the rule.
type Placed<'a> = (usize, usize, &'a Pattern);

/// Patterns that could tie: equally specific, with the same beginning. In the order of rules.
fn alike(rules: &[Rule]) -> BTreeMap<(Specificity, &[u8]), Vec<Placed<'_>>> {
    let mut groups: BTreeMap<_, Vec<Placed<'_>>> = BTreeMap::new();
    for (rule, Rule { patterns, .. }) in rules.iter().enumerate() {
        for (at, pattern) in patterns {
            let group = groups
                .entry((pattern.specificity(), pattern.prefix()))
                .or_default();
            group.push((rule, *at, pattern));
        }
    }
    groups
}

fn tie((first, one): (usize, &Pattern), (second, two): (usize, &Pattern)) -> RuleError {
    RuleError::Tie {
        first: first + 1,
        second: second + 1,
        one: one.to_string().into(),
        two: two.to_string().into(),
    }
}

#[cfg(test)]
mod tests;
