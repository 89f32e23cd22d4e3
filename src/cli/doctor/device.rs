//! What the device says of itself in /sys and /proc: storage, power, heat, memory, clock, links.

use std::path::{Path, PathBuf};

use super::{Finding, Verdict, fine, found};
use crate::ops::human::binary;

/// Degrees Celsius: a Raspberry Pi slows down at 80.
const HOT: i64 = 75;
const TOO_HOT: i64 = 80;
/// Memory that should be there for others.
const LITTLE: u64 = 32 << 20;

/// The trees of a device; a test's own, or `/`.
pub struct Device {
    root: PathBuf,
}

/// Parts of a name like `mmcblk0p2`.
struct Disk {
    name: String,
    dir: PathBuf,
}

impl Device {
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn read(&self, path: &str) -> Option<String> {
        read(&self.path(path))
    }

    /// The disk behind a device number: that of the data directory.
    pub fn storage(&self, number: Option<(u32, u32)>) -> Vec<Finding> {
        let Some((major, minor)) = number else {
            return vec![found(Verdict::Unknown, "storage", "there is no data directory to look at yet", "")];
        };
        let Some(disk) = self.disk(&format!("/sys/dev/block/{major}:{minor}")) else {
            let what = "the data directory is on no disk of its own (a file system in memory, an overlay, a network)";
            return vec![found(Verdict::Unknown, "storage", what, "")];
        };
        vec![match read(&disk.dir.join("device/type")).as_deref() {
            Some("MMC") => emmc(&disk),
            Some("SD") => {
                let name = read(&disk.dir.join("device/name")).unwrap_or_default();
                let made = read(&disk.dir.join("device/date")).map(|date| format!(", made {date}")).unwrap_or_default();
                let what = format!("{} is an SD card ({name}{made}), which does not report its wear", disk.name);
                let advice =
                    "`headwater status` shows what the ring has written; keep a spare, and change cards by age";
                found(Verdict::Unknown, "storage", what, advice)
            }
            _ => {
                let model = read(&disk.dir.join("device/model")).map(|model| format!(" ({model})")).unwrap_or_default();
                let what = format!("{}{model} does not report its wear here", disk.name);
                let advice = "smartctl (smartmontools) or `nvme smart-log` may be able to ask it";
                found(Verdict::Unknown, "storage", what, advice)
            }
        }]
    }

    fn disk(&self, path: &str) -> Option<Disk> {
        let dir = self.path(path).canonicalize().ok()?;
        let dir = if dir.join("partition").exists() { dir.parent()?.to_owned() } else { dir };
        Some(Disk { name: dir.file_name()?.to_string_lossy().into_owned(), dir })
    }

    /// Whether the file system below can be written, and has found errors in itself.
    pub fn file_system(&self, below: &Path) -> Vec<Finding> {
        let mounts = self.read("/proc/self/mounts").or_else(|| self.read("/proc/mounts")).unwrap_or_default();
        let mount = mounts
            .lines()
            .filter_map(|line| line.split(' ').collect::<Vec<_>>().try_into().ok())
            .filter(|[_, at, ..]: &[&str; 6]| below.starts_with(at.replace("\\040", " ")))
            // Of two at one place the later one is on top.
            .max_by_key(|[_, at, ..]| at.len());
        let Some([device, at, kind, options, ..]) = mount else {
            return vec![found(Verdict::Unknown, "file system", "the mounts cannot be read", "")];
        };
        let mut findings = Vec::new();
        if options.split(',').any(|option| option == "ro") {
            let what =
                format!("{at} ({device}, {kind}) is mounted read-only: the node can keep records in memory only");
            let advice =
                "if nobody wanted that the kernel did, after an error: `dmesg` says so; fsck it, or change the card";
            findings.push(found(Verdict::Problem, "file system", what, advice));
        }
        if matches!(kind, "tmpfs" | "ramfs" | "overlay") {
            let what =
                format!("{} is on {at}, a file system of kind {kind}: a reboot may lose all of it", below.display());
            findings.push(found(
                Verdict::Problem,
                "file system",
                what,
                "set `node.data_dir` to a partition of its own",
            ));
        }
        let name = Path::new(device).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let errors = self.read(&format!("/sys/fs/ext4/{name}/errors_count")).and_then(|text| text.parse::<u64>().ok());
        match errors {
            Some(0) => findings.push(fine("file system", format!("{at} ({device}, {kind}), no errors noted"))),
            Some(errors) => {
                let what = format!("{at} ({device}, {kind}) has noted {errors} errors since it was checked last");
                let advice = "stop the node, `e2fsck -f` it; if they come again the card is dying";
                findings.push(found(Verdict::Problem, "file system", what, advice));
            }
            None if findings.is_empty() => {
                let what = format!("{at} ({device}, {kind}) does not count its errors");
                findings.push(found(Verdict::Unknown, "file system", what, ""));
            }
            None => {}
        }
        findings
    }

