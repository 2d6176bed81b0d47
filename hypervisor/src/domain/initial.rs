//! Builds the initial domain from the boot modules: kernel from the first, initrd from the second.
//!
//! The pseudophysical space, from page 0, linear from the kernel's VIRT_BASE:
//! room below the kernel | kernel | (initrd, frame list, if the kernel wants them mapped) | start_info | page tables |
//! boot stack | up to 4 MiB alignment — all of that mapped — then initrd and frame list where the kernel takes them
//! unmapped, and the rest of its memory.

use crate::arch::guest_memory::WalkCache;
use crate::arch::paging::{NoFrame, bits};
use crate::domain::exposed_area::{self, OWN_DESCRIPTORS, TRANSIT};
use crate::domain::{Domain, Local, MAX_VCPUS, Transit, Vcpu, register};
use crate::layout::PAGE;
use crate::memory::{alloc as frame_alloc, frame_table, m2p, phys};
use crate::{device, event, info, mmu, schedule};
use alloc::boxed::Box;
use alloc::vec::Vec;
use boot_info::params::Choice;
use boot_info::{BootInfo, Module, Params};
use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use frames::{DomId, Entry, Level, Mfn};
use guest_abi::Wire;
use guest_abi::segment::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use guest_abi::start_info::{SIF_INITDOMAIN, SIF_MOD_START_PFN, SIF_PRIVILEGED, StartInfo};
use guest_abi::vga::Dom0VgaConsoleInfo;
use image::{Container, ElfKernel, ImageError, Placement, Scratch};
use spin::Once;
use spin::mutex::SpinMutex;

/// The initial domain's number.
const DOM0: DomId = DomId(0);
/// Frames left to ring 0 and to other domains when the command line does not say how many to use.
const RESERVE_FRAMES: u64 = 64 << 8;

/// Frames of ring 0's that the domain may cause to be used: its event channels at their most, and as much again.
const MAX_OVERHEAD: u64 = 2 * events::MAX_BUCKETS as u64;

/// Why the initial domain could not be built.
#[derive(Debug)]
pub enum BuildError {
    NoModule,
    Kernel(ImageError),
    NoRoom {
        what: &'static str,
        need: u64,
        have: u64,
    },
    CommandLine {
        len: usize,
    },
    TooFewFrames {
        need: u64,
        have: u64,
    },
    Refused,
    NoFrame,
}

impl From<ImageError> for BuildError {
    fn from(e: ImageError) -> Self {
        BuildError::Kernel(e)
    }
}

impl From<NoFrame> for BuildError {
    fn from(_: NoFrame) -> Self {
        BuildError::NoFrame
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::NoModule => write!(
                f,
                "no kernel: the boot loader passed no module; name a Linux kernel as the first module (QEMU: -initrd \"KERNEL ARGS,INITRD\")"
            ),
            BuildError::Kernel(e) => write!(f, "{e}"),
            BuildError::NoRoom { what, need, have } => write!(
                f,
                "{what} does not fit: it needs {} MiB and {} MiB are free; give the machine more memory or ask for less",
                need >> 8,
                have >> 8
            ),
            BuildError::CommandLine { len } => write!(
                f,
                "the kernel's command line has {len} bytes; shorten it to at most 1023"
            ),
            BuildError::TooFewFrames { need, have } => write!(
                f,
                "dom0_mem is too small: kernel and initrd need {} MiB and it gives {} MiB; raise it",
                need.div_ceil(256),
                have >> 8
            ),
            BuildError::Refused => write!(
                f,
                "the initial page tables did not validate; this is a fault of the hypervisor"
            ),
            BuildError::NoFrame => write!(
                f,
                "out of memory while building the initial domain; give the machine more memory"
            ),
        }
    }
}

/// The machine frames of the domain's pages, as the runs they were allocated in.
struct Pages {
    runs: Vec<(u64, u64, u64)>,
    count: u64,
}

impl Pages {
    fn allocate(frames: u64) -> Result<Pages, BuildError> {
        let mut pages = Pages {
            runs: Vec::new(),
            count: 0,
        };
        while pages.count < frames {
            let mut order = (frames - pages.count).ilog2().min(frame_alloc::MAX_ORDER);
            let first = loop {
                // Contents: every page is written by the builder or zeroed here.
                match frame_alloc::take(DOM0, order, 64) {
                    Some(mfn) => break mfn,
                    None if order == 0 => return Err(BuildError::NoFrame),
                    None => order -= 1,
                }
            };
            let len = 1u64 << order;
            for i in 0..len {
                m2p::set(Mfn(first.0 + i), pages.count + i);
            }
            match pages.runs.last_mut() {
                Some((pfn, mfn, n)) if *mfn + *n == first.0 && *pfn + *n == pages.count => {
                    *n += len
                }
                _ => pages.runs.push((pages.count, first.0, len)),
            }
            pages.count += len;
        }
        Ok(pages)
    }

