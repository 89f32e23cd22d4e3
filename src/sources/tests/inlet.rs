//! What is larger than the ring takes, from every kind of source.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use crate::config::model::{ExecSource, FileSource, Listen, SocketSource, SourceKind, SyslogSource, ValueMode};
use crate::hub::{PartState, counters};
use crate::record::{Flags, Record};
use crate::sources::testing::{House, block_on, disk, topic};
use crate::time::Span;

/// The largest line that a config allows.
const MAX: usize = 512 * 1024;

fn limit(house: &House) -> usize {
    house.hub.with_pipeline(|p| p.ring().max_record())
}

fn file_of(path: &std::path::Path) -> SourceKind {
    SourceKind::File(FileSource {
        topic: topic(),
        paths: vec![path.to_string_lossy().into_owned()],
        exclude: vec![],
        from_end: false,
        max_line: MAX,
        poll: Span::from_millis(10),
    })
}

/// Everything that came, the large one second.
fn check(house: &House, records: &[Record], large: &[u8]) {
    assert_eq!(records.len(), 3, "{:?}", house.part());
    let cut = &records[1];
    assert!(cut.flags.has(Flags::TRUNCATED) && large.starts_with(&cut.value));
    assert_eq!(cut.as_ref().len(), limit(house));
    assert!(!records[0].flags.has(Flags::TRUNCATED) && !records[2].flags.has(Flags::TRUNCATED));
    assert_eq!((house.counted(counters::TRUNCATED), house.counted(counters::REFUSED)), (1, 0));
}

#[test]
fn a_line_larger_than_the_ring_takes_is_cut_flagged_and_counted_by_every_source_of_lines() {
    let large = vec![b'x'; 300 * 1024];
    let lines = [b"<13>first\n".as_slice(), &large, b"\n<13>last\n"].concat();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    std::fs::write(&path, &lines).unwrap();
    let free = || TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap().local_addr().unwrap();
    let (syslog, socket) = (free(), free());
    let kinds = [
        (None, file_of(&path)),
        (
            None,
            SourceKind::Exec(ExecSource {
                topic: topic(),
                command: vec!["cat".into(), path.to_string_lossy().into_owned()],
                every: Some(Span::from_secs(3600)),
                max_line: MAX,
            }),
        ),
        (
            Some(socket),
            SourceKind::Socket(SocketSource {
                topic: topic(),
                listen: vec![Listen::Tcp(socket)],
                allow: vec![],
                max_line: MAX,
                max_connections: 4,
            }),
        ),
        (
            Some(syslog),
            SourceKind::Syslog(SyslogSource {
                topic: topic(),
                listen: vec![Listen::Tcp(syslog)],
                allow: vec![],
                max_message: MAX,
                max_connections: 4,
            }),
        ),
    ];
    for (address, kind) in kinds {
        block_on(async {
            let house = House::open(&disk(), vec![], u64::MAX);
            house.start(kind);
            if let Some(address) = address {
                house.until("the doors open", || matches!(house.state(), PartState::Up { .. })).await;
                let lines = lines.clone();
                // Nobody reads while this thread writes.
                std::thread::spawn(move || TcpStream::connect(address).unwrap().write_all(&lines).unwrap());
            }
            house.values_of("t", 3).await;
            check(&house, &house.records("t").await, &large);
        });
    }
}

#[test]
fn a_value_whose_envelope_is_larger_than_the_ring_takes_is_cut_until_it_fits() {
    let texts = ["\u{1}\\\"é".repeat(20_000).into_bytes(), vec![0xff; 100_000], vec![b'x'; 130_000]];
    for large in texts {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, [b"first\n".as_slice(), &large, b"\nlast\n"].concat()).unwrap();
        block_on(async {
            let house = House::open(&disk(), vec![], u64::MAX);
            house.start_as(file_of(&path), ValueMode::Envelope);
            house.values_of("t", 3).await;
            let records = house.records("t").await;
            let (taken, limit) = (records[1].as_ref().len(), limit(&house));
            assert!(records[1].flags.has(Flags::TRUNCATED));
            assert!(taken <= limit && taken + 1024 > limit, "{taken} of {limit}");
            let json: serde_json::Value = serde_json::from_slice(&records[1].value).unwrap();
            match json["value"].as_str() {
                Some(text) => assert!(large.starts_with(text.as_bytes())),
                None => assert!(json["value_hex"].as_str().is_some_and(|hex| hex.bytes().all(|b| b == b'f'))),
            }
            assert_eq!((house.counted(counters::TRUNCATED), house.counted(counters::REFUSED)), (1, 0));
        });
    }
}
