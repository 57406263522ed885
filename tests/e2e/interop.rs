//! Which client works with which trust server: every operation by ours and by the reference's, at ours and at the
//! reference's, each seen by the other client from its cache and from nothing. `docs/interop.md` has the result.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;

use sha2::{Digest, Sha256};

use crate::hand::Hand;
use crate::notary::{Publisher, SignerKey};
use crate::process::{self, run};
use crate::registry::Image;
use crate::remote::Remote;
use crate::trust_server::{Build, TrustServer};
use crate::world::{our_server, trust};

const OURS: &str = "`countersign server`";
const REFERENCE: &str = "`notary-server`";

/// A program that publishes and reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Countersign,
    Notary,
}

impl Client {
    fn other(self) -> Self {
        match self {
            Self::Countersign => Self::Notary,
            Self::Notary => Self::Countersign,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Countersign => "`countersign trust`",
            Self::Notary => "`notary`",
        }
    }
}

/// One column: a repository, what one client does to it, and what the other sees.
struct Column {
    author: Client,
    server: String,
    gun: String,
    /// Both have the same keys, and memories of their own.
    hand: Hand,
    notary: Publisher,
    signers: [SignerKey; 2],
    remote: Remote,
    /// What the tags of the repository should be.
    expected: RefCell<BTreeMap<String, String>>,
    /// Whether tags are signed by the first signer.
    by_signer: Cell<bool>,
    readers: Cell<usize>,
}

