//! Verifiers of kind `notary`. Keys stay PEM text, held against no more than its outer form: what they say is read by
//! the layer that verifies with them.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::{Host, Url};

use super::Findings;
use crate::policy::document::Resource;
use crate::policy::error::{FieldPath, ScopeError, VerifierError};
use crate::policy::lookup::{self, Lookup, LookupError, Material};
use crate::policy::resource::{
    CaSpec, ConfigMapRef, CredentialsSpec, NotarySpec, RootSpec, SecretRef, SignerSpec,
};
use crate::policy::verifier::{Credentials, Lending, Notary, Root, Signer, VerifierKind};
use crate::reference::MAX_GUN_BYTES;

/// Longest `maxStaleness`: a leap year. Metadata serves no longer than it is valid anyway, and a reference server signs
/// timestamps for 14 days; more than this is a slip of the hand.
pub(crate) const MAX_STALENESS_DAYS: u64 = 366;
const PUBLIC_KEY: &str = "PUBLIC KEY";
const CERTIFICATE: &str = "CERTIFICATE";

pub(super) fn compile(path: &FieldPath, spec: &NotarySpec, findings: &mut Findings<'_>) -> VerifierKind {
    let server = spec
        .server
        .as_deref()
        .and_then(|text| findings.keep(&path.field("server"), server(text)));
    let max_staleness = spec
        .max_staleness
        .as_deref()
        .and_then(|text| findings.keep(&path.field("maxStaleness"), duration(text)));
    VerifierKind::Notary(Notary {
        server,
        ca: spec
            .ca
            .as_ref()
            .and_then(|ca| authority(&path.field("ca"), ca, findings)),
        credentials: spec
            .credentials
            .as_ref()
            .and_then(|spec| credentials(&path.field("credentials"), spec, findings)),
        root: root(&path.field("root"), &spec.root, findings),
        signers: signers(&path.field("signers"), &spec.signers, findings),
        max_staleness: max_staleness.unwrap_or_default(),
        releases_missing: spec.releases_missing,
        lending: match findings.document.resource {
            Resource::Cluster(_) => Lending::Registry,
            Resource::Namespaced(_) => Lending::Own,
        },
    })
}

/// Trust data is signed, but over plain HTTP anyone on the way can withhold it or read the login.
fn server(text: &str) -> Result<Url, VerifierError> {
    let refused = |why| VerifierError::Server {
        server: text.into(),
        why,
    };
    // A URL parser takes some of them out.
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(refused("take out the blanks"));
    }
    let url: Url = text
        .parse()
        .map_err(|_| refused("write https://host, with :port and /path if needed"))?;
    // The addresses that the schema knows: what is good in a file is good in a cluster.
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address == Ipv4Addr::LOCALHOST,
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(refused("it names no host")),
    };
    match url.scheme() {
        // As the schema has it: a URL parser takes HTTPS: and leaves out slashes.
        "https" if text.starts_with("https://") => {}
        "http" if loopback && text.starts_with("http://") => {}
        "http" => return Err(refused("write https://; http is for loopback only")),
        _ => return Err(refused("write https://")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused(
            "take out the user name and password; \"credentials\" says where the login is kept",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("take out what follows \"?\" or \"#\""));
    }
    Ok(url)
}

/// `12h`, `1h30m`, `0s`.
fn duration(text: &str) -> Result<Duration, VerifierError> {
    seconds(text)
        .filter(|&seconds| seconds <= MAX_STALENESS_DAYS * 24 * 3600)
        .map(Duration::from_secs)
        .ok_or_else(|| VerifierError::Duration { text: text.into() })
}

fn seconds(text: &str) -> Option<u64> {
    let (mut rest, mut total) = (text, 0_u64);
    for (unit, seconds) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((number, tail)) = rest.split_once(unit) {
            // `parse` alone would take a sign.
            let number: u64 = number
                .bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| number.parse().ok())??;
            total = total.checked_add(number.checked_mul(seconds)?)?;
            rest = tail;
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(total)
}

fn authority(path: &FieldPath, spec: &CaSpec, findings: &mut Findings<'_>) -> Option<String> {
    match (&spec.pem, &spec.config_map_ref) {
        (Some(text), None) => findings.keep(&path.field("pem"), pem(text, &[CERTIFICATE], Blocks::Several)),
        (None, Some(reference)) => authority_elsewhere(&path.field("configMapRef"), reference, findings),
        (None, None) | (Some(_), Some(_)) => {
            let (one, two) = ("pem", "configMapRef");
            findings.report(path, VerifierError::OneOf { one, two });
            None
        }
    }
}

