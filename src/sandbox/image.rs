//! Images that are just big enough to have a digest. The same words make the same image, bit for bit, wherever it is made.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::reference::Digest;
use crate::tuf::sha256;

/// An image for one platform, with an empty file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Of the manifest.
    pub(super) media_type: &'static str,
    pub(super) manifest: Bytes,
    pub(super) config: Bytes,
    pub(super) layer: Bytes,
}

impl Image {
    /// The image that says `what` it is, in a label.
    pub(super) fn new(what: &str) -> Self {
        // Two blocks of zeros: a tar archive without files. Uncompressed, so that no compressor has a say in the digest.
        let layer = Bytes::from_static(&[0; 1024]);
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Labels": {"org.opencontainers.image.title": what}},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let config = Bytes::from(config.to_string());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        Self {
            media_type: MANIFEST,
            manifest: Bytes::from(manifest.to_string()),
            config,
            layer,
        }
    }

    /// What a tag that stands for it is signed as.
    pub(super) fn digest(&self) -> Digest {
        digest(&self.manifest)
    }
}

fn descriptor(media_type: &str, blob: &Bytes) -> Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}

fn digest(blob: &Bytes) -> Digest {
    Digest::sha256(sha256(blob))
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_make_the_same_image_and_others_another() {
        assert_eq!(Image::new("one"), Image::new("one"));
        assert_ne!(Image::new("one").digest(), Image::new("two").digest());
    }

    #[test]
    fn a_manifest_names_its_parts_by_their_digests() {
        let image = Image::new("one");
        let manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
        assert_eq!(manifest["config"]["digest"], digest(&image.config).to_string());
        assert_eq!(
            manifest["layers"][0],
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 1024, "digest": digest(&image.layer)})
        );
    }
}
