//! The `fluvio` sink: speaks Fluvio's protocol, and nothing else. What is sent when, and what an answer means, is
//! `forward`'s business.
//!
//! ```text
//!   outlet -> feed (rules, templates, encoding) -> forward -> driver -> spu tasks -> SPUs
//!                                                               └────-> visits   -> SC
//! ```
//!
//! - [`driver`]: one per sink. Carries out what `forward` says, keeps track of connections, reports.
//! - [`session`], [`report`]: its connections, and what it says about them.
//! - [`link`]: when its link lets it.
//! - [`feed`]: reads streams of lanes and offers their records; owns the bytes of batches. [`streams`]: which ones. [`turns`]:
//!   whose turn it is. [`fresh`]: how old what is sent is, and the alarm of it.
//! - [`spu`]: one task per SPU that is needed now. [`meta`]: one short visit to the SC when metadata is needed.
//! - [`expect`], [`reading`]: the same from the other side, for who compares: what a record becomes upstream, and what stands there.
//! - [`contents`]: what stands upstream where no marker survives.
//! - [`conn`], [`wire`], [`answers`], [`encode`]: connections, messages there and back, batches. [`tls`]: who is who on them, and until when. [`trouble`]: what to tell a person.
//!
//! # Why its own produce loop
//!
//! The official producer spins when its queue is full, loses batches after a failed send, queues without a bound that
//! matters, and cannot set the producer fields that our markers need. Here one request is in flight per partition, the
//! window is bounded in bytes, every wait has a deadline, and a lost batch is read from the ring again.
//!
//! # Waiting
//!
//! Nothing in here blocks the loop: connecting, visiting and talking are tasks of this sink that die with it. Failures
//! of the SC and of each SPU wait by decorrelated jitter between `retry`'s base and cap, each on its own.
//! `flush` ends those waits.

pub mod answers;
mod buffers;
#[cfg(test)]
mod captures;
mod conn;
pub mod contents;
mod driver;
mod encode;
mod expect;
mod feed;
mod fresh;
mod link;
mod meta;
mod reading;
mod report;
mod session;
mod spu;
mod streams;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tls;
mod trouble;
mod turns;
pub mod wire;

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::model::{FluvioSink, SinkConfig};
use crate::hub::{Outlet, PartState, SinkOrder, Way};
pub use conn::{Line, read_frame};
pub use contents::seeded as content_seeded;
use driver::Driver;
pub use expect::{Expect, Output};
pub use meta::{Meta, visit};
pub use reading::{MAX_SLICE, Reading, whole_batches};
pub use tls::Keeper;
pub use trouble::Trouble;

/// What a request that is in flight when the sink stops may still take.
const LEAVE: Duration = Duration::from_secs(1);

/// Runs until the sink is told to stop. It never gives up: the upstream may be away for weeks.
pub async fn run(config: &SinkConfig, sink: &FluvioSink, outlet: Outlet, way: Option<Rc<Way>>) {
    let watched = outlet.clone();
    let driver = Driver::new(config, sink, outlet, way);
    let late = driver.late.clone();
    // Also while the driver is paused, or waits for the disk.
    tokio::select! {
        () = drive(driver) => {}
        () = fresh::watch(sink.freshness_alarm, watched, late) => {}
    }
}

async fn drive(mut driver: Driver) {
    let lever = driver.outlet.lever();
    loop {
        match driver.outlet.order() {
            SinkOrder::Stop => return driver.leave(Instant::now() + LEAVE).await,
            SinkOrder::Pause => {
                driver.hang_up();
                driver.outlet.report(PartState::Paused);
                lever.changed().await;
                driver.hurry();
                continue;
            }
            SinkOrder::Run | SinkOrder::Flush => {}
        }
        let more = driver.turn().await;
        if more {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            order = lever.changed() => if order == SinkOrder::Flush { driver.hurry() },
            () = driver.idle() => {}
        }
    }
}
