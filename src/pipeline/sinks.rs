//! The sinks' side of the pipeline: where each stands in each lane, what it wants, and its cursor on the way to the ring.

use super::elsewhere::{Stretch, elsewhere_key};
use super::letters;
use super::losses::{Loss, MAX_LOSSES};
use super::shares;
use super::streams::{Streams, cursor_key, gaps_key};
use super::*;
use crate::limits::{FRAME_RAW_TARGET, MAX_LANES};
use crate::ring::Gap;

/// State bytes of sinks that share a group: with what a frame may have already they stay below what one can hold.
const GROUP_STATE: usize = 96 * 1024;
/// What a state entry takes beside its bytes, and what a record takes beside its value.
const OVERHEAD: usize = 80;

/// All state entries of one sink.
pub type SinkStates = (Owner, Vec<(Vec<u8>, Vec<u8>)>);

impl Pipeline {
    /// A sink begins where its cursor is, or at the end of every lane when it is new.
    pub fn add_sink(&mut self, plan: SinkPlan) -> SinkId {
        let place = self.sinks.iter().position(|sink| sink.owner.name == plan.name);
        if let Some(index) = place.filter(|at| !self.sinks[*at].lanes.is_empty()) {
            self.sinks[index].topics = plan.topics;
            self.sinks[index].configured = true;
            self.move_floor();
            return SinkId(index);
        }
        let owner = Owner { kind: OwnerKind::Sink, name: plan.name };
        // It begins behind everything that was given until now.
        self.ring.seal_all();
        let lanes = self.load_lanes(&owner);
        let mut sink = Sink { topics: plan.topics, configured: true, ..Sink::of(owner, lanes) };
        self.note_beginning(&mut sink);
        // One that was forgotten has its place still.
        let index = place.unwrap_or(self.sinks.len());
        match place {
            Some(at) => self.sinks[at] = sink,
            None => self.sinks.push(sink),
        }
        self.note_strangers();
        self.move_floor();
        SinkId(index)
    }

    fn note_strangers(&mut self) {
        let known = |owner: &Owner| self.sinks.iter().any(|sink| sink.owner == *owner);
        self.strangers = !self.ring.owners(OwnerKind::Sink).iter().all(known);
    }

    /// Where a new sink begins is on the disk before any record that it is to get: else a crash would forget the sink
    /// and keep the record.
    fn note_beginning(&mut self, sink: &mut Sink) {
        let mut noted = false;
        for (lane, streams) in sink.lanes.iter_mut().enumerate() {
            let lane = LaneId(lane as u8);
            if self.ring.state(&sink.owner, &cursor_key(lane)).is_none() {
                noted |= streams.put(&mut self.ring, self.cursors_put, &sink.owner, lane);
            }
        }
        if noted {
            self.ring.seal_all();
        }
    }

    pub(super) fn load_lanes(&self, owner: &Owner) -> Vec<Streams> {
        (0..self.lanes() as u8).map(|lane| Streams::load(&self.ring, owner, LaneId(lane))).collect()
    }

    /// Topics were moved to other lanes: where that is ahead of a cursor it must know.
    pub(super) fn note_moves(&mut self) {
        let Self { ring, sinks, .. } = self;
        for (lane, streams) in sinks.iter_mut().flat_map(|sink| sink.lanes.iter_mut().enumerate()) {
            streams.note_moves(ring, LaneId(lane as u8));
        }
    }

    /// What a topic had is of no topic now.
    pub(super) fn forget_shares(&mut self, topic: TopicId) {
        for sink in &mut self.sinks {
            for (lane, streams) in sink.lanes.iter_mut().enumerate() {
                for (book, _) in &mut streams.all {
                    if book.shares.forget(topic) {
                        // Removing takes no room.
                        let key = shares::key(LaneId(lane as u8), book.number, topic);
                        let _ = self.ring.put_state(self.cursors_put, &sink.owner, &key, None);
                    }
                }
            }
        }
    }

