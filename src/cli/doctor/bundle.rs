//! What support needs in one file: a tar, compressed. No record is in it and no secret: the config is as `check --print`
//! shows it, and whatever the config says is secret is taken out of every text once more.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::{Args, Examined, Finding, page};
use crate::cli::{client, ring};
use crate::config::{self, Named};
use crate::ops::human::decimal;
use crate::ops::status::{VERSION, target};
use crate::ops::text;

/// Of one program's output.
const MOST: usize = 1 << 20;
/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Shorter ones would be found in any text; who has one has no secret.
const SHORT: usize = 4;
/// Lines of a secret of several that are taken out one by one.
const LINE: usize = 16;

/// Writes the file; says what it is.
pub fn write(path: &Path, args: &Args, examined: &Examined, findings: &[Finding]) -> anyhow::Result<String> {
    let mut files = vec![
        ("doctor.txt", page(findings)),
        ("doctor.json", serde_json::to_string_pretty(findings)?),
        ("version.txt", format!("headwater {VERSION} ({})\n", target())),
        ("config.toml", config::print(examined)),
        ("system.txt", system(&args.root)),
        ("journal.txt", said("journalctl", &["-u", "headwater", "-n", "500", "--no-pager", "-o", "short-iso"])),
    ];
    if let Ok(config) = &examined.config {
        let status = client::block_on(client::status(&config.node.control));
        let status = status.map(|status| text::page(&status));
        files.push(("status.txt", status.unwrap_or_else(|error| format!("{error:#}\n"))));
        let facts = ring::facts(&config.node.data_dir, &crate::node::plan::keys(config));
        files.push(("ring.txt", facts.unwrap_or_else(|error| format!("{error:#}\n"))));
    } else if let Err(errors) = &examined.config {
        files.push(("config-errors.txt", errors.iter().map(|error| format!("{error}\n")).collect()));
    }
    let secrets = secrets(examined);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut tar = Vec::new();
    for (name, text) in &files {
        add(&mut tar, name, without(text, &secrets).as_bytes(), now);
    }
    // Two blocks of nothing are the end.
    tar.resize(tar.len() + 1024, 0);
    let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("cannot make {}", path.display()))?;
    let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::default());
    let written = packed.write_all(&tar).and_then(|()| packed.finish()).and_then(|file| file.metadata());
    let written = written.with_context(|| format!("cannot write {}", path.display()))?.len();
    Ok(format!("{} has {} files, {}: look at it before you send it on", path.display(), files.len(), decimal(written)))
}

/// The kernel, the system and what is mounted.
fn system(root: &Path) -> String {
    const FILES: [&str; 9] = [
        "proc/version",
        "proc/cmdline",
        "proc/uptime",
        "proc/loadavg",
        "proc/meminfo",
        "proc/self/mounts",
        "proc/device-tree/model",
        "etc/os-release",
        "sys/class/watchdog/watchdog0/identity",
    ];
    let mut text = String::new();
    for name in FILES {
        if let Ok(bytes) = std::fs::read(root.join(name)) {
            let shown = String::from_utf8_lossy(&bytes);
            text += &format!("== /{name}\n{}\n", shown.trim_matches(['\0', '\n']));
        }
    }
    text
}

/// What a program prints, within bounds.
fn said(program: &str, args: &[&str]) -> String {
    let output = || -> std::io::Result<String> {
        // To a file without a name: a pipe that nobody reads would hold it.
        let out = nameless()?;
        let mut child = Command::new(program).args(args).stdout(out.try_clone()?).stderr(out.try_clone()?).spawn()?;
        let end = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() > end {
                child.kill()?;
                child.wait()?;
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut bytes = vec![0; MOST];
        let n = std::os::unix::fs::FileExt::read_at(&out, &mut bytes, 0)?;
        Ok(String::from_utf8_lossy(&bytes[..n]).into_owned())
    };
    output().unwrap_or_else(|error| format!("{program}: {error}\n"))
}

fn nameless() -> std::io::Result<std::fs::File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    Ok(memfd_create("headwater-doctor", MemfdFlags::CLOEXEC)?.into())
}

/// Every secret that the config names and this user may read.
fn secrets(examined: &Examined) -> Vec<String> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").unwrap_or_else(|| "/etc/headwater/credentials".into());
    let of = |named: &Named| match named {
        Named::File(_) => None,
        Named::Secret(path) => read(path),
        Named::Environment(name) => std::env::var(name).ok(),
        Named::Credential(name) => read(&Path::new(&credentials).join(name)),
    };
    let mut secrets: Vec<String> = Vec::new();
    for secret in examined.named.iter().filter_map(of) {
        let lines = secret.lines().map(str::trim).filter(|line| line.len() >= LINE).map(String::from);
        secrets.extend(lines.chain([secret.trim().to_owned()]).filter(|secret| secret.len() >= SHORT));
    }
    // One that contains another goes first.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

fn without(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
}

/// One file of a tar, as POSIX has it (ustar).
fn add(tar: &mut Vec<u8>, name: &str, bytes: &[u8], at: u64) {
    let mut header = [0u8; 512];
    let mut put = |from: usize, text: &str| header[from..from + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", bytes.len()));
    put(136, &format!("{at:011o}\0"));
    // The sum is taken with blanks in its own place.
    put(148, "        0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&header);
    tar.extend_from_slice(bytes);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tar_reads_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let long = "line\n".repeat(1000);
        let mut bytes = Vec::new();
        add(&mut bytes, "a.txt", b"one", 1_700_000_000);
        add(&mut bytes, "empty", b"", 1_700_000_000);
        add(&mut bytes, "long", long.as_bytes(), 1_700_000_000);
        bytes.resize(bytes.len() + 1024, 0);
        std::fs::write(dir.path().join("x.tar"), bytes).unwrap();
        let done = Command::new("tar").arg("-xf").arg("x.tar").current_dir(dir.path()).output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!((read("a.txt").as_str(), read("empty").as_str(), read("long") == long), ("one", "", true));
    }

    #[test]
    fn no_secret_is_left_in_a_text_nor_a_line_of_one() {
        let pem = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END KEY-----".to_owned();
        let secrets = [pem.clone(), "MIIEvQIBADANBgkqhkiG9w0B".into(), "hunter2".into()];
        assert_eq!(without(&format!("a {pem} b"), &secrets), "a *** b");
        assert_eq!(without("x MIIEvQIBADANBgkqhkiG9w0B hunter2", &secrets), "x *** ***");
    }

    #[test]
    fn a_program_that_is_not_there_and_one_that_fails_are_said() {
        assert!(said("/nonexistent/program", &[]).contains("No such file"));
        assert_eq!(said("sh", &["-c", "echo out; echo err >&2; exit 3"]), "out\nerr\n");
    }
}
