//! Key files between the program, OpenSSL and the reference client.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use countersign::keystore::KeyStore;
use countersign::tuf::{Algorithm, KeyFile, Labels, PrivateKey, Strength};
use secrecy::SecretString;
use serde_json::Value;

use crate::process::{self, output_of_input, run, text};

const PASSPHRASE: &str = "correct horse";

fn secret() -> SecretString {
    PASSPHRASE.to_owned().into()
}

/// The reference client on the key store in `trust_dir`.
fn notary(trust_dir: &Path, passphrase: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("notary");
    command
        .args(["-s", "https://localhost:1", "-d"])
        .arg(trust_dir)
        .args(arguments);
    for role in ["ROOT", "TARGETS", "SNAPSHOT", "DELEGATION"] {
        command.env(format!("NOTARY_{role}_PASSPHRASE"), passphrase);
    }
    command
}

/// The program on the key store in `trust_dir`: the first argument is the command.
fn countersign(trust_dir: &Path, passphrase: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    let (name, rest) = arguments.split_first().unwrap();
    command.env_clear().args(["trust", "key", name, "--trust-dir"]);
    command.arg(trust_dir).args(rest);
    for role in ["ROOT", "REPOSITORY"] {
        command.env(format!("DOCKER_CONTENT_TRUST_{role}_PASSPHRASE"), passphrase);
    }
    command
}

fn fails(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = output_of_input(command, "");
    assert!(!status.success(), "{}", text(&stdout));
    text(&stdout) + &text(&stderr)
}

fn ids(trust_dir: &Path) -> Vec<String> {
    let listing = KeyStore::new(trust_dir).list().unwrap();
    listing.keys.iter().map(|key| key.id.to_string()).collect()
}

#[test]
fn the_reference_client_lists_opens_exports_and_re_encrypts_our_keys() {
    let ours = process::new_folder("keys/ours");
    let public = process::new_folder("keys/ours-public");
    for name in ["root", "alice"] {
        run(countersign(&ours, PASSPHRASE, &["generate", name, "--dir"]).arg(&public));
    }
    // Kinds of key that only a file can bring.
    let rsa = public.join("rsa.pem");
    run(Command::new("openssl")
        .args([
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
            "-out",
        ])
        .arg(&rsa));
    run(countersign(
        &ours,
        PASSPHRASE,
        &["import", "--role", "targets", "--gun", "registry.example.com/app"],
    )
    .arg(&rsa));
    let p384 = public.join("p384.pem");
    run(Command::new("openssl")
        .args([
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-384",
            "-out",
        ])
        .arg(&p384));
    run(countersign(&ours, PASSPHRASE, &["load", "--name", "bob"]).arg(&p384));

    let listed = run(&mut notary(&ours, PASSPHRASE, &["key", "list"]));
    let ids = ids(&ours);
    assert_eq!(ids.len(), 4);
    for id in &ids {
        assert!(listed.contains(id), "{listed}");
        // Changing the passphrase to what it is opens the key with all of the reference's own code.
        fails(&mut notary(&ours, "wrong horse", &["key", "passwd", id]));
        run(&mut notary(&ours, PASSPHRASE, &["key", "passwd", id]));
    }
    // What the reference has written, we read again.
    for key in KeyStore::new(&ours).list().unwrap().keys {
        key.open(Some(&secret())).unwrap();
    }
    let bundle = process::new_folder("keys/bundle").join("bundle.pem");
    run(notary(&ours, PASSPHRASE, &["key", "export", "-o"]).arg(&bundle));
    let restored = process::new_folder("keys/restored");
    run(countersign(&restored, PASSPHRASE, &["import"]).arg(&bundle));
    assert_eq!(self::ids(&restored), ids);
}

#[test]
fn we_list_open_export_and_re_encrypt_the_reference_clients_keys() {
    let theirs = process::new_folder("keys/theirs");
    run(&mut notary(
        &theirs,
        PASSPHRASE,
        &["key", "generate", "ecdsa", "-r", "root"],
    ));
    run(&mut notary(
        &theirs,
        PASSPHRASE,
        &["key", "generate", "ecdsa", "-r", "alice"],
    ));
    let listed = run(countersign(&theirs, PASSPHRASE, &["list"]).args(["--output", "json"]));
    let keys: Vec<Value> = serde_json::from_str(&listed).unwrap();
    assert_eq!(keys.len(), 2);
    for key in &keys {
        let id = key["id"].as_str().unwrap();
        let mut change = countersign(&theirs, PASSPHRASE, &["passwd", id, "--new-passphrase-fd", "0"]);
        let changed = output_of_input(&mut change, "another passphrase\n");
        assert!(changed.status.success(), "{}", text(&changed.stderr));
        fails(&mut notary(&theirs, PASSPHRASE, &["key", "passwd", id]));
        run(&mut notary(&theirs, "another passphrase", &["key", "passwd", id]));
    }
    let bundle = process::new_folder("keys/backup").join("bundle.pem");
    run(countersign(&theirs, PASSPHRASE, &["export", "--all"]).arg(&bundle));
    let restored = process::new_folder("keys/notary-restored");
    run(notary(&restored, PASSPHRASE, &["key", "import"]).arg(&bundle));
    assert_eq!(ids(&restored), ids(&theirs));
    for id in ids(&restored) {
        run(&mut notary(
            &restored,
            "another passphrase",
            &["key", "passwd", &id],
        ));
    }
}

