//! The board: what every part says about itself. Status, metrics, log and events are made from it.
//!
//! A part (a source, a sink, the endpoint, the disk, ...) holds a [`Part`] and counts on it; counting is a scan of
//! a handful of `&'static str` that compares pointers first, and allocates only the first time a name is seen. The
//! board itself is asked only by those who want to see everything.
//!
//! Promises: a state keeps the moment it began although its words change ("down since" survives twenty different
//! errors); a part that is down stays down until it says it is up, so a retry loop may report `Starting` freely;
//! every change becomes one line of log and one [`Event`], but a part that flaps gets [`EVENT_BURST`] of them and
//! then one a minute, each saying how many were left out; what nobody drains is bounded and counted.
//!
//! Not here: text and JSON (see `ops`), writing the events into their topic (see `node`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::Freshness;
use crate::limits::{EVENT_BURST, EVENT_REFILL_SECS, MAX_COUNTERS, MAX_EVENTS_WAITING, MAX_REPORT};
use crate::name::Name;
use crate::rules::Told;
use crate::time::{BootTime, Now, Span};

/// Counter names that more than one part uses, so that they read the same everywhere.
pub mod counters {
    /// Events taken from the peer.
    pub const RECEIVED: &str = "received";
    /// Bytes taken from the peer.
    pub const RECEIVED_BYTES: &str = "received_bytes";
    /// Events that the rules dropped.
    pub const FILTERED: &str = "filtered";
    /// Events larger than the ring takes.
    pub const REFUSED: &str = "refused";
    /// Input that did not parse; kept raw where that makes sense.
    pub const MALFORMED: &str = "malformed";
    /// Values cut at the source's limit.
    pub const TRUNCATED: &str = "truncated";
    /// Repeats that the source itself sent and that could not be told from new events.
    pub const REDELIVERED: &str = "redelivered";
    /// Repeats recognised and dropped.
    pub const REPEATS_DROPPED: &str = "repeats_dropped";
    /// What the peer says it lost before it reached the source.
    pub const LOST_BEFORE_SOURCE: &str = "lost_before_source";
    /// Peers turned away by an `allow` list or a limit.
    pub const TURNED_AWAY: &str = "turned_away";
    /// Requests of the endpoint's clients that `allow` does not allow.
    pub const DENIED: &str = "denied";
    pub const HANDSHAKES_FAILED: &str = "handshakes_failed";
    /// Peers that said or took nothing for too long.
    pub const TIMED_OUT: &str = "timed_out";
    pub const CONNECTS: &str = "connects";
    pub const SENT_BYTES: &str = "sent_bytes";
    pub const SENT_BATCHES: &str = "sent_batches";
    /// Batches that were given up: no answer in time, or the connection was lost before it.
    pub const UNANSWERED: &str = "unanswered_batches";
    pub const DUPLICATED: &str = "duplicated";
    pub const MAYBE_DUPLICATED: &str = "maybe_duplicated";
    /// Times the upstream no longer had what it had acknowledged.
    pub const UPSTREAM_LOSSES: &str = "upstream_losses";
    /// Times a partition had records of ours that this life of the ring has not sent, in each lane.
    pub const BACKUPS_PUT_BACK: &str = "backups_put_back";
    /// Partitions upstream whose topics rebuild batches; a gauge.
    pub const WITHOUT_MARKERS: &str = "partitions_without_markers";
    /// Records that a sink's rule failed on; they passed unchanged.
    pub const RULE_ERRORS: &str = "rule_errors";
}

/// How a part is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PartState {
    Starting,
    /// Works; `what` says with what ("connected to 10.0.0.5:1883").
    Up {
        what: String,
    },
    /// Would work, and waits for its time: `what` says for what.
    Waits {
        what: String,
    },
    /// Works around something that a person should know.
    Warn {
        what: String,
    },
    /// Does not work: what failed, where, what to do; tried again in `retry_in_ms` if it heals itself.
    Down {
        what: String,
        retry_in_ms: Option<u64>,
    },
    Paused,
}

