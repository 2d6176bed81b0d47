//! Floating-point and vector state: saved and restored in full whenever a vCPU leaves or enters a CPU. Ring 0
//! itself uses none, so a guest's state stays in the registers through its own exits.

use crate::arch::cpu;
use crate::info;
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bytes kept for one vCPU: everything up to AVX-512 in the standard format.
const AREA: usize = 2752;
/// State components guests may have: x87, SSE, AVX, AVX-512 (three).
const KNOWN: u64 = 0xe7;

/// What `xsave` writes.
#[repr(C, align(64))]
pub struct FpuState {
    bytes: [u8; AREA],
    /// The guest's XCR0.
    pub xcr0: u64,
}

/// Components this machine offers to guests; 0 without XSAVE.
static OFFERED: AtomicU64 = AtomicU64::new(0);

impl FpuState {
    /// State of a CPU after reset: FCW 0x37f, MXCSR 0x1f80, everything else zero.
    pub fn new() -> FpuState {
        let mut bytes = [0; AREA];
        bytes[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
        bytes[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        FpuState { bytes, xcr0: 1 }
    }
}

/// What FXSAVE writes.
const FXSAVE_BYTES: usize = 512;
/// In it: MXCSR, and which of its bits this CPU has (0 stands for [`MXCSR_OLD`]).
const MXCSR: Range<usize> = 24..28;
const MXCSR_MASK: Range<usize> = 28..32;
const MXCSR_OLD: u32 = 0xffbf;
/// In the XSAVE header behind it: which components are not in their initial state; x87 and SSE.
const XSTATE_BV: usize = FXSAVE_BYTES;
const X87_AND_SSE: u8 = 3;

/// MXCSR bits this CPU has: loading another one faults.
static MXCSR_BITS: AtomicU32 = AtomicU32::new(MXCSR_OLD);

impl FpuState {
    /// State a guest hands over as FXSAVE leaves it. Any bytes make x87 and SSE state; of MXCSR the bits this CPU does
    /// not have are dropped.
    pub fn from_fxsave(image: &[u8; FXSAVE_BYTES]) -> FpuState {
        let mut state = FpuState::new();
        state.bytes[..FXSAVE_BYTES].copy_from_slice(image);
        let mxcsr = word(&state.bytes, MXCSR) & MXCSR_BITS.load(Ordering::Relaxed);
        state.bytes[MXCSR].copy_from_slice(&mxcsr.to_le_bytes());
        state.bytes[XSTATE_BV] = X87_AND_SSE;
        state
    }
}

impl FpuState {
    /// The part of the state that FXSAVE knows.
    pub fn fxsave(&self) -> [u8; FXSAVE_BYTES] {
        let mut image = [0; FXSAVE_BYTES];
        image.copy_from_slice(&self.bytes[..FXSAVE_BYTES]);
        image
    }
}

fn word(bytes: &[u8], place: Range<usize>) -> u32 {
    u32::from_le_bytes(bytes[place].try_into().unwrap_or_default())
}

/// Asks the CPU which bits MXCSR has.
fn find_mxcsr_bits() {
    #[repr(C, align(16))]
    struct Image([u8; FXSAVE_BYTES]);
    let mut image = Image([0; FXSAVE_BYTES]);
    // SAFETY: an aligned place of the right size; every CPU we start on has FXSAVE.
    unsafe { asm!("fxsave64 [{}]", in(reg) image.0.as_mut_ptr(), options(nostack)) };
    match word(&image.0, MXCSR_MASK) {
        0 => {}
        mask => MXCSR_BITS.store(mask, Ordering::Relaxed),
    }
}

/// Gets a CPU other than the first ready; it has all that [`init`] found.
pub fn init_this_cpu() {
    cpu::set_task_switched(false);
    if offered() != 0 {
        set_xcr0(1);
    }
}

/// Finds out what there is, on CPU 0.
pub fn init() {
    cpu::set_task_switched(false);
    find_mxcsr_bits();
    if cpu::cpuid(1, 0).ecx >> 26 & 1 == 0 {
        return;
    }
    let leaf = cpu::cpuid(0xd, 0);
    let have = (u64::from(leaf.edx) << 32 | u64::from(leaf.eax)) & KNOWN;
    set_xcr0(have);
    let bytes = cpu::cpuid(0xd, 0).ebx as usize;
    // A component set that does not fit is not offered.
    let offered = if bytes <= AREA { have } else { have & 7 };
    OFFERED.store(offered, Ordering::Relaxed);
    set_xcr0(1);
    info!("FPU: XSAVE components {offered:#x}, {bytes} bytes");
}

/// Components guests may turn on.
pub fn offered() -> u64 {
    OFFERED.load(Ordering::Relaxed)
}

/// Loads XCR0. `value` is one the CPU accepts: a subset of [`offered`] that passed the guest-side check, or all.
pub fn set_xcr0(value: u64) {
    // SAFETY: XCR0 governs state ring 0 does not use; a value the CPU refuses faults in ring 0 and stops us.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32,
             options(nostack, preserves_flags));
    }
}

/// Saves the state of the vCPU that leaves.
pub fn save(state: &mut FpuState) {
    cpu::set_task_switched(false);
    let place = state.bytes.as_mut_ptr();
    let all = offered();
    // SAFETY: the area is aligned to 64 and large enough for every offered component.
    unsafe {
        if all != 0 {
            set_xcr0(all);
            asm!("xsave64 [{}]", in(reg) place, in("eax") all as u32, in("edx") (all >> 32) as u32, options(nostack));
        } else {
            asm!("fxsave64 [{}]", in(reg) place, options(nostack));
        }
    }
}

/// Loads the state of the vCPU that enters.
pub fn restore(state: &FpuState) {
    cpu::set_task_switched(false);
    let place = state.bytes.as_ptr();
    let all = offered();
    // SAFETY: the area holds an image made by `save` or `new`, never written by a guest, so it is well-formed.
    unsafe {
        if all != 0 {
            set_xcr0(all);
            asm!("xrstor64 [{}]", in(reg) place, in("eax") all as u32, in("edx") (all >> 32) as u32, options(nostack));
            set_xcr0(state.xcr0);
        } else {
            asm!("fxrstor64 [{}]", in(reg) place, options(nostack));
        }
    }
}
