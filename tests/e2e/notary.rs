//! The reference client, as a publisher uses it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::pki;
use crate::process::{self, output_of_input, run, text};
use crate::registry::Image;
use crate::token;
use crate::trust_server::TrustServer;

/// One repository of one trust server, with the keys of its publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) gun: String,
    folder: PathBuf,
    config: PathBuf,
}

impl Publisher {
    /// Keys and configuration only; [`Self::init`] makes the repository. Publishers that share a `keyring` share
    /// their root key.
    pub(crate) fn new(server: &TrustServer, keyring: &str, gun: &str) -> Self {
        Self::at(&server.url(), keyring, gun)
    }

    /// Towards the trust server at this URL, whatever it is.
    pub(crate) fn at(server: &str, keyring: &str, gun: &str) -> Self {
        let folder = process::new_folder(&format!("notary/{keyring}"));
        Self::with_keys_of(server, keyring, gun, &folder)
    }

    /// With the key store of somebody else, which may be one of ours.
    pub(crate) fn with_keys_of(server: &str, name: &str, gun: &str, folder: &Path) -> Self {
        let config = json!({
            "trust_dir": folder,
            "remote_server": {"url": server, "root_ca": pki::authority()},
        });
        let config = process::write(&format!("notary/{name}.json"), config.to_string());
        Self {
            gun: gun.to_owned(),
            folder: folder.to_owned(),
            config,
        }
    }

    /// With a certificate of its own towards the trust server.
    pub(crate) fn with_certificate(server: &str, keyring: &str, gun: &str, own: &pki::Identity) -> Self {
        let folder = process::new_folder(&format!("notary/{keyring}"));
        let config = json!({
            "trust_dir": folder,
            "remote_server": {
                "url": server,
                "root_ca": pki::authority(),
                "tls_client_cert": own.certificate,
                "tls_client_key": own.key,
            },
        });
        let config = process::write(&format!("notary/{keyring}.json"), config.to_string());
        Self {
            gun: gun.to_owned(),
            folder,
            config,
        }
    }

    /// A publisher of another repository with the same keys.
    pub(crate) fn with_folder_of(other: &Self, gun: &str) -> Self {
        Self {
            gun: gun.to_owned(),
            folder: other.folder.clone(),
            config: other.config.clone(),
        }
    }

    /// The trust directory, which docker and notary share, and so do we.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A repository as docker made it: the server holds the snapshot key. (Docker asks for it at once; the `notary`
    /// program rotates to it.)
    pub(crate) fn init(&self) {
        self.does(&["init", &self.gun, "-p"]);
        self.does(&["key", "rotate", &self.gun, "snapshot", "-r"]);
    }

    /// Signs a tag in `targets`, or in the `roles` given, separated by commas.
    pub(crate) fn sign(&self, tag: &str, image: &Image, roles: Option<&str>) {
        self.stage(tag, image, roles);
        self.publish();
    }

    /// As [`Self::sign`], for the next publication.
    pub(crate) fn stage(&self, tag: &str, image: &Image, roles: Option<&str>) {
        let size = image.size.to_string();
        let hex = image.digest.trim_start_matches("sha256:");
        let mut arguments = vec!["addhash", &self.gun, tag, &size, "--sha256", hex];
        arguments.extend(roles.iter().flat_map(|roles| ["-r", roles]));
        self.does(&arguments);
    }

    pub(crate) fn revoke(&self, tag: &str) {
        self.does(&["remove", &self.gun, tag, "-p"]);
    }

    pub(crate) fn publish(&self) {
        self.does(&["publish", &self.gun]);
    }

    /// As `docker trust signer add`: the signer's key goes into a delegation of its own, and into `targets/releases`.
    pub(crate) fn add_signer(&self, signer: &SignerKey) {
        self.stage_signer(signer);
        self.publish();
    }