impl PartState {
    pub fn up(what: impl Into<String>) -> Self {
        Self::Up { what: what.into() }
    }
    pub fn warn(what: impl Into<String>) -> Self {
        Self::Warn { what: what.into() }
    }
    /// Down, and tried again after `retry`.
    pub fn down(what: impl Into<String>, retry: Option<Span>) -> Self {
        Self::Down { what: what.into(), retry_in_ms: retry.map(|s| (s.0.max(0) / 1000) as u64) }
    }
    /// `starting`, `up`, `waits`, `warn`, `down`, `paused`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up { .. } => "up",
            Self::Waits { .. } => "waits",
            Self::Warn { .. } => "warn",
            Self::Down { .. } => "down",
            Self::Paused => "paused",
        }
    }
    /// What the part says, without its label.
    pub fn what(&self) -> &str {
        match self {
            Self::Up { what } | Self::Waits { what } | Self::Warn { what } | Self::Down { what, .. } => what,
            Self::Starting | Self::Paused => "",
        }
    }

    /// Cut to [`MAX_REPORT`] bytes: a peer's words end up in here.
    fn bounded(mut self) -> Self {
        if let Self::Up { what } | Self::Waits { what } | Self::Warn { what } | Self::Down { what, .. } = &mut self
            && what.len() > MAX_REPORT
        {
            let mut end = MAX_REPORT;
            while !what.is_char_boundary(end) {
                end -= 1;
            }
            what.truncate(end);
            what.push('…');
        }
        self
    }
}

/// What kind of part; the order is the order of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// The node as a whole: starts, reloads, shutdown.
    Node,
    Clock,
    Config,
    /// The ring's device.
    Disk,
    Source,
    Rule,
    Link,
    Sink,
    Endpoint,
    Http,
    Control,
}

impl PartKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Clock => "clock",
            Self::Config => "config",
            Self::Disk => "disk",
            Self::Source => "source",
            Self::Rule => "rule",
            Self::Link => "link",
            Self::Sink => "sink",
            Self::Endpoint => "endpoint",
            Self::Http => "http",
            Self::Control => "control",
        }
    }
}

/// What a part is called in a line of its own: `sink hq`, but `endpoint` where there is one only.
pub fn title(kind: &str, name: &str) -> String {
    if kind == name { name.to_owned() } else { format!("{kind} {name}") }
}

/// One change of one part's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Now,
    pub kind: PartKind,
    pub name: Rc<str>,
    pub state: PartState,
    /// Changes of this part that were left out before this one, because it flapped.
    pub left_out: u64,
}

