//! The streams of one sink in one lane.
//!
//! A stream is a range of the lane that is sent in ascending order, with a cursor of its own: so a sink can send what is new
//! before it has sent what is old. They lie next to each other without holes, the oldest first: each ends where the next one
//! begins, the newest is open. A sink that makes no others has one.
//!
//! - **Split**: the newest stream ends at the lane's durable end, and a new one begins there. Nothing above that end was ever
//!   sent by anyone, because a sink sees durable records only; where some are shown that are in memory alone nothing is split. The new stream shows no record before the ring has the split:
//!   else a crash would forget it, and the old stream would send the same records again.
//! - **Absorb**: a stream whose cursor has reached its end has nothing left but its account; the next one takes that over,
//!   and begins where the old one began. It goes on to be sent as itself: of what it absorbed it knows nothing but counts.
//! - **At most eight**: before a ninth is made the oldest absorbs its neighbour if nothing was ever sent of that one, and so
//!   goes on through its range as itself. Otherwise there is no ninth: the newest stream goes on through the backlog.
//!
//! The account of promise 2 is the sum over the streams. Each counts from where it begins to its cursor, so the sum is exact
//! whatever is absorbed when; and all of it is one state entry, so no crash comes between two halves of a split or of an
//! absorption:
//!
//! ```text
//! key "cursor/" lane  ->  postcard: Account, time of its last record (option), Tail      of the oldest stream
//! Tail   number of the stream, where it began, whether it is unstarted, number of the next stream that is made,
//!        list of the others: (number, where it began, unstarted, Account, time of its last record)
//! ```
//!
//! filled up with zeros to a length that grows with the number of streams only. An entry of a sink that never had two
//! streams has zeros for a tail, as earlier versions wrote it: it is stream 0. Whoever reads only the first account finds the
//! lowest cursor of the lane: what the ring must keep.
//!
//! Numbers grow and are never used again: an upstream has batches that say "all of stream 3 below this seq is here".

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::book::{Account, Book};
use super::elsewhere::{Elsewhere, Stretch, elsewhere_key};
use super::losses::Losses;
use super::shares;
use super::{ACCOUNT_LEAST, Counts, Tally, When};
use crate::lane::LaneId;
use crate::ring::{GapReason, LanePos, LaneReader, LaneStats, Owner, Ring, Ticket};
use crate::time::BootTime;
use crate::topic::TopicId;

/// Streams of a sink in a lane.
pub const MAX_STREAMS: usize = 8;
/// What the tail of an entry takes in which a stream has a number.
const TAIL_LEAST: usize = 32;
/// Stored cursors that are not durable yet; a newer one then replaces the last.
const MAX_UNSETTLED: usize = 8;

/// A stream of a sink. A lane alone stands for its oldest one: the only one, unless the sink splits lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    pub lane: LaneId,
    number: Option<u32>,
}

impl From<LaneId> for StreamId {
    fn from(lane: LaneId) -> Self {
        Self { lane, number: None }
    }
}

impl From<&Stream> for StreamId {
    fn from(stream: &Stream) -> Self {
        Self { lane: stream.lane, number: Some(stream.number) }
    }
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    pub lane: LaneId,
    pub number: u32,
    /// Nothing below was ever sent as this stream.
    pub from: LanePos,
    pub cursor: LanePos,
    /// Where the next one begins; None: it is the newest.
    pub to: Option<LanePos>,
    /// Nothing was ever sent as this stream, by no process.
    pub unstarted: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct Tail {
    number: u32,
    from: LanePos,
    unstarted: bool,
    next: u32,
    others: Vec<Other>,
}

#[derive(Serialize, Deserialize)]
struct Other {
    number: u32,
    from: LanePos,
    unstarted: bool,
    account: Account,
    seen: Option<When>,
}

pub(super) struct Streams {
    /// The oldest first; never empty.
    pub all: Vec<(Book, LaneReader)>,
    /// The number of the next one.
    next: u32,
    /// Of all of them: counted and not told yet.
    pub losses: Losses,
    /// What a crash goes back to: the ring must keep everything from here on, or records that were delivered would be
    /// met again as evicted.
    floor: LanePos,
    unsettled: VecDeque<(Ticket, LanePos)>,
}

impl Streams {
    fn of(ring: &Ring, lane: LaneId, books: Vec<Book>, next: u32) -> Self {
        let reader = |book: Book| {
            let reader = ring.lane_reader(lane, book.account.cursor);
            (book, reader)
        };
        let floor = books.first().map(|book| book.account.cursor).unwrap_or_default();
        let all = books.into_iter().map(reader).collect();
        Self { all, next, losses: Losses::default(), floor, unsettled: VecDeque::new() }
    }

