//! Flags of commands that may make a repository.

use clap::Args;

use crate::publish::{Initial, SnapshotBy};
use crate::tuf::KeyId;

/// How a repository is made that has no trust data yet.
#[derive(Args, Debug)]
#[command(next_help_heading = "A new repository")]
pub(super) struct InitialFlags {
    /// Id of the root key to make it with [default: the first root key there is, else a new one]
    #[arg(long, value_name = "HEX", env = "COUNTERSIGN_WITH_ROOT")]
    with_root: Option<KeyId>,
    /// Keep the key of the snapshot here: then nobody publishes without it, not even the server
    #[arg(long, env = "COUNTERSIGN_OWN_SNAPSHOT")]
    own_snapshot: bool,
}

impl InitialFlags {
    pub(super) const fn initial(&self) -> Initial {
        Initial {
            root: self.with_root,
            snapshot: if self.own_snapshot {
                SnapshotBy::Publisher
            } else {
                SnapshotBy::Server
            },
        }
    }
}
