//! What each phase makes of the findings (ADM-20, ADM-21, ADM-60, ADM-13).

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::Phase;
use super::decision::{Decision, Looked};
use super::finding::{Finding, Need, Objection};
use super::proof::Findings;
use super::text;
use crate::policy::{Mode, Workloads};
use crate::reference::Reference;
use crate::review::images::{Image, Unreadable};
use crate::review::patch::{Patch, Pin};
use crate::review::verdict::{self, Complaint, Ruling, Status};
use crate::review::workload::Place;

/// How a request is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stance {
    /// Pods, and templates that are to be pinned like them, before they are final: pin, never deny.
    Pin,
    /// Final Pods: deny what is not proved.
    Enforce,
    /// Deny nothing, say what would be denied.
    Report,
    /// Templates: each policy says what becomes of its objections.
    Advise,
    /// Templates of audit namespaces: the same, but nothing is denied.
    Mention,
}

impl Stance {
    /// How `phase` judges what is at `place`; `None` if it does not. Whether a template is pinned is not the phase's
    /// to say.
    ///
    /// A webhook configuration that sends Pods to `/advise` gets a report: that entry serves audit namespaces too,
    /// where nothing may be denied (ADM-60).
    pub(super) const fn of(phase: Phase, place: Place) -> Option<Self> {
        match (phase, place) {
            (Phase::Mutate, Place::Pod) => Some(Self::Pin),
            (Phase::Validate, Place::Pod) => Some(Self::Enforce),
            (Phase::Audit | Phase::Advise, Place::Pod) => Some(Self::Report),
            (Phase::Audit, Place::Template { .. }) => Some(Self::Mention),
            (Phase::Validate | Phase::Advise, Place::Template { .. }) => Some(Self::Advise),
            (Phase::Mutate, Place::Template { .. }) | (_, Place::Harmless | Place::Unknown) => None,
        }
    }

    /// Only what runs as it is needs a digest: nothing pins Pods of audit namespaces, and few policies
    /// want templates pinned.
    pub(super) const fn need(self) -> Need {
        match self {
            Self::Enforce => Need::Digest,
            Self::Pin | Self::Report | Self::Advise | Self::Mention => Need::Proof,
        }
    }

    /// Whether an objection may deny.
    pub(super) const fn may_deny(self) -> bool {
        matches!(self, Self::Enforce | Self::Advise)
    }

    /// Whether each policy says for itself what becomes of refused images, as it does in final templates. A pin needs
    /// every policy.
    pub(super) const fn asks_workloads(self) -> bool {
        matches!(self, Self::Advise | Self::Mention)
    }

