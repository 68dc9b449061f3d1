//! std's allocator, with a count of what it has given out: for the tool, which tells what a server holds from what the
//! system's heap keeps besides.
//!
//! One file for all systems, since std's allocator is one for all.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The allocator of a program (`#[global_allocator]`) that wants to know how much memory it holds. Counting costs one atomic
/// addition for each call.
#[derive(Debug, Default)]
pub struct CountingAllocator {
    /// Wraps: a thread may subtract what another is about to add.
    allocated: AtomicUsize,
}

impl CountingAllocator {
    /// One that has given out nothing yet.
    #[must_use]
    pub const fn new() -> CountingAllocator {
        CountingAllocator { allocated: AtomicUsize::new(0) }
    }

    /// Bytes that were asked for and not given back, without what the system's heap needs or keeps besides.
    #[must_use]
    pub fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed) as u64
    }

    fn count(&self, block: *mut u8, before: usize, now: usize) -> *mut u8 {
        // Without memory all is as before.
        if !block.is_null() {
            self.allocated.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }
        block
    }
}

// SAFETY: each call is handed on as it is, so what `System` keeps to is kept to; counting touches no block and never panics.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the contract, which is the same.
        self.count(unsafe { System.alloc(layout) }, 0, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        self.count(unsafe { System.alloc_zeroed(layout) }, 0, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; `block` is one of `System`'s, as all are that were given out here.
        self.count(unsafe { System.realloc(block, layout, size) }, layout.size(), size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) };
        self.allocated.fetch_sub(layout.size(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_out_is_counted_until_it_comes_back() {
        let allocator = CountingAllocator::new();
        let layout = |size| Layout::from_size_align(size, 8).expect("a layout");
        // SAFETY: no layout is empty; each block is given back once, with the layout that it has then.
        unsafe {
            let one = allocator.alloc(layout(100));
            let zeros = allocator.alloc_zeroed(layout(50));
            assert!(!one.is_null() && !zeros.is_null());
            assert_eq!(allocator.allocated(), 150);
            let one = allocator.realloc(one, layout(100), 3000);
            assert_eq!((one.is_null(), allocator.allocated()), (false, 3050));
            let one = allocator.realloc(one, layout(3000), 10);
            assert_eq!((one.is_null(), allocator.allocated()), (false, 60));
            allocator.dealloc(zeros, layout(50));
            assert_eq!(allocator.allocated(), 10);
            allocator.dealloc(one, layout(10));
        }
        assert_eq!(allocator.allocated(), 0);
    }

    #[test]
    fn what_was_not_given_out_is_not_counted() {
        let allocator = CountingAllocator::new();
        assert!(allocator.count(std::ptr::null_mut(), 0, 100).is_null());
        assert_eq!(allocator.allocated(), 0);
    }
}
