//! `host`: how the machine is, one compact JSON record a sample.
//!
//! Read from procfs and sysfs by plain reads of small files. What a machine does not have (a container without sensors,
//! a kernel without swap) is left out of the record, not an error; only when nothing at all could be read does the
//! source say so. Counters are as the kernel counts them, since boot; only the share of busy CPU is a difference, taken
//! since the sample before.

mod parse;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tokio::time::MissedTickBehavior;

use self::parse::{CpuTimes, Mount};
use super::socket::count_received;
use super::{Inlet, SourceError, offer};
use crate::config::model::{HostPart, HostSource};
use crate::hub::PartState;
use crate::record::RecordRef;

/// File systems, interfaces and sensors of one record at most.
const MAX_ITEMS: usize = 32;

pub async fn run(config: &HostSource, intake: Inlet) -> Result<(), SourceError> {
    let topic = intake.topic(&config.topic)?;
    let mut sampler = Sampler::new(config);
    let mut due = tokio::time::interval(config.every.to_std().max(std::time::Duration::from_millis(1)));
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = intake.stopping() => return Ok(()),
            _ = due.tick() => {}
        }
        let sample = sampler.sample();
        if sample.is_empty() {
            return Err(SourceError::Io {
                op: "read",
                path: config.proc_root.display().to_string(),
                reason: "nothing of the host can be read there: is procfs mounted?".into(),
            });
        }
        intake.report(PartState::up("samples the host"));
        let value = Value::Object(sample).to_string();
        count_received(&intake, value.as_bytes(), false);
        if !offer(&intake, topic, &RecordRef::of(value.as_bytes())).await {
            return Ok(());
        }
    }
}

struct Sampler<'a> {
    config: &'a HostSource,
    last: Option<CpuTimes>,
}

impl<'a> Sampler<'a> {
    fn new(config: &'a HostSource) -> Self {
        Self { config, last: None }
    }

    fn sample(&mut self) -> Map<String, Value> {
        let parts = self.config.collect.clone();
        let mut out = Map::new();
        for part in parts {
            let (name, value) = match part {
                HostPart::Cpu => ("cpu", self.cpu()),
                HostPart::Memory => ("memory", self.proc("meminfo").and_then(|text| parse::memory(&text))),
                HostPart::Disks => ("disks", self.disks()),
                HostPart::Network => {
                    ("network", self.proc("net/dev").and_then(|text| parse::network(&text, MAX_ITEMS)))
                }
                HostPart::Temperatures => ("temperatures", temperatures(&self.config.sys_root)),
                HostPart::Uptime => ("uptime", self.proc("uptime").and_then(|text| parse::uptime(&text))),
            };
            if let Some(value) = value {
                out.insert(name.to_owned(), value);
            }
        }
        out
    }

    fn proc(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.config.proc_root.join(name)).ok()
    }

    fn cpu(&mut self) -> Option<Value> {
        let (times, cores) = parse::cpu(&self.proc("stat")?)?;
        let busy = times.busy_since(self.last.unwrap_or_default());
        self.last = Some(times);
        let mut out = Map::new();
        out.insert("busy".into(), json!(busy));
        out.insert("cores".into(), json!(cores));
        if let Some(load) = self.proc("loadavg").and_then(|text| parse::load(&text)) {
            out.insert("load".into(), json!(load));
        }
        Some(Value::Object(out))
    }

    fn disks(&self) -> Option<Value> {
        let mounts = parse::mounts(&self.proc("self/mounts").or_else(|| self.proc("mounts"))?);
        let disks: Vec<Value> = mounts.iter().take(MAX_ITEMS).filter_map(disk).collect();
        (!disks.is_empty()).then_some(Value::Array(disks))
    }
}

fn disk(mount: &Mount) -> Option<Value> {
    let stat = rustix::fs::statvfs(&mount.path).ok().filter(|stat| stat.f_blocks > 0)?;
    Some(json!({
        "mount": mount.path,
        "device": mount.device,
        "type": mount.kind,
        "total": stat.f_blocks.saturating_mul(stat.f_frsize),
        "free": stat.f_bavail.saturating_mul(stat.f_frsize),
        "read_only": mount.read_only,
    }))
}

