//! `headwater ring export`: the records of a ring, a line each; of a stopped node, or of one that runs meanwhile.
//!
//! Lanes are read one after the other, each in its order. What cannot be read any more is a line of its own, with the
//! count that the lane's ordinals give; its topic and offsets where the ring can tell.

use std::io::IsTerminal as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::bail;

use super::line::{self, Hole, Place};
use super::output::Output;
use super::progress::Progress;
use crate::cli::Exit;
use crate::cli::keys::KeyFiles;
use crate::config::units::parse_span;
use crate::lane::LaneId;
use crate::node::stopped::{Met, StoppedRing, owner};
use crate::ops::human::{binary, thousands};
use crate::ring::{Entry, Gap, LanePos, RingId, TopicInfo};
use crate::time::{ClockSync, Span, WallTime};
use crate::topic::{self, TopicPart};

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater ring export /mnt/card/headwater > all.jsonl
                                 all records, one JSON object a line
  headwater ring export /var/lib/headwater --topic pump --from -2h
                                 the last two hours of a topic
  headwater ring export DIR --topic pump --from 120 --to 200 --raw
                                 the values of offsets 120 to 199, a line each
  headwater ring export DIR --from seq:4711 --out /media/usb/pump.jsonl
  headwater ring export DIR --from 2026-11-24T06:00:00Z

FROM and TO are an offset (of the one topic that is named), `seq:N`, or the time
of admission: RFC 3339, or how long ago. TO is not part of it. Records of which
the time is not known are in, whatever the times. Topics that begin with
`headwater-` are the node's own, exported where they are named.

The directory may belong to a node that runs, or be mounted read-only. A file is
written as FILE.part and gets its name when all of it is on the device.
`headwater ring import` takes what this writes, but for --raw.")]
pub struct Args {
    /// The data directory of a node
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// This topic only; can be given again
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// This partition only
    #[arg(long, value_name = "P")]
    partition: Option<u8>,
    /// Where to begin: an offset, seq:N, a time, or how long ago
    #[arg(long, value_name = "FROM", allow_hyphen_values = true)]
    from: Option<String>,
    /// Where to end; not part of it
    #[arg(long, value_name = "TO", allow_hyphen_values = true)]
    to: Option<String>,
    /// Write to a file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The values alone, each followed by a line break
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    keys: KeyFiles,
}

/// An end of what is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Offset(u64),
    Seq(u64),
    Time(i64),
}

impl Bound {
    /// `now` in microseconds since 1970.
    fn parse(text: &str, now: i64) -> Result<Self, String> {
        if let Ok(offset) = text.parse() {
            return Ok(Self::Offset(offset));
        }
        if let Some(seq) = text.strip_prefix("seq:") {
            return seq.parse().map(Self::Seq).map_err(|_| format!("`{text}`: `seq:` wants a number"));
        }
        if let Ok(time) = line::moment(text) {
            return Ok(Self::Time(time.0));
        }
        match parse_span(text.strip_prefix('-').unwrap_or(text)) {
            Ok(Span(ago)) => Ok(Self::Time(now.saturating_sub(ago))),
            Err(_) => Err(format!(
                "`{text}` is no place in a ring; write an offset (120), a seq (seq:4711), a time (2026-11-24T06:00:00Z) or how long ago (2h)"
            )),
        }
    }

    /// Whether a record lies before it. What has no known time lies after every beginning, and before every end.
    fn is_after(self, entry: &Entry<'_>, time: Option<i64>, unknown: bool) -> bool {
        match self {
            Self::Offset(offset) => entry.offset < offset,
            Self::Seq(seq) => entry.seq < seq,
            Self::Time(at) => time.map_or(unknown, |time| time < at),
        }
    }
}

struct Range {
    from: Option<Bound>,
    to: Option<Bound>,
}

impl Range {
    fn of(args: &Args) -> anyhow::Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        let bound = |name: &str, text: &Option<String>| {
            let parsed = text.as_deref().map(|text| Bound::parse(text, now)).transpose();
            parsed.map_err(|why| Exit::usage(format!("{name} {why}")))
        };
        let range = Self { from: bound("--from", &args.from)?, to: bound("--to", &args.to)? };
        let offsets = [range.from, range.to].iter().any(|bound| matches!(bound, Some(Bound::Offset(_))));
        if offsets && args.topic.len() != 1 {
            return Err(Exit::usage(
                "an offset counts the records of one topic: name it with --topic; `seq:N` counts those of the whole ring",
            ));
        }
        Ok(range)
    }

    fn holds(&self, entry: &Entry<'_>, clock: Option<ClockSync>) -> bool {
        let time = clock.map(|clock| clock.wall(entry.record.admitted).0);
        !self.from.is_some_and(|from| from.is_after(entry, time, false))
            && self.to.is_none_or(|to| to.is_after(entry, time, true))
    }

    /// No record of the lane from here on is in it.
    fn ends_at(&self, entry: &Entry<'_>) -> bool {
        matches!(self.to, Some(Bound::Seq(to)) if entry.seq >= to)
    }

    /// The first seq that may be in it.
    fn seq(&self) -> u64 {
        if let Some(Bound::Seq(seq)) = self.from { seq } else { 0 }
    }
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let range = Range::of(args)?;
    let keys = args.keys.to_read()?;
    super::disk(&args.dir)?;
    let running = owner(&args.dir);
    let mut ring = match StoppedRing::open(&args.dir, &keys) {
        Ok(ring) => ring,
        Err(error) => bail!("the ring in {} cannot be read: {error}", args.dir.display()),
    };
    super::say_running(running.as_deref());
    let topics = chosen(args, &ring)?;
    let mut export = Export {
        args,
        range,
        topics,
        names: ring.lane_names(),
        out: Output::open(args.out.as_deref())?,
        line: Vec::new(),
        progress: Progress::new("records"),
        tell: !std::io::stdout().is_terminal() || args.out.is_some(),
        ring: ring.id(),
        bytes: 0,
        gaps: 0,
        gone: 0,
    };
    let done = export.all(&mut ring);
    export.finish(done)?;
    Ok(ExitCode::SUCCESS)
}

