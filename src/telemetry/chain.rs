//! Errors as one line of text.

use std::error::Error;
use std::iter::successors;

/// `error` and what caused it, joined with colons (style §5).
pub fn chain(error: &dyn Error) -> String {
    successors(error.source(), |&cause| cause.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Link {
        said: &'static str,
        source: Option<Box<Link>>,
    }

    #[test]
    fn every_cause_is_said_in_turn() {
        let link = |said, source: Option<Link>| Link {
            said,
            source: source.map(Box::new),
        };
        assert_eq!(chain(&link("alone", None)), "alone");
        let three = link(
            "not started",
            Some(link("cannot listen", Some(link("port taken", None)))),
        );
        assert_eq!(chain(&three), "not started: cannot listen: port taken");
    }
}
