//! An input of the fuzzer as damage to a ring's files: bits and pages for what media do, fields and sections under right
//! checksums for what only a foe or another program would write.

use headwater::ring::{Disk, FileId, MemDisk, SlotId};

use super::image::{DISK, files, images};
use super::seal::{self, FRAME_HEADER, PAGE, Parts, put};

/// Bytes taken off the front of the input; zeros when it is used up.
pub struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn u16(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }

    fn some(&mut self) -> Vec<u8> {
        let len = usize::from(self.byte());
        self.take(len)
    }

    /// A number that a field may have trouble with.
    fn number(&mut self) -> u64 {
        match self.byte() % 6 {
            0 => 0,
            1 => u64::from(self.byte()),
            2 => u64::MAX - u64::from(self.byte()),
            3 => 1 << (self.byte() % 64),
            4 => self.u16() as u64,
            _ => (0..8).fold(0, |n, _| n << 8 | u64::from(self.byte())),
        }
    }
}

/// The ring that the input begins with.
pub fn begin(input: &mut Input<'_>) -> MemDisk {
    // Those of several MiB seldom: they take most of the time, and find little that small ones do not.
    let at = match input.byte() {
        255 => 5,
        248.. => 4,
        n => n % 4,
    };
    images()[usize::from(at)].clone()
}

/// One change. True: what media do; false: one under right checksums, which a ring has to survive but may believe.
pub fn change(disk: &mut MemDisk, input: &mut Input<'_>) -> bool {
    let op = input.byte();
    let files = files(disk);
    let file = files[usize::from(input.byte()) % files.len()];
    match op % 13 {
        0 => with(disk, file, |bytes| {
            let at = place(input, bytes.len());
            let new = input.some();
            let end = (at + new.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&new[..end - at]);
        }),
        1 => with(disk, file, |bytes| {
            let at = place(input, bytes.len());
            bytes[at] ^= 1 << (input.byte() % 8);
        }),
        2 => with(disk, file, |bytes| {
            let (at, sectors, fill) = (place(input, bytes.len()) & !511, input.byte(), input.byte());
            let end = (at + 512 * usize::from(sectors)).min(bytes.len());
            bytes[at..end].fill(fill);
        }),
        3 => copy_page(disk, file, files[usize::from(input.byte()) % files.len()], input),
        4 => with(disk, file, |bytes| {
            let len = input.number() as usize;
            bytes.resize(len.min(bytes.len() + (1 << 20)), 0);
        }),
        5 => drop(disk.remove(file)),
        6 => copy_file(disk, file, input.u16()),
        7 => with(disk, file, |bytes| {
            let (at, value, len) = (input.u16() % PAGE, input.number(), 1 << (input.byte() % 4));
            let len = len.min(PAGE - at).min(8);
            if bytes.len() >= 2 * PAGE {
                // The root has two pages; a slot's second one is no header, and its checksum is not looked at.
                let page = if file == FileId::Root { PAGE * usize::from(input.byte() % 2) } else { 0 };
                put(&mut bytes[page..], at, value, len);
                seal::page(&mut bytes[page..page + PAGE]);
            }
        }),
        8 => frame(disk, file, input, |frame, input| {
            let (at, value, len) = (input.u16() % FRAME_HEADER, input.number(), 1 << (input.byte() % 4));
            put(frame, at, value, len.min(FRAME_HEADER - at));
        }),
        9 => frame(disk, file, input, |frame, input| {
            let Some(parts) = Parts::of(frame) else { return };
            let new = input.some();
            let len = new.len().min(parts.directory.len());
            frame[parts.directory][..len].copy_from_slice(&new[..len]);
        }),
        10 => section(disk, file, input, 8),
        11 => section(disk, file, input, 11),
        _ => restamp(disk, file, input),
    }
    op % 13 < 7
}

