//! One file beside the server: SQLite.