    /// The sink left the config: its cursor stays, but holds nothing back any more.
    pub fn remove_sink(&mut self, id: SinkId) {
        self.sinks[id.0].configured = false;
        self.move_floor();
    }

    /// Drops cursor, account and state of a sink that is not configured; false when it is, or is not known.
    pub fn forget_sink(&mut self, now: BootTime, name: &Name) -> bool {
        let owner = Owner { kind: OwnerKind::Sink, name: name.clone() };
        if self.sinks.iter().any(|sink| sink.owner == owner && sink.configured) {
            return false;
        }
        let entries = self.ring.states(&owner);
        for (key, _) in &entries {
            // Removing takes no room.
            let _ = self.ring.put_state(now, &owner, key, None);
        }
        // Its place stays taken: the others are known by theirs.
        if let Some(sink) = self.sinks.iter_mut().find(|sink| sink.owner == owner) {
            sink.lanes.clear();
            sink.state.clear();
            sink.letters.clear();
        }
        self.note_strangers();
        self.move_floor();
        !entries.is_empty()
    }

    pub fn sink_owner(&self, id: SinkId) -> &Owner {
        &self.sinks[id.0].owner
    }

    pub fn cursor(&self, id: SinkId, of: impl Into<StreamId>) -> LanePos {
        let of = of.into();
        self.sinks[id.0].lanes[of.lane.index()].book(of).account.cursor
    }

    /// The sink's streams in a lane, the oldest first.
    pub fn streams(&self, id: SinkId, lane: LaneId) -> Vec<Stream> {
        self.sinks[id.0].lanes[lane.index()].view(lane).collect()
    }

    /// Which of a lane's older streams is to be sent next: the newest that need not wait for what a topic left in another
    /// lane. Sooner or later that is the oldest one, and what was given first of all is never held back: so no lane waits
    /// for another for ever.
    pub fn older_stream(&self, id: SinkId, lane: LaneId) -> Option<Stream> {
        let mut older = self.streams(id, lane);
        older.pop();
        let through = |s: &Stream| s.to.is_some_and(|to| s.cursor.ordinal >= to.ordinal);
        let goes = older.iter().rposition(|s| through(s) || !self.is_held_back(id, s, s.cursor));
        older.get(goes.unwrap_or(0)).copied()
    }

    /// Where a stream ends, or the newest one at present: at the newest durable record.
    pub fn end(&self, id: SinkId, of: impl Into<StreamId>) -> LanePos {
        let of = of.into();
        let streams = &self.sinks[id.0].lanes[of.lane.index()];
        streams.end(streams.index(of)).unwrap_or_else(|| self.ring.lane_shown(of.lane))
    }

    /// Where the configured sinks stand in a lane, and what each has beyond that: from another ring, or by newer streams.
    pub fn accounts(&self, lane: LaneId) -> Vec<(Owner, Account, Vec<Stretch>)> {
        let configured = self.sinks.iter().filter(|sink| sink.configured);
        let account = |sink: &Sink| {
            let (oldest, ahead) = sink.lanes.get(lane.index())?.passed()?;
            Some((sink.owner.clone(), oldest, ahead))
        };
        configured.filter_map(account).collect()
    }

    /// The account in one lane, of all streams together; the cursor is the lowest.
    pub fn account(&self, id: SinkId, lane: LaneId) -> Account {
        self.sinks[id.0].lanes[lane.index()].account()
    }

    /// How the account in one lane divides among topics, at the cursors.
    pub fn shares(&self, id: SinkId, lane: LaneId) -> impl Iterator<Item = (TopicId, Counts)> {
        self.sinks[id.0].lanes[lane.index()].shares().into_iter()
    }

    pub fn wants(&self, id: SinkId, topic: TopicId) -> bool {
        self.routes
            .get(topic.0 as usize)
            .and_then(Option::as_ref)
            .is_some_and(|route| self.sinks[id.0].topics.contains(&route.name))
    }

