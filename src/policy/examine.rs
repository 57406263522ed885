//! Everything there is to say about policies before they are in force: for who writes them, by `countersign policy
//! lint` and by the endpoint that the API server asks.
//!
//! The compiler is the one that puts policies in force. What it leaves to whoever verifies, such as whether a key is
//! one, is added by [`Examined::unusable`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::compile::{self, Findings};
use super::document::{self, Document};
use super::error::{FieldPath, Place, PolicyError, Problem, Remark, ScopeError, Step, VerifierError};
use super::lookup::{Answers, LookupError};
use super::select::{Policy, PolicyName, PolicySet};
use super::verifier::Verifier;

/// Where policies are going to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// Objects of a cluster, where Secrets and labels of namespaces are.
    Cluster,
    /// Files, where paths are.
    Files,
}

/// What was found out about some policies.
#[derive(Debug, Default)]
pub struct Examined {
    /// What keeps a policy from being used.
    pub errors: Vec<PolicyError>,
    /// What does not, but is hardly meant; references to objects that are not there (yet) are among it.
    pub warnings: Vec<PolicyError>,
    /// How many policies could be read.
    pub policies: usize,
    /// Verifiers without an error so far, each with its place.
    verifiers: Vec<(Place, Arc<Verifier>)>,
    compiled: Vec<Arc<Policy>>,
}

impl Examined {
    /// The verifiers that are still to be tried by who verifies with them.
    pub fn verifiers(&self) -> impl Iterator<Item = &Verifier> {
        self.verifiers.iter().map(|(_, verifier)| &**verifier)
    }

    /// Takes down what `fault` says against any of [`Self::verifiers`].
    #[must_use]
    pub fn unusable(mut self, fault: impl Fn(&Verifier) -> Option<String>) -> Self {
        for (place, verifier) in &self.verifiers {
            if let Some(cause) = fault(verifier) {
                self.errors.push(PolicyError {
                    place: place.clone(),
                    problem: VerifierError::Unusable { cause: cause.into() }.into(),
                });
            }
        }
        self.in_order()
    }

    /// The policies, if nothing is wrong with any of them. Only for questions about rules: a login or an authority of
    /// another object is not in them.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub fn into_policies(self) -> Result<PolicySet, Vec<PolicyError>> {
        if self.errors.is_empty() {
            Ok(PolicySet::new(self.compiled))
        } else {
            Err(self.errors)
        }
    }

    /// By file and line.
    fn in_order(mut self) -> Self {
        for findings in [&mut self.errors, &mut self.warnings] {
            findings.sort_by(|a, b| (&a.place.file, a.place.line).cmp(&(&b.place.file, b.place.line)));
        }
        self
    }

    fn take(&mut self, document: &Document, policy: Policy, errors: Vec<PolicyError>) {
        self.warnings.extend(remarks(document, &policy));
        let (unresolved, errors): (Vec<_>, Vec<_>) = errors.into_iter().partition(is_unresolved);
        let named = |name: &str| {
            document
                .demands()
                .verifiers
                .iter()
                .position(|spec| spec.name == name)
        };
        for verifier in &policy.verifiers {
            let Some(index) = named(&verifier.name) else {
                continue;
            };
            if !errors.iter().any(|error| is_about(error, index)) {
                let path = FieldPath::of(&["spec", "verifiers"]).item(index);
                self.verifiers
                    .push((document.place_of(&path), Arc::clone(verifier)));
            }
        }
        // Nobody has looked, so there is nothing to say.
        let looked =
            |error: &PolicyError| !matches!(error.problem, Problem::Lookup(LookupError::Pending { .. }));
        self.warnings.extend(unresolved.into_iter().filter(looked));
        self.errors.extend(errors);
        self.compiled.push(Arc::new(policy));
    }
}

