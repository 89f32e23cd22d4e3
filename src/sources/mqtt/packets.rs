//! MQTT 3.1.1 and 5 behind one vocabulary, in the few words that a subscriber needs. The encoding is rumqttc's.
//!
//! A PUBLISH that its reader refuses (a topic that is not UTF-8, properties nobody knows), or of which only the head
//! is there, is read by [`salvage`]: topic, packet id and whatever payload is left. It can then be acknowledged,
//! which is the only way to be rid of it.

use bytes::{Buf, Bytes, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::QoS as QoS5;
use rumqttc::v5::mqttbytes::v5;

use super::acks::Answer;
use super::frames::{Chunk, variable};

/// Outgoing packets are small; a config that makes a larger one is refused by the broker, not by us.
const MAX_OUT: usize = 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V311,
    V5,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Version::V311 => "3.1.1",
            Version::V5 => "5",
        })
    }
}

/// What a broker says.
#[derive(Debug, PartialEq)]
pub enum Packet {
    Accepted(Accepted),
    Refused(String),
    Message(Message),
    /// PUBREL: a QoS 2 id is free.
    Released(u16),
    Subscribed {
        id: u16,
        /// The QoS granted, or why not.
        granted: Vec<Result<u8, String>>,
    },
    Unsubscribed,
    Pong,
    /// MQTT 5 only: why the broker hangs up.
    Goodbye {
        taken_over: bool,
        why: String,
    },
    /// Something that a broker has no reason to send.
    Odd(&'static str),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    pub session_present: bool,
    /// Seconds, if the broker has its own mind.
    pub keep_alive: Option<u16>,
    pub no_subscription_ids: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// 0 for QoS 0.
    pub id: u16,
    pub qos: u8,
    pub dup: bool,
    pub retain: bool,
    pub topic: String,
    pub payload: Bytes,
    /// Subscription identifiers (MQTT 5).
    pub subscriptions: Vec<usize>,
    /// Of the whole packet.
    pub size: usize,
    /// Not all of the payload is here.
    pub cut: bool,
    /// The packet was not as it should be.
    pub malformed: bool,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

fn malformed(e: impl std::fmt::Debug) -> Malformed {
    Malformed(format!("{e:?}"))
}

/// One packet from its bytes.
pub fn decode(version: Version, chunk: Chunk) -> Result<Packet, Malformed> {
    let mut bytes = match chunk {
        Chunk::Whole(bytes) => bytes,
        Chunk::Cut { head, size } => return salvage(version, &head.freeze(), size).map(Packet::Message),
    };
    let size = bytes.len();
    // Three short forms that the specification allows and the library's reader does not.
    match (version, &bytes[..]) {
        (Version::V5, [0xe0, 0]) => bytes = BytesMut::from(&[0xe0, 2, 0, 0][..]),
        (Version::V5, [0xe0, 1, reason]) => bytes = BytesMut::from(&[0xe0, 2, *reason, 0][..]),
        // A broker that only knows 3.1.1 refuses in its own words.
        (Version::V5, [0x20, 2, ..]) => return decode(Version::V311, Chunk::Whole(bytes)),
        _ => {}
    }
    // The reader consumes its input: a PUBLISH is copied until it is known to parse.
    let publish = (bytes[0] >> 4 == 3).then(|| Bytes::copy_from_slice(&bytes));
    let packet = match version {
        Version::V311 => v4::Packet::read(&mut bytes, usize::MAX).map_err(malformed).map(|p| from_v4(p, size)),
        Version::V5 => v5::Packet::read(&mut bytes, None).map_err(malformed).and_then(|p| from_v5(p, size)),
    };
    match (packet, publish) {
        (Err(_), Some(publish)) => {
            let message = salvage(version, &publish, size)?;
            Ok(Packet::Message(Message { malformed: true, ..message }))
        }
        (other, _) => other,
    }
}

/// Topic, packet id and the payload as far as it is there.
fn salvage(version: Version, packet: &Bytes, size: usize) -> Result<Message, Malformed> {
    let short = || Malformed("a PUBLISH that ends early".into());
    let (header, _) = super::frames::length(packet).ok().flatten().ok_or_else(short)?;
    let flags = packet[0];
    let mut rest = packet.slice(header..);
    let take = |rest: &mut Bytes, n: usize| (rest.len() >= n).then(|| rest.split_to(n)).ok_or_else(short);
    let topic_len = take(&mut rest, 2)?.get_u16();
    let topic = String::from_utf8_lossy(&take(&mut rest, usize::from(topic_len))?).into_owned();
    let qos = (flags >> 1) & 3;
    let id = if qos > 0 { take(&mut rest, 2)?.get_u16() } else { 0 };
    if version == Version::V5 {
        let properties = variable(&rest).ok().flatten();
        // Properties without end, or longer than what is kept: nothing of the payload is known.
        let skip = properties.map_or(rest.len(), |(used, len)| (used + len).min(rest.len()));
        rest.advance(skip);
    }
    Ok(Message {
        id,
        // QoS 3 does not exist; a packet id 0 cannot be acknowledged.
        qos: if id == 0 || qos == 3 { 0 } else { qos },
        dup: flags & 8 != 0,
        retain: flags & 1 != 0,
        topic,
        payload: rest,
        subscriptions: Vec::new(),
        size,
        cut: packet.len() < size,
        malformed: false,
    })
}

fn from_v4(packet: v4::Packet, size: usize) -> Packet {
    match packet {
        v4::Packet::ConnAck(ack) => match ack.code {
            v4::ConnectReturnCode::Success => {
                Packet::Accepted(Accepted { session_present: ack.session_present, ..Accepted::default() })
            }
            code => Packet::Refused(refusal(&format!("{code:?}"), None)),
        },
        v4::Packet::Publish(p) => Packet::Message(Message {
            id: p.pkid,
            qos: p.qos as u8,
            dup: p.dup,
            retain: p.retain,
            topic: p.topic,
            payload: p.payload,
            size,
            ..Message::default()
        }),
        v4::Packet::PubRel(p) => Packet::Released(p.pkid),
        v4::Packet::SubAck(ack) => {
            let granted = ack.return_codes.iter().map(|code| match code {
                v4::SubscribeReasonCode::Success(qos) => Ok(*qos as u8),
                v4::SubscribeReasonCode::Failure => Err("not allowed; look at the broker's access rules".to_owned()),
            });
            Packet::Subscribed { id: ack.pkid, granted: granted.collect() }
        }
        v4::Packet::UnsubAck(_) => Packet::Unsubscribed,
        v4::Packet::PingResp => Packet::Pong,
        _ => Packet::Odd("a packet that only clients send"),
    }
}

fn from_v5(packet: v5::Packet, size: usize) -> Result<Packet, Malformed> {
    Ok(match packet {
        v5::Packet::ConnAck(ack) => {
            let properties = ack.properties.as_ref();
            match ack.code {
                v5::ConnectReturnCode::Success => Packet::Accepted(Accepted {
                    session_present: ack.session_present,
                    keep_alive: properties.and_then(|p| p.server_keep_alive),
                    no_subscription_ids: properties.and_then(|p| p.subscription_identifiers_available) == Some(0),
                }),
                code => {
                    let said = properties.and_then(|p| p.reason_string.as_deref());
                    Packet::Refused(refusal(&format!("{code:?}"), said))
                }
            }
        }
        v5::Packet::Publish(p) => Packet::Message(Message {
            id: p.pkid,
            qos: p.qos as u8,
            dup: p.dup,
            retain: p.retain,
            topic: String::from_utf8(p.topic.to_vec()).map_err(malformed)?,
            payload: p.payload,
            subscriptions: p.properties.map(|p| p.subscription_identifiers).unwrap_or_default(),
            size,
            ..Message::default()
        }),
        v5::Packet::PubRel(p) => Packet::Released(p.pkid),
        v5::Packet::SubAck(ack) => {
            let granted = ack.return_codes.iter().map(|code| match code {
                v5::SubscribeReasonCode::Success(qos) => Ok(*qos as u8),
                v5::SubscribeReasonCode::NotAuthorized => {
                    Err("not authorised; look at the broker's access rules".to_owned())
                }
                other => Err(spaced(&format!("{other:?}"))),
            });
            Packet::Subscribed { id: ack.pkid, granted: granted.collect() }
        }
        v5::Packet::UnsubAck(_) => Packet::Unsubscribed,
        v5::Packet::PingResp(_) => Packet::Pong,
        v5::Packet::Disconnect(d) => {
            let said = d.properties.and_then(|p| p.reason_string).map(|s| format!(" ({s})")).unwrap_or_default();
            Packet::Goodbye {
                taken_over: d.reason_code == v5::DisconnectReasonCode::SessionTakenOver,
                why: spaced(&format!("{:?}", d.reason_code)) + &said,
            }
        }
        _ => Packet::Odd("a packet that only clients send"),
    })
}

/// `NotAuthorized` as a person writes it.
fn spaced(camel: &str) -> String {
    let mut words = String::new();
    for (i, c) in camel.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

/// Why a broker does not let us in, and what to do.
fn refusal(code: &str, said: Option<&str>) -> String {
    let hint = match code {
        "RefusedProtocolVersion" | "UnsupportedProtocolVersion" => "it does not speak this version; set `version`",
        "BadClientId" | "ClientIdentifierNotValid" => "it does not like the client id; set `client_id`",
        "BadUserNamePassword" => "is `password` that of `username` at this broker?",
        "NotAuthorized" => {
            "are `username` and `password` right, and may this user connect (the broker's access rules)?"
        }
        "ServiceUnavailable" | "ServerUnavailable" | "ServerBusy" => "it may be better later",
        "Banned" => "it has banned this client",
        "QuotaExceeded" | "ConnectionRateExceeded" => "it has too many clients or connections",
        "UseAnotherServer" | "ServerMoved" => "it wants us elsewhere; change `url`",
        _ => "look at its log",
    };
    let said = said.map(|s| format!(", \"{s}\"")).unwrap_or_default();
    format!("the broker refused: {}{said}; {hint}", spaced(code))
}

/// Who we are.
#[derive(Clone, Debug)]
pub struct Hello<'a> {
    pub client_id: &'a str,
    pub username: Option<&'a str>,
    pub password: Option<&'a str>,
    pub keep_alive: u16,
    pub window: u16,
    pub session_expiry: u32,
}

/// A subscription to ask for.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    pub id: u16,
    pub filter: &'a str,
    pub qos: u8,
    /// What the copies that it brings are marked with (MQTT 5).
    pub identifier: Option<usize>,
    /// Whether retained messages are wanted (MQTT 5).
    pub retained: bool,
}

/// Appends packets to what is to be written.
pub struct Encoder {
    pub version: Version,
}

impl Encoder {
    fn put(&self, out: &mut BytesMut, v4: impl FnOnce() -> v4::Packet, v5: impl FnOnce() -> v5::Packet) {
        // Writing fails only for packets above the limits of the protocol, which none of ours reaches.
        let written = match self.version {
            Version::V311 => v4().write(out, MAX_OUT).map_err(malformed),
            Version::V5 => v5().write(out, None).map_err(malformed),
        };
        debug_assert!(written.is_ok(), "{written:?}");
    }