fn with(disk: &mut MemDisk, file: FileId, change: impl FnOnce(&mut Vec<u8>)) {
    if let Some(bytes) = disk.file_mut(file).filter(|bytes| !bytes.is_empty()) {
        change(bytes);
    }
}

/// Somewhere in a file: near the beginning of one of its pages.
fn place(input: &mut Input<'_>, len: usize) -> usize {
    (usize::from(input.byte()) * PAGE + input.u16() % PAGE) % len.max(1)
}

fn copy_page(disk: &mut MemDisk, from: FileId, to: FileId, input: &mut Input<'_>) {
    let (source, target) = (usize::from(input.byte()) * PAGE, usize::from(input.byte()) * PAGE);
    let page = disk.file_mut(from).and_then(|bytes| bytes.get(source..source + PAGE)).map(<[u8]>::to_vec);
    with(disk, to, |bytes| {
        if let (Some(page), Some(out)) = (page, bytes.get_mut(target..target + PAGE)) {
            out.copy_from_slice(&page);
        }
    });
}

/// The same file once more under another number, as of a backup that was put beside it.
fn copy_file(disk: &mut MemDisk, from: FileId, to: usize) {
    let to = FileId::Slot(SlotId(to as u16));
    let Some(bytes) = disk.file_mut(from).cloned() else { return };
    let have: u64 = disk.list().expect("a list").iter().map(|(_, len)| len).sum();
    if have + (bytes.len() as u64) < DISK && disk.create(to, bytes.len() as u64).is_ok() {
        with(disk, to, |out| *out = bytes);
    }
}

/// Changes one frame of a slot and puts its checksums right.
fn frame(disk: &mut MemDisk, file: FileId, input: &mut Input<'_>, change: impl FnOnce(&mut [u8], &mut Input<'_>)) {
    with(disk, file, |bytes| {
        let frames = seal::frames(bytes);
        let Some(at) = frames.get(usize::from(input.byte()) % frames.len().max(1)) else { return };
        change(&mut bytes[*at..], input);
        seal::frame(&mut bytes[*at..]);
    });
}

/// Another payload or state section, as long as it is said to be or not; `codec` is where the header has its codec.
fn section(disk: &mut MemDisk, file: FileId, input: &mut Input<'_>, codec: usize) {
    frame(disk, file, input, |frame, input| {
        let Some(parts) = Parts::of(frame) else { return };
        let (coded, lies, new) = (input.byte(), input.byte(), input.some());
        let (payload, state) = if codec == 8 {
            (new.clone(), frame[parts.state].to_vec())
        } else {
            (frame[parts.payload].to_vec(), new.clone())
        };
        let used = parts.directory.end + payload.len() + state.len();
        if used > frame.len() {
            return;
        }
        frame[parts.directory.end..used].copy_from_slice(&[payload, state].concat());
        let lengths = if codec == 8 { 108 } else { 116 };
        let raw = if lies % 2 == 0 { new.len() as u64 } else { input.number() };
        frame[codec] = coded % 2;
        put(frame, lengths, raw, 4);
        put(frame, lengths + 4, new.len() as u64, 4);
        put(frame, 52, used.div_ceil(PAGE) as u64 * PAGE as u64, 4);
    });
}

/// A whole slot as it would be under another number or generation.
fn restamp(disk: &mut MemDisk, file: FileId, input: &mut Input<'_>) {
    let (generation, ring) = (input.number(), input.byte());
    let FileId::Slot(slot) = file else { return };
    with(disk, file, |bytes| {
        if bytes.len() < PAGE {
            return;
        }
        put(bytes, 56, slot.0.into(), 2);
        put(bytes, 64, generation, 8);
        bytes[24] ^= ring;
        seal::page(bytes);
        for at in seal::frames(bytes) {
            put(&mut bytes[at..], 40, slot.0.into(), 2);
            put(&mut bytes[at..], 32, generation, 8);
            bytes[at + 16] ^= ring;
            seal::frame(&mut bytes[at..]);
        }
    });
}
