//! Image references: what was read is printed so that it reads the same.

use countersign::reference::{Digest, Gun, Reference};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(reference) = Reference::parse(text) {
        let printed = reference.to_string();
        assert_eq!(Reference::parse(&printed).as_ref(), Ok(&reference), "{text:?}");
        assert!(
            reference.tag().is_some() || reference.digest().is_some(),
            "{text:?}"
        );
        let gun = reference.gun();
        assert_eq!(format!("{}/{}", gun.host(), gun.path()), gun.as_str(), "{text:?}");
        let pinned = reference.with_digest(Digest::sha256([7; 32]));
        assert_eq!(Reference::parse(&pinned.to_string()), Ok(pinned), "{text:?}");
    }
    if let Ok(gun) = text.parse::<Gun>() {
        assert_eq!(gun.as_str(), text);
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
}
