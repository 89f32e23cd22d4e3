//! The supervisor: one task per part, started again with backoff when it fails, ended by its own stop.
//!
//! A part that cannot work (a port that is taken, a peer that is away, a permission that is missing) is shown as down
//! with what to do and is tried again; it never ends the node.

use std::future::Future;
use std::rc::Rc;

use tokio::task::JoinHandle;

use crate::backoff::Backoff;
use crate::hub::{Hub, Part, PartState, Stop};
use crate::time::Span;

/// A part that ran this long before it failed begins with the shortest wait again.
const STEADY: Span = Span::from_secs(60);
const RETRY: (Span, Span) = (Span::from_secs(1), Span::from_secs(60));

/// A running part.
pub struct Task {
    pub stop: Stop,
    handle: JoinHandle<()>,
}

impl Task {
    /// Runs what `make` makes until it returns Ok, or `stop` is set and it returned. `woken` cuts a wait short.
    pub fn spawn<Fut, Woken>(
        hub: &Hub,
        part: Rc<Part>,
        stop: Stop,
        mut make: impl FnMut() -> Fut + 'static,
        mut woken: impl FnMut() -> Woken + 'static,
    ) -> Self
    where
        Fut: Future<Output = Result<(), String>> + 'static,
        Woken: Future<Output = ()> + 'static,
    {
        let hub = hub.clone();
        let ends = stop.clone();
        let handle = tokio::task::spawn_local(async move {
            let mut backoff = Backoff::new(RETRY.0, RETRY.1, super::identity::seed());
            while !ends.is_set() {
                let started = hub.now().boot;
                let Err(what) = make().await else { break };
                if ends.is_set() {
                    break;
                }
                if hub.now().boot - started > STEADY {
                    backoff.reset();
                }
                let wait = backoff.next_wait();
                part.report(hub.now(), PartState::down(what, Some(wait)));
                tokio::select! {
                    () = tokio::time::sleep(wait.to_std()) => {}
                    () = woken() => {}
                    () = ends.wait() => {}
                }
            }
        });
        Self { stop, handle }
    }

    /// Tells it to end and waits, at most `within`; what has not ended then is dropped.
    pub async fn end(mut self, within: Span) {
        self.stop.set();
        if tokio::time::timeout(within.to_std(), &mut self.handle).await.is_err() {
            self.handle.abort();
            // Its destructors have run when this returns.
            let _ = self.handle.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Board, PartKind};
    use crate::node::testing;
    use std::cell::Cell;

    #[test]
    fn a_failing_part_is_tried_again_and_shown_as_down() {
        testing::block_on(async {
            let hub = testing::memory_hub();
            let part = hub.board().part(PartKind::Source, "x", hub.now());
            let tries = Rc::new(Cell::new(0));
            let (counted, seen) = (tries.clone(), part.clone());
            let task = Task::spawn(
                &hub,
                part,
                Stop::default(),
                move || {
                    counted.set(counted.get() + 1);
                    let last = counted.get() == 3;
                    async move { if last { Ok(()) } else { Err("port 1 is taken".to_owned()) } }
                },
                // Every wait is cut short: the test does not sleep.
                || async {},
            );
            while tries.get() < 3 {
                tokio::task::yield_now().await;
            }
            assert_eq!(seen.state().what(), "port 1 is taken");
            task.end(Span::from_secs(1)).await;
            let _: &Rc<Board> = hub.board();
        });
    }
}
