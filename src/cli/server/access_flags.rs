//! Who may use a trust server.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use tracing::warn;

use crate::trustserver::access::{Access, Gatekeeper};
use crate::trustserver::audit::Audit;

/// Access, and what is written about it.
#[derive(Args, Debug)]
#[command(next_help_heading = "Access")]
pub(super) struct AccessFlags {
    /// File that says who may do what, read again when it changes
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_ACCESS")]
    access: Option<PathBuf>,
    /// Let everybody do everything: for trying out, or behind a proxy that knows its callers
    #[arg(long, conflicts_with = "access", env = "COUNTERSIGN_OPEN")]
    open: bool,
    /// File to which every change of a repository is appended, one JSON object a line; the log has them anyway
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_AUDIT_LOG")]
    audit_log: Option<PathBuf>,
}

impl AccessFlags {
    pub(super) fn gatekeeper(&self) -> anyhow::Result<Gatekeeper> {
        match &self.access {
            Some(file) => Ok(Gatekeeper::open(file.clone())?),
            None if self.open => {
                warn!("--open: everybody may publish and delete");
                Ok(Gatekeeper::fixed(Access::open_to_all()))
            }
            None => bail!("nobody may do anything: give --access with a file that says who may, or --open"),
        }
    }

    pub(super) fn audit(&self) -> anyhow::Result<Audit> {
        let Some(file) = &self.audit_log else {
            return Ok(Audit::default());
        };
        Audit::to_file(file).with_context(|| file.display().to_string())
    }
}
