//! Stack frames: what the hypervisor pushes on a guest kernel's stack, and what the iret hypercall pops.
//!
//! # Invariants
//! - B1: a frame from the kernel carries CS with privilege level 0, one from user mode with 3; in hardware both
//!   are 3. Of the `cs` word, bits 0 to 15 are the selector and bits 32 to 39 the event mask that was saved.
//! - B2: the IF bit of an `rflags` word is the inverse of the event mask.

use crate::wire::wire_struct;

wire_struct! {
    /// What RSP points to at [`Hypercall::Iret`](crate::Hypercall::Iret).
    pub struct XenIretFrame: 72 {
        /// RAX to return with.
        0x00 rax: u64,
        /// R11 to return with.
        0x08 r11: u64,
        /// RCX to return with.
        0x10 rcx: u64,
        /// [`VGCF_IN_SYSCALL`] or 0.
        0x18 flags: u64,
        /// RIP to return to.
        0x20 rip: u64,
        /// Selector of the code; only 16 bits count (B1).
        0x28 cs: u64,
        /// RFLAGS to return with; IF sets the event mask (B2).
        0x30 rflags: u64,
        /// RSP to return with.
        0x38 rsp: u64,
        /// Selector of the stack.
        0x40 ss: u64,
    }
    /// Pushed for events, system calls, and exceptions without an error code.
    pub struct BounceFrame: 56 {
        /// RCX at the interruption.
        0x00 rcx: u64,
        /// R11 at the interruption.
        0x08 r11: u64,
        /// RIP at the interruption.
        0x10 rip: u64,
        /// CS and the saved event mask (B1).
        0x18 cs: u64,
        /// RFLAGS (B2).
        0x20 rflags: u64,
        /// RSP at the interruption.
        0x28 rsp: u64,
        /// SS at the interruption.
        0x30 ss: u64,
    }
    /// Pushed for exceptions with an error code.
    pub struct BounceFrameWithError: 64 {
        /// RCX at the interruption.
        0x00 rcx: u64,
        /// R11 at the interruption.
        0x08 r11: u64,
        /// The error code.
        0x10 error_code: u64,
        /// RIP at the interruption.
        0x18 rip: u64,
        /// CS and the saved event mask (B1).
        0x20 cs: u64,
        /// RFLAGS (B2).
        0x28 rflags: u64,
        /// RSP at the interruption.
        0x30 rsp: u64,
        /// SS at the interruption.
        0x38 ss: u64,
    }
    /// Pushed for the failsafe callback: the selectors that were wanted and could not be loaded.
    pub struct FailsafeFrame: 88 {
        /// RCX at the interruption.
        0x00 rcx: u64,
        /// R11 at the interruption.
        0x08 r11: u64,
        /// DS that was wanted.
        0x10 ds: u64,
        /// ES that was wanted.
        0x18 es: u64,
        /// FS that was wanted.
        0x20 fs: u64,
        /// GS that was wanted.
        0x28 gs: u64,
        /// RIP at the interruption.
        0x30 rip: u64,
        /// CS and the saved event mask (B1).
        0x38 cs: u64,
        /// RFLAGS (B2).
        0x40 rflags: u64,
        /// RSP at the interruption.
        0x48 rsp: u64,
        /// SS at the interruption.
        0x50 ss: u64,
    }
}

/// `XenIretFrame::flags`: the kernel was entered by a system call, so RCX, R11, CS and SS need not come from
/// the frame.
pub const VGCF_IN_SYSCALL: u64 = 1 << 8;

/// Exception vectors whose frame carries an error code, a bit for each.
pub const VECTORS_WITH_ERROR_CODE: u32 =
    1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21;

/// Whether the frame of an exception carries an error code.
#[inline]
pub const fn has_error_code(vector: u8) -> bool {
    vector < 32 && VECTORS_WITH_ERROR_CODE >> vector & 1 != 0
}

/// The `cs` word of a frame: the selector, and the event mask as it was before the entry (B1).
#[inline]
pub const fn saved_cs(selector: u16, upcall_mask: u8) -> u64 {
    selector as u64 | (upcall_mask as u64) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_vectors_of_the_manual_carry_an_error_code() {
        for vector in 0..=u8::MAX {
            let expected = matches!(vector, 8 | 10..=14 | 17 | 21);
            assert_eq!(has_error_code(vector), expected, "vector {vector}");
        }
    }

    #[test]
    fn the_mask_lies_above_the_selector() {
        assert_eq!(saved_cs(0xe030, 1), 0x1_0000_e030);
    }
}
