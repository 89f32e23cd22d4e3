//! Texts as devices send them, for each format that `parse` reads: sound ones of the format, bent ones, whatever bytes; in a value
//! or in a field of one. What must hold: none panics; what comes out is JSON for the scanner and for serde_json, with no
//! name twice, and no more than some times what came in.

use std::sync::OnceLock;

use headwater::json::Path;
use headwater::record::RecordRef;
use headwater::rules::Answer;
use headwater::rules::parse::csv::Csv;
use headwater::rules::parse::grok::Grok;
use headwater::rules::parse::key_value::KeyValue;
use headwater::rules::parse::members::{Type, Types};
use headwater::rules::parse::nmea::Nmea;
use headwater::rules::parse::{Format, Options, Parse};

use super::text::words;
use super::{Input, bend, held, json};

/// A byte becomes six (`\u0000`), or the three of U+FFFD; twice, where the original text is kept.
const GROWTH: usize = 12;
/// Names that a format gives by itself.
const NAMES: usize = 8 * 1024;
/// What parsing takes: its buffers as they grow; what an expression's automaton may take.
const PARSING: usize = 4 * 1024 * 1024;

const GROK: [&str; 4] = [
    "%{IPORHOST:ip} %{WORD:verb} %{NUMBER:n:float} %{GREEDYDATA:rest}",
    "%{TIMESTAMP_ISO8601:at} %{LOGLEVEL:level:auto} (?<a>[^ ]*) %{QUOTEDSTRING:text}",
    "^%{SYSLOGTIMESTAMP:at} %{HOSTNAME:host} %{GREEDYDATA:msg}$",
    "%{URI:uri}|%{MAC:mac}|%{UUID:id}|%{INT:n:int}|%{PATH:path}",
];

/// One of each format: bent, they still get somewhere.
const SOUND: [&str; 18] = [
    "{\"a\":1,\"b\":[true,null,\"x\\n\"]}",
    "level=info msg=\"link \\\"up\\\"\" rtt=12.5 ok",
    "a=1 b=2 a=3",
    "1,\"two, \"\"2\"\"\",3.5,\r\n",
    "a,b,c,n\n",
    "81.2.69.160 - anna [10/Oct/2000:13:55:36 -0700] \"GET /a?b=\\x22 HTTP/1.0\" 200 2326 \"http://x/\" \"Mozilla/5.0\"",
    "::1 - - [29/Feb/2024:23:59:60 +0000] \"-\" 408 -",
    "<34>1 2003-10-11T22:14:15.003Z host app 12 ID47 [ex@1 a=\"b\\]\"][y@2] \u{feff}text",
    "<13>Feb 29 23:59:60 host app[7]: text",
    "<0>Oct  1 00:00:00 x",
    "81.2.69.160 GET 30.5 the rest",
    "2024-02-29T23:59:60Z WARN x \"quo\\\"ted\"",
    "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47",
    "$GPGSV,3,1,11,03,03,111,00,04,15,270,00,06,01,010,00,13,06,292,00*74",
    "!AIVDM,1,1,,A,14eG;o@034o8sd<L9i:a;WF>062D,0*7D",
    "$GPRMC,235959.99,A,9000.000,S,18000.000,W,022.4,084.4,310279,003.1,W*",
    "weather,location=us\\,mid\\ west temperature=82i,wet=t,note=\"a \\\"b\\\"\",u=7u,f=-1e9 1465839830100400200",
    "m,t=1,t=1 f=1,f=2",
];

pub fn parse(data: &[u8]) {
    let mut input = Input(data);
    let Some(format) = format(&mut input) else { return };
    let mut options = Options::of(format);
    let plain =
        matches!(options.format, Format::Json | Format::Access | Format::Syslog | Format::Nmea(_) | Format::Influx);
    if !plain {
        options.types = types(&mut input);
    }
    let names = input.byte();
    let path = |name: &str| Path::parse(name).ok();
    options.keep = (names & 1 == 1).then(|| input.pick(&json::NAMES).to_owned());
    options.field = path("a").filter(|_| names & 2 == 2);
    options.into = path(if names & 8 == 8 { "a" } else { "b.c" }).filter(|_| names & 4 == 4);
    let text = text(&mut input);
    let Ok(rule) = Parse::new(options) else { return };
    let mut value = text.clone();
    if names & 2 == 2 {
        value = br#"{"c":1,"a":"#.to_vec();
        headwater::json::write_string(&text, &mut value);
        value.push(b'}');
    }
    check(&rule, &value);
    check(&rule, &json::any(&mut input));
}

