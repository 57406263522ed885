//! Why there is no sandbox, or no story.

use std::io;
use std::net::SocketAddr;

use tokio::task::JoinError;

use super::folder::FolderError;
use super::keys::KeysError;
use super::publisher::SignError;
use super::servers::ServerError;
use super::story::StoryError;
use crate::store::StoreError;

/// Why there is no sandbox, or no story.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The folder's repositories are named by another port.
    #[error(
        "the sandbox in this folder was begun with --port {begun}, by which its repositories are named: say the same \
         or nothing"
    )]
    Moved {
        /// The port it was begun with.
        begun: u16,
    },
    /// Not three ports.
    #[error("--port needs room for three ports: at most {} is expected", u16::MAX - 2)]
    Ports,
    /// A port is taken, or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address and port.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A key.
    #[error("the keys of the sandbox cannot be used")]
    Keys(#[from] KeysError),
    /// The trust server.
    #[error("the sandbox's trust server does not serve")]
    TrustServer(#[source] ServerError),
    /// The webhook.
    #[error("the sandbox's webhook does not serve")]
    Webhook(#[source] ServerError),
    /// A server ended before it was told to.
    #[error("a server of the sandbox ended")]
    Ended(#[source] Option<JoinError>),
    /// The files to try it with.
    #[error("the sandbox cannot be described")]
    Output(#[source] io::Error),
    /// What publishers have seen.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The publisher.
    #[error("nothing can be signed in the sandbox")]
    Signer(#[source] SignError),
    /// The story.
    #[error(transparent)]
    Story(#[from] StoryError),
    /// Signals.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
}

impl From<io::Error> for SandboxError {
    fn from(source: io::Error) -> Self {
        Self::Output(source)
    }
}

impl SandboxError {
    /// Whether everything was there, and did not do as the story has it.
    pub const fn is_difference(&self) -> bool {
        matches!(
            self,
            Self::Story(StoryError::Differs(_) | StoryError::Sign { .. } | StoryError::Ask(_))
        )
    }
}
