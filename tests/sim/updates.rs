//! Which program a process is of: the first, one that knows a version of the format more and is on trial, or that one once
//! it is confirmed. A trial may end with the first program, which then has to read all that was written.

use headwater::backoff::Rng;
use headwater::ring::{Formats, Ring};

use crate::planted::Plant;

const BEFORE: Formats = Formats { oldest: 1, newest: 1, on_trial: false };
const TRIAL: Formats = Formats { oldest: 1, newest: 2, on_trial: true };
const CONFIRMED: Formats = Formats { oldest: 1, newest: 2, on_trial: false };

pub struct Updates {
    /// Of their own, so that seeds do the same else as they did without.
    rng: Rng,
    runs: Formats,
    is_final: bool,
    pub rolled_back: u64,
    pub confirmed: u64,
}

impl Updates {
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::new(!seed), runs: BEFORE, is_final: false, rolled_back: 0, confirmed: 0 }
    }

    /// The program of the next process. The mark of one that is confirmed may be there again, once.
    pub fn next(&mut self, plant: Plant) -> Formats {
        let before = self.runs;
        let pick = self.rng.below(4);
        self.runs = match (before, pick) {
            (BEFORE, 0 | 1) => TRIAL,
            (TRIAL, 0 | 1) if !self.is_final => BEFORE,
            (TRIAL, 2) => CONFIRMED,
            (CONFIRMED, 0) => TRIAL,
            (same, _) => same,
        };
        self.rolled_back += u64::from(before == TRIAL && self.runs == BEFORE);
        self.note();
        let on_trial = self.runs.on_trial && plant != Plant::NewFormatOnTrial;
        Formats { on_trial, ..self.runs }
    }

    /// It may be confirmed while it runs.
    pub fn turn(&mut self, ring: &mut Ring) {
        if self.runs == TRIAL && self.rng.below(4) == 0 {
            self.runs = CONFIRMED;
            ring.confirm();
            self.note();
        }
    }

    fn note(&mut self) {
        self.confirmed += u64::from(self.runs == CONFIRMED && !self.is_final);
        self.is_final |= self.runs == CONFIRMED;
    }
}