/// One row: what it is called, and what is done.
struct Row(&'static str, fn(&Column));

const ROWS: [Row; 18] = [
    Row("make a repository, with the snapshot key at hand", Column::init),
    Row("sign a tag", |it| it.sign(it.author, &["1.0"])),
    Row("publish several tags at once", |it| {
        it.sign(it.author, &["1.1", "1.2"]);
    }),
    Row("list the tags of the other client", Column::list),
    Row("verify the tags of the other client", Column::verify),
    Row("revoke a tag of the other client", |it| it.revoke("2.0")),
    Row("rotate the snapshot key to the server", |it| {
        it.rotate("snapshot", &["-r"]);
    }),
    Row("sign without the snapshot key", |it| it.sign(it.author, &["3.0"])),
    Row("rotate the snapshot key back", |it| it.rotate("snapshot", &[])),
    Row("rotate the targets key", |it| it.rotate("targets", &[])),
    Row("rotate the timestamp key", |it| it.rotate("timestamp", &["-r"])),
    Row("rotate the root key", |it| it.rotate("root", &[])),
    Row("witness a file", Column::witness),
    Row("add signers", Column::add_signers),
    Row("sign as a signer", Column::sign_as_signer),
    Row("list the signers", Column::list_signers),
    Row("remove a signer", Column::remove_signer),
    Row("delete the repository, and make it anew", Column::delete),
];

impl Column {
    fn new(author: Client, server: &str, name: &str) -> Self {
        let gun = format!("{}/interop/{name}", trust().registry.host);
        let notary = Publisher::at(server, &format!("interop-{name}"), &gun);
        let folder = process::new_folder(&format!("interop/{name}"));
        Self {
            author,
            server: server.to_owned(),
            hand: Hand::with_keys(server, &format!("interop-{name}"), notary.folder()),
            notary,
            signers: ["alice", "bob"].map(|name| SignerKey::generate(&folder, name)),
            remote: Remote::new(server, &gun),
            expected: RefCell::default(),
            by_signer: Cell::new(false),
            readers: Cell::new(0),
            gun,
        }
    }

    fn init(&self) {
        match self.author {
            Client::Countersign => drop(self.hand.does(&["init", &self.gun, "--own-snapshot"])),
            Client::Notary => self.notary.does(&["init", &self.gun, "-p"]),
        }
    }

    fn sign(&self, by: Client, tags: &[&str]) {
        let mut expected = self.expected.borrow_mut();
        for tag in tags {
            let image = image(tag);
            let size = image.size.to_string();
            match by {
                Client::Countersign => {
                    let tagged = format!("{}:{tag}", self.gun);
                    let digest = ["--digest", &image.digest, "--size", &size];
                    self.hand.does(&[&["sign", &tagged], &digest[..]].concat());
                }
                Client::Notary => {
                    let roles = self.by_signer.get().then_some("targets/alice,targets/releases");
                    self.notary.stage(tag, &image, roles);
                }
            }
            expected.insert((*tag).to_owned(), image.digest);
        }
        if by == Client::Notary {
            self.notary.publish();
        }
    }

    fn list(&self) {
        self.sign(self.author.other(), &["2.0", "2.1"]);
        assert_eq!(self.tags(self.author), *self.expected.borrow());
    }

    fn verify(&self) {
        let (tag, digest) = ("2.1", image("2.1").digest);
        match self.author {
            Client::Countersign => assert_eq!(self.hand.verdict(&format!("{}:{tag}", self.gun)), digest),
            Client::Notary => {
                let file = process::write(&format!("interop/{tag}"), content(tag));
                self.notary
                    .does(&["verify", &self.gun, tag, "-q", "-i", file.to_str().unwrap()]);
            }
        }
    }

    fn revoke(&self, tag: &str) {
        match self.author {
            Client::Countersign => drop(self.hand.does(&["revoke", &format!("{}:{tag}", self.gun)])),
            Client::Notary => self.notary.revoke(tag),
        }
        self.expected.borrow_mut().remove(tag);
    }

    fn rotate(&self, role: &str, managed: &[&str]) {
        let before = self.remote.keys(role);
        match self.author {
            Client::Countersign => {
                // The timestamp key is always the server's.
                let managed = managed
                    .iter()
                    .filter(|_| role == "snapshot")
                    .map(|_| "--server-managed");
                let arguments: Vec<_> = ["rotate", role, &self.gun].into_iter().chain(managed).collect();
                self.hand.does(&arguments);
            }
            Client::Notary => self.notary.rotate(role, managed),
        }
        assert_ne!(self.remote.keys(role), before);
        // What the other client signs after that has the new keys.
        let tag = format!("4.{role}{}", managed.len());
        self.sign(self.author.other(), &[&tag]);
    }

    fn witness(&self) {
        let before = self.remote.signed("targets")["version"].as_u64();
        match self.author {
            Client::Countersign => drop(self.hand.does(&["witness", &self.gun, "targets"])),
            Client::Notary => self.notary.does(&["witness", &self.gun, "targets", "-p"]),
        }
        assert_eq!(
            self.remote.signed("targets")["version"].as_u64(),
            before.map(|it| it + 1)
        );
    }

    fn add_signers(&self) {
        for signer in &self.signers {
            match self.author {
                Client::Countersign => {
                    let (public, private) =
                        (signer.public.to_str().unwrap(), signer.private.to_str().unwrap());
                    self.hand
                        .does(&["signer", "add", &signer.name, &self.gun, "--key", public]);
                    self.hand.does(&["key", "load", private, "--name", &signer.name]);
                }
                Client::Notary => self.notary.add_signer(signer),
            }
        }
        assert_eq!(self.signer_names(self.author.other()), names(&["alice", "bob"]));
    }

    fn sign_as_signer(&self) {
        self.by_signer.set(true);
        self.sign(self.author, &["5.0"]);
        assert!(self.remote.signed("targets/alice")["targets"]["5.0"].is_object());
        assert!(self.remote.signed("targets")["targets"]["5.0"].is_null());
    }

    fn list_signers(&self) {
        assert_eq!(self.signer_names(self.author), names(&["alice", "bob"]));
        self.sign(self.author.other(), &["5.1"]);
    }

    fn remove_signer(&self) {
        match self.author {
            Client::Countersign => drop(self.hand.does(&["signer", "remove", "bob", &self.gun])),
            Client::Notary => self.notary.remove_signer(&self.signers[1]),
        }
        assert_eq!(self.signer_names(self.author.other()), names(&["alice"]));
        self.sign(self.author.other(), &["5.2"]);
    }

    fn delete(&self) {
        match self.author {
            Client::Countersign => drop(self.hand.does(&["delete", &self.gun, "--yes"])),
            Client::Notary => self.notary.does(&["delete", &self.gun, "--remote"]),
        }
        assert!(self.remote.get("timestamp.json").is_none());
        self.expected.borrow_mut().clear();
        self.by_signer.set(false);
        self.init();
        // To whoever remembers it, it has gone back: that has to be forgotten by hand.
        match self.author.other() {
            Client::Countersign => {
                let refused = self.hand.run(&["inspect", &self.gun]);
                assert!(refused.err.contains("was seen before"), "{refused:?}");
                self.hand.does(&["reset", &self.gun]);
            }
            Client::Notary => self.notary.does(&["delete", &self.gun]),
        }
        self.sign(self.author.other(), &["6.0"]);
    }

    /// The tags as a client sees them from its cache.
    fn tags(&self, by: Client) -> BTreeMap<String, String> {
        match by {
            Client::Countersign => inspected(&self.hand, &self.gun, &[]),
            Client::Notary => listed(&self.notary),
        }
    }

    /// The tags as a client sees them that was never here.
    fn tags_from_nothing(&self, by: Client) -> BTreeMap<String, String> {
        let reader = format!("reader-{}-{}", self.gun.replace('/', "-"), self.readers.get());
        self.readers.set(self.readers.get() + 1);
        match by {
            Client::Countersign => inspected(&Hand::new(&self.server, &reader), &self.gun, &["--tofu"]),
            Client::Notary => listed(&Publisher::at(&self.server, &reader, &self.gun)),
        }
    }

    fn signer_names(&self, by: Client) -> BTreeSet<String> {
        let roles: BTreeSet<_> = match by {
            Client::Countersign => {
                let inspected = self.hand.inspect(&self.gun);
                let signers = inspected["Signers"].as_array().unwrap().iter();
                signers
                    .map(|signer| signer["Name"].as_str().unwrap().to_owned())
                    .collect()
            }
            Client::Notary => run(self.notary.command().args(["delegation", "list", &self.gun]))
                .split_whitespace()
                .filter_map(|word| word.strip_prefix("targets/"))
                .map(str::to_owned)
                .collect(),
        };
        roles.into_iter().filter(|role| role != "releases").collect()
    }

    /// Fills one cell. Panics where the operation, or what the other client makes of it, is not as it should be.
    fn fill(&self, Row(_, step): &Row) -> &'static str {
        step(self);
        let other = self.author.other();
        assert_eq!(
            self.tags(other),
            *self.expected.borrow(),
            "what {} sees",
            other.name()
        );
        assert_eq!(
            self.tags_from_nothing(other),
            *self.expected.borrow(),
            "what it sees from nothing"
        );
        self.remote.is_whole();
        "yes"
    }
}

