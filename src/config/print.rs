//! `check --print`: the merged config as TOML, every value with its origin, secrets as the reference that they are.

use std::fmt::Write as _;

use super::reader::Setting;
use super::{Examined, raw};

/// The settings of `examined`, each with the file and line that set it, or `default`. What is not set stands there as a
/// comment; defaults that do nothing are left out, so that what is printed can be read without a warning about them.
pub fn print(examined: &Examined) -> String {
    let mut out = String::new();
    let mut tables: Vec<(usize, &str)> = Vec::new();
    for setting in &examined.settings {
        let table = (setting.table, setting.header.as_str());
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    for (number, header) in tables {
        let own = |s: &&Setting| s.table == number && s.header == header && !(s.idle && s.at.is_none());
        let lines: Vec<(String, String)> = examined.settings.iter().filter(own).map(|s| line(s, examined)).collect();
        let gap = if out.is_empty() { "" } else { "\n" };
        let _ = writeln!(out, "{gap}[{header}]");
        let width = lines.iter().map(|(text, _)| text.chars().count()).max().unwrap_or(0).min(60);
        for (text, origin) in lines {
            let _ = writeln!(out, "{text:width$}  # {origin}");
        }
    }
    out
}

fn line(setting: &Setting, examined: &Examined) -> (String, String) {
    let key = raw::quote_key(&setting.key);
    if setting.value.is_empty() {
        return (format!("# {key} = ({})", setting.kind), "not set".to_owned());
    }
    let origin = match setting.at {
        None => "default".to_owned(),
        Some(at) => {
            let file = examined.files.get(usize::from(at.file)).map(|f| f.display().to_string()).unwrap_or_default();
            format!("{file}:{}", at.line)
        }
    };
    (format!("{key} = {}", setting.value), origin)
}
