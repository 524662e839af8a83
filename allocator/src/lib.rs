//! The gateway's allocator: mimalloc, asked for aligned memory only where that is needed.
//!
//! The crate `mimalloc` asks it for aligned memory each time. Beyond 1 KiB mimalloc then reserves
//! more than was wanted, unless the size is a power of two, and every other block costs a check that
//! it is aligned: 2 % of a call's instructions. Here it is asked as `malloc` is, wherever what
//! `malloc` promises is enough.
//!
//! It is a crate of its own since the gateway itself forbids unsafe code.
#![no_std]

use core::{
    alloc::{GlobalAlloc, Layout},
    ffi::c_void,
};

use libmimalloc_sys as mi;

/// The alignment that mimalloc gives each block that is as large (its `MI_MAX_ALIGN_SIZE`); a
/// smaller block is aligned to its size, if that is a power of two.
const ALIGN_MAX: usize = 16;

/// mimalloc, as a global allocator.
#[derive(Debug, Clone, Copy)]
pub struct Mimalloc;

/// Whether a block of this layout is aligned without being asked for.
const fn is_plain(layout: Layout) -> bool {
    layout.align() <= ALIGN_MAX && layout.align() <= layout.size()
}

// SAFETY: mimalloc hands out each block once, of the size that was asked for and, as `is_plain` or
// its own functions for aligned memory have it, of the alignment; it never unwinds, and fails with
// null. Its `mi_free` takes what any of its functions gave.
unsafe impl GlobalAlloc for Mimalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: both take any size, and the second any power of two.
        let block = unsafe {
            if is_plain(layout) {
                mi::mi_malloc(layout.size())
            } else {
                mi::mi_malloc_aligned(layout.size(), layout.align())
            }
        };
        block.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as `alloc`.
        let block = unsafe {
            if is_plain(layout) {
                mi::mi_zalloc(layout.size())
            } else {
                mi::mi_zalloc_aligned(layout.size(), layout.align())
            }
        };
        block.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller vouches that it was allocated here.
        unsafe { mi::mi_free(block.cast::<c_void>()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let is_plain = is_plain(layout) && layout.align() <= size;
        // SAFETY: the caller vouches that it was allocated here. What `mi_realloc` moves is aligned
        // as what `mi_malloc` gives.
        let block = unsafe {
            if is_plain {
                mi::mi_realloc(block.cast(), size)
            } else {
                mi::mi_realloc_aligned(block.cast(), size, layout.align())
            }
        };
        block.cast()
    }
}