fn credentials(path: &FieldPath, spec: &CredentialsSpec, findings: &mut Findings<'_>) -> Option<Credentials> {
    match (&spec.docker_config, &spec.secret_ref) {
        // Who writes policies in a cluster has no say over the files of the webhook.
        (Some(_), None) if findings.answers.is_some() => {
            findings.report(&path.field("dockerConfig"), ScopeError::OnlyInFile);
            None
        }
        (Some(file), None) => {
            let file = findings.document.folder().join(Path::new(file));
            Some(Credentials::DockerConfig(file))
        }
        (None, Some(reference)) => login(&path.field("secretRef"), reference, findings),
        (None, None) | (Some(_), Some(_)) => {
            let (one, two) = ("dockerConfig", "secretRef");
            findings.report(path, VerifierError::OneOf { one, two });
            None
        }
    }
}

fn authority_elsewhere(path: &FieldPath, spec: &ConfigMapRef, findings: &mut Findings<'_>) -> Option<String> {
    let Some(answers) = findings.answers else {
        let instead = "ca.pem";
        findings.report(path, ScopeError::OnlyInCluster { instead });
        return None;
    };
    let what = Lookup::ConfigMap {
        name: spec.name.clone(),
        key: spec.key.clone(),
    };
    match findings.keep(path, lookup::answer(answers, &what))? {
        Material::Text(text) => findings.keep(path, pem(text, &[CERTIFICATE], Blocks::Several)),
        Material::Login(_) => findings.keep(path, Err(LookupError::Shape { what })),
    }
}

fn login(path: &FieldPath, spec: &SecretRef, findings: &mut Findings<'_>) -> Option<Credentials> {
    let Some(answers) = findings.answers else {
        let instead = "credentials.dockerConfig, the path of a docker config.json";
        findings.report(path, ScopeError::OnlyInCluster { instead });
        return None;
    };
    let what = Lookup::Secret(spec.name.clone());
    match findings.keep(path, lookup::answer(answers, &what))? {
        Material::Login(login) => Some(Credentials::Login(login.clone())),
        Material::Text(_) => findings.keep(path, Err(LookupError::Shape { what })),
    }
}

fn root(path: &FieldPath, spec: &RootSpec, findings: &mut Findings<'_>) -> Root {
    refuse_other_than_one_anchor(path, spec, findings);
    let ca = spec.ca.as_deref();
    Root {
        keys: keys(&path.field("keys"), &spec.keys, findings),
        key_ids: key_ids(&path.field("keyIDs"), &spec.key_ids, findings),
        ca: ca.and_then(|text| findings.keep(&path.field("ca"), pem(text, &[CERTIFICATE], Blocks::Several))),
        minimum: minimum(&path.field("minimum"), spec, findings),
        trust_on_first_use: spec.trust_on_first_use,
        skip_name_check: spec.skip_name_check,
    }
}

/// One kind of anchor (design §4): what happens when two disagree would be anybody's guess.
fn refuse_other_than_one_anchor(path: &FieldPath, spec: &RootSpec, findings: &mut Findings<'_>) {
    let anchors = [
        !spec.keys.is_empty(),
        !spec.key_ids.is_empty(),
        spec.ca.is_some(),
        spec.trust_on_first_use,
    ];
    let found = anchors.into_iter().filter(|&there| there).count();
    if found != 1 {
        findings.report(path, VerifierError::Anchor { found });
    }
}

/// How many pinned keys must have signed; the schema bounds it from 1 to 16.
fn minimum(path: &FieldPath, spec: &RootSpec, findings: &mut Findings<'_>) -> usize {
    let Some(minimum) = spec.minimum else { return 1 };
    let minimum = usize::try_from(minimum).unwrap_or(usize::MAX);
    let pinned = spec.keys.len() + spec.key_ids.len();
    if minimum > pinned {
        findings.report(path, VerifierError::Minimum { minimum, pinned });
    }
    minimum
}

