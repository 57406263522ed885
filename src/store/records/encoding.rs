//! Trust state in the form of an object, and back. What is read is held to all that was written: an object may have
//! been edited, restored from somewhere or made by somebody else.
//!
//! Compression is worth its few lines: the roots of a chain differ by little but signatures, and base64 inside of
//! base64 would cost a third more. zlib brings a checksum along.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Buf as _, BufMut as _, Bytes};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::resource::{SeenFile, TrustRecordSpec, TrustedRoot};
use crate::reference::Gun;
use crate::store::StoreError;
use crate::tuf::{Role, Seen, State, root_version, sha256};

/// Bytes of a packed chain of roots: some 500 rotations of all keys. With the files and the delegations an object stays
/// below 1 MiB, and etcd takes 1.5 MiB.
const CHAIN: usize = 384 * 1024;
/// Bytes of packed files, some 600 KiB of metadata. Larger ones are not kept.
const FILES: usize = 256 * 1024;
/// Bytes of files that compressing is tried on, and most that they may unpack to.
const FILES_UNPACKED: usize = 1024 * 1024;
/// Most bytes that a chain may unpack to: far beyond what is packed into [`CHAIN`] of real roots.
const CHAIN_UNPACKED: usize = 8 * 1024 * 1024;
/// Delegations ever seen of one repository, of those that some policy needs.
const DELEGATIONS: usize = 256;
/// Bytes of a server's URL.
const SERVER: usize = 2048;

/// What is wrong with an object. Completes "the trust record is damaged: …".
pub(super) type Damage = &'static str;

/// The object for `state`. Files that do not fit are left out, and those that were forgotten; nothing else is.
pub(super) fn encode(server: &str, gun: &Gun, state: &State) -> Result<TrustRecordSpec, StoreError> {
    let too_large = |what, most| StoreError::TooLarge {
        gun: gun.clone(),
        what,
        most,
    };
    let damaged = |why| StoreError::Damaged {
        gun: gun.to_string(),
        why,
    };
    if server.len() > SERVER {
        return Err(too_large("bytes of a server's URL", SERVER));
    }
    let newest = state.roots.last().ok_or_else(|| damaged("it has no root"))?;
    let version = root_version(newest).map_err(|_| damaged("its root cannot be read"))?;
    let chain = pack(&state.roots, CHAIN_UNPACKED, CHAIN)
        .ok_or_else(|| too_large("bytes of compressed roots", CHAIN))?;
    let delegations: BTreeMap<_, _> = state
        .seen
        .iter()
        .filter(|(role, _)| matches!(role, Role::Delegation(_)))
        .map(|(role, seen)| (role.to_string(), seen_file(seen)))
        .collect();
    if delegations.len() > DELEGATIONS {
        return Err(too_large("delegations", DELEGATIONS));
    }
    let seen = |role| state.seen.get(&role).map(seen_file);
    let files = kept(state);
    Ok(TrustRecordSpec {
        server: server.to_owned(),
        gun: gun.to_string(),
        root: TrustedRoot {
            version: number(version),
            sha256: hex::encode(sha256(newest)),
            chain,
        },
        timestamp: seen(Role::Timestamp),
        snapshot: seen(Role::Snapshot),
        targets: seen(Role::Targets),
        delegations,
        verified_at: state.verified_at.map(|time| Time(whole_seconds(time))),
        files: (!files.is_empty()).then(|| pack_files(&files)).flatten(),
    })
}

/// The state in an object that is of `gun` on `server`.
pub(super) fn decode(spec: &TrustRecordSpec, server: &str, gun: &Gun) -> Result<State, Damage> {
    if spec.server != server || spec.gun != gun.as_str() {
        return Err("it is of another repository");
    }
    let (roots, seen) = essence(spec)?;
    let files = match &spec.files {
        Some(packed) => unpack_files(packed, &seen)?,
        None => BTreeMap::new(),
    };
    Ok(State {
        roots,
        seen,
        files,
        verified_at: spec.verified_at.as_ref().map(|Time(time)| *time),
    })
}

/// Roots, and what was seen: what must never be forgotten.
pub(super) fn essence(spec: &TrustRecordSpec) -> Result<(Vec<Bytes>, BTreeMap<Role, Seen>), Damage> {
    let roots = unpack(&spec.root.chain, CHAIN, CHAIN_UNPACKED).ok_or("its roots cannot be unpacked")?;
    let mut newest = 0;
    for file in &roots {
        let version = root_version(file).map_err(|_| "a root of it cannot be read")?;
        if version <= newest {
            return Err("its roots are out of order");
        }
        newest = version;
    }
    let stated = spec.root.sha256.as_str();
    let known = roots
        .last()
        .is_some_and(|file| hex::encode(sha256(file)) == stated);
    if !known || number(newest) != spec.root.version {
        return Err("its root is another than it says");
    }
    if spec.delegations.len() > DELEGATIONS {
        return Err("it has too many delegations");
    }
    let base = [
        (Role::Timestamp, &spec.timestamp),
        (Role::Snapshot, &spec.snapshot),
        (Role::Targets, &spec.targets),
    ];
    let mut all = BTreeMap::new();
    for (role, file) in base
        .into_iter()
        .filter_map(|(role, file)| Some((role, file.as_ref()?)))
    {
        all.insert(role, seen(file)?);
    }
    for (name, file) in &spec.delegations {
        let name = name.parse().map_err(|_| "it names a delegation that cannot be")?;
        all.insert(Role::Delegation(name), seen(file)?);
    }
    Ok((roots, all))
}

