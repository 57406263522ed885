//! Key files: what is read is written so that it reads the same, and no path leads out of the key store.

use countersign::tuf::{KeyFile, PrivateKey};

pub(crate) fn run(data: &[u8]) {
    decoded(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for file in KeyFile::parse_all(text).unwrap_or_default() {
        let again = KeyFile::parse(&file.to_pem()).expect("what is written reads");
        assert_eq!(again.labels, file.labels, "labels change on the way");
        assert_eq!(again.is_encrypted(), file.is_encrypted());
        assert_eq!(
            again.to_pem(),
            file.to_pem(),
            "the written form is not a fixed point"
        );
        assert_eq!(again.named_id(), None, "a stored file has no path");
        if let Some(id) = file.named_id() {
            let name = id.to_string();
            assert!(
                name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()),
                "a path got through: {name}"
            );
        }
        // Without a passphrase nothing is computed, whatever the file asks for.
        if let Ok(key) = file.open(None) {
            decoded(&key.encode().expect("a key that was read is written"));
        }
    }
}

fn decoded(der: &[u8]) {
    if let Ok(key) = PrivateKey::decode(der) {
        let written = key.encode().expect("a key that was read is written");
        let again = PrivateKey::decode(&written).expect("what is written reads");
        assert_eq!(again.id(), key.id(), "another key came back");
        assert_eq!(
            again.encode().expect("twice"),
            written,
            "the written form is not a fixed point"
        );
    }
}
