//! What the benches share: medians, CPU time of this process and of others, a node of their own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use headwater::cli::client;
use headwater::ops::Status;

pub type Outcome = Result<(), Box<dyn std::error::Error>>;

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// User and system seconds of this process.
pub fn own_cpu() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

/// User and system seconds of another process, in steps of a clock tick (10 ms).
pub fn cpu_of(pid: u32) -> std::io::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().filter_map(|&i| fields.get(i)?.parse::<f64>().ok()).sum();
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
}

/// Resident bytes of another process.
pub fn resident(pid: u32) -> std::io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib =
        status.lines().find_map(|l| l.strip_prefix("VmRSS:")).and_then(|l| l.split_whitespace().next()?.parse().ok());
    Ok(kib.unwrap_or(0u64) * 1024)
}

/// Runs both in turn `n` times and gives the medians.
pub fn paired(
    n: usize,
    mut thing: impl FnMut() -> Result<f64, Box<dyn std::error::Error>>,
    mut bare: impl FnMut() -> Result<f64, Box<dyn std::error::Error>>,
) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let (mut things, mut bares) = (Vec::new(), Vec::new());
    for _ in 0..n {
        things.push(thing()?);
        bares.push(bare()?);
    }
    Ok((median(things), median(bares)))
}

/// A running node, ended when dropped.
pub struct Node {
    child: Child,
    control: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Node {
    /// The binary of this build, with `config` in `dir`; the config's data directory is `dir/data`.
    pub fn start(dir: &Path, config: &str) -> Result<Self, Box<dyn std::error::Error>> {
        std::fs::create_dir_all(dir)?;
        let file = dir.join("headwater.toml");
        std::fs::write(
            &file,
            format!("[node]\nid = \"bench\"\ndata_dir = \"{}\"\n{config}", dir.join("data").display()),
        )?;
        let child = Command::new(env!("CARGO_BIN_EXE_headwater"))
            .args(["run", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log"))?)
            .spawn()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let node = Self { child, control: dir.join("data/control.sock"), runtime };
        node.until(Duration::from_secs(20), |_| true)?;
        Ok(node)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn control(&self) -> &Path {
        &self.control
    }

    pub fn status(&self) -> Result<Status, Box<dyn std::error::Error>> {
        Ok(self.runtime.block_on(client::status(&self.control))?)
    }

    /// Waits until the status is as wanted; gives how long that took.
    pub fn until(
        &self,
        most: Duration,
        mut met: impl FnMut(&Status) -> bool,
    ) -> Result<Duration, Box<dyn std::error::Error>> {
        let started = Instant::now();
        while started.elapsed() < most {
            if self.status().is_ok_and(|status| met(&status)) {
                return Ok(started.elapsed());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("not within {most:?}").into())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The bench is over: nothing of it is kept.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
