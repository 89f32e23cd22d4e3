//! From the checked configuration to what the pipeline needs to know: each part gets its own small options.

use crate::config::{Config, SinkConfig, SourceConfig};
use crate::lane::{DEFAULT_LANE, LaneId};
use crate::name::Name;
use crate::pipeline::{Plan, RulePlan, SinkPlan, SourcePlan, TopicPlan};
use crate::ring::{LaneOptions, Options};

use super::identity;

/// The lanes of this version: one.
pub fn lanes() -> Vec<Name> {
    Name::new(DEFAULT_LANE).into_iter().collect()
}

pub fn plan(config: &Config) -> Plan {
    let rules = config.rules.iter().filter(|rule| rule.before_ring);
    Plan {
        node: config.node.id.clone(),
        labels: config.node.labels.clone(),
        lanes: lanes(),
        topics: config
            .topics
            .iter()
            .map(|(name, topic)| (name.clone(), TopicPlan { lane: LaneId(0), partitions: topic.partitions }))
            .collect(),
        default_lane: 0,
        rules: rules
            .map(|rule| RulePlan { topics: rule.topics.clone(), into: rule.into.clone(), spec: rule.spec.clone() })
            .collect(),
    }
}

pub fn source(config: &SourceConfig) -> SourcePlan {
    SourcePlan { name: config.name.clone(), key: config.key.clone(), value: config.value }
}

pub fn sink(config: &SinkConfig) -> SinkPlan {
    SinkPlan { name: config.name.clone(), topics: config.topics.clone() }
}

/// Options of a ring of `max_bytes`.
pub fn ring(config: &Config, max_bytes: u64) -> Options {
    Options {
        max_bytes,
        lanes: lanes().into_iter().map(|name| LaneOptions { name, reserve: 0 }).collect(),
        linger: config.ring.linger,
        binding: identity::binding(),
        boot_id: identity::boot_id(),
        seed: identity::seed(),
    }
}
