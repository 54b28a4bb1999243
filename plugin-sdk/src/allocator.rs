//! The allocator of a plugin.
//!
//! An instance lives for one call, so managing freed memory is not worthwhile. Growing the memory is expensive: the
//! host's kernel then changes the protection of its pages, and reverts that for the next instance, both under one
//! lock for all threads of the host. Therefore allocations come one after another from an [`Arena`] that is part of
//! the memory from the start. Only allocations that do not fit there use the usual allocator, which grows the memory.

// An allocator is inherently unsafe; all unsafe code of the crate is in this module.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;

/// Bytes that a call may allocate before the memory grows: several times the needs of a usual decision, and the
/// amount of an instance's memory that the host keeps for the next instance.
#[cfg(target_family = "wasm")]
const SIZE: usize = 256 << 10;

#[cfg(target_family = "wasm")]
#[global_allocator]
static ALLOCATOR: Arena<SIZE, std::alloc::System> = Arena::new(std::alloc::System);

/// Allocates from its own bytes while they last, then from another allocator. Only the last allocation can grow,
/// shrink or be freed in place; other freed memory is lost.
#[repr(C, align(16))]
struct Arena<const SIZE: usize, Rest> {
    bytes: UnsafeCell<MaybeUninit<[u8; SIZE]>>,
    used: Cell<usize>,
    rest: Rest,
}

// SAFETY: a WebAssembly instance without atomics has one thread, and this module is excluded with atomics.
#[cfg(target_family = "wasm")]
unsafe impl<const SIZE: usize, Rest: Sync> Sync for Arena<SIZE, Rest> {}

impl<const SIZE: usize, Rest> Arena<SIZE, Rest> {
    const fn new(rest: Rest) -> Self {
        Self { bytes: UnsafeCell::new(MaybeUninit::uninit()), used: Cell::new(0), rest }
    }

    fn base(&self) -> *mut u8 {
        self.bytes.get().cast()
    }

    /// Returns the offset of an allocation in the arena; none for an allocation of the other allocator.
    fn place(&self, piece: *mut u8) -> Option<usize> {
        piece.addr().checked_sub(self.base().addr()).filter(|place| *place < SIZE)
    }

    /// Allocates the next bytes.
    fn take(&self, layout: Layout) -> Option<*mut u8> {
        let free = self.base().addr().checked_add(self.used.get())?;
        let start = free.checked_next_multiple_of(layout.align())? - self.base().addr();
        let end = start.checked_add(layout.size()).filter(|end| *end <= SIZE)?;
        self.used.set(end);
        Some(self.base().wrapping_add(start))
    }

    /// Resizes the last allocation in place.
    fn resize(&self, place: usize, size: usize, wanted: usize) -> bool {
        let last = place + size == self.used.get();
        let end = place.checked_add(wanted).filter(|end| last && *end <= SIZE);
        end.inspect(|end| self.used.set(*end)).is_some()
    }
}

