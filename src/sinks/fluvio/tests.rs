//! Laws of the driver that need a peer: the node's own endpoint.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::driver::Driver;
use super::testing::sink;
use super::tls::Keeper;
use super::tls::tests::{Authority, Files};
use crate::config::model::{EndpointConfig, FluvioSink, SinkConfig, SinkKind, ValueMode};
use crate::endpoint::Bound;
use crate::lane::LaneId;
use crate::name::Name;
use crate::node::plan;
use crate::node::testing::{block_on, memory_hub};
use crate::record::RecordRef;
use crate::time::Span;
use crate::topic::{TopicName, TopicPart, TopicSet};

/// An endpoint: where its SC and its SPU are.
async fn endpoint() -> (SocketAddr, SocketAddr) {
    let any = "127.0.0.1:0".parse().unwrap();
    let endpoint =
        EndpointConfig { sc_listen: any, spu_listen: any, advertise: None, insecure: false, max_connections: 8 };
    let bound = Bound::bind(&endpoint).await.unwrap();
    let addresses = (bound.sc_addr(), bound.spu_addr());
    tokio::task::spawn_local(bound.serve(memory_hub().store()));
    addresses
}

/// A driver of a sink for all topics, and a hub with one record for it.
fn driver_to(to: &FluvioSink) -> (Driver, crate::hub::Hub) {
    let hub = memory_hub();
    let config = SinkConfig {
        name: Name::new("hq").unwrap(),
        topics: TopicSet { include: vec!["*".into()], exclude: Vec::new() },
        rules: Vec::new(),
        value: ValueMode::Raw,
        kind: SinkKind::Fluvio(to.clone()),
    };
    let (outlet, _) = hub.outlet(plan::sink(&config));
    note(&hub);
    (Driver::new(&config, to, outlet), hub)
}

fn note(hub: &crate::hub::Hub) {
    let store = hub.store();
    let topic = store.open_topic(&TopicName::new("notes").unwrap()).unwrap();
    store.offer(TopicPart { topic, partition: 0 }, &RecordRef::of(b"a line")).unwrap();
    store.hurry(Span::default());
}

async fn with_a_record() -> (Driver, crate::hub::Hub) {
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
        assert_eq!(driver.outlet.pending(LaneId(1)), 0);
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
        let delivered = |driver: &Driver| {
            let lanes = driver.outlet.lanes();
            lanes.iter().map(|lane| driver.outlet.account(*lane).delivered).sum::<u64>()
        };
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
