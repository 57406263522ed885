//! Whole repositories in and out: `server export`, `server import`, `server import-notary`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal as _, Read, stdin, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use secrecy::SecretString;

use super::super::passphrase::{Asked, Passphrases};
use super::super::{Status, complain, create, print};
use super::database_flags::{DatabaseFlags, Place};
use crate::clock::now;
use crate::reference::Gun;
use crate::telemetry::chain;
use crate::trustserver::interchange::dump::{Dump, Report};
use crate::trustserver::interchange::{
    Archive, Imported, InterchangeError, Over, Parcel, archive, export, import,
};
use crate::trustserver::seal::Sealer;
use crate::trustserver::storage::Storage;
use crate::trustserver::storage::postgres::Postgres;
use crate::trustserver::storage::sqlite::Sqlite;
use crate::tuf::Role;

/// The variable with the passphrase of archives.
const ARCHIVE_PASSPHRASE: &str = "COUNTERSIGN_ARCHIVE_PASSPHRASE";
/// What the reference's signer has before the names of its passphrases.
const SIGNER_VARIABLE: &str = "NOTARY_SIGNER_";

/// Commands that move repositories. They may run while the server does.
#[derive(Debug, Subcommand)]
pub(super) enum Transfer {
    /// Writes a repository into an archive: every version of every file, and the server's keys of it, encrypted
    Export(Box<Export>),
    /// Reads archives that export wrote, and stores the repositories in them, if they verify
    Import(Box<Import>),
    /// Takes over the repositories of a Notary server and signer, from dumps of their databases
    ImportNotary(Box<ImportNotary>),
}

/// Arguments of `server export`.
#[derive(Args, Debug)]
pub(super) struct Export {
    /// The repository
    gun: Gun,
    /// The file to make [default: standard output]
    #[arg(long, short = 'o', value_name = "FILE", env = "COUNTERSIGN_ARCHIVE")]
    archive: Option<PathBuf>,
    /// Leave the server's keys out
    #[arg(long, env = "COUNTERSIGN_WITHOUT_KEYS")]
    without_keys: bool,
    #[command(flatten)]
    secrets: Secrets,
    #[command(flatten)]
    database: DatabaseFlags,
}

/// Arguments of `server import`.
#[derive(Args, Debug)]
pub(super) struct Import {
    /// Archives, or - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Leave the server's keys out: such repositories are served until their timestamps expire
    #[arg(long, env = "COUNTERSIGN_WITHOUT_KEYS")]
    without_keys: bool,
    #[command(flatten)]
    over: OverFlags,
    #[command(flatten)]
    secrets: Secrets,
    #[command(flatten)]
    database: DatabaseFlags,
}

/// Arguments of `server import-notary`.
#[derive(Args, Debug)]
pub(super) struct ImportNotary {
    #[expect(clippy::doc_markdown, reason = "this is shown on the terminal")]
    /// Dump of the server's database: of mysqldump, of pg_dump in plain form, or a SQLite file
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_SERVER_DUMP")]
    server_dump: PathBuf,
    /// Dump of the signer's database; without it, repositories are served until their timestamps expire
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_SIGNER_DUMP")]
    signer_dump: Option<PathBuf>,
    #[command(flatten)]
    over: OverFlags,
    #[command(flatten)]
    secrets: Secrets,
    #[command(flatten)]
    database: DatabaseFlags,
}

/// What may be written over.
#[derive(Args, Debug)]
struct OverFlags {
    /// Replace repositories that are there, if no file goes back to an older version by it
    #[arg(long, env = "COUNTERSIGN_REPLACE")]
    replace: bool,
    /// Let files go back to older versions: clients that saw newer ones will refuse them
    #[arg(long, requires = "replace", env = "COUNTERSIGN_ALLOW_ROLLBACK")]
    allow_rollback: bool,
}

/// Where passphrases come from.
#[derive(Args, Debug)]
struct Secrets {
    /// Open file descriptor with passphrases, a line each: that of the archive, or those of the signer in order of name
    #[arg(long, value_name = "N", env = "COUNTERSIGN_PASSPHRASE_FD")]
    passphrase_fd: Option<u32>,
}

impl OverFlags {
    const fn over(&self) -> Over {
        match (self.replace, self.allow_rollback) {
            (false, _) => Over::Nothing,
            (true, false) => Over::Older,
            (true, true) => Over::Anything,
        }
    }
}

