//! What the policies make of one reference: requirements and proofs in, a [`Finding`] out. Pure.

use std::sync::Arc;
use std::time::Duration;

use crate::policy::{Demand, Mode, PolicyName, Requirement, Workloads};
use crate::reference::{Digest, Reference, ReferenceError};
use crate::review::verdict::Status;
use crate::trust::{Kind, Pinned, Refusal};

/// Whether a reference by tag is good enough once it verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// The object is about to run as it is: a tag may move (ADM-21).
    Digest,
    /// Something else pins it later, or nothing does.
    Proof,
}

/// What the verifier said about one requirement, if its rule asks one.
pub(super) type Proof = Option<Result<Pinned, Cause>>;

/// Everything found out about one reference.
#[derive(Debug, Default)]
pub(super) struct Finding {
    /// The digest that every verifying policy agrees on.
    pub(super) digest: Option<Digest>,
    /// Whether somebody signed it: `digests: Allow` lets any pass.
    pub(super) signed: bool,
    /// In the order of the policies.
    pub(super) objections: Vec<Objection>,
    /// Policies that were asked.
    pub(super) policies: Vec<Arc<PolicyName>>,
    /// The oldest metadata that served although its server could not be asked, and who served it.
    pub(super) stale: Option<(Duration, String)>,
}

impl Finding {
    /// An image that no policy could be asked about.
    pub(super) fn of(objection: Objection) -> Self {
        Self {
            objections: vec![objection],
            ..Self::default()
        }
    }

    /// The digest to write into the object: nothing that denies stands against it (ADM-20).
    pub(super) fn pin(&self) -> Option<&Digest> {
        let refused = self.objections.iter().any(|o| o.mode == Mode::Enforce);
        self.digest.as_ref().filter(|_| !refused)
    }
}

/// One policy's no.
#[derive(Clone, Debug)]
pub(super) struct Objection {
    /// Whether it denies.
    pub(super) mode: Mode,
    /// What becomes of it in a pod template.
    pub(super) workloads: Workloads,
    /// Whose it is, and which rule's; `None` if no policy could be asked.
    pub(super) origin: Option<(Arc<PolicyName>, Option<usize>)>,
    /// Why.
    pub(super) cause: Cause,
}

impl Objection {
    /// An objection that comes from no policy.
    pub(super) const fn own(mode: Mode, cause: Cause) -> Self {
        Self {
            mode,
            workloads: Workloads::Advise,
            origin: None,
            cause,
        }
    }

    fn by(requirement: &Requirement, cause: Cause) -> Self {
        Self {
            mode: requirement.mode,
            workloads: requirement.workloads,
            origin: Some((Arc::clone(&requirement.policy), requirement.rule)),
            cause,
        }
    }
}

/// Why an image is not admitted.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    /// Nothing is named (ADM-18).
    Blank,
    /// What is named is no image reference.
    Unparsable(ReferenceError),
    /// No policy applies in the namespace.
    NoPolicy {
        /// Which namespace.
        namespace: String,
    },
    /// The policy has no rule for the image.
    Uncovered,
    /// A rule says no.
    Denied {
        /// In the policy author's words.
        message: Arc<str>,
    },
    /// The verifier says no, or could not find out.
    Refused(Refusal),
    /// Time was up.
    Deadline,
    /// Verified, but the object would run whatever the tag names by then.
    NotPinned {
        /// What it should say.
        pinned: Reference,
    },
    /// Another digest was signed than the one that is to run.
    Disagree {
        /// What this policy's verifiers signed.
        signed: Digest,
        /// What the others did, or what the reference says.
        other: Digest,
    },
}

impl Cause {
    /// Which status a denial for this cause has (ADM-50).
    pub(super) const fn status(&self) -> Status {
        match self {
            Self::Blank | Self::Unparsable(_) => Status::BadRequest,
            Self::Deadline => Status::ServiceUnavailable,
            Self::Refused(refusal) => match refusal.kind() {
                Kind::Unavailable => Status::ServiceUnavailable,
                Kind::Untrusted => Status::Forbidden,
            },
            Self::NoPolicy { .. }
            | Self::Uncovered
            | Self::Denied { .. }
            | Self::NotPinned { .. }
            | Self::Disagree { .. } => Status::Forbidden,
        }
    }

