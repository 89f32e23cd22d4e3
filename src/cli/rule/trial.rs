//! A pipeline of its own over a ring in memory: the node's rules with a clock that goes on when it is told to.
//!
//! What comes out is read from the ring after each step, as a sink would: in the order in which it was stored. Nothing of it is
//! left when the trial is over, and no node knows of it.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::limits::MAX_TOPICS;
use crate::name::Name;
use crate::node::plan;
use crate::pipeline::{Failure, OfferError, Pipeline, Plan, SourceId, SourcePlan, Stopped};
use crate::record::{Record, RecordRef};
use crate::ring::{MemDisk, Options, ReadStep, Ring, execute};
use crate::rules::Told;
use crate::time::{BootTime, Now, Span, WallTime};
use crate::topic::{TopicId, TopicName, TopicPart};

/// A node whose config does not say how large its ring is.
const USUAL_RING: u64 = 256 << 20;
/// The memory that a trial's ring has: enough for what is read after each step.
const MEMORY: u64 = 64 << 20;
/// The boot clock as a trial begins.
const BOOTED: BootTime = BootTime(1_000_000_000);
/// Where something waits without saying until when.
const STEP: Span = Span::from_millis(100);
/// So often something may come while time goes on once: rules that keep something are looked at every half a minute, so for
/// a month. Beyond, as between a clock that showed 1970 and one that was set, it is over with one step.
const STEPS: usize = 100_000;
/// At one moment something may be due for each topic.
const ROUNDS: usize = MAX_TOPICS + 1;
/// How often a record is offered to a ring that is busy.
const TRIES: u32 = 100;

pub struct Trial {
    disk: MemDisk,
    pipeline: Pipeline,
    start: WallTime,
    /// Since the start.
    at: Span,
    /// The next offset to read.
    read: BTreeMap<TopicPart, u64>,
}

/// A record that came out.
pub struct Output {
    pub topic: String,
    pub at: Span,
    pub record: Record,
    pub seq: u64,
}

impl Trial {
    pub fn new(config: &Config, mut plan: Plan, start: WallTime) -> anyhow::Result<Self> {
        // Nobody takes anything out of its ring: none waits for that.
        plan.topics.values_mut().for_each(|topic| topic.pause = false);
        let max_bytes = config.ring.max_bytes.unwrap_or(USUAL_RING);
        let mut disk = MemDisk::new(max_bytes.min(MEMORY));
        let options = Options { boot_id: [1; 16], binding: [1; 16], seed: 1, ..plan::ring(config, max_bytes) };
        let (ring, report) = Ring::recover(&mut disk, options)?;
        let mut pipeline = Pipeline::new(ring, report, true, plan);
        pipeline.listen();
        Ok(Self { disk, pipeline, start, at: Span::default(), read: BTreeMap::new() })
    }

    pub fn add_source(&mut self, source: SourcePlan) -> SourceId {
        self.pipeline.add_source(source)
    }

    pub fn open(&mut self, topic: &TopicName, partitions: Option<u8>) -> anyhow::Result<TopicId> {
        Ok(self.pipeline.open_topic(topic, partitions)?)
    }

    /// Since the start.
    pub fn at(&self) -> Span {
        self.at
    }

    fn now(&self) -> Now {
        let (boot, wall) = (BOOTED + self.at, WallTime(self.start.0.saturating_add(self.at.0)));
        Now { boot, wall, trusted: true }
    }

    fn drive(&mut self) {
        let now = self.now();
        for _ in 0..ROUNDS {
            while let Some(command) = self.pipeline.poll(now) {
                let done = execute(command, &mut self.disk);
                self.pipeline.complete(now, done);
            }
            if self.pipeline.next_timeout().is_none_or(|next| next > now.boot) {
                return;
            }
        }
    }

    /// Time goes on, and what rules wait for comes; what that made.
    pub fn pass(&mut self, to: Span) -> Vec<Output> {
        self.drive();
        for _ in 0..STEPS {
            let Some(next) = self.pipeline.next_timeout() else { break };
            let next = next - BOOTED;
            if next > to {
                break;
            }
            self.at = if next > self.at { next } else { Span(self.at.0.saturating_add(STEP.0)).min(to) };
            if self.at == to {
                break;
            }
            self.drive();
        }
        self.at = to;
        self.collect()
    }