    pub fn connect(&self, hello: &Hello<'_>, out: &mut BytesMut) {
        let (username, password) = (hello.username.unwrap_or(""), hello.password.unwrap_or(""));
        let named = hello.username.is_some() || hello.password.is_some();
        let v4 = || {
            let mut connect = v4::Connect::new(hello.client_id);
            connect.keep_alive = hello.keep_alive;
            connect.clean_session = false;
            if named {
                connect.set_login(username, password);
            }
            v4::Packet::Connect(connect)
        };
        let v5 = || {
            let properties = v5::ConnectProperties {
                session_expiry_interval: Some(hello.session_expiry),
                receive_maximum: Some(hello.window),
                // No `max_packet_size`: the broker would drop what is larger without a word.
                ..v5::ConnectProperties::new()
            };
            let connect = v5::Connect {
                keep_alive: hello.keep_alive,
                client_id: hello.client_id.to_owned(),
                clean_start: false,
                properties: Some(properties),
            };
            v5::Packet::Connect(connect, None, named.then(|| v5::Login::new(username, password)))
        };
        self.put(out, v4, v5);
    }

    pub fn subscribe(&self, wish: &Wish<'_>, out: &mut BytesMut) {
        let Wish { id, filter, qos, identifier, retained } = *wish;
        let v4 = || {
            let mut subscribe = v4::Subscribe::new(filter, qos4(qos));
            subscribe.pkid = id;
            v4::Packet::Subscribe(subscribe)
        };
        let v5 = || {
            let mut wanted = v5::Filter::new(filter, qos5(qos));
            wanted.retain_forward_rule = match retained {
                // A reconnect brings none again.
                true => v5::RetainForwardRule::OnNewSubscribe,
                false => v5::RetainForwardRule::Never,
            };
            let properties = identifier
                .map(|identifier| v5::SubscribeProperties { id: Some(identifier), user_properties: Vec::new() });
            let mut subscribe = v5::Subscribe::new(wanted, properties);
            subscribe.pkid = id;
            v5::Packet::Subscribe(subscribe)
        };
        self.put(out, v4, v5);
    }