    /// What the ring knows of a sink in one lane; one that it does not know begins at the lane's end.
    pub fn load(ring: &Ring, owner: &Owner, lane: LaneId) -> Self {
        let Some((books, next)) = ring.state(owner, &cursor_key(lane)).and_then(decode) else {
            let mut book = Book::new(Account::new(ring.lane_end(lane)));
            for topic in ring.topic_ids().into_iter().filter_map(|id| ring.topic(id)) {
                book.shares.begin(lane, &topic, ring.moves(topic.id));
            }
            return Self::of(ring, lane, vec![book], 1);
        };
        let mut streams = Self::of(ring, lane, books, next);
        let gaps = ring.state(owner, &gaps_key(lane)).and_then(|stored| postcard::from_bytes(stored).ok());
        let gaps: Vec<(u64, u64, GapReason)> = gaps.unwrap_or_default();
        let mut elsewhere = ring.state(owner, &elsewhere_key(lane)).map(|stored| Elsewhere::decode(stored, 0));
        for at in (0..streams.all.len()).rev() {
            let end = streams.end(at).map_or(u64::MAX, |end| end.ordinal);
            let book = &mut streams.all[at].0;
            book.restore_gaps(&gaps, end);
            if let Some(elsewhere) = &mut elsewhere {
                book.elsewhere = elsewhere.split_off(if at == 0 { 0 } else { book.account.start.ordinal });
                book.elsewhere.pass(book.account.cursor.ordinal);
            }
        }
        for (key, value) in ring.states(owner) {
            let of = shares::of_key(lane, &key).filter(|(_, topic)| ring.topic(*topic).is_some());
            // What a stream had that is not there any more was taken over by another.
            if let Some((stream, topic)) = of
                && let Some((book, _)) = streams.all.iter_mut().find(|(book, _)| book.number == stream)
            {
                book.shares.restore(topic, &value);
            }
        }
        streams.note_moves(ring, lane);
        streams
    }

    /// Topics were moved to other lanes: where that is ahead of a cursor it must know.
    pub fn note_moves(&mut self, ring: &Ring, lane: LaneId) {
        for (book, _) in &mut self.all {
            for topic in ring.topic_ids() {
                book.shares.moved(topic, lane, book.account.cursor.ordinal, ring.moves(topic));
            }
        }
    }

    /// Where a stream ends; None: it is the newest.
    pub fn end(&self, at: usize) -> Option<LanePos> {
        self.all.get(at + 1).map(|(next, _)| next.account.start)
    }

    pub fn index(&self, of: StreamId) -> usize {
        let at = of.number.map(|number| self.all.iter().position(|(book, _)| book.number == number));
        debug_assert_ne!(at, Some(None), "{of:?} is not there any more");
        at.flatten().unwrap_or(0)
    }

    pub fn book(&self, of: StreamId) -> &Book {
        &self.all[self.index(of)].0
    }

    pub fn books(&self) -> impl Iterator<Item = &Book> {
        self.all.iter().map(|(book, _)| book)
    }

