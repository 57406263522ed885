//! Why nothing was published, or not as it should be.

use super::KeyringError;
use crate::notary::PushError;
use crate::reference::{Gun, Tag};
use crate::store::StoreError;
use crate::trust::Setback;
use crate::tuf::edit::EditError;
use crate::tuf::{Error, KeyId, PrivateKeyError, Role};

/// Why nothing was published, or not as it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The repository does not verify, or that could not be found out.
    #[error("{gun} cannot be published to as it is")]
    Look {
        /// The repository.
        gun: Gun,
        /// What is wrong with it.
        #[source]
        source: Setback,
    },
    /// There is no such repository.
    #[error("{gun} has no trust data yet: countersign trust init makes it, or sign a tag of it")]
    NotInitialised {
        /// The repository.
        gun: Gun,
    },
    /// There is one already.
    #[error("{gun} is initialised already")]
    Initialised {
        /// The repository.
        gun: Gun,
    },
    /// Nothing says that the server speaks the truth about a repository that was never seen.
    #[error(
        "{gun} was never seen from here, and its root is not signed by a root key of ours: say whom to trust with \
         --root-key or --root-key-id, or --tofu to believe what the server shows"
    )]
    Unanchored {
        /// The repository.
        gun: Gun,
    },
    /// Nobody's key is at hand who may sign the tag.
    #[error(
        "no key at hand may sign {gun}:{tag}; its signers are {}: import one's key, or have the owner add yours with \
         countersign trust signer add",
        signers.join(", ")
    )]
    NoSigner {
        /// The repository.
        gun: Gun,
        /// The tag.
        tag: Tag,
        /// The delegations that may.
        signers: Vec<String>,
    },
    /// The tag is not signed.
    #[error("tag {tag} is not signed in {gun}")]
    NotSigned {
        /// The repository.
        gun: Gun,
        /// The tag.
        tag: Tag,
    },
    /// The tag is signed where no key at hand may change it.
    #[error("no key at hand may withdraw {gun}:{tag}: it is signed in {}", listed(roles))]
    NotOurs {
        /// The repository.
        gun: Gun,
        /// The tag.
        tag: Tag,
        /// The roles.
        roles: Vec<Role>,
    },
    /// The name is no signer's.
    #[error("{name:?} is no signer of {gun}")]
    NoSuchSigner {
        /// The repository.
        gun: Gun,
        /// The name.
        name: String,
    },
    /// The change would leave tags without a valid signature.
    #[error(
        "afterwards {} would carry no valid signature, and none of their tags would be trusted: publish it from where a \
         remaining signer's key is, or say --force",
        listed(roles)
    )]
    Orphans {
        /// The roles.
        roles: Vec<Role>,
    },
    /// What did not verify would do so again, unread (T49).
    #[error(
        "{} would verify again with these keys, with whatever tags are in there: witness it first, with --adopt to vouch \
         for them or --empty to drop them, or say --force",
        listed(roles)
    )]
    Revived {
        /// The roles.
        roles: Vec<Role>,
    },
    /// A signer who was asked to sign cannot.
    #[error(
        "{signer} cannot sign {gun}:{tag} here: none of their keys is at hand, or none of their paths covers it"
    )]
    NotAble {
        /// The repository.
        gun: Gun,
        /// The tag.
        tag: Tag,
        /// The signer's name.
        signer: String,
    },
    /// A change that does not fit the repository, or cannot be signed.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A file of the repository cannot be read as what it is.
    #[error(transparent)]
    File(#[from] Error),
    /// The server did not take the change.
    #[error("{gun} was not published")]
    Push {
        /// The repository.
        gun: Gun,
        /// Why.
        #[source]
        source: PushError,
    },
    /// The server was told, and it is not known what came of it.
    #[error(
        "it is not known whether {gun} was published: look with countersign trust inspect, or run the command again; \
         nothing is lost by that"
    )]
    Unconfirmed {
        /// The repository.
        gun: Gun,
        /// Why.
        #[source]
        source: Box<PublishError>,
    },
    /// What the server has now is not what was sent, or does not verify.
    #[error("{gun} was published, but does not verify now")]
    Unverified {
        /// The repository.
        gun: Gun,
        /// What is wrong with it.
        #[source]
        source: Setback,
    },
    /// The server serves something else under the version that was sent.
    #[error(
        "{server} serves other bytes as {role} version {version} than were published: it is broken, or hostile"
    )]
    Altered {
        /// The server.
        server: String,
        /// Whose file.
        role: Role,
        /// Its version.
        version: u64,
    },
    /// More versions than anybody has published: to go above them would use up the versions there are (T6).
    #[error(
        "{server} says that it has {role} up to version {version} from before, which nobody has published: it is broken, \
         or wants that role to run out of versions"
    )]
    Versions {
        /// The server.
        server: String,
        /// The role.
        role: Role,
        /// Its version.
        version: u64,
    },
    /// A key that the server offers as its own is one of ours.
    #[error("{server} offers one of our own keys as the key of {role}: {key}")]
    OwnKey {
        /// The server.
        server: String,
        /// What for.
        role: Role,
        /// The canonical id.
        key: KeyId,
    },
    /// A root key that nobody needs a passphrase for (§7.1).
    #[error(
        "root key {key} is not encrypted, so anybody may have put it there: no repository is founded on it; if it is yours, \
         countersign trust key passwd {key} encrypts it, else remove it"
    )]
    ClearRoot {
        /// Its canonical id.
        key: KeyId,
    },
    /// Somebody else changed the keys of a role while they were being changed here.
    #[error(
        "the keys of {role} of {gun} were changed by somebody else just now: look what they are, and rotate again"
    )]
    Rotated {
        /// The repository.
        gun: Gun,
        /// The role.
        role: Role,
    },
    /// No certificate could be made, or no key.
    #[error("no key for {role} could be made")]
    Key {
        /// What for.
        role: Role,
        /// Why.
        #[source]
        source: PrivateKeyError,
    },
    /// The key store did not do as it was told.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// What was seen cannot be remembered or forgotten.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn listed(roles: &[Role]) -> String {
    let roles: Vec<_> = roles.iter().map(Role::as_str).collect();
    roles.join(", ")
}