    /// As [`Self::add_signer`], for the next publication.
    pub(crate) fn stage_signer(&self, signer: &SignerKey) {
        let own = format!("targets/{}", signer.name);
        let public = signer.public.to_str().unwrap();
        for role in [own.as_str(), "targets/releases"] {
            self.does(&["delegation", "add", &self.gun, role, public, "--all-paths"]);
        }
        self.does(&[
            "key",
            "import",
            signer.private.to_str().unwrap(),
            "-r",
            &signer.name,
        ]);
    }

    /// As `docker trust signer remove`.
    pub(crate) fn remove_signer(&self, signer: &SignerKey) {
        let own = format!("targets/{}", signer.name);
        let id = signer.id();
        self.does(&["delegation", "remove", &self.gun, "targets/releases", &id, "-y"]);
        self.does(&["delegation", "remove", &self.gun, &own, "-y"]);
        self.publish();
    }

    /// Rotates a key; with `-r` among `how` the server's takes its place.
    pub(crate) fn rotate(&self, role: &str, how: &[&str]) {
        // Root rotation asks whether one is sure.
        let mut command = self.command();
        command.args(["key", "rotate", &self.gun, role]).args(how);
        let output = output_of_input(&mut command, "yes\n");
        assert!(
            output.status.success(),
            "{}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }

    /// What `notary list` prints.
    pub(crate) fn list(&self) -> String {
        run(self.command().args(["list", &self.gun]))
    }

    /// The key id of the root role: what an operator pins.
    pub(crate) fn root_key_id(&self) -> String {
        self.root()["signed"]["roles"]["root"]["keyids"][0]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// The public root key as a PEM file: the other thing an operator pins.
    pub(crate) fn root_key(&self) -> PathBuf {
        let root = self.root();
        let certificate = root["signed"]["keys"][self.root_key_id()]["keyval"]["public"]
            .as_str()
            .unwrap();
        let certificate = BASE64_STANDARD.decode(certificate).unwrap();
        let file = process::write(&format!("root-keys/{}-certificate.pem", self.gun), certificate);
        let pem = run(Command::new("openssl")
            .args(["x509", "-noout", "-pubkey", "-in"])
            .arg(&file));
        process::write(&format!("root-keys/{}.pem", self.gun), pem)
    }

    /// Root as the client has it: in its cache, which every command but the publishing ones brings up to date.
    fn root(&self) -> Value {
        self.list();
        let path = self.folder.join("tuf").join(&self.gun).join("metadata/root.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    pub(crate) fn does(&self, arguments: &[&str]) {
        run(self.command().args(arguments));
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("notary");
        command
            .arg("-c")
            .arg(&self.config)
            .env("NOTARY_ROOT_PASSPHRASE", "passphrase of root")
            .env("NOTARY_TARGETS_PASSPHRASE", "passphrase of targets")
            .env("NOTARY_SNAPSHOT_PASSPHRASE", "passphrase of snapshot")
            .env("NOTARY_DELEGATION_PASSPHRASE", "passphrase of delegations")
            .env("NOTARY_AUTH", token::login())
            // Go writes times as they are where it runs; not every place is at Greenwich.
            .env("TZ", "Asia/Kolkata");
        command
    }
}

/// The key of one signer, as files.
#[derive(Debug)]
pub(crate) struct SignerKey {
    pub(crate) name: String,
    pub(crate) public: PathBuf,
    pub(crate) private: PathBuf,
}

impl SignerKey {
    pub(crate) fn generate(folder: &Path, name: &str) -> Self {
        let private = folder.join(format!("{name}-key.pem"));
        let public = folder.join(format!("{name}.pem"));
        run(Command::new("openssl")
            .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
            .arg(&private));
        run(Command::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(&private)
            .arg("-out")
            .arg(&public));
        Self {
            name: name.to_owned(),
            public,
            private,
        }
    }

    /// The id of the key, in any role.
    pub(crate) fn id(&self) -> String {
        let public = fs::read_to_string(&self.public).unwrap();
        countersign::tuf::pinned_key(&public).unwrap().to_string()
    }
}
