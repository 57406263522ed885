//! What a trust server signs.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::super::duration;
use crate::trustserver::http::CacheAges;
use crate::trustserver::service::Options;
use crate::tuf::Algorithm;

/// Keys and lives of snapshots and timestamps.
#[derive(Args, Debug)]
#[command(next_help_heading = "Signing")]
pub(super) struct SigningFlags {
    /// Kind of the keys that the server makes
    #[arg(long, value_enum, default_value = "ecdsa", env = "COUNTERSIGN_KEY_ALGORITHM")]
    key_algorithm: KeyAlgorithm,
    /// How long timestamps are good; they are signed again at two thirds of it
    #[arg(long, value_name = "DURATION", default_value = "336h", value_parser = life, env = "COUNTERSIGN_TIMESTAMP_LIFE")]
    timestamp_life: Duration,
    /// How long snapshots are good whose key the server holds
    #[arg(long, value_name = "DURATION", default_value = "26280h", value_parser = life, env = "COUNTERSIGN_SNAPSHOT_LIFE")]
    snapshot_life: Duration,
    /// Seconds for which the current files may be cached on their way; 0 forbids it
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = age(), env = "COUNTERSIGN_CACHE_CURRENT")]
    cache_current: u32,
    /// Seconds for which files by version or hash may be cached on their way; 0 forbids it
    #[arg(long, value_name = "SECONDS", default_value_t = 2_592_000, value_parser = age(), env = "COUNTERSIGN_CACHE_FIXED")]
    cache_fixed: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KeyAlgorithm {
    /// ECDSA over P-256
    Ecdsa,
    /// Ed25519
    Ed25519,
}

impl SigningFlags {
    pub(super) fn options(&self) -> Options {
        Options {
            algorithm: match self.key_algorithm {
                KeyAlgorithm::Ecdsa => Algorithm::EcdsaP256,
                KeyAlgorithm::Ed25519 => Algorithm::Ed25519,
            },
            timestamp_life: self.timestamp_life,
            snapshot_life: self.snapshot_life,
            ages: CacheAges {
                current: self.cache_current,
                fixed: self.cache_fixed,
            },
            ..Options::default()
        }
    }
}

fn life(text: &str) -> Result<Duration, String> {
    let life = duration::parse(text)?;
    if life < SHORTEST {
        return Err("at least 1m is expected".to_owned());
    }
    Ok(life)
}

/// A third of it is a few of the server's looks at what is due.
const SHORTEST: Duration = Duration::from_secs(60);

fn age() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(..=i64::from(CacheAges::MOST))
}