    pub fn topic_name(&self, topic: TopicId) -> Option<&TopicName> {
        self.routes.get(topic.0 as usize).and_then(Option::as_ref).map(|route| &route.name)
    }

    /// What stands at `pos` of a stream, or (where only the seq is given, with the ordinal 0) before it. Gaps are noted in its
    /// account as they are met. What a frame has from the stream's end on is not the stream's.
    pub fn read(&mut self, id: SinkId, of: impl Into<StreamId>, pos: LanePos) -> ReadStep {
        let of = of.into();
        let lane = of.lane;
        let pos = if pos.ordinal == 0 && pos.seq > 0 { self.ring.seek(lane, pos.seq) } else { pos };
        let streams = &self.sinks[id.0].lanes[lane.index()];
        let at = streams.index(of);
        let end = streams.end(at);
        if end.is_some_and(|end| pos.ordinal >= end.ordinal) || self.is_held_back(id, of, pos) {
            return ReadStep::End;
        }
        let (book, reader) = &mut self.sinks[id.0].lanes[lane.index()].all[at];
        if reader.pos != pos {
            // Where it went back, the physical place is found anew.
            if pos.seq < reader.pos.seq {
                *reader = self.ring.lane_reader(lane, pos);
            } else {
                reader.pos = pos;
            }
        }
        let mut step = self.ring.read_lane(reader);
        // Where only the seq was given the search for it may end in the next stream.
        let beyond = |ordinal| end.is_some_and(|end| ordinal >= end.ordinal);
        let through = match &step {
            // A frame may hold the end: small ones are joined when they are moved.
            ReadStep::Frame(frame) => frame.entries_from(pos.seq).next().is_some_and(|e| beyond(e.ordinal)),
            ReadStep::Gap(gap) => beyond(gap.from.ordinal),
            ReadStep::End => end.is_some_and(|end| end.ordinal <= self.ring.lane_durable(lane).ordinal),
            ReadStep::Wait => false,
        };
        if through {
            book.through = Some(pos.seq);
            return ReadStep::End;
        }
        if let ReadStep::Gap(gap) = &mut step {
            let mut within = within(&self.ring, gap);
            if let Some(end) = end.filter(|end| end.ordinal < gap.to.ordinal) {
                // What lies beyond is the next stream's, and that one knows where its partitions began.
                let evicted = gap.reason == GapReason::Evicted;
                (gap.to, gap.parts) = (end, Vec::new());
                within = Within::Unknown;
                if let Some((next, _)) = self.sinks[id.0].lanes[lane.index()].all.get(at + 1).filter(|_| evicted) {
                    within = Within::Ends(next.shares.began(), None);
                }
            }
            self.sinks[id.0].lanes[lane.index()].all[at].0.met(gap, within);
            self.keep_gaps(id, lane);
        }
        step
    }

    /// What becomes of a record that was read, before the cursor passes it: so its topic's share is counted. What is noted
    /// again replaces what was noted from there on.
    pub fn note(&mut self, id: SinkId, of: impl Into<StreamId>, note: &Note) {
        let of = of.into();
        let streams = &mut self.sinks[id.0].lanes[of.lane.index()];
        let at = streams.index(of);
        let book = &mut streams.all[at].0;
        if note.ordinal >= book.account.cursor.ordinal {
            book.ahead.note(note);
            book.letters.cut(note.ordinal);
        }
    }

    /// Whether the sink must first finish what a topic left in the lane that it came from: in all streams there, of which
    /// the oldest has the lowest cursor. Or the ring does not have yet that there is this stream.
    pub fn is_held_back(&self, id: SinkId, of: impl Into<StreamId>, pos: LanePos) -> bool {
        let of = of.into();
        let lanes = &self.sinks[id.0].lanes;
        let streams = &lanes[of.lane.index()];
        let unborn = |at: usize| at > 0 && streams.all[at].0.born.is_none_or(|born| born > self.ring.settled());
        let passed = |lane: LaneId| lanes.get(lane.index()).map_or(u64::MAX, |s| s.account().cursor.ordinal);
        unborn(streams.index(of)) || self.ring.barrier(of.lane, pos.ordinal, passed).is_some()
    }

