//! Durations as flags write them: `5s`, `90m`, `12h`, `500ms`.

use std::time::Duration;

use jiff::SignedDuration;

/// Reads a duration that is not negative.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 5s, 90m or 12h");
    let duration: SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(duration).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, seconds) in [("0s", 0.0), ("5s", 5.0), ("1h30m", 5400.0), ("500ms", 0.5)] {
            assert_eq!(parse(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "5", "-5s", "s", "5 parsecs"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
