//! Kinds of faults, and the tape that counts how often each was really met.

use headwater::ring::DiskErrorKind;

use crate::disk::Call;

macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }
        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
        }
    };
}

kinds! {
    /// Everything that can go wrong on purpose.
    Fault {
        ProcessCrash,
        PowerCut,
        /// Either of the two, in the middle of a disk call.
        CrashInsideCall,
        /// Either of the two, while recovery ran.
        CrashInRecovery,
        /// A half-made file that a power cut took back.
        UnsyncedEntryVanished,
        /// The kernel dropped clean pages (after a failed sync: the only copy).
        CacheEvicted,
        BitRot,
        RootRot,
        WriteIo,
        WriteNoSpace,
        WriteReadOnly,
        SyncIo,
        SyncNoSpace,
        SyncReadOnly,
        ReadIo,
        CreateIo,
        CreateNoSpace,
        CreateReadOnly,
        RemoveFailed,
        ListFailed,
        /// The disk does nothing for a while.
        Stall,
        /// The node was stopped properly (a control, not a fault; not counted as one).
        CleanRestart,
        // From here on: what only a whole node meets.
        /// A connection broke; what was asked on it is void.
        LinkReset,
        /// All connections broke, and none can be made for a while.
        LinkDown,
        RequestLost,
        AnswerLost,
        /// A request hangs in its SPU, perhaps until its connection is given up.
        RequestStalled,
        /// It landed after its connection had died, within the grace period.
        LandedLate,
        LandedAfterGrace,
        UpstreamTruncated,
        UpstreamRecreated,
        /// Retention took the beginning of a log.
        UpstreamTrimmed,
        LeaderMoved,
        /// A batch that was written and not replicated went with its leader.
        UncommittedLost,
        PartitionsGrew,
        ScAway,
        /// The SC tells what was true.
        ScStale,
        NotLeader,
        RejectedRetry,
        RejectedStale,
        /// Written, not replicated in time: the answer is a timeout.
        TimedOutWritten,
        TooLarge,
        OtherWriter,
        /// An upstream that keeps count does not know a producer any more.
        ProducerForgotten,
        /// A batch that it had was sent again, and not stored.
        Repeated,
        /// A batch came behind another one than the newest, and was not stored.
        OutOfTurn,
        /// A log that rebuilds batches was compared with what was sent (a control; counted all the same).
        Compared,
        /// A topic left a record of ours out.
        LeftOut,
        /// Another writer wrote what was to be ours, behind our end.
        OtherWroteOurs,
        /// A ring of the same name and another id wrote: of a card that was cloned or wiped.
        CloneWrote,
        /// The wall clock was set.
        ClockJumped,
        /// The card goes on in another machine.
        CardMoved,
    }
}

/// What a world with nothing but a ring can meet.
const OF_THE_RING: usize = Fault::LinkReset as usize;

impl Fault {
    pub fn of_error(call: Call, kind: DiskErrorKind) -> Self {
        match (call, kind) {
            (Call::Write, DiskErrorKind::NoSpace) => Fault::WriteNoSpace,
            (Call::Write, DiskErrorKind::ReadOnly) => Fault::WriteReadOnly,
            (Call::Write, _) => Fault::WriteIo,
            (Call::Sync, DiskErrorKind::NoSpace) => Fault::SyncNoSpace,
            (Call::Sync, DiskErrorKind::ReadOnly) => Fault::SyncReadOnly,
            (Call::Sync, _) => Fault::SyncIo,
            (Call::Create, DiskErrorKind::NoSpace) => Fault::CreateNoSpace,
            (Call::Create, DiskErrorKind::ReadOnly) => Fault::CreateReadOnly,
            (Call::Create, _) => Fault::CreateIo,
            (Call::Read, _) => Fault::ReadIo,
            (Call::Remove, _) => Fault::RemoveFailed,
            (Call::List, _) => Fault::ListFailed,
        }
    }
}

/// How often each kind was met.
#[derive(Clone, Debug)]
pub struct Tape {
    hits: [u64; Fault::ALL.len()],
}

impl Default for Tape {
    fn default() -> Self {
        Self { hits: [0; Fault::ALL.len()] }
    }
}

impl Tape {
    pub fn hit(&mut self, fault: Fault) {
        self.hits[fault as usize] += 1;
    }

    pub fn count(&self, fault: Fault) -> u64 {
        self.hits[fault as usize]
    }

    /// All faults, restarts in good order not among them.
    pub fn total(&self) -> u64 {
        self.hits.iter().sum::<u64>() - self.count(Fault::CleanRestart)
    }

    pub fn add(&mut self, other: &Tape) {
        for (mine, theirs) in self.hits.iter_mut().zip(other.hits) {
            *mine += theirs;
        }
    }

    pub fn never_hit(&self) -> Vec<Fault> {
        Fault::ALL.iter().copied().filter(|f| self.count(*f) == 0).collect()
    }

    /// As `never_hit`, of the faults that a ring alone can meet.
    pub fn never_hit_by_ring(&self) -> Vec<Fault> {
        self.never_hit().into_iter().filter(|f| (*f as usize) < OF_THE_RING).collect()
    }
}
