//! `headwater unit`: the drop-in of systemd that a config needs beside the service's own unit, and nothing more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::needs::Needs;
use super::{check, say};
use crate::config::Named;
use crate::config::{self, Config, DEFAULT_DATA_DIR, DEFAULT_PATH, Surroundings};

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater unit                    what the config at the default path needs
  headwater unit -c site.toml       of another config
  headwater unit --json             for other tools

To put it in place:
  sudo mkdir -p /etc/systemd/system/headwater.service.d
  headwater unit | sudo tee /etc/systemd/system/headwater.service.d/config.conf
  sudo systemctl daemon-reload && sudo systemctl restart headwater

Again whenever the config gets another device, port, path or credential.
`headwater check` says what is missing for the user who runs it.

Exit codes: 0 done, 2 the config is wrong.")]
pub struct Args {
    /// The config file; conf.d/*.toml beside it belongs to it
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// As JSON: a list of sections, keys, values and reasons
    #[arg(long)]
    pub json: bool,
}

/// One setting of the drop-in.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    section: &'static str,
    key: &'static str,
    value: String,
    why: String,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let examined = config::examine(&args.config, &Surroundings::real(true));
    let config = match &examined.config {
        Ok(config) => config,
        Err(errors) => return check::refused(errors, &format!("the config of {}", args.config.display())),
    };
    let file = std::path::absolute(&args.config)?;
    let lines = lines(config, &Needs::of(config, &examined.named), &file);
    if args.json {
        let line = |Line { section, key, value, why }: &Line| serde_json::json!({ "section": section, "key": key, "value": value, "why": why });
        say(serde_json::Value::from(lines.iter().map(line).collect::<Vec<_>>()))?;
    } else {
        say(text(&lines, &file).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(lines: &[Line], file: &Path) -> String {
    let mut text = format!("# What {} needs beside headwater.service; written by `headwater unit`.\n", file.display());
    if lines.is_empty() {
        text += "# Nothing: the unit has all of it.\n";
    }
    let (mut section, mut why) = ("", "");
    for line in lines {
        if section != line.section {
            text += &format!("\n[{}]\n", line.section);
        }
        if why != line.why {
            text += &format!("# {}\n", line.why);
        }
        (section, why) = (line.section, &line.why);
        text += &format!("{}={}\n", line.key, line.value);
    }
    text
}

/// Gathers lines of one section.
struct Lines(Vec<Line>);

impl Lines {
    fn add(&mut self, section: &'static str, why: &str, settings: &[(&'static str, &str)]) {
        let line = |(key, value): &(&'static str, &str)| Line { section, key, value: (*value).into(), why: why.into() };
        self.0.extend(settings.iter().map(line));
    }

    fn service(&mut self, why: &str, settings: &[(&'static str, &str)]) {
        self.add("Service", why, settings);
    }
}

fn lines(config: &Config, needs: &Needs, file: &Path) -> Vec<Line> {
    let mut lines = Lines(Vec::new());
    let data = &config.node.data_dir;
    if !data.starts_with(DEFAULT_DATA_DIR) {
        let mount = format!("{}.mount", escaped(data));
        lines.add(
            "Unit",
            "node.data_dir: if it is mounted, that comes first; it is not required",
            &[("After", &mount)],
        );
    }
    if file != Path::new(DEFAULT_PATH) {
        let run = format!("/usr/bin/headwater run -c {}", quoted(&file.to_string_lossy().replace('$', "$$")));
        lines.service("the config is not at the default path", &[("ExecStart", ""), ("ExecStart", &run)]);
    }
    devices(needs, &mut lines);
    groups(needs, &mut lines);
    ports(needs, &mut lines);
    paths(needs, &mut lines);
    for named in &needs.named {
        let Named::Credential(name) = named else { continue };
        let load = format!("{name}:/etc/headwater/credentials/{name}");
        lines.service("credentials, each in a file that root alone can read", &[("LoadCredential", &load)]);
    }
    let memory = config.ring.memory_bytes >> 20;
    if memory > 64 {
        let (high, most) = (format!("{}M", memory + 128), format!("{}M", memory + 192));
        lines.service("ring.memory_bytes", &[("MemoryHigh", &high), ("MemoryMax", &most)]);
    }
    lines.0
}

/// What systemd calls the kind of a device, so that one that is plugged in later is allowed too; and its group.
fn kinds(device: &Path) -> (Vec<String>, Option<&'static str>) {
    let name = device.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let driver = |name: &str| format!("char-{}", name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '*'));
    let text = device.to_string_lossy();
    match () {
        // A name of its own, which leads to one of these.
        () if text.starts_with("/dev/serial") => {
            let any = ["char-ttyUSB", "char-ttyACM", "char-ttyAMA", "char-ttyS"];
            (any.map(String::from).to_vec(), Some("dialout"))
        }
        () if name.starts_with("tty") => (vec![driver(&name)], Some("dialout")),
        () if name.starts_with("gpiochip") => (vec!["char-gpiochip".into()], Some("gpio")),
        () if name.starts_with("i2c-") => (vec!["char-i2c".into()], Some("i2c")),
        () if name.starts_with("spidev") => (vec!["char-spi".into()], Some("spi")),
        () => (vec![text.into_owned()], None),
    }
}

fn devices(needs: &Needs, lines: &mut Lines) {
    if needs.devices.is_empty() {
        return;
    }
    let names: BTreeSet<_> = needs.devices.iter().map(|of| format!("{} ({})", of.what.display(), of.key)).collect();
    let why = names.into_iter().collect::<Vec<_>>().join(", ");
    let (mut allowed, mut groups) = (BTreeSet::new(), BTreeSet::new());
    for (kinds, group) in needs.devices.iter().map(|of| kinds(&of.what)) {
        allowed.extend(kinds);
        groups.extend(group);
    }
    for kind in &allowed {
        lines.service(&why, &[("DeviceAllow", &format!("{kind} rw"))]);
    }
    for group in groups {
        lines.service(&why, &[("SupplementaryGroups", group)]);
    }
}

fn groups(needs: &Needs, lines: &mut Lines) {
    if needs.all_read().any(|path| path.starts_with("/var/log")) {
        lines.service("files of /var/log, which the group adm may read", &[("SupplementaryGroups", "adm")]);
    }
    if needs.runs("journalctl") || needs.all_read().any(|path| path.starts_with("/var/log/journal")) {
        lines.service("the journal", &[("SupplementaryGroups", "systemd-journal")]);
    }
}

fn ports(needs: &Needs, lines: &mut Lines) {
    let low: Vec<_> = needs.low_ports().map(|of| format!("{} ({})", of.at.port(), of.key)).collect();
    if !low.is_empty() {
        let why = format!("low ports: {}", low.join(", "));
        let bind = "CAP_NET_BIND_SERVICE";
        // In a namespace of users of its own the capability would count for nothing outside.
        lines.service(&why, &[("CapabilityBoundingSet", bind), ("AmbientCapabilities", bind), ("PrivateUsers", "no")]);
    }
}

fn paths(needs: &Needs, lines: &mut Lines) {
    for dir in needs.other_places() {
        // One that is not there is waited for by the node, not by the service.
        lines.service(
            "what is written beside /var/lib/headwater",
            &[("ReadWritePaths", &quoted(&format!("-{}", dir.display())))],
        );
    }
    let everything = || needs.all_read().chain(needs.other_places());
    if everything().any(|path| ["/home", "/root", "/run/user"].iter().any(|home| path.starts_with(home))) {
        lines.service("files of home directories", &[("ProtectHome", "read-only")]);
    }
    if everything().any(|path| ["/tmp", "/var/tmp"].iter().any(|tmp| path.starts_with(tmp))) {
        lines.service("files that others see in /tmp", &[("TemporaryFileSystem", "")]);
        lines.service("files that others see in /tmp", &[("ReadWritePaths", "/tmp /var/tmp")]);
    }
}

/// In quotes where there is something that systemd would take for more than a path.
fn quoted(path: &str) -> String {
    let text = path.replace('%', "%%");
    if text.contains([' ', '"', '\\', '\'']) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text
    }
}

/// A path as systemd has it in the names of units.
fn escaped(path: &Path) -> String {
    let mut out = String::new();
    for (i, byte) in path.to_string_lossy().trim_matches('/').bytes().enumerate() {
        match byte {
            b'/' => out.push('-'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b':' => out.push(byte.into()),
            b'.' if i > 0 => out.push('.'),
            _ => out += &format!("\\x{byte:02x}"),
        }
    }
    if out.is_empty() { "-".into() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The drop-in of a config.
    fn unit(config: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("headwater.toml");
        std::fs::write(&file, config).unwrap();
        let around =
            Surroundings { env: Box::new(|_| None), credentials: None, host_name: "edge".into(), checking: true };
        let examined = config::examine(&file, &around);
        let config = examined.config.as_ref().unwrap_or_else(|errors| panic!("{errors:?}"));
        let lines = lines(config, &Needs::of(config, &examined.named), Path::new(DEFAULT_PATH));
        text(&lines, Path::new(DEFAULT_PATH)).split_once('\n').unwrap().1.trim().to_owned()
    }

    const SYSLOG: &str = "[sources.net]\ntype = \"syslog\"\ntopic = \"log\"\n";

    #[test]
    fn a_config_that_needs_nothing_more_gets_nothing_more() {
        assert_eq!(unit(""), "# Nothing: the unit has all of it.");
        let text = unit(&format!("{SYSLOG}listen = [\"udp://0.0.0.0:5514\", \"unix:///run/headwater/log.sock\"]\n"));
        assert_eq!(text, "# Nothing: the unit has all of it.");
    }

    #[test]
    fn a_low_port_brings_its_capability_and_no_other() {
        let text = unit(&format!("{SYSLOG}listen = [\"udp://0.0.0.0:514\", \"tcp://0.0.0.0:1514\"]\n"));
        assert_eq!(
            text,
            "[Service]\n# low ports: 514 (sources.net.listen)\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n\
             AmbientCapabilities=CAP_NET_BIND_SERVICE\nPrivateUsers=no"
        );
    }

    #[test]
    fn log_files_bring_their_group_and_home_directories_are_opened_to_read() {
        let files = |path: &str| format!("[sources.l]\ntype = \"file\"\ntopic = \"l\"\npaths = [\"{path}\"]\n");
        assert!(unit(&files("/var/log/*.log")).ends_with("SupplementaryGroups=adm"));
        assert!(unit(&files("/home/pi/app/*.log")).ends_with("ProtectHome=read-only"));
        assert!(unit(&files("/tmp/*.log")).contains("\nTemporaryFileSystem=\n"));
        assert_eq!(unit(&files("/srv/app/*.log")), "# Nothing: the unit has all of it.");
    }

    #[test]
    fn devices_are_allowed_by_their_kind_so_that_they_may_come_later() {
        let exec = |words: &str| format!("[sources.e]\ntype = \"exec\"\ntopic = \"e\"\ncommand = [{words}]\n");
        let text = unit(&exec("\"/usr/bin/reader\", \"--port=/dev/ttyUSB0\""));
        for line in ["DeviceAllow=char-ttyUSB rw", "SupplementaryGroups=dialout"] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        assert!(unit(&exec("\"a\", \"/dev/serial/by-id/usb-mast\"")).contains("DeviceAllow=char-ttyACM rw"));
        assert!(unit(&exec("\"a\", \"/dev/gpiochip0\"")).contains("SupplementaryGroups=gpio"));
        assert!(unit(&exec("\"a\", \"/dev/hwrng\"")).contains("DeviceAllow=/dev/hwrng rw"));
        assert!(unit(&exec("\"journalctl\", \"-f\"")).contains("SupplementaryGroups=systemd-journal"));
        let plain = unit(&exec("\"/usr/bin/a\", \"/dev/null\", \"/dev/stdin\""));
        assert!(!plain.contains("Device"), "{plain}");
    }

    #[test]
    fn what_is_written_elsewhere_and_what_is_secret_is_named() {
        let text = unit(
            "[node]\ndata_dir = \"/srv/ring data\"\n[sinks.f]\ntype = \"file\"\ntopics = [\"*\"]\npath = \"/srv/out/a.log\"\n\
             [sources.m]\ntype = \"mqtt\"\nurl = \"mqtt://h\"\nusername = \"u\"\npassword = { credential = \"mqtt\" }\n\
             subscribe = [{ filter = \"a\", topic = \"a\" }]\n[ring]\nmemory_bytes = \"128MiB\"\n",
        );
        for line in [
            "After=srv-ring\\x20data.mount",
            "ReadWritePaths=\"-/srv/ring data\"",
            "ReadWritePaths=-/srv/out",
            "LoadCredential=mqtt:/etc/headwater/credentials/mqtt",
            "MemoryHigh=256M",
            "MemoryMax=320M",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
    }

    #[test]
    fn paths_are_escaped_as_systemd_escapes_them() {
        let cases =
            [("/", "-"), ("/var/lib/headwater", "var-lib-headwater"), ("/a-b/.c.d", "a\\x2db-.c.d"), ("/.x", "\\x2ex")];
        for (path, name) in cases {
            assert_eq!(escaped(Path::new(path)), name);
        }
    }
}