    pub fn unsubscribe(&self, id: u16, filter: &str, out: &mut BytesMut) {
        let v4 = || {
            let mut unsubscribe = v4::Unsubscribe::new(filter);
            unsubscribe.pkid = id;
            v4::Packet::Unsubscribe(unsubscribe)
        };
        let v5 = || {
            let mut unsubscribe = v5::Unsubscribe::new(filter, None);
            unsubscribe.pkid = id;
            v5::Packet::Unsubscribe(unsubscribe)
        };
        self.put(out, v4, v5);
    }

    pub fn answer(&self, answer: Answer, out: &mut BytesMut) {
        match answer {
            Answer::Ack(id) => self.put(
                out,
                || v4::Packet::PubAck(v4::PubAck::new(id)),
                || v5::Packet::PubAck(v5::PubAck::new(id, None)),
            ),
            Answer::Received(id) => self.put(
                out,
                || v4::Packet::PubRec(v4::PubRec::new(id)),
                || v5::Packet::PubRec(v5::PubRec::new(id, None)),
            ),
            Answer::Complete(id) => self.put(
                out,
                || v4::Packet::PubComp(v4::PubComp::new(id)),
                || v5::Packet::PubComp(v5::PubComp::new(id, None)),
            ),
        }
    }

    pub fn ping(&self, out: &mut BytesMut) {
        self.put(out, || v4::Packet::PingReq, || v5::Packet::PingReq(v5::PingReq));
    }

