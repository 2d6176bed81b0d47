//! A domain that did what it may not: its registers and the reason go to the console, and it runs no more.

use crate::arch::percpu;
use crate::domain::{Guest, life};
use crate::{error, info};
use core::sync::atomic::Ordering;
use guest_abi::sched::ShutdownReason;

/// Crashes the domain in hand. It does not run again; the way out finds it stopped.
pub fn domain(g: &mut Guest<'_>, why: &str) {
    if g.dom.stopped.swap(true, Ordering::AcqRel) {
        return;
    }
    if !g.dom.privileged {
        life::stop(g.dom, ShutdownReason::Crash.into());
    }
    error!("domain {} vCPU {} crashed: {why}", g.dom.id.0, g.vcpu.id);
    crate::control::note_crash(g.dom);
    show(g);
    // The report is nobody's latency to promise.
    crate::debug::sections::begin();
    percpu::current().reschedule.set(true);
}

/// Prints a guest's registers and the words on its stack.
pub fn show(g: &Guest<'_>) {
    let r = &g.regs;
    let mode = if g.is_user() { "user" } else { "kernel" };
    error!(
        "rip {:016x} cs {:04x} rflags {:08x} rsp {:016x} ss {:04x} ({mode} mode, vector {:#x}, error {:#x})",
        r.rip, r.cs, r.rflags, r.rsp, r.ss, r.vector, r.error
    );
    error!(
        "rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}",
        r.rax, r.rbx, r.rcx, r.rdx
    );
    error!(
        "rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}",
        r.rsi, r.rdi, r.rbp, r.r8
    );
    error!(
        "r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}",
        r.r9, r.r10, r.r11, r.r12
    );
    error!(
        "r13 {:016x} r14 {:016x} r15 {:016x} cr2 {:016x}",
        r.r13, r.r14, r.r15, g.local.cr2
    );
    error!(
        "kernel root {:x} user root {:x?} kernel stack {:016x}",
        g.local.kernel_root.0,
        g.local.user_root.map(|m| m.0),
        g.local.kernel_sp
    );
    let memory = g.memory();
    for row in 0..6u64 {
        let at = (r.rsp & !7).wrapping_add(row * 32);
        let mut words = [0u8; 32];
        if memory.read(at, &mut words).is_err() {
            info!("stack {at:016x}: not mapped");
            break;
        }
        let word =
            |i: usize| u64::from_le_bytes(words[i * 8..i * 8 + 8].try_into().unwrap_or_default());
        error!(
            "stack {at:016x}: {:016x} {:016x} {:016x} {:016x}",
            word(0),
            word(1),
            word(2),
            word(3)
        );
    }
}
