//! Model-specific registers as a guest's kernel sees them.

use crate::arch::cpu::{self, msr};
use crate::domain::Guest;
use crate::layout::is_canonical;

const FEATURE_CONTROL: u32 = 0x3a;
const PLATFORM_INFO: u32 = 0xce;
const MISC_FEATURES_ENABLES: u32 = 0x140;
const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const DE_CFG: u32 = 0xc001_1029;
const HWCR: u32 = 0xc001_0015;
const NB_CFG: u32 = 0xc001_001f;

const EFER_SHOWN: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11;
const APIC_ENABLED: u64 = 1 << 11;
const APIC_BSP: u64 = 1 << 8;

/// MISC_ENABLE: performance monitoring and MONITOR hidden; branch trace, PEBS and xTPR off.
const MISC_HIDDEN: u64 = 1 << 7 | 1 << 18;
const MISC_SET: u64 = 1 << 11 | 1 << 12 | 1 << 23;

fn is_amd() -> bool {
    matches!(cpu::cpuid(0, 0).ebx, 0x6874_7541 | 0x6f67_7948)
}

/// Reads a register for the guest; `None` is a general protection fault.
pub fn read(g: &Guest<'_>, register: u32) -> Option<u64> {
    Some(match register {
        msr::FS_BASE => cpu::rdmsr(msr::FS_BASE),
        msr::GS_BASE => cpu::rdmsr(msr::GS_BASE),
        // Seen from kernel mode the shadow register is the user's base.
        msr::KERNEL_GS_BASE => cpu::rdmsr(msr::KERNEL_GS_BASE),
        msr::TSC_AUX => g.local.tsc_aux,
        msr::EFER => cpu::rdmsr(msr::EFER) & EFER_SHOWN,
        msr::APIC_BASE => {
            let bsp = if g.vcpu.id == 0 { APIC_BSP } else { 0 };
            0xfee0_0000 | APIC_ENABLED | bsp
        }
        // Guests decode the real one and build their memory types on it.
        msr::PAT => cpu::rdmsr(msr::PAT),
        msr::MISC_ENABLE => cpu::try_rdmsr(msr::MISC_ENABLE)? & !MISC_HIDDEN | MISC_SET,
        msr::UCODE_REV => cpu::try_rdmsr(msr::UCODE_REV)?,
        FEATURE_CONTROL => 1,
        PLATFORM_INFO | MISC_FEATURES_ENABLES | MCG_CAP | MCG_STATUS => 0,
        DE_CFG if is_amd() => 2,
        HWCR | NB_CFG if is_amd() => 0,
        0xc001_0000..=0xc001_0007 if is_amd() => 0,
        _ => return None,
    })
}

/// Writes a register for the guest; false is a general protection fault.
pub fn write(g: &mut Guest<'_>, register: u32, value: u64) -> bool {
    match register {
        msr::FS_BASE | msr::GS_BASE | msr::KERNEL_GS_BASE if !is_canonical(value) => return false,
        msr::FS_BASE => {
            g.local.fs_base = value;
            // SAFETY: canonical; ring 0 does not use FS.
            unsafe { cpu::wrmsr(msr::FS_BASE, value) };
        }
        msr::GS_BASE => {
            g.local.gs_base_kernel = value;
            // SAFETY: canonical; ring 0 does not use GS.
            unsafe { cpu::wrmsr(msr::GS_BASE, value) };
        }
        msr::KERNEL_GS_BASE => {
            g.local.gs_base_user = value;
            // SAFETY: as above.
            unsafe { cpu::wrmsr(msr::KERNEL_GS_BASE, value) };
        }
        msr::TSC_AUX => {
            if !g.local.tsc_aux_used || value >> 32 != 0 {
                return false;
            }
            g.local.tsc_aux = value;
            // SAFETY: data for RDTSCP only; ring 0 uses none.
            unsafe { cpu::wrmsr(msr::TSC_AUX, value) };
        }
        msr::EFER => return value == cpu::rdmsr(msr::EFER) & EFER_SHOWN,
        msr::UCODE_REV => return value == 0,
        msr::MISC_ENABLE => return read(g, register) == Some(value),
        msr::PAT => return value == cpu::rdmsr(msr::PAT),
        MISC_FEATURES_ENABLES => return value == 0,
        HWCR | NB_CFG | DE_CFG if is_amd() => {}
        0xc001_0000..=0xc001_0007 if is_amd() => {}
        _ => return false,
    }
    true
}
