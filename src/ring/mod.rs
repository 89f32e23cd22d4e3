//! The ring: a bounded log on disk that survives power cuts, full cards, and bytes that rot.
//!
//! What it promises: a record that was called durable is read back, or its loss is counted and announced; a seq names
//! one record for ever; the cap on disk and memory holds; whatever the directory holds, a ring comes out of it. What
//! it is not: a database. There is no index file and no ledger beside the data that could disagree with it after a
//! crash; cursors, checkpoints and counters ride in the log.
//!
//! It does no I/O: `append` and [`Ring::put_state`] fill batches, [`Ring::poll`] says what the disk must do,
//! [`Ring::complete`] takes what it did. Read `core` for the face, `batch` and `writer` for the way down,
//! `recovery` and `walk` for the way back, `reader` and `cache` for reading, `slots` for reuse, `journal` for small
//! commits, `lanes` for their names, `cipher` for what is encrypted, `format` for the bytes.
//!
//! # The files
//!
//! `slot-NNNN` (decimal, at least four digits) and `root`. A slot's size is fixed when the ring is made: a 64th of
//! `max_bytes` without the root's 8,192 bytes, at least 256 KiB and at most 4 MiB, rounded down to a page of 4,096
//! bytes. A slot is created when it is first needed, its blocks allocated, file and directory synced; then it is
//! written over for ever, each time under a new **generation**: overwriting costs half the device writes of growing a
//! file. No file is renamed, and one is unlinked only to lower the cap. A slot belongs to one lane, or to the journal:
//!
//! ```text
//! 0        4096                                                                            slot_bytes
//! +--------+-----------------+-----------------+-------+-------+-----+-------+----------------------+
//! | header | snapshot part 1 | snapshot part n | frame | frame | ... | frame | of older generations |
//! +--------+-----------------+-----------------+-------+-------+-----+-------+----------------------+
//! ```
//!
//! All integers are little-endian. Bytes that no table names are written as zeros and not looked at. CRC is CRC-32C.
//! Everything begins at a page, so that damage is stepped over page by page. No u64 that counts or numbers something is
//! above 2^52, no session or boot above 2^29 (no ring comes near): what says so is damaged, whatever its checksum.
//!
//! ## Slot header, 4,096 bytes
//!
//! | bytes | type | field | |
//! |---|---|---|---|
//! | 0..4 | | magic | `HWsl` |
//! | 4..6 | u16 | version | 1, see below |
//! | 6 | u8 | kind | 1 lane, 2 journal |
//! | 7 | u8 | lane | 0 to 7; of the journal 0 |
//! | 8..12 | u32 | compat flags | none yet |
//! | 12..16 | u32 | read-only flags | none yet |
//! | 16..20 | u32 | incompat flags | 1 encrypted |
//! | 20..24 | u32 | slot_bytes | |
//! | 24..40 | u128 | ring id | random |
//! | 40..56 | | binding | hash of what ties the directory to this machine |
//! | 56..58 | u16 | slot id | the file's number |
//! | 58..60 | u16 | starts | entries at 512, at most 296 |
//! | 60 | u8 | starts complete | 1: a partition that is not listed did not exist |
//! | 64..72 | u64 | generation | rises with each slot opened, in the whole ring |
//! | 72..80 | u64 | first seq | where the lane stood; of the journal the highest of any lane |
//! | 80..88 | u64 | last commit | the newest durable one; the snapshot contains all up to it |
//! | 88..92 | u32 | boot | number of the kernel boot |
//! | 92..96 | u32 | session | number of the process |
//! | 96..104 | i64 | opened at | boot-clock microseconds |
//! | 104..106 | u16 | previous slot of the lane, or of the journal | |
//! | 108..112 | u32 | its end | one past its last frame |
//! | 112..120 | u64 | its generation | 0: there was none |
//! | 120..128 | u64 | uncopied | records of the lane that stood in the journal alone: its first ordinal is that much below `admitted` |
//! | 128..448 | 8 x 5 u64 | counters of each lane | admitted, evicted, expired, corrupt, lost unsynced |
//! | 448..512 | 8 u64 | oldest ordinal of each lane | |
//! | 512..4064 | 296 x 12 | starts | topic u16, partition u8, 0, next offset u64 |
//! | 4052..4056 | u32 | key id | of an encrypted slot, instead of the last of 296 starts |
//! | 4064..4080 | u128 | former ring id | before the newest change of machine; 0: there was none |
//! | 4080..4088 | u64 | its end | the first seq that was given after it |
//! | 4088..4092 | u32 | oldest boot | of those records; 0: there were none |
//! | 4092..4096 | u32 | CRC of 0..4092 | not seeded: it says itself whose it is |
//!
//! ## Frame, whole pages
//!
//! A header of 512 bytes (one sector), `runs` x 32 bytes, `prev counts` x 16 bytes, the payload as stored, the state
//! section as stored, zeros up to the next page. The zeros are covered by no CRC and read by nobody.
//!
//! | bytes | type | field | |
//! |---|---|---|---|
//! | 0..4 | | magic | `HWfr` |
//! | 4 | u8 | version | that of its slot |
//! | 5 | u8 | kind | 1 lane (records), 2 meta (state entries alone), 3 snapshot, 4 journal (either, in its slots), 5 copy |
//! | 6..8 | u16 | flags | 1 clean end, 2 first frame of a process; 4 snapshot in a slot of the journal; 8 stub |
//! | 8 | u8 | codec of the payload | 0 raw, 1 zstd |
//! | 9 | u8 | cipher | 0 none, 1 XChaCha20-Poly1305 |
//! | 10 | u8 | lane | |
//! | 11 | u8 | codec of the state section | |
//! | 12..16 | u32 | key id | 0: in clear |
//! | 16..32 | u128 | ring id | |
//! | 32..40 | u64 | generation | |
//! | 40..42 | u16 | slot id | |
//! | 42..44 | u16 | runs | at most 256 |
//! | 44..46 | u16 | prev counts | at most 256 |
//! | 46, 47 | u8 | part, parts | of a snapshot |
//! | 48..52 | u32 | at | the frame's own place in the slot |
//! | 52..56 | u32 | frame length | whole pages |
//! | 56..64 | u64 | commit | rises by one, node-wide; of a snapshot or a copy: the last one that was durable |
//! | 64..72 | u64 | previous commit | the one that this follows |
//! | 72..80 | u64 | synced through | commits up to here were durable when it was placed |
//! | 80..88 | u64 | first ordinal | of a copy; else 0 |
//! | 88..96 | u64 | first seq | |
//! | 96..100 | u32 | records | |
//! | 100..104 | u32 | boot | |
//! | 104..108 | u32 | session | |
//! | 108..112 | u32 | payload, raw bytes | at most 590,848 |
//! | 112..116 | u32 | payload, stored bytes | with its tag |
//! | 116..120 | u32 | state section, raw bytes | at most 196,608 |
//! | 120..124 | u32 | state section, stored bytes | with its tag |
//! | 124..128 | u32 | CRC of runs and prev counts | |
//! | 128..132 | u32 | CRC of the payload as stored | |
//! | 132..136 | u32 | CRC of the state section as stored | |
//! | 136..144 | i64 | sealed at | boot-clock microseconds |
//! | 144..152 | i64 | first time | what the times in the payload are relative to |
//! | 152..160 | i64 | last time | |
//! | 160..184 | | nonce | of the payload: the lowest bit of its last byte is 0; in clear 0 |
//! | 184..504 | 8 x 5 u64 | counters of each lane | this frame's records included in `admitted` |
//! | 504..508 | u32 | span | of a copy: seqs from its first to one past its last; else 0 |
//! | 508..512 | u32 | CRC of 0..508 | |
//!
//! The **seed** is the CRC of ring id, slot id and generation as they stand (26 bytes). The header's CRC goes on from
//! the seed; those of the sections go on from the seed and the commit's 8 bytes. So a header vouches for the lengths
//! beside a bad payload, sections of another commit do not pass for this one's, and a page that landed elsewhere, or
//! an older generation's, never validates. Zeros have no magic.
//!
//! **Run** (a partition's records in a frame; consecutive in seq, offset and byte): topic u16, partition u8, 0, count
//! u32, first seq u64, first offset u64, first byte u32, end byte u32. Runs follow each other without a gap; in a copy,
//! which may have several of a partition, seqs of other lanes stand between them. Those of a partition rise in offset.
//! **Prev count** (what the previous commit held of a partition): topic u16, partition u8, lane u8, count u32, first offset
//! u64. It tells a lost commit's records to their topics.
//!
//! **Payload**: records back to back in [postcard](https://docs.rs/postcard) (integers as varints, signed ones
//! zigzag, slices behind their length, options behind a byte 0 or 1): flags u16; admission time i64, relative to
//! `first time`; key, option of bytes; value, bytes; event time, option of i64 (microseconds since 1970); attributes,
//! bytes; origin, option of producer id i64, epoch i16, first sequence i32. Attributes: name length u8, name, value
//! length u16 little-endian, value; at most 16. A record's seq and offset follow from its run, its **ordinal** (its
//! place in its lane, dense) from the header's counters, in a copy from its first ordinal.
//!
//! **State section**: entries in postcard: owner kind u8 (0 ring, 1 node, 2 source, 3 rule, 4 sink, 5 endpoint),
//! owner name, key bytes, value option of bytes (none: a tombstone). The ring's own, under the name `ring`, numbers
//! in keys little-endian:
//!
//! | key | value |
//! |---|---|
//! | `t` topic u16 | name, lane u8, next offsets and offset floors (u64 each, one per partition) |
//! | `h` topic u16 | lanes that it was in before and that may hold records of it, oldest first: from lane u8, one past the topic's last ordinal there u64, to lane u8, its first ordinal there u64, the next offsets of then (u64 each) |
//! | `a` | lanes: number u8 and name; none: as the options have them |
//! | `n` | the next new topic's id, u16 little-endian |
//! | `b` | boot u32, the kernel's boot_id (16 bytes) |
//! | `c` boot u32 | wall minus boot time in microseconds i64, trusted bool |
//! | `d` | state entries were lost to damage: the seq that was next when it was found (u64), the ranges of commits concerned (from u64, to u64) |
//! | `f` | former ring ids, u128 each |
//! | `m` | former ring ids as records were given under them, each with the first seq after them (u128, u64) |
//! | `l` | bytes over the ring's life: logical (payloads before compression), stored, padded, synced (u64); in every snapshot and at a clean shutdown; frames since are added |
//! | `s` session u32 | last valid commit u64, synced through u64: where a process ended that did not say so |
//! | `j` | what stood in the journal alone, in snapshots: stretches of lane u8, from ordinal u64, its seq u64, to ordinal u64 |
//! | `u` | ranges of ordinals (lane u8, from u64, to u64; 512 at most) that a crash took before they were synced |
//! | `x` commit u64 | generation u64 of the slot where it stands: torn by a crash and given up |
//!
//! **Snapshot**: all durable state entries, in frames of about 56 KiB raw, at the beginning of every slot;
//! topics with the next offsets of that moment. It is made when nothing is under way, so it never has a checkpoint
//! that is newer than its records. The two newest slots are never reused, so that a bad snapshot sends recovery to
//! the one before.
//!
//! ## Root page, 4,096 bytes, two of them in `root`
//!
//! | bytes | type | field |
//! |---|---|---|
//! | 0..4 | | magic `HWrt` |
//! | 4..6 | u16 | version, that of the slots that are begun |
//! | 6 | u8 | clean: nothing was written after `commit` |
//! | 8..12 | u32 | slot_bytes |
//! | 16..24 | u64 | serial; page serial % 2, the higher counts |
//! | 24..40 | u128 | ring id |
//! | 40..48 | u64 | generation of the newest slot |
//! | 48..56 | u64 | last durable commit |
//! | 56..58 | u16 | the newest slot |
//! | 60..64 | u32 | session |
//! | 4092..4096 | u32 | CRC of 0..4092 |
//!
//! An untrusted hint: written and synced when a ring is opened and after a clean shutdown, written when a slot is
//! opened. Recovery takes from it that the end was clean (if the last commit agrees), and that serials and sessions go
//! on rising. It reads all slot headers in any case, one page each: they are what the table of slots is made of, and a
//! hint could only be wrong.
//!
//! # Versions and flags
//!
//! There is one version of the whole format, 1. A slot is of one version, from its header to its last frame; a ring may have
//! slots of several. A newer version is not written before the program that brings it is confirmed, so that the one before can
//! go on with the ring: `format::version` has the rules and argues each crash. What is of a version that this program does
//! not know is set aside: kept, not read, not written over.
//!
//! **State entries** are part of it, whosever they are (a sink's cursor, a source's checkpoint, a rule's windows, the history of
//! events). Most have no version of their own, and the sinks' (see `forward`) only to tell an older life's. Two changes need
//! no version of the format, because the program before goes on: something behind the end of an entry, which it does not look
//! at and leaves out when it writes the entry again, so that its absence is the default; and a new key or owner, which it
//! carries along unread, so that it has to be right, or to be found out, when nobody kept it up for a while. Any other change
//! makes a version of the format: whoever owns the entry reads both, and writes what [`Stats::format`] says. Since every slot
//! begins with all entries, each is in a slot of a version that knows it. To rely on less is to lose: what the program before
//! cannot decode is none to it, and a sink would send again what it had sent.
//!
//! **What else is on the disk** has no version: `lock` (a number for people), what file sinks append (lines), and what only
//! commands write (an exported ring is lines of JSON; a config belongs to people). The node never writes its config. A spilled
//! record is in the ring, and nowhere else. The mark of a program on trial is not the node's: see `node::trial`.
//!
//! A slot with another version or an unknown **incompat** flag is set aside: neither read nor written, announced.
//! With an unknown **read-only** flag it is read and, once a later generation, reused, but no frame is added to it.
//! Unknown **compat** flags and frame flags are ignored. Reserved, so that what comes later finds its place:
//!
//! - *Expired*: a lane's counter stays 0; what was too old when it was to be sent is counted by each sink.
//!
//! # Encryption
//!
//! An option. Payloads and state sections are encrypted; headers and directories are in clear, and all checksums are of
//! what stands there. So frames are found, walked and counted without a key, by the same code; only what records and
//! entries say takes one. A section is compressed, then encrypted with XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha),
//! its tag of 16 bytes behind it and counted in its stored bytes; one of no raw bytes is not there and has none, and a
//! frame with neither (a stub) is in clear. The state section's nonce is the frame's with the lowest bit of the last
//! byte set. **Associated data** of both: the frame's bytes from its header to the end of its directory as they stand,
//! with zeros for the four CRCs (124..136 and 508..512), two of which are of the ciphertext and one of those.
//!
//! **A frame is encrypted when it is placed**, and again, from its records and entries, where a failed sync has it placed
//! again. The other way, to encrypt once and to leave out of the associated data whatever a placing sets, would leave
//! out slot, generation, place, `synced through` and the counters, which are what recovery goes by: then a frame could
//! be put elsewhere by somebody who has the card in hand, under checksums that are no secret. It costs compressing twice
//! what failed once. Each placing draws a nonce at random, of 24 bytes, so that no two are ever the same without anything
//! being kept that could be set back; it comes from the kernel and not from a seed, which a copy of a virtual machine
//! would have as well. Copies and snapshots are frames like others.
//!
//! A **key** has 32 bytes. Its **id** is the first four bytes (u32) of the SHA-256 of `headwater ring key id`, a zero
//! byte and the key; where that is 0, 1. **A slot is under one key, or in clear**: its header says which, under the incompat
//! flag, so that an older program does not take it for damaged. Where the next frame is to be under another key than
//! the log's slot, or is to be clear, another slot is opened. What is there stays as it is until it is written over.
//!
//! **Without a key** that a slot header names, or a frame that is read at start, a ring is not opened to be written: what
//! is there is neither damaged nor lost, and nobody may count it, evict it or write over it; not where all that is wanted
//! now is under keys that are here either, since the rest would be met later by a reader that has nothing better to call
//! it than corrupt. Opened to be read, it has the records and places that headers and directories tell of, and no
//! entries: no topics' names, no state, and of what earlier recoveries gave up (`s`, `u`, `x`) or what a tail is (`j`)
//! nothing. A section whose checksum holds and whose tag does not is not what was written: it counts as one whose checksum
//! fails. A payload's tag is looked at when it is read, not by recovery.
//!
//! **What it does not hide**: sizes, times, counts, topics and partitions as numbers, which machine and when; that two
//! frames are copies of the same. **What it does not prevent**: whoever can write to the card can take frames away, set
//! the whole card back to an earlier state, or add clear frames, which are believed as they would be in a clear ring.
//!
//! # What is assumed of the media
//!
//! After an fdatasync that succeeds, what was written before is there. Nothing else: any subset of unsynced 512-byte
//! sectors may be old, new, zero or garbage, in any order; a write may take its neighbours with it; bytes may rot,
//! and reads may fail, at any time. A page that holds acknowledged data is therefore never written again before its
//! slot is reused, and after an unclean end writing goes on at the next 64 KiB boundary. A device that lies about a
//! sync is found out only by what is missing: it is counted, and cannot be prevented.
//!
//! # A commit
//!
//! At most 512 KiB of frames, written in order and synced once per file, then the next; one is under way at a time. Any
//! part of it may survive without the rest. So a frame that carries state entries begins its commit: an entry is never
//! there without the records before it. Entries wait in one lane's batch at a time, that of their group or of the newest
//! record, since of two frames with entries each would have to come first. Seqs and commit numbers are given
//! when a batch is sealed, and kept when it is written again. A batch is due after the linger, or sooner where somebody
//! waits for it; where more was written than the day's budget allows, what nobody waits for is due later (see `budget`).
//!
//! # The journal
//!
//! A commit of at most 8 KiB takes a page or two and would, in its lane, take most of it for nothing: a frame's worth of
//! such records takes a hundred times less. So it goes to the journal, three slots in a ring of fewer than 32 and else
//! four, none in one of fewer than 12. There it is a commit like any other, in the same order of numbers; its records stay
//! in memory besides, the lane's **tail**. When 64 KiB of a lane are together, when half the journal waits, or when a
//! larger frame of the lane is to follow, a **copy** of them goes to the lane's own slot, and what is copied is spent.
//!
//! - A copy is made while the disk is idle, of durable records, and is no commit: none stands upon it, and it is never
//!   lost or given up. Torn, it is not there, and the journal has what it repeats.
//! - A copy of a lane is placed when the one before it is durable, a frame with new records when all of the tail is. So
//!   whatever stands behind a copy in the lane's slots proves it, and a copy that does not hold there is damage; where
//!   nothing does, the tail begins with it.
//! - A slot of the journal is written over when every record in it is in a durable copy, and when its snapshot and its
//!   state entries are in two later ones, as for all slots. Its slots go round in order.
//! - Recovery plays the journal's commits among the others. A tail is what its snapshot says (`j`) and what was played
//!   since, above what the lane's own slots have; what of it is not to be found was durable, and is corrupt, unless it was
//!   evicted since: its copy stood in the slot that was begun anew. Where a
//!   frame of the journal is damaged whose records were copied, nothing is lost. A copy that tells of more than all
//!   commits that are left is believed, as a slot header is.
//! - A frame stays in the journal, or in its lane, also where it is written again after a failed sync.
//!
//! # RAM-first
//!
//! In this mode (see `spill`) readers see frames before they are durable, and those that every sink has passed are never
//! written. A **stub** stands for them: a lane frame with flag 8 and a directory whose runs have no bytes; the payload is
//! empty. It has a commit number, counters, ordinals and offsets as the frames would have that it stands for, so that
//! nothing else in this format knows of it; only the seqs of its runs are not those that the records had (they end where
//! those ended). A reader that walks over it meets a gap: these were passed. It is written with whatever goes to the disk
//! next.
//!
//! Offsets that may be shown before they are durable are reserved: a topic's entry has a floor for each partition, else 0,
//! and after an unclean end no offset below it is given. Seqs need no entry: fewer are given between two writes than an
//! unclean start skips. Cursors never get to the disk before what they passed: a frame with entries lifts all before it.
//!
//! # Each crash, argued
//!
//! - **Torn header**: its CRC fails; the frame is not there. Pages are probed for the next valid frame of this
//!   generation; the hole is counted, see below. At the very end of the log it cannot be told from a commit that
//!   never was: `tail unknown`.
//! - **Torn payload or state section**: the header vouches for the length, so the walk steps over it. If its commit
//!   is not known to have been synced, the frame is given up whole (`x`), its records lost unsynced; else they are
//!   corrupt, and its state entries are used if they hold.
//! - **Hole in the middle**: the next frame's `previous commit` is not the one that was met. Its counters less its
//!   own records, less those of the frame before, is the loss of each lane; its prev counts tell the topics if the
//!   hole is one commit, else the lane's topics skip that many offsets rather than use one twice.
//! - **Reordered sectors**: the same two cases; no order is relied upon within a commit.
//! - **A write that took a neighbour**: an acknowledged frame before it fails its CRC and is counted corrupt.
//! - **Lost directory entry**: a slot is created and its directory synced before the write that first uses it, in one
//!   queue; a failed creation fails the commit. A slot that vanishes later is a hole, counted by the next slot's
//!   first ordinal.
//! - **Stale generation**: what is left of an older generation behind the last frame has a valid CRC under its own
//!   seed and is skipped for its generation. In a slot whose header is damaged the highest generation of its frames
//!   counts.
//! - **Torn slot header**: nothing in the slot is acknowledged before a sync that covers its header. If it rots
//!   later, the slot is read by its frames, and nothing more is written to it: the next recovery might not find it.
//! - **Torn snapshot**: all of its parts must hold, or recovery begins at the snapshot of the slot before and plays
//!   more frames. Before that commit's sync the old snapshot is the newest; the two newest slots are kept for it.
//! - **Failed sync**: the kernel may have called the pages clean, so the same pages are not tried again. The slot is
//!   abandoned and kept back, the frames go to another under the same numbers; where both copies are there, the later
//!   slot's counts, and a frame with a seq at or above the next slot's first is stepped over.
//! - **Crash of the process alone**: the page cache may hold what the device never got. The newest slots of each lane
//!   are synced and dropped from the cache before they are believed; where one is then not what it seemed, the slots
//!   are looked at again.
//! - **Frames that recovery gave up come back** (a sector that a later read gives): each frame names the one it
//!   follows, whatever lies between is dead; seqs go on 1,048,576 and commits 4,096 further after an unclean end,
//!   sessions have numbers, `s` says where each ended, and what lies in a range of `u` stays lost. A process's first
//!   frame is what its recovery found (`s`, `u`, `x`); without that nothing else of it stands, and the next recovery
//!   judges the same evidence again. Where that frame rots later, before a snapshot has what it said, the evidence is
//!   judged again too; the counters in all later frames tell whether records of a lane were given up then.
//! - **Slots opened in vain** (a write to them failed) may hold frames as well: each slot header names the one that its
//!   lane was in before, so what stands between was given up; where the header is gone, the lane's newest commit stands
//!   in the slot before. They are used again before all others, the oldest first, because what proves one of them
//!   given up may stand in the next. A lane of which recovery gave up a slot for what could be read of it goes on in a new
//!   one, which names the one before, and the first frame of the process stands there: what could not be read then may
//!   be read later, and must not count against what came after. A generation is never given twice, be it seen in a dead
//!   slot only, or not at all: where an old header stands before frames of a slot that was begun over it, they would pass
//!   for those of whoever begins it again; and nothing more is written into such a slot, since without that header they
//!   would pass for what the slot is. So generations go on 4,096 further after an unclean end, for each process since
//!   the one that began the newest slot; the root page counts those that left no frame.
//! - **A slot that is begun over evicted records** says so itself, by its header and its first frames. Where the power goes
//!   before they are whole, the slot is what it was: what is left of the old records is read again, and what was written
//!   over is missing from their beginning. Nothing tells that from rot, so it is called corrupt.
//! - **Failed read**: says nothing about what is there. A reader waits while it is tried again, for a minute, page by page
//!   where a whole window fails; only then is it stepped over as corrupt, and tried again later if somebody asks. A tool,
//!   which nobody waits beside, gives up after three tries.
//! - **Crash in RAM-first mode**: what was held is not there, and nothing says that it ever was; sinks' cursors and the
//!   lane agree, since both are of the last write. A stub without the cursors behind it is met by sinks that have had
//!   its records.
//! - **Clean shutdown**: a last frame alone in its commit, then a root page that names it. The first start after it
//!   makes the page unclean. Nothing is skipped then; the newest slots are synced all the same, since the page may be
//!   older than the newest process.
//! - **A clone, or a card in another board**: the newest header's binding differs. The ring goes on under a new id,
//!   in new slots; old slots keep theirs, which `f` lists in every snapshot after, and what they hold is sent under
//!   it. Each header under the new id names the one before, so that a crash that leaves nothing but the first of them
//!   does not make strangers of all old slots.
//! - **A backup that was put back**, on the machine that it is of: nothing in the directory tells. The ring goes on under its
//!   id, and gives seqs and offsets again that its other life gave to other records; so (ring id, seq) names a record for
//!   ever within one life only. What remembers the other life is its upstream: there it is found out, announced, and told apart
//!   by an incarnation beside the ring's id (see `forward`, which also says why not by a new id: what is collected
//!   before the upstream is reached has to stand under the old one). Exports of both lives are not to be imported
//!   into one ring: what came second would pass for what is there already.
//!
//! # How recovery decides
//!
//! It reads all slot headers; syncs the newest slots; takes the newest whole snapshot; walks
//! that slot, all later ones, the newest of each lane and what of the journal is not spent; plays the frames that follow each other in order of commit.
//! `synced through` of a process is the highest that any of its frames says. A hole that begins at or below it, and a
//! bad frame at or below it, is **corrupt**; above it, **lost unsynced**, which never contains an acknowledged record
//! as long as a later frame of that process survived to say so. What was lost unsynced is kept as ranges (`u`), so that
//! readers and later recoveries give the same reason. A hole above it, or a damaged header in a lane's
//! newest slot after an unclean end, makes the **tail unknown**: counts are then exact but for that last commit.
//! An id that a run, a prev count or a slot header's starts name is taken, also where the entry of its topic is lost: `n`
//! is then put again, so that a recovery that begins at a later snapshot does not give it to another name.
//! Older slots are not walked at start; their damage is met, counted and announced by whoever reads, and all of it by
//! [`verify`].
//!
//! # What recovery reads
//!
//! The same with the root page and without it: of every slot the header, one page; of each lane its newest slot; and the
//! slots of the journal, three or four, since a record may stand there and nowhere else, in any of them until it is
//! copied. No slot of these is read twice over:
//!
//! - Each is walked once, in windows that do not overlap. Payloads are not kept, or memory would grow with the slots.
//! - So what only the journal has is read again, frame by frame, to be the tails; and each lane's newest copy, for what
//!   its directory says.
//! - The newest snapshot is read twice before that, and nothing behind it: for the ids that are this ring's, and for the
//!   entries to begin with. It takes a quarter of a slot at most.
//! - The headers of the slots that are synced first are looked at again after it.
//!
//! Where the power went while a slot was begun, there is more. Of a log whose newest slot was opened in vain, or of a lane
//! whose newest is later than the snapshot that holds, the slot before is walked too. A slot without a header is walked
//! for its newest generation, for what it is, and to know whether its log went on in the one before; only then for its
//! commits: four times. The slots that a crash can leave so are those of one commit. It is all counted in `reads_tests`.
//!
//! # Lanes by name, and topics that move
//!
//! Frames, slots and cursors know lanes by number; `a` says what each is called, so that the order of a config, which is
//! the order of sending and eviction, may change without making one lane's records another's. A lane that is not in the
//! options any more keeps its number and its records, and is evicted first.
//!
//! A topic that changes lanes leaves its records behind. All batches are sealed first, so no frame has records from both
//! sides; `h` and the topic's entry stand in front of its first record in the new lane, in the same frame or an earlier
//! one. A crash in between leaves the topic where it was: until the entries are durable, snapshots have its old lane and
//! slots of both lanes list its offsets. Where the entries rot before a snapshot has them, its records in another lane than
//! it should be in say the same.
//!
//! # What is forgotten
//!
//! `s`, `x` and `c` come with every crash or boot, and a ring lives for ten years of them. They answer questions about
//! frames, so recovery, which alone adds to them and sees what all slots are, forgets those that no frame can ask for.
//! A slot begun in one session holds nothing of an earlier one, and nothing later than the session that began its lane's
//! next slot: an `s` outside all such ranges is dropped. So is an `x` whose slot has another generation now. A `c` is
//! kept for every boot in such a range; of a slot that was walked, for the boots that its frames name. Slots that are
//! free again but not yet written over count like the others; and while one cannot be read, or its header is lost, or
//! it is set aside, nothing is dropped, since anything may be in it. No tombstone is written: the next snapshot is
//! without the entry, and a recovery that begins at an older one drops it again. A slot only ever goes away between two
//! recoveries, so what none could ask for is never asked for later.
//!
//! A lane that hardly writes keeps one slot for years, and with it all sessions since. So there is a bound besides: the
//! newest 512 `s`, 512 `x` and 1,024 `c`. Beyond it a frame that no recovery could read, in a slot that 512 unclean
//! ends did not replace, might show itself as if it were alive, and records of the oldest boots have no wall time.
//!
//! # Bounds
//!
//! Files: slots x `slot_bytes` + 8,192 <= `max_bytes` (at least 4 slots), fewer where the file system has no room (it
//! is asked again 15 s later, when a slot is opened). First reused is a free slot, then a new one, then the oldest that
//! every sink has passed, then the oldest of the lowest lane above its reserve, whose unread records are counted as
//! evicted; one with unread records of a topic that keeps them (see `keep`) only when there is no other. At most a
//! quarter is kept back after
//! failed writes. Memory: 1 MiB that waits for the disk, 512 KiB of decoded frames (256 at most), three windows of 64
//! KiB or one largest frame, one section decrypted, two reads under way, and the state: 64 KiB and 4,096 entries per owner, `slot_bytes` / 4
//! together; of each lane, 64 KiB of records and one commit that stand in the journal alone. A frame is sealed at 64 KiB raw, for a group at 96; a larger record is alone in its own. A record is at most the smaller of
//! 512 KiB and `slot_bytes` / 4, key, value and attributes together. At most 8 lanes, 256 topics, 16 partitions each.