    pub fn goodbye(&self, out: &mut BytesMut) {
        self.put(
            out,
            || v4::Packet::Disconnect,
            || v5::Packet::Disconnect(v5::Disconnect::new(v5::DisconnectReasonCode::NormalDisconnection)),
        );
    }
}

fn qos4(qos: u8) -> rumqttc::QoS {
    match qos {
        0 => rumqttc::QoS::AtMostOnce,
        1 => rumqttc::QoS::AtLeastOnce,
        _ => rumqttc::QoS::ExactlyOnce,
    }
}

fn qos5(qos: u8) -> QoS5 {
    match qos {
        0 => QoS5::AtMostOnce,
        1 => QoS5::AtLeastOnce,
        _ => QoS5::ExactlyOnce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn publish(version: Version, topic: &str, id: u16, payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        let (topic, payload) = (topic.to_owned(), payload.to_vec());
        Encoder { version }.put(
            &mut out,
            || {
                let mut p = v4::Publish::new(topic.clone(), rumqttc::QoS::AtLeastOnce, payload.clone());
                (p.pkid, p.dup) = (id, true);
                v4::Packet::Publish(p)
            },
            || {
                let properties = v5::PublishProperties {
                    subscription_identifiers: vec![2],
                    content_type: Some("x".into()),
                    ..v5::PublishProperties::default()
                };
                let mut p = v5::Publish::new(topic.clone(), QoS5::AtLeastOnce, payload.clone(), Some(properties));
                (p.pkid, p.dup) = (id, true);
                v5::Packet::Publish(p)
            },
        );
        out
    }

    proptest! {
        #[test]
        fn salvage_reads_what_the_library_reads(
            topic in "[a-z/]{1,40}", id in 1u16.., payload in prop::collection::vec(any::<u8>(), 0..300), keep in 1usize..400
        ) {
            for version in [Version::V311, Version::V5] {
                let bytes = publish(version, &topic, id, &payload);
                let size = bytes.len();
                let Packet::Message(read) = decode(version, Chunk::Whole(bytes.clone())).unwrap() else { panic!() };
                prop_assert_eq!((&read.topic, read.id, read.qos, read.dup), (&topic, id, 1, true));
                prop_assert_eq!(&read.payload[..], &payload[..]);
                let head = bytes.freeze().slice(..keep.min(size));
                // Type, length in one byte or two, topic behind its length, packet id: less cannot be acknowledged.
                let least = 1 + if size > 129 { 2 } else { 1 } + 2 + topic.len() + 2;
                let saved = salvage(version, &head, size);
                prop_assert_eq!(saved.is_ok(), head.len() >= least);
                let Ok(saved) = saved else { continue };
                prop_assert_eq!((&saved.topic, saved.id, saved.qos, saved.dup), (&topic, id, 1, true));
                // Behind the packet id may stand properties, which go first where the head is short.
                prop_assert!(payload.starts_with(&saved.payload));
                prop_assert_eq!(saved.payload.len(), payload.len().saturating_sub(size - head.len()));
                prop_assert_eq!(saved.cut, keep < size);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), kind in 0u8..16) {
            let mut packet = BytesMut::new();
            packet.extend_from_slice(&[kind << 4 | (bytes.first().copied().unwrap_or(0) & 15), bytes.len() as u8]);
            packet.extend_from_slice(&bytes);
            for version in [Version::V311, Version::V5] {
                let _ = decode(version, Chunk::Whole(packet.clone()));
            }
        }
    }

    #[test]
    fn a_topic_that_is_not_text_is_kept_and_can_be_acknowledged() {
        for version in [Version::V311, Version::V5] {
            let mut bytes = publish(version, "ab", 7, b"x");
            let at = bytes.windows(2).position(|w| w == b"ab").unwrap();
            bytes[at] = 0xff;
            let Packet::Message(message) = decode(version, Chunk::Whole(bytes)).unwrap() else { panic!() };
            assert!(message.malformed);
            assert_eq!((message.id, message.qos, message.topic.as_str()), (7, 1, "\u{fffd}b"));
            assert_eq!(&message.payload[..], b"x");
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        let refused = |version, bytes: &[u8]| decode(version, Chunk::Whole(BytesMut::from(bytes))).unwrap();
        assert_eq!(
            refused(Version::V311, &[0x20, 2, 0, 4]),
            Packet::Refused(
                "the broker refused: bad user name password; is `password` that of `username` at this broker?".into()
            )
        );
        assert_eq!(
            refused(Version::V5, &[0x20, 3, 0, 0x84, 0]),
            Packet::Refused(
                "the broker refused: unsupported protocol version; it does not speak this version; set `version`"
                    .into()
            )
        );
    }

    #[test]
    fn a_goodbye_tells_a_takeover() {
        let bytes = BytesMut::from(&[0xe0, 2, 0x8e, 0][..]);
        let packet = decode(Version::V5, Chunk::Whole(bytes)).unwrap();
        assert_eq!(packet, Packet::Goodbye { taken_over: true, why: "session taken over".into() });
        let bytes = BytesMut::from(&[0xe0, 0][..]);
        assert!(matches!(decode(Version::V5, Chunk::Whole(bytes)), Ok(Packet::Goodbye { taken_over: false, .. })));
    }
}
