//! Docker 20.10, engine and client: the last that Debian has with content trust.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::pki;
use crate::process::{self, Process, part, run, text};
use crate::token;
use crate::world::trust;

/// It sets up its whole state before it answers.
const READY: Duration = Duration::from_secs(60);
/// For the passphrase of root keys, and for that of all others: docker knows no more.
const PASSPHRASES: [(&str, &str); 2] = [
    ("DOCKER_CONTENT_TRUST_ROOT_PASSPHRASE", "docker's root"),
    (
        "DOCKER_CONTENT_TRUST_REPOSITORY_PASSPHRASE",
        "docker's repository",
    ),
];

/// A running `dockerd` of our own, which is good for loading, pushing and pulling images; it runs none.
#[derive(Debug)]
struct Engine {
    _process: Process,
    socket: PathBuf,
}

/// Somebody with a home directory, who uses docker with content trust and one trust server.
#[derive(Debug)]
pub(crate) struct Docker {
    home: PathBuf,
    server: String,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) success: bool,
    /// What it wrote, wherever.
    pub(crate) said: String,
}

impl Engine {
    fn start() -> Self {
        // Short: the path of a socket has 107 bytes at most, and the engine adds to it.
        let folder = process::new_folder("dkr");
        let socket = folder.join("sock");
        let config = process::write("dkr/daemon.json", "{}");
        let (process, []) = Process::start(
            "dockerd",
            READY,
            |[]| {
                let unpacked = Path::new(part("DOCKER"));
                // In name spaces of its own: then it needs no root, what it mounts is gone with it, its files below
                // /run are nobody else's, and what it starts ends when it is killed.
                let mut command = Command::new("unshare");
                command
                    .args([
                        "--user",
                        "--map-root-user",
                        "--mount",
                        "--pid",
                        "--fork",
                        "--kill-child",
                    ])
                    .args(["--mount-proc", "sh", "-c"])
                    .arg(r#"mount -t tmpfs run /run && exec "$@""#)
                    .args([
                        "dockerd",
                        "dockerd",
                        "--iptables=false",
                        "--ip6tables=false",
                        "--bridge=none",
                    ])
                    .args(["--storage-driver=vfs", "--log-level=warn", "--config-file"])
                    .arg(&config)
                    .arg("--host")
                    .arg(format!("unix://{}", socket.display()))
                    .arg("--data-root")
                    .arg(folder.join("data"))
                    .arg("--exec-root")
                    .arg(folder.join("exec"))
                    .arg("--pidfile")
                    .arg(folder.join("pid"))
                    .env("PATH", search_path(unpacked))
                    .env("LD_LIBRARY_PATH", library_path(unpacked));
                command
            },
            |[]| UnixStream::connect(&socket).is_ok(),
        );
        Self {
            _process: process,
            socket,
        }
    }
}

impl Docker {
    /// With an empty key store. `server` is the URL of a trust server.
    pub(crate) fn new(server: &str, name: &str) -> Self {
        let docker = Self {
            home: process::new_folder(&format!("docker-homes/{name}")),
            server: server.to_owned(),
        };
        let config = json!({"auths": {&trust().registry.host: {"auth": token::login()}}});
        process::write(
            &format!("docker-homes/{name}/.docker/config.json"),
            config.to_string(),
        );
        let host = server.trim_start_matches("https://");
        process::write(
            &format!("docker-homes/{name}/.docker/tls/{host}/ca.crt"),
            pki::authority_pem(),
        );
        docker
    }

    /// A folder for files of this person.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Runs `docker …`.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::start);
        let mut command = Command::new(Path::new(part("DOCKER")).join("usr/bin/docker"));
        command
            .args(arguments)
            .current_dir(&self.home)
            .env("DOCKER_HOST", format!("unix://{}", ENGINE.socket.display()));
        process::output(self.trusting(&mut command)).into()
    }

    /// Runs `docker …`, which must succeed.
    pub(crate) fn does(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert!(ended.success, "docker {arguments:?}: {}", ended.said);
        ended
    }

    /// An image that differs from others by `content` only, as one that was built here.
    pub(crate) fn build(&self, image: &str, content: &str) {
        std::fs::write(self.home.join("content"), content).unwrap();
        run(Command::new("tar")
            .args(["--create", "--file=image.tar", "content"])
            .current_dir(&self.home));
        self.does(&["import", "image.tar", image]);
    }

    /// What `docker trust inspect` says of a repository.
    pub(crate) fn inspect(&self, gun: &str) -> Value {
        let said = self.does(&["trust", "inspect", gun]).said;
        serde_json::from_str::<Value>(&said).unwrap_or_else(|error| panic!("{error}: {said}"))[0].take()
    }

    /// Our program with nothing but docker's environment, configuration and key store.
    pub(crate) fn countersign(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        self.trusting(command.args(arguments));
        command
    }

    fn trusting<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("HOME", &self.home)
            .env("DOCKER_CONFIG", self.home.join(".docker"))
            .env("DOCKER_CONTENT_TRUST", "1")
            .env("DOCKER_CONTENT_TRUST_SERVER", &self.server)
            .envs(PASSPHRASES)
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            success: output.status.success(),
            said: text(&output.stdout) + &text(&output.stderr),
        }
    }
}

fn search_path(unpacked: &Path) -> String {
    let old = std::env::var("PATH").unwrap();
    format!("{0}/usr/sbin:{0}/usr/bin:{old}", unpacked.display())
}

fn library_path(unpacked: &Path) -> String {
    let architecture = if cfg!(target_arch = "aarch64") {
        "aarch64"
    } else {
        "x86_64"
    };
    format!(
        "{0}/lib/{architecture}-linux-gnu:{0}/usr/lib/{architecture}-linux-gnu",
        unpacked.display()
    )
}
