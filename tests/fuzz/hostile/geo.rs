//! Databases of addresses and tables, as a file may hold them: small sound ones, bent, and whatever bytes. What must hold: none
//! panics or takes more than its bytes some times over, and what is found goes into a record as JSON.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use headwater::json::Path;
use headwater::record::RecordRef;
use headwater::rules::Answer;
use headwater::rules::enrich::Missing;
use headwater::rules::enrich::geo::Geo;
use headwater::rules::enrich::lookup::{Field, Lookup};
use headwater::rules::enrich::mmdb::Database;
use headwater::rules::enrich::table::Table;
use headwater::rules::parse::members::{Type, Types};
use headwater::template::{Context, Template};

use super::{Input, bend, held, json};

const OPENING: usize = 64 * 1024;
/// A row is read before it is known to be one too many; a table grows as it is read.
const TIMES: usize = 64;

fn context(labels: &BTreeMap<String, String>) -> Context<'_> {
    Context { node: "n1", topic: "t", source: "s", labels }
}

// ------------------------------------------------------------------------------------------------ databases

/// Of one network, 81.2.69.0/24, in a tree of `bits` for a record; its data are as the input has them.
fn database(bits: u32, input: &mut Input<'_>) -> Vec<u8> {
    const ADDRESS: u32 = u32::from_be_bytes([81, 2, 69, 0]);
    let nodes = 24u32;
    let data_record = nodes + 16;
    let mut out = Vec::new();
    for node in 0..nodes {
        let next = if node + 1 == nodes { data_record } else { node + 1 };
        let side = ADDRESS >> (31 - node) & 1;
        let pair = if side == 0 { [next, nodes] } else { [nodes, next] };
        match bits {
            24 => pair.iter().for_each(|record| out.extend_from_slice(&record.to_be_bytes()[1..])),
            28 => {
                out.extend_from_slice(&pair[0].to_be_bytes()[1..]);
                out.push((pair[0] >> 24 << 4 | pair[1] >> 24) as u8);
                out.extend_from_slice(&pair[1].to_be_bytes()[1..]);
            }
            _ => pair.iter().for_each(|record| out.extend_from_slice(&record.to_be_bytes())),
        }
    }
    out.extend_from_slice(&[0; 16]);
    out.extend_from_slice(&[0xe2, 0x47]);
    out.extend_from_slice(b"country");
    out.extend_from_slice(&[0xe1, 0x48]);
    out.extend_from_slice(b"iso_code");
    datum(input, &mut out);
    out.push(0x48);
    out.extend_from_slice(b"location");
    out.extend_from_slice(&[0xe2, 0x48]);
    out.extend_from_slice(b"latitude");
    datum(input, &mut out);
    out.extend_from_slice(&[0x49]);
    out.extend_from_slice(b"longitude");
    datum(input, &mut out);
    out.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    out.push(0xe4);
    for (name, number) in
        [("node_count", nodes), ("record_size", bits), ("binary_format_major_version", 2), ("ip_version", 4)]
    {
        out.push(0x40 | name.len() as u8);
        out.extend_from_slice(name.as_bytes());
        out.push(0xc4);
        out.extend_from_slice(&number.to_be_bytes());
    }
    out
}

