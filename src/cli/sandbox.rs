//! `countersign sandbox`.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;

use super::{Status, complain};
use crate::clock;
use crate::review::verdict::printable;
use crate::sandbox::{self, Options};
use crate::telemetry::{chain, logs};

/// Arguments of `sandbox`.
#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    /// Keep keys, signatures and policy in this folder for the next time [default: a temporary folder]
    #[arg(long, value_name = "DIR", env = "COUNTERSIGN_DIR")]
    dir: Option<PathBuf>,
    /// First of three ports on loopback: registry, trust server, webhook [default: those of the folder, else free ones]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), env = "COUNTERSIGN_PORT")]
    port: Option<u16>,
    /// End with the story instead of staying up
    #[arg(long, env = "COUNTERSIGN_ONCE")]
    once: bool,
    /// Show reviews and answers whole
    #[arg(long, env = "COUNTERSIGN_REVIEWS")]
    reviews: bool,
    /// Which logs go to standard error: error, warn, info, debug or trace, alone or as module=level,…
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "error",
        env = "COUNTERSIGN_LOG_LEVEL"
    )]
    log_level: String,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Status> {
    logs::install(logs::Format::Text, &args.log_level, io::stderr(), clock::now)?;
    let options = Options {
        dir: args.dir.clone(),
        port: args.port,
        once: args.once,
        reviews: args.reviews,
        program: unfound(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut out = anstream::stdout();
    match runtime.block_on(sandbox::run(&options, &mut out)) {
        Ok(()) => Ok(Status::Success),
        Err(error) if error.is_difference() => {
            complain(&format!("error: {}", printable(&chain(&error), usize::MAX)));
            if args.dir.is_some() {
                complain(
                    "what was changed in the folder by hand changes the story: an empty folder begins anew",
                );
            }
            Ok(Status::Denied)
        }
        Err(error) => Err(error.into()),
    }
}

/// The folder of this program, unless a shell finds it there anyway.
fn unfound() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let folder = program.parent()?;
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|entry| is_same(&entry, folder));
    (!found).then(|| folder.to_owned())
}

fn is_same(one: &Path, other: &Path) -> bool {
    one.canonicalize().is_ok_and(|one| one == other)
}
