//! The file of the rules, and those that it names.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use url::Url;

use super::challenge::Schemes;
use super::error::AccessError;
use super::keyring::Keyring;
use super::limits::{Limits, Rates};
use super::passwords::{Passwords, is_name};
use super::rules::{Action, Prefix, Rule, Rules};
use super::secrets::Secrets;
use super::token::TokenService;
use super::{Access, Checked};

/// Most bytes of each file: 1 MiB, which is ten thousand users or five thousand rules.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Who may do what. What no field grants is refused; an empty file refuses everything.
///
/// Paths begin at the folder of the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    /// The registry's token service, for clients that log in as they do at the registry.
    token: Option<Token>,
    /// Tokens that never change, for machines. They are sent as `Bearer`, or by clients that know names and passwords
    /// only, as the password of their name.
    #[serde(default)]
    tokens: Vec<StaticToken>,
    /// Names and passwords as `htpasswd -B` writes them.
    htpasswd: Option<PathBuf>,
    /// Whether the names in client certificates are callers. In rules they stand after `certificate:`.
    #[serde(default)]
    client_certificates: bool,
    /// What nobody in particular may do with any repository.
    #[serde(default)]
    anonymous: BTreeSet<Action>,
    /// What callers may do. A token of the token service carries its own access instead.
    #[serde(default)]
    rules: Vec<Rule>,
    /// The beginnings of the names of repositories that are kept here, each up to a slash; all, if there are none.
    #[serde(default)]
    gun_prefixes: Vec<Prefix>,
    /// How often a caller may ask.
    #[serde(default)]
    limits: Rates,
}

/// A token service as `docker login` finds it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Token {
    /// Where clients get tokens.
    realm: Realm,
    /// What it calls this server; the `aud` of tokens.
    service: Plain,
    /// What it calls itself; the `iss` of tokens.
    issuer: Plain,
    /// PEM certificates: of its keys, or of the authorities that certify them.
    root_cert_bundle: Option<PathBuf>,
    /// A JSON Web Key Set with its public keys.
    jwks: Option<PathBuf>,
}

/// The hash of a token that was made with `openssl rand -hex 32` or the like: a token that people can remember can be
/// found from its hash.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct StaticToken {
    /// Whose it is.
    name: Name,
    /// SHA-256 of the token in hex.
    sha256: Sha256Hex,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Realm(String);

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Plain(String);

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Name(String);

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Sha256Hex([u8; 32]);

impl TryFrom<String> for Realm {
    type Error = &'static str;

    /// As it was written, for clients keep its parameters (§1.7.3).
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let url = Url::parse(&text).map_err(|_| "realm is not an absolute URL")?;
        let plain = text.chars().all(|c| c.is_ascii_graphic());
        if matches!(url.scheme(), "https" | "http") && url.has_host() && plain {
            Ok(Self(text))
        } else {
            Err("realm is not an https URL")
        }
    }
}

impl TryFrom<String> for Plain {
    type Error = &'static str;

    /// It goes into a header.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if !text.is_empty() && text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
            Ok(Self(text))
        } else {
            Err("the name of a service is not plain ASCII")
        }
    }
}

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text != "*" && is_name(&text) {
            Ok(Self(text))
        } else {
            Err(
                "the name of a token is empty, *, longer than 128 bytes, or has a colon or control characters in it",
            )
        }
    }
}

impl TryFrom<String> for Sha256Hex {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| "sha256 is not 64 hex digits")?;
        Ok(Self(bytes))
    }
}

/// The file of the rules, and what was in those that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sources {
    path: PathBuf,
    document: Document,
    bundle: Option<(PathBuf, Vec<u8>)>,
    jwks: Option<(PathBuf, Vec<u8>)>,
    passwords: Option<(PathBuf, Vec<u8>)>,
}

impl Sources {
    /// Reads the file at `path`, and those that it names.
    ///
    /// # Errors
    ///
    /// [`AccessError`] names the file, and the line in it.
    pub(super) fn read(path: &Path) -> Result<Self, AccessError> {
        let document = parse(path, &read(path)?)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let named = |name: Option<&PathBuf>| {
            name.map(|name| {
                let path = folder.join(name);
                read(&path).map(|bytes| (path, bytes))
            })
            .transpose()
        };
        let token = document.token.as_ref();
        Ok(Self {
            bundle: named(token.and_then(|token| token.root_cert_bundle.as_ref()))?,
            jwks: named(token.and_then(|token| token.jwks.as_ref()))?,
            passwords: named(document.htpasswd.as_ref())?,
            path: path.to_owned(),
            document,
        })
    }

