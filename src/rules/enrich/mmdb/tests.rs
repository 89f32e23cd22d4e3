//! Databases written here, read back here and by another reader, and broken at every byte.

use std::collections::BTreeMap;

use super::*;
use proptest::prelude::*;

/// A value to be written.
#[derive(Clone, Debug)]
pub enum Value {
    Text(String),
    Short(u16),
    Unsigned(u32),
    Long(u64),
    Signed(i32),
    Double(f64),
    Float(f32),
    Bool(bool),
    Huge(u128),
    Map(Vec<(String, Value)>),
    Array(Vec<Value>),
}

fn head(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (small, more): (u8, &[u8]) = match size {
        0..29 => (size as u8, &[]),
        29..285 => (29, &[(size - 29) as u8]),
        _ => (30, &((size - 285) as u16).to_be_bytes()),
    };
    out.push(if kind > 7 { small } else { kind << 5 | small });
    out.extend(if kind > 7 { Some(kind - 7) } else { None });
    out.extend_from_slice(more);
}

/// Without its leading zero bytes, as the format has it.
fn unsigned(kind: u8, n: u64, out: &mut Vec<u8>) {
    let bytes = n.to_be_bytes();
    let bytes = &bytes[(n.leading_zeros() / 8) as usize..];
    head(kind, bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Writes a value; a text that was written before becomes a pointer to it.
fn write(value: &Value, texts: &mut BTreeMap<String, usize>, out: &mut Vec<u8>) {
    let text = |text: &String, texts: &mut BTreeMap<String, usize>, out: &mut Vec<u8>| match texts.get(text) {
        Some(at) if *at < 2048 => out.extend_from_slice(&[0x20 | (at >> 8) as u8, *at as u8]),
        Some(at) if *at < 526_336 => {
            let at = at - 2048;
            out.extend_from_slice(&[0x28 | (at >> 16) as u8, (at >> 8) as u8, at as u8]);
        }
        _ => {
            texts.insert(text.clone(), out.len());
            head(TEXT, text.len(), out);
            out.extend_from_slice(text.as_bytes());
        }
    };
    match value {
        Value::Text(t) => text(t, texts, out),
        Value::Short(n) => unsigned(UINT16, u64::from(*n), out),
        Value::Unsigned(n) => unsigned(UINT32, u64::from(*n), out),
        Value::Long(n) => unsigned(UINT64, *n, out),
        Value::Signed(n) => {
            head(INT32, 4, out);
            out.extend_from_slice(&n.to_be_bytes());
        }
        Value::Double(n) => {
            head(DOUBLE, 8, out);
            out.extend_from_slice(&n.to_be_bytes());
        }
        Value::Float(n) => {
            head(FLOAT, 4, out);
            out.extend_from_slice(&n.to_be_bytes());
        }
        Value::Bool(b) => head(BOOL, usize::from(*b), out),
        Value::Huge(n) => {
            head(UINT128, 16, out);
            out.extend_from_slice(&n.to_be_bytes());
        }
        Value::Map(members) => {
            head(MAP, members.len(), out);
            for (name, value) in members {
                text(name, texts, out);
                write(value, texts, out);
            }
        }
        Value::Array(items) => {
            head(ARRAY, items.len(), out);
            items.iter().for_each(|item| write(item, texts, out));
        }
    }
}

/// A database of networks (bits of a 128-bit address, or of a 32-bit one at the top, and their length).
pub fn database(record_bits: u32, v6: bool, networks: &[(u128, u32, Value)]) -> Vec<u8> {
    #[derive(Clone, Copy)]
    enum Record {
        Empty,
        Node(usize),
        Data(usize),
    }
    let mut nodes = vec![[Record::Empty; 2]];
    let (mut data, mut texts) = (Vec::new(), BTreeMap::new());
    for (bits, length, value) in networks {
        let at = data.len();
        write(value, &mut texts, &mut data);
        let mut node = 0;
        for i in 0..*length {
            let side = usize::from(bits >> (127 - i) & 1 == 1);
            if i + 1 == *length {
                nodes[node][side] = Record::Data(at);
                break;
            }
            node = match nodes[node][side] {
                Record::Node(next) => next,
                _ => {
                    nodes.push([Record::Empty; 2]);
                    let next = nodes.len() - 1;
                    nodes[node][side] = Record::Node(next);
                    next
                }
            };
        }
    }
    let number = |record: Record| match record {
        Record::Empty => nodes.len() as u32,
        Record::Node(node) => node as u32,
        Record::Data(at) => (nodes.len() + SEPARATOR + at) as u32,
    };
    let mut out = Vec::new();
    for node in &nodes {
        let [l, r] = node.map(|record| number(record).to_be_bytes());
        match record_bits {
            24 => out.extend_from_slice(&[l[1], l[2], l[3], r[1], r[2], r[3]]),
            28 => out.extend_from_slice(&[l[1], l[2], l[3], l[0] << 4 | r[0], r[1], r[2], r[3]]),
            _ => out.extend_from_slice(&[l, r].concat()),
        }
    }
    out.extend_from_slice(&[0; SEPARATOR]);
    out.extend_from_slice(&data);
    out.extend_from_slice(MARKER);
    let metadata = Value::Map(vec![
        ("binary_format_major_version".into(), Value::Short(2)),
        ("binary_format_minor_version".into(), Value::Short(0)),
        ("build_epoch".into(), Value::Long(1_700_000_000)),
        ("database_type".into(), Value::Text("Test".into())),
        ("description".into(), map(&[("en", text("A test"))])),
        ("ip_version".into(), Value::Short(if v6 { 6 } else { 4 })),
        ("languages".into(), Value::Array(vec![])),
        ("node_count".into(), Value::Unsigned(nodes.len() as u32)),
        ("record_size".into(), Value::Short(record_bits as u16)),
    ]);
    let mut tail = Vec::new();
    write(&metadata, &mut BTreeMap::new(), &mut tail);
    out.extend_from_slice(&tail);
    out
}

fn map(members: &[(&str, Value)]) -> Value {
    Value::Map(members.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect())
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// 81.2.69.0/24 and 2001:db8::/32, in a tree for IPv6.
pub fn world() -> Vec<u8> {
    let city = map(&[("names", map(&[("en", text("London")), ("de", text("London (de)"))]))]);
    let london = map(&[
        ("continent", map(&[("code", text("EU"))])),
        ("country", map(&[("iso_code", text("GB")), ("names", map(&[("en", text("United Kingdom"))]))])),
        ("city", city),
        ("subdivisions", Value::Array(vec![map(&[("iso_code", text("ENG"))]), map(&[("iso_code", text("LND"))])])),
        ("location", map(&[("latitude", Value::Double(51.5142)), ("longitude", Value::Double(-0.0931))])),
        ("traits", map(&[("is_anycast", Value::Bool(true)), ("level", Value::Signed(-7))])),
        ("filler", text(&"x".repeat(300))),
    ]);
    let other = map(&[
        ("country", map(&[("iso_code", text("GB"))])),
        ("big", Value::Huge(u128::MAX)),
        ("f", Value::Float(0.5)),
        ("n", Value::Unsigned(0)),
    ]);
    let v4 = u128::from(u32::from_be_bytes([81, 2, 69, 0]));
    database(28, true, &[(v4, 96 + 24, london), (0x2001_0db8 << 96, 32, other)])
}

fn open(bytes: &[u8]) -> Result<Database, DatabaseError> {
    Database::open(bytes.into())
}

#[test]
fn addresses_lead_to_their_network_and_paths_to_their_values() {
    let database = open(&world()).unwrap();
    let find = |ip: &str| database.find(ip.parse().unwrap()).unwrap();
    let london = find("81.2.69.255").unwrap();
    assert_eq!(find("::ffff:81.2.69.1"), Some(london));
    assert_eq!(find("81.2.70.0"), None);
    let at = |data, path: &[&str]| database.datum(data, path).unwrap();
    assert_eq!(at(london, &["subdivisions", "1", "iso_code"]), Some(Datum::Text("LND")));
    assert_eq!(at(london, &["location", "longitude"]), Some(Datum::Float(-0.0931)));
    assert_eq!(at(london, &["traits", "is_anycast"]), Some(Datum::Bool(true)));
    assert_eq!(at(london, &["traits", "level"]), Some(Datum::Signed(-7)));
    assert_eq!(at(london, &["filler"]), Some(Datum::Text(&"x".repeat(300))));
    for nowhere in
        [&["x"][..], &["country"], &["country", "iso_code", "x"], &["subdivisions", "2"], &["subdivisions", "x"]]
    {
        assert_eq!(at(london, nowhere), None, "{nowhere:?}");
    }
    let other = find("2001:db8:1::1").unwrap();
    // Its text is a pointer to the first one's.
    assert_eq!(at(other, &["country", "iso_code"]), Some(Datum::Text("GB")));
    assert_eq!(at(other, &["big"]), Some(Datum::Unsigned(u128::MAX)));
    assert_eq!(at(other, &["f"]), Some(Datum::Float(0.5)));
    assert_eq!(at(other, &["n"]), Some(Datum::Unsigned(0)));
}

#[test]
fn a_tree_for_ipv4_knows_nothing_of_ipv6() {
    for bits in [24, 28, 32] {
        let bytes = database(bits, false, &[(10 << 120, 8, text("ten")), (0xc0a8 << 112, 16, text("home"))]);
        let database = open(&bytes).unwrap();
        let name = |ip: &str| database.find(ip.parse().unwrap()).unwrap().map(|at| database.datum(at, &[]).unwrap());
        assert_eq!(name("10.255.0.1"), Some(Some(Datum::Text("ten"))));
        assert_eq!(name("192.168.0.1"), Some(Some(Datum::Text("home"))));
        assert_eq!((name("11.0.0.1"), name("::1"), name("a00::1")), (None, None, None));
    }
}

#[test]
fn records_of_28_bits_share_the_byte_between_them() {
    let node = [0x11, 0x22, 0x33, 0xab, 0x44, 0x55, 0x66];
    let database = Database { bytes: node.into(), nodes: 1, record_bits: 28, v6: true, data: (7, 7), v4: 0 };
    assert_eq!(database.record(0, false), Some(0x0a11_2233));
    assert_eq!(database.record(0, true), Some(0x0b44_5566));
    assert_eq!(database.record(1, true), None);
}

#[test]
fn files_that_are_no_database_are_refused() {
    assert_eq!(open(b""), Err(DatabaseError::NotOne));
    assert_eq!(open(b"GIF89a"), Err(DatabaseError::NotOne));
    assert!(matches!(open(MARKER), Err(DatabaseError::Damaged(_))));
    let whole = world();
    let tail = &whole[memchr::memmem::rfind(&whole, MARKER).unwrap() - 10..];
    assert_eq!(open(tail), Err(DatabaseError::Damaged("its tree reaches beyond its data")));
    assert_eq!(open(&database(26, true, &[])), Err(DatabaseError::Unknown));
}

#[test]
fn a_byte_that_is_wrong_gives_an_answer_or_damage_and_no_panic() {
    let good = world();
    for at in 0..good.len() {
        for put in [0, 0xff, good[at] ^ 0x20, good[at].wrapping_add(1)] {
            let mut bytes = good.clone();
            bytes[at] = put;
            let Ok(database) = open(&bytes) else { continue };
            for ip in ["81.2.69.1", "2001:db8::1"] {
                let Ok(Some(data)) = database.find(ip.parse().unwrap()) else { continue };
                for path in [&["location", "latitude"][..], &["subdivisions", "1", "iso_code"], &["n"], &["zzz"]] {
                    let _ = database.datum(data, path);
                }
            }
        }
    }
}

#[test]
fn pointers_in_a_circle_and_sizes_beyond_the_file_are_damage() {
    // A pointer to itself; a map of 65 821 + 2^24 - 1 members.
    for data in [&[0x20, 0x00][..], &[0xff, 0xff, 0xff, 0xff, 0x41, b'a', 0xc0]] {
        let section = Section(data);
        assert_eq!(section.find(0, &["b"]), Err(Damaged));
    }
    // Members that are empty maps: nothing but steps.
    let mut steps = vec![0xfe, 0xff, 0xff];
    steps.extend([0x41, b'a', 0xe0].repeat(70_000));
    assert_eq!(Section(&steps).find(0, &["b"]), Err(Damaged));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        "[a-c]{0,40}".prop_map(Value::Text),
        any::<u32>().prop_map(Value::Unsigned),
        any::<i32>().prop_map(Value::Signed),
        any::<i32>().prop_map(|n| Value::Double(f64::from(n) / 8.0)),
        any::<bool>().prop_map(Value::Bool),
        any::<u64>().prop_map(Value::Long),
        any::<u128>().prop_map(Value::Huge),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map("[a-c]", inner, 0..4).prop_map(|m| Value::Map(m.into_iter().collect())),
        ]
    })
}

