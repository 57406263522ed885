//! What a trust server does with an upload (notary-v1 §8.2), as far as a publisher can tell: validated, stored, given a
//! snapshot and a timestamp. Like the builder of repositories it shares nothing with the code under test: signatures
//! are verified and bytes re-serialised by other libraries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use p256::ecdsa::signature::Verifier as _;
use p256::pkcs8::DecodePublicKey as _;
use serde_json::{Map, Value, json};
use x509_cert::der::{DecodePem as _, Encode as _};

use crate::repo::{Files, Key};
use crate::trust_server::{self, Logged, TrustServer};

/// When what this server signs ends.
const EXPIRES: &str = "2090-01-01T00:00:00Z";

/// One repository on a server.
pub struct Ledger {
    /// What it serves.
    pub files: Files,
    /// The newest file of each role.
    pub current: BTreeMap<String, Vec<u8>>,
    /// Its keys for snapshot and timestamp; the last one is the newest.
    pub keys: BTreeMap<&'static str, Vec<Key>>,
    meta: Map<String, Value>,
    next_key: u8,
}

/// Repositories on a server, by GUN.
#[derive(Clone, Default)]
pub struct Ledgers(Arc<Mutex<BTreeMap<String, Kept>>>);

struct Kept {
    ledger: Ledger,
    /// How many publications are taken without an answer.
    lost: usize,
}

impl Ledgers {
    /// Has `server` take publications of `gun`.
    pub fn open(&self, server: &TrustServer, gun: &str) {
        let kept = Kept {
            ledger: Ledger::new(),
            lost: 0,
        };
        self.0.lock().unwrap().insert(gun.to_owned(), kept);
        let all = self.clone();
        server.ask_first(move |request| all.answer(request));
    }

    /// What the server holds of a repository.
    pub fn of<T>(&self, gun: &str, look: impl FnOnce(&mut Ledger) -> T) -> T {
        look(&mut self.0.lock().unwrap().get_mut(gun).unwrap().ledger)
    }

    /// Takes so many publications without ever saying so.
    pub fn lose_answers(&self, gun: &str, times: usize) {
        self.0.lock().unwrap().get_mut(gun).unwrap().lost = times;
    }

