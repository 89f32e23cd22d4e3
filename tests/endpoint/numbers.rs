//! What a node says of its endpoint's connections.

use std::net::SocketAddr;

use super::node::{Node, config, eventually, free_port};
use super::server::Client;

#[test]
fn connections_and_what_they_are_sent_are_told_while_they_last() {
    let ports = [free_port(), free_port()];
    let endpoint =
        format!("[endpoint]\nsc_listen = \"127.0.0.1:{}\"\nspu_listen = \"127.0.0.1:{}\"\n", ports[0], ports[1]);
    let mut node = Node::new(&config("upstream", &endpoint));
    node.start();
    node.says("endpoint", "up", "SC on");
    let told = || {
        let part = node.status().parts.into_iter().find(|part| part.name == "endpoint").expect("the endpoint");
        (part.gauges["connections"], part.counters.get("sent_bytes").copied().unwrap_or(0))
    };
    assert_eq!(told(), (0, 0));
    let mut bytes = 0;
    let mut clients = ports.map(|port| Client::connect(SocketAddr::from(([127, 0, 0, 1], port))));
    for client in &mut clients {
        client.request(18, 2, 1, &[0; 6]);
        bytes += 4 + 4 + client.answer(1).len() as u64;
    }
    eventually("both connections and their bytes", || (told() == (2, bytes)).then_some(()));
    assert!(node.run(&["status"]).ok().contains("connections 2"));
    drop(clients);
    eventually("no connections", || (told() == (0, bytes)).then_some(()));
}
