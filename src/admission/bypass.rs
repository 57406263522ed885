//! Break-glass: an annotation asks for it, the API server says whether this user may (design §3).
//!
//! The annotation is a wish and no more: whoever may write the object may write it, and it stays there for the next to
//! come. What counts is the right of the user who makes this very request.

use tokio::time::Instant;

use super::decision::Decision;
use super::ruling::Stance;
use crate::cluster::{Authorize, Unanswered};
use crate::review::verdict::{self, Ruling, printable};
use crate::review::wire::Request;

/// Where users ask for it, on the object itself; its value is the reason.
const ANNOTATION: &str = "countersign.dev/disable-content-trust";
/// Longest namespace shown, in bytes; valid ones are no longer.
const MAX_NAMESPACE: usize = 63;
/// Longest reason in a warning, in bytes, so that what was to be said of it fits as well (ADM-54).
const MAX_REASON: usize = 120;

/// A wish to do without content trust, and what came of it.
#[derive(Debug)]
pub(super) struct Bypass {
    reason: String,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Accepted,
    NoReason,
    Denied,
    Unavailable(Unanswered),
}

/// What is wished for where something may be denied; `None` where nothing is.
pub(super) async fn ask(
    access: &impl Authorize,
    stance: Stance,
    request: &Request<'_>,
    until: Instant,
) -> Option<Bypass> {
    if !stance.may_deny() {
        return None;
    }
    let reason = request.annotation(ANNOTATION)?;
    let outcome = if reason.chars().any(char::is_alphanumeric) {
        grant(access, request, until).await
    } else {
        Outcome::NoReason
    };
    Some(Bypass { reason, outcome })
}

async fn grant(access: &impl Authorize, request: &Request<'_>, until: Instant) -> Outcome {
    let Some(user) = request.user.identity() else {
        return Outcome::Unavailable(Unanswered::Unclear);
    };
    match access.may_bypass(&user, &request.namespace, until).await {
        Ok(true) => Outcome::Accepted,
        Ok(false) => Outcome::Denied,
        Err(unanswered) => Outcome::Unavailable(unanswered),
    }
}

impl Bypass {
    /// What becomes of `decision`, which is about an object in `namespace`. Only a denial is changed: what is admitted
    /// anyway needs no bypass.
    pub(super) fn apply(self, decision: Decision, namespace: &str) -> Decision {
        let Ruling::Denied { status, message } = &decision.ruling else {
            return decision;
        };
        let ruling = match self.outcome {
            Outcome::Accepted => Ruling::Allowed {
                patch: None,
                warnings: self.warnings(message),
            },
            Outcome::NoReason | Outcome::Denied | Outcome::Unavailable(_) => Ruling::Denied {
                status: *status,
                message: verdict::with_note(message, &self.note(namespace)),
            },
        };
        Decision {
            would_deny: self.accepted(),
            ruling,
            bypass: Some(self),
            ..decision
        }
    }

    /// `accepted`, `no_reason`, `denied` or `unavailable`.
    pub(super) const fn word(&self) -> &'static str {
        match self.outcome {
            Outcome::Accepted => "accepted",
            Outcome::NoReason => "no_reason",
            Outcome::Denied => "denied",
            Outcome::Unavailable(_) => "unavailable",
        }
    }

    /// The reason, if it was accepted.
    pub(super) fn reason(&self) -> Option<&str> {
        self.accepted().then_some(self.reason.as_str())
    }

    const fn accepted(&self) -> bool {
        matches!(self.outcome, Outcome::Accepted)
    }

    fn warnings(&self, message: &str) -> Vec<String> {
        let reason = printable(&self.reason, MAX_REASON);
        let first = format!("content trust is disabled for this object: \"{reason}\"");
        let denied = message.lines().map(|line| format!("would be denied: {line}"));
        verdict::warnings([first].into_iter().chain(denied))
    }

    /// Why the annotation changes nothing.
    fn note(&self, namespace: &str) -> String {
        let why = match self.outcome {
            Outcome::Accepted => String::new(),
            Outcome::NoReason => "give a reason as its value".to_owned(),
            Outcome::Denied => format!(
                "you need the verb bypass on trustpolicies.countersign.dev in namespace {}",
                printable(namespace, MAX_NAMESPACE)
            ),
            Outcome::Unavailable(unanswered) => {
                format!("whether you may bypass could not be found out: {unanswered}")
            }
        };
        format!("the annotation {ANNOTATION} does not count: {why}")
    }
}
