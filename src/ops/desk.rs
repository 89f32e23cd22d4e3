//! The desk: what the HTTP server and the control socket both need to answer people, in one place.

use std::cell::RefCell;

use super::{Facts, Meter, Status, collect};
use crate::hub::{Admin, Store};

pub struct Desk {
    pub admin: Admin,
    pub store: Store,
    /// Replaced at reload.
    pub facts: RefCell<Facts>,
    meter: RefCell<Meter>,
}

impl Desk {
    pub fn new(admin: Admin, store: Store, facts: Facts) -> Self {
        Self { admin, store, facts: RefCell::new(facts), meter: RefCell::default() }
    }

    /// Takes the counters in; every few seconds, so that rates and the day's sums can be shown.
    pub fn observe(&self) {
        self.meter.borrow_mut().observe(self.admin.now(), &self.admin.snapshot());
    }

    pub fn status(&self) -> Status {
        let (now, snapshot) = (self.admin.now(), self.admin.snapshot());
        let parts = self.admin.board().parts();
        let mut status = collect(now, &snapshot, &parts, &self.facts.borrow(), &self.meter.borrow());
        status.stopping = self.admin.is_stopping();
        status
    }
}
