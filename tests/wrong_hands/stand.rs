//! A node of the test's own: a config in a directory that goes away with it, the real binary, and what it shows.

use std::cell::Cell;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::golden::Normal;

pub const BINARY: &str = env!("CARGO_BIN_EXE_headwater");
/// An ordinary user's number, for tests that run as root.
const NOBODY: u32 = 65534;

/// What every node of these tests has, unless the test says otherwise.
const HEAD: &str = "[node]\nid = \"site-7\"\ndata_dir = \"data\"\nheartbeat = \"off\"\n[http]\nlisten = \"off\"\n";
const RING: &str = "[ring]\nmax_bytes = \"16MiB\"\nkeep_free = \"0B\"\n";

/// Long enough for a busy machine; a situation that is not there by then never comes. As for the node's other tests, it is longer
/// where who starts them says so.
fn patience() -> Duration {
    let said = std::env::var("HEADWATER_TEST_PATIENCE");
    Duration::from_secs(said.map_or(60, |said| said.parse().expect("a number of seconds")))
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A directory with a config.
pub struct Site {
    pub dir: TempDir,
}

impl Site {
    /// `parts` is added to an id, a data directory and a small ring.
    pub fn new(parts: &str) -> Self {
        Self::of(&format!("{HEAD}{RING}{parts}"))
    }

    /// `parts` brings its own ring.
    pub fn with_ring(parts: &str) -> Self {
        Self::of(&format!("{HEAD}{parts}"))
    }

    /// Exactly this config.
    pub fn of(config: &str) -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::write(site.config(), config).unwrap();
        site
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("headwater.toml")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn normal(&self) -> Normal {
        Normal::default().path(self.dir.path(), "DIR")
    }

    /// Runs a command to its end: `headwater WORDS... -c CONFIG`.
    pub fn says(&self, words: &[&str]) -> Said {
        Said::of(&mut self.command(words), words)
    }

    /// As `says`, for a node whose config no longer tells its data directory.
    pub fn says_beside(&self, words: &[&str], data_dir: &str) -> Said {
        let mut command = Command::new(BINARY);
        Said::of(command.args(words).arg("--data-dir").arg(self.path(data_dir)).stdin(Stdio::null()), words)
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(words).arg("-c").arg(self.config()).stdin(Stdio::null());
        command
    }

    pub fn start(self) -> Node {
        let command = self.command(&["run"]);
        Node::start(self, command)
    }

    /// As if the card stood in another machine: with another machine-id. None, said aloud, where that cannot be played.
    pub fn start_elsewhere(self) -> Option<Node> {
        std::fs::write(self.path("machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        let script = format!("mount --bind {} /etc/machine-id && exec \"$@\"", self.path("machine-id").display());
        let command = |words: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", &script, "sh", BINARY]).args(words).stdin(Stdio::null());
            command
        };
        if !command(&["--version"]).output().is_ok_and(|o| o.status.success()) {
            eprintln!("not available here: another machine-id (needs root, unshare and an /etc/machine-id)");
            return None;
        }
        let run = command(&["run", "-c", self.config().to_str().unwrap()]);
        Some(Node::start(self, run))
    }

    /// As an ordinary user: as who we are, or as nobody when we are root.
    pub fn start_unprivileged(self) -> Option<Node> {
        let mut command = unprivileged(&["run", "-c", self.config().to_str().unwrap()])?;
        command.stdin(Stdio::null());
        if is_root() {
            for path in [self.dir.path().to_owned(), self.config()] {
                chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        Some(Node::start(self, command))
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `headwater WORDS...` without any right of root. None, said aloud: we are root and cannot stop being it.
pub fn unprivileged(words: &[&str]) -> Option<Command> {
    if !is_root() {
        let mut command = Command::new(BINARY);
        command.args(words);
        return Some(command);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", BINARY]);
    let works = command.arg("--version").output().is_ok_and(|o| o.status.success());
    if !works {
        eprintln!("not available here: running as an ordinary user (no setpriv, or {BINARY} is not theirs to run)");
        return None;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", BINARY]).args(words);
    Some(command)
}

/// Lets the ordinary user of [`unprivileged`] pass through a directory.
pub fn open_to_all(dir: &Path) {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A command that has ended.
pub struct Said {
    pub code: i32,
    words: String,
    pub text: String,
}

impl Said {
    pub fn of(command: &mut Command, words: &[&str]) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
        Self { code: status.code().unwrap_or(-1), words: words.join(" "), text }
    }

    /// As on a terminal, with the exit code.
    pub fn shown(&self, normal: &Normal) -> String {
        normal.apply(&format!("$ headwater {}\n{}[exit code {}]\n", self.words, self.text, self.code))
    }
}

/// A running node, killed at the end.
pub struct Node {
    pub site: Site,
    child: Child,
    /// Nothing was sent, so what waits is one of the node's own records, for a moment.
    quiet: Cell<bool>,
}

impl Node {
    fn start(site: Site, mut command: Command) -> Self {
        let log = std::fs::File::create(site.path("log")).unwrap();
        let child = command.current_dir(site.dir.path()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { site, child, quiet: Cell::new(true) }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.site.path("log")).unwrap()
    }

    /// The status page once it holds all of `wanted`.
    pub fn page_with(&self, wanted: &[&str]) -> String {
        self.page_of(wanted, || self.site.says(&["status"]))
    }

    /// As `page_with`, for a node whose config no longer tells its data directory.
    pub fn page_beside(&self, data_dir: &str, wanted: &[&str]) -> String {
        self.page_of(wanted, || self.site.says_beside(&["status"], data_dir))
    }

    fn page_of(&self, wanted: &[&str], ask: impl Fn() -> Said) -> String {
        let (end, mut page) = (Instant::now() + patience(), String::new());
        while Instant::now() < end {
            page = ask().text;
            // Columns are as wide as the longest name.
            let narrow = page.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
            let settled = !self.quiet.get() || !narrow.contains(" waiting (");
            if settled && wanted.iter().all(|w| narrow.contains(w)) {
                return page;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("no {wanted:?} in\n{page}\nlog:\n{}", self.log());
    }

    /// A sink of it sends nothing, so that the node's own records wait for good.
    pub fn waits(&self) {
        self.quiet.set(false);
    }

    /// One line into a topic.
    pub fn send(&self, topic: &str, line: &str) {
        use std::io::Write as _;
        self.page_with(&["ring"]);
        self.quiet.set(false);
        let mut command = self.site.command(&["send", topic]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Node {
    /// Ends it as a service manager would, and gives its directory back.
    pub fn stop(mut self) -> Site {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
        let empty = Site { dir: tempfile::tempdir().unwrap() };
        std::mem::replace(&mut self.site, empty)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `$ headwater status` and the page.
pub fn status(page: &str, normal: &Normal) -> String {
    normal.apply(&format!("$ headwater status\n{page}"))
}