    pub fn view(&self, lane: LaneId) -> impl Iterator<Item = Stream> {
        let stream = move |(at, book): (usize, &Book)| {
            let Book { number, from, unstarted, account, .. } = book;
            let to = self.end(at);
            Stream { lane, number: *number, from: *from, cursor: account.cursor, to, unstarted: *unstarted }
        };
        self.books().enumerate().map(stream)
    }

    /// All streams together; the cursor is the lowest.
    pub fn account(&self) -> Account {
        let mut books = self.books();
        let mut sum = books.next().map(|book| book.account).unwrap_or_default();
        books.for_each(|book| sum.add(book.account.counts()));
        sum
    }

    /// The oldest's account, and what is passed beyond its cursor: by other streams, and what is there from another ring.
    pub fn passed(&self) -> Option<(Account, Vec<Stretch>)> {
        let oldest = self.books().next()?.account;
        let own = |book: &Book| {
            let Account { start, cursor, delivered, filtered, .. } = book.account;
            Stretch { from: start.ordinal, to: cursor.ordinal, delivered, filtered }
        };
        let elsewhere = self.books().flat_map(|book| book.elsewhere.ahead());
        Some((oldest, self.books().skip(1).map(own).chain(elsewhere).collect()))
    }

    /// How that divides among topics.
    pub fn shares(&self) -> Vec<(TopicId, Counts)> {
        let mut sum = std::collections::BTreeMap::<TopicId, Counts>::new();
        for (topic, share) in self.books().flat_map(|book| book.shares.topics()) {
            let counts = sum.entry(topic).or_default();
            *counts = counts.plus(share.counts);
        }
        sum.into_iter().collect()
    }

    /// Of each stream what a person may see now: the book, the account, what is pending, and where it ends, with the next
    /// offsets there where it is not the lane's end.
    pub fn as_of<'a>(&'a self, lane: &'a LaneStats) -> impl Iterator<Item = (&'a Book, Account, u64, LanePos)> {
        self.books().enumerate().map(move |(at, book)| {
            let end = self.end(at).unwrap_or(lane.shown);
            let (account, pending) = book.as_of(lane, end);
            (book, account, pending, end)
        })
    }

    pub fn is_dirty(&self) -> bool {
        self.books().any(|book| book.dirty)
    }

    /// Moves a cursor, see [`Book::advance`]; how many losses wait to be told. `state`: there is something to be stored with
    /// it. Before anything is sent as a stream something is: into how many partitions it is spread.
    pub fn advance(&mut self, at: usize, to: LanePos, tally: Tally, room: usize, state: bool) -> usize {
        let Self { all, losses, .. } = self;
        let book = &mut all[at].0;
        if book.unstarted && (state || to.ordinal > book.account.cursor.ordinal) {
            (book.unstarted, book.dirty) = (false, true);
        }
        // A lane's losses are told together.
        std::mem::swap(&mut book.losses, losses);
        book.advance(to, tally, room);
        std::mem::swap(&mut book.losses, losses);
        losses.len()
    }

    /// Bytes of dead letters whose records are not passed yet, in all streams.
    pub fn letter_bytes(&self) -> usize {
        self.books().map(|book| book.letters.bytes()).sum()
    }

    // ---- streams come and go ----

    /// A new stream begins at the lane's durable end, if at least `least` records wait in the newest one. What is removed from
    /// the ring's state for it; None: nothing is split.
    pub fn split(&mut self, ring: &Ring, lane: LaneId, least: u64) -> Option<Vec<Vec<u8>>> {
        let end = ring.lane_shown(lane);
        if end.ordinal != ring.lane_written(lane).ordinal {
            // What was shown beyond what is written was perhaps sent.
            return None;
        }
        let (newest, _) = self.all.last()?;
        let pending = end.ordinal.saturating_sub(newest.account.cursor.ordinal);
        // One that the ring does not know yet is split once it does.
        if pending < least.max(1) || newest.account.start.ordinal >= end.ordinal || newest.born.is_none() {
            return None;
        }
        let gone = if self.all.len() < MAX_STREAMS { Vec::new() } else { self.make_room(lane)? };
        let (newest, _) = self.all.last()?;
        let mut book = Book::numbered(self.next, end, true, Account::new(end), newest.seen);
        book.shares = newest.shares.fork(&ring.lane_ends(lane));
        self.next += 1;
        self.all.push((book, ring.lane_reader(lane, end)));
        Some(gone)
    }