impl Transfer {
    /// Opens the database, and does what is asked.
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            match self.database().place()? {
                Place::Folder(folder) => self.with(&Sqlite::open(&folder).await?).await,
                Place::Url { url, options } => self.with(&Postgres::open(&url, options).await?).await,
            }
        })
    }

    const fn database(&self) -> &DatabaseFlags {
        match self {
            Self::Export(args) => &args.database,
            Self::Import(args) => &args.database,
            Self::ImportNotary(args) => &args.database,
        }
    }

    async fn with<S: Storage>(&self, storage: &S) -> anyhow::Result<Status> {
        let sealed_before = storage.data_key().await?.is_some();
        let sealer = Sealer::open(storage, &self.database().operator_key(sealed_before)?).await?;
        match self {
            Self::Export(args) => args.run(storage, &sealer).await,
            Self::Import(args) => args.run(storage, &sealer).await,
            Self::ImportNotary(args) => args.run(storage, &sealer).await,
        }
    }
}

impl Export {
    async fn run<S: Storage>(&self, storage: &S, sealer: &Sealer) -> anyhow::Result<Status> {
        if self.archive.is_none() && stdout().is_terminal() {
            bail!("an archive is nothing for a terminal: name a file with -o");
        }
        let parcel = match export(storage, sealer, &self.gun).await {
            Err(error) if error.is_refusal() => {
                complain(&format!("error: {}", chain(&error)));
                return Ok(Status::Denied);
            }
            exported => exported?,
        };
        let passphrase = if self.without_keys || parcel.keys.is_empty() {
            None
        } else {
            let mut passphrases = Passphrases::new(self.secrets.passphrase_fd)?;
            Some(passphrases.named("the archive", ARCHIVE_PASSPHRASE, Asked::Twice)?)
        };
        let written = match &self.archive {
            Some(path) => to_file(&parcel, passphrase.as_ref(), path),
            None => archive::write(&parcel, passphrase.as_ref(), now(), stdout().lock())
                .map(drop)
                .map_err(anyhow::Error::from),
        };
        written?;
        let keys = passphrase.map_or(0, |_| parcel.keys.len());
        complain(&format!(
            "{}: {} files, {keys} keys",
            self.gun,
            parcel.files.len()
        ));
        Ok(Status::Success)
    }
}

impl Import {
    async fn run<S: Storage>(&self, storage: &S, sealer: &Sealer) -> anyhow::Result<Status> {
        let mut passphrases = Passphrases::new(self.secrets.passphrase_fd)?;
        let mut status = Status::Success;
        for path in &self.files {
            if let Err(error) = self.one(storage, sealer, path, &mut passphrases).await {
                complain(&format!("error: {}: {error:#}", path.display()));
                status = worse(status, &error);
            }
        }
        Ok(status)
    }

    async fn one<S: Storage>(
        &self,
        storage: &S,
        sealer: &Sealer,
        path: &Path,
        passphrases: &mut Passphrases,
    ) -> anyhow::Result<()> {
        let from: Box<dyn Read> = if path == Path::new("-") {
            Box::new(stdin().lock())
        } else {
            let file = File::open(path).context("cannot be read")?;
            Box::new(std::io::BufReader::new(file))
        };
        let archive = Archive::read(from)?;
        let passphrase = if archive.has_keys() && !self.without_keys {
            let what = format!("the archive of {}", archive.gun());
            Some(passphrases.named(&what, ARCHIVE_PASSPHRASE, Asked::Once)?)
        } else {
            None
        };
        let parcel = archive.open(passphrase.as_ref())?;
        tell(&import(storage, sealer, &parcel, self.over.over(), now()).await?)
    }
}

impl ImportNotary {
    async fn run<S: Storage>(&self, storage: &S, sealer: &Sealer) -> anyhow::Result<Status> {
        let dump = Dump::read(&self.server_dump, self.signer_dump.as_deref())?;
        let passphrases = self.passphrases(&dump)?;
        let report = dump
            .import(storage, sealer, &passphrases, self.over.over(), now())
            .await?;
        summary(&report)?;
        Ok(if report.is_complete() {
            Status::Success
        } else {
            Status::Denied
        })
    }

    /// The passphrase of each alias, from where the reference's signer has it, or from where ours come from. Keys whose
    /// passphrase nobody has are left out: their repositories come in without them.
    fn passphrases(&self, dump: &Dump) -> anyhow::Result<BTreeMap<String, SecretString>> {
        let mut passphrases = Passphrases::new(self.secrets.passphrase_fd)?;
        let mut known = BTreeMap::new();
        for alias in dump.aliases()? {
            let variable = format!("{SIGNER_VARIABLE}{}", alias.to_uppercase());
            // Whoever made the dump chose the name, and this is shown on a terminal.
            let what = format!("the signer's keys under {alias:?}");
            match passphrases.named(&what, &variable, Asked::Once) {
                Ok(passphrase) => drop(known.insert(alias, passphrase)),
                Err(error) => complain(&format!("warning: {what} are left out: {error:#}")),
            }
        }
        Ok(known)
    }
}

