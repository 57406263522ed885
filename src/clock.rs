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

/// A time that has certainly passed: this version was built after it. A clock before it is wrong, and would make
/// expired metadata look valid (notary-v1 §5.7 step 1). Moves with each release.
pub fn built() -> Timestamp {
    const BUILT: i64 = 1_795_305_600; // 2026-11-22T00:00:00Z
    Timestamp::constant(BUILT, 0)
}
