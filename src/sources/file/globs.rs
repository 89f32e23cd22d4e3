//! Which files a `file` source reads, by name: globs, and what they leave out.
//!
//! Matching is that of a shell: `*` and `?` stop at a slash, `**` does not. Only regular files count (symbolic links
//! are followed); a device, a pipe or a directory that a glob happens to match is left alone.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use glob::Pattern;

use crate::config::{GLOB_OPTIONS, MAX_GLOB_NAMES};

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
            let Ok(paths) = glob::glob_with(pattern, GLOB_OPTIONS) else { continue };
            for path in paths.take(MAX_GLOB_NAMES).flatten() {
                if self.exclude.iter().any(|p| p.matches_path_with(&path, GLOB_OPTIONS)) {
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

    /// Every directory in which a file stands or may have stood, also those that a glob only describes: a renamed file
    /// is there under a name that no glob has.
    pub fn every_directory(&self) -> Vec<PathBuf> {
        let mut dirs = self.directories();
        for pattern in &self.include {
            let mut dir = Path::new(pattern).parent();
            while let Some(described) = dir.filter(|dir| is_pattern(&dir.to_string_lossy())) {
                let names = glob::glob_with(&described.to_string_lossy(), GLOB_OPTIONS).into_iter().flatten();
                dirs.extend(names.take(MAX_GLOB_NAMES).flatten().filter(|name| name.is_dir()));
                // `a/**` is also `a`, but does not expand to it.
                dir = described.parent().filter(|_| described.ends_with("**"));
                dirs.extend(dir.filter(|dir| !is_pattern(&dir.to_string_lossy())).map(Path::to_path_buf));
            }
        }
        dirs.sort();
        dirs.dedup();
        dirs
    }

    /// The devices of the directories; None when a file may stand in one that cannot be seen now.
    pub fn devices(&self) -> Option<Vec<u64>> {
        let dirs = self.directories();
        let fixed = |pattern: &String| Path::new(pattern).parent().is_some_and(|dir| dirs.iter().any(|d| d == dir));
        if !self.include.iter().all(fixed) {
            return None;
        }
        let device = |dir: &PathBuf| Some(std::fs::read_dir(dir).and_then(|_| std::fs::metadata(dir)).ok()?.dev());
        dirs.iter().map(device).collect()
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn directories_that_a_glob_describes_are_found_at_every_depth() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        for name in ["a/b", "c"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        std::fs::write(at("a/file"), "").unwrap();
        let found = |pattern: &str| {
            let dirs = Globs::new(&[at(pattern)], &[]).unwrap().every_directory();
            let below = |path: PathBuf| path.strip_prefix(dir.path()).unwrap().to_string_lossy().into_owned();
            dirs.into_iter().map(below).collect::<Vec<_>>()
        };
        assert_eq!(found("absent/x.log"), ["absent"]);
        assert_eq!(found("*.log"), [""]);
        assert_eq!(found("*/x.log"), ["a", "c"]);
        assert_eq!(found("a/*/x.log"), ["a/b"]);
        assert_eq!(found("**/*.log"), ["", "a", "a/b", "c"]);
        assert_eq!(found("*/**/*.log"), ["a", "a/b", "c"]);
    }

    #[test]
    fn a_pattern_that_does_not_parse_is_named() {
        let (pattern, _) = Globs::new(&["/var/log/[a".into()], &[]).err().unwrap();
        assert_eq!(pattern, "/var/log/[a");
    }
}
