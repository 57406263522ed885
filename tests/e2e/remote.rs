//! Trust metadata as a server sends it, byte for byte.

use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::pki;
use crate::process::output;

/// The files of one repository at one trust server that wants no login.
#[derive(Debug)]
pub(crate) struct Remote {
    base: String,
}

impl Remote {
    pub(crate) fn new(server: &str, gun: &str) -> Self {
        Self {
            base: format!("{server}/v2/{gun}/_trust/tuf/"),
        }
    }

    /// A file by its name, such as `3.root.json`; none if there is none.
    pub(crate) fn get(&self, file: &str) -> Option<Vec<u8>> {
        let url = format!("{}{file}", self.base);
        let asked = output(
            Command::new("curl")
                .args(["--silent", "--fail", "--max-time", "20", "--cacert"])
                .arg(pki::authority())
                .arg(url),
        );
        asked.status.success().then_some(asked.stdout)
    }

    /// What is signed in the current file of a role.
    pub(crate) fn signed(&self, role: &str) -> Value {
        signed(&self.get(&format!("{role}.json")).unwrap())
    }

    /// The ids of the keys that the current root gives a role.
    pub(crate) fn keys(&self, role: &str) -> Value {
        self.signed("root")["roles"][role]["keyids"].clone()
    }

    /// Demands that timestamp, snapshot and the files that it lists are one state: the hash of each is what the file
    /// above it says, by name and by hash. Where the server made the snapshot, it hashed what it would have written.
    pub(crate) fn is_whole(&self) {
        let timestamp = self.signed("timestamp");
        let snapshot = self.listed(&timestamp, "snapshot");
        let snapshot = signed(&snapshot);
        for role in snapshot["meta"].as_object().unwrap().keys() {
            let file = self.listed(&snapshot, role);
            let at_once = self.get(&format!("{role}.json")).unwrap();
            assert_eq!(file, at_once, "{role} by hash and by name");
        }
    }

    /// The file of a role by the hash in the file above it.
    fn listed(&self, above: &Value, role: &str) -> Vec<u8> {
        use base64::Engine;
        let listed = &above["meta"][role];
        let sha256 = listed["hashes"]["sha256"].as_str().unwrap();
        let sha256 = base64::prelude::BASE64_STANDARD.decode(sha256).unwrap();
        let file = self
            .get(&format!("{role}.{}.json", hex::encode(&sha256)))
            .unwrap_or_else(|| panic!("{role} is not to be had by its hash"));
        assert_eq!(Sha256::digest(&file)[..], sha256, "{role}");
        assert_eq!(
            u64::try_from(file.len()).ok(),
            listed["length"].as_u64(),
            "{role}"
        );
        file
    }
}

fn signed(file: &[u8]) -> Value {
    serde_json::from_slice::<Value>(file).unwrap()["signed"].take()
}
