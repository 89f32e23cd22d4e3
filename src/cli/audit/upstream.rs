//! The upstream's side: which SPUs are asked, from where on, what it will cost, and the batches one after the other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};

use super::Bounds;
use super::edge::{Has, Place, Ring, Target};
use crate::backoff::Rng;
use crate::config::FluvioSink;
use crate::forward::{Header, Marker};
use crate::ops::human::binary;
use crate::sinks::fluvio::{Keeper, Line, MAX_SLICE, Meta, Reading, visit, whole_batches};

/// What is asked for at once.
const SLICE: usize = 256 * 1024;
/// A batch as large as this is asked for alone, and with it the next one's header, which says how large that is: a slice would
/// cut off as much and have it sent again.
const ALONE: usize = SLICE / 8;
const NEXT_HEADER: usize = 61;
/// Headers by which the cost of a partition is estimated.
const PROBES: u64 = 16;
/// Headers of others that are stepped over in search of one of ours.
const STEPS: usize = 32;
/// Offsets that are not worth another question.
const NEAR: i64 = 64;

/// One upstream partition that is to be compared.
pub struct Planned {
    pub target: Target,
    pub has: Has,
    /// None: it is not there.
    pub log: Option<Log>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    pub start: i64,
    pub end: i64,
    /// From where on it is compared.
    pub begin: i64,
    /// What that will take, about.
    pub bytes: u64,
}

pub struct Upstream<'a> {
    sink: &'a FluvioSink,
    line: Line,
    meta: Meta,
    readings: BTreeMap<i32, Reading>,
}

impl<'a> Upstream<'a> {
    /// `interface`: of the sink's link.
    pub async fn connect(sink: &'a FluvioSink, interface: Option<String>) -> anyhow::Result<Self> {
        let line = Line { interface, tls: sink.tls.as_ref().map(Keeper::new), ..Line::default() };
        // Nothing is wanted, so nothing is made.
        let meta = visit(sink, &line, &BTreeSet::new()).await?;
        Ok(Self { sink, line, meta, readings: BTreeMap::new() })
    }

    pub fn sc(&self) -> &str {
        &self.meta.sc
    }

    async fn reading(&mut self, target: &Target) -> anyhow::Result<&mut Reading> {
        let (topic, partition) = target;
        let leader = self.meta.topics.get(topic).and_then(|topic| topic.leaders.get(partition)).copied();
        let leader = leader.with_context(|| {
            format!(
                "partition {partition} of {topic} has no leader that is online; try again when the cluster is whole"
            )
        })?;
        if !self.readings.contains_key(&leader) {
            let address = self.meta.address_of(self.sink, leader);
            let address =
                address.with_context(|| format!("the SC at {} does not know SPU {leader}", self.meta.sc))??;
            let mapped = self.sink.spu_address.contains_key(&leader);
            let reading = Reading::open(&address, self.sink, &self.line).await;
            let reading = reading.map_err(|trouble| trouble.at_spu(leader, &address, mapped))?;
            self.readings.insert(leader, reading);
        }
        self.readings.get_mut(&leader).context("a connection")
    }

    /// Looks where the comparison of a partition begins, and what it takes; nothing that `bounds` has no room for.
    pub async fn plan(
        &mut self,
        ring: &mut Ring,
        target: Target,
        has: Has,
        bounds: &Bounds,
    ) -> anyhow::Result<Planned> {
        let (topic, partition) = &target;
        if self.meta.topics.get(topic).is_none_or(|topic| topic.partitions <= *partition) {
            return Ok(Planned { target, has, log: None });
        }
        ring.aim(&target);
        let reading = self.reading(&target).await?;
        bounds.room()?;
        let (start, end) = reading.offsets(topic, *partition).await?;
        let mut begin = start;
        if !ring.is_whole()
            && let Some(places) = ring.places(&has).filter(|places| !places.is_empty())
        {
            begin = end;
            for place in &places {
                begin = begin.min(first_of(reading, &target, (start, end), place, bounds).await?);
            }
        }
        let bytes = estimate(reading, &target, begin, end, bounds).await?;
        Ok(Planned { target, has, log: Some(Log { start, end, begin, bytes }) })
    }

