//! The reference trust server and its signer.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use crate::pki;
use crate::process::{self, Process, listens, part};
use crate::token::TokenServer;

const READY: Duration = Duration::from_secs(20);

/// The schema that upstream's migrations make; the packages hold none for SQLite.
const SCHEMA: &str = "
    CREATE TABLE tuf_files (
        id INTEGER PRIMARY KEY AUTOINCREMENT, created_at DATETIME, updated_at DATETIME, deleted_at DATETIME,
        gun VARCHAR(255) NOT NULL, role VARCHAR(255) NOT NULL, version INTEGER NOT NULL, sha256 VARCHAR(64),
        data LONGBLOB NOT NULL);
    CREATE UNIQUE INDEX idx_gun ON tuf_files (gun, role, version);
    CREATE TABLE changefeed (
        id INTEGER PRIMARY KEY AUTOINCREMENT, created_at DATETIME, gun VARCHAR(255) NOT NULL,
        version INTEGER NOT NULL, sha256 VARCHAR(64), category VARCHAR(20) NOT NULL);";

/// `notary-signer`: keeps the server's keys, as P-256 like those of Docker Hub.
#[derive(Debug)]
pub(crate) struct Signer {
    _process: Process,
    port: u16,
}

impl Signer {
    pub(crate) fn start() -> Self {
        let (process, [port]) = Process::start(
            "notary-signer",
            READY,
            |[port]| {
                let config = json!({
                    "server": {
                        "grpc_addr": format!("127.0.0.1:{port}"),
                        "tls_cert_file": pki::loopback().certificate,
                        "tls_key_file": pki::loopback().key,
                        "client_ca_file": pki::authority(),
                    },
                    "logging": {"level": "warn"},
                    "storage": {"backend": "memory"},
                });
                configured("notary-signer".into(), "notary-signer", &config)
            },
            |[port]| listens(port),
        );
        Self {
            _process: process,
            port,
        }
    }
}

/// Which server: see `tests/tools/provision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// Debian's, as it is; metadata in memory.
    Packaged,
    /// From Debian's source; metadata in a file, so that they outlive a kill.
    Durable,
}

/// A running `notary-server`.
#[derive(Debug)]
pub(crate) struct TrustServer {
    /// None while it is down.
    process: Mutex<Option<Process>>,
    name: String,
    program: PathBuf,
    config: PathBuf,
    port: u16,
}

impl TrustServer {
    /// Without a signer the server signs by itself, with ed25519 keys. With a token server it answers nobody who
    /// has no token.
    pub(crate) fn start(
        name: &str,
        build: Build,
        signer: Option<&Signer>,
        tokens: Option<&TokenServer>,
    ) -> Self {
        let program = match build {
            Build::Packaged => PathBuf::from("notary-server"),
            Build::Durable => PathBuf::from(part("NOTARY_SERVER")),
        };
        let storage = storage(name, build);
        let (process, [port]) = Process::start(
            name,
            READY,
            |[port]| {
                let mut config = json!({
                    "server": {
                        "http_addr": format!("127.0.0.1:{port}"),
                        "tls_cert_file": pki::loopback().certificate,
                        "tls_key_file": pki::loopback().key,
                    },
                    "trust_service": trust_service(signer),
                    "logging": {"level": "warn"},
                    "storage": storage,
                });
                if let Some(tokens) = tokens {
                    config["auth"] = tokens.server_config();
                }
                configured(program.clone(), name, &config)
            },
            |[port]| listens(port),
        );
        Self {
            process: Mutex::new(Some(process)),
            name: name.to_owned(),
            program,
            config: process::folder().join(format!("{name}.json")),
            port,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// As a crash, or a node that goes away: nothing is said to anybody.
    pub(crate) fn kill(&self) {
        drop(self.process.lock().unwrap().take());
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where a durable server keeps its metadata.
    pub(crate) fn database(&self) -> PathBuf {
        database(&self.name)
    }

    /// What a durable server has stored.
    pub(crate) fn stored(&self) -> Vec<u8> {
        std::fs::read(database(&self.name)).unwrap()
    }

    /// Goes back to what it had stored, as whoever has taken the server over could do it.
    pub(crate) fn go_back_to(&self, stored: &[u8]) {
        self.kill();
        std::fs::write(database(&self.name), stored).unwrap();
        self.restart();
    }

    /// On the same port, with what it had stored.
    pub(crate) fn restart(&self) {
        let mut command = Command::new(&self.program);
        command.arg("-config").arg(&self.config);
        let mut process = Process::spawn(&self.name, &mut command);
        assert!(
            process.came_up(READY, || listens(self.port)),
            "{}",
            process.log_tail()
        );
        *self.process.lock().unwrap() = Some(process);
    }
}

/// Where a durable server keeps its metadata.
fn database(name: &str) -> PathBuf {
    process::folder().join(format!("{name}.sqlite"))
}

fn configured(program: PathBuf, name: &str, config: &Value) -> Command {
    let mut command = Command::new(program);
    command
        .arg("-config")
        .arg(process::write(&format!("{name}.json"), config.to_string()));
    command
}

fn trust_service(signer: Option<&Signer>) -> Value {
    let Some(signer) = signer else {
        return json!({"type": "local"});
    };
    json!({
        "type": "remote",
        "hostname": "localhost",
        "port": signer.port.to_string(),
        "key_algorithm": "ecdsa",
        "tls_ca_file": pki::authority(),
        "tls_client_cert": pki::loopback().certificate,
        "tls_client_key": pki::loopback().key,
    })
}

fn storage(name: &str, build: Build) -> Value {
    match build {
        Build::Packaged => json!({"backend": "memory"}),
        Build::Durable => {
            let path = database(name);
            rusqlite::Connection::open(&path)
                .unwrap()
                .execute_batch(SCHEMA)
                .unwrap();
            json!({"backend": "sqlite3", "db_url": path})
        }
    }
}
