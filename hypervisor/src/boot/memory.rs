//! Ring 0's address space, built once from the loader's map: the tables of `layout`.

use crate::arch::paging::{self, NoFrame, TableSource, bits};
use crate::arch::{cpu, exposed, percpu};
use crate::info;
use crate::layout::{
    CPU_AREAS, DEVICES, DIRECT_MAP, DIRECT_MAP_SIZE, FIRST_SLOT, FRAME_TABLE, IMAGE, M2P,
    M2P_GUEST, PAGE, PRIVATE_SLOTS,
};
use crate::memory::boot_alloc::{BootAlloc, TooLittle};
use crate::memory::usage::{self, Use};
use crate::memory::{alloc, frame_table, heap, m2p, phys};
use crate::sync::{Lock, rank};
use ::cpus::start;
use boot_info::{BootInfo, RegionKind};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use frames::{Class, DomId, Mfn};

/// Bytes of ring 0's heap: a domain's 64 vCPUs take up to 600 KiB of it.
const HEAP: u64 = 2 << 20;
/// The boot tables reach this far; what boot needs lies below.
const EARLY_LIMIT: u64 = m2p::PIECES_BELOW;
const PIECE: u64 = 2 << 20;

unsafe extern "C" {
    static image_phys_start: u8;
    static image_end: u8;
    static text_start: u8;
    static text_end: u8;
    static rodata_start: u8;
    static rodata_end: u8;
    static data_start: u8;
}

macro_rules! symbol {
    ($name:ident) => {
        // SAFETY: a linker symbol; only its address is used.
        unsafe { core::ptr::from_ref(&$name) as u64 }
    };
}

/// Physical range of the image.
pub fn image_range() -> (u64, u64) {
    (symbol!(image_phys_start), symbol!(image_end) - IMAGE)
}

/// What [`enter`] and [`finish`] still have to do.
pub struct Plan {
    root: Mfn,
    limit: u64,
}

static BOOT_ALLOC: Lock<BootAlloc, rank::BootMemory> = Lock::new(BootAlloc::new());

impl From<NoFrame> for TooLittle {
    fn from(_: NoFrame) -> TooLittle {
        TooLittle { wanted: PAGE }
    }
}

fn early_table() -> Option<Mfn> {
    let start = BOOT_ALLOC.lock().take(PAGE, PAGE, EARLY_LIMIT).ok()?;
    Some(Mfn(start / PAGE))
}

/// Ranges that hold memory of any kind, page-rounded outwards and merged.
fn ram_ranges(
    info: &BootInfo,
    mut visit: impl FnMut(u64, u64) -> Result<(), TooLittle>,
) -> Result<(), TooLittle> {
    // The first MiB always: firmware keeps tables there whatever its map says.
    let mut open = (0u64, 1u64 << 20);
    for region in info.memory.iter() {
        if !matches!(
            region.kind,
            RegionKind::Usable
                | RegionKind::Claimed
                | RegionKind::AcpiReclaimable
                | RegionKind::AcpiNvs
        ) {
            continue;
        }
        let start = region.start & !(PAGE - 1);
        let end = region.end.next_multiple_of(PAGE).min(DIRECT_MAP_SIZE);
        if start >= end {
            continue;
        }
        if start <= open.1 {
            open.1 = open.1.max(end);
        } else {
            visit(open.0, open.1)?;
            open = (start, end);
        }
    }
    visit(open.0, open.1)
}

