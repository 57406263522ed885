//! Our trust server, as its operator runs it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;

use crate::balancer::Backend;
use crate::pki;
use crate::process::{self, Process, output};

const READY: Duration = Duration::from_secs(20);

/// A running `countersign server`.
#[derive(Debug)]
pub(crate) struct OurServer {
    /// None while it is down.
    process: Mutex<Option<Process>>,
    name: String,
    storage: Storage,
    access: Access,
    port: u16,
    admin_port: u16,
}

/// Who may do what at a server.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// Everybody everything.
    Open,
    /// What this file says.
    Ruled(PathBuf),
}

/// Where a server keeps what it is given.
#[derive(Debug, Clone)]
pub(crate) enum Storage {
    /// In a folder of its own.
    Folder(PathBuf),
    /// In a PostgreSQL database that others may share, with the sealing key they share too.
    Database { url: String, sealing_key: PathBuf },
}

impl Storage {
    /// An empty folder.
    pub(crate) fn folder(name: &str) -> Self {
        Self::Folder(process::new_folder(&format!("servers/{name}")))
    }

    pub(crate) fn sealing_key(&self) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.join("sealing.key"),
            Self::Database { sealing_key, .. } => sealing_key.clone(),
        }
    }
}

impl OurServer {
    /// A server that is open to everybody, in an empty folder.
    pub(crate) fn start(name: &str) -> Self {
        Self::with(name, Storage::folder(name))
    }

    pub(crate) fn with(name: &str, storage: Storage) -> Self {
        Self::of(name, storage, Access::Open)
    }

    /// A server in an empty folder that knows its callers.
    pub(crate) fn ruled(name: &str, rules: &Value) -> Self {
        let rules = process::write(&format!("servers/{name}.yaml"), rules.to_string());
        Self::of(name, Storage::folder(name), Access::Ruled(rules))
    }

    fn of(name: &str, storage: Storage, access: Access) -> Self {
        let (process, [port, admin_port]) = Process::start(
            name,
            READY,
            |ports| command(&storage, &access, ports),
            |[_, admin]| is_ready(admin),
        );
        Self {
            process: Mutex::new(Some(process)),
            name: name.to_owned(),
            storage,
            access,
            port,
            admin_port,
        }
    }

    /// On a port that clients know already.
    pub(crate) fn on_port(port: u16, name: &str, storage: Storage) -> Self {
        let [admin_port] = process::free_ports();
        let server = Self {
            process: Mutex::new(None),
            name: name.to_owned(),
            storage,
            access: Access::Open,
            port,
            admin_port,
        };
        server.restart();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// As a replica behind a balancer.
    pub(crate) fn backend(&self) -> Backend {
        Backend {
            port: self.port,
            admin_port: self.admin_port,
        }
    }

    /// As a crash, or a node that goes away: nothing is said to anybody.
    pub(crate) fn kill(&self) {
        drop(self.process.lock().unwrap().take());
    }

    /// On the same port, with what it had stored.
    pub(crate) fn restart(&self) {
        let mut command = command(&self.storage, &self.access, [self.port, self.admin_port]);
        let mut process = Process::spawn(&self.name, &mut command);
        assert!(
            process.came_up(READY, || is_ready(self.admin_port)),
            "{}",
            process.log_tail()
        );
        *self.process.lock().unwrap() = Some(process);
    }
}

fn command(storage: &Storage, access: &Access, [port, admin_port]: [u16; 2]) -> Command {
    let identity = pki::loopback();
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command
        .args([
            "server",
            "--log-format=json",
            "--log-level=info",
            "--drain-delay=0s",
        ])
        .arg(format!("--listen=127.0.0.1:{port}"))
        .arg(format!("--admin-listen=127.0.0.1:{admin_port}"))
        .arg("--tls-cert")
        .arg(&identity.certificate)
        .arg("--tls-key")
        .arg(&identity.key)
        .arg("--sealing-key-file")
        .arg(storage.sealing_key());
    match access {
        Access::Open => command.arg("--open"),
        Access::Ruled(file) => command
            .arg("--access")
            .arg(file)
            .arg("--client-ca")
            .arg(pki::authority()),
    };
    match storage {
        Storage::Folder(folder) => command.arg("--data").arg(folder),
        Storage::Database { url, .. } => command.env("COUNTERSIGN_DATABASE", url),
    };
    command
}

/// What the probe of a kubelet would learn.
fn is_ready(admin_port: u16) -> bool {
    let url = format!("http://127.0.0.1:{admin_port}/readyz");
    output(Command::new("curl").args(["--silent", "--fail", "--output", "/dev/null", &url]))
        .status
        .success()
}