/// In degrees Celsius, by zone or by chip and label: what `/sys/class/thermal` has, and what `/sys/class/hwmon` has more.
fn temperatures(sys: &Path) -> Option<Value> {
    let mut out = Map::new();
    for zone in sorted(&sys.join("class/thermal"), "thermal_zone") {
        let name = word(&zone.join("type")).unwrap_or_else(|| "thermal".into());
        add_temperature(&mut out, name, &zone.join("temp"));
    }
    for chip in sorted(&sys.join("class/hwmon"), "hwmon") {
        let name = word(&chip.join("name")).unwrap_or_else(|| "hwmon".into());
        for input in sorted(&chip, "temp") {
            let file = input.to_string_lossy().into_owned();
            let Some(stem) = file.strip_suffix("_input") else { continue };
            let label = word(Path::new(&format!("{stem}_label")));
            let name = label.map_or_else(|| name.clone(), |label| format!("{name} {label}"));
            add_temperature(&mut out, name, &input);
        }
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

fn add_temperature(out: &mut Map<String, Value>, name: String, file: &Path) {
    let Some(milli) = word(file).and_then(|text| text.parse::<i64>().ok()) else { return };
    let mut free = name.clone();
    let mut number = 2;
    while out.contains_key(&free) && number <= MAX_ITEMS {
        free = format!("{name} {number}");
        number += 1;
    }
    if out.len() < MAX_ITEMS {
        out.insert(free, json!(milli as f64 / 1000.0));
    }
}

/// Entries of a directory whose names begin with `prefix`, by their number.
fn sorted(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<(usize, String, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.starts_with(prefix).then(|| (name.len(), name, entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().take(MAX_ITEMS * 4).map(|(_, _, path)| path).collect()
}

fn word(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;
    use crate::topic::TopicName;

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn config(root: &Path) -> HostSource {
        HostSource {
            topic: TopicName::new("host").unwrap(),
            every: Span::from_secs(15),
            collect: vec![
                HostPart::Cpu,
                HostPart::Memory,
                HostPart::Disks,
                HostPart::Network,
                HostPart::Temperatures,
                HostPart::Uptime,
            ],
            proc_root: root.join("proc"),
            sys_root: root.join("sys"),
        }
    }

    #[test]
    fn a_sample_holds_what_the_machine_has() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(
            root,
            "proc/stat",
            "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 50 0 50 350 50 0 0 0 0 0\ncpu1 50 0 50 350 50 0 0 0 0 0\n",
        );
        write(root, "proc/loadavg", "0.50 0.40 0.30 1/100 1234\n");
        write(
            root,
            "proc/meminfo",
            "MemTotal:  1000 kB\nMemFree: 10 kB\nMemAvailable:   600 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
        );
        write(root, "proc/uptime", "12345.67 20000.00\n");
        write(root, "proc/self/mounts", "/dev/root / ext4 rw,noatime 0 0\nproc /proc proc rw 0 0\n");
        write(root, "proc/net/dev", "Inter-|   Receive\n face |bytes\n  eth0: 10 1 0 0 0 0 0 0 20 2 1 3 0 0 0 0\n");
        write(root, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
        write(root, "sys/class/thermal/thermal_zone0/temp", "48312\n");
        write(root, "sys/class/hwmon/hwmon0/name", "nvme\n");
        write(root, "sys/class/hwmon/hwmon0/temp1_input", "-5000\n");
        write(root, "sys/class/hwmon/hwmon0/temp1_label", "Composite\n");
        let config = config(root);
        let mut sampler = Sampler::new(&config);
        let sample = Value::Object(sampler.sample());
        assert_eq!(sample["cpu"], json!({ "busy": 0.2, "cores": 2, "load": [0.5, 0.4, 0.3] }));
        assert_eq!(
            sample["memory"],
            json!({ "total": 1_024_000, "available": 614_400, "swap_total": 0, "swap_free": 0 })
        );
        assert_eq!(sample["network"]["eth0"]["rx_bytes"], 10);
        assert_eq!(sample["temperatures"], json!({ "cpu-thermal": 48.312, "nvme Composite": -5.0 }));
        assert_eq!(sample["uptime"], 12345.67);
        assert_eq!(sample["disks"][0]["mount"], "/");
        assert!(sample["disks"][0]["total"].as_u64().unwrap() > 0);
        assert_eq!(sample["disks"].as_array().unwrap().len(), 1);
        write(root, "proc/stat", "cpu  200 0 200 700 100 0 0 0 0 0\ncpu0 1 0 0 0 0 0 0 0 0 0\n");
        assert_eq!(sampler.sample()["cpu"]["busy"], 1.0, "busy is counted since the sample before");
    }

    #[test]
    fn a_machine_without_anything_gives_an_empty_sample() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        assert!(Sampler::new(&config).sample().is_empty());
    }
}
