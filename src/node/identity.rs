//! The data directory: whose it is, what it lies on, and what ties it to this machine.

use std::fs::{File, OpenOptions};
use std::hash::Hasher;
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ring_crypto::rand::{SecureRandom as _, SystemRandom};
use rustix::fs::{StatVfs, statfs, statvfs};

use super::whole::again;
use crate::limits::MIN_RING;
use crate::ops::human::binary;

const MIB: u64 = 1024 * 1024;
/// The part that says that the disk has no room for the ring.
pub const RING_SIZE: &str = "ring-size";

/// What ties a data directory to this machine: a hash of machine-id and board serial. A card that moved to another
/// board, or its clone, has another.
pub fn binding() -> [u8; 16] {
    let mut text = Vec::new();
    for path in ["/etc/machine-id", "/proc/device-tree/serial-number", "/sys/class/dmi/id/product_uuid"] {
        if let Ok(bytes) = std::fs::read(path) {
            text.extend_from_slice(path.as_bytes());
            text.extend_from_slice(bytes.trim_ascii());
        }
    }
    hash128(&text)
}

/// The kernel's boot_id: boot times of another boot are not comparable.
pub fn boot_id() -> [u8; 16] {
    hash128(std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_ascii())
}

/// A random seed from the kernel; from the address of a stack variable and the time where there is none.
pub fn seed() -> u64 {
    let mut bytes = [0; 8];
    match File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes)) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => {
            let now = super::clock::Clock::default().now();
            (now.boot.0 ^ now.wall.0).unsigned_abs() ^ u64::from(std::process::id()) << 32
        }
    }
}

/// A nonce of the cipher, from the kernel. Each is used once: what comes from a seed would come again in a copy of this
/// machine's memory.
pub fn nonce() -> [u8; 24] {
    let mut nonce = [0; 24];
    // The kernel waits itself until it has randomness to give, and gives it ever after.
    while SystemRandom::new().fill(&mut nonce).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    nonce
}

fn hash128(bytes: &[u8]) -> [u8; 16] {
    let half = |seed| {
        let mut hasher = twox_hash::XxHash3_64::with_seed(seed);
        hasher.write(bytes);
        hasher.finish().to_le_bytes()
    };
    let mut out = [0; 16];
    out[..8].copy_from_slice(&half(1));
    out[8..].copy_from_slice(&half(2));
    out
}

/// Held as long as the node lives. The file is left: an unlinked lock would be two locks.
pub struct Lock {
    file: File,
}

impl Lock {
    /// Whether it is this directory's: another may have been mounted over the one that was locked.
    pub fn is_of(&self, dir: &Path) -> bool {
        let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        self.file.metadata().ok().zip(std::fs::metadata(dir.join("lock")).ok()).is_some_and(|(a, b)| same(a, b))
    }
}

/// Why the data directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "the data directory {dir} is in use by another headwater (process {pid}); stop it, or give this one a `node.data_dir` of its own"
    )]
    Owned { dir: String, pid: String },
    #[error("cannot {op} {path}: {} ({})", plain(.error), hint(.error))]
    Io { op: &'static str, path: String, error: std::io::Error },
}

fn plain(error: &std::io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => "let the node's user own the directory",
        ErrorKind::StorageFull => "make room on that file system",
        ErrorKind::ReadOnlyFilesystem => "mount it writable, or look whether the card is dying (dmesg)",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "something else is there: set `node.data_dir`",
        _ => "is `node.data_dir` right, and the disk mounted?",
    }
}

/// Makes the directory if it is not there and takes its lock.
pub fn lock(dir: &Path) -> Result<Lock, LockError> {
    // Asked first: `create_dir_all` takes one that cannot be looked at just now for something else that is there.
    if !again(|| std::fs::metadata(dir)).is_ok_and(|found| found.is_dir()) {
        again(|| std::fs::create_dir_all(dir)).map_err(failed("make the data directory", dir))?;
    }
    let path = dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed("open", &path))?;
    match again(|| file.try_lock()) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(owned(dir, &file)),
        Err(e) => return Err(failed("lock", &path)(e)),
    }
    // For people, and in place: a full card has no block for it, and the lock is held all the same.
    let _ = file.rewind().and_then(|()| writeln!(file, "{:<19}", std::process::id()));
    Ok(Lock { file })
}

/// Whether a live node owns the directory; nothing is made or written.
pub fn probe(dir: &Path) -> Result<(), LockError> {
    let path = dir.join("lock");
    let file = File::open(&path).map_err(failed("open", &path))?;
    match again(|| file.try_lock_shared()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::WouldBlock => Err(owned(dir, &file)),
        Err(e) => Err(failed("lock", &path)(e)),
    }
}

