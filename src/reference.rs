//! Image references as docker and Kubernetes read them, and the names trust is bound to.
//!
//! Text enters through [`Reference::parse`] and comes out normalised: the registry is always named, so no node
//! can resolve a short name to another place than the one trust was looked up for. A value of one of these types
//! is proof that its text was well formed. The grammar is ASCII throughout (notary-v1 §1.1–1.3).

use std::fmt;
use std::str::FromStr;

mod grammar;

/// The registry that a name without one belongs to.
pub const DOCKER_HUB: &str = "docker.io";
/// The namespace of Docker Hub that a name without a slash belongs to.
const OFFICIAL: &str = "library/";
/// The tag of a reference that has neither tag nor digest.
const DEFAULT_TAG: &str = "latest";
/// Longest GUN in bytes: what a reference trust server's database column holds (notary-v1 §1.1).
pub const MAX_GUN_BYTES: usize = 255;

/// A globally unique name: registry host (with port, if any) and repository, without tag or digest.
///
/// It is used byte for byte in URLs, in the common name of root certificates and in token scopes
/// (notary-v1 §1.3). Hosts are lower case: two spellings of one host would be two trust collections, and a
/// runtime may pull from either (§1.2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gun {
    text: Box<str>,
    /// Length of the host, the slash after it not included.
    host: usize,
}

impl Gun {
    fn new(host: &str, path: &str) -> Result<Self, ReferenceError> {
        if host.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::HostUpperCase { host: host.into() });
        }
        if !grammar::is_host(host) {
            return Err(ReferenceError::Host { host: host.into() });
        }
        if !grammar::is_path(path) {
            return Err(ReferenceError::Path { path: path.into() });
        }
        if host.len() + 1 + path.len() > MAX_GUN_BYTES {
            return Err(ReferenceError::TooLong);
        }
        Ok(Self {
            text: format!("{host}/{path}").into(),
            host: host.len(),
        })
    }

    /// The registry, with its port if it has one: `registry.example.com:5000`.
    pub fn host(&self) -> &str {
        self.text.get(..self.host).unwrap_or_default()
    }

    /// The repository within its registry: `library/nginx`.
    pub fn path(&self) -> &str {
        self.text.get(self.host + 1..).unwrap_or_default()
    }

    /// The whole name: `docker.io/library/nginx`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Gun {
    type Err = ReferenceError;

    /// Reads a name that is already complete: unlike [`Reference::parse`] it adds no registry.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, path) = text
            .split_once('/')
            .ok_or(ReferenceError::Path { path: text.into() })?;
        Self::new(host, path)
    }
}

/// A tag: 1 to 128 characters of `A-Z a-z 0-9 _ . -`, the first neither `.` nor `-`. Compared byte for byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

impl Tag {
    /// The tag's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if grammar::is_tag(text) {
            Ok(Self(text.into()))
        } else {
            Err(ReferenceError::Tag { tag: text.into() })
        }
    }
}

/// The hash algorithms an image digest may name (notary-v1 §1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// 32 bytes; the only one that trust data can vouch for (§6.1).
    Sha256,
    /// 48 bytes.
    Sha384,
    /// 64 bytes.
    Sha512,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of the digest in bytes.
    pub const fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// A content digest: an algorithm, a colon and lower-case hex of exactly its length.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: Box<[u8]>,
}

impl Digest {
    /// The digest whose SHA-256 is `bytes`.
    pub fn sha256(bytes: [u8; 32]) -> Self {
        Self {
            algorithm: Algorithm::Sha256,
            bytes: Box::new(bytes),
        }
    }

    /// The algorithm before the colon.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hash itself.
    pub const fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, hash) = text.split_once(':').ok_or(DigestError::Algorithm)?;
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|known| known.name() == name)
            .ok_or(DigestError::Algorithm)?;
        if hash.len() != 2 * algorithm.length() || hash.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(DigestError::Encoding);
        }
        let bytes = hex::decode(hash).map_err(|_| DigestError::Encoding)?;
        Ok(Self {
            algorithm,
            bytes: bytes.into(),
        })
    }
}

