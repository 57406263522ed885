//! What a cluster demands of its images: policies as they are written, and the demand they make of one image.
//!
//! Pure. [`resource`] holds the YAML (design §4), [`pattern`] compares names, [`select`] answers which rule of
//! which policy speaks for an image.

mod compile;
mod crd;
mod document;
mod error;
mod node;
pub mod pattern;
pub mod resource;
pub mod select;
mod selector;
mod shape;

pub use crd::{crds, crds_yaml};
pub use document::{Document, MAX_FILE_BYTES, read};
pub use error::{
    FieldPath, Hint, Place, PolicyError, Problem, RuleError, ScopeError, ShapeError, TextError, VerifierError,
};
pub use select::{
    Combine, Credentials, Demand, DigestRule, Mode, Notary, Policy, PolicyName, PolicySet, ReleasesMissing,
    Requirement, Root, Signer, Verification, Verifier, VerifierKind, Workloads,
};
