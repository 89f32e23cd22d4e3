//! Queries as an operator may write them, and what records may do to them: any text, and texts of a grammar, which get further.
//! What must hold: a query compiles, or is refused with a place within its text; it takes a bounded part of memory; over
//! any value it comes to the same twice, and what it makes is JSON.

use std::collections::BTreeMap;

use headwater::record::{AttrBuf, RecordRef};
use headwater::rules::sql::{Input as Row, Outcome, Query, Scratch, SqlError};
use headwater::template::Context;
use headwater::time::WallTime;

use super::text::words;
use super::{Input, bend, held, json};

/// What compiling takes: of the text, and of the expressions in it, each of which may take 256 KiB for itself and as much
/// while it is built.
const COMPILING: usize = 512 * 1024;
const TIMES: usize = 512;
const EXPRESSION: usize = 2 * 1024 * 1024;
/// What one record takes: texts of a query are bounded.
const RUNNING: usize = 32 * 1024 * 1024;

const FIELDS: [&str; 12] =
    ["a", "b", "c.b", "n", "ip", "\"a b\"", "_key", "_time", "_admitted", "_topic", "_value", "t.a"];
const CONSTANTS: [&str; 20] = [
    "1",
    "0",
    "-1",
    "30.5",
    "1e300",
    "9223372036854775807",
    "99999999999999999999999999999999999.5",
    "'x'",
    "''",
    "'boiler-%'",
    "NULL",
    "TRUE",
    "FALSE",
    "'{\"a\":[1,2]}'::jsonb",
    "DATE '2024-02-29'",
    "TIMESTAMP '2024-02-29 23:59:59.999999'",
    "TIMESTAMPTZ '9999-12-31 23:59:59+14'",
    "INTERVAL '1 month -3 days 04:05:06.7'",
    "INTERVAL '100 years'",
    "U&'\\0061'",
];
const OPERATORS: [&str; 20] = [
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "||",
    "=",
    "<>",
    "<",
    "<=",
    ">",
    ">=",
    "AND",
    "OR",
    "->",
    "->>",
    "#>",
    "#>>",
    "IS DISTINCT FROM",
];
const TYPES: [&str; 14] = [
    "text",
    "bigint",
    "integer",
    "smallint",
    "numeric",
    "numeric(37, 5)",
    "double precision",
    "boolean",
    "jsonb",
    "date",
    "timestamp",
    "timestamptz",
    "interval",
    "varchar(3)",
];
const FUNCTIONS: [&str; 48] = [
    "abs",
    "ceil",
    "round",
    "trunc",
    "sqrt",
    "power",
    "mod",
    "ln",
    "log",
    "exp",
    "sign",
    "div",
    "cbrt",
    "length",
    "lower",
    "upper",
    "initcap",
    "concat",
    "concat_ws",
    "left",
    "right",
    "lpad",
    "rpad",
    "repeat",
    "replace",
    "reverse",
    "split_part",
    "strpos",
    "substr",
    "trim",
    "translate",
    "md5",
    "encode",
    "decode",
    "coalesce",
    "nullif",
    "greatest",
    "least",
    "to_char",
    "date_trunc",
    "to_timestamp",
    "age",
    "jsonb_array_length",
    "jsonb_typeof",
    "jsonb_extract_path",
    "format",
    "regexp_replace",
    "attribute",
];
const TEXT_ARGUMENTS: [&str; 10] = [
    "'month'",
    "'YYYY-MM-DD HH24:MI:SS.US TZ'",
    "'FMDay, DDth'",
    "'base64'",
    "'hex'",
    "'mqtt.1'",
    "'%s-%I'",
    "'[a-z]+(b)?'",
    "'g'",
    "'\\1&'",
];

pub fn sql(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 4 {
        0 => {
            let value = json::any(&mut input);
            try_query(&words(input.0), &value, &mut Input(b""));
        }
        1 => {
            let (mut text, value) = (select(&mut input).into_bytes(), json::any(&mut input));
            bend(&mut text, &mut input);
            try_query(&words(&text), &value, &mut input);
        }
        _ => {
            let (text, value) = (select(&mut input), json::any(&mut input));
            try_query(&text, &value, &mut input);
        }
    }
}

