//! Supervisor-mode access prevention: whether it is used, and the instructions that lift it.
//!
//! With CR4.SMAP on, ring 0 faults where it touches a page that guests may touch. It has little reason to: guest
//! memory is reached through the direct map (`phys`), and descriptor tables of guests are seen through the exposed
//! area, all supervisor pages. Only the two hot transitions in `entry.s` use the guest's own addresses.
//!
//! # Invariants
//! - M1: the sites of `entry.s` are `stac` and `clac` if CR4.SMAP will be on, three-byte NOPs otherwise. They are
//!   written once, before any of that code runs and before the image is mapped read-only.
//! - M2: AC is set in ring 0 between a `stac` and the `clac` of the same transition only. A guest can set AC itself:
//!   `syscall` clears it by mask, `sysenter`'s entry loads flags of its own, and every entry through the interrupt
//!   table begins with a `clac` site. A fault between the two sites returns to a fix-up that begins with one.
//!
//! # Why there is a probe
//! Some emulators (QEMU 7.2 is one) take the stack reads of an `iretq` *in ring 3* for supervisor accesses.
//! With SMAP on it then page-faults on its own stack, whatever the guest does about it. Linux uses such an `iretq`
//! to serialize the CPU, so a kernel dies early there. [`probe`] runs one such `iretq` on tables of its own.

use crate::arch::cpu::{self, cr4};
use crate::arch::paging::bits;
use crate::layout::{IMAGE, PAGE};
use crate::memory::phys;
use crate::{info, warn};
use boot_info::params::Choice;
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use frames::Mfn;

/// Whether CPUs get CR4.SMAP (M1).
static USED: AtomicBool = AtomicBool::new(false);

/// The bit that each CPU turns on in CR4: SMAP or nothing.
pub fn cr4_bit() -> u64 {
    if USED.load(Ordering::Relaxed) {
        cr4::SMAP
    } else {
        0
    }
}

/// Decides, and makes `entry.s` agree.
///
/// # Safety
/// Once, on the boot tables: the image is writable through the direct map, interrupts are off, and nothing has been
/// loaded that this would have to keep (task register, interrupt table).
pub unsafe fn choose(wanted: Choice) {
    let present = cpu::cpuid(0, 0).eax >= 7 && cpu::cpuid(7, 0).ebx >> 20 & 1 == 1;
    let used = match wanted {
        Choice::No => false,
        Choice::Yes if !present => {
            warn!("smap=yes, but this CPU has no SMAP; going on without");
            false
        }
        Choice::Auto if !present => false,
        Choice::Yes => true,
        Choice::Auto => {
            // SAFETY: the caller's contract, and SMAP is present.
            let right = unsafe { probe() };
            if !right {
                info!(
                    "SMAP stays off: with it, this CPU faults in a program's iretq (an emulator's fault)"
                );
            }
            right
        }
    };
    if used {
        write_sites();
    }
    USED.store(used, Ordering::Relaxed);
}

unsafe extern "C" {
    static smap_sites_start: [u64; 2];
    static smap_sites_end: [u64; 2];
}

/// M1: turns the NOPs into the instructions that the table names by their last byte.
fn write_sites() {
    let (start, end) = (&raw const smap_sites_start, &raw const smap_sites_end);
    // SAFETY: linker symbols around the table: pairs of words, constant.
    let sites = unsafe { core::slice::from_raw_parts(start, end.offset_from(start) as usize) };
    for &[at, last_byte] in sites {
        phys::write(at - IMAGE, &[0x0f, 0x01, last_byte as u8]);
    }
}

// The probe's code. Ring 3 has one page: these instructions at its start, its stack at its end.
//
// enter(entry point, stack pointer) -> 0 if the program came to its `int3`, 1 if anything faulted.
// The program leaves RBX alone, so that ring 0's stack pointer is found there however it came back.
global_asm!(
    ".pushsection .text.smap_probe, \"ax\"",
    "smap_probe_enter:",
    "push rbx",
    "push rbp",
    "mov rbx, rsp",
    "push {user_data}",
    "push rsi",
    "push 2",
    "push {user_code}",
    "push rdi",
    "iretq",
    "smap_probe_faulted:",
    "mov eax, 1",
    "jmp 2f",
    "smap_probe_passed:",
    "xor eax, eax",
    "2: mov rsp, rbx",
    "mov ecx, {data}",
    "mov ss, ecx",
    "pop rbp",
    "pop rbx",
    "ret",
    "smap_probe_program:",
    "mov rax, rsp",
    "push {user_data}",
    "push rax",
    "pushfq",
    "push {user_code}",
    "lea rax, [rip + 3f]",
    "push rax",
    "iretq",
    "3: int3",
    "smap_probe_program_end:",
    ".popsection",
    data = const DATA,
    user_data = const USER_DATA,
    user_code = const USER_CODE,
);

unsafe extern "C" {
    fn smap_probe_enter(entry: u64, stack: u64) -> u64;
    static smap_probe_faulted: u8;
    static smap_probe_passed: u8;
    static smap_probe_program: u8;
    static smap_probe_program_end: u8;
}

/// Selectors of the probe's table; the first two are where the boot table has them.
const CODE: u16 = 0x08;
const DATA: u16 = 0x10;
const USER_DATA: u16 = 0x18 | 3;
const USER_CODE: u16 = 0x20 | 3;
const TSS: u16 = 0x28;

/// Root slot below which the probe's page is seen: the boot tables use slot 0 of the lower half alone.
const SLOT: usize = 1;
/// Where that slot begins.
const PROGRAM: u64 = (SLOT as u64) << 39;