impl PublishError {
    /// Whether trying again later may help: the answer is not known.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Look { source, .. } | Self::Unverified { source, .. } => {
                !matches!(source, Setback::Untrusted(_))
            }
            Self::Push { source, .. } => match source {
                PushError::Fetch(_) | PushError::Conflict { .. } => true,
                PushError::Delegations { .. }
                | PushError::SnapshotKey { .. }
                | PushError::Refused { .. }
                | PushError::TooLarge { .. }
                | PushError::Absent { .. }
                | PushError::Key { .. } => false,
            },
            Self::Unconfirmed { .. } | Self::Store(_) => true,
            Self::NotInitialised { .. }
            | Self::Initialised { .. }
            | Self::Unanchored { .. }
            | Self::NoSigner { .. }
            | Self::NotSigned { .. }
            | Self::NotOurs { .. }
            | Self::NoSuchSigner { .. }
            | Self::Orphans { .. }
            | Self::Revived { .. }
            | Self::NotAble { .. }
            | Self::Edit(_)
            | Self::File(_)
            | Self::Altered { .. }
            | Self::OwnKey { .. }
            | Self::ClearRoot { .. }
            | Self::Rotated { .. }
            | Self::Versions { .. }
            | Self::Key { .. }
            | Self::Keyring(_) => false,
        }
    }

    /// Whether the way the command was called, or the machine it runs on, is at fault.
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Unanchored { .. } | Self::Keyring(_) | Self::Key { .. } | Self::ClearRoot { .. }
        )
    }
}