/// A part as the status sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartView {
    pub kind: PartKind,
    pub name: Rc<str>,
    pub state: PartState,
    /// When the state began (its words may have changed since).
    pub since: Now,
    /// When the part tries again; in the past: it is trying now.
    pub next_try: Option<BootTime>,
    pub counters: Vec<(&'static str, u64)>,
    pub gauges: Vec<(&'static str, u64)>,
    /// Of a sink that learns when its records are there.
    pub freshness: Option<Box<Freshness>>,
    /// What the rules did that stand before a sink.
    pub rules: Vec<(Name, Told)>,
}

impl PartView {
    pub fn counter(&self, name: &str) -> u64 {
        find(&self.counters, name).unwrap_or(0)
    }
    pub fn gauge(&self, name: &str) -> Option<u64> {
        find(&self.gauges, name)
    }
}

fn find(list: &[(&'static str, u64)], name: &str) -> Option<u64> {
    list.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
}

/// A short list of named numbers.
#[derive(Debug, Default)]
struct Numbers(RefCell<Vec<(&'static str, u64)>>);

impl Numbers {
    fn update(&self, name: &'static str, change: impl FnOnce(&mut u64)) {
        let mut list = self.0.borrow_mut();
        let same = |n: &'static str| std::ptr::eq(n, name) || n == name;
        let at = list.iter().position(|(n, _)| same(n)).unwrap_or(list.len());
        if at == list.len() {
            // Names are literals, so this ends; a part that makes them up shows here in tests.
            debug_assert!(at < MAX_COUNTERS, "more than {MAX_COUNTERS} counters on one part: {name}");
            if at >= MAX_COUNTERS {
                return;
            }
            list.push((name, 0));
        }
        change(&mut list[at].1);
    }

    fn get(&self, name: &str) -> Option<u64> {
        find(&self.0.borrow(), name)
    }
}

struct PartInfo {
    state: PartState,
    since: Now,
    reported: Now,
    /// Events it may still send before it has to wait for `refilled`.
    tokens: u32,
    refilled: BootTime,
    left_out: u64,
}

/// One part's own end of the board. Kept by the part; cheap to clone through its `Rc`.
pub struct Part {
    kind: PartKind,
    name: Rc<str>,
    info: RefCell<PartInfo>,
    counters: Numbers,
    gauges: Numbers,
    freshness: RefCell<Option<Box<Freshness>>>,
    rules: RefCell<Vec<(Name, Told)>>,
    log: Rc<Log>,
}

impl Part {
    pub fn kind(&self) -> PartKind {
        self.kind
    }
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Adds to a counter.
    pub fn count(&self, counter: &'static str, n: u64) {
        self.counters.update(counter, |v| *v = v.saturating_add(n));
    }
    /// What a counter says; 0 if it never counted.
    pub fn counted(&self, counter: &str) -> u64 {
        self.counters.get(counter).unwrap_or(0)
    }
    pub fn gauge(&self, name: &'static str, value: u64) {
        self.gauges.update(name, |v| *v = value);
    }

    /// Records were acknowledged, see [`Freshness::add`].
    pub fn fresh(&self, ages: Option<(Span, Span)>, records: u64) {
        self.freshness.borrow_mut().get_or_insert_default().add(ages, records);
    }

    /// What its rules did since it was last told.
    pub fn tell_rules<'a>(&self, told: impl Iterator<Item = (&'a Name, Told)>) {
        let mut rules = self.rules.borrow_mut();
        for (name, told) in told {
            told.add_to(&mut rules, name);
        }
    }

    pub fn state(&self) -> PartState {
        self.info.borrow().state.clone()
    }

    /// Says how the part is; a change is logged and becomes an event.
    pub fn report(&self, now: Now, state: PartState) {
        let state = state.bounded();
        let mut info = self.info.borrow_mut();
        if state == PartState::Starting && matches!(info.state, PartState::Down { .. }) {
            return; // tries again: still down until it is up
        }
        let changed = info.state.label() != state.label();
        let reworded = info.state.what() != state.what();
        info.reported = now;
        info.state = state;
        if changed {
            info.since = now;
            self.log.turns.set(self.log.turns.get() + 1);
            self.log.turned.notify_one();
        }
        if changed || reworded {
            self.announce(now, &mut info);
        }
    }

    fn announce(&self, now: Now, info: &mut PartInfo) {
        let refill = Span::from_secs(EVENT_REFILL_SECS);
        while info.tokens < EVENT_BURST && info.refilled + refill <= now.boot {
            info.tokens += 1;
            info.refilled = info.refilled + refill;
        }
        if info.tokens == EVENT_BURST {
            info.refilled = now.boot;
        }
        if info.tokens == 0 {
            info.left_out += 1;
            return;
        }
        info.tokens -= 1;
        let left_out = std::mem::take(&mut info.left_out);
        self.log.push(Event { at: now, kind: self.kind, name: self.name.clone(), state: info.state.clone(), left_out });
    }

    fn view(&self) -> PartView {
        let info = self.info.borrow();
        let next_try = match info.state {
            PartState::Down { retry_in_ms: Some(ms), .. } => {
                Some(info.reported.boot + Span::from_millis(i64::try_from(ms).unwrap_or(i64::MAX / 1000)))
            }
            _ => None,
        };
        PartView {
            kind: self.kind,
            name: self.name.clone(),
            state: info.state.clone(),
            since: info.since,
            next_try,
            counters: self.counters.0.borrow().clone(),
            gauges: self.gauges.0.borrow().clone(),
            freshness: self.freshness.borrow().clone(),
            rules: self.rules.borrow().clone(),
        }
    }
}

/// Events that wait to be written into their topic.
#[derive(Default)]
struct Log {
    waiting: RefCell<VecDeque<Event>>,
    dropped: Cell<u64>,
    arrived: tokio::sync::Notify,
    /// Changes from up to down and the like.
    turns: Cell<u64>,
    turned: tokio::sync::Notify,
}

impl Log {
    fn push(&self, event: Event) {
        write_log_line(&event);
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() == MAX_EVENTS_WAITING {
            waiting.pop_front();
            self.dropped.set(self.dropped.get() + 1);
        }
        waiting.push_back(event);
        self.arrived.notify_one();
    }
}

/// State changes have a target of their own, so that they show although the log level is `warn`.
fn write_log_line(event: &Event) {
    let title = title(event.kind.as_str(), &event.name);
    let (state, what) = (event.state.label(), event.state.what());
    let left_out = match event.left_out {
        0 => String::new(),
        n => format!(" ({n} changes before this one not shown)"),
    };
    let separator = if what.is_empty() { "" } else { ": " };
    match event.state {
        PartState::Down { .. } | PartState::Warn { .. } => {
            tracing::warn!(target: "headwater::state", "{title} {state}{separator}{what}{left_out}");
        }
        _ => tracing::info!(target: "headwater::state", "{title} {state}{separator}{what}{left_out}"),
    }
}

/// Counters, gauges, states and the newest events of all parts.
#[derive(Default)]
pub struct Board {
    parts: RefCell<Vec<Rc<Part>>>,
    log: Rc<Log>,
}

impl Board {
    /// The part of this kind and name, made (in state `Starting`) if it is not there.
    pub fn part(&self, kind: PartKind, name: &str, now: Now) -> Rc<Part> {
        let mut parts = self.parts.borrow_mut();
        if let Some(part) = parts.iter().find(|p| p.kind == kind && &*p.name == name) {
            return part.clone();
        }
        let info = PartInfo {
            state: PartState::Starting,
            since: now,
            reported: now,
            tokens: EVENT_BURST,
            refilled: now.boot,
            left_out: 0,
        };
        let part = Rc::new(Part {
            kind,
            name: name.into(),
            info: RefCell::new(info),
            counters: Numbers::default(),
            gauges: Numbers::default(),
            freshness: RefCell::default(),
            rules: RefCell::default(),
            log: self.log.clone(),
        });
        let at = parts.partition_point(|p| p.kind <= kind);
        parts.insert(at, part.clone());
        self.log.turns.set(self.log.turns.get() + 1);
        part
    }

    /// Grows with every part that comes or goes, and every change from up to down and the like.
    pub fn turns(&self) -> u64 {
        self.log.turns.get()
    }

    /// Returns when a part went from up to down, or the like (one waiter).
    pub async fn turned(&self) {
        self.log.turned.notified().await;
    }

    /// Whether there are sinks, and all of them are up.
    pub fn are_sinks_up(&self) -> bool {
        let parts = self.parts.borrow();
        let mut sinks = parts.iter().filter(|p| p.kind == PartKind::Sink).peekable();
        sinks.peek().is_some() && sinks.all(|p| matches!(p.info.borrow().state, PartState::Up { .. }))
    }

    /// Takes a part that left the config off the board.
    pub fn remove(&self, kind: PartKind, name: &str) {
        self.parts.borrow_mut().retain(|p| p.kind != kind || &*p.name != name);
        self.log.turns.set(self.log.turns.get() + 1);
    }

    /// All parts, by kind, then in the order they came.
    pub fn parts(&self) -> Vec<PartView> {
        self.parts.borrow().iter().map(|p| p.view()).collect()
    }

    /// The oldest event that is not written yet.
    pub fn oldest_event(&self) -> Option<Event> {
        self.log.waiting.borrow().front().cloned()
    }
    /// The oldest event is written: forget it.
    pub fn event_written(&self) {
        self.log.waiting.borrow_mut().pop_front();
    }
    /// Returns when an event waits to be written (one waiter).
    pub async fn event_waits(&self) {
        while self.log.waiting.borrow().is_empty() {
            self.log.arrived.notified().await;
        }
    }
    /// Events that were taken and could not be kept.
    pub fn events_lost(&self, n: u64) {
        self.log.dropped.set(self.log.dropped.get() + n);
    }
    /// Events that nobody took in time, or that could not be kept.
    pub fn events_dropped(&self) -> u64 {
        self.log.dropped.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallTime;

    fn at(seconds: i64) -> Now {
        Now { boot: BootTime(seconds * 1_000_000), wall: WallTime(seconds * 1_000_000), trusted: true }
    }

    fn events(board: &Board) -> Vec<Event> {
        let take = || board.oldest_event().inspect(|_| board.event_written());
        std::iter::from_fn(take).collect()
    }

    #[test]
    fn a_counter_adds_and_a_gauge_replaces() {
        let board = Board::default();
        let part = board.part(PartKind::Source, "log", at(0));
        part.count(counters::RECEIVED, 3);
        part.count(counters::RECEIVED, 4);
        part.gauge("open_files", 9);
        part.gauge("open_files", 2);
        let view = &board.parts()[0];
        assert_eq!((view.counter("received"), view.gauge("open_files"), view.counter("never")), (7, Some(2), 0));
    }

    #[test]
    fn the_same_kind_and_name_is_the_same_part() {
        let board = Board::default();
        board.part(PartKind::Sink, "hq", at(0)).count("x", 1);
        board.part(PartKind::Sink, "hq", at(1)).count("x", 1);
        board.part(PartKind::Source, "hq", at(1)).count("x", 5);
        let counts: Vec<_> = board.parts().iter().map(|p| (p.kind, p.counter("x"))).collect();
        assert_eq!(counts, [(PartKind::Source, 5), (PartKind::Sink, 2)]);
        board.remove(PartKind::Source, "hq");
        assert_eq!(board.parts().len(), 1);
    }

    #[test]
    fn down_since_survives_other_words_and_new_tries() {
        let board = Board::default();
        let part = board.part(PartKind::Sink, "hq", at(0));
        part.report(at(10), PartState::down("timed out", Some(Span::from_secs(5))));
        part.report(at(15), PartState::Starting);
        part.report(at(20), PartState::down("refused", Some(Span::from_secs(8))));
        let view = &board.parts()[0];
        assert_eq!((view.since, view.next_try), (at(10), Some(at(28).boot)));
        assert_eq!(view.state.what(), "refused");
        part.report(at(30), PartState::up("connected"));
        assert_eq!(board.parts()[0].since, at(30));
        assert_eq!(events(&board).len(), 3);
    }

    #[test]
    fn a_report_that_changes_nothing_is_no_event() {
        let board = Board::default();
        let part = board.part(PartKind::Sink, "hq", at(0));
        for second in 0..100 {
            part.report(at(second), PartState::down("timed out", Some(Span::from_secs(second))));
        }
        assert_eq!(events(&board).len(), 1);
    }

    #[test]
    fn a_part_that_flaps_is_heard_in_full_then_once_a_minute_with_a_count() {
        let board = Board::default();
        let part = board.part(PartKind::Sink, "hq", at(0));
        for second in 0..600 {
            let state = if second % 2 == 0 { PartState::up("connected") } else { PartState::down("reset", None) };
            part.report(at(second), state);
        }
        let events = events(&board);
        assert!(events.len() <= EVENT_BURST as usize + 10, "{}", events.len());
        let told: u64 = events.iter().map(|e| 1 + e.left_out).sum();
        assert!((540..=600).contains(&told), "{told}");
    }

    #[test]
    fn events_that_nobody_takes_are_bounded_and_counted() {
        let board = Board::default();
        for n in 0..MAX_EVENTS_WAITING + 7 {
            board.part(PartKind::Source, &format!("s{n}"), at(0)).report(at(0), PartState::up("x"));
        }
        assert_eq!((events(&board).len(), board.events_dropped()), (MAX_EVENTS_WAITING, 7));
    }

    #[test]
    fn a_peers_long_words_are_cut() {
        let board = Board::default();
        let part = board.part(PartKind::Source, "broker", at(0));
        part.report(at(0), PartState::warn("ü".repeat(MAX_REPORT)));
        assert!(part.state().what().len() <= MAX_REPORT + '…'.len_utf8());
    }
}
