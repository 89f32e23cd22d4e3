//! `headwater rule new`: a small crate with a SmartModule to begin with, its rule for a config, and cases that it passes.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::cli::{Exit, say};
use crate::name::Name;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater rule new only-errors               a filter, in ./only-errors
  headwater rule new to-json --kind map
  headwater rule new sums --kind aggregate --dir rules/sums

Writes Cargo.toml, src/lib.rs, headwater.toml (the rule as a config has it),
cases.toml and README.md. Then, in that directory:
  rustup target add wasm32-unknown-unknown
  cargo build --release --target wasm32-unknown-unknown
  headwater rule test cases.toml

The module is one for Fluvio as well: `fluvio-smartmodule` is its only
dependency. Nothing that is there already is written over.")]
pub struct Args {
    /// Of the rule, the crate and the directory: lower-case letters, digits, hyphens
    name: String,
    /// What it does with a record
    #[arg(long, value_enum, default_value_t = Kind::Filter)]
    kind: Kind,
    /// The crate's directory, in place of ./NAME
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Passes or drops it
    Filter,
    /// Makes another of it
    Map,
    /// Makes another of it, or drops it
    FilterMap,
    /// Makes any number of it
    ArrayMap,
    /// Makes something of it and of all before it
    Aggregate,
}

/// What differs from kind to kind.
struct Example {
    /// As the SDK's macro has it.
    macro_name: &'static str,
    does: &'static str,
    param: &'static str,
    usual: &'static str,
    imports: &'static str,
    body: &'static str,
    cases: &'static str,
}

impl Kind {
    fn example(self) -> Example {
        match self {
            Self::Filter => Example {
                macro_name: "filter",
                does: "Passes records whose value contains the parameter `contains`.",
                param: "contains",
                usual: "ERROR",
                imports: "Result, SmartModuleRecord, eyre, smartmodule",
                body: include_str!("template/filter.txt"),
                cases: include_str!("template/filter.toml"),
            },
            Self::Map => Example {
                macro_name: "map",
                does: "Puts the parameter `prefix` in front of each value.",
                param: "prefix",
                usual: "site-7 ",
                imports: "RecordData, Result, SmartModuleRecord, eyre, smartmodule",
                body: include_str!("template/map.txt"),
                cases: include_str!("template/map.toml"),
            },
            Self::FilterMap => Example {
                macro_name: "filter_map",
                does: "Of values like `t=21.5` passes what stands behind the name that the parameter `name` says, and drops others.",
                param: "name",
                usual: "t",
                imports: "RecordData, Result, SmartModuleRecord, eyre, smartmodule",
                body: include_str!("template/filter_map.txt"),
                cases: include_str!("template/filter_map.toml"),
            },
            Self::ArrayMap => Example {
                macro_name: "array_map",
                does: "Makes a record of each part of a value, between the separators that the parameter `separator` says.",
                param: "separator",
                usual: ";",
                imports: "RecordData, Result, SmartModuleRecord, eyre, smartmodule",
                body: include_str!("template/array_map.txt"),
                cases: include_str!("template/array_map.toml"),
            },
            Self::Aggregate => Example {
                macro_name: "aggregate",
                does: "The sum of all numbers so far, times the parameter `factor`.",
                param: "factor",
                usual: "1",
                imports: "RecordData, Result, SmartModuleRecord, eyre, smartmodule",
                body: include_str!("template/aggregate.txt"),
                cases: include_str!("template/aggregate.toml"),
            },
        }
    }
}

const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("template/manifest.txt")),
    ("src/lib.rs", include_str!("template/lib.txt")),
    ("headwater.toml", include_str!("template/config.txt")),
    ("cases.toml", include_str!("template/cases.txt")),
    ("README.md", include_str!("template/readme.txt")),
    (".gitignore", "/target\n"),
];

/// What cargo takes for no package's name.
const RESERVED: [&str; 12] = [
    "test",
    "core",
    "std",
    "alloc",
    "proc-macro",
    "build",
    "deps",
    "examples",
    "incremental",
    "self",
    "super",
    "crate",
];
const KEYWORDS: [&str; 38] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn", "else", "enum",
    "extern", "false", "final", "fn", "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub",
    "ref", "return", "static", "struct", "trait", "true", "type", "use", "while", "yield",
];

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let name = checked(&args.name).map_err(Exit::usage)?;
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(name));
    let at = dir.display();
    match fs::read_dir(&dir).map(|mut entries| entries.next().is_some()) {
        Ok(true) => bail!("{at} is not empty: name another directory with --dir"),
        Ok(false) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => bail!("{at} cannot be used: {error}"),
    }
    fs::create_dir_all(dir.join("src")).with_context(|| format!("{at} cannot be made"))?;
    let example = args.kind.example();
    for (file, template) in FILES {
        write(&dir.join(file), &filled(template, name, &example))?;
    }
    say(format!("wrote {at}: Cargo.toml, src/lib.rs, headwater.toml, cases.toml, README.md"))?;
    say("next, in there:\n  cargo build --release --target wasm32-unknown-unknown\n  headwater rule test cases.toml")?;
    Ok(ExitCode::SUCCESS)
}

/// A rule's name that is a crate's as well.
fn checked(name: &str) -> Result<&str, String> {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let crisp = name.as_bytes().first().is_some_and(u8::is_ascii_lowercase) && !name.ends_with('-');
    if !plain || !crisp || Name::new(name).is_err() {
        return Err(format!(
            "`{name}` is no name for a rule and its crate: use lower-case letters, digits and hyphens, a letter first"
        ));
    }
    if RESERVED.contains(&name) || KEYWORDS.contains(&name) {
        return Err(format!("`{name}` is no name for a crate: Rust has it for something else"));
    }
    Ok(name)
}

fn filled(template: &str, name: &str, example: &Example) -> String {
    // The body first: it has places itself.
    let places = [
        ("@BODY@", example.body.trim_end()),
        ("@CASES@", example.cases.trim_end()),
        ("@NAME@", name),
        ("@LIB@", &name.replace('-', "_")),
        ("@KIND@", example.macro_name),
        ("@DOES@", example.does),
        ("@PARAM@", example.param),
        ("@STATIC@", &example.param.to_ascii_uppercase()),
        ("@USUAL@", example.usual),
        ("@IMPORTS@", example.imports),
    ];
    places.iter().fold(template.to_owned(), |text, (place, with)| text.replace(place, with))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = OpenOptions::new().write(true).create_new(true).open(path);
    let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_for_rule_and_crate_and_file() {
        for good in ["a", "my-filter", "r2", "a-1"] {
            assert_eq!(checked(good), Ok(good));
        }
        let long = "a".repeat(65);
        for bad in ["", "-", "a-", "-a", "2a", "A", "a_b", "a b", "../a", "ä", "fn", "test", &long] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_place_of_a_template_is_left_open() {
        for kind in [Kind::Filter, Kind::Map, Kind::FilterMap, Kind::ArrayMap, Kind::Aggregate] {
            for (file, template) in FILES {
                let text = filled(template, "my-rule", &kind.example());
                assert!(!text.contains('@'), "{kind:?} {file}: {text}");
            }
        }
    }
}
