//! A signing builder: an honest repository, to which tests add one lie at a time.
//!
//! It shares nothing with the code under test: keys sign through other libraries, and canonical JSON is
//! `serde_json` over sorted maps, which is the same for the text used here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use serde_json::{Value, json};

/// The repository everything here is about unless a test says otherwise.
pub const GUN: &str = "registry.example.com/team/app";
/// The instant at which honest metadata is valid.
pub const NOW: &str = "2030-01-01T00:00:00Z";
const EXPIRES: &str = "2030-06-01T00:00:00Z";

/// A digest that stands for the content called `name`.
pub fn digest(name: &str) -> String {
    format!("sha256:{}", hex::encode(hash(name.as_bytes())))
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes)
        .as_ref()
        .try_into()
        .unwrap()
}

fn sha512(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, bytes)
        .as_ref()
        .to_vec()
}

/// A key pair, in the form in which metadata lists it.
#[derive(Clone)]
pub struct Key {
    pub keytype: &'static str,
    pub public: Vec<u8>,
    pub method: &'static str,
    pub pair: Arc<Pair>,
}

pub enum Pair {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

static RSA: LazyLock<Key> = LazyLock::new(|| {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public =
        aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key());
    let public = public.unwrap().as_ref().to_vec();
    Key {
        keytype: "rsa",
        public,
        method: "rsapss",
        pair: Arc::new(Pair::Rsa(pair)),
    }
});

impl Key {
    /// The P-256 key number `seed`.
    pub fn p256(seed: u8) -> Self {
        Self::of_p256(p256::SecretKey::from_slice(&[seed; 32]).unwrap())
    }

    fn of_p256(secret: p256::SecretKey) -> Self {
        let public = secret.public_key().to_public_key_der().unwrap().into_vec();
        Self {
            keytype: "ecdsa",
            public,
            method: "ecdsa",
            pair: Arc::new(Pair::P256(secret.into())),
        }
    }

    pub fn p384(seed: u8) -> Self {
        let secret = p384::SecretKey::from_slice(&[seed; 48]).unwrap();
        let public = secret.public_key().to_public_key_der().unwrap().into_vec();
        Self {
            keytype: "ecdsa",
            public,
            method: "ecdsa",
            pair: Arc::new(Pair::P384(secret.into())),
        }
    }

    pub fn p521(seed: u8) -> Self {
        let mut bytes = [seed; 66];
        bytes[0] = 0;
        let secret = p521::SecretKey::from_slice(&bytes).unwrap();
        let public = secret.public_key().to_public_key_der().unwrap().into_vec();
        Self {
            keytype: "ecdsa",
            public,
            method: "ecdsa",
            pair: Arc::new(Pair::P521(secret.into())),
        }
    }

    pub fn ed25519(seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        Self {
            keytype: "ed25519",
            public,
            method: "eddsa",
            pair: Arc::new(Pair::Ed25519(pair)),
        }
    }

    /// The one RSA key: making one is slow.
    pub fn rsa() -> Self {
        RSA.clone()
    }

    /// A P-256 key from PKCS#8 PEM, as OpenSSL writes it.
    pub fn from_pem(pem: &str) -> Self {
        Self::of_p256(p256::SecretKey::from_pkcs8_pem(pem).unwrap())
    }

    /// This key in a certificate of its own, made out to `name`.
    pub fn certified(&self, name: &str) -> Self {
        self.certified_until(name, (2000, 2100))
    }

    /// The same, valid from the first of January of one year to that of another.
    pub fn certified_until(&self, name: &str, (from, until): (i32, i32)) -> Self {
        // One key, one name, one time: one certificate, although its signature is random. The key id depends on it.
        type Made = HashMap<(Vec<u8>, String, i32, i32), String>;
        static MADE: LazyLock<Mutex<Made>> = LazyLock::new(Mutex::default);
        let mut made = MADE.lock().unwrap();
        let pem = made
            .entry((self.public.clone(), name.to_owned(), from, until))
            .or_insert_with(|| {
                parameters(name, from, until)
                    .self_signed(&self.rcgen())
                    .unwrap()
                    .pem()
            });
        self.wrapped(pem)
    }