    /// Undervoltage and throttling, as a Raspberry Pi reports them.
    pub fn power(&self) -> Finding {
        let advice = "a supply made for this board (5.1 V), a short thick cable, fewer things on its USB ports";
        let firmware = self.read("/sys/devices/platform/soc/soc:firmware/get_throttled");
        let bits = firmware.and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok());
        if let Some(bits) = bits {
            let set = |bit: u32| bits & 1 << bit != 0;
            return match () {
                () if set(0) => found(Verdict::Problem, "power", "the supply is too weak now (undervoltage)", advice),
                () if set(1) || set(2) || set(3) => {
                    let what = "the processor is slowed down now, by heat or by its supply";
                    found(Verdict::Warning, "power", what, format!("air, shade, a heat sink; {advice}"))
                }
                () if set(16) => {
                    let what = "the supply was too weak at times since the start (undervoltage)";
                    found(Verdict::Warning, "power", what, format!("it is what corrupts cards: {advice}"))
                }
                () if bits & 0xe_0000 != 0 => {
                    let what = "the processor was slowed down at times since the start";
                    found(Verdict::Warning, "power", what, "air, shade, a heat sink")
                }
                () => fine("power", "no undervoltage and no throttling since the start"),
            };
        }
        let alarm = self.each("/sys/class/hwmon").into_iter().find_map(|chip| {
            (read(&chip.join("name")).as_deref() == Some("rpi_volt")).then(|| read(&chip.join("in0_lcrit_alarm")))?
        });
        match alarm.as_deref() {
            Some("0") => fine("power", "no undervoltage now"),
            Some(_) => found(Verdict::Problem, "power", "the supply is too weak (undervoltage)", advice),
            None => found(Verdict::Unknown, "power", "this machine does not report undervoltage", ""),
        }
    }

    pub fn temperature(&self) -> Finding {
        let zones = self.each("/sys/class/thermal");
        let degrees = zones.iter().filter_map(|zone| read(&zone.join("temp"))?.parse::<i64>().ok()).max();
        let Some(degrees) = degrees.map(|milli| milli / 1000) else {
            return found(Verdict::Unknown, "temperature", "no sensor reports it", "");
        };
        let what = format!("{degrees} degrees Celsius at the warmest sensor");
        let advice = "air, shade, a heat sink; above 80 degrees a Raspberry Pi slows down, and cards do not last";
        match degrees {
            TOO_HOT.. => found(Verdict::Problem, "temperature", what, advice),
            HOT.. => found(Verdict::Warning, "temperature", what, advice),
            _ => fine("temperature", what),
        }
    }

    pub fn memory(&self) -> Finding {
        let text = self.read("/proc/meminfo").unwrap_or_default();
        let of = |name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
        };
        let (Some(total), Some(available)) = (of("MemTotal"), of("MemAvailable")) else {
            return found(Verdict::Unknown, "memory", "/proc/meminfo cannot be read", "");
        };
        let what = format!("{} of {} available", binary(available), binary(total));
        match available {
            ..LITTLE => found(Verdict::Warning, "memory", what, "see what takes it: `ps aux --sort -rss | head`"),
            _ => fine("memory", what),
        }
    }

    /// `trusted`: what the kernel says of its clock.
    pub fn clock(&self, trusted: bool) -> Finding {
        let rtc = self.path("/sys/class/rtc/rtc0").exists();
        let what = match (trusted, rtc) {
            (true, true) => "synchronised; there is a real-time clock",
            (true, false) => {
                "synchronised; without a real-time clock it is unknown after each power-on until NTP answers"
            }
            (false, true) => "not synchronised; there is a real-time clock, which may be off",
            (false, false) => "not synchronised, and there is no real-time clock: the time is unknown",
        };
        if trusted {
            return fine("clock", what);
        }
        let advice = "records are kept and flagged meanwhile; let an NTP client run (`timedatectl set-ntp true`), and see \
                      that UDP port 123 gets out";
        found(Verdict::Warning, "clock", what, advice)
    }

    /// The way out, and the interfaces that links name.
    pub fn links(&self, named: &[String]) -> Vec<Finding> {
        let mut findings: Vec<Finding> = named.iter().map(|name| self.link(name)).collect();
        let routes = self.read("/proc/net/route").unwrap_or_default();
        let first = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
        let v4 = routes.lines().map(first).find(|words| words.get(1).is_some_and(|to| to == "00000000"));
        let routes = self.read("/proc/net/ipv6_route").unwrap_or_default();
        // Destination and its prefix, ..., the interface; what the kernel refuses with is a route as well.
        let v6 = routes.lines().map(first).find(|words| {
            words.first().is_some_and(|to| to.bytes().all(|b| b == b'0'))
                && words.get(1).is_some_and(|prefix| prefix == "00")
                && words.last().is_some_and(|name| name != "lo")
        });
        let over = v4.and_then(|words| words.first().cloned()).or(v6.and_then(|words| words.last().cloned()));
        match over {
            Some(name) if named.contains(&name) => {}
            Some(name) => findings.push(self.link(&name)),
            None => {
                let what = "there is no default route: this machine is offline, or its upstream is next to it";
                let advice = "records are kept meanwhile; look at the cable, the modem, `ip route` and `ip address`";
                findings.push(found(Verdict::Warning, "link", what, advice));
            }
        }
        findings
    }

    fn link(&self, name: &str) -> Finding {
        let of = |what: &str| self.read(&format!("/sys/class/net/{name}/{what}"));
        if !self.path(&format!("/sys/class/net/{name}")).exists() {
            let advice = "is the modem plugged in, is the name right? `ip link` lists them";
            return found(Verdict::Problem, "link", format!("there is no interface {name}"), advice);
        }
        match (of("carrier").as_deref(), of("operstate").as_deref()) {
            (Some("1"), _) | (_, Some("up")) => fine("link", format!("{name} is up")),
            (Some("0"), _) => {
                let what = format!("{name} has no carrier: nothing is plugged in, or the other side is off");
                found(Verdict::Warning, "link", what, "look at the cable, the antenna, the other side's lamps")
            }
            (_, state) => {
                let what = format!("{name} is {}", state.unwrap_or("in no state that it tells"));
                found(Verdict::Warning, "link", what, "`ip link` and `journalctl -u NetworkManager` say more")
            }
        }
    }

    /// The machine's own watchdog.
    pub fn watchdog(&self) -> Finding {
        let of = |what: &str| self.read(&format!("/sys/class/watchdog/watchdog0/{what}"));
        let advice =
            "install scripts/service/watchdog.conf and `sudo systemctl daemon-reexec`: a kernel that hangs is reset";
        match of("state").as_deref() {
            Some("active") => {
                let seconds = of("timeout").map(|seconds| format!(", {seconds} s")).unwrap_or_default();
                fine("watchdog", format!("the machine's watchdog is on{seconds}"))
            }
            Some(state) => found(Verdict::Warning, "watchdog", format!("the machine's watchdog is {state}"), advice),
            None => found(Verdict::Unknown, "watchdog", "this machine shows no hardware watchdog", ""),
        }
    }

    fn each(&self, dir: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path(dir)).into_iter().flatten().flatten();
        let mut all: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        all.sort();
        all
    }
}

