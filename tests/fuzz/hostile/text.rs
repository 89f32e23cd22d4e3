//! What operators write and devices send as text: paths, templates, times of day; JSON. What must hold: none panics; what the
//! scanner finds is what serde_json finds; what is written again is read as the same.

use std::collections::BTreeMap;

use headwater::envelope;
use headwater::json::{self, Path, Scanner, Value};
use headwater::link::{Place, Window, parse_rate};
use headwater::record::{AttrBuf, Flags, RecordRef};
use headwater::template::{Context, Template};
use headwater::time::WallTime;
use headwater::zone::Zone;

use super::Input;

pub fn text(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 4 {
        0 => times(&mut input),
        1 => templates(&mut input),
        2 => envelopes(&mut input),
        _ => find(&mut input),
    }
}

pub fn words<'a>(bytes: &'a [u8]) -> std::borrow::Cow<'a, str> {
    String::from_utf8_lossy(bytes)
}

// ------------------------------------------------------------------------------------------------ JSON

fn find(input: &mut Input<'_>) {
    let path = words(input.some(24));
    let bytes = input.0;
    scan(bytes);
    let unescaped = json::unescape(bytes);
    // A `\u` at the very end becomes a character of three bytes.
    assert!(unescaped.len() <= bytes.len() + 1, "an escape stands for more than it takes");
    let mut written = Vec::new();
    json::write_string(bytes, &mut written);
    let lossy = words(bytes);
    assert_eq!(serde_json::from_slice::<String>(&written).ok().as_deref(), Some(&*lossy), "a string is another");
    assert_eq!(*json::unescape(&written[1..written.len() - 1]), *lossy.as_bytes());
    let Ok(path) = Path::parse(&path) else { return };
    assert_eq!(Path::parse(&path.to_string()).as_ref(), Ok(&path), "a path is another when it is written again");
    let found = json::find(bytes, &path);
    let Ok(tree) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    if has_twins(bytes) {
        // A key that is there twice: the scanner takes the first, a tree the last.
        return;
    }
    let found = found.unwrap_or_else(|error| panic!("{error}; serde_json takes it"));
    agree(found, pick(&tree, path.names()));
}

/// What the scanner takes serde_json takes, but for the inside of strings and the size of numbers; and all that serde_json
/// takes.
fn scan(bytes: &[u8]) {
    let mut scan = Scanner::new(bytes);
    scan.space();
    let taken = scan.value(0).is_ok() && scan.end().is_ok();
    match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(_) => assert!(taken, "serde_json takes what the scanner does not"),
        Err(error) => assert!(!taken || is_not_judged(&error), "the scanner takes it; serde_json: {error}"),
    }
}

/// What the scanner leaves to whoever reads the value.
pub fn is_not_judged(error: &serde_json::Error) -> bool {
    let why = error.to_string();
    ["control character", "unicode", "surrogate", "out of range", "hex escape", "recursion limit"]
        .iter()
        .any(|i| why.contains(i))
}

fn pick<'a>(tree: &'a serde_json::Value, names: &[String]) -> Option<&'a serde_json::Value> {
    names.iter().try_fold(tree, |at, name| match at {
        serde_json::Value::Object(members) => members.get(name),
        serde_json::Value::Array(elements) => elements.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

fn agree(found: Option<Value<'_>>, tree: Option<&serde_json::Value>) {
    use serde_json::Value as Tree;
    match (found, tree) {
        (None, None) | (Some(Value::Null), Some(Tree::Null)) => {}
        (Some(Value::Bool(a)), Some(Tree::Bool(b))) => assert_eq!(a, *b),
        (Some(Value::Number(digits)), Some(Tree::Number(b))) => {
            assert_eq!(serde_json::from_str::<serde_json::Number>(digits).ok().as_ref(), Some(b), "{digits}");
        }
        (Some(Value::String(raw)), Some(Tree::String(b))) => assert_eq!(*json::unescape(raw), *b.as_bytes()),
        (Some(Value::Nested(raw)), Some(tree @ (Tree::Array(_) | Tree::Object(_)))) => {
            assert_eq!(serde_json::from_slice::<Tree>(raw).ok().as_ref(), Some(tree));
        }
        (found, tree) => panic!("the scanner finds {found:?}, serde_json {tree:?}"),
    }
}

/// Whether an object anywhere has a key twice.
pub fn has_twins(bytes: &[u8]) -> bool {
    struct Twins(bool);
    impl<'de> serde::Deserialize<'de> for Twins {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            from.deserialize_any(Visit)
        }
    }
    struct Visit;
    impl<'de> serde::de::Visitor<'de> for Visit {
        type Value = Twins;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("JSON")
        }
        fn visit_bool<E>(self, _: bool) -> Result<Twins, E> {
            Ok(Twins(false))
        }
        fn visit_i64<E>(self, _: i64) -> Result<Twins, E> {
            Ok(Twins(false))
        }
        fn visit_u64<E>(self, _: u64) -> Result<Twins, E> {
            Ok(Twins(false))
        }
        fn visit_f64<E>(self, _: f64) -> Result<Twins, E> {
            Ok(Twins(false))
        }
        fn visit_str<E>(self, _: &str) -> Result<Twins, E> {
            Ok(Twins(false))
        }
        fn visit_unit<E>(self) -> Result<Twins, E> {
            Ok(Twins(false))
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Twins, A::Error> {
            let mut twins = false;
            while let Some(Twins(inside)) = seq.next_element()? {
                twins |= inside;
            }
            Ok(Twins(twins))
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Twins, A::Error> {
            let (mut twins, mut keys) = (false, std::collections::BTreeSet::new());
            while let Some((key, Twins(inside))) = map.next_entry::<String, Twins>()? {
                twins |= inside | !keys.insert(key);
            }
            Ok(Twins(twins))
        }
    }
    serde_json::from_slice::<Twins>(bytes).is_ok_and(|Twins(twins)| twins)
}

// ------------------------------------------------------------------------------------------------ templates, envelopes

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("kind".to_owned(), "pump \"7\"\n".to_owned())])
}