    /// This key in a certificate that `authority` issued.
    pub fn issued(&self, name: &str, authority: &Authority) -> Self {
        let mut parameters = parameters(name, 2000, 2100);
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning];
        self.wrapped(
            &parameters
                .signed_by(&self.rcgen(), &authority.issuer)
                .unwrap()
                .pem(),
        )
    }

    /// This key in whatever certificates `pem` holds.
    pub fn wrapped(&self, pem: &str) -> Self {
        let keytype = if self.keytype == "rsa" {
            "rsa-x509"
        } else {
            "ecdsa-x509"
        };
        Self {
            keytype,
            public: pem.replace("\r\n", "\n").into_bytes(),
            ..self.clone()
        }
    }

    fn rcgen(&self) -> rcgen::KeyPair {
        let Pair::P256(key) = &*self.pair else {
            panic!("only P-256 keys are certified here")
        };
        let secret = p256::SecretKey::from(key.clone());
        let der = secret.to_pkcs8_der().unwrap();
        rcgen::KeyPair::try_from(der.as_bytes()).unwrap()
    }

    /// This key, signing by another method.
    pub fn method(&self, method: &'static str) -> Self {
        Self {
            method,
            ..self.clone()
        }
    }

    /// PEM of the bare public key, as a person pins it.
    pub fn pem(&self) -> String {
        let bare: Vec<u8> = match &*self.pair {
            Pair::P256(key) => p256::PublicKey::from(key.verifying_key())
                .to_public_key_der()
                .unwrap()
                .into_vec(),
            Pair::Ed25519(pair) => {
                let prefix = [
                    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
                ];
                [prefix.as_slice(), pair.public_key().as_ref()].concat()
            }
            Pair::P384(_) | Pair::P521(_) | Pair::Rsa(_) => self.public.clone(),
        };
        let text = BASE64_STANDARD.encode(bare);
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            lines.join("\n")
        )
    }

    /// The key as metadata lists it.
    pub fn listed(&self) -> Value {
        json!({"keytype": self.keytype, "keyval": {"private": null, "public": BASE64_STANDARD.encode(&self.public)}})
    }

    /// The TUF key id.
    pub fn id(&self) -> String {
        hex::encode(hash(self.listed().to_string().as_bytes()))
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &*self.pair {
            Pair::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign_prehash(&hash(message)).unwrap();
                signature.to_bytes().to_vec()
            }
            Pair::P384(key) => {
                // The prehash is shorter than the curve: ECDSA takes it as the number it is.
                let signature: p384::ecdsa::Signature = key.sign_prehash(&hash(message)).unwrap();
                signature.to_bytes().to_vec()
            }
            Pair::P521(key) => {
                let signature: p521::ecdsa::Signature = key.sign_prehash(&hash(message)).unwrap();
                signature.to_bytes().to_vec()
            }
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let random = SystemRandom::new();
                if self.method == "rsapss" {
                    pair.sign(&RSA_PSS_SHA256, &random, message, &mut signature)
                        .unwrap();
                } else {
                    pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                        .unwrap();
                }
                signature
            }
        }
    }
}

fn parameters(name: &str, from: i32, until: i32) -> rcgen::CertificateParams {
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(until, 1, 1);
    parameters.is_ca = rcgen::IsCa::ExplicitNoCa;
    parameters
}

/// A certificate authority.
pub struct Authority {
    pub pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        let mut parameters = parameters(name, 2000, 2100);
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&pair).unwrap().pem();
        Self {
            pem,
            issuer: rcgen::Issuer::new(parameters, pair),
        }
    }
}

