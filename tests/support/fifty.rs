//! Fifty rules of every kind as a configuration has them (tests/data/fifty), compiled as a node has them, and records for each:
//! what the test of their memory measures, and the bench.

use std::collections::BTreeMap;
use std::path::Path;

use headwater::config;
use headwater::name::Name;
use headwater::record::RecordRef;
use headwater::rules::state::Time;
use headwater::rules::{Chain, Env, Rule, World};
use headwater::template::Context;
use headwater::time::{BootTime, Now, WallTime};
use headwater::topic::TopicName;

/// The configuration, and a chain of each of its rules.
pub struct Fifty {
    // A node keeps it to know what a reload changes.
    _config: Box<config::Config>,
    chains: Vec<(bool, Chain)>,
}

/// What rules keep between records, and what came out.
#[derive(Default)]
pub struct Kept {
    entries: BTreeMap<(Name, Vec<u8>), Vec<u8>>,
    pub emitted: usize,
    pub failed: Vec<String>,
}

impl World for Kept {
    fn emit(&mut self, _: RecordRef<'_>) {
        self.emitted += 1;
    }

    fn route(&mut self, _: &TopicName, record: RecordRef<'_>) {
        self.emit(record);
    }

    fn failed(&mut self, rule: &Rule, _: &RecordRef<'_>, reason: &str) {
        if self.failed.len() < 100 {
            self.failed.push(format!("{}: {reason}", rule.name));
        }
    }

    fn state(&self, rule: &Name, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(&(rule.clone(), key.to_vec())).map(Vec::as_slice)
    }

    fn put_state(&mut self, rule: &Name, key: &[u8], value: Option<&[u8]>) -> bool {
        let at = (rule.clone(), key.to_vec());
        match value {
            Some(value) => drop(self.entries.insert(at, value.to_vec())),
            None => drop(self.entries.remove(&at)),
        }
        true
    }

    fn forget_oldest(&mut self, _: &Name) -> u32 {
        0
    }
}

impl Kept {
    /// Bytes of what is kept, which in a node is the ring's.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|((rule, key), value)| size_of_val(rule) + key.capacity() + value.capacity()).sum()
    }
}

/// Lines as devices write them; each format has some of its own.
const LINES: [&str; 9] = [
    "2024-05-01T10:11:12.345Z WARN pump pressure above 7.5 bar",
    "10.1.7.20 GET /api/v1/pumps?id=7 30.5",
    "May  1 10:11:12 north pumpd[77]: link up",
    "level=info unit=pump msg=\"link up\" rtt=12.5",
    "2024-05-01 WARN pump stopped",
    "10.1.7.20 - anna [01/May/2024:10:11:12 +0000] \"GET /a HTTP/1.1\" 200 2326 \"-\" \"curl/8\"",
    "<34>1 2024-05-01T10:11:12.003Z north pumpd 77 ID1 - link up",
    "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47",
    "weather,site=north temperature=21.5,wet=t 1465839830100400200",
];

impl Fifty {
    pub fn load() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fifty/headwater.toml");
        let config = config::load(&path).unwrap_or_else(|errors| panic!("{}", errors[0]));
        let chain = |rule: &config::RuleConfig| {
            let reads_lines = rule.topics.include.iter().any(|topic| topic == "log");
            (reads_lines, Chain::new(std::slice::from_ref(&rule.rule)))
        };
        let chains: Vec<_> = config.rules.iter().map(chain).collect();
        assert_eq!(chains.len(), 50);
        Self { _config: Box::new(config), chains }
    }

    /// Shows each rule so many records of its kind.
    pub fn run(&mut self, records: usize, world: &mut Kept) {
        let labels = BTreeMap::new();
        let context = Context { node: "n", topic: "t", source: "s", labels: &labels };
        for n in 0..records {
            let us = n as i64 * 250_000;
            let now = Now { boot: BootTime(us), wall: WallTime(1_700_000_000_000_000 + us), trusted: true };
            let env = Env { context, time: Some(Time { now, boot: 1 }) };
            let event = event(n);
            let line = LINES[n % LINES.len()];
            for (reads_lines, chain) in &mut self.chains {
                let value = if *reads_lines { line.as_bytes() } else { event.as_bytes() };
                chain.apply(&env, &RecordRef { key: Some(b"pump-7"), ..RecordRef::of(value) }, world);
            }
        }
    }
}

/// 200 bytes or so.
fn event(n: usize) -> String {
    let state = ["running", "idle", "stopped"][n / 7 % 3];
    let celsius = 20.0 + (n % 900) as f64 / 10.0;
    format!(
        "{{\"ts\":{},\"site\":\"north-{}\",\"device\":\"boiler-{}\",\"celsius\":{celsius:.1},\"bar\":1.{:02},\
         \"state\":\"{state}\",\"seq\":{n},\"note\":\"call 555-{:04} {}\"}}",
        1_700_000_000_000u64 + n as u64 * 250,
        n % 7,
        n % 40,
        n % 100,
        n % 10_000,
        "x".repeat(n % 60)
    )
}
