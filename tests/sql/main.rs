//! `sql` rules held against a real PostgreSQL: thousands of expressions, the same text asked of both, the answers compared
//! as text. What differs must be one of the differences that the module's essay names.

mod generate;
mod postgres;

use std::collections::BTreeMap;

use generate::{ALL, Generator, Row};
use headwater::record::RecordRef;
use headwater::rules::sql::{Input, Kind, Query, Scratch};
use headwater::template::Context;
use postgres::Postgres;

/// Expressions of a run; HEADWATER_SQL_CASES asks for more, HEADWATER_SQL_SEED for others.
const CASES: usize = 12_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What our side says: text, NULL, or why not.
#[derive(Debug)]
enum Ours {
    Text(Option<String>),
    Refused(String),
    Failed(Kind, String),
}

fn ours(expression: &str, row: &Row) -> Ours {
    // PostgreSQL's `encode` takes bytes.
    let expression = expression.replace("convert_to(", "concat(").replace(", 'UTF8')", ")");
    let query = match Query::compile(&format!("SELECT CAST({expression} AS text) AS r FROM x")) {
        Ok(query) => query,
        Err(e) => return Ours::Refused(e.to_string()),
    };
    let labels = BTreeMap::new();
    let context = Context { node: "n", topic: "x", source: "s", labels: &labels };
    let input = Input { context: &context, record: RecordRef::of(row.json.as_bytes()), admitted: None };
    let mut out = Vec::new();
    match query.apply(&input, &mut Scratch::default(), &mut out) {
        Ok(_) => {
            let value: serde_json::Value = serde_json::from_slice(&out).expect("what is written is JSON");
            Ours::Text(value["r"].as_str().map(str::to_owned))
        }
        Err(e) => Ours::Failed(e.kind, e.message),
    }
}

/// How two answers stand to each other.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Same,
    SameNull,
    /// Both fail, by the same SQLSTATE.
    SameError,
    /// Both fail, ours when the query is compiled.
    Refused,
    /// Both fail, by another.
    OtherError,
    /// One of the differences that are named.
    Named(&'static str),
    Different,
}

fn verdict(ours: &Ours, theirs: &Result<Option<String>, String>) -> Verdict {
    match (ours, theirs) {
        (Ours::Text(None), Ok(None)) => Verdict::SameNull,
        (Ours::Text(a), Ok(b)) if a == b => Verdict::Same,
        (Ours::Refused(_), Err(_)) => Verdict::Refused,
        (Ours::Failed(kind, _), Err(state)) => {
            if state.starts_with(kind.sqlstate()) {
                Verdict::SameError
            } else {
                Verdict::OtherError
            }
        }
        (Ours::Failed(_, what) | Ours::Refused(what), Ok(_)) if what.contains("years 1 to 9999") => {
            Verdict::Named("years 1 to 9999")
        }
        (Ours::Failed(_, what) | Ours::Refused(what), Ok(_)) if what.contains("37 digits") => {
            Verdict::Named("37 digits")
        }
        _ => Verdict::Different,
    }
}

#[test]
fn expressions_give_what_postgresql_gives() {
    let postgres = Postgres::start();
    let (cases, seed) = (setting("HEADWATER_SQL_CASES", CASES as u64) as usize, setting("HEADWATER_SQL_SEED", 1));
    let mut generator = Generator::new(seed);
    let mut asked = Vec::new();
    for n in 0..cases {
        let row = generator.row();
        let of = ALL[n % ALL.len()];
        let depth = 1 + generator.below(3);
        asked.push((generator.expression(of, depth), row));
    }
    let query =
        |(expression, row): &(String, Row)| format!("SELECT CAST({expression} AS text) FROM ({}) AS x", row.sql);
    let queries: Vec<String> = asked.iter().map(query).collect();
    let answers = postgres.ask(&queries);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut differences = Vec::new();
    for ((expression, row), theirs) in asked.iter().zip(&answers) {
        let ours = ours(expression, row);
        let found = verdict(&ours, theirs);
        *counts.entry(format!("{found:?}")).or_default() += 1;
        if matches!(found, Verdict::Different | Verdict::OtherError) {
            differences.push(format!(
                "{found:?}: {expression}\n  row    {}\n  ours   {ours:?}\n  theirs {theirs:?}",
                row.json
            ));
        }
    }
    println!("PostgreSQL {}, seed {seed}, {cases} expressions: {counts:?}", postgres.version());
    let wrong = differences.iter().filter(|d| d.starts_with("Different")).count();
    if let Some(path) = std::env::var_os("HEADWATER_SQL_REPORT") {
        std::fs::write(path, differences.join("\n")).unwrap();
    }
    let shown: Vec<_> =
        differences.iter().filter(|d| d.starts_with("Different")).take(20).map(String::as_str).collect();
    assert_eq!(wrong, 0, "{wrong} of {cases} differ:\n{}", shown.join("\n"));
}
