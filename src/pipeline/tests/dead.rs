//! Dead letters, over a ring in memory.

use super::*;

const REASON: &str = "nobody wants it";

impl Rig {
    /// The sink reads everything of a lane, is refused what is not its topic `keep`, and passes what it has read up to the
    /// ordinal `stop`. How many letters it had no room for before that.
    fn refuse_all(&mut self, sink: SinkId, lane: LaneId, stop: u64) -> u64 {
        let (mut pos, mut sum, mut full) = (self.pipeline.cursor(sink, lane), Tally::default(), 0);
        let ring = self.pipeline.ring().id();
        while pos.ordinal < stop {
            let frame = match self.pipeline.read(sink, lane, pos) {
                ReadStep::Frame(frame) => frame,
                ReadStep::Wait => {
                    self.drive();
                    continue;
                }
                other => panic!("{other:?}"),
            };
            for entry in frame.entries_from(pos.seq).take_while(|entry| entry.ordinal < stop) {
                if !self.pipeline.has_letter_room(sink, lane, entry.ordinal) {
                    self.pipeline.advance(self.now().boot, sink, lane, pos, std::mem::take(&mut sum), 0, &[]);
                    self.drive();
                    full += 1;
                }
                let refused = self.pipeline.topic_name(entry.part.topic).unwrap().as_str() != "keep";
                let fate = if refused { Fate::Refused } else { Fate::Delivered };
                (sum.refused, sum.delivered) = (sum.refused + u64::from(refused), sum.delivered + u64::from(!refused));
                let when = When { boot: frame.boot(), at: entry.record.admitted };
                let (ordinal, part, offset) = (entry.ordinal, entry.part, entry.offset);
                self.pipeline.note(sink, lane, &Note { ordinal, part, offset, when, fate, stop: false });
                let refusal = Refusal { reason: REASON, upstream: None, ring };
                if refused {
                    self.pipeline.refuse(self.now(), sink, lane, &entry, frame.boot(), &refusal);
                }
                pos = LanePos { seq: entry.seq + 1, ordinal: entry.ordinal + 1 };
            }
        }
        self.pipeline.advance(self.now().boot, sink, lane, pos, sum, 0, &[]);
        full
    }

    fn dead(&self) -> (u64, DeadLetters) {
        let book = self.pipeline.snapshot().sinks[0].clone();
        (book.refused, book.dead_letters)
    }
}

const NORMAL: LaneId = LaneId(1);

#[test]
fn a_refused_record_is_one_dead_letter_whenever_the_power_goes() {
    // After so many commands of the disk.
    for cut in 0..40 {
        let mut rig = Rig::new();
        let sink = rig.sink();
        for n in 0..12 {
            rig.offer(if n % 3 == 0 { "one" } else { "keep" }, 0, 100);
        }
        rig.flush();
        rig.refuse_all(sink, NORMAL, 5);
        let now = rig.now();
        for _ in 0..cut {
            let Some(command) = rig.pipeline.poll(now) else { break };
            let done = execute(command, &mut rig.disk);
            rig.pipeline.complete(now, done);
        }
        let sink = rig.crash();
        rig.refuse_all(sink, NORMAL, 12);
        rig.flush();
        let letters = rig.values(DEAD_LETTERS_TOPIC);
        let seqs: Vec<_> = letters.iter().map(|letter| letter["offset"].as_u64().unwrap()).collect();
        assert_eq!(seqs, [0, 1, 2, 3], "cut after {cut}");
        assert!(letters.iter().all(|letter| letter["reason"] == REASON && letter["topic"] == "one"));
        let counted = DeadLetters { written: 4, left_out: 0, reason: REASON.into() };
        assert_eq!(rig.dead(), (4, counted), "cut after {cut}");
    }
}

#[test]
fn what_is_read_again_and_taken_then_has_no_letter() {
    let mut rig = Rig::new();
    let sink = rig.sink();
    (0..4).for_each(|_| rig.offer("one", 0, 100));
    rig.flush();
    let pos = rig.pipeline.cursor(sink, NORMAL);
    let ReadStep::Frame(frame) = rig.pipeline.read(sink, NORMAL, pos) else { panic!("no frame") };
    let refusal = Refusal { reason: REASON, upstream: None, ring: rig.pipeline.ring().id() };
    for entry in frame.entries_from(pos.seq) {
        rig.pipeline.refuse(rig.now(), sink, NORMAL, &entry, frame.boot(), &refusal);
    }
    rig.drain(sink);
    assert!(rig.values(DEAD_LETTERS_TOPIC).is_empty());
    assert_eq!(rig.dead(), (0, DeadLetters::default()));
}

#[test]
fn a_refused_dead_letter_is_counted_and_makes_no_other_one() {
    let mut rig = Rig::new();
    let sink = rig.sink();
    rig.offer("one", 0, 100);
    rig.flush();
    rig.refuse_all(sink, NORMAL, 1);
    rig.flush();
    assert_eq!(rig.values(DEAD_LETTERS_TOPIC).len(), 1);
    rig.refuse_all(sink, LaneId(0), 1);
    rig.flush();
    assert_eq!((rig.values(DEAD_LETTERS_TOPIC).len(), rig.dead().0, rig.dead().1.written), (1, 2, 1));
}

#[test]
fn a_flood_of_refusals_waits_for_room_and_leaves_out_what_is_more_than_a_part_of_the_ring() {
    let mut rig = Rig::new();
    let sink = rig.sink();
    (0..60).for_each(|_| rig.offer("one", 0, 9000));
    rig.flush();
    assert!(rig.refuse_all(sink, NORMAL, 60) > 0, "more than fits beside a cursor");
    rig.flush();
    let letters = rig.values(DEAD_LETTERS_TOPIC);
    let (refused, counted) = rig.dead();
    assert_eq!((refused, counted.written, counted.written + counted.left_out), (60, letters.len() as u64, 60));
    let most = rig.pipeline.ring().max_bytes() / 32;
    let sum: usize = letters.iter().map(|letter| letter.to_string().len()).sum();
    assert!(counted.left_out > 0 && sum as u64 <= most && sum as u64 > most / 2, "{counted:?} of {sum} bytes");
    // An hour later there are some again.
    rig.time += 3600;
    rig.offer("one", 0, 100);
    rig.flush();
    rig.refuse_all(sink, NORMAL, 61);
    rig.flush();
    assert_eq!(rig.values(DEAD_LETTERS_TOPIC).len(), letters.len() + 1);
}
