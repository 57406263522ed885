//! Typed members out of a parsed [`Value`].

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;

use super::canonical::{JsonError, Value};

/// Why bytes are not a metadata file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Not the JSON we read.
    #[error("not strict JSON")]
    Json(#[source] JsonError),
    /// A member is missing, of another type, or out of range.
    #[error("member {member:?} {problem}")]
    Member {
        /// The member's name.
        member: Box<str>,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl FormatError {
    pub(super) fn member(member: &str, problem: &'static str) -> Self {
        Self::Member {
            member: member.into(),
            problem,
        }
    }
}

/// An object whose members are read by name.
#[derive(Clone, Copy)]
pub(super) struct Object<'a>(&'a [(Box<str>, Value)]);

impl<'a> Object<'a> {
    /// Reads `value` as an object with the members `known`; others are ignored, unless they are one of `known`
    /// in other letters: a reader that folds case would take them for it (§3.3).
    pub(super) fn of(value: &'a Value, name: &str, known: &[&str]) -> Result<Self, FormatError> {
        let object = Self::map(value, name)?;
        for (member, _) in object.0 {
            if known
                .iter()
                .any(|known| *known != &**member && folds_to(member, known))
            {
                return Err(FormatError::member(
                    member,
                    "differs from a known member by case only",
                ));
            }
        }
        Ok(object)
    }

    /// Reads `value` as a map from names of the publisher's choice; `null` is empty, as Go writes it.
    pub(super) fn map(value: &'a Value, name: &str) -> Result<Self, FormatError> {
        match value {
            Value::Object(members) => Ok(Self(members)),
            Value::Null => Ok(Self(&[])),
            Value::Bool(_) | Value::Integer(_) | Value::String(_) | Value::Array(_) => {
                Err(FormatError::member(name, "is not an object"))
            }
        }
    }

    pub(super) fn members(self) -> &'a [(Box<str>, Value)] {
        self.0
    }

    /// The member, if it is there and not `null`.
    pub(super) fn get(self, name: &str) -> Option<&'a Value> {
        let found = self.0.binary_search_by(|(member, _)| (**member).cmp(name)).ok()?;
        self.0
            .get(found)
            .map(|(_, value)| value)
            .filter(|value| **value != Value::Null)
    }

    fn required(self, name: &str) -> Result<&'a Value, FormatError> {
        self.get(name)
            .ok_or_else(|| FormatError::member(name, "is missing"))
    }

    pub(super) fn string(self, name: &str) -> Result<&'a str, FormatError> {
        string(self.required(name)?, name)
    }

    /// A nested object with known members.
    pub(super) fn object(self, name: &str, known: &[&str]) -> Result<Self, FormatError> {
        Object::of(self.required(name)?, name, known)
    }

    /// A nested map; absent is empty.
    pub(super) fn submap(self, name: &str) -> Result<Self, FormatError> {
        self.get(name)
            .map_or(Ok(Self(&[])), |value| Object::map(value, name))
    }

    /// A nested array; absent is empty.
    pub(super) fn array(self, name: &str) -> Result<&'a [Value], FormatError> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(FormatError::member(name, "is not an array")),
        }
    }

    /// An array of strings; absent is empty.
    pub(super) fn strings(self, name: &str) -> Result<Vec<&'a str>, FormatError> {
        self.array(name)?.iter().map(|item| string(item, name)).collect()
    }

    /// A whole number of at least `least`.
    pub(super) fn integer(self, name: &str, least: u64) -> Result<u64, FormatError> {
        let Value::Integer(number) = self.required(name)? else {
            return Err(FormatError::member(name, "is not an integer"));
        };
        let number = u64::try_from(*number).ok().filter(|number| *number >= least);
        number.ok_or_else(|| FormatError::member(name, "is too small"))
    }

    pub(super) fn base64(self, name: &str) -> Result<Vec<u8>, FormatError> {
        base64(self.string(name)?, name)
    }

    pub(super) fn time(self, name: &str) -> Result<Timestamp, FormatError> {
        parse_time(self.string(name)?).ok_or_else(|| FormatError::member(name, "is not an RFC 3339 time"))
    }
}

pub(super) fn string<'a>(value: &'a Value, name: &str) -> Result<&'a str, FormatError> {
    if let Value::String(text) = value {
        Ok(text)
    } else {
        Err(FormatError::member(name, "is not a string"))
    }
}

