//! The emulated board: QEMU with the card that flash.sh made in it, asked through a serial port of its own, so that it
//! can be asked without a network; and its link, which can be pulled out.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use headwater::ops::Status;
use headwater::ops::status::SinkStatus;
use tempfile::TempDir;

use super::node::Done;

/// What has not happened after this does not happen. A boot takes half a minute where nothing else runs.
const PATIENCE: Duration = Duration::from_secs(400);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where scripts/test-board.sh put what the tests are about.
pub fn home() -> PathBuf {
    let home = std::env::var("HEADWATER_BOARD").expect("HEADWATER_BOARD: these tests are run by scripts/test-board.sh");
    PathBuf::from(home)
}

/// One of the words that the script left there.
pub fn word(name: &str) -> String {
    let path = home().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display())).trim().to_owned()
}

/// A copy of the card as it was flashed, in this directory.
pub fn fresh_card(to: &Path) -> PathBuf {
    let card = to.join("card.img");
    let copied = Command::new("cp").arg("--sparse=always").args([&home().join("card.img"), &card]).status();
    assert!(copied.unwrap().success(), "the card is copied");
    card
}

/// How a machine is set up.
#[derive(Default)]
pub struct Setup {
    /// What its clock says at power-on; a board without one of its own says something that was long ago.
    pub clock: Option<&'static str>,
    /// All that is done to the card is written down here.
    pub log: Option<PathBuf>,
    /// A port of this host that leads to its SSH server, once the link is there.
    pub ssh: Option<u16>,
    /// The first process, in place of systemd.
    pub init: Option<&'static str>,
}

pub struct Machine {
    child: Child,
    dir: TempDir,
    console: RefCell<Console>,
    monitor: RefCell<BufReader<UnixStream>>,
    pub started: Instant,
}

struct Console {
    port: BufReader<UnixStream>,
    asked: u64,
}

