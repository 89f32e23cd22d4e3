//! What only a scripted broker does when it is asked: redeliver this, say nothing of that, hang up just here.

use std::time::Duration;

use headwater::config::model::{Retained, ValueMode};
use headwater::record::Flags;
use headwater::time::Span;

use super::fake::{Fake, Peer, puback, pubcomp, publish, pubrec, pubrel};
use super::stand::{Stand, TestDisk, config, run, subscription, until};

const SHORT: Duration = Duration::from_millis(150);

#[test]
fn an_acknowledgement_waits_for_the_disk_and_they_leave_in_order() {
    run(async {
        let fake = Fake::start().await;
        let stand = Stand::start(config(fake.port), TestDisk::default());
        let mut peer = fake.welcome(false).await;
        tokio::time::timeout(SHORT, peer.next()).await.expect_err("only subscriptions");
        stand.hold(true);
        for id in 1..=5 {
            peer.publish("a/b", 1, id, false, format!("v{id}").as_bytes()).await;
        }
        peer.nothing(Duration::from_millis(300)).await;
        assert!(stand.values("all").await.is_empty());
        stand.hold(false);
        for id in 1..=5 {
            assert_eq!(peer.next().await, puback(id));
        }
        assert_eq!(stand.values("all").await, ["v1", "v2", "v3", "v4", "v5"]);
        let record = &stand.records("all").await[0];
        assert_eq!(record.attrs.as_attrs().get("mqtt.topic"), Some(&b"a/b"[..]));
        assert_eq!(record.key.as_deref(), Some(&b"a/b"[..]), "the first wildcard");
    });
}

#[test]
fn an_answer_that_was_not_written_dies_with_its_connection() {
    run(async {
        let fake = Fake::start().await;
        let stand = Stand::start(config(fake.port), TestDisk::default());
        let mut peer = fake.welcome(false).await;
        tokio::time::timeout(SHORT, peer.next()).await.expect_err("only subscriptions");
        stand.hold(true);
        peer.publish("a", 1, 1, false, b"one").await;
        until("the message", || stand.counter("received") == 1).await;
        drop(peer);
        let mut peer = fake.welcome(true).await;
        // The id belongs to another message now: an old answer would acknowledge it before it is durable.
        peer.publish("a", 1, 1, false, b"two").await;
        until("the other message", || stand.counter("received") == 2).await;
        peer.nothing(SHORT).await;
        stand.hold(false);
        assert_eq!(peer.next().await, puback(1));
        assert_eq!(stand.values("all").await, ["one", "two"]);
        peer.nothing(SHORT).await;
    });
}

/// A message that is not durable yet comes again on a new connection, which is given back: it is answered when it is
/// durable, once, and kept once.
async fn repeat_before_it_is_durable(fake: &Fake, stand: &Stand, mut peer: Peer) -> Peer {
    stand.hold(true);
    peer.publish("a", 1, 7, false, b"one").await;
    until("the message", || stand.counter("received") == 1).await;
    drop(peer);
    let mut peer = fake.welcome(true).await;
    peer.publish("a", 1, 7, true, b"one").await;
    until("the repeat", || stand.counter("repeats_dropped") == 1).await;
    peer.nothing(SHORT).await;
    stand.hold(false);
    assert_eq!(peer.next().await, puback(7));
    assert_eq!(stand.values("all").await, ["one"]);
    peer
}

#[test]
fn a_repeat_that_was_never_answered_is_dropped_even_after_a_crash_of_the_connection() {
    run(async {
        let fake = Fake::start().await;
        let stand = Stand::start(config(fake.port), TestDisk::default());
        let mut peer = fake.welcome(false).await;
        tokio::time::timeout(SHORT, peer.next()).await.expect_err("only subscriptions");
        let mut peer = repeat_before_it_is_durable(&fake, &stand, peer).await;
        // Other bytes under the same id are another message.
        peer.publish("a", 1, 8, true, b"two").await;
        assert_eq!(peer.next().await, puback(8));
        assert_eq!(stand.counter("redelivered"), 1);
        let records = stand.records("all").await;
        assert!(records[1].flags.has(Flags::REDELIVERED) && !records[0].flags.has(Flags::REDELIVERED));
    });
}

