use super::*;

fn listed(keytype: &str, public: &str) -> PublicKey {
    let text = format!(r#"{{"keytype":"{keytype}","keyval":{{"private":null,"public":"{public}"}}}}"#);
    PublicKey::decode(&Value::parse(text.as_bytes()).unwrap()).unwrap()
}

#[test]
fn key_ids_are_those_of_the_reference() {
    let toy = listed("ecdsa", "aGVsbG8=");
    assert_eq!(
        toy.id().to_string(),
        "871cf79f8c646e48aa7a4fd5a766eb6735d4cd91846455fddb952abf01c34d90"
    );
    assert_eq!(toy.canonical(), toy.id());
    let extra = r#"{"keytype":"ecdsa","keyval":{"private":"x","public":"aGVsbG8=","more":1},"note":2}"#;
    assert_eq!(
        PublicKey::decode(&Value::parse(extra.as_bytes()).unwrap())
            .unwrap()
            .id(),
        toy.id()
    );
}

#[test]
fn a_key_id_reads_back_and_has_one_spelling() {
    let text = "871cf79f8c646e48aa7a4fd5a766eb6735d4cd91846455fddb952abf01c34d90";
    assert_eq!(text.parse::<KeyId>().unwrap().to_string(), text);
    for bad in [
        "",
        "871c",
        &text.to_uppercase(),
        &format!("{text}00"),
        &text.replace('8', "g"),
    ] {
        assert_eq!(bad.parse::<KeyId>(), Err(KeyError::Id), "{bad}");
    }
}

#[test]
fn keys_we_cannot_use_verify_nothing_and_are_no_error() {
    for (keytype, public) in [
        ("ecdsa", "aGVsbG8="),
        ("ed25519", "aGVsbG8="),
        ("rsa", ""),
        ("ecdsa-x509", "aGVsbG8="),
        ("x", ""),
    ] {
        let key = listed(keytype, public);
        for method in ["ecdsa", "rsapss", "rsapkcs1v15", "eddsa", "none", ""] {
            assert!(!key.verify(method, b"message", &[0; 64]), "{keytype} {method}");
        }
    }
}

#[test]
fn a_pinned_key_is_one_public_key_or_certificate() {
    let pem = "-----BEGIN PUBLIC KEY-----\nrole: alice\n\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEjamcfmPWAFNHAoUk1MmFxBnJL+1P\nY2sPh2Qf+58HZAbg3TosO4lkvTRV85kL7wiOytFG2SlCUbGrTKGJU482ng==\n-----END PUBLIC KEY-----\n";
    let alice = "af87c6aa7d3aa355f25d5d95b9436dda29710ddc35ca2b9929e372849ec6904b";
    assert_eq!(pinned_key(pem).unwrap().to_string(), alice);
    for (what, bad) in [
        ("nothing", String::new()),
        ("two", format!("{pem}{pem}")),
        ("cut short", pem.replace("-----END PUBLIC KEY-----", "")),
        ("a private key", pem.replace("PUBLIC", "PRIVATE")),
        (
            "not a key",
            "-----BEGIN PUBLIC KEY-----\naGVsbG8=\n-----END PUBLIC KEY-----".to_owned(),
        ),
    ] {
        assert!(pinned_key(&bad).is_err(), "{what}");
    }
}

#[test]
fn a_signers_key_is_a_public_key_or_a_certificate_that_is_good_now() {
    use crate::tuf::{Algorithm, PrivateKey};
    let now = "2030-01-01T00:00:00Z".parse().unwrap();
    let later = "2045-01-01T00:00:00Z".parse().unwrap();
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let bare = pem::encode("PUBLIC KEY", &[("role", "alice")], key.public().public());
    let listed = PublicKey::of_signer(&bare, now).unwrap();
    assert_eq!((listed.keytype(), listed.id()), ("ecdsa", key.id()));
    let certified = key
        .root_certificate(&"registry.example.com/app".parse().unwrap(), now)
        .unwrap();
    let certificate = std::str::from_utf8(certified.public()).unwrap();
    let listed = PublicKey::of_signer(certificate, now).unwrap();
    assert_eq!((listed.keytype(), listed.canonical()), ("ecdsa-x509", key.id()));
    assert_eq!(listed.id(), certified.id(), "the certificate is listed as it is");
    let private = pem::encode("PRIVATE KEY", &[], &key.encode().unwrap());
    for (label, text, at, error) in [
        ("expired", certificate, later, KeyError::Certificate),
        ("a private key", &private, now, KeyError::Pem),
        ("nothing", "", now, KeyError::Pem),
        (
            "not a key",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            now,
            KeyError::Unusable,
        ),
    ] {
        assert_eq!(PublicKey::of_signer(text, at), Err(error), "{label}");
    }
}
