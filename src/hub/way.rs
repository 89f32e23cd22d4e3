//! A link's handle: shared by the sinks that go out through it.
//!
//! It knows the machine ([`crate::link`]), keeps what that stores among the node's state entries, tells waiting sinks when a
//! gate may have moved, and says on the board how the link is. The sockets are the sinks' business.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use super::core::Core;
use super::{Part, PartKind, PartState, Stop};
use crate::config::LinkConfig;
use crate::lane::LaneId;
use crate::link::{Gate, Idle, Link};
use crate::name::Name;
use crate::ring::{Owner, OwnerKind};
use crate::time::{BootTime, Now, Span, WallTime};

/// What links have spent stands under owner kind `Node` and this name.
pub const LINKS_OWNER: &str = "links";

/// The zone of the machine is asked for this often: summer time comes while the node runs.
const ZONE_EVERY: Span = Span::from_secs(60);
/// How often the numbers on the board are brought up to date, and the clock is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// From this share of the budget on the link warns, in percent.
const WARN_AT: u64 = 90;

pub struct Way {
    core: Rc<Core>,
    owner: Option<Owner>,
    pub name: Name,
    part: Rc<Part>,
    link: RefCell<Link>,
    interface: RefCell<Option<String>>,
    on_demand: Cell<bool>,
    /// When the machine's zone was asked, and what it said.
    local: Cell<(Option<BootTime>, i32)>,
    changed: Notify,
    /// The board is to be looked after at once: a percent of the budget more is used.
    news: Notify,
    /// The gates of all lanes, as they were told last.
    gates: RefCell<Vec<Gate>>,
    /// What was spent since the start, whether a batch was among it lately, and what it costs without.
    spent: Cell<u64>,
    sent: Cell<bool>,
    idle: Cell<Idle>,
}

impl Way {
    pub(super) fn new(core: &Rc<Core>, config: &LinkConfig) -> Self {
        let owner = Name::new(LINKS_OWNER).ok().map(|name| Owner { kind: OwnerKind::Node, name });
        let stored = {
            let pipeline = core.pipeline.borrow();
            let key = config.name.as_str().as_bytes();
            owner.as_ref().and_then(|owner| pipeline.ring().state(owner, key).map(<[u8]>::to_vec))
        };
        Self {
            part: core.part(PartKind::Link, config.name.as_str()),
            core: core.clone(),
            owner,
            name: config.name.clone(),
            link: RefCell::new(Link::new(config.options.clone(), stored.as_deref())),
            interface: RefCell::new(config.interface.clone()),
            on_demand: Cell::new(config.on_demand),
            local: Cell::new((None, 0)),
            changed: Notify::new(),
            news: Notify::new(),
            gates: RefCell::default(),
            spent: Cell::default(),
            sent: Cell::default(),
            idle: Cell::default(),
        }
    }

    /// The config changed; what was used stays.
    pub fn set(&self, config: &LinkConfig) {
        self.link.borrow_mut().set(config.options.clone());
        self.interface.replace(config.interface.clone());
        self.on_demand.set(config.on_demand);
        self.look();
        self.changed.notify_waiters();
    }

    /// What connections are bound to.
    pub fn interface(&self) -> Option<String> {
        self.interface.borrow().clone()
    }

    /// Whether a connection that has nothing to carry is closed at once.
    pub fn is_on_demand(&self) -> bool {
        self.on_demand.get()
    }

    fn at(&self) -> (Now, i32) {
        let now = self.core.now();
        let (asked, mut local) = self.local.get();
        if asked.is_none_or(|asked| now.boot - asked >= ZONE_EVERY) {
            local = chrono::Local::now().offset().local_minus_utc();
            self.local.set((Some(now.boot), local));
        }
        (now, local)
    }

    /// A link's lanes are those of the configuration, by their place there; the ring numbers its own.
    fn place(&self, lane: LaneId) -> LaneId {
        self.core.pipeline.borrow().ring().lane_place(lane)
    }

    pub fn gate(&self, lane: LaneId) -> Gate {
        let (now, local) = self.at();
        let lane = self.place(lane);
        self.link.borrow_mut().gate(now, local, lane)
    }

    /// Bytes that the lane may still use; None: as many as it likes.
    pub fn left(&self, lane: LaneId) -> Option<u64> {
        let lane = self.place(lane);
        let link = self.link.borrow();
        link.left(lane).filter(|_| !link.options().goes_on)
    }

    /// Bytes went over the wire: `up` of them out.
    pub fn spend(&self, up: u64, down: u64) {
        let (now, local) = self.at();
        let mut link = self.link.borrow_mut();
        let percent = |link: &Link| link.options().budget.map(|budget| link.used() / (budget.bytes / 100).max(1));
        let before = percent(&link);
        link.spend(now, local, up + down);
        if percent(&link) != before {
            self.news.notify_one();
        }
        // What came in was not asked for by the rate.
        link.owe(down);
        drop(link);
        self.spent.set(self.spent.get() + up + down);
        self.part.count("sent_bytes", up);
        self.part.count("received_bytes", down);
    }

    /// Of what is being spent, this is a lane's.
    pub fn lay_to(&self, lane: LaneId, bytes: u64) {
        let lane = self.place(lane);
        self.sent.set(true);
        self.link.borrow_mut().lay_to(lane, bytes);
    }

