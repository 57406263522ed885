//! Admission reviews without I/O.