/// What stands at a path, by the tree that was written.
fn at<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    let Some((name, rest)) = path.split_first() else { return Some(value) };
    match value {
        Value::Map(members) => at(&members.iter().find(|(n, _)| n == name)?.1, rest),
        Value::Array(items) => at(items.get(name.parse::<usize>().ok()?)?, rest),
        _ => None,
    }
}

fn same(found: Option<Datum<'_>>, value: Option<&Value>) -> bool {
    match (found, value) {
        (Some(Datum::Text(a)), Some(Value::Text(b))) => a == b,
        (Some(Datum::Unsigned(a)), Some(Value::Unsigned(b))) => a == u128::from(*b),
        (Some(Datum::Unsigned(a)), Some(Value::Long(b))) => a == u128::from(*b),
        (Some(Datum::Unsigned(a)), Some(Value::Huge(b))) => a == *b,
        (Some(Datum::Signed(a)), Some(Value::Signed(b))) => a == *b,
        (Some(Datum::Float(a)), Some(Value::Double(b))) => a == *b,
        (Some(Datum::Bool(a)), Some(Value::Bool(b))) => a == *b,
        (None, None | Some(Value::Map(_) | Value::Array(_))) => true,
        _ => false,
    }
}

/// Reads the same value with the reader of crates.io.
fn other_reader(reader: &maxminddb::Reader<Vec<u8>>, ip: IpAddr, path: &[&'static str]) -> Option<serde_json::Value> {
    let step = |name: &&'static str| match name.parse() {
        Ok(index) => maxminddb::PathElement::Index(index),
        Err(_) => maxminddb::PathElement::Key(name),
    };
    let path: Vec<_> = path.iter().map(step).collect();
    reader.lookup(ip).unwrap().decode_path(&path).unwrap()
}

