use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaKeyPair,
};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::*;

/// Making an RSA key takes a while.
static RSA: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    pair.as_der().unwrap().as_ref().to_vec()
});

/// A key that signs tokens.
pub(super) struct Signer(KeyPair);

impl Signer {
    fn p256() -> Self {
        Self(KeyPair::generate().unwrap())
    }

    fn rsa() -> Self {
        Self(KeyPair::try_from(RSA.as_slice()).unwrap())
    }

    fn is_rsa(&self) -> bool {
        self.0.serialize_der() == *RSA
    }

    fn of(algorithm: &'static rcgen::SignatureAlgorithm) -> Self {
        Self(KeyPair::generate_for(algorithm).unwrap())
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let pkcs8 = self.0.serialize_der();
        let random = SystemRandom::new();
        match algorithm {
            "ES256" | "ES384" => {
                let of = if algorithm == "ES256" {
                    &ECDSA_P256_SHA256_FIXED_SIGNING
                } else {
                    &ECDSA_P384_SHA384_FIXED_SIGNING
                };
                let pair = EcdsaKeyPair::from_pkcs8(of, &pkcs8).unwrap();
                pair.sign(&random, message).unwrap().as_ref().to_vec()
            }
            "EdDSA" => {
                let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).unwrap();
                pair.sign(message).as_ref().to_vec()
            }
            "RS256" | "RS512" | "PS256" => {
                let pair = RsaKeyPair::from_pkcs8(&pkcs8).unwrap();
                let mut signature = vec![0; pair.public_modulus_len()];
                let padding: &dyn aws_lc_rs::signature::RsaEncoding = match algorithm {
                    "RS256" => &RSA_PKCS1_SHA256,
                    "RS512" => &RSA_PKCS1_SHA512,
                    _ => &RSA_PSS_SHA256,
                };
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            "none" => Vec::new(),
            other => panic!("{other}"),
        }
    }

    /// The key id as libtrust makes it, by the crates that the server does not use for it.
    fn kid(&self) -> String {
        let hash = Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&self.0));
        let bits = hash[..30]
            .iter()
            .map(|byte| format!("{byte:08b}"))
            .collect::<Vec<_>>()
            .concat();
        let digits: Vec<char> = bits
            .as_bytes()
            .chunks(5)
            .map(|five| {
                let digit = usize::from_str_radix(std::str::from_utf8(five).unwrap(), 2).unwrap();
                char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[digit])
            })
            .collect();
        let groups: Vec<String> = digits.chunks(4).map(|four| four.iter().collect()).collect();
        groups.join(":")
    }

    /// The P-256 key as a JSON Web Key.
    fn jwk(&self) -> Value {
        let point = self.0.public_key_raw();
        json!({"kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..])})
    }

    fn rsa_jwk(&self) -> Value {
        let pair = RsaKeyPair::from_pkcs8(&self.0.serialize_der()).unwrap();
        let key = pair.public_key();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({
            "kty": "RSA",
            "n": number(key.modulus().big_endian_without_leading_zero()),
            "e": number(key.exponent().big_endian_without_leading_zero()),
        })
    }
}

fn parameters(name: &str, (from, until): (i32, i32)) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(until, 1, 1);
    parameters
}

/// An authority with the certificate of its own key.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let pair = KeyPair::generate().unwrap();
        let mut parameters = parameters("authority", (2000, 2100));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&pair).unwrap().pem();
        let issuer = Issuer::new(parameters, pair);
        Self { pem, issuer }
    }

    /// A certificate for the key of `signer`, as `x5c` has it.
    fn certify(&self, signer: &Signer, years: (i32, i32)) -> String {
        let mut parameters = parameters("token service", years);
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::EmailProtection];
        let certificate = parameters.signed_by(&signer.0, &self.issuer).unwrap();
        STANDARD.encode(certificate.der())
    }
}

/// A token service whose bundle is the certificate that its key signed itself.
pub(super) struct Service {
    signer: Signer,
    bundle: String,
}

impl Service {
    pub(super) fn new() -> Self {
        Self::by(Signer::p256())
    }

