//! What a CPU remembers of one domain is made void before it runs another: branch predictions, and buffers that faults of
//! some CPUs let through to whoever looks next. Registers are exchanged whole (`domain::run`), translations are flushed
//! with the root.
//!
//! # Invariants
//! - K1: between the last instruction of one domain and the first of another on the same CPU lies [`between_domains`].
//!   Within a domain nothing is done: its parts have no secrets from each other that the CPU keeps.

use crate::arch::cpu;
use crate::arch::exposed::selector;
use crate::info;
use core::arch::asm;
use core::sync::atomic::{AtomicU8, Ordering};

/// Predictions can be made void by a command (IBPB).
const PREDICTIONS: u8 = 1 << 0;
/// `verw` clears buffers (MD_CLEAR).
const BUFFERS: u8 = 1 << 1;

static HAVE: AtomicU8 = AtomicU8::new(0);

/// Command register of the predictors, and the command.
const PRED_CMD: u32 = 0x49;
const IBPB: u64 = 1;

/// Finds out what there is, on CPU 0: what it has is asked of the others.
pub fn init() {
    let has_leaf = |leaf: u32| cpu::cpuid(leaf & 0x8000_0000, 0).eax >= leaf;
    let seven = if has_leaf(7) { cpu::cpuid(7, 0).edx } else { 0 };
    let sizes = if has_leaf(0x8000_0008) {
        cpu::cpuid(0x8000_0008, 0).ebx
    } else {
        0
    };
    let predictions = seven >> 26 & 1 == 1 || sizes >> 12 & 1 == 1;
    let buffers = seven >> 10 & 1 == 1;
    let have = u8::from(predictions) * PREDICTIONS + u8::from(buffers) * BUFFERS;
    HAVE.store(have, Ordering::Relaxed);
    let word = |has: bool| if has { "voided" } else { "kept by the CPU" };
    info!(
        "between domains: branch predictions are {}, buffers {}",
        word(predictions),
        word(buffers)
    );
}

/// Makes void what the CPU remembers (K1). A descriptor table of ours is in force.
pub fn between_domains() {
    let have = HAVE.load(Ordering::Relaxed);
    if have & PREDICTIONS != 0 {
        // SAFETY: a command that the CPU has (`init`); it changes nothing but what is predicted.
        unsafe { cpu::wrmsr(PRED_CMD, IBPB) };
    }
    if have & BUFFERS != 0 {
        let data = selector::RING0_DATA;
        // SAFETY: looks at a descriptor and sets a flag; the form with a memory operand is the one that clears.
        unsafe { asm!("verw word ptr [{}]", in(reg) &raw const data, options(nostack, readonly)) };
    }
}