    /// The frame of a page. Pages the builder asks for are below `count`.
    fn mfn(&self, pfn: u64) -> Mfn {
        let at = self.runs.partition_point(|(first, _, _)| *first <= pfn) - 1;
        let (first, mfn, len) = self.runs[at];
        assert!(
            pfn - first < len,
            "page {pfn} is beyond the domain's memory"
        );
        Mfn(mfn + pfn - first)
    }

    fn write(&self, pseudophysical: u64, mut data: &[u8]) {
        let mut at = pseudophysical;
        while !data.is_empty() {
            let len = ((PAGE - at % PAGE) as usize).min(data.len());
            phys::write(self.mfn(at / PAGE).0 * PAGE + at % PAGE, &data[..len]);
            data = &data[len..];
            at += len as u64;
        }
    }

    fn write_word(&self, pfn: u64, index: u64, value: u64) {
        phys::write_u64(self.mfn(pfn).0 * PAGE + index * 8, value);
    }
}

/// Where things go, in pages.
struct Map {
    kernel: Placement,
    initrd: (u64, u64),
    list: (u64, u64),
    list_tables: u64,
    start_info: u64,
    tables: (u64, u64),
    stack: u64,
    mapped_end: u64,
    end: u64,
}

fn plan(kernel: Placement, initrd_len: u64, frames: u64) -> Result<Map, BuildError> {
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
            let last = base + list_pages * PAGE - 1;
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

/// The kernel's ELF file: the module itself, or what it unpacks to.
fn kernel_file(module: &'static [u8]) -> Result<&'static [u8], BuildError> {
    match Container::identify(module)? {
        Container::Elf(file) => Ok(file),
        Container::BzImage(image) => {
            let payload = image.payload();
            let len = payload.uncompressed_len()? as u64;
            let frames = len.div_ceil(PAGE);
            let order = frames.next_power_of_two().ilog2();
            let have = frame_alloc::free_frames();
            let room =
                frame_alloc::take_raw(DomId::RING0, order, 64).ok_or(BuildError::NoRoom {
                    what: "the unpacked kernel",
                    need: frames,
                    have,
                })?;
            info!(
                "unpacking the kernel: {:?}, {} KiB",
                payload.compression(),
                len >> 10
            );
            // SAFETY: frames of ring 0's own, in nobody else's hands; contiguous in the direct map.
            let out = unsafe { phys::boot_slice_mut(room.0 * PAGE, len) };
            let mut scratch = Box::new(Scratch::new());
            payload.decompress(out, &mut scratch)?;
            Ok(out)
        }
    }
}

/// Gives back what an unpacked kernel occupied.
fn free_kernel_file(file: &'static [u8]) {
    let first = (file.as_ptr() as u64).wrapping_sub(crate::layout::DIRECT_MAP) / PAGE;
    let frames = (file.len() as u64).div_ceil(PAGE).next_power_of_two();
    for m in first..first + frames {
        frame_alloc::give_ring0(Mfn(m));
    }
}

fn module_bytes(module: &Module) -> &'static [u8] {
    // SAFETY: module memory was taken out of the usable map and belongs to ring 0; nobody writes it.
    unsafe { phys::boot_slice(module.start, module.len) }
}

/// Builds the domain and its first vCPU.
pub fn build(info: &BootInfo, params: &Params) -> Result<&'static Vcpu, BuildError> {
    let mut modules = info
        .modules
        .iter()
        .filter(|m| m.args.as_slice() != b"xeno-symbols");
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
    let map = plan(placement, initrd.len() as u64, frames)?;
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
    pages.write(map.initrd.0 * PAGE, initrd);
    for pfn in 0..frames {
        pages.write_word(map.list.0 + pfn / 512, pfn % 512, pages.mfn(pfn).0);
    }
    // Linux reads the whole last page: pages that do not exist are invalid.
    for pfn in frames..map.list.1 * 512 {
        pages.write_word(map.list.0 + pfn / 512, pfn % 512, !0);
    }
    if !core::ptr::eq(file, module) {
        free_kernel_file(file);
    }
    let root = build_tables(&pages, &map);
    start_info(
        vcpu,
        &pages,
        &map,
        &kernel_module.args,
        initrd.len() as u64,
        frames,
    );
    vcpu.domain.pages.store(frames, Ordering::Release);
    enter_state(vcpu, &map, pages.mfn(root))?;
    Ok(vcpu)
}