/// A file without its headers, which the OpenSSL command does not take.
fn without_headers(file: &KeyFile, name: &str) -> PathBuf {
    let path = process::new_folder("keys/openssl").join(name);
    let lines: Vec<_> = file
        .to_pem()
        .lines()
        .filter(|line| !line.contains(':'))
        .map(str::to_owned)
        .collect();
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    path
}

#[test]
fn openssl_reads_what_we_write_in_either_strength() {
    for strength in [Strength::Interoperable, Strength::Strong] {
        let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
        let file = KeyFile::seal(&key, Labels::new("root", None).unwrap(), &secret(), strength).unwrap();
        let path = without_headers(&file, &format!("{strength:?}.pem"));
        let public = run(Command::new("openssl")
            .args(["pkey", "-pubout", "-passin", "pass:correct horse", "-in"])
            .arg(path));
        assert_eq!(countersign::tuf::pinned_key(&public).unwrap(), key.id());
    }
}

#[test]
fn openssl_agrees_on_the_self_signature_of_root_certificates() {
    let folder = process::new_folder("keys/certificates");
    for curve in ["P-256", "P-384", "P-521"] {
        let path = folder.join(format!("{curve}.pem"));
        let option = format!("ec_paramgen_curve:{curve}");
        run(Command::new("openssl")
            .args(["genpkey", "-algorithm", "EC", "-pkeyopt", &option, "-out"])
            .arg(&path));
        let key = KeyFile::parse(&fs::read_to_string(&path).unwrap())
            .unwrap()
            .open(None)
            .unwrap();
        let gun = "registry.example.com/team/app".parse().unwrap();
        let now = run(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]))
            .trim()
            .parse()
            .unwrap();
        let certificate = folder.join(format!("{curve}.crt"));
        fs::write(&certificate, key.root_certificate(&gun, now).unwrap().public()).unwrap();
        let verified = run(Command::new("openssl")
            .args(["verify", "-check_ss_sig", "-partial_chain", "-trusted"])
            .arg(&certificate)
            .arg(&certificate));
        assert!(verified.contains(": OK"), "{verified}");
        let shown = run(Command::new("openssl")
            .args([
                "x509",
                "-noout",
                "-subject",
                "-ext",
                "keyUsage,extendedKeyUsage,basicConstraints",
                "-in",
            ])
            .arg(&certificate));
        for part in [
            "CN = registry.example.com/team/app",
            "Digital Signature, Key Encipherment",
            "Code Signing",
            "CA:FALSE",
        ] {
            assert!(shown.contains(part), "{shown}");
        }
    }
}

/// Runs `trust key …` on the key store in `trust_dir` at a terminal where `answers` are typed.
fn typed(arguments: &str, trust_dir: &Path, answers: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_countersign");
    let line = format!(
        "{program} trust key {arguments} --trust-dir {}",
        trust_dir.display()
    );
    // A terminal of its own: `script` passes on what it is given as if it were typed.
    let mut terminal = Command::new("script");
    terminal.env_clear().args([
        "--quiet",
        "--return",
        "--echo",
        "never",
        "--command",
        &line,
        "/dev/null",
    ]);
    output_of_input(&mut terminal, answers)
}

#[test]
fn at_a_terminal_a_new_passphrase_is_asked_for_twice() {
    let trust_dir = process::new_folder("keys/terminal");
    let public = process::new_folder("keys/terminal-public");
    let generate = |answers: &str| {
        typed(
            &format!("generate carol --dir {}", public.display()),
            &trust_dir,
            answers,
        )
    };
    let differing =
        generate("first passphrase\nother passphrase\nshort\nfirst passphrase\nother passphrase\n");
    assert!(!differing.status.success());
    assert!(
        text(&differing.stdout).contains("two different passphrases"),
        "{}",
        text(&differing.stdout)
    );
    assert!(ids(&trust_dir).is_empty());
    let agreed = generate("  spoken passphrase \n spoken passphrase\n");
    assert!(agreed.status.success(), "{}", text(&agreed.stdout));
    let listing = KeyStore::new(&trust_dir).list().unwrap();
    // White space around it is cut off, as docker does.
    listing.keys[0]
        .open(Some(&"spoken passphrase".to_owned().into()))
        .unwrap();
    let remove = format!("remove {}", listing.keys[0].id);
    assert_eq!(typed(&remove, &trust_dir, "n\n").status.code(), Some(1));
    assert_eq!(ids(&trust_dir).len(), 1);
    assert_eq!(typed(&remove, &trust_dir, "y\n").status.code(), Some(0));
    assert!(ids(&trust_dir).is_empty());
}