/// The topics that are asked for.
fn chosen(args: &Args, ring: &StoppedRing) -> anyhow::Result<Vec<TopicInfo>> {
    let all = ring.topics();
    if args.topic.is_empty() {
        let theirs = all.into_iter().filter(|topic| !topic.name.is_reserved());
        return Ok(theirs.collect());
    }
    let mut chosen = Vec::new();
    for name in &args.topic {
        let Some(topic) = all.iter().find(|topic| topic.name.as_str() == name) else {
            let known = topic::known(all.iter().map(|t| &t.name), name);
            bail!("no topic `{name}` in the ring in {} (there are: {known})", args.dir.display());
        };
        let partitions = topic.partitions.len();
        if args.partition.is_some_and(|partition| usize::from(partition) >= partitions) {
            match partitions {
                0 | 1 => bail!("topic `{name}` has one partition, 0"),
                _ => bail!("topic `{name}` has partitions 0 to {}", partitions - 1),
            }
        }
        chosen.push(topic.clone());
    }
    Ok(chosen)
}

struct Export<'a> {
    args: &'a Args,
    range: Range,
    topics: Vec<TopicInfo>,
    /// Of the lanes.
    names: Vec<String>,
    out: Output,
    line: Vec<u8>,
    progress: Progress,
    /// Gaps are told on standard error as well.
    tell: bool,
    /// Under which the newest record was given.
    ring: RingId,
    bytes: u64,
    gaps: u64,
    gone: u64,
}

