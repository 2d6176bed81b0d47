//! CPUID as a guest's kernel sees it (its user mode sees the CPU's own, unless the CPU can be told otherwise).
//!
//! Each leaf is the CPU's answer through a mask of bits that may show. A leaf without a row is all zero.

use crate::arch::cpu::{CpuidResult, cpuid};
use crate::arch::fpu;
use crate::device::facts;
use guest_abi::cpuid::{
    XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD, XEN_CPUID_FIRST_LEAF, XEN_CPUID_SIGNATURE_EBX,
    XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX,
};

const fn bits(list: &[u32]) -> u32 {
    let mut mask = 0;
    let mut i = 0;
    while i < list.len() {
        mask |= 1 << list[i];
        i += 1;
    }
    mask
}

/// Leaf 1 EDX hidden: VME, PSE, MTRR, PGE, PSE36, DS, ACPI (thermal), TM, PBE. Large pages and global pages are not
/// offered. Machine checks are shown, as the interface has it, with no bank to read: they are ring 0's.
const HIDE_1_EDX: u32 = bits(&[1, 3, 12, 13, 17, 21, 22, 29, 31]);
/// Leaf 1 ECX hidden: DTES64, MONITOR, DSCPL, VMX, SMX, EIST, TM2, CNXT-ID, SDBG, XTPR, PDCM, PCID, DCA, x2APIC,
/// TSC deadline.
const HIDE_1_ECX: u32 = bits(&[2, 3, 4, 5, 6, 7, 8, 10, 11, 14, 15, 17, 18, 21, 24]);
const XSAVE: u32 = 1 << 26;
const OSXSAVE: u32 = 1 << 27;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 7 EBX shown: BMI1, HLE, AVX2, FDP, BMI2, ERMS, RTM, FPU segments, AVX512 F/DQ, RDSEED, ADX, IFMA,
/// CLFLUSHOPT, CLWB, AVX512 PF/ER/CD, SHA, AVX512 BW/VL. Not FSGSBASE (costs a trap a switch), SMEP, SMAP, INVPCID.
const SHOW_7_EBX: u32 = bits(&[
    3, 4, 5, 6, 8, 9, 11, 13, 16, 17, 18, 19, 21, 23, 24, 26, 27, 28, 29, 30, 31,
]);
/// Leaf 7 ECX shown: instruction sets only.
const SHOW_7_ECX: u32 = bits(&[0, 1, 6, 8, 9, 10, 11, 12, 14, 22, 25, 27, 28]);
/// Leaf 7 EDX shown: FSRM, VP2INTERSECT, MD_CLEAR (VERW works unprivileged), SERIALIZE, AVX512 FP16.
const SHOW_7_EDX: u32 = bits(&[2, 3, 4, 8, 10, 14, 23]);
/// Leaf 7.1 EAX shown: AVX-VNNI, AVX512 BF16, fast short string operations.
const SHOW_7_1_EAX: u32 = bits(&[4, 5, 10, 11, 12]);
/// Leaf 0x80000001 EDX hidden: as leaf 1 where AMD repeats it, and 1 GiB pages.
const HIDE_EXT_EDX: u32 = bits(&[1, 3, 12, 13, 17, 26]);
/// Leaf 0x80000001 ECX shown: LAHF, ABM, SSE4A, misaligned SSE, prefetch, XOP, FMA4, TBM.
const SHOW_EXT_ECX: u32 = bits(&[0, 5, 6, 7, 8, 11, 16, 21]);

const MAX_BASIC: u32 = 0xd;
const MAX_EXTENDED: u32 = 0x8000_0008;

const NOTHING: CpuidResult = CpuidResult {
    eax: 0,
    ebx: 0,
    ecx: 0,
    edx: 0,
};

/// Leaf, subleaf and register (0 is EAX) of each word of a feature set, in the interface's order.
const FEATURE_WORDS: [(u32, u32, u8); 11] = [
    (1, 0, 3),
    (1, 0, 2),
    (0x8000_0001, 0, 3),
    (0x8000_0001, 0, 2),
    (0xd, 1, 0),
    (7, 0, 1),
    (7, 0, 2),
    (0x8000_0007, 0, 3),
    (0x8000_0008, 0, 1),
    (7, 0, 3),
    (7, 1, 0),
];

/// The first words of a feature set, from whoever answers for CPUID.
pub fn feature_words<const N: usize>(ask: impl Fn(u32, u32) -> CpuidResult) -> [u32; N] {
    let mut words = [0; N];
    for (word, (leaf, sub, register)) in words.iter_mut().zip(FEATURE_WORDS) {
        if ask(leaf & 0x8000_0000, 0).eax < leaf {
            continue;
        }
        let answer = ask(leaf, sub);
        *word = [answer.eax, answer.ebx, answer.ecx, answer.edx][usize::from(register)];
    }
    words
}