    /// The oldest absorbs its neighbour, if nothing was ever sent of that one: by itself, or by one that it absorbed.
    fn make_room(&mut self, lane: LaneId) -> Option<Vec<Vec<u8>>> {
        let whole = |book: &Book| book.unstarted && book.account.start == book.from;
        if self.all.len() < 3 || !whole(&self.all[1].0) {
            return None;
        }
        let (next, _) = self.all.remove(1);
        let gone = share_keys(lane, &next);
        self.all[0].0.go_on(next);
        Some(gone)
    }

    /// The stream has nothing left to send: the next one takes its account over. What is removed from the ring's state then.
    pub fn absorb(&mut self, of: StreamId) -> Option<Vec<Vec<u8>>> {
        let at = self.index(of);
        let end = self.end(at)?;
        if self.all[at].0.account.cursor.ordinal < end.ordinal {
            return None;
        }
        let (old, _) = self.all.remove(at);
        self.all[at].0.take_over(&old);
        Some(share_keys(of.lane, &old))
    }

    /// Nothing of what another ring has is left ahead of the cursors; true once.
    pub fn is_elsewhere_spent(&mut self) -> bool {
        let spent = self.books().all(|book| book.elsewhere.is_empty());
        spent && self.all.iter_mut().fold(false, |any, (book, _)| book.elsewhere.take_stored() | any)
    }

    // ---- to the ring ----

    /// The gaps ahead of the cursors, as they are stored; None: there are none.
    pub fn encode_gaps(&self) -> Option<Vec<u8>> {
        let gaps: Vec<_> = self.books().flat_map(Book::gaps).collect();
        // Numbers and a unit variant always encode.
        (!gaps.is_empty()).then(|| postcard::to_allocvec(&gaps).unwrap_or_default())
    }

    /// What all of them have to store takes at most so many bytes.
    pub fn stored_bytes(&self) -> usize {
        self.all.len() * ACCOUNT_LEAST + TAIL_LEAST + self.books().map(|book| book.shares.dirty_bytes()).sum::<usize>()
    }

    /// Whether a cursor is beyond a place.
    pub fn is_beyond(&self, end: LanePos) -> bool {
        self.books().any(|book| book.account.cursor.ordinal > end.ordinal)
    }

    pub fn encode(&self) -> Vec<u8> {
        self.encode_up_to(LanePos { seq: u64::MAX, ordinal: u64::MAX })
    }

    /// Without what is counted of records at `end` or beyond.
    pub fn encode_up_to(&self, end: LanePos) -> Vec<u8> {
        let mut books = self.books();
        let Some(oldest) = books.next() else { return Vec::new() };
        let other = |book: &Book| {
            let Book { number, from, unstarted, account, seen, .. } = book;
            Other { number: *number, from: *from, unstarted: *unstarted, account: account.back_to(end), seen: *seen }
        };
        let others: Vec<_> = books.map(other).collect();
        let least = ACCOUNT_LEAST * self.all.len() + if self.next > 1 { TAIL_LEAST } else { 0 };
        let tail = match self.next {
            0 | 1 => Tail::default(),
            next => Tail { number: oldest.number, from: oldest.from, unstarted: oldest.unstarted, next, others },
        };
        // Numbers always encode.
        let mut bytes = postcard::to_allocvec(&(oldest.account.back_to(end), oldest.seen, tail)).unwrap_or_default();
        bytes.resize(bytes.len().max(least), 0);
        bytes
    }

