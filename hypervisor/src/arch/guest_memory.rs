//! The one copy layer: how ring 0 reads and writes a guest's memory by the guest's own addresses.
//!
//! It walks the guest kernel's tables through the direct map, so it works the same whether or not the guest's root
//! is the one in force (isolated or shared form), and never faults.
//!
//! # Invariants
//! - M1: only addresses the ABI gives to guests are walked: canonical, outside the hypervisor's slots.
//! - M2: a walk's result is used at once, with interrupts off. A frame found through a present (for writes:
//!   writable) entry carries that entry's reference; should another CPU drop it meanwhile, the frame becomes nothing
//!   else before this CPU has acknowledged a flush, which it does only where no result is live.
//! - M3: what a guest can change while it is being read is copied once, then looked at.

use crate::arch::walk_cache::{PAGES, REGION_SHIFT, REGIONS};
use crate::domain::Vcpu;
use crate::layout::{PAGE, guest_address_ok, guest_range_ok};
use crate::memory::phys::Words;
use crate::memory::{frame_table, phys};
use core::sync::atomic::Ordering;
use frames::{Class, Entry, Mfn};
use guest_abi::{Errno, Wire};

/// An address that the guest's tables do not map as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The address.
    pub address: u64,
    /// Whether a write was asked for.
    pub write: bool,
    /// Whether a translation exists but forbids it.
    pub present: bool,
}

impl From<Fault> for Errno {
    fn from(_: Fault) -> Errno {
        Errno::Fault
    }
}

/// Largest structure copied as a value.
const VALUE_BYTES: usize = 256;

/// A guest's memory as its kernel root maps it.
#[derive(Clone, Copy)]
pub struct GuestMemory {
    vcpu: &'static Vcpu,
    root: Mfn,
}

impl GuestMemory {
    /// Memory behind the kernel root of a vCPU, which holds a reference on it (D2). To be made by the CPU the vCPU runs
    /// on (D1): the cache is that CPU's alone.
    #[inline]
    pub fn new(root: Mfn, vcpu: &'static Vcpu) -> GuestMemory {
        GuestMemory { vcpu, root }
    }

    /// What tells whether something remembered is still good.
    #[inline]
    fn stamp(&self) -> u64 {
        let generation = self.vcpu.domain.generation.load(Ordering::Acquire);
        generation.wrapping_add(self.vcpu.walks.roots.get())
    }

    /// The L1 table for an address, and whether the levels above allow writes.
    #[inline]
    fn table(&self, address: u64) -> Option<(Mfn, bool)> {
        if !guest_address_ok(address) {
            return None; // M1
        }
        let region = address >> REGION_SHIFT;
        let known = &self.vcpu.walks.regions[region as usize % REGIONS];
        // Read before the walk: what changes meanwhile makes the result stale at once.
        let stamp = self.stamp();
        if known.region.get() == region && known.stamp.get() == stamp {
            return Some((Mfn(known.table.get()), known.writable.get()));
        }
        let (table, writable) = self.walk(address)?;
        known.region.set(region);
        known.stamp.set(stamp);
        known.table.set(table.0);
        known.writable.set(writable);
        Some((table, writable))
    }

    #[inline(never)]
    fn walk(&self, address: u64) -> Option<(Mfn, bool)> {
        let mut table = self.root;
        let mut writable = true;
        for level in [4, 3, 2] {
            let index = (address >> (12 + 9 * (level - 1)) & 511) as usize;
            let entry = Entry(phys::word(table, index).load(Ordering::Relaxed));
            if !entry.is_present() {
                return None;
            }
            writable &= entry.is_writable();
            table = entry.mfn();
        }
        Some((table, writable))
    }

    /// The leaf entry for an address, and where it lies: table and index.
    #[inline]
    pub fn leaf(&self, address: u64) -> Option<(Mfn, usize, Entry)> {
        let (table, _) = self.table(address)?;
        let index = (address >> 12 & 511) as usize;
        let entry = Entry(phys::word(table, index).load(Ordering::Relaxed));
        Some((table, index, entry))
    }

