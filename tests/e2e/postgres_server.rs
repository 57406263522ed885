//! A real PostgreSQL, with databases for whoever wants one of their own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use secrecy::SecretString;

use crate::pki;
use crate::process::{self, Process, output, part, run};

/// After a kill it reads its log of changes, and the processes that it left behind have to go first.
const READY: Duration = Duration::from_secs(60);
/// Whose all databases are.
const USER: &str = "countersign";
/// Has a character that must be percent-encoded in a URL, and looks like nothing else, so that it is found wherever it
/// should not be.
pub(crate) const PASSWORD: &str = "s3cret/p4ss";
const PASSWORD_IN_URL: &str = "s3cret%2Fp4ss";

/// A running `postgres`, on loopback and on a socket.
#[derive(Debug)]
pub(crate) struct PostgresServer {
    /// None while it is down.
    process: Mutex<Option<Process>>,
    name: &'static str,
    folder: PathBuf,
    port: u16,
    databases: AtomicUsize,
}

/// The one that stories share; those that kill theirs start another.
pub(crate) fn shared() -> &'static PostgresServer {
    static SHARED: LazyLock<PostgresServer> = LazyLock::new(|| PostgresServer::start("postgres"));
    &SHARED
}

impl PostgresServer {
    pub(crate) fn start(name: &'static str) -> Self {
        let folder = process::new_folder(name);
        make_database_folder(&folder);
        let (process, [port]) = Process::start(
            name,
            READY,
            |[port]| server(&folder, port),
            |[port]| is_ready(port),
        );
        Self {
            process: Mutex::new(Some(process)),
            name,
            folder,
            port,
            databases: AtomicUsize::new(0),
        }
    }

    /// Ends it as a power cut would: without a word, whatever it is doing.
    pub(crate) fn kill(&self) {
        self.process.lock().unwrap().take().unwrap();
    }

    /// Starts it again where it was, as often as it takes: what is left of the last one ends by itself, but not at
    /// once, and keeps a new one from starting.
    pub(crate) fn start_again(&self) {
        let mut process = self.process.lock().unwrap();
        assert!(process.is_none(), "{} runs", self.name);
        *process = Some(process::eventually("PostgreSQL is back", READY, || {
            let mut process = Process::spawn(self.name, &mut server(&self.folder, self.port));
            process.came_up(READY, || is_ready(self.port)).then_some(process)
        }));
    }

    /// A new database, empty.
    pub(crate) fn database(&self) -> Database<'_> {
        let name = format!("database_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let database = |name: &str| Database {
            server: self,
            name: name.to_owned(),
        };
        database("postgres").run(&format!("CREATE DATABASE {name}"));
        database(&name)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }
}

/// A database of a server.
#[derive(Debug)]
pub(crate) struct Database<'s> {
    server: &'s PostgresServer,
    name: String,
}

impl Database<'_> {
    /// Its URL over TCP.
    pub(crate) fn url(&self) -> SecretString {
        self.url_with("")
    }

    /// The same with parameters: `?sslmode=…`.
    pub(crate) fn url_with(&self, parameters: &str) -> SecretString {
        self.url_at(&format!("127.0.0.1:{}", self.server.port), parameters)
    }

    /// Its URL over the server's socket.
    pub(crate) fn socket_url(&self) -> SecretString {
        let folder = self.server.folder.display().to_string().replace('/', "%2F");
        self.url_at(&format!("{folder}:{}", self.server.port), "")
    }

    /// Its URL as it is reached by another way.
    pub(crate) fn url_at(&self, host: &str, parameters: &str) -> SecretString {
        format!(
            "postgresql://{USER}:{PASSWORD_IN_URL}@{host}/{}{parameters}",
            self.name
        )
        .into()
    }

    /// Runs statements as an operator does, and returns what they say: a line a row.
    pub(crate) fn run(&self, statements: &str) -> String {
        run(Command::new(program("psql"))
            .args(["--quiet", "--no-align", "--tuples-only", "--no-psqlrc"])
            .args([
                "--set",
                "ON_ERROR_STOP=1",
                "--host",
                "127.0.0.1",
                "--username",
                USER,
            ])
            .args(["--port", &self.server.port.to_string(), "--dbname", &self.name])
            .args(["--command", statements])
            .env("PGPASSWORD", PASSWORD)
            // Operators can still write where nobody else can.
            .env("PGOPTIONS", "-c default_transaction_read_only=off"))
        .trim_end()
        .to_owned()
    }
}

/// What a server needs before it starts: an empty cluster, whose owner has a password, and a certificate.
fn make_database_folder(folder: &Path) {
    give_away(folder);
    let password = folder.join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    give_away(&password);
    run(unprivileged("initdb")
        .args([
            "--no-sync",
            "--auth=scram-sha-256",
            "--username",
            USER,
            "--encoding=UTF8",
        ])
        // Names would be in the order of a dictionary, if we did not say otherwise.
        .args(["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en"])
        .arg(format!("--pwfile={}", password.display()))
        .arg(format!("--pgdata={}", folder.join("data").display())));
    let identity = pki::loopback();
    for (from, to) in [(&identity.certificate, "tls.pem"), (&identity.key, "tls.key")] {
        let to = folder.join(to);
        std::fs::copy(from, &to).unwrap();
        run(Command::new("chmod").arg("600").arg(&to));
        give_away(&to);
    }
}

fn server(folder: &Path, port: u16) -> Command {
    let mut command = unprivileged("postgres");
    command
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k"])
        .arg(folder)
        // As an operator may have it who values speed more.
        .args(["-c", "synchronous_commit=off"])
        .args(["-c", "ssl=on"])
        .arg("-c")
        .arg(format!("ssl_cert_file={}", folder.join("tls.pem").display()))
        .arg("-c")
        .arg(format!("ssl_key_file={}", folder.join("tls.key").display()));
    command
}

fn is_ready(port: u16) -> bool {
    output(
        Command::new(program("pg_isready"))
            .args(["--quiet", "--host", "127.0.0.1"])
            .args(["--port", &port.to_string()]),
    )
    .status
    .success()
}

fn program(name: &str) -> PathBuf {
    Path::new(part("POSTGRES")).join(name)
}

/// PostgreSQL does not run as root; the package has made a user for it. That one has to get at its folder below ours.
fn unprivileged(name: &str) -> Command {
    if !is_root() {
        return Command::new(program(name));
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .args(["--inh-caps=+dac_override", "--ambient-caps=+dac_override"])
        .arg(program(name));
    command
}

fn give_away(path: &Path) {
    if is_root() {
        run(Command::new("chown").arg("postgres:postgres").arg(path));
    }
}

fn is_root() -> bool {
    static ROOT: LazyLock<bool> = LazyLock::new(|| run(Command::new("id").arg("-u")).trim_end() == "0");
    *ROOT
}
