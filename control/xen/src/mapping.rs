//! Memory of another domain, mapped here.
//!
//! # Invariants
//! - M1: `base` is a mapping of `len` bytes that belongs to this value alone and lives as long as it does.
//! - M2: nobody gets a reference into it. Every access is an atomic one of a byte or an aligned word, so that neither
//!   other threads nor the other domain can make one undefined, and each byte is read once per call.

use crate::sys;
use std::any::Any;
use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// A mapping of pages of another domain, in order. Dropping it unmaps them.
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    writable: bool,
    /// Given back after the unmapping.
    held: Option<Box<dyn Any + Send + Sync>>,
}

// SAFETY: M1: the mapping belongs to the value, not to a thread.
unsafe impl Send for Mapping {}
// SAFETY: M2: all accesses are atomic.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: M1, and nothing refers to it any more (M2).
        unsafe { sys::unmap(self.base, self.len) };
        self.held = None;
    }
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapping")
            .field("len", &self.len)
            .field("writable", &self.writable)
            .finish_non_exhaustive()
    }
}

impl Mapping {
    /// Takes over a mapping.
    ///
    /// # Safety
    /// M1 holds for `base` and `len`, of which `writable` is true only if it can be written.
    pub(crate) unsafe fn new(
        base: NonNull<u8>,
        len: usize,
        writable: bool,
        held: Option<Box<dyn Any + Send + Sync>>,
    ) -> Mapping {
        Mapping {
            base,
            len,
            writable,
            held,
        }
    }

    /// Bytes mapped, a multiple of a page.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it is, for the kernel and the hypervisor.
    pub(crate) fn address(&self) -> u64 {
        self.base.as_ptr().addr() as u64
    }

    /// Copies out of it.
    ///
    /// # Panics
    /// If `offset` and the length lead beyond its end.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        self.check(offset, to.len());
        let (head, words) = split(offset, to.len());
        let (first, rest) = to.split_at_mut(head);
        let (middle, last) = rest.split_at_mut(words * 8);
        for (i, byte) in first.iter_mut().enumerate() {
            *byte = self.byte(offset + i).load(Ordering::Relaxed);
        }
        for (i, word) in middle.chunks_exact_mut(8).enumerate() {
            let value = self.word(offset + head + i * 8).load(Ordering::Relaxed);
            word.copy_from_slice(&value.to_ne_bytes());
        }
        for (i, byte) in last.iter_mut().enumerate() {
            let at = offset + head + words * 8 + i;
            *byte = self.byte(at).load(Ordering::Relaxed);
        }
    }

    /// Copies into it.
    ///
    /// # Panics
    /// If `offset` and the length lead beyond its end, or it is mapped to read only.
    pub fn write(&self, offset: usize, from: &[u8]) {
        self.check_write(offset, from.len());
        let (head, words) = split(offset, from.len());
        let (first, rest) = from.split_at(head);
        let (middle, last) = rest.split_at(words * 8);
        for (i, byte) in first.iter().enumerate() {
            self.byte(offset + i).store(*byte, Ordering::Relaxed);
        }
        for (i, word) in middle.chunks_exact(8).enumerate() {
            let mut value = [0; 8];
            value.copy_from_slice(word);
            self.word(offset + head + i * 8)
                .store(u64::from_ne_bytes(value), Ordering::Relaxed);
        }
        for (i, byte) in last.iter().enumerate() {
            let at = offset + head + words * 8 + i;
            self.byte(at).store(*byte, Ordering::Relaxed);
        }
    }

    /// Zeroes a part of it.
    ///
    /// # Panics
    /// As [`Mapping::write`].
    pub fn zero(&self, offset: usize, len: usize) {
        const ZEROES: [u8; crate::PAGE] = [0; crate::PAGE];
        self.check_write(offset, len);
        let mut done = 0;
        while done < len {
            let part = (len - done).min(ZEROES.len());
            self.write(offset + done, &ZEROES[..part]);
            done += part;
        }
    }

    /// Reads a part of a file straight into it, without a copy between.
    ///
    /// # Errors
    /// The file's; [`io::ErrorKind::UnexpectedEof`] if it ends too soon.
    ///
    /// # Panics
    /// As [`Mapping::write`].
    pub fn read_file(
        &self,
        offset: usize,
        file: &File,
        file_offset: u64,
        len: usize,
    ) -> io::Result<()> {
        self.check_write(offset, len);
        let mut done = 0;
        while done < len {
            // SAFETY: within the mapping (checked), which is writable, and only the kernel writes there (M2).
            let got = unsafe {
                let to = self.base.add(offset + done);
                sys::read_at(file, to, len - done, file_offset + done as u64)
            };
            match got {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// A 32-bit word, seen no later than what is read after it.
    ///
    /// # Panics
    /// If it is not aligned or beyond the end.
    pub fn load(&self, offset: usize) -> u32 {
        self.half(offset).load(Ordering::Acquire)
    }

    /// Sets a 32-bit word, seen by others no earlier than what was written before it.
    ///
    /// # Panics
    /// If it is not aligned or beyond the end, or this is mapped to read only.
    pub fn store(&self, offset: usize, value: u32) {
        self.check_write(offset, 4);
        self.half(offset).store(value, Ordering::Release);
    }

    fn check(&self, offset: usize, len: usize) {
        let end = offset.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.len),
            "{len} bytes at {offset} are beyond a mapping of {}",
            self.len
        );
    }

    fn check_write(&self, offset: usize, len: usize) {
        self.check(offset, len);
        assert!(self.writable, "this is mapped to read only");
    }

    fn byte(&self, offset: usize) -> &AtomicU8 {
        debug_assert!(offset < self.len);
        // SAFETY: within the mapping, as all callers check; atomic, so that others may change it (M2).
        unsafe { AtomicU8::from_ptr(self.base.as_ptr().add(offset)) }
    }

    fn half(&self, offset: usize) -> &AtomicU32 {
        self.check(offset, 4);
        assert!(offset.is_multiple_of(4), "offset {offset} is not aligned");
        // SAFETY: within the mapping, aligned because the mapping is to a page; atomic (M2).
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset + 8 <= self.len && offset.is_multiple_of(8));
        // SAFETY: within the mapping and aligned, by `split` and the callers' check; atomic (M2).
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }
}

/// Bytes before the first aligned word of a range, and the words that follow them.
fn split(offset: usize, len: usize) -> (usize, usize) {
    let head = (offset.next_multiple_of(8) - offset).min(len);
    (head, (len - head) / 8)
}