fn file_frames(file: &[u8], module: &[u8]) -> u64 {
    if core::ptr::eq(file, module) {
        0
    } else {
        (file.len() as u64).div_ceil(PAGE).next_power_of_two()
    }
}

/// Writes the initial tables; returns the page of the root.
fn build_tables(pages: &Pages, map: &Map) -> u64 {
    let table_link =
        Entry::PRESENT | Entry::WRITABLE | Entry::USER | Entry::ACCESSED | Entry::DIRTY;
    let (first, count) = map.tables;
    let (l4, l3, l2, l1) = (first, first + 1, first + 2, first + 3);
    let base = map.kernel.virt_base;
    let link = |table: u64, index: u64, to: u64| {
        pages.write_word(table, index & 511, (pages.mfn(to).0 * PAGE) | table_link);
    };
    link(l4, base >> 39, l3);
    link(l3, base >> 30, l2);
    for pfn in 0..map.mapped_end {
        let va = base + pfn * PAGE;
        let table = l1 + (va >> 21) - (base >> 21);
        link(l2, va >> 21, table);
        let is_table = (first..first + count).contains(&pfn);
        let writable = if is_table { 0 } else { Entry::WRITABLE };
        let leaf = Entry::PRESENT | writable | Entry::USER | Entry::ACCESSED | Entry::DIRTY;
        pages.write_word(table, va >> 12 & 511, (pages.mfn(pfn).0 * PAGE) | leaf);
    }
    if let Some(list_base) = map.kernel.init_p2m {
        map_list(pages, map, list_base, table_link);
    }
    l4
}

/// The frame list at the address the kernel wants, below tables of its own.
fn map_list(pages: &Pages, map: &Map, base: u64, link: u64) {
    let mut next = map.list.0 + map.list.1;
    let end = next + map.list_tables;
    let mut descend = |table: u64, index: u64| {
        let place = pages.mfn(table).0 * PAGE + (index & 511) * 8;
        let entry = Entry(phys::read_u64(place));
        if entry.is_present() {
            return m2p::get(entry.mfn());
        }
        assert!(next < end, "plan() counts the tables");
        let fresh = next;
        next += 1;
        phys::write_u64(place, (pages.mfn(fresh).0 * PAGE) | link);
        fresh
    };
    for i in 0..map.list.1 {
        let va = base + i * PAGE;
        let l3 = descend(map.tables.0, va >> 39);
        let l2 = descend(l3, va >> 30);
        let l1 = descend(l2, va >> 21);
        pages.write_word(
            l1,
            va >> 12 & 511,
            (pages.mfn(map.list.0 + i).0 * PAGE) | link,
        );
    }
}

fn start_info(vcpu: &Vcpu, pages: &Pages, map: &Map, args: &[u8], initrd_len: u64, frames: u64) {
    let virt = |pfn: u64| map.kernel.virt_base + pfn * PAGE;
    let mut si = StartInfo::ZERO;
    si.set_magic();
    si.nr_pages = frames;
    si.shared_info = vcpu.domain.shared_info.0 * PAGE;
    si.flags = SIF_PRIVILEGED | SIF_INITDOMAIN;
    si.set_dom0_console(StartInfo::SIZE as u32, Dom0VgaConsoleInfo::SIZE as u32);
    si.pt_base = virt(map.tables.0);
    si.nr_pt_frames = map.tables.1;
    si.mfn_list = map.kernel.init_p2m.unwrap_or_else(|| virt(map.list.0));
    if map.kernel.init_p2m.is_some() {
        si.first_p2m_pfn = map.list.0;
        si.nr_p2m_frames = map.list.1 + map.list_tables;
    }
    if initrd_len != 0 {
        si.mod_len = initrd_len;
        si.mod_start = if map.kernel.mod_start_pfn {
            si.flags |= SIF_MOD_START_PFN;
            map.initrd.0
        } else {
            virt(map.initrd.0)
        };
    }
    // Its length was checked.
    let _ = si.set_cmd_line(args);
    let mut bytes = [0u8; StartInfo::SIZE + Dom0VgaConsoleInfo::SIZE];
    let _ = si.write_to(&mut bytes);
    pages.write(map.start_info * PAGE, &bytes);
}

