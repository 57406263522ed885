use std::time::Duration;

use super::*;
use crate::policy::{Combine, DigestRule, Verification};
use crate::trust::fake;

const A: [u8; 32] = [0xaa; 32];
const B: [u8; 32] = [0xbb; 32];

fn verify() -> Demand {
    Demand::Verify(Arc::new(Verification {
        combine: Combine::Any,
        verifiers: Vec::new(),
        digests: DigestRule::Signed,
    }))
}

fn allow() -> Demand {
    Demand::Allow {
        reason: "plumbing".into(),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a proof is what the table holds")]
fn signed(digest: [u8; 32]) -> Proof {
    Some(Ok(fake::pinned(Digest::sha256(digest))))
}

#[expect(clippy::unnecessary_wraps, reason = "a proof is what the table holds")]
fn refused(kind: Kind) -> Proof {
    Some(Err(Cause::Refused(fake::refusal(kind, "fake", "no", Vec::new()))))
}

/// A finding on `text`, under policies that demand and proved as `asked`.
fn find(text: &str, asked: Vec<(Mode, Demand, Proof)>, need: Need) -> Finding {
    let reference = Reference::parse(text).unwrap();
    let (mut requirements, mut proofs) = (Vec::new(), Vec::new());
    for (number, (mode, demand, proof)) in asked.into_iter().enumerate() {
        requirements.push(Requirement {
            policy: Arc::new(PolicyName {
                namespace: None,
                name: format!("p{number}"),
            }),
            mode,
            workloads: Workloads::Advise,
            rule: Some(1),
            demand,
        });
        proofs.push(proof);
    }
    judge(&reference, &requirements, proofs, need)
}

/// The pin's first byte, and every objection's mode and reason.
fn summary(finding: &Finding) -> (Option<u8>, Vec<(Mode, &'static str)>) {
    (
        finding.pin().map(|digest| digest.bytes()[0]),
        finding
            .objections
            .iter()
            .map(|objection| (objection.mode, objection.cause.reason()))
            .collect(),
    )
}

/// ADM-20: pinned only if everything that enforces is met and agrees.
#[test]
fn a_tag_is_pinned_when_nothing_that_denies_stands_against_it() {
    use Kind::{Unavailable, Untrusted};
    use Mode::{Audit, Enforce};
    for (label, asked, want) in [
        (
            "signed",
            vec![(Enforce, verify(), signed(A))],
            (Some(0xaa), vec![]),
        ),
        ("allowed", vec![(Enforce, allow(), None)], (None, vec![])),
        (
            "unsigned",
            vec![(Enforce, verify(), refused(Untrusted))],
            (None, vec![(Enforce, "fake")]),
        ),
        (
            "never answered",
            vec![(Enforce, verify(), None)],
            (None, vec![(Enforce, "deadline")]),
        ),
        (
            "denied",
            vec![(Enforce, Demand::Deny { message: "no".into() }, None)],
            (None, vec![(Enforce, "denied_by_rule")]),
        ),
        (
            "uncovered by one of two",
            vec![(Enforce, verify(), signed(A)), (Enforce, Demand::Uncovered, None)],
            (None, vec![(Enforce, "no_rule")]),
        ),
        (
            "mixed",
            vec![(Enforce, allow(), None), (Enforce, verify(), signed(A))],
            (Some(0xaa), vec![]),
        ),
        (
            "two agree",
            vec![(Enforce, verify(), signed(A)), (Enforce, verify(), signed(A))],
            (Some(0xaa), vec![]),
        ),
        (
            "two disagree",
            vec![(Enforce, verify(), signed(A)), (Enforce, verify(), signed(B))],
            (None, vec![(Enforce, "policies_disagree")]),
        ),
        (
            "an audit policy disagrees",
            vec![(Audit, verify(), signed(B)), (Enforce, verify(), signed(A))],
            (Some(0xaa), vec![(Audit, "policies_disagree")]),
        ),
        (
            "an audit policy refuses",
            vec![
                (Enforce, verify(), signed(A)),
                (Audit, verify(), refused(Unavailable)),
            ],
            (Some(0xaa), vec![(Audit, "fake")]),
        ),
        (
            "audit policies only",
            vec![(Audit, verify(), signed(A))],
            (Some(0xaa), vec![]),
        ),
        (
            "audit policies disagree",
            vec![(Audit, verify(), signed(A)), (Audit, verify(), signed(B))],
            (None, vec![(Audit, "policies_disagree")]),
        ),
        (
            "allowed, and an audit policy disagrees with another",
            vec![
                (Enforce, allow(), None),
                (Audit, verify(), signed(A)),
                (Audit, verify(), signed(B)),
            ],
            (None, vec![(Audit, "policies_disagree")]),
        ),
    ] {
        assert_eq!(summary(&find("app:1", asked, Need::Proof)), want, "{label}");
    }
}

/// ADM-21.
#[test]
fn what_is_about_to_run_needs_a_digest_wherever_a_rule_verifies() {
    use Mode::{Audit, Enforce};
    let pinned = format!("app:1@sha256:{}", "aa".repeat(32));
    for (label, text, asked, want) in [
        (
            "a tag, signed",
            "app:1",
            vec![(Enforce, verify(), signed(A))],
            vec![(Enforce, "not_pinned")],
        ),
        ("a tag, allowed", "app:1", vec![(Enforce, allow(), None)], vec![]),
        (
            "a tag, mixed",
            "app:1",
            vec![(Enforce, allow(), None), (Enforce, verify(), signed(A))],
            vec![(Enforce, "not_pinned")],
        ),
        (
            "a tag, unsigned",
            "app:1",
            vec![(Enforce, verify(), refused(Kind::Untrusted))],
            vec![(Enforce, "fake")],
        ),
        (
            "a tag under audit",
            "app:1",
            vec![(Audit, verify(), signed(A))],
            vec![(Audit, "not_pinned")],
        ),
        (
            "a digest, signed",
            &pinned,
            vec![(Enforce, verify(), signed(A))],
            vec![],
        ),
        (
            "a digest, and the verifier vouches for another",
            &pinned,
            vec![(Enforce, verify(), signed(B))],
            vec![(Enforce, "policies_disagree")],
        ),
    ] {
        assert_eq!(summary(&find(text, asked, Need::Digest)).1, want, "{label}");
    }
}

/// ADM-50.
#[test]
fn an_outage_a_mistake_and_a_refusal_have_their_own_status() {
    let refusal = |kind| Cause::Refused(fake::refusal(kind, "fake", "no", Vec::new()));
    for (cause, want) in [
        (Cause::Blank, Status::BadRequest),
        (Cause::Unparsable(ReferenceError::Empty), Status::BadRequest),
        (Cause::Uncovered, Status::Forbidden),
        (refusal(Kind::Untrusted), Status::Forbidden),
        (refusal(Kind::Unavailable), Status::ServiceUnavailable),
        (Cause::Deadline, Status::ServiceUnavailable),
    ] {
        assert_eq!(cause.status(), want, "{cause:?}");
    }
}

#[test]
fn policies_that_were_asked_are_named_and_fresh_metadata_is_not_called_stale() {
    let finding = find("app:1", vec![(Mode::Enforce, verify(), signed(A))], Need::Proof);
    assert_eq!(finding.policies.len(), 1);
    assert_eq!(finding.stale, None::<(Duration, String)>);
}