fn content(tag: &str) -> String {
    format!("manifest of {tag}")
}

fn image(tag: &str) -> Image {
    Image {
        digest: format!("sha256:{}", hex::encode(Sha256::digest(content(tag)))),
        size: content(tag).len(),
    }
}

fn names(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(|&name| name.to_owned()).collect()
}

fn inspected(hand: &Hand, gun: &str, how: &[&str]) -> BTreeMap<String, String> {
    let ended = hand.does(&[&["inspect", gun, "--output", "json"], how].concat());
    let inspected: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let tags = inspected[0]["SignedTags"].as_array().unwrap().iter();
    tags.map(|tag| {
        let name = tag["SignedTag"].as_str().unwrap().to_owned();
        (name, format!("sha256:{}", tag["Digest"].as_str().unwrap()))
    })
    .collect()
}

/// `NAME DIGEST SIZE ROLE` below a heading.
fn listed(notary: &Publisher) -> BTreeMap<String, String> {
    let words = notary.list();
    let lines = words
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|words| words.len() == 4 && words[1].len() == 64)
        .map(|words| (words[0].to_owned(), format!("sha256:{}", words[1])))
        .collect()
}

#[test]
fn every_operation_of_either_client_at_either_server_is_seen_by_the_other() {
    // Of its own: it dies of concurrent map writes when many ask at once.
    let reference = |name| TrustServer::start(name, Build::Durable, Some(&trust().signer), None);
    let references = ["interop-1", "interop-2"].map(reference);
    let columns = [
        (Client::Countersign, OURS, our_server().url()),
        (Client::Notary, OURS, our_server().url()),
        (Client::Countersign, REFERENCE, references[0].url()),
        (Client::Notary, REFERENCE, references[1].url()),
    ];
    let filled: Vec<Vec<_>> = thread::scope(|scope| {
        let running: Vec<_> = (1..)
            .zip(&columns)
            .map(|(number, (author, _, url))| {
                scope.spawn(move || {
                    let column = Column::new(*author, url, &format!("column-{number}"));
                    let fill = |row| catch_unwind(AssertUnwindSafe(|| column.fill(row)));
                    ROWS.iter().map(|row| fill(row).unwrap_or("**no**")).collect()
                })
            })
            .collect();
        running.into_iter().map(|column| column.join().unwrap()).collect()
    });
    let authors = columns
        .iter()
        .map(|(author, server, _)| format!("{}, {server}", author.name()));
    let table = table(&authors.collect::<Vec<_>>(), &filled);
    // Past libtest's capture: the log of a run says what works with what.
    let _ = writeln!(std::io::stderr(), "{table}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/interop.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let lines = page
        .split_inclusive('\n')
        .skip_while(|line| !line.starts_with('|'));
    let old: String = lines.take_while(|line| line.starts_with('|')).collect();
    if std::env::var_os("COUNTERSIGN_REWRITE").is_some() {
        std::fs::write(&path, page.replace(&old, &table)).unwrap();
    } else {
        assert_eq!(
            old, table,
            "docs/interop.md: COUNTERSIGN_REWRITE=1 writes it anew"
        );
    }
}

/// As the page has it.
fn table(heading: &[String], columns: &[Vec<&str>]) -> String {
    let row = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let heading = ["operation"]
        .into_iter()
        .chain(heading.iter().map(String::as_str));
    let mut lines = vec![row(heading.collect()), row(vec!["---"; columns.len() + 1])];
    lines.extend(ROWS.iter().enumerate().map(|(number, Row(name, _))| {
        let cells = columns.iter().map(|column| column[number]);
        row([*name].into_iter().chain(cells).collect())
    }));
    lines.concat()
}
