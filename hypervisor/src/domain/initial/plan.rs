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
    pub(super) tables: (u64, u64),
    pub(super) stack: u64,
    pub(super) mapped_end: u64,
    pub(super) end: u64,
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
    // The tables map themselves, so their number is found by trying.
    let mut tables = 4;
    let mapped_end = loop {
        let stack_end = tables_first + tables + 1;
        let mut end = stack_end.next_multiple_of(1024);
        if end - stack_end < 128 {
            end += 1024;
        }
        let first = kernel.virt_base;
        let last = end
            .checked_mul(PAGE)
            .and_then(|bytes| first.checked_add(bytes - 1))
            .ok_or(ImageError::TooLarge { len: end * PAGE })?;
        let spans = |shift: u32| (last >> shift) - (first >> shift) + 1;
        if spans(30) > 1 {
            return Err(ImageError::TooLarge { len: end * PAGE }.into());
        }
        let need = 3 + spans(21);
        if need <= tables {
            break end;
        }
        tables = need;
    };
    let stack = tables_first + tables;
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
            if !guest_range_ok(base, bytes) {
                return Err(ImageError::BadNote { note: "INIT_P2M" }.into());
            }
            // Cannot wrap: a range that ends at the very top ends at the last address.
            let last = base + (bytes - 1);
            let spans = |shift: u32| (last >> shift) - (base >> shift) + 1;
            let tables = spans(39) + spans(30) + spans(21);
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
        tables: (tables_first, tables),
        stack,
        mapped_end,
        end,
    })
}
