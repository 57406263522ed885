//! `countersign trust key …` (notary-v1 §7.5).

mod transfer;

use std::fs;
use std::io::{IsTerminal as _, Write as _, stdin};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use super::super::key_flags::{KeyFlags, listing};
use super::super::{Output, Status, complain, create, passphrase, print};
use crate::keystore::{Entry, KeyStore, Listing};
use crate::tuf::{Algorithm, KeyFile, KeyId, Labels, PrivateKey, Strength};

/// Arguments of `trust key`.
#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a signer's key: the private half in the key store, the public half in NAME.pub
    ///
    /// The name `root` makes a root key, which new repositories will use.
    Generate(Generate),
    /// Puts a private key from a file into the key store, as a signer's
    Load(transfer::Load),
    /// Puts the keys of a backup, or of `notary key export`, into the key store
    Import(transfer::Import),
    /// Writes keys, encrypted as they are, into one file from which `import` restores them; or the public half of one
    Export(transfer::Export),
    /// Lists the keys of the key store
    List(List),
    /// Removes a key from the disk
    Remove(Remove),
    /// Changes the passphrase of a key
    Passwd(Passwd),
}

#[derive(ClapArgs, Debug)]
struct Generate {
    /// Name of the signer: small letters, digits, `_` and `-`
    name: String,
    /// Where NAME.pub goes
    #[arg(long, value_name = "DIR", default_value = ".", env = "COUNTERSIGN_DIR")]
    dir: PathBuf,
    #[command(flatten)]
    cipher: Cipher,
    #[command(flatten)]
    keys: KeyFlags,
}

/// How keys are encrypted.
#[derive(ClapArgs, Debug)]
struct Cipher {
    /// Encrypt with HMAC-SHA-256 and more iterations; docker and notary cannot read the key then
    #[arg(long, env = "COUNTERSIGN_STRONG")]
    strong: bool,
}

impl Cipher {
    const fn strength(&self) -> Strength {
        if self.strong {
            Strength::Strong
        } else {
            Strength::Interoperable
        }
    }
}

#[derive(ClapArgs, Debug)]
struct List {
    /// How to print the keys: as a table, or as one JSON array
    #[arg(long, value_enum, default_value_t = Output::Text, env = "COUNTERSIGN_OUTPUT")]
    output: Output,
    #[command(flatten)]
    keys: KeyFlags,
}

#[derive(ClapArgs, Debug)]
struct Remove {
    /// Id of the key, whole
    id: KeyId,
    /// Do not ask
    #[arg(long, env = "COUNTERSIGN_FORCE")]
    force: bool,
    #[command(flatten)]
    keys: KeyFlags,
}

