//! A model of an upstream of Fluvio's kind: partitions with leaders and high watermarks, batches that keep the producer
//! fields of their headers, an SC that says where they are, and everything that goes wrong with them.
//!
//! It keeps what every batch held, also of those that were trimmed or truncated: the oracle is what was stored, never
//! what a client says of it.

use std::collections::{BTreeMap, BTreeSet};

use headwater::backoff::Rng;
use headwater::forward::turn::{Newest, Turn};
use headwater::forward::{Header, Marker, Query, Reject};
use headwater::record::Origin;

use crate::fault::{Fault, Tape};
use crate::ledger::Out;

/// SPUs of the cluster.
pub const SPUS: i32 = 3;

/// An upstream topic by its place in [`UPSTREAM`], and a partition of it.
pub type Part = (usize, u32);

#[derive(Clone, Debug)]
pub struct Batch {
    pub base: i64,
    pub origin: Origin,
    pub count: u32,
    /// Empty where another writer wrote it.
    pub outs: Vec<Out>,
    /// What each record comes to.
    contents: Vec<u64>,
    /// It landed after the grace period: copies of what it holds cannot be helped.
    pub overdue: bool,
}

impl Batch {
    fn end(&self) -> i64 {
        self.base + i64::from(self.count)
    }

    fn newest(&self) -> Newest {
        Newest { number: Marker::of_origin(self.origin).number, base: self.base, count: self.count }
    }
}

/// What a topic makes of the batches that it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Makes {
    /// It stores them as they are, with the producer fields.
    #[default]
    Nothing,
    /// It builds them anew: markers do not survive.
    Anew,
    /// And leaves out what its filter says.
    Filtered,
    /// And leaves out what stands among the newest already.
    Deduplicated,
}

impl Makes {
    fn drops(self, content: u64, newest: &[u64]) -> bool {
        match self {
            Makes::Nothing | Makes::Anew => false,
            Makes::Filtered => content % 5 == 2,
            Makes::Deduplicated => newest.contains(&content),
        }
    }
}

/// Records that a deduplicating topic looks back.
const DEDUPLICATED: usize = 8;

#[derive(Clone, Debug, Default)]
pub struct Log {
    pub leader: i32,
    makes: Makes,
    /// What another writer has and writes as well: what of ours came to nothing last.
    echo: Vec<u64>,
    start: i64,
    end: i64,
    /// What is replicated.
    high_watermark: i64,
    pub batches: Vec<Batch>,
    /// The newest batch of each producer, if it keeps count.
    newest: BTreeMap<i64, Newest>,
    /// Producers that it once forgot.
    forgotten: BTreeSet<i64>,
}

impl Log {
    fn append(&mut self, origin: Origin, outs: Vec<Out>, contents: Vec<u64>, overdue: bool) -> i64 {
        let (base, count) = (self.end, contents.len() as u32);
        self.end += i64::from(count);
        self.batches.push(Batch { base, origin, count, outs, contents, overdue });
        base
    }

    /// What the newest records come to, the newest first.
    fn newest_contents(&self) -> Vec<u64> {
        let all = self.batches.iter().rev().flat_map(|b| b.contents.iter().rev());
        all.take(DEDUPLICATED).copied().collect()
    }

    fn header(&self, at: i64) -> Result<Option<Header>, Reject> {
        if at < self.start {
            return Err(Reject::OutOfRange);
        }
        let index = self.batches.partition_point(|b| b.end() <= at);
        Ok(self.batches.get(index).map(|b| Header { base: b.base, count: b.count, origin: b.origin }))
    }

    /// What the records from the one offset up to the other come to, and whether each is ours.
    fn contents(&self, from: i64, to: i64) -> Vec<(u64, bool)> {
        let of = |b: &Batch| {
            (b.base..).zip(b.contents.clone()).map(|(at, c)| (at, c, !b.outs.is_empty())).collect::<Vec<_>>()
        };
        let all = self.batches.iter().flat_map(of);
        all.filter(|(at, ..)| (from..to).contains(at)).map(|(_, content, ours)| (content, ours)).collect()
    }

    /// Takes the batches from the offset on away.
    fn cut(&mut self, from: i64) -> Vec<Batch> {
        let keep = self.batches.partition_point(|b| b.end() <= from);
        let gone = self.batches.split_off(keep);
        self.newest = self.batches.iter().map(|b| (b.origin.producer_id, b.newest())).collect();
        self.end = self.batches.last().map_or(self.start, Batch::end).max(self.start);
        self.high_watermark = self.high_watermark.min(self.end);
        gone
    }
}

