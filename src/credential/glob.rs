//! The glob of Go's `filepath.Match`, for one label of a host name (kubernetes-admission §5.2).

/// Whether `text` fits `pattern`: `*`, `?`, `[a-z]`, `[^a-z]`, and `\` before a character meant literally. A pattern
/// that is malformed fits nothing.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    pieces(pattern).is_some_and(|pieces| fits(&pieces, &text))
}

#[derive(Debug)]
enum Piece {
    Many,
    One(Set),
}

/// Which characters fit.
#[derive(Debug)]
struct Set {
    ranges: Vec<(char, char)>,
    negated: bool,
}

impl Set {
    fn contains(&self, c: char) -> bool {
        self.ranges.iter().any(|&(low, high)| low <= c && c <= high) != self.negated
    }
}

/// One pass with a single point to come back to: quadratic at worst, whatever the number of stars.
fn fits(pieces: &[Piece], text: &[char]) -> bool {
    let (mut piece, mut at) = (0, 0);
    let mut retry = None;
    loop {
        match (pieces.get(piece), text.get(at)) {
            (None, None) => return true,
            (Some(Piece::Many), _) => {
                piece += 1;
                retry = Some((piece, at));
            }
            (Some(Piece::One(set)), Some(&c)) if set.contains(c) => {
                piece += 1;
                at += 1;
            }
            _ => match retry {
                Some((after, from)) if from < text.len() => {
                    (piece, at) = (after, from + 1);
                    retry = Some((after, from + 1));
                }
                Some(_) | None => return false,
            },
        }
    }
}

fn pieces(pattern: &str) -> Option<Vec<Piece>> {
    let mut chars = pattern.chars();
    let mut found = Vec::new();
    while let Some(c) = chars.next() {
        found.push(match c {
            '*' => Piece::Many,
            '?' => Piece::One(Set {
                ranges: Vec::new(),
                negated: true,
            }),
            '[' => Piece::One(set(&mut chars)?),
            '\\' => Piece::One(only(chars.next()?)),
            other => Piece::One(only(other)),
        });
    }
    Some(found)
}

fn only(c: char) -> Set {
    Set {
        ranges: vec![(c, c)],
        negated: false,
    }
}

/// The set after `[`, closing bracket included. Empty sets and open ends are malformed.
fn set(chars: &mut std::str::Chars<'_>) -> Option<Set> {
    let mut rest = chars.clone();
    let negated = rest.next() == Some('^');
    if negated {
        *chars = rest;
    }
    let mut ranges = Vec::new();
    loop {
        let mut next = chars.clone();
        if next.next()? == ']' && !ranges.is_empty() {
            *chars = next;
            return Some(Set { ranges, negated });
        }
        let low = member(chars)?;
        let mut next = chars.clone();
        let high = if next.next() == Some('-') {
            *chars = next;
            member(chars)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn member(chars: &mut std::str::Chars<'_>) -> Option<char> {
    match chars.next()? {
        '\\' => chars.next(),
        '-' | ']' => None,
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_match_as_in_go() {
        for (pattern, text, want) in [
            ("", "", true),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*", "", true),
            ("*c", "abc", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbY", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("prefix*", "prefix-1", true),
            ("[a-c]1", "b1", true),
            ("[a-c]1", "d1", false),
            ("[^a-c]1", "d1", true),
            ("[ab-]", "a", false),
            ("[]", "]", false),
            ("[a", "a", false),
            (r"\*", "*", true),
            (r"\*", "a", false),
            (r"a\", "a", false),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in r"[a-c*?\[\]\\^-]{0,24}", text in "[a-c]{0,24}") {
            let _ = matches(&pattern, &text);
        }
    }
}
