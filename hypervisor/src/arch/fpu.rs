//! Floating-point and vector state: saved and restored in full whenever a vCPU leaves or enters a CPU. Ring 0
//! itself uses none, so a guest's state stays in the registers through its own exits.

use crate::arch::cpu;
use crate::info;
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// The most bytes kept for one vCPU: everything up to AVX-512 in the standard format.
const MOST: usize = 2752;
/// The fewest: what FXSAVE writes, and the header behind it.
const LEAST: usize = 576;
/// State components guests may have: x87, SSE, AVX, AVX-512 (three).
const KNOWN: u64 = 0xe7;

/// What `xsave` writes, and what goes with it.
pub struct FpuState {
    /// [`bytes`] of them, aligned to 64.
    bytes: &'static mut [u8],
    /// The guest's XCR0.
    pub xcr0: u64,
}

/// Components this machine offers to guests; 0 without XSAVE.
static OFFERED: AtomicU64 = AtomicU64::new(0);
/// Bytes that these take.
static BYTES: AtomicUsize = AtomicUsize::new(LEAST);

/// Bytes one vCPU's state takes on this machine: from [`LEAST`] to [`MOST`].
pub fn bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}

impl FpuState {
    /// State of a CPU after reset, kept in memory of [`bytes`] and aligned to 64, which the state then has.
    pub fn new(bytes: &'static mut [u8]) -> FpuState {
        assert!(bytes.len() == self::bytes() && bytes.as_ptr().addr().is_multiple_of(64));
        let mut state = FpuState { bytes, xcr0: 1 };
        state.reset();
        state
    }

    /// FCW 0x37f, MXCSR 0x1f80, everything else zero.
    fn reset(&mut self) {
        self.bytes.fill(0);
        self.bytes[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
        self.bytes[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        self.xcr0 = 1;
    }

    /// Ends the state; its memory goes back to who gave it.
    pub fn into_memory(self) -> &'static mut [u8] {
        self.bytes
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
    /// Becomes the state a guest hands over as FXSAVE leaves it. Any bytes make x87 and SSE state; of MXCSR the bits this
    /// CPU does not have are dropped.
    pub fn load_fxsave(&mut self, image: &[u8; FXSAVE_BYTES]) {
        self.reset();
        self.bytes[..FXSAVE_BYTES].copy_from_slice(image);
        let mxcsr = word(self.bytes, MXCSR) & MXCSR_BITS.load(Ordering::Relaxed);
        self.bytes[MXCSR].copy_from_slice(&mxcsr.to_le_bytes());
        self.bytes[XSTATE_BV] = X87_AND_SSE;
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
    // What is in force says how many bytes it takes. A set of components that would take more than is known is not
    // offered.
    let mut bytes = cpu::cpuid(0xd, 0).ebx as usize;
    let mut offered = have;
    if bytes > MOST {
        offered &= 7;
        set_xcr0(offered);
        bytes = cpu::cpuid(0xd, 0).ebx as usize;
    }
    if !(LEAST..=MOST).contains(&bytes) {
        crate::boot::give_up(format_args!(
            "this CPU says that x87, SSE and AVX state takes {bytes} bytes; use another machine"
        ));
    }
    OFFERED.store(offered, Ordering::Relaxed);
    BYTES.store(bytes, Ordering::Relaxed);
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
    // SAFETY: the area is aligned to 64 and large enough for every offered component (`FpuState::new`).
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
