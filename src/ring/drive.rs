//! Running a ring against a disk in one thread: for tools and tests. The node has threads for it.

use super::{Disk, Ring, execute};
use crate::time::BootTime;

/// Runs what the ring asks for until it asks for nothing more at `now`. Gives the number of commands run.
pub fn drive(ring: &mut Ring, disk: &mut dyn Disk, now: BootTime) -> usize {
    let mut ran = 0;
    while let Some(command) = ring.poll(now) {
        ring.complete(now, execute(command, disk));
        ran += 1;
    }
    ran
}