/// A normalised image reference: a [`Gun`], and a tag, a digest, or both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    gun: Gun,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads `text` as `docker pull` would and completes it: `nginx` is `docker.io/library/nginx:latest`.
    ///
    /// # Errors
    ///
    /// [`ReferenceError`] names the part that does not fit the grammar of notary-v1 §1.1, or the host that has
    /// upper-case letters.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if grammar::is_image_id(text) {
            return Err(ReferenceError::ImageId);
        }
        let (host, remainder) = split_host(text);
        let (name, digest) = match remainder.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse().map_err(ReferenceError::Digest)?)),
            None => (remainder, None),
        };
        let (path, tag) = match name.split_once(':') {
            Some((path, tag)) => (path, Some(tag.parse()?)),
            None => (name, None),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::PathUpperCase { path: path.into() });
        }
        let gun = if host == DOCKER_HUB && !path.contains('/') {
            Gun::new(host, &format!("{OFFICIAL}{path}"))?
        } else {
            Gun::new(host, path)?
        };
        let tag = if tag.is_none() && digest.is_none() {
            Some(Tag(DEFAULT_TAG.into()))
        } else {
            tag
        };
        Ok(Self { gun, tag, digest })
    }

    /// Where the image lives, and whose trust data speaks for it.
    pub const fn gun(&self) -> &Gun {
        &self.gun
    }

    /// The tag, unless the reference has a digest only.
    pub const fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest, if the reference names one.
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same image with `digest` written behind its tag: `docker.io/library/nginx:1.27@sha256:…`.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            ..self.clone()
        }
    }
}

/// The registry a reference names or implies, and the text after it (notary-v1 §1.2 step 2).
fn split_host(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some(("index.docker.io", rest)) => (DOCKER_HUB, rest),
        Some((first, rest)) if names_a_host(first) => (first, rest),
        Some(_) | None => (DOCKER_HUB, text),
    }
}

fn names_a_host(first: &str) -> bool {
    first == "localhost"
        || first
            .bytes()
            .any(|b| b == b'.' || b == b':' || b.is_ascii_uppercase())
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Why a text is not an image reference. Each message names the part at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// Nothing there.
    #[error("the image reference is empty")]
    Empty,
    /// 64 hex digits are a local image id, which no registry serves.
    #[error("64 hex digits are an image id, not a reference: write repository@sha256:<digest>")]
    ImageId,
    /// The host does not fit the grammar.
    #[error("registry host {host:?} is malformed")]
    Host {
        /// The text in the host's place.
        host: Box<str>,
    },
    /// The host has upper-case letters.
    #[error("registry host {host:?} has upper-case letters: write it in lower case")]
    HostUpperCase {
        /// The host as written.
        host: Box<str>,
    },
    /// The repository does not fit the grammar.
    #[error("repository {path:?} is malformed")]
    Path {
        /// The text in the repository's place.
        path: Box<str>,
    },
    /// The repository has upper-case letters.
    #[error("repository {path:?} has upper-case letters: repository names are lower case")]
    PathUpperCase {
        /// The repository as written.
        path: Box<str>,
    },
    /// Host and repository together exceed [`MAX_GUN_BYTES`].
    #[error("registry and repository are longer than {MAX_GUN_BYTES} bytes")]
    TooLong,
    /// The tag does not fit the grammar.
    #[error("tag {tag:?} is malformed")]
    Tag {
        /// The text in the tag's place.
        tag: Box<str>,
    },
    /// The digest is malformed.
    #[error("the digest is malformed")]
    Digest(#[source] DigestError),
}

/// Why a text is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// No colon, or an algorithm we do not know.
    #[error("the algorithm must be sha256, sha384 or sha512")]
    Algorithm,
    /// Not lower-case hex, or not as long as the algorithm's hash.
    #[error("the hash must be lower-case hex of the algorithm's full length")]
    Encoding,
}

impl fmt::Display for Gun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), hex::encode(&self.bytes))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.gun)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// `Debug` prints what `Display` prints, and serde writes and reads it.
macro_rules! textual {
    ($($name:ident),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

textual!(Gun, Tag, Digest, Reference);

#[cfg(test)]
mod tests;