    /// Gives the ring the accounts with the shares of the topics; false when it does not take them.
    pub fn put(&mut self, ring: &mut Ring, now: BootTime, owner: &Owner, lane: LaneId) -> bool {
        // Of one length from the beginning: what does not grow is never refused, and what the account counts has been told.
        let mut put = ring.put_state(now, owner, &cursor_key(lane), Some(&self.encode()));
        if put.is_err() && self.all.len() > 1 {
            // Only a split makes it longer: it goes on unsplit.
            self.all.pop_if(|(newest, _)| newest.born.is_none());
            put = ring.put_state(now, owner, &cursor_key(lane), Some(&self.encode()));
        }
        let Ok(ticket) = put else { return false };
        for (book, _) in &mut self.all {
            for (topic, share) in book.shares.take_dirty() {
                let key = shares::key(lane, book.number, topic);
                if ring.put_state(now, owner, &key, Some(&share)).is_err() {
                    // One that is too old would be wrong; without it the topic's records are of no topic after a restart.
                    let _ = ring.put_state(now, owner, &key, None);
                }
            }
            book.born.get_or_insert(ticket);
            book.dirty = false;
        }
        self.stored(ticket);
        true
    }

    /// The accounts were given to the ring under this ticket.
    fn stored(&mut self, ticket: Ticket) {
        if self.unsettled.len() == MAX_UNSETTLED {
            self.unsettled.pop_back();
        }
        let cursor = self.account().cursor;
        self.unsettled.push_back((ticket, cursor));
    }

    /// The lowest place that this sink may still ask for, after any crash.
    pub fn floor(&mut self, settled: Ticket) -> LanePos {
        while let Some((_, at)) = self.unsettled.front().filter(|(ticket, _)| *ticket <= settled) {
            self.floor = *at;
            self.unsettled.pop_front();
        }
        self.floor
    }
}

/// A sink's streams in a lane as the ring has them, the oldest first, each with its account; None: it does not know the sink there.
pub fn stored_streams(ring: &Ring, owner: &Owner, lane: LaneId) -> Option<Vec<(Stream, Account)>> {
    ring.state(owner, &cursor_key(lane)).and_then(decode)?;
    let streams = Streams::load(ring, owner, lane);
    let accounts = streams.books().map(|book| book.account);
    Some(streams.view(lane).zip(accounts).collect())
}

fn share_keys(lane: LaneId, book: &Book) -> Vec<Vec<u8>> {
    book.shares.topics().map(|(topic, _)| shares::key(lane, book.number, topic)).collect()
}

/// The streams of a stored entry, and the number of the next one; None: a newer version wrote it, or what it says cannot be.
fn decode(stored: &[u8]) -> Option<(Vec<Book>, u32)> {
    let (account, rest) = postcard::take_from_bytes::<Account>(stored).ok()?;
    // Earlier versions wrote the account alone, or no tail.
    let (seen, rest) = postcard::take_from_bytes::<Option<When>>(rest).unwrap_or_default();
    let tail = if rest.is_empty() { Tail::default() } else { postcard::from_bytes(rest).ok()? };
    let Tail { number, unstarted, next, others, .. } = tail;
    let from = if number == 0 { account.start } else { tail.from };
    let mut books = vec![Book::numbered(number, from, unstarted, account, seen)];
    books.extend(others.into_iter().map(|o| Book::numbered(o.number, o.from, o.unstarted, o.account, o.seen)));
    books.iter_mut().for_each(|book| book.born = Some(Ticket::default()));
    let follows = |pair: &[Book]| {
        pair[0].number < pair[1].number && pair[0].account.cursor.ordinal <= pair[1].account.start.ordinal
    };
    let next = next.max(books.last()?.number + 1);
    (books.len() <= MAX_STREAMS && books.windows(2).all(follows)).then_some((books, next))
}

