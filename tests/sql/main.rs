//! `sql` rules held against a real PostgreSQL: thousands of expressions, the same text asked of both, the answers compared
//! as text. What differs must be one of the differences that the module's essay names.

mod generate;
mod postgres;

use std::collections::BTreeMap;

use generate::{ALL, Generator, Row, hidden, plain};
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
    let expression = expression.replace("convert_to(", "ltrim(").replace(", 'UTF8')", ", '')");
    let query = match Query::compile_with(&format!("SELECT CAST({expression} AS text) AS r FROM x"), &zone_file) {
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

/// Of the same database as PostgreSQL's, in Debian.
fn zone_file(name: &str) -> Result<Vec<u8>, String> {
    std::fs::read(format!("/usr/share/zoneinfo/{name}")).map_err(|e| format!("{name}: {e}"))
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
    /// One fails at what the other did not come to: what is evaluated first is nobody's promise.
    Order,
    Different,
}

/// States that PostgreSQL has for single functions.
const ARGUMENTS: [&str; 5] = ["22011", "2201E", "2201F", "0A000", "22030"];

fn verdict(ours: &Ours, theirs: &Result<Option<String>, String>) -> Verdict {
    match (ours, theirs) {
        (Ours::Text(None), Ok(None)) => Verdict::SameNull,
        (Ours::Text(a), Ok(b)) if a == b => Verdict::Same,
        (Ours::Refused(_), Err(_)) => Verdict::Refused,
        (Ours::Failed(kind, _), Err(state)) => {
            let argument = *kind == Kind::BadArgument && ARGUMENTS.iter().any(|known| state.starts_with(known));
            if argument || state.starts_with(kind.sqlstate()) { Verdict::SameError } else { Verdict::OtherError }
        }
        (Ours::Failed(_, what) | Ours::Refused(what), Ok(_)) if what.contains("years 1 to 9999") => {
            Verdict::Named("years 1 to 9999")
        }
        // Beside a constant NULL PostgreSQL computes nothing.
        (Ours::Refused(_), Ok(None)) => Verdict::Named("a constant fails where it is asked for"),
        (Ours::Failed(_, what) | Ours::Refused(what), Ok(_)) if what.contains("37 digits") => {
            Verdict::Named("37 digits")
        }
        (Ours::Text(Some(a)), Ok(Some(b))) if is_longer(a, b) => Verdict::Named("37 digits"),
        // The fewest digits that read as the same double: PostgreSQL leaves out those that lie exactly between two.
        (Ours::Text(Some(a)), Ok(Some(b))) if a.len() < b.len() && is_same_double(a, b) => {
            Verdict::Named("fewer digits")
        }
        _ => Verdict::Different,
    }
}

/// Whether `theirs` is the number that `ours` is, with more digits than ours can have.
fn is_longer(ours: &str, theirs: &str) -> bool {
    let digits = theirs.bytes().filter(u8::is_ascii_digit).count();
    let number = theirs.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'));
    // A last digit that is rounded up may carry; what doubles tell apart is beyond that.
    let (Ok(a), Ok(b)) = (ours.parse::<f64>(), theirs.parse::<f64>()) else { return false };
    number && digits > 37 && ours.len() < theirs.len() && (a - b).abs() <= b.abs() * 1e-15
}

fn is_same_double(a: &str, b: &str) -> bool {
    matches!((a.parse::<f64>(), b.parse::<f64>()), (Ok(a), Ok(b)) if a == b) && a.contains('e')
}

/// PostgreSQL has these from the C library, which computes them one way or another: as ours does where it is glibc on the same
/// processor, which under an emulator it is not.
fn is_last_digit(expression: &str, ours: &Ours, theirs: &Result<Option<String>, String>) -> bool {
    let (Ours::Text(Some(a)), Ok(Some(b))) = (ours, theirs) else { return false };
    let (Ok(a), Ok(b)) = (a.parse::<f64>(), b.parse::<f64>()) else { return false };
    let computed = ["exp(", "ln(", "log(", "log10(", "power(", "^"].iter().any(|name| expression.contains(name));
    !cfg!(all(target_arch = "x86_64", target_env = "gnu")) && computed && (a - b).abs() <= b.abs() * 1e-15
}

/// Whether parts of an expression may not be come to.
fn has_branches(expression: &str) -> bool {
    ["CASE", "coalesce", " IN (", " AND ", " OR ", "greatest", "least", "nullif", " || "]
        .iter()
        .any(|word| expression.contains(word))
}

/// The same expressions asked of both.
fn compare(seed: u64, cases: usize) -> (BTreeMap<String, usize>, Vec<String>, String) {
    let postgres = Postgres::start();
    let mut generator = Generator::new(seed);
    let mut asked = Vec::new();
    for n in 0..cases {
        let row = generator.row();
        let of = ALL[n % ALL.len()];
        let depth = 1 + generator.below(3);
        asked.push((generator.expression(of, depth), row));
    }
    // Behind OFFSET the planner does not see what the row has.
    let query =
        |expression: String, row: &Row| format!("SELECT CAST({expression} AS text) FROM ({} OFFSET 0) AS x", row.sql);
    let answers = postgres.ask(&asked.iter().map(|(e, row)| query(plain(e), row)).collect::<Vec<_>>());
    // PostgreSQL's planner computes constants wherever they stand, ours where they are sure to be asked for.
    let lazily = postgres.ask(&asked.iter().map(|(e, row)| query(hidden(e), row)).collect::<Vec<_>>());
    let (mut counts, mut differences) = (BTreeMap::new(), Vec::new());
    for (((expression, row), theirs), lazily) in asked.iter().zip(&answers).zip(&lazily) {
        let expression = plain(expression);
        let ours = ours(&expression, row);
        let lazy = || matches!(verdict(&ours, lazily), Verdict::Same | Verdict::SameNull | Verdict::SameError);
        let found = match verdict(&ours, theirs) {
            Verdict::Different | Verdict::OtherError if theirs.is_err() && lazy() => {
                Verdict::Named("a constant fails where it is asked for")
            }
            Verdict::Different if theirs.is_err() != !matches!(ours, Ours::Text(_)) && has_branches(&expression) => {
                Verdict::Order
            }
            Verdict::Different if is_last_digit(&expression, &ours, theirs) => {
                Verdict::Named("the C library's last digit")
            }
            found => found,
        };
        *counts.entry(format!("{found:?}")).or_default() += 1;
        if matches!(found, Verdict::Different | Verdict::Order | Verdict::OtherError) {
            let row = &row.json;
            differences
                .push(format!("{found:?}: {expression}\n  row    {row}\n  ours   {ours:?}\n  theirs {theirs:?}"));
        }
    }
    (counts, differences, postgres.version())
}

#[test]
fn expressions_give_what_postgresql_gives() {
    let (cases, seed) = (setting("HEADWATER_SQL_CASES", CASES as u64) as usize, setting("HEADWATER_SQL_SEED", 1));
    let (counts, differences, version) = compare(seed, cases);
    println!("PostgreSQL {version}, seed {seed}, {cases} expressions: {counts:?}");
    if let Some(path) = std::env::var_os("HEADWATER_SQL_REPORT") {
        std::fs::write(path, differences.join("\n")).unwrap();
    }
    let wrong: Vec<_> = differences.iter().filter(|d| d.starts_with("Different")).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} of {cases} differ:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    // Of two things that are wrong either may be found first; few expressions have two.
    let others = differences.len();
    assert!(others * 1000 < cases, "{others} of {cases} fail otherwise:\n{}", differences.join("\n"));
    // What both refuse says little: most must have an answer.
    let answered = counts.get("Same").copied().unwrap_or(0);
    assert!(answered * 2 > cases, "only {answered} of {cases} have an answer to compare");
}