    /// Gives every batch from where the comparison begins; `bounds` says whether more may be taken.
    pub async fn read(
        &mut self,
        target: &Target,
        log: Log,
        bounds: &mut Bounds,
        give: &mut dyn FnMut(Header, &[u8]),
    ) -> anyhow::Result<()> {
        let (topic, partition) = target;
        let reading = self.reading(target).await?;
        let (mut at, mut size) = (log.begin, SLICE);
        while at < log.end {
            let room = bounds.room()?;
            let bytes = reading.slice(topic, *partition, at, size.min(room)).await?;
            bounds.took();
            let before = at;
            let cut = whole_batches(&bytes, &mut |header, batch| {
                if header.end() > at {
                    give(header, batch);
                    at = header.end();
                }
            });
            let next = cut.filter(|len| *len >= ALONE).map_or(SLICE, |len| (len + NEXT_HEADER).min(MAX_SLICE));
            match cut {
                _ if at > before => size = next,
                // Nothing stands there any more.
                None if bytes.is_empty() => break,
                Some(len) if len > size && len <= MAX_SLICE && len <= room => size = next,
                cut => {
                    let len = binary(cut.unwrap_or(bytes.len()) as u64);
                    bail!("{topic}, partition {partition}: the batch at offset {at} takes {len}: {}", bounds.words());
                }
            }
        }
        Ok(())
    }
}

/// Below it no batch of these ids has a number from `floor` on: they ascend. What cannot be told in a few steps counts as
/// one that has.
async fn first_of(
    reading: &mut Reading,
    target: &Target,
    (start, end): (i64, i64),
    place: &Place,
    bounds: &Bounds,
) -> anyhow::Result<i64> {
    let (mut low, mut high) = (start, end);
    if let Some(last) = place.last {
        if last.base < start || last.end > end {
            // It is not the log that it was.
            return Ok(start);
        }
        if last.number < place.floor {
            return Ok(last.end);
        }
        high = last.base;
    }
    while high - low > NEAR {
        let middle = low + (high - low) / 2;
        let mut at = middle;
        let mut found = None;
        for _ in 0..STEPS {
            bounds.room()?;
            let Some((header, _)) = reading.header(&target.0, target.1, at).await?.filter(|_| at < high) else { break };
            at = header.end();
            if place.ids.contains(&header.origin.producer_id) {
                found = Some(header);
                break;
            }
        }
        match found.filter(|header| Marker::of_origin(header.origin).number < place.floor) {
            Some(header) => low = header.end().min(high),
            None => high = middle,
        }
    }
    Ok(low)
}

/// By some headers on the way, somewhere in each of as many equal parts: where they stood at equal distances, sizes that come
/// and go would always be met at the same point. What a slice cuts off is taken twice.
async fn estimate(
    reading: &mut Reading,
    target: &Target,
    begin: i64,
    end: i64,
    bounds: &Bounds,
) -> anyhow::Result<u64> {
    let part = (end - begin).max(0) as u64 / PROBES;
    let mut rng = Rng::new(begin as u64 ^ end as u64);
    let (mut each, mut lens, mut count, mut below) = (0.0, 0.0, 0.0, begin);
    for n in 0..PROBES {
        let at = begin + (n * part + rng.below(part.max(1))) as i64;
        if at < below || at >= end {
            continue;
        }
        bounds.room()?;
        let Some((header, len)) = reading.header(&target.0, target.1, at).await? else { break };
        below = header.end();
        (each, lens, count) = (each + len as f64 / f64::from(header.count.max(1)), lens + len as f64, count + 1.0);
    }
    let count = f64::max(count, 1.0);
    let again = 1.0 + f64::min(lens / count, ALONE as f64) / 2.0 / SLICE as f64;
    Ok((each / count * (end - begin).max(0) as f64 * again) as u64)
}