    /// Whether nothing will ever stand at `pos` or beyond it, where something was just looked for: the stream ends there.
    pub fn is_at_end(&self, id: SinkId, of: impl Into<StreamId>, pos: LanePos) -> bool {
        let of = of.into();
        let streams = &self.sinks[id.0].lanes[of.lane.index()];
        let through = streams.book(of).through == Some(pos.seq);
        streams.end(streams.index(of)).is_some_and(|end| pos.ordinal >= end.ordinal || through)
    }

    /// Whether something stands at or beyond `pos` that may be read now.
    pub fn has_more(&self, id: SinkId, of: impl Into<StreamId>, pos: LanePos) -> bool {
        let of = of.into();
        // By ordinal: after a crash the lane's end has a seq beyond the last record's.
        self.end(id, of).ordinal > pos.ordinal && !self.is_held_back(id, of, pos)
    }

    /// The gaps ahead of the cursors are stored with them. Nothing may be sent from behind one before it is durable (see
    /// [`Pipeline::store_cursors`]): after a crash nobody could tell what was left out from what was sent.
    fn keep_gaps(&mut self, id: SinkId, lane: LaneId) {
        let sink = &mut self.sinks[id.0];
        let gaps = sink.lanes[lane.index()].encode_gaps();
        let key = gaps_key(lane);
        if gaps.is_some() || sink.state.contains_key(&key[..]) || self.ring.state(&sink.owner, &key).is_some() {
            sink.state.insert(key.to_vec(), gaps);
        }
    }

    /// Nothing of it is left ahead of the cursors: the entry goes together with it.
    fn keep_elsewhere(&mut self, id: SinkId, lane: LaneId) {
        let sink = &mut self.sinks[id.0];
        if sink.lanes[lane.index()].is_elsewhere_spent() {
            sink.state.insert(elsewhere_key(lane).to_vec(), None);
        }
    }

    /// Everything of the configured sinks as it stands, whether or not the ring has it: accounts, gaps, positions. Of one
    /// that is beyond what is written, as it is often in RAM-first mode, only the accounts, as far as what is written: the
    /// rest as the disk has it, which is older and claims nothing.
    pub fn sinks_as_they_stand(&self) -> Vec<SinkStates> {
        let ids = (0..self.sinks.len()).filter(|at| self.sinks[*at].configured);
        let stands = |at: usize| {
            let sink = &self.sinks[at];
            let lanes = || sink.lanes.iter().enumerate().map(|(n, streams)| (LaneId(n as u8), streams));
            let beyond = lanes().any(|(lane, streams)| streams.is_beyond(self.ring.lane_written(lane)));
            let states = if beyond { self.ring.durable_states(&sink.owner) } else { self.sink_states(SinkId(at)) };
            let mut states: BTreeMap<_, _> = states.into_iter().collect();
            for (lane, streams) in lanes() {
                states.insert(cursor_key(lane).to_vec(), streams.encode_up_to(self.ring.lane_written(lane)));
            }
            (sink.owner.clone(), states.into_iter().collect())
        };
        ids.map(stands).collect()
    }

    /// Whether the sink has met the record in a gap, or has it from another ring: then it leaves it there, although it is shown it now.
    pub fn is_missed(&self, id: SinkId, lane: LaneId, ordinal: u64) -> bool {
        self.sinks[id.0].lanes[lane.index()].books().any(|book| book.missed(ordinal))
    }

