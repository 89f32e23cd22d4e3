//! How old what is sent is: told to the board with every answer, and an alarm when it is too old.
//!
//! With `freshness_alarm` the sink is late from when the record that waits longest, or one that was acknowledged since the last
//! look, is older than that, until nothing is. Both are told by a record of `headwater-alarms`, one line of JSON:
//!
//! ```json
//! {"node":"pump-0417","time":"2026-11-24T04:05:06.000007Z","kind":"freshness","state":"late","sink":"hq","bound_s":300.0,
//!  "age_s":312.4,"pending":1203}
//! {"node":"pump-0417","time":"2026-11-24T06:00:00.000000Z","kind":"freshness","state":"over","sink":"hq","bound_s":300.0,
//!  "age_s":0.2,"pending":1,"lasted_s":6893.9}
//! ```
//!
//! - `time`: null while the clock is not trusted. `pending`: records that wait for the sink.
//! - `age_s`: of the record that waits longest, at least (where a boot and no trusted clock lies between); `lasted_s`: since the first record of the two, null where a boot and no trusted
//!   clock lies between.
//!
//! That a sink is late is a state entry in the frame of the first record, and goes in that of the second: so each is told
//! once, whatever crashes between. The entry goes with the sink's others when it is forgotten. A sink that is late again and
//! again gets [`BURST`] pairs and then one every [`REFILL`]: what begins and ends meanwhile is not told.
//!
//! It is looked at beside the driver, so also while that is paused, before a closed gate, or waits for the disk.

use std::cell::Cell;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::buffers::Extent;
use crate::envelope::rfc3339;
use crate::hub::Outlet;
use crate::pipeline::Heads;
use crate::time::{BootTime, Now, Span};

/// The state entry of a sink that is late.
const KEY: &[u8] = b"late";
/// Pairs of alarms, and how soon there is another one.
const BURST: u32 = 5;
const REFILL: Span = Span::from_secs(600);
/// Looks are so far apart, or a tenth of the bound where that is less, but not less than the least.
const LOOK: (Span, Span) = (Span::from_millis(100), Span::from_secs(10));

/// What the driver and the watch tell each other.
#[derive(Default)]
pub(super) struct Late {
    /// The bound, while the sink is late.
    bound: Cell<Option<Span>>,
    changed: Notify,
    /// The age of the oldest record that was acknowledged since the last look.
    oldest: Cell<Option<Span>>,
}

impl Late {
    pub fn bound(&self) -> Option<Span> {
        self.bound.get()
    }

    /// Returns when that is something else.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn set(&self, bound: Option<Span>) {
        if self.bound.replace(bound) != bound {
            self.changed.notify_one();
        }
    }

    /// So many records were acknowledged together.
    pub fn acknowledged(&self, outlet: &Outlet, extent: Extent, records: u32) {
        let age = |when: crate::pipeline::When| outlet.ages(when.boot).of(when.at);
        let ages = age(extent.last).zip(age(extent.first));
        outlet.fresh(ages, u64::from(records));
        self.oldest.set(self.oldest.get().max(ages.map(|(_, oldest)| oldest)));
    }
}

/// When a sink came to be late, as it is stored: postcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Since {
    boot: u32,
    at: BootTime,
}

#[derive(Serialize)]
struct Alarm<'a> {
    node: &'a str,
    time: Option<String>,
    kind: &'a str,
    state: &'a str,
    sink: &'a str,
    bound_s: f64,
    age_s: f64,
    pending: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lasted_s: Option<Option<f64>>,
}

/// How many pairs may be told.
struct Allowance {
    left: u32,
    refilled: BootTime,
}

impl Allowance {
    fn take(&mut self, now: BootTime) -> bool {
        let more = ((now - self.refilled).0 / REFILL.0).clamp(0, i64::from(BURST)) as u32;
        if more > 0 {
            (self.left, self.refilled) = ((self.left + more).min(BURST), now);
        }
        let any = self.left > 0;
        self.left -= u32::from(any);
        any
    }
}

/// Whether an alarm is to be told, of a sink that is late or not: that it is now, or is no longer. Where the age is not
/// sure it is no less, and nothing is over by that.
fn turns(late: bool, age: Option<Span>, unsure: bool, bound: Option<Span>) -> bool {
    let is_late = age.zip(bound).is_some_and(|(age, bound)| age > bound);
    if late { !is_late && (!unsure || bound.is_none()) } else { is_late }
}