fn check(rule: &Parse, value: &[u8]) {
    let (mut object, mut out) = (Vec::new(), Vec::new());
    let record = RecordRef::of(value);
    let most = PARSING + 4 * GROWTH * value.len();
    let made = held::within(most, "a parse", || rule.rewrite(&record, &mut object, &mut out));
    if let Ok(Answer::Value) = made {
        json::assert_sound(&out, value, "parse");
        assert!(out.len() <= GROWTH * value.len() + NAMES, "{} bytes become {}", value.len(), out.len());
    }
    let mut again = Vec::new();
    assert_eq!(
        (made, out),
        (rule.rewrite(&record, &mut object, &mut again), again),
        "the same text becomes something else"
    );
}

fn format(input: &mut Input<'_>) -> Option<Format> {
    static GROKS: OnceLock<Vec<Grok>> = OnceLock::new();
    Some(match input.below(10) {
        0 => Format::Json,
        1 => {
            let equals = input.pick(&[b'=', b':', b'-', input.0.first().copied().unwrap_or(b'=')]);
            Format::KeyValue(KeyValue { equals, between: input.pick(b" ,;"), flags: input.flag() })
        }
        2 => {
            let delimiter = input.pick(&[b',', b';', b'\t', b'a', input.0.first().copied().unwrap_or(b',')]);
            let columns = ["a", "b", "", "n", "a b"].into_iter().take(usize::from(input.below(6)));
            Format::Csv(Csv { columns: columns.map(str::to_owned).collect(), delimiter, drop_header: input.flag() })
        }
        3 | 4 => {
            let groks =
                GROKS.get_or_init(|| GROK.iter().map(|text| Grok::new(&[(*text).to_owned()], &[]).unwrap()).collect());
            Format::Grok(groks[usize::from(input.below(4))].clone())
        }
        5 => Format::Access,
        6 => Format::Syslog,
        7 => Format::Nmea(Nmea { without_checksum: input.flag() }),
        8 => Format::Influx,
        _ => {
            let (own, text) = (words(input.some(40)).into_owned(), words(input.some(60)).into_owned());
            let own = [("OWN".to_owned(), own), ("B".to_owned(), "%{OWN}%{OWN:a:int}".to_owned())];
            Format::Grok(Grok::new(&[text], &own).ok()?)
        }
    })
}

fn types(input: &mut Input<'_>) -> Types {
    let mut kind = || input.pick(&[Type::Text, Type::Int, Type::Float, Type::Bool, Type::Auto]);
    let columns = ["a", "b", "rtt"].iter().map(|name| ((*name).to_owned(), kind())).collect();
    Types { columns, others: kind(), missing: vec!["-".into(), "".into()] }
}

fn text(input: &mut Input<'_>) -> Vec<u8> {
    if input.flag() {
        return input.some(200).to_vec();
    }
    let mut text = input.pick(&SOUND).as_bytes().to_vec();
    for _ in 0..input.below(4) {
        let more = input.pick(&SOUND).as_bytes();
        let at = input.u16() % (text.len() + 1);
        text.splice(at..at, more.iter().copied().take(usize::from(input.byte())));
    }
    bend(&mut text, input);
    // The checksum that a sentence is refused by before anything else is looked at.
    if input.flag()
        && let Some(star) = text.iter().rposition(|b| *b == b'*')
    {
        text.truncate(star + 1);
        let sum = text.iter().skip(1).take(star.saturating_sub(1)).fold(0, |sum, b| sum ^ b);
        text.extend_from_slice(format!("{sum:02X}").as_bytes());
    }
    text
}
