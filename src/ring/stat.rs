//! `headwater ring stat`: what a ring holds, in numbers. Nothing is written.

use serde::Serialize;

use super::core::Ring;
use super::format::NEWEST;
use super::*;

/// What a ring holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stat {
    /// In hexadecimal; empty: there is no ring.
    pub ring: String,
    /// The newest version of the format that this program reads and writes.
    pub format: u8,
    /// Number of the newest boot that wrote it.
    pub boot: u32,
    pub clean_shutdown: bool,
    /// The newest commit may be missing: it cannot be told from one that never was.
    pub tail_unknown: bool,
    pub slots: SlotsStat,
    /// Those that slots are encrypted under.
    pub keys: Vec<KeyStat>,
    pub lanes: Vec<LaneStat>,
    pub topics: Vec<TopicStat>,
    pub owners: Vec<OwnerStat>,
    pub life: LifeStat,
    /// What the node would say at its start.
    pub notes: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SlotsStat {
    pub slot_bytes: u64,
    pub files: u32,
    /// Files that hold frames, those of the journal among them.
    pub used: u32,
    /// Files of the journal.
    pub journal: u32,
    /// Files that are written over first.
    pub free: u32,
    /// Files that are neither: another ring's, a later format's.
    pub set_aside: u32,
    /// Bytes of all slot files.
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyStat {
    /// In hexadecimal.
    pub id: String,
    pub slots: u32,
    /// False: what these slots hold was not decrypted.
    pub given: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LaneStat {
    pub lane: u8,
    pub slots: u32,
    /// Records that can still be read, those that are damaged among them.
    pub records: u64,
    pub admitted: u64,
    pub evicted: u64,
    pub corrupt: u64,
    pub lost_unsynced: u64,
    pub oldest: LanePos,
    /// One past the newest durable record.
    pub end: LanePos,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopicStat {
    pub name: String,
    pub id: u16,
    pub lane: u8,
    pub partitions: Vec<PartitionStat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionStat {
    /// The first offset that can still be read.
    pub earliest: u64,
    /// One past the last.
    pub end: u64,
}

/// State entries of one owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnerStat {
    pub kind: OwnerKind,
    pub name: String,
    pub entries: u64,
    /// Keys and values together.
    pub bytes: u64,
}

/// Over the ring's life: what the last clean shutdown or snapshot says, and the frames since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LifeStat {
    pub logical_bytes: u64,
    pub stored_bytes: u64,
    pub padded_bytes: u64,
    pub synced_bytes: u64,
    pub last_commit: u64,
}

/// Opens a ring to look at it: whatever its lanes, whosever it is.
pub(super) fn look(disk: &mut dyn Disk, keys: &Keys) -> Result<(Ring, Report), DiskError> {
    let lanes = Vec::new();
    let (binding, boot_id) = ([0; 16], [0; 16]);
    let (linger, keys, formats) = (Span::from_secs(1), keys.clone(), Formats::default());
    let options = Options { max_bytes: u64::MAX, lanes, linger, binding, boot_id, seed: 0, keys, formats };
    Ring::open_read_only(disk, options)
}

/// What the ring on this disk holds; without the keys for it, what can be told without. `pause` is asked whether a node may be writing meanwhile, as for `verify`.
pub fn stat(disk: &mut dyn Disk, keys: &Keys, pause: &mut dyn FnMut() -> bool) -> Result<Stat, DiskError> {
    let files = disk.list()?;
    let super::live::Looked { ring, report, .. } = super::live::look_again(disk, keys, pause)?;
    let newest = ring.own_slots().max_by_key(|s| s.generation);
    let used = ring.own_slots().count() as u32;
    let (all, free) = (files.len() as u32, ring.slots.free.len() as u32);
    let topics = ring.topic_ids().into_iter().filter_map(|id| ring.topic(id));
    let topic = |t: TopicInfo| TopicStat {
        name: t.name.to_string(),
        id: t.id.0,
        lane: t.lane.0,
        partitions: t.partitions.iter().map(|p| PartitionStat { earliest: p.earliest, end: p.durable_end }).collect(),
    };
    Ok(Stat {
        ring: newest.map_or(String::new(), |s| format!("{:032x}", s.ring.0)),
        format: NEWEST,
        boot: newest.map_or(0, |_| ring.boot),
        clean_shutdown: report.clean_shutdown,
        tail_unknown: report.tail_unknown,
        slots: SlotsStat {
            slot_bytes: newest.map_or(0, |_| ring.slots.slot_bytes.into()),
            files: all,
            used,
            journal: ring.journal.slots.len() as u32,
            free,
            set_aside: all.saturating_sub(used + free),
            bytes: files.iter().map(|f| f.1).sum(),
        },
        keys: report.keys.iter().map(key_stat).collect(),
        lanes: lanes(&ring),
        topics: topics.map(topic).collect(),
        owners: owners(&ring),
        life: LifeStat {
            logical_bytes: ring.life.logical,
            stored_bytes: ring.life.stored,
            padded_bytes: ring.life.padded,
            synced_bytes: ring.life.synced,
            last_commit: ring.last_commit,
        },
        notes: report.notes,
    })
}

pub(super) fn key_stat(key: &KeyUse) -> KeyStat {
    KeyStat { id: format!("{:08x}", key.id), slots: key.slots, given: key.given }
}

/// The lanes that were ever used.
fn lanes(ring: &Ring) -> Vec<LaneStat> {
    let used = ring.lanes.iter().filter(|l| !l.log.slots.is_empty() || l.counters.admitted > 0);
    let lane = |l: &super::slots::Lane| LaneStat {
        lane: l.id.0,
        slots: l.log.slots.len() as u32,
        records: l.durable.ordinal - l.oldest.ordinal,
        admitted: l.counters.admitted,
        evicted: l.counters.evicted,
        corrupt: l.counters.corrupt,
        lost_unsynced: l.counters.lost_unsynced,
        oldest: l.oldest,
        end: l.durable,
    };
    used.map(lane).collect()
}

fn owners(ring: &Ring) -> Vec<OwnerStat> {
    let mut all: Vec<OwnerStat> = Vec::new();
    for (owner, key, value) in ring.state.durable() {
        let bytes = (key.len() + value.len()) as u64;
        match all.last_mut().filter(|o| o.kind == owner.kind && o.name == owner.name.as_str()) {
            Some(same) => (same.entries, same.bytes) = (same.entries + 1, same.bytes + bytes),
            None => all.push(OwnerStat { kind: owner.kind, name: owner.name.to_string(), entries: 1, bytes }),
        }
    }
    all
}
