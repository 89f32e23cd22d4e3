//! What an upstream's error code means for a batch: was it written, and what helps.
//!
//! Codes are Fluvio's (`fluvio-protocol`, `ErrorCode`), given as numbers so that this layer needs no wire crate. An
//! unknown code is taken for "not written, try again": waiting is visible in the status and loses nothing, dropping would.

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Not written; leaders or topics are not what metadata said.
    Stale,
    /// Not written; the same may work later (storage, permission, a full partition).
    Retry,
    /// Written or not, nobody knows: look before anything is sent.
    Unknown,
    /// This batch will never be taken.
    TooLarge,
    /// The asked offset is not in the log.
    OutOfRange,
    /// Not written: the upstream's newest batch of ours is another one than we think.
    OutOfTurn,
}

impl Reject {
    /// The meaning of a non-zero error code.
    pub fn of_code(code: i16) -> Self {
        match code {
            // OffsetOutOfRange, OffsetEvicted
            1 | 71 => Self::OutOfRange,
            // RequestTimedOut: written, not committed
            7 => Self::Unknown,
            // MessageTooLarge
            10 => Self::TooLarge,
            // NotLeaderForPartition, SpuOffline, SpuNotFound, Topic*, PartitionPendingInitialization, PartitionNotLeader
            6 | 1002 | 1003 | 2000..=2008 | 3000 | 3001 => Self::Stale,
            _ => Self::Retry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_never_taken_for_not_written() {
        assert_eq!(Reject::of_code(7), Reject::Unknown);
    }

    #[test]
    fn only_a_too_large_message_is_refused_for_good() {
        let refused: Vec<i16> = (-1..12100).filter(|c| Reject::of_code(*c) == Reject::TooLarge).collect();
        assert_eq!(refused, [10]);
    }
}