fn templates(input: &mut Input<'_>) {
    let text = words(input.some(48));
    let Ok(template) = Template::parse(&text) else { return };
    assert_eq!(template.text(), text);
    let (key, labels) = (input.flag().then(|| input.some(16)), labels());
    let mut attrs = AttrBuf::default();
    assert!(attrs.push("mqtt.1", input.some(8)));
    let context = Context { node: "n1", topic: "t", source: if input.flag() { "s" } else { "" }, labels: &labels };
    let record = RecordRef { key, attrs: attrs.as_attrs(), ..RecordRef::of(input.0) };
    let mut out = b"before".to_vec();
    let whole = template.render(&context, &record, &mut out);
    assert!(out.starts_with(b"before") && (whole || out.len() == 6), "a part of a template is rendered");
    if let Some(path) = template.as_field() {
        let field = json::find(record.value, path);
        assert_eq!(whole, matches!(field, Ok(Some(value)) if value != Value::Null));
    }
    assert!(!template.has_source() || text.contains("{source}"));
    assert!(template.labels().all(|label| text.contains(label)));
}

fn envelopes(input: &mut Input<'_>) {
    let (time, backlog) = (input.flag().then(|| WallTime(input.number())), input.flag());
    let key = input.flag().then(|| input.some(16));
    let mut attrs = AttrBuf::default();
    if input.flag() {
        assert!(attrs.push("mqtt.1", input.some(8)));
    }
    let flags = [Flags::TRUNCATED, Flags::CLOCK_UNTRUSTED, Flags::RETAINED][usize::from(input.below(3))];
    let labels = labels();
    let context = Context { node: "n1", topic: "t", source: "s", labels: &labels };
    let record = RecordRef { key, attrs: attrs.as_attrs(), flags, ..RecordRef::of(input.0) };
    let write = |time, backlog| {
        let mut out = Vec::new();
        envelope::write_marked(&mut out, &context, &record, time, backlog);
        out
    };
    let out = write(time, backlog);
    assert!(!out.contains(&b'\n'), "an envelope is one line");
    match serde_json::from_slice::<serde_json::Value>(&out) {
        Ok(tree) => {
            let value = tree.get("value").or(tree.get("value_hex"));
            assert!(value.is_some(), "an envelope without a value");
            if let Some(value) = tree.get("value") {
                // What is no JSON, or on several lines, is a string.
                let json = serde_json::from_slice::<serde_json::Value>(record.value);
                let is_text = value.as_str().is_some_and(|text| text.as_bytes() == record.value);
                assert!(is_text || json.is_ok_and(|json| json == *value), "another value");
            }
        }
        // One level more than serde_json follows, or a number that it cannot have: the scanner has no such bounds on either.
        Err(error) => {
            let why = error.to_string();
            let beyond = ["recursion limit", "out of range", "surrogate", "unicode", "hex escape"];
            assert!(beyond.iter().any(|i| why.contains(i)), "an envelope is no JSON: {why}");
        }
    }
    // What lasts of it is the same whenever it is sent.
    if time.is_none_or(|time| envelope::rfc3339(time).is_some()) {
        let other = write(Some(WallTime(7)), !backlog);
        let lasting = |bytes: &[u8]| envelope::lasting(bytes).concat();
        if time.is_some() {
            assert_eq!(lasting(&out), lasting(&other), "what lasts depends on the time");
        }
    }
    let [a, b] = envelope::lasting(input.0);
    assert!(a.len() + b.len() <= input.0.len());
}

// ------------------------------------------------------------------------------------------------ times

fn times(input: &mut Input<'_>) {
    let (at, local) = (WallTime(input.number()), input.number() as i32 % (15 * 3600));
    let text = words(input.0);
    let _ = parse_rate(&text, |size| size.parse::<u64>().map_err(|e| e.to_string()));
    // A zone's file is whatever follows: it may put clocks forward over any window, and for good.
    let file = |_: &str| Ok(input.0.to_vec());
    let named = Zone::parse("Mars/Olympus", &file).unwrap_or_default();
    let (zone, sound) = match Zone::parse(&text, &|name| Err(name.to_owned())) {
        Ok(zone) => (zone, true),
        Err(_) => (named, false),
    };
    let moment = zone.moment(at.0 / 1_000_000, local);
    let place = Place { zone: &zone, local };
    let Ok(window) = Window::parse(&text, &file) else { return };
    let next = window.next(at, place);
    assert_eq!(window.is_open(at, place), window.end(at, place).is_some());
    // Where the calendar can say it.
    if sound && !text.contains('/') && at.0.checked_abs().is_some_and(|us| us < 1 << 60) {
        assert!(zone.shown(moment, local) >= at.0 / 1_000_000);
        assert!(next.is_some_and(|next| next > at && window.is_open(next, place)));
        assert!(window.end(at, place).is_none_or(|end| end > at));
    }
}