    /// A stable word for logs and audit annotations.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Blank => "no_image",
            Self::Unparsable(_) => "malformed_reference",
            Self::NoPolicy { .. } => "no_policy",
            Self::Uncovered => "no_rule",
            Self::Denied { .. } => "denied_by_rule",
            Self::Refused(refusal) => refusal.reason(),
            Self::Deadline => "deadline",
            Self::NotPinned { .. } => "not_pinned",
            Self::Disagree { .. } => "policies_disagree",
        }
    }
}

/// Holds `reference` against every requirement; all must be met. `proofs` are those of `requirements`, in order.
pub(super) fn judge(
    reference: &Reference,
    requirements: &[Requirement],
    proofs: Vec<Proof>,
    need: Need,
) -> Finding {
    let digest = agreed(reference, requirements, &proofs);
    let mut finding = Finding {
        policies: requirements.iter().map(|r| Arc::clone(&r.policy)).collect(),
        signed: proofs
            .iter()
            .flatten()
            .flatten()
            .any(|pinned| pinned.role().is_some()),
        stale: proofs.iter().flatten().flatten().filter_map(staleness).max(),
        ..Finding::default()
    };
    for (requirement, proof) in requirements.iter().zip(proofs) {
        let cause = objection(&requirement.demand, proof, reference, digest.as_ref(), need);
        finding
            .objections
            .extend(cause.map(|cause| Objection::by(requirement, cause)));
    }
    let disagreed = finding
        .objections
        .iter()
        .any(|objection| matches!(objection.cause, Cause::Disagree { .. }));
    let enforced = requirements
        .iter()
        .any(|r| r.mode == Mode::Enforce && matches!(r.demand, Demand::Verify(_)));
    // Among policies that only watch, none outranks the other.
    finding.digest = digest.filter(|_| enforced || !disagreed);
    finding
}

/// The digest every proof is held against: the reference's own, or else the first that an enforcing policy proved,
/// or else the first that any did.
fn agreed(reference: &Reference, requirements: &[Requirement], proofs: &[Proof]) -> Option<Digest> {
    let proved = |mode| {
        requirements
            .iter()
            .zip(proofs)
            .filter(move |(requirement, _)| requirement.mode == mode)
            .find_map(|(_, proof)| Some(proof.as_ref()?.as_ref().ok()?.digest().clone()))
    };
    let first = proved(Mode::Enforce).or_else(|| proved(Mode::Audit))?;
    Some(reference.digest().cloned().unwrap_or(first))
}

/// What stands against `demand`, if anything does.
fn objection(
    demand: &Demand,
    proof: Proof,
    reference: &Reference,
    agreed: Option<&Digest>,
    need: Need,
) -> Option<Cause> {
    match demand {
        Demand::Allow { .. } => None,
        Demand::Deny { message } => Some(Cause::Denied {
            message: Arc::clone(message),
        }),
        Demand::Uncovered => Some(Cause::Uncovered),
        // Without a proof there is nothing that vouches.
        Demand::Verify(_) => match proof.unwrap_or(Err(Cause::Deadline)) {
            Err(cause) => Some(cause),
            Ok(pinned) => unfit(&pinned, reference, agreed, need),
        },
    }
}

/// What is wrong with a reference that verified.
fn unfit(pinned: &Pinned, reference: &Reference, agreed: Option<&Digest>, need: Need) -> Option<Cause> {
    let signed = pinned.digest();
    if let Some(other) = agreed.filter(|other| *other != signed) {
        return Some(Cause::Disagree {
            signed: signed.clone(),
            other: other.clone(),
        });
    }
    (need == Need::Digest && reference.digest().is_none()).then(|| Cause::NotPinned {
        pinned: reference.with_digest(signed.clone()),
    })
}

fn staleness(pinned: &Pinned) -> Option<(Duration, String)> {
    let server = pinned.verifier().map(|source| source.server.clone());
    Some((pinned.stale()?, server.unwrap_or_default()))
}

#[cfg(test)]
mod tests;