fn try_query(text: &str, value: &[u8], input: &mut Input<'_>) {
    // An expression takes more than its text.
    let patterns = text.matches(['~', '_']).count() + text.to_ascii_lowercase().matches("similar").count();
    let most = COMPILING + TIMES * text.len() + EXPRESSION * patterns.min(8);
    match held::within(most, "a query", || Query::compile(text)) {
        Ok(query) => {
            assert_eq!(query.text(), text);
            for value in
                [value, b"{}", b"{\"a\":1,\"b\":\"x\",\"n\":30.5,\"c\":{\"b\":[1,null]}}", b"null", b"", input.0]
            {
                run(&query, value);
            }
        }
        Err(error) => assert_placed(text, &error),
    }
}

fn assert_placed(text: &str, error: &SqlError) {
    let line = text.split('\n').nth(error.line.wrapping_sub(1));
    let within = line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&error.column));
    assert!(within, "{error}: not within {text:?}");
    assert!(!error.message.is_empty());
}

fn run(query: &Query, value: &[u8]) {
    let labels = BTreeMap::from([("kind".to_owned(), "pump".to_owned())]);
    let context = Context { node: "n1", topic: "t", source: "s", labels: &labels };
    let mut attrs = AttrBuf::default();
    assert!(attrs.push("mqtt.1", b"x\xff"));
    let record = RecordRef { key: Some(b"k\xff"), attrs: attrs.as_attrs(), ..RecordRef::of(value) };
    let row = Row { context: &context, record, admitted: Some(WallTime(1_700_000_000_000_000)) };
    let (mut scratch, mut out) = (Scratch::default(), b"before".to_vec());
    let came = held::within(RUNNING + 64 * value.len(), "a record", || query.apply(&row, &mut scratch, &mut out));
    match &came {
        Ok(Outcome::Value) => json::assert_sound(&out[6..], value, query.text()),
        _ => assert_eq!(out, b"before", "what is not made leaves nothing behind"),
    }
    let mut again = b"before".to_vec();
    let same = query.apply(&row, &mut scratch, &mut again);
    assert_eq!((&came, &out), (&same, &again), "the same record comes to something else");
}

// ------------------------------------------------------------------------------------------------ a grammar

fn select(input: &mut Input<'_>) -> String {
    let mut items = Vec::new();
    if input.flag() {
        items.push("*".to_owned());
    }
    for n in 0..1 + input.below(3) {
        items.push(format!("{} AS x{n}", expression(input, 0)));
    }
    let condition = if input.flag() { format!(" WHERE {}", expression(input, 0)) } else { String::new() };
    format!("SELECT {} FROM t{condition}", items.join(", "))
}

fn leaf(input: &mut Input<'_>) -> String {
    let of: &[&str] = if input.flag() { &FIELDS } else { &CONSTANTS };
    input.pick(of).to_owned()
}

fn expression(input: &mut Input<'_>, depth: usize) -> String {
    if depth > 4 || input.is_empty() {
        return leaf(input);
    }
    let kind = input.below(14);
    let mut inner = || expression(input, depth + 1);
    match kind {
        0 | 1 => leaf(input),
        2..=4 => {
            let (a, b) = (inner(), inner());
            format!("({a} {} {b})", input.pick(&OPERATORS))
        }
        5 | 6 => {
            let of = inner();
            format!("CAST({of} AS {})", input.pick(&TYPES))
        }
        7 => format!("CASE WHEN {} THEN {} ELSE {} END", inner(), inner(), inner()),
        8 => format!("{} BETWEEN {} AND {}", inner(), inner(), inner()),
        9 => format!("{} IN ({}, {})", inner(), inner(), inner()),
        10 => {
            let of = inner();
            let how = input.pick(&[
                "LIKE 'b%_\\%'",
                "ILIKE '%\u{130}x_'",
                "~ '^(a|b)+$'",
                "~* '[[:alpha:]]'",
                "IS NULL",
                "SIMILAR TO '(a|b)%'",
            ]);
            format!("({of} {how})")
        }
        11 => {
            let of = inner();
            let part = input.pick(&["epoch", "dow", "isoyear", "week", "microseconds", "century", "timezone"]);
            format!("EXTRACT({part} FROM {of})")
        }
        12 => {
            let of = inner();
            format!("({of} AT TIME ZONE '{}')", input.pick(&["UTC", "+05:30", "Europe/Berlin", "-15:59:59"]))
        }
        _ => call(input, depth),
    }
}

fn call(input: &mut Input<'_>, depth: usize) -> String {
    let function = input.pick(&FUNCTIONS);
    let arguments: Vec<_> = (0..input.below(5))
        .map(|_| if input.flag() { expression(input, depth + 1) } else { input.pick(&TEXT_ARGUMENTS).to_owned() })
        .collect();
    format!("{function}({})", arguments.join(", "))
}
