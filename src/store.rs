//! Trust state that outlives a restart (design §5).
