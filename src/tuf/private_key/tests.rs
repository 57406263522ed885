use aws_lc_rs::rsa::KeySize;
use p256::elliptic_curve::Generate as _;
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};

use super::super::asn1::{OCTET_STRING, SEQUENCE, element, unsigned};
use super::*;

const MESSAGE: &[u8] = b"what is signed";

fn rsa(size: KeySize) -> Vec<u8> {
    let pair = RsaKeyPair::generate(size).unwrap();
    let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
    der.as_ref().to_vec()
}

/// One key of each kind, made by another library where one is at hand, with the public half it says it has.
fn of_every_kind() -> Vec<(&'static str, &'static str, PrivateKey)> {
    let p256 = p256::SecretKey::generate().to_pkcs8_der().unwrap();
    let p384 = p384::SecretKey::generate().to_pkcs8_der().unwrap();
    let p521 = p521::SecretKey::generate().to_pkcs8_der().unwrap();
    vec![
        (
            "ecdsa",
            "ecdsa",
            PrivateKey::generate(Algorithm::EcdsaP256).unwrap(),
        ),
        (
            "ed25519",
            "eddsa",
            PrivateKey::generate(Algorithm::Ed25519).unwrap(),
        ),
        ("ecdsa", "ecdsa", PrivateKey::decode(p256.as_bytes()).unwrap()),
        ("ecdsa", "ecdsa", PrivateKey::decode(p384.as_bytes()).unwrap()),
        ("ecdsa", "ecdsa", PrivateKey::decode(p521.as_bytes()).unwrap()),
        (
            "rsa",
            "rsapss",
            PrivateKey::decode(&rsa(KeySize::Rsa2048)).unwrap(),
        ),
    ]
}

#[test]
fn signatures_of_every_kind_of_key_verify_and_only_over_their_message() {
    for (keytype, method, key) in of_every_kind() {
        assert_eq!(key.public().keytype(), keytype);
        assert_eq!(key.method(), method);
        let signature = key.sign(MESSAGE).unwrap();
        assert!(key.public().verify(method, MESSAGE, &signature), "{key:?}");
        assert!(
            !key.public().verify(method, b"what is not", &signature),
            "{key:?}"
        );
    }
}

#[test]
fn a_signature_of_p384_is_over_sha256_as_another_library_reads_it() {
    use p384::ecdsa::signature::hazmat::PrehashVerifier as _;
    let secret = p384::SecretKey::generate();
    let key = PrivateKey::decode(secret.to_pkcs8_der().unwrap().as_bytes()).unwrap();
    let signature = p384::ecdsa::Signature::from_slice(&key.sign(MESSAGE).unwrap()).unwrap();
    let verifier = p384::ecdsa::VerifyingKey::from(secret.public_key());
    verifier.verify_prehash(&sha256(MESSAGE), &signature).unwrap();
}

#[test]
fn the_public_half_is_what_another_library_computes() {
    let secret = p521::SecretKey::generate();
    let key = PrivateKey::decode(secret.to_pkcs8_der().unwrap().as_bytes()).unwrap();
    let public = secret.public_key().to_public_key_der().unwrap();
    assert_eq!(key.public().public(), public.as_bytes());
    assert_eq!(key.id(), key.public().canonical());
}

#[test]
fn what_is_encoded_decodes_to_the_same_key() {
    for (_, _, key) in of_every_kind() {
        let der = key.encode().unwrap();
        let again = PrivateKey::decode(&der).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(again.encode().unwrap(), der);
        // Version 0 (§7.3).
        let body = der.iter().position(|byte| *byte == 2).unwrap();
        assert_eq!(der[body..body + 3], [2, 1, 0]);
    }
}

#[test]
fn a_strict_library_reads_what_is_written() {
    use p256::pkcs8::DecodePrivateKey as _;
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let strict = p256::SecretKey::from_pkcs8_der(&key.encode().unwrap()).unwrap();
    let public = strict.public_key().to_public_key_der().unwrap();
    assert_eq!(public.as_bytes(), key.public().public());
    let (_, _, rsa) = of_every_kind().pop().unwrap();
    RsaKeyPair::from_pkcs8(&rsa.encode().unwrap()).unwrap();
}

