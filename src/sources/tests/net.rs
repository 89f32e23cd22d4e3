//! `syslog` and `socket` over real sockets.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};

use crate::config::model::{IpNet, Listen, SocketSource, SourceKind, SyslogSource};
use crate::hub::{PartState, counters};
use crate::record::Flags;
use crate::sources::testing::{House, block_on, disk, topic};

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A port that was free a moment ago.
fn free_tcp() -> SocketAddr {
    TcpListener::bind(local(0)).unwrap().local_addr().unwrap()
}

fn free_udp() -> SocketAddr {
    UdpSocket::bind(local(0)).unwrap().local_addr().unwrap()
}

fn syslog(listen: Vec<Listen>) -> SyslogSource {
    SyslogSource { topic: topic(), listen, allow: vec![], max_message: 1024, max_connections: 4 }
}

fn socket(listen: Vec<Listen>) -> SocketSource {
    SocketSource { topic: topic(), listen, allow: vec![], max_line: 1024, max_connections: 4 }
}

async fn listening(house: &House) {
    house.until("the doors open", || matches!(house.state(), PartState::Up { .. })).await;
}

#[test]
fn syslog_over_udp_tcp_and_unix_is_kept_as_it_came_with_its_header_read() {
    let dir = tempfile::tempdir().unwrap();
    let (udp, tcp, unix) = (free_udp(), free_tcp(), dir.path().join("log"));
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        house.start(SourceKind::Syslog(syslog(vec![Listen::Udp(udp), Listen::Tcp(tcp), Listen::Unix(unix.clone())])));
        listening(&house).await;
        let sender = UdpSocket::bind(local(0)).unwrap();
        sender.send_to(b"<13>1 2020-01-02T03:04:05Z host app - - - over udp\n", udp).unwrap();
        assert_eq!(house.values_of("t", 1).await, ["<13>1 2020-01-02T03:04:05Z host app - - - over udp"]);
        let mut stream = TcpStream::connect(tcp).unwrap();
        stream.write_all(b"28 <34>Oct 11 22:14:15 m a: one<34>Oct 11 22:14:15 m a: two\n").unwrap();
        house.values_of("t", 3).await;
        UnixDatagram::unbound().unwrap().send_to(b"not syslog", &unix).unwrap();
        let got = house.values_of("t", 4).await;
        assert_eq!(got[1..], ["<34>Oct 11 22:14:15 m a: one", "<34>Oct 11 22:14:15 m a: two", "not syslog"]);
        let records = house.records("t").await;
        let attr = |at: usize, name: &str| records[at].attrs.as_attrs().get(name).map(<[u8]>::to_vec);
        assert_eq!(attr(0, "syslog.app"), Some(b"app".to_vec()));
        assert_eq!(attr(0, "peer"), Some(b"127.0.0.1".to_vec()));
        assert_eq!(records[0].event_time.map(|t| t.0), Some(1_577_934_245_000_000));
        assert_eq!((attr(1, "syslog.severity"), records[1].event_time), (Some(b"crit".to_vec()), None));
        assert!(records[3].flags.has(Flags::UNPARSED) && !records[0].flags.has(Flags::UNPARSED));
        assert_eq!((house.counted(counters::MALFORMED), house.counted(counters::RECEIVED)), (1, 4));
    });
}

#[test]
fn a_datagram_over_the_limit_is_cut_and_flagged_and_an_empty_one_is_nothing() {
    let udp = free_udp();
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        house.start(SourceKind::Syslog(syslog(vec![Listen::Udp(udp)])));
        listening(&house).await;
        let sender = UdpSocket::bind(local(0)).unwrap();
        sender.send_to(b"", udp).unwrap();
        sender.send_to(&[b'x'; 1024], udp).unwrap();
        sender.send_to(&[b'x'; 1025], udp).unwrap();
        house.values_of("t", 2).await;
        let records = house.records("t").await;
        let seen: Vec<_> = records.iter().map(|r| (r.value.len(), r.flags.has(Flags::TRUNCATED))).collect();
        assert_eq!(seen, [(1024, false), (1024, true)]);
    });
}

