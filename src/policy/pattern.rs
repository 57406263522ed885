//! Image patterns.
