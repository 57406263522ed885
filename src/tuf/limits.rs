//! How much a trust server may make us read (notary-v1 §2.10, §5.7 step 8, T10).

/// Caps on metadata. The reference's are 100 MiB a file; these leave a hundred times the room of real repositories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a root file: some 200 certificates.
    pub root_bytes: u64,
    /// Bytes of a timestamp: real ones have 500.
    pub timestamp_bytes: u64,
    /// Bytes of a snapshot: 300 for each delegation.
    pub snapshot_bytes: u64,
    /// Bytes of a targets file: 150 for each tag, so 100,000 tags.
    pub targets_bytes: u64,
    /// Bytes of all files of one run together.
    pub total_bytes: u64,
    /// Roles loaded in one run.
    pub roles: usize,
    /// Levels of delegation below `targets`.
    pub depth: usize,
    /// Tags in one role.
    pub targets_per_role: usize,
    /// Root versions walked in one run.
    pub roots: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: u64 = 1024;
        const MIB: u64 = 1024 * KIB;
        Self {
            root_bytes: 512 * KIB,
            timestamp_bytes: 64 * KIB,
            snapshot_bytes: 4 * MIB,
            targets_bytes: 16 * MIB,
            total_bytes: 64 * MIB,
            roles: 64,
            depth: 8,
            targets_per_role: 100_000,
            roots: 1024,
        }
    }
}
