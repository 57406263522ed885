//! Policies as objects of a cluster. Each is compiled by itself: what is wrong with one never touches another, and
//! denies what the broken one would have governed (CRD-23, design §4).
//!
//! The API server has held an object against the schema, but perhaps against one older or newer than ours, so nothing
//! of that is believed here.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::compile::{self, Findings};
use super::document::Document;
use super::error::{PolicyError, Problem, Step};
use super::examine::read_object;
use super::lookup::Answers;
use super::resource::NamespaceSelector;
use super::select::{Mode, Policy, PolicyName, Workloads};
use super::selector::{Scope, Selector};

/// What became of one policy object.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The policy; with a fault, what is left of it denies.
    pub policy: Arc<Policy>,
    /// What is wrong with it.
    pub fault: Option<Fault>,
    /// The generation of the object; `None` if it is not stored in the cluster.
    pub generation: Option<i64>,
}

/// Why a policy is not in force as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// One CamelCase word.
    pub reason: &'static str,
    /// Everything that is wrong, by field.
    pub message: String,
}

/// Compiles `object`, a policy of either kind as the API server gives it, with what was found of its
/// [`super::lookups`].
pub fn compile_object(object: &Value, answers: &Answers) -> Compiled {
    let name = name(object);
    let compiled = match document(object, &name) {
        Ok(document) => compiled(object, &document, answers),
        Err(errors) => refused(object, name, &errors),
    };
    Compiled {
        generation: object.pointer("/metadata/generation").and_then(Value::as_i64),
        ..compiled
    }
}

fn name(object: &Value) -> PolicyName {
    let text = |path| object.pointer(path).and_then(Value::as_str).map(str::to_owned);
    PolicyName {
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name").unwrap_or_default(),
    }
}

/// The parts that make the policy. JSON is YAML.
fn document(object: &Value, name: &PolicyName) -> Result<Document, Vec<PolicyError>> {
    let mut metadata = json!({"name": name.name});
    if let (Some(namespace), Some(fields)) = (&name.namespace, metadata.as_object_mut()) {
        fields.insert("namespace".to_owned(), namespace.as_str().into());
    }
    let text = json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": metadata, "spec": object["spec"],
    });
    read_object(&text.to_string())
}

fn compiled(object: &Value, document: &Document, answers: &Answers) -> Compiled {
    let mut findings = Findings::in_cluster(document, answers);
    let policy = compile::policy(document, &mut findings);
    let errors = findings.into_errors();
    if errors.is_empty() {
        return Compiled {
            policy: Arc::new(policy),
            fault: None,
            generation: None,
        };
    }
    let Some(broken) = broken_verifiers(document, &errors) else {
        return refused(object, (*policy.name).clone(), &errors);
    };
    Compiled {
        policy: Arc::new(policy.without(&broken)),
        fault: Some(fault(&errors)),
        generation: None,
    }
}

/// By name the verifiers that are to blame, with a fault of each; `None` if something else is wrong as well.
fn broken_verifiers(document: &Document, errors: &[PolicyError]) -> Option<BTreeMap<String, Arc<str>>> {
    let verifiers = &document.demands().verifiers;
    let mut broken = BTreeMap::new();
    for error in errors {
        // One without a kind was not compiled, so that a rule's verifiers would not show it: the fourth step is the kind.
        let [
            Step::Field(_),
            Step::Field(list),
            Step::Item(index),
            Step::Field(_),
            ..,
        ] = error.place.path.steps()
        else {
            return None;
        };
        let verifier = verifiers.get(*index).filter(|_| **list == *"verifiers")?;
        let message = unusable(&verifier.name, &line(error));
        broken.entry(verifier.name.clone()).or_insert(message);
    }
    Some(broken)
}

/// What a person who is denied reads.
fn unusable(verifier: &str, fault: &str) -> Arc<str> {
    format!("verifier {verifier} cannot be used: {fault}").into()
}

/// What `compiled` comes to with `faults` of verifiers that turned out to be unusable, by their names.
pub fn without_verifiers(compiled: &Compiled, faults: &BTreeMap<String, String>) -> Compiled {
    let broken = faults
        .iter()
        .map(|(name, fault)| (name.clone(), unusable(name, fault)));
    let before = compiled.fault.iter().map(|fault| fault.message.clone());
    let messages: Vec<_> = before
        .chain(
            faults
                .iter()
                .map(|(name, fault)| unusable(name, fault).to_string()),
        )
        .collect();
    Compiled {
        policy: Arc::new(compiled.policy.without(&broken.collect())),
        fault: Some(Fault {
            reason: "VerifierUnusable",
            message: messages.join("; "),
        }),
        generation: compiled.generation,
    }
}

/// A policy in place of one that cannot be read: of what can, only that which makes it stricter counts, and its mode.
fn refused(object: &Value, name: PolicyName, errors: &[PolicyError]) -> Compiled {
    let fault = fault(errors);
    let first = errors.first().map(line).unwrap_or_default();
    let scope = match &name.namespace {
        Some(namespace) => Scope::Namespace(namespace.clone()),
        None => Scope::Cluster(selector(object)),
    };
    let policy = Policy {
        mode: part::<Mode>(object, "mode").unwrap_or_default(),
        workloads: part::<Workloads>(object, "workloads").unwrap_or_default(),
        pin_workloads: false,
        scope,
        verifiers: Vec::new(),
        rules: Vec::new(),
        fault: Some(format!("policy {name} cannot be used: {first}").into()),
        name: Arc::new(name),
    };
    Compiled {
        policy: Arc::new(policy),
        fault: Some(fault),
        generation: None,
    }
}

fn part<T: DeserializeOwned>(object: &Value, field: &str) -> Option<T> {
    serde_json::from_value(object.get("spec")?.get(field)?.clone()).ok()
}

/// The selector if all of it can be read; else the one that matches every namespace.
fn selector(object: &Value) -> Selector {
    let spec = part::<NamespaceSelector>(object, "namespaceSelector")
        .filter(Selector::is_sound)
        .unwrap_or_default();
    Selector::new(&spec)
}

fn fault(errors: &[PolicyError]) -> Fault {
    let lines: Vec<_> = errors.iter().map(line).collect();
    let unresolved = errors
        .iter()
        .all(|error| matches!(error.problem, Problem::Lookup(_)));
    Fault {
        reason: if unresolved {
            "ReferenceUnresolved"
        } else {
            "Invalid"
        },
        message: lines.join("; "),
    }
}

/// The field and what is wrong with it: lines and files mean nothing in a cluster.
pub fn line(error: &PolicyError) -> String {
    if error.place.path.is_root() {
        error.problem.to_string()
    } else {
        format!("{}: {}", error.place.path, error.problem)
    }
}

#[cfg(test)]
mod tests;
