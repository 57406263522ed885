//! What a dump holds, put in order in a temporary database: a dump may be larger than memory, and its rows come in
//! whatever order they were written.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::str::FromStr as _;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rusqlite::{Connection, OptionalExtension as _, params};
use tempfile::TempDir;

use super::statement::Row;
use super::{DumpError, Table};
use crate::trustserver::interchange::MAX_VERSION;
use crate::trustserver::interchange::archive::is_version_of;
use crate::trustserver::storage::{Event, File};
use crate::tuf::{Limits, Role, sha256};

/// Most rows that are told one by one as left out; the rest is counted.
pub(super) const MAX_TOLD: usize = 1000;
/// Longest GUN, key id or the like that is worth looking at: what the reference's columns hold.
const MAX_TEXT: usize = 255;
/// Most names of passphrases: the signer is given a new one once in a while, and somebody is asked for each.
const MAX_ALIASES: u32 = 100;
/// As much of a value of a database file as is looked at: a targets file of 16 MiB, with some room.
const MAX_VALUE: usize = 20 << 20;
/// Mode of the folder of the temporary database: there are keys in it, if encrypted ones.
const PRIVATE: u32 = 0o700;

/// A row that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// What it is about, as far as that can be told: `gun role version`, or a key id.
    pub what: String,
    /// Why it was left out.
    pub why: &'static str,
}

/// The rows of a dump that can be used.
pub(super) struct Staging {
    database: Connection,
    /// Holds the file of the database, and takes it away.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is there to be dropped"))]
    folder: TempDir,
    pub(super) left_out: Vec<LeftOut>,
    /// How many rows were left out.
    pub(super) left_out_count: u64,
    /// How many of them had been deleted, which is no fault.
    pub(super) deleted_count: u64,
}

/// A version of a role of some repository, without its bytes.
pub(super) struct Listed {
    pub(super) role: Role,
    pub(super) version: u64,
    pub(super) length: u64,
}

/// A key as the reference's signer kept it.
pub(super) struct KeptKey {
    pub(super) algorithm: String,
    pub(super) alias: String,
    pub(super) secret: String,
    pub(super) created_at: Timestamp,
}

