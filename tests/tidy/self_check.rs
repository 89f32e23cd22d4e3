//! The rules, each on a snippet that breaks it and on one that looks as if it did.

use super::*;

const DRAWING: &str = "\
//! 5  main, cli                                  one file per command
//! 4  node                                       the loop
//! 3  sources sinks endpoint ops | hub | config  adapters
//! ---------------------- async stops here -----------------
//! 2  pipeline                                   pure composition
//! 1  rules | ring | forward                     siblings
//! 0  record topic limits
";

fn offences(file: &str, text: &str) -> Vec<String> {
    let text = format!("//! A file.\n{text}");
    check(&levels(DRAWING), file, &text).iter().map(ToString::to_string).collect()
}

fn clean(file: &str, text: &str) {
    assert_eq!(offences(file, text), Vec::<String>::new(), "{text}");
}

#[test]
fn the_drawing_is_read() {
    let levels = levels(DRAWING);
    assert_eq!(levels.len(), 16);
    assert_eq!((levels["main"], levels["hub"], levels["ring"], levels["limits"]), (5, 3, 1, 0));
}

#[test]
fn an_import_that_goes_up_is_an_offence_however_it_is_written() {
    let up = "imports go down only";
    for text in [
        "use crate::sources::Source;",
        "use crate::{record::Record, sources::Source};",
        "use crate::{\n    record::{self, Record},\n    node as x,\n};",
        "use super::hub::Intake;",
        "fn f() { crate::cli::run() }",
    ] {
        let found = offences("src/ring/mod.rs", text);
        assert!(found.len() == 1 && found[0].contains(up), "{text}: {found:?}");
    }
    assert_eq!(
        offences("src/ring/deep/er.rs", "\nuse super::super::super::pipeline::Pipeline;"),
        ["src/ring/deep/er.rs:3: `ring` (level 1) imports `pipeline` (level 2): imports go down only"]
    );
    assert_eq!(offences("src/unknown.rs", "").len(), 1);
}

#[test]
fn siblings_do_not_import_each_other_and_adapters_see_hub_and_config() {
    assert_eq!(
        offences("src/ring/mod.rs", "use crate::forward::Window;"),
        ["src/ring/mod.rs:2: `ring` and `forward` are siblings (level 1): they never import each other"]
    );
    assert_eq!(offences("src/sinks/file.rs", "use crate::sources::run;").len(), 1);
    clean("src/sinks/file.rs", "use crate::{config::model::Config, hub::Outlet, ring::RingId};");
    clean("src/topic.rs", "use crate::limits::MAX;\nuse crate::record::Record;");
    clean("src/ring/slot.rs", "use super::frame::Frame;\nuse crate::ring::Ring;\nuse self::x::Y;");
}

#[test]
fn what_is_banned_below_the_async_line_is_found_and_above_it_is_not() {
    for text in [
        "use tokio::time::sleep;",
        "use std::{collections::BTreeMap, fs};",
        "use std::time::{Duration, Instant};",
        "fn f() { let t = std::time::SystemTime::now(); }",
        "fn f() { std::thread::spawn(|| ()); }",
        "type T = std::net::TcpStream;",
        "use std::{\n    env,\n};",
    ] {
        let found = offences("src/forward/mod.rs", text);
        assert!(found.len() == 1 && found[0].contains("below the async line"), "{text}: {found:?}");
        clean("src/sources/file.rs", text);
    }
    clean("src/forward/mod.rs", "use std::time::Duration;\nuse std::fmt;\nuse fstd::fs;\nmod tokio_like {}");
}

#[test]
fn comments_literals_and_tests_are_not_code() {
    clean(
        "src/ring/mod.rs",
        "// use tokio::x;\n/* crate::node /* crate::cli */ std::fs */\nconst A: &str = \"std::fs::read \\\" crate::node\";\n\
         const B: &str = r#\"tokio::spawn \" todo!()\"#;\nconst C: char = '\"';\nfn f<'a>(x: &'a str) -> &'a str { x }\n\
         const D: &[u8] = b\"crate::node\";\nconst E: char = '\\'';\nconst F: char = 'ä';\n\
         #[cfg(test)]\nmod tests {\n    use crate::node::X;\n    fn f() { std::fs::read(\"x\"); todo!() }\n}\n",
    );
    // What follows a literal with a quote in it is code again.
    assert_eq!(offences("src/ring/mod.rs", "const C: char = '\"'; use crate::node::X; // \"").len(), 1);
    assert_eq!(offences("src/ring/mod.rs", "#[cfg(test)]\nmod tests;\nuse crate::node::X;").len(), 1);
}

#[test]
fn a_file_without_an_essay_is_an_offence() {
    let levels = levels(DRAWING);
    for file in ["src/ring/mod.rs", "tests/x.rs"] {
        let found = check(&levels, file, "use std::fmt;\n");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, found[0].what.contains("//!")), (1, true));
    }
}

#[test]
fn long_files_and_long_functions_are_offences_and_their_tests_do_not_count() {
    let long = |n: usize| "const X: u8 = 0;\n".repeat(n);
    clean("src/ring/mod.rs", &long(599));
    assert_eq!(offences("src/ring/mod.rs", &long(600)), ["src/ring/mod.rs:1: 601 lines without tests; at most 600"]);
    clean("src/ring/mod.rs", &format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", long(590), long(100)));
    let function =
        |n: usize| format!("impl X {{\n    pub async fn f(&self) {{\n{}    }}\n}}\n", "        g();\n".repeat(n));
    clean("src/ring/mod.rs", &function(68));
    assert_eq!(offences("src/ring/mod.rs", &function(69)), ["src/ring/mod.rs:3: `f` has 71 lines; at most 70"]);
    clean("src/ring/mod.rs", "trait T { fn a(&self); }\nfn b(f: fn (u8)) {}\n");
}

#[test]
fn a_test_name_that_is_no_law_is_an_offence() {
    for name in ["test_frames_are_read", "frames", "reads_frames"] {
        let found = offences("tests/x.rs", &format!("#[test]\nfn {name}() {{}}\n"));
        assert!(found.len() == 1 && found[0].starts_with("tests/x.rs:3: "), "{found:?}");
    }
    clean("tests/x.rs", "#[test]\nfn a_torn_tail_is_skipped_and_counted() {}\n#[tokio::test]\nasync fn x_is_y() {}\n");
}

#[test]
fn what_is_left_to_do_is_an_offence() {
    assert_eq!(offences("src/ring/mod.rs", "\nfn f() { todo!() }"), ["src/ring/mod.rs:3: `todo!` is left"]);
    assert_eq!(offences("src/ring/mod.rs", "fn f() { dbg!(1); unimplemented!() }").len(), 2);
    clean("src/ring/mod.rs", "fn f() { my_todo!() }");
}
