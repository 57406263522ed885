//! One signature check, as metadata need it: the unit that other figures are measured in.

use std::sync::LazyLock;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use countersign::tuf::sha256;
use divan::black_box;
use p256::pkcs8::DecodePublicKey as _;

use crate::repo::Key;

/// As long as a timestamp.
const MESSAGE: [u8; 500] = [b'm'; 500];

#[derive(Clone, Copy, Debug)]
pub enum Algorithm {
    P256,
    Ed25519,
    Rsa2048,
}

struct Signed {
    algorithm: &'static dyn VerificationAlgorithm,
    public: Vec<u8>,
    signature: Vec<u8>,
}

static P256: LazyLock<Signed> = LazyLock::new(|| {
    let key = Key::p256(1);
    let point = p256::PublicKey::from_public_key_der(&key.public).unwrap();
    Signed {
        algorithm: &ECDSA_P256_SHA256_FIXED,
        public: point.to_sec1_bytes().to_vec(),
        signature: key.sign(&MESSAGE),
    }
});

static ED25519_SIGNED: LazyLock<Signed> = LazyLock::new(|| {
    let key = Key::ed25519(3);
    Signed {
        algorithm: &ED25519,
        signature: key.sign(&MESSAGE),
        public: key.public,
    }
});

static RSA: LazyLock<Signed> = LazyLock::new(|| {
    let key = Key::rsa();
    Signed {
        algorithm: &RSA_PSS_2048_8192_SHA256,
        signature: key.sign(&MESSAGE),
        public: key.public,
    }
});

/// Verifies one signature.
pub fn verify(algorithm: Algorithm) {
    let signed = match algorithm {
        Algorithm::P256 => &P256,
        Algorithm::Ed25519 => &ED25519_SIGNED,
        Algorithm::Rsa2048 => &RSA,
    };
    let key = UnparsedPublicKey::new(signed.algorithm, &signed.public);
    key.verify(black_box(&MESSAGE), &signed.signature).unwrap();
}

/// The least that any client must verify of [`crate::metadata::Repository`]: root, targets and `targets/releases`
/// and alice's delegation are P-256, snapshot and timestamp Ed25519.
pub fn of_repository() {
    for _ in 0..4 {
        verify(Algorithm::P256);
    }
    for _ in 0..2 {
        verify(Algorithm::Ed25519);
    }
}

/// Hashes `bytes` once.
pub fn hash(bytes: &[u8]) -> [u8; 32] {
    sha256(black_box(bytes))
}