/// Standard alphabet, padded, no unused bits set: one text for one value (§3.4).
pub(super) fn base64(text: &str, name: &str) -> Result<Vec<u8>, FormatError> {
    BASE64_STANDARD
        .decode(text)
        .map_err(|_| FormatError::member(name, "is not strict base64"))
}

/// Whether a reader that folds case, as Go's does, takes `name` for `known`. Two characters outside ASCII fold
/// into it: U+017F (long s) and U+212A (Kelvin sign).
fn folds_to(name: &str, known: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    name.chars().map(fold).eq(known.chars().map(fold))
}

/// RFC 3339 as Go reads it (§3.4): capital `T` and `Z`, no leap second, any number of fraction digits, of which
/// nine count. Unlike Go, no comma before the fraction.
fn parse_time(text: &str) -> Option<Timestamp> {
    let number = |range: std::ops::Range<usize>| -> Option<i8> {
        text.get(range)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?
            .parse()
            .ok()
    };
    let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if punctuation
        .iter()
        .any(|&(at, expected)| text.as_bytes().get(at) != Some(&expected))
    {
        return None;
    }
    let century = i16::from(number(0..2)?);
    let date = Date::new(
        century * 100 + i16::from(number(2..4)?),
        number(5..7)?,
        number(8..10)?,
    )
    .ok()?;
    let (nanosecond, zone) = fraction(text.get(19..)?)?;
    let time = Time::new(number(11..13)?, number(14..16)?, number(17..19)?, nanosecond).ok()?;
    offset(zone)?.to_timestamp(DateTime::from_parts(date, time)).ok()
}

/// Nanoseconds, and the text after the fraction.
fn fraction(text: &str) -> Option<(i32, &str)> {
    let Some(rest) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, zone) = rest.split_at_checked(digits)?;
    let nine: String = digits.chars().chain(std::iter::repeat('0')).take(9).collect();
    if digits.is_empty() {
        None
    } else {
        Some((nine.parse().ok()?, zone))
    }
}

fn offset(zone: &str) -> Option<Offset> {
    if zone == "Z" {
        return Some(Offset::UTC);
    }
    let sign = match zone.bytes().next()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let two = |digits: &str, most: i32| -> Option<i32> {
        let plain = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|number| plain && *number <= most)
    };
    Offset::from_seconds(sign * (two(hours, 23)? * 3600 + two(minutes, 59)? * 60)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        for (text, unix, nanos) in [
            ("2031-04-02T09:30:00Z", 1_932_888_600, 0),
            ("2031-04-02T09:30:00.5+02:00", 1_932_881_400, 500_000_000),
            ("2031-04-02T09:30:00.1234567891Z", 1_932_888_600, 123_456_789),
            ("2031-04-02T09:30:00-00:30", 1_932_890_400, 0),
            ("2120-01-01T00:00:00Z", 4_733_510_400, 0),
        ] {
            let time = parse_time(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(
                (time.as_second(), time.subsec_nanosecond()),
                (unix, nanos),
                "{text}"
            );
        }
        for text in [
            "",
            "2031-04-02",
            "2031-04-02t09:30:00Z",
            "2031-04-02T09:30:00z",
            "2031-04-02T09:30:00",
            "2031-04-02T09:30:60Z",
            "2031-04-02T24:00:00Z",
            "2031-02-30T00:00:00Z",
            "2031-4-2T09:30:00Z",
            "2031-04-02T09:30:00,5Z",
            "2031-04-02T09:30:00.Z",
            "2031-04-02T09:30:00+2:00",
            "2031-04-02T09:30:00+25:00",
            "2031-04-02 09:30:00Z",
            "2031-04-02T09:30:00Z ",
            "+031-04-02T09:30:00Z",
            "2031-04-02T09:30:00é",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn names_that_differ_by_case_only_are_found() {
        for name in ["Version", "VERSION", "ver\u{17f}ion"] {
            assert!(folds_to(name, "version"), "{name}");
        }
        assert!(folds_to("\u{212a}eyid", "keyid"));
        assert!(!folds_to("versions", "version"));
    }

    #[test]
    fn base64_has_one_text_for_one_value() {
        assert!(base64("aGVsbG8=", "x").is_ok());
        for text in ["aGVsbG8", "aGVsbG9=", "aGVs\nbG8=", "aGVsbG8 ", "-_-_"] {
            assert!(base64(text, "x").is_err(), "{text:?}");
        }
    }
}
