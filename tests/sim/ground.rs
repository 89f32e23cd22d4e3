//! What both worlds stand on: a ring that comes back from a disk that crashes, held against the model, and the ways in
//! which that disk is made to fail.

use headwater::backoff::Rng;
use headwater::lane::LaneId;
use headwater::ring::{DiskErrorKind, FileId, Health, Options, Owner, ReadStep, Report, Ring, Stats, Ticket};
use headwater::time::BootTime;

use crate::disk::{Armed, Call, Crash, SimDisk};
use crate::fault::Fault;
use crate::model::{Check, Model, Violation, ensure};
use crate::threads::Threads;

/// The parts of a world that a ring stands on, borrowed for one errand.
pub struct Ground<'a> {
    pub threads: &'a mut Threads,
    pub model: &'a mut Model,
    pub rng: &'a mut Rng,
    pub now: BootTime,
}

impl Ground<'_> {
    /// Brings the ring back; where it `may_fail`, the machine crashes again on the way now and then.
    pub fn recover(&mut self, options: &Options, may_fail: bool) -> Check<(Ring, Report)> {
        let mut tries = 0;
        loop {
            tries += 1;
            if tries < 4 && may_fail {
                match self.rng.below(12) {
                    0..2 => self.threads.disk.light_fuse(self.rng.below(60) as u32, Crash::Power),
                    2 => self.threads.disk.light_fuse(self.rng.below(60) as u32, Crash::Process),
                    3 => arm(self.rng, &mut self.threads.disk),
                    _ => {}
                }
            }
            let outcome = Ring::recover(&mut self.threads.disk, options.clone());
            if let Some(crash) = self.threads.disk.dead() {
                self.threads.disk.tape.hit(Fault::CrashInRecovery);
                drop(outcome);
                self.threads.disk.crash(crash);
                continue;
            }
            self.taint_failed_reads();
            match outcome {
                Ok(done) => {
                    self.threads.disk.calm();
                    return Ok(done);
                }
                Err(error) => {
                    ensure!(tries < 8, "recovery fails on a disk that works: {error}");
                    self.threads.disk.calm();
                }
            }
        }
    }

    fn taint(&mut self, file: FileId, from: u64, to: u64) {
        self.model.taint(file, from, to);
        self.threads.taint(file, from, to);
    }

    /// Places that could not be read may be announced as corrupt.
    pub fn taint_failed_reads(&mut self) {
        for (file, from, to) in self.threads.disk.take_failed_reads() {
            self.taint(file, from, to);
        }
    }

    /// After a recovery: every state entry is what the model allows. The newest ticket of the ended life whose entry is
    /// there, for [`Ground::audit_lanes`].
    pub fn audit_states(&mut self, ring: &Ring, owner: impl Fn(u8) -> Owner) -> Check<u64> {
        let mut newest = 0;
        for key in self.model.state_keys() {
            let value = ring.state(&owner(key.0), &key.1).map(<[u8]>::to_vec);
            let fresh = self.model.recovered_state(&key, value.as_deref())?;
            newest = newest.max(fresh.unwrap_or(0));
        }
        Ok(newest)
    }

    /// After a recovery: what every lane holds is what the model allows. `newest_state`: see [`Model::audited`].
    pub fn audit_lanes(&mut self, ring: &mut Ring, newest_state: u64) -> Check {
        let stats = ring.stats();
        for (lane, l) in stats.lanes.iter().enumerate() {
            self.model.recovered_lane(lane, l.admitted, l.oldest.ordinal)?;
        }
        for lane in 0..stats.lanes.len() {
            let from = self.model.first_unknown(lane);
            self.audit(ring, lane, from)?;
            // Reading on lets the ring write on, which may evict.
            let oldest = ring.stats().lanes[lane].oldest.ordinal;
            self.model.audited(lane, oldest, newest_state)?;
        }
        Ok(())
    }

    /// Reads a lane from `from` (or from the place before it that is known) to its end.
    pub fn audit(&mut self, ring: &mut Ring, lane: usize, from: u64) -> Check {
        let start = self.model.place(lane, from);
        let mut reader = ring.lane_reader(LaneId(lane as u8), start);
        let mut guard = 0u32;
        loop {
            guard += 1;
            ensure!(guard < 100_000, "lane {lane}: the reader does not come to an end");
            let before = reader.pos;
            match ring.read_lane(&mut reader) {
                ReadStep::Frame(frame) => {
                    let mut pos = before;
                    for entry in frame.entries_from(before.seq) {
                        pos = self.model.shown(lane, pos, &entry, frame.ring_id(), frame.boot())?;
                    }
                    ensure!(pos.ordinal > before.ordinal, "lane {lane}: a frame without records at {before:?}");
                    reader.pos = frame.end();
                }
                ReadStep::Gap(gap) => {
                    let oldest = ring.stats().lanes[lane].oldest.ordinal;
                    self.model.gap(&gap, before, reader.pos, oldest)?;
                }
                ReadStep::Wait => self.read_on(ring)?,
                ReadStep::End => {
                    let durable = ring.stats().lanes[lane].durable;
                    ensure!(
                        before.ordinal == durable.ordinal,
                        "lane {lane}: end at #{}, durable to #{}",
                        before.ordinal,
                        durable.ordinal
                    );
                    return Ok(());
                }
            }
        }
    }

    /// Hands the ring's commands to the threads.
    pub fn poll(&mut self, ring: &mut Ring) -> Check {
        for _ in 0..MAX_COMMANDS {
            let Some(command) = ring.poll(self.now) else { return Ok(()) };
            self.threads.give(command, self.rng);
            for file in self.threads.take_begun() {
                self.model.overwrite(file);
            }
        }
        Err(Violation("poll does not come to an end".into()))
    }

    /// A turn of the reader thread, with nothing else in between.
    pub fn read_on(&mut self, ring: &mut Ring) -> Check {
        self.poll(ring)?;
        if !self.threads.is_reading()
            && let Some(at) = ring.next_timeout()
        {
            // A read that failed is tried again later.
            self.now = self.now.max(at);
            self.poll(ring)?;
        }
        self.threads.run_reader();
        self.taint_failed_reads();
        while let Some(done) = self.threads.finished_read() {
            ring.complete(self.now, done);
        }
        Ok(())
    }

    /// Destroys something that is on the device.
    pub fn rot(&mut self) {
        if self.rng.below(6) == 0 {
            let _ = self.threads.disk.rot(FileId::Root, 0, 8192);
            return;
        }
        let spare = if self.rng.below(5) == 0 { 0 } else { 3 };
        let Some(target) = self.model.target(self.rng.next_u64(), spare) else { return };
        let (at, len) = match self.rng.below(8) {
            0 => (0, 4096), // the slot's own header
            _ => (target.from, target.to - target.from),
        };
        if let Some(range) = self.threads.disk.rot(target.file, at, len) {
            if std::env::var_os("HEADWATER_TRACE").is_some() {
                eprintln!("rot of {:?} {range:?}", target.file);
            }
            self.taint(target.file, range.start, range.end);
        }
    }
}

