//! A broker that does exactly what a test tells it, byte by byte, in MQTT 3.1.1.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Fake {
    listener: TcpListener,
    pub port: u16,
}

impl Fake {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    pub async fn accept(&self) -> Peer {
        let accepted = tokio::time::timeout(Duration::from_secs(30), self.listener.accept()).await;
        Peer { stream: accepted.expect("the source connects").unwrap().0 }
    }

    /// Takes the connection, lets the source in, grants what it asks for.
    pub async fn welcome(&self, session_present: bool) -> Peer {
        let mut peer = self.accept().await;
        assert_eq!(peer.packet().await[0], 0x10, "CONNECT");
        peer.send(&[0x20, 2, u8::from(session_present), 0]).await;
        peer
    }
}

pub struct Peer {
    pub stream: TcpStream,
}

impl Peer {
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next packet, whole; None if the source hung up.
    pub async fn try_packet(&mut self) -> Option<Vec<u8>> {
        let mut packet = vec![0; 2];
        self.stream.read_exact(&mut packet).await.ok()?;
        let mut length = usize::from(packet[1] & 0x7f);
        let mut shift = 7;
        while packet[packet.len() - 1] & 0x80 != 0 {
            let byte = self.stream.read_u8().await.ok()?;
            packet.push(byte);
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
        }
        let header = packet.len();
        packet.resize(header + length, 0);
        self.stream.read_exact(&mut packet[header..]).await.ok()?;
        Some(packet)
    }

    pub async fn packet(&mut self) -> Vec<u8> {
        let packet = tokio::time::timeout(Duration::from_secs(30), self.try_packet()).await;
        packet.expect("a packet").expect("the connection")
    }

    /// Grants subscriptions and answers pings until something else comes.
    pub async fn next(&mut self) -> Vec<u8> {
        loop {
            let packet = self.packet().await;
            match packet[0] >> 4 {
                8 => self.send(&[0x90, 3, packet[2], packet[3], 1]).await,
                10 => self.send(&[0xb0, 2, packet[2], packet[3]]).await,
                12 => self.send(&[0xd0, 0]).await,
                _ => return packet,
            }
        }
    }

    /// As `next`, but nothing may come for so long.
    pub async fn nothing(&mut self, long: Duration) {
        if let Ok(packet) = tokio::time::timeout(long, self.next()).await {
            panic!("{packet:02x?} came");
        }
    }

    pub async fn publish(&mut self, topic: &str, qos: u8, id: u16, dup: bool, payload: &[u8]) {
        let packet = publish(topic, qos, id, dup, payload);
        self.send(&packet).await;
    }
}

pub fn publish(topic: &str, qos: u8, id: u16, dup: bool, payload: &[u8]) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    if qos > 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    body.extend_from_slice(payload);
    let mut packet = vec![0x30 | (u8::from(dup) << 3) | (qos << 1)];
    let mut left = body.len();
    loop {
        let byte = (left % 128) as u8;
        left /= 128;
        packet.push(if left > 0 { byte | 0x80 } else { byte });
        if left == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

pub fn puback(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![0x40, 2, high, low]
}

pub fn pubrec(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![0x50, 2, high, low]
}

pub fn pubrel(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![0x62, 2, high, low]
}

pub fn pubcomp(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![0x70, 2, high, low]
}
