//! Keys into the key store and out of it: `load`, `import`, `export`.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use zeroize::Zeroizing;

use super::super::super::key_flags::{KeyFlags, listing};
use super::super::super::passphrase::Passphrases;
use super::super::super::{Status, complain, create, print};
use super::{Cipher, signer_name};
use crate::keystore::{Entry, KeyStore, KeyStoreError};
use crate::reference::Gun;
use crate::tuf::{KeyFile, KeyId, Labels, has_gun};

/// Largest file that is imported: a backup of ten thousand keys.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// What a key is for if nothing says so, as notary has it.
const DEFAULT_ROLE: &str = "delegation";

#[derive(ClapArgs, Debug)]
pub(super) struct Load {
    /// PEM file with the private key
    file: PathBuf,
    /// Name of the signer
    #[arg(long, value_name = "NAME", default_value = "signer", env = "COUNTERSIGN_NAME")]
    name: String,
    #[command(flatten)]
    cipher: Cipher,
    #[command(flatten)]
    keys: KeyFlags,
}

#[derive(ClapArgs, Debug)]
pub(super) struct Import {
    /// PEM files with private keys; without any, the keys of an old layout of the key store are copied to the new one
    files: Vec<PathBuf>,
    /// What keys are for that do not say so [default: delegation]
    #[arg(long, value_name = "ROLE", env = "COUNTERSIGN_ROLE")]
    role: Option<String>,
    /// The repository of keys that do not say so
    #[arg(long, value_name = "GUN", env = "COUNTERSIGN_GUN")]
    gun: Option<Gun>,
    #[command(flatten)]
    cipher: Cipher,
    #[command(flatten)]
    keys: KeyFlags,
}

#[derive(ClapArgs, Debug)]
pub(super) struct Export {
    /// The file to make, or - for standard output
    file: PathBuf,
    #[command(flatten)]
    which: Which,
    /// The public half of one --key, to be given to whoever runs signer add
    #[arg(long, conflicts_with_all = ["all", "keys_of"], env = "COUNTERSIGN_PUBLIC")]
    public: bool,
    #[command(flatten)]
    keys: KeyFlags,
}

#[derive(ClapArgs, Debug)]
#[group(required = true, multiple = false)]
struct Which {
    /// Every key: a backup
    #[arg(long, env = "COUNTERSIGN_ALL")]
    all: bool,
    /// Id of a key, whole; may be repeated
    #[arg(long, value_name = "ID", env = "COUNTERSIGN_KEY", value_delimiter = ',')]
    key: Vec<KeyId>,
    /// Every key of one repository
    #[arg(long, value_name = "GUN", env = "COUNTERSIGN_KEYS_OF")]
    keys_of: Option<Gun>,
}

pub(super) fn load(args: &Load) -> anyhow::Result<Status> {
    signer_name(&args.name)?;
    let name = args.file.display().to_string();
    let mode = fs::metadata(&args.file)
        .with_context(|| format!("cannot read {name}"))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        bail!(
            "{name} is open to others (mode {:03o}): `chmod go= {name}` closes it",
            mode & 0o777
        );
    }
    let file = KeyFile::parse(&read(&args.file)?).with_context(|| name.clone())?;
    let mut passphrases = args.keys.passphrases()?;
    let key = passphrases.open_file(&file, &args.name, &name)?;
    let labels = Labels::new(&args.name, None)?;
    // Encrypted anew in any case: so that the file is one that docker reads, under a passphrase that is long enough.
    let sealed = KeyFile::seal(
        &key,
        labels,
        &passphrases.choose(&args.name)?,
        args.cipher.strength(),
    )?;
    args.keys.store()?.add(key.id(), &sealed)?;
    print(&key.id().to_string())?;
    Ok(Status::Success)
}

pub(super) fn import(args: &Import) -> anyhow::Result<Status> {
    let store = args.keys.store()?;
    if args.files.is_empty() {
        return migrate(&store);
    }
    let mut passphrases = args.keys.passphrases()?;
    let mut refused = 0;
    for path in &args.files {
        let name = path.display().to_string();
        let files = KeyFile::parse_all(&read(path)?).with_context(|| name.clone())?;
        for (index, file) in files.into_iter().enumerate() {
            let name = format!("{name}, key {}", index + 1);
            if let Err(error) = import_one(args, &store, &mut passphrases, file, &name) {
                complain(&format!("error: {name}: {error:#}"));
                refused += 1;
            }
        }
    }
    if refused > 0 {
        bail!("{refused} of the keys were not imported");
    }
    Ok(Status::Success)
}