/// Bytes of a task state segment.
const TSS_BYTES: usize = 104;
/// Where it has the stack pointer for entries to ring 0.
const TSS_RSP0: usize = 4;

#[repr(C, align(4096))]
struct Page([AtomicU64; PAGE as usize / 8]);

/// Three levels of tables and the page they lead to. Static, because the boot tables can be named by address only
/// where the image is.
static PAGES: [Page; 4] = [const { Page([const { AtomicU64::new(0) }; PAGE as usize / 8]) }; 4];

/// What the CPU needs to go to ring 3 and back.
#[repr(C, align(16))]
struct Tables {
    gdt: [u64; 7],
    /// Every exception up to the page fault; others cannot come from the program, interrupts are off.
    idt: [[u64; 2]; 15],
    tss: [u8; TSS_BYTES],
    /// Where exceptions of ring 3 put their frame.
    stack: [u64; 64],
}

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

impl Tables {
    const EMPTY: Tables = Tables {
        gdt: [0; 7],
        idt: [[0; 2]; 15],
        tss: [0; TSS_BYTES],
        stack: [0; 64],
    };

    /// Fills the tables in place; they refer to their own addresses and must not move afterwards.
    fn fill(&mut self) {
        let tss = self.tss.as_ptr() as u64;
        self.gdt = [
            0,
            0x00af_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x00cf_f300_0000_ffff,
            0x00af_fb00_0000_ffff,
            (TSS_BYTES as u64 - 1)
                | (tss & 0xff_ffff) << 16
                | 0x89 << 40
                | (tss >> 24 & 0xff) << 56,
            tss >> 32,
        ];
        let stack_end = self.stack.as_ptr_range().end as u64 & !15;
        self.tss[TSS_RSP0..TSS_RSP0 + 8].copy_from_slice(&stack_end.to_le_bytes());
        self.idt = [gate(&raw const smap_probe_faulted as u64, 0); 15];
        self.idt[3] = gate(&raw const smap_probe_passed as u64, 3);
    }
}

/// An interrupt gate that privilege level `dpl` may call.
fn gate(handler: u64, dpl: u64) -> [u64; 2] {
    let low = handler & 0xffff
        | u64::from(CODE) << 16
        | 0xe << 40
        | dpl << 45
        | 1 << 47
        | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

/// Puts the probe's page, with its program, below [`SLOT`] of the root in force. Returns the root.
fn map_program() -> Mfn {
    let frame = |page: &Page| Mfn((core::ptr::from_ref(page) as u64 - IMAGE) / PAGE);
    let root = Mfn(cpu::read_cr3() / PAGE);
    let link = bits::PRESENT | bits::WRITE | bits::USER;
    let mut table = root;
    let mut index = SLOT;
    for page in &PAGES {
        phys::word(table, index).store((frame(page).0 * PAGE) | link, Ordering::Release);
        (table, index) = (frame(page), 0);
    }
    let (start, end) = (
        &raw const smap_probe_program,
        &raw const smap_probe_program_end,
    );
    // SAFETY: linker symbols around the program's bytes, constant.
    let program = unsafe { core::slice::from_raw_parts(start, end.offset_from(start) as usize) };
    phys::write(table.0 * PAGE, program);
    root
}

/// Whether an `iretq` of ring 3 works with SMAP on.
///
/// # Safety
/// As [`choose`], and the CPU has SMAP.
unsafe fn probe() -> bool {
    let root = map_program();
    let mut tables = Tables::EMPTY;
    tables.fill();
    let pointer = |base: u64, bytes: usize| TablePointer {
        limit: bytes as u16 - 1,
        base,
    };
    let gdt = pointer(tables.gdt.as_ptr() as u64, size_of_val(&tables.gdt));
    let idt = pointer(tables.idt.as_ptr() as u64, size_of_val(&tables.idt));
    let (mut old_gdt, mut old_idt) = (pointer(0, 1), pointer(0, 1));
    // SAFETY: the tables keep code and stack selectors at their places, so what is cached stays right. They are
    // restored before `tables` ends; only the task register keeps naming it, and nothing changes privilege before
    // `exposed::activate` loads another.
    unsafe {
        asm!("sgdt [{}]", in(reg) &raw mut old_gdt, options(nostack, preserves_flags));
        asm!("sidt [{}]", in(reg) &raw mut old_idt, options(nostack, preserves_flags));
        asm!("lgdt [{}]", in(reg) &gdt, options(readonly, nostack, preserves_flags));
        asm!("lidt [{}]", in(reg) &idt, options(readonly, nostack, preserves_flags));
        asm!("ltr {0:x}", in(reg) u32::from(TSS), options(nostack, preserves_flags));
    }
    let plain = cpu::read_cr4();
    // SAFETY: ring 0 touches no user page until the bit is cleared again; the program runs on its own page, comes
    // back by an exception whatever happens to it, and keeps the registers that the C convention lets a caller
    // rely on.
    let faulted = unsafe {
        cpu::write_cr4(plain | cr4::SMAP);
        let faulted = smap_probe_enter(PROGRAM, PROGRAM + PAGE);
        cpu::write_cr4(plain);
        faulted
    };
    // SAFETY: the tables that were in force before.
    unsafe {
        asm!("lgdt [{}]", in(reg) &old_gdt, options(readonly, nostack, preserves_flags));
        asm!("lidt [{}]", in(reg) &old_idt, options(readonly, nostack, preserves_flags));
    }
    phys::word(root, SLOT).store(0, Ordering::Release);
    // SAFETY: the root in force, once more, to forget the program's page.
    unsafe { cpu::write_cr3(root.0 * PAGE) };
    faulted == 0
}