mod batch;
mod budget;
mod cache;
mod cipher;
mod core;
mod disk;
mod drive;
mod facts;
mod format;
mod found;
mod frame;
mod groups;
mod identity;
mod journal;
mod keep;
mod lanes;
mod leave;
mod live;
mod memdisk;
mod opening;
mod reader;
mod recovery;
mod replay;
mod restore;
mod sessions;
mod slots;
mod spill;
pub mod stat;
mod state;
mod topics;
mod trail;
mod types;
mod unpack;
pub mod verify;
mod walk;
mod wire;
mod writer;

#[cfg(test)]
mod cipher_tests;
#[cfg(test)]
mod reads_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trial_tests;
#[cfg(test)]
mod verify_tests;

pub use self::core::Ring;
pub use cipher::{Key, Keys, NoKey, Nonces};
pub use disk::*;
pub use drive::drive;
pub use format::Formats;
pub use frame::{Entry, Frame};
pub use lanes::Move;
pub use memdisk::MemDisk;
pub use reader::{LaneReader, PartReader, ReadStep};
pub use types::*;

use crate::lane::LaneId;
use crate::limits::PAGE;
use crate::time::Span;

/// Bytes of the `root` file: two pages.
pub const ROOT_BYTES: u64 = 2 * PAGE as u64;
