//! Facts about the machine that decide what the control domain may touch, and how its guests run.

use crate::arch::apic;
use crate::arch::cpu;
use crate::arch::smp::skew;
use crate::device::{acpi, ioapic, timer};
use arrayvec::ArrayVec;
use firmware::MAX_IO_APICS;
use frames::Mfn;

/// Frames no domain may map: the interrupt controllers.
pub fn is_ring0_only(mfn: Mfn) -> bool {
    let phys = mfn.0 * 4096;
    phys == apic::phys_base() & !0xfff || ioapic::owns(phys)
}

/// Where writes are interrupt messages rather than memory: the first address and the bytes.
const MESSAGES: (u64, u64) = (0xfee0_0000, 1 << 20);

/// What the interrupt controllers take of the address space, lowest first, as first address and one beyond: to be
/// shown as reserved in the machine's memory map.
pub fn controller_ranges() -> ArrayVec<(u64, u64), { MAX_IO_APICS + 2 }> {
    let io_apics = acpi::platform().map_or(&[][..], |p| p.io_apics.as_slice());
    let mut ranges: ArrayVec<(u64, u64), { MAX_IO_APICS + 2 }> = io_apics
        .iter()
        .map(|a| a.address & !0xfff)
        .take(MAX_IO_APICS)
        .map(|page| (page, page + 4096))
        .collect();
    let (messages, bytes) = MESSAGES;
    ranges.push((messages, messages + bytes));
    let own = apic::phys_base() & !0xfff;
    // Usually it lies among the messages.
    if own.wrapping_sub(messages) >= bytes {
        ranges.push((own, own + 4096));
    }
    ranges.sort_unstable();
    ranges
}

/// The PM timer's port, which ring 0 keeps.
pub fn pm_timer_port() -> Option<u16> {
    acpi::platform()
        .and_then(|p| p.pm_timer.as_ref())
        .map(|t| t.port)
}

const ARCH_CAPABILITIES: u32 = 0x10a;
const RDCL_NO: u64 = 1;

/// Whether user code on this CPU can read memory it may not (Meltdown), so that ring 0 must not be mapped while a
/// guest runs: all Intel CPUs that do not say otherwise.
pub fn cpu_has_meltdown() -> bool {
    const INTEL: u32 = 0x756e_6547;
    if cpu::cpuid(0, 0).ebx != INTEL {
        return false;
    }
    let says = cpu::cpuid(0, 0).eax >= 7 && cpu::cpuid(7, 0).edx >> 29 & 1 == 1;
    !(says && cpu::try_rdmsr(ARCH_CAPABILITIES).is_some_and(|v| v & RDCL_NO != 0))
}

/// Whether this CPU speculates through non-present entries that name memory (L1 terminal fault): the same CPUs, and
/// they say so by the same bit.
pub fn cpu_has_l1tf() -> bool {
    cpu_has_meltdown()
}

/// The time of day when system time was zero: seconds and nanoseconds.
pub fn wall_clock_base() -> (u64, u32) {
    let ns = timer::wall_base_ns();
    (ns / 1_000_000_000, (ns % 1_000_000_000) as u32)
}

/// Whether all CPUs' time-stamp counters run as one, whatever they do: as the command line says, else as the CPU says and
/// as it was found when the CPUs were started. The same at any time after that.
pub fn tsc_is_stable() -> bool {
    skew::trust().is_stable(cpu_says_invariant(), skew::all_the_same())
}

fn cpu_says_invariant() -> bool {
    cpu::cpuid(0x8000_0000, 0).eax >= 0x8000_0007 && cpu::cpuid(0x8000_0007, 0).edx >> 8 & 1 == 1
}