/// Builds everything that must be there before the boot tables are left.
pub fn build(info: &BootInfo) -> Result<Plan, TooLittle> {
    {
        let mut boot = BOOT_ALLOC.lock();
        for (first, end) in info.memory.usable_frames() {
            boot.add((first * PAGE).max(1 << 20), end * PAGE);
        }
        let (start, end) = image_range();
        boot.remove(start, end);
        for module in &info.modules {
            boot.remove(module.start, module.start.saturating_add(module.len));
        }
    }
    let usable = info.memory.usable_bytes();
    info!("memory: {} MiB usable", usable >> 20);
    let root = early_table().ok_or(NoFrame)?;
    paging::set_root(root);
    for slot in FIRST_SLOT..PRIVATE_SLOTS.end {
        // A1: every slot's table exists from now on. Guests may read below the first.
        let link = if slot == FIRST_SLOT {
            bits::TABLE_USER
        } else {
            bits::TABLE
        };
        let table = early_table().ok_or(NoFrame)?;
        phys::word(root, slot).store(
            (table.0 * PAGE) | link,
            core::sync::atomic::Ordering::Relaxed,
        );
    }
    map_image(root)?;
    let mut limit = 0;
    ram_ranges(info, |start, end| {
        limit = end;
        map_direct(root, start, end)
    })?;
    map_tables(info, root)?;
    let before = BOOT_ALLOC.lock().taken;
    map_cpu(0, &mut early_table)?;
    usage::add(Use::Cpus, BOOT_ALLOC.lock().taken - before);
    Ok(Plan { root, limit })
}

fn map_image(root: Mfn) -> Result<(), TooLittle> {
    let parts = [
        (symbol!(text_start), symbol!(text_end), bits::RX),
        (symbol!(rodata_start), symbol!(rodata_end), bits::RO),
        (symbol!(data_start), symbol!(image_end), bits::RW),
    ];
    for (start, end, leaf) in parts {
        for va in (start..end).step_by(PAGE as usize) {
            paging::map_below(
                root,
                4,
                va,
                (va - IMAGE) | leaf,
                bits::TABLE,
                &mut early_table,
            )?;
        }
    }
    Ok(())
}

/// The direct map of a range; code and constants of the image are read-only in it too (A2).
fn map_direct(root: Mfn, start: u64, end: u64) -> Result<(), TooLittle> {
    let fixed = (symbol!(text_start) - IMAGE, symbol!(rodata_end) - IMAGE);
    let mut from = start;
    for (piece_end, leaf) in [(fixed.0, bits::RW), (fixed.1, bits::RO), (end, bits::RW)] {
        let to = piece_end.clamp(from, end);
        paging::map_range(
            root,
            DIRECT_MAP + from,
            from,
            to - from,
            leaf,
            &mut early_table,
        )?;
        from = to;
    }
    Ok(())
}

/// Memory for the frame table and the machine-to-pseudophysical table, wherever there is RAM.
fn map_tables(info: &BootInfo, root: Mfn) -> Result<(), TooLittle> {
    let mut frame_pieces = 0;
    let mut m2p_pieces = 0;
    ram_ranges(info, |start, end| {
        let (first, last) = (start / PAGE, (end - 1) / PAGE);
        for piece in first / frame_table::FRAMES_PER_PIECE..=last / frame_table::FRAMES_PER_PIECE {
            let va = FRAME_TABLE + piece * PIECE;
            if paging::walk(root, va).is_none() {
                let memory = BOOT_ALLOC.lock().take(PIECE, PIECE, EARLY_LIMIT)?;
                paging::map_range(root, va, memory, PIECE, bits::RW, &mut early_table)?;
                usage::add(Use::FrameTable, PIECE);
                frame_pieces += 1;
            }
        }
        for piece in first / m2p::FRAMES_PER_PIECE..=last / m2p::FRAMES_PER_PIECE {
            let va = M2P + piece * PIECE;
            if paging::walk(root, va).is_none() {
                let memory = BOOT_ALLOC.lock().take(PIECE, PIECE, EARLY_LIMIT)?;
                for place in (memory..memory + PIECE).step_by(8) {
                    phys::write_u64(place, m2p::INVALID);
                }
                paging::map_range(root, va, memory, PIECE, bits::RW, &mut early_table)?;
                map_m2p_for_guests(root, M2P_GUEST + piece * PIECE, memory)?;
                m2p::add_piece(memory);
                usage::add(Use::M2p, PIECE);
                m2p_pieces += 1;
            }
        }
        Ok(())
    })?;
    info!(
        "tables: {frame_pieces} x 2 MiB frame table, {m2p_pieces} x 2 MiB machine-to-pseudophysical"
    );
    Ok(())
}