/// What an archive that did not come in makes of the status of all: 1 if it was refused, 2 if it could not be looked at.
fn worse(status: Status, error: &anyhow::Error) -> Status {
    let refused = error
        .downcast_ref::<InterchangeError>()
        .is_some_and(InterchangeError::is_refusal);
    match status {
        Status::Success | Status::Denied if refused => Status::Denied,
        Status::Success | Status::Denied | Status::Usage | Status::Unavailable => Status::Usage,
    }
}

/// Writes the file whole, or leaves none behind.
fn to_file(parcel: &Parcel, passphrase: Option<&SecretString>, path: &Path) -> anyhow::Result<()> {
    // There are keys in it.
    let file = create(path)?;
    let written = archive::write(parcel, passphrase, now(), file).map_err(anyhow::Error::from);
    let synced = written.and_then(|file| Ok(file.sync_all()?));
    if synced.is_err() {
        // What is wrong with the disk is in the error already.
        let _gone = std::fs::remove_file(path);
    }
    synced.with_context(|| path.display().to_string())
}

/// Says what was imported, and what that leaves to do.
fn tell(imported: &Imported) -> anyhow::Result<()> {
    let gun = &imported.gun;
    let versions = imported
        .current
        .iter()
        .map(|(role, version)| format!("{role} {version}"));
    let versions: Vec<_> = versions.collect();
    print(&format!(
        "{gun}: {} files; {}",
        imported.files,
        versions.join(", ")
    ))?;
    for rollback in &imported.rollbacks {
        complain(&format!(
            "warning: {gun}: {} went back from version {} to {}: clients that saw the newer one refuse it",
            rollback.role, rollback.used, rollback.offered
        ));
    }
    if !imported.rollbacks.is_empty() && imported.is_signed_here() {
        complain(&format!(
            "note: {gun}: a running server signs what it holds the keys of anew within seconds, above what was used"
        ));
    }
    if let Some(version) = imported.severed {
        complain(&format!(
            "warning: {gun}: root version {version} that was here is gone: clients that trust it refuse the new ones"
        ));
    }
    for role in &imported.expired {
        complain(&format!("warning: {gun}: its {role} has expired"));
    }
    if !imported.is_signed_here() {
        let until = imported
            .served_until
            .map_or_else(|| "it expires".to_owned(), |at| at.to_string());
        complain(&format!(
            "warning: {gun}: this server has not the key of its timestamp: it is served as it is until {until}, and nobody \
             can publish. Its owner gives it new keys with `countersign trust rotate snapshot --server-managed {gun}`, or, \
             if the publisher has the key of the snapshot, with `countersign trust rotate timestamp {gun}`"
        ));
    } else if !imported.held.contains_key(&Role::Snapshot) {
        complain(&format!(
            "note: {gun}: this server has not the key of its snapshot. If the publisher has not either, its owner gives it \
             a new one with `countersign trust rotate snapshot --server-managed {gun}`"
        ));
    }
    Ok(())
}

/// Says what became of a dump.
fn summary(report: &Report) -> anyhow::Result<()> {
    for moved in &report.imported {
        tell(&moved.imported)?;
        let gun = &moved.imported.gun;
        for fault in &moved.keys {
            complain(&format!(
                "note: {gun}: {} key {}: {}",
                fault.role, fault.id, fault.why
            ));
        }
        if moved.left_behind > 0 {
            complain(&format!(
                "note: {gun}: {} old versions were too much and left behind",
                moved.left_behind
            ));
        }
    }
    for (name, why) in &report.refused {
        complain(&format!("error: {name:?} was not imported: {}", chain(why)));
    }
    for row in &report.left_out {
        complain(&format!("note: left out {:?}: {}", row.what, row.why));
    }
    if report.imported.is_empty() && report.refused.is_empty() {
        complain("error: there is no repository in the dump");
    }
    let told = u64::try_from(report.left_out.len()).unwrap_or(u64::MAX);
    if report.left_out_count > told {
        complain(&format!("note: and {} rows more", report.left_out_count - told));
    }
    complain(&format!(
        "{} repositories imported, {} not",
        report.imported.len(),
        report.refused.len()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_both_flags_together_let_a_repository_go_back() {
        for (replace, allow_rollback, over) in [
            (false, false, Over::Nothing),
            (true, false, Over::Older),
            (true, true, Over::Anything),
        ] {
            let flags = OverFlags {
                replace,
                allow_rollback,
            };
            assert_eq!(flags.over(), over);
        }
    }

    #[test]
    fn an_archive_is_made_for_its_owner_alone_and_writes_over_nothing() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("archive.tar");
        create(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(create(&path).is_err());
    }
}
