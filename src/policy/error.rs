//! What is wrong with a policy, where, and what to write instead.

use std::fmt;
use std::path::PathBuf;

use super::lookup::LookupError;
use super::pattern::PatternError;

mod decision;

pub use decision::{RuleError, VerifierError};

/// One finding: a place and a problem. `Display` is one line:
/// `acme.yaml:12: document 1: spec.verifiers[0].notary.rooot: unknown field, did you mean "root"?`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct PolicyError {
    /// Where.
    pub place: Place,
    /// What, and the way out.
    pub problem: Problem,
}

/// A place in a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1, if it is known.
    pub line: Option<u64>,
    /// The document within the file, counted from 1 without empty ones; `None` if the problem is the whole file's.
    pub document: Option<usize>,
    /// The field.
    pub path: FieldPath,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(document) = self.document {
            write!(f, ": document {document}")?;
        }
        if !self.path.is_root() {
            write!(f, ": {}", self.path)?;
        }
        Ok(())
    }
}

/// The way from a document to one of its fields: `spec.rules[0].images[1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Field(Box<str>),
    Item(usize),
}

impl FieldPath {
    pub(super) fn of(fields: &[&str]) -> Self {
        fields.iter().fold(Self::default(), |path, name| path.field(name))
    }

    pub(super) fn field(&self, name: &str) -> Self {
        self.with(Step::Field(name.into()))
    }

    pub(super) fn item(&self, index: usize) -> Self {
        self.with(Step::Item(index))
    }

    fn with(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    pub(super) const fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                // Printed as a quoted word if it could be mistaken for more than one step.
                Step::Field(name) if name.contains(['.', '[']) || name.contains(char::is_control) => {
                    write!(f, "[{name:?}]")?;
                }
                Step::Field(name) if i == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Item(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// The kinds of problem, by what they are about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text is not policy YAML at all.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A field does not fit the schema.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A name, scope or selector.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// A verifier could not do its work.
    #[error(transparent)]
    Verifier(#[from] VerifierError),
    /// What another object should have said.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// A rule, or two that contradict.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// An image pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Nothing wrong, but hardly meant.
    #[error(transparent)]
    Remark(#[from] Remark),
}

impl Problem {
    /// A word for programs that read findings.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Shape(_) => "schema",
            Self::Scope(_) => "scope",
            Self::Verifier(_) => "verifier",
            Self::Lookup(_) => "reference",
            Self::Rule(_) => "rule",
            Self::Pattern(_) => "pattern",
            Self::Remark(_) => "remark",
        }
    }
}

/// What can be used as it is, and is hardly meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Remark {
    /// A verifier without a rule.
    #[error("no rule names verifier {name:?}: name it, or take it out")]
    Unused {
        /// The verifier.
        name: Box<str>,
    },
    /// A pattern that is there twice.
    #[error("this rule has {pattern:?} already: take one of them out")]
    Repeated {
        /// The pattern, completed.
        pattern: Box<str>,
    },
}

/// Why a file's text could not be read as documents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not YAML, or more of it than a policy can need.
    #[error("not YAML that can be read: {message}")]
    Yaml {
        /// The parser's words.
        message: Box<str>,
    },
    /// No document.
    #[error("no policy in it: the file is empty, or still being written")]
    Empty,
    /// More bytes than the limit.
    #[error("longer than {limit} bytes: split the file")]
    TooLong {
        /// The limit in bytes.
        limit: u64,
    },
}

/// How a field differs from the schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Not a field.
    #[error("unknown field, {hint}")]
    Unknown {
        /// What was probably meant.
        hint: Hint,
    },
    /// Written twice.
    #[error("given again in line {again}: keep one of them")]
    Duplicate {
        /// The line of the later one.
        again: u64,
    },
    /// Needed, and not there.
    #[error("required field is missing: add {name:?}")]
    Missing {
        /// The field.
        name: Box<str>,
    },
    /// Another type.
    #[error("expected {want}, found {found}")]
    Type {
        /// What the schema says.
        want: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// Not among the words allowed.
    #[error("{found:?} is not allowed here, {hint}")]
    Choice {
        /// What is there.
        found: Box<str>,
        /// What was probably meant.
        hint: Hint,
    },
    /// Too few or too many.
    #[error("must have {min} to {max} {unit}, has {found}")]
    Size {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
        /// What is there.
        found: u64,
        /// Of what: characters, items, entries.
        unit: &'static str,
    },
    /// Out of range.
    #[error("must be between {min} and {max}, is {found}")]
    Range {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
        /// What is there.
        found: Box<str>,
    },
    /// The schema was met, and the types were not: the two disagree about something.
    #[error("cannot be read: {message}")]
    Mismatch {
        /// The reader's words.
        message: Box<str>,
    },
}

/// What was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// One word is near.
    Nearest(Box<str>),
    /// None is: these are all.
    Known(Vec<Box<str>>),
}

impl Hint {
    /// The word among `known` that `word` may be a slip of.
    pub(super) fn new<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let lower = word.to_lowercase();
        // One slip, and one more for each four letters: further off, a guess misleads more than it helps.
        let limit = 1 + word.chars().count() / 4;
        known
            .iter()
            .map(|candidate| {
                (
                    strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()),
                    candidate,
                )
            })
            .filter(|(distance, _)| *distance <= limit)
            .min_by_key(|(distance, _)| *distance)
            .map_or_else(
                || Self::Known(known.iter().map(|&word| word.into()).collect()),
                |(_, nearest)| Self::Nearest((*nearest).into()),
            )
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nearest(word) => write!(f, "did you mean {word:?}?"),
            Self::Known(words) if words.is_empty() => f.write_str("and there is none to name instead"),
            Self::Known(words) => {
                f.write_str("use one of")?;
                for (i, word) in words.iter().enumerate() {
                    let separator = if i == 0 { ": " } else { ", " };
                    write!(f, "{separator}{}", word.escape_debug())?;
                }
                Ok(())
            }
        }
    }
}

/// What is wrong with a policy's name or scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Not a name that a cluster would take.
    #[error(
        "{name:?} is not a name: use lower-case letters, digits, \"-\" and \".\", at most 253 characters"
    )]
    Name {
        /// The name.
        name: Box<str>,
    },
    /// A `TrustPolicy` of nowhere.
    #[error("a TrustPolicy needs metadata.namespace; a policy for every namespace is a ClusterTrustPolicy")]
    NamespaceMissing,
    /// A `ClusterTrustPolicy` of somewhere.
    #[error(
        "a ClusterTrustPolicy has no namespace: take it out, choose namespaces by spec.namespaceSelector, or write a \
         TrustPolicy"
    )]
    NamespaceGiven,
    /// Two policies of one name.
    #[error("another policy has this kind and name ({other}): rename one of them")]
    Taken {
        /// Where the other is.
        other: Box<str>,
    },
    /// A label that a file cannot know.
    #[error(
        "a policy file does not know this label of a namespace: select by kubernetes.io/metadata.name, or keep the \
         policy in the cluster"
    )]
    Label,
    /// Values that do not go with the operator.
    #[error("In and NotIn need values; Exists and DoesNotExist take none")]
    Values,
    /// A reference to an object of a cluster.
    #[error("only in the cluster: in a policy file write {instead}")]
    OnlyInCluster {
        /// The field for files.
        instead: &'static str,
    },
    /// A file of the webhook's own.
    #[error("only in policy files: in the cluster write credentials.secretRef")]
    OnlyInFile,
}
