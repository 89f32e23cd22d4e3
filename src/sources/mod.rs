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

use std::time::Duration;

use crate::config::model::{SourceConfig, SourceKind};
use crate::hub::{Group, Intake, OfferError};
use crate::limits::FRAME_RAW_TARGET;
use crate::record::RecordRef;
use crate::ring::{StateError, TopicError};
use crate::topic::TopicId;

mod exec;
mod file;
mod host;
mod inlet;
mod mqtt;
mod net;
mod socket;
mod syslog;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use inlet::Inlet;

/// How often a record above the ordinary size asks for room again.
const LARGE_RECORD_WAIT: Duration = Duration::from_millis(5);

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
    let intake = Inlet::new(config, intake);
    match &config.kind {
        SourceKind::Mqtt(mqtt) => mqtt::run(mqtt, intake).await,
        SourceKind::File(file) => file::run(file, intake).await,
        SourceKind::Syslog(syslog) => syslog::run(syslog, intake).await,
        SourceKind::Socket(socket) => socket::run(socket, intake).await,
        SourceKind::Exec(exec) => exec::run(exec, intake).await,
        SourceKind::Host(host) => host::run(host, intake).await,
    }
}

/// Enters a group (see [`Intake::group`]), waiting while the disk is behind; None when the node stops first.
async fn enter_group(intake: &Intake, bytes: usize) -> Option<Group<'_>> {
    loop {
        match intake.group(bytes) {
            Ok(group) => return Some(group),
            Err(_) if wait_for_room(intake, bytes).await => {}
            Err(_) => return None,
        }
    }
}

/// Offers one event, waiting while the disk is behind, but not longer than the node runs; false: it stops.
async fn offer(intake: &Inlet, topic: TopicId, record: &RecordRef<'_>) -> bool {
    loop {
        match intake.offer(topic, record) {
            // What rules made too large for this ring, whatever was cut from it, was counted.
            Ok(_) | Err(OfferError::TooLarge { .. }) => return true,
            Err(OfferError::Busy) if wait_for_room(intake, record.len()).await => {}
            Err(OfferError::Busy) => return false,
        }
    }
}

/// Room is announced for records of ordinary size; a larger one asks again in a moment, not in a tight loop.
async fn wait_for_room(intake: &Intake, bytes: usize) -> bool {
    let room = async {
        intake.room().await;
        if bytes > FRAME_RAW_TARGET {
            tokio::time::sleep(LARGE_RECORD_WAIT).await;
        } else {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = intake.stopping() => false,
        () = room => true,
    }
}