    /// A record comes now; what became of it at once. Err(Busy): its topic takes nothing more.
    pub fn offer(
        &mut self,
        source: Option<SourceId>,
        part: TopicPart,
        record: &RecordRef<'_>,
    ) -> Result<Vec<Output>, OfferError> {
        let mut tries = 0..TRIES;
        loop {
            let now = self.now();
            let offered = match source {
                Some(source) => self.pipeline.offer(now, source, part, record),
                None => self.pipeline.offer_plain(now, part, record),
            };
            match offered {
                Ok(_) => return Ok(self.collect()),
                Err(OfferError::Busy) if !self.pipeline.is_held(part.topic) && tries.next().is_some() => self.flush(),
                Err(error) => return Err(error),
            }
        }
    }

    fn flush(&mut self) {
        // What rules wait for comes first.
        self.drive();
        self.pipeline.ring_mut().seal_all();
        self.drive();
    }

    /// What came into the ring since the last time, in the order in which it did.
    fn collect(&mut self) -> Vec<Output> {
        self.flush();
        let mut outputs = Vec::new();
        for id in self.pipeline.ring().topic_ids() {
            let Some(info) = self.pipeline.ring().topic(id) else { continue };
            for (partition, place) in info.partitions.iter().enumerate() {
                let part = TopicPart { topic: id, partition: partition as u8 };
                let from = self.read.get(&part).copied().unwrap_or_default();
                if from < place.durable_end {
                    let end = self.read_part((info.name.as_str(), part), from, &mut outputs);
                    self.read.insert(part, end);
                }
            }
        }
        outputs.sort_by_key(|output: &Output| output.seq);
        outputs
    }

    fn read_part(&mut self, (topic, part): (&str, TopicPart), from: u64, outputs: &mut Vec<Output>) -> u64 {
        let mut reader = self.pipeline.ring().part_reader(part, from);
        loop {
            match self.pipeline.read_part(&mut reader) {
                ReadStep::Frame(frame) => {
                    for entry in frame.entries_of(part, reader.offset) {
                        let record: RecordRef<'_> = entry.record;
                        let (at, record) = (record.admitted - BOOTED, record.to_owned());
                        outputs.push(Output { topic: topic.to_owned(), at, record, seq: entry.seq });
                        reader.offset = entry.offset + 1;
                    }
                }
                ReadStep::Gap(_) => {}
                ReadStep::Wait => self.drive(),
                ReadStep::End => return reader.offset,
            }
        }
    }

    /// What rules failed on since this was asked last.
    pub fn failures(&mut self) -> Vec<Failure> {
        self.pipeline.take_failures()
    }

    /// What each rule has done.
    pub fn tallies(&self) -> Vec<(Name, Told)> {
        self.pipeline.tallies()
    }

    pub fn stopped(&self) -> Vec<Stopped> {
        self.pipeline.stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Surroundings, examine};

    #[test]
    fn a_gap_of_decades_is_passed_and_what_waited_for_its_end_came() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("headwater.toml");
        let rule = "[[rules]]\nname = \"r\"\ntopics = [\"t\"]\nuses = \"dedup\"\nwith = { within = \"365d\" }\n\
                    [[rules]]\nname = \"w\"\ntopics = [\"t\"]\nuses = \"debounce\"\nwith = { quiet = \"1m\" }\n";
        std::fs::write(&path, rule).unwrap();
        let config = examine(&path, &Surroundings::real(true)).config.unwrap();
        let mut trial = Trial::new(&config, plan::plan(&config), WallTime(0)).unwrap();
        let topic = trial.open(&TopicName::new("t").unwrap(), None).unwrap();
        let (part, mut came) = (TopicPart { topic, partition: 0 }, Vec::new());
        for years in [0, 0, 56] {
            let at = Span::from_secs(years * 365 * 86_400);
            came.extend(trial.pass(at));
            came.extend(trial.offer(None, part, &RecordRef::of(b"x")).unwrap());
        }
        let last = trial.at().0 + Span::from_secs(3600).0;
        came.extend(trial.pass(Span(last)));
        let at: Vec<_> = came.iter().map(|output| output.at.0 / 1_000_000).collect();
        assert_eq!(at, [60, 56 * 365 * 86_400 + 60]);
    }
}