fn map_m2p_for_guests(root: Mfn, va: u64, memory: u64) -> Result<(), TooLittle> {
    let l3 = paging::descend(root, va, 4, bits::TABLE_USER, &mut early_table)?;
    let l2 = paging::descend(l3, va, 3, bits::TABLE_USER, &mut early_table)?;
    let leaf = memory | bits::RO | bits::USER | bits::LARGE;
    phys::word(l2, (va >> 21 & 511) as usize).store(leaf, core::sync::atomic::Ordering::Relaxed);
    Ok(())
}

/// A CPU's private area and exposed block.
pub fn map_cpu(id: u32, source: &mut dyn TableSource) -> Result<(), NoFrame> {
    let root = paging::root();
    for (start, end) in percpu::MAPPED {
        for offset in (start..end).step_by(PAGE as usize) {
            let frame = source.table().ok_or(NoFrame)?;
            let leaf = (frame.0 * PAGE) | bits::RW;
            let va = percpu::area(id) + offset;
            paging::map_below(root, 4, va, leaf, bits::TABLE, source)?;
        }
    }
    exposed::build_block(id, source)
}

/// Puts a CPU's structure in its area, before anything runs there.
pub fn place_cpu(id: u32) -> &'static percpu::Cpu {
    let place = (percpu::area(id) + percpu::CPU_OFFSET) as *mut percpu::Cpu;
    let root = paging::root().0 * PAGE;
    let new = percpu::Cpu::new(id, exposed::block(id), root);
    // SAFETY: mapped by `map_cpu`, whose last page of the area is the structure's alone; the CPU does not run yet.
    unsafe {
        place.write(new);
        &*place
    }
}

/// The page below 1 MiB where CPUs begin; `None` if there is none. It is ring 0's for good.
pub fn first_code_page() -> Option<u8> {
    let info = super::boot_info();
    let taken = |page: u64| {
        let (start, end) = (page * PAGE, (page + 1) * PAGE);
        let mut modules = info.modules.iter();
        modules.any(|module| module.start < end && module.end() > start)
    };
    let page = start::first_code_page(info.memory.usable_frames(), taken)?;
    let start = u64::from(page) * PAGE;
    keep(start, start + PAGE);
    Some(page)
}

/// Leaves the boot tables and the boot stack for good.
pub fn enter(plan: Plan) -> ! {
    // SAFETY: the root maps the image, the direct map and CPU 0's area; the stack is changed in the same breath, to
    // one of the new area, and nothing of the old stack is used again.
    unsafe {
        cpu::write_cr3(plan.root.0 * PAGE);
        phys::set_limit(plan.limit);
        let area = percpu::area(0);
        place_cpu(0);
        asm!(
            "mov rsp, {stack}",
            "xor ebp, ebp",
            "call {next}",
            "ud2",
            stack = in(reg) area + percpu::MAIN_TOP,
            next = in(reg) super::on_cpu0 as *const (),
            options(noreturn)
        );
    }
}

