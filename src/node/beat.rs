//! What a thread is at, for who watches that it goes on: outside of the disk it has a deadline, inside of it none. A card
//! may take minutes, or for ever, and a process that is started again for it is no better off.
//!
//! [`Beat`] is written by the thread and read by the watchdog; [`Deadlines`] is the law by which it judges.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::ring::{Disk, DiskError, FileId, SlotId};

/// How long a part that has something to do may stand still outside of the disk. What it does there is microseconds of
/// work: beyond this it waits for something that will not come.
const STUCK: Duration = Duration::from_secs(30);

/// One thread's, shared with who watches it. Each value stands for itself: nothing else is read by what they say.
#[derive(Default)]
pub struct Beat {
    /// Grows whenever it goes on: a command taken, a call of the disk begun or ended, a completion handed over.
    turns: AtomicU64,
    in_disk: AtomicBool,
    given: AtomicU64,
    done: AtomicU64,
}

impl Beat {
    /// Something was given to it to do.
    pub fn give(&self) {
        self.given.fetch_add(1, Ordering::Relaxed);
    }

    /// It has done one of these, and handed over what came of it.
    pub fn done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.turn();
    }

    /// It goes on.
    pub fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    fn disk<T>(&self, call: impl FnOnce() -> T) -> T {
        self.in_disk.store(true, Ordering::Relaxed);
        self.turn();
        let done = call();
        self.in_disk.store(false, Ordering::Relaxed);
        self.turn();
        done
    }

    /// As it is now.
    pub fn seen(&self, name: &'static str) -> Seen {
        let waits = self.given.load(Ordering::Relaxed) != self.done.load(Ordering::Relaxed);
        let excused = !waits || self.in_disk.load(Ordering::Relaxed);
        Seen { name, turns: self.turns.load(Ordering::Relaxed), excused }
    }
}

/// A part at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub name: &'static str,
    /// Has changed if it went on.
    pub turns: u64,
    /// It may stand still: nothing waits for it, or the disk has it.
    pub excused: bool,
}

/// Who has stood still for how long.
#[derive(Default)]
pub struct Deadlines(Vec<(Seen, Duration)>);

impl Deadlines {
    /// The first part that has stood still for too long, `passed` after the look before.
    pub fn look(&mut self, passed: Duration, seen: &[Seen]) -> Option<&'static str> {
        let before = std::mem::take(&mut self.0);
        let stood = |now: &Seen| match before.iter().find(|(last, _)| last.name == now.name) {
            Some((last, stood)) if !now.excused && !last.excused && last.turns == now.turns => *stood + passed,
            _ => Duration::ZERO,
        };
        self.0 = seen.iter().map(|now| (*now, stood(now))).collect();
        self.0.iter().find(|(_, stood)| *stood > STUCK).map(|(seen, _)| seen.name)
    }
}

/// A disk whose calls are known of.
pub struct Beating {
    disk: Box<dyn Disk>,
    beat: Arc<Beat>,
}

impl Beating {
    pub fn new(disk: Box<dyn Disk>, beat: Arc<Beat>) -> Self {
        Self { disk, beat }
    }
}

