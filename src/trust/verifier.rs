//! A policy's verifiers, made ready: keys parsed, names checked, servers chosen.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::credential::ConfigError;
use crate::fetch::SetupError;
use crate::policy;
use crate::tuf::{
    CertificateError, Conditions, DelegationName, KeyError, Pin, RequiredSigner, Role, RoleError, pinned_key,
};

/// A verifier that can be used. Its number keeps its memory apart from that of others.
#[derive(Clone, Debug)]
pub(super) struct Notary {
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) policy: policy::Notary,
    pub(super) pin: Arc<Pin>,
    pub(super) conditions: Conditions,
}

impl Notary {
    pub(super) fn compile(number: u64, name: &str, policy: &policy::Notary) -> Result<Self, Fault> {
        let conditions = Conditions {
            signers: policy
                .signers
                .iter()
                .map(required_signer)
                .collect::<Result<_, _>>()?,
            releases_required: policy.releases_missing == policy::ReleasesMissing::Deny,
        };
        let pin = Arc::new(pin(&policy.root)?);
        Ok(Self {
            number,
            name: name.to_owned(),
            policy: policy.clone(),
            pin,
            conditions,
        })
    }

    /// The delegations to be loaded for the required signers.
    pub(super) fn signers(&self) -> BTreeSet<DelegationName> {
        self.conditions
            .signers
            .iter()
            .map(|signer| signer.name.clone())
            .collect()
    }

    /// Whether the policy names the server, or each image implies its own.
    pub(super) const fn names_server(&self) -> bool {
        self.policy.server.is_some()
    }

    /// How long verified metadata may serve while the server cannot be reached.
    pub(super) const fn max_staleness(&self) -> Duration {
        self.policy.max_staleness
    }
}

fn pin(root: &policy::Root) -> Result<Pin, Fault> {
    let kinds = [
        !root.keys.is_empty(),
        !root.key_ids.is_empty(),
        root.ca.is_some(),
        root.trust_on_first_use,
    ];
    if kinds.into_iter().filter(|kind| *kind).count() != 1 {
        return Err(Fault::Anchor);
    }
    let pin = if !root.keys.is_empty() {
        Pin::keys(root.keys.iter().map(String::as_str)).map_err(Fault::RootKey)?
    } else if !root.key_ids.is_empty() {
        Pin::key_ids(root.key_ids.iter().map(String::as_str)).map_err(Fault::RootKey)?
    } else if let Some(ca) = &root.ca {
        Pin::authorities(ca).map_err(Fault::Authority)?
    } else {
        Pin::first_use()
    };
    let pin = pin.minimum(root.minimum);
    Ok(if root.skip_name_check { pin.any_name() } else { pin })
}

fn required_signer(signer: &policy::Signer) -> Result<RequiredSigner, Fault> {
    let role = Role::signer(&signer.name).map_err(Fault::SignerName)?;
    let Role::Delegation(name) = role else {
        return Err(Fault::Anchor);
    };
    let key = signer.key.as_deref().map(pinned_key).transpose();
    let key = key.map_err(|source| Fault::SignerKey {
        signer: signer.name.clone(),
        source,
    })?;
    Ok(RequiredSigner { name, key })
}

/// A verifier that cannot be used, and whose images are therefore denied.
#[derive(Debug, thiserror::Error)]
#[error("verifier {verifier:?} of policy {policy} cannot be used")]
pub struct VerifierError {
    /// The policy.
    pub policy: String,
    /// The verifier's name in it.
    pub verifier: String,
    /// What is wrong with it.
    #[source]
    pub source: Fault,
}

/// What is wrong with a verifier.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// No anchor, or several kinds.
    #[error("root needs exactly one of keys, keyIDs, ca and trustOnFirstUse")]
    Anchor,
    /// A root key or key id that is none.
    #[error("root names what is not a key")]
    RootKey(#[source] KeyError),
    /// Not certificates.
    #[error("root.ca is unreadable")]
    Authority(#[source] CertificateError),
    /// A signer that no delegation can have as its name.
    #[error("a signer's name is malformed")]
    SignerName(#[source] RoleError),
    /// A signer's key that is none.
    #[error("the key of signer {signer:?} is unreadable")]
    SignerKey {
        /// The signer.
        signer: String,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// A login that docker would not have written.
    #[error("the login is unreadable")]
    Login(#[source] ConfigError),
    /// Docker's folder of certificates for the server cannot be read.
    #[error("{} cannot be read", path.display())]
    TlsFolder {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A client key without its certificate.
    #[error("{} has no certificate beside it: a .cert file of the same name is expected", path.display())]
    TlsPair {
        /// The key.
        path: PathBuf,
    },
    /// The connection to the server cannot be set up.
    #[error("the trust server cannot be used")]
    Server(#[source] SetupError),
}
