//! The memory of all guests together: what one takes, no other can have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shared by the modules of a configuration; by default there is no end to it.
#[derive(Clone, Debug, Default)]
pub struct Budget(Option<Arc<Total>>);

#[derive(Debug)]
struct Total {
    bytes: usize,
    taken: AtomicUsize,
}

/// A guest's part of it, given back when that ends.
#[derive(Debug, Default)]
pub struct Share {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// Bytes of linear memory.
    pub fn new(bytes: usize) -> Self {
        Self(Some(Arc::new(Total { bytes, taken: AtomicUsize::new(0) })))
    }

    /// All of it; None: there is no end to it.
    pub fn bytes(&self) -> Option<usize> {
        self.0.as_ref().map(|total| total.bytes)
    }

    /// What those that run have of it.
    pub fn taken(&self) -> usize {
        self.0.as_ref().map_or(0, |total| total.taken.load(Ordering::Relaxed))
    }

    fn left(&self) -> usize {
        self.bytes().map_or(usize::MAX, |bytes| bytes.saturating_sub(self.taken()))
    }
}

impl Share {
    pub fn of(budget: &Budget) -> Self {
        Self { budget: budget.clone(), bytes: 0 }
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What the guest may have at most, now.
    pub fn most(&self) -> usize {
        self.bytes.saturating_add(self.budget.left())
    }

    /// It has so much now.
    pub fn set(&mut self, bytes: usize) {
        if let Some(total) = &self.budget.0 {
            total.taken.fetch_add(bytes, Ordering::Relaxed);
            total.taken.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_has_no_other_gets_until_it_is_given_back() {
        let budget = Budget::new(100);
        let (mut one, mut two) = (Share::of(&budget), Share::of(&budget));
        one.set(60);
        assert_eq!((one.most(), two.most()), (100, 40));
        two.set(40);
        one.set(30);
        assert_eq!((one.most(), two.most()), (60, 70));
        drop(one);
        assert_eq!(two.most(), 100);
        assert_eq!(Share::of(&Budget::default()).most(), usize::MAX);
    }
}