    fn by(signer: Signer) -> Self {
        let mut parameters = parameters("token service", (2000, 2100));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let bundle = parameters.self_signed(&signer.0).unwrap().pem();
        Self { signer, bundle }
    }

    pub(super) fn bundle(&self) -> &str {
        &self.bundle
    }

    fn access(&self) -> Access {
        Folder::new().with("ca.pem", &self.bundle).access(BY_BUNDLE)
    }

    /// A good token with these claims.
    fn token(&self, claims: &Value) -> String {
        let header = json!({"typ": "JWT", "alg": "ES256", "kid": self.signer.kid()});
        signed(&self.signer, &header, claims)
    }
}

const BY_BUNDLE: &str = "token: {realm: 'https://auth.example.com/token', service: trust.example.com, issuer: auth.example.com, rootCertBundle: ca.pem}";
const BY_JWKS: &str = "token: {realm: 'https://auth.example.com/token', service: trust.example.com, issuer: auth.example.com, jwks: jwks.json}";

pub(super) fn joined(header: &[u8], claims: &[u8], signature: &[u8]) -> String {
    [header, claims, signature]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".")
}

fn signed(signer: &Signer, header: &Value, claims: &Value) -> String {
    let (header, claims, algorithm) = (
        header.to_string(),
        claims.to_string(),
        header["alg"].as_str().unwrap(),
    );
    let unsigned = joined(header.as_bytes(), claims.as_bytes(), b"");
    let message = unsigned.trim_end_matches('.');
    joined(
        header.as_bytes(),
        claims.as_bytes(),
        &signer.sign(algorithm, message.as_bytes()),
    )
}

/// What a service says of a publisher.
fn claims() -> Value {
    let at = now().as_second();
    json!({
        "iss": "auth.example.com", "aud": "trust.example.com", "sub": "alice",
        "exp": at + 300, "nbf": at - 10, "iat": at - 10, "jti": "x",
        "access": [{"type": "repository", "name": APP, "actions": ["push", "pull"]}],
    })
}

fn but(field: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[field] = value;
    claims
}

fn without(field: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(field);
    claims
}

async fn push(access: &Access, token: &str) -> String {
    with(access, &format!("Bearer {token}"), &Need::Push(gun(APP))).await
}

#[tokio::test]
async fn claims_are_those_of_our_service_for_us_and_now() {
    let service = Service::new();
    let at = now().as_second();
    for (label, claims, want) in [
        ("honest", claims(), "token alice"),
        (
            "many audiences",
            but("aud", json!(["x", "trust.example.com"])),
            "token alice",
        ),
        (
            "times with fractions",
            but("exp", json!(now().as_duration().as_secs_f64() + 0.5)),
            "token alice",
        ),
        ("no beginning", without("nbf"), "token alice"),
        ("nobody's", but("sub", json!("")), "token"),
        ("without a subject", without("sub"), "token"),
        ("within the leeway", but("exp", json!(at - 59)), "token alice"),
        ("expired", but("exp", json!(at - 60)), "token_expired"),
        ("endless", without("exp"), "token_malformed"),
        ("expiry as text", but("exp", json!("2100")), "token_malformed"),
        ("nearly valid", but("nbf", json!(at + 60)), "token alice"),
        ("not yet valid", but("nbf", json!(at + 61)), "token_not_yet"),
        (
            "foreign issuer",
            but("iss", json!("evil.example.com")),
            "token_issuer",
        ),
        ("no issuer", without("iss"), "token_malformed"),
        (
            "wrong audience",
            but("aud", json!("registry.example.com")),
            "token_audience",
        ),
        (
            "an audience that begins with ours",
            but("aud", json!("trust.example.com.evil")),
            "token_audience",
        ),
        ("no audience", without("aud"), "token_malformed"),
        ("audiences of none", but("aud", json!([])), "token_audience"),
        (
            "a name that breaks lines",
            but("sub", json!("alice\nroot")),
            "token_malformed",
        ),
        (
            "an endless name",
            but("sub", json!("a".repeat(300))),
            "token_malformed",
        ),
    ] {
        let got = push(&service.access(), &service.token(&claims)).await;
        assert_eq!(got, want, "{label}");
    }
}

