//! Each CPU's exposed block: what must be mapped while a guest's root is in force, and nothing else.
//!
//! ```text
//! +0x0000  entry code (the same frames in every block)     read, execute
//! +0x4000  data page: see `Data`                            read, write
//! +0x5000  task state segment                               read, write
//! +0x6000  interrupt descriptor table                       read
//! +0x7000  (guard)
//! +0x8000  entry stack, 8 KiB                               read, write
//! +0xa000  (guard)
//! +0xb000  descriptor page for when no vCPU is loaded       read, write
//! +0xd000  NMI, +0xf000 machine check, +0x11000 double fault, +0x13000 debug: stacks of a page
//!          each between guards                              read, write
//! ```
//! All of it is supervisor memory; guests run at privilege level 3 and cannot name it.

use crate::arch::cpu::{self, msr};
use crate::arch::paging::{self, NoFrame, TableSource, bits};
use crate::arch::percpu;
use crate::layout::{EXPOSED, EXPOSED_CPU_STRIDE, HOLE, IMAGE, PAGE};
use crate::memory::phys;
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};
use frames::Mfn;

global_asm!(include_str!("entry.s"));

/// Selectors of our own, in the descriptor page that follows the guest's fourteen.
pub mod selector {
    pub const RING0_CODE: u16 = 0xe008;
    pub const RING0_DATA: u16 = 0xe010;
    pub const TSS: u16 = 0xe040;
    pub const LDT: u16 = 0xe050;
    /// SYSRET derives guests' flat selectors 0xe033 (code), 0xe02b (stack), 0xe023 (32-bit code) from it.
    pub const SYSRET_BASE: u16 = 0xe023;
}

/// Byte offset of our own page in a descriptor table.
pub const OWN_PAGE_OFFSET: u64 = 0xe000;

/// Offsets in a block.
mod at {
    pub const DATA: u64 = 0x4000;
    pub const TSS: u64 = 0x5000;
    pub const IDT: u64 = 0x6000;
    pub const ENTRY_STACK: u64 = 0x8000;
    pub const ENTRY_TOP: u64 = 0xa000;
    pub const IDLE_GDT: u64 = 0xb000;
    pub const NMI: u64 = 0xd000;
    pub const MC: u64 = 0xf000;
    pub const DF: u64 = 0x11000;
    pub const DB: u64 = 0x13000;
}

/// Offsets in the data page, as `entry.s` has them.
mod data {
    pub const HV_CR3: u64 = 0x00;
    pub const PRIV_TOP: u64 = 0x08;
    pub const TRANSIT: u64 = 0x10;
    pub const FAULT_TOP: u64 = 0x20;
    pub const NMI_TOP: u64 = 0x28;
    pub const MC_TOP: u64 = 0x30;
    pub const DF_TOP: u64 = 0x38;
    pub const DB_TOP: u64 = 0x40;
    pub const HOLE_END: u64 = 0x70;
}

unsafe extern "C" {
    static exposed_start: u8;
    static exposed_end: u8;
    static vectors_start: u8;
    static syscall_entry: u8;
    static sysenter_entry: u8;
    static syscall32_entry: u8;
    static guest_iretq: u8;
    static guest_iretq_fast: u8;
}

/// The address the linker gave a symbol.
macro_rules! link_address {
    ($symbol:ident) => {
        (&raw const $symbol) as u64
    };
}

/// First address of a CPU's block.
pub const fn block(id: u32) -> u64 {
    EXPOSED + id as u64 * EXPOSED_CPU_STRIDE
}

/// Offset in the exposed text of an instruction pointer that is in some CPU's block; `None` if it is not.
pub fn text_offset(rip: u64) -> Option<u64> {
    let size = link_address!(exposed_end) - link_address!(exposed_start);
    let offset = rip.checked_sub(EXPOSED)? % EXPOSED_CPU_STRIDE;
    (rip < EXPOSED + (1 << 30) && offset < size).then_some(offset)
}

/// The address an instruction in a block was linked at: for fix-ups and for symbols.
pub fn linked(rip: u64) -> u64 {
    text_offset(rip).map_or(rip, |o| link_address!(exposed_start) + o)
}