#[test]
fn secrets_are_not_printed() {
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    assert_eq!(format!("{key:?}"), format!("PrivateKey({})", key.id()));
}

/// PKCS#8 of P-256 from its parts.
fn p256(version: u8, curve: &[u8], key: &[u8], rest: &[u8]) -> Vec<u8> {
    let ec = [6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    let algorithm = element(SEQUENCE, &[&ec, curve]);
    let key = element(OCTET_STRING, &[key]);
    element(SEQUENCE, &[&unsigned(&[version]), &algorithm, &key, rest]).to_vec()
}

const P256_NAME: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P384_NAME: &[u8] = &[6, 5, 0x2b, 0x81, 4, 0, 0x22];
const P224_NAME: &[u8] = &[6, 5, 0x2b, 0x81, 4, 0, 0x21];

fn sec1(scalar: &[u8], rest: &[&[u8]]) -> Vec<u8> {
    let scalar = element(OCTET_STRING, &[scalar]);
    let mut parts: Vec<&[u8]> = vec![&[2, 1, 1], &scalar];
    parts.extend(rest);
    element(SEQUENCE, &parts).to_vec()
}

#[test]
fn spellings_of_other_writers_are_read() {
    let plain = PrivateKey::decode(&p256(0, P256_NAME, &sec1(&[7; 32], &[]), &[])).unwrap();
    let named = sec1(&[7; 32], &[&element(0xa0, &[P256_NAME])]);
    let mut longer = vec![0; 2];
    longer.extend([7; 32]);
    for (writer, der) in [
        ("notary", p256(1, P256_NAME, &named, &[])),
        ("one zero too many", p256(0, P256_NAME, &sec1(&longer, &[]), &[])),
        ("attributes", p256(0, P256_NAME, &named, &[0xa0, 0])),
    ] {
        assert_eq!(PrivateKey::decode(&der).unwrap().id(), plain.id(), "{writer}");
    }
    // A scalar whose leading zero an old writer left out.
    let short = PrivateKey::decode(&p256(0, P256_NAME, &sec1(&[7; 31], &[]), &[])).unwrap();
    let mut padded = [7; 32];
    padded[0] = 0;
    let full = PrivateKey::decode(&p256(0, P256_NAME, &sec1(&padded, &[]), &[])).unwrap();
    assert_eq!(short.id(), full.id());
}

#[test]
fn what_is_no_usable_key_is_refused_for_its_own_reason() {
    use PrivateKeyError::{Damaged, Malformed, Unsupported};
    let good = sec1(&[7; 32], &[]);
    let foreign = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let point = &foreign.public().public()[26..];
    let bits = element(0xa1, &[&element(3, &[&[0], point])]);
    let mut trailing = p256(0, P256_NAME, &good, &[]);
    trailing.push(0);
    for (case, der, want) in [
        ("nothing", vec![], Malformed),
        ("text", b"hello".to_vec(), Malformed),
        ("data after it", trailing, Malformed),
        ("version 2", p256(2, P256_NAME, &good, &[]), Malformed),
        ("no curve", p256(0, &[], &good, &[]), Unsupported),
        (
            "P-224",
            p256(0, P224_NAME, &sec1(&[7; 28], &[]), &[]),
            Unsupported,
        ),
        ("zero", p256(0, P256_NAME, &sec1(&[0; 32], &[]), &[]), Damaged),
        (
            "above the order",
            p256(0, P256_NAME, &sec1(&[0xff; 32], &[]), &[]),
            Damaged,
        ),
        ("too long", p256(0, P256_NAME, &sec1(&[7; 33], &[]), &[]), Damaged),
        ("no SEC 1", p256(0, P256_NAME, b"x", &[]), Damaged),
        (
            "another's point",
            p256(0, P256_NAME, &sec1(&[7; 32], &[&bits]), &[]),
            Damaged,
        ),
        (
            "two curves",
            p256(
                0,
                P256_NAME,
                &sec1(&[7; 32], &[&element(0xa0, &[P384_NAME])]),
                &[],
            ),
            Damaged,
        ),
    ] {
        assert_eq!(PrivateKey::decode(&der).unwrap_err(), want, "{case}");
    }
}

#[test]
fn the_halves_of_an_ed25519_key_must_belong_together() {
    let key = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    let der = key.encode().unwrap();
    for at in [der.len() - 1, der.len() - 33, der.len() - 65] {
        let mut changed = der.to_vec();
        changed[at] ^= 1;
        assert_eq!(
            PrivateKey::decode(&changed).unwrap_err(),
            PrivateKeyError::Damaged
        );
    }
}

#[test]
fn a_root_certificate_has_what_the_reference_puts_in_and_nothing_else() {
    use x509_cert::der::{Decode as _, DecodePem as _, Encode as _};
    let gun: crate::reference::Gun = "registry.example.com/team/app".parse().unwrap();
    let now: jiff::Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let mut keys = of_every_kind();
    keys.retain(|(keytype, ..)| *keytype != "ed25519");
    for (keytype, method, key) in keys {
        let certified = key.root_certificate(&gun, now).unwrap();
        assert_eq!(certified.keytype(), format!("{keytype}-x509"));
        assert_eq!(certified.canonical(), key.id());
        assert_ne!(certified.id(), key.id());
        let leaf = certified.bundle().unwrap().leaf();
        assert_eq!(leaf.common_name(), Some(gun.as_str()));
        assert_eq!(leaf.defect(Some(now)), None);
        assert_eq!(leaf.not_after().to_string(), "2039-12-30T00:00:00Z");
        assert!(certified.verify(method, MESSAGE, &key.sign(MESSAGE).unwrap()));

        let parsed = x509_cert::Certificate::from_pem(certified.public()).unwrap();
        let body = parsed.tbs_certificate();
        assert_eq!(body.subject(), body.issuer());
        assert_eq!(body.subject().as_ref().len(), 1);
        let extensions: Vec<_> = body
            .extensions()
            .unwrap()
            .iter()
            .map(|extension| {
                let content = hex::encode(extension.extn_value.as_bytes());
                (extension.extn_id.to_string(), extension.critical, content)
            })
            .collect();
        let wanted = [
            ("2.5.29.15", true, "030205a0"),
            ("2.5.29.37", false, "300a06082b06010505070303"),
            ("2.5.29.19", true, "3000"),
        ];
        assert_eq!(
            extensions,
            wanted.map(|(oid, critical, content)| (oid.to_owned(), critical, content.to_owned()))
        );
        assert_eq!(
            x509_cert::Certificate::from_der(&parsed.to_der().unwrap()).unwrap(),
            parsed
        );
        let again = key.root_certificate(&gun, now).unwrap();
        assert_eq!(again.canonical(), certified.canonical());
        assert_ne!(again.id(), certified.id());
    }
    let server = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    assert_eq!(
        server.root_certificate(&gun, now),
        Err(PrivateKeyError::Unsupported)
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    #[test]
    fn any_scalar_makes_the_key_that_another_library_makes_of_it(scalar in proptest::array::uniform32(proptest::prelude::any::<u8>()), zeros in 0_usize..32) {
        // Small numbers too: their leading zeros are what writers disagree on.
        let mut scalar = scalar;
        scalar[..zeros].fill(0);
        let Ok(other) = p256::SecretKey::from_slice(&scalar) else {
            return Ok(());
        };
        let key = PrivateKey::decode(other.to_pkcs8_der().unwrap().as_bytes()).unwrap();
        let public = other.public_key().to_public_key_der().unwrap();
        proptest::prop_assert_eq!(key.public().public(), public.as_bytes());
        let again = PrivateKey::decode(&key.encode().unwrap()).unwrap();
        proptest::prop_assert_eq!(again.id(), key.id());
        proptest::prop_assert!(key.public().verify("ecdsa", MESSAGE, &again.sign(MESSAGE).unwrap()));
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..96)) {
        drop(PrivateKey::decode(&bytes));
        drop(PrivateKey::decode(&p256(0, P256_NAME, &bytes, &[])));
    }
}
