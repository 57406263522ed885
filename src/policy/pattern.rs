//! Image patterns: which names and tags a rule is about, and which of two rules is more specific (design §4).
//!
//! ```text
//! pattern = name [ ":" tag ]         tag: `*` is any run of characters
//! name    = segment *( "/" segment ) the first segment is the registry's host
//! segment = "**"                     one or more whole segments
//!         / literal characters and `*`, which is any run of characters without a slash
//! ```
//!
//! A pattern is completed exactly as a reference is (notary-v1 §1.2): `nginx` is `docker.io/library/nginx`, `team/*`
//! is `docker.io/team/*`, `docker.io/*` is `docker.io/library/*`. A first segment that has a wildcard is a host. A
//! host may not end in a wildcard, because the end of a host is what its owner is known by: `registry.example.*`
//! would be met by a registry of anybody's. Everything is ASCII and compared byte for byte.

use std::cmp::Reverse;
use std::fmt;

use crate::reference::{DOCKER_HUB, Gun, MAX_GUN_BYTES, Reference, ReferenceError, Tag};

mod glob;

use glob::Glob;
pub(super) use glob::Steps;

/// Longest tag pattern in characters: a tag has at most 128 (notary-v1 §1.1).
const MAX_TAG: usize = 128;

/// A pattern of image names, and perhaps of their tags.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// Completed: with host and, on Docker Hub, namespace.
    text: Box<str>,
    name: Glob,
    tag: Option<Glob>,
}

impl Pattern {
    /// Reads a pattern and completes it as a reference would be completed.
    ///
    /// # Errors
    ///
    /// [`PatternError`] says what in it is not a pattern, or why it could match nothing or too much.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.contains('@') {
            return Err(PatternError::Digest);
        }
        let (name, tag) = split_tag(text);
        let name = complete(name)?;
        if name.len() > MAX_GUN_BYTES {
            return Err(PatternError::TooLong);
        }
        parse_name(&name)?;
        tag.map(parse_tag).transpose()?;
        Ok(Self {
            name: Glob::new(&name),
            tag: tag.map(Glob::new),
            text: tag
                .map_or_else(|| name.clone(), |tag| format!("{name}:{tag}"))
                .into(),
        })
    }

    /// Whether the pattern speaks of `image`. One with a tag pattern does not speak of an image that is named by
    /// digest alone.
    pub fn matches(&self, image: &Reference) -> bool {
        let tag = image.tag().map(Tag::as_str);
        self.name.matches(image.gun().as_str())
            && self
                .tag
                .as_ref()
                .is_none_or(|glob| tag.is_some_and(|tag| glob.matches(tag)))
    }

    /// Whether it has a tag pattern.
    pub(super) const fn names_tags(&self) -> bool {
        self.tag.is_some()
    }

    /// How specific the pattern is. Of two patterns that match an image, the greater speaks for it.
    pub fn specificity(&self) -> Specificity {
        Specificity {
            name: Weight::of(&self.name),
            tag: self.tag.as_ref().map(Weight::of),
        }
    }

    /// The part of the name before its first wildcard. Patterns of equal specificity and different prefixes match
    /// nothing in common.
    pub(super) fn prefix(&self) -> &[u8] {
        self.name.prefix()
    }

    /// Whether some name and tag would match both. `None` if that would take more `steps` than are left.
    pub(super) fn overlaps(&self, other: &Self, steps: &mut Steps) -> Option<bool> {
        let names = self.name.overlaps(&other.name, steps)?;
        let tags = match (&self.tag, &other.tag) {
            (Some(one), Some(two)) => one.overlaps(two, steps)?,
            (None, _) | (_, None) => true,
        };
        Some(names && tags)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Order among patterns: the first difference decides, names before tags.
///
/// If everything that one pattern matches is matched by another too, the first is never the less specific: a longer
/// literal beginning, more literal characters, fewer and narrower wildcards can only take matches away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Specificity {
    name: Weight,
    /// No tag pattern is less than any.
    tag: Option<Weight>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Weight {
    /// Characters before the first wildcard.
    prefix: usize,
    /// Literal characters in all.
    literals: usize,
    /// `**`: fewer is more specific.
    globstars: Reverse<usize>,
    /// `*`: fewer is more specific.
    stars: Reverse<usize>,
}

impl Weight {
    fn of(glob: &Glob) -> Self {
        let (literals, stars, globstars) = glob.census();
        Self {
            prefix: glob.prefix().len(),
            literals,
            globstars: Reverse(globstars),
            stars: Reverse(stars),
        }
    }
}

/// Why a text is not an image pattern, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// Nothing there.
    #[error("the pattern is empty: write \"**\" for every image")]
    Empty,
    /// Longer than any name or tag.
    #[error("the pattern is longer than the {MAX_GUN_BYTES} bytes a name or the {MAX_TAG} a tag may have")]
    TooLong,
    /// An `@`.
    #[error("patterns match names and tags, not digests: take out the \"@\" and what follows")]
    Digest,
    /// Two slashes in a row, or one at an end.
    #[error("the pattern has an empty segment: take out the extra \"/\"")]
    EmptySegment,
    /// Three stars or more, or `**` next to something else.
    #[error(
        "\"**\" stands for whole segments, so nothing but \"/\" may be next to it: write \"team/**\" or \"team*/**\""
    )]
    Globstar,
    /// A single segment with a wildcard, which can only be a host.
    #[error(
        "{segment:?} alone would be a host without a repository: write \"**\" for every image, or \
         \"docker.io/library/{segment}\""
    )]
    HostAlone {
        /// The segment.
        segment: Box<str>,
    },
    /// A host that anybody's domain could meet.
    #[error(
        "host {host:?} ends in a wildcard, which anybody's domain can meet: keep its end literal, as in \
         \"*.example.com\", or write the registry's name before a \"/\", as in \"docker.io/team*/**\""
    )]
    HostTail {
        /// The host.
        host: Box<str>,
    },
    /// Not a character of a name.
    #[error(
        "{character:?} does not occur in image names: they have a-z, 0-9 and \".\", \"_\", \"-\", \"/\" only"
    )]
    Character {
        /// The first such character.
        character: char,
    },
    /// A segment without wildcard that no reference has.
    #[error("no image has such a name: {0}")]
    Name(ReferenceError),
    /// Not a tag pattern.
    #[error(
        "{tag:?} matches no tag: tags have a-z, A-Z, 0-9, \".\", \"_\" and \"-\", and one \"*\" is any run of them"
    )]
    Tag {
        /// The text behind the colon.
        tag: Box<str>,
    },
}