#[tokio::test]
async fn scopes_are_those_of_this_very_repository() {
    let service = Service::new();
    let repository = |name: &str, actions: Value| json!([{"type": "repository", "class": "", "name": name, "actions": actions}]);
    for (label, claims, want) in [
        ("no access", without("access"), "insufficient"),
        ("null as Go has it", but("access", json!(null)), "insufficient"),
        (
            "actions of null",
            but("access", repository(APP, json!(null))),
            "insufficient",
        ),
        (
            "read only",
            but("access", repository(APP, json!(["pull"]))),
            "insufficient",
        ),
        (
            "write only",
            but("access", repository(APP, json!(["push"]))),
            "insufficient",
        ),
        (
            "everything",
            but("access", repository(APP, json!(["*"]))),
            "token alice",
        ),
        (
            "two entries together",
            but(
                "access",
                json!([
                    {"type": "repository", "name": APP, "actions": ["push"]},
                    {"type": "repository", "name": APP, "actions": ["pull"]},
                ]),
            ),
            "token alice",
        ),
        (
            "scope of another repository",
            but(
                "access",
                repository("registry.example.com/team/app2", json!(["*"])),
            ),
            "insufficient",
        ),
        (
            "scope of its folder",
            but("access", repository("registry.example.com/team", json!(["*"]))),
            "insufficient",
        ),
        (
            "scope without the host",
            but("access", repository("team/app", json!(["*"]))),
            "insufficient",
        ),
        (
            "scope of a wildcard",
            but("access", repository("*", json!(["*"]))),
            "insufficient",
        ),
        (
            "scope in another case",
            but(
                "access",
                repository("Registry.example.com/team/app", json!(["*"])),
            ),
            "insufficient",
        ),
        (
            "scope of another kind",
            but(
                "access",
                json!([{"type": "registry", "name": APP, "actions": ["*"]}]),
            ),
            "insufficient",
        ),
        (
            "more than a hundred scopes",
            but(
                "access",
                json!(vec![
                    json!({"type": "repository", "name": "a", "actions": ["*"]});
                    101
                ]),
            ),
            "token_malformed",
        ),
    ] {
        let got = push(&service.access(), &service.token(&claims)).await;
        assert_eq!(got, want, "{label}");
    }
}

