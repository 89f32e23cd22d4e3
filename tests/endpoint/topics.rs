//! Making topics: what a node does not keep of what is asked for is refused, unless a node's own sink asks.

use super::server::{Client, Server, string};

const INVALID_CONFIGURATION: i16 = 2004;

/// The code of the answer to a create by this client; `kept` stands for cleanup policy, storage and compression.
fn make(server: &Server, client_id: &str, name: &str, kept: &[u8]) -> i16 {
    let computed = [&[0, 0, 1][..], &1u32.to_be_bytes(), &1u32.to_be_bytes(), &[0]].concat();
    let inner = [&string(name)[..], &computed, kept, &[0, 0]].concat();
    let body = [&string("Topic")[..], &(inner.len() as u32).to_be_bytes(), &inner].concat();
    let head = [&1001u16.to_be_bytes()[..], &19i16.to_be_bytes(), &1i32.to_be_bytes()].concat();
    let mut client = Client::connect(server.sc);
    client.send(&[&head[..], &string(client_id), &body].concat());
    let answer = client.answer(1);
    i16::from_be_bytes([answer[2 + name.len()], answer[3 + name.len()]])
}

#[test]
fn retention_that_a_node_does_not_keep_is_refused_unless_a_nodes_sink_asks_for_it() {
    let server = Server::start();
    let time = [1, 0, 0, 0, 0, 60, 0, 4];
    let size = [&[0, 1, 0, 1][..], &5_000_000i64.to_be_bytes(), &[4]].concat();
    // A segment's size, and zstd alone.
    let layout = [0, 1, 1, 0, 16, 0, 0, 0, 3];
    assert_eq!(make(&server, "fluvio", "plain", &[0, 0, 4]), 0);
    assert_eq!(make(&server, "fluvio", "layout", &layout), 0);
    assert_eq!(make(&server, "fluvio", "time", &time), INVALID_CONFIGURATION);
    assert_eq!(make(&server, "fluvio", "size", &size), INVALID_CONFIGURATION);
    assert_eq!(make(&server, "headwater", "time", &time), 0);
    assert_eq!(make(&server, "headwater", "size", &size), 0);
}
