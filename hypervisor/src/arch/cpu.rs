//! Single instructions: control and model-specific registers, CPUID, ports, segment loads.
//!
//! Each function is one instruction the rest of ring 0 may use; what makes a use right (X1 and the like) is
//! argued where it is called. Functions that could break memory safety are `unsafe`.

use crate::sync;
use core::arch::asm;
pub use core::arch::x86_64::CpuidResult;
use x86_64::VirtAddr;
use x86_64::instructions::port::{PortReadOnly, PortWriteOnly};
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr0, Cr2, Cr4};
use x86_64::registers::model_specific::Msr;
use x86_64::registers::segmentation::GS;

/// Model-specific register numbers.
pub mod msr {
    pub const APIC_BASE: u32 = 0x1b;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const PAT: u32 = 0x277;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const SFMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const UCODE_REV: u32 = 0x8b;
}

/// CR0 bits.
pub mod cr0 {
    pub const MP: u64 = 1 << 1;
    pub const EM: u64 = 1 << 2;
    pub const NE: u64 = 1 << 5;
}

/// CR4 bits.
pub mod cr4 {
    pub const TSD: u64 = 1 << 2;
    pub const DE: u64 = 1 << 3;
    pub const PAE: u64 = 1 << 5;
    pub const MCE: u64 = 1 << 6;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
    pub const PCIDE: u64 = 1 << 17;
    pub const OSXSAVE: u64 = 1 << 18;
    pub const SMEP: u64 = 1 << 20;
    pub const SMAP: u64 = 1 << 21;
}

/// CPUID, leaf and sub-leaf.
#[inline]
pub fn cpuid(leaf: u32, sub: u32) -> CpuidResult {
    core::arch::x86_64::__cpuid_count(leaf, sub)
}

/// Reads a model-specific register that this CPU is known to have.
#[inline]
pub fn rdmsr(register: u32) -> u64 {
    // SAFETY: reading has no effect on memory; a register the CPU lacks would fault in ring 0, which is a bug of
    // ours that stops the machine, not undefined behaviour.
    unsafe { Msr::new(register).read() }
}

/// Writes a model-specific register.
///
/// # Safety
/// The value must leave ring 0's own execution (entry points, roots, features it relies on) intact.
#[inline]
pub unsafe fn wrmsr(register: u32, value: u64) {
    // SAFETY: the caller's contract.
    unsafe { Msr::new(register).write(value) };
}

/// Reads a register that the CPU may not have: `None` if it faults.
pub fn try_rdmsr(register: u32) -> Option<u64> {
    let (low, high): (u32, u32);
    let failed: u64;
    // SAFETY: the fix-up entry turns the fault of a missing register into the branch to `3`.
    unsafe {
        asm!(
            "xor {f:e}, {f:e}",
            "2: rdmsr",
            "jmp 4f",
            "3: mov {f:e}, 1",
            "4:",
            ".pushsection .fixups, \"a\"",
            ".quad 2b, 3b",
            ".popsection",
            f = out(reg) failed, in("ecx") register, out("eax") low, out("edx") high,
            options(nostack)
        );
    }
    (failed == 0).then_some(u64::from(high) << 32 | u64::from(low))
}

