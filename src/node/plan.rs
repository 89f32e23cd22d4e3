//! From the checked configuration to what the pipeline needs to know: each part gets its own small options.

use crate::config::{Config, SinkConfig, SourceConfig, usual_lane};
use crate::lane::DEFAULT_LANES;
use crate::name::Name;
use crate::pipeline::{Plan, RulePlan, SinkPlan, SourcePlan, TopicPlan};
use crate::ring::{Keys, LaneOptions, Options};

use super::identity;

/// The lanes of a node whose config says nothing else, without reserves.
pub fn lanes() -> Vec<Name> {
    DEFAULT_LANES.iter().filter_map(|name| Name::new(name).ok()).collect()
}

pub fn plan(config: &Config) -> Plan {
    let rules = config.rules.iter().filter(|rule| rule.before_ring);
    let lanes: Vec<Name> = config.ring.lanes.iter().map(|lane| lane.name.clone()).collect();
    let usual = usual_lane(&config.ring.lanes);
    let rank = |name: &str| lanes.iter().position(|lane| lane.as_str() == name).unwrap_or(0);
    Plan {
        node: config.node.id.clone(),
        labels: config.node.labels.clone(),
        topics: config
            .topics
            .iter()
            .map(|(name, topic)| {
                let lane = rank(topic.lane.as_str());
                (
                    name.clone(),
                    TopicPlan { lane, partitions: topic.partitions, pause: topic.pause, max_age: topic.max_age },
                )
            })
            .collect(),
        default_lane: rank(usual),
        ram_first: config.ring.ram_first,
        lanes: lanes.clone(),
        clock: Some(crate::hub::nanos),
        rules: rules
            .map(|rule| RulePlan { topics: rule.topics.clone(), into: rule.into.clone(), rule: rule.rule.clone() })
            .collect(),
    }
}

pub fn source(config: &SourceConfig) -> SourcePlan {
    SourcePlan { name: config.name.clone(), key: config.key.clone(), value: config.value }
}

pub fn sink(config: &SinkConfig) -> SinkPlan {
    SinkPlan { name: config.name.clone(), topics: config.topics.clone() }
}

fn lane_options(config: &Config) -> Vec<LaneOptions> {
    let lane = |lane: &crate::config::LaneConfig| LaneOptions { name: lane.name.clone(), reserve: lane.reserve };
    config.ring.lanes.iter().map(lane).collect()
}

/// What the ring on the disk is written and read with; the one in memory needs no cipher.
pub fn keys(config: &Config) -> Keys {
    let old = config.ring.old_keys.clone();
    match &config.ring.encryption {
        Some(key) => Keys::writing(key.clone(), old, Box::new(identity::nonce)),
        None => Keys::reading(old),
    }
}

/// Options of a ring of `max_bytes`, in clear.
pub fn ring(config: &Config, max_bytes: u64) -> Options {
    Options {
        max_bytes,
        lanes: lane_options(config),
        linger: config.ring.linger,
        binding: identity::binding(),
        boot_id: identity::boot_id(),
        seed: identity::seed(),
        keys: Keys::default(),
        formats: Default::default(),
    }
}
