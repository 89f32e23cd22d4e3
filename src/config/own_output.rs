//! Whether a `file` source would read what the node itself writes: it would feed itself for ever.
//!
//! Both sides are compared as the system resolves them: symbolic links and `..` as far as a path exists, by name beyond
//! that, so that it also speaks of files that are not there yet. A link behind a glob's first `*` is seen where it
//! stands now. `exclude` is asked about the name that the source would see.

use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::model::FileSource;

/// How the globs of a `file` source match: as in a shell, but for files whose names begin with a dot.
pub const GLOB_OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };
/// Names looked at in one expansion: a glob over a huge tree must not hold up the node.
pub const MAX_GLOB_NAMES: usize = 20_000;

/// Something that the node writes.
pub struct Written {
    pub path: PathBuf,
    /// Whose it is, in words.
    pub what: String,
}

/// The first that the source would read.
pub fn read_by<'w>(source: &FileSource, written: &'w [Written]) -> Option<&'w Written> {
    let excluded = |seen: &Path| {
        source.exclude.iter().any(|g| Pattern::new(g).is_ok_and(|g| g.matches_path_with(seen, GLOB_OPTIONS)))
    };
    let resolved: Vec<PathBuf> = written.iter().map(|w| resolve(&w.path)).collect();
    source.paths.iter().find_map(|glob| {
        let by_name = || {
            let (fixed, rest) = split(Path::new(glob));
            let below = resolve(&fixed);
            let whole = Path::new(&Pattern::escape(&below.to_string_lossy())).join(&rest);
            let pattern = Pattern::new(&whole.to_string_lossy()).ok()?;
            resolved.iter().position(|path| {
                let seen = path.strip_prefix(&below).map_or_else(|_| path.clone(), |rest| fixed.join(rest));
                pattern.matches_path_with(path, GLOB_OPTIONS) && !excluded(&seen)
            })
        };
        let by_link = || {
            let names = glob::glob_with(glob, GLOB_OPTIONS).ok()?.take(MAX_GLOB_NAMES).flatten();
            names.filter(|name| !excluded(name)).find_map(|name| {
                let target = name.canonicalize().ok()?;
                resolved.iter().position(|path| *path == target)
            })
        };
        by_name().or_else(by_link).map(|at| &written[at])
    })
}

/// What stands before the first component with a pattern in it, and the rest. The last component is always of the rest:
/// a link there is a file's, which [`read_by`] looks up.
fn split(glob: &Path) -> (PathBuf, PathBuf) {
    let components: Vec<Component<'_>> = glob.components().collect();
    let is_pattern = |c: &Component<'_>| c.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    let last = components.len().saturating_sub(1);
    let at = components.iter().position(is_pattern).unwrap_or(last).min(last);
    (components[..at].iter().collect(), components[at..].iter().collect())
}

/// As the system resolves it, as far as it exists; the rest by name.
fn resolve(path: &Path) -> PathBuf {
    let mut exists = path;
    let mut resolved = loop {
        match (exists.canonicalize(), exists.parent()) {
            (Ok(resolved), _) => break resolved,
            (Err(_), Some(parent)) => exists = parent,
            (Err(_), None) => break PathBuf::new(),
        }
    };
    for component in path.strip_prefix(exists).unwrap_or(path).components() {
        match component {
            Component::ParentDir => drop(resolved.pop()),
            Component::CurDir | Component::Prefix(_) => {}
            Component::Normal(_) | Component::RootDir => resolved.push(component),
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;
    use crate::topic::TopicName;

    fn reads(paths: &[String], exclude: &[String], written: &Path) -> bool {
        let source = FileSource {
            topic: TopicName::new("t").unwrap(),
            paths: paths.to_vec(),
            exclude: exclude.to_vec(),
            from_end: false,
            max_line: 1024,
            poll: Span(1),
        };
        read_by(&source, &[Written { path: written.into(), what: String::new() }]).is_some()
    }

    #[test]
    fn a_glob_that_would_read_the_nodes_own_files_is_recognised_by_name() {
        let would = |glob: &str, path: &str| reads(&[glob.into()], &[], Path::new(path));
        assert!(would("/nowhere/log/headwater.log", "/nowhere/log/headwater.log"));
        assert!(would("/nowhere/log/*.log", "/nowhere/log/headwater.log"));
        assert!(would("/nowhere/log/../log/./*.log", "/nowhere/log/headwater.log"));
        assert!(would("/nowhere/**/*", "/nowhere/lib/headwater/root"));
        assert!(would("/nowhere/lib/*/*", "/nowhere/lib/headwater/root"));
        assert!(!would("/nowhere/log/*.log", "/nowhere/log/sub/headwater.log"));
        assert!(!would("/nowhere/log/*.log", "/nowhere/log/headwater.txt"));
        assert!(!would("/srv/**/*.log", "/nowhere/lib/headwater/root"));
    }

    #[test]
    fn a_glob_that_leads_to_the_nodes_own_files_through_a_link_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let glob = |name: &str| at(name).to_string_lossy().into_owned();
        std::fs::create_dir(at("data")).unwrap();
        std::fs::create_dir(at("logs")).unwrap();
        std::os::unix::fs::symlink(at("data"), at("way")).unwrap();
        let written = at("data/out");
        assert!(reads(&[glob("way/*")], &[], &written), "a directory that is a link, a file that is not there yet");
        assert!(!reads(&[glob("way/*")], &[glob("way/o*")], &written), "left out by the name that is seen");
        assert!(reads(&[glob("way/*")], &[glob("data/o*")], &written), "no name that is seen");
        assert!(reads(&[glob("data/*")], &[], &at("way/out")), "the node writes through the link");
        assert!(!reads(&[glob("logs/*")], &[], &written));
        std::fs::write(&written, "").unwrap();
        std::os::unix::fs::symlink(&written, at("logs/app.log")).unwrap();
        assert!(reads(&[glob("logs/*")], &[], &written), "a file that is a link");
        assert!(reads(&[glob("logs/app.log")], &[], &written));
    }
}
