//! Sinks: what sends records out. A closed set, one file each, behind one `run`.
//!
//! A sink owns its peer and an [`Outlet`]: it reads durable records in order, sends them, and moves its cursor over what
//! its peer has acknowledged. It deletes nothing. A sink whose peer is away for long (Fluvio) waits and tries again by
//! itself, keeping what it knows; one whose target is a file or a pipe returns its error, and the node's supervisor
//! runs it again after a growing wait. Adding one touches its file, this one, its variant in `config::model` and its
//! row in the README.

use crate::config::model::{SinkConfig, SinkKind};
use crate::hub::{Outlet, Way};
use std::rc::Rc;

mod file;
pub mod fluvio;
mod lines;
mod metered;
pub mod shape;
mod stdout;
mod underway;

pub use metered::came;

/// Why a sink stopped; shown, and tried again after a wait.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A file could not be opened, written, synced or renamed.
    #[error("{op} {path}: {}{}", plain(.reason), hint(.reason))]
    Io { op: &'static str, path: String, reason: std::io::Error },
    /// Standard output is closed.
    #[error("write to standard output: {0}")]
    Stdout(std::io::Error),
}

/// Without the number of the error.
fn plain(error: &std::io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "; does its directory exist?",
        std::io::ErrorKind::PermissionDenied => "; let the node's user write there",
        std::io::ErrorKind::StorageFull => "; make room on that file system",
        _ => "",
    }
}

/// Runs one sink until it is told to stop (Ok) or cannot go on (Err: the supervisor runs it again).
/// `way`: the link that it goes out through, if it has one.
pub async fn run(config: &SinkConfig, outlet: Outlet, way: Option<Rc<Way>>) -> Result<(), SinkError> {
    match &config.kind {
        SinkKind::Fluvio(fluvio) => {
            fluvio::run(config, fluvio, outlet, way).await;
            Ok(())
        }
        SinkKind::Stdout => lines::run(config, outlet, stdout::Stdout).await,
        SinkKind::File(file) => lines::run(config, outlet, file::File::new(file)).await,
    }
}