/// Whether an instruction pointer is the final return to a guest.
pub fn is_guest_iretq(rip: u64) -> bool {
    let at = linked(rip);
    text_offset(rip).is_some()
        && (at == link_address!(guest_iretq) || at == link_address!(guest_iretq_fast))
}

/// Whether an instruction pointer is the return that ends a fast transition: one the guest has just asked for.
pub fn is_fast_iretq(rip: u64) -> bool {
    text_offset(rip).is_some() && linked(rip) == link_address!(guest_iretq_fast)
}

/// Moves a linked address of the exposed text into a CPU's block.
pub fn in_block(block: u64, linked: u64) -> u64 {
    block + (linked - link_address!(exposed_start))
}

/// Maps CPU `id`'s block below ring 0's root and fills it. `take` yields zeroed frames.
pub fn build_block(id: u32, source: &mut dyn TableSource) -> Result<(), NoFrame> {
    let root = paging::root();
    let base = block(id);
    let text_phys = link_address!(exposed_start) - IMAGE;
    let text_len = link_address!(exposed_end) - link_address!(exposed_start);
    for page in (0..text_len).step_by(PAGE as usize) {
        let leaf = (text_phys + page) | bits::RX;
        paging::map_below(root, 4, base + page, leaf, bits::TABLE, source)?;
    }
    let pages = [
        (at::DATA, bits::RW),
        (at::TSS, bits::RW),
        (at::IDT, bits::RO),
        (at::ENTRY_STACK, bits::RW),
        (at::ENTRY_STACK + PAGE, bits::RW),
        (at::IDLE_GDT, bits::RW),
        (at::NMI, bits::RW),
        (at::MC, bits::RW),
        (at::DF, bits::RW),
        (at::DB, bits::RW),
    ];
    for (offset, leaf) in pages {
        let frame = source.table().ok_or(NoFrame)?;
        let leaf = (frame.0 * PAGE) | leaf;
        paging::map_below(root, 4, base + offset, leaf, bits::TABLE, source)?;
        match offset {
            at::DATA => fill_data(id, frame),
            at::TSS => fill_tss(base, frame),
            at::IDT => fill_idt(base, frame),
            at::IDLE_GDT => fill_own_page(frame, base),
            _ => {}
        }
    }
    Ok(())
}

fn fill_data(id: u32, frame: Mfn) {
    let area = percpu::area(id);
    let put = |offset: u64, value: u64| phys::write_u64(frame.0 * PAGE + offset, value);
    put(data::HV_CR3, 0);
    put(data::PRIV_TOP, area + percpu::MAIN_TOP);
    put(data::TRANSIT, 0);
    put(data::FAULT_TOP, area + percpu::FAULT_TOP);
    put(data::NMI_TOP, area + percpu::NMI_TOP);
    put(data::MC_TOP, area + percpu::MC_TOP);
    put(data::DF_TOP, area + percpu::DF_TOP);
    put(data::DB_TOP, area + percpu::DB_TOP);
    put(data::HOLE_END, HOLE.end);
}

/// Interrupt stack table slots.
mod ist {
    pub const NMI: u64 = 1;
    pub const MC: u64 = 2;
    pub const DF: u64 = 3;
    pub const DB: u64 = 4;
}

fn fill_tss(base: u64, frame: Mfn) {
    // The 64-bit TSS has its 8-byte fields at odd multiples of four: write it as bytes.
    let put = |offset: u64, value: u64| phys::write(frame.0 * PAGE + offset, &value.to_le_bytes());
    put(4, base + at::ENTRY_TOP);
    put(0x24 + 8 * (ist::NMI - 1), base + at::NMI + PAGE);
    put(0x24 + 8 * (ist::MC - 1), base + at::MC + PAGE);
    put(0x24 + 8 * (ist::DF - 1), base + at::DF + PAGE);
    put(0x24 + 8 * (ist::DB - 1), base + at::DB + PAGE);
    // No I/O permission bitmap: its offset lies beyond the limit, so every port traps.
    phys::write(frame.0 * PAGE + 0x66, &0x68u16.to_le_bytes());
}

const TSS_LIMIT: u64 = 0x67;

