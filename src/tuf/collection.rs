//! What a verified repository says: which tag is which digest, and who signed it (notary-v1 §6.6).
//!
//! Holds tags and digests, not documents.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::key::KeyId;
use super::{DelegationName, Role};
use crate::reference::{Algorithm, Digest, Gun, Tag};

/// Most tags a refusal suggests.
const SUGGESTIONS: usize = 5;
/// How alike (Jaro-Winkler, 0 to 1) a tag must be to be suggested: `1.2` finds `1.1`, but not `latest`.
const ALIKE: f64 = 0.6;
/// How many tags in order before and after the one asked for are held against it: 2,000 comparisons of at most 128
/// characters take some 20 ms, and similar tags lie together.
const NEIGHBOURS: usize = 1_000;
/// What docker calls the signer of a tag that no delegation signed (§6.5).
const REPO_ADMIN: &str = "Repo Admin";

/// The verified tags of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    gun: Gun,
    expires: Timestamp,
    released: BTreeMap<Tag, Release>,
    signers: BTreeMap<DelegationName, SignerTags>,
    unpublished: BTreeSet<DelegationName>,
}

/// The effective entry of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Release {
    /// `None` if the entry has no usable SHA-256.
    sha256: Option<[u8; 32]>,
    by: Published,
}

/// The two roles that release tags. The later one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Published {
    Targets,
    Releases,
}

/// What one signer signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignerTags {
    /// Canonical ids of the keys whose signatures verified.
    pub(super) keys: BTreeSet<KeyId>,
    pub(super) entries: BTreeMap<Tag, Option<[u8; 32]>>,
}

/// What a policy asks of a tag beyond being released.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Each must have signed the same digest for the same tag.
    pub signers: Vec<RequiredSigner>,
    /// Whether a `targets/releases` that is delegated but was never published refuses everything.
    pub releases_required: bool,
}

/// A signer whose word is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredSigner {
    /// The delegation.
    pub name: DelegationName,
    /// Canonical id of the key that must be among those that signed; `None` accepts the delegation's own keys.
    pub key: Option<KeyId>,
}

/// A tag or digest that the repository vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The signed digest.
    pub digest: Digest,
    /// The role that released it.
    pub role: Role,
    /// Who signed the same digest for the same tag, as docker names them.
    pub signers: Vec<String>,
}

impl Collection {
    pub(super) const fn new(gun: Gun, expires: Timestamp) -> Self {
        Self {
            gun,
            expires,
            released: BTreeMap::new(),
            signers: BTreeMap::new(),
            unpublished: BTreeSet::new(),
        }
    }

    /// Adds the entries of a releasing role; those of `targets/releases` override those of `targets` (§6.3).
    pub(super) fn release(&mut self, by: Published, entries: BTreeMap<Tag, Option<[u8; 32]>>) {
        for (tag, sha256) in entries {
            let release = self.released.entry(tag).or_insert(Release { sha256, by });
            if by >= release.by {
                *release = Release { sha256, by };
            }
        }
    }

    pub(super) fn attribute(&mut self, name: DelegationName, tags: SignerTags) {
        self.signers.insert(name, tags);
    }

    pub(super) fn unpublished(&mut self, name: DelegationName) {
        self.unpublished.insert(name);
    }

    /// Whose tags these are.
    pub const fn gun(&self) -> &Gun {
        &self.gun
    }

    /// The first instant at which this must not be believed any more.
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Every released tag, in order.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = &Tag> {
        self.released.keys()
    }

    /// How many tags are held, of all roles together.
    pub fn entries(&self) -> usize {
        let signed = self.signers.values().map(|signer| signer.entries.len());
        self.released.len() + signed.sum::<usize>()
    }

