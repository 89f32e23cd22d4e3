//! `syslog`: RFC 5424 and 3164 over UDP, TCP and a Unix datagram socket.
//!
//! The record's value is the message as it came, so that nothing a parser may have misread is lost; what was understood
//! goes into attributes:
//!
//! | attribute | from |
//! |---|---|
//! | `peer` | the sender's address |
//! | `syslog.facility`, `syslog.severity` | the priority, in words (`daemon`, `warning`) |
//! | `syslog.host`, `syslog.app`, `syslog.pid`, `syslog.msgid` | the header |
//! | `syslog.ID.NAME` | structured data, as far as attributes go |
//!
//! The event time is set when the message says a full date with its zone: RFC 3164's "Oct 11 22:14:15" has neither year
//! nor zone, and guessing them on a machine whose own clock may be wrong helps nobody. A message that does not parse is
//! kept raw, flagged `UNPARSED` and counted `malformed`.

use chrono::FixedOffset;
use syslog_loose::{Message, ProcId, Variant, decompose_pri, parse_message_with_year_exact_tz};

use super::net::{Peer, Service, Taker};
use super::socket::{count_received, push_peer};
use super::{Inlet, SourceError, offer};
use crate::config::model::SyslogSource;
use crate::framing::Framing;
use crate::hub::counters;
use crate::record::{AttrBuf, Flags, RecordRef};
use crate::time::WallTime;
use crate::topic::TopicId;

/// No zone is one second off: a time that comes back with it had none of its own.
const NO_ZONE_SECONDS: i32 = 1;
/// More of a message's head than this is not looked at: header and structured data, not the text.
const LOOKED_AT: usize = 8 * 1024;

pub async fn run(config: &SyslogSource, intake: Inlet) -> Result<(), SourceError> {
    let messages = Messages { topic: intake.topic(&config.topic)?, intake: intake.clone() };
    let mut service = Service::new(intake, messages, Framing::Syslog, config.max_message);
    service.allow.clone_from(&config.allow);
    service.max_connections = config.max_connections;
    service.unix_datagrams = true;
    service.serve(&config.listen).await
}

struct Messages {
    intake: Inlet,
    topic: TopicId,
}

impl Taker for Messages {
    async fn take(&self, bytes: &[u8], truncated: bool, peer: &Peer, attrs: &mut AttrBuf) -> bool {
        count_received(&self.intake, bytes, truncated);
        attrs.clear();
        push_peer(attrs, peer);
        let mut flags = if truncated { Flags::TRUNCATED } else { Flags::default() };
        let read = read_message(bytes, attrs);
        if read == Read::Unparsed {
            flags = flags.with(Flags::UNPARSED);
            self.intake.count(counters::MALFORMED, 1);
        }
        let event_time = match read {
            Read::At(time) => Some(time),
            Read::Undated | Read::Unparsed => None,
        };
        let record = RecordRef { value: bytes, event_time, flags, attrs: attrs.as_attrs(), ..RecordRef::default() };
        offer(&self.intake, self.topic, &record).await
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// Parsed, with a full date.
    At(WallTime),
    Undated,
    Unparsed,
}

/// Reads what a message says about itself into `attrs`.
fn read_message(bytes: &[u8], attrs: &mut AttrBuf) -> Read {
    let head = &bytes[..bytes.len().min(LOOKED_AT)];
    // The text of a message may be in any character set; the header is ASCII and stands before it.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default(),
    };
    let zone = FixedOffset::east_opt(NO_ZONE_SECONDS);
    match parse_message_with_year_exact_tz(text, |_| 2000, zone, Variant::Either) {
        Ok(message) if message.severity.is_some() => {
            push_message(attrs, &message);
            match message.timestamp.filter(|t| t.offset().local_minus_utc() != NO_ZONE_SECONDS) {
                Some(time) => Read::At(WallTime(time.timestamp_micros())),
                None => Read::Undated,
            }
        }
        _ => {
            push_priority(attrs, text);
            Read::Unparsed
        }
    }
}

fn push(attrs: &mut AttrBuf, name: &str, value: &str) {
    // An attribute too many or too long is left out; the value has it anyway.
    let _fits = attrs.push(name, value.as_bytes());
}

