//! Bytes a second: a bucket that fills evenly and holds a quarter of a second, or one packet.

use crate::time::{BootTime, Span};

const SECOND: i128 = 1_000_000;
/// What a bucket holds at least: below it every write would be a packet of a few bytes.
const PACKET: u64 = 1400;

/// `9600bit/s`, `64kbit/s`, `1.5Mbit/s`, `16kB/s`, `1MiB/s`: in bytes a second.
pub fn parse_rate(text: &str, size: impl Fn(&str) -> Result<u64, String>) -> Result<u64, String> {
    let bad = || format!("`{text}` is no rate; write it like 9600bit/s, 64kbit/s or 16kB/s");
    let amount = text.strip_suffix("/s").ok_or_else(bad)?.trim_end();
    let rate = match amount.strip_suffix("bit") {
        None => size(amount)?,
        Some(bits) => {
            let (number, factor) = match bits.trim_end().as_bytes().last() {
                Some(b'k') => (bits.trim_end().trim_end_matches('k'), 1e3),
                Some(b'M') => (bits.trim_end().trim_end_matches('M'), 1e6),
                _ => (bits, 1.0),
            };
            let number = number.trim().parse::<f64>().map_err(|_| bad())?;
            if !number.is_finite() || number < 0.0 {
                return Err(bad());
            }
            (number * factor / 8.0) as u64
        }
    };
    if (100..=1 << 40).contains(&rate) { Ok(rate) } else { Err(format!("`{text}`: use 800bit/s or more")) }
}

#[derive(Clone, Debug)]
pub struct Rate {
    /// Bytes a second.
    rate: u64,
    /// Bytes that may go now, times [`SECOND`].
    tokens: i128,
    /// None: not used yet, the bucket is full.
    filled: Option<BootTime>,
}

impl Rate {
    pub fn new(rate: u64) -> Self {
        let mut this = Self { rate: rate.max(1), tokens: 0, filled: None };
        this.tokens = this.most();
        this
    }

    fn most(&self) -> i128 {
        i128::from((self.rate / 4).max(PACKET)) * SECOND
    }

    /// Takes up to `want` bytes: how many, or how long until a packet, or all of it, can go.
    pub fn take(&mut self, now: BootTime, want: usize) -> Result<usize, Span> {
        let passed = self.filled.map_or(0, |filled| (now - filled).0.max(0));
        self.filled = self.filled.max(Some(now));
        self.tokens = (self.tokens + i128::from(passed) * i128::from(self.rate)).min(self.most());
        let least = i128::from((want as u64).min(PACKET)) * SECOND;
        if self.tokens < least {
            let wait = (least - self.tokens) / i128::from(self.rate) + 1;
            return Err(Span(wait as i64));
        }
        let granted = (self.tokens / SECOND).min(want as i128);
        self.tokens -= granted * SECOND;
        Ok(granted as usize)
    }

    pub fn give_back(&mut self, bytes: usize) {
        self.tokens = (self.tokens + bytes as i128 * SECOND).min(self.most());
    }

    /// Bytes that came or went without asking: what follows waits for them.
    pub fn owe(&mut self, bytes: u64) {
        // Not for ever: at most what ten seconds carry.
        let floor = -i128::from(self.rate) * 10 * SECOND;
        self.tokens = (self.tokens - i128::from(bytes) * SECOND).max(floor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_are_what_they_say() {
        let size = |text: &str| {
            text.strip_suffix("kB").and_then(|n| n.parse::<u64>().ok()).map(|n| n * 1000).ok_or("?".into())
        };
        for (text, bytes) in [("9600bit/s", 1200), ("64kbit/s", 8000), ("1.5Mbit/s", 187_500), ("16kB/s", 16_000)] {
            assert_eq!(parse_rate(text, size), Ok(bytes), "{text}");
        }
        for bad in ["", "9600", "9600bit", "x bit/s", "1bit/s", "NaNbit/s", "-5kbit/s"] {
            assert!(parse_rate(bad, size).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_more_goes_than_the_rate_and_one_bucket_and_a_greedy_sender_gets_all_of_it(
            rate in 100u64..10_000_000,
            wants in prop::collection::vec(1usize..100_000, 1..200),
        ) {
            let mut bucket = Rate::new(rate);
            let (start, mut now, mut sent) = (BootTime(5), BootTime(5), 0u64);
            for want in wants {
                let mut rest = want;
                while rest > 0 {
                    match bucket.take(now, rest) {
                        Ok(n) => { rest -= n; sent += n as u64; }
                        Err(wait) => { prop_assert!(wait.0 > 0); now = now + wait; }
                    }
                }
            }
            let passed = (now - start).0 as u64;
            let full = (rate / 4).max(PACKET);
            let most = full + 1 + (u128::from(passed) * u128::from(rate) / 1_000_000) as u64;
            prop_assert!(sent <= most, "{sent} of {most}");
            prop_assert!(sent + PACKET + full + rate / 1000 >= (u128::from(passed) * u128::from(rate) / 1_000_000) as u64);
        }
    }
}