    fn weigh(self, objection: &Objection) -> Weight {
        match (self, objection.mode, objection.workloads) {
            (Self::Pin, ..) | (Self::Advise | Self::Mention, _, Workloads::Ignore) => Weight::Nothing,
            (Self::Enforce, Mode::Enforce, _) | (Self::Advise, Mode::Enforce, Workloads::Deny) => {
                Weight::Deny
            }
            (Self::Enforce | Self::Advise | Self::Mention | Self::Report, ..) => Weight::Warn,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    Nothing,
    Warn,
    Deny,
}

/// An object of ours that cannot be read (ADM-67), where what is wrong has `mode`.
pub(super) fn unreadable(stance: Stance, mode: Mode, error: &Unreadable) -> Decision {
    let text = format!("the object cannot be read: {error}");
    let ruling = match (stance, mode) {
        (Stance::Pin, _) => Ruling::allowed(),
        (Stance::Enforce, Mode::Enforce) => Ruling::Denied {
            status: Status::BadRequest,
            message: verdict::message(&[Complaint::new(&text, "")]),
        },
        (Stance::Enforce | Stance::Report | Stance::Advise | Stance::Mention, _) => Ruling::Allowed {
            patch: None,
            warnings: verdict::warnings([would_be_denied(&text)]),
        },
    };
    Decision {
        would_deny: matches!(stance, Stance::Enforce | Stance::Report),
        error: Some(text),
        ..Decision::of(ruling, "unreadable_object")
    }
}

fn would_be_denied(text: &str) -> String {
    format!("would be denied: {text}")
}

/// Judges `images`, every one of which has its finding. The order of the answer is that of the object (ADM-52).
pub(super) fn rule(stance: Stance, images: &[Image], findings: &Findings<'_>) -> Decision {
    let looked: Vec<_> = images
        .iter()
        .filter_map(|image| Some((image, findings.get(image.text())?)))
        .collect();
    let denials = complaints(stance, &looked, Weight::Deny);
    let warnings = complaints(stance, &looked, Weight::Warn);
    let ruling = if denials.is_empty() {
        Ruling::Allowed {
            patch: (stance == Stance::Pin).then(|| patch(&looked)).flatten(),
            warnings: warning_texts(&looked, &warnings),
        }
    } else {
        Ruling::Denied {
            status: status(stance, &looked),
            message: verdict::message(&denials),
        }
    };
    let would_deny = !warnings.is_empty();
    describe(
        Decision {
            would_deny,
            ..Decision::of(ruling, "not_asked")
        },
        &looked,
    )
}

/// One complaint per image that has objections of this weight, gravest first.
fn complaints(stance: Stance, looked: &[(&Image, &Finding)], weight: Weight) -> Vec<Complaint> {
    looked
        .iter()
        .filter_map(|(image, finding)| {
            let mut objections: Vec<_> = finding
                .objections
                .iter()
                .filter(|objection| stance.weigh(objection) == weight)
                .collect();
            objections.sort_by_key(|objection| Reverse(objection.cause.status()));
            text::complaint(image, objections)
        })
        .collect()
}

/// The gravest of what denies (ADM-50).
fn status(stance: Stance, looked: &[(&Image, &Finding)]) -> Status {
    looked
        .iter()
        .flat_map(|(_, finding)| &finding.objections)
        .filter(|objection| stance.weigh(objection) == Weight::Deny)
        .map(|objection| objection.cause.status())
        .max()
        .unwrap_or(Status::Forbidden)
}

fn patch(looked: &[(&Image, &Finding)]) -> Option<Patch> {
    Patch::new(looked.iter().filter_map(|(image, finding)| {
        let reference = Reference::parse(image.text()).ok()?;
        Pin::new(image, &reference, finding.pin()?)
    }))
}

fn warning_texts(looked: &[(&Image, &Finding)], complaints: &[Complaint]) -> Vec<String> {
    let stale = looked.iter().filter_map(|(image, finding)| {
        let (age, server) = finding.stale.as_ref()?;
        Some(text::stale(image, *age, server))
    });
    let denied = complaints
        .iter()
        .map(|complaint| would_be_denied(&complaint.full()));
    verdict::warnings(denied.chain(stale))
}

/// `decision` with what was found out about each image.
fn describe(decision: Decision, looked: &[(&Image, &Finding)]) -> Decision {
    let objections = || looked.iter().flat_map(|(_, finding)| &finding.objections);
    let gravest = objections().max_by_key(|objection| objection.cause.status());
    let outage = objections().find(|objection| objection.cause.status() == Status::ServiceUnavailable);
    let policies: BTreeSet<_> = looked
        .iter()
        .flat_map(|(_, finding)| &finding.policies)
        .map(ToString::to_string)
        .collect();
    let images: Vec<_> = looked
        .iter()
        .filter_map(|(image, finding)| outcome(image, finding))
        .collect();
    let admitted = || least_proved(&images).unwrap_or(decision.reason);
    Decision {
        reason: gravest.map_or_else(admitted, |objection| objection.cause.reason()),
        policies: policies.into_iter().collect::<Vec<_>>().join(", "),
        error: outage.map(|objection| text::because(&objection.cause)),
        images,
        ..decision
    }
}

/// Why the image was admitted that has the least to show for it.
fn least_proved(images: &[Looked]) -> Option<&'static str> {
    let reasons = || images.iter().map(|image| image.reason);
    reasons()
        .find(|reason| *reason != "signed")
        .or_else(|| reasons().next())
}

/// `None` for an image that nobody was asked about.
fn outcome(image: &Image, finding: &Finding) -> Option<Looked> {
    let gravest = finding
        .objections
        .iter()
        .max_by_key(|objection| (objection.mode == Mode::Enforce, objection.cause.status()));
    let (result, reason) = match (gravest.map(|objection| &objection.cause), &finding.digest) {
        (Some(cause), _) if cause.status() == Status::ServiceUnavailable => ("unavailable", cause.reason()),
        (Some(cause), _) => ("denied", cause.reason()),
        (None, Some(_)) if finding.signed => ("trusted", "signed"),
        (None, Some(_)) => ("allowed", "digest_allowed"),
        (None, None) if finding.policies.is_empty() => return None,
        (None, None) => ("allowed", "allowed_by_rule"),
    };
    Some(Looked {
        pointer: image.pointer.clone(),
        image: image.image.clone(),
        digest: finding.digest.as_ref().map(ToString::to_string),
        result,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reference::Digest;
    use crate::review::images::List;

    /// Design §6: verified metadata serves through an outage, and whoever applies an object is told.
    #[test]
    fn stale_metadata_is_warned_of_and_does_not_make_an_image_worse() {
        let image = Image {
            pointer: "/spec/containers/0/image".to_owned(),
            list: List::Containers,
            name: "web".to_owned(),
            image: "app:1".to_owned(),
            old: None,
        };
        let findings = || {
            let stale = Some((Duration::from_secs(2 * 3600), "trust.example.com".to_owned()));
            Findings::from([(
                "app:1",
                Finding {
                    stale,
                    ..Finding::default()
                },
            )])
        };
        for stance in [
            Stance::Pin,
            Stance::Enforce,
            Stance::Report,
            Stance::Advise,
            Stance::Mention,
        ] {
            let decision = rule(stance, std::slice::from_ref(&image), &findings());
            assert_eq!(decision.word(), "allowed", "{stance:?}");
            let Ruling::Allowed { warnings, .. } = decision.ruling else {
                panic!("{stance:?} denies");
            };
            assert_eq!(
                warnings,
                [
                    "container \"web\": app:1 was verified with metadata 2h0m old: trust server trust.example.com could \
                  not be asked"
                ]
            );
        }
    }

    /// ADM-56: the audit log may not call signed what a rule let pass.
    #[test]
    fn a_digest_that_nobody_signed_is_not_called_signed() {
        let image = |text: &str| Image {
            pointer: "/spec/containers/0/image".to_owned(),
            list: List::Containers,
            name: "web".to_owned(),
            image: text.to_owned(),
            old: None,
        };
        let finding = |signed| Finding {
            digest: Some(Digest::sha256([1; 32])),
            signed,
            ..Finding::default()
        };
        let findings = Findings::from([("app:1", finding(true)), ("app:2", finding(false))]);
        let decision = rule(Stance::Enforce, &[image("app:1"), image("app:2")], &findings);
        let told: Vec<_> = decision
            .images
            .iter()
            .map(|looked| (looked.result, looked.reason))
            .collect();
        assert_eq!(told, [("trusted", "signed"), ("allowed", "digest_allowed")]);
        assert_eq!(decision.reason, "digest_allowed");
    }

    /// ADM-20, ADM-60: only two ways lead to a denial.
    #[test]
    fn phases_judge_pods_and_templates_in_their_own_way() {
        const TEMPLATE: Place = Place::Template {
            root: "/template/spec",
        };
        for (phase, pod, template) in [
            (Phase::Mutate, Stance::Pin, None),
            (Phase::Validate, Stance::Enforce, Some(Stance::Advise)),
            (Phase::Audit, Stance::Report, Some(Stance::Mention)),
            (Phase::Advise, Stance::Report, Some(Stance::Advise)),
        ] {
            assert_eq!(Stance::of(phase, Place::Pod), Some(pod), "{phase:?}");
            assert_eq!(Stance::of(phase, TEMPLATE), template, "{phase:?}");
            assert_eq!(Stance::of(phase, Place::Harmless), None);
            assert_eq!(Stance::of(phase, Place::Unknown), None);
        }
    }
}
