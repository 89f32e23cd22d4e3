//! What a sink makes of a record before it is sent: its rules, its key template, the envelope.
//!
//! A sink without any of these sends the record's own bytes, and nothing is copied here. Everything in this file is
//! pure over the record, because a record is shaped again after every reconnect and must come out the same; but for the mark
//! of a backlog in its envelope, which says of this try that it came late.

use std::collections::BTreeMap;

use crate::config::model::SinkConfig;
use crate::envelope::{self, ValueMode};
use crate::name::Name;
use crate::record::RecordRef;
use crate::rules::{Chain, Env, Told, WayOut};
use crate::template::{Context, Template};
use crate::time::WallTime;

/// What outputs are rendered with.
pub struct Shape {
    chain: Chain,
    value: ValueMode,
    key: Option<Template>,
    topic: Option<Template>,
    node: String,
    labels: BTreeMap<String, String>,
    value_buf: Vec<u8>,
    key_buf: Vec<u8>,
    topic_buf: Vec<u8>,
}

/// One output as it goes out.
#[derive(Clone, Copy, Debug)]
pub struct Shaped<'a> {
    /// The rendered upstream topic; None: the sink has no template, the local topic's name is meant.
    pub topic: Option<&'a [u8]>,
    pub key: Option<&'a [u8]>,
    pub value: &'a [u8],
}

/// Why an output has no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTopic;

impl Shape {
    /// `topic` and `key` are the sink's templates, if it has any.
    pub fn new(
        config: &SinkConfig,
        topic: Option<&Template>,
        key: Option<&Template>,
        site: (String, BTreeMap<String, String>),
    ) -> Self {
        Self {
            chain: Chain::new(&config.rules).timed_by(Some(crate::hub::nanos)),
            value: config.value,
            key: key.cloned(),
            // The default: nothing to render.
            topic: topic.filter(|t| t.text() != "{topic}").cloned(),
            node: site.0,
            labels: site.1,
            value_buf: Vec::new(),
            key_buf: Vec::new(),
            topic_buf: Vec::new(),
        }
    }

    /// Whether a record's own topic, key and value are what goes out.
    pub fn is_plain(&self) -> bool {
        self.chain.is_empty() && self.value == ValueMode::Raw && self.key.is_none() && self.topic.is_none()
    }

    /// What the rules did since this was last asked.
    pub fn take_told(&mut self) -> impl Iterator<Item = (&Name, Told)> {
        self.chain.take_told()
    }

    /// Whether values are put into envelopes.
    pub fn wraps(&self) -> bool {
        self.value == ValueMode::Envelope
    }

    /// Gives each output of the record, and how many rules failed on it. A key template that has nothing to stand for
    /// leaves the record without a key; a topic template that has none leaves it without a place.
    pub fn apply(
        &mut self,
        topic: &str,
        record: RecordRef<'_>,
        time: Option<WallTime>,
        backlog: bool,
        emit: &mut dyn FnMut(Result<Shaped<'_>, NoTopic>),
    ) -> u32 {
        let Self { chain, value, key, topic: topic_template, node, labels, value_buf, key_buf, topic_buf } = self;
        let context = Context { node, topic, source: "", labels };
        let mut out = |record: RecordRef<'_>| {
            key_buf.clear();
            topic_buf.clear();
            value_buf.clear();
            if topic_template.as_ref().is_some_and(|t| !t.render(&context, &record, topic_buf)) {
                return emit(Err(NoTopic));
            }
            let key = match key {
                Some(template) => template.render(&context, &record, key_buf).then_some(key_buf.as_slice()),
                None => record.key,
            };
            let value = match value {
                ValueMode::Raw => record.value,
                ValueMode::Envelope => {
                    envelope::write_marked(value_buf, &context, &record, time, backlog);
                    value_buf.as_slice()
                }
            };
            let topic = topic_template.as_ref().map(|_| topic_buf.as_slice());
            emit(Ok(Shaped { topic, key, value }));
        };
        let verdict = chain.apply(&Env { context, time: None }, &record, &mut WayOut(&mut out));
        verdict.errors
    }
}
