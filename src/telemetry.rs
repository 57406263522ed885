//! Logs and metrics: set up once, passed in, no globals of our own.

mod chain;
mod exposition;
pub mod logs;
mod metrics;
mod nearest;
mod process;

pub use self::chain::chain;
pub use self::exposition::Exposition;
pub use self::metrics::{InFlight, Metrics};