#[derive(Clone, Debug, Default)]
pub struct Topic {
    pub logs: Vec<Log>,
}

/// What an SC tells of a topic: the leaders of its partitions.
pub type Leaders = BTreeMap<usize, Vec<i32>>;

/// How this cluster is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nature {
    /// One in so many produce requests is refused; 0: none.
    pub rejects: u64,
    /// Outputs of one batch; more is too large.
    pub most: Option<usize>,
    /// One in so many requests finds that another producer has written; 0: none.
    pub others: u64,
    /// One in so many acknowledged batches is not replicated in time; 0: none.
    pub lag: u64,
    /// What the first topic makes of batches.
    pub makes: Makes,
    /// Of that topic's records only so many differ; 0: all do.
    pub alike: u64,
    /// Another writer repeats there what came to nothing of ours.
    pub echoes: bool,
    /// The connection of one in so many batches breaks before it lands, and of as many before anybody hears that it has; 0: none.
    pub cuts: u64,
    /// It is a node, and keeps count of what it has of whom.
    pub counts: bool,
}

impl Nature {
    /// Markers do not survive in this topic.
    pub fn rebuilds(&self, topic: usize) -> bool {
        topic == REBUILT && self.makes != Makes::Nothing
    }

    /// What key and value of an output come to there.
    pub fn content(&self, topic: usize, out: &Out) -> u64 {
        match self.alike {
            n if n > 0 && self.rebuilds(topic) => 1 + out.id.tag % n,
            _ => out.content(),
        }
    }
}

/// The topic that may rebuild batches.
const REBUILT: usize = 0;
/// A batch that no producer signed.
const UNSIGNED: Origin = Origin { producer_id: -1, producer_epoch: -1, first_sequence: -1 };

#[derive(Clone, Debug)]
pub enum Asked {
    Query(Query),
    Send { origin: Origin, turn: Option<Turn>, outs: Vec<Out> },
}

#[derive(Clone, Debug)]
pub enum Answer {
    Sent(Result<i64, Reject>),
    Offsets(Result<(i64, i64), Reject>),
    Header(Result<Option<Header>, Reject>),
    Producer(Result<(Option<Newest>, i64), Reject>),
    Contents(Result<Option<Vec<u64>>, Reject>),
}

/// A produce request that its sender has lost sight of.
#[derive(Clone, Debug)]
struct Limbo {
    at: i64,
    part: Part,
    spu: i32,
    origin: Origin,
    turn: Option<Turn>,
    outs: Vec<Out>,
    overdue: bool,
}

pub struct Upstream {
    pub topics: BTreeMap<usize, Topic>,
    pub nature: Nature,
    limbo: Vec<Limbo>,
    /// What a stale SC still says, and until when.
    stale: Option<(i64, Leaders)>,
    /// No SC answers until then.
    pub sc_away: i64,
    /// Outputs that were stored and acknowledged as committed, and then lost by the upstream: where they stood, and when.
    lost: BTreeMap<Out, (Part, i64, i64)>,
    /// When a stream (of a lane, by its number) last asked what stands in a partition, and came to know it.
    pub looked: BTreeMap<(usize, u32, Part), i64>,
    /// Outputs ever stored, however often.
    pub ever: BTreeSet<Out>,
    /// Outputs that a topic left out when it was given them.
    pub dropped: BTreeSet<Out>,
    /// Topics and contents that ever stood there, whoever wrote them.
    ever_there: BTreeSet<(usize, u64)>,
    /// By topic and content: how many records of others were shown to a sink that compares.
    pub mistakable: BTreeMap<(usize, u64), u64>,
    /// By partition: under which ids batches came.
    writers: BTreeMap<Part, BTreeSet<i64>>,
    /// By partition: ids that rings of the same name have, on cards that were cloned or wiped.
    pub clones: BTreeMap<Part, Vec<i64>>,
    /// Something landed after its grace period.
    pub overdue: bool,
    /// Batches that stand where retention has taken the log's beginning away.
    pub trimmed: bool,
}

