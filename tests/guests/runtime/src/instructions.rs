//! Instructions that the hypervisor emulates or that tests need by name.

use core::arch::asm;

/// Reads a model-specific register.
pub fn rdmsr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading changes nothing of Rust's.
    unsafe { asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high) };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
pub fn wrmsr(register: u32, value: u64) {
    // SAFETY: the hypervisor emulates or refuses it; none it accepts changes memory.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32)
    };
}

/// The time-stamp counter, after all earlier instructions.
pub fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: only reads a counter.
    unsafe { asm!("lfence", "rdtsc", out("eax") low, out("edx") high) };
    u64::from(high) << 32 | u64::from(low)
}

/// The processor's last page-fault address, as the hypervisor presents it.
pub fn read_cr2() -> u64 {
    let value;
    // SAFETY: only reads; emulated.
    unsafe { asm!("mov {}, cr2", out(reg) value) };
    value
}

/// CR0 as presented.
pub fn read_cr0() -> u64 {
    let value;
    // SAFETY: only reads; emulated.
    unsafe { asm!("mov {}, cr0", out(reg) value) };
    value
}

/// Writes CR0.
pub fn write_cr0(value: u64) {
    // SAFETY: emulated: only TS can change.
    unsafe { asm!("mov cr0, {}", in(reg) value) };
}

/// CR4 as presented.
pub fn read_cr4() -> u64 {
    let value;
    // SAFETY: only reads; emulated.
    unsafe { asm!("mov {}, cr4", out(reg) value) };
    value
}

/// Writes CR4.
pub fn write_cr4(value: u64) {
    // SAFETY: emulated: only bits that are harmless to Rust can change.
    unsafe { asm!("mov cr4, {}", in(reg) value) };
}

/// Result of CPUID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Cpuid {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

/// CPUID by the forced-emulation prefix: what the hypervisor says.
pub fn cpuid(leaf: u32, subleaf: u32) -> Cpuid {
    let (eax, ebx, ecx, edx): (u32, u32, u32, u32);
    // SAFETY: RBX, which the compiler keeps for itself, is saved; nothing else changes.
    unsafe {
        asm!(
            "mov {saved:r}, rbx",
            ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e",
            "cpuid",
            "xchg {saved:r}, rbx",
            saved = out(reg) ebx,
            inlateout("eax") leaf => eax, inlateout("ecx") subleaf => ecx, lateout("edx") edx,
        );
    }
    Cpuid { eax, ebx, ecx, edx }
}

/// CPUID as the bare instruction.
pub fn native_cpuid(leaf: u32, subleaf: u32) -> Cpuid {
    let result = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    Cpuid {
        eax: result.eax,
        ebx: result.ebx,
        ecx: result.ecx,
        edx: result.edx,
    }
}

/// RFLAGS.
pub fn read_flags() -> u64 {
    let value;
    // SAFETY: pushes and pops one word; there is no red zone.
    unsafe { asm!("pushfq", "pop {}", out(reg) value) };
    value
}

/// RSP.
pub fn read_rsp() -> u64 {
    let value;
    // SAFETY: only reads.
    unsafe { asm!("mov {}, rsp", out(reg) value) };
    value
}

/// The CS selector.
pub fn read_cs() -> u16 {
    let value;
    // SAFETY: only reads.
    unsafe { asm!("mov {0:x}, cs", out(reg) value) };
    value
}

/// The SS selector.
pub fn read_ss() -> u16 {
    let value;
    // SAFETY: only reads.
    unsafe { asm!("mov {0:x}, ss", out(reg) value) };
    value
}

/// Reads eight bytes at `address`, which may fault: for use under [`crate::trap::catch`].
pub fn load(address: u64) -> u64 {
    let value;
    // SAFETY: a read; where it faults the caller catches it. Assembly, so that it is exactly one access.
    unsafe { asm!("mov {}, [{}]", out(reg) value, in(reg) address, options(nostack, readonly)) };
    value
}

/// Writes eight bytes at `address`, which may fault.
///
/// # Safety
/// If the write succeeds it must not break a live Rust value.
pub unsafe fn store(address: u64, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("mov [{}], {}", in(reg) address, in(reg) value, options(nostack)) };
}