/// A colon behind the last slash begins the tag; one before it belongs to a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    let base = text.rfind('/').map_or(0, |slash| slash + 1);
    match text.get(base..).and_then(|last| last.find(':')) {
        Some(colon) => {
            let (name, tag) = text.split_at(base + colon);
            (name, tag.strip_prefix(':'))
        }
        None => (text, None),
    }
}

/// Puts registry and namespace in front where a reference would have them (notary-v1 §1.2).
fn complete(name: &str) -> Result<String, PatternError> {
    let Some((first, rest)) = name.split_once('/') else {
        return match name {
            "**" => Ok(name.to_owned()),
            _ if name.contains('*') => Err(PatternError::HostAlone { segment: name.into() }),
            _ => Ok(format!("{DOCKER_HUB}/library/{name}")),
        };
    };
    let (host, rest) = if first == "index.docker.io" {
        (DOCKER_HUB, rest)
    } else if names_a_host(first) {
        (first, rest)
    } else {
        (DOCKER_HUB, name)
    };
    if host == DOCKER_HUB && !rest.contains('/') && rest != "**" && !rest.is_empty() {
        return Ok(format!("{host}/library/{rest}"));
    }
    Ok(format!("{host}/{rest}"))
}

fn names_a_host(first: &str) -> bool {
    first.is_empty()
        || first == "localhost"
        || first
            .bytes()
            .any(|b| matches!(b, b'.' | b':' | b'*') || b.is_ascii_uppercase())
}

fn parse_name(name: &str) -> Result<(), PatternError> {
    let mut segments = name.split('/');
    parse_host(segments.next().unwrap_or_default())?;
    segments.try_for_each(parse_segment)
}

fn parse_host(host: &str) -> Result<(), PatternError> {
    if host.is_empty() {
        return Err(PatternError::EmptySegment);
    }
    if matches!(host, "*" | "**") {
        return Ok(());
    }
    parse_stars(host)?;
    if !host.contains('*') {
        // Any repository serves to hold the host against the grammar of references.
        return format!("{host}/any")
            .parse::<Gun>()
            .map(drop)
            .map_err(PatternError::Name);
    }
    parse_characters(
        host,
        |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b':'),
    )?;
    // A port may be a wildcard: it is not what an owner is known by.
    let (domain, _port) = host.split_once(':').unwrap_or((host, ""));
    let last = domain.rsplit('.').next().unwrap_or_default();
    if last.is_empty() || last.contains('*') {
        return Err(PatternError::HostTail { host: host.into() });
    }
    Ok(())
}

fn parse_segment(segment: &str) -> Result<(), PatternError> {
    if segment.is_empty() {
        return Err(PatternError::EmptySegment);
    }
    if segment == "**" {
        return Ok(());
    }
    parse_stars(segment)?;
    if segment.contains('*') {
        return parse_characters(
            segment,
            |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'),
        );
    }
    // Any host serves to hold the segment against the grammar of references.
    format!("localhost/{segment}")
        .parse::<Gun>()
        .map(drop)
        .map_err(PatternError::Name)
}

fn parse_stars(segment: &str) -> Result<(), PatternError> {
    if segment.contains("**") {
        return Err(PatternError::Globstar);
    }
    Ok(())
}

fn parse_characters(segment: &str, literal: fn(u8) -> bool) -> Result<(), PatternError> {
    match segment
        .chars()
        .find(|&c| c != '*' && !u8::try_from(c).is_ok_and(literal))
    {
        Some(character) => Err(PatternError::Character { character }),
        None => Ok(()),
    }
}

fn parse_tag(tag: &str) -> Result<(), PatternError> {
    let literal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'*');
    if tag.len() > MAX_TAG {
        return Err(PatternError::TooLong);
    }
    let starts_well = !tag.is_empty() && !tag.starts_with(['.', '-']);
    if !starts_well || tag.contains("**") || !tag.bytes().all(literal) {
        return Err(PatternError::Tag { tag: tag.into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