    /// Takes up to `want` bytes of the rate: how many, or how long until there are some.
    pub fn pace(&self, want: usize) -> Result<usize, Span> {
        let now = self.core.now();
        self.link.borrow_mut().pace(now, want)
    }

    pub fn give_back(&self, bytes: usize) {
        self.link.borrow_mut().give_back(bytes);
    }

    /// Returns when `coming` bytes may be used: what will be known of them after a crash is durable.
    pub async fn promise(&self, coming: u64) {
        let Some(stored) = self.link.borrow_mut().promise(coming) else { return };
        if let Some(ticket) = self.store(&stored) {
            self.core.hurry(Span::default());
            self.core.wait_settled(ticket).await;
        }
    }

    fn store(&self, stored: &[u8]) -> Option<crate::ring::Ticket> {
        let (owner, now) = (self.owner.as_ref()?, self.core.now().boot);
        let put = self.core.pipeline.borrow_mut().put_state(now, owner, self.name.as_str().as_bytes(), Some(stored));
        match put {
            Ok(ticket) => Some(ticket),
            Err(error) => {
                self.part.report(self.core.now(), PartState::warn(format!("what was used is not kept: {error}")));
                None
            }
        }
    }

    /// Returns when a gate may have moved. Make the future before looking at the gates.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Keeps the board up to date and wakes waiting sinks, until `stop`; then stores what was used.
    pub async fn run(self: Rc<Self>, stop: Stop) -> Result<(), String> {
        loop {
            self.look();
            let change = {
                let (now, local) = self.at();
                self.link.borrow().next_change(now, local)
            };
            // A little late is in the window, a little early is not.
            let wait = change.map_or(LOOK_EVERY, |span| (span.to_std() + Duration::from_millis(20)).min(LOOK_EVERY));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.news.notified() => {}
                () = stop.wait() => break,
            }
        }
        let stored = self.link.borrow_mut().settle();
        if let Some(stored) = stored {
            self.store(&stored);
        }
        Ok(())
    }

    /// Says how the link is, and wakes who waits for a gate if one moved.
    fn look(&self) {
        let names: Vec<Option<Name>> = {
            let pipeline = self.core.pipeline.borrow();
            (0..pipeline.lanes()).map(|lane| pipeline.ring().lane_name(LaneId(lane as u8))).collect()
        };
        let gates: Vec<Gate> = (0..names.len()).map(|lane| self.gate(LaneId(lane as u8))).collect();
        let (now, local) = self.at();
        let mut idle = self.idle.get();
        idle.look(now.boot, self.spent.get(), self.sent.take());
        self.idle.set(idle);
        if let Some(bytes) = idle.bytes_per_day() {
            self.part.gauge("idle_bytes_per_day", bytes);
        }
        {
            let link = self.link.borrow();
            self.part.gauge("used_bytes", link.used());
            if let (Some(budget), Some(end)) = (link.options().budget, link.period_ends(now, local)) {
                self.part.gauge("budget_bytes", budget.bytes);
                self.part.gauge("budget_ends_seconds", u64::try_from(end.0 / 1_000_000).unwrap_or(0));
            }
            self.part.report(now, state(&link, now, local, &gates, &names));
        }
        if self.gates.replace(gates.clone()) != gates {
            self.changed.notify_waiters();
        }
    }
}

/// How a link is, in words that change only when it does: each change is an event.
fn state(link: &Link, now: Now, local: i32, gates: &[Gate], names: &[Option<Name>]) -> PartState {
    let open = gates.iter().zip(names).filter(|(gate, _)| **gate == Gate::Open);
    let open: Vec<&str> = open.filter_map(|(_, name)| name.as_ref().map(Name::as_str)).collect();
    let only = if open.is_empty() { String::new() } else { format!("; {} may send", open.join(", ")) };
    let spent = gates.iter().find_map(|gate| match gate {
        Gate::Spent { until } => Some(*until),
        _ => None,
    });
    let closed = gates.iter().find_map(|gate| match gate {
        Gate::Closed { until } => Some(*until),
        _ => None,
    });
    let nearly = link.options().budget.is_some_and(|budget| link.used() >= budget.bytes / 100 * WARN_AT);
    match (spent, closed) {
        (Some(until), _) => PartState::warn(format!("its budget is spent until {}{only}", minute(until))),
        (None, Some(until)) => PartState::Waits { what: format!("closed until {}{only}", minute(until)) },
        _ if nearly => PartState::warn(format!("more than {WARN_AT} % of its budget is used")),
        _ => match link.window_ends(now, local) {
            Some(end) => PartState::up(format!("open until {}", minute(end))),
            None => PartState::up("open"),
        },
    }
}

/// A closed gate in words, for the sink that waits before it.
pub fn closed_words(link: &Name, gate: Gate) -> Option<String> {
    match gate {
        Gate::Open => None,
        Gate::Closed { until } => Some(format!("waits for link {link}: its next window begins {}", minute(until))),
        Gate::Spent { until } => Some(format!("waits for link {link}: its budget is spent until {}", minute(until))),
    }
}

/// `2026-11-27 14:00Z`
fn minute(at: WallTime) -> String {
    match chrono::DateTime::from_timestamp_micros(at.0) {
        Some(at) => at.format("%Y-%m-%d %H:%MZ").to_string(),
        None => "never".into(),
    }
}
