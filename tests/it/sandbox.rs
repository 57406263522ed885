//! `countersign sandbox`: the story, what can be tried after it, and that nothing stays behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::tls_support::Client;

/// Far more than the sandbox needs, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// Countersign with nothing of the environment of whoever runs the tests; temporary folders are made in `home`.
fn countersign(home: &Path) -> Command {
    let mut command = Command::new(cargo_bin!("countersign"));
    command
        .env_clear()
        .env("TMPDIR", home)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// How a command ended, and what it said.
#[derive(Debug)]
struct Ended {
    status: Option<i32>,
    out: String,
    err: String,
}

async fn run(command: &mut Command) -> Ended {
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    Ended {
        status: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A sandbox that stays up.
struct Sandbox {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    page: String,
    home: TempDir,
}

impl Sandbox {
    /// A new one in a temporary folder.
    async fn new() -> Self {
        Self::start(tempfile::tempdir().unwrap(), &[]).await
    }

    /// Starts it and reads until it has nothing more to say.
    async fn start(home: TempDir, arguments: &[&str]) -> Self {
        let mut child = countersign(home.path())
            .arg("sandbox")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut sandbox = Self {
            child,
            lines,
            page: String::new(),
            home,
        };
        while !sandbox.page.contains("\nCtrl-C ends it.\n") {
            let line = timeout(PATIENCE, sandbox.lines.next_line()).await.unwrap();
            let Some(line) = line.unwrap() else {
                let complaints = sandbox.complaints().await;
                panic!("it ended: {}\n{complaints}", sandbox.page);
            };
            sandbox.page.push_str(&line);
            sandbox.page.push('\n');
        }
        sandbox
    }

    async fn complaints(&mut self) -> String {
        let mut text = String::new();
        let mut err = self.child.stderr.take().unwrap();
        err.read_to_string(&mut text).await.unwrap();
        text
    }

    /// What `name` is on the first page.
    fn entry(&self, name: &str) -> &str {
        let mut lines = self.page.lines();
        let value = lines.find_map(|line| line.trim().strip_prefix(name)).unwrap();
        value.split_whitespace().next().unwrap()
    }

    fn registry(&self) -> &str {
        self.entry("registry").strip_prefix("http://").unwrap()
    }

    fn folder(&self) -> PathBuf {
        PathBuf::from(self.entry("folder"))
    }

    /// What it says to export.
    fn environment(&self) -> BTreeMap<&str, &str> {
        let exports = self
            .page
            .lines()
            .filter_map(|line| line.trim().strip_prefix("export "));
        exports.map(|export| export.split_once('=').unwrap()).collect()
    }

    /// A command of its own, in the environment that it says, with whatever stands for the registry in `line`.
    async fn type_in(&self, line: &str) -> Ended {
        let line = line.replace("REGISTRY", self.registry());
        let mut command = countersign(self.home.path());
        command.args(line.split(' ')).envs(self.environment());
        run(&mut command).await
    }

    /// Presses Ctrl-C, and says how it ended.
    async fn interrupt(mut self) -> (Option<i32>, TempDir) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
        assert!(sent.success());
        let status = timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        (status.code(), self.home)
    }
}

/// What is in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// The story without what is different each time: ports, and the digests by their order.
fn masked(page: &str) -> String {
    let mut text = page.to_owned();
    for (entry, scheme, mask) in [
        ("registry", "http", "REGISTRY"),
        ("trust server", "https", "TRUST"),
        ("webhook", "https", "WEBHOOK"),
    ] {
        let line = page.lines().find(|line| line.trim().starts_with(entry));
        let before = format!("{scheme}://localhost:");
        let (_, port) = line.unwrap().split_once(&before).unwrap();
        let port: String = port.chars().take_while(char::is_ascii_digit).collect();
        text = text.replace(&format!("localhost:{port}"), mask);
    }
    let digests: Vec<&str> = page
        .split("sha256:")
        .skip(1)
        .filter_map(|rest| rest.get(..64))
        .filter(|digest| digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .collect();
    let mut seen = Vec::new();
    for digest in digests {
        if !seen.contains(&digest) {
            seen.push(digest);
        }
    }
    for (digest, letter) in seen.into_iter().zip('A'..) {
        text = text.replace(digest, &letter.to_string());
        text = text.replace(&format!("{}…", &digest[..12]), &letter.to_string());
    }
    let lines = text.lines().filter(|line| !line.trim().starts_with("folder"));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

#[tokio::test]
async fn the_story_comes_out_as_told_and_nothing_stays_behind() {
    let home = tempfile::tempdir().unwrap();
    let told = run(countersign(home.path()).args(["sandbox", "--once"])).await;
    assert_eq!(told.status, Some(0), "{told:?}");
    assert_eq!(told.err, "");
    assert!(!told.out.contains('\x1b'), "colours are for terminals");
    assert_eq!(names(home.path()), Vec::<String>::new());
    let page = masked(&told.out);
    insta::assert_snapshot!("story", page);
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, shown) = readme
        .split_once("```text\nContent trust in one process")
        .unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    let shown = masked(&format!("Content trust in one process{shown}"));
    for line in shown.lines().filter(|line| *line != "   …") {
        assert!(page.lines().any(|told| told == line), "README.md shows {line:?}");
    }
}

#[tokio::test]
async fn what_is_printed_works_as_printed_until_ctrl_c() {
    let sandbox = Sandbox::new().await;
    let signed = sandbox.type_in("verify REGISTRY/docker/trusttest:latest").await;
    assert_eq!(signed.status, Some(0), "{signed:?}");
    for (line, status, said) in [
        ("verify REGISTRY/docker/cliffs:latest", 1, "has no trust data"),
        ("trust sign REGISTRY/docker/cliffs:latest", 0, "initialised"),
        ("verify REGISTRY/docker/cliffs:latest", 0, "cliffs:latest@sha256:"),
        ("trust inspect REGISTRY/docker/trusttest", 0, "latest"),
        ("trust key list", 0, "root"),
    ] {
        let ended = sandbox.type_in(line).await;
        assert_eq!(ended.status, Some(status), "{line}: {ended:?}");
        let all = ended.out + &ended.err;
        assert!(all.contains(said), "{line}: {all}");
    }
    let policy = format!("policy lint {}", sandbox.folder().join("policy.yaml").display());
    assert_eq!(sandbox.type_in(&policy).await.status, Some(0));
    let exports = fs::read_to_string(sandbox.folder().join("env")).unwrap();
    for (name, value) in sandbox.environment() {
        assert!(exports.contains(&format!("export {name}={value}\n")), "{name}");
    }
    let (status, home) = sandbox.interrupt().await;
    assert_eq!(status, Some(0));
    assert_eq!(names(home.path()), Vec::<String>::new());
}

/// The review that is laid out for curl, over TLS with the authority that is named.
#[tokio::test]
async fn the_review_that_is_laid_out_is_answered() {
    let sandbox = Sandbox::new().await;
    let authority = fs::read_to_string(sandbox.environment()["COUNTERSIGN_CA"]).unwrap();
    let review = fs::read(sandbox.folder().join("review.json")).unwrap();
    let port = sandbox
        .entry("webhook")
        .strip_prefix("https://localhost:")
        .unwrap();
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    let mut connection = Client::api_server(&authority).connect(address).await.unwrap();
    for (path, allowed) in [("/mutate", true), ("/validate", false)] {
        let answer = connection.post(path, &review).await.unwrap();
        let reply: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(reply["response"]["allowed"], allowed, "{path}: {reply}");
    }
    assert_eq!(sandbox.interrupt().await.0, Some(0));
}

/// What was signed by hand is there the next time, and a story that it contradicts is not told as if nothing were.
#[tokio::test]
async fn a_folder_keeps_what_was_done_and_a_story_that_it_contradicts_is_a_failure() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("kept");
    let folder = folder.to_str().unwrap();
    for _ in 0..2 {
        let once = ["sandbox", "--once", "--dir", folder];
        let told = run(countersign(home.path()).args(once)).await;
        assert_eq!(told.status, Some(0), "{told:?}");
    }
    let sandbox = Sandbox::start(home, &["--dir", folder]).await;
    assert!(sandbox.page.contains("was told in this folder before"));
    assert!(!sandbox.page.contains("1. "), "the story is told once");
    let signed = sandbox.type_in("trust sign REGISTRY/docker/cliffs:latest").await;
    assert_eq!(signed.status, Some(0), "{signed:?}");
    let (status, home) = sandbox.interrupt().await;
    assert_eq!(status, Some(0));
    let once = ["sandbox", "--once", "--dir", folder];
    let told = run(countersign(home.path()).args(once)).await;
    assert_eq!(told.status, Some(1), "{told:?}");
    for said in [
        "docker/cliffs:latest came out otherwise",
        "it tells of a denial that says \"no trust data\", but it was allowed as",
        "an empty folder begins anew",
    ] {
        assert!(told.err.contains(said), "{said}: {}", told.err);
    }
    let sandbox = Sandbox::start(home, &["--dir", folder]).await;
    let verified = sandbox.type_in("verify REGISTRY/docker/cliffs:latest").await;
    assert_eq!(verified.status, Some(0), "{verified:?}");
}

#[tokio::test]
async fn a_folder_or_port_that_cannot_be_used_is_wrong_usage() {
    let home = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    fs::write(home.path().join("thesis.txt"), "").unwrap();
    let foreign = home.path().to_str().unwrap();
    for (arguments, said) in [
        (["--dir", foreign], "holds something else than a sandbox"),
        (["--port", port.as_str()], "cannot listen on 127.0.0.1"),
        (["--port", "65535"], "needs room for three ports"),
        (["--port", "0"], "invalid value"),
    ] {
        let mut command = countersign(home.path());
        let refused = run(command.args(["sandbox", "--once"]).args(arguments)).await;
        assert_eq!(refused.status, Some(2), "{refused:?}");
        assert!(refused.err.contains(said), "{}", refused.err);
        assert_eq!(names(home.path()), ["thesis.txt"]);
    }
}
