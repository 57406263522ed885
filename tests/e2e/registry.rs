//! A real registry, and images that are just big enough to have a digest.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::process::{self, Process, listens, run};

/// `gzip -9n` of an empty tar archive (1,024 zero bytes).
const LAYER: &str = "1f8b080000000000020363601805a360148c5400002eafb5ef00040000";

/// A running `docker-registry`.
#[derive(Debug)]
pub(crate) struct Registry {
    _process: Process,
    /// `localhost:PORT`, the first part of every repository's name.
    pub(crate) host: String,
}

/// What was pushed: what a signature binds a tag to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// `sha256:` and hexadecimal digits.
    pub(crate) digest: String,
    /// Length of the manifest in bytes.
    pub(crate) size: usize,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let (process, [port]) = Process::start(
            "registry",
            Duration::from_secs(20),
            |[port]| {
                let storage = process::new_folder("registry");
                let config = json!({
                    "version": "0.1",
                    "log": {"level": "warn"},
                    "storage": {"filesystem": {"rootdirectory": storage}},
                    "http": {"addr": format!("127.0.0.1:{port}")},
                });
                let mut command = Command::new("docker-registry");
                // JSON is YAML.
                command
                    .arg("serve")
                    .arg(process::write("registry.yml", config.to_string()));
                command
            },
            |[port]| listens(port),
        );
        Self {
            _process: process,
            host: format!("localhost:{port}"),
        }
    }

    /// Pushes an image that differs from others by `text` only.
    pub(crate) fn push(&self, repository: &str, tag: &str, text: &str) -> Image {
        let folder = process::new_folder(&format!("images/{repository}/{tag}/{text}"));
        let image = write_layout(&folder, text);
        run(Command::new("skopeo")
            .args([
                "copy",
                "--quiet",
                "--insecure-policy",
                "--preserve-digests",
                "--dest-tls-verify=false",
            ])
            .arg(format!("oci:{}:image", folder.display()))
            .arg(format!("docker://{}/{repository}:{tag}", self.host)));
        image
    }
}

/// Writes an OCI image layout with one image in it.
fn write_layout(folder: &Path, text: &str) -> Image {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let store = |bytes: &[u8]| {
        let hex = hex::encode(Sha256::digest(bytes));
        std::fs::write(blobs.join(&hex), bytes).unwrap();
        (format!("sha256:{hex}"), bytes.len())
    };
    let (layer, layer_size) = store(&hex::decode(LAYER).unwrap());
    let content = format!("sha256:{}", hex::encode(Sha256::digest([0; 1024])));
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {"text": text}},
        "rootfs": {"type": "layers", "diff_ids": [content]},
    });
    let (config, config_size) = store(config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer, "size": layer_size}],
    });
    let (digest, size) = store(manifest.to_string().as_bytes());
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": size,
            "annotations": {"org.opencontainers.image.ref.name": "image"},
        }],
    });
    std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    Image { digest, size }
}