fn keys(path: &FieldPath, texts: &[String], findings: &mut Findings<'_>) -> Vec<String> {
    let mut keys = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let key = pem(text, &[PUBLIC_KEY, CERTIFICATE], Blocks::One);
        keys.extend(findings.keep(&path.item(i), key));
    }
    // With all of them read, a key's place among them is its place in the file.
    if keys.len() == texts.len() {
        refuse_repeats(path, &keys, findings);
    }
    keys
}

fn key_ids(path: &FieldPath, ids: &[String], findings: &mut Findings<'_>) -> Vec<String> {
    for (i, id) in ids.iter().enumerate().filter(|(_, id)| !is_key_id(id)) {
        let id = id.as_str().into();
        findings.report(&path.item(i), VerifierError::KeyId { id });
    }
    refuse_repeats(path, ids, findings);
    ids.to_vec()
}

/// One key listed twice would meet `minimum: 2` on paper.
fn refuse_repeats(path: &FieldPath, entries: &[String], findings: &mut Findings<'_>) {
    for (i, entry) in entries.iter().enumerate() {
        if entries.iter().take(i).any(|earlier| earlier == entry) {
            // Of PEM its first line of base64.
            let name = entry.lines().nth(1).unwrap_or(entry).into();
            findings.report(&path.item(i), VerifierError::Taken { name });
        }
    }
}

fn is_key_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn signers(path: &FieldPath, specs: &[SignerSpec], findings: &mut Findings<'_>) -> Vec<Signer> {
    let mut signers = Vec::with_capacity(specs.len());
    for (i, spec) in specs.iter().enumerate() {
        let path = path.item(i);
        let name: Box<str> = spec.name.as_str().into();
        if !is_signer(&name) {
            findings.report(&path.field("name"), VerifierError::Signer { name });
        } else if specs.iter().take(i).any(|earlier| earlier.name == spec.name) {
            findings.report(&path.field("name"), VerifierError::Taken { name });
        }
        let key = spec.key.as_deref();
        signers.push(Signer {
            name: spec.name.clone(),
            key: key.and_then(|text| {
                findings.keep(
                    &path.field("key"),
                    pem(text, &[PUBLIC_KEY, CERTIFICATE], Blocks::One),
                )
            }),
        });
    }
    signers
}

/// A delegation below `targets/` (notary-v1 §3.9); `releases` is where tags are released, not somebody who signs.
fn is_signer(name: &str) -> bool {
    let word = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    name != "releases"
        && name.len() <= MAX_GUN_BYTES - "targets/".len()
        && name
            .split('/')
            .all(|segment| !segment.is_empty() && segment.bytes().all(word))
}

/// How many PEM blocks a text may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blocks {
    One,
    Several,
}

/// The text in the one form that every PEM reader takes, so that the same key is the same text however YAML folds it.
fn pem(text: &str, labels: &[&'static str], blocks: Blocks) -> Result<String, VerifierError> {
    if text.contains("PRIVATE KEY-----") {
        return Err(VerifierError::PrivateKey);
    }
    let error = VerifierError::Pem {
        want: labels.first().copied().unwrap_or_default(),
    };
    let (mut rest, mut found, mut canonical) = (text.trim(), 0, String::new());
    while !rest.is_empty() {
        let (block, tail) = labels
            .iter()
            .find_map(|label| block(rest, label))
            .ok_or_else(|| error.clone())?;
        canonical.push_str(&block);
        rest = tail;
        found += 1;
    }
    if found == 0 || (blocks == Blocks::One && found > 1) {
        return Err(error);
    }
    Ok(canonical)
}

/// The block with this label, if the text begins with one, and what follows it. Lines have 64 characters (RFC 7468 §2).
fn block<'a>(text: &'a str, label: &str) -> Option<(String, &'a str)> {
    let (begin, end) = (
        format!("-----BEGIN {label}-----"),
        format!("-----END {label}-----"),
    );
    let (body, rest) = text.strip_prefix(&begin)?.split_once(&end)?;
    let body: String = body.split_whitespace().collect();
    let bytes = STANDARD.decode(&body).ok().filter(|bytes| !bytes.is_empty())?;
    let mut block = begin;
    for (i, character) in STANDARD.encode(bytes).chars().enumerate() {
        if i % 64 == 0 {
            block.push('\n');
        }
        block.push(character);
    }
    Some((format!("{block}\n{end}\n"), rest.trim_start()))
}
