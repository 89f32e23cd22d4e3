//! What the demo shows while it runs: a live block on a terminal, plain lines elsewhere.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use super::load::Sent;
use crate::cli::say;
use crate::ops::Status;
use crate::ops::human::{binary, thousands};

pub struct View {
    terminal: bool,
    started: Instant,
    drawn: usize,
    last: Option<(Instant, u64, u64)>,
    last_line: Option<Instant>,
}

/// What is shown at one moment.
pub struct Moment<'a> {
    pub phase: &'a str,
    pub link_up: bool,
    pub edge: &'a Status,
    pub sent: &'a Sent,
}

impl View {
    pub fn new() -> Self {
        Self {
            terminal: std::io::stdout().is_terminal(),
            started: Instant::now(),
            drawn: 0,
            last: None,
            last_line: None,
        }
    }

    /// A line that stays.
    pub fn say(&mut self, text: &str) {
        self.erase();
        self.print(format_args!("{:>5.1} s  {text}", self.started.elapsed().as_secs_f64()));
    }

    pub fn show(&mut self, moment: &Moment<'_>) {
        let now = Instant::now();
        let sink = moment.edge.sinks.first().cloned().unwrap_or_default();
        let admitted: u64 = moment.edge.ring.lanes.iter().map(|lane| lane.admitted).sum();
        let (rate_in, rate_out) = match self.last {
            Some((at, before_in, before_out)) => {
                let seconds = (now - at).as_secs_f64().max(0.001);
                let rate = |new: u64, old: u64| (new.saturating_sub(old) as f64 / seconds) as u64;
                (rate(admitted, before_in), rate(sink.delivered, before_out))
            }
            None => (0, 0),
        };
        self.last = Some((now, admitted, sink.delivered));
        let filtered: u64 = moment.edge.sources.iter().map(|s| s.counters.get("filtered").copied().unwrap_or(0)).sum();
        let link = if moment.link_up { "up" } else { "CUT" };
        if self.terminal {
            self.erase();
            let waiting = moment.edge.ring.pending_bytes.min(moment.edge.ring.max_bytes);
            let lines = [
                format!("  {:<10}  link {link:<4} {}", moment.phase, sink_words(&sink.part.state)),
                format!("  in   {:>8} records/s   admitted {:>10}", thousands(rate_in), thousands(admitted)),
                format!("  out  {:>8} records/s   delivered {:>9}", thousands(rate_out), thousands(sink.delivered)),
                format!(
                    "  ring {} {} of {} wait",
                    bar(waiting, moment.edge.ring.max_bytes),
                    binary(waiting),
                    binary(moment.edge.ring.max_bytes)
                ),
                format!("  pending {:>10}   filtered by rules {:>10}", thousands(sink.pending), thousands(filtered)),
            ];
            self.print(lines.join("\n"));
            self.drawn = lines.len();
        } else if self.last_line.is_none_or(|at| (now - at).as_secs() >= 5) {
            self.last_line = Some(now);
            self.print(format_args!(
                "{:>5.1} s  {}: link {link}, admitted {}, delivered {}, pending {}, filtered {}, sent by the demo {}",
                self.started.elapsed().as_secs_f64(),
                moment.phase,
                admitted,
                sink.delivered,
                sink.pending,
                filtered,
                moment.sent.log.get() + moment.sent.syslog.get() + moment.sent.sensors.get() + moment.sent.mqtt.get(),
            ));
        }
    }

    fn erase(&mut self) {
        if self.terminal && self.drawn > 0 {
            let _ = write!(std::io::stdout().lock(), "\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }

    /// The demo goes on although nobody reads: its exit code says how it went.
    pub fn print(&self, text: impl Display) {
        let _ = say(text);
    }
}

fn sink_words(state: &str) -> String {
    if state.is_empty() { String::new() } else { format!("sink {state}") }
}

fn bar(used: u64, max: u64) -> String {
    const WIDTH: u64 = 24;
    let full = (used * WIDTH).checked_div(max).unwrap_or(0).min(WIDTH) as usize;
    format!("[{}{}]", "#".repeat(full), ".".repeat(WIDTH as usize - full))
}