#[test]
fn a_repeat_is_answered_only_when_its_record_is_durable_also_where_the_memory_of_it_cannot_be_stored() {
    run(async {
        let fake = Fake::start().await;
        let stand = Stand::start(config(fake.port), TestDisk::default());
        let mut peer = fake.welcome(false).await;
        tokio::time::timeout(SHORT, peer.next()).await.expect_err("only subscriptions");
        // Until no entry of any length fits any more.
        for (at, len) in [60_000, 4_000, 1_000, 300, 100, 30, 10, 3, 1].into_iter().enumerate() {
            for n in 0..4 {
                stand.fill_state(&[at as u8, n], &vec![0; len]);
            }
        }
        repeat_before_it_is_durable(&fake, &stand, peer).await;
    });
}

/// Messages one by one, each answered and then proven answered by a ping, as a counting broker sends them.
async fn teach(peer: &mut Peer, ids: std::ops::RangeInclusive<u16>) {
    for id in ids {
        peer.publish("a", 1, id, false, format!("v{id}").as_bytes()).await;
        assert_eq!(peer.next().await, puback(id));
        // The source pings by itself while it does not know how ids are given.
        let _ = tokio::time::timeout(Duration::from_millis(1300), peer.next()).await;
    }
}

#[test]
fn a_repeat_is_recognised_after_the_power_was_cut_between_the_record_and_its_answer() {
    run(async {
        let fake = Fake::start().await;
        let stand = Stand::start(config(fake.port), TestDisk::default());
        let mut peer = fake.welcome(false).await;
        teach(&mut peer, 1..=3).await;
        // Durable, and answered into a connection that the broker never reads again.
        peer.publish("a", 1, 4, false, b"v4").await;
        stand.wait_values("all", 4).await;
        let disk = stand.crash().await;
        drop(peer);
        let stand = Stand::start(config(fake.port), disk);
        let mut peer = fake.welcome(true).await;
        peer.publish("a", 1, 4, true, b"v4").await;
        assert_eq!(peer.next().await, puback(4));
        assert_eq!((stand.counter("repeats_dropped"), stand.counter("redelivered")), (1, 0));
        assert_eq!(stand.values("all").await, ["v1", "v2", "v3", "v4"]);
    });
}

#[test]
fn qos_2_is_exactly_once_across_a_power_cut_and_a_release_of_the_connection_before() {
    run(async {
        let fake = Fake::start().await;
        let stand = Stand::start(config(fake.port), TestDisk::default());
        let mut peer = fake.welcome(false).await;
        peer.publish("a", 2, 5, false, b"one").await;
        assert_eq!(peer.next().await, pubrec(5));
        let disk = stand.crash().await;
        drop(peer);
        let stand = Stand::start(config(fake.port), disk);
        let mut peer = fake.welcome(true).await;
        // The broker did not hear PUBREC.
        peer.publish("a", 2, 5, true, b"one").await;
        assert_eq!(peer.next().await, pubrec(5));
        peer.send(&pubrel(5)).await;
        assert_eq!(peer.next().await, pubcomp(5));
        // A release that the connection before has answered already, and a new message under the id.
        peer.send(&pubrel(5)).await;
        assert_eq!(peer.next().await, pubcomp(5));
        peer.publish("a", 2, 5, false, b"one").await;
        assert_eq!(peer.next().await, pubrec(5));
        assert_eq!(stand.values("all").await, ["one", "one"]);
        assert_eq!(stand.counter("repeats_dropped"), 1);
    });
}

