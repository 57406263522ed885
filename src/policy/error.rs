//! What is wrong with a policy, where, and what to write instead.

use std::fmt;
use std::path::PathBuf;

use super::pattern::PatternError;
use crate::reference::MAX_GUN_BYTES;

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
    /// A rule, or two that contradict.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// An image pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
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
            Self::Known(words) => write!(f, "use one of: {}", words.join(", ")),
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
}

/// Why a verifier could not do its work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// No kind, or no single one.
    #[error("a verifier needs exactly one kind: add \"notary\"")]
    Kind,
    /// A name that does not read well in messages.
    #[error(
        "{name:?} is not a name: use lower-case letters, digits and \"-\", beginning and ending with one of the former"
    )]
    Name {
        /// The name.
        name: Box<str>,
    },
    /// A name in use, or a signer listed twice.
    #[error("{name:?} is there twice: rename or remove one")]
    Taken {
        /// The name.
        name: Box<str>,
    },
    /// No anchor, or several.
    #[error("needs exactly one of \"keys\", \"keyIDs\", \"ca\" and \"trustOnFirstUse: true\", has {found}")]
    Anchor {
        /// How many there are.
        found: usize,
    },
    /// More keys asked for than pinned.
    #[error("asks for {minimum} keys, but {pinned} are pinned by \"keys\" or \"keyIDs\"")]
    Minimum {
        /// How many are asked for.
        minimum: usize,
        /// How many there are.
        pinned: usize,
    },
    /// Not the PEM wanted.
    #[error("expected PEM: \"-----BEGIN {want}-----\", base64, and the matching END line")]
    Pem {
        /// The label.
        want: &'static str,
    },
    /// A secret where all may read.
    #[error("this is a private key: replace it, since it has been published here, and write the public key")]
    PrivateKey,
    /// Not a key id.
    #[error("{id:?} is not a key id: expected 64 lower-case hex digits")]
    KeyId {
        /// The text.
        id: Box<str>,
    },
    /// Not a URL, or not one for trust data.
    #[error("{server:?} is not the URL of a trust server: {why}")]
    Server {
        /// The text.
        server: Box<str>,
        /// The reason and remedy.
        why: &'static str,
    },
    /// Not a duration.
    #[error(
        "{text:?} is not a duration: write hours, minutes and seconds, as in 12h, 1h30m or 0s, at most {} days",
        super::compile::MAX_STALENESS_DAYS
    )]
    Duration {
        /// The text.
        text: Box<str>,
    },
    /// Not a signer.
    #[error(
        "{name:?} is not a signer: expected a delegation without \"targets/\", of a-z, 0-9, \"-\" and \"_\", at most \
         {} bytes, and not \"releases\"", MAX_GUN_BYTES - "targets/".len()
    )]
    Signer {
        /// The text.
        name: Box<str>,
    },
    /// Neither or both of two.
    #[error("needs exactly one of {one:?} and {two:?}")]
    OneOf {
        /// The first.
        one: &'static str,
        /// The second.
        two: &'static str,
    },
}

/// Why a rule could not decide.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// None or several of the three.
    #[error("rule {rule} needs exactly one of \"verify\", \"allow\" and \"deny\", has {found}")]
    Action {
        /// The rule, counted from 1.
        rule: usize,
        /// How many there are.
        found: usize,
    },
    /// None or both of the two.
    #[error("needs exactly one of \"anyOf\" and \"allOf\"")]
    Combine,
    /// Not a verifier of this policy.
    #[error("this policy defines no verifier {name:?}, {hint}")]
    UnknownVerifier {
        /// The name.
        name: Box<str>,
        /// What was probably meant.
        hint: Hint,
    },
    /// Listed twice.
    #[error("{name:?} is there twice: remove one")]
    Repeated {
        /// The entry.
        name: Box<str>,
    },
    /// A field without effect.
    #[error("\"digests\" goes with \"verify\" only: take it out")]
    Digests,
    /// Two rules that are as specific for one image.
    #[error(
        "rules {first} and {second} tie: {one:?} and {two:?} can match one image and are equally specific; make one \
         of them more specific, or put both patterns into one rule"
    )]
    Tie {
        /// The rule of the first, counted from 1.
        first: usize,
        /// The rule of the second.
        second: usize,
        /// The first's pattern.
        one: Box<str>,
        /// The second's.
        two: Box<str>,
    },
    /// Too many patterns to compare.
    #[error("too many long patterns that are much alike, so ties cannot be ruled out: split the policy")]
    Alike,
}
