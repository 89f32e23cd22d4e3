//! Laws of the driver that need a peer: the node's own endpoint.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use super::conn::{Line, Link};
use super::driver::Driver;
use super::testing::sink;
use super::tls::Keeper;
use super::tls::tests::{Authority, Files};
use super::trouble::Trouble;
use crate::config::LinkConfig;
use crate::config::model::{EndpointConfig, FluvioSink, SinkConfig, SinkKind, ValueMode};
use crate::endpoint::Bound;
use crate::hub::{Hub, PartKind, Stop, Way};
use crate::lane::LaneId;
use crate::link::{Options, Window};
use crate::name::Name;
use crate::node::plan;
use crate::node::testing::{self, block_on, memory_hub, memory_hub_at, memory_hub_with};
use crate::pipeline::{Plan, TopicPlan};
use crate::record::RecordRef;
use crate::time::{BootTime, Now, Span, WallTime};
use crate::topic::{TopicName, TopicPart, TopicSet};
use crate::zone::{Zone, no_names};

/// An endpoint: where its SC and its SPU are.
async fn endpoint() -> (SocketAddr, SocketAddr) {
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
    let addresses = (bound.sc_addr(), bound.spu_addr());
    tokio::task::spawn_local(bound.serve(memory_hub().store()));
    addresses
}

/// A driver of a sink for all topics, and a hub with one record for it.
fn driver_to(to: &FluvioSink) -> (Driver, Hub) {
    over(memory_hub(), to, None)
}

fn over(hub: Hub, to: &FluvioSink, way: Option<Rc<Way>>) -> (Driver, Hub) {
    let config = SinkConfig {
        name: Name::new("hq").unwrap(),
        topics: TopicSet { include: vec!["*".into()], exclude: Vec::new() },
        rules: Vec::new(),
        value: ValueMode::Raw,
        kind: SinkKind::Fluvio(to.clone()),
    };
    let (outlet, _) = hub.outlet(plan::sink(&config));
    note(&hub);
    (Driver::new(&config, to, outlet, way), hub)
}

fn note(hub: &Hub) {
    let store = hub.store();
    let topic = store.open_topic(&TopicName::new("notes").unwrap()).unwrap();
    store.offer(TopicPart { topic, partition: 0 }, &RecordRef::of(b"a line")).unwrap();
    store.hurry(Span::default());
}

async fn with_a_record() -> (Driver, Hub) {
    driver_to(&sink(&endpoint().await.0.to_string()))
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
        assert_eq!(pending(&driver), 0);
    });
}

fn delivered(driver: &Driver) -> u64 {
    driver.outlet.lanes().into_iter().map(|lane| driver.outlet.account(lane).delivered).sum()
}

fn pending(driver: &Driver) -> u64 {
    driver.outlet.lanes().into_iter().map(|lane| driver.outlet.pending(lane)).sum()
}

/// Turns until the upstream has answered for the record, or for `long` where that never happens.
async fn sends_it(driver: &mut Driver, long: Duration) -> bool {
    let sends = async {
        while pending(driver) > 0 {
            if !driver.turn().await {
                driver.idle().await;
            }
        }
    };
    timeout(long, sends).await.is_ok()
}

#[test]
fn a_link_outside_of_its_windows_is_not_even_connected_and_an_open_one_carries_what_waited() {
    const NOON: i64 = 1_795_780_800_000_000; // 2026-11-27T12:00:00Z
    block_on(async {
        let (wall, began) = (Rc::new(Cell::new(NOON)), Instant::now());
        let clock = wall.clone();
        let now = move || Now {
            boot: BootTime(1 + i64::try_from(began.elapsed().as_micros()).unwrap()),
            wall: WallTime(clock.get()),
            trusted: true,
        };
        let windows = vec![Window::parse("13:00-14:00Z", &no_names).unwrap()];
        let options = Options { windows, zone: Zone::Fixed(0), ..Options::default() };
        let link = LinkConfig { name: Name::new("sat").unwrap(), interface: None, on_demand: true, options };
        let hub = memory_hub_at(testing::plan(), now);
        let way = Rc::new(hub.way(&link));
        let to = sink(&endpoint().await.0.to_string());
        let (mut driver, hub) = over(hub, &to, Some(way.clone()));
        while pending(&driver) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!sends_it(&mut driver, Duration::from_millis(300)).await);
        let part = |kind| hub.board().parts().into_iter().find(|part| part.kind == kind).unwrap();
        assert_eq!(part(PartKind::Sink).state.what(), "waits for link sat: its next window begins 2026-11-27 13:00Z");
        assert!(timeout(Duration::from_millis(200), driver.idle()).await.is_err(), "nothing to do, and it turns");
        let counted = |name| part(PartKind::Link).counter(name);
        assert_eq!((counted("sent_bytes"), counted("received_bytes")), (0, 0));

        wall.set(NOON + 3_600_000_000);
        let stop = Stop::default();
        let runs = tokio::task::spawn_local(way.clone().run(stop.clone()));
        assert!(sends_it(&mut driver, Duration::from_secs(20)).await);
        assert!(counted("sent_bytes") > 0 && counted("received_bytes") > 0);

        wall.set(NOON + 2 * 3_600_000_000);
        driver.turn().await;
        assert_eq!(part(PartKind::Sink).state.label(), "waits");
        stop.set();
        runs.await.unwrap().unwrap();
    });
}

