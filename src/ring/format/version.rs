//! Which versions of the format a program reads, and which one it writes.
//!
//! A version is of the whole format: of headers, directories, payloads and of what the state entries say (see [`super::super`]). A
//! slot is of one version, which its header and all of its frames name; slots of several stand in one ring. A program
//! reads [`Formats::oldest`] to [`Formats::newest`] and sets aside what is neither.
//!
//! A new version is not written before the program that brings it is confirmed. Until then the program before may come back,
//! and has to read what was written meanwhile:
//!
//! - A ring that is begun takes the newest.
//! - A ring that is there is gone on with in the version of its slots: what is open is written to its end in its own, the
//!   next slot is begun in the newest.
//! - On trial the next slot is begun in the version of the newest one there: the program before wrote that, so it reads it.
//!   By its generation, not by its number: a program that was put back by hand set later versions aside, and did not
//!   write them. A ring that is begun on trial takes the oldest, since nothing tells what the program before knows, and one
//!   that reads none of this program's could not have handed its ring over either.
//! - The root page, a hint, is of the version that slots are begun in: on trial the program before can tell a clean end.
//!
//! So each crash is harmless. One on trial leaves slots of the old version alone, whatever became of the mark that says so:
//! with it the program goes on like this, and without it the update is confirmed. One right after the confirmation leaves the
//! old version, or a whole slot of the new one: nothing that was there is converted. And where the mark comes back with a
//! power cut, the newest slot says that the new version was written already, which only a confirmed program does.
//!
//! Whoever makes a version: raises `NEWEST`, has `parse` and `emit` ask for the version (of the slot or the header, never for
//! `NEWEST`), and leaves what writes the old one until `OLDEST` is raised, which takes that every ring in the field was
//! rewritten by a program of both. A frame that was sealed in another version than the slot's is packed again when it is
//! placed.

use super::Bad;

/// The oldest version that this program reads, and writes on trial.
pub const OLDEST: u8 = 1;
/// The newest, which it writes once it is confirmed.
pub const NEWEST: u8 = 1;

const _: () = assert!(0 < OLDEST && OLDEST <= NEWEST && NEWEST - OLDEST < 2, "an update of two versions has no tests");

/// The versions of the format that a ring is read and written in. Tests have a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    pub oldest: u8,
    pub newest: u8,
    /// The program is on trial: the one before may come back, and has to read what is written.
    pub on_trial: bool,
}

impl Default for Formats {
    fn default() -> Self {
        Self { oldest: OLDEST, newest: NEWEST, on_trial: false }
    }
}

impl Formats {
    /// A version that was read from the disk.
    pub fn known(self, version: u16) -> Result<u8, Bad> {
        let known = u8::try_from(version).ok().filter(|v| (self.oldest..=self.newest).contains(v));
        known.ok_or(Bad::Version(version))
    }

    /// What the next slot is begun in, where the newest one there is of this version; None: there is none.
    pub fn writes(self, there: Option<u8>) -> u8 {
        if self.on_trial { there.unwrap_or(self.oldest) } else { self.newest }
    }
}