    fn answer(&self, request: &Logged) -> Option<trust_server::Kept> {
        let path = request.target.split('?').next().unwrap();
        let (gun, name) = path.strip_prefix("/v2/")?.split_once("/_trust/tuf/")?;
        let mut all = self.0.lock().unwrap();
        let Kept { ledger, lost } = all.get_mut(gun)?;
        let reply = |status, body: String| Some(trust_server::Kept::Reply(status, body.into()));
        match (request.method.as_str(), name) {
            ("POST", "") => match ledger.publish(&parts(&request.body)) {
                Ok(()) if *lost > 0 => {
                    *lost -= 1;
                    Some(trust_server::Kept::Lost)
                }
                Ok(()) => reply(200, String::new()),
                Err((status, code, detail)) => {
                    let errors = json!({"errors": [{"code": code, "message": "m", "detail": detail}]});
                    reply(status, errors.to_string())
                }
            },
            ("DELETE", "") => {
                *ledger = Ledger::new();
                reply(200, String::new())
            }
            (method, "snapshot.key" | "timestamp.key") => {
                let role = if name == "snapshot.key" {
                    "snapshot"
                } else {
                    "timestamp"
                };
                if method == "POST" {
                    ledger.rotate(role);
                }
                reply(200, ledger.key(role))
            }
            _ => match ledger.files.0.get(name) {
                Some(raw) => reply(200, String::from_utf8(raw.clone()).unwrap()),
                None => reply(404, r#"{"errors":[{"code":"METADATA_NOT_FOUND"}]}"#.to_owned()),
            },
        }
    }
}

/// The files of an upload, by the role that their `filename` is.
fn parts(body: &str) -> Vec<(String, Vec<u8>)> {
    let boundary = body.lines().next().unwrap();
    let parts = body.split(boundary).filter_map(|part| {
        let (head, rest) = part.split_once("\r\n\r\n")?;
        let role = head.split("filename=\"").nth(1)?.split('"').next()?;
        let file = rest.strip_suffix("\r\n")?;
        Some((role.to_owned(), file.as_bytes().to_vec()))
    });
    parts.collect()
}

/// Status, code and detail of a refusal.
pub type Refusal = (u16, &'static str, Value);

impl Ledger {
    pub fn new() -> Self {
        let keys = [
            ("snapshot", vec![Key::ed25519(200)]),
            ("timestamp", vec![Key::ed25519(201)]),
        ];
        Self {
            files: Files::default(),
            current: BTreeMap::new(),
            keys: keys.into(),
            meta: Map::new(),
            next_key: 210,
        }
    }

    /// The key for a role, as the key endpoint answers it: not in canonical order.
    pub fn key(&self, role: &str) -> String {
        let key = self.keys[role].last().unwrap();
        let public = BASE64_STANDARD.encode(&key.public);
        format!(
            r#"{{"keytype":"{}","keyval":{{"public":"{public}","private":null}}}}"#,
            key.keytype
        )
    }

    /// Makes another key for a role.
    pub fn rotate(&mut self, role: &'static str) {
        self.next_key += 1;
        self.keys.get_mut(role).unwrap().push(Key::ed25519(self.next_key));
    }

    /// Version of the newest file of a role; 0 if there is none.
    pub fn version(&self, role: &str) -> u64 {
        self.current
            .get(role)
            .map_or(0, |raw| signed(raw)["version"].as_u64().unwrap())
    }

    /// Takes an upload, or refuses it.
    pub fn publish(&mut self, parts: &[(String, Vec<u8>)]) -> Result<(), Refusal> {
        let mut next = self.current.clone();
        for (role, raw) in parts {
            exact(role, raw)?;
            let version = signed(raw)["version"].as_u64().unwrap();
            if version <= self.version(role) {
                return Err((400, "VERSION", json!({})));
            }
            if role == "root" && version != self.version(role) + 1 {
                return Err(invalid(
                    "ErrBadRoot",
                    "root modifications must increment the version",
                ));
            }
            next.insert(role.clone(), raw.clone());
        }
        let root = next
            .get("root")
            .ok_or_else(|| invalid("ErrValidation", "no root"))?
            .clone();
        if let Some(before) = self.current.get("root").filter(|before| **before != root) {
            vouched(&root, &base(before, "root"), "ErrBadRoot")?;
        }
        vouched(&root, &base(&root, "root"), "ErrBadRoot")?;
        vouched(&next["targets"], &base(&root, "targets"), "ErrBadTargets")?;
        for (role, raw) in parts.iter().filter(|(role, _)| role.starts_with("targets/")) {
            vouched(raw, &delegation(&next["targets"], role)?, "ErrBadTargets")?;
        }
        self.close(parts, next)
    }

    /// Snapshot and timestamp, then all is stored.
    fn close(
        &mut self,
        parts: &[(String, Vec<u8>)],
        mut next: BTreeMap<String, Vec<u8>>,
    ) -> Result<(), Refusal> {
        let root = next["root"].clone();
        let uploaded = parts.iter().any(|(role, _)| role == "snapshot");
        for (role, raw) in parts.iter().filter(|(role, _)| role != "snapshot") {
            self.meta.insert(role.clone(), described(raw));
        }
        if uploaded {
            vouched(&next["snapshot"], &base(&root, "snapshot"), "ErrBadSnapshot")?;
            let meta = signed(&next["snapshot"])["meta"].clone();
            for (role, raw) in next
                .iter()
                .filter(|(role, _)| *role == "root" || role.starts_with("targets"))
            {
                if !meta[role].is_null() && meta[role] != described(raw) {
                    return Err(invalid("ErrBadSnapshot", role));
                }
            }
        } else {
            let missing =
                json!({"Name": "ErrBadHierarchy", "Error": {"Missing": "snapshot", "Msg": "no key"}});
            let key = self
                .held("snapshot", &root)
                .ok_or((400, "INVALID_UPDATE", missing))?;
            let document = json!({"_type": "Snapshot", "expires": EXPIRES, "meta": self.meta,
                "version": self.version("snapshot") + 1});
            next.insert("snapshot".to_owned(), sign(&document, &key));
        }
        let key = self
            .held("timestamp", &root)
            .ok_or_else(|| invalid("ErrBadRoot", "no timestamp key"))?;
        let document = json!({"_type": "Timestamp", "expires": EXPIRES,
            "meta": {"snapshot": described(&next["snapshot"])}, "version": self.version("timestamp") + 1});
        next.insert("timestamp".to_owned(), sign(&document, &key));
        for (role, raw) in &next {
            if self.current.get(role) != Some(raw) {
                self.files
                    .put(role, signed(raw)["version"].as_u64().unwrap(), raw.clone());
            }
        }
        self.current = next;
        Ok(())
    }

    fn held(&self, role: &str, root: &[u8]) -> Option<Key> {
        let listed = signed(root)["roles"][role]["keyids"].clone();
        let held = self.keys[role].iter().find(|key| listed[0] == key.id().as_str());
        held.cloned()
    }
}

fn invalid(name: &str, why: &str) -> Refusal {
    (
        400,
        "INVALID_UPDATE",
        json!({"Name": name, "Error": {"Msg": why}}),
    )
}

/// What a reference server would hash is its own serialisation of the upload: it must be the same.
fn exact(role: &str, raw: &[u8]) -> Result<(), Refusal> {
    let value: Value = serde_json::from_slice(raw).map_err(|_| (400, "MALFORMED_JSON", json!({})))?;
    let again = format!(
        r#"{{"signed":{},"signatures":{}}}"#,
        value["signed"], value["signatures"]
    );
    if again.as_bytes() == raw {
        Ok(())
    } else {
        Err(invalid(
            "ErrBadTargets",
            &format!("{role} is not what the reference would write"),
        ))
    }
}

fn signed(raw: &[u8]) -> Value {
    serde_json::from_slice::<Value>(raw).unwrap()["signed"].clone()
}

/// Keys by id, and how many of them must sign.
type Authority = (BTreeMap<String, Value>, u64);

fn base(root: &[u8], role: &str) -> Authority {
    let root = signed(root);
    authority(&root["roles"][role], &root["keys"])
}

fn delegation(targets: &[u8], name: &str) -> Result<Authority, Refusal> {
    let delegations = signed(targets)["delegations"].clone();
    let roles = delegations["roles"].as_array().unwrap();
    let role = roles.iter().find(|role| role["name"] == name);
    let role = role.ok_or_else(|| invalid("ErrBadTargets", "no such delegation"))?;
    Ok(authority(role, &delegations["keys"]))
}

fn authority(role: &Value, keys: &Value) -> Authority {
    let ids = role["keyids"].as_array().unwrap().iter();
    let keys = ids.map(|id| {
        (
            id.as_str().unwrap().to_owned(),
            keys[id.as_str().unwrap()].clone(),
        )
    });
    (keys.collect(), role["threshold"].as_u64().unwrap())
}

fn vouched(raw: &[u8], (keys, threshold): &Authority, name: &str) -> Result<(), Refusal> {
    let value: Value = serde_json::from_slice(raw).unwrap();
    let message = value["signed"].to_string();
    let signatures = value["signatures"].as_array().unwrap().iter();
    let valid = signatures.filter(|signature| {
        let key = keys.get(signature["keyid"].as_str().unwrap());
        key.is_some_and(|key| verifies(key, signature, message.as_bytes()))
    });
    if u64::try_from(valid.count()).unwrap() >= *threshold {
        Ok(())
    } else {
        Err(invalid(name, "signature threshold not met"))
    }
}

fn verifies(key: &Value, signature: &Value, message: &[u8]) -> bool {
    let decode = |value: &Value| BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
    let (public, bytes) = (decode(&key["keyval"]["public"]), decode(&signature["sig"]));
    let spki = match key["keytype"].as_str().unwrap() {
        "ecdsa" => public,
        "ecdsa-x509" => {
            let certificate = x509_cert::Certificate::from_pem(&public).unwrap();
            certificate
                .tbs_certificate()
                .subject_public_key_info()
                .to_der()
                .unwrap()
        }
        _ => return false,
    };
    let key = p256::ecdsa::VerifyingKey::from_public_key_der(&spki).unwrap();
    let signature = p256::ecdsa::Signature::from_slice(&bytes).unwrap();
    key.verify(message, &signature).is_ok()
}

fn sign(document: &Value, key: &Key) -> Vec<u8> {
    let signed = document.to_string();
    let signature = json!({"keyid": key.id(), "method": key.method,
        "sig": BASE64_STANDARD.encode(key.sign(signed.as_bytes()))});
    format!(r#"{{"signed":{signed},"signatures":[{signature}]}}"#).into_bytes()
}

fn described(raw: &[u8]) -> Value {
    let hash = |algorithm| BASE64_STANDARD.encode(aws_lc_rs::digest::digest(algorithm, raw));
    json!({"hashes": {"sha256": hash(&aws_lc_rs::digest::SHA256), "sha512": hash(&aws_lc_rs::digest::SHA512)},
        "length": raw.len()})
}