impl Upstream {
    pub fn new(nature: Nature) -> Self {
        Self {
            topics: BTreeMap::new(),
            nature,
            limbo: Vec::new(),
            stale: None,
            sc_away: 0,
            lost: BTreeMap::new(),
            looked: BTreeMap::new(),
            ever: BTreeSet::new(),
            dropped: BTreeSet::new(),
            ever_there: BTreeSet::new(),
            mistakable: BTreeMap::new(),
            writers: BTreeMap::new(),
            clones: BTreeMap::new(),
            trimmed: false,
            overdue: false,
        }
    }

    pub fn log_mut(&mut self, part: Part) -> Option<&mut Log> {
        self.topics.get_mut(&part.0)?.logs.get_mut(part.1 as usize)
    }

    // ---- the SC ----

    /// A visit: makes what is wanted and missing (the second answer), and tells where everything is.
    pub fn visit(&mut self, wanted: &BTreeSet<usize>, time: i64, rng: &mut Rng) -> (Leaders, BTreeSet<usize>) {
        let mut made = BTreeSet::new();
        for topic in wanted {
            if !self.topics.contains_key(topic) {
                let makes = if self.nature.rebuilds(*topic) { self.nature.makes } else { Makes::Nothing };
                let log = |p: u64| Log { leader: leader(p as i32), makes, ..Log::default() };
                let logs = (0..1 + rng.below(3)).map(log).collect();
                self.topics.insert(*topic, Topic { logs });
                made.insert(*topic);
            }
        }
        match &self.stale {
            Some((until, told)) if time < *until && made.is_empty() => (told.clone(), made),
            _ => (self.leaders(), made),
        }
    }

    fn leaders(&self) -> Leaders {
        self.topics.iter().map(|(t, topic)| (*t, topic.logs.iter().map(|l| l.leader).collect())).collect()
    }

    /// From now on the SC tells what is true now, whatever comes.
    pub fn go_stale(&mut self, until: i64) {
        self.stale = Some((until, self.leaders()));
    }

    // ---- the SPUs ----

    pub fn answer(&mut self, spu: i32, part: Part, asked: Asked, rng: &mut Rng, tape: &mut Tape) -> Answer {
        let nature = self.nature;
        if self.log_mut(part).is_none_or(|log| log.leader != spu) {
            tape.hit(Fault::NotLeader);
            return refuse(&asked, Reject::Stale);
        }
        if one_in(rng, nature.others) {
            self.another_writes(part, rng, tape);
        }
        let log = self.log_mut(part).expect("it is there");
        match asked {
            Asked::Query(Query::Offsets) => {
                if rng.below(2) == 0 {
                    log.high_watermark = log.end;
                }
                Answer::Offsets(Ok((log.start, log.high_watermark)))
            }
            Asked::Query(Query::Header { at }) => Answer::Header(log.header(at)),
            Asked::Query(Query::Contents { from, to }) => {
                tape.hit(Fault::Compared);
                if rng.below(12) == 0 {
                    return Answer::Contents(Ok(None));
                }
                let there = log.contents(from, to);
                // Lanes and streams of one sink are others to each other.
                let several = self.writers.get(&part).is_some_and(|ids| ids.len() > 1);
                for (content, _) in there.iter().filter(|(_, ours)| !ours || several) {
                    *self.mistakable.entry((part.0, *content)).or_default() += 1;
                }
                Answer::Contents(Ok(Some(there.into_iter().map(|(content, _)| content).collect())))
            }
            Asked::Query(Query::Producer { id, .. }) => {
                if one_in(rng, 30) && log.newest.remove(&id).is_some() {
                    tape.hit(Fault::ProducerForgotten);
                    log.forgotten.insert(id);
                }
                Answer::Producer(Ok((log.newest.get(&id).copied(), log.end)))
            }
            Asked::Send { origin, turn, outs } => {
                self.writers.entry(part).or_default().insert(origin.producer_id);
                Answer::Sent(self.produce(part, (origin, turn), outs, rng, tape))
            }
        }
    }

