//! The kernel's text tables, as far as the `host` source reads them. Lines that are not understood are left out.

use serde_json::{Map, Value, json};

/// Ticks since boot, of all cores together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    idle: u64,
    total: u64,
}

impl CpuTimes {
    /// The share of time that was not idle, 0 to 1, in thousandths.
    pub fn busy_since(self, before: CpuTimes) -> f64 {
        // A clock that ran backwards (a suspended machine's idle time may) counts as no time.
        let total = self.total.saturating_sub(before.total);
        let idle = self.idle.saturating_sub(before.idle).min(total);
        if total == 0 { 0.0 } else { ((total - idle) as f64 / total as f64 * 1000.0).round() / 1000.0 }
    }
}

/// `/proc/stat`: times, and how many cores.
pub fn cpu(text: &str) -> Option<(CpuTimes, usize)> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; guest times are in user and nice already.
    let ticks: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|n| n.parse().ok()).collect();
    let idle = ticks.get(3)?.saturating_add(ticks.get(4).copied().unwrap_or(0));
    let total = ticks.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
    let core =
        |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    Some((CpuTimes { idle, total }, text.lines().filter(core).count()))
}

/// `/proc/loadavg`: over 1, 5 and 15 minutes.
pub fn load(text: &str) -> Option<Vec<f64>> {
    let load: Vec<f64> = text.split_ascii_whitespace().take(3).map_while(|n| n.parse().ok()).collect();
    (load.len() == 3).then_some(load)
}

/// `/proc/meminfo`, in bytes.
pub fn memory(text: &str) -> Option<Value> {
    let bytes = |name: &str| -> Option<u64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        rest.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let mut out = Map::new();
    out.insert("total".into(), json!(bytes("MemTotal")?));
    let more = [("available", "MemAvailable"), ("swap_total", "SwapTotal"), ("swap_free", "SwapFree")];
    for (name, field) in more {
        if let Some(n) = bytes(field) {
            out.insert(name.into(), json!(n));
        }
    }
    Some(Value::Object(out))
}

/// `/proc/uptime`, in seconds.
pub fn uptime(text: &str) -> Option<Value> {
    let seconds: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(json!(seconds))
}

/// `/proc/net/dev`, without the loopback.
pub fn network(text: &str, most: usize) -> Option<Value> {
    let mut out = Map::new();
    for line in text.lines().skip(2) {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let counts: Vec<u64> = rest.split_ascii_whitespace().map_while(|n| n.parse().ok()).collect();
        let name = name.trim();
        let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] =
            counts[..]
        else {
            continue;
        };
        if name == "lo" || out.len() >= most {
            continue;
        }
        let counts = json!({
            "rx_bytes": rx_bytes, "rx_packets": rx_packets, "rx_errors": rx_errors, "rx_dropped": rx_dropped,
            "tx_bytes": tx_bytes, "tx_packets": tx_packets, "tx_errors": tx_errors, "tx_dropped": tx_dropped,
        });
        out.insert(name.to_owned(), counts);
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub device: String,
    pub path: String,
    pub kind: String,
    pub read_only: bool,
}

/// `/proc/mounts`: file systems on a device (and ZFS, which has none), each device once, at its first place.
pub fn mounts(text: &str) -> Vec<Mount> {
    let mut out: Vec<Mount> = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ').map(unescape);
        let (Some(device), Some(path), Some(kind), Some(options)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let on_device = device.starts_with("/dev/") && !device.starts_with("/dev/loop");
        if !(on_device || kind == "zfs") || out.iter().any(|mount| mount.device == device) {
            continue;
        }
        let read_only = options.split(',').any(|option| option == "ro");
        out.push(Mount { device, path, kind, read_only });
    }
    out
}

/// Blanks, tabs, newlines and backslashes stand as three octal digits.
fn unescape(word: &str) -> String {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| byte == b'\\').and_then(|d| std::str::from_utf8(d).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mounts_are_devices_once_with_their_names_unescaped() {
        let text = "sysfs /sys sysfs rw 0 0\n/dev/mmcblk0p2 / ext4 rw,noatime 0 0\n/dev/mmcblk0p2 /bind ext4 rw 0 0\n\
                    /dev/sda1 /mnt/my\\040disk vfat ro,uid=0 0 0\n/dev/loop0 /snap squashfs ro 0 0\n";
        let mounts = mounts(text);
        let seen: Vec<_> = mounts.iter().map(|m| (m.path.as_str(), m.read_only)).collect();
        assert_eq!(seen, [("/", false), ("/mnt/my disk", true)]);
    }

    #[test]
    fn the_loopback_is_left_out() {
        let text = "a\nb\n    lo: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n wlan0:5 1 2 3 0 0 0 0 7 1 2 3 0 0 0 0\n";
        let network = network(text, 8).unwrap();
        assert_eq!(network.as_object().unwrap().keys().collect::<Vec<_>>(), ["wlan0"]);
        assert_eq!((&network["wlan0"]["rx_bytes"], &network["wlan0"]["tx_bytes"]), (&json!(5), &json!(7)));
    }

    proptest! {
        #[test]
        fn arbitrary_tables_never_panic(text in "[ -~\n:\\\\0-9]{0,300}") {
            let _ = (cpu(&text), load(&text), memory(&text), uptime(&text), network(&text, 4), mounts(&text));
            let _ = cpu(&format!("cpu {text}"));
        }
    }
}
