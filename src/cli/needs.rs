//! What a config needs of the machine that the service does not have by itself: for `unit`, which writes the drop-in that
//! gives it, and for `check`, which says what is missing for the user that asks.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::config::{Config, DEFAULT_DATA_DIR, Listen, Named, SinkKind, SourceKind};

/// Matches of a glob that are looked at.
const MATCHES: usize = 64;
/// CAP_NET_BIND_SERVICE, as /proc shows the effective ones.
const BIND_SERVICE: u32 = 10;

/// One thing that is used, and by what key of the config.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Of<T> {
    pub key: String,
    pub what: T,
}

/// An address that is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub key: String,
    pub at: SocketAddr,
    pub udp: bool,
}

/// What a config uses, part by part.
#[derive(Debug, Default)]
pub struct Needs {
    pub ports: Vec<Port>,
    /// Devices, among them those that a program is told on its command line.
    pub devices: Vec<Of<PathBuf>>,
    /// Globs of files that are followed.
    pub read: Vec<Of<PathBuf>>,
    /// Directories in which something is written.
    pub write: Vec<Of<PathBuf>>,
    pub programs: Vec<Of<PathBuf>>,
    /// Files and credentials that are only read.
    pub named: BTreeSet<Named>,
}

/// A device that a program or a source is to use, not one that every service has.
fn device(path: &Path) -> bool {
    const COMMON: [&str; 8] = ["null", "zero", "full", "random", "urandom", "log", "shm", "fd"];
    let name = path.strip_prefix("/dev").ok().and_then(|rest| rest.components().next());
    let name = name.map(|name| name.as_os_str().to_string_lossy().into_owned());
    name.is_some_and(|name| !COMMON.contains(&name.as_str()) && !name.starts_with("std") && name != "tty")
}

impl Needs {
    pub fn of(config: &Config, named: &BTreeSet<Named>) -> Self {
        let mut needs = Self { named: named.clone(), ..Self::default() };
        let of = |key: &str, path: &Path| Of { key: key.to_owned(), what: path.to_owned() };
        needs.write.push(of("node.data_dir", &config.node.data_dir));
        let control = config.node.control.parent().filter(|dir| *dir != config.node.data_dir);
        needs.write.extend(control.map(|dir| of("node.control", dir)));
        for source in &config.sources {
            let key = format!("sources.{}", source.name);
            match &source.kind {
                SourceKind::File(file) => {
                    for path in file.paths.iter().map(Path::new) {
                        if device(path) { &mut needs.devices } else { &mut needs.read }.push(of(&key, path));
                    }
                }
                SourceKind::Syslog(syslog) => needs.listens(&key, &syslog.listen),
                SourceKind::Socket(socket) => needs.listens(&key, &socket.listen),
                SourceKind::Exec(exec) => {
                    needs.programs.extend(exec.command.first().map(|name| of(&key, Path::new(name))));
                    let words = exec.command.iter().flat_map(|word| word.split(['=', ',']));
                    needs.devices.extend(words.map(Path::new).filter(|path| device(path)).map(|path| of(&key, path)));
                }
                SourceKind::Mqtt(_) | SourceKind::Host(_) => {}
            }
        }
        for sink in &config.sinks {
            let SinkKind::File(file) = &sink.kind else { continue };
            let key = format!("sinks.{}", sink.name);
            match device(&file.path) {
                true => needs.devices.push(of(&key, &file.path)),
                false => needs.write.extend(file.path.parent().map(|dir| of(&key, dir))),
            }
        }
        if let Some(endpoint) = &config.endpoint {
            needs.port("endpoint.sc_listen", endpoint.sc_listen, false);
            needs.port("endpoint.spu_listen", endpoint.spu_listen, false);
        }
        if let Some(http) = &config.http {
            needs.port("http.listen", http.listen, false);
        }
        needs
    }

    fn port(&mut self, key: &str, at: SocketAddr, udp: bool) {
        self.ports.push(Port { key: key.to_owned(), at, udp });
    }

    fn listens(&mut self, key: &str, listen: &[Listen]) {
        let key = format!("{key}.listen");
        for listen in listen {
            match listen {
                Listen::Udp(at) => self.port(&key, *at, true),
                Listen::Tcp(at) => self.port(&key, *at, false),
                Listen::Unix(path) => {
                    self.write.extend(path.parent().map(|dir| Of { key: key.clone(), what: dir.into() }));
                }
            }
        }
    }

    /// Ports that only root or who has the capability may listen on.
    pub fn low_ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter().filter(|port| (1..1024).contains(&port.at.port()))
    }

    /// Directories beside those that the service may write to anyway.
    pub fn other_places(&self) -> BTreeSet<&Path> {
        let own = [DEFAULT_DATA_DIR, "/run/headwater"];
        self.write
            .iter()
            .map(|of| of.what.as_path())
            .filter(|dir| !own.iter().any(|own| dir.starts_with(own)))
            .collect()
    }

    /// All that it reads: globs, and files that it names.
    pub fn all_read(&self) -> impl Iterator<Item = &Path> {
        let named = self.named.iter().filter_map(|named| match named {
            Named::File(path) | Named::Secret(path) => Some(path.as_path()),
            Named::Credential(_) | Named::Environment(_) => None,
        });
        self.read.iter().map(|of| of.what.as_path()).chain(named)
    }

    /// Whether one of its programs is called so.
    pub fn runs(&self, name: &str) -> bool {
        self.programs.iter().any(|program| program.what.file_name().is_some_and(|file| file == name))
    }

    /// What is missing on this machine for this user, each with what to do.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for Of { key, what } in &self.devices {
            let at = what.display();
            if !what.exists() {
                missing.push(format!("{key}: there is no {at} now: is it plugged in, and its name right?"));
            } else if access(what, Access::READ_OK).is_err() {
                missing.push(format!("{key}: this user may not read {at}: {}", give("the group of the device")));
            }
        }
        for Of { key, what } in &self.read {
            let refused = glob::glob(&what.to_string_lossy()).ok().and_then(|found| {
                found.take(MATCHES).filter_map(Result::ok).find(|path| access(path, Access::READ_OK).is_err())
            });
            if let Some(path) = refused {
                missing.push(format!("{key}: this user may not read {}: {}", path.display(), give("the group `adm`")));
            }
        }
        for Of { key, what } in &self.write {
            if what.exists() && access(what, Access::WRITE_OK).is_err() {
                missing.push(format!(
                    "{key}: this user may not write in {}: let the node's user own it; what needs it stays down until then",
                    what.display()
                ));
            }
        }
        let low: Vec<_> = self.low_ports().collect();
        let free = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
        let free = free.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
        if low.iter().any(|port| port.at.port() < free) && !may_bind() {
            missing.extend(low.iter().map(|Port { key, at, .. }| {
                format!("{key}: this user may not listen on port {}: {}", at.port(), give("the capability for it"))
            }));
        }
        missing
    }
}

fn give(what: &str) -> String {
    format!("`headwater unit` writes the drop-in that gives the service {what}; by hand, run it as a user who may")
}

/// Whether this process may listen on low ports.
fn may_bind() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    effective.is_some_and(|bits| bits & 1 << BIND_SERVICE != 0)
}
