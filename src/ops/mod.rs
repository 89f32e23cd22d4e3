//! Ops: how people and their tools see a running node and tell it things.
//!
//! One [`Status`] is built from the hub's numbers and the board; everything else is a form of it: the page for people
//! ([`text`]), the check line for Nagios and its kin ([`check`]), metrics in Prometheus conventions ([`metrics`]), the
//! heartbeat record for nodes that nobody can reach ([`heartbeat`]). Two ways in: [`http`] for probes and scrapers, read
//! only, and the [`control`] socket for the commands.
//!
//! The node makes one [`Ops`], runs `http::run`, `control::run` and [`Ops::watch`] beside its other tasks, and tells it
//! the facts of a new config after a reload.

pub mod check;
pub mod control;
pub mod events;
pub mod heartbeat;
pub mod history;
pub mod http;
pub mod human;
pub mod meter;
pub mod metrics;
pub mod notify;
pub mod status;
#[cfg(test)]
pub mod testing;
pub mod text;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

pub use heartbeat::heartbeat;
pub use meter::Meter;
pub use status::{Facts, Status, collect};

use crate::hub::{Admin, Part, PartKind, Store};
use crate::time::Now;

/// The meter looks at the counters this often.
const WATCH_EVERY: Duration = Duration::from_secs(10);

/// What the ways in share.
pub struct Ops {
    admin: Admin,
    store: Store,
    facts: RefCell<Facts>,
    meter: RefCell<Meter>,
}

impl Ops {
    pub fn new(admin: Admin, store: Store, facts: Facts) -> Rc<Self> {
        let meter = RefCell::new(Meter::default());
        meter.borrow_mut().observe(admin.now(), &admin.snapshot());
        Rc::new(Self { admin, store, facts: RefCell::new(facts), meter })
    }

    /// After a reload. The node's start stays what it was.
    pub fn set_facts(&self, facts: Facts) {
        let started = self.facts.borrow().started;
        *self.facts.borrow_mut() = Facts { started, ..facts };
    }

    /// Hash of the loaded config.
    pub fn config_hash(&self) -> String {
        self.facts.borrow().config_hash.clone()
    }

    /// The config files on disk are (not) the ones that are loaded.
    pub fn set_config_differs(&self, differs: bool) {
        self.facts.borrow().config_differs.set(differs);
    }

    /// Everything, as of now.
    pub fn status(&self) -> Status {
        let (now, board) = (self.admin.now(), self.admin.board());
        let mut status =
            collect(now, &self.admin.snapshot(), &board.parts(), &self.facts.borrow(), &self.meter.borrow());
        status.stopping = self.admin.is_stopping();
        status.events_dropped = board.events_dropped();
        status
    }

    /// The newest `n` state changes, oldest first.
    pub fn events(&self, n: usize) -> Vec<events::EventRecord> {
        history::owner().map_or_else(Vec::new, |owner| history::newest(&self.admin.states(&owner), n))
    }

    /// Looks at the counters now and then, so that the status knows what happened lately; returns when the node stops.
    pub async fn watch(&self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(WATCH_EVERY) => {}
                () = self.admin.stopping() => return,
            }
            self.meter.borrow_mut().observe(self.admin.now(), &self.admin.snapshot());
        }
    }

    fn now(&self) -> Now {
        self.admin.now()
    }

    fn part(&self, kind: PartKind, name: &str) -> Rc<Part> {
        self.admin.board().part(kind, name, self.now())
    }

    /// Whether the ring evicts what some sink has not sent.
    pub fn is_evicting(&self) -> bool {
        self.meter.borrow().is_evicting(self.now(), &self.admin.snapshot())
    }

    async fn stopping(&self) {
        self.admin.stopping().await;
    }

    /// For the jitter of retries: differs from start to start.
    fn seed(&self) -> u64 {
        self.now().wall.0 as u64
    }
}
