//! Policy files: text in, documents out, and every finding on the way.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_saphyr::options::{DuplicateKeyPolicy, Options};

use super::error::{FieldPath, Hint, Place, PolicyError, Problem, ShapeError, TextError};
use super::node::{Node, Value};
use super::resource::{ClusterTrustPolicy, Demands, TrustPolicy};
use super::shape;

/// Most bytes of one policy file: 1 MiB, what etcd takes for one object by default less its margin, so that what a
/// file may hold a cluster could hold too. A policy with 128 rules and a dozen keys has about 50 KiB.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// The one group and version of policies.
const API_VERSION: &str = "countersign.dev/v1alpha1";
const CLUSTER_TRUST_POLICY: &str = "ClusterTrustPolicy";
const TRUST_POLICY: &str = "TrustPolicy";

/// One policy as it was written, and where.
#[derive(Clone, Debug)]
pub struct Document {
    file: Arc<Path>,
    /// Counted from 1.
    number: usize,
    node: Node,
    pub(super) resource: Resource,
}

/// The two kinds.
#[derive(Clone, Debug)]
pub(super) enum Resource {
    Cluster(Box<ClusterTrustPolicy>),
    Namespaced(Box<TrustPolicy>),
}

impl Document {
    /// A finding about the field at `path`.
    pub(super) fn error(&self, path: &FieldPath, problem: impl Into<Problem>) -> PolicyError {
        finding(&self.file, self.number, &self.node, path, problem.into())
    }

    /// Where the field at `path` is.
    pub(super) fn place_of(&self, path: &FieldPath) -> Place {
        place(&self.file, self.number, &self.node, path)
    }

    /// The document as JSON, as it was written.
    pub fn to_json(&self) -> serde_json::Value {
        self.node.to_json()
    }

    /// Whether it is for a cluster as a whole.
    pub const fn is_cluster_wide(&self) -> bool {
        matches!(self.resource, Resource::Cluster(_))
    }

    /// Where the document is, in a few words: `acme.yaml:12`.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.node.line)
    }

    /// What it demands.
    pub(super) fn demands(&self) -> &Demands {
        match &self.resource {
            Resource::Cluster(policy) => &policy.spec.demands,
            Resource::Namespaced(policy) => &policy.spec.demands,
        }
    }

    /// The folder that relative paths in the document start from.
    pub(super) fn folder(&self) -> PathBuf {
        self.file.parent().map(Path::to_owned).unwrap_or_default()
    }
}

fn finding(file: &Path, number: usize, node: &Node, path: &FieldPath, problem: Problem) -> PolicyError {
    let place = place(file, number, node, path);
    PolicyError { place, problem }
}

fn place(file: &Path, number: usize, node: &Node, path: &FieldPath) -> Place {
    Place {
        file: file.to_owned(),
        line: Some(node.line_of(path)),
        document: Some(number),
        path: path.clone(),
    }
}

/// Reads the documents of one file: those that fit the schema, and what is wrong with the others.
///
/// `file` is its name in messages, and what relative paths in it start from.
pub fn read(file: &Path, text: &str) -> (Vec<Document>, Vec<PolicyError>) {
    let whole = |line, problem: TextError| PolicyError {
        place: Place {
            file: file.to_owned(),
            line,
            document: None,
            path: FieldPath::default(),
        },
        problem: problem.into(),
    };
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_FILE_BYTES) {
        let limit = MAX_FILE_BYTES;
        return (Vec::new(), vec![whole(None, TextError::TooLong { limit })]);
    }
    let nodes: Vec<Node> = match serde_saphyr::from_multiple_with_options(text, options()) {
        Ok(nodes) => nodes,
        Err(error) => {
            let line = error.location().map(|location| location.line());
            let message = error.without_snippet().to_string().into();
            return (Vec::new(), vec![whole(line, TextError::Yaml { message })]);
        }
    };
    if nodes.is_empty() {
        return (Vec::new(), vec![whole(None, TextError::Empty)]);
    }
    let file: Arc<Path> = file.into();
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    for (i, node) in nodes.into_iter().enumerate() {
        match document(&file, i + 1, node) {
            Ok(document) => documents.push(document),
            Err(found) => errors.extend(found),
        }
    }
    (documents, errors)
}

/// Bounds a file to a few times of what a large policy needs, anchors and aliases expanded: 128 rules of 32 images
/// are 4,096 nodes, a namespace selector of 128 values is one more list.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_documents: 256,
            max_nodes: 100_000,
            max_events: 400_000,
            max_aliases: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
        // Reported by `shape`, with both lines and all of them.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
    }
}

fn document(file: &Arc<Path>, number: usize, node: Node) -> Result<Document, Vec<PolicyError>> {
    let finding = |path: &FieldPath, problem: ShapeError| finding(file, number, &node, path, problem.into());
    let kind = kind(&node).map_err(|(path, problem)| vec![finding(&path, problem)])?;
    let differences: Vec<_> = shape::differences(kind, &node)
        .into_iter()
        .map(|(path, problem)| finding(&path, problem))
        .collect();
    if !differences.is_empty() {
        return Err(differences);
    }
    let resource = if kind == TRUST_POLICY {
        typed(&node).map(Resource::Namespaced)
    } else {
        typed(&node).map(Resource::Cluster)
    }
    .map_err(|problem| vec![finding(&FieldPath::default(), problem)])?;
    Ok(Document {
        file: Arc::clone(file),
        number,
        node,
        resource,
    })
}

fn typed<T: DeserializeOwned>(node: &Node) -> Result<Box<T>, ShapeError> {
    serde_json::from_value(node.to_json()).map_err(|error| ShapeError::Mismatch {
        message: error.to_string().into(),
    })
}

/// The kind, if this is a policy at all: there is no schema to hold anything else against.
fn kind(node: &Node) -> Result<&'static str, (FieldPath, ShapeError)> {
    let Value::Map(_) = node.value else {
        let (want, found) = ("a map", node.value.kind());
        return Err((FieldPath::default(), ShapeError::Type { want, found }));
    };
    choice(node, "apiVersion", [API_VERSION])?;
    choice(node, "kind", [CLUSTER_TRUST_POLICY, TRUST_POLICY])
}

fn choice<const N: usize>(
    node: &Node,
    name: &str,
    known: [&'static str; N],
) -> Result<&'static str, (FieldPath, ShapeError)> {
    let path = FieldPath::of(&[name]);
    let Some(field) = node.field(name) else {
        return Err((FieldPath::default(), ShapeError::Missing { name: name.into() }));
    };
    let Some(text) = field.text() else {
        let (want, found) = ("text", field.value.kind());
        return Err((path, ShapeError::Type { want, found }));
    };
    known.into_iter().find(|word| *word == text).ok_or_else(|| {
        let (found, hint) = (text.into(), Hint::new(text, known));
        (path, ShapeError::Choice { found, hint })
    })
}