/// The answer to a guest kernel's CPUID.
pub fn answer(leaf: u32, sub: u32) -> CpuidResult {
    if (XEN_CPUID_FIRST_LEAF..XEN_CPUID_FIRST_LEAF + 0x1_0000).contains(&leaf) {
        return interface(leaf - XEN_CPUID_FIRST_LEAF);
    }
    let real = cpuid(leaf, sub);
    match leaf {
        0 => CpuidResult {
            eax: real.eax.min(MAX_BASIC),
            ..real
        },
        1 => leaf1(real),
        2 | 4 => real,
        7 => leaf7(real, sub),
        0xd => xsave(real, sub),
        0x8000_0000 => CpuidResult {
            eax: real.eax.min(MAX_EXTENDED),
            ..real
        },
        0x8000_0001 => CpuidResult {
            ecx: real.ecx & SHOW_EXT_ECX,
            edx: real.edx & !HIDE_EXT_EDX,
            ..real
        },
        0x8000_0002..=0x8000_0006 => real,
        0x8000_0007 => CpuidResult {
            edx: if facts::tsc_is_stable() { 1 << 8 } else { 0 },
            ..NOTHING
        },
        0x8000_0008 => CpuidResult {
            eax: real.eax & 0xffff,
            ebx: real.ebx & 1,
            ..NOTHING
        },
        _ => NOTHING,
    }
}

fn leaf1(real: CpuidResult) -> CpuidResult {
    let mut ecx = real.ecx & !HIDE_1_ECX & !OSXSAVE | HYPERVISOR;
    if fpu::offered() == 0 {
        ecx &= !XSAVE;
    } else {
        // Shown from the start: kernels take its absence before they turned it on for "not usable".
        ecx |= OSXSAVE;
    }
    CpuidResult {
        ecx,
        edx: real.edx & !HIDE_1_EDX,
        ..real
    }
}

fn leaf7(real: CpuidResult, sub: u32) -> CpuidResult {
    match sub {
        0 => CpuidResult {
            eax: real.eax.min(1),
            ebx: real.ebx & SHOW_7_EBX,
            ecx: real.ecx & SHOW_7_ECX,
            edx: real.edx & SHOW_7_EDX,
        },
        1 => CpuidResult {
            eax: real.eax & SHOW_7_1_EAX,
            ..NOTHING
        },
        _ => NOTHING,
    }
}

fn xsave(real: CpuidResult, sub: u32) -> CpuidResult {
    let offered = fpu::offered();
    match sub {
        // Sizes follow the XCR0 in force, which is the guest's.
        0 => CpuidResult {
            eax: real.eax & offered as u32,
            edx: real.edx & (offered >> 32) as u32,
            // The size with everything offered turned on.
            ecx: largest_area(offered),
            ebx: real.ebx,
        },
        // XSAVEOPT, XSAVEC, XGETBV(1); no supervisor state.
        1 => CpuidResult {
            eax: real.eax & 7,
            ebx: real.ebx,
            ..NOTHING
        },
        2..=62 if offered >> sub & 1 == 1 => real,
        _ => NOTHING,
    }
}

/// Bytes of the standard-format area that holds all of the components in a mask.
fn largest_area(components: u64) -> u32 {
    const LEGACY_AND_HEADER: u32 = 576;
    (2..63)
        .filter(|i| components >> i & 1 == 1)
        .map(|i| cpuid(0xd, i))
        .fold(LEGACY_AND_HEADER, |most, c| {
            most.max(c.ebx.saturating_add(c.eax))
        })
}

/// The interface's own leaves.
fn interface(leaf: u32) -> CpuidResult {
    match leaf {
        0 => CpuidResult {
            eax: XEN_CPUID_FIRST_LEAF + 5,
            ebx: XEN_CPUID_SIGNATURE_EBX,
            ecx: XEN_CPUID_SIGNATURE_ECX,
            edx: XEN_CPUID_SIGNATURE_EDX,
        },
        1 => CpuidResult {
            eax: 4 << 16 | 17,
            ..NOTHING
        },
        2 => CpuidResult {
            eax: 1,
            ebx: 0x4000_0000,
            ecx: XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD,
            edx: 0,
        },
        5 => {
            let width = if cpuid(0x8000_0000, 0).eax >= 0x8000_0008 {
                cpuid(0x8000_0008, 0).eax & 0xff
            } else {
                36
            };
            CpuidResult {
                ebx: width.min(44),
                ..NOTHING
            }
        }
        _ => NOTHING,
    }
}