impl Disk for Beating {
    fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
        self.beat.disk(|| self.disk.list())
    }
    fn create(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError> {
        self.beat.disk(|| self.disk.create(file, bytes))
    }
    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        self.beat.disk(|| self.disk.read(file, at, buf))
    }
    fn write(&mut self, file: FileId, at: u64, data: &[u8]) -> Result<(), DiskError> {
        self.beat.disk(|| self.disk.write(file, at, data))
    }
    fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
        self.beat.disk(|| self.disk.sync(file))
    }
    fn drop_cache(&mut self, file: FileId) -> Result<(), DiskError> {
        self.beat.disk(|| self.disk.drop_cache(file))
    }
    fn remove(&mut self, file: FileId) -> Result<(), DiskError> {
        self.beat.disk(|| self.disk.remove(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::MemDisk;

    const TEN: Duration = Duration::from_secs(10);

    fn looks(deadlines: &mut Deadlines, times: usize, beat: &Beat) -> Option<&'static str> {
        (0..times).fold(None, |_, _| deadlines.look(TEN, &[beat.seen("writer")]))
    }

    #[test]
    fn what_stands_still_with_something_to_do_is_stuck_after_thirty_seconds_and_not_before() {
        let (beat, mut deadlines) = (Beat::default(), Deadlines::default());
        beat.give();
        // The first look only sees it.
        assert_eq!(looks(&mut deadlines, 4, &beat), None);
        assert_eq!(looks(&mut deadlines, 1, &beat), Some("writer"));
        // Also one that stands between the disk and the loop.
        beat.turn();
        assert_eq!(looks(&mut deadlines, 4, &beat), None);
        assert_eq!(looks(&mut deadlines, 1, &beat), Some("writer"));
        beat.done();
        assert_eq!(looks(&mut deadlines, 1, &beat), None);
    }

    #[test]
    fn what_has_nothing_to_do_may_stand_still_for_ever() {
        let (beat, mut deadlines) = (Beat::default(), Deadlines::default());
        assert_eq!(looks(&mut deadlines, 1000, &beat), None);
        beat.give();
        beat.done();
        assert_eq!(looks(&mut deadlines, 1000, &beat), None);
    }

    #[test]
    fn what_hangs_in_the_disk_is_never_stuck_and_its_deadline_begins_behind_it() {
        let (beat, mut deadlines) = (Beat::default(), Deadlines::default());
        beat.give();
        beat.disk(|| assert_eq!(looks(&mut deadlines, 1000, &beat), None));
        assert_eq!(looks(&mut deadlines, 4, &beat), None);
        assert_eq!(looks(&mut deadlines, 1, &beat), Some("writer"));
    }

    #[test]
    fn what_goes_on_is_not_stuck_however_much_waits() {
        let (beat, mut deadlines) = (Beat::default(), Deadlines::default());
        for _ in 0..1000 {
            beat.give();
            beat.give();
            beat.done();
            assert_eq!(looks(&mut deadlines, 3, &beat), None);
        }
    }

    #[test]
    fn one_that_is_stuck_is_named_among_others_that_are_not() {
        let mut deadlines = Deadlines::default();
        let seen = |turns, stuck: bool| {
            [Seen { name: "loop", turns, excused: false }, Seen { name: "reader", turns: 5, excused: !stuck }]
        };
        for turns in 0..100 {
            assert_eq!(deadlines.look(TEN, &seen(turns, false)), None);
        }
        let named: Vec<_> = (100..105).map(|turns| deadlines.look(TEN, &seen(turns, true))).collect();
        assert_eq!(named, [None, None, None, None, Some("reader")]);
    }

    #[test]
    fn every_call_of_a_disk_is_known_of_while_it_lasts() {
        /// Asserts in each call that it is known.
        struct Asks(MemDisk, Arc<Beat>);
        impl Asks {
            fn asked(&mut self) -> &mut MemDisk {
                self.1.give();
                assert!(self.1.seen("").excused);
                self.1.done();
                &mut self.0
            }
        }
        impl Disk for Asks {
            fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
                self.asked().list()
            }
            fn create(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError> {
                self.asked().create(file, bytes)
            }
            fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
                self.asked().read(file, at, buf)
            }
            fn write(&mut self, file: FileId, at: u64, data: &[u8]) -> Result<(), DiskError> {
                self.asked().write(file, at, data)
            }
            fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
                self.asked().sync(file)
            }
            fn drop_cache(&mut self, file: FileId) -> Result<(), DiskError> {
                self.asked().drop_cache(file)
            }
            fn remove(&mut self, file: FileId) -> Result<(), DiskError> {
                self.asked().remove(file)
            }
        }
        let (beat, file) = (Arc::new(Beat::default()), FileId::Slot(SlotId(0)));
        let mut disk = Beating::new(Box::new(Asks(MemDisk::new(1 << 20), beat.clone())), beat.clone());
        disk.list().unwrap();
        disk.create(file, 8192).unwrap();
        disk.write(file, 0, b"x").unwrap();
        disk.read(file, 0, &mut [0]).unwrap();
        disk.sync(file).unwrap();
        disk.drop_cache(file).unwrap();
        disk.remove(file).unwrap();
        beat.give();
        assert!(!beat.seen("").excused, "not beyond it");
    }
}
