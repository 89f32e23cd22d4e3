//! Which streams of its lanes the driver sends: of each lane the newest, and of the older ones the newest that is not through.
//!
//! With `order = "newest-first"` or `live_share` a lane is split when the upstream can be reached again and much waits: what
//! comes from then on has a stream of its own and goes first, of all lanes. The older ones go when the newest has nothing to
//! send or has had its share ([`super::turns`]), the newest of them first. Not more than two machines and their buffers are there for a lane, however many streams it has:
//! the others wait in the ring.
//!
//! A lane is split only where no connection was there before, so no request is in flight, and the machines can be made
//! anew from what is stored, as after a crash.

use super::driver::Driver;
use super::feed::Feed;
use crate::lane::LaneId;
use crate::pipeline::{Stream, StreamId};

/// Records that are worth a split: fewer are soon sent, and each partition's end must be looked up anew.
const BACKLOG: u64 = 1000;

impl Driver {
    pub(super) fn begin_feeds(&mut self) {
        for lane in self.outlet.lanes() {
            if let Some(newest) = self.outlet.streams(lane).last() {
                self.push_feed(newest);
            }
        }
        self.outlet.lanes().into_iter().for_each(|lane| self.arrange(lane));
    }

    fn push_feed(&mut self, stream: &Stream) {
        self.feeds.push(self.feed_of(stream));
        self.stuck.push(false);
        self.sent.push(0);
    }

    fn feed_of(&self, stream: &Stream) -> Feed {
        Feed::new(&self.config, &self.sink, &self.outlet, stream, self.seed ^ u64::from(stream.number))
    }

    /// The upstream can be reached again: what comes from now on goes first, where much waits.
    pub(super) async fn split(&mut self) {
        if !self.sink.newest_first && self.sink.live_share.is_none() {
            return;
        }
        for i in self.turns() {
            self.carry_out(i).await;
        }
        let mut split = self.outlet.lanes();
        split.retain(|lane| self.outlet.split(*lane, BACKLOG));
        if !split.is_empty() {
            self.outlet.persist().await;
            for lane in split {
                self.schedule.split(lane);
                self.arrange(lane);
            }
        }
    }

    /// An older stream has nothing left to send: the next one takes its account over. Or it has to wait for another lane, and
    /// one that is older still goes on. True if so.
    pub(super) fn make_way(&mut self, i: usize) -> bool {
        let feed = &self.feeds[i];
        if feed.newest || feed.over {
            return false;
        }
        let (of, lane) = (feed.of, feed.of.lane);
        let absorbed = feed.is_through(&self.outlet) && self.outlet.absorb(of, feed.forward.keys());
        if absorbed || feed.ended && feed.forward.is_settled() {
            self.arrange(lane);
        }
        absorbed || self.feeds[i].of != of
    }

    /// Gives a lane's streams their feeds.
    fn arrange(&mut self, lane: LaneId) {
        let newest = self.outlet.streams(lane).pop();
        let slot = |feeds: &[Feed], newest| feeds.iter().position(|f| f.of.lane == lane && f.newest == newest);
        let of_newest = newest.zip(slot(&self.feeds, true));
        if let Some((stream, i)) = of_newest.filter(|(stream, i)| self.feeds[*i].of != StreamId::from(stream)) {
            self.replace(i, &stream);
        }
        match (self.outlet.older_stream(lane), slot(&self.feeds, false)) {
            (Some(stream), None) => self.push_feed(&stream),
            (Some(stream), Some(i)) if self.feeds[i].over || self.feeds[i].of != StreamId::from(&stream) => {
                self.replace(i, &stream);
            }
            (None, Some(i)) => {
                self.let_go(i);
                self.feeds[i].over = true;
                self.feeds[i].rest();
            }
            _ => {}
        }
    }

    fn replace(&mut self, i: usize, stream: &Stream) {
        self.let_go(i);
        self.feeds[i] = self.feed_of(stream);
        (self.stuck[i], self.sent[i]) = (false, 0);
    }

    /// Forgets what was asked for a feed, and that its partitions are to be opened.
    fn let_go(&mut self, i: usize) {
        self.opens.retain(|place| place.0 != i);
        self.on.retain(|place, _| place.0 != i);
        self.rejected.retain(|place, _| place.0 != i);
        self.asked.retain(|_, (place, ..)| place.0 != i);
        for spu in self.spus.values_mut() {
            spu.members.retain(|place| place.0 != i);
        }
    }
}
