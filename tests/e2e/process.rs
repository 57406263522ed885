//! Foreign programs: started with their output in a file, awaited with a deadline, killed when dropped or when the
//! test run ends in whatever way.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How often a condition of a foreign process is looked at: it sends no signal when it is ready.
const POLL: Duration = Duration::from_millis(25);
/// A port found free can be taken before the program binds it; more than two clashes in a row are something else.
const STARTS: usize = 3;

/// A running program.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts what `command` describes for free `ports`, and waits until `ready`. A program that ends at once is
    /// started anew with other ports, as one of them may have been taken meanwhile.
    pub(crate) fn start<const N: usize>(
        name: &str,
        within: Duration,
        mut command: impl FnMut([u16; N]) -> Command,
        ready: impl Fn([u16; N]) -> bool,
    ) -> (Self, [u16; N]) {
        for _ in 1..STARTS {
            let ports = free_ports();
            let mut process = Self::spawn(name, &mut command(ports));
            if process.came_up(within, || ready(ports)) {
                return (process, ports);
            }
        }
        let ports = free_ports();
        let mut process = Self::spawn(name, &mut command(ports));
        assert!(
            process.came_up(within, || ready(ports)),
            "{name} ended: {}",
            process.log_tail()
        );
        (process, ports)
    }

    /// Starts `command` and returns at once.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Self {
        let log = folder().join(format!("{name}.log"));
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        REAPER.tell('+', child.id());
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    /// Waits until `ready`; false when the program ended before that. Panics when `within` has passed.
    pub(crate) fn came_up(&mut self, within: Duration, ready: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + within;
        while !ready() {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(
                Instant::now() < deadline,
                "{} is not ready after {within:?}: {}",
                self.name,
                self.log_tail()
            );
            thread::sleep(POLL);
        }
        true
    }

    /// Asks the program to end, as an operator or a kubelet does.
    pub(crate) fn terminate(&self) {
        run(Command::new("kill").arg("-TERM").arg(self.child.id().to_string()));
    }

    /// How the program ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the end of a program that was asked to end.
    pub(crate) fn wait(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} still runs after {within:?}: {}",
                self.name,
                self.log_tail()
            );
            thread::sleep(POLL);
        }
    }

    /// The program's output so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of the program's output.
    pub(crate) fn log_tail(&self) -> String {
        let text = self.log();
        let lines: Vec<_> = text.lines().rev().take(20).collect();
        let tail: Vec<_> = lines.into_iter().rev().collect();
        format!("{}\n{}", self.log.display(), tail.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the program is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        REAPER.tell('-', self.child.id());
    }
}

/// Kills what still runs when this process ends. Statics are never dropped and a killed test run drops nothing, so a
/// shell reads the process ids from a pipe, and the end of the pipe is its signal.
struct Reaper(Mutex<Child>);

static REAPER: LazyLock<Reaper> = LazyLock::new(|| {
    const SCRIPT: &str = r#"trap '' INT TERM
        alive=' '
        while read -r sign pid; do
            case $sign in
            +) alive="$alive$pid " ;;
            -) alive="${alive%% $pid *} ${alive#* $pid }" ;;
            esac
        done
        for pid in $alive; do kill -KILL "$pid"; done"#;
    let shell = Command::new("sh")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Reaper(Mutex::new(shell))
});

impl Reaper {
    fn tell(&self, sign: char, pid: u32) {
        let mut shell = self.0.lock().unwrap();
        writeln!(shell.stdin.as_mut().unwrap(), "{sign} {pid}").unwrap();
    }
}

/// Where this run keeps logs and state. Emptied when a run begins; one run at a time.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: LazyLock<(PathBuf, File)> = LazyLock::new(|| {
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(base).unwrap();
        let lock = File::create(base.join("e2e.lock")).unwrap();
        lock.lock().unwrap();
        let folder = base.join("e2e");
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::create_dir(&folder).unwrap();
        (folder, lock)
    });
    &FOLDER.0
}

/// A new folder of this run.
pub(crate) fn new_folder(name: &str) -> PathBuf {
    let path = folder().join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Writes a file of this run, at once: stories that share a file write the same into it while others read it.
pub(crate) fn write(name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder().join(name);
    let parent = path.parent().unwrap();
    fs::create_dir_all(parent).unwrap();
    let mut file = tempfile::NamedTempFile::new_in(parent).unwrap();
    file.write_all(content.as_ref()).unwrap();
    file.persist(&path).unwrap();
    path
}

/// Runs a program to its end and demands success.
pub(crate) fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs a program to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

/// Runs a program to its end with something to read.
pub(crate) fn output_of_input(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    // Closed at the end of the statement, which is the end of the input.
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What a program wrote.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asks `question` until it has an answer.
pub(crate) fn eventually<T>(what: &str, within: Duration, mut question: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        thread::sleep(POLL);
    }
}

/// Whether somebody listens on a port of 127.0.0.1.
pub(crate) fn listens(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// What `tests/tools/provision` brought: NAME → path.
pub(crate) fn part(name: &str) -> &'static OsStr {
    static PARTS: LazyLock<Vec<(String, PathBuf)>> = LazyLock::new(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/provision");
        // Its progress goes to our standard error: the first run takes minutes.
        let output = Command::new(&script)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "{} failed", script.display());
        text(&output.stdout)
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, path)| (name.to_owned(), PathBuf::from(path)))
            .collect()
    });
    let (_, path) = PARTS
        .iter()
        .find(|(part, _)| part == name)
        .unwrap_or_else(|| panic!("provision does not know {name}"));
    path.as_os_str()
}

/// Ports of 127.0.0.1 that nobody has at the moment.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    // All bound at once, so that they differ.
    let sockets: [_; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}
