//! A block device that remembers every write and every flush, in order: QEMU's `blklogwrites` behind a file that is mounted
//! like any image. From what it remembers the device can be had as it may have stood at any moment, had the power gone.
//!
//! The log is that of Linux' dm-log-writes: a sector that begins with magic, version, number of entries (u64 each) and sector
//! size (u32); then for each entry a sector with its place, its length in sectors, flags and the length of a mark (u64 each),
//! and behind it the data. The number of entries is brought up to date with each flush, before the flush is answered.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::card::{MIB, tool};
use super::node::patience;

const MAGIC: u64 = 0x006a_7366_7773_6872;
pub const SECTOR: usize = 512;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

pub struct Recorded {
    home: TempDir,
    daemon: Child,
}

/// What was done to the device.
pub enum Done {
    Write {
        at: u64,
        data: Vec<u8>,
    },
    /// All that was answered before stands on the medium.
    Flush,
    /// What was there need not be there any more.
    Discard,
}

impl Recorded {
    /// None, and said so, where it cannot be had.
    pub fn new(mib: u64) -> Option<Recorded> {
        let home = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: u64| {
            let path = home.path().join(name);
            File::create(&path).unwrap().set_len(bytes).unwrap();
            path.display().to_string()
        };
        let (medium, log, device) = (file("medium", mib * MIB), file("log", 4096 * MIB), file("device", 0));
        let record = format!("driver=blklogwrites,node-name=recorded,file=medium,log=log,log-sector-size={SECTOR}");
        let export = format!("type=fuse,id=device,node-name=recorded,mountpoint={device},writable=on");
        let daemon = Command::new("qemu-storage-daemon")
            .args(["--blockdev", &format!("driver=file,node-name=medium,filename={medium}")])
            .args(["--blockdev", &format!("driver=file,node-name=log,filename={log}")])
            .args(["--blockdev", &record, "--export", &export])
            .stdin(Stdio::null())
            .spawn();
        let daemon = match daemon {
            Ok(daemon) => daemon,
            Err(why) => {
                println!("qemu-storage-daemon: not available here ({why})");
                return None;
            }
        };
        let mut recorded = Recorded { home, daemon };
        let end = Instant::now() + patience();
        while std::fs::metadata(recorded.device()).map_or(true, |device| device.len() == 0) {
            if let Some(status) = recorded.daemon.try_wait().unwrap() {
                println!("a recorded device: not available here (qemu-storage-daemon: {status})");
                return None;
            }
            assert!(Instant::now() < end, "no device appears");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(recorded)
    }

    /// The image to mount.
    pub fn device(&self) -> PathBuf {
        self.home.path().join("device")
    }

    pub fn bytes(&self) -> u64 {
        std::fs::metadata(self.home.path().join("medium")).unwrap().len()
    }

    pub fn log(&self) -> Log {
        Log::open(&self.home.path().join("log"))
    }

    /// How much was done, up to the newest flush that was answered at least.
    pub fn count(&self) -> usize {
        self.log().count()
    }
}

/// What `blklogwrites` wrote down.
pub struct Log(File);

impl Log {
    pub fn open(path: &Path) -> Log {
        Log(File::open(path).unwrap())
    }

    /// As [`Recorded::count`].
    pub fn count(&self) -> usize {
        let mut head = [0; 28];
        self.0.read_exact_at(&mut head, 0).unwrap();
        assert_eq!((word(&head, 0), word(&head, 1)), (MAGIC, 1), "a log of a format that is known");
        assert_eq!(head[24..28], (SECTOR as u32).to_le_bytes());
        word(&head, 2) as usize
    }

    /// All that was done to the device, oldest first.
    pub fn history(&self) -> Vec<Done> {
        let (log, count) = (&self.0, self.count());
        let mut at = SECTOR as u64;
        let mut history = Vec::with_capacity(count);
        for _ in 0..count {
            let mut head = [0; SECTOR];
            log.read_exact_at(&mut head, at).unwrap();
            let (place, sectors, flags) = (word(&head, 0), word(&head, 1), word(&head, 2));
            at += SECTOR as u64;
            history.push(match flags {
                FLUSH => Done::Flush,
                DISCARD => Done::Discard,
                0 => {
                    let mut data = vec![0; sectors as usize * SECTOR];
                    log.read_exact_at(&mut data, at).unwrap();
                    at += data.len() as u64;
                    Done::Write { at: place * SECTOR as u64, data }
                }
                flags => panic!("an entry with flags {flags:#x}"),
            });
        }
        history
    }
}

fn word(bytes: &[u8], n: usize) -> u64 {
    u64::from_le_bytes(bytes[n * 8..][..8].try_into().unwrap())
}

/// The device on its way through its history.
pub struct Replay<'a> {
    image: PathBuf,
    history: &'a [Done],
    /// Entries before here stand on the medium.
    settled: usize,
}

impl<'a> Replay<'a> {
    /// Of a device that was empty.
    pub fn new(home: &Path, bytes: u64, history: &'a [Done]) -> Self {
        let image = home.join("settled");
        File::create(&image).unwrap().set_len(bytes).unwrap();
        Self::from(image, history)
    }

    /// Of a device that was as this image, which goes along.
    pub fn from(image: PathBuf, history: &'a [Done]) -> Self {
        Self { image, history, settled: 0 }
    }

    /// The device as it may stand if the power goes when `cut` entries are behind it: all up to the newest flush, and of each
    /// write since then, of which `lands` gets the place and the length, the sectors that it names. Cuts go forward.
    pub fn cut(&mut self, cut: usize, to: &Path, mut lands: impl FnMut(u64, usize) -> Vec<bool>) {
        let flushed = self.history[..cut].iter().rposition(|done| matches!(done, Done::Flush)).unwrap_or(0);
        assert!(flushed >= self.settled, "backwards");
        let settled = File::options().write(true).open(&self.image).unwrap();
        for done in &self.history[self.settled..flushed] {
            if let Done::Write { at, data } = done {
                settled.write_all_at(data, *at).unwrap();
            }
        }
        self.settled = flushed;
        std::fs::copy(&self.image, to).unwrap();
        let image = File::options().write(true).open(to).unwrap();
        for done in &self.history[flushed..cut] {
            if let Done::Write { at, data } = done {
                let sectors = data.chunks(SECTOR).zip((*at..).step_by(SECTOR));
                for ((sector, at), _) in sectors.zip(lands(*at, data.len() / SECTOR)).filter(|(_, lands)| *lands) {
                    image.write_all_at(sector, at).unwrap();
                }
            }
        }
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // It takes its device away when it is asked to end.
        let _ = Command::new("kill").args(["-s", "TERM", &self.daemon.id().to_string()]).status();
        let end = Instant::now() + patience();
        while matches!(self.daemon.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = self.daemon.kill();
                let _ = self.daemon.wait();
                let _ = tool("umount", &["-l", &self.device().display().to_string()]);
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