const SCHEMA: &str = "
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    CREATE TABLE files (
        gun TEXT NOT NULL, role TEXT NOT NULL, version INTEGER NOT NULL, sha256 BLOB NOT NULL, bytes BLOB NOT NULL,
        stored_at INTEGER NOT NULL, PRIMARY KEY (gun, role, version)
    );
    CREATE INDEX by_hash ON files (gun, role, sha256);
    CREATE TABLE used (
        gun TEXT NOT NULL, role TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (gun, role)
    ) WITHOUT ROWID;
    CREATE TABLE changes (
        gun TEXT NOT NULL, id INTEGER NOT NULL, created_at INTEGER NOT NULL, version INTEGER, sha256 BLOB,
        PRIMARY KEY (gun, id)
    ) WITHOUT ROWID;
    CREATE TABLE keys (
        id TEXT PRIMARY KEY, algorithm TEXT NOT NULL, alias TEXT NOT NULL, secret TEXT NOT NULL,
        created_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    BEGIN;
";

impl Staging {
    pub(super) fn new() -> Result<Self, DumpError> {
        let private = Permissions::from_mode(PRIVATE);
        let folder = tempfile::Builder::new().permissions(private).tempdir()?;
        let database = Connection::open(folder.path().join("staging.sqlite"))?;
        database.execute_batch(SCHEMA)?;
        Ok(Self {
            database,
            folder,
            left_out: Vec::new(),
            left_out_count: 0,
            deleted_count: 0,
        })
    }

    #[cfg(test)]
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Takes a row of the reference's.
    pub(super) fn take(&mut self, table: Table, mut row: Row<'_>) -> Result<(), DumpError> {
        // Rows that were deleted without being taken away.
        let deleted = row.take("deleted_at").is_some();
        self.deleted_count = self.deleted_count.saturating_add(u64::from(deleted));
        let taken = match table {
            Table::Files => self.file(&mut row, deleted),
            Table::Changes => self.change(&mut row),
            Table::Keys => self.key(&mut row, deleted),
        };
        match taken {
            // One row that cannot be read keeps no other out.
            Err(DumpError::Column { column }) => {
                self.leave_out(format!("a row of {}", table.name()), unreadable(column));
                Ok(())
            }
            taken => taken,
        }
    }

    fn file(&mut self, row: &mut Row<'_>, deleted: bool) -> Result<(), DumpError> {
        let (gun, role) = (row.text("gun")?, row.text("role")?);
        let number = row.text("version")?;
        let bytes = row.take("data").ok_or(DumpError::Column { column: "data" })?;
        let stated = row.take("sha256");
        let at = time(row);
        let parsed: Option<Role> = role.parse().ok();
        let version: Option<u64> = number
            .parse()
            .ok()
            .filter(|version| i64::try_from(*version).is_ok());
        let hash = sha256(&bytes);
        let why = match (&parsed, version) {
            _ if deleted => Some("deleted"),
            _ if gun.len() > MAX_TEXT => Some("its name is too long"),
            (None, _) => Some("no role has that name"),
            (_, None) => Some("no version"),
            _ if !matches_stated(stated.as_deref(), &hash) => Some("its bytes are not those of its SHA-256"),
            _ if !fits(&bytes) => Some("too large"),
            (Some(role), Some(version)) if !is_version_of(&bytes, role, version) => {
                Some("its bytes are not this version of this role")
            }
            _ => None,
        };
        if let Some(why) = why {
            if let (false, Some(role), Some(version)) = (deleted, &parsed, version) {
                self.seen(&gun, role, version)?;
            }
            self.leave_out(format!("{gun} {role} {number}"), why);
            return Ok(());
        }
        let stored = self
            .database
            .prepare("INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?, ?, ?)")?
            .execute(params![
                gun,
                role,
                signed(version.unwrap_or_default()),
                hash,
                bytes,
                at.as_microsecond()
            ])?;
        if stored == 0 {
            self.leave_out(format!("{gun} {role} {number}"), "there twice");
        }
        Ok(())
    }

    /// Notes a version that clients may have seen though its file is not to be had: what is signed next has to be above
    /// it. One that no server comes to is part of the damage.
    fn seen(&self, gun: &str, role: &Role, version: u64) -> Result<(), DumpError> {
        if gun.len() <= MAX_TEXT && version <= MAX_VERSION {
            let add = "INSERT INTO used VALUES (?, ?, ?)
                ON CONFLICT (gun, role) DO UPDATE SET version = max(version, excluded.version)";
            let mut add = self.database.prepare(add)?;
            add.execute(params![gun, role.as_str(), signed(version)])?;
        }
        Ok(())
    }

    /// The highest version of each role whose file is not to be had.
    pub(super) fn lost(&self, gun: &str) -> Result<Vec<(Role, u64)>, DumpError> {
        let mut query = self
            .database
            .prepare("SELECT role, version FROM used WHERE gun = ?")?;
        let rows = query.query_map([gun], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        let mut lost = Vec::new();
        for row in rows {
            let (role, version) = row?;
            lost.push((role.parse().map_err(|_| DumpError::Value)?, unsigned(version)));
        }
        Ok(lost)
    }

    fn change(&mut self, row: &mut Row<'_>) -> Result<(), DumpError> {
        let (gun, id) = (row.text("gun")?, row.text("id")?);
        let (version, category) = (row.text("version")?, row.text("category")?);
        let hash = row.take("sha256").unwrap_or_default();
        let at = time(row);
        let mut sha256 = [0; 32];
        let readable = hex::decode_to_slice(hash.trim_ascii_end(), &mut sha256).is_ok();
        let id: Option<i64> = id.parse().ok();
        let version: Option<i64> = version.parse().ok();
        let what = match (category.as_str(), id, version, readable) {
            ("update", Some(id), Some(version), true) => Some((id, Some(version), Some(sha256))),
            ("deletion", Some(id), ..) => Some((id, None, None)),
            _ => None,
        };
        let Some((id, version, sha256)) = what.filter(|_| gun.len() <= MAX_TEXT) else {
            self.leave_out(format!("{gun} in the changefeed"), "cannot be read");
            return Ok(());
        };
        self.database
            .prepare("INSERT OR IGNORE INTO changes VALUES (?, ?, ?, ?, ?)")?
            .execute(params![gun, id, at.as_microsecond(), version, sha256])?;
        Ok(())
    }

    fn key(&mut self, row: &mut Row<'_>, deleted: bool) -> Result<(), DumpError> {
        let (id, algorithm) = (row.text("key_id")?, row.text("algorithm")?);
        let (alias, secret) = (row.text("passphrase_alias")?, row.text("private")?);
        let at = time(row);
        if deleted || id.len() > MAX_TEXT || alias.len() > MAX_TEXT {
            self.leave_out(
                format!("key {id}"),
                if deleted {
                    "deleted"
                } else {
                    "its name is too long"
                },
            );
            return Ok(());
        }
        self.database
            .prepare("INSERT OR IGNORE INTO keys VALUES (?, ?, ?, ?, ?)")?
            .execute(params![id, algorithm, alias, secret, at.as_microsecond()])?;
        Ok(())
    }

    fn leave_out(&mut self, what: String, why: &'static str) {
        self.left_out_count = self.left_out_count.saturating_add(1);
        if self.left_out.len() < MAX_TOLD {
            self.left_out.push(LeftOut { what, why });
        }
    }

    /// The names of the repositories there are, in their order.
    pub(super) fn guns(&self) -> Result<Vec<String>, DumpError> {
        let mut query = self
            .database
            .prepare("SELECT DISTINCT gun FROM files ORDER BY gun")?;
        let guns = query.query_map([], |row| row.get(0))?;
        Ok(guns.collect::<Result<_, _>>()?)
    }

    /// The names of the passphrases of all keys.
    pub(super) fn aliases(&self) -> Result<Vec<String>, DumpError> {
        let mut query = self
            .database
            .prepare("SELECT DISTINCT alias FROM keys ORDER BY alias LIMIT ?")?;
        let aliases = query.query_map([MAX_ALIASES], |row| row.get(0))?;
        Ok(aliases.collect::<Result<_, _>>()?)
    }

    /// Every version of every role, the newest first.
    pub(super) fn versions(&self, gun: &str) -> Result<Vec<Listed>, DumpError> {
        let mut query = self.database.prepare(
            "SELECT role, version, length(bytes) FROM files WHERE gun = ? ORDER BY stored_at DESC, rowid DESC",
        )?;
        let rows = query.query_map([gun], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?))
        })?;
        let mut listed = Vec::new();
        for row in rows {
            let (role, version, length) = row?;
            let role = role.parse().map_err(|_| DumpError::Value)?;
            listed.push(Listed {
                role,
                version: unsigned(version),
                length: unsigned(length),
            });
        }
        Ok(listed)
    }

    /// A version of a role.
    pub(super) fn file_at(&self, gun: &str, role: &Role, version: u64) -> Result<Option<File>, DumpError> {
        let query =
            "SELECT version, sha256, bytes, stored_at FROM files WHERE gun = ? AND role = ? AND version = ?";
        let mut query = self.database.prepare(query)?;
        let row = query.query_row(params![gun, role.as_str(), signed(version)], read_file);
        Ok(row.optional()?)
    }

    /// The newest version of a role.
    pub(super) fn newest(&self, gun: &str, role: &Role) -> Result<Option<File>, DumpError> {
        let query = "SELECT version, sha256, bytes, stored_at FROM files WHERE gun = ? AND role = ?
            ORDER BY version DESC LIMIT 1";
        let mut query = self.database.prepare(query)?;
        Ok(query
            .query_row(params![gun, role.as_str()], read_file)
            .optional()?)
    }

    /// The file of a role that has this hash; the newest version, should there be several.
    pub(super) fn hashed(&self, gun: &str, role: &Role, hash: &[u8; 32]) -> Result<Option<File>, DumpError> {
        let query =
            "SELECT version, sha256, bytes, stored_at FROM files WHERE gun = ? AND role = ? AND sha256 = ?
            ORDER BY version DESC LIMIT 1";
        let mut query = self.database.prepare(query)?;
        Ok(query
            .query_row(params![gun, role.as_str(), hash], read_file)
            .optional()?)
    }

    /// What the changefeed tells of a repository, the newest `most` entries of it, the oldest first.
    pub(super) fn changes(&self, gun: &str, most: usize) -> Result<Vec<(Timestamp, Event)>, DumpError> {
        let mut query = self.database.prepare(
            "SELECT created_at, version, sha256 FROM changes WHERE gun = ? ORDER BY id DESC LIMIT ?",
        )?;
        let rows = query.query_map(params![gun, i64::try_from(most).unwrap_or(i64::MAX)], |row| {
            Ok((
                instant(row.get(0)?),
                row.get::<_, Option<i64>>(1)?,
                row.get::<_, Option<[u8; 32]>>(2)?,
            ))
        })?;
        let mut changes = Vec::new();
        for row in rows {
            changes.push(match row? {
                (at, Some(version), Some(sha256)) => {
                    let version = unsigned(version);
                    (at, Event::Update { version, sha256 })
                }
                (at, ..) => (at, Event::Deletion),
            });
        }
        changes.reverse();
        Ok(changes)
    }

    /// A key by its id.
    pub(super) fn kept_key(&self, id: &str) -> Result<Option<KeptKey>, DumpError> {
        let mut query = self
            .database
            .prepare("SELECT algorithm, alias, secret, created_at FROM keys WHERE id = ?")?;
        let row = query.query_row([id], |row| {
            Ok(KeptKey {
                algorithm: row.get(0)?,
                alias: row.get(1)?,
                secret: row.get(2)?,
                created_at: instant(row.get(3)?),
            })
        });
        Ok(row.optional()?)
    }
}

