//! The only place that reads the clock.

use jiff::Timestamp;

/// The present time. Verification takes it as a parameter; only `main`-side code calls this.
pub fn now() -> Timestamp {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place the lint points to"
    )]
    Timestamp::now()
}