#[test]
fn a_packet_of_any_size_is_kept_in_part_and_acknowledged() {
    run(async {
        let fake = Fake::start().await;
        let mut mqtt = config(fake.port);
        mqtt.max_packet = 1000;
        let stand = Stand::start(mqtt, TestDisk::default());
        let mut peer = fake.welcome(false).await;
        for (id, size) in [(1, 500), (2, 2_000), (3, 90_000), (4, 20_000_000), (5, 10)] {
            let packet = publish("a/b", 1, id, false, &vec![b'x'; size]);
            peer.send(&packet).await;
            assert_eq!(peer.next().await, puback(id));
        }
        let records = stand.records("all").await;
        let kept: Vec<_> = records.iter().map(|r| (r.value.len(), r.flags.has(Flags::TRUNCATED))).collect();
        assert_eq!(kept[0], (500, false));
        assert_eq!(kept[4], (10, false));
        assert!(kept[1..4].iter().all(|(len, cut)| *cut && *len > 900 && *len <= 1000), "{kept:?}");
        assert_eq!((stand.counter("truncated"), stand.counter("connects")), (3, 1));
    });
}

#[test]
fn a_message_whose_envelope_or_topic_is_larger_than_the_ring_takes_is_acknowledged_only_as_stored_in_part() {
    run(async {
        let fake = Fake::start().await;
        let stand = Stand::start_as(config(fake.port), TestDisk::default(), Span::from_millis(30), ValueMode::Envelope);
        let mut peer = fake.welcome(false).await;
        let topic = "t/".to_owned() + &"x".repeat(60_000);
        let packets = [
            publish("a", 1, 1, false, b"first"),
            publish("a", 1, 2, false, &vec![0xff; 100_000]),
            publish("a", 1, 3, false, "\"\u{1}".repeat(40_000).as_bytes()),
            publish(&topic, 1, 4, false, b"far away"),
            publish("a", 1, 5, false, b"last"),
        ];
        for (packet, id) in packets.iter().zip(1..) {
            peer.send(packet).await;
            assert_eq!(peer.next().await, puback(id));
        }
        let records = stand.records("all").await;
        let cut: Vec<_> = records.iter().map(|r| r.flags.has(Flags::TRUNCATED)).collect();
        assert_eq!(cut, [false, true, true, true, false]);
        assert!(records[1].value.len() > 60_000 && records[2].value.len() > 60_000);
        assert_eq!((stand.counter("truncated"), stand.counter("refused")), (3, 0));
    });
}

#[test]
fn a_full_window_is_committed_at_once_and_a_quiet_one_lingers() {
    run(async {
        let fake = Fake::start().await;
        let _stand = Stand::start_with(config(fake.port), TestDisk::default(), Span::from_secs(3));
        let mut peer = fake.welcome(false).await;
        tokio::time::timeout(SHORT, peer.next()).await.expect_err("only subscriptions");
        peer.publish("a", 1, 1, false, b"alone").await;
        peer.nothing(Duration::from_millis(1000)).await;
        let began = std::time::Instant::now();
        for id in 2..=20 {
            peer.publish("a", 1, id, false, b"more").await;
        }
        for id in 1..=20 {
            assert_eq!(peer.next().await, puback(id));
        }
        assert!(began.elapsed() < Duration::from_millis(800), "{:?}", began.elapsed());
    });
}

#[test]
fn retained_messages_are_skipped_kept_or_marked() {
    for (retained, expected) in [(Retained::Skip, 1), (Retained::Keep, 2), (Retained::Mark, 2)] {
        run(async {
            let fake = Fake::start().await;
            let mut mqtt = config(fake.port);
            mqtt.retained = retained;
            let stand = Stand::start(mqtt, TestDisk::default());
            let mut peer = fake.welcome(false).await;
            let mut packet = publish("a", 1, 1, false, b"old");
            packet[0] |= 1;
            peer.send(&packet).await;
            assert_eq!(peer.next().await, puback(1));
            peer.publish("a", 1, 2, false, b"new").await;
            assert_eq!(peer.next().await, puback(2));
            let records = stand.records("all").await;
            assert_eq!(records.len(), expected, "{retained:?}");
            let marked = records[0].attrs.as_attrs().get("mqtt.retained").is_some();
            assert_eq!(marked, retained == Retained::Mark);
            assert_eq!(records[0].flags.has(Flags::RETAINED), retained == Retained::Mark);
        });
    }
}

