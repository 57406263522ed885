//! Several verifiers, one answer: `anyOf` and `allOf`.

use super::outcome::{Kind, Pinned, Refusal};
use crate::policy::Combine;

/// The answer that `results`, in the order of the rule, come to together.
pub(super) fn combine(how: Combine, results: Vec<Result<Pinned, Refusal>>) -> Result<Pinned, Refusal> {
    match how {
        Combine::Any => any(results),
        Combine::All => all(results),
    }
}

/// The first that vouches. If none does but one could not be asked, that one might have: the answer is not known.
fn any(results: Vec<Result<Pinned, Refusal>>) -> Result<Pinned, Refusal> {
    let mut refusals = Vec::new();
    for result in results {
        match result {
            Ok(pinned) => return Ok(pinned),
            Err(refusal) => refusals.push(refusal),
        }
    }
    let kind = if refusals.iter().any(|refusal| refusal.kind == Kind::Unavailable) {
        Kind::Unavailable
    } else {
        Kind::Untrusted
    };
    Err(join(kind, refusals))
}

/// All of them, for one digest. One that refuses settles it, whatever the others could have said.
fn all(results: Vec<Result<Pinned, Refusal>>) -> Result<Pinned, Refusal> {
    let mut pins: Vec<Pinned> = Vec::new();
    let mut refusals = Vec::new();
    for result in results {
        match result {
            Ok(pinned) => pins.push(pinned),
            Err(refusal) => refusals.push(refusal),
        }
    }
    if !refusals.is_empty() {
        let untrusted = refusals.iter().any(|refusal| refusal.kind == Kind::Untrusted);
        let kind = if untrusted {
            Kind::Untrusted
        } else {
            Kind::Unavailable
        };
        return Err(join(kind, refusals));
    }
    let mut pins = pins.into_iter();
    let Some(mut first) = pins.next() else {
        return Err(no_verifier());
    };
    let mut sources: Vec<_> = first.verifier.iter().cloned().collect();
    for pin in pins {
        sources.extend(pin.verifier);
        if pin.digest != first.digest {
            return Err(disagreement(sources));
        }
        // The answer is as old as the oldest that it rests on.
        first.stale = first.stale.max(pin.stale);
    }
    Ok(first)
}

/// The refusals as one: those of the decisive kind first, each cause once.
fn join(kind: Kind, refusals: Vec<Refusal>) -> Refusal {
    let (decisive, others): (Vec<_>, Vec<_>) = refusals.into_iter().partition(|refusal| refusal.kind == kind);
    let mut refusals = decisive.into_iter().chain(others);
    let Some(mut joined) = refusals.next() else {
        return no_verifier();
    };
    for refusal in refusals {
        if !joined.cause.contains(&refusal.cause) {
            joined.cause = format!("{}; {}", joined.cause, refusal.cause);
        }
        joined.sources.extend(refusal.sources);
        if joined.similar.is_empty() {
            joined.similar = refusal.similar;
        }
    }
    joined
}

fn no_verifier() -> Refusal {
    let cause = "the rule names no verifier".to_owned();
    Refusal {
        kind: Kind::Untrusted,
        reason: "no_verifier",
        cause,
        sources: Vec::new(),
        similar: Vec::new(),
    }
}

fn disagreement(sources: Vec<super::Source>) -> Refusal {
    let cause = "the verifiers vouch for different digests".to_owned();
    Refusal {
        kind: Kind::Untrusted,
        reason: "verifiers_disagree",
        cause,
        sources,
        similar: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Digest;
    use crate::trust::fake;

    #[expect(clippy::unnecessary_wraps, reason = "an answer like the others")]
    fn yes(content: u8) -> Result<Pinned, Refusal> {
        Ok(fake::pinned(Digest::sha256([content; 32])))
    }

    fn no() -> Result<Pinned, Refusal> {
        Err(fake::refusal(
            Kind::Untrusted,
            "tag_not_signed",
            "tag 1 is not signed",
            Vec::new(),
        ))
    }

    fn away() -> Result<Pinned, Refusal> {
        Err(fake::refusal(
            Kind::Unavailable,
            "timeout",
            "no answer",
            Vec::new(),
        ))
    }

    #[test]
    fn answers_combine_without_confusing_untrusted_and_unavailable() {
        let word = |result: Result<Pinned, Refusal>| match result {
            Ok(_) => "trusted",
            Err(refusal) => match refusal.kind {
                Kind::Untrusted => refusal.reason,
                Kind::Unavailable => "unavailable",
            },
        };
        for (results, any, all) in [
            (vec![yes(1)], "trusted", "trusted"),
            (vec![no()], "tag_not_signed", "tag_not_signed"),
            (vec![away()], "unavailable", "unavailable"),
            (vec![yes(1), yes(1)], "trusted", "trusted"),
            (vec![yes(1), yes(2)], "trusted", "verifiers_disagree"),
            (vec![no(), yes(1)], "trusted", "tag_not_signed"),
            (vec![away(), yes(1)], "trusted", "unavailable"),
            (vec![no(), away()], "unavailable", "tag_not_signed"),
            (vec![away(), no()], "unavailable", "tag_not_signed"),
            (vec![], "no_verifier", "no_verifier"),
        ] {
            assert_eq!(
                word(combine(Combine::Any, results.clone())),
                any,
                "any of {results:?}"
            );
            assert_eq!(
                word(combine(Combine::All, results.clone())),
                all,
                "all of {results:?}"
            );
        }
    }

    #[test]
    fn an_answer_is_as_stale_as_the_stalest_it_rests_on() {
        let hour = std::time::Duration::from_secs(3600);
        let stale = yes(1).map(|pin| Pinned {
            stale: Some(hour),
            ..pin
        });
        let combined = combine(Combine::All, vec![yes(1), stale]).unwrap();
        assert_eq!(combined.stale(), Some(hour));
    }

    #[test]
    fn each_cause_is_told_once() {
        let joined = combine(Combine::Any, vec![no(), away(), no()]).unwrap_err();
        assert_eq!(joined.to_string(), "no answer; tag 1 is not signed");
        assert_eq!(joined.sources().len(), 3);
    }
}
