//! What all handles share: the pipeline behind one `RefCell`, the clock, and who waits for what.
//!
//! One thread, so a borrow lasts for one call and is never held across an await. Waiters look again whenever something
//! moved: a completion came, a cursor advanced, a topic was made.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::{Notify, mpsc, oneshot};

use super::{Board, Part, PartKind, Reply, Request, SinkOrder};
use crate::name::Name;
use crate::pipeline::{Pipeline, SinkId};
use crate::ring::{PartReader, Ticket};
use crate::time::{BootTime, Now, Span};

/// Requests to the node that wait for its attention.
const MAX_REQUESTS: usize = 16;

pub(super) struct Core {
    pub pipeline: RefCell<Pipeline>,
    pub clock: Box<dyn Fn() -> Now>,
    pub board: Rc<Board>,
    /// The disk loop has something to do.
    pub kick: Notify,
    /// Something that somebody may wait for has happened.
    pub moved: Notify,
    /// What readers were last told of: changes of the board's states, and what the ring shows.
    pub turns: Cell<u64>,
    pub shown: Cell<u64>,
    /// When the group under way began: all of it was admitted then.
    pub group: Cell<Option<Now>>,
    pub stop: Stop,
    pub requests: mpsc::Sender<(Request, oneshot::Sender<Reply>)>,
    pub levers: RefCell<Vec<Rc<Lever>>>,
    /// Places from which partitions are being read in order, newest last.
    pub part_readers: RefCell<Vec<PartReader>>,
}

/// Requests as the node takes them.
pub type Requests = mpsc::Receiver<(Request, oneshot::Sender<Reply>)>;

impl Core {
    pub fn new(pipeline: Pipeline, clock: Box<dyn Fn() -> Now>, board: Rc<Board>) -> (Rc<Self>, Requests) {
        let (requests, receiver) = mpsc::channel(MAX_REQUESTS);
        let core = Self {
            pipeline: RefCell::new(pipeline),
            clock,
            board,
            kick: Notify::new(),
            moved: Notify::new(),
            turns: Cell::new(0),
            shown: Cell::new(0),
            group: Cell::new(None),
            stop: Stop::default(),
            requests,
            levers: RefCell::default(),
            part_readers: RefCell::default(),
        };
        (Rc::new(core), receiver)
    }

    pub fn now(&self) -> Now {
        (self.clock)()
    }

    pub fn part(&self, kind: PartKind, name: &str) -> Rc<Part> {
        self.board.part(kind, name, self.now())
    }

    /// Returns when `met` holds; it is asked again whenever something moved.
    pub async fn until(&self, mut met: impl FnMut() -> bool) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if met() {
                return;
            }
            moved.await;
        }
    }

    pub fn settled(&self) -> Ticket {
        self.pipeline.borrow().ring().settled()
    }

    pub async fn wait_settled(&self, ticket: Ticket) {
        self.want(ticket);
        self.until(|| self.settled() >= ticket).await;
    }

    /// Returns when there is room and `held` does not hold.
    pub async fn room(&self, held: impl Fn(&Pipeline) -> bool) {
        self.until(|| {
            let pipeline = self.pipeline.borrow();
            pipeline.ring().has_room() && !held(&pipeline)
        })
        .await;
    }

    /// The disk loop looks around: who is up decides what goes to the disk, and who waits for records learns of new ones.
    pub fn look(&self) {
        let turns = self.board.turns();
        if self.turns.replace(turns) != turns {
            self.pipeline.borrow_mut().set_online(self.board.are_sinks_up());
        }
    }

    /// Records are there that are not durable yet.
    pub fn show(&self) {
        let shown = self.pipeline.borrow().ring().times_shown();
        if self.shown.replace(shown) != shown {
            self.moved.notify_waiters();
        }
    }

    /// Somebody waits for it.
    pub fn want(&self, ticket: Ticket) {
        self.pipeline.borrow_mut().ring_mut().want(ticket);
        self.kick.notify_one();
    }

    pub fn hurry(&self, within: Span) {
        let by: BootTime = self.now().boot + within;
        self.pipeline.borrow_mut().ring_mut().hurry(by);
        self.kick.notify_one();
    }

    pub fn lever(&self, name: &Name) -> Option<Rc<Lever>> {
        self.levers.borrow().iter().find(|lever| lever.name == *name).cloned()
    }
}

/// A flag that is set once, and those who wait for it.
#[derive(Clone, Default)]
pub struct Stop(Rc<(Cell<bool>, Notify)>);

impl Stop {
    pub fn set(&self) {
        self.0.0.set(true);
        self.0.1.notify_waiters();
    }

    pub fn is_set(&self) -> bool {
        self.0.0.get()
    }

    pub async fn wait(&self) {
        loop {
            let set = self.0.1.notified();
            tokio::pin!(set);
            set.as_mut().enable();
            if self.is_set() {
                return;
            }
            set.await;
        }
    }
}

/// What people and the node tell one sink.
pub struct Lever {
    pub name: Name,
    pub id: SinkId,
    order: Cell<SinkOrder>,
    flush: Cell<bool>,
    changed: Notify,
}

impl Lever {
    pub(super) fn new(name: Name, id: SinkId) -> Self {
        Self { name, id, order: Cell::new(SinkOrder::Run), flush: Cell::new(false), changed: Notify::new() }
    }

    pub fn order(&self) -> SinkOrder {
        self.order.get()
    }

    /// `Flush` is said once and leaves the order as it was; `Stop` is final.
    pub fn give(&self, order: SinkOrder) {
        if order == SinkOrder::Flush {
            self.flush.set(true);
        } else if self.order.get() != SinkOrder::Stop {
            self.order.set(order);
        }
        // One waiter; a permit is kept for it if it is busy elsewhere.
        self.changed.notify_one();
    }

    pub async fn changed(&self) -> SinkOrder {
        self.changed.notified().await;
        if self.flush.take() && self.order() == SinkOrder::Run { SinkOrder::Flush } else { self.order() }
    }
}
