//! Delivering exceptions, events and system calls to a guest: the frame its kernel finds on its stack.
//!
//! From low to high: `rcx, r11, [error code], rip, cs, rflags, rsp, ss`. The word that holds CS carries the saved
//! event mask in bits 32-39, and CS has privilege level 0 if the guest's kernel was interrupted, so that the kernel
//! can tell as it would on a bare machine.

use crate::arch::regs::flags;
use crate::domain::local::Callback;
use crate::domain::{Guest, Slow, crash};
use crate::hypercall::trap;
use core::sync::atomic::Ordering;
use guest_abi::segment::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};

/// Exception vectors.
pub mod vector {
    pub const DEBUG: u8 = 1;
    pub const NMI: u8 = 2;
    pub const INVALID_OPCODE: u8 = 6;
    pub const NO_DEVICE: u8 = 7;
    pub const GENERAL_PROTECTION: u8 = 13;
    pub const PAGE_FAULT: u8 = 14;
}

/// Whether the CPU pushes an error code for this exception.
pub const fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21)
}

/// Error-code bits of a page fault.
pub mod pf {
    pub const PRESENT: u64 = 1;
    pub const WRITE: u64 = 2;
    pub const USER: u64 = 4;
}

struct Target {
    address: u64,
    cs: u64,
    error: Option<u64>,
    masks_events: bool,
}

/// Builds the frame and points the guest at the handler; crashes the domain if the stack cannot take it.
fn bounce(g: &mut Guest<'_>, target: Target, words: &[u64]) {
    let from_user = g.is_user();
    let masked = g.vcpu.events_masked();
    let sp = if from_user {
        g.local.kernel_sp
    } else {
        g.regs.rsp
    } & !15;
    let cs = if from_user {
        g.regs.cs & 0xffff
    } else {
        g.regs.cs & 0xfffc
    } | u64::from(masked) << 32;
    let rflags = (g.regs.rflags & !(flags::IF | flags::IOPL))
        | trap::shown_iopl(g)
        | if masked { 0 } else { flags::IF };
    let words_in_frame = 7 + words.len() + usize::from(target.error.is_some());
    let base = sp.wrapping_sub(words_in_frame as u64 * 8);
    g.enter_kernel_mode();
    // Never in part: the whole frame is checked before the first word is written.
    let Ok(run) = g.memory().writable_words(base, words_in_frame) else {
        crash::domain(g, "its kernel stack cannot take an exception frame");
        return;
    };
    run.put(0, g.regs.rcx);
    run.put(1, g.regs.r11);
    let mut n = 2;
    for word in words {
        run.put(n, *word);
        n += 1;
    }
    if let Some(error) = target.error {
        run.put(n, error);
        n += 1;
    }
    run.put(n, g.regs.rip);
    run.put(n + 1, cs);
    run.put(n + 2, rflags);
    run.put(n + 3, g.regs.rsp);
    run.put(n + 4, g.regs.ss & 0xffff);
    g.regs.rip = target.address;
    g.regs.cs = target.cs | 3;
    g.regs.rsp = base;
    g.regs.ss = u64::from(FLAT_KERNEL_SS);
    g.regs.rflags &= !(flags::AC | flags::NT | flags::RF | flags::TF | flags::VM | flags::IOPL);
    g.regs.rflags |= flags::IF;
    if target.masks_events {
        g.vcpu.mask_events(true);
    }
}

/// Delivers an exception through the guest's trap table.
pub fn exception(g: &mut Guest<'_>, vector: u8, error: u64) {
    let trap = g.local.traps.get(vector);
    if trap.address == 0 {
        crash::domain(g, "an exception for which it has no handler");
        return;
    }
    let target = Target {
        address: trap.address,
        cs: u64::from(trap.cs),
        error: has_error_code(vector).then_some(error & 0xffff_ffff),
        masks_events: trap.masks_events,
    };
    bounce(g, target, &[]);
}

/// Delivers a software interrupt (`int n` that the trap table opens): as an exception without error code.
pub fn software_interrupt(g: &mut Guest<'_>, vector: u8) {
    let trap = g.local.traps.get(vector);
    let target = Target {
        address: trap.address,
        cs: u64::from(trap.cs),
        error: None,
        masks_events: trap.masks_events,
    };
    bounce(g, target, &[]);
}

/// Delivers a page fault: the address goes to CR2 and vcpu_info first.
pub fn page_fault(g: &mut Guest<'_>, address: u64, error: u64) {
    g.local.cr2 = address;
    g.vcpu.put_cr2(address);
    let error = if g.is_user() {
        error | pf::USER
    } else {
        error & !pf::USER
    };
    exception(g, vector::PAGE_FAULT, error);
}

/// Delivers the NMI that waits, if the guest has a handler; another waits until its next `iret` (which therefore has to
/// come to ring 0).
pub fn nmi(g: &mut Guest<'_>) {
    g.vcpu.nmi_pending.store(false, Ordering::Relaxed);
    if g.local.traps.get(vector::NMI).address != 0 {
        g.local.nmi_masked = true;
        g.vcpu.transit.set_slow(Slow::NmiMasked, true);
        exception(g, vector::NMI, 0);
    }
}

/// A general protection fault with error code 0.
pub fn general_protection(g: &mut Guest<'_>) {
    exception(g, vector::GENERAL_PROTECTION, 0);
}

/// Calls the event callback.
pub fn event(g: &mut Guest<'_>) {
    let callback = g.local.event_callback;
    if callback.address == 0 {
        return;
    }
    let target = Target {
        address: callback.address,
        cs: u64::from(FLAT_KERNEL_CS),
        error: None,
        masks_events: true,
    };
    bounce(g, target, &[]);
}

/// Calls a system-call callback. The registers are those the instruction left.
pub fn system_call(g: &mut Guest<'_>, callback: Callback) {
    let target = Target {
        address: callback.address,
        cs: u64::from(FLAT_KERNEL_CS),
        error: None,
        masks_events: callback.masks_events,
    };
    bounce(g, target, &[]);
    g.regs.rflags &= !flags::DF;
}

/// Calls the failsafe callback: `wanted` are the selectors DS, ES, FS, GS that could not all be loaded.
pub fn failsafe(g: &mut Guest<'_>, wanted: [u16; 4]) {
    let callback = g.local.failsafe_callback;
    if callback.address == 0 {
        crash::domain(
            g,
            "segment registers it cannot load and no failsafe callback",
        );
        return;
    }
    let target = Target {
        address: callback.address,
        cs: u64::from(FLAT_KERNEL_CS),
        error: None,
        masks_events: callback.masks_events,
    };
    bounce(g, target, &wanted.map(u64::from));
}