/// An eMMC, which says how much of its life is used and what is left of its spare blocks.
fn emmc(disk: &Disk) -> Finding {
    let life = read(&disk.dir.join("device/life_time")).unwrap_or_default();
    let hex = |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16).ok().filter(|n| *n > 0);
    // Of its two kinds of cells the one that is worn more.
    let used = life.split_whitespace().filter_map(hex).max();
    let spare = read(&disk.dir.join("device/pre_eol_info")).as_deref().and_then(hex);
    let advice =
        "plan its replacement: `headwater retire` drains this node; write less (`ring.max_gb_per_day`, RAM-first)";
    let name = &disk.name;
    let Some(used) = used else {
        return match spare {
            Some(2..) => found(
                Verdict::Problem,
                "storage",
                format!("{name} (eMMC) has used up most of its spare blocks"),
                advice,
            ),
            _ => found(Verdict::Unknown, "storage", format!("{name} (eMMC) does not say how much it has worn"), ""),
        };
    };
    let percent = u32::from(used) * 10;
    let what = match used {
        11.. => format!("{name} (eMMC) is beyond the life it was made for"),
        _ => format!("{name} (eMMC) has used {} to {percent} % of its life", percent - 10),
    };
    match (used, spare) {
        (11.., _) => found(Verdict::Problem, "storage", what, advice),
        (_, Some(3)) => found(Verdict::Problem, "storage", format!("{what}; its spare blocks are almost gone"), advice),
        (_, Some(2)) => {
            found(Verdict::Warning, "storage", format!("{what}; four fifths of its spare blocks are used"), advice)
        }
        (9.., _) => found(Verdict::Warning, "storage", what, advice),
        _ => fine("storage", what),
    }
}

/// A small file of the kernel's, trimmed.
fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().trim_matches('\0').to_owned())
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