    /// The digest of `tag`, of `digest`, or of both where they agree; at least one of them is given.
    ///
    /// # Errors
    ///
    /// [`Unsigned`] says what the repository does not vouch for.
    pub fn resolve(
        &self,
        tag: Option<&Tag>,
        digest: Option<&Digest>,
        conditions: &Conditions,
    ) -> Result<Resolution, Unsigned> {
        if conditions.releases_required && self.is_unpublished(&Role::releases()) {
            return Err(Unsigned::ReleasesMissing {
                gun: self.gun.clone(),
            });
        }
        match (tag, digest) {
            (Some(tag), expected) => self.resolve_tag(tag, expected, conditions),
            (None, Some(digest)) => self.resolve_digest(digest, conditions),
            (None, None) => Err(Unsigned::Nothing),
        }
    }

    fn is_unpublished(&self, role: &Role) -> bool {
        self.unpublished
            .iter()
            .any(|name| name.to_string() == role.as_str())
    }

    fn resolve_tag(
        &self,
        tag: &Tag,
        expected: Option<&Digest>,
        conditions: &Conditions,
    ) -> Result<Resolution, Unsigned> {
        let release = self.released.get(tag).ok_or_else(|| Unsigned::Tag {
            gun: self.gun.clone(),
            tag: tag.clone(),
        })?;
        let sha256 = release
            .sha256
            .ok_or_else(|| Unsigned::NoSha256 { tag: tag.clone() })?;
        let digest = Digest::sha256(sha256);
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            let (tag, expected) = (tag.clone(), expected.clone());
            return Err(Unsigned::Mismatch {
                tag,
                signed: digest,
                expected,
            });
        }
        for signer in &conditions.signers {
            self.require(signer, tag, sha256)?;
        }
        Ok(Resolution {
            digest,
            role: release.by.role(),
            signers: self.signers_of(tag, sha256),
        })
    }

    /// A digest is signed if it is the *effective* entry of some tag (design §9.6) that meets the conditions.
    fn resolve_digest(&self, digest: &Digest, conditions: &Conditions) -> Result<Resolution, Unsigned> {
        let unsigned = || Unsigned::Digest {
            gun: self.gun.clone(),
            digest: digest.clone(),
        };
        if digest.algorithm() != Algorithm::Sha256 {
            return Err(unsigned());
        }
        let named = |release: &Release| {
            release
                .sha256
                .is_some_and(|sha256| sha256.as_slice() == digest.bytes())
        };
        let mut refused = unsigned();
        for (tag, _) in self.released.iter().filter(|(_, release)| named(release)) {
            match self.resolve_tag(tag, Some(digest), conditions) {
                Ok(resolution) => return Ok(resolution),
                Err(why) => refused = why,
            }
        }
        Err(refused)
    }

    fn require(&self, required: &RequiredSigner, tag: &Tag, sha256: [u8; 32]) -> Result<(), Unsigned> {
        let signer = || required.name.signer().to_owned();
        let Some(theirs) = self.signers.get(&required.name) else {
            return Err(Unsigned::SignerAbsent { signer: signer() });
        };
        match theirs.entries.get(tag) {
            None => {
                return Err(Unsigned::Signer {
                    signer: signer(),
                    tag: tag.clone(),
                });
            }
            Some(Some(other)) if *other == sha256 => {}
            Some(_) => {
                return Err(Unsigned::SignerDisagrees {
                    signer: signer(),
                    tag: tag.clone(),
                });
            }
        }
        match required.key {
            Some(key) if !theirs.keys.contains(&key) => Err(Unsigned::SignerKey { signer: signer() }),
            Some(_) | None => Ok(()),
        }
    }

    fn signers_of(&self, tag: &Tag, sha256: [u8; 32]) -> Vec<String> {
        let signed = |tags: &&SignerTags| tags.entries.get(tag) == Some(&Some(sha256));
        let names = self.signers.iter().filter(|(_, tags)| signed(tags));
        let names: Vec<_> = names.map(|(name, _)| name.signer().to_owned()).collect();
        if names.is_empty() {
            vec![REPO_ADMIN.to_owned()]
        } else {
            names
        }
    }

    /// Released tags much like `tag`, for a message: the most alike, in order, at most five.
    pub fn similar(&self, tag: &Tag) -> Vec<Tag> {
        let likeness = |other: &Tag| strsim::jaro_winkler(tag.as_str(), other.as_str());
        let before = self.released.range(..tag).rev().take(NEIGHBOURS);
        let after = self.released.range(tag..).take(NEIGHBOURS);
        let mut alike: Vec<_> = before
            .chain(after)
            .map(|(other, _)| (likeness(other), other))
            .collect();
        alike.retain(|(likeness, _)| *likeness >= ALIKE);
        alike.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let mut tags: Vec<_> = alike
            .into_iter()
            .take(SUGGESTIONS)
            .map(|(_, tag)| tag.clone())
            .collect();
        tags.sort();
        tags
    }
}