/// Feeds the rows of a database file of the reference to `staging`.
pub(super) fn read_sqlite(path: &Path, staging: &mut Staging) -> Result<(), DumpError> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags)?;
    // Whoever made the file also wrote its schema, which may compute.
    database.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")?;
    for table in [Table::Files, Table::Changes, Table::Keys] {
        let exists = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?";
        if database
            .query_row(exists, [table.name()], |_| Ok(()))
            .optional()?
            .is_none()
        {
            continue;
        }
        let mut query = database.prepare(&format!("SELECT * FROM {} ORDER BY id", table.name()))?;
        let columns: Vec<String> = query.column_names().map(str::to_owned).collect();
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let values = (0..columns.len()).map(|at| Ok(plain(row.get_ref(at)?)));
            let values = values.collect::<Result<_, rusqlite::Error>>()?;
            staging.take(table, Row::new(&columns, values))?;
        }
    }
    Ok(())
}

/// A value as a dump in SQL would have it.
fn plain(value: rusqlite::types::ValueRef<'_>) -> Option<Vec<u8>> {
    use rusqlite::types::ValueRef;
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string().into_bytes()),
        ValueRef::Real(number) => Some(number.to_string().into_bytes()),
        // What is longer is none of ours, and is left out for that.
        ValueRef::Text(text) | ValueRef::Blob(text) => Some(text.iter().take(MAX_VALUE).copied().collect()),
    }
}

