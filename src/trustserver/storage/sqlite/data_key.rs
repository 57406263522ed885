//! The sealed data key: one, or none yet.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::row::Result;
use super::writer::Outcome::{self, Changed, Same};

pub(super) fn get(transaction: &Transaction<'_>) -> Result<Option<Vec<u8>>> {
    let sql = "SELECT sealed FROM data_key";
    Ok(transaction.query_row(sql, [], |row| row.get(0)).optional()?)
}

pub(super) fn keep(transaction: &Transaction<'_>, old: Option<&[u8]>, new: &[u8]) -> Result<Outcome<bool>> {
    let kept = match old {
        None => transaction.execute("INSERT OR IGNORE INTO data_key VALUES (1, ?)", [new])?,
        Some(old) => transaction.execute(
            "UPDATE data_key SET sealed = ? WHERE sealed = ?",
            params![new, old],
        )?,
    };
    Ok(if kept == 0 { Same(false) } else { Changed(true) })
}
