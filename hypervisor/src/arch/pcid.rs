//! A process-context identifier for ring 0's own root, so that its translations outlive a guest's turn.
//!
//! Where guests run isolated, every exit to ring 0 loads ring 0's root and every way back a guest's. Without identifiers
//! each load drops all translations. Ring 0's root has one of its own, and entering it keeps what is known of it; guests'
//! roots share identifier 0, and loading one of them drops everything of theirs, as without identifiers.
//!
//! # Invariants
//! - P1: translations are kept by one kind of load only: of ring 0's root, by the entry code ([`entry_root`]). What may
//!   be kept so is of ring 0's part of the address space: that root has no guest's half.
//! - P2: whoever takes away or changes a mapping of ring 0's part flushes, and a flush drops the translations of all
//!   identifiers ([`flush_all`]), whichever is in force.
//! - P3: two domains' ring-0 roots have the same identifier; between them there is a flush (`switch::take_up`).

use crate::arch::cpu::{self, cr4};
use boot_info::params::Choice;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

/// The identifier of ring 0's own root.
const RING0: u64 = 1;
/// In a value for CR3: keep what is known under its identifier.
const KEEP: u64 = 1 << 63;

static IN_USE: AtomicBool = AtomicBool::new(false);

/// Decides, on CPU 0: other CPUs that lack what it has are left out.
pub fn choose(wanted: Choice) {
    let has_pcid = cpu::cpuid(1, 0).ecx >> 17 & 1 == 1;
    let has_invpcid = cpu::cpuid(0, 0).eax >= 7 && cpu::cpuid(7, 0).ebx >> 10 & 1 == 1;
    IN_USE.store(
        wanted != Choice::No && has_pcid && has_invpcid,
        Ordering::Release,
    );
}

/// CR4's bit, if identifiers are used. It may be set while the root in force has identifier 0.
pub fn cr4_bit() -> u64 {
    if is_in_use() { cr4::PCIDE } else { 0 }
}

/// Whether identifiers are used.
#[inline]
pub fn is_in_use() -> bool {
    IN_USE.load(Ordering::Relaxed)
}

/// What the entry code loads to get onto ring 0's own root (P1).
pub fn entry_root(root: u64) -> u64 {
    if is_in_use() {
        root | RING0 | KEEP
    } else {
        root
    }
}

/// Drops the translations of all identifiers (P2). Nothing to do without them: loading a root has done it.
#[inline]
pub fn flush_all() {
    const ALL: u64 = 2;
    if is_in_use() {
        let unused = [0u64; 2];
        // SAFETY: the CPU has the instruction (`choose`); it drops translations and reads 16 bytes of ours.
        unsafe {
            asm!("invpcid {}, [{}]", in(reg) ALL, in(reg) unused.as_ptr(), options(nostack, readonly));
        }
    }
}