fn read_file(row: &rusqlite::Row<'_>) -> rusqlite::Result<File> {
    Ok(File {
        version: unsigned(row.get(0)?),
        sha256: row.get(1)?,
        bytes: Bytes::from(row.get::<_, Vec<u8>>(2)?),
        stored_at: instant(row.get(3)?),
    })
}

/// `created_at` of a row. The three databases write it in three ways, all of them in UTC. Where there is none, or zeros
/// as `MySQL` writes, long ago will do: it tells when the server is to sign again, and stands in the changefeed.
fn time(row: &mut Row<'_>) -> Timestamp {
    let text = row
        .take("created_at")
        .and_then(|text| String::from_utf8(text).ok());
    text.as_deref()
        .and_then(instant_of)
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn instant_of(text: &str) -> Option<Timestamp> {
    let with_offset = Timestamp::from_str(text).ok();
    with_offset.or_else(|| {
        DateTime::from_str(text)
            .ok()?
            .to_zoned(TimeZone::UTC)
            .ok()
            .map(|at| at.timestamp())
    })
}

fn unreadable(column: &str) -> &'static str {
    match column {
        "gun" => "its gun is missing or cannot be read",
        "role" => "its role is missing or cannot be read",
        "version" => "its version is missing or cannot be read",
        "data" => "its data are missing",
        _ => "a column is missing or cannot be read",
    }
}

fn matches_stated(stated: Option<&[u8]>, hash: &[u8; 32]) -> bool {
    // Rows from before the column was added have none.
    let stated = stated
        .map(<[u8]>::trim_ascii_end)
        .filter(|stated| !stated.is_empty());
    stated.is_none_or(|stated| stated.eq_ignore_ascii_case(hex::encode(hash).as_bytes()))
}

fn fits(bytes: &[u8]) -> bool {
    u64::try_from(bytes.len()).is_ok_and(|length| length <= Limits::default().targets_bytes)
}

fn instant(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_all_three_databases_are_read_as_utc() {
        let want: Timestamp = "2026-11-22T19:51:15.620227Z".parse().unwrap();
        for text in [
            "2026-11-22 19:51:15.620227",
            "2026-11-22 19:51:15.620227+00:00",
            "2026-11-22 19:51:15.620227+00",
            "2026-11-22T19:51:15.620227Z",
        ] {
            assert_eq!(instant_of(text), Some(want), "{text}");
        }
        assert_eq!(
            instant_of("2026-11-22 19:51:51"),
            "2026-11-22T19:51:51Z".parse().ok()
        );
        assert_eq!(instant_of("0000-00-00 00:00:00"), None);
        assert_eq!(instant_of("yesterday"), None);
    }
}
