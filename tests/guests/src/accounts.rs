//! Short ways to ask who used what.

use core::arch::asm;

use guest_runtime::abi::usage::{Books, Usage, UsageFrame};
use guest_runtime::abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_runtime::abi::{DOMID_SELF, errno};
use guest_runtime::control::xeno_op;
use guest_runtime::instructions::rdtsc;
use guest_runtime::skip;

use crate::accepted;

/// Instructions of one turn of [`spin`].
pub const SPIN: u64 = 2;

/// A question about a frame of a domain's usage area.
pub fn frame_question(domid: u16, index: u32) -> UsageFrame {
    UsageFrame {
        version: XENO_INTERFACE_VERSION,
        domid,
        index,
        ..UsageFrame::ZERO
    }
}

/// A question about a domain's vCPU, or what stands for one.
pub fn question(domid: u16, vcpu: u32) -> Usage {
    Usage {
        version: XENO_INTERFACE_VERSION,
        domid,
        vcpu,
        ..Usage::ZERO
    }
}

/// What a domain's vCPU used.
pub fn usage_of(domid: u16, vcpu: u32) -> Usage {
    let mut usage = question(domid, vcpu);
    accepted(
        "a question for usage",
        xeno_op(XenoCommand::Usage, &mut usage),
    );
    usage
}

/// A CPU's books.
pub fn books_of(cpu: u32) -> Books {
    let mut books = Books {
        version: XENO_INTERFACE_VERSION,
        cpu,
        ..Books::ZERO
    };
    accepted(
        "a question for the books",
        xeno_op(XenoCommand::Books, &mut books),
    );
    books
}

/// Whether the hypervisor keeps accounts.
pub fn are_kept(domid: u16) -> bool {
    xeno_op(XenoCommand::Usage, &mut question(domid, 0)) != -errno::ENOSYS
}

/// Whether a guest can be a witness of its accounts: they are kept, and the clock counts its instructions. Says why if not.
pub fn can_be_witnessed() -> bool {
    if !are_kept(DOMID_SELF as u16) {
        skip!("another hypervisor, which keeps no such accounts");
        return false;
    }
    let counts = clock_counts_instructions();
    if !counts {
        skip!("the clock counts no instructions here");
    }
    counts
}

/// All that was used, in cycles.
pub fn used(usage: &Usage) -> u64 {
    let hypervisor = usage.hypervisor.iter().sum::<u64>();
    usage.user + usage.kernel + hypervisor
}

/// Executes [`SPIN`] instructions so often.
pub fn spin(turns: u64) {
    // SAFETY: counts down a register.
    unsafe {
        asm!("2:", "dec {turns}", "jnz 2b", turns = inout(reg) turns.max(1) => _, options(nomem, nostack));
    }
}

/// Whether the time-stamp counter counts instructions, as an emulator's may: then they are a clock that nobody keeps but
/// who executes them.
pub fn clock_counts_instructions() -> bool {
    let least = |turns| {
        let once = || {
            let begun = rdtsc();
            spin(turns);
            rdtsc() - begun
        };
        (0..8).map(|_| once()).min().unwrap_or(0)
    };
    least(9000).wrapping_sub(least(1000)) == 8000 * SPIN
}
