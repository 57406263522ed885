//! The changefeed (§2.7).

use jiff::Timestamp;
use rusqlite::{Row, Transaction, params};

use super::query::all;
use super::row::{Result, at_most, get_gun, get_hash, get_number, get_time, is_set, number};
use crate::reference::Gun;
use crate::trustserver::storage::{ChangeRecord, Event, Page};

const WHAT: &str = "record of the changefeed";

pub(super) fn append(transaction: &Transaction<'_>, gun: &Gun, at: Timestamp, event: &Event) -> Result<()> {
    let (version, sha256) = match event {
        Event::Update { version, sha256 } => (Some(number(*version)?), Some(sha256)),
        Event::Deletion => (None, None),
    };
    let sql = "INSERT INTO change (created_at, gun, version, sha256) VALUES (?, ?, ?, ?)";
    let at = at.as_microsecond();
    transaction
        .prepare(sql)?
        .execute(params![at, gun.as_str(), version, sha256])?;
    Ok(())
}

pub(super) fn page(
    transaction: &Transaction<'_>,
    gun: Option<&Gun>,
    page: Page,
) -> Result<Vec<ChangeRecord>> {
    let (range, from, most) = match page {
        Page::After(id, most) => ("id > ?1 ORDER BY id", at_most(id), most),
        Page::Before(id, most) => ("id < ?1 ORDER BY id DESC", at_most(id), most),
        Page::Newest(most) => ("id <= ?1 ORDER BY id DESC", i64::MAX, most),
    };
    let whose = if gun.is_some() { "gun = ?3" } else { "?3 IS NULL" };
    let sql = format!("SELECT * FROM change WHERE {whose} AND {range} LIMIT ?2");
    let params = params![from, at_most(most), gun.map(Gun::as_str)];
    let mut records = all(transaction, &sql, params, record)?;
    if !matches!(page, Page::After(..)) {
        records.reverse();
    }
    Ok(records)
}

fn record(row: &Row<'_>) -> Result<ChangeRecord> {
    let event = if is_set(row, "version")? {
        Event::Update {
            version: get_number(row, "version", WHAT)?,
            sha256: get_hash(row, "sha256", WHAT)?,
        }
    } else {
        Event::Deletion
    };
    Ok(ChangeRecord {
        id: get_number(row, "id", WHAT)?,
        created_at: get_time(row, "created_at", WHAT)?,
        gun: get_gun(row)?,
        event,
    })
}
