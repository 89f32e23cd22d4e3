//! The files in `boards/` are data that scripts trust: each has every key with a value that makes sense, builds for a
//! target that there is a way to build, and stands in the README's table; the program itself knows none of them.

use super::*;
use toml::{Table, Value};

/// Every key that a board has: the section (none for the top), the key, whether it is a list.
const KEYS: [(&str, &str, bool); 30] = [
    ("", "name", false),
    ("", "title", false),
    ("", "models", true),
    ("", "target", false),
    ("", "debian", false),
    ("", "features", true),
    ("", "ram", false),
    ("budget", "memory_max", false),
    ("budget", "memory_idle", false),
    ("budget", "memory_busy", false),
    ("budget", "cpu_idle", false),
    ("budget", "cpu_busy", false),
    ("ring", "max_bytes", false),
    ("ring", "keep_free", false),
    ("ports", "serial", true),
    ("ports", "gpio", true),
    ("image", "bases", true),
    ("image", "generations", true),
    ("image", "table", false),
    ("image", "boot_number", false),
    ("image", "boot_labels", true),
    ("image", "boot_mount", false),
    ("image", "root_number", false),
    ("image", "root_labels", true),
    ("image", "root_size", false),
    ("image", "data_label", false),
    ("image", "data_size", false),
    ("image", "flash", false),
    ("limits", "card", false),
    ("limits", "clock", false),
];

const BOARDS: [&str; 6] = ["generic-aarch64", "generic-armv7", "rpi-zero2w", "rpi3", "rpi4", "rpi5"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The boards' names and texts, by name.
pub fn boards() -> BTreeMap<String, String> {
    let files = std::fs::read_dir(root().join("boards")).expect("there is a folder of boards");
    let name = |file: std::fs::DirEntry| {
        let name = file.file_name().into_string().expect("plain names");
        name.strip_suffix(".toml").expect("only boards are in there").to_string()
    };
    files
        .map(|file| name(file.expect("readable")))
        .map(|name| (name.clone(), read(&format!("boards/{name}.toml"))))
        .collect()
}

/// A size in bytes: `512MiB`.
fn size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let shift = match unit {
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn percent(text: &str) -> Option<u64> {
    text.strip_suffix('%')?.parse().ok()
}

/// A board's texts, by `section.key`; a list's elements joined by lines.
pub fn values(table: &Table) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut take = |name: String, value: &Value| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Array(list) => list.iter().map(|v| v.as_str().unwrap_or("?")).collect::<Vec<_>>().join("\n"),
            _ => "?".to_string(),
        };
        out.insert(name, text);
    };
    for (name, value) in table {
        match value {
            Value::Table(section) => section.iter().for_each(|(key, value)| take(format!("{name}.{key}"), value)),
            _ => take(name.clone(), value),
        }
    }
    out
}

/// What is wrong with the shape of a board's file: keys, kinds, and lines that a simple reader could not read.
fn shape(text: &str, table: &Table) -> Vec<String> {
    let mut wrong = Vec::new();
    for (section, key, list) in KEYS {
        let within = if section.is_empty() { Some(table) } else { table.get(section).and_then(Value::as_table) };
        match within.and_then(|t| t.get(key)) {
            None => wrong.push(format!("no `{key}` in [{section}]")),
            Some(value) if list != value.is_array() => {
                wrong.push(format!("`{key}`: a list or a text, the other way round"))
            }
            Some(_) => {}
        }
    }
    for (name, value) in values(table) {
        let (section, key) = name.split_once('.').unwrap_or(("", &name));
        if section != "limits" && !KEYS.iter().any(|(s, k, _)| (*s, *k) == (section, key)) {
            wrong.push(format!("`{name}` is no key of a board"));
        }
        let may_be_empty = ["models", "features", "image.boot_labels", "image.root_labels"].contains(&name.as_str());
        if value.contains('?') || (value.is_empty() && !may_be_empty) {
            wrong.push(format!("`{name}` says nothing, or is neither a text nor a list of texts"));
        }
    }
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let one_line =
            (line.contains(" = \"") && line.ends_with('"')) || (line.contains(" = [") && line.ends_with(']'));
        let head = line.starts_with('[') && line.ends_with(']');
        if !one_line && !head {
            wrong.push(format!("a script's reader cannot read `{line}`"));
        }
    }
    wrong
}

