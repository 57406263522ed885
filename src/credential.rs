//! Docker logins: which credential belongs to which host.
