//! A node of the demo: a child process with a config of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::cli::client;
use crate::ops::Status;

pub struct Node {
    name: &'static str,
    child: Child,
    control: PathBuf,
    log: PathBuf,
}

impl Node {
    /// Writes the config, starts `headwater run` and waits until it answers.
    pub async fn start(name: &'static str, dir: &Path, config: &str) -> anyhow::Result<Self> {
        let home = dir.join(name);
        std::fs::create_dir_all(&home)?;
        let file = home.join("headwater.toml");
        std::fs::write(&file, config)?;
        let log = home.join("log");
        let out = std::fs::File::create(&log)?;
        let child = Command::new(std::env::current_exe()?)
            .args(["run", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start the {name} node"))?;
        let mut node = Self { name, child, control: home.join("data/control.sock"), log };
        node.wait_ready().await?;
        Ok(node)
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            if self.status().await.is_ok() {
                return Ok(());
            }
            if let Some(exit) = self.child.try_wait()? {
                bail!("the {} node ended at once ({exit}): {}", self.name, self.said());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the {} node does not answer: {}", self.name, self.said())
    }

    fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" / ")
    }

    pub async fn status(&self) -> anyhow::Result<Status> {
        client::status(&self.control).await
    }

    /// A clean shutdown.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            kill_process(pid, Signal::TERM)?;
        }
        let exit = tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await;
        match exit {
            Ok(Ok(exit)) if exit.success() => Ok(()),
            Ok(exit) => bail!("the {} node ended badly ({exit:?}): {}", self.name, self.said()),
            Err(_) => bail!("the {} node did not stop within 10 s: {}", self.name, self.said()),
        }
    }
}

/// Loopback ports that are free at the moment.
pub fn free_ports(n: usize) -> anyhow::Result<Vec<u16>> {
    let held: Vec<_> = (0..n).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