fn new_domain(params: &Params, frames: u64) -> Result<&'static Vcpu, BuildError> {
    let isolated = match params.isolate {
        Choice::Yes => true,
        Choice::No => false,
        Choice::Auto => device::cpu_has_meltdown(),
    };
    let exposed_l3 = exposed_area::new_l3()?;
    let ring0_root = exposed_area::new_ring0_root(exposed_l3)?;
    let shared_info = frame_alloc::take(DOM0, 0, 64).ok_or(NoFrame)?;
    // Ring 0 writes it for as long as the domain lives.
    if let Some(frame) = frame_table::get(shared_info) {
        frame
            .get_writable(Some(DOM0))
            .map_err(|_| BuildError::Refused)?;
    }
    let domain: &'static Domain = Box::leak(Box::new(Domain {
        id: DOM0,
        privileged: true,
        pages: AtomicU64::new(0),
        max_pages: AtomicU64::new(params.dom0_mem.max.map_or(frames, |b| b / PAGE).max(frames)),
        overhead: AtomicU64::new(0),
        max_overhead: MAX_OVERHEAD,
        shared_info,
        ring0_root,
        exposed_l3,
        isolated,
        events: SpinMutex::new(event::DomainEvents::new(events::DomId(DOM0.0), 1)),
        assists: AtomicU64::new(0),
        generation: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
        vcpus: [const { Once::new() }; MAX_VCPUS],
        max_vcpus: 1,
    }));
    register(domain);
    info!(
        "domain 0: {} address space",
        if isolated { "isolated" } else { "shared" }
    );
    if !event::prepare(domain) {
        return Err(BuildError::NoFrame);
    }
    // The control domain's own wired interrupts, one number each.
    let pirqs = alloc::vec![None; device::pirq::MAX as usize].into_boxed_slice();
    domain.events.lock().set_pirqs(Box::leak(pirqs));
    // Upcalls are masked until the guest says otherwise.
    for id in 0..32u64 {
        phys::write_u64(shared_info.0 * PAGE + id * 64, 0x100);
    }
    new_vcpu(domain, 0)
}

fn new_vcpu(domain: &'static Domain, id: u32) -> Result<&'static Vcpu, BuildError> {
    let area = exposed_area::vcpu_area(id);
    let own = exposed_area::new_page(domain.exposed_l3, area + OWN_DESCRIPTORS)?;
    crate::arch::exposed::fill_own_page(own, crate::arch::exposed::block(0));
    for page in 0..OWN_DESCRIPTORS / PAGE {
        let empty = crate::hypercall::descriptor::empty_page();
        exposed_area::map(domain.exposed_l3, area + page * PAGE, Some(empty), bits::RO)?;
    }
    let transit = exposed_area::new_page(domain.exposed_l3, area + TRANSIT)?;
    let vcpu: &'static Vcpu = Box::leak(Box::new(Vcpu {
        id,
        domain,
        handle: schedule::new_handle().ok_or(BuildError::NoFrame)?,
        transit: Transit::new(transit, area + TRANSIT),
        area,
        own_descriptors: own,
        info: AtomicU64::new(0),
        info_words: AtomicPtr::new(core::ptr::null_mut()),
        walks: WalkCache::new(),
        polling: AtomicU32::new(0),
        kicked: AtomicBool::new(false),
        local: UnsafeCell::new(Local::new()),
    }));
    vcpu.set_info(domain.shared_info.0 * PAGE + u64::from(id) * 64);
    super::run::map_vcpu_info(vcpu)?;
    vcpu.transit.set_vcpu_info(area, u64::from(id) * 64);
    vcpu.transit.set_stack_ok(false);
    if let Some(slot) = domain.vcpus.get(id as usize) {
        slot.call_once(|| vcpu);
    }
    schedule::add(vcpu);
    Ok(vcpu)
}

/// Pins the root and sets the first vCPU's registers.
fn enter_state(vcpu: &'static Vcpu, map: &Map, root: Mfn) -> Result<(), BuildError> {
    let tables = mmu::tables(DOM0);
    // The guest finds its root pinned; the vCPU holds a reference of its own (D2).
    tables
        .pin(root, Level::L4)
        .map_err(|_| BuildError::Refused)?;
    tables
        .get_table(root, Level::L4)
        .map_err(|_| BuildError::Refused)?;
    // SAFETY: D1: the vCPU has not run yet.
    let local = unsafe { vcpu.local() };
    local.kernel_root = root;
    vcpu.transit.set_roots(root, None);
    let virt = |pfn: u64| map.kernel.virt_base + pfn * PAGE;
    local.regs.rip = map.kernel.entry;
    local.regs.rsp = virt(map.stack + 1);
    local.regs.rsi = virt(map.start_info);
    local.regs.cs = u64::from(FLAT_KERNEL_CS);
    local.regs.ss = u64::from(FLAT_KERNEL_SS);
    local.regs.rflags = crate::arch::regs::flags::IF;
    local.initialised = true;
    let clock = device::timer::clock();
    vcpu.put_time(&clock, 0);
    let (seconds, nanoseconds) = device::wall_clock_base();
    vcpu.domain.put_wall_clock(seconds, nanoseconds);
    Ok(())
}
