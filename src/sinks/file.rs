//! The `file` sink: a line per record, rotated by size.
//!
//! `path` is the file being written; when it would pass `rotate_bytes` it becomes `path.1`, `path.1` becomes `path.2`, and
//! `path.<keep>` goes. A rotation happens between turns, never inside a line. A crash in the middle of a rotation
//! leaves a number free, which the next one steps over.

use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt;

use super::SinkError;
use super::lines::Lines;
use crate::config::model::FileSink;

pub struct File {
    path: PathBuf,
    rotate_bytes: u64,
    keep: u32,
    open: Option<(tokio::fs::File, u64)>,
}

impl File {
    pub fn new(config: &FileSink) -> Self {
        Self { path: config.path.clone(), rotate_bytes: config.rotate_bytes, keep: config.keep, open: None }
    }

    fn error(&self, op: &'static str, reason: std::io::Error) -> SinkError {
        SinkError::Io { op, path: self.path.display().to_string(), reason }
    }

    async fn file(&mut self, coming: u64) -> Result<&mut (tokio::fs::File, u64), SinkError> {
        if self.open.as_ref().is_some_and(|(_, len)| *len > 0 && len.saturating_add(coming) > self.rotate_bytes) {
            self.open = None;
            self.rotate().await?;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let options = tokio::fs::OpenOptions::new().create(true).append(true).open(&self.path).await;
                let file = options.map_err(|e| self.error("open", e))?;
                let len = file.metadata().await.map_err(|e| self.error("stat", e))?.len();
                (file, len)
            }
        };
        Ok(self.open.insert(open))
    }

    async fn rotate(&self) -> Result<(), SinkError> {
        if self.keep == 0 {
            return moved(tokio::fs::remove_file(&self.path).await).map_err(|e| self.error("remove", e));
        }
        for n in (1..self.keep).rev() {
            let renamed = tokio::fs::rename(numbered(&self.path, n), numbered(&self.path, n + 1)).await;
            moved(renamed).map_err(|e| self.error("rotate", e))?;
        }
        let renamed = tokio::fs::rename(&self.path, numbered(&self.path, 1)).await;
        moved(renamed).map_err(|e| self.error("rotate", e))
    }
}

/// What is not there need not move.
fn moved(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

impl Lines for File {
    fn describe(&self) -> String {
        format!("writing {}", self.path.display())
    }

    async fn open(&mut self) -> Result<(), SinkError> {
        self.file(0).await.map(drop)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let coming = bytes.len() as u64;
        let (file, len) = self.file(coming).await?;
        let written = file.write_all(bytes).await;
        *len += coming;
        written.map_err(|e| self.error("write", e))
    }

    async fn settle(&mut self) -> Result<(), SinkError> {
        let Some((file, _)) = &mut self.open else { return Ok(()) };
        let settled = match file.flush().await {
            Ok(()) => file.sync_data().await,
            Err(e) => Err(e),
        };
        if settled.is_err() {
            // After a failed sync the pages count as clean: open anew, and let the cursor repeat the lines.
            self.open = None;
        }
        settled.map_err(|e| self.error("sync", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(dir: &Path, rotate_bytes: u64, keep: u32) -> File {
        File::new(&FileSink { path: dir.join("out.log"), rotate_bytes, keep })
    }

    fn read(dir: &Path, name: &str) -> Option<String> {
        std::fs::read_to_string(dir.join(name)).ok()
    }

    #[tokio::test]
    async fn a_full_file_is_rotated_and_the_oldest_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = sink(dir.path(), 10, 2);
        for text in ["one\ntwo\n", "three\n", "four\nfive\n", "six\n"] {
            file.write(text.as_bytes()).await.unwrap();
            file.settle().await.unwrap();
        }
        assert_eq!(read(dir.path(), "out.log").as_deref(), Some("six\n"));
        assert_eq!(read(dir.path(), "out.log.1").as_deref(), Some("four\nfive\n"));
        assert_eq!(read(dir.path(), "out.log.2").as_deref(), Some("three\n"));
        assert_eq!(read(dir.path(), "out.log.3"), None);
    }

    #[tokio::test]
    async fn a_file_that_was_there_is_continued() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("out.log"), "before\n").unwrap();
        let mut file = sink(dir.path(), 1000, 2);
        file.write(b"after\n").await.unwrap();
        file.settle().await.unwrap();
        assert_eq!(read(dir.path(), "out.log").as_deref(), Some("before\nafter\n"));
    }

    #[tokio::test]
    async fn a_missing_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = sink(&dir.path().join("none"), 10, 1);
        let error = file.write(b"x\n").await.unwrap_err().to_string();
        assert!(error.starts_with("open ") && error.contains("none/out.log"), "{error}");
    }
}
