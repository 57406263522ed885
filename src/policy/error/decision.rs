//! Findings about the parts that decide: verifiers and rules.

use super::Hint;
use crate::policy::compile::MAX_STALENESS_DAYS;
use crate::reference::MAX_GUN_BYTES;

/// Why a verifier could not do its work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// No kind, or no single one.
    #[error("a verifier needs exactly one kind: add \"notary\"")]
    Kind,
    /// A name that does not read well in messages.
    #[error(
        "{name:?} is not a name: use lower-case letters, digits and \"-\", beginning and ending with one of the former"
    )]
    Name {
        /// The name.
        name: Box<str>,
    },
    /// A name in use, or a signer listed twice.
    #[error("{name:?} is there twice: rename or remove one")]
    Taken {
        /// The name.
        name: Box<str>,
    },
    /// No anchor, or several.
    #[error("needs exactly one of \"keys\", \"keyIDs\", \"ca\" and \"trustOnFirstUse: true\", has {found}")]
    Anchor {
        /// How many there are.
        found: usize,
    },
    /// More keys asked for than pinned.
    #[error("asks for {minimum} keys, but {pinned} are pinned by \"keys\" or \"keyIDs\"")]
    Minimum {
        /// How many are asked for.
        minimum: usize,
        /// How many there are.
        pinned: usize,
    },
    /// Not the PEM wanted.
    #[error("expected PEM: \"-----BEGIN {want}-----\", base64, and the matching END line")]
    Pem {
        /// The label.
        want: &'static str,
    },
    /// A secret where all may read.
    #[error("this is a private key: replace it, since it has been published here, and write the public key")]
    PrivateKey,
    /// Not a key id.
    #[error("{id:?} is not a key id: expected 64 lower-case hex digits")]
    KeyId {
        /// The text.
        id: Box<str>,
    },
    /// Not a URL, or not one for trust data.
    #[error("{server:?} is not the URL of a trust server: {why}")]
    Server {
        /// The text.
        server: Box<str>,
        /// The reason and remedy.
        why: &'static str,
    },
    /// Not a duration.
    #[error(
        "{text:?} is not a duration: write hours, minutes and seconds, as in 12h, 1h30m or 0s, at most {} days",
        MAX_STALENESS_DAYS
    )]
    Duration {
        /// The text.
        text: Box<str>,
    },
    /// Not a signer.
    #[error(
        "{name:?} is not a signer: expected a delegation without \"targets/\", of a-z, 0-9, \"-\" and \"_\", at most \
         {} bytes, and not \"releases\"", MAX_GUN_BYTES - "targets/".len()
    )]
    Signer {
        /// The text.
        name: Box<str>,
    },
    /// Not what it is taken for by who verifies with it: a key that is none, say.
    #[error("cannot be used: {cause}")]
    Unusable {
        /// Why, from the outside in.
        cause: Box<str>,
    },
    /// Neither or both of two.
    #[error("needs exactly one of {one:?} and {two:?}")]
    OneOf {
        /// The first.
        one: &'static str,
        /// The second.
        two: &'static str,
    },
}

/// Why a rule could not decide.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// None or several of the three.
    #[error("rule {rule} needs exactly one of \"verify\", \"allow\" and \"deny\", has {found}")]
    Action {
        /// The rule, counted from 1.
        rule: usize,
        /// How many there are.
        found: usize,
    },
    /// None or both of the two.
    #[error("needs exactly one of \"anyOf\" and \"allOf\"")]
    Combine,
    /// Not a verifier of this policy.
    #[error("this policy defines no verifier {name:?}, {hint}")]
    UnknownVerifier {
        /// The name.
        name: Box<str>,
        /// What was probably meant.
        hint: Hint,
    },
    /// Listed twice.
    #[error("{name:?} is there twice: remove one")]
    Repeated {
        /// The entry.
        name: Box<str>,
    },
    /// A field without effect.
    #[error("\"digests\" goes with \"verify\" only: take it out")]
    Digests,
    /// Any digest would pass under a tag that nothing holds it against.
    #[error(
        "\"digests: Allow\" lets any digest pass, whatever tag is written before it: take the tag out of {pattern:?}, \
         or the \"digests\""
    )]
    DigestsOfTags {
        /// The pattern with a tag.
        pattern: Box<str>,
    },
    /// Two rules that are as specific for one image.
    #[error(
        "rules {first} and {second} tie: {one:?} and {two:?} can match one image and are equally specific; make one \
         of them more specific, or put both patterns into one rule"
    )]
    Tie {
        /// The rule of the first, counted from 1.
        first: usize,
        /// The rule of the second.
        second: usize,
        /// The first's pattern.
        one: Box<str>,
        /// The second's.
        two: Box<str>,
    },
    /// Too many patterns to compare.
    #[error("too many long patterns that are much alike, so ties cannot be ruled out: split the policy")]
    Alike,
}
