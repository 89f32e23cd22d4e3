//! Against a real Mosquitto: what is acknowledged is in the ring, whatever restarts.

use std::process::Command;
use std::time::{Duration, Instant};

use headwater::config::model::{Secret, TlsConfig};

use super::mosquitto::Mosquitto;
use super::stand::{Stand, TestDisk, config, run, subscription};

fn numbered(name: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("{name}-{i}")).collect()
}

#[test]
fn messages_arrive_in_order_with_their_wildcards_and_the_first_match_wins() {
    for version5 in [false, true] {
        run(async {
            let broker = Mosquitto::start();
            let mut mqtt = config(broker.port);
            mqtt.version5 = version5;
            mqtt.subscribe = vec![subscription("pump/+/alarm", "alarm", 1), subscription("pump/#", "telemetry", 2)];
            let stand = Stand::start(mqtt, TestDisk::default());
            stand.up().await;
            broker.publish("pump/7/alarm", 1, numbered("a", 0..50)).await;
            broker.publish("pump/7/flow/x", 2, numbered("f", 0..50)).await;
            assert_eq!(stand.wait_values("alarm", 50).await, numbered("a", 0..50));
            assert_eq!(stand.wait_values("telemetry", 50).await, numbered("f", 0..50));
            tokio::time::sleep(Duration::from_millis(200)).await;
            let alarm = &stand.records("alarm").await;
            let flow = &stand.records("telemetry").await;
            assert_eq!((alarm.len(), flow.len()), (50, 50), "each message once");
            assert_eq!(alarm[0].key.as_deref(), Some(&b"7"[..]));
            assert_eq!(flow[0].attrs.as_attrs().get("mqtt.1"), Some(&b"7/flow/x"[..]));
            assert_eq!(flow[0].attrs.as_attrs().get("mqtt.topic"), Some(&b"pump/7/flow/x"[..]));
        });
    }
}

#[test]
fn overlapping_filters_bring_one_record_with_version_5() {
    run(async {
        let broker = Mosquitto::start();
        let mut mqtt = config(broker.port);
        mqtt.version5 = true;
        mqtt.subscribe = vec![subscription("a/+", "first", 1), subscription("+/b", "second", 1)];
        let stand = Stand::start(mqtt, TestDisk::default());
        stand.up().await;
        broker.publish("a/b", 1, numbered("both", 0..20)).await;
        broker.publish("x/b", 1, numbered("second", 0..20)).await;
        assert_eq!(stand.wait_values("second", 20).await, numbered("second", 0..20));
        assert_eq!(stand.wait_values("first", 20).await, numbered("both", 0..20));
    });
}

#[test]
fn what_is_published_while_the_node_is_away_is_there_when_it_is_back() {
    run(async {
        let broker = Mosquitto::start();
        let stand = Stand::start(config(broker.port), TestDisk::default());
        stand.up().await;
        broker.publish("t", 1, numbered("v", 0..100)).await;
        stand.wait_values("all", 100).await;
        let disk = stand.stop().await;
        broker.publish("t", 1, numbered("v", 100..300)).await;
        let stand = Stand::start(config(broker.port), disk);
        assert_eq!(stand.wait_values("all", 300).await, numbered("v", 0..300));
        assert!(!broker.log().contains("Protocol error"), "{}", broker.log());
    });
}

#[test]
fn a_restarted_broker_loses_and_doubles_nothing() {
    run(async {
        let mut broker = Mosquitto::start();
        let stand = Stand::start(config(broker.port), TestDisk::default());
        stand.up().await;
        broker.publish("t", 1, numbered("v", 0..200)).await;
        stand.hold(true);
        broker.publish("t", 1, numbered("v", 200..300)).await;
        broker.stop();
        stand.says("down").await;
        stand.hold(false);
        broker.start_again();
        stand.up().await;
        broker.publish("t", 1, numbered("v", 300..400)).await;
        assert_eq!(stand.wait_values("all", 400).await, numbered("v", 0..400));
    });
}

#[test]
fn power_cuts_lose_nothing_that_was_acknowledged_and_double_only_what_is_counted() {
    run(async {
        let broker = Mosquitto::start();
        let mut disk = TestDisk::default();
        // A session must be there before the first message.
        let first = Stand::start(config(broker.port), disk);
        first.up().await;
        disk = first.stop().await;
        let (mut sent, mut redelivered) = (0, 0);
        for round in 0..12_u64 {
            let stand = Stand::start(config(broker.port), disk);
            stand.up().await;
            broker.publish("t", 1, numbered("v", sent..sent + 150)).await;
            sent += 150;
            tokio::time::sleep(Duration::from_millis(7 * round)).await;
            redelivered += stand.counter("redelivered");
            disk = stand.crash().await;
        }
        let stand = Stand::start(config(broker.port), disk);
        let all = numbered("v", 0..sent);
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let values = stand.values("all").await;
            let mut seen = values.clone();
            seen.sort();
            seen.dedup();
            if seen.len() == sent {
                redelivered += stand.counter("redelivered");
                let doubled = values.len() - seen.len();
                assert!(doubled as u64 <= redelivered, "{doubled} doubled, {redelivered} counted");
                break;
            }
            let missing = all.iter().find(|v| !values.contains(v));
            assert!(Instant::now() < end, "lost {missing:?}: {} of {sent}", seen.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

#[test]
fn what_the_broker_forbids_is_shown() {
    run(async {
        let broker = Mosquitto::start_with("allow_anonymous false\n");
        let stand = Stand::start(config(broker.port), TestDisk::default());
        stand.says("the broker refused").await;
    });
}

#[test]
fn a_stock_broker_is_followed_over_tls_and_a_plain_port_is_told_apart() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &path("key.pem"), "-out", &path("cert.pem")])
            .output()
            .expect("openssl is installed by scripts/test.sh");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let broker = Mosquitto::start_with(&format!(
            "allow_anonymous true\ncertfile {}\nkeyfile {}\n",
            path("cert.pem"),
            path("key.pem")
        ));
        let tls = TlsConfig {
            ca: Some(dir.path().join("cert.pem")),
            cert: None,
            key: None::<Secret>,
            key_file: None,
            server_name: Some("localhost".into()),
        };
        let mut mqtt = config(broker.port);
        mqtt.tls = Some(tls.clone());
        let stand = Stand::start(mqtt.clone(), TestDisk::default());
        stand.up().await;
        let other = Stand::start(config(broker.port), TestDisk::default());
        other.says("closed the connection at our greeting").await;
        let plain = Mosquitto::start();
        mqtt.port = plain.port;
        let stand = Stand::start(mqtt, TestDisk::default());
        stand.says("it does not speak TLS there; for a plain port write mqtt://").await;
    });
}

#[test]
fn two_nodes_with_one_client_id_suspect_a_clone() {
    run(async {
        let broker = Mosquitto::start();
        let mut mqtt = config(broker.port);
        mqtt.version5 = true;
        let one = Stand::start(mqtt.clone(), TestDisk::default());
        let two = Stand::start(mqtt, TestDisk::default());
        let words = "client id `headwater-test` in use elsewhere: a cloned card?";
        let end = Instant::now() + Duration::from_secs(60);
        while !one.words().contains(words) && !two.words().contains(words) {
            assert!(Instant::now() < end, "{} / {}", one.words(), two.words());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}
