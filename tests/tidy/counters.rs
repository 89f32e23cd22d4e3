//! Every counter and gauge that a part has stands in the README's table of them.

use super::*;

const HEAD: &str = "| name | of | meaning |\n|---|---|---|\n";

/// The constants of a file that are texts.
fn constants(text: &str) -> BTreeMap<&str, &str> {
    fn constant(line: &str) -> Option<(&str, &str)> {
        let (before, value) = line.split_once(": &str = \"")?;
        Some((before.split_once("const ")?.1, value.split_once("\";")?.0))
    }
    text.lines().filter_map(constant).collect()
}

/// The names that a file's parts count by: literals, constants of its own and the shared ones; what is handed on is named
/// where it comes from.
fn counted<'a>(text: &'a str, shared: &BTreeMap<&'a str, &'a str>) -> Vec<&'a str> {
    let own = constants(text);
    let mut names = Vec::new();
    for marker in [".count(", ".gauge("] {
        for (at, _) in text.match_indices(marker) {
            // A page of metrics, which has words for each of its own.
            if text[..at].ends_with("page") {
                continue;
            }
            let Some((first, _)) = text[at + marker.len()..].split_once(',') else { continue };
            let first = first.trim();
            match first.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
                Some(literal) => names.push(literal),
                None => names.extend(shared.get(first.trim_start_matches("counters::")).or(own.get(first))),
            }
        }
    }
    names
}

/// The numbers of a struct.
fn fields<'a>(text: &'a str, of: &str) -> Vec<&'a str> {
    let (_, rest) = text.split_once(&format!("pub struct {of} {{")).expect("the struct is there");
    let (body, _) = rest.split_once("\n}").expect("it ends");
    let number = |line: &'a str| {
        let (name, kind) = line.trim().strip_prefix("pub ")?.split_once(": ")?;
        ["u64,", "i64,", "Option<u64>,", "BTreeMap<String, String>,"].contains(&kind).then_some(name)
    };
    body.lines().filter_map(number).collect()
}

#[test]
fn whatever_is_counted_has_a_row_that_says_what_it_means() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
    let readme = read("README.md");
    let (_, table) = readme.split_once(HEAD).expect("README.md has the table of counters");
    let (table, _) = table.split_once("\n\n").expect("a table ends");
    let first = |row: &str| row.split('|').nth(1).unwrap_or_default().to_owned();
    let told: Vec<String> = table.lines().map(first).collect();
    let told: Vec<&str> = told.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();

    let (board, status) = (read("src/hub/board.rs"), read("src/ops/status.rs"));
    let shared = constants(&board);
    let mut files = Vec::new();
    walk(&root.join("src"), root, &mut files);
    files.retain(|file| !file.ends_with("tests.rs") && !file.contains("/tests/"));
    let texts: Vec<String> = files.iter().map(|file| read(file)).collect();
    let code = texts.iter().map(|text| text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default());
    let mut names: Vec<&str> = code.flat_map(|text| counted(text, &shared)).chain(shared.values().copied()).collect();
    names.extend(fields(&status, "SinkStatus"));
    names.extend(fields(&status, "RuleStatus"));
    // Handed on by the keeper of certificates, and the node's own.
    names.extend(["tls_client_not_after", "tls_server_not_after", "rule_letters_left_out"]);
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 60, "the code is not understood: {names:?}");

    let missing: Vec<_> = names.iter().filter(|name| !told.contains(name)).collect();
    assert!(missing.is_empty(), "README.md has no row for {missing:?}");
    let strange: Vec<_> = told.iter().filter(|name| !names.contains(name)).collect();
    assert!(strange.is_empty(), "nothing counts what README.md has rows for: {strange:?}");
}
