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

use crate::domain::Vcpu;
use crate::layout::{PAGE, guest_address_ok, guest_range_ok};
use crate::memory::{frame_table, phys};
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
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

/// Regions of 2 MiB whose L1 table was found lately: kernels name the same few again and again.
///
/// An entry is good while no upper-level entry of the domain has changed (its generation) and the vCPU keeps its root;
/// until then the root's references keep the table in place (D2, F4).
pub struct WalkCache {
    entries: [CachedRegion; CACHED],
}

#[derive(Default)]
struct CachedRegion {
    /// Address of the region over 2 MiB; no region has the number that is all ones.
    region: Cell<u64>,
    generation: Cell<u64>,
    /// Whether all upper levels allow writes.
    writable: Cell<bool>,
    table: Cell<u64>,
}

const CACHED: usize = 8;
const REGION_SHIFT: u32 = 21;

impl WalkCache {
    /// Nothing found yet.
    pub fn new() -> WalkCache {
        let cache = WalkCache {
            entries: core::array::from_fn(|_| CachedRegion::default()),
        };
        cache.forget();
        cache
    }

    /// Forgets everything: the vCPU has another root.
    pub fn forget(&self) {
        for entry in &self.entries {
            entry.region.set(u64::MAX);
        }
    }
}

/// A guest's memory as its kernel root maps it.
#[derive(Clone, Copy)]
pub struct GuestMemory {
    root: Mfn,
    cache: &'static WalkCache,
    generation: &'static AtomicU64,
}

impl GuestMemory {
    /// Memory behind the kernel root of a vCPU, which holds a reference on it (D2). To be made by the CPU the vCPU runs
    /// on (D1): the cache is that CPU's alone.
    #[inline]
    pub fn new(root: Mfn, vcpu: &'static Vcpu) -> GuestMemory {
        GuestMemory {
            root,
            cache: &vcpu.walks,
            generation: &vcpu.domain.generation,
        }
    }

    /// The L1 table for an address, and whether the levels above allow writes.
    #[inline]
    fn table(&self, address: u64) -> Option<(Mfn, bool)> {
        if !guest_address_ok(address) {
            return None; // M1
        }
        let region = address >> REGION_SHIFT;
        let entry = &self.cache.entries[region as usize % CACHED];
        let generation = self.generation.load(Ordering::Acquire);
        if entry.region.get() == region && entry.generation.get() == generation {
            return Some((Mfn(entry.table.get()), entry.writable.get()));
        }
        let (table, writable) = self.walk(address)?;
        entry.region.set(region);
        entry.generation.set(generation);
        entry.table.set(table.0);
        entry.writable.set(writable);
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

    /// The physical address behind an address.
    #[inline]
    pub fn translate(&self, address: u64, write: bool) -> Result<u64, Fault> {
        let fault = |present| Fault {
            address,
            write,
            present,
        };
        let Some((table, writable)) = self.table(address) else {
            return Err(fault(false));
        };
        let place = phys::word(table, (address >> 12 & 511) as usize);
        let entry = Entry(place.load(Ordering::Relaxed));
        if !entry.is_present() {
            return Err(fault(false));
        }
        if write && !(writable && entry.is_writable()) {
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
            place.fetch_or(noted, Ordering::Relaxed);
        }
        Ok((entry.mfn().0 * PAGE) | (address % PAGE))
    }

    /// Copies from the guest.
    pub fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Fault> {
        self.pieces(address, to.len(), false, |phys, from, len| {
            phys::read(phys, &mut to[from..from + len]);
        })
    }

    /// Copies to the guest. On an error, what lies before the address in the error was written.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), Fault> {
        self.pieces(address, from.len(), true, |phys, at, len| {
            phys::write(phys, &from[at..at + len]);
        })
    }

    #[inline]
    fn pieces(
        &self,
        address: u64,
        len: usize,
        write: bool,
        mut each: impl FnMut(u64, usize, usize),
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
            let piece = ((PAGE - at % PAGE) as usize).min(len - done);
            each(self.translate(at, write)?, done, piece);
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
        if PAGE - address % PAGE >= T::SIZE as u64 {
            phys::read(self.translate(address, false)?, part);
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
        let on_first = (PAGE - address % PAGE).min(bytes);
        let first = self.translate(address, true)?;
        let second = if on_first < bytes {
            // Cannot wrap: the range was checked.
            self.translate(address + on_first, true)?
        } else {
            first
        };
        Ok(WordRun {
            first,
            on_first: (on_first / 8) as usize,
            second,
        })
    }

    /// Writes a 32-bit number: counts that calls report.
    #[inline]
    pub fn put_u32(&self, address: u64, value: u32) -> Result<(), Fault> {
        if !address.is_multiple_of(4) {
            return self.put(address, &value);
        }
        phys::write_u32(self.translate(address, true)?, value);
        Ok(())
    }

    /// Reads a 32-bit number whose place must be writable too.
    #[inline]
    pub fn counter(&self, address: u64) -> Result<u32, Fault> {
        if !address.is_multiple_of(4) {
            self.check_writable(address, 4)?;
            return self.value(address);
        }
        Ok(phys::read_u32(self.translate(address, true)?))
    }

    /// Says whether a range could be written now, touching nothing: so that a call can refuse before it commits.
    pub fn check_writable(&self, address: u64, len: usize) -> Result<(), Fault> {
        self.pieces(address, len, true, |_, _, _| {})
    }
}

/// Words of a guest's memory that are about to be written (M2: at once).
pub struct WordRun {
    first: u64,
    on_first: usize,
    second: u64,
}

impl WordRun {
    /// Writes the words.
    #[inline]
    pub fn write(self, words: &[u64]) {
        for (i, word) in words.iter().enumerate() {
            let at = if i < self.on_first {
                self.first + i as u64 * 8
            } else {
                self.second + (i - self.on_first) as u64 * 8
            };
            phys::write_u64(at, *word);
        }
    }
}
