//! Which files a `file` source reads, by name: globs, what they leave out, and whether one would read a given path.
//!
//! Matching is that of a shell: `*` and `?` stop at a slash, `**` does not. Only regular files count (symbolic links
//! are followed); a device, a pipe or a directory that a glob happens to match is left alone.

use std::fs::Metadata;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// Names looked at in one expansion: a glob over a huge tree must not hold up the node.
const MAX_NAMES: usize = 20_000;

/// The globs of one source, parsed once.
pub struct Globs {
    include: Vec<String>,
    exclude: Vec<Pattern>,
}

impl Globs {
    /// Err: the pattern that does not parse and why.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, (String, String)> {
        let parse = |text: &String| Pattern::new(text).map_err(|e| (text.clone(), e.to_string()));
        include.iter().try_for_each(|text| parse(text).map(drop))?;
        Ok(Self { include: include.to_vec(), exclude: exclude.iter().map(parse).collect::<Result<_, _>>()? })
    }

    /// Every regular file that matches now, oldest change first, so that a rotated file is read before its successor.
    pub fn expand(&self) -> Vec<(PathBuf, Metadata)> {
        let mut found: Vec<(PathBuf, Metadata)> = Vec::new();
        for pattern in &self.include {
            let Ok(paths) = glob::glob_with(pattern, OPTIONS) else { continue };
            for path in paths.take(MAX_NAMES).flatten() {
                if self.exclude.iter().any(|p| p.matches_path_with(&path, OPTIONS)) {
                    continue;
                }
                if let Ok(meta) = std::fs::metadata(&path)
                    && meta.is_file()
                {
                    found.push((path, meta));
                }
            }
        }
        found.sort_by_key(|(path, meta)| (meta.modified().ok(), path.clone()));
        found.dedup_by(|a, b| a.0 == b.0);
        found
    }

    /// What to say while no file matches: which globs, and the directory that is missing.
    pub fn nothing(&self) -> String {
        let absent = self.directories().into_iter().find(|dir| !dir.is_dir());
        let why = absent.map_or(String::new(), |dir| format!(" (there is no directory {})", dir.display()));
        let (first, more) = (self.include.first().map_or("", String::as_str), self.include.len().saturating_sub(1));
        let more = if more == 0 { String::new() } else { format!(" or {more} more") };
        format!("no file matches {first}{more}{why}; one that comes is read from its beginning")
    }

    /// The directories in which the files stand (or stood), as far as their names are fixed.
    pub fn directories(&self) -> Vec<PathBuf> {
        let mut dirs: Vec<PathBuf> = self
            .include
            .iter()
            .filter_map(|pattern| Path::new(pattern).parent())
            .filter(|dir| !is_pattern(&dir.to_string_lossy()))
            .map(Path::to_path_buf)
            .collect();
        dirs.sort();
        dirs.dedup();
        dirs
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Whether a `file` source with this glob would read `path`, or something below it: a node must not read what it
/// writes. By name alone, with `.` and `..` resolved, so that it also speaks of files that are not there yet.
pub fn would_read(glob: &str, path: &Path) -> bool {
    let pattern = components(Path::new(glob));
    let path = components(path);
    reaches(&pattern, &path)
}

fn components(path: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(out.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// Whether `pattern` matches `path` or could match a name below it.
fn reaches(pattern: &[String], path: &[String]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some((first, rest)), Some((name, below))) if first == "**" => {
            let _ = name;
            // `**` takes any number of directories; with nothing after it, it matches directories only, but its
            // files are one `*` away, and a guard may be too careful.
            rest.is_empty() || reaches(rest, path) || reaches(pattern, below)
        }
        (Some((first, rest)), Some((name, below))) => {
            Pattern::new(first).is_ok_and(|p| p.matches_with(name, OPTIONS)) && reaches(rest, below)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_that_would_read_the_nodes_own_files_is_recognised() {
        let would = |glob: &str, path: &str| would_read(glob, Path::new(path));
        assert!(would("/var/log/headwater.log", "/var/log/headwater.log"));
        assert!(would("/var/log/*.log", "/var/log/headwater.log"));
        assert!(would("/var/log/../log/./*.log", "/var/log/headwater.log"));
        assert!(would("/var/**/*", "/var/lib/headwater"));
        assert!(would("/var/lib/headwater/slot-*", "/var/lib/headwater"));
        assert!(would("/var/lib/*/*", "/var/lib/headwater"));
        assert!(would("/**", "/var/lib/headwater"));
        assert!(!would("/var/log/*.log", "/var/log/sub/headwater.log"));
        assert!(!would("/var/log/*.log", "/var/log/headwater.txt"));
        assert!(!would("/var/lib/*.log", "/var/lib/headwater"));
        assert!(!would("/srv/**/*.log", "/var/lib/headwater"));
    }

    #[test]
    fn expansion_gives_regular_files_once_and_leaves_out_what_is_excluded() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        std::fs::write(at("a.log"), "a").unwrap();
        std::fs::write(at("b.log"), "b").unwrap();
        std::fs::write(at("c.txt"), "c").unwrap();
        std::fs::create_dir(at("d.log")).unwrap();
        let globs = Globs::new(&[at("*.log"), at("a*")], &[at("b.*")]).unwrap();
        let names: Vec<_> = globs.expand().into_iter().map(|(path, _)| path).collect();
        assert_eq!(names, [PathBuf::from(at("a.log"))]);
        assert_eq!(globs.directories(), [dir.path()]);
    }

    #[test]
    fn a_pattern_that_does_not_parse_is_named() {
        let (pattern, _) = Globs::new(&["/var/log/[a".into()], &[]).err().unwrap();
        assert_eq!(pattern, "/var/log/[a");
    }
}
