//! The tables, and how a connection is set up.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::BUSY;

/// Says in the file that it is ours: `CsTr`.
const APPLICATION: i64 = 0x4373_5472;
/// The journal is cut back to this after a large write, so that one upload of 16 MiB does not keep its room for ever.
const JOURNAL: i64 = 8 * 1024 * 1024;

/// What brings a database from each layout to the next. Its layout, in `user_version`, is how many it has seen; the
/// ones that were released are never changed.
const STEPS: &[&str] = &["
-- The state of a name, kept after a deletion so that its generations never repeat.
CREATE TABLE repository (
    gun TEXT PRIMARY KEY, generation INTEGER NOT NULL, live INTEGER NOT NULL, renew_at INTEGER
) WITHOUT ROWID;
CREATE INDEX repository_due ON repository (renew_at) WHERE renew_at IS NOT NULL;

CREATE TABLE file (
    gun TEXT NOT NULL REFERENCES repository, role TEXT NOT NULL, version INTEGER NOT NULL,
    sha256 BLOB NOT NULL, stored_at INTEGER NOT NULL, bytes BLOB NOT NULL,
    UNIQUE (gun, role, version)
);
CREATE INDEX file_by_hash ON file (gun, role, sha256);

-- `used` is the highest version that ever was, `current` the one that is now, if any.
CREATE TABLE role (
    gun TEXT NOT NULL REFERENCES repository, role TEXT NOT NULL, used INTEGER NOT NULL, current INTEGER,
    PRIMARY KEY (gun, role), FOREIGN KEY (gun, role, current) REFERENCES file (gun, role, version)
) WITHOUT ROWID;

-- Keys are there before their repository, and after it.
CREATE TABLE key (
    position INTEGER PRIMARY KEY, gun TEXT NOT NULL, role TEXT NOT NULL, id TEXT NOT NULL, sealed BLOB NOT NULL,
    used INTEGER NOT NULL, created_at INTEGER NOT NULL,
    UNIQUE (gun, role, id)
);

-- Without a version it is a deletion. AUTOINCREMENT: no id is given twice.
CREATE TABLE change (
    id INTEGER PRIMARY KEY AUTOINCREMENT, created_at INTEGER NOT NULL, gun TEXT NOT NULL,
    version INTEGER, sha256 BLOB
);
CREATE INDEX change_by_gun ON change (gun, id);

CREATE TABLE data_key (only INTEGER PRIMARY KEY CHECK (only = 1), sealed BLOB NOT NULL);

-- How many writes there were, for the counter beside the database.
CREATE TABLE written (only INTEGER PRIMARY KEY CHECK (only = 1), commits INTEGER NOT NULL);
INSERT INTO written VALUES (1, 0);
"];

/// Why a database is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    /// It does not open.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// Somebody else's.
    #[error("it is a database of another program")]
    Foreign,
    /// Its tables may mean something that we do not know of.
    #[error("it was written by a newer version of this program (layout {found}, this one knows {known})")]
    Newer {
        /// Its layout.
        found: usize,
        /// Ours.
        known: usize,
    },
}

/// The connection that writes; it brings the tables up to date.
pub(super) fn writer(path: &Path) -> Result<Connection, Unfit> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    migrate(&mut connection, STEPS)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "journal_size_limit", JOURNAL)?;
    // With this journal only FULL syncs every commit; NORMAL may lose the newest ones when power fails.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

/// A connection that reads.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Takes `steps` that the database has not seen, all or none. One that is not fit is left as it is.
fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<(), Unfit> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = layout(&transaction)?;
    let missing = steps.get(found..).ok_or(Unfit::Newer {
        found,
        known: steps.len(),
    })?;
    if missing.is_empty() {
        return Ok(());
    }
    for step in missing {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(
        None,
        "user_version",
        i64::try_from(steps.len()).unwrap_or(i64::MAX),
    )?;
    Ok(transaction.commit()?)
}

/// How many steps the database has seen; none if it is empty.
fn layout(connection: &Connection) -> Result<usize, Unfit> {
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let layout: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, usize::try_from(layout)) {
        (APPLICATION, Ok(layout)) => Ok(layout),
        (0, Ok(0)) if tables == 0 => Ok(0),
        _ => Err(Unfit::Foreign),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(connection: &Connection) -> Vec<String> {
        let mut query = connection
            .prepare("SELECT name FROM pragma_table_info('a') ORDER BY cid")
            .unwrap();
        let names = query.query_map([], |row| row.get(0)).unwrap();
        names.collect::<rusqlite::Result<_>>().unwrap()
    }

    #[test]
    fn a_database_takes_the_steps_it_has_not_seen_and_no_other() {
        let mut connection = Connection::open_in_memory().unwrap();
        let steps = [
            "CREATE TABLE a (one)",
            "ALTER TABLE a ADD two",
            "ALTER TABLE a ADD three",
        ];
        migrate(&mut connection, &steps[..1]).unwrap();
        assert_eq!(columns(&connection), ["one"]);
        for _ in 0..2 {
            migrate(&mut connection, &steps).unwrap();
            assert_eq!(columns(&connection), ["one", "two", "three"]);
        }
    }

    #[test]
    fn a_step_that_fails_leaves_the_layout_before_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &["CREATE TABLE a (one)"]).unwrap();
        let steps = [
            "CREATE TABLE a (one)",
            "ALTER TABLE a ADD two",
            "ALTER TABLE b ADD two",
        ];
        migrate(&mut connection, &steps).unwrap_err();
        assert_eq!(columns(&connection), ["one"]);
        assert_eq!(layout(&connection).unwrap(), 1);
    }

    #[test]
    fn a_database_of_a_newer_program_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(
            &mut connection,
            &["CREATE TABLE a (one)", "ALTER TABLE a ADD two"],
        )
        .unwrap();
        let refused = migrate(&mut connection, &["CREATE TABLE a (one)"]).unwrap_err();
        assert!(
            matches!(refused, Unfit::Newer { found: 2, known: 1 }),
            "{refused}"
        );
    }

    #[test]
    fn a_database_of_another_program_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE a (one)").unwrap();
        let refused = migrate(&mut connection, STEPS).unwrap_err();
        assert!(matches!(refused, Unfit::Foreign), "{refused}");
        assert_eq!(
            connection.pragma_query_value(None, "application_id", |row| row.get(0)),
            Ok(0)
        );
    }
}
