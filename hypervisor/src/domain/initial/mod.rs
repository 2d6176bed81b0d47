//! Builds the initial domain from the boot modules: kernel from the first, initrd from the second.
//!
//! Where everything goes and what is in the first page tables is `image`'s to say, for this domain as for those that
//! the control domain builds; here are the frames, and the writing.

mod bare;
mod contents;
mod error;
mod kernel;
mod pages;

use crate::domain::Vcpu;
use crate::layout::PAGE;
use crate::memory::alloc as frame_alloc;
use crate::{device, info, mmu};
use bare::new_domain;
use boot_info::{BootInfo, Params};
use contents::{build_tables, start_info};
use core::sync::atomic::Ordering;
use error::BuildError;
use frames::{DomId, Level, Mfn};
use guest_abi::segment::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use image::{ElfKernel, LIST_ENTRIES_PER_PAGE, Layout, NO_FRAME, Rings};
use kernel::{file_frames, free_kernel_file, kernel_file, module_bytes};
use pages::Pages;

/// The initial domain's number.
const DOM0: DomId = DomId(0);
/// Frames left to ring 0 and to other domains when the command line does not say how many to use.
const RESERVE_FRAMES: u64 = 64 << 8;

/// Builds the domain and its first vCPU.
pub fn build(info: &BootInfo, params: &Params) -> Result<&'static Vcpu, BuildError> {
    let mut modules = info
        .modules
        .iter()
        .filter(|m| m.args.as_slice() != crate::boot::modules::SYMBOLS);
    let kernel_module = modules.next().ok_or(BuildError::NoModule)?;
    let initrd: &[u8] = modules.next().map_or(&[], module_bytes);
    let module = module_bytes(kernel_module);
    let file = kernel_file(module)?;
    let elf = ElfKernel::parse(file)?;
    let notes = elf.xen_notes()?;
    notes.check_interface()?;
    notes.check_initial_domain()?;
    let placement = elf.placement(&notes)?;

    let free = frame_alloc::free_frames();
    let frames = match params.dom0_mem.size {
        Some(bytes) => bytes / PAGE,
        None => (free + file_frames(file, module)).saturating_sub(RESERVE_FRAMES.max(free / 16)),
    };
    let available = free.saturating_sub(512);
    if frames > available && params.dom0_mem.size.is_some() {
        return Err(BuildError::NoRoom {
            what: "dom0_mem",
            need: frames,
            have: available,
        });
    }
    let frames = frames.min(available);
    let map = Layout::plan(placement, initrd.len() as u64, frames, Rings::None)?;
    if kernel_module.args.len() > 1023 {
        return Err(BuildError::CommandLine {
            len: kernel_module.args.len(),
        });
    }
    let vcpu = new_domain(params, frames)?;
    let pages = Pages::allocate(frames)?;
    info!(
        "domain 0: {} MiB, kernel at pages {:#x}..{:#x}, entry {:#x}, mapped to {:#x}, all used to {:#x}",
        frames >> 8,
        placement.first_pfn,
        placement.end_pfn,
        placement.entry,
        map.mapped_end,
        map.end
    );
    for load in elf.loads(&map.kernel) {
        pages.write(load.start, load.data);
    }
    if let Some(pfn) = map.kernel.hypercall_pfn {
        crate::hypercall::page::fill(pages.mfn(pfn));
    }
    pages.write(map.initrd.first * PAGE, initrd);
    for pfn in 0..map.list.pages * LIST_ENTRIES_PER_PAGE {
        let frame = if pfn < frames {
            pages.mfn(pfn).0
        } else {
            NO_FRAME
        };
        let page = map.list.first + pfn / LIST_ENTRIES_PER_PAGE;
        pages.write_word(page, pfn % LIST_ENTRIES_PER_PAGE, frame);
    }
    if !core::ptr::eq(file, module) {
        free_kernel_file(file);
    }
    build_tables(&pages, &map);
    start_info(vcpu, &pages, &map, &kernel_module.args);
    vcpu.domain.pages.store(frames, Ordering::Release);
    enter_state(vcpu, &map, pages.mfn(map.root()))?;
    Ok(vcpu)
}

/// Pins the root and sets the first vCPU's registers.
fn enter_state(vcpu: &'static Vcpu, map: &Layout, root: Mfn) -> Result<(), BuildError> {
    let tables = mmu::tables(DOM0);
    // The guest finds its root pinned; the vCPU holds a reference of its own (D2).
    tables
        .pin(root, Level::L4)
        .map_err(|_| BuildError::Refused)?;
    tables
        .get_table(root, Level::L4)
        .map_err(|_| BuildError::Refused)?;
    // SAFETY: D1: nothing runs yet.
    let local = unsafe { vcpu.local() };
    local.kernel_root = root;
    vcpu.transit.set_roots(root, None);
    local.regs.rip = map.kernel.entry;
    local.regs.rsp = map.virt(map.stack + 1);
    local.regs.rsi = map.virt(map.start_info);
    local.regs.cs = u64::from(FLAT_KERNEL_CS);
    local.regs.ss = u64::from(FLAT_KERNEL_SS);
    local.regs.rflags = crate::arch::regs::flags::IF;
    vcpu.initialised.store(true, Ordering::Release);
    for vcpu in vcpu.domain.vcpus() {
        vcpu.put_time(0, &vcpu.time.lock());
    }
    let (seconds, nanoseconds) = device::wall_clock_base();
    vcpu.domain.put_wall_clock(seconds, nanoseconds);
    Ok(())
}
