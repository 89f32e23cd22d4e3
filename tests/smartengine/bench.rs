//! How fast, how soon and how large: the host beside the reference, the same modules and the same records
//! (`scripts/smartengine.sh bench`).
//!
//! Each measurement runs in a process of its own, so that one's memory is not the other's; medians of several. Records
//! are 200 bytes, in batches of 64 for both; in a chain, as a node runs it, they come one by one. Start-up is from the file's
//! bytes to the first batch that came out, by the wall clock; a chain's begins the module twice, once to see that it begins.
//! Records a second are of CPU time, so that it does not matter what else the machine does.

use std::process::Command;
use std::time::Instant;

use fluvio_protocol::record::Record;
use fluvio_smartengine::{SmartEngine, SmartModuleChainBuilder, SmartModuleChainInstance, SmartModuleConfig};
use fluvio_smartmodule::SMARTMODULE_TIMESTAMPS_VERSION;
use fluvio_smartmodule::dataplane::smartmodule::SmartModuleInput;
use headwater::limits::MAX_WASM_TOTAL;
use headwater::name::Name;
use headwater::record::RecordRef;
use headwater::rules::wasm::{Base, Budget, File, Guest, Instance, Limits, Module, Use};
use headwater::rules::{Chain, Env, Rule, RuleSpec, WayOut};
use headwater::template::Context;

const BATCH: usize = 64;
const RUNS: usize = 5;
const MODULES: [&str; 3] = ["filter", "filter_regex", "map_json"];
const REGEX: &str = r"temp\s+2[0-9]\.\d";

/// What one process measured: milliseconds, records a second, KiB.
struct Figures {
    start_ms: f64,
    per_second: f64,
    resident_kib: f64,
    linear_kib: f64,
}

fn value(name: &str) -> Vec<u8> {
    let text = "pump 7 temp 21.5 abcdefgh ".repeat(8);
    if name == "map_json" {
        format!("{{\"n\":21,\"s\":\"{}\"}}", &text[..180]).into_bytes()
    } else {
        text.into_bytes()[..200].to_vec()
    }
}

fn bytes_of(name: &str) -> Vec<u8> {
    let dir = std::env::var("HEADWATER_SMARTMODULES").expect("run by scripts/smartengine.sh");
    std::fs::read(format!("{dir}/{name}.wasm")).expect("the module is built")
}

fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("it says VmRSS");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

/// Seconds that this thread, which does all the work, has run.
fn own_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("proc is mounted");
    stat.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).expect("a number") / 1e9
}

enum Either {
    Ours(Instance),
    /// A rule of a chain, record by record.
    Chained(Box<Chain>, Budget),
    Theirs(SmartModuleChainInstance),
}

impl Either {
    fn start(who: &str, name: &str, bytes: &[u8]) -> Self {
        let params = [("regex".to_owned(), REGEX.to_owned())];
        if who == "chain" {
            let budget = Budget::new(MAX_WASM_TOTAL);
            let file = File::new(bytes, &budget).expect("it is a module");
            let guest = Guest::new(&file, Use { params: params.to_vec(), ..Use::default() }).expect("it is a rule");
            let rule = Rule::new(Name::new("rule").expect("a name"), RuleSpec::Wasm(Box::new(guest)));
            return Either::Chained(Box::new(Chain::new(&[rule])), budget);
        }
        if who == "ours" {
            let module = Module::compile(bytes, Limits::default()).expect("it compiles");
            return Either::Ours(module.start(&params, None).expect("it starts"));
        }
        let config = SmartModuleConfig::builder()
            .smartmodule_names(vec![name.to_owned()])
            .param("regex", REGEX)
            .build()
            .expect("a config");
        let mut builder = SmartModuleChainBuilder::default();
        builder.add_smart_module(config, bytes.to_vec());
        Either::Theirs(builder.initialize(&SmartEngine::new()).expect("it starts"))
    }

