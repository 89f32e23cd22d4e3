//! SmartModules as rules of a chain and of a configuration.

use std::collections::BTreeMap;

use headwater::config;
use headwater::name::Name;
use headwater::record::RecordRef;
use headwater::rules::state::Time;
use headwater::rules::wasm::{Budget, File, Guest, GuestError, Use};
use headwater::rules::{Chain, Env, OnError, Rule, RuleSpec, World};
use headwater::template::{Context, Template};
use headwater::time::{BootTime, Now, WallTime};
use headwater::topic::TopicName;

use super::{bytes_of, modules, owned};

/// What a chain acts upon, in memory.
#[derive(Default)]
struct Bench {
    out: Vec<(Option<String>, String)>,
    failed: Vec<String>,
    kept: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl World for Bench {
    fn emit(&mut self, record: RecordRef<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.out.push((record.key.map(text), text(record.value)));
    }

    fn route(&mut self, _: &TopicName, record: RecordRef<'_>) {
        self.emit(record);
    }

    fn failed(&mut self, _: &Rule, _: &RecordRef<'_>, reason: &str) {
        self.failed.push(reason.to_owned());
    }

    fn state(&self, _: &Name, key: &[u8]) -> Option<&[u8]> {
        self.kept.get(key).map(Vec::as_slice)
    }

    fn put_state(&mut self, _: &Name, key: &[u8], value: Option<&[u8]>) -> bool {
        match value {
            Some(value) => drop(self.kept.insert(key.to_vec(), value.to_vec())),
            None => drop(self.kept.remove(key)),
        }
        true
    }

    fn forget_oldest(&mut self, _: &Name) -> u32 {
        0
    }
}

impl Bench {
    fn run(&mut self, chain: &mut Chain, records: &[(&str, &str)]) -> Vec<String> {
        let labels = BTreeMap::new();
        let context = Context { node: "n", topic: "t", source: "", labels: &labels };
        let now = Now { boot: BootTime(1), wall: WallTime(1_700_000_000_000_000), trusted: true };
        let env = Env { context, time: Some(Time { now, boot: 1 }) };
        for (key, value) in records {
            let key = Some(key.as_bytes()).filter(|key| !key.is_empty());
            chain.apply(&env, &RecordRef { key, ..RecordRef::of(value.as_bytes()) }, self);
        }
        self.out.drain(..).map(|(key, value)| key.map_or(value.clone(), |key| format!("{key}={value}"))).collect()
    }
}

fn guest(name: &str, params: &[(&str, &str)], by: Option<&str>, budget: &Budget) -> Result<Guest, GuestError> {
    let by = by.map(|by| Template::parse(by).unwrap());
    let used = Use { params: owned(params), by, ..Use::default() };
    Guest::new(&File::new(&bytes_of(name), budget)?, used)
}

fn chain_of(guest: Guest, on_error: OnError) -> Chain {
    let spec = RuleSpec::Wasm(Box::new(guest));
    Chain::new(&[Rule { on_error, ..Rule::new(Name::new("m").unwrap(), spec) }])
}

fn chain(name: &str) -> Chain {
    chain_of(guest(name, &[], None, &Budget::default()).unwrap(), OnError::Pass)
}

#[test]
fn in_a_chain_each_kind_does_what_it_does_by_itself() {
    let mut bench = Bench::default();
    let some = [("", "apple"), ("k", "plum"), ("k", "banana")];
    assert_eq!(bench.run(&mut chain("filter"), &some), ["apple", "k=banana"]);
    assert_eq!(
        bench.run(&mut chain("map_json"), &[("", "{\"a\":1}")]),
        ["json={\"a\":1,\"offset\":0,\"time\":1700000000000}"]
    );
    let lines = bench.run(&mut chain("array_map"), &[("k", "a\nb\nc")]);
    assert_eq!(lines, ["a", "1=b", "2=c"]);
    assert_eq!(bench.failed, [""; 0]);
}

#[test]
fn what_an_aggregate_keeps_outlives_its_chain_and_is_apart_for_each_thing() {
    let mut bench = Bench::default();
    assert_eq!(bench.run(&mut chain("aggregate"), &[("a", "1"), ("b", "2")]), ["a=1", "b=3"]);
    assert_eq!(bench.run(&mut chain("aggregate"), &[("a", "10")]), ["a=13"], "a new process");
    let apart = || {
        let guest = guest("aggregate", &[("factor", "2")], Some("{key}"), &Budget::default());
        chain_of(guest.unwrap(), OnError::Pass)
    };
    let mut bench = Bench::default();
    assert_eq!(bench.run(&mut apart(), &[("a", "1"), ("b", "2"), ("a", "3")]), ["a=2", "b=4", "a=8"]);
    assert_eq!(bench.run(&mut apart(), &[("b", "1")]), ["b=6"]);
}

#[test]
fn what_a_module_fails_on_does_what_the_rule_says() {
    for (policy, out) in [(OnError::Pass, vec!["1", "x", "3"]), (OnError::Drop, vec!["1", "3"])] {
        let mut bench = Bench::default();
        let guest = guest("aggregate", &[], None, &Budget::default()).unwrap();
        assert_eq!(bench.run(&mut chain_of(guest, policy), &[("", "1"), ("", "x"), ("", "2")]), out);
        assert_eq!(bench.failed.len(), 1, "{:?}", bench.failed);
    }
}

#[test]
fn without_memory_left_a_module_is_an_error_and_nothing_else() {
    let mut bench = Bench::default();
    let guest = guest("filter", &[], None, &Budget::new(64 * 1024)).unwrap();
    assert_eq!(bench.run(&mut chain_of(guest, OnError::Pass), &[("", "plum")]), ["plum"]);
    assert!(bench.failed[0].contains("all of them together have 65536 bytes"), "{:?}", bench.failed);
}

/// What `check` says of a rule; the file's directory has the modules.
fn checked(with: &str, more: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for name in ["filter", "filter_regex", "aggregate", "look_back"] {
        std::fs::copy(modules().join(format!("{name}.wasm")), dir.path().join(format!("{name}.wasm"))).unwrap();
    }
    let path = dir.path().join("headwater.toml");
    let rule = format!("[[rules]]\nname = \"m\"\nuses = \"wasm\"\nwith = {{ {with} }}\n{more}");
    std::fs::write(&path, format!("[node]\nid = \"n\"\n\n{rule}")).unwrap();
    config::load(&path).map_or_else(|errors| errors.iter().map(ToString::to_string).collect(), |_| Vec::new())
}

#[test]
fn a_configuration_takes_a_module_by_its_file_and_its_hash_or_says_what_is_wrong() {
    let topics = "topics = [\"t\"]\n";
    let digest = guest("filter", &[], None, &Budget::default()).unwrap().digest().to_owned();
    assert_eq!(checked(&format!("file = \"filter.wasm\", sha256 = \"{digest}\""), topics), [""; 0]);
    assert_eq!(checked("file = \"filter_regex.wasm\", params = { regex = \"a+\" }", topics), [""; 0]);
    assert_eq!(checked("file = \"aggregate.wasm\", params = { factor = 2 }, by = \"{key}\"", topics), [""; 0]);
    let other = "0".repeat(64);
    let wrong = [
        ("file = \"filter_regex.wasm\"", "its init says: Missing param regex"),
        ("file = \"none.wasm\"", "No such file"),
        ("file = \"headwater.toml\"", "not a WebAssembly file"),
        ("file = \"filter.wasm\", by = \"{key}\"", "this one is no aggregate"),
        ("file = \"aggregate.wasm\", pure = true", "never pure"),
        (&format!("file = \"filter.wasm\", sha256 = \"{other}\""), "it is another one"),
        ("file = \"filter.wasm\", sha256 = \"12\"", "64 digits"),
    ];
    for (with, said) in wrong {
        let errors = checked(with, topics).join("\n");
        assert!(errors.contains(said), "{with}: {errors}");
    }
}

#[test]
fn before_a_sink_stands_only_a_module_that_is_told_to_be_pure() {
    let sink = "\n[sinks.s]\ntype = \"stdout\"\ntopics = [\"*\"]\nrules = [\"m\"]\n";
    assert_eq!(checked("file = \"filter.wasm\", pure = true", sink), [""; 0]);
    let errors = checked("file = \"filter.wasm\"", sink).join("\n");
    assert!(errors.contains("pure = true"), "{errors}");
}

#[test]
fn only_a_module_that_looks_back_is_asked_to_and_it_is_told_how_far() {
    let topics = "topics = [\"t\"]\n";
    let looks = "file = \"look_back.wasm\"";
    for far in ["{ last = 100 }", "{ age = \"1h\" }", "{ last = 100, age = \"1h\" }"] {
        assert_eq!(checked(looks, &format!("{topics}lookback = {far}\n")), [""; 0]);
    }
    let wrong = [
        (looks, "{}", "how far?"),
        (looks, "{ last = 10001 }", "10000"),
        (looks, "{ lost = 1 }", "last"),
        ("file = \"filter.wasm\"", "{ last = 1 }", "exports no `look_back`"),
        ("file = \"look_back.wasm\", pure = true", "{ last = 1 }", "not pure"),
    ];
    for (with, far, said) in wrong {
        let errors = checked(with, &format!("{topics}lookback = {far}\n")).join("\n");
        assert!(errors.contains(said), "{with} {far}: {errors}");
    }
}
