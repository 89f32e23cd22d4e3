//! A node of a test's own: the real binary in a directory of its own, and what one can ask of it.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use headwater::ops::Status;
use headwater::ops::status::{PartStatus, SinkStatus};
use tempfile::TempDir;

const LOOK_EVERY: Duration = Duration::from_millis(20);

pub const BINARY: &str = env!("CARGO_BIN_EXE_headwater");

/// What has not happened after this does not happen. Far above what anything takes, even on a busy machine; where an emulator
/// runs the node, whoever starts the tests says how many seconds that is.
pub fn patience() -> Duration {
    Duration::from_secs(setting("HEADWATER_TEST_PATIENCE").unwrap_or(60))
}

/// Asks until there is an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A number from the environment, that says how much of something a test does.
pub fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a command came to.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    /// Standard output of a command that must succeed.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    /// Standard error of a command that must fail with this code.
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self.err
    }
}

/// Runs the binary; `input` is its standard input.
pub fn headwater(args: &[&str], input: &str) -> Done {
    let mut command = Command::new(BINARY);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A command that does not read its input closes it.
        let _ = stdin.write_all(input.as_bytes());
    });
    let (id, (tell, ended)) = (child.id(), mpsc::channel());
    let waiter = std::thread::spawn(move || drop(tell.send(child.wait_with_output().unwrap())));
    let output = ended.recv_timeout(patience()).unwrap_or_else(|_| {
        let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
        panic!("headwater {} does not end", args.join(" "));
    });
    waiter.join().unwrap();
    writer.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

pub struct Node {
    pub home: TempDir,
    child: Option<Child>,
}

/// `[node]`, `[ring]` and `[http]` as most tests want them, and `rest`. `{dir}` is the node's directory.
pub fn config(id: &str, rest: &str) -> String {
    format!(
        "[node]\nid = \"{id}\"\ndata_dir = \"{{dir}}/data\"\nheartbeat = \"off\"\n\n\
         [ring]\nmax_bytes = \"64MiB\"\nkeep_free = \"0B\"\nlinger = \"20ms\"\n\n[http]\nlisten = \"off\"\n\n{rest}"
    )
}

impl Node {
    /// A directory with this config; nothing runs yet.
    pub fn new(config: &str) -> Self {
        let node = Self { home: tempfile::tempdir().unwrap(), child: None };
        node.write_config(config);
        node
    }

    /// A node with [`config`] that runs.
    pub fn started(rest: &str) -> Self {
        let mut node = Self::new(&config("edge", rest));
        node.start();
        node
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub fn write_config(&self, config: &str) {
        let text = config.replace("{dir}", &self.home.path().display().to_string());
        std::fs::write(self.path("headwater.toml"), text).unwrap();
    }

    pub fn config_path(&self) -> String {
        self.path("headwater.toml").display().to_string()
    }

    fn control(&self) -> PathBuf {
        let own = self.path("control.sock");
        if own.exists() { own } else { self.path("data/control.sock") }
    }

    /// Starts it without waiting for anything.
    pub fn spawn(&mut self) {
        self.spawn_under(&[]);
    }

    /// As `spawn`, by a program that becomes it: the name and first arguments.
    pub fn spawn_under(&mut self, by: &[&str]) {
        assert!(self.child.is_none(), "it runs already");
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let config = self.config_path();
        let words: Vec<&str> = by.iter().copied().chain([BINARY, "run", "-c", config.as_str()]).collect();
        let child = Command::new(words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Starts it and waits until it answers.
    pub fn start(&mut self) {
        self.spawn();
        eventually("the node to answer", || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "it ended: {ended:?}\n{}", self.log());
            self.answers().then_some(())
        });
    }

    pub fn answers(&self) -> bool {
        UnixStream::connect(self.control()).is_ok()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// `name` is a signal as kill(1) has it.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(sent.success(), "kill -s {name}");
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "it ended by itself:\n{}", self.log());
    }

    /// How it ends, once it has.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let end = Instant::now() + patience();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > end {
                let _ = child.kill();
                panic!("it does not end:\n{}", self.log());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// SIGTERM; it must end well.
    pub fn stop(&mut self) {
        self.signal("TERM");
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.log());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A command with `-c` of this node's config.
    pub fn run(&self, args: &[&str]) -> Done {
        self.run_with(args, "")
    }

    pub fn run_with(&self, args: &[&str], input: &str) -> Done {
        let config = self.config_path();
        let args: Vec<_> = args.iter().copied().chain(["-c", config.as_str()]).collect();
        headwater(&args, input)
    }

    /// A command with `-c` of this node's config that does not end by itself; what it prints is not looked at.
    #[allow(dead_code, reason = "for tests that ask while something is the matter")]
    pub fn background(&self, args: &[&str]) -> Child {
        let mut command = Command::new(BINARY);
        command.args(args).args(["-c", &self.config_path()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Sends lines; gives what was printed for each.
    pub fn send(&self, topic: &str, lines: &[&str]) -> Vec<String> {
        let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.run_with(&["send", topic], &input).ok().lines().map(String::from).collect()
    }

    /// The topic's values, from the oldest, once there are `n`.
    pub fn tail(&self, topic: &str, n: usize) -> Vec<String> {
        let out = self.run(&["tail", topic, "--from-beginning", "-n", &n.to_string()]).ok();
        out.lines().map(String::from).collect()
    }

    pub fn status(&self) -> Status {
        let status = serde_json::from_str(&self.run(&["status", "--json"]).ok()).unwrap();
        balances(&status);
        status
    }

    pub fn sink(&self, name: &str) -> SinkStatus {
        let sinks = self.status().sinks;
        sinks.into_iter().find(|sink| sink.part.name == name).unwrap_or_else(|| panic!("no sink {name}"))
    }

    /// Waits until a part is in this state and says these words.
    pub fn says(&self, name: &str, state: &str, words: &str) -> PartStatus {
        let mut last = String::new();
        let end = Instant::now() + patience();
        loop {
            let status = self.status();
            let sinks = status.sinks.iter().map(|sink| &sink.part);
            let mut parts = sinks.chain(&status.sources).chain(&status.parts);
            if let Some(part) = parts.find(|part| part.name == name) {
                if part.state == state && part.what.contains(words) {
                    return part.clone();
                }
                last = format!("{} {}", part.state, part.what);
            }
            assert!(Instant::now() < end, "{name} never was `{state}: {words}`, but `{last}`");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until its ring is in memory, or on the disk; its socket is away for a moment when that changes.
    #[allow(dead_code, reason = "for tests of a disk that fails")]
    pub fn is_in_memory(&self, memory: bool) {
        eventually("a change of rings", || {
            let said = self.run(&["status"]);
            (said.code == Some(0) && said.out.contains("IN MEMORY") == memory).then_some(())
        });
    }

    /// How many records of a topic can be read.
    pub fn end_of(&self, topic: &str) -> u64 {
        let topics = self.status().topics;
        topics.iter().find(|t| t.name == topic).map_or(0, |t| t.partitions.iter().map(|p| p.end).sum())
    }
}

/// The account of promise 2, for every sink.
fn balances(status: &Status) {
    for s in &status.sinks {
        let gone = s.evicted + s.expired + s.corrupt + s.lost_unsynced + s.released;
        assert_eq!(s.admitted, s.delivered + s.filtered + s.refused + s.pending + gone, "{s:?}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the node in {}:\n{}", self.home.path().display(), self.log());
        }
    }
}
