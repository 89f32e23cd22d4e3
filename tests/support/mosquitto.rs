//! A real Mosquitto of the test's own; shared by the test programs that need a broker.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub struct Mosquitto {
    pub port: u16,
    pub dir: TempDir,
    child: Child,
}

fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = places.map(|place| place.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("`{name}` is not installed: run scripts/test.sh, which installs it"))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Mosquitto {
    /// A broker that lets everybody in and keeps its sessions over a restart.
    pub fn start() -> Self {
        Self::start_with("allow_anonymous true\n")
    }

    pub fn start_with(more: &str) -> Self {
        Self::launch(&format!("autosave_interval 1\nsys_interval 1\nmax_queued_messages 0\n{more}"))
    }

    /// A broker with its own defaults in all that a session depends on: 20 in flight, 1,000 waiting.
    pub fn start_stock() -> Self {
        Self::launch("allow_anonymous true\n")
    }

    fn launch(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut last = None;
        // Somebody may take the port between our look and the broker's.
        for _ in 0..5 {
            let port = free_port();
            let text = format!(
                "listener {port} 127.0.0.1\npersistence true\npersistence_location {}/\nuser {}\n{}",
                dir.path().display(),
                whoami(),
                more.replace("{dir}", &dir.path().display().to_string())
            );
            std::fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
            let mut child = spawn(&dir);
            if listens(port, &mut child) {
                return Self { port, dir, child };
            }
            let _ = child.kill();
            let _ = child.wait();
            last = std::fs::read_to_string(dir.path().join("log")).ok();
        }
        panic!("mosquitto does not start: {last:?}");
    }

    /// Ends it so that it saves what it has; `start_again` brings it back.
    pub fn stop(&mut self) {
        let _ = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }

    pub fn start_again(&mut self) {
        self.child = spawn(&self.dir);
        assert!(listens(self.port, &mut self.child), "mosquitto does not come back");
    }

    /// Publishes each line as a message; returns when the broker has them all.
    pub async fn publish(&self, topic: &str, qos: u8, lines: impl IntoIterator<Item = String>) {
        self.publish_with(topic, qos, &["-l"], lines.into_iter().map(|l| l + "\n").collect::<String>().into_bytes())
            .await;
    }

    /// Publishes one message, flags as `mosquitto_pub` has them.
    pub async fn publish_with(&self, topic: &str, qos: u8, flags: &[&str], input: Vec<u8>) {
        let mut command = Command::new(program("mosquitto_pub"));
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-t", topic, "-q", &qos.to_string()]);
        command.args(flags).stdin(Stdio::piped());
        let done = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(&input).unwrap();
            child.wait().unwrap().success()
        });
        assert!(done.await.unwrap(), "mosquitto_pub failed");
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn whoami() -> String {
    let out = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn spawn(dir: &TempDir) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.path().join("log")).unwrap();
    Command::new(program("mosquitto"))
        .arg("-v")
        .arg("-c")
        .arg(dir.path().join("mosquitto.conf"))
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn listens(port: u16, child: &mut Child) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