    /// Somebody else appends a batch: anything; what was to be ours; or under a marker like ours, of a ring that is not.
    fn another_writes(&mut self, part: Part, rng: &mut Rng, tape: &mut Tape) {
        tape.hit(Fault::OtherWriter);
        let clones = self.clones.get(&part).cloned().unwrap_or_default();
        let Some(log) = self.log_mut(part) else { return };
        let mut contents: Vec<u64> = (0..1 + rng.below(3)).map(|_| rng.next_u64()).collect();
        let mut origin = UNSIGNED;
        if !log.echo.is_empty() && rng.below(2) == 0 {
            tape.hit(Fault::OtherWroteOurs);
            contents = log.echo[..1 + rng.below(log.echo.len() as u64) as usize].to_vec();
        }
        if log.makes == Makes::Nothing && !clones.is_empty() && rng.below(3) == 0 {
            tape.hit(Fault::CloneWrote);
            let newest = log.batches.iter().map(|b| Marker::of_origin(b.origin).number).max().unwrap_or_default();
            let id = clones[rng.below(clones.len() as u64) as usize];
            origin = Marker { id, number: newest.saturating_add(rng.below(20)).saturating_sub(10) }.to_origin();
        }
        let makes = log.makes;
        let newest = log.newest_contents();
        contents.retain(|content| !makes.drops(*content, &newest));
        if contents.is_empty() {
            return;
        }
        let there: Vec<_> = contents.iter().map(|content| (part.0, *content)).collect();
        log.append(origin, Vec::new(), contents, false);
        log.high_watermark = log.end;
        self.ever_there.extend(there);
    }

    fn produce(
        &mut self,
        part: Part,
        (origin, turn): (Origin, Option<Turn>),
        outs: Vec<Out>,
        rng: &mut Rng,
        tape: &mut Tape,
    ) -> Result<i64, Reject> {
        let nature = self.nature;
        if one_in(rng, nature.rejects) {
            let stale = rng.below(2) == 0;
            tape.hit(if stale { Fault::RejectedStale } else { Fault::RejectedRetry });
            return Err(if stale { Reject::Stale } else { Reject::Retry });
        }
        if outs.iter().any(Out::is_refused) || nature.most.is_some_and(|most| outs.len() > most) {
            tape.hit(Fault::TooLarge);
            return Err(Reject::TooLarge);
        }
        let mut base = self.take(part, (origin, turn), outs, false, tape).ok_or(Reject::Stale)??;
        let log = self.log_mut(part).ok_or(Reject::Stale)?;
        if matches!(log.makes, Makes::Filtered | Makes::Deduplicated) {
            // What a batch that was made smaller is said to begin with means nothing.
            base = [base, 0, log.end, log.end + 7, rng.below(1 + log.end as u64) as i64][rng.below(5) as usize];
        }
        if one_in(rng, nature.lag) {
            tape.hit(Fault::TimedOutWritten);
            return Err(Reject::Unknown);
        }
        log.high_watermark = log.end;
        Ok(base)
    }

    /// As a node does: what comes out of turn is not stored.
    fn take(
        &mut self,
        part: Part,
        (origin, turn): (Origin, Option<Turn>),
        outs: Vec<Out>,
        mut overdue: bool,
        tape: &mut Tape,
    ) -> Option<Result<i64, Reject>> {
        let log = self.log_mut(part)?;
        let newest = log.newest.get(&origin.producer_id).copied();
        let number = Marker::of_origin(origin).number;
        if let Some(turn) = turn {
            // What it may take although it has it: the first batch of all, after it has forgotten that there was one.
            overdue &= log.forgotten.contains(&origin.producer_id);
            if let Some(repeat) = newest.filter(|n| n.number == number) {
                tape.hit(Fault::Repeated);
                return Some(Ok(repeat.base));
            }
            if newest.map(|n| n.number) != turn.0 {
                tape.hit(Fault::OutOfTurn);
                return Some(Err(Reject::OutOfTurn));
            }
        }
        let count = outs.len() as u32;
        let base = self.store(part, origin, outs, overdue, tape)?;
        if turn.is_some() || newest.is_some_and(|n| n.number < number) {
            self.log_mut(part)?.newest.insert(origin.producer_id, Newest { number, base, count });
        }
        Some(Ok(base))
    }

