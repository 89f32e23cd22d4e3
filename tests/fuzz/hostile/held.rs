//! What a decoder asks of the allocator, counted. The allocator of the program that includes this counts for each thread
//! what it holds; a `realloc` holds the old and the new for a moment. What C code takes (zstd) is not seen.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn taken(bytes: usize) {
    HELD.set(HELD.get().wrapping_add_unsigned(bytes));
    MOST.set(MOST.get().max(HELD.get()));
}

fn given(bytes: usize) {
    HELD.set(HELD.get().wrapping_sub_unsigned(bytes));
}

#[allow(unsafe_code, reason = "the trait is unsafe; everything is handed to the system's allocator as it came")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        taken(size);
        given(layout.size());
        unsafe { System.realloc(place, layout, size) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        given(layout.size());
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Does it, and fails where at any time it holds more than `most` bytes beside what was held before.
pub fn within<T>(most: usize, what: &str, work: impl FnOnce() -> T) -> T {
    let before = HELD.get();
    MOST.set(before);
    let done = work();
    let held = MOST.get() - before;
    assert!(held <= most as isize, "{what} holds {held} bytes; {most} are its bound");
    done
}
