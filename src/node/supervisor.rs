//! The supervisor: one task per part, started again with backoff when it fails, ended by its own stop.
//!
//! A part that cannot work (a port that is taken, a peer that is away, a permission that is missing) is shown as down
//! with what to do and is tried again; it never ends the node. So is one that panics, where a panic does not end the
//! process: a task that is gone without a word would leave its last state on the board for ever.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

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
                let Err(what) = caught(make()).await else { break };
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

/// The part's result; a panic is its error.
async fn caught(part: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let mut part = pin!(part);
    // The part is dropped after a panic. What it shares with others is the pipeline, whose calls do not stop half-way.
    let polled = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| part.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(words(&*panic))),
    });
    match polled.await {
        Ok(result) => result,
        Err(panic) => Err(format!("stopped by a bug of headwater, please report it: {panic}")),
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Board, PartKind};
    use crate::node::testing;
    use std::cell::Cell;

    #[test]
    fn a_panicking_part_is_shown_and_tried_again() {
        testing::block_on(async {
            let hub = testing::memory_hub();
            let part = hub.board().part(PartKind::Sink, "x", hub.now());
            let tries = Rc::new(Cell::new(0));
            let (counted, seen) = (tries.clone(), part.clone());
            let make = move || {
                counted.set(counted.get() + 1);
                let first = counted.get() == 1;
                async move { if first { panic!("a count of {}", 1) } else { Ok(()) } }
            };
            let task = Task::spawn(&hub, part, Stop::default(), make, || async {});
            while tries.get() < 2 {
                tokio::task::yield_now().await;
            }
            assert!(seen.state().what().ends_with("please report it: a count of 1"), "{}", seen.state().what());
            task.end(Span::from_secs(1)).await;
        });
    }

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
