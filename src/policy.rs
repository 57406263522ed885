//! What a cluster demands of its images: policies as they are written, and the demand they make of one image.
//!
//! ```text
//! text ─ document ─▶ tree with lines ─ shape ─▶ resource ─ compile ─▶ PolicySet ─ select ─▶ Requirement
//!        (YAML)                      (schema)  (types)  (meaning)               (one image)
//! ```
//!
//! Pure. [`resource`] holds the YAML (design §4) and derives the schema, [`pattern`] compares names, [`select`]
//! answers which rule of which policy speaks for an image. Each step reports everything it finds wrong, with file,
//! line, field and remedy ([`PolicyError`]), and lets nothing pass in part.

mod compile;
mod crd;
mod document;
mod error;
mod examine;
mod lookup;
mod node;
mod object;
pub mod pattern;
pub mod resource;
pub mod select;
mod selector;
mod shape;
mod verifier;

pub use compile::is_object_name;
pub use crd::{crds, crds_yaml, strict};
pub use document::{Document, MAX_FILE_BYTES, read};
pub use error::{
    FieldPath, Hint, Place, PolicyError, Problem, Remark, RuleError, ScopeError, ShapeError, TextError,
    VerifierError,
};
pub use examine::{Examined, Home, examine_files, examine_object, read_object};
pub use lookup::{Answers, Login, Lookup, LookupError, Material, lookups};
pub use object::{Compiled, Fault, compile_object, line, without_verifiers};
pub use select::{Demand, Labels, Mode, Policy, PolicyName, PolicySet, Requirement, Workloads};
pub use verifier::{
    Combine, Credentials, DigestRule, Lending, Notary, ReleasesMissing, Root, Signer, Verification, Verifier,
    VerifierKind,
};