impl Published {
    fn role(self) -> Role {
        match self {
            Self::Targets => Role::Targets,
            Self::Releases => Role::releases(),
        }
    }
}

/// What a verified repository does not vouch for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsigned {
    /// No released entry of that name.
    #[error("tag {tag} is not signed in {gun}")]
    Tag {
        /// The repository.
        gun: Gun,
        /// The tag.
        tag: Tag,
    },
    /// No released tag is that digest.
    #[error("{digest} is not the digest of a signed tag in {gun}")]
    Digest {
        /// The repository.
        gun: Gun,
        /// The digest.
        digest: Digest,
    },
    /// Tag and digest of the reference disagree (T34).
    #[error("tag {tag} is signed as {signed}, not as {expected}")]
    Mismatch {
        /// The tag.
        tag: Tag,
        /// Its signed digest.
        signed: Digest,
        /// The digest of the reference.
        expected: Digest,
    },
    /// The entry has no SHA-256 (T53).
    #[error("the entry of tag {tag} has no usable sha256")]
    NoSha256 {
        /// The tag.
        tag: Tag,
    },
    /// `targets/releases` is delegated and was never published.
    #[error("targets/releases of {gun} is delegated but was never published")]
    ReleasesMissing {
        /// The repository.
        gun: Gun,
    },
    /// A required signer is no signer of the repository, or has never signed.
    #[error("{signer} is not a signer of the repository, or has not signed anything yet")]
    SignerAbsent {
        /// The signer.
        signer: String,
    },
    /// A required signer did not sign the tag.
    #[error("{signer} has not signed tag {tag}")]
    Signer {
        /// The signer.
        signer: String,
        /// The tag.
        tag: Tag,
    },
    /// A required signer signed another digest.
    #[error("{signer} signed another digest for tag {tag}")]
    SignerDisagrees {
        /// The signer.
        signer: String,
        /// The tag.
        tag: Tag,
    },
    /// A required signer signed, but not with the pinned key.
    #[error("{signer} signed with another key than the pinned one")]
    SignerKey {
        /// The signer.
        signer: String,
    },
    /// Neither tag nor digest was asked for.
    #[error("neither tag nor digest")]
    Nothing,
}

impl Unsigned {
    /// Stable `snake_case` word for metrics, JSON output and tests.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Tag { .. } => "tag_not_signed",
            Self::Digest { .. } => "digest_not_signed",
            Self::Mismatch { .. } => "digest_mismatch",
            Self::NoSha256 { .. } => "no_sha256",
            Self::ReleasesMissing { .. } => "releases_missing",
            Self::SignerAbsent { .. } => "signer_absent",
            Self::Signer { .. } => "signer_missing",
            Self::SignerDisagrees { .. } => "signer_disagrees",
            Self::SignerKey { .. } => "signer_key",
            Self::Nothing => "no_tag_or_digest",
        }
    }

    /// The tag at fault, if the tag itself is what is not signed.
    pub const fn unsigned_tag(&self) -> Option<&Tag> {
        if let Self::Tag { tag, .. } = self {
            Some(tag)
        } else {
            None
        }
    }
}
