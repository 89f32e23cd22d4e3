//! The batch of a lane, and how it becomes the bytes of a frame.
//!
//! A record's bytes are copied once, into the batch. At sealing the records are brought into partition order (a
//! stable gather, skipped when they already are), so that a frame has one run per partition: a short directory, a
//! better compression, and a partition's reader touches one stretch. Seqs are given then. Buffers come from pools and
//! go back to them: in the steady state nothing here allocates.

use crate::codec::resize_with_zeros;
use std::sync::Arc;

use super::cipher::{Keys, Part as Section, TAG};
use super::format::{
    Codec, FRAME_HEADER, FrameHeader, FrameKind, MAX_RUNS, PREV_COUNT, PrevCount, RUN, Run, XCHACHA20_POLY1305, pages,
    without_checksums,
};
use super::frame::Frame;
use super::state::{Put, append_entry};
use super::topics::Part;
use super::wire::append_record;
use super::{RingId, SlotId, Ticket};
use crate::lane::LaneId;
use crate::limits::{MAX_LANES, PAGE};
use crate::record::RecordRef;
use crate::time::BootTime;
use crate::topic::TopicPart;

/// Below this a state section is not worth a compressor's call.
const STATE_ZSTD_MIN: usize = 512;

/// Consecutive records of one partition, in order of arrival.
#[derive(Clone, Copy, Debug)]
struct Segment {
    part: u16,
    start: u32,
    end: u32,
}

#[derive(Clone, Copy, Debug)]
struct PartAcc {
    part: TopicPart,
    first_offset: u64,
    count: u32,
    bytes: u32,
}

/// What was given to a lane since its last frame.
#[derive(Debug, Default)]
pub struct Batch {
    pub raw: Vec<u8>,
    segments: Vec<Segment>,
    parts: Vec<PartAcc>,
    pub records: u32,
    base: BootTime,
    last_time: BootTime,
    pub state: Vec<Put>,
    pub state_bytes: usize,
    /// Of its first item; meaningless while the batch is empty.
    pub first_ticket: Ticket,
    /// When it must be handed to the disk; None: empty.
    pub deadline: Option<BootTime>,
    /// When its first item came.
    pub since: BootTime,
    /// Somebody waits for it.
    pub hurried: bool,
    /// Different for every batch of the process: tells a partition whether its `index` is this batch's.
    stamp: u64,
}