    /// From bytes to bytes: what both get are the values of a batch. How many records came out.
    fn batch(&mut self, value: &[u8]) -> usize {
        match self {
            Either::Ours(instance) => {
                let mut out = 0;
                let records = [RecordRef::of(value); BATCH];
                instance.run(&records, Base::default(), &mut |_| out += 1).expect("it runs");
                out
            }
            Either::Chained(chain, _) => {
                let (labels, mut out) = (std::collections::BTreeMap::new(), 0);
                let context = Context { node: "n", topic: "t", source: "", labels: &labels };
                let env = Env { context, time: None };
                for _ in 0..BATCH {
                    let verdict = chain.apply(&env, &RecordRef::of(value), &mut WayOut(&mut |_| out += 1));
                    assert_eq!(verdict.errors, 0);
                }
                out
            }
            Either::Theirs(chain) => {
                let records = (0..BATCH as i64)
                    .map(|i| {
                        let mut record = Record::new(value.to_vec());
                        record.preamble.set_offset_delta(i);
                        record
                    })
                    .collect();
                let input = SmartModuleInput::try_from_records(records, SMARTMODULE_TIMESTAMPS_VERSION).expect("input");
                chain.process(input).expect("it runs").successes.len()
            }
        }
    }
}

/// In a process of its own.
fn measure(who: &str, name: &str) {
    let (bytes, value) = (bytes_of(name), value(name));
    let before = resident_kib();
    let started = Instant::now();
    let mut engine = Either::start(who, name, &bytes);
    assert_eq!(engine.batch(&value), BATCH);
    let start_ms = started.elapsed().as_secs_f64() * 1e3;
    let (started, mut done) = (own_cpu(), 0);
    while own_cpu() - started < 1.0 {
        for _ in 0..10 {
            done += engine.batch(&value);
        }
    }
    let per_second = done as f64 / (own_cpu() - started);
    let linear = match &engine {
        Either::Ours(instance) => instance.linear_memory() as f64 / 1024.0,
        Either::Chained(_, budget) => budget.taken() as f64 / 1024.0,
        Either::Theirs(_) => 0.0,
    };
    println!("{start_ms} {per_second} {} {linear}", resident_kib() - before);
}

fn median(who: &str, name: &str) -> Figures {
    let mut runs: Vec<Vec<f64>> = (0..RUNS)
        .map(|_| {
            let this = std::env::current_exe().expect("this program");
            let output = Command::new(this).args([who, name]).output().expect("it runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8(output.stdout).expect("text");
            text.split_whitespace().map(|n| n.parse().expect("a number")).collect()
        })
        .collect();
    let mut middle = |i: usize| {
        runs.sort_by(|a, b| a[i].total_cmp(&b[i]));
        runs[RUNS / 2][i]
    };
    Figures { start_ms: middle(0), per_second: middle(1), resident_kib: middle(2), linear_kib: middle(3) }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [who, name] = args.as_slice() {
        return measure(who, name);
    }
    println!("| SmartModule | what | measured | fluvio-smartengine | ratio |");
    println!("|---|---|---|---|---|");
    for name in MODULES {
        let (ours, chain, theirs) = (median("ours", name), median("chain", name), median("theirs", name));
        let file = bytes_of(name).len() / 1024;
        for (way, ours) in [("in batches", &ours), ("in a chain", &chain)] {
            let (a, b) = (ours.start_ms, theirs.start_ms);
            println!("| `{name}` ({file} KiB), {way} | start to first batch | {a:.1} ms | {b:.1} ms | {:.1} |", b / a);
            let (a, b) = (ours.resident_kib / 1024.0, theirs.resident_kib / 1024.0);
            let linear = ours.linear_kib / 1024.0;
            println!("| | resident, {linear:.1} MiB linear memory included | {a:.1} MiB | {b:.1} MiB | {:.1} |", b / a);
            let (a, b) = (ours.per_second, theirs.per_second);
            println!("| | records of 200 bytes, of CPU time | {a:.0}/s | {b:.0}/s | {:.2} |", a / b);
        }
    }
}