/// One block: what it does not say is filled in, and it is stored as it is if it is encrypted and says which key it is.
/// Which key it really is shows when it is opened.
fn import_one(
    args: &Import,
    store: &KeyStore,
    passphrases: &mut Passphrases,
    mut file: KeyFile,
    name: &str,
) -> anyhow::Result<()> {
    file.labels = labels(args, &file)?;
    let role = file.labels.role().unwrap_or(DEFAULT_ROLE).to_owned();
    if has_gun(&role) && file.labels.gun().is_none() {
        bail!("a {role} key belongs to a repository: say to which with --gun");
    }
    let (id, file) = match file.named_id() {
        Some(id) if file.is_encrypted() => (id, file),
        _ => {
            let key = passphrases.open_file(&file, &role, name)?;
            let passphrase = passphrases.choose(&role)?;
            (
                key.id(),
                KeyFile::seal(&key, file.labels, &passphrase, args.cipher.strength())?,
            )
        }
    };
    match store.add(id, &file) {
        Ok(_) => print(&format!("imported the {role} key {id}")),
        Err(KeyStoreError::Exists { .. }) if is_there(store, id, &file)? => {
            print(&format!("the {role} key {id} is there already"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Role and GUN of the file itself; of its `path`, as old bundles have them; of the flags.
fn labels(args: &Import, file: &KeyFile) -> anyhow::Result<Labels> {
    let role = args.role.as_deref().unwrap_or(DEFAULT_ROLE);
    let labels = file.labels.clone();
    let labels = match labels.role() {
        Some(_) => labels,
        None => labels.with_role(role)?,
    };
    let gun = file.gun_of_path().or(args.gun.as_ref().map(Gun::as_str));
    match (labels.gun(), gun) {
        (None, Some(gun)) => Ok(labels.with_gun(gun)?),
        _ => Ok(labels),
    }
}

/// Whether the store has the very same file.
fn is_there(store: &KeyStore, id: KeyId, file: &KeyFile) -> anyhow::Result<bool> {
    let listing = store.list()?;
    Ok(listing
        .key(id)
        .is_some_and(|known| known.file.to_pem() == file.to_pem()))
}

/// Copies the keys of the old layout.
fn migrate(store: &KeyStore) -> anyhow::Result<Status> {
    let copied = store.migrate(&listing(store)?)?;
    if copied.is_empty() {
        complain("there are no keys of an old layout; to import others, name their files");
        return Ok(Status::Denied);
    }
    for path in &copied {
        print(&format!("copied to {}", path.display()))?;
    }
    complain("the old files are still there: remove them yourself, once there is a backup");
    Ok(Status::Success)
}

pub(super) fn export(args: &Export) -> anyhow::Result<Status> {
    let store = args.keys.store()?;
    let listing = listing(&store)?;
    let keys: Vec<&Entry> = listing.keys.iter().filter(|key| args.which.takes(key)).collect();
    if let Some(missing) = args.which.key.iter().find(|id| listing.key(**id).is_none()) {
        complain(&format!(
            "there is no key {missing} in {}",
            store.directory().display()
        ));
        return Ok(Status::Denied);
    }
    if keys.is_empty() {
        complain(&format!(
            "there is no such key in {}",
            store.directory().display()
        ));
        return Ok(Status::Denied);
    }
    let mut passphrases = args.keys.passphrases()?;
    let mut text = Zeroizing::new(String::new());
    if args.public {
        let [key] = keys.as_slice() else {
            bail!("--public is for one key: whoever reads a file of public keys reads the first");
        };
        text.push_str(&public(key, &mut passphrases)?);
    } else {
        for key in &keys {
            text.push_str(&sealed(key, &mut passphrases)?.to_bundle_pem(key.id));
        }
    }
    if args.file == Path::new("-") {
        print(&text)?;
        return Ok(Status::Success);
    }
    let mut file = create(&args.file)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", args.file.display()))?;
    if args.public {
        complain(&format!("the public key is in {}", args.file.display()));
    } else {
        complain(&format!("{} keys are in {}", keys.len(), args.file.display()));
    }
    Ok(Status::Success)
}

/// The public half as `signer add --key` takes it. It is computed from the key itself: nothing else in the file says
/// whose it is.
fn public(key: &Entry, passphrases: &mut Passphrases) -> anyhow::Result<String> {
    let role = key.role().unwrap_or(DEFAULT_ROLE);
    let opened = passphrases.open(key)?;
    opened
        .public_pem(role)
        .with_context(|| format!("the public half of {} has no such form", key.id))
}

impl Which {
    fn takes(&self, key: &Entry) -> bool {
        let of = |gun: &Gun| key.gun() == Some(gun.as_str());
        self.all || self.key.contains(&key.id) || self.keys_of.as_ref().is_some_and(of)
    }
}

/// The file of a key for a bundle: nothing leaves the store in clear.
fn sealed(key: &Entry, passphrases: &mut Passphrases) -> anyhow::Result<KeyFile> {
    if key.file.is_encrypted() {
        return Ok(key.file.clone());
    }
    let role = key.role().unwrap_or(DEFAULT_ROLE);
    complain(&format!(
        "the {role} key {} is stored in clear; its copy is encrypted",
        key.id
    ));
    let passphrase = passphrases.choose(role)?;
    let strength = crate::tuf::Strength::Interoperable;
    Ok(KeyFile::seal(
        &key.open(None)?,
        key.file.labels.clone(),
        &passphrase,
        strength,
    )?)
}

/// The whole file, or nothing: of one that is too long, keys would be missing unnoticed.
fn read(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let unread = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(unread)?;
    let length = file.metadata().with_context(unread)?.len().min(MAX_FILE);
    let room = usize::try_from(length).unwrap_or_default() + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    let read = file.take(MAX_FILE + 1).read_to_string(&mut text);
    if u64::try_from(read.with_context(unread)?)? > MAX_FILE {
        bail!("{} is longer than {MAX_FILE} bytes", path.display());
    }
    Ok(text)
}
