//! Where a kernel goes in its domain's pseudo-physical and virtual memory.
//!
//! Segments are placed by physical address, never by virtual (Linux's per-CPU segment has virtual address 0), less the
//! offset its notes give. The domain's pseudo-physical memory is mapped linearly from `virt_base` on.

use crate::elf::ElfKernel;
use crate::notes::XenNotes;
use crate::{ImageError, MAX_KERNEL_LEN};

const PAGE_SIZE: u64 = 4096;

/// The virtual addresses that are the hypervisor's in every guest: first, and one past the last.
pub const HYPERVISOR_HOLE: (u64, u64) = (0xffff_8000_0000_0000, 0xffff_8800_0000_0000);
/// One past the last canonical address of the lower half.
const LOWER_HALF_END: u64 = 1 << 47;

/// The plan for loading a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Virtual address of pseudo-physical page 0.
    pub virt_base: u64,
    /// Taken off physical addresses in the file.
    pub paddr_offset: u64,
    /// Virtual address of the first instruction.
    pub entry: u64,
    /// The kernel's first pseudo-physical page.
    pub first_pfn: u64,
    /// One past its last.
    pub end_pfn: u64,
    /// Pseudo-physical page to be filled with hypercall stubs, if the kernel has one.
    pub hypercall_pfn: Option<u64>,
    /// Virtual address for the list of machine frames; `None` means behind the kernel, in the linear mapping.
    pub init_p2m: Option<u64>,
    /// Whether the initrd is told by frame number and left unmapped.
    pub mod_start_pfn: bool,
}

/// One piece to copy: `data`, then zeroes up to `mem_len` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load<'a> {
    /// Pseudo-physical address it goes to; need not be page-aligned.
    pub start: u64,
    /// Bytes it has in memory, at least `data.len()`.
    pub mem_len: u64,
    /// Its bytes from the file.
    pub data: &'a [u8],
}

impl Placement {
    /// The virtual address of a pseudo-physical page in the initial mapping; `None` beyond what it can reach.
    pub fn virt(&self, pfn: u64) -> Option<u64> {
        self.virt_base.checked_add(pfn.checked_mul(PAGE_SIZE)?)
    }

    /// The pseudo-physical page a virtual address of the kernel lies in; `None` outside the kernel.
    pub fn pfn_of(&self, virt: u64) -> Option<u64> {
        let pfn = virt.checked_sub(self.virt_base)? / PAGE_SIZE;
        (self.first_pfn..self.end_pfn).contains(&pfn).then_some(pfn)
    }
}

impl<'a> ElfKernel<'a> {
    /// Computes where everything goes (I4). Says nothing about whether the kernel is one for us: see
    /// [`XenNotes::check_interface`] and [`XenNotes::check_initial_domain`].
    ///
    /// # Errors
    /// [`ImageError`] if there is no entry point, or if the addresses contradict each other or do not fit.
    pub fn placement(&self, notes: &XenNotes<'_>) -> Result<Placement, ImageError> {
        // Without a note of its own the entry point is the file's.
        let entry = notes.entry.unwrap_or(self.entry());
        if notes.paddr_offset.is_some() && notes.virt_base.is_none() {
            return Err(ImageError::MissingNote { note: "VIRT_BASE" });
        }
        let virt_base = notes.virt_base.unwrap_or(0);
        let paddr_offset = notes.paddr_offset_or_default();
        let (mut start, mut end) = (u64::MAX, 0);
        for segment in self.segments() {
            let low = segment
                .paddr
                .checked_sub(paddr_offset)
                .ok_or(ImageError::BadNote {
                    note: "PADDR_OFFSET",
                })?;
            let high = low
                .checked_add(segment.mem_len)
                .ok_or(ImageError::TooLarge {
                    len: segment.mem_len,
                })?;
            start = start.min(low);
            end = end.max(high);
        }
        // Room for what the builder puts behind the kernel is the builder's to check.
        if end > MAX_KERNEL_LEN {
            return Err(ImageError::TooLarge { len: end });
        }
        let mut placement = Placement {
            virt_base,
            paddr_offset,
            entry,
            first_pfn: start / PAGE_SIZE,
            end_pfn: end.div_ceil(PAGE_SIZE),
            hypercall_pfn: None,
            init_p2m: notes.init_p2m,
            mod_start_pfn: notes.mod_start_pfn,
        };
        if !virt_base.is_multiple_of(PAGE_SIZE) || !is_guest_range(virt_base, end) {
            return Err(ImageError::BadNote { note: "VIRT_BASE" });
        }
        if placement.pfn_of(entry).is_none() {
            let note = "ENTRY";
            return Err(match notes.entry {
                Some(_) => ImageError::BadNote { note },
                None => ImageError::MissingNote { note },
            });
        }
        if let Some(page) = notes.hypercall_page {
            let pfn = placement
                .pfn_of(page)
                .filter(|_| page.is_multiple_of(PAGE_SIZE));
            placement.hypercall_pfn = Some(pfn.ok_or(ImageError::BadNote {
                note: "HYPERCALL_PAGE",
            })?);
        }
        if let Some(list) = notes.init_p2m
            && (!list.is_multiple_of(PAGE_SIZE) || !is_guest_range(list, PAGE_SIZE))
        {
            return Err(ImageError::BadNote { note: "INIT_P2M" });
        }
        Ok(placement)
    }

    /// The pieces to copy for a placement that this file's [`ElfKernel::placement`] made.
    pub fn loads(&self, placement: &Placement) -> impl Iterator<Item = Load<'a>> + '_ {
        let paddr_offset = placement.paddr_offset;
        self.segments().filter_map(move |segment| {
            let start = segment.paddr.checked_sub(paddr_offset)?;
            Some(Load {
                start,
                mem_len: segment.mem_len,
                data: self.data(&segment),
            })
        })
    }
}

/// Whether `[start, start + len)` is canonical and not the hypervisor's. It may end at the very top.
fn is_guest_range(start: u64, len: u64) -> bool {
    let last = match start.checked_add(len.saturating_sub(1)) {
        Some(last) => last,
        None => return false,
    };
    last < LOWER_HALF_END || start >= HYPERVISOR_HOLE.1
}
