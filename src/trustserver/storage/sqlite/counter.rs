//! A count of writes outside the database, which shows when an older database was put in its place (§8.6.6).
//!
//! It is written after the commits that it counts, about once a second and at the end, so it may be behind the
//! database but never ahead of it: a crash in between is no false alarm. A database that lost less than the last
//! second before a crash cannot be told.

use std::error::Error;
use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::warn;

use super::PRIVATE_FILE;

/// The file beside the database.
const FILE: &str = "trust.counter";
/// The longest number and a line end.
const LENGTH: u64 = 21;
/// A sync of the disk now and then, not one more for every commit.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);

/// How a database is behind what was written before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Regression {
    /// It has seen fewer writes than the server made.
    #[error(
        "the database has seen {database} writes, the server made {counter}: an older one was put in its place"
    )]
    Older {
        /// Writes that it has seen.
        database: u64,
        /// Writes that the server made, at least.
        counter: u64,
    },
    /// The count beside it is gone or cannot be read, so that nobody knows.
    #[error("the count of writes beside the database is lost: nobody can tell whether it is the newest one")]
    Unknown,
}

#[derive(Debug)]
pub(super) struct Counter {
    path: PathBuf,
    /// What the file says.
    written: u64,
    /// What the database says.
    commits: u64,
    written_at: Option<Instant>,
    /// An older database does not count, so that it is not taken for the newest once it has seen as many writes.
    frozen: bool,
}

impl Counter {
    /// The counter beside the database of which `commits` says how many writes it has seen.
    pub(super) fn open(
        dir: &Path,
        commits: impl FnOnce() -> rusqlite::Result<u64>,
    ) -> Result<(Self, Option<Regression>), Box<dyn Error + Send + Sync>> {
        let path = dir.join(FILE);
        // First the file: another process may be writing, and the database is never behind.
        let first_read = read(&path)?;
        let commits = commits()?;
        // Whoever makes a database writes the file before anything is written to the database; which another process
        // may have done between the two looks.
        let counter = if first_read.is_none() && commits > 0 {
            read(&path)?
        } else {
            first_read
        };
        let regression = match counter {
            Some(counter) if counter > commits && first_read.is_some() => Some(Regression::Older {
                database: commits,
                counter,
            }),
            None if commits > 0 => Some(Regression::Unknown),
            Some(_) | None => None,
        };
        let written = match regression {
            Some(Regression::Older { counter, .. }) => counter,
            Some(Regression::Unknown) | None => commits,
        };
        if regression.is_none() {
            write(&path, commits)?;
        }
        let counter = Self {
            path,
            written,
            commits,
            written_at: None,
            frozen: regression.is_some(),
        };
        Ok((counter, regression))
    }

    /// Whether writes are counted.
    pub(super) const fn counts(&self) -> bool {
        !self.frozen
    }

    /// The database has seen `commits` writes, durably.
    pub(super) fn note(&mut self, commits: u64) {
        self.commits = commits;
        self.settle();
    }

    /// Writes the file if it is time to.
    pub(super) fn settle(&mut self) {
        if self.written_at.is_none_or(|at| at.elapsed() >= BETWEEN_WRITES) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.frozen || self.commits <= self.written {
            return;
        }
        // What was committed is committed: a counter that stays behind costs only that a loss may go unnoticed.
        match write(&self.path, self.commits) {
            Ok(()) => self.written = self.commits,
            Err(error) => {
                warn!(path = %self.path.display(), %error, "the count of writes beside the database cannot be written");
            }
        }
        self.written_at = Some(Instant::now());
    }

    /// What the database has to be ahead of, to be the newest.
    pub(super) const fn accepted(&self) -> u64 {
        self.written
    }

    /// Counts again, from `commits`.
    pub(super) fn accept(&mut self, commits: u64) -> io::Result<()> {
        write(&self.path, commits)?;
        (self.written, self.commits, self.frozen) = (commits, commits, false);
        Ok(())
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.flush();
    }
}

/// What the file says, if it says anything.
fn read(path: &Path) -> io::Result<Option<u64>> {
    let mut text = Vec::new();
    match fs::File::open(path) {
        Ok(file) => file.take(LENGTH).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = str::from_utf8(&text).ok();
    Ok(text.and_then(|text| text.trim_ascii_end().parse().ok()))
}

/// Puts `count` in the place of what the file said, on the disk, whole or not at all.
fn write(path: &Path, count: u64) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(PRIVATE_FILE))
        .tempfile_in(dir)?;
    writeln!(file, "{count}")?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(dir)?.sync_all()
}
