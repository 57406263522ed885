//! What a cluster demands of its images: policies as they are written, and the demand they make of one image.
//!
//! Pure. [`resource`] holds the YAML (design §4), [`pattern`] compares names, [`select`] answers which rule of
//! which policy speaks for an image.

mod crd;
pub mod pattern;
pub mod resource;
pub mod select;

pub use crd::{crds, crds_yaml};
pub use select::{
    Combine, Credentials, Demand, DigestRule, Mode, Notary, Policy, PolicyName, PolicySet, ReleasesMissing,
    Requirement, Root, Signer, Verification, Verifier, VerifierKind, Workloads,
};