/// The state key of a sink's accounts in one lane.
pub(super) fn cursor_key(lane: LaneId) -> [u8; 8] {
    let mut key = *b"cursor/0";
    key[7] += lane.0;
    key
}

/// The state key of the gaps ahead of the cursors.
pub(super) fn gaps_key(lane: LaneId) -> [u8; 6] {
    let mut key = *b"gaps/0";
    key[5] += lane.0;
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MIN_RING;
    use crate::name::Name;
    use crate::ring::{LaneOptions, MemDisk, Options};
    use crate::time::Span;

    fn pos(n: u64) -> LanePos {
        LanePos { seq: n, ordinal: n }
    }

    /// Streams that end at these places, the last one open; each has delivered up to its cursor.
    fn streams(ranges: &[(u64, u64)]) -> Streams {
        let book = |(n, (from, cursor)): (usize, &(u64, u64))| {
            let account = Account { cursor: pos(*cursor), delivered: cursor - from, ..Account::new(pos(*from)) };
            let seen = (n % 2 == 1).then_some(When { boot: 3, at: BootTime(n as i64) });
            Book::numbered(n as u32, pos(*from), n > 1 && from == cursor, account, seen)
        };
        let books: Vec<Book> = ranges.iter().enumerate().map(book).collect();
        let next = books.len() as u32;
        Streams::of(&ring(), LaneId(0), books, next)
    }

    fn ring() -> Ring {
        let lanes = vec![LaneOptions { name: Name::new("normal").unwrap(), reserve: 0 }];
        let linger = Span::from_secs(1);
        let keys = Default::default();
        let options = Options {
            max_bytes: MIN_RING,
            lanes,
            linger,
            binding: [1; 16],
            boot_id: [2; 16],
            seed: 7,
            keys,
            formats: Default::default(),
        };
        Ring::recover(&mut MemDisk::new(MIN_RING), options).unwrap().0
    }

    fn look(streams: &Streams) -> Vec<(u32, u64, Option<u64>)> {
        let view = streams.view(LaneId(0));
        view.map(|s| (s.number, s.cursor.ordinal, s.to.map(|to| to.ordinal))).collect()
    }

    #[test]
    fn streams_come_back_as_they_were_stored_and_numbers_go_on() {
        let all = streams(&[(5, 9), (20, 20), (30, 33), (40, 40)]);
        let (books, next) = decode(&all.encode()).unwrap();
        assert_eq!(next, 4);
        for (book, was) in books.iter().zip(all.books()) {
            assert_eq!((book.number, book.from, book.unstarted), (was.number, was.from, was.unstarted));
            assert_eq!((book.account, book.seen), (was.account, was.seen));
        }
        assert_eq!(postcard::from_bytes::<Account>(&all.encode()).unwrap().cursor, pos(9), "what the ring must keep");
    }

    #[test]
    fn an_entry_of_an_earlier_version_is_stream_0() {
        let most = u64::from(u32::MAX);
        let account = Account { delivered: most, filtered: most, evicted: most, ..Account::new(pos(most)) };
        let seen = Some(When { boot: 70_000, at: BootTime(1 << 45) });
        for seen in [None, seen] {
            let mut padded = postcard::to_allocvec(&(account, seen)).unwrap();
            padded.resize(ACCOUNT_LEAST, 0);
            for old in [padded.clone(), postcard::to_allocvec(&(account, seen)).unwrap()] {
                let (books, next) = decode(&old).unwrap();
                assert_eq!((books.len(), books[0].number, books[0].from, next), (1, 0, pos(most), 1));
                assert_eq!((books[0].account, books[0].seen), (account, seen));
            }
            // And what never was split is written as it was.
            let mut all = streams(&[(0, 0)]);
            all.all[0].0 = Book::numbered(0, account.start, false, account, seen);
            assert_eq!(all.encode(), padded);
        }
        assert_eq!(decode(&postcard::to_allocvec(&account).unwrap()).unwrap().0[0].account, account);
    }

    #[test]
    fn what_cannot_be_is_not_read() {
        let overlapping = streams(&[(5, 9), (8, 20)]);
        assert!(decode(&overlapping.encode()).is_none());
        let many: Vec<_> = (0..=MAX_STREAMS as u64).map(|n| (10 * n, 10 * n)).collect();
        assert!(decode(&streams(&many).encode()).is_none());
    }

    #[test]
    fn a_stream_that_is_through_is_absorbed_by_the_next_one_and_no_count_is_lost() {
        let mut all = streams(&[(5, 9), (20, 30), (30, 33), (40, 44)]);
        let sum = all.account();
        let second = all.view(LaneId(0)).nth(1).unwrap();
        let third = all.view(LaneId(0)).nth(2).unwrap();
        assert!(all.absorb((&third).into()).is_none(), "it has something left");
        assert!(all.absorb((&second).into()).is_some());
        // It begins where the other began, and goes on where it stood, as itself.
        assert_eq!(look(&all), [(0, 9, Some(20)), (2, 33, Some(40)), (3, 44, None)]);
        assert_eq!(all.all[1].0.from, pos(30));
        assert_eq!(all.account(), sum);
        assert!(all.books().all(|book| book.account.balances()));
        let newest = all.view(LaneId(0)).last().unwrap();
        assert!(all.absorb((&newest).into()).is_none(), "nothing comes after it");
    }

    #[test]
    fn the_lowest_cursor_is_held_until_it_is_durable_that_its_stream_was_absorbed() {
        let mut all = streams(&[(5, 9), (20, 26)]);
        all.stored(Ticket(1));
        assert_eq!(all.floor(Ticket(1)), pos(9));
        all.advance(0, pos(20), Tally { delivered: 11, ..Tally::default() }, 8, false);
        all.absorb(LaneId(0).into()).unwrap();
        assert_eq!(all.account().cursor, pos(26));
        assert_eq!(all.floor(Ticket(1)), pos(9), "not stored yet");
        all.stored(Ticket(2));
        assert_eq!(all.floor(Ticket(1)), pos(9), "not durable yet");
        assert_eq!(all.floor(Ticket(2)), pos(26));
    }

    #[test]
    fn before_a_ninth_stream_the_oldest_absorbs_its_neighbour_only_if_that_one_is_unstarted() {
        let mut ranges: Vec<_> = (0..MAX_STREAMS as u64).map(|n| (10 * n, 10 * n + 1)).collect();
        assert!(streams(&ranges).make_room(LaneId(0)).is_none());
        ranges[1].1 = 10;
        let mut all = streams(&ranges);
        assert!(all.make_room(LaneId(0)).is_none(), "one may have been sent and not acknowledged");
        all.all[1].0.unstarted = true;
        let sum = all.account();
        assert!(all.make_room(LaneId(0)).is_some());
        assert_eq!(look(&all)[..2], [(0, 1, Some(20)), (2, 21, Some(30))]);
        assert_eq!(all.account(), sum);
    }

    #[test]
    fn an_unstarted_stream_that_absorbed_another_is_not_sent_again_by_the_oldest() {
        let mut ranges: Vec<_> = (0..=MAX_STREAMS as u64).map(|n| (10 * n, 10 * n + 1)).collect();
        (ranges[1].1, ranges[2].1) = (20, 20);
        let mut all = streams(&ranges);
        all.all[2].0.unstarted = true;
        let second = all.view(LaneId(0)).nth(1).unwrap();
        assert!(all.absorb((&second).into()).is_some());
        assert_eq!(look(&all)[..2], [(0, 1, Some(10)), (2, 20, Some(30))]);
        assert!(all.make_room(LaneId(0)).is_none());
    }
}