impl Export<'_> {
    fn all(&mut self, ring: &mut StoppedRing) -> std::io::Result<()> {
        self.before_the_oldest()?;
        let lanes = ring.lanes();
        let counts = lanes.iter().map(|lane| lane.durable.ordinal - lane.oldest.ordinal);
        self.progress.of(counts.sum());
        let mut before = 0;
        for (at, lane) in lanes.iter().enumerate() {
            let id = LaneId(at as u8);
            let seq = match self.range.from {
                Some(Bound::Time(at)) => ring.seek_time(id, WallTime(at)),
                _ => self.range.seq(),
            };
            ring.scan(id, seq, &mut |met| {
                let flow = match met {
                    Met::Record(frame, clock, entry) => {
                        self.ring = frame.ring_id();
                        self.progress.at(before + entry.ordinal.saturating_sub(lane.oldest.ordinal));
                        self.record(id, frame.boot(), clock, &entry)?
                    }
                    Met::Gap(gap) => self.gap(&gap)?,
                };
                Ok(flow)
            })?;
            before += lane.durable.ordinal - lane.oldest.ordinal;
        }
        Ok(())
    }

    fn topic(&self, part: TopicPart) -> Option<&TopicInfo> {
        let wanted = self.args.partition.is_none_or(|partition| partition == part.partition);
        self.topics.iter().find(|topic| topic.id == part.topic).filter(|_| wanted)
    }

    fn lane(&self, lane: LaneId) -> String {
        self.names.get(lane.index()).cloned().unwrap_or_else(|| format!("lane-{}", lane.0))
    }

    fn record(
        &mut self,
        lane: LaneId,
        boot: u32,
        clock: Option<ClockSync>,
        entry: &Entry<'_>,
    ) -> std::io::Result<ControlFlow<()>> {
        if self.range.ends_at(entry) {
            return Ok(ControlFlow::Break(()));
        }
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        let wanted = self.describe(&mut line, lane, boot, clock, entry);
        self.line = line;
        if wanted {
            self.bytes += self.line.len() as u64;
            self.progress.add(self.line.len());
            self.out.write(&self.line)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The line of a record; false, and none, if it was not asked for.
    fn describe(
        &self,
        line: &mut Vec<u8>,
        lane: LaneId,
        boot: u32,
        clock: Option<ClockSync>,
        entry: &Entry<'_>,
    ) -> bool {
        let Some(topic) = self.topic(entry.part).filter(|_| self.range.holds(entry, clock)) else { return false };
        if self.args.raw {
            line.extend_from_slice(entry.record.value);
            line.push(b'\n');
            return true;
        }
        let place = Place {
            ring: self.ring,
            topic: topic.name.as_str(),
            partition: entry.part.partition,
            partitions: topic.partitions.len() as u8,
            offset: entry.offset,
            seq: entry.seq,
            lane: self.names.get(lane.index()).map_or("", String::as_str),
            boot,
            clock,
        };
        line::write(line, &place, &entry.record);
        true
    }

    /// Offsets that were asked for and are older than all that is kept.
    fn before_the_oldest(&mut self) -> std::io::Result<()> {
        let Some(Bound::Offset(from)) = self.range.from else { return Ok(()) };
        let to = if let Some(Bound::Offset(to)) = self.range.to { to } else { u64::MAX };
        for topic in self.topics.clone() {
            for (at, partition) in topic.partitions.iter().enumerate() {
                let (partition, end) = (at as u8, partition.earliest.min(to));
                if from < end && self.args.partition.is_none_or(|wanted| wanted == partition) {
                    let hole = Hole {
                        ring: self.ring,
                        lane: &self.lane(topic.lane),
                        of: Some((topic.name.as_str(), partition)),
                        from,
                        to: end,
                        count: end - from,
                        reason: crate::ring::GapReason::Evicted,
                    };
                    self.hole(&hole)?;
                }
            }
        }
        Ok(())
    }

    fn gap(&mut self, gap: &Gap) -> std::io::Result<ControlFlow<()>> {
        let (ring, lane) = (self.ring, self.lane(gap.lane));
        if matches!(self.range.to, Some(Bound::Seq(to)) if gap.from.seq >= to) {
            return Ok(ControlFlow::Break(()));
        }
        if gap.parts.is_empty() {
            let (LanePos { seq: from, .. }, LanePos { seq: to, .. }) = (gap.from, gap.to);
            let hole = Hole { ring, lane: &lane, of: None, from, to, count: gap.count(), reason: gap.reason };
            self.hole(&hole)?;
        }
        for part in &gap.parts {
            let Some(name) = self.topic(part.part).map(|topic| topic.name.to_string()) else { continue };
            let (mut from, mut to) = (part.from_offset, part.to_offset);
            if let Some(Bound::Offset(least)) = self.range.from {
                from = from.max(least);
            }
            if let Some(Bound::Offset(most)) = self.range.to {
                to = to.min(most);
            }
            if from < to {
                let of = Some((name.as_str(), part.part.partition));
                self.hole(&Hole { ring, lane: &lane, of, from, to, count: to - from, reason: gap.reason })?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn hole(&mut self, hole: &Hole<'_>) -> std::io::Result<()> {
        self.gaps += 1;
        self.gone += hole.count;
        if self.tell {
            self.progress.clear();
            let (count, why) = (thousands(hole.count), line::reason(hole.reason).replace('_', " "));
            let last = hole.to.saturating_sub(1);
            match hole.of {
                Some((topic, 0)) => eprintln!("gone: offsets {} to {last} of {topic} ({count}, {why})", hole.from),
                Some((topic, part)) => {
                    eprintln!("gone: offsets {} to {last} of {topic}, partition {part} ({count}, {why})", hole.from);
                }
                None => {
                    eprintln!("gone: {count} records between seq {} and {last}, of any topic ({why})", hole.from);
                }
            }
        }
        if self.args.raw {
            return Ok(());
        }
        self.line.clear();
        line::write_gap(&mut self.line, hole);
        self.out.write(&self.line)
    }

    fn finish(self, done: std::io::Result<()>) -> anyhow::Result<()> {
        let Self { progress, out, bytes, gaps, gone, .. } = self;
        progress.clear();
        let count = records(progress.count());
        out.finish(done, &format!("{count} ({})", binary(bytes)))?;
        let missing = match gaps {
            0 => "no gaps".into(),
            1 => format!("a gap of {}", records(gone)),
            _ => format!("{} gaps of {}", thousands(gaps), records(gone)),
        };
        eprintln!("{count}, {}, {missing}", binary(bytes));
        Ok(())
    }
}

fn records(n: u64) -> String {
    if n == 1 { "1 record".into() } else { format!("{} records", thousands(n)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_an_offset_a_seq_a_moment_or_an_age() {
        let now = 10_000_000_000;
        for (text, bound) in [
            ("120", Bound::Offset(120)),
            ("seq:4711", Bound::Seq(4711)),
            ("1970-01-01T00:00:01Z", Bound::Time(1_000_000)),
            ("1970-01-01T01:00:01+01:00", Bound::Time(1_000_000)),
            ("-2h", Bound::Time(2_800_000_000)),
            ("2h", Bound::Time(2_800_000_000)),
        ] {
            assert_eq!(Bound::parse(text, now), Ok(bound), "{text}");
        }
        for bad in ["", "-5", "yesterday", "seq:", "seq:-1", "2026-11-24", "1.5"] {
            assert!(Bound::parse(bad, now).is_err(), "{bad}");
        }
    }
}
