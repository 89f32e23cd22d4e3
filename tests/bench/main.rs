//! Benches: how fast and how cheap, as ratios to a bare limit measured in the same run.
//!
//! `cargo bench --bench headwater [-- NAME ...]` with the names below; without any, all of them. Each prints its figures
//! and how they came about; nothing is asserted, because the machine may be busy. Every figure is the median of several
//! runs of the thing and of its bare limit in turn, so that a machine that speeds up or slows down does so for both.

mod append;
mod drain;
mod file;
mod live;
mod memory;
mod mqtt;
mod recover;
mod rules;
mod sql;
mod support;
mod wear;
mod wire;

type Bench = fn() -> support::Outcome;

fn main() {
    let names: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    if let [name, bytes] = &names[..]
        && name == "memory-of"
    {
        let measured = match bytes.as_str() {
            "rules" => memory::rules(),
            bytes => bytes.parse().map_err(Into::into).and_then(memory::one),
        };
        return measured.unwrap_or_else(|e| eprintln!("{e}"));
    }
    if let [name, sc, topic, lines] = &names[..]
        && name == "official-producer"
    {
        let produced = drain::produce_officially(sc, topic, lines.as_ref());
        return produced.unwrap_or_else(|e| eprintln!("{e}"));
    }
    let benches: [(&str, Bench); 11] = [
        ("append", append::run),
        ("file", file::run),
        ("mqtt", mqtt::run),
        ("drain", drain::run),
        ("live", live::run),
        ("recover", recover::run),
        ("memory", memory::run),
        ("rules", rules::run),
        ("sql", sql::run),
        ("wear", wear::run),
        ("wire", wire::run),
    ];
    let mut failed = false;
    for (name, run) in benches {
        if wanted(name) {
            println!("\n== {name}");
            if let Err(e) = run() {
                println!("{name} could not be measured: {e}");
                failed = true;
            }
        }
    }
    if failed {
        std::process::exit(1);
    }
}
