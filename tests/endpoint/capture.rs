//! Recorded connections, as frames.

use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    Client,
    Server,
}

/// The frames of one recorded connection in the order in which they were complete, length prefix left out.
pub fn frames(name: &str) -> Vec<(Dir, Vec<u8>)> {
    let path = directory().join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut partial = [Vec::new(), Vec::new()];
    let mut out = Vec::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
        let dir = if line["dir"] == "c" { Dir::Client } else { Dir::Server };
        let bytes = &mut partial[dir as usize];
        bytes.extend(unhex(line["hex"].as_str().expect("hex")));
        while let Some(len) = bytes.first_chunk::<4>().map(|n| u32::from_be_bytes(*n) as usize + 4) {
            if bytes.len() < len {
                break;
            }
            out.push((dir, bytes.drain(..len).skip(4).collect()));
        }
    }
    assert!(partial.iter().all(Vec::is_empty), "{name} ends within a frame");
    out
}

/// The client's frames of every capture.
pub fn all_client_frames() -> Vec<(String, Vec<u8>)> {
    let mut names: Vec<_> = std::fs::read_dir(directory())
        .expect("captures")
        .filter_map(|entry| Some(entry.ok()?.file_name().into_string().ok()?.strip_suffix(".jsonl")?.to_owned()))
        .collect();
    names.sort();
    assert!(names.len() > 40, "captures are missing");
    let of = |name: &String| {
        let name = name.clone();
        frames(&name).into_iter().filter(|(dir, _)| *dir == Dir::Client).map(move |(_, frame)| (name.clone(), frame))
    };
    names.iter().flat_map(of).collect()
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/captures")
}

fn unhex(text: &str) -> impl Iterator<Item = u8> + '_ {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex digits"))
}
