//! Sources: what takes events in. A closed set, one file each, behind one `run`.
//!
//! A source owns its peers (files, sockets, a broker, a child) and an [`Intake`]; it offers what it takes and, where
//! its peer can be told, acknowledges only what the intake calls settled. It keeps nothing of its own on the disk: a
//! checkpoint is a state entry of the ring, durable together with the data that it covers.
//!
//! A source does not retry itself: it returns an error, the node's supervisor shows it and runs it again after a
//! growing wait. It reports its state, counts what it turns away, yields after bounded work, and leaves when the
//! intake says that the node stops. Adding one touches its file, this one, its variant in `config::model` and its row
//! in the README.

use crate::config::model::{SourceConfig, SourceKind};
use crate::hub::Intake;
use crate::ring::{StateError, TopicError};

mod mqtt;

/// Why a source stopped; shown, and tried again after a wait.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A port, path or address could not be taken.
    #[error("listen on {address}: {reason}")]
    Listen { address: String, reason: String },
    /// The peer could not be reached, refused us or went away. Says what, where, what to do.
    #[error("{0}")]
    Peer(String),
    /// A file, directory or device could not be read.
    #[error("{op} {path}: {reason}")]
    Io { op: &'static str, path: String, reason: String },
    #[error("{0}")]
    Topic(#[from] TopicError),
    #[error("{0}")]
    State(#[from] StateError),
}

/// Runs one source until the node stops (Ok) or the source cannot go on (Err: the supervisor runs it again).
pub async fn run(config: &SourceConfig, intake: Intake) -> Result<(), SourceError> {
    match &config.kind {
        SourceKind::Mqtt(mqtt) => mqtt::run(mqtt, intake).await,
        SourceKind::File(_)
        | SourceKind::Syslog(_)
        | SourceKind::Socket(_)
        | SourceKind::Exec(_)
        | SourceKind::Host(_) => {
            intake.stopping().await;
            Ok(())
        }
    }
}