/// Looks now and then how old is what waits; never returns. Where there is no bound (any more), ends what there was.
pub(super) async fn watch(bound: Option<Span>, outlet: Outlet, late: std::rc::Rc<Late>) {
    let stored = outlet.state(KEY);
    let mut since: Option<Since> = stored.as_deref().and_then(|bytes| postcard::from_bytes(bytes).ok());
    let mut allowance = Allowance { left: BURST, refilled: outlet.now().boot };
    let mut heads = Heads::default();
    let (least, most) = LOOK;
    let every = Span(bound.unwrap_or(most).0 / 10).clamp(least, most);
    while bound.is_some() || since.is_some() {
        let waits = outlet.longest_wait(&mut heads).await;
        if waits.more {
            // Of what this sink does not want a lot may stand before what it does.
            tokio::time::sleep(least.to_std()).await;
            continue;
        }
        let age = waits.longest.max(late.oldest.take());
        let now = outlet.now();
        if turns(since.is_some(), age, waits.unsure, bound) && (since.is_some() || allowance.take(now.boot)) {
            let next = if since.is_some() { None } else { Some(Since { boot: outlet.boot(), at: now.boot }) };
            if tell(&outlet, now, bound, waits.longest, since, next) {
                since = next;
            }
        }
        let seconds = |span: Span| u64::try_from(span.0 / 1_000_000).unwrap_or(0);
        outlet.gauge("oldest_waiting_seconds", seconds(waits.longest.unwrap_or_default()));
        let lasts = since.map(|since| outlet.ages(since.boot).of(since.at).unwrap_or_default());
        // Shown from the first second on.
        outlet.gauge("late_seconds", lasts.map_or(0, |span| seconds(span).max(1)));
        late.set(bound.filter(|_| since.is_some()));
        tokio::time::sleep(every.to_std()).await;
    }
    std::future::pending().await
}

/// Writes an alarm; false: not now.
fn tell(
    outlet: &Outlet,
    now: Now,
    bound: Option<Span>,
    age: Option<Span>,
    since: Option<Since>,
    next: Option<Since>,
) -> bool {
    let seconds = |span: Span| span.0 as f64 / 1e6;
    let alarm = Alarm {
        node: &outlet.site().0,
        time: rfc3339(now.wall).filter(|_| now.trusted),
        kind: "freshness",
        state: if next.is_some() { "late" } else { "over" },
        sink: outlet.name().as_str(),
        bound_s: seconds(bound.unwrap_or_default()),
        age_s: seconds(age.unwrap_or_default()),
        pending: outlet.lanes().into_iter().map(|lane| outlet.pending(lane)).sum(),
        lasted_s: since.map(|since| outlet.ages(since.boot).of(since.at).map(seconds)),
    };
    // Strings and numbers always serialize, and into a vector.
    let record = serde_json::to_vec(&alarm).unwrap_or_default();
    let state = next.map(|since| postcard::to_allocvec(&since).unwrap_or_default());
    outlet.alarm(&record, KEY, state.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Span = Span::from_secs(60);

    #[test]
    fn an_alarm_is_told_when_a_sink_is_late_and_when_it_is_no_longer_and_not_between() {
        let (young, old, minute) = (Some(Span::from_secs(60)), Some(Span::from_secs(61)), Some(MINUTE));
        assert!(!turns(false, None, false, minute) && !turns(false, young, false, minute));
        assert!(turns(false, old, false, minute) && !turns(true, old, false, minute));
        assert!(turns(true, young, false, minute) && turns(true, None, false, minute));
        // Of a boot before, that long at least.
        assert!(turns(false, old, true, minute) && !turns(true, young, true, minute));
        // Nobody asks any more.
        assert!(turns(true, old, true, None) && !turns(false, old, false, None));
    }

    #[test]
    fn a_sink_that_is_late_again_and_again_tells_so_now_and_then() {
        let mut allowance = Allowance { left: BURST, refilled: BootTime(0) };
        let told = |allowance: &mut Allowance, from: i64, to: i64| {
            (from..to).filter(|s| allowance.take(BootTime(s * 1_000_000))).count()
        };
        assert_eq!(told(&mut allowance, 0, 600), 5);
        assert_eq!(told(&mut allowance, 600, 6600), 10);
        assert_eq!(told(&mut allowance, 86_400, 86_500), 5);
    }
}
