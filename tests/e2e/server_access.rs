//! Whom our trust server lets in, with the clients there are: each of the ways to be somebody, and nobody else.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::hand::{Ended, Hand, lists};
use crate::notary::Publisher;
use crate::our_server::OurServer;
use crate::pki::{self, Identity};
use crate::process::{self, output, text};
use crate::registry::Image;
use crate::token::{self, TokenServer};

const GUN: &str = "registry.e2e.example/team/app";

/// What is signed. Nobody looks at it.
fn image() -> Image {
    Image {
        digest: format!("sha256:{}", "5e".repeat(32)),
        size: 1000,
    }
}

/// Our client with a configuration of docker's of its own.
struct Caller {
    hand: Hand,
    docker: PathBuf,
}

impl Caller {
    /// Somebody with the keys of `publisher`, and nothing to show to a server.
    fn new(server: &OurServer, name: &str, publisher: &Publisher) -> Self {
        Self {
            hand: Hand::with_keys(&server.url(), name, publisher.folder()),
            docker: process::new_folder(&format!("callers/{name}")),
        }
    }

    /// With the login of the token service, or of the password file, for that server.
    fn with_login(self, server: &OurServer) -> Self {
        let login = json!({"auths": {host(server): {"auth": token::login()}}});
        fs::write(self.docker.join("config.json"), login.to_string()).unwrap();
        self
    }

    /// With a certificate, where docker looks for those of trust servers.
    fn with_certificate(self, server: &OurServer, own: &Identity) -> Self {
        let folder = self.docker.join("tls").join(host(server));
        fs::create_dir_all(&folder).unwrap();
        fs::copy(&own.certificate, folder.join("client.cert")).unwrap();
        fs::copy(&own.key, folder.join("client.key")).unwrap();
        self
    }

    fn signs(&self, gun: &str, tag: &str) -> Ended {
        let (name, image) = (format!("{gun}:{tag}"), image());
        let size = image.size.to_string();
        let arguments = ["sign", &name, "--digest", &image.digest, "--size", &size];
        let mut command = self.hand.command(&arguments);
        output(command.env("DOCKER_CONFIG", &self.docker)).into()
    }

    /// What is there, as JSON.
    fn inspects(&self, gun: &str) -> String {
        let mut command = self.hand.command(&["inspect", gun, "--output", "json"]);
        text(&output(command.env("DOCKER_CONFIG", &self.docker)).stdout)
    }
}

fn host(server: &OurServer) -> String {
    server.url().trim_start_matches("https://").to_owned()
}

/// What a caller of no name gets.
fn status(server: &OurServer, path: &str, more: &[&str]) -> String {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"])
        .args(["--cacert", pki::authority().to_str().unwrap()])
        .args(more)
        .arg(format!("{}{path}", server.url()));
    text(&output(&mut command).stdout)
}

/// The two clients sign in turn; whoever has nothing to show reads nothing and signs nothing.
fn both_may_and_nobody_else(server: &OurServer, notary: &Publisher, ours: &Caller, stranger: &Caller) {
    notary.init();
    notary.sign("1.0", &image(), None);
    let signed = ours.signs(GUN, "2.0");
    assert_eq!(signed.status, Some(0), "{signed:?}");
    // The program verifies what is there, and both tags with it, before it signs another.
    notary.sign("3.0", &image(), None);
    let inspected = ours.inspects(GUN);
    for tag in ["1.0", "2.0", "3.0"] {
        assert!(inspected.contains(&format!("\"{tag}\"")), "{tag}: {inspected}");
    }
    for path in ["/v2/", &format!("/v2/{GUN}/_trust/tuf/timestamp.json")] {
        assert_eq!(status(server, path, &[]), "401", "{path}");
    }
    let refused = stranger.signs(GUN, "4.0");
    assert_ne!(refused.status, Some(0), "{refused:?}");
    assert!(!ours.inspects(GUN).contains("\"4.0\""));
}

#[test]
fn tokens_of_a_registry_open_our_server_to_either_client() {
    let tokens = TokenServer::start();
    let server = OurServer::ruled("token-access", &tokens.rules());
    let notary = Publisher::at(&server.url(), "token-access", GUN);
    let ours = Caller::new(&server, "token-access", &notary).with_login(&server);
    let stranger = Caller::new(&server, "token-stranger", &notary);
    both_may_and_nobody_else(&server, &notary, &ours, &stranger);
    assert!(lists(&notary, "3.0", &image().digest), "{}", notary.list());
    let forged = "Authorization: Bearer eyJhbGciOiJub25lIn0.e30.";
    let path = format!("/v2/{GUN}/_trust/tuf/timestamp.json");
    assert_eq!(status(&server, &path, &["--header", forged]), "401");
}

#[test]
fn passwords_open_our_server_to_either_client_where_a_rule_says_so() {
    let hash = bcrypt::hash(token::PASSWORD, 5).unwrap();
    let file = process::write("servers/htpasswd", format!("{}:{hash}\n", token::USER));
    let mut rules = ruled(token::USER);
    rules["htpasswd"] = json!(file);
    let server = OurServer::ruled("password-access", &rules);
    let notary = Publisher::at(&server.url(), "password-access", GUN);
    let ours = Caller::new(&server, "password-access", &notary).with_login(&server);
    let stranger = Caller::new(&server, "password-stranger", &notary);
    both_may_and_nobody_else(&server, &notary, &ours, &stranger);
    // Its reading commands never show a password: they go by what they had (§1.7.4).
    assert!(!lists(&notary, "3.0", &image().digest), "{}", notary.list());
    let elsewhere = ours.signs("registry.e2e.example/team-evil/app", "1.0");
    assert_ne!(elsewhere.status, Some(0), "{elsewhere:?}");
}

#[test]
fn certificates_open_our_server_to_either_client_where_a_rule_says_so() {
    let own = pki::issue("publisher", &["publisher.e2e.example"]);
    let who = "certificate:publisher.e2e.example";
    let mut rules = ruled(who);
    rules["clientCertificates"] = json!(true);
    let server = OurServer::ruled("certificate-access", &rules);
    let notary = Publisher::with_certificate(&server.url(), "certificate-access", GUN, &own);
    let ours = Caller::new(&server, "certificate-access", &notary).with_certificate(&server, &own);
    let stranger = Caller::new(&server, "certificate-stranger", &notary);
    both_may_and_nobody_else(&server, &notary, &ours, &stranger);
    assert!(lists(&notary, "3.0", &image().digest), "{}", notary.list());
}

/// Rules that let one caller publish in one namespace.
fn ruled(who: &str) -> Value {
    json!({
        "rules": [{
            "who": [who],
            "repositories": ["registry.e2e.example/team/"],
            "actions": ["pull", "push", "*"],
        }],
    })
}
