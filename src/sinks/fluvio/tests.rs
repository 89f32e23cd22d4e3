//! Laws of the driver that need a peer: the node's own endpoint.

use tokio::time::Instant;

use super::driver::Driver;
use super::testing::sink;
use crate::config::model::{EndpointConfig, SinkConfig, SinkKind, ValueMode};
use crate::endpoint::Bound;
use crate::lane::LaneId;
use crate::name::Name;
use crate::node::plan;
use crate::node::testing::{block_on, memory_hub};
use crate::record::RecordRef;
use crate::time::Span;
use crate::topic::{TopicName, TopicPart, TopicSet};

/// A driver of a sink for all topics, and a hub with one record for it.
async fn with_a_record() -> (Driver, crate::hub::Hub) {
    let any = "127.0.0.1:0".parse().unwrap();
    let endpoint = EndpointConfig {
        sc_listen: any,
        spu_listen: any,
        advertise: None,
        insecure: false,
        max_connections: 8,
        tls: None,
        allow: Vec::new(),
    };
    let bound = Bound::bind(&endpoint).await.unwrap();
    let to = sink(&bound.sc_addr().to_string());
    tokio::task::spawn_local(bound.serve(memory_hub().store()));
    let hub = memory_hub();
    let config = SinkConfig {
        name: Name::new("hq").unwrap(),
        topics: TopicSet { include: vec!["*".into()], exclude: Vec::new() },
        rules: Vec::new(),
        value: ValueMode::Raw,
        kind: SinkKind::Fluvio(to.clone()),
    };
    let (outlet, _) = hub.outlet(plan::sink(&config));
    let store = hub.store();
    let topic = store.open_topic(&TopicName::new("notes").unwrap()).unwrap();
    store.offer(TopicPart { topic, partition: 0 }, &RecordRef::of(b"a line")).unwrap();
    store.hurry(Span::default());
    (Driver::new(&config, &to, outlet), hub)
}

#[test]
fn what_was_answered_before_a_sink_leaves_is_stored_when_it_leaves() {
    block_on(async {
        let (mut driver, _hub) = with_a_record().await;
        while !driver.awaits_answers() {
            if !driver.turn().await {
                driver.idle().await;
            }
        }
        while driver.awaits_answers() {
            driver.idle().await;
        }
        let lanes = driver.outlet.lanes();
        let cursors = |driver: &Driver| lanes.iter().map(|lane: &LaneId| driver.outlet.cursor(*lane).seq).sum::<u64>();
        assert_eq!(cursors(&driver), 0, "the answer is known, and not yet stored");
        driver.leave(Instant::now()).await;
        assert_eq!(cursors(&driver), 1);
        assert_eq!(driver.outlet.pending(LaneId(1)), 0);
    });
}