fn fill_idt(base: u64, frame: Mfn) {
    let first = in_block(base, link_address!(vectors_start));
    for vector in 0..256u64 {
        let handler = first + vector * 16;
        let stack = match vector {
            1 => ist::DB,
            2 => ist::NMI,
            8 => ist::DF,
            18 => ist::MC,
            _ => 0,
        };
        // Breakpoint, overflow and the old system call reach their gates from guests; every other `int n` faults with
        // the vector in the error code and is judged by the guest's own trap table.
        let dpl: u64 = if matches!(vector, 3 | 4 | 0x80) { 3 } else { 0 };
        let low = (handler & 0xffff)
            | u64::from(selector::RING0_CODE) << 16
            | stack << 32
            | 0xe << 40
            | dpl << 45
            | 1 << 47
            | (handler >> 16 & 0xffff) << 48;
        phys::write_u64(frame.0 * PAGE + vector * 16, low);
        phys::write_u64(frame.0 * PAGE + vector * 16 + 8, handler >> 32);
    }
}

/// Fills our own descriptor page: flat segments and the TSS of the CPU whose block is at `block`.
pub fn fill_own_page(frame: Mfn, block: u64) {
    let put = |offset: u64, value: u64| phys::write_u64(frame.0 * PAGE + offset, value);
    put(0x08, 0x00af_9b00_0000_ffff); // ring 0 code
    put(0x10, 0x00cf_9300_0000_ffff); // ring 0 data
    put(0x20, 0x00cf_fb00_0000_ffff); // 0xe023: guest 32-bit code
    put(0x28, 0x00cf_f300_0000_ffff); // 0xe02b: guest data and stack
    put(0x30, 0x00af_fb00_0000_ffff); // 0xe033: guest 64-bit code
    set_tss(frame, block);
}

/// The descriptor of the TSS of the CPU whose block is at `block`, marked not busy.
fn tss_descriptor(block: u64) -> [u64; 2] {
    let base = block + at::TSS;
    let low = TSS_LIMIT | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
    [low, base >> 32]
}

/// Points a descriptor page at a CPU's TSS, marked not busy, so that it can be loaded.
pub fn set_tss(frame: Mfn, block: u64) {
    let [low, high] = tss_descriptor(block);
    phys::write_u64(frame.0 * PAGE + 0x40, low);
    phys::write_u64(frame.0 * PAGE + 0x48, high);
}

/// Sets the LDT descriptor of a descriptor page: `entries` descriptors at `base`, none if 0.
pub fn set_ldt(frame: Mfn, base: u64, entries: u32) {
    let (low, high) = if entries == 0 {
        (0, 0)
    } else {
        let limit = u64::from(entries) * 8 - 1;
        let low = (limit & 0xffff)
            | (base & 0xff_ffff) << 16
            | 0x82 << 40
            | (limit >> 16 & 0xf) << 48
            | (base >> 24 & 0xff) << 56;
        (low, base >> 32)
    };
    phys::write_u64(frame.0 * PAGE + 0x50, low);
    phys::write_u64(frame.0 * PAGE + 0x58, high);
}

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// Last byte of a descriptor table: of the LDT's descriptor, which is our own last one.
const TABLE_LIMIT: u16 = selector::LDT + 15;

/// Loads a descriptor table whose own page holds this CPU's TSS, then the TSS.
///
/// # Safety
/// `base + OWN_PAGE_OFFSET` must be mapped in the root in force and in every root this CPU will use with it, and
/// hold a page filled by [`fill_own_page`] with a non-busy TSS of this CPU.
pub unsafe fn load_gdt(base: u64) {
    let pointer = TablePointer {
        // What follows our own descriptors is none: selectors that name it are out of bounds.
        limit: TABLE_LIMIT,
        base,
    };
    // SAFETY: the caller's contract; code and stack selectors in force keep their cached descriptors.
    unsafe {
        asm!("lgdt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags));
        asm!("ltr {0:x}", in(reg) u32::from(selector::TSS), options(nostack, preserves_flags));
    }
}

/// Loads the LDT described in the table in force, or none.
pub fn load_ldt(entries: u32) {
    let selector = if entries == 0 { 0 } else { selector::LDT };
    // SAFETY: the descriptor in our own page is present and of the right type (`set_ldt`); ring 0 uses no LDT.
    unsafe { asm!("lldt {0:x}", in(reg) u32::from(selector), options(nostack, preserves_flags)) };
}

/// Loads the table for when no vCPU is on this CPU.
pub fn load_idle_gdt(id: u32) {
    let own = block(id) + at::IDLE_GDT;
    // Not busy: it was, if it was this table's when it was last loaded.
    let [low, _] = tss_descriptor(block(id));
    // SAFETY: a writable page of this CPU's block, which is below every root's slot 257 and nobody else's.
    unsafe { word(own + u64::from(selector::TSS) - OWN_PAGE_OFFSET).store(low, Ordering::Relaxed) };
    // SAFETY: the page was filled by `build_block`, its TSS is not busy, and it is below every root's slot 257.
    unsafe { load_gdt(own - OWN_PAGE_OFFSET) };
}

/// A word of a block's writable pages.
///
/// # Safety
/// `address` is in such a page, aligned to 8, and the page's other users know of it.
unsafe fn word(address: u64) -> &'static AtomicU64 {
    // SAFETY: mapped in every root from before the CPU runs, and for good; the caller's contract for the rest.
    unsafe { &*(address as *const AtomicU64) }
}