/// The frame table, the frame allocator and the heap: from here on memory is managed.
pub fn finish() {
    let info = super::boot_info();
    let root = paging::root();
    for piece in 0..DIRECT_MAP_SIZE / PAGE / frame_table::FRAMES_PER_PIECE {
        if piece * frame_table::FRAMES_PER_PIECE * PAGE >= phys::limit() {
            break;
        }
        if paging::walk(root, FRAME_TABLE + piece * PIECE).is_some() {
            // SAFETY: mapped above and zeroed by the boot allocator; never unmapped.
            unsafe { frame_table::add_piece(piece) };
        }
    }
    usage::add(Use::Heap, HEAP);
    let heap_start = BOOT_ALLOC.lock().take(HEAP, PAGE, phys::limit());
    match heap_start {
        // SAFETY: fresh memory of our own.
        Ok(start) => unsafe { heap::init(phys::at(start, HEAP), HEAP as usize) },
        Err(why) => super::give_up(format_args!("{why}")),
    }
    // What is usable and taken is ring 0's (image, modules, tables, heap); what is left is free.
    for (first, end) in info.memory.usable_frames() {
        for mfn in first.max(256)..end {
            if let Some(frame) = frame_table::get(Mfn(mfn)) {
                frame.reset();
                frame.assign(DomId::RING0);
            }
        }
    }
    // Image and modules are ring 0's even where firmware's map calls the memory they were loaded to something else.
    let (start, end) = image_range();
    keep(start, end);
    usage::add(Use::Image, end - start);
    for module in &info.modules {
        keep(module.start, module.end());
    }
    let boot = BOOT_ALLOC.lock();
    for range in boot.ranges() {
        alloc::add_range(range.start / PAGE, range.end / PAGE);
    }
    info!(
        "memory: {} MiB free, {} KiB taken by ring 0 at boot",
        alloc::free_frames() >> 8,
        boot.taken >> 10
    );
    usage::end_of_boot(boot.taken);
}

/// Makes memory ring 0's own, so that no domain can map it.
fn keep(start: u64, end: u64) {
    for mfn in start / PAGE..end.div_ceil(PAGE) {
        if let Some(frame) = frame_table::get(Mfn(mfn)).filter(|f| f.is_io()) {
            frame.reset();
            frame.assign(DomId::RING0);
        }
    }
}

/// Where the next device's registers are mapped. Held while tables change, too.
static NEXT_DEVICE: Lock<u64, rank::DeviceMap> = Lock::new(DEVICES);

/// Frames that tables for devices' registers took, which stay for ever.
static DEVICE_TABLES: AtomicU64 = AtomicU64::new(0);

/// Frames of ring 0's that mapping devices has taken so far.
pub fn device_tables() -> u64 {
    DEVICE_TABLES.load(Ordering::Relaxed)
}

/// Maps device registers (uncached) or firmware tables for ring 0. `None` if no memory is left for tables, or if the CPU
/// has no such address.
pub fn map_device(phys: u64, len: u64) -> Option<u64> {
    let offset = phys % PAGE;
    let bytes = offset.checked_add(len)?.checked_next_multiple_of(PAGE)?;
    // Firmware tables may name addresses the CPU does not have.
    let last = Mfn(phys.checked_add(len)?.checked_sub(1)? / PAGE);
    if matches!(frame_table::class(last), Class::Absent) {
        return None;
    }
    let va = {
        let mut next = NEXT_DEVICE.lock();
        let va = *next;
        if bytes > CPU_AREAS - va {
            return None;
        }
        // An unmapped page between two devices.
        *next = va + bytes + PAGE;
        va
    };
    let mut done = 0;
    while done < bytes {
        let len = (PIECE - (va + done) % PIECE).min(bytes - done);
        map_device_piece(va + done, phys - offset + done, len)?;
        done += len;
    }
    Some(va + offset)
}

/// Maps a part of a device's registers that has one table of each level. The tables are had before the lock: what is
/// fresh may have to be flushed. `None` if no memory is left for them.
fn map_device_piece(va: u64, phys: u64, len: u64) -> Option<()> {
    /// Below the level that is there (A1).
    const LEVELS: usize = 2;
    let mut fresh = [const { None }; LEVELS];
    for frame in &mut fresh {
        *frame = alloc::take_ring0();
    }
    let mapped = {
        let _alone = NEXT_DEVICE.lock();
        let mut source = || {
            let table = fresh.iter_mut().find_map(Option::take)?;
            DEVICE_TABLES.fetch_add(1, Ordering::Relaxed);
            Some(table)
        };
        paging::map_range(paging::root(), va, phys, len, bits::DEVICE, &mut source)
    };
    fresh.into_iter().flatten().for_each(alloc::give_ring0);
    mapped.ok()
}