/// What a lie does to a document before it is signed.
pub type Edit = Arc<dyn Fn(&mut Value) + Send + Sync>;
/// What a lie does to a file after it was signed.
pub type Rewrite = Arc<dyn Fn(Vec<u8>) -> Vec<u8> + Send + Sync>;

/// A delegation below `targets` and what it published.
#[derive(Clone)]
pub struct Delegation {
    pub name: String,
    pub keys: Vec<Key>,
    pub threshold: u64,
    pub paths: Vec<&'static str>,
    /// Tag to the name of its content.
    pub tags: BTreeMap<String, String>,
    pub version: u64,
    pub published: bool,
}

impl Delegation {
    pub fn new(name: &str, keys: &[Key], tags: &[(&str, &str)]) -> Self {
        Self {
            name: format!("targets/{name}"),
            keys: keys.to_vec(),
            threshold: 1,
            paths: vec![""],
            tags: named(tags),
            version: 1,
            published: true,
        }
    }
}

fn named(tags: &[(&str, &str)]) -> BTreeMap<String, String> {
    tags.iter()
        .map(|(tag, content)| ((*tag).to_owned(), (*content).to_owned()))
        .collect()
}

/// A repository and everything needed to sign for it. Honest as made.
#[derive(Clone)]
pub struct Repo {
    pub root: Vec<Key>,
    pub targets: Key,
    pub snapshot: Key,
    pub timestamp: Key,
    /// Version of each base role; 1 where nothing is said.
    pub versions: BTreeMap<String, u64>,
    /// Expiry of each role.
    pub expiries: BTreeMap<String, String>,
    pub thresholds: BTreeMap<String, u64>,
    /// Tag to the name of its content, in `targets`.
    pub tags: BTreeMap<String, String>,
    pub delegations: Vec<Delegation>,
    /// Who signs instead of a role's own keys.
    pub signers: BTreeMap<String, Vec<Key>>,
    pub edits: BTreeMap<String, Edit>,
    pub rewrites: BTreeMap<String, Rewrite>,
}

impl Repo {
    /// Tags 1.0 and 1.1 in `targets`, no delegations, keys as Docker Hub had them.
    pub fn new() -> Self {
        Self::named(GUN)
    }

    /// The same for another GUN.
    pub fn named(gun: &str) -> Self {
        Self {
            root: vec![Key::p256(1).certified(gun)],
            targets: Key::p256(2),
            snapshot: Key::ed25519(3),
            timestamp: Key::ed25519(4),
            versions: BTreeMap::new(),
            expiries: BTreeMap::new(),
            thresholds: BTreeMap::new(),
            tags: named(&[("1.0", "one"), ("1.1", "eleven")]),
            delegations: Vec::new(),
            signers: BTreeMap::new(),
            edits: BTreeMap::new(),
            rewrites: BTreeMap::new(),
        }
    }

    /// Adds alice as docker does: her own delegation and `targets/releases`, both with her key.
    pub fn with_alice(mut self, tags: &[(&str, &str)]) -> Self {
        self.delegations.push(Delegation::new("alice", &[alice()], tags));
        self.delegations
            .push(Delegation::new("releases", &[alice()], tags));
        self
    }

    pub fn tag(mut self, tag: &str, content: &str) -> Self {
        self.tags.insert(tag.to_owned(), content.to_owned());
        self
    }

    pub fn version(mut self, role: &str, version: u64) -> Self {
        match self
            .delegations
            .iter_mut()
            .find(|delegation| delegation.name == role)
        {
            Some(delegation) => delegation.version = version,
            None => drop(self.versions.insert(role.to_owned(), version)),
        }
        self
    }

    /// Sets all versions that move with a publish of `targets`.
    pub fn all_versions(self, version: u64) -> Self {
        self.version("targets", version)
            .version("snapshot", version)
            .version("timestamp", version)
    }

    pub fn expires(mut self, role: &str, at: &str) -> Self {
        self.expiries.insert(role.to_owned(), at.to_owned());
        self
    }

