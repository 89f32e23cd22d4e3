//! What is around the board: an upstream on the host, a server that tells the time, and the card on a desk.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::card::Card;
use super::machine::word;
use super::node::{Node, config};

/// A node with an endpoint where the board's sink looks for its cluster: QEMU's network has the host at 10.0.2.2.
pub fn upstream() -> Node {
    let (sc, spu) = (word("upstream-sc"), word("upstream-spu"));
    let endpoint = format!(
        "[endpoint]\nsc_listen = \"127.0.0.1:{sc}\"\nspu_listen = \"127.0.0.1:{spu}\"\nadvertise = \"10.0.2.2:{spu}\"\n"
    );
    let mut node = Node::new(&config("upstream", &endpoint));
    node.start();
    node
}

/// Seconds from 1900 to 1970.
const NTP_ERA: u64 = 2_208_988_800;

/// Tells the host's time by SNTP (RFC 4330) at 10.0.2.2, to whom asks at port 123.
pub struct TimeServer {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TimeServer {
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:123").expect("port 123, as root, with no time server here");
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            let mut asked = [0; 48];
            while !end.load(Ordering::Relaxed) {
                if let Ok((48.., from)) = socket.recv_from(&mut asked) {
                    let _ = socket.send_to(&answer(&asked), from);
                }
            }
        });
        Self { ends, thread: Some(thread) }
    }
}

impl Drop for TimeServer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn answer(asked: &[u8; 48]) -> [u8; 48] {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    let now = ((since.as_secs() + NTP_ERA) << 32 | fraction).to_be_bytes();
    let mut out = [0; 48];
    // Version 4, a server, of stratum 1, precise to a microsecond.
    out[..4].copy_from_slice(&[0x24, 1, 6, 0xec]);
    out[12..16].copy_from_slice(b"TEST");
    out[16..24].copy_from_slice(&now);
    out[24..32].copy_from_slice(&asked[40..48]);
    out[32..40].copy_from_slice(&now);
    out[40..48].copy_from_slice(&now);
    out
}

/// Where partition `number` of a disk lies, and its length, in bytes; by its table (MBR).
pub fn partition(card: &Path, number: u64) -> (u64, u64) {
    let mut entry = [0; 16];
    let mut disk = std::fs::File::open(card).unwrap();
    disk.seek(SeekFrom::Start(446 + 16 * (number - 1))).unwrap();
    disk.read_exact(&mut entry).unwrap();
    let sectors = |at: usize| u64::from(u32::from_le_bytes(entry[at..at + 4].try_into().unwrap())) * 512;
    assert_ne!(sectors(12), 0, "{} has no partition {number}", card.display());
    (sectors(8), sectors(12))
}

/// The partition for data, the third, as a file of its own.
pub fn data_of(card: &Path, to: &Path) -> PathBuf {
    let (at, bytes) = partition(card, 3);
    let mut disk = std::fs::File::open(card).unwrap();
    disk.seek(SeekFrom::Start(at)).unwrap();
    let image = to.join("data.img");
    let mut file = std::fs::File::create(&image).unwrap();
    let copied = std::io::copy(&mut disk.take(bytes), &mut file).unwrap();
    assert_eq!(copied, bytes);
    file.flush().unwrap();
    image
}

/// The card of a machine that was shut down, its data mounted here.
pub fn on_the_desk(card: &Path) -> Card {
    let home = tempfile::tempdir().unwrap();
    let image = data_of(card, home.path());
    Card::mounted(home, "ext4", &image).expect("the data partition is mounted").with_data("")
}
