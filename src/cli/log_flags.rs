//! How a server logs: the same for all of them.

use std::io;

use clap::Args;

use crate::clock;
use crate::telemetry::logs;

/// Form and amount of log lines.
#[derive(Args, Debug)]
#[command(next_help_heading = "Logs")]
pub(super) struct LogFlags {
    /// json or text
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "json",
        env = "COUNTERSIGN_LOG_FORMAT"
    )]
    log_format: logs::Format,
    /// error, warn, info, debug or trace, alone or as module=level,…
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "COUNTERSIGN_LOG_LEVEL"
    )]
    log_level: String,
}

impl LogFlags {
    /// Logs to standard output from now on.
    pub(super) fn install(&self) -> anyhow::Result<()> {
        Ok(logs::install(
            self.log_format,
            &self.log_level,
            io::stdout(),
            clock::now,
        )?)
    }
}
