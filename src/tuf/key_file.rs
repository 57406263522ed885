//! Key files: one PEM block a key, role and GUN above it, the key below it encrypted (notary-v1 §7.2, §7.3).
//!
//! A file is read in any form that docker, notary or OpenSSL ever wrote; it is written in the one that all of them
//! read. What is wrong with the outside of a file is found before a passphrase is asked for.

mod cipher;
mod legacy;
mod pbes2;

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use self::legacy::DekInfo;
use self::pbes2::Pbes2;
use super::key::KeyId;
use super::pem::{self, Block, PROC_TYPE};
use super::private_key::{PrivateKey, PrivateKeyError};

/// Largest key in a file: an RSA key of 8192 bits takes 5 KB.
const MAX_KEY: usize = 32 * 1024;
/// Longest role or GUN: what the reference allows for either (§3.9, §3.11).
const MAX_LABEL: usize = 255;

type Result<T> = std::result::Result<T, KeyFileError>;

/// How a key is encrypted when it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strength {
    /// PBKDF2 with HMAC-SHA-1, which is all that docker and notary read, with three hundred times their iterations.
    #[default]
    Interoperable,
    /// PBKDF2 with HMAC-SHA-256 and more iterations. OpenSSL reads it; docker and notary do not.
    Strong,
}

/// What a file says of its key. Nobody signs it: it helps to find a key, and proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    role: Option<String>,
    gun: Option<String>,
}

impl Labels {
    /// Labels for a key of `role`, and of the repository `gun` if the role is one of those that belong to one.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Label`] if either is empty, too long, or not of one plain line, as which it would forge headers.
    pub fn new(role: &str, gun: Option<&str>) -> Result<Self> {
        let labels = Self::default().with_role(role)?;
        gun.map_or(Ok(labels.clone()), |gun| labels.with_gun(gun))
    }

    /// The same for another role. A role that belongs to no repository loses the GUN (§7.2).
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Label`] as for [`Self::new`].
    pub fn with_role(self, role: &str) -> Result<Self> {
        let gun = self.gun.filter(|_| has_gun(role));
        Ok(Self {
            role: Some(plain(role)?),
            gun,
        })
    }

    /// The same for the repository `gun`, unless the role belongs to none.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Label`] as for [`Self::new`].
    pub fn with_gun(self, gun: &str) -> Result<Self> {
        let gun = plain(gun)?;
        let gun = self.role.as_deref().is_none_or(has_gun).then_some(gun);
        Ok(Self { gun, ..self })
    }

    /// `root`, `targets`, `snapshot`, `timestamp`, or a free name such as a signer's.
    pub fn role(&self) -> Option<&str> {
        self.role.as_deref()
    }

    /// The repository that the key is for.
    pub fn gun(&self) -> Option<&str> {
        self.gun.as_deref()
    }

    fn read(block: &Block<'_>) -> Self {
        let header = |name| block.header(name).and_then(|value| plain(value).ok());
        let role = header("role");
        let gun = header("gun").filter(|_| role.as_deref().is_none_or(has_gun));
        Self { role, gun }
    }
}

/// Whether keys of `role` belong to one repository each (§7.2).
pub fn has_gun(role: &str) -> bool {
    matches!(role, "targets" | "snapshot" | "timestamp")
}

fn plain(label: &str) -> Result<String> {
    let sound = (1..=MAX_LABEL).contains(&label.len())
        && label.trim() == label
        && !label.contains(char::is_control)
        && !label.contains(misleading);
    sound.then(|| label.to_owned()).ok_or(KeyFileError::Label)
}

/// Characters that reorder or hide the text around them: a label is shown to whoever is asked for a passphrase.
fn misleading(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

/// One key as a file holds it.
#[derive(Clone)]
pub struct KeyFile {
    /// Role and GUN.
    pub labels: Labels,
    /// The `path` header, which bundles have in place of a file name. From outside: not to be used as a path.
    path: Option<String>,
    form: Form,
    lock: Option<Lock>,
    der: Zeroizing<Vec<u8>>,
}

/// What the PEM label says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Pkcs8,
    Ec,
    Rsa,
    Ed25519,
}