/// What both worlds run: a ring over the disk threads, whatever stands upon it.
pub trait Turns {
    fn threads(&mut self) -> &mut Threads;
    fn ring_now(&mut self) -> &Ring;
    /// Gives the ring's commands to the threads.
    fn poll(&mut self) -> Check;
    /// Gives the ring one thing that they finished.
    fn deliver_one(&mut self) -> Check;
    fn crash(&mut self, crash: Crash) -> Check;
    /// Time passes, at least to when the ring has something to do.
    fn sleep(&mut self);

    /// A fuse that burnt down, or a ring that gave up.
    fn mind_the_disk(&mut self) -> Check {
        if let Some(crash) = self.threads().disk.dead() {
            return self.crash(crash);
        }
        let health = self.ring_now().health();
        if matches!(health, Health::Failed(_)) {
            ensure!(self.threads().squeezed, "the ring failed although the disk did not: {health:?}");
            return self.crash(Crash::Process);
        }
        Ok(())
    }

    /// Nothing fails any more: everything given becomes durable.
    fn settle_all(&mut self) -> Check {
        self.threads().disk.calm();
        self.threads().stalled = 0;
        for _ in 0..2_000 {
            self.poll()?;
            self.threads().run_all();
            // A crash may have come inside the last call before all was calm.
            while !self.threads().idle() && self.threads().disk.dead().is_none() {
                self.deliver_one()?;
                self.poll()?;
                self.threads().run_all();
            }
            self.mind_the_disk()?;
            let ring = self.ring_now();
            if ring.settled() == ring.last_ticket() {
                return Ok(());
            }
            self.sleep();
        }
        let ring = self.ring_now();
        let (settled, last, health, stats) = (ring.settled(), ring.last_ticket(), ring.health(), ring.stats());
        let what = format!("settled stays at {settled:?} of {last:?} although the disk works: {health:?} {stats:?}");
        Err(Violation(what))
    }