/// The time-stamp counter.
#[inline]
pub fn rdtsc() -> u64 {
    // SAFETY: no effect but reading the counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The root of the address space in force.
#[inline]
pub fn read_cr3() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Loads a root, flushing translations.
///
/// # Safety
/// The root must map all of ring 0 that is in use, as ring 0's own root does.
#[inline]
pub unsafe fn write_cr3(value: u64) {
    // SAFETY: the caller's contract.
    unsafe { asm!("mov cr3, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// Address of the last page fault.
#[inline]
pub fn read_cr2() -> u64 {
    Cr2::read_raw()
}

/// CR4.
#[inline]
pub fn read_cr4() -> u64 {
    Cr4::read_raw()
}

/// Writes CR4.
///
/// # Safety
/// Paging features in use must stay on.
#[inline]
pub unsafe fn write_cr4(value: u64) {
    // SAFETY: the caller's contract.
    unsafe { Cr4::write_raw(value) };
}

/// CR0.
#[inline]
pub fn read_cr0() -> u64 {
    Cr0::read_raw()
}

/// Writes CR0.
///
/// # Safety
/// Paging, protection and write protection must stay on.
#[inline]
pub unsafe fn write_cr0(value: u64) {
    // SAFETY: the caller's contract.
    unsafe { Cr0::write_raw(value) };
}

/// Sets or clears CR0.TS, the only bit of CR0 that changes after boot.
#[inline]
pub fn set_task_switched(on: bool) {
    // SAFETY: TS only makes FPU instructions fault; ring 0 uses none outside `fpu`, which clears it first.
    unsafe {
        if on {
            asm!("mov {0}, cr0", "or {0}, 8", "mov cr0, {0}", out(reg) _, options(nostack));
        } else {
            asm!("clts", options(nostack));
        }
    }
}

/// Exchanges the active and the shadow GS base. Ring 0 never uses GS, so this touches the guest's state only.
#[inline]
pub fn swapgs() {
    // SAFETY: see above.
    unsafe { GS::swap() };
}

/// Flushes one address of the address space in force.
#[inline]
pub fn invlpg(addr: u64) {
    tlb::flush(VirtAddr::new_truncate(addr));
}

/// Reads a port.
#[inline]
pub fn inb(port: u16) -> u8 {
    // SAFETY: port reads do not touch memory; which port is the caller's policy.
    unsafe { PortReadOnly::new(port).read() }
}

/// Reads 16 bits from a port.
#[inline]
pub fn inw(port: u16) -> u16 {
    // SAFETY: port reads do not touch memory; which port is the caller's policy.
    unsafe { PortReadOnly::new(port).read() }
}

/// Reads 32 bits from a port.
#[inline]
pub fn inl(port: u16) -> u32 {
    // SAFETY: port reads do not touch memory; which port is the caller's policy.
    unsafe { PortReadOnly::new(port).read() }
}

/// Writes a port.
#[inline]
pub fn outb(port: u16, value: u8) {
    // SAFETY: a device told to write memory (DMA) could break anything; the ports ring 0 drives are the interrupt
    // controllers, timers, its console and the power switch, and only the trusted control domain reaches others.
    unsafe { PortWriteOnly::new(port).write(value) }
}

/// Writes 16 bits to a port.
#[inline]
pub fn outw(port: u16, value: u16) {
    // SAFETY: as `outb`.
    unsafe { PortWriteOnly::new(port).write(value) }
}

/// Writes 32 bits to a port.
#[inline]
pub fn outl(port: u16, value: u32) {
    // SAFETY: as `outb`.
    unsafe { PortWriteOnly::new(port).write(value) }
}

/// Waits for an interrupt with interrupts on, then turns them off: the idle loop's only moment of openness (X1).
#[inline]
#[track_caller]
pub fn wait_for_interrupt() {
    sync::assert_none("interrupts are waited for");
    // SAFETY: handlers run on this private stack and return; `sti` takes effect after `hlt` begins, so that no
    // interrupt is lost between the two.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Lets interrupts in that wait, and turns them off again.
#[inline]
#[track_caller]
pub fn let_interrupts_in() {
    sync::assert_none("interrupts are let in");
    // SAFETY: as in `wait_for_interrupt`; `sti` takes effect after `nop`.
    unsafe { asm!("sti", "nop", "cli", options(nostack)) };
}

/// Stops this CPU for ever.
pub fn halt_for_ever() -> ! {
    loop {
        // SAFETY: stops the CPU; NMIs return here.
        unsafe { asm!("cli", "hlt", options(nostack)) };
    }
}

/// Loads DS, ES or FS/GS selectors; false if the selector faults, in which case it is loaded as null.
macro_rules! segment_loader {
    ($name:ident, $reg:literal) => {
        /// Loads a selector; false, and a null selector, if that faults.
        #[inline]
        pub fn $name(selector: u16) -> bool {
            let failed: u64;
            // SAFETY: ring 0 uses none of DS, ES, FS, GS in 64-bit mode (DS and ES bases are ignored); a bad
            // selector faults and the fix-up loads null instead.
            unsafe {
                asm!(
                    "xor {f:e}, {f:e}",
                    concat!("2: mov ", $reg, ", {s:e}"),
                    "jmp 4f",
                    "3: mov {f:e}, 0",
                    concat!("mov ", $reg, ", {f:e}"),
                    "mov {f:e}, 1",
                    "4:",
                    ".pushsection .fixups, \"a\"",
                    ".quad 2b, 3b",
                    ".popsection",
                    f = out(reg) failed, s = in(reg) u32::from(selector),
                    options(nostack)
                );
            }
            failed == 0
        }
    };
}
segment_loader!(load_ds, "ds");
segment_loader!(load_es, "es");
segment_loader!(load_fs, "fs");
segment_loader!(load_gs, "gs");

/// Selectors in DS, ES, FS, GS.
pub fn read_selectors() -> [u16; 4] {
    let (ds, es, fs, gs): (u32, u32, u32, u32);
    // SAFETY: reads registers.
    unsafe {
        asm!("mov {0:e}, ds", "mov {1:e}, es", "mov {2:e}, fs", "mov {3:e}, gs",
             out(reg) ds, out(reg) es, out(reg) fs, out(reg) gs, options(nomem, nostack, preserves_flags));
    }
    [ds as u16, es as u16, fs as u16, gs as u16]
}

/// Bits of a physical address.
pub fn address_bits() -> u8 {
    const SIZES: u32 = 0x8000_0008;
    if cpuid(0x8000_0000, 0).eax >= SIZES {
        cpuid(SIZES, 0).eax as u8
    } else {
        36
    }
}

/// Whether the CPU has TSC_AUX (RDTSCP or RDPID).
pub fn has_tsc_aux() -> bool {
    cpuid(0x8000_0001, 0).edx >> 27 & 1 == 1
}

/// The memory types of the interface, lowest index first: WB, WT, UC-, UC, WC, WP, UC, UC.
const MEMORY_TYPES: u64 = 0x0000_0501_0007_0406;

/// Sets the table of memory types to what the interface promises: guests' entries hold indices into it. The first four
/// are as at power-on, and no entry of ring 0's uses another, so that no translation or cache line is of a wrong type.
pub fn set_memory_types() {
    // SAFETY: see above; every value is a defined type.
    unsafe { wrmsr(msr::PAT, MEMORY_TYPES) };
}

/// Writes the caches back and empties them.
pub fn write_back_caches() {
    // SAFETY: costs time only.
    unsafe { asm!("wbinvd", options(nostack, preserves_flags)) };
}
