//! JSON as a device may send it, made from an input: few names, so that paths and specs meet them, numbers and texts that rules
//! have trouble with, nesting far beyond what is followed; and bent.

use headwater::json::Scanner;

use super::text::{has_twins, is_not_judged};
use super::{Input, bend};

pub const NAMES: [&str; 10] = ["a", "b", "c", "0", "ip", "user", "n", "a b", "\\u0061", "d.e"];
const TEXTS: [&str; 14] = [
    "",
    "a",
    "boiler-7",
    "2024-02-29T23:59:60Z",
    "1970-01-01",
    "12:00",
    "81.2.69.160",
    "::ffff:81.2.69.160",
    "anna@example.com",
    "\\ud83d\\ude00\\u0000",
    "\\\"}\\\\",
    "1e400",
    "P1Y2M3DT4H",
    "\u{e9}\u{fc}\u{1f600}",
];
const NUMBERS: [&str; 12] = [
    "0",
    "-0",
    "1",
    "30.5",
    "-1e-400",
    "1e400",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "99999999999999999999999999999999999999.99999999999999999999",
    "0.1234567890123456789012345678901234567890",
    "1e19",
];

/// A value: sound, bent, nested without end, or whatever bytes.
pub fn any(input: &mut Input<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match input.below(8) {
        0 => {
            let (open, close) = input.pick(&[("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")]);
            let deep = [126, 127, 128, 129, 130, 4000][usize::from(input.below(6))];
            out.extend_from_slice(open.repeat(deep).as_bytes());
            out.extend_from_slice(b"1");
            out.extend_from_slice(close.repeat(deep).as_bytes());
        }
        1 => out.extend_from_slice(input.some(120)),
        2 => {
            object(input, 0, &mut out);
            bend(&mut out, input);
        }
        3 => value(input, 0, &mut out),
        _ => object(input, 0, &mut out),
    }
    out
}

pub fn value(input: &mut Input<'_>, depth: usize, out: &mut Vec<u8>) {
    let kind = input.below(if depth < 4 { 9 } else { 6 });
    match kind {
        0 => out.extend_from_slice(input.pick(&["null", "true", "false"]).as_bytes()),
        1 | 2 => out.extend_from_slice(input.pick(&NUMBERS).as_bytes()),
        3 => out.extend_from_slice(i64::from(input.byte()).to_string().as_bytes()),
        4 => out.extend_from_slice(format!("\"{}\"", input.pick(&TEXTS)).as_bytes()),
        5 => headwater::json::write_string(input.some(24), out),
        6 => {
            out.push(b'[');
            for n in 0..input.below(5) {
                out.extend_from_slice(if n > 0 { b"," } else { b"" });
                value(input, depth + 1, out);
            }
            out.push(b']');
        }
        _ => object(input, depth, out),
    }
}

pub fn object(input: &mut Input<'_>, depth: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    for n in 0..input.below(6) {
        out.extend_from_slice(if n > 0 { b"," } else { b"" });
        out.extend_from_slice(format!("\"{}\":", input.pick(&NAMES)).as_bytes());
        value(input, depth + 1, out);
    }
    out.push(b'}');
}

/// What a rule made of a value: one JSON value, for the scanner and for serde_json, no name twice that was not there twice.
pub fn assert_sound(made: &[u8], from: &[u8], what: &str) {
    let shown = || String::from_utf8_lossy(&made[..made.len().min(400)]).into_owned();
    let mut scan = Scanner::new(made);
    scan.space();
    let taken = scan.value(0).and_then(|_| scan.end());
    // Nested one deeper than it was, it may be beyond what is followed.
    let deep = |why: &dyn std::fmt::Display| why.to_string().contains("nested too deeply");
    if let Err(why) = taken {
        assert!(deep(&why), "{what} makes what is no JSON: {why}: {}", shown());
        return;
    }
    match serde_json::from_slice::<serde_json::Value>(made) {
        Ok(_) => assert!(!has_twins(made) || may_have_twins(from), "{what} makes a name twice: {}", shown()),
        Err(why) => assert!(is_not_judged(&why), "{what} makes what is no JSON: {why}: {}", shown()),
    }
}

/// Whatever is no JSON may hold some that has.
fn may_have_twins(from: &[u8]) -> bool {
    has_twins(from) || serde_json::from_slice::<serde_json::Value>(from).is_err()
}

/// The texts at these paths.
pub fn fields_at<'v>(value: &'v [u8], paths: &[headwater::json::Path]) -> Vec<&'v [u8]> {
    use headwater::json::{Value, find};
    let text = |path| match find(value, path) {
        Ok(Some(Value::String(text))) => Some(text),
        _ => None,
    };
    paths.iter().filter_map(text).collect()
}
