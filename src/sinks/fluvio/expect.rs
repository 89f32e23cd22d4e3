//! What a ring record becomes upstream.
//!
//! [`super::feed`] makes it on the way out; here it is made again for who compares (`headwater audit`), by the same rules and
//! templates and under the same names, and nothing is sent.

use std::collections::BTreeMap;

use crate::config::model::{FluvioSink, SinkConfig};
use crate::record::RecordRef;
use crate::sinks::shape::Shape;
use crate::time::{ClockSync, WallTime};
use crate::topic::TopicName;

pub(super) const NO_TOPIC: &str = "upstream_topic has nothing to stand for in this record";

/// The time of a record, also in milliseconds as Fluvio has it: -1 is "no time".
pub(super) fn time_of(record: &RecordRef<'_>, clock: Option<ClockSync>) -> (Option<WallTime>, i64) {
    let time = record.event_time.or_else(|| clock.map(|clock| clock.wall(record.admitted)));
    (time, time.map_or(-1, |t| t.0.div_euclid(1000).max(-1)))
}

/// The upstream topic that a template gave; None: there is none, the local one's name is meant.
pub(super) fn topic_name<'a>(rendered: Option<&'a [u8]>, local: &'a TopicName) -> Result<&'a str, String> {
    let Some(bytes) = rendered else { return Ok(local.as_str()) };
    let text = std::str::from_utf8(bytes).map_err(|_| "upstream_topic is not UTF-8".to_owned())?;
    TopicName::new(text).map_err(|e| format!("upstream_topic: {e}"))?;
    Ok(text)
}

/// One output of a record.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    pub topic: &'a str,
    pub key: Option<&'a [u8]>,
    pub value: &'a [u8],
    pub at_ms: i64,
}

/// A sink's rules and templates.
pub struct Expect(Shape);

impl Expect {
    /// `site`: the node's id and labels.
    pub fn new(config: &SinkConfig, sink: &FluvioSink, site: (String, BTreeMap<String, String>)) -> Self {
        Self(Shape::new(config, Some(&sink.upstream_topic), sink.upstream_key.as_ref(), site))
    }

    /// Gives each output of a record; false: the sink refuses the record, because one of them has no place.
    pub fn outputs(
        &mut self,
        topic: &TopicName,
        record: RecordRef<'_>,
        clock: Option<ClockSync>,
        emit: &mut dyn FnMut(Output<'_>),
    ) -> bool {
        let (time, at_ms) = time_of(&record, clock);
        if self.0.is_plain() {
            emit(Output { topic: topic.as_str(), key: record.key, value: record.value, at_ms });
            return true;
        }
        let mut placed = true;
        // Whether it had waited when it was sent is not known any more: who compares leaves that out.
        self.0.apply(topic.as_str(), record, time, false, &mut |shaped| {
            let named = shaped.map_err(|_| NO_TOPIC.to_owned());
            match named.and_then(|shaped| Ok((topic_name(shaped.topic, topic)?, shaped))) {
                Ok((topic, shaped)) => emit(Output { topic, key: shaped.key, value: shaped.value, at_ms }),
                Err(_) => placed = false,
            }
        });
        placed
    }
}