/// How the key is encrypted.
#[derive(Clone)]
enum Lock {
    Pbes2(Pbes2),
    Legacy(DekInfo),
}

const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

impl Form {
    fn of(label: &str) -> Option<Self> {
        match label {
            "PRIVATE KEY" | ENCRYPTED => Some(Self::Pkcs8),
            "EC PRIVATE KEY" => Some(Self::Ec),
            "RSA PRIVATE KEY" => Some(Self::Rsa),
            "ED25519 PRIVATE KEY" => Some(Self::Ed25519),
            _ => None,
        }
    }

    const fn label(self, lock: Option<&Lock>) -> &'static str {
        match (self, lock) {
            (Self::Pkcs8, Some(_)) => ENCRYPTED,
            (Self::Pkcs8, None) => "PRIVATE KEY",
            (Self::Ec, _) => "EC PRIVATE KEY",
            (Self::Rsa, _) => "RSA PRIVATE KEY",
            (Self::Ed25519, _) => "ED25519 PRIVATE KEY",
        }
    }

    fn decode(self, der: &[u8]) -> std::result::Result<PrivateKey, PrivateKeyError> {
        match self {
            Self::Pkcs8 => PrivateKey::decode(der),
            Self::Ec => PrivateKey::decode_ec(der),
            Self::Rsa => PrivateKey::decode_rsa(der),
            Self::Ed25519 => PrivateKey::decode_ed25519(der),
        }
    }
}

impl KeyFile {
    /// Every private key of a PEM text. Blocks of other things, such as certificates and curve parameters, are skipped.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] if there is no key, or one of them cannot be one.
    pub fn parse_all(text: &str) -> Result<Vec<Self>> {
        let blocks = pem::blocks(text).map_err(|_| KeyFileError::Pem)?;
        let keys = blocks.iter().filter(|block| block.label.ends_with("PRIVATE KEY"));
        let files: Vec<_> = keys.map(Self::read).collect::<Result<_>>()?;
        if files.is_empty() {
            return Err(KeyFileError::Pem);
        }
        Ok(files)
    }

    /// The one private key of a PEM text.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] if there is not exactly one, or it cannot be one.
    pub fn parse(text: &str) -> Result<Self> {
        let mut files = Self::parse_all(text)?;
        match (files.pop(), files.is_empty()) {
            (Some(file), true) => Ok(file),
            _ => Err(KeyFileError::Pem),
        }
    }

    fn read(block: &Block<'_>) -> Result<Self> {
        let form = Form::of(block.label).ok_or(KeyFileError::Form)?;
        if block.der.len() > MAX_KEY {
            return Err(KeyFileError::Damaged);
        }
        let lock = match (block.label, block.header(PROC_TYPE)) {
            (ENCRYPTED, _) => Some(Lock::Pbes2(Pbes2::read(&block.der)?)),
            (_, None) => None,
            (_, Some(_)) => Some(Lock::Legacy(DekInfo::read(block.header(legacy::DEK_INFO))?)),
        };
        Ok(Self {
            labels: Labels::read(block),
            path: block.header("path").map(str::to_owned),
            form,
            lock,
            der: block.der.clone(),
        })
    }

    /// `key`, encrypted under `passphrase`.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Empty`] if the passphrase is, or [`PrivateKeyError`] if the library fails.
    pub fn seal(
        key: &PrivateKey,
        labels: Labels,
        passphrase: &SecretString,
        strength: Strength,
    ) -> Result<Self> {
        let secret = passphrase.expose_secret().as_bytes();
        if secret.is_empty() {
            return Err(KeyFileError::Empty);
        }
        let der = pbes2::seal(&key.encode()?, secret, strength)?;
        Ok(Self {
            labels,
            path: None,
            form: Form::Pkcs8,
            lock: Some(Lock::Pbes2(Pbes2::read(&der)?)),
            der: Zeroizing::new(der),
        })
    }

    /// Whether a passphrase is needed to open it.
    pub const fn is_encrypted(&self) -> bool {
        self.lock.is_some()
    }