    pub fn threshold(mut self, role: &str, threshold: u64) -> Self {
        self.thresholds.insert(role.to_owned(), threshold);
        self
    }

    pub fn signed_by(mut self, role: &str, keys: &[Key]) -> Self {
        self.signers.insert(role.to_owned(), keys.to_vec());
        self
    }

    pub fn edit(mut self, role: &str, edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        self.edits.insert(role.to_owned(), Arc::new(edit));
        self
    }

    pub fn rewrite(
        mut self,
        role: &str,
        rewrite: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.rewrites.insert(role.to_owned(), Arc::new(rewrite));
        self
    }

    pub fn delegation(&mut self, name: &str) -> &mut Delegation {
        self.delegations
            .iter_mut()
            .find(|delegation| delegation.name == name)
            .unwrap()
    }

    /// The next root version has `keys`; old and new keys sign it, as §4.5 requires.
    pub fn rotate_root(mut self, keys: &[Key]) -> Self {
        let signers = [self.root.as_slice(), keys].concat();
        self.root = keys.to_vec();
        let version = self.version_of("root") + 1;
        self.version("root", version).signed_by("root", &signers)
    }

    fn version_of(&self, role: &str) -> u64 {
        self.versions.get(role).copied().unwrap_or(1)
    }

    /// Every file, as a trust server would serve it.
    pub fn publish(&self) -> Files {
        let mut files = Files::default();
        self.publish_to(&mut files);
        files
    }

    /// Puts the present state on top of what the server holds: older versions and hashes stay.
    pub fn publish_to(&self, files: &mut Files) {
        let mut meta = serde_json::Map::new();
        for (name, raw) in self.signed_files() {
            meta.insert(name.clone(), described(&raw));
            files.put(&name, self.version_of(&name), raw);
        }
        let snapshot = json!({"_type": "Snapshot", "expires": self.expiry("snapshot"), "meta": meta,
            "version": self.version_of("snapshot")});
        let snapshot = self.sign("snapshot", snapshot, std::slice::from_ref(&self.snapshot));
        let timestamp = json!({"_type": "Timestamp", "expires": self.expiry("timestamp"),
            "meta": {"snapshot": described(&snapshot)}, "version": self.version_of("timestamp")});
        let timestamp = self.sign("timestamp", timestamp, std::slice::from_ref(&self.timestamp));
        files.put("snapshot", self.version_of("snapshot"), snapshot);
        files.put("timestamp", self.version_of("timestamp"), timestamp);
    }

    /// Root, targets and published delegations.
    fn signed_files(&self) -> Vec<(String, Vec<u8>)> {
        let targets = json!({"_type": "Targets", "delegations": self.delegations_below("targets"),
            "expires": self.expiry("targets"), "targets": entries(&self.tags), "version": self.version_of("targets")});
        let mut files = vec![
            (
                "root".to_owned(),
                self.sign("root", self.root_document(), &self.root),
            ),
            (
                "targets".to_owned(),
                self.sign("targets", targets, &[self.targets.clone()]),
            ),
        ];
        for delegation in self.delegations.iter().filter(|delegation| delegation.published) {
            let document = json!({"_type": "Targets", "delegations": self.delegations_below(&delegation.name),
                "expires": self.expiry(&delegation.name), "targets": entries(&delegation.tags),
                "version": delegation.version});
            files.push((
                delegation.name.clone(),
                self.sign(&delegation.name, document, &delegation.keys),
            ));
        }
        files
    }

    fn expiry(&self, role: &str) -> &str {
        self.expiries.get(role).map_or(EXPIRES, String::as_str)
    }