    fn store(&mut self, part: Part, origin: Origin, mut outs: Vec<Out>, overdue: bool, tape: &mut Tape) -> Option<i64> {
        let Self { nature, topics, ever, ever_there, dropped, .. } = self;
        let log = topics.get_mut(&part.0)?.logs.get_mut(part.1 as usize)?;
        let mut newest = log.newest_contents();
        let makes = log.makes;
        outs.retain(|out| {
            let content = nature.content(part.0, out);
            let drops = makes.drops(content, &newest);
            if drops {
                tape.hit(Fault::LeftOut);
                dropped.insert(*out);
            } else {
                newest.insert(0, content);
                newest.truncate(DEDUPLICATED);
            }
            !drops
        });
        ever.extend(outs.iter().copied());
        let contents: Vec<u64> = outs.iter().map(|out| nature.content(part.0, out)).collect();
        ever_there.extend(contents.iter().map(|content| (part.0, *content)));
        let origin = if makes == Makes::Nothing { origin } else { UNSIGNED };
        match contents.is_empty() {
            true => Some(log.end),
            false => Some(log.append(origin, outs, contents, overdue)),
        }
    }

    /// Whether an output went in: it was stored once, or left out by its topic, or what is equal to it stood there, which
    /// nobody can tell from it: how often is settled in the end.
    pub fn has_had(&self, topic: usize, out: &Out) -> bool {
        let alike = || self.ever_there.contains(&(topic, self.nature.content(topic, out)));
        self.ever.contains(out) || self.dropped.contains(out) || self.nature.rebuilds(topic) && alike()
    }

    /// A batch of ours that nobody heard of again: another writer may have the same.
    pub fn unheard(&mut self, part: Part, outs: &[Out]) {
        let nature = self.nature;
        if let Some(log) = self.log_mut(part).filter(|log| nature.echoes && log.makes != Makes::Nothing) {
            // What is refused nobody else has there either.
            let kept = outs.iter().take_while(|out| !out.is_refused());
            log.echo = kept.map(|out| nature.content(part.0, out)).collect();
        }
    }

    // ---- what nobody waits for any more ----

    /// A request inside a stalled SPU, and when it lands.
    pub fn strand(
        &mut self,
        at: i64,
        (part, spu): (Part, i32),
        (origin, turn): (Origin, Option<Turn>),
        outs: Vec<Out>,
        overdue: bool,
    ) {
        self.limbo.push(Limbo { at, part, spu, origin, turn, outs, overdue });
    }

    /// The SPUs began anew: what hung in them is gone.
    pub fn drop_limbo(&mut self) {
        self.limbo.clear();
    }

    pub fn has_limbo(&self) -> bool {
        !self.limbo.is_empty()
    }

