//! What a comparison came to, for people and for programs.

use std::io::Write;

use serde::Serialize;

use super::matching::{Finding, Tally, What};
use crate::ops::human::{binary, thousands};
use crate::pipeline::Counts;

/// Findings that a person is shown.
const SHOWN: usize = 20;

#[derive(Debug, Serialize)]
pub struct Report {
    pub sink: String,
    pub ring: String,
    pub upstream: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    pub ok: bool,
    pub downloaded_bytes: u64,
    /// What the sink's account counts since it began, in all lanes.
    pub account: Counts,
    pub partitions: Vec<Row>,
    /// Ring records that have no place upstream.
    pub elsewhere: Elsewhere,
    pub findings: Vec<Found>,
    pub findings_left_out: u64,
    pub notes: Vec<String>,
}

/// Of one upstream partition.
#[derive(Debug, Serialize)]
pub struct Row {
    pub topic: String,
    pub partition: u32,
    pub compared: u64,
    #[serde(flatten)]
    pub tally: Tally,
    /// Offsets below the first that was asked for: of records that are no longer in the ring, or older than was asked for.
    pub not_looked_at: u64,
    /// Markers do not survive there: it was compared by content.
    pub by_content: bool,
}

#[derive(Debug, Default, Serialize)]
pub struct Elsewhere {
    /// Dropped by the sink's rules.
    pub filtered: u64,
    /// For which the sink's templates make no place.
    pub refused: u64,
    /// Of upstream topics of which the partitions are not known yet.
    pub pending: u64,
    /// In gaps of the ring.
    pub no_longer_in_the_ring: u64,
}

/// A finding by name.
#[derive(Debug, Serialize)]
pub struct Found {
    what: What,
    upstream_topic: String,
    upstream_partition: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_offsets: Option<(i64, i64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<u8>,
    /// First and last.
    #[serde(skip_serializing_if = "Option::is_none")]
    offsets: Option<(u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seqs: Option<(u64, u64)>,
    count: u64,
}

impl Found {
    pub fn of(finding: &Finding, upstream: &(String, u32), topic: Option<String>) -> Self {
        let known = topic.is_some();
        Self {
            what: finding.what,
            upstream_topic: upstream.0.clone(),
            upstream_partition: upstream.1,
            upstream_offsets: finding.upstream.map(|(from, to)| (from, to - 1)),
            topic,
            partition: finding.part.map(|part| part.partition),
            offsets: known.then_some((finding.offsets.0, finding.offsets.1.saturating_sub(1))),
            seqs: known.then_some(finding.seqs),
            count: finding.count,
        }
    }

    fn words(&self) -> String {
        let what = match self.what {
            What::Missing => "missing",
            What::Different => "different",
            What::Duplicated => "duplicated",
            What::OutOfOrder => "out of order",
            What::Unknown => "unknown",
        };
        let range = |(from, to): (u64, u64)| match from == to {
            true => format!(" {from}"),
            false => format!("s {from} to {to}"),
        };
        let mut words = format!("{what}: ");
        if let (Some(topic), Some(offsets), Some(seqs)) = (&self.topic, self.offsets, self.seqs) {
            let partition = self.partition.filter(|p| *p > 0).map_or(String::new(), |p| format!(", partition {p}"));
            words += &format!("offset{} of {topic}{partition} (seq{}); ", range(offsets), range(seqs));
        }
        words += &format!("upstream {}, partition {}", self.upstream_topic, self.upstream_partition);
        if let Some((from, to)) = self.upstream_offsets {
            words += &format!(", offset{}", range((from.max(0) as u64, to.max(0) as u64)));
        }
        match self.count {
            1 => words,
            n => format!("{words}: {} records", thousands(n)),
        }
    }
}

impl Report {
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let since = self.since.as_ref().map_or(String::new(), |since| format!("  since {since}"));
        let down = binary(self.downloaded_bytes);
        writeln!(out, "sink {}  ring {}  upstream {}{since}  {down} downloaded", self.sink, self.ring, self.upstream)?;
        writeln!(
            out,
            "\n{:<28}{:>10}{:>12}{:>12}{:>10}{:>10}{:>10}",
            "upstream topic", "partition", "compared", "identical", "missing", "repeated", "pending"
        )?;
        for Row { topic, partition, compared, tally, .. } in &self.partitions {
            let [compared, identical, missing] = [*compared, tally.identical, tally.missing].map(thousands);
            let [again, pending] = [tally.duplicated, tally.pending].map(thousands);
            writeln!(
                out,
                "{topic:<28}{partition:>10}{compared:>12}{identical:>12}{missing:>10}{again:>10}{pending:>10}"
            )?;
        }
        writeln!(out)?;
        for row in &self.partitions {
            row.write_more(out)?;
        }
        let Elsewhere { filtered, refused, pending, no_longer_in_the_ring } = self.elsewhere;
        let elsewhere = [
            (filtered, "dropped by the sink's rules"),
            (refused, "refused: the sink's templates make no place for them"),
            (pending, "of upstream topics that were not sent to yet"),
            (no_longer_in_the_ring, "no longer in the ring, of whatever topic"),
        ];
        for (count, what) in elsewhere.into_iter().filter(|(count, _)| *count > 0) {
            writeln!(out, "records {what}: {}", thousands(count))?;
        }
        let counts = self.account.named().into_iter().filter(|(_, n)| *n > 0);
        let counts: Vec<_> = counts.map(|(name, n)| format!("{name} {}", thousands(n)).replace('_', " ")).collect();
        if !counts.is_empty() {
            writeln!(out, "the sink's account, since it began: {}", counts.join(", "))?;
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))?;
        self.findings.iter().take(SHOWN).try_for_each(|found| writeln!(out, "{}", found.words()))?;
        let more = self.findings.len().saturating_sub(SHOWN) as u64 + self.findings_left_out;
        if more > 0 {
            writeln!(out, "and {} more findings; --json shows up to 1,000 of a partition", thousands(more))?;
        }
        match self.ok {
            true => writeln!(out, "ok: what was to be there is there, once, and as it was sent"),
            false => writeln!(out, "NOT THE SAME: see above"),
        }
    }
}

impl Row {
    /// What is rare.
    fn write_more(&self, out: &mut impl Write) -> std::io::Result<()> {
        let t = &self.tally;
        let more = [
            (t.different, "different"),
            (t.unknown, "stored under the sink's marker, and nothing like it in the ring"),
            (t.out_of_order, "out of order"),
            (t.upstream_no_longer_has, "deleted upstream by its retention"),
            (t.filtered, "filtered: a newer one made them worthless"),
            (t.refused, "refused by the upstream, see headwater-dead-letters"),
            (t.expired, "expired before they were sent"),
            (t.no_longer_in_the_ring, "upstream and no longer in the ring: not compared"),
            (self.not_looked_at, "upstream and older than what is compared"),
            (t.foreign, "of others"),
        ];
        for (count, what) in more.into_iter().filter(|(count, _)| *count > 0) {
            writeln!(out, "{}, partition {}: {} {what}", self.topic, self.partition, thousands(count))?;
        }
        if self.by_content {
            writeln!(
                out,
                "{}, partition {}: compared by content, markers do not survive there",
                self.topic, self.partition
            )?;
        }
        Ok(())
    }
}