    fn root_document(&self) -> Value {
        let servers = [&self.targets, &self.snapshot, &self.timestamp];
        let keys: serde_json::Map<_, _> = self
            .root
            .iter()
            .chain(servers)
            .map(|key| (key.id(), key.listed()))
            .collect();
        let role = |name: &str, keys: &[Key]| {
            let ids: Vec<_> = keys.iter().map(Key::id).collect();
            json!({"keyids": ids, "threshold": self.thresholds.get(name).copied().unwrap_or(1)})
        };
        json!({"_type": "Root", "consistent_snapshot": false, "expires": self.expiry("root"), "keys": keys,
            "roles": {"root": role("root", &self.root), "snapshot": role("snapshot", &[self.snapshot.clone()]),
                "targets": role("targets", &[self.targets.clone()]),
                "timestamp": role("timestamp", &[self.timestamp.clone()])},
            "version": self.version_of("root")})
    }

    fn delegations_below(&self, parent: &str) -> Value {
        let below = |name: &str| name.rsplit_once('/').is_some_and(|(above, _)| above == parent);
        let children: Vec<_> = self
            .delegations
            .iter()
            .filter(|delegation| below(&delegation.name))
            .collect();
        let keys: serde_json::Map<_, _> = children
            .iter()
            .flat_map(|delegation| &delegation.keys)
            .map(|key| (key.id(), key.listed()))
            .collect();
        let roles: Vec<_> = children
            .iter()
            .map(|delegation| {
                let ids: Vec<_> = delegation.keys.iter().map(Key::id).collect();
                json!({"keyids": ids, "name": delegation.name, "paths": delegation.paths,
                    "threshold": delegation.threshold})
            })
            .collect();
        json!({"keys": keys, "roles": roles})
    }

    fn sign(&self, role: &str, mut document: Value, keys: &[Key]) -> Vec<u8> {
        if let Some(edit) = self.edits.get(role) {
            edit(&mut document);
        }
        let keys = self.signers.get(role).map_or(keys, Vec::as_slice);
        let signed = document.to_string();
        let signatures: Vec<_> = keys
            .iter()
            .map(|key| {
                json!({"keyid": key.id(), "method": key.method,
                    "sig": BASE64_STANDARD.encode(key.sign(signed.as_bytes()))})
            })
            .collect();
        let raw = format!(
            r#"{{"signed":{signed},"signatures":{}}}"#,
            Value::from(signatures)
        )
        .into_bytes();
        match self.rewrites.get(role) {
            Some(rewrite) => rewrite(raw),
            None => raw,
        }
    }
}

/// Alice's key.
pub fn alice() -> Key {
    Key::p256(5)
}

fn entries(tags: &BTreeMap<String, String>) -> Value {
    tags.iter()
        .map(|(tag, content)| {
            (tag.clone(), json!({"hashes": {"sha256": BASE64_STANDARD.encode(hash(content.as_bytes()))}, "length": 1490}))
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn described(raw: &[u8]) -> Value {
    json!({"hashes": {"sha256": BASE64_STANDARD.encode(hash(raw)), "sha512": BASE64_STANDARD.encode(sha512(raw))},
        "length": raw.len()})
}

/// What a trust server holds of one repository: file name to bytes, in all three forms of the URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(pub BTreeMap<String, Vec<u8>>);

impl Files {
    /// Files `raw` as the current version of `role`, and under its version and hash.
    pub fn put(&mut self, role: &str, version: u64, raw: Vec<u8>) {
        self.0.insert(format!("{version}.{role}.json"), raw.clone());
        self.0
            .insert(format!("{role}.{}.json", hex::encode(hash(&raw))), raw.clone());
        self.0.insert(format!("{role}.json"), raw);
    }

    /// Files under its hash what is there under its role alone, as a server does.
    pub fn by_hash(mut self) -> Self {
        for (name, raw) in self.0.clone() {
            if let Some(role) = name.strip_suffix(".json") {
                self.0
                    .insert(format!("{role}.{}.json", hex::encode(hash(&raw))), raw);
            }
        }
        self
    }

    /// Takes every form of a role's present file away.
    pub fn remove(&mut self, role: &str) {
        if let Some(raw) = self.0.get(&format!("{role}.json")).cloned() {
            self.0.retain(|_, other| *other != raw);
        }
    }
}