fn push_message(attrs: &mut AttrBuf, message: &Message<&str>) {
    if let Some(facility) = message.facility {
        push(attrs, "syslog.facility", facility.as_str());
    }
    if let Some(severity) = message.severity {
        push(attrs, "syslog.severity", severity.as_str());
    }
    let words = [
        ("syslog.host", message.hostname),
        ("syslog.app", message.appname.filter(|app| !app.is_empty())),
        ("syslog.msgid", message.msgid),
    ];
    for (name, value) in words {
        if let Some(value) = value {
            push(attrs, name, value);
        }
    }
    match &message.procid {
        Some(ProcId::PID(pid)) => push(attrs, "syslog.pid", &pid.to_string()),
        Some(ProcId::Name(name)) => push(attrs, "syslog.pid", name),
        None => {}
    }
    for element in &message.structured_data {
        for (name, value) in element.params() {
            push(attrs, &format!("syslog.{}.{name}", element.id), &value);
        }
    }
}

/// The priority stands first and can be read though the rest cannot.
fn push_priority(attrs: &mut AttrBuf, text: &str) {
    let digits = text.strip_prefix('<').and_then(|rest| rest.split_once('>')).map(|(digits, _)| digits);
    let Some(pri) = digits.and_then(|d| d.parse::<u8>().ok()).filter(|pri| *pri <= 191) else { return };
    let (facility, severity) = decompose_pri(pri);
    if let (Some(facility), Some(severity)) = (facility, severity) {
        push(attrs, "syslog.facility", facility.as_str());
        push(attrs, "syslog.severity", severity.as_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(message: &str) -> (Read, Vec<(String, String)>) {
        let mut attrs = AttrBuf::default();
        let read = read_message(message.as_bytes(), &mut attrs);
        let pairs = attrs.as_attrs().iter().map(|(n, v)| (n.to_owned(), String::from_utf8(v.to_vec()).unwrap()));
        (read, pairs.collect())
    }

    fn pairs(expect: &[(&str, &str)]) -> Vec<(String, String)> {
        expect.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn rfc_5424_gives_header_structured_data_and_time() {
        let (read, attrs) = read(
            "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog 8710 ID47 [exampleSDID@32473 iut=\"3\"] An event",
        );
        assert_eq!(read, Read::At(WallTime(1_065_910_455_003_000)));
        assert_eq!(
            attrs,
            pairs(&[
                ("syslog.facility", "local4"),
                ("syslog.severity", "notice"),
                ("syslog.host", "mymachine.example.com"),
                ("syslog.app", "evntslog"),
                ("syslog.msgid", "ID47"),
                ("syslog.pid", "8710"),
                ("syslog.exampleSDID@32473.iut", "3"),
            ])
        );
    }

    #[test]
    fn rfc_3164_gives_header_and_no_time_because_it_has_no_year() {
        let (read, attrs) = read("<34>Oct 11 22:14:15 mymachine su[42]: 'su root' failed");
        assert_eq!(read, Read::Undated);
        assert_eq!(
            attrs,
            pairs(&[
                ("syslog.facility", "auth"),
                ("syslog.severity", "crit"),
                ("syslog.host", "mymachine"),
                ("syslog.app", "su"),
                ("syslog.pid", "42"),
            ])
        );
    }

    #[test]
    fn a_date_with_a_year_and_no_zone_is_no_time_either() {
        assert_eq!(read("<34>Oct 11 2020 22:14:15 mymachine su: x").0, Read::Undated);
        assert!(matches!(read("<34>2020-10-11T22:14:15+02:00 mymachine su: x").0, Read::At(_)));
    }

    #[test]
    fn what_does_not_parse_keeps_its_priority() {
        assert_eq!(read("no syslog at all"), (Read::Unparsed, vec![]));
        let (read, attrs) = read("<13>");
        assert_eq!(read, Read::Unparsed);
        assert_eq!(attrs, pairs(&[("syslog.facility", "user"), ("syslog.severity", "notice")]));
    }

    #[test]
    fn a_text_that_is_not_utf_8_leaves_the_header_readable() {
        let mut attrs = AttrBuf::default();
        let read = read_message(b"<34>1 2003-10-11T22:14:15Z host app - - - caf\xe9", &mut attrs);
        assert!(matches!(read, Read::At(_)));
        assert_eq!(attrs.as_attrs().get("syslog.host"), Some(&b"host"[..]));
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            read_message(&bytes, &mut AttrBuf::default());
        }

        #[test]
        fn messages_that_almost_parse_never_panic(
            pri in 0u32..400, date in "(Feb 30 25:61:61|Oct 11 22:14:15|2003-13-41T99:14:15Z|-|Oct 11 99999 1:1:1)",
            rest in "[ a-z\\[\\]\"=:\\\\é-]{0,60}"
        ) {
            for version in ["", "1 ", "99999999999 "] {
                let message = format!("<{pri}>{version}{date} {rest}");
                read_message(message.as_bytes(), &mut AttrBuf::default());
            }
        }
    }
}