impl Machine {
    /// Power on, with the link pulled out.
    pub fn start(card: &Path, setup: &Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut qemu = Command::new("qemu-system-aarch64");
        qemu.args("-M virt -cpu cortex-a72 -smp 2 -m 512 -display none -nodefaults -no-reboot -S".split(' '));
        qemu.arg("-kernel").arg(home().join("kernel")).arg("-initrd").arg(home().join("initrd"));
        let init = setup.init.map(|init| format!(" init={init}")).unwrap_or_default();
        qemu.arg("-append").arg(word("cmdline.txt") + &init);
        qemu.arg("-serial").arg(format!("file:{}", dir.path().join("serial").display()));
        qemu.args(drives(card, setup.log.as_deref()));
        qemu.args(["-device", "virtio-blk-pci,drive=card"]);
        let forward = setup.ssh.map(|port| format!(",hostfwd=tcp:127.0.0.1:{port}-:22")).unwrap_or_default();
        qemu.args(["-netdev", &format!("user,id=net{forward}")]);
        qemu.args(["-device", "virtio-net-pci,netdev=net,id=link,romfile="]);
        qemu.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=console,name=board"]);
        qemu.args(["-device", "virtio-rng-pci", "-device", "i6300esb", "-action", "watchdog=poweroff"]);
        for (name, option) in [("console", "-chardev"), ("monitor", "-qmp")] {
            let path = dir.path().join(name);
            let socket = format!("path={},server=on,wait=off", path.display());
            match option {
                "-qmp" => qemu.args([option, &format!("unix:{},server=on,wait=off", path.display())]),
                _ => qemu.args([option, &format!("socket,id={name},{socket}")]),
            };
        }
        if let Some(clock) = setup.clock {
            qemu.args(["-rtc", &format!("base={clock}")]);
        }
        let child = qemu.stdin(Stdio::null()).spawn().unwrap_or_else(|why| panic!("qemu-system-aarch64: {why}"));
        let connect = |name: &str| {
            let path = dir.path().join(name);
            let port = super::node::eventually("QEMU to listen", || UnixStream::connect(&path).ok());
            port.set_read_timeout(Some(PATIENCE)).unwrap();
            BufReader::new(port)
        };
        let console = RefCell::new(Console { port: connect("console"), asked: 0 });
        let monitor = RefCell::new(connect("monitor"));
        let mut machine = Self { child, console, monitor, dir, started: Instant::now() };
        machine.monitor(r#"{"execute":"qmp_capabilities"}"#);
        machine.link(false);
        machine.monitor(r#"{"execute":"cont"}"#);
        machine.started = Instant::now();
        machine
    }

    /// One command of QEMU's monitor; events that come between are not looked at.
    fn monitor(&self, command: &str) {
        let mut monitor = self.monitor.borrow_mut();
        writeln!(monitor.get_mut(), "{command}").unwrap();
        loop {
            let mut line = String::new();
            monitor.read_line(&mut line).unwrap();
            assert!(!line.is_empty() && !line.contains("\"error\""), "{command}: {line}");
            if line.contains("\"return\"") {
                return;
            }
        }
    }

    /// Plugs the network cable in, or pulls it out.
    pub fn link(&self, up: bool) {
        self.monitor(&format!(r#"{{"execute":"set_link","arguments":{{"name":"link","up":{up}}}}}"#));
    }

    /// Runs a command of the shell, as root.
    pub fn ask(&self, command: &str) -> Done {
        let mut console = self.console.borrow_mut();
        console.asked += 1;
        let question = format!("{} {}\n", console.asked, BASE64.encode(command));
        console.port.get_mut().write_all(question.as_bytes()).unwrap();
        loop {
            let mut line = String::new();
            let read = console.port.read_line(&mut line);
            assert!(read.is_ok() && !line.is_empty(), "no answer to `{command:.300}`\n{}", self.serial());
            let (number, answer) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
            if number.parse() != Ok(console.asked) {
                continue; // of a question that was given up
            }
            let answer = String::from_utf8_lossy(&BASE64.decode(answer).expect("base64")).into_owned();
            let at = answer.rfind('\n').map_or(0, |at| at + 1);
            let code = answer[at..].parse().ok();
            return Done { code, out: answer[..at].to_owned(), err: String::new() };
        }
    }

    /// What a command wrote that must succeed.
    pub fn ok(&self, command: &str) -> String {
        let done = self.ask(command);
        assert_eq!(done.code, Some(0), "`{command:.300}`: {}", done.out);
        done.out.trim_end().to_owned()
    }

    pub fn eventually<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < end, "waited in vain for {what}\n{}\n{}", self.journal(), self.serial());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until the node says of itself that it is ready.
    pub fn is_ready(&self) {
        self.eventually("/readyz", || {
            (self.ask("busybox wget -qO- http://127.0.0.1:9090/readyz").code == Some(0)).then_some(())
        });
    }

    pub fn journal(&self) -> String {
        self.ask("journalctl -u headwater --no-pager -o short-monotonic | tail -n 40").out
    }

    pub fn status(&self) -> Status {
        let text = self.ok("headwater status --json");
        serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}"))
    }

    fn sink(&self) -> SinkStatus {
        self.status().sinks.remove(0)
    }

    /// The link is there until all that the node has is upstream.
    pub fn drains(&self) {
        self.link(true);
        self.eventually("the backlog to drain", || {
            let sink = self.sink();
            (sink.delivered > 0 && sink.pending == 0).then_some(())
        });
    }

    pub fn end_of(&self, topic: &str) -> u64 {
        let topics = self.status().topics;
        topics.iter().find(|t| t.name == topic).map_or(0, |t| t.partitions.iter().map(|p| p.end).sum())
    }

    /// Sends lines through the node's socket; gives what was printed for each, once it was durable.
    pub fn send(&self, topic: &str, lines: &[&str]) -> Vec<String> {
        let done = self.ok(&sends(topic, lines));
        done.lines().map(String::from).collect()
    }

    /// Has lines sent and does not wait for the answer.
    pub fn sends_meanwhile(&self, topic: &str, lines: &[&str]) {
        self.asks(&sends(topic, lines));
    }

    /// Has a command run and does not wait for it.
    fn asks(&self, command: &str) {
        let question = format!("0 {}\n", BASE64.encode(command));
        self.console.borrow_mut().port.get_mut().write_all(question.as_bytes()).unwrap();
    }

    /// What the machine wrote while it started.
    pub fn serial(&self) -> String {
        let mut text = Vec::new();
        let file = std::fs::File::open(self.dir.path().join("serial"));
        let _ = file.and_then(|mut file| file.read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// The plug is pulled.
    pub fn power_off(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Shuts down in good order.
    pub fn shut_down(mut self) {
        self.ask("systemctl poweroff --no-block");
        self.is_off("it does not shut down");
    }

    /// The kernel stops, and nothing else does.
    pub fn hangs(&self) {
        self.asks("echo 0 >/proc/sys/kernel/panic; echo c >/proc/sysrq-trigger");
    }

    /// The hardware's watchdog runs out: QEMU ends where a machine would begin anew.
    pub fn resets(mut self) {
        self.is_off("no watchdog resets it");
    }

    fn is_off(&mut self, otherwise: &str) {
        let end = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "{otherwise}\n{}", self.serial());
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the machine's console:\n{}", self.serial());
        }
    }
}

/// The card as a drive; with a log, all writes and flushes are written down in it, those of QEMU's `blklogwrites`.
fn drives(card: &Path, log: Option<&Path>) -> Vec<String> {
    let file = |node: &str, path: &Path| {
        ["-blockdev".into(), format!("driver=file,node-name={node},filename={}", path.display())]
    };
    let Some(log) = log else {
        return file("card", card).to_vec();
    };
    let record = "driver=blklogwrites,node-name=card,file=medium,log=log,log-sector-size=512";
    [file("medium", card), file("log", log), ["-blockdev".into(), record.into()]].concat()
}

fn sends(topic: &str, lines: &[&str]) -> String {
    format!("headwater send {topic} <<'THE END OF IT'\n{}\nTHE END OF IT\n", lines.join("\n"))
}
