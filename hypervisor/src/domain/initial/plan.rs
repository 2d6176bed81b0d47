//! Where everything of the initial domain goes, in pages of its own.

use super::error::BuildError;
use crate::layout::{PAGE, guest_range_ok};
use image::{ImageError, Placement};

/// Where things go, in pages.
pub(super) struct Map {
    pub(super) kernel: Placement,
    pub(super) initrd: (u64, u64),
    pub(super) list: (u64, u64),
    pub(super) list_tables: u64,
    pub(super) start_info: u64,
    pub(super) tables: Tables,
    pub(super) stack: u64,
    pub(super) mapped_end: u64,
    pub(super) end: u64,
}

/// The page tables of the linear mapping: their pages, level by level from the root, each level without gaps.
#[derive(Clone, Copy)]
pub(super) struct Tables {
    pub(super) first: u64,
    /// How many there are of level 3, 2 and 1.
    counts: [u64; 3],
    /// The first address mapped.
    base: u64,
}

/// How far to shift an address for the number of the table of level 3, 2 or 1 it lies in.
const SHIFTS: [u32; 3] = [39, 30, 21];

impl Tables {
    /// Tables at `first` for addresses from `base` to `last`.
    fn covering(first: u64, base: u64, last: u64) -> Tables {
        let counts = SHIFTS.map(|shift| (last >> shift) - (base >> shift) + 1);
        Tables {
            first,
            counts,
            base,
        }
    }

    /// How many there are, with the root.
    pub(super) fn count(&self) -> u64 {
        1 + self.counts.iter().sum::<u64>()
    }

    /// The pages of the tables that an address goes through: levels 3, 2 and 1. The root is `first`.
    pub(super) fn way(&self, va: u64) -> [u64; 3] {
        let mut level_first = self.first + 1;
        let mut index = 0;
        SHIFTS.map(|shift| {
            let table = level_first + (va >> shift) - (self.base >> shift);
            level_first += self.counts[index];
            index += 1;
            table
        })
    }
}

/// Lays the domain out, and says what does not fit.
pub(super) fn plan(kernel: Placement, initrd_len: u64, frames: u64) -> Result<Map, BuildError> {
    let initrd_pages = initrd_len.div_ceil(PAGE);
    let list_pages = (frames * 8).div_ceil(PAGE);
    let mut next = kernel.end_pfn;
    let mut take = |pages: u64| {
        let first = next;
        next += pages;
        first
    };
    let mapped_initrd = (!kernel.mod_start_pfn).then(|| take(initrd_pages));
    let mapped_list = kernel.init_p2m.is_none().then(|| take(list_pages));
    let start_info = take(1);
    let tables_first = take(0);
    let base = kernel.virt_base;
    // The tables map themselves, so their number is found by trying.
    let mut tables = Tables::covering(tables_first, base, base);
    let mapped_end = loop {
        let stack_end = tables_first + tables.count() + 1;
        // To a boundary of addresses, not of pages.
        let first = base / PAGE;
        let mut end = (first + stack_end).next_multiple_of(1024) - first;
        if end - stack_end < 128 {
            end += 1024;
        }
        let len = end.saturating_mul(PAGE);
        if !guest_range_ok(base, len) {
            return Err(ImageError::TooLarge { len }.into());
        }
        // Cannot wrap: a range that ends at the very top ends at the last address.
        let need = Tables::covering(tables_first, base, base + (len - 1));
        if need.count() <= tables.count() {
            break end;
        }
        tables = need;
    };
    let stack = tables_first + tables.count();
    let mut next = mapped_end;
    let mut take = |pages: u64| {
        let first = next;
        next += pages;
        first
    };
    let initrd_first = mapped_initrd.unwrap_or_else(|| take(initrd_pages));
    let (list_first, list_tables) = match (mapped_list, kernel.init_p2m) {
        (None, Some(base)) => {
            let bytes = list_pages * PAGE;
            // Neither range wraps; the linear one was checked.
            let apart = base.wrapping_sub(kernel.virt_base) >= mapped_end * PAGE
                && kernel.virt_base.wrapping_sub(base) >= bytes;
            if !guest_range_ok(base, bytes) || !apart {
                return Err(ImageError::BadNote { note: "INIT_P2M" }.into());
            }
            // As many as if it shared none with the linear mapping.
            let tables = Tables::covering(0, base, base + (bytes - 1)).count() - 1;
            (take(list_pages + tables), tables)
        }
        (mapped, _) => (mapped.unwrap_or(0), 0),
    };
    let end = next;
    if end > frames {
        return Err(BuildError::TooFewFrames {
            need: end,
            have: frames,
        });
    }
    Ok(Map {
        kernel,
        initrd: (initrd_first, initrd_pages),
        list: (list_first, list_pages),
        list_tables,
        start_info,
        tables,
        stack,
        mapped_end,
        end,
    })
}