    /// The gaps that a sink has met and its cursor has not passed: ordinals and why.
    pub fn gaps(&self, id: SinkId, lane: LaneId) -> Vec<(u64, u64, GapReason)> {
        self.sinks[id.0].lanes[lane.index()].books().flat_map(|book| book.gaps()).collect()
    }

    /// Moves a sink's cursor; `state` is stored atomically with it. `bytes` were sent for it.
    #[allow(clippy::too_many_arguments)] // What one step of a cursor is; a struct for it would only rename them.
    pub fn advance(
        &mut self,
        now: BootTime,
        id: SinkId,
        of: impl Into<StreamId>,
        to: LanePos,
        tally: Tally,
        bytes: u64,
        state: &[(&[u8], Option<&[u8]>)],
    ) {
        let of = of.into();
        let lane = of.lane;
        let sink = &mut self.sinks[id.0];
        let waiting: usize = sink.lanes.iter().map(|streams| streams.losses.len()).sum();
        let streams = &mut sink.lanes[lane.index()];
        let at = streams.index(of);
        debug_assert!(streams.end(at).is_none_or(|end| to.ordinal <= end.ordinal), "{of:?} ends before {to:?}");
        let room = MAX_LOSSES.saturating_sub(waiting - streams.losses.len());
        let full = streams.advance(at, to, tally, room, !state.is_empty()) >= MAX_LOSSES / 2;
        let letters = streams.all[at].0.take_letters();
        self.send_letters(now, id, letters);
        self.keep_gaps(id, lane);
        self.keep_elsewhere(id, lane);
        let sink = &mut self.sinks[id.0];
        for (key, value) in state {
            sink.state.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        }
        self.cursor_bytes += bytes;
        let dead = !self.sinks[id.0].letters.is_empty();
        if self.cursor_bytes >= CURSOR_BYTES * u64::from(self.cursor_patience()) || full || dead {
            self.put_cursors(now);
        } else if now - self.cursors_put >= CURSOR_RIDE && self.ring.is_full() {
            // Sources wait for the room that it makes, and bring nothing that it could ride on.
            self.put_cursors(now);
            self.ring.hurry(now);
        }
        self.move_floor();
    }

    /// What comes from now on becomes a stream of its own, if at least `least` records wait in the lane's newest one: see
    /// [`super::streams`]. True: the ring was given the split; nothing of the new stream is shown before it is durable. In
    /// memory a node is not for long: there a lane stays one.
    pub fn split(&mut self, now: BootTime, id: SinkId, lane: LaneId, least: u64) -> bool {
        let sink = &mut self.sinks[id.0];
        let streams = sink.lanes.get_mut(lane.index()).filter(|_| !self.memory_mode);
        let Some(gone) = streams.and_then(|streams| streams.split(&self.ring, lane, least)) else { return false };
        sink.state.extend(gone.into_iter().map(|key| (key, None)));
        self.put_cursors(now);
        true
    }

    /// A stream that has nothing left to send is absorbed by the next one; false: it has, or is the newest. `gone`: what is
    /// known of it beside its account.
    pub fn absorb(&mut self, id: SinkId, of: impl Into<StreamId>, gone: Vec<Vec<u8>>) -> bool {
        let of = of.into();
        let sink = &mut self.sinks[id.0];
        let Some(shares) = sink.lanes[of.lane.index()].absorb(of) else { return false };
        sink.state.extend(gone.into_iter().chain(shares).map(|key| (key, None)));
        true
    }

    /// Slots that every sink has passed, by cursors that are durable, may be used again.
    pub(super) fn move_floor(&mut self) {
        let settled = self.ring.settled();
        for lane in 0..self.lanes() {
            let configured = self.sinks.iter_mut().filter(|sink| sink.configured);
            let mut lanes = configured.filter_map(|sink| sink.lanes.get_mut(lane));
            let floor = lanes.by_ref().map(|streams| streams.floor(settled)).min();
            self.ring.set_floor(LaneId(lane as u8), floor);
            // One that left the config and may come back is to find what it has not had.
            let known = self.sinks.iter().filter_map(|sink| sink.lanes.get(lane));
            let passed = known.map(|streams| streams.account().cursor).min().filter(|_| !self.strangers);
            self.ring.set_passed(LaneId(lane as u8), passed);
        }
    }

