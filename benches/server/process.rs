//! The server as a process, and what the system says of it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const READY: Duration = Duration::from_secs(120);

/// Where servers keep what they have.
pub(crate) struct World {
    folder: TempDir,
    database: Option<String>,
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
    port: u16,
    admin: u16,
    shared: bool,
    pub(crate) ready_after: Duration,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            database: std::env::var("COUNTERSIGN_MEASURE_DATABASE").ok(),
        }
    }

    pub(crate) const fn is_shared(&self) -> bool {
        self.database.is_some()
    }

    pub(crate) fn repositories() -> usize {
        std::env::var("COUNTERSIGN_MEASURE_REPOSITORIES").map_or(10_000, |count| count.parse().unwrap())
    }

    pub(crate) async fn start(&self, arguments: &[&str]) -> Server {
        let program = std::env::var("COUNTERSIGN_BINARY");
        let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_countersign").to_owned());
        let sockets = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, admin] = sockets
            .each_ref()
            .map(|socket| socket.local_addr().unwrap().port());
        drop(sockets);
        let folder = self.folder.path().to_owned();
        let key = folder.join("sealing.key");
        std::fs::write(&key, "ab".repeat(32)).unwrap();
        let mut command = Command::new(program);
        command
            .args([
                "server",
                "--open",
                "--log-level",
                "warn",
                "--drain-delay",
                "0s",
                "--listen",
            ])
            .arg(format!("127.0.0.1:{port}"))
            .args([
                "--admin-listen",
                &format!("127.0.0.1:{admin}"),
                "--sealing-key-file",
            ])
            .arg(key)
            .arg("--self-signed-dir")
            .arg(folder.join("tls"))
            .args(arguments)
            .stdout(Stdio::null());
        match &self.database {
            Some(url) => command.args(["--database", url]),
            None => command.arg("--data").arg(folder.join("data")),
        };
        let begun = Instant::now();
        let mut server = Server {
            child: command.spawn().unwrap(),
            folder,
            port,
            admin,
            shared: self.is_shared(),
            ready_after: Duration::ZERO,
        };
        while !server.is_ready().await {
            assert!(begun.elapsed() < READY, "the server is not ready");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.ready_after = begun.elapsed();
        server
    }
}

impl Server {
    /// The URL of a file of a repository.
    pub(crate) fn file(&self, repository: &str, file: &str) -> String {
        let gun = crate::publisher::gun(repository);
        format!("https://localhost:{}/v2/{gun}/_trust/tuf/{file}", self.port)
    }

    pub(crate) fn authority(&self) -> Vec<u8> {
        std::fs::read(self.folder.join("tls/ca.crt")).unwrap()
    }

    async fn is_ready(&self) -> bool {
        let answer = plain::get(self.admin, "readyz").await;
        answer.is_some_and(|answer| answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200"))
    }

    /// The value of a metric; 0 if there is none yet.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = plain::get(self.admin, "metrics").await.unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    /// A line of what the system says of the process, in MiB.
    pub(crate) fn memory(&self, field: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib: f64 = line.unwrap().trim().trim_end_matches(" kB").parse().unwrap();
        format!("{:.0} MiB", kib / 1024.0)
    }

    /// Bytes of the database and its journal; only of one in a folder.
    pub(crate) fn database_size(&self) -> Option<u64> {
        if self.shared {
            return None;
        }
        let size =
            |name: &str| std::fs::metadata(self.folder.join("data").join(name)).map_or(0, |file| file.len());
        Some(size("trust.sqlite") + size("trust.sqlite-wal"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Plain HTTP, as little of it as the probes need.
mod plain {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    pub(super) async fn get(port: u16, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request = format!("GET /{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }
}