fn failed(op: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LockError {
    let path = path.display().to_string();
    move |error| LockError::Io { op, path, error }
}

fn owned(dir: &Path, lock: &File) -> LockError {
    let mut pid = String::new();
    // Who it is helps, but is not needed to refuse.
    let _ = lock.take(16).read_to_string(&mut pid);
    let pid = if pid.trim().is_empty() { "unknown".into() } else { pid.trim().to_owned() };
    LockError::Owned { dir: dir.display().to_string(), pid }
}

/// Whether the directory loses its files at a reboot; in words for the status.
pub fn volatile(dir: &Path) -> Option<String> {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    const OVERLAY: u64 = 0x794c_7630;
    let what = match again(|| statfs(dir)).ok()?.f_type as u64 & 0xffff_ffff {
        TMPFS | RAMFS => "a file system in memory: a reboot or power cut loses all of it",
        OVERLAY => "an overlay file system, which may lose it at a reboot",
        _ => return None,
    };
    Some(format!("the data directory {} is on {what}; set `node.data_dir` to a real disk", dir.display()))
}

/// The cap of the ring: what the config says, or the smaller of 256 MiB and 25 % of the file system; less where the disk
/// has not that much beside `keep_free`. The text says when it had to shrink; an error, that there is no room for the
/// smallest ring and none is there that could be used.
pub fn max_bytes(dir: &Path, configured: Option<u64>, keep_free: u64) -> Result<(u64, Option<String>), String> {
    let Ok(fs) = again(|| statvfs(dir)) else { return Ok((configured.unwrap_or(256 * MIB).max(MIN_RING), None)) };
    let total = fs.f_blocks.saturating_mul(fs.f_frsize);
    let free = free_of(&fs);
    let wanted = configured.unwrap_or((256 * MIB).min(total / 4)).max(MIN_RING);
    let ours = ring_bytes(dir);
    let possible = free.saturating_sub(keep_free).saturating_add(ours);
    if wanted <= possible {
        return Ok((wanted, None));
    }
    let room = format!(
        "{} has {} free and `ring.keep_free` leaves {} of them alone",
        dir.display(),
        binary(free),
        binary(keep_free)
    );
    if possible < MIN_RING && ours == 0 {
        return Err(format!("no room for a ring, which takes {} at least: {room}", binary(MIN_RING)));
    }
    let cap = possible.max(MIN_RING);
    let text = format!("the ring may take {} instead of {}: {room}", binary(cap), binary(wanted));
    Ok((cap, Some(text)))
}

/// Bytes of the file system that this user may still take.
pub fn free_bytes(dir: &Path) -> std::io::Result<u64> {
    Ok(free_of(&again(|| statvfs(dir))?))
}

fn free_of(fs: &StatVfs) -> u64 {
    fs.f_bavail.saturating_mul(fs.f_frsize)
}

fn ring_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let slots = entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with("slot-"));
    slots.filter_map(|e| e.metadata().ok()).map(|m| std::os::unix::fs::MetadataExt::blocks(&m) * 512).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_directory_names_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        let Err(LockError::Owned { pid, .. }) = lock(dir.path()) else { panic!("locked twice") };
        assert_eq!(pid, std::process::id().to_string());
        drop(held);
        assert!(lock(dir.path()).is_ok());
    }

    #[test]
    fn a_disk_smaller_than_the_ring_shrinks_it_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let (cap, text) = max_bytes(dir.path(), Some(1 << 60), 0).unwrap();
        assert!(cap < 1 << 60);
        assert!(text.unwrap().contains("instead of"));
        assert_eq!(max_bytes(dir.path(), Some(8 * MIB), 0), Ok((8 * MIB, None)));
    }

    #[test]
    fn without_room_for_the_smallest_ring_there_is_none_but_one_that_is_there_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let none = max_bytes(dir.path(), Some(8 * MIB), u64::MAX).unwrap_err();
        assert!(none.contains("no room for a ring") && none.contains("keep_free"), "{none}");
        std::fs::write(dir.path().join("slot-0000"), vec![1; 1 << 16]).unwrap();
        assert_eq!(max_bytes(dir.path(), Some(8 * MIB), u64::MAX).map(|(cap, _)| cap), Ok(MIN_RING));
    }

    #[test]
    fn the_binding_is_stable_and_the_seed_is_not() {
        assert_eq!(binding(), binding());
        assert_ne!(seed(), seed());
    }
}
