//! What a ring still holds that cannot write any more, for one that goes on in its place.

use std::sync::Arc;

use super::*;

impl Ring {
    /// Writes failed several times in a row: what is given from here on waits, and so do those who gave it.
    pub fn has_failed(&self) -> bool {
        self.writer.has_failed()
    }

    /// The frames of records that are not known to be durable; in each lane in order, from [`Ring::lane_durable`] on. The
    /// disk may hold some of them all the same: a sync that failed says nothing about what was written.
    pub fn unsynced_frames(&mut self) -> Vec<Arc<Frame>> {
        self.in_group = false;
        self.seal_all();
        let all = self.writer.under_way().iter().chain(&self.queue);
        // What every sink has passed needs no place any more.
        let all = all.filter(|sealed| !sealed.header.is_stub());
        all.filter_map(|sealed| sealed.frame.clone()).collect()
    }
}