// SAFETY: allocations of the arena do not overlap, because each starts after all live ones. The arena is static, so
// it outlives them. An allocation is freed by the allocator that made it, which its address identifies.
unsafe impl<const SIZE: usize, Rest: GlobalAlloc> GlobalAlloc for Arena<SIZE, Rest> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.take(layout) {
            Some(piece) => piece,
            // SAFETY: the caller's guarantees for this function apply.
            None => unsafe { self.rest.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match self.place(piece) {
            Some(place) => drop(self.resize(place, layout.size(), 0)),
            // SAFETY: it is not in the arena, so the other allocator made it.
            None => unsafe { self.rest.dealloc(piece, layout) },
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, wanted: usize) -> *mut u8 {
        let Some(place) = self.place(piece) else {
            // SAFETY: it is not in the arena, so the other allocator made it.
            return unsafe { self.rest.realloc(piece, layout, wanted) };
        };
        if self.resize(place, layout.size(), wanted) || wanted <= layout.size() {
            return piece;
        }
        // SAFETY: the caller guarantees that `wanted` is valid for this alignment. The new allocation is separate and
        // larger.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(wanted, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(piece, layout.size());
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn pieces_are_aligned_and_apart_and_what_does_not_fit_comes_from_the_other_allocator() {
        let arena = Arena::<256, _>::new(System);
        let sizes = [(1, 1), (8, 8), (3, 2), (16, 16), (100, 4), (90, 1), (200, 8), (64, 1)];
        let pieces: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(number, &(size, align))| {
                // SAFETY: no size is 0.
                let piece = unsafe { arena.alloc(layout(size, align)) };
                assert_eq!(piece.addr() % align, 0);
                // SAFETY: it has this many bytes.
                unsafe { piece.write_bytes(number as u8, size) };
                piece
            })
            .collect();
        let within: Vec<_> = pieces.iter().map(|piece| arena.place(*piece).is_some()).collect();
        assert_eq!(within, [true, true, true, true, true, true, false, false]);
        for (number, (piece, &(size, align))) in pieces.into_iter().zip(&sizes).enumerate() {
            // SAFETY: it has this many bytes, was written, and is freed once.
            unsafe {
                assert!(std::slice::from_raw_parts(piece, size).iter().all(|byte| *byte == number as u8), "{number}");
                arena.dealloc(piece, layout(size, align));
            }
        }
    }

    #[test]
    fn the_last_piece_grows_shrinks_and_comes_back_in_place() {
        let arena = Arena::<64, _>::new(System);
        // SAFETY: no size is 0, and each allocation is used as it was made.
        unsafe {
            let first = arena.alloc(layout(8, 1));
            assert_eq!(arena.realloc(first, layout(8, 1), 60), first);
            assert_eq!(arena.realloc(first, layout(60, 1), 4), first);
            let second = arena.alloc(layout(4, 1));
            assert_eq!(second, first.add(4));
            arena.dealloc(second, layout(4, 1));
            assert_eq!(arena.alloc(layout(60, 1)), second);
        }
    }

    #[test]
    fn a_piece_in_the_middle_moves_with_its_bytes_also_out_of_the_arena() {
        let arena = Arena::<64, _>::new(System);
        // SAFETY: no size is 0, and each allocation is used as it was made.
        unsafe {
            let first = arena.alloc(layout(8, 1));
            first.copy_from_nonoverlapping(b"12345678".as_ptr(), 8);
            let last = arena.alloc(layout(8, 1));
            assert_eq!(arena.realloc(first, layout(8, 1), 3), first);
            let moved = arena.realloc(first, layout(8, 1), 16);
            assert!(moved != first && arena.place(moved).is_some());
            let out = arena.realloc(moved, layout(16, 1), 1000);
            assert_eq!((arena.place(out), std::slice::from_raw_parts(out, 8)), (None, b"12345678".as_slice()));
            let out = arena.realloc(out, layout(1000, 1), 2000);
            assert_eq!(std::slice::from_raw_parts(out, 8), b"12345678");
            arena.dealloc(out, layout(2000, 1));
            arena.dealloc(last, layout(8, 1));
        }
    }

    #[test]
    fn what_is_asked_for_as_zeros_is_zeros_also_where_something_was_before() {
        let arena = Arena::<64, _>::new(System);
        // SAFETY: no size is 0, and each allocation is used as it was made.
        unsafe {
            let first = arena.alloc(layout(32, 1));
            first.write_bytes(7, 32);
            arena.dealloc(first, layout(32, 1));
            let second = arena.alloc_zeroed(layout(32, 1));
            assert_eq!(std::slice::from_raw_parts(second, 32), [0; 32]);
        }
    }

    #[test]
    fn a_size_beyond_all_memory_is_not_given_from_the_arena() {
        let arena = Arena::<64, _>::new(System);
        assert_eq!(arena.take(layout(isize::MAX as usize - 64, 16)), None);
        assert_eq!(arena.used.get(), 0);
    }
}
