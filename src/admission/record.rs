//! One line per decision (OBS-20), and nothing of the object in it but its images (OBS-21).

use std::time::Duration;

use tracing::{debug, info, warn};

use super::bypass::Bypass;
use super::decision::Decision;
use crate::policy::Mode;
use crate::review::verdict::{outcomes, printable};
use crate::review::wire::Request;
use crate::review::workload::resource_word;

/// Longest value in bytes that a user wrote (OBS-21).
const MAX_VALUE: usize = 512;
/// Longest text of our own in bytes: a denial with its line breaks escaped.
const MAX_TEXT: usize = 1100;
/// Longest list of images in bytes: six at their longest, dozens as they usually are, and the whole line stays far
/// below what container runtimes split (16 KiB).
const MAX_IMAGES: usize = 4096;

/// Writes the line: at debug what was merely let through, at info what was decided, at warn what was let through by a
/// bypass.
pub(super) fn line(phase: &str, mode: Mode, request: &Request<'_>, decision: &Decision, took: Duration) {
    let name = if decision.name.is_empty() {
        &request.name
    } else {
        &decision.name
    };
    let bypass = decision.bypass.as_ref();
    let disabled_for = bypass.and_then(Bypass::reason);
    macro_rules! decided {
        ($level:ident) => {
            $level!(
                uid = %printable(&request.uid, MAX_VALUE),
                phase,
                mode = mode.word(),
                operation = request.operation.word(),
                resource = resource_word(request),
                namespace = %printable(&request.namespace, MAX_VALUE),
                kind = %printable(&request.kind.kind, MAX_VALUE),
                name = %printable(name, MAX_VALUE),
                decision = decision.word(),
                reason = decision.reason,
                policy = %printable(&decision.policies, MAX_VALUE),
                pinned = decision.pinned(),
                images = %images(decision),
                error = decision.message().or(decision.error.as_deref()).map(|text| printable(text, MAX_TEXT)),
                bypass = bypass.map(Bypass::word),
                bypass_reason = disabled_for.map(|reason| printable(reason, MAX_VALUE)),
                dry_run = request.dry_run,
                duration_ms = took.as_secs_f64() * 1e3,
                "admission decided"
            )
        };
    }
    if disabled_for.is_some() {
        decided!(warn);
    } else if decision.word() == "allowed" && decision.pinned() == 0 {
        decided!(debug);
    } else {
        decided!(info);
    }
}

fn images(decision: &Decision) -> String {
    let all: Vec<_> = decision
        .images
        .iter()
        .map(|image| image.outcome(Some(printable(&image.image, MAX_VALUE))))
        .collect();
    outcomes(&all, MAX_IMAGES)
}
