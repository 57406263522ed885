//! Whole repositories in and out: archives of our own, and dumps of the reference server's databases.