#[test]
fn a_broker_that_hangs_up_on_questions_about_itself_is_not_asked_again() {
    run(async {
        let fake = Fake::start().await;
        let stand = Stand::start(config(fake.port), TestDisk::default());
        let mut peer = fake.welcome(false).await;
        loop {
            let packet = peer.packet().await;
            assert_eq!(packet[0] >> 4, 8, "SUBSCRIBE");
            if packet.windows(4).any(|w| w == b"$SYS") {
                break;
            }
            peer.send(&[0x90, 3, packet[2], packet[3], 1]).await;
        }
        drop(peer);
        let mut peer = fake.welcome(true).await;
        stand.up().await;
        let silence = tokio::time::timeout(Duration::from_millis(300), peer.packet()).await;
        assert!(silence.is_err(), "{silence:02x?} was asked");
    });
}

#[test]
fn what_the_broker_lost_before_us_is_counted_from_when_we_know_it() {
    run(async {
        let fake = Fake::start().await;
        let stand = Stand::start(config(fake.port), TestDisk::default());
        let mut peer = fake.welcome(false).await;
        for (dropped, lost) in [("40", 0), ("40", 0), ("47", 7), ("3", 10)] {
            peer.publish("$SYS/broker/publish/messages/dropped", 0, 0, false, dropped.as_bytes()).await;
            peer.publish("a", 1, 1, false, b"x").await;
            assert_eq!(peer.next().await, puback(1));
            assert_eq!(stand.counter("lost_before_source"), lost);
        }
        assert_eq!(stand.counter("unmatched"), 0);
    });
}

#[test]
fn a_refused_subscription_is_shown() {
    run(async {
        let fake = Fake::start().await;
        let mut mqtt = config(fake.port);
        mqtt.subscribe = vec![subscription("a/#", "a", 1), subscription("b/#", "b", 1)];
        let stand = Stand::start(mqtt, TestDisk::default());
        let mut peer = fake.welcome(false).await;
        for code in [0, 0x80] {
            let packet = peer.packet().await;
            peer.send(&[0x90, 3, packet[2], packet[3], code]).await;
        }
        stand.says("the broker refused to subscribe `b/#`: not allowed").await;
        stand.says("grants `a/#` QoS 0 only; QoS 0 cannot be acknowledged").await;
    });
}

#[test]
fn a_session_that_others_take_suggests_a_cloned_card() {
    run(async {
        let fake = Fake::start().await;
        let stand = Stand::start(config(fake.port), TestDisk::default());
        for _ in 0..3 {
            let mut peer = fake.welcome(true).await;
            let _ = tokio::time::timeout(SHORT, peer.next()).await;
        }
        stand.says("client id `headwater-test` in use elsewhere: a cloned card?").await;
    });
}

#[test]
fn a_peer_that_is_no_broker_is_told_apart() {
    for (answer, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "speaks HTTP, not MQTT; a broker usually listens on 1883"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "wants TLS: write mqtts://"),
        (b"\x00\x00\x00\x08\x00\x00", "speaks no MQTT (Fluvio perhaps)"),
        (b"", "closed the connection at our greeting"),
        (&[0x20, 2, 0, 5], "the broker refused: not authorized; are `username` and `password` right"),
    ] {
        run(async {
            let fake = Fake::start().await;
            let stand = Stand::start(config(fake.port), TestDisk::default());
            let mut peer = fake.accept().await;
            peer.packet().await;
            peer.send(answer).await;
            drop(peer);
            stand.says(words).await;
        });
    }
    run(async {
        let port = Fake::start().await.port;
        let stand = Stand::start(config(port), TestDisk::default());
        stand.says("connection refused; nothing listens there: is the broker running").await;
    });
}