    /// The key inside. The passphrase is used as the bytes that it is; a key in clear needs none.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Passphrase`] if it is the wrong one, as far as that can be told: most damage to the encrypted
    /// part looks the same. Otherwise what is wrong with the key.
    pub fn open(&self, passphrase: Option<&SecretString>) -> Result<PrivateKey> {
        let Some(lock) = &self.lock else {
            return Ok(self.form.decode(&self.der)?);
        };
        let passphrase = passphrase.ok_or(KeyFileError::Locked)?.expose_secret().as_bytes();
        match lock {
            Lock::Pbes2(lock) => lock.open(passphrase),
            Lock::Legacy(lock) => {
                let der = lock.open(&self.der, passphrase)?;
                if self.form != Form::Ed25519 && !pbes2::is_whole_sequence(&der) {
                    return Err(KeyFileError::Passphrase);
                }
                Ok(self.form.decode(&der)?)
            }
        }
    }

    /// The key id that the `path` header of a bundle names, if it names one: its last component (§7.5). Only that is
    /// ever taken from it, so that no path leads out of the key store.
    pub fn named_id(&self) -> Option<KeyId> {
        let last = self.path.as_deref()?.rsplit(['/', '\\']).next()?;
        last.strip_suffix(".key").unwrap_or(last).parse().ok()
    }

    /// The GUN of the old layout, in which bundles name `tuf_keys/<gun>/<id>` (§7.5).
    pub fn gun_of_path(&self) -> Option<&str> {
        let rest = self.path.as_deref()?.strip_prefix("tuf_keys/")?;
        let (gun, _) = rest.rsplit_once('/')?;
        plain(gun).is_ok().then_some(gun)
    }

    /// The file as text.
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.encode(None)
    }

    /// The same with the `path` header that bundles have: the key id.
    pub fn to_bundle_pem(&self, id: KeyId) -> Zeroizing<String> {
        self.encode(Some(&id.to_string()))
    }

    fn encode(&self, path: Option<&str>) -> Zeroizing<String> {
        let mut headers = Vec::new();
        headers.extend(path.map(|path| ("path", path)));
        headers.extend(self.labels.role().map(|role| ("role", role)));
        headers.extend(self.labels.gun().map(|gun| ("gun", gun)));
        if let Some(Lock::Legacy(lock)) = &self.lock {
            headers.extend([(PROC_TYPE, legacy::IS_ENCRYPTED), (legacy::DEK_INFO, lock.text())]);
        }
        pem::encode(self.form.label(self.lock.as_ref()), &headers, &self.der)
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile")
            .field("labels", &self.labels)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

/// Why a text is no key file, or does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Not PEM, or no private key in it, or more than one where one is wanted.
    #[error("not one PEM block of a private key")]
    Pem,
    /// A private key of another kind.
    #[error("a private key in a form that is not supported; `openssl pkcs8 -topk8` makes one that is")]
    Form,
    /// Encrypted in a way that nobody who writes these files uses.
    #[error(
        "encrypted in a way that is not supported; `openssl pkcs8 -topk8 -v2 aes-256-cbc` makes one that is"
    )]
    Encryption,
    /// A file that would keep the machine busy.
    #[error(
        "encrypted with {count} iterations; at most {} are computed",
        pbes2::MAX_ITERATIONS
    )]
    Iterations {
        /// What the file asks for.
        count: u64,
    },
    /// The outside of the file contradicts itself.
    #[error("the key file is damaged")]
    Damaged,
    /// No passphrase was given.
    #[error("the key is encrypted, and there is no passphrase")]
    Locked,
    /// The wrong passphrase, or damage that looks like it.
    #[error("the passphrase is wrong")]
    Passphrase,
    /// A key may not be stored without one.
    #[error("the passphrase is empty")]
    Empty,
    /// A role or GUN that cannot stand in a header.
    #[error("a role or repository name is one line of 1 to 255 characters")]
    Label,
    /// It opened, and the key is none.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
}

impl From<aws_lc_rs::error::Unspecified> for KeyFileError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Key(PrivateKeyError::Refused)
    }
}

#[cfg(test)]
mod tests;