/// TLS in front of a port: where, and whose certificates were shown there.
async fn in_front_of(port: SocketAddr, acceptor: TlsAcceptor) -> (String, Rc<RefCell<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap().to_string(), Rc::default());
    let shown: Rc<RefCell<Vec<Vec<u8>>>> = Rc::clone(&seen);
    tokio::task::spawn_local(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, shown) = (acceptor.clone(), shown.clone());
            tokio::task::spawn_local(async move {
                let mut client = acceptor.accept(tcp).await.unwrap();
                let chain = client.get_ref().1.peer_certificates().unwrap();
                shown.borrow_mut().push(chain[0].to_vec());
                let mut server = TcpStream::connect(port).await.unwrap();
                // Either side may hang up.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, seen)
}

/// Turns the driver until it holds.
async fn until(driver: &mut Driver, mut holds: impl FnMut(&Driver) -> bool) {
    while !holds(driver) {
        if !driver.turn().await {
            // Some of what is looked for changes without the driver.
            let _ = tokio::time::timeout(Duration::from_millis(5), driver.idle()).await;
        }
    }
}

#[test]
fn a_connection_that_stays_is_made_anew_with_a_renewed_certificate_and_nothing_is_sent_twice() {
    block_on(async {
        let (sc, spu) = endpoint().await;
        let authority = Authority::new("ours");
        let acceptor = Authority::server(&authority.signs("localhost"), Some(&authority));
        let ((sc, _), (spu, shown)) = (in_front_of(sc, acceptor.clone()).await, in_front_of(spu, acceptor).await);
        let (old, new) = (authority.signs("edge"), authority.signs("edge"));
        let files = Files::new(&authority.pem()).with(&old);
        let tls = Some(files.config.clone());
        let (mut driver, hub) = driver_to(&FluvioSink {
            tls,
            spu_address: [(5001, spu)].into(),
            connect_timeout: Span::from_secs(30),
            ..sink(&sc)
        });
        driver.tls = Some(Keeper::looking_every(&files.config, Duration::from_millis(1)));
        until(&mut driver, |driver| delivered(driver) == 1).await;
        assert_eq!(*shown.borrow(), [old.der()]);
        // One without the other changes nothing.
        files.put("key.pem", &new.key);
        note(&hub);
        until(&mut driver, |driver| delivered(driver) == 2).await;
        assert_eq!(*shown.borrow(), [old.der()]);
        files.put("cert.pem", &new.cert);
        until(&mut driver, |driver| driver.spus.values().all(|spu| spu.requests.is_none())).await;
        note(&hub);
        until(&mut driver, |driver| delivered(driver) == 3).await;
        assert_eq!(*shown.borrow(), [old.der(), new.der()]);
        let counted = |name| hub.admin().board().parts().iter().map(|part| part.counter(name)).sum::<u64>();
        assert_eq!((counted("duplicated"), counted("maybe_duplicated")), (0, 0));
    });
}

/// A port that leads to another for so many connections, closing the later ones; and how many it has taken.
async fn wears_out(port: SocketAddr, after: usize) -> (String, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, taken) = (listener.local_addr().unwrap().to_string(), Rc::<Cell<usize>>::default());
    let seen = taken.clone();
    tokio::task::spawn_local(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            seen.set(seen.get() + 1);
            if seen.get() <= after {
                tokio::task::spawn_local(async move {
                    let mut server = TcpStream::connect(port).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        }
    });
    (address, taken)
}

#[test]
fn what_listens_at_an_address_is_not_looked_into_again_once_it_was_right() {
    block_on(async {
        let (address, taken) = wears_out(endpoint().await.0, 1).await;
        let (to, line) = (sink(&address), Line::default());
        Link::open(&address, &to, &line).await.map(drop).unwrap();
        let closed = Link::open(&address, &to, &line).await.map(drop).unwrap_err();
        assert_eq!((closed, taken.get()), (Trouble::Closed { address: address.clone() }, 2));
        // Who has never seen it asks whether it is something else: MQTT, TLS.
        let unknown = Link::open(&address, &to, &Line::default()).await.map(drop).unwrap_err();
        assert_eq!((unknown, taken.get()), (Trouble::HungUp { address }, 5));
    });
}

#[test]
fn who_greets_and_then_hangs_up_is_tried_ever_less_often() {
    block_on(async {
        let (sc, spu) = endpoint().await;
        let broken = hangs_up_after_greeting(spu).await;
        let (mut driver, _hub) =
            driver_to(&FluvioSink { spu_address: [(5001, broken)].into(), ..sink(&sc.to_string()) });
        let (least, cap) = driver.sink.retry;
        let long = |driver: &Driver| driver.spus.values().any(|spu| spu.backoff.last() >= Span(cap.0 / 2));
        timeout(Duration::from_secs(20), until(&mut driver, long)).await.expect("longer waits");
        assert!(least < Span(cap.0 / 2));
    });
}

#[test]
fn a_lane_whose_spu_hangs_keeps_no_other_lane_waiting_for_its_deadline() {
    block_on(async {
        let (sc, spu) = endpoint().await;
        let (address, hangs) = hangs_when_told(spu).await;
        let place = |lane| TopicPlan { lane, partitions: 1, pause: false, max_age: None };
        let topics = ["hung", "notes"].into_iter().zip([place(0), place(1)]);
        let topics = topics.map(|(name, place)| (TopicName::new(name).unwrap(), place)).collect();
        let hub = memory_hub_with(Plan { topics, ..testing::plan() });
        let lane_weights = testing::plan().lanes.into_iter().map(|name| (name, 1)).collect();
        // Its deadline is far behind the end of this test.
        let patient = Span::from_secs(3600);
        let to = FluvioSink { lane_weights, max_batch: 4096, request_timeout: patient, ..sink(&sc.to_string()) };
        let (mut driver, hub) = over(hub, &to, None);
        until(&mut driver, |driver| delivered(driver) == 1).await;
        // The other topic is made, and then led by another SPU.
        let leader = 5002;
        write(&hub, "hung", 1);
        until(&mut driver, |driver| delivered(driver) == 2).await;
        driver.hang_up();
        driver.meta.spus.insert(leader, address);
        driver.meta.topics.get_mut("hung").unwrap().leaders.insert(0, leader);
        driver.visit_wanted = false;
        write(&hub, "hung", 1);
        until(&mut driver, |driver| delivered(driver) == 3).await;
        assert!(driver.spus[&leader].up);
        hangs.set(Told::Hang);
        write(&hub, "hung", 40);
        write(&hub, "notes", 400);
        let others = until(&mut driver, |driver| delivered(driver) == 403);
        timeout(Duration::from_secs(30), others).await.expect("its turn");
        assert_eq!(driver.outlet.pending(driver.outlet.lanes()[0]), 40);
    });
}

/// So many records of 1,000 bytes.
fn write(hub: &Hub, topic: &str, count: usize) {
    let store = hub.store();
    let topic = store.open_topic(&TopicName::new(topic).unwrap()).unwrap();
    for _ in 0..count {
        store.offer(TopicPart { topic, partition: 0 }, &RecordRef::of(&[7; 1000])).unwrap();
    }
    store.hurry(Span::default());
}

/// What a port does with what it is given.
#[derive(Clone, Copy, Default, PartialEq)]
enum Told {
    #[default]
    PassOn,
    /// Takes everything and answers nothing.
    Hang,
    /// Of each connection but the first thing that is said.
    HangBehindGreeting,
}

/// In front of another port.
async fn hangs_when_told(port: SocketAddr) -> (String, Rc<Cell<Told>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, hangs) = (listener.local_addr().unwrap().to_string(), Rc::<Cell<Told>>::default());
    let told = hangs.clone();
    tokio::task::spawn_local(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_port, mut to_port) = TcpStream::connect(port).await.unwrap().into_split();
            let told = told.clone();
            tokio::task::spawn_local(async move {
                let (mut buffer, mut greets) = (vec![0; 64 * 1024], true);
                while let Ok(taken @ 1..) = from_client.read(&mut buffer).await {
                    let greeting = std::mem::take(&mut greets) && told.get() == Told::HangBehindGreeting;
                    if told.get() == Told::PassOn || greeting {
                        to_port.write_all(&buffer[..taken]).await.unwrap();
                    }
                }
            });
            tokio::task::spawn_local(async move { tokio::io::copy(&mut from_port, &mut to_client).await });
        }
    });
    (address, hangs)
}

#[test]
fn an_sc_that_greets_and_hangs_is_no_reason_not_to_ask_the_next() {
    block_on(async {
        let (sc, _) = endpoint().await;
        let (hangs, told) = hangs_when_told(sc).await;
        let first = FluvioSink { request_timeout: Span::from_millis(200), ..sink(&hangs) };
        told.set(Told::HangBehindGreeting);
        let (mut driver, _hub) = driver_to(&FluvioSink { endpoint: vec![hangs, sc.to_string()], ..first });
        until(&mut driver, |driver| delivered(driver) == 1).await;
    });
}

/// In front of an SPU: its answer to the greeting comes, and nothing behind it.
async fn hangs_up_after_greeting(spu: SocketAddr) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::task::spawn_local(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(spu).await.unwrap();
            let mut buffer = [0; 4096];
            // What does not come is as good as an end.
            let asked = client.read(&mut buffer).await.unwrap_or(0);
            server.write_all(&buffer[..asked]).await.unwrap();
            let answered = server.read(&mut buffer).await.unwrap();
            let _ = client.write_all(&buffer[..answered]).await;
            let _ = client.read(&mut buffer).await;
        }
    });
    address
}
