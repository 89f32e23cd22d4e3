//! Where an export goes: standard output, or a file that has its name only once all of it is on the device.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

const BUFFER: usize = 256 * 1024;

pub enum Output {
    Standard(BufWriter<std::io::StdoutLock<'static>>),
    /// With the file's name while it is written, unless it is no plain file, and the one that it gets.
    File(BufWriter<File>, Option<PathBuf>, PathBuf),
}

impl Output {
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else {
            return Ok(Self::Standard(BufWriter::with_capacity(BUFFER, std::io::stdout().lock())));
        };
        let there = path.metadata().ok();
        if there.as_ref().is_some_and(std::fs::Metadata::is_file) {
            bail!("{} is there already, and what it holds may be nowhere else: name another file", path.display());
        }
        if there.as_ref().is_some_and(std::fs::Metadata::is_dir) {
            bail!("{} is a directory: name a file in it", path.display());
        }
        let part = there.is_none().then(|| {
            let mut name = path.as_os_str().to_owned();
            name.push(".part");
            PathBuf::from(name)
        });
        let name = part.as_deref().unwrap_or(path);
        let opened = OpenOptions::new().write(true).create(part.is_some()).truncate(true).open(name);
        let file = opened
            .with_context(|| format!("cannot write {}; is the stick mounted there, and writable?", name.display()))?;
        Ok(Self::File(BufWriter::with_capacity(BUFFER, file), part, path.into()))
    }

    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Standard(out) => out.write_all(bytes),
            Self::File(out, ..) => out.write_all(bytes),
        }
    }

    /// Ends it; what was `written` is named where that failed.
    pub fn finish(self, done: std::io::Result<()>, written: &str) -> anyhow::Result<()> {
        match self {
            Self::Standard(mut out) => {
                let done = done.and_then(|()| out.flush());
                // Whatever could not be written is not tried again.
                let _ = out.into_parts();
                done.map_err(|error| failed(error, "standard output", written, ""))
            }
            Self::File(mut out, part, path) => {
                let done = done.and_then(|()| out.flush());
                let (file, _) = out.into_parts();
                let Some(part) = part else {
                    return done.map_err(|error| failed(error, &path.display().to_string(), written, ""));
                };
                let done = done.and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&part, &path));
                if let Err(error) = done {
                    let _ = std::fs::remove_file(&part);
                    return Err(failed(error, &path.display().to_string(), written, "; what was written is removed"));
                }
                let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
                // A file system that cannot sync a directory has the file's bytes all the same.
                let _ = File::open(dir).and_then(|dir| dir.sync_all());
                Ok(())
            }
        }
    }
}

fn failed(error: std::io::Error, to: &str, written: &str, removed: &str) -> anyhow::Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => anyhow::anyhow!(
            "no room for the export on {to}: it was full after about {written}{removed}; make room, or export less with --topic, --from and --to"
        ),
        ErrorKind::FileTooLarge => anyhow::anyhow!(
            "{to} cannot become larger than it is after about {written}{removed}: the file system has a limit (FAT: 4 GiB); export it in pieces with --from and --to"
        ),
        _ => anyhow::Error::new(error).context(format!("cannot write to {to} after about {written}{removed}")),
    }
}
