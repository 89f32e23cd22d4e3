//! A sink's settings for tests.

use crate::config::model::{Compression, FluvioSink, NewTopics, PartitionChoice};
use crate::template::Template;
use crate::time::Span;

pub fn sink(endpoint: &str) -> FluvioSink {
    FluvioSink {
        link: None,
        endpoint: vec![endpoint.to_owned()],
        tls: None,
        spu_address: Default::default(),
        upstream_topic: Template::parse("{topic}").unwrap(),
        upstream_key: None,
        compression: Compression::Zstd,
        partition: PartitionChoice::ByKey,
        new_topics: NewTopics {
            create: true,
            partitions: 1,
            replicas: 1,
            retention: None,
            retention_size: None,
            compression: None,
        },
        acks_leader: false,
        max_batch: 64 * 1024,
        connect_timeout: Span::from_millis(500),
        request_timeout: Span::from_secs(2),
        retry: (Span::from_millis(20), Span::from_millis(200)),
        markers_only: false,
        search_max: 64 * 1024,
        resend_on_loss: true,
        only_writer: false,
        newest_first: false,
        live_share: None,
        lane_weights: Vec::new(),
        mark_backlog: None,
        freshness_alarm: None,
        grace: Span::from_millis(50),
    }
}
