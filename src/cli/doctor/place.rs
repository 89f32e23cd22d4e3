//! What the node has on this device: its directory, how fast that is, who may use it, its ports.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::{Examined, Finding, Verdict, fine, found};
use crate::cli::needs::{Needs, Port};
use crate::config::{Config, Named};
use crate::node::clock::Clock;
use crate::node::identity;
use crate::ops::human::{brief, decimal};

/// What is written to try a disk: this at once, then so many pages that are each waited for.
const BULK: usize = 4 << 20;
const PAGE: usize = 4096;
const SYNCS: usize = 20;
/// Beside what is written.
const BESIDE: u64 = 16 << 20;
/// A disk that has not done it by then hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// A sync that takes longer holds up who waits for it.
const SLOW: Duration = Duration::from_millis(500);

/// The device number of what holds a directory, or will.
pub fn device_of(dir: &Path) -> Option<(u32, u32)> {
    let found = dir.ancestors().find_map(|dir| std::fs::metadata(dir).ok())?;
    Some((rustix::fs::major(found.dev()), rustix::fs::minor(found.dev())))
}

pub fn clock_is_trusted() -> bool {
    Clock::default().now().trusted
}

/// Whether there is room for the ring.
pub fn room(dir: &Path, config: Option<&Config>) -> Option<Finding> {
    let ring = &config?.ring;
    let advice = "free some, lower `ring.max_bytes` or `ring.keep_free`, or set `node.data_dir` to a larger disk";
    Some(match identity::max_bytes(dir, ring.max_bytes, ring.keep_free) {
        Err(why) => found(Verdict::Problem, "room", why, advice),
        Ok((_, Some(shrunk))) => found(Verdict::Warning, "room", shrunk, advice),
        Ok((ring, None)) => match identity::free_bytes(dir) {
            Ok(free) => fine("room", format!("{} free, the ring takes {} at most", decimal(free), decimal(ring))),
            Err(_) => found(Verdict::Unknown, "room", format!("{} is not there yet", dir.display()), ""),
        },
    })
}

/// What a disk did.
struct Speed {
    bytes_per_s: u64,
    median: Duration,
    longest: Duration,
}

/// Tries the disk, in a thread: a card that hangs must not hang who asks what is wrong with it.
pub fn speed(dir: &Path) -> Finding {
    let (tell, told) = mpsc::channel();
    let at = dir.to_owned();
    let asks = std::thread::Builder::new().name("disk".into()).spawn(move || tell.send(measure(&at)));
    let said = told.recv_timeout(if asks.is_ok() { PATIENCE } else { Duration::ZERO });
    let advice = "a worn or a cheap card stalls so; `headwater ring bench` tries it for longer. Sources that wait for an \
                  acknowledgement wait as long";
    match said {
        Ok(Ok(speed)) => {
            let what = format!(
                "writes {}/s; a sync takes {}, {} at most",
                decimal(speed.bytes_per_s),
                brief(speed.median.as_secs_f64()),
                brief(speed.longest.as_secs_f64())
            );
            match speed.longest > SLOW {
                true => found(Verdict::Warning, "disk", what, advice),
                false => fine("disk", what),
            }
        }
        Ok(Err(error)) => match error.kind() {
            ErrorKind::NotFound => {
                let what = format!("there is no {} yet, so it was not tried", dir.display());
                found(Verdict::Unknown, "disk", what, "the node makes it when it starts, if it may")
            }
            ErrorKind::PermissionDenied => {
                let what = format!("this user may not write in {}, so it was not tried", dir.display());
                found(Verdict::Unknown, "disk", what, "`sudo -u headwater headwater doctor`")
            }
            ErrorKind::OutOfMemory => found(Verdict::Unknown, "disk", error.to_string(), ""),
            _ => {
                let what = format!("{} cannot be written: {error}", dir.display());
                found(
                    Verdict::Problem,
                    "disk",
                    what,
                    "`dmesg` says what the kernel met; check the file system, or change the card",
                )
            }
        },
        Err(_) => {
            let what = format!("{} does not answer within {} s: the card hangs", dir.display(), PATIENCE.as_secs());
            found(Verdict::Problem, "disk", what, "look at `dmesg`; a card that hangs again and again is at its end")
        }
    }
}

