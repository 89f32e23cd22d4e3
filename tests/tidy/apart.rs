//! Workspaces of their own (fuzz targets, the reference of SmartModules) compile a part of the node's sources: they must have all
//! that it imports, or they break when nobody builds them.

use super::*;

/// The files of a module that stands at `path`, without those of tests.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.file_name().is_some_and(|name| name != "mod.rs") {
        return vec![path.to_owned()];
    }
    let mut files = Vec::new();
    let mut todo = vec![path.parent().expect("a folder").to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).expect("a folder").map(|entry| entry.unwrap().path()) {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match name.contains("test") {
                true => {}
                false if entry.is_dir() => todo.push(entry),
                false => files.push(entry),
            }
        }
    }
    files
}

#[test]
fn what_is_compiled_apart_has_all_that_it_imports() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for apart in ["tests/fuzz/lib.rs", "tests/smartengine/lib.rs"] {
        let text = std::fs::read_to_string(root.join(apart)).unwrap();
        let has: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.split([' ', ';']).next()).collect();
        let paths = text.lines().filter_map(|line| line.trim().strip_prefix("#[path = \"../../")?.strip_suffix("\"]"));
        let files: Vec<PathBuf> =
            paths.filter(|path| path.ends_with(".rs")).flat_map(|path| sources(&root.join(path))).collect();
        assert!(has.len() > 5 && files.len() > 50, "{apart}: {has:?}");
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let (code, _) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
            let imported = code.lines().filter_map(|line| line.trim().strip_prefix("use crate::"));
            for name in imported.filter_map(|rest| rest.split([':', ';', ' ']).next()) {
                assert!(has.contains(&name), "{apart} lacks `{name}`, which {} imports", file.display());
            }
        }
    }
}