    /// Cursors, accounts and what belongs to them, the records that tell of losses and the dead letters among it: of each sink in
    /// one frame, and of all of them as far as that holds them.
    pub(super) fn put_cursors(&mut self, now: BootTime) {
        self.cursors_put = now;
        self.cursor_bytes = 0;
        self.own_records.clear();
        let told = self.sinks.iter().any(Sink::has_losses).then(|| self.open_own(GAPS_TOPIC)).flatten();
        let dead = self.open_letters();
        let mut from = 0;
        while from < self.sinks.len() {
            let (mut to, mut records, mut bytes, mut state) = (from, Vec::new(), 0, 0);
            for (at, sink) in self.sinks.iter().enumerate().skip(from).filter(|(_, sink)| sink.is_dirty()) {
                let own = told.map_or_else(Vec::new, |_| tell(&self.ring, sink));
                let letters = sink.letters.iter().map(|letter| letter.value.len() + OVERHEAD).sum::<usize>();
                let more = own.iter().map(|record| record.len() + OVERHEAD).sum::<usize>() + letters;
                let stored = sink.stored_bytes();
                if state > 0 && (bytes + more > FRAME_RAW_TARGET || state + stored > GROUP_STATE) {
                    break;
                }
                (to, bytes, state) = (at + 1, bytes + more, state + stored);
                records.extend(own);
            }
            if state == 0 || self.ring.begin_group(now, bytes).is_err() {
                return;
            }
            self.put_group(now, from..to, (told, dead), &records);
            self.ring.end_group(now);
            from = to;
        }
    }

    /// The records first: the state entries go beside them then.
    fn put_group(
        &mut self,
        now: BootTime,
        sinks: std::ops::Range<usize>,
        (told, dead): (Option<TopicId>, Option<TopicId>),
        records: &[Vec<u8>],
    ) {
        let trusted = self.clock.is_some_and(|clock| clock.trusted);
        let flags = if trusted { Flags::default() } else { Flags::CLOCK_UNTRUSTED };
        let mut letters = Vec::new();
        self.sinks[sinks.clone()].iter_mut().for_each(|sink| letters.append(&mut sink.letters));
        let losses = records.iter().map(|value| (told, value));
        for (topic, value) in losses.chain(letters.iter().map(|letter| (dead, &letter.value))) {
            let record = RecordRef { admitted: now, flags, ..RecordRef::of(value) };
            let part = topic.map(|topic| TopicPart { topic, partition: 0 });
            // In a group the ring is never busy, and the record is small enough.
            self.own_records.extend(part.and_then(|part| self.ring.append(now, part, &record).ok()));
        }
        for sink in &mut self.sinks[sinks] {
            for (key, value) in std::mem::take(&mut sink.state) {
                // A full owner keeps its older positions: nothing is lost by it, but the next process may take markers of
                // this one for another life's, and send again what they tell of.
                let _ = self.ring.put_state(now, &sink.owner, &key, value.as_deref());
            }
            for (lane, streams) in sink.lanes.iter_mut().enumerate().filter(|(_, streams)| streams.is_dirty()) {
                if told.is_some() {
                    streams.losses.clear();
                }
                streams.put(&mut self.ring, now, &sink.owner, LaneId(lane as u8));
            }
        }
    }

    /// One of the node's own topics. None: there are too many topics. What is lost is counted then, and told when there is
    /// one topic less.
    pub(super) fn open_own(&mut self, name: &str) -> Option<TopicId> {
        self.open_topic(&TopicName::new(name).ok()?, None).ok()
    }

    /// Where the records of losses and the dead letters went that were given to the ring with the newest cursors.
    pub fn own_records(&self) -> &[Appended] {
        &self.own_records
    }