/// What makes no sense among the values of a board.
fn sense(name: &str, board: &BTreeMap<String, String>, cross: &Table) -> Vec<String> {
    let get = |key: &str| board.get(key).map(String::as_str).unwrap_or_default();
    let bytes = |key: &str| size(get(key)).unwrap_or(0);
    let mut wrong = Vec::new();
    let mut must = |ok: bool, what: &str| {
        if !ok {
            wrong.push(what.to_string());
        }
    };
    must(get("name") == name, "name: not that of the file");
    must(cross["target"].as_table().is_some_and(|t| t.contains_key(get("target"))), "target: not in cross.toml");
    let pair = (get("debian"), get("target"));
    let pairs = [("arm64", "aarch64-unknown-linux-musl"), ("armhf", "armv7-unknown-linux-gnueabihf")];
    must(pairs.contains(&pair), "debian and target: not of the same processor");
    must(get("features").is_empty(), "features: there are none");
    must(
        get("models").is_empty() == name.starts_with("generic-"),
        "models: those of any board, or none of a certain one",
    );
    must(bytes("ram") >= 512 << 20, "ram: too little, or no size");
    must((1..=bytes("ram") / 4).contains(&bytes("budget.memory_max")), "memory_max: more than a quarter of the RAM");
    let (idle, busy) = (bytes("budget.memory_idle"), bytes("budget.memory_busy"));
    must(0 < idle && idle <= busy && busy < bytes("budget.memory_max"), "memory: idle, busy and max are not in order");
    let cpu = (percent(get("budget.cpu_idle")), percent(get("budget.cpu_busy")));
    must(cpu.0.is_some() && cpu.0 <= cpu.1 && cpu.1 <= Some(100), "cpu: idle and busy are not in order, up to 100%");
    let ring = bytes("ring.max_bytes") + bytes("ring.keep_free");
    must(bytes("ring.max_bytes") >= 64 << 20 && bytes("ring.keep_free") > 0, "ring: too small, or no sizes");
    // A file system takes some of its partition for itself.
    must(ring < bytes("image.data_size") / 10 * 9, "data_size: the ring and what it keeps free do not fit");
    must(bytes("image.root_size") >= 3 << 30, "root_size: a stock image does not fit");
    let devices = format!("{}\n{}", get("ports.serial"), get("ports.gpio"));
    must(devices.lines().all(|device| device.starts_with("/dev/")), "ports: not paths of devices");
    let generations = ["rpi-firstboot", "rpi-cloud-init", "debian"];
    must(
        get("image.generations").lines().all(|g| generations.contains(&g)),
        "generations: flash.sh does not know them",
    );
    must(get("image.table") == "dos", "table: flash.sh does not know it");
    let numbers = [get("image.boot_number"), get("image.root_number")].map(|n| n.parse::<u8>().unwrap_or(0));
    must(
        0 < numbers[0] && numbers[0] < numbers[1] && numbers[1] < 4,
        "boot and root: not two of three primary partitions",
    );
    must(get("image.boot_mount") == "/boot/firmware", "boot_mount: not where stock images mount it");
    must((1..=16).contains(&get("image.data_label").len()), "data_label: ext4 takes 16 letters");
    must(get("image.flash") == "card", "flash: no known way");
    wrong
}