/// Writes to a file that has no name any more: nothing of it is left, whatever happens.
fn measure(dir: &Path) -> std::io::Result<Speed> {
    let free = identity::free_bytes(dir)?;
    if free < BULK as u64 + BESIDE {
        let text = format!("only {} are free, so it was not tried", decimal(free));
        return Err(std::io::Error::new(ErrorKind::OutOfMemory, text));
    }
    let path = dir.join(format!("headwater-doctor-{}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    // Bytes that no disk makes smaller.
    let mut rng = crate::backoff::Rng::new(identity::seed());
    let bytes: Vec<u8> = (0..BULK / 8).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
    let timed = |work: &dyn Fn(&File) -> std::io::Result<()>| {
        let begun = Instant::now();
        work(&file).map(|()| begun.elapsed())
    };
    let bulk = timed(&|file| file.write_all_at(&bytes, 0).and_then(|()| file.sync_data()))?;
    let mut syncs = Vec::new();
    for n in 0..SYNCS {
        let page = &bytes[n * PAGE..(n + 1) * PAGE];
        syncs.push(timed(&|file| file.write_all_at(page, (n * PAGE) as u64).and_then(|()| file.sync_data()))?);
    }
    syncs.sort_unstable();
    let bytes_per_s = (BULK as f64 / bulk.as_secs_f64().max(1e-6)) as u64;
    Ok(Speed { bytes_per_s, median: syncs[SYNCS / 2], longest: syncs[SYNCS - 1] })
}

/// Who may read what is secret, and what this user may not do.
pub fn permissions(dir: &Path, examined: &Examined) -> Vec<Finding> {
    let mut findings = Vec::new();
    let open = |path: &Path, bits: u32| std::fs::metadata(path).is_ok_and(|found| found.mode() & bits != 0);
    if open(dir, 0o007) {
        let what = format!("every user of this machine may look into {}", dir.display());
        findings.push(found(Verdict::Warning, "permissions", what, format!("`sudo chmod o= {}`", dir.display())));
    }
    let files = examined.config.iter().flat_map(|config| &config.files).filter(|file| open(file, 0o002));
    for file in files {
        let what = format!("every user of this machine may write to {}", file.display());
        findings.push(found(Verdict::Warning, "permissions", what, format!("`sudo chmod o-w {}`", file.display())));
    }
    for named in &examined.named {
        let Named::Secret(path) = named else { continue };
        if open(path, 0o007) {
            let what = format!("every user of this machine may read the secret in {}", path.display());
            findings.push(found(Verdict::Warning, "permissions", what, format!("`sudo chmod o= {}`", path.display())));
        }
    }
    if let Ok(config) = &examined.config {
        let missing = Needs::of(config, &examined.named).missing();
        // Each is in two parts: what, and what to do.
        findings.extend(missing.iter().map(|text| {
            let (what, advice) = text.rsplit_once(": ").unwrap_or((text, ""));
            found(Verdict::Warning, "permissions", what, advice)
        }));
    }
    if findings.is_empty() {
        findings
            .push(fine("permissions", "secrets are for the node only, and this user has all that the config needs"));
    }
    findings
}

/// Whether its ports are free, or its own.
pub fn ports(needs: &Needs, runs: bool) -> Vec<Finding> {
    let each = |Port { key, at, udp }: &Port| {
        let bound = if *udp { UdpSocket::bind(at).map(drop) } else { TcpListener::bind(at).map(drop) };
        let kind = if *udp { "UDP" } else { "TCP" };
        match bound {
            Ok(()) if runs => {
                let what = format!("{kind} {at} ({key}) is free although the node runs");
                let advice =
                    "`headwater status` says why it does not listen there; is it another config than the node's?";
                found(Verdict::Warning, "ports", what, advice)
            }
            Ok(()) => fine("ports", format!("{kind} {at} ({key}) is free")),
            Err(error) if error.kind() == ErrorKind::AddrInUse && runs => {
                fine("ports", format!("{kind} {at} ({key}) is taken, and the node runs"))
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                let what = format!("{kind} {at} ({key}) is taken by another program");
                let advice = format!("`sudo ss -lnp 'sport = :{}'` says by which", at.port());
                found(Verdict::Problem, "ports", what, advice)
            }
            // Said already, with what to do.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                found(Verdict::Unknown, "ports", format!("{kind} {at} ({key}) may not be tried by this user"), "")
            }
            Err(error) => {
                let what = format!("{kind} {at} ({key}) cannot be listened on: {error}");
                found(Verdict::Problem, "ports", what, "is it an address of this machine? `ip address` lists them")
            }
        }
    };
    needs.ports.iter().map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_was_tried_has_nothing_of_it_left() {
        let dir = tempfile::tempdir().unwrap();
        let finding = speed(dir.path());
        assert!(matches!(finding.verdict, Verdict::Ok | Verdict::Warning), "{finding:?}");
        assert!(finding.what.starts_with("writes "), "{finding:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_is_not_there_is_unknown_and_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("absent");
        assert_eq!(speed(&absent).verdict, Verdict::Unknown);
        assert!(!absent.exists());
        assert_eq!(device_of(&absent), device_of(dir.path()), "that of where it will be");
    }

    #[test]
    fn a_port_is_free_or_taken_by_another_or_the_nodes_own() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = taken.local_addr().unwrap();
        let port = Port { key: "http.listen".into(), at, udp: false };
        let needs = Needs { ports: vec![port], ..Needs::default() };
        let verdict = |runs| ports(&needs, runs)[0].verdict;
        assert_eq!((verdict(false), verdict(true)), (Verdict::Problem, Verdict::Ok));
        drop(taken);
        assert_eq!((verdict(false), verdict(true)), (Verdict::Ok, Verdict::Warning));
    }
}