#[test]
fn lines_come_over_tcp_udp_and_a_unix_stream_and_the_last_needs_no_end() {
    let dir = tempfile::tempdir().unwrap();
    let (udp, tcp, unix) = (free_udp(), free_tcp(), dir.path().join("lines"));
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        house.start(SourceKind::Socket(socket(vec![Listen::Udp(udp), Listen::Tcp(tcp), Listen::Unix(unix.clone())])));
        listening(&house).await;
        UdpSocket::bind(local(0)).unwrap().send_to(b"a\nb\r\n", udp).unwrap();
        house.values_of("t", 2).await;
        let mut stream = TcpStream::connect(tcp).unwrap();
        stream.write_all(b"c\nd").unwrap();
        house.values_of("t", 3).await;
        drop(stream);
        house.values_of("t", 4).await;
        UnixStream::connect(&unix).unwrap().write_all(b"e\n").unwrap();
        assert_eq!(house.values_of("t", 5).await, ["a", "b", "c", "d", "e"]);
        house.until("all guests left", || house.part().gauge("connections") == Some(0)).await;
        assert_eq!(house.counted(counters::CONNECTS), 2);
    });
}

#[test]
fn who_is_not_on_the_list_is_turned_away_and_counted() {
    let (udp, tcp) = (free_udp(), free_tcp());
    let allow = vec![IpNet { address: Ipv4Addr::new(10, 0, 0, 0).into(), prefix: 8 }];
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        let listen = vec![Listen::Udp(udp), Listen::Tcp(tcp)];
        house.start(SourceKind::Syslog(SyslogSource { allow, ..syslog(listen) }));
        listening(&house).await;
        UdpSocket::bind(local(0)).unwrap().send_to(b"<13>x", udp).unwrap();
        let _stream = TcpStream::connect(tcp).unwrap();
        house.until("both are turned away", || house.counted(counters::TURNED_AWAY) == 2).await;
        assert_eq!(house.counted(counters::RECEIVED), 0);
    });
}

#[test]
fn one_connection_too_many_is_turned_away_and_the_others_stay() {
    let tcp = free_tcp();
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        house.start(SourceKind::Socket(SocketSource { max_connections: 1, ..socket(vec![Listen::Tcp(tcp)]) }));
        listening(&house).await;
        let mut first = TcpStream::connect(tcp).unwrap();
        house.until("the first is in", || house.counted(counters::CONNECTS) == 1).await;
        let _second = TcpStream::connect(tcp).unwrap();
        house.until("the second is not", || house.counted(counters::TURNED_AWAY) == 1).await;
        first.write_all(b"still here\n").unwrap();
        assert_eq!(house.values_of("t", 1).await, ["still here"]);
    });
}

#[test]
fn a_taken_port_is_shown_and_taken_when_it_is_free() {
    let holder = TcpListener::bind(local(0)).unwrap();
    let (taken, udp) = (holder.local_addr().unwrap(), free_udp());
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        house.start(SourceKind::Socket(socket(vec![Listen::Tcp(taken), Listen::Udp(udp)])));
        house.until("the taken port is named", || matches!(house.state(), PartState::Warn { .. })).await;
        let said = house.state().what().to_owned();
        assert!(said.contains(&format!("port {} is taken by another program", taken.port())), "{said}");
        UdpSocket::bind(local(0)).unwrap().send_to(b"through the other door\n", udp).unwrap();
        house.values_of("t", 1).await;
        drop(holder);
        listening(&house).await;
    });
}

#[test]
fn a_source_that_ends_takes_its_socket_files_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, lines) = (dir.path().join("log"), dir.path().join("lines"));
    for kind in [
        SourceKind::Syslog(syslog(vec![Listen::Unix(log.clone())])),
        SourceKind::Socket(socket(vec![Listen::Unix(lines.clone())])),
    ] {
        block_on(async {
            let house = House::open(&disk(), vec![], u64::MAX);
            let task = house.start(kind);
            listening(&house).await;
            assert!(log.exists() || lines.exists());
            house.stop();
            task.await.unwrap().unwrap();
            assert!(!log.exists() && !lines.exists());
        });
    }
}
