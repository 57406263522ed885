//! What a rule's verifiers are told: whom to ask, and whose signatures count.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::lookup::Login;

/// The verifiers a rule names, and how they combine.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Whether one verifier suffices.
    pub combine: Combine,
    /// In the order of the rule.
    pub verifiers: Vec<Arc<Verifier>>,
    /// Whether a reference by digest needs a signature.
    pub digests: DigestRule,
}

/// `anyOf` or `allOf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// One verifier suffices.
    Any,
    /// Every verifier must vouch, for the same digest.
    All,
}

/// What a reference that has a digest must show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, schemars::JsonSchema)]
#[schemars(inline)]
pub enum DigestRule {
    /// The digest must be that of a signed, released tag. Written `Require`.
    #[default]
    #[serde(rename = "Require")]
    Signed,
    /// Any digest passes: docker's old meaning (notary-v1 §1.4).
    Allow,
}

/// A way to find out whether an image is trusted. Equal verifiers share their caches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Verifier {
    /// What rules and messages call it.
    pub name: String,
    /// How it verifies.
    pub kind: VerifierKind,
}

/// The kinds of verifier. Further kinds are further variants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum VerifierKind {
    /// A Notary v1 trust server.
    Notary(Notary),
}

/// A verifier of kind `notary`, as the policy states it; keys are still PEM text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notary {
    /// Base URL; `None` is docker's rule (notary-v1 §1.5).
    pub server: Option<Url>,
    /// PEM certificates added to the system's roots.
    pub ca: Option<String>,
    /// Where the login for the server is kept.
    pub credentials: Option<Credentials>,
    /// What the repository's root is pinned to.
    pub root: Root,
    /// Each must have signed the same digest in its delegation.
    pub signers: Vec<Signer>,
    /// How long verified metadata may serve while the server cannot be reached.
    pub max_staleness: Duration,
    /// What it means that `targets/releases` is delegated but was never published (notary-v1 §6.6).
    pub releases_missing: ReleasesMissing,
    /// Which of a workload's own logins the server may see, where these are used at all.
    pub lending: Lending,
}

/// Which of a workload's logins a server may see that a policy names (CRED-20, CRED-21). A server that an image implies is
/// its registry, and sees that registry's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lending {
    /// Those for its own host: who writes the policy of a namespace chooses the server, and need not be one who may
    /// read the namespace's Secrets.
    #[default]
    Own,
    /// Those for the image's registry too, as docker does it (notary-v1 §1.7): an administrator chose the server.
    Registry,
}

/// Where a login comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// A docker `config.json`.
    DockerConfig(PathBuf),
    /// A Secret, read already.
    Login(Login),
}

/// A trust pin: exactly one kind of anchor (notary-v1 §4.2, design §9).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Root {
    /// PEM public keys (or certificates), any of which may anchor.
    pub keys: Vec<String>,
    /// TUF or canonical key ids, any of which may anchor.
    pub key_ids: Vec<String>,
    /// PEM certificates, one of which must have issued the root certificate.
    pub ca: Option<String>,
    /// How many pinned keys must have signed.
    pub minimum: usize,
    /// First use is trusted.
    pub trust_on_first_use: bool,
    /// The certificate's common name need not match the GUN.
    pub skip_name_check: bool,
}

/// A signer every image needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Signer {
    /// The delegation below `targets/`.
    pub name: String,
    /// PEM public key that must be among those that signed; `None` accepts the delegation's own keys.
    pub key: Option<String>,
}

/// What a never-published `targets/releases` means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, schemars::JsonSchema)]
#[schemars(inline)]
pub enum ReleasesMissing {
    /// Look in `targets`, as docker does.
    #[default]
    Allow,
    /// Refuse.
    Deny,
}