/// A value of each type; pointers lead wherever they like.
fn datum(input: &mut Input<'_>, out: &mut Vec<u8>) {
    match input.below(8) {
        0 => out.extend_from_slice(b"\x42GB"),
        1 => out.extend_from_slice(&[0x68, 0x40, 0x49, 0xc0, 0, 0, 0, 0, 0]),
        2 => {
            out.push(0x68);
            let any: Vec<u8> = (0..8).map(|_| input.byte()).collect();
            out.extend_from_slice(&any);
        }
        3 => {
            out.extend_from_slice(&[0x20 | input.byte() & 0x1f, input.byte(), input.byte(), input.byte(), input.byte()])
        }
        4 => out.extend_from_slice(&[0x04, 0x08, 0x7f, 0xc0, input.byte(), input.byte()]),
        5 => out.extend_from_slice(&[0x10, 0x03, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        6 => out.extend_from_slice(&[0xe0 | input.byte() & 0x1f, input.byte(), input.byte()]),
        _ => out.extend_from_slice(input.some(40)),
    }
}

pub fn databases(input: &mut Input<'_>) {
    let bits = input.pick(&[24, 28, 32]);
    let mut bytes = if input.below(8) == 0 { input.some(120).to_vec() } else { database(bits, input) };
    for _ in 0..input.below(3) {
        bend(&mut bytes, input);
    }
    let len = bytes.len();
    let bytes: Arc<[u8]> = bytes.into();
    let Ok(opened) = held::within(OPENING, "a database", || Database::open(bytes)) else { return };
    for text in ["81.2.69.160", "81.2.68.0", "255.255.255.255", "::ffff:81.2.69.1", "::", "2001:db8::1"] {
        let ip: IpAddr = text.parse().expect("an address");
        if let Ok(Some(at)) = opened.find(ip) {
            let _ = opened.datum(at, &["country", "iso_code"]);
            let _ = opened.datum(at, &["location", "0", "x"]);
        }
    }
    let path = |text: &str| Path::parse(text).expect("a path");
    let fields = [("country", "c"), ("latitude", "d.e"), ("location.longitude", "lon"), ("a.0", "x")];
    let fields: Vec<_> = fields.iter().map(|(name, to)| ((*name).to_owned(), path(to))).collect();
    let by = Template::parse("{field.ip}").expect("a template");
    let missing = input.pick(&[Missing::Pass, Missing::Drop, Missing::Fail]);
    let rule = Geo::new(by, opened, &fields, "en", missing).expect("a rule");
    let labels = BTreeMap::new();
    for value in [br#"{"ip":"81.2.69.160","c":1}"#.to_vec(), json::any(input)] {
        let (mut text, mut out) = (Vec::new(), Vec::new());
        let record = RecordRef::of(&value);
        let most = OPENING + 4 * (len + value.len());
        let made = held::within(most, "geo", || rule.rewrite(&context(&labels), &record, &mut text, &mut out));
        if let Ok(Answer::Value) = made {
            json::assert_sound(&out, &value, "geo");
        }
    }
}

// ------------------------------------------------------------------------------------------------ tables

pub fn tables(input: &mut Input<'_>) {
    let mut bytes = match input.below(5) {
        0 => json::any(input),
        1 => b"id,site,n\nk,\"north, \"\"1\"\"\",30.5\r\nboiler-7,,\n\"a\nb\",x,y\n".to_vec(),
        2 => br#"[{"id":"k","site":{"a":[1]},"n":null},{"id":7},{"site":1}]"#.to_vec(),
        3 => br#"{"k":{"site":"x","n":-0.0},"boiler-7":{},"\u0061":{"site":[]}}"#.to_vec(),
        _ => input.some(120).to_vec(),
    };
    bend(&mut bytes, input);
    let columns = ["site".to_owned(), "n".to_owned()];
    let types = Types { others: input.pick(&[Type::Text, Type::Auto, Type::Int]), ..Types::default() };
    let most = OPENING + TIMES * bytes.len();
    let read = held::within(most, "a table", || match input.flag() {
        true => Table::json(&bytes, "id", &columns),
        false => Table::csv(&bytes, input.pick(b",;i"), "id", &columns, &types),
    });
    let Ok(table) = read else { return };
    let to = |column: &str, to: &str, default: Option<&str>| Field {
        column: column.into(),
        to: Path::parse(to).expect("a path"),
        default: default.map(str::to_owned),
    };
    let by = Template::parse(input.pick(&["{key}", "{field.a}", "{field.c.b}-"])).expect("a template");
    let fields = [to("site", "b.c", None), to("n", "a", Some("[1,{}]"))];
    let rule = Lookup::new(by, table, &fields, Missing::Pass).expect("a rule");
    let labels = BTreeMap::new();
    for value in [json::any(input), b"{}".to_vec()] {
        let (mut text, mut out) = (Vec::new(), Vec::new());
        let record =
            RecordRef { key: Some(input.pick(&[b"k".as_slice(), b"boiler-7", b"a", b""])), ..RecordRef::of(&value) };
        let most = OPENING + 4 * (bytes.len() + value.len());
        let made = held::within(most, "enrich", || rule.rewrite(&context(&labels), &record, &mut text, &mut out));
        if let Ok(Answer::Value) = made {
            json::assert_sound(&out, &value, "enrich");
        }
    }
}