/// The files of `state` that an object has room for: those that are still what was seen, all or none.
pub(super) fn kept(state: &State) -> BTreeMap<Role, Bytes> {
    let current = |role: &Role, file: &Bytes| {
        let seen = state.seen.get(role);
        seen.is_some_and(|seen| seen.sha256 == sha256(file))
    };
    let files: BTreeMap<_, _> = state
        .files
        .iter()
        .filter(|(role, file)| current(role, file))
        .map(|(role, file)| (role.clone(), file.clone()))
        .collect();
    if pack_files(&files).is_some() {
        files
    } else {
        BTreeMap::new()
    }
}

fn seen_file(seen: &Seen) -> SeenFile {
    SeenFile {
        version: number(seen.version),
        sha256: hex::encode(seen.sha256),
    }
}

fn seen(file: &SeenFile) -> Result<Seen, Damage> {
    let version = u64::try_from(file.version).map_err(|_| "a version of it is no version")?;
    let mut sha256 = [0; 32];
    hex::decode_to_slice(&file.sha256, &mut sha256).map_err(|_| "a hash of it is no SHA-256")?;
    Ok(Seen { version, sha256 })
}

/// Versions are at most 2^53 − 1: `tuf::canonical` reads no larger number.
fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

/// As an object writes times, rounded to the safe side: older.
fn whole_seconds(time: Timestamp) -> Timestamp {
    let floor = time.as_nanosecond().div_euclid(1_000_000_000);
    i64::try_from(floor)
        .ok()
        .and_then(|second| Timestamp::from_second(second).ok())
        .unwrap_or(time)
}

fn pack_files(files: &BTreeMap<Role, Bytes>) -> Option<String> {
    let parts: Vec<_> = files
        .iter()
        .flat_map(|(role, file)| [Bytes::copy_from_slice(role.as_str().as_bytes()), file.clone()])
        .collect();
    pack(&parts, FILES_UNPACKED, FILES)
}

fn unpack_files(packed: &str, seen: &BTreeMap<Role, Seen>) -> Result<BTreeMap<Role, Bytes>, Damage> {
    let parts = unpack(packed, FILES, FILES_UNPACKED).ok_or("its files cannot be unpacked")?;
    let mut files = BTreeMap::new();
    for pair in parts.chunks(2) {
        let [name, file] = pair else {
            return Err("a file of it has no content");
        };
        let role = str::from_utf8(name)
            .ok()
            .and_then(|name| name.parse::<Role>().ok());
        let role = role.ok_or("a file of it has no role")?;
        let known = seen.get(&role).is_some_and(|seen| seen.sha256 == sha256(file));
        if !known || files.insert(role, file.clone()).is_some() {
            return Err("a file of it is not what was seen");
        }
    }
    Ok(files)
}

/// `parts`, each after its length, compressed, in base64; `None` if they are more than `unpacked` bytes before or
/// `packed` bytes after compression.
fn pack(parts: &[Bytes], unpacked: usize, packed: usize) -> Option<String> {
    let mut plain = Vec::new();
    for part in parts {
        plain.put_u32(u32::try_from(part.len()).ok()?);
        plain.extend_from_slice(part);
        if plain.len() > unpacked {
            return None;
        }
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    encoder.write_all(&plain).ok()?;
    let compressed = encoder.finish().ok()?;
    (compressed.len() <= packed).then(|| BASE64_STANDARD.encode(compressed))
}

/// What [`pack`] made, within the same bounds.
fn unpack(text: &str, packed: usize, unpacked: usize) -> Option<Vec<Bytes>> {
    if text.len() > packed.div_ceil(3) * 4 {
        return None;
    }
    let compressed = BASE64_STANDARD.decode(text).ok()?;
    let limit = u64::try_from(unpacked).ok()?;
    let mut decoder = ZlibDecoder::new(compressed.as_slice()).take(limit + 1);
    let mut plain = Vec::new();
    decoder.read_to_end(&mut plain).ok()?;
    let whole = usize::try_from(decoder.get_ref().total_in()) == Ok(compressed.len());
    if !whole || plain.len() > unpacked {
        return None;
    }
    let mut plain = Bytes::from(plain);
    let mut parts = Vec::new();
    while plain.has_remaining() {
        let length = plain.try_get_u32().ok()?;
        let length = usize::try_from(length).ok()?;
        if length > plain.remaining() {
            return None;
        }
        parts.push(plain.split_to(length));
    }
    Some(parts)
}

#[cfg(test)]
pub(super) mod tests;
