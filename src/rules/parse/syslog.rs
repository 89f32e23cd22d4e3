//! Syslog messages, RFC 5424 and 3164, as an object: `facility`, `severity`, `host`, `app`, `pid`, `msgid`, `time`,
//! `data` (structured data by id and name) and `message`.
//!
//! `time` is RFC 3339, and there only when the message says a full date with its zone. RFC 3164's "Oct 11 22:14:15" has
//! neither year nor zone and stays text, as `time_text`. A parameter that comes more than once, which RFC 5424 allows, is
//! an array. A message without a priority is no syslog message.

use chrono::FixedOffset;
use syslog_loose::{Message, ProcId, Variant, parse_message_with_year_exact_tz};

use super::members::{MAX_MEMBERS, Members, Types};
use crate::json;
use crate::rules::failed::Failed;

/// No zone is one second off: a time that comes back with it had none of its own.
const NO_ZONE_SECONDS: i32 = 1;

pub(super) fn parse(text: &[u8], members: &mut Members<'_>) -> Result<(), Failed> {
    let text = String::from_utf8_lossy(text.trim_ascii_end());
    let zone = FixedOffset::east_opt(NO_ZONE_SECONDS);
    let message = parse_message_with_year_exact_tz(&text, |_| 2000, zone, Variant::Either)
        .map_err(|_| Failed::because("not a syslog message"))?;
    let (Some(facility), Some(severity)) = (message.facility, message.severity) else {
        return Err(Failed::because("not a syslog message: it has no priority"));
    };
    members.text("facility", facility.as_str().as_bytes())?;
    members.text("severity", severity.as_str().as_bytes())?;
    if let Some(time) = message.timestamp {
        if time.offset().local_minus_utc() == NO_ZONE_SECONDS {
            members.text_if("time_text", time_text(&text))?;
        } else {
            members.text("time", time.to_rfc3339().as_bytes())?;
        }
    }
    members.text_if("host", message.hostname)?;
    members.text_if("app", message.appname.filter(|app| !app.is_empty()))?;
    match &message.procid {
        Some(ProcId::PID(pid)) => members.text("pid", pid.to_string().as_bytes())?,
        Some(ProcId::Name(name)) => members.text("pid", name.as_bytes())?,
        None => {}
    }
    members.text_if("msgid", message.msgid)?;
    put_data(&message, members)?;
    members.text("message", message.msg.trim_start_matches('\u{feff}').as_bytes())
}

/// The timestamp as it stands after the priority: everything up to the word with the clock's colons.
fn time_text(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('>')?;
    let rest = rest.trim_start();
    let mut end = 0;
    for word in rest.split(' ').take(6) {
        end += word.len();
        if word.matches(':').count() >= 2 {
            return Some(rest[..end].trim_end_matches(':'));
        }
        end += 1;
    }
    None
}

fn put_data(message: &Message<&str>, members: &mut Members<'_>) -> Result<(), Failed> {
    if message.structured_data.is_empty() {
        return Ok(());
    }
    let none = Types::default();
    let mut data = Members::begin(members.value(b"data")?, &none);
    for element in &message.structured_data {
        let params: Vec<_> = element.params().collect();
        if params.len() > MAX_MEMBERS {
            return Err(Failed::because("more than 256 parameters in one element"));
        }
        let mut inner = Members::begin(data.value(element.id.as_bytes())?, &none);
        for (i, (name, value)) in params.iter().enumerate() {
            if params[..i].iter().any(|(n, _)| n == name) {
                continue;
            }
            let mut more = params[i + 1..].iter().filter(|(n, _)| n == name).peekable();
            let out = inner.value(name.as_bytes())?;
            if more.peek().is_none() {
                json::write_string(value.as_bytes(), out);
                continue;
            }
            out.push(b'[');
            json::write_string(value.as_bytes(), out);
            for (_, value) in more {
                out.push(b',');
                json::write_string(value.as_bytes(), out);
            }
            out.push(b']');
        }
        inner.end();
    }
    data.end();
    Ok(())
}