    /// A sink's state entry, as it was last given to [`Pipeline::advance`].
    pub fn sink_state(&self, id: SinkId, key: &[u8]) -> Option<Vec<u8>> {
        let sink = &self.sinks[id.0];
        match sink.state.get(key) {
            Some(value) => value.clone(),
            None => self.ring.state(&sink.owner, key).map(<[u8]>::to_vec),
        }
    }

    /// All state entries of a sink, as they were last given to [`Pipeline::advance`], in key order.
    pub fn sink_states(&self, id: SinkId) -> Vec<(Vec<u8>, Vec<u8>)> {
        let sink = &self.sinks[id.0];
        let mut states: BTreeMap<_, _> = self.ring.states(&sink.owner).into_iter().collect();
        for (key, value) in &sink.state {
            match value {
                Some(value) => states.insert(key.clone(), value.clone()),
                None => states.remove(key),
            };
        }
        states.into_iter().collect()
    }

    /// Gives the ring all cursors now; what was given to [`Pipeline::advance`] is durable when the ticket is settled.
    pub fn store_cursors(&mut self, now: BootTime) -> Ticket {
        self.put_cursors(now);
        self.ring.last_ticket()
    }

    /// The node's id and labels, for templates.
    pub fn site(&self) -> (&str, &BTreeMap<String, String>) {
        (&self.plan.node, &self.plan.labels)
    }
}

impl Sink {
    /// One that is in no config.
    pub(super) fn of(owner: Owner, lanes: Vec<Streams>) -> Self {
        Self {
            owner,
            topics: TopicSet::default(),
            configured: false,
            lanes,
            state: BTreeMap::new(),
            letters: Vec::new(),
            allowance: letters::Allowance::default(),
        }
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.lanes.iter().any(Streams::is_dirty)
    }

    fn has_losses(&self) -> bool {
        self.lanes.iter().any(|streams| streams.losses.len() > 0)
    }

    /// What it will store takes at most so many bytes.
    fn stored_bytes(&self) -> usize {
        let own =
            |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| key.len() + value.as_ref().map_or(0, Vec::len) + OVERHEAD;
        let lanes: usize = self.lanes.iter().map(|streams| streams.stored_bytes() + 2 * OVERHEAD).sum();
        self.state.iter().map(own).sum::<usize>() + lanes
    }
}

/// The records that tell of a sink's losses.
fn tell(ring: &Ring, sink: &Sink) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    for (lane, streams) in sink.lanes.iter().enumerate() {
        let name = ring.lane_name(LaneId(lane as u8));
        let name = name.as_ref().map_or("", Name::as_str);
        let record = |loss: &Loss| loss.record(ring, sink.owner.name.as_str(), name);
        records.extend(streams.losses.iter().filter_map(record));
    }
    records
}

/// What can be said of the records of a gap.
fn within(ring: &Ring, gap: &Gap) -> Within {
    match gap.reason {
        GapReason::Evicted => ring
            .lane_starts(gap.lane, gap.to.ordinal)
            .map_or(Within::Unknown, |(ends, opened)| Within::Ends(ends, opened.map(|(boot, at)| When { boot, at }))),
        _ if gap.parts.is_empty() => Within::Unknown,
        _ => Within::Parts(gap.parts.clone()),
    }
}

/// Notes where a sink begins that the ring does not know: at the end of every lane, before what is given next.
pub fn note_sink(ring: &mut Ring, now: BootTime, name: &Name) {
    let owner = Owner { kind: OwnerKind::Sink, name: name.clone() };
    ring.seal_all();
    for lane in (0..ring.lane_count().min(MAX_LANES) as u8).map(LaneId) {
        if ring.state(&owner, &cursor_key(lane)).is_none() {
            Streams::load(ring, &owner, lane).put(ring, now, &owner, lane);
        }
    }
    ring.seal_all();
}
