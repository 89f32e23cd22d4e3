//! Bugs planted on purpose. A checker that does not find them proves nothing when it finds nothing.
//!
//! Each is planted at a boundary of the ring or the pipeline (the disk, the disk threads, a sink), never in the
//! product's own code.

use crate::disk::Lie;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plant {
    #[default]
    None,
    /// The disk.
    Disk(Lie),
    /// A source is acknowledged when its record was taken, not when it is durable.
    AcknowledgedEarly,
    /// A sink stores its cursor past what it delivered.
    CursorStoredEarly,
    /// A sink passes an eviction without counting it.
    GapNotCounted,
    /// Slots are given free by a cursor that is not durable.
    FloorFromUnsyncedCursor,
    /// The writer thread does not keep the order of its commands.
    WritesReordered,
    /// A program on trial writes what only it can read.
    NewFormatOnTrial,
    // In a whole node.
    /// The cursor moves over what was sent, not over what was answered.
    CursorBeforeAnswer,
    /// A record is left out of the count of the delivered ones.
    CountSkipped,
    /// After a reconnect nobody looks for markers behind the batch that was acknowledged last.
    SearchLeftOut,
    /// The second look comes at once.
    NoGrace,
    /// Refusals and positions are not stored with the cursor.
    StateLeftOut,
    /// The last output of a batch goes with the next one.
    BatchStraddles,
    /// Reading does not go back after a loss.
    NotRewound,
    /// A new partition count is used before it is durable.
    SyncedEarly,
    /// A refused batch counts as written.
    RejectTakenForWritten,
    /// A batch that is not replicated counts as written.
    UncommittedTakenForWritten,
    /// A sink forgets to say what became of a record.
    NoteLeftOut,
    /// Where a sink stands in its partitions is not stored.
    SharesNotStored,
    /// The records of losses are given again after a crash: nobody knows whether they were there.
    LossToldAgain,
    /// The same with dead letters.
    LetterGivenAgain,
    /// All streams of a lane are known upstream under one id.
    OneIdentity,
    /// Where markers do not survive: how many records stand there is compared, not what they are.
    ContentsNotCompared,
    /// The first record that is met stands for all that stands there.
    ComparedInPart,
    /// A source stores its checkpoint before the lines that it covers.
    CheckpointAhead,
}

impl Plant {
    /// Whether it shows only where a sink compares what stands upstream.
    pub fn is_of_comparing(self) -> bool {
        matches!(self, Plant::ContentsNotCompared | Plant::ComparedInPart)
    }

    pub fn lie(self) -> Lie {
        match self {
            Plant::Disk(lie) => lie,
            _ => Lie::None,
        }
    }
}