#[derive(ClapArgs, Debug)]
struct Passwd {
    /// Id of the key, whole
    id: KeyId,
    /// Open file descriptor with the new passphrase
    #[arg(long, value_name = "N", env = "COUNTERSIGN_NEW_PASSPHRASE_FD")]
    new_passphrase_fd: Option<u32>,
    #[command(flatten)]
    cipher: Cipher,
    #[command(flatten)]
    keys: KeyFlags,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Status> {
    match &args.command {
        Command::Generate(args) => generate(args),
        Command::Load(args) => transfer::load(args),
        Command::Import(args) => transfer::import(args),
        Command::Export(args) => transfer::export(args),
        Command::List(args) => list(args),
        Command::Remove(args) => remove(args),
        Command::Passwd(args) => passwd(args),
    }
}

fn generate(args: &Generate) -> anyhow::Result<Status> {
    if args.name != "root" {
        signer_name(&args.name)?;
    }
    let public = args.dir.join(format!("{}.pub", args.name));
    let role = args.name.as_str();
    // Before anything is made: a public key is what others were given.
    let mut file = create(&public)?;
    let made = store_new(args, role).and_then(|key| {
        file.write_all(key.public_pem(role)?.as_bytes())
            .with_context(|| format!("cannot write {}", public.display()))?;
        file.sync_all()?;
        Ok(key)
    });
    let key = match made {
        Ok(key) => key,
        Err(error) => {
            // Nobody was given this one.
            let _left = fs::remove_file(&public);
            return Err(error);
        }
    };
    print(&key.id().to_string())?;
    complain(&format!("the public key is in {}", public.display()));
    Ok(Status::Success)
}

fn store_new(args: &Generate, role: &str) -> anyhow::Result<PrivateKey> {
    let store = args.keys.store()?;
    let passphrase = args.keys.passphrases()?.choose(role)?;
    let key = PrivateKey::generate(Algorithm::EcdsaP256)?;
    let labels = Labels::new(role, None)?;
    let file = KeyFile::seal(&key, labels, &passphrase, args.cipher.strength())?;
    let path = store.add(key.id(), &file)?;
    if role == "root" {
        complain(&backup_warning(&path));
    }
    Ok(key)
}

/// What everybody who makes a root key must know.
pub(in crate::cli) fn backup_warning(path: &Path) -> String {
    format!(
        "warning: this root key is the only one that can vouch for your repositories. Keep a copy of {} and its \
         passphrase off this machine (`countersign trust key export --all FILE`): a root key that is lost cannot be \
         recovered",
        path.display()
    )
}

/// The rule for names of signers (§3.9).
fn signer_name(name: &str) -> anyhow::Result<()> {
    let sound = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !sound {
        bail!("{name:?} is no name of a signer: small letters, digits, `_` and `-`, a letter or digit first");
    }
    if matches!(name, "releases" | "root" | "targets" | "snapshot" | "timestamp") {
        bail!("{name} is the name of a role, not of a signer");
    }
    Ok(())
}

fn list(args: &List) -> anyhow::Result<Status> {
    let store = args.keys.store()?;
    let listing = listing(&store)?;
    match args.output {
        Output::Json => {
            let keys: Vec<_> = listing.keys.iter().map(described).collect();
            print(&serde_json::to_string_pretty(&keys)?)?;
        }
        Output::Text if listing.keys.is_empty() => {
            complain(&format!("there is no key in {}", store.directory().display()));
        }
        Output::Text => print(&table(&listing))?,
    }
    Ok(Status::Success)
}

fn described(key: &Entry) -> Value {
    json!({
        "id": key.id.to_string(),
        "role": key.role(),
        "gun": key.gun(),
        "encrypted": key.file.is_encrypted(),
        "oldLayout": key.old_layout,
        "path": key.path.display().to_string(),
    })
}

/// Role, repository, id: root keys first, then by repository.
fn table(listing: &Listing) -> String {
    let mut rows: Vec<_> = listing
        .keys
        .iter()
        .map(|key| {
            (
                key.role().unwrap_or("?"),
                key.gun().unwrap_or("-"),
                key.id.to_string(),
            )
        })
        .collect();
    rows.sort_by(|one, other| (one.0 != "root", one.1, one).cmp(&(other.0 != "root", other.1, other)));
    rows.insert(0, ("ROLE", "REPOSITORY", "KEY ID".to_owned()));
    let widest =
        |texts: &mut dyn Iterator<Item = &str>| texts.map(|text| text.chars().count()).max().unwrap_or(0);
    let role = widest(&mut rows.iter().map(|row| row.0));
    let gun = widest(&mut rows.iter().map(|row| row.1));
    let lines: Vec<_> = rows
        .iter()
        .map(|(first, second, id)| format!("{first:role$}  {second:gun$}  {id}"))
        .collect();
    lines.join("\n")
}

fn remove(args: &Remove) -> anyhow::Result<Status> {
    let store = args.keys.store()?;
    let listing = listing(&store)?;
    let Some(key) = listing.key(args.id) else {
        return Ok(unknown(args.id, &store));
    };
    if key.old_layout {
        bail!(
            "{} lies where Notary up to 0.3 kept keys: remove it yourself, once there is a backup",
            key.path.display()
        );
    }
    if !args.force && !confirmed(key)? {
        complain("nothing was removed");
        return Ok(Status::Denied);
    }
    store.remove(key)?;
    print(&format!("removed {}", key.id))?;
    if let Some(old) = store.list()?.key(args.id) {
        complain(&format!("there is another copy in {}", old.path.display()));
    }
    Ok(Status::Success)
}

fn unknown(id: KeyId, store: &KeyStore) -> Status {
    complain(&format!(
        "there is no key {id} in {}",
        store.directory().display()
    ));
    Status::Denied
}

fn confirmed(key: &Entry) -> anyhow::Result<bool> {
    if !stdin().is_terminal() {
        bail!("there is no terminal to ask: --force removes the key without asking");
    }
    let role = key.role().unwrap_or("?");
    let of = key.gun().map(|gun| format!(" of {gun}")).unwrap_or_default();
    complain(&format!(
        "About to remove the {role} key{of}, {}. Without a backup it is lost for good. Remove it? (y/N)",
        key.id
    ));
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn passwd(args: &Passwd) -> anyhow::Result<Status> {
    let store = args.keys.store()?;
    let listing = listing(&store)?;
    let Some(entry) = listing.key(args.id) else {
        return Ok(unknown(args.id, &store));
    };
    if entry.old_layout {
        bail!(
            "{} lies where Notary up to 0.3 kept keys: `countersign trust key import` copies it first",
            entry.path.display()
        );
    }
    let key = args.keys.passphrases()?.open(entry)?;
    let passphrase = passphrase::new_for(entry.role().unwrap_or("key"), args.new_passphrase_fd)?;
    let sealed = KeyFile::seal(
        &key,
        entry.file.labels.clone(),
        &passphrase,
        args.cipher.strength(),
    )?;
    store.replace(entry, &sealed)?;
    print(&format!("changed the passphrase of {}", entry.id))?;
    Ok(Status::Success)
}