#[test]
fn another_reader_reads_the_same_from_the_same_file() {
    let bytes = world();
    let (ours, theirs) = (open(&bytes).unwrap(), maxminddb::Reader::from_source(bytes).unwrap());
    theirs.verify().unwrap();
    for ip in ["81.2.69.0", "81.2.69.255", "81.2.68.255", "2001:db8::1", "2001:db9::1", "::", "::81.2.69.3"] {
        let ip: IpAddr = ip.parse().unwrap();
        let data = ours.find(ip).unwrap();
        assert_eq!(data, theirs.lookup(ip).unwrap().offset(), "{ip}");
        for path in [
            &["country", "iso_code"][..],
            &["city", "names", "de"],
            &["subdivisions", "1", "iso_code"],
            &["location", "latitude"],
            &["traits", "level"],
            &["traits", "is_anycast"],
            &["filler"],
            &["n"],
            &["nowhere"],
        ] {
            let ours = data.and_then(|data| ours.datum(data, path).unwrap()).map(|datum| match datum {
                Datum::Text(text) => serde_json::json!(text),
                Datum::Unsigned(n) => serde_json::json!(u64::try_from(n).unwrap()),
                Datum::Signed(n) => serde_json::json!(n),
                Datum::Float(n) => serde_json::json!(n),
                Datum::Bool(b) => serde_json::json!(b),
            });
            assert_eq!(ours, other_reader(&theirs, ip, path), "{ip} {path:?}");
        }
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read(values in prop::collection::vec(any_value(), 1..4), path in prop::collection::vec("[a-c0-2]", 0..4), bits in prop::sample::select(vec![24u32, 28, 32])) {
        let networks: Vec<_> = values.iter().enumerate().map(|(i, v)| ((i as u128) << 126, 2, v.clone())).collect();
        let bytes = database(bits, true, &networks);
        let database = open(&bytes).unwrap();
        for (i, value) in values.iter().enumerate() {
            let ip = core::net::Ipv6Addr::from_bits((i as u128) << 126 | 77 << 64);
            let data = database.find(ip.into()).unwrap().unwrap();
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            prop_assert!(same(database.datum(data, &names).unwrap(), at(value, &path)));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), at in 0usize..64) {
        let _ = Section(&bytes).find(at, &["a", "0"]);
        let mut file = bytes.clone();
        file.extend_from_slice(MARKER);
        file.extend_from_slice(&bytes);
        let _ = open(&file);
    }
}