impl Batch {
    pub fn new(stamp: u64) -> Self {
        Self { stamp, ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.records == 0 && self.state.is_empty()
    }

    /// The batch has its first item: due at `deadline`.
    pub fn begin(&mut self, now: BootTime, ticket: Ticket, deadline: BootTime) {
        (self.first_ticket, self.since, self.deadline) = (ticket, now, Some(deadline));
    }

    /// Room for another partition.
    pub fn takes(&self, slot: &Part) -> bool {
        slot.stamp == self.stamp || self.parts.len() < MAX_RUNS
    }

    /// It has records of so many partitions that a group may not find room for its own.
    pub fn is_crowded(&self) -> bool {
        self.parts.len() > MAX_RUNS - MAX_RUNS / 8
    }

    /// Adds one record; `part` is its partition's entry in the topic table, whose `next` is its offset.
    pub fn push(&mut self, id: TopicPart, part: &mut Part, record: &RecordRef<'_>) {
        if self.records == 0 {
            self.base = record.admitted;
        }
        let start = self.raw.len() as u32;
        append_record(&mut self.raw, self.base, record);
        let end = self.raw.len() as u32;
        if part.stamp != self.stamp {
            part.stamp = self.stamp;
            part.index = self.parts.len() as u16;
            self.parts.push(PartAcc { part: id, first_offset: part.info.next, count: 0, bytes: 0 });
        }
        let acc = &mut self.parts[part.index as usize];
        acc.count += 1;
        acc.bytes += end - start;
        match self.segments.last_mut() {
            Some(last) if last.part == part.index => last.end = end,
            _ => self.segments.push(Segment { part: part.index, start, end }),
        }
        part.info.next += 1;
        self.records += 1;
        self.last_time = self.last_time.max(record.admitted);
    }

    /// Adds a state entry; gives back the one of the same key that it replaces in this batch.
    pub fn put(&mut self, put: Put) -> Option<Put> {
        let same = self.state.iter_mut().find(|p| p.key == put.key && p.owner == put.owner);
        self.state_bytes += put.weight();
        match same {
            Some(old) => {
                self.state_bytes -= old.weight();
                Some(std::mem::replace(old, put))
            }
            None => {
                self.state.push(put);
                None
            }
        }
    }

    /// Moves the records into `frame` in partition order and leaves the batch empty under a new stamp.
    fn drain_into(&mut self, frame: &mut Frame, first_seq: u64, stamp: u64) {
        frame.runs.clear();
        frame.raw.clear();
        let (mut seq, mut byte) = (first_seq, 0u32);
        for acc in &self.parts {
            let end = byte + acc.bytes;
            let (part, count, first_offset) = (acc.part, acc.count, acc.first_offset);
            frame.runs.push(Run { part, count, first_seq: seq, first_offset, start: byte, end });
            seq += u64::from(count);
            byte = end;
        }
        if self.segments.len() == self.parts.len() {
            std::mem::swap(&mut frame.raw, &mut self.raw);
        } else {
            self.gather(frame);
        }
        self.raw.clear();
        self.segments.clear();
        self.parts.clear();
        (self.records, self.stamp, self.deadline, self.hurried) = (0, stamp, None, false);
        (self.state_bytes, self.last_time) = (0, BootTime::default());
    }

    /// Copies the segments behind one another, partition by partition.
    fn gather(&mut self, frame: &mut Frame) {
        resize_with_zeros(&mut frame.raw, self.raw.len());
        let mut at = [0u32; MAX_RUNS];
        for (at, run) in at.iter_mut().zip(&frame.runs) {
            *at = run.start;
        }
        for s in &self.segments {
            let to = at[s.part as usize] as usize;
            let bytes = &self.raw[s.start as usize..s.end as usize];
            frame.raw[to..to + bytes.len()].copy_from_slice(bytes);
            at[s.part as usize] += s.end - s.start;
        }
    }
}

/// A frame whose content is final and whose place is not: slot, generation and position come with `place`, and
/// again, with the same commit number and seqs, when its sync failed.
#[derive(Debug)]
pub struct Sealed {
    pub header: FrameHeader,
    /// The records, for readers once they are durable; None in a meta frame.
    pub frame: Option<Arc<Frame>>,
    pub state: Vec<Put>,
    /// Header space, directory, payload, state, padding. Away while a write is under way; from its placing on, encrypted
    /// where the ring is.
    pub buf: Vec<u8>,
    pub prev: Vec<PrevCount>,
    pub first_ticket: Ticket,
    /// Somebody waits for it.
    pub hurried: bool,
    /// What it counts against the unsynced limit.
    pub weight: usize,
}

/// What every new frame's header begins with.
pub struct Stamp {
    /// Of the format.
    pub version: u8,
    pub ring: RingId,
    pub boot: u32,
    pub session: u32,
    pub commit: u64,
    pub prev_commit: u64,
    pub first_seq: u64,
    pub now: BootTime,
    pub flags: u16,
    /// `admitted` of each lane, this frame's records included.
    pub admitted: [u64; MAX_LANES],
}

impl Stamp {
    pub fn header(&self, kind: FrameKind, lane: LaneId) -> FrameHeader {
        let mut lanes = [super::format::Counters::default(); MAX_LANES];
        for (lane, admitted) in lanes.iter_mut().zip(self.admitted) {
            lane.admitted = admitted;
        }
        FrameHeader {
            version: self.version,
            kind,
            flags: self.flags,
            codec: Codec::Raw,
            cipher: 0,
            lane,
            state_codec: Codec::Raw,
            key_id: 0,
            ring: self.ring,
            generation: 0,
            slot: SlotId(0),
            runs: 0,
            prev_counts: 0,
            part: 0,
            parts: 0,
            at: 0,
            frame_len: 0,
            commit: self.commit,
            prev_commit: self.prev_commit,
            synced_through: 0,
            copy_first: 0,
            first_seq: self.first_seq,
            records: 0,
            boot: self.boot,
            session: self.session,
            raw_len: 0,
            stored_len: 0,
            state_raw: 0,
            state_stored: 0,
            directory_crc: 0,
            payload_crc: 0,
            state_crc: 0,
            sealed_at: self.now.0,
            first_time: 0,
            last_time: 0,
            nonce: [0; 24],
            lanes,
            copy_span: 0,
        }
    }
}

/// The compressor, the cipher, and the buffers that go round.
pub struct Press {
    keys: Keys,
    zstd: zstd::bulk::Compressor<'static>,
    out: Vec<u8>,
    state_raw: Vec<u8>,
    bufs: Vec<Vec<u8>>,
    frames: Vec<Arc<Frame>>,
    states: Vec<Vec<Put>>,
    prevs: Vec<Vec<PrevCount>>,
}

/// Buffers kept for reuse; a burst's surplus is given back to the allocator.
const POOL: usize = 4;
/// A buffer grown beyond this by one large record is not kept.
const POOL_BYTES: usize = 160 * 1024;

/// The most room that a frame of so many bytes may keep.
pub fn roomy(bytes: usize) -> usize {
    PAGE.max(4 * bytes)
}

impl Press {
    pub fn new(keys: Keys) -> Result<Self, std::io::Error> {
        Ok(Self {
            keys,
            zstd: zstd::bulk::Compressor::new(1)?,
            out: Vec::new(),
            state_raw: Vec::new(),
            bufs: Vec::new(),
            frames: Vec::new(),
            states: Vec::new(),
            prevs: Vec::new(),
        })
    }