    /// Makes rules of what was read.
    ///
    /// # Errors
    ///
    /// [`AccessError`] names the file, and the line in it.
    pub(super) fn compile(&self) -> Result<Access, AccessError> {
        let document = &self.document;
        if !document.rules.iter().all(Rule::grants_catalog_for_all) {
            return Err(AccessError::Catalog {
                path: self.path.clone(),
            });
        }
        let passwords = self.passwords()?;
        let secrets = self.secrets(passwords.as_ref())?;
        let schemes = Schemes {
            bearer: document
                .token
                .as_ref()
                .map(|token| Schemes::bearer(&token.realm.0, &token.service.0)),
            // Behind a token service, a second challenge is for passwords only: clients without any fail at it (§1.7.3).
            basic: passwords.is_some() || (document.token.is_none() && !secrets.is_empty()),
        };
        Ok(Access(Some(Checked {
            token: self.token()?,
            secrets,
            passwords,
            client_certificates: document.client_certificates,
            rules: Rules {
                anonymous: document.anonymous.clone(),
                granted: document.rules.clone(),
                prefixes: document.gun_prefixes.clone(),
            },
            schemes,
            limits: Arc::new(Limits::new(&document.limits)),
        })))
    }

    /// Makes rules of what was read that go on with the counts of `before` if the limits are the same: a change of
    /// other things gives nobody a new allowance.
    pub(super) fn succeed(&self, before: &Self, access: &Access) -> Result<Access, AccessError> {
        let mut new = self.compile()?;
        if self.document.limits == before.document.limits
            && let (Some(new), Some(old)) = (&mut new.0, &access.0)
        {
            new.limits = Arc::clone(&old.limits);
        }
        Ok(new)
    }

    fn passwords(&self) -> Result<Option<Passwords>, AccessError> {
        let Some((path, bytes)) = &self.passwords else {
            return Ok(None);
        };
        Passwords::parse(path, text(path, bytes)?).map(Some)
    }

    fn secrets(&self, passwords: Option<&Passwords>) -> Result<Secrets, AccessError> {
        let mut names = BTreeSet::new();
        for StaticToken { name: Name(name), .. } in &self.document.tokens {
            if !names.insert(name) || passwords.is_some_and(|passwords| passwords.has(name)) {
                return Err(AccessError::Twice {
                    path: self.path.clone(),
                    name: name.as_str().into(),
                });
            }
        }
        let tokens = self.document.tokens.iter();
        Ok(Secrets(
            tokens
                .map(|token| (token.name.0.clone(), token.sha256.0))
                .collect(),
        ))
    }

    fn token(&self) -> Result<Option<TokenService>, AccessError> {
        let Some(token) = &self.document.token else {
            return Ok(None);
        };
        let mut keyring = Keyring::default();
        if let Some((path, pem)) = &self.bundle {
            keyring.add_bundle(path, pem)?;
        }
        if let Some((path, json)) = &self.jwks {
            keyring.add_jwks(path, json)?;
        }
        if self.bundle.is_none() && self.jwks.is_none() {
            return Err(AccessError::NoKeys {
                path: self.path.clone(),
            });
        }
        Ok(Some(TokenService::new(
            token.issuer.0.clone(),
            token.service.0.clone(),
            keyring,
        )))
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Document, AccessError> {
    let options = serde_saphyr::options! {
        // Anchors and aliases expanded: more than a file of five thousand rules needs.
        budget: serde_saphyr::budget! { max_depth: 16, max_documents: 1, max_nodes: 200_000, max_aliases: 1_000 },
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text(path, bytes)?, options).map_err(|error| AccessError::Yaml {
        path: path.to_owned(),
        line: error.location().map(|location| location.line()),
        message: error.without_snippet().to_string().into(),
    })
}

fn text<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str, AccessError> {
    std::str::from_utf8(bytes).map_err(|_| AccessError::Yaml {
        path: path.to_owned(),
        line: None,
        message: "not UTF-8 text".into(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, AccessError> {
    let unreadable = |source| AccessError::Read {
        path: path.to_owned(),
        source,
    };
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(AccessError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_FILE_BYTES) {
        Ok(bytes)
    } else {
        Err(AccessError::TooLong {
            path: path.to_owned(),
            limit: MAX_FILE_BYTES,
        })
    }
}
