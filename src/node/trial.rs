//! Whether this program is on trial: one that was put in the place of another and is watched before it is confirmed.
//!
//! Who watches it says so by a file in the data directory, [`MARK`], which is there before the new program first runs, and goes when
//! it is confirmed. As long as it is there the ring is written in the version of the format that it has, so that the program
//! before can go on with it (see `ring`, "Versions and flags"). In the data directory, because what it is about is the ring in
//! there: a card that is mounted late, or in another machine, has its mark with it.
//!
//! It is looked at when the ring is opened, and while it is there again every few seconds. It is never removed here. One
//! that cannot be looked at counts as there: the old version is always right. The config and all else that the node
//! writes (see `ring`, "Versions and flags") is not touched by a trial.

use std::path::Path;

use super::whole::again;
use crate::ring::Formats;

/// The file that says that the program is on trial. What is in it is for people.
pub const MARK: &str = "update-on-trial";

/// The versions that a ring in this directory is read and written in.
pub fn formats(dir: &Path) -> Formats {
    Formats { on_trial: is_marked(dir), ..Formats::default() }
}

/// A directory that is not there has no mark.
pub fn is_marked(dir: &Path) -> bool {
    again(|| dir.join(MARK).try_exists()).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_on_trial_as_long_as_the_mark_is_there_or_nobody_can_tell() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!formats(dir.path()).on_trial);
        assert!(!formats(&dir.path().join("none")).on_trial, "nothing is there to be gone on with");
        std::fs::write(dir.path().join(MARK), "").unwrap();
        assert!(formats(dir.path()).on_trial);
        std::fs::remove_file(dir.path().join(MARK)).unwrap();
        assert!(!formats(dir.path()).on_trial);
        // A path of which a part is no directory cannot be looked at.
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(is_marked(&dir.path().join("file")));
    }
}