#[test]
fn a_board_has_every_key_and_its_values_make_sense() {
    let cross: Table = read("cross.toml").parse().expect("cross.toml is TOML");
    let boards = boards();
    assert_eq!(boards.keys().map(String::as_str).collect::<Vec<_>>(), BOARDS);
    let mut wrong = Vec::new();
    for (name, text) in &boards {
        let table: Table = text.parse().unwrap_or_else(|e| panic!("boards/{name}.toml: {e}"));
        let found = shape(text, &table).into_iter().chain(sense(name, &values(&table), &cross));
        wrong.extend(found.map(|what| format!("boards/{name}.toml: {what}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_board_that_is_wrong_is_found_out() {
    let cross: Table = read("cross.toml").parse().expect("cross.toml is TOML");
    let good = read("boards/rpi4.toml");
    let found = |text: &str| {
        let table: Table = text.parse().expect("still TOML");
        let mut wrong = shape(text, &table);
        wrong.extend(sense("rpi4", &values(&table), &cross));
        wrong
    };
    assert_eq!(found(&good), Vec::<String>::new());
    for (from, to) in [
        ("aarch64-unknown-linux-musl", "armv7-unknown-linux-gnueabihf"),
        ("aarch64-unknown-linux-musl", "mips-unknown-linux-gnu"),
        ("models = [\"Raspberry Pi 4\", \"Raspberry Pi Compute Module 4\"]", "models = []"),
        ("name = \"rpi4\"", "name = \"rpi3\""),
        ("memory_max = \"256MiB\"", "memory_max = \"4GiB\""),
        ("max_bytes = \"1GiB\"", "max_bytes = \"3GiB\""),
        ("max_bytes = \"1GiB\"", "max_bytes = \"1000\""),
        ("cpu_busy = \"20%\"", "cpu_busy = \"20\""),
        ("keep_free", "keep_fre"),
        ("[\"/dev/gpiochip0\"]", "\"/dev/gpiochip0\""),
        ("[\"/dev/gpiochip0\"]", "[\n\"/dev/gpiochip0\"]"),
        ("root_number = \"2\"", "root_number = \"1\""),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from} is not there");
        assert_ne!(found(&bad), Vec::<String>::new(), "{to} is not found out");
    }
}

/// A model that began as two boards say would be whichever is looked at first.
#[test]
fn a_model_is_one_board() {
    let boards: Vec<_> = boards()
        .into_iter()
        .map(|(name, text)| (name, values(&text.parse().expect("TOML"))["models"].clone()))
        .collect();
    let models = || boards.iter().flat_map(|(name, models)| models.lines().map(move |model| (name, model)));
    assert!(models().count() >= 4);
    for (board, model) in models() {
        for (other, begins) in models().filter(|(other, _)| *other != board) {
            assert!(!model.starts_with(begins), "`{model}` of {board} is also {other}, of which it begins `{begins}`");
        }
    }
}

#[test]
fn the_boards_and_the_readme_agree() {
    let readme = read("README.md");
    let (_, section) = readme.split_once("\n## Boards\n").expect("the README has a section of boards");
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<_> = boards()
        .iter()
        .map(|(name, text)| {
            let board = values(&text.parse().expect("TOML"));
            let get = |key: &str| board[key].as_str();
            format!(
                "| `{name}` | {} | {} | `{}` | {} | {} | {} |",
                get("title"),
                get("debian"),
                get("target"),
                get("ram"),
                get("budget.memory_max"),
                get("ring.max_bytes")
            )
        })
        .collect();
    for row in &expected {
        assert!(rows.contains(&row.as_str()), "the README's table of boards lacks this row:\n{row}");
    }
    let others: Vec<_> =
        rows.iter().filter(|row| BOARDS.iter().any(|b| row.starts_with(&format!("| `{b}`")))).collect();
    assert_eq!(others.len(), expected.len(), "a board has two rows");
}

#[test]
fn the_program_never_names_a_board() {
    let mut files = Vec::new();
    walk(&root().join("src"), root(), &mut files);
    assert!(files.len() > 100, "the sources are there");
    let mut offences = Vec::new();
    for file in files {
        let text = read(&file);
        offences
            .extend(BOARDS.iter().filter(|board| text.contains(**board)).map(|board| format!("{file} names {board}")));
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}