    pub fn recycle_buf(&mut self, buf: Vec<u8>) {
        if self.bufs.len() < POOL && buf.capacity() <= POOL_BYTES {
            self.bufs.push(buf);
        }
    }

    pub fn buf(&mut self) -> Vec<u8> {
        self.bufs.pop().unwrap_or_default()
    }

    /// Takes a frame back if nobody reads it any more.
    pub fn recycle_frame(&mut self, mut frame: Arc<Frame>) {
        let room = self.frames.len() < POOL;
        if room && Arc::get_mut(&mut frame).is_some_and(|f| f.raw.capacity() <= POOL_BYTES) {
            self.frames.push(frame);
        }
    }

    /// A frame that nobody else holds, with room for `bytes` and not for much more.
    pub fn small_frame(&mut self, bytes: usize) -> Arc<Frame> {
        let fits = |frame: &Arc<Frame>| (bytes..=roomy(bytes)).contains(&frame.raw.capacity());
        let found = self.frames.iter().position(fits);
        found.map(|at| self.frames.swap_remove(at)).unwrap_or_default()
    }

    /// A frame that nobody else holds.
    pub fn frame(&mut self) -> Arc<Frame> {
        self.frames.pop().unwrap_or_default()
    }

    /// Takes what a durable frame no longer needs.
    pub fn recycle(&mut self, mut sealed: Sealed) {
        self.recycle_buf(std::mem::take(&mut sealed.buf));
        if self.states.len() < POOL {
            sealed.state.clear();
            self.states.push(sealed.state);
            sealed.prev.clear();
            self.prevs.push(sealed.prev);
        }
    }

    /// Turns the batch into a frame and leaves it empty. `prev` are the counts of the commit before.
    pub fn seal(&mut self, batch: &mut Batch, lane: LaneId, stamp: &Stamp, prev: &[PrevCount], next: u64) -> Sealed {
        let kind = if batch.records == 0 { FrameKind::Meta } else { FrameKind::Lane };
        let mut header = stamp.header(kind, lane);
        header.records = batch.records;
        (header.first_time, header.last_time) = (batch.base.0, batch.last_time.0);
        let mut state = self.states.pop().unwrap_or_default();
        std::mem::swap(&mut state, &mut batch.state);
        let (mut arc, hurried) = (self.frame(), batch.hurried);
        let mut frame = None;
        if let Some(f) = Arc::get_mut(&mut arc) {
            batch.drain_into(f, stamp.first_seq, next);
            f.describe(&header);
            frame = Some(arc).filter(|_| kind == FrameKind::Lane);
        }
        let mut counts = self.prevs.pop().unwrap_or_default();
        counts.extend_from_slice(prev);
        let (buf, first_ticket) = (self.buf(), batch.first_ticket);
        let mut sealed = Sealed { header, frame, state, buf, prev: counts, first_ticket, hurried, weight: 0 };
        self.encode(&mut sealed);
        sealed
    }

    /// A frame of state bytes that are already encoded (a part of a snapshot).
    pub fn encode_section(&mut self, header: &mut FrameHeader, section: &[u8], buf: &mut Vec<u8>) {
        self.pack(header, &[], &[], &[], section, buf);
    }

    /// The copy of records that stand in the journal; `header` says which.
    pub fn encode_copy(&mut self, header: &mut FrameHeader, frame: &Frame, buf: &mut Vec<u8>) {
        self.pack(header, &frame.runs, &[], &frame.raw, &[], buf);
    }

    /// Builds `buf`, all but the header; again if the writer lost it.
    pub fn encode(&mut self, sealed: &mut Sealed) {
        let mut section = std::mem::take(&mut self.state_raw);
        section.clear();
        for put in &sealed.state {
            append_entry(&mut section, &put.owner, &put.key, put.value.as_deref());
        }
        let mut buf = std::mem::take(&mut sealed.buf);
        let (runs, raw) = sealed.frame.as_ref().map_or((&[][..], &[][..]), |f| (&f.runs, &f.raw));
        self.pack(&mut sealed.header, runs, &sealed.prev, raw, &section, &mut buf);
        sealed.weight = raw.len() + buf.len();
        sealed.buf = buf;
        self.state_raw = section;
    }