/// Puts this CPU on its block: descriptor tables, task register, interrupt table, system-call entry points.
pub fn activate(id: u32) {
    load_idle_gdt(id);
    cpu::set_memory_types();
    let base = block(id);
    let idt = TablePointer {
        limit: 0xfff,
        base: base + at::IDT,
    };
    // SAFETY: the interrupt table was filled by `build_block`; code selector 0xe008 is ring 0's in every table we
    // load. The far return reloads CS from it.
    unsafe {
        asm!("lidt [{}]", in(reg) &idt, options(readonly, nostack, preserves_flags));
        asm!(
            "push {cs}",
            "lea {t}, [rip + 2f]",
            "push {t}",
            "retfq",
            "2:",
            "xor {t:e}, {t:e}",
            "mov ds, {t:e}",
            "mov es, {t:e}",
            "mov fs, {t:e}",
            "mov gs, {t:e}",
            "mov {t:e}, 0xe010",
            "mov ss, {t:e}",
            cs = in(reg) u64::from(selector::RING0_CODE),
            t = out(reg) _,
        );
        cpu::wrmsr(msr::EFER, cpu::rdmsr(msr::EFER) | EFER_SCE);
        let star = u64::from(selector::SYSRET_BASE) << 48 | u64::from(selector::RING0_CODE) << 32;
        cpu::wrmsr(msr::STAR, star);
        cpu::wrmsr(msr::LSTAR, in_block(base, link_address!(syscall_entry)));
        cpu::wrmsr(msr::CSTAR, in_block(base, link_address!(syscall32_entry)));
        // Interrupts, traps, direction, nesting, alignment checks and I/O privilege are cleared on entry.
        cpu::wrmsr(msr::SFMASK, SYSCALL_CLEARS);
        cpu::wrmsr(msr::SYSENTER_CS, u64::from(selector::RING0_CODE));
        cpu::wrmsr(msr::SYSENTER_ESP, base + at::ENTRY_TOP);
        cpu::wrmsr(
            msr::SYSENTER_EIP,
            in_block(base, link_address!(sysenter_entry)),
        );
    }
}

/// Tells the entry code of this CPU, `id`, which root ring 0 runs on (0: the guest's own) and where the vCPU's transit page
/// is.
pub fn set_entry(id: u32, ring0_root: u64, transit: u64) {
    let page = block(id) + at::DATA;
    // SAFETY: the data page of this CPU's block, of which the entry code reads these words with the next exit or entry.
    let [root, place] = unsafe { [data::HV_CR3, data::TRANSIT].map(|at| word(page + at)) };
    root.store(ring0_root, Ordering::Relaxed);
    place.store(transit, Ordering::Relaxed);
}

/// EFER: `syscall` is an instruction.
const EFER_SCE: u64 = 1;
/// Flags that `syscall` clears: TF, IF, DF, IOPL, NT, AC.
const SYSCALL_CLEARS: u64 = 0x4_7700;

/// Where in a CPU's block the way out to a guest begins.
pub fn exit_address(id: u32) -> u64 {
    unsafe extern "C" {
        static exit_to_guest: u8;
    }
    in_block(block(id), link_address!(exit_to_guest))
}