#[tokio::test]
async fn needs_are_met_by_their_own_scope_only() {
    let service = Service::new();
    let access = service.access();
    let catalog = but(
        "access",
        json!([{"type": "registry", "name": "catalog", "actions": ["*"]}]),
    );
    for (label, claims, need, want) in [
        (
            "the ping asks for no scope",
            without("access"),
            Need::Known,
            "token alice",
        ),
        (
            "push is no deletion",
            claims(),
            Need::Admin(gun(APP)),
            "insufficient",
        ),
        ("push is no catalog", claims(), Need::Catalog, "insufficient"),
        ("catalog", catalog.clone(), Need::Catalog, "token alice"),
        (
            "catalog is no pull",
            catalog,
            Need::Pull(gun(APP)),
            "insufficient",
        ),
    ] {
        let got = with(&access, &format!("Bearer {}", service.token(&claims)), &need).await;
        assert_eq!(got, want, "{label}");
    }
    let refused = format!("Bearer {}", service.token(&claims()));
    let said = challenges(&access, &[&refused], &Need::Admin(gun(APP))).await;
    assert!(said[0].ends_with(r#":*",error="insufficient_scope""#), "{said:?}");
}

#[tokio::test]
async fn every_kind_of_key_signs_by_its_own_algorithms_only() {
    let edwards = || Signer::of(&rcgen::PKCS_ED25519);
    let larger = || Signer::of(&rcgen::PKCS_ECDSA_P384_SHA384);
    for (algorithm, signer) in [
        ("ES256", Signer::p256()),
        ("ES384", larger()),
        ("EdDSA", edwards()),
        ("RS256", Signer::rsa()),
        ("RS512", Signer::rsa()),
        ("PS256", Signer::rsa()),
    ] {
        let service = Service::by(signer);
        let header = json!({"alg": algorithm, "kid": service.signer.kid()});
        let token = signed(&service.signer, &header, &claims());
        assert_eq!(
            push(&service.access(), &token).await,
            "token alice",
            "{algorithm}"
        );
        let (head, rest) = token.split_once('.').unwrap();
        for other in ["ES256", "ES384", "EdDSA", "RS256"]
            .into_iter()
            .filter(|other| *other != algorithm && !(*other == "RS256" && service.signer.is_rsa()))
        {
            let header = json!({"alg": other, "kid": service.signer.kid()}).to_string();
            let confused = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
            assert_eq!(
                push(&service.access(), &confused).await,
                "token_algorithm",
                "{algorithm} as {other}"
            );
        }
        let (payload, signature) = rest.split_once('.').unwrap();
        let changed = URL_SAFE_NO_PAD.encode(but("sub", json!("root")).to_string());
        for (label, forged) in [
            ("another's claims", format!("{head}.{changed}.{signature}")),
            ("no signature", format!("{head}.{payload}.")),
            (
                "a signature of zeroes",
                format!("{head}.{payload}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
            ),
        ] {
            assert_eq!(
                push(&service.access(), &forged).await,
                "token_signature",
                "{algorithm}: {label}"
            );
        }
    }
}

#[tokio::test]
async fn tokens_without_a_signature_or_with_a_symmetric_one_are_refused() {
    let service = Service::by(Signer::rsa());
    let kid = service.signer.kid();
    for algorithm in [
        "none", "None", "NONE", "", "HS256", "HS384", "HS512", "ES512", "RS1",
    ] {
        // What is public of the key, in each form that a library might take for a secret.
        let der = rcgen::PublicKeyData::subject_public_key_info(&service.signer.0);
        for secret in [
            der.as_slice(),
            service.bundle.as_bytes(),
            service.signer.0.public_key_raw(),
            b"",
        ] {
            let header = json!({"alg": algorithm, "kid": kid}).to_string();
            let claims = claims().to_string();
            let unsigned = joined(header.as_bytes(), claims.as_bytes(), b"");
            let message = unsigned.trim_end_matches('.');
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
            for signature in [tag.as_ref(), b""] {
                let token = joined(header.as_bytes(), claims.as_bytes(), signature);
                let got = push(&service.access(), &token).await;
                assert!(
                    ["token_malformed", "token_algorithm"].contains(&&*got),
                    "{algorithm}: {got}"
                );
            }
        }
    }
}

#[tokio::test]
async fn chains_lead_to_the_bundle_or_nowhere() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (service, mallory) = (Signer::p256(), Signer::p256());
    let access = || Folder::new().with("ca.pem", &authority.pem).access(BY_BUNDLE);
    let years = (2000, 2100);
    let leaf = authority.certify(&service, years);
    let root = STANDARD.encode(
        rustls_pki_types::pem::PemObject::from_pem_slice(authority.pem.as_bytes())
            .map(|der: rustls_pki_types::CertificateDer<'_>| der.to_vec())
            .unwrap(),
    );
    for (label, signer, header, want) in [
        (
            "honest, for whatever usage",
            &service,
            json!({"x5c": [leaf]}),
            "token alice",
        ),
        (
            "with the root",
            &service,
            json!({"x5c": [leaf, root]}),
            "token alice",
        ),
        (
            "of another authority",
            &service,
            json!({"x5c": [other.certify(&service, years)]}),
            "token_chain",
        ),
        (
            "of another, with ours behind it",
            &service,
            json!({"x5c": [other.certify(&service, years), root]}),
            "token_chain",
        ),
        (
            "signed by another key",
            &mallory,
            json!({"x5c": [leaf]}),
            "token_signature",
        ),
        (
            "signed by itself",
            &mallory,
            json!({"x5c": [other.certify(&mallory, years)], "kid": "x"}),
            "token_chain",
        ),
        (
            "expired",
            &service,
            json!({"x5c": [authority.certify(&service, (2000, 2001))]}),
            "token_chain",
        ),
        (
            "not yet valid",
            &service,
            json!({"x5c": [authority.certify(&service, (2099, 2100))]}),
            "token_chain",
        ),
        ("empty", &service, json!({"x5c": []}), "token_chain"),
        ("junk", &service, json!({"x5c": ["###"]}), "token_malformed"),
        (
            "no certificate",
            &service,
            json!({"x5c": ["AAAA"]}),
            "token_malformed",
        ),
        (
            "endless",
            &service,
            json!({"x5c": vec![leaf.clone(); 9]}),
            "token_chain",
        ),
        (
            "a chain that leads nowhere beside a good id",
            &mallory,
            json!({"x5c": [other.certify(&mallory, years)], "jwk": service.jwk()}),
            "token_chain",
        ),
        (
            "the key of a leaf is not in the bundle",
            &service,
            json!({"kid": service.kid()}),
            "token_key",
        ),
    ] {
        let mut header = header;
        header["alg"] = json!("ES256");
        let got = push(&access(), &signed(signer, &header, &claims())).await;
        assert_eq!(got, want, "{label}");
    }
    // A service whose one certificate is the bundle.
    let alone = Service::new();
    let own = rustls_pki_types::pem::PemObject::from_pem_slice(alone.bundle.as_bytes())
        .map(|der: rustls_pki_types::CertificateDer<'_>| STANDARD.encode(&*der))
        .unwrap();
    let token = signed(&alone.signer, &json!({"alg": "ES256", "x5c": [own]}), &claims());
    assert_eq!(push(&alone.access(), &token).await, "token alice");
}

#[tokio::test]
async fn keys_are_ours_whatever_the_header_says() {
    let service = Service::new();
    let mallory = Signer::p256();
    let kid = service.signer.kid();
    for (label, signer, header, want) in [
        (
            "our key in full",
            &service.signer,
            json!({"jwk": service.signer.jwk()}),
            "token alice",
        ),
        (
            "a key of their own",
            &mallory,
            json!({"jwk": mallory.jwk()}),
            "token_key",
        ),
        (
            "a key of their own under our id",
            &mallory,
            json!({"jwk": mallory.jwk(), "kid": kid}),
            "token_key",
        ),
        (
            "our key, signed by theirs",
            &mallory,
            json!({"jwk": service.signer.jwk()}),
            "token_signature",
        ),
        (
            "our id, signed by theirs",
            &mallory,
            json!({"kid": kid}),
            "token_signature",
        ),
        ("their id", &mallory, json!({"kid": mallory.kid()}), "token_key"),
        ("no key", &service.signer, json!({}), "token_key"),
        ("an empty id", &service.signer, json!({"kid": ""}), "token_key"),
        (
            "an id without colons",
            &service.signer,
            json!({"kid": kid.replace(':', "")}),
            "token_key",
        ),
        (
            "an id in another case",
            &service.signer,
            json!({"kid": kid.to_lowercase()}),
            "token_key",
        ),
        (
            "a path as id",
            &mallory,
            json!({"kid": "../../../../dev/null"}),
            "token_key",
        ),
        (
            "the bundle as id",
            &mallory,
            json!({"kid": "ca.pem"}),
            "token_key",
        ),
        (
            "SQL as id",
            &mallory,
            json!({"kid": "x' UNION SELECT 'k"}),
            "token_key",
        ),
        (
            "a key elsewhere",
            &mallory,
            json!({"jku": "https://evil.example/jwks.json"}),
            "token_key",
        ),
        (
            "certificates elsewhere",
            &mallory,
            json!({"x5u": "https://evil.example/ca.pem", "kid": "x"}),
            "token_key",
        ),
        (
            "critical extensions",
            &service.signer,
            json!({"kid": kid, "crit": ["b64"], "b64": false}),
            "token_critical",
        ),
    ] {
        let mut header = header;
        header["alg"] = json!("ES256");
        let got = push(&service.access(), &signed(signer, &header, &claims())).await;
        assert_eq!(got, want, "{label}");
    }
}

#[tokio::test]
async fn keys_of_a_set_are_found_by_their_ids() {
    let (elliptic, rsa, other) = (Signer::p256(), Signer::rsa(), Signer::p256());
    let with_id = |mut jwk: Value, id: &str| {
        jwk["kid"] = json!(id);
        jwk
    };
    let mut encrypts = with_id(other.jwk(), "enc");
    encrypts["use"] = json!("enc");
    let set = json!({"keys": [
        with_id(elliptic.jwk(), "one"),
        with_id(rsa.rsa_jwk(), "two"),
        encrypts,
        {"kty": "EC", "crv": "P-521", "kid": "large", "x": "AA", "y": "AA"},
    ]});
    let access = || Folder::new().with("jwks.json", set.to_string()).access(BY_JWKS);
    for (label, signer, algorithm, kid, want) in [
        ("elliptic", &elliptic, "ES256", "one", "token alice"),
        ("RSA", &rsa, "RS256", "two", "token alice"),
        ("the other's id", &elliptic, "ES256", "two", "token_algorithm"),
        ("a key for another use", &other, "ES256", "enc", "token_key"),
        ("a key that is left out", &elliptic, "ES256", "large", "token_key"),
        ("no such id", &elliptic, "ES256", "three", "token_key"),
    ] {
        let token = signed(signer, &json!({"alg": algorithm, "kid": kid}), &claims());
        assert_eq!(push(&access(), &token).await, want, "{label}");
    }
    let twice = json!({"keys": [with_id(elliptic.jwk(), "one"), with_id(other.jwk(), "one")]});
    let error = Folder::new().with("jwks.json", twice.to_string()).read(BY_JWKS);
    assert!(matches!(error, Err(AccessError::Twice { .. })), "{error:?}");
}

#[tokio::test]
async fn a_remembered_token_ends_when_it_ends() {
    let service = Service::new();
    let access = service.access();
    let headers = headers(&[&format!("Bearer {}", service.token(&claims()))]);
    let at = async |seconds: i64| {
        let when = now() + jiff::SignedDuration::from_secs(seconds);
        let need = Need::Push(gun(APP));
        outcome(&access.admit(&peer("192.0.2.1"), &headers, &need, when).await)
    };
    assert_eq!(at(0).await, "token alice");
    assert_eq!(at(359).await, "token alice");
    assert_eq!(at(360).await, "token_expired");
    assert_eq!(at(-71).await, "token_not_yet");
    let longer = with(
        &access,
        &format!("{}x", headers[AUTHORIZATION].to_str().unwrap()),
        &Need::Known,
    )
    .await;
    assert_ne!(longer, "token alice", "another token that begins with it");
}

#[tokio::test]
async fn anonymous_grants_hold_beside_a_token_service_but_not_for_bad_tokens() {
    let service = Service::new();
    let access = Folder::new()
        .with("ca.pem", &service.bundle)
        .access(&format!("{BY_BUNDLE}\nanonymous: [pull]\n"));
    let pull = Need::Pull(gun(APP));
    let other = service.token(&without("access"));
    for (label, sent, want) in [
        ("nothing sent", String::new(), "anonymous"),
        (
            "a token for something else",
            format!("Bearer {other}"),
            "token alice",
        ),
        ("a bad token", "Bearer a.b.c".to_owned(), "token_malformed"),
    ] {
        assert_eq!(with(&access, &sent, &pull).await, want, "{label}");
    }
}

#[tokio::test]
async fn late_clients_are_not_counted_as_guessing() {
    let service = Service::new();
    let access = service.access();
    let late = service.token(&but("exp", json!(now().as_second() - 100)));
    for _ in 0..30 {
        assert_eq!(push(&access, &late).await, "token_expired");
    }
    for _ in 0..20 {
        assert_eq!(push(&access, "a.b.c").await, "token_malformed");
    }
    assert_eq!(push(&access, "a.b.c").await, "too many logins");
    assert_eq!(push(&access, &late).await, "too many logins");
}