    fn pack(
        &mut self,
        header: &mut FrameHeader,
        runs: &[Run],
        prev: &[PrevCount],
        raw: &[u8],
        section: &[u8],
        buf: &mut Vec<u8>,
    ) {
        buf.clear();
        resize_with_zeros(buf, FRAME_HEADER + runs.len() * RUN + prev.len() * PREV_COUNT);
        let (run_bytes, prev_bytes) = buf[FRAME_HEADER..].split_at_mut(runs.len() * RUN);
        runs.iter().zip(run_bytes.chunks_exact_mut(RUN)).for_each(|(r, out)| r.emit(out));
        prev.iter().zip(prev_bytes.chunks_exact_mut(PREV_COUNT)).for_each(|(p, out)| p.emit(out));
        header.runs = runs.len() as u16;
        header.prev_counts = prev.len() as u16;
        header.raw_len = raw.len() as u32;
        header.state_raw = section.len() as u32;
        // A frame of neither is in clear: there is nothing to encrypt.
        header.key_id = if raw.is_empty() && section.is_empty() { 0 } else { self.keys.current() };
        header.cipher = if header.key_id == 0 { 0 } else { XCHACHA20_POLY1305 };
        (header.codec, header.stored_len) = self.squeeze(raw, 0, buf);
        header.stored_len += tag(header, raw, buf);
        (header.state_codec, header.state_stored) = self.squeeze(section, STATE_ZSTD_MIN, buf);
        header.state_stored += tag(header, section, buf);
        header.frame_len = pages(buf.len()) as u32;
        resize_with_zeros(buf, header.frame_len as usize);
    }

    /// Appends `raw`, compressed when that is smaller.
    fn squeeze(&mut self, raw: &[u8], least: usize, buf: &mut Vec<u8>) -> (Codec, u32) {
        let bound = zstd::zstd_safe::compress_bound(raw.len());
        if self.out.len() < bound {
            resize_with_zeros(&mut self.out, bound);
        }
        let packed = if raw.is_empty() || raw.len() < least {
            None
        } else {
            self.zstd.compress_to_buffer(raw, &mut self.out[..]).ok().filter(|n| *n < raw.len())
        };
        if self.out.len() > POOL_BYTES {
            let keep = packed.unwrap_or(0);
            buf.extend_from_slice(&self.out[..keep]);
            self.out = Vec::new();
        } else {
            buf.extend_from_slice(&self.out[..packed.unwrap_or(0)]);
        }
        match packed {
            Some(n) => (Codec::Zstd, n as u32),
            None => {
                buf.extend_from_slice(raw);
                (Codec::Raw, raw.len() as u32)
            }
        }
    }
}

/// Room for the tag of a section.
fn tag(header: &FrameHeader, raw: &[u8], buf: &mut Vec<u8>) -> u32 {
    let room = if header.cipher == 0 || raw.is_empty() { 0 } else { TAG };
    let len = buf.len() + room;
    resize_with_zeros(buf, len);
    room as u32
}

impl Press {
    /// Has a frame be of its slot's version of the format: one that was sealed in another is packed again.
    pub fn recast(&mut self, sealed: &mut Sealed, version: u8) {
        if sealed.header.version != version {
            sealed.header.version = version;
            self.encode(sealed);
        }
    }

    /// Whether the encoding of a frame that was placed is of no use for another place.
    pub fn encrypts(&self) -> bool {
        self.keys.current() != 0
    }

    /// Gives an encoded frame its place: the header's last fields, the cipher, and every checksum.
    pub fn place(&self, header: &mut FrameHeader, buf: &mut [u8]) {
        let (payload, state, used) = (header.payload_at(), header.state_at(), header.used());
        if let Some(lock) = self.keys.fresh().filter(|_| header.cipher != 0) {
            header.nonce = lock.nonce;
            header.emit(buf);
            without_checksums(buf);
            let (bound, rest) = buf.split_at_mut(payload);
            let (of_payload, rest) = rest.split_at_mut(state - payload);
            for (section, bytes) in [(Section::Payload, of_payload), (Section::State, &mut rest[..used - state])] {
                if !bytes.is_empty() {
                    lock.seal(section, bound, bytes);
                }
            }
        }
        let seed = header.crc_seed();
        header.directory_crc = crc32c::crc32c_append(seed, &buf[FRAME_HEADER..payload]);
        header.payload_crc = crc32c::crc32c_append(seed, &buf[payload..state]);
        header.state_crc = crc32c::crc32c_append(seed, &buf[state..used]);
        header.emit(buf);
    }
}