    /// The page an address lies in.
    #[inline(always)]
    fn page(&self, address: u64, write: bool) -> Result<&'static Words, Fault> {
        let page = address / PAGE;
        let known = &self.vcpu.walks.pages[page as usize % PAGES];
        if known.page.get() == page
            && known.stamp.get() == self.stamp()
            && known.leaf.get().load(Ordering::Relaxed) == known.value.get()
            && (!write || known.writable.get())
        {
            return Ok(known.memory.get());
        }
        self.find(address, write)
    }

    /// As [`Self::page`], by the tables.
    #[inline(never)]
    fn find(&self, address: u64, write: bool) -> Result<&'static Words, Fault> {
        let fault = |present| Fault {
            address,
            write,
            present,
        };
        let stamp = self.stamp();
        let Some((table, writable)) = self.table(address) else {
            return Err(fault(false));
        };
        let leaf = phys::word(table, (address >> 12 & 511) as usize);
        let mut entry = Entry(leaf.load(Ordering::Relaxed));
        if !entry.is_present() {
            return Err(fault(false));
        }
        let writable = writable && entry.is_writable();
        if write && !writable {
            return Err(fault(true));
        }
        // Device registers are no place for hypercall arguments.
        if !matches!(frame_table::class(entry.mfn()), Class::Ram(_)) {
            return Err(fault(true));
        }
        // What the CPU would have noted had the guest made the access itself.
        let noted = if write {
            Entry::ACCESSED | Entry::DIRTY
        } else {
            Entry::ACCESSED
        };
        if entry.0 & noted != noted {
            leaf.fetch_or(noted, Ordering::Relaxed);
            // Had it become another entry meanwhile, what is remembered is not what is there, and no harm is done.
            entry.0 |= noted;
        }
        let memory = phys::page(entry.mfn());
        let page = address / PAGE;
        let known = &self.vcpu.walks.pages[page as usize % PAGES];
        known.page.set(page);
        known.stamp.set(stamp);
        known.leaf.set(leaf);
        known.value.set(entry.0);
        known.writable.set(writable && entry.0 & Entry::DIRTY != 0);
        known.memory.set(memory);
        Ok(memory)
    }

    /// The frame behind an address that may be read.
    pub fn frame(&self, address: u64) -> Result<Mfn, Fault> {
        let fault = Fault {
            address,
            write: false,
            present: false,
        };
        self.page(address, false)?;
        let (_, _, entry) = self.leaf(address).ok_or(fault)?;
        entry.is_present().then(|| entry.mfn()).ok_or(fault)
    }

    /// Copies from the guest.
    pub fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Fault> {
        self.pieces(address, to.len(), false, |page, offset, from, len| {
            phys::read_page(page, offset, &mut to[from..from + len]);
        })
    }

    /// Copies to the guest. On an error, what lies before the address in the error was written.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), Fault> {
        self.pieces(address, from.len(), true, |page, offset, at, len| {
            phys::write_page(page, offset, &from[at..at + len]);
        })
    }

    #[inline]
    fn pieces(
        &self,
        address: u64,
        len: usize,
        write: bool,
        mut each: impl FnMut(&'static Words, usize, usize, usize),
    ) -> Result<(), Fault> {
        if !guest_range_ok(address, len as u64) {
            return Err(Fault {
                address,
                write,
                present: false,
            });
        }
        let mut done = 0;
        while done < len {
            // Cannot wrap: the range was checked.
            let at = address + done as u64;
            let offset = (at % PAGE) as usize;
            let piece = (PAGE as usize - offset).min(len - done);
            each(self.page(at, write)?, offset, done, piece);
            done += piece;
        }
        Ok(())
    }

    /// Reads a structure of the interface.
    #[inline]
    pub fn value<T: Wire>(&self, address: u64) -> Result<T, Fault> {
        // A buffer of about the structure's size: clearing a larger one would cost more than the copy.
        match T::SIZE {
            0..=8 => self.value_in::<T, 8>(address),
            9..=16 => self.value_in::<T, 16>(address),
            17..=32 => self.value_in::<T, 32>(address),
            33..=64 => self.value_in::<T, 64>(address),
            _ => self.value_in::<T, VALUE_BYTES>(address),
        }
    }

    #[inline]
    fn value_in<T: Wire, const N: usize>(&self, address: u64) -> Result<T, Fault> {
        const { assert!(T::SIZE <= VALUE_BYTES) };
        let mut bytes = [0u8; N];
        // The arm of the caller's match that is taken has room.
        let Some(part) = bytes.get_mut(..T::SIZE) else {
            return Ok(T::ZERO);
        };
        let offset = address % PAGE;
        if T::SIZE.is_multiple_of(8) && address.is_multiple_of(8) && offset <= PAGE - T::SIZE as u64
        {
            // Nearly all of them: whole words in one page.
            let page = self.page(address, false)?;
            for (i, to) in part.chunks_exact_mut(8).enumerate() {
                let word = &page[(offset as usize / 8 + i) & 511];
                to.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
            }
        } else {
            self.read(address, part)?;
        }
        Ok(T::read_from(&bytes).unwrap_or(T::ZERO))
    }

    /// Writes a structure of the interface.
    #[inline]
    pub fn put<T: Wire>(&self, address: u64, value: &T) -> Result<(), Fault> {
        match T::SIZE {
            0..=8 => self.put_from::<T, 8>(address, value),
            9..=16 => self.put_from::<T, 16>(address, value),
            17..=32 => self.put_from::<T, 32>(address, value),
            33..=64 => self.put_from::<T, 64>(address, value),
            _ => self.put_from::<T, VALUE_BYTES>(address, value),
        }
    }

    #[inline]
    fn put_from<T: Wire, const N: usize>(&self, address: u64, value: &T) -> Result<(), Fault> {
        const { assert!(T::SIZE <= VALUE_BYTES) };
        let mut bytes = [0u8; N];
        let _ = value.write_to(&mut bytes);
        self.write(address, bytes.get(..T::SIZE).unwrap_or_default())
    }

    /// Where a run of words lies in memory, all of which could be written now: one place, or two where it crosses a
    /// page. The run is at most a page long and its address a multiple of 8.
    #[inline]
    pub fn writable_words(&self, address: u64, words: usize) -> Result<WordRun, Fault> {
        let bytes = words as u64 * 8;
        if !guest_range_ok(address, bytes) || !address.is_multiple_of(8) || bytes > PAGE {
            return Err(Fault {
                address,
                write: true,
                present: false,
            });
        }
        let first = self.page(address, true)?;
        let index = (address % PAGE / 8) as usize;
        let on_first = words.min(512 - index);
        let second = if on_first < words {
            // Cannot wrap: the range was checked.
            self.page(address + on_first as u64 * 8, true)?
        } else {
            first
        };
        Ok(WordRun {
            first,
            index,
            second,
        })
    }

    /// Writes a 32-bit number: counts that calls report.
    #[inline]
    pub fn put_u32(&self, address: u64, value: u32) -> Result<(), Fault> {
        if !address.is_multiple_of(4) {
            return self.put(address, &value);
        }
        phys::half(self.page(address, true)?, (address % PAGE / 4) as usize)
            .store(value, Ordering::Relaxed);
        Ok(())
    }

    /// Reads a 32-bit number whose place must be writable too.
    #[inline]
    pub fn counter(&self, address: u64) -> Result<u32, Fault> {
        if !address.is_multiple_of(4) {
            self.check_writable(address, 4)?;
            return self.value(address);
        }
        let page = self.page(address, true)?;
        Ok(phys::half(page, (address % PAGE / 4) as usize).load(Ordering::Relaxed))
    }

    /// Says whether a range could be written now, touching nothing: so that a call can refuse before it commits.
    pub fn check_writable(&self, address: u64, len: usize) -> Result<(), Fault> {
        self.pieces(address, len, true, |_, _, _, _| {})
    }
}

/// Words of a guest's memory that are about to be written (M2: at once).
pub struct WordRun {
    first: &'static Words,
    index: usize,
    second: &'static Words,
}

impl WordRun {
    /// Writes a word of the run.
    #[inline]
    pub fn put(&self, i: usize, word: u64) {
        // Cannot wrap: the index is below 512, and a run has at most 512 words.
        let at = self.index.wrapping_add(i);
        let page = if at < 512 { self.first } else { self.second };
        page[at & 511].store(word, Ordering::Relaxed);
    }
}