/// Examines the policies of all `files`, given as name and text, as they would be read where they are going to be.
pub fn examine_files(files: impl IntoIterator<Item = (PathBuf, String)>, home: Home) -> Examined {
    let (mut documents, mut examined) = (Vec::new(), Examined::default());
    for (file, text) in files {
        let (read, errors) = document::read(&file, &text);
        documents.extend(read);
        examined.errors.extend(errors);
    }
    examined.policies = documents.len();
    let nobody_looked = Answers::new();
    let mut names: BTreeMap<PolicyName, String> = BTreeMap::new();
    for document in &documents {
        let mut findings = match home {
            Home::Cluster => Findings::in_cluster(document, &nobody_looked),
            Home::Files => Findings::new(document),
        };
        let policy = compile::policy(document, &mut findings);
        if let Some(other) = names.insert((*policy.name).clone(), document.place()) {
            let other = other.into();
            findings.report(&FieldPath::of(&["metadata", "name"]), ScopeError::Taken { other });
        }
        examined.take(document, policy, findings.into_errors());
    }
    examined.in_order()
}

/// Examines one object of a cluster, with what was found of its [`super::lookups`].
pub fn examine_object(document: &Document, answers: &Answers) -> Examined {
    let mut findings = Findings::in_cluster(document, answers);
    let policy = compile::policy(document, &mut findings);
    let mut examined = Examined {
        policies: 1,
        ..Examined::default()
    };
    examined.take(document, policy, findings.into_errors());
    examined
}

/// Reads one object of a cluster, given as JSON text.
///
/// # Errors
///
/// Where it differs from the schema.
pub fn read_object(json: &str) -> Result<Document, Vec<PolicyError>> {
    let (mut documents, errors) = document::read(Path::new(CLUSTER), json);
    documents.pop().ok_or(errors)
}

/// The file that objects of a cluster are said to be in.
pub(super) const CLUSTER: &str = "the cluster";

/// Whether what is missing may still come: the order in which objects are applied is not ours to judge.
fn is_unresolved(error: &PolicyError) -> bool {
    matches!(&error.problem, Problem::Lookup(error) if !matches!(error, LookupError::Name { .. }))
}

fn is_about(error: &PolicyError, verifier: usize) -> bool {
    matches!(
        error.place.path.steps(),
        [Step::Field(_), Step::Field(list), Step::Item(index), ..] if **list == *"verifiers" && *index == verifier
    )
}

/// What can be used as it is and is hardly meant. That a rule is never reached is not among it: of two patterns the
/// wider one is never the more specific, so that no rule hides another.
fn remarks(document: &Document, policy: &Policy) -> Vec<PolicyError> {
    let mut remarks = unused(document);
    for (i, rule) in policy.rules.iter().enumerate() {
        for (j, (at, pattern)) in rule.patterns.iter().enumerate() {
            if rule
                .patterns
                .iter()
                .take(j)
                .any(|(_, earlier)| earlier == pattern)
            {
                let path = FieldPath::of(&["spec", "rules"])
                    .item(i)
                    .field("images")
                    .item(*at);
                let pattern = pattern.to_string().into();
                remarks.push(document.error(&path, Remark::Repeated { pattern }));
            }
        }
    }
    remarks
}

fn unused(document: &Document) -> Vec<PolicyError> {
    let demands = document.demands();
    let verifies = || demands.rules.iter().filter_map(|rule| rule.verify.as_ref());
    let named = |name: &String| {
        verifies()
            .flat_map(|verify| verify.any_of.iter().chain(&verify.all_of).flatten())
            .any(|used| used == name)
    };
    let unused = demands
        .verifiers
        .iter()
        .enumerate()
        .filter(|(_, spec)| !named(&spec.name));
    unused
        .map(|(i, spec)| {
            let path = FieldPath::of(&["spec", "verifiers"]).item(i);
            let name = spec.name.as_str().into();
            document.error(&path, Remark::Unused { name })
        })
        .collect()
}

#[cfg(test)]
mod tests;