    /// Requests inside a stalled SPU land when it goes on, if it still leads.
    pub fn land_late(&mut self, time: i64, tape: &mut Tape) {
        let (landing, still): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.limbo).into_iter().partition(|l| l.at <= time);
        self.limbo = still;
        for l in landing {
            let refused = l.outs.iter().any(Out::is_refused) || self.nature.most.is_some_and(|m| l.outs.len() > m);
            let leads = self.log_mut(l.part).is_some_and(|log| log.leader == l.spu);
            if refused || !leads {
                continue;
            }
            tape.hit(if l.overdue { Fault::LandedAfterGrace } else { Fault::LandedLate });
            self.overdue |= l.overdue;
            self.take(l.part, (l.origin, l.turn), l.outs, l.overdue, tape);
            if let Some(log) = self.log_mut(l.part) {
                log.high_watermark = log.end;
            }
        }
    }

    // ---- what happens to clusters ----

    fn some_part(&mut self, rng: &mut Rng) -> Option<Part> {
        let parts: Vec<Part> = self.logs().map(|(part, _)| part).collect();
        parts.get(rng.below(parts.len() as u64) as usize).copied()
    }

    fn some_log(&mut self, rng: &mut Rng) -> Option<&mut Log> {
        let part = self.some_part(rng)?;
        self.log_mut(part)
    }

    /// Another SPU takes over. What was not replicated is gone.
    pub fn move_leader(&mut self, rng: &mut Rng, tape: &mut Tape) {
        let Some(log) = self.some_log(rng) else { return };
        log.leader = leader(log.leader);
        tape.hit(Fault::LeaderMoved);
        if log.high_watermark < log.end {
            let from = log.high_watermark;
            log.cut(from);
            tape.hit(Fault::UncommittedLost);
        }
    }

    /// A log that ends earlier than it did, or begins anew.
    pub fn lose(&mut self, time: i64, rng: &mut Rng, tape: &mut Tape) {
        let Some(part) = self.some_part(rng) else { return };
        let nature = self.nature;
        let Some(log) = self.log_mut(part) else { return };
        let committed = log.high_watermark;
        let gone = if rng.below(3) == 0 {
            tape.hit(Fault::UpstreamRecreated);
            let old = std::mem::take(log);
            log.leader = old.leader;
            if nature.rebuilds(part.0) {
                // Made anew with other settings, perhaps.
                log.makes = if rng.below(2) == 0 { nature.makes } else { Makes::Nothing };
            }
            old.batches
        } else {
            tape.hit(Fault::UpstreamTruncated);
            let batches = log.batches.len().saturating_sub(1 + rng.below(3) as usize);
            let from = log.batches.get(batches).map_or(log.end, |b| b.base).max(log.start);
            log.cut(from)
        };
        let gone = gone.into_iter().filter(|b| b.end() <= committed);
        self.lost.extend(gone.flat_map(|b| b.outs.into_iter().map(move |out| (out, (part, b.base, time)))));
    }

    /// Whether the upstream has lost it after it was acknowledged.
    pub fn has_lost(&self, out: &Out) -> bool {
        self.lost.contains_key(out)
    }

    /// Whether the stream that sent it has looked into the partition since: one that it has nothing more for it never opens,
    /// and of what it absorbed the next one knows nothing.
    pub fn was_looked_for(&self, (lane, stream): (usize, u32), out: &Out) -> bool {
        let looked = |part| self.looked.get(&(lane, stream, part)).copied();
        self.lost.get(out).is_some_and(|(part, _, at)| looked(*part).is_some_and(|looked| looked > *at))
    }

    /// Whether the log has since grown beyond the place of an output that was lost, and retention has come up to there:
    /// then nobody can tell the one from the other.
    pub fn looks_trimmed(&self, out: &Out) -> bool {
        let log = |(t, p): Part| self.topics.get(&t).and_then(|topic| topic.logs.get(p as usize));
        self.lost.get(out).is_some_and(|(part, base, _)| log(*part).is_some_and(|log| *base < log.start))
    }

    /// Retention takes the beginning of a log.
    pub fn trim(&mut self, rng: &mut Rng, tape: &mut Tape) {
        let Some(log) = self.some_log(rng) else { return };
        let at = rng.below(log.batches.len() as u64 + 1) as usize;
        log.start = log.start.max(log.batches.get(at).map_or(log.end, |b| b.base)).min(log.high_watermark);
        tape.hit(Fault::UpstreamTrimmed);
        self.trimmed = true;
    }

    pub fn grow(&mut self, rng: &mut Rng, tape: &mut Tape) -> Option<usize> {
        let at = rng.below(self.topics.len() as u64) as usize;
        let (number, topic) = self.topics.iter_mut().nth(at)?;
        if topic.logs.len() >= 5 {
            return None;
        }
        let makes = if self.nature.rebuilds(*number) { self.nature.makes } else { Makes::Nothing };
        topic.logs.push(Log { leader: leader(rng.below(SPUS as u64) as i32), makes, ..Log::default() });
        tape.hit(Fault::PartitionsGrew);
        Some(*number)
    }

    /// Everything works from now on; what it will never take it still does not.
    pub fn heal(&mut self) {
        self.nature = Nature { rejects: 0, others: 0, lag: 0, cuts: 0, ..self.nature };
        (self.stale, self.sc_away) = (None, 0);
        for log in self.topics.values_mut().flat_map(|t| &mut t.logs) {
            log.high_watermark = log.end;
        }
    }

    /// All logs with their places.
    pub fn logs<'a>(&'a self) -> impl Iterator<Item = (Part, &'a Log)> {
        let of = |t: usize, topic: &'a Topic| topic.logs.iter().enumerate().map(move |(p, log)| ((t, p as u32), log));
        self.topics.iter().flat_map(move |(t, topic)| of(*t, topic))
    }
}

fn leader(after: i32) -> i32 {
    (after + 1) % SPUS
}

fn refuse(asked: &Asked, reject: Reject) -> Answer {
    match asked {
        Asked::Query(Query::Offsets) => Answer::Offsets(Err(reject)),
        Asked::Query(Query::Header { .. }) => Answer::Header(Err(reject)),
        Asked::Query(Query::Producer { .. }) => Answer::Producer(Err(reject)),
        Asked::Query(Query::Contents { .. }) => Answer::Contents(Err(reject)),
        Asked::Send { .. } => Answer::Sent(Err(reject)),
    }
}

pub fn one_in(rng: &mut Rng, n: u64) -> bool {
    n > 0 && rng.below(n) == 0
}