    /// Until the ring that was closed with this ticket has come to its end.
    fn wait_closed(&mut self, ticket: Ticket) -> Check {
        for _ in 0..1000 {
            self.poll()?;
            self.threads().run_all();
            if self.threads().idle() {
                // The ring waits before it tries again what failed.
                self.sleep();
            } else {
                self.deliver_one()?;
            }
            if self.ring_now().settled() >= ticket {
                break;
            }
        }
        let ring = self.ring_now();
        let (settled, timeout, health, stats) = (ring.settled(), ring.next_timeout(), ring.health(), ring.stats());
        ensure!(settled >= ticket, "settled stays at {settled:?} before {ticket:?}: {timeout:?} {health:?} {stats:?}");
        self.threads().disk.tape.hit(Fault::CleanRestart);
        Ok(())
    }
}

/// The process ends, or the power with it.
pub fn any_crash(rng: &mut Rng) -> Crash {
    if rng.below(2) == 0 { Crash::Process } else { Crash::Power }
}

/// Per lane the oldest ordinal and the count of evictions, as they were last.
#[derive(Default)]
pub struct GivenFree(Vec<(u64, u64)>);

impl GivenFree {
    pub fn new(stats: &Stats) -> Self {
        Self(stats.lanes.iter().map(|l| (l.oldest.ordinal, l.evicted)).collect())
    }

    /// What was given free since without being counted as evicted lies below every cursor that would survive a crash:
    /// `passed` gives the lowest one of a lane.
    pub fn check(&mut self, stats: &Stats, passed: impl Fn(usize) -> u64) -> Check {
        for (lane, now) in stats.lanes.iter().enumerate() {
            let (oldest, evicted) = self.0[lane];
            let unread = now.oldest.ordinal.saturating_sub(passed(lane).max(oldest));
            ensure!(
                now.evicted - evicted >= unread,
                "lane {lane}: {unread} records that a sink may yet ask for were given free, {} counted as evicted",
                now.evicted - evicted
            );
            self.0[lane] = (now.oldest.ordinal, now.evicted);
        }
        Ok(())
    }
}

/// Commands of one turn; more would be work without a bound.
pub const MAX_COMMANDS: usize = 10_000;

/// An error that waits for its call.
pub fn arm(rng: &mut Rng, disk: &mut SimDisk) {
    let (on, within) = match rng.below(12) {
        0..3 => (Call::Write, 6),
        3..6 => (Call::Sync, 6),
        6..8 => (Call::Create, 1),
        8..11 => (Call::Read, 3),
        11 if rng.below(2) == 0 => (Call::Remove, 1),
        _ => (Call::List, 1),
    };
    let kind = match (on, rng.below(4)) {
        (Call::Read, _) => DiskErrorKind::Io,
        (_, 0) => DiskErrorKind::NoSpace,
        (_, 1) => DiskErrorKind::ReadOnly,
        _ => DiskErrorKind::Io,
    };
    let times = match rng.below(5) {
        0 => 2 + rng.below(6) as u32,
        _ => 1,
    };
    let after = rng.below(within) as u32;
    disk.arm(Armed { on, after, kind, times });
}

/// One of the many ways in which a disk fails.
pub fn disk_fault(ground: &mut Ground<'_>, pick: u64) -> Option<Crash> {
    match pick {
        0..2 => return Some(Crash::Process),
        2..4 => return Some(Crash::Power),
        4..7 => {
            let crash = if ground.rng.below(3) == 0 { Crash::Process } else { Crash::Power };
            ground.threads.disk.light_fuse(ground.rng.below(12) as u32, crash);
        }
        7..10 => {
            ground.threads.stalled = 10 + ground.rng.below(100) as u32;
            ground.threads.disk.tape.hit(Fault::Stall);
        }
        10..12 => ground.threads.disk.evict_cache(),
        12..16 => ground.rot(),
        16 => ground.threads.disk.calm(),
        _ => arm(ground.rng, &mut ground.threads.disk),
    }
    None
}

pub fn boot_id(rng: &mut Rng) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
    id
}
