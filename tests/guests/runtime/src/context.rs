//! The registers of a flow of control, and entering them by the `iret` hypercall.

use crate::abi::{DATA, KERNEL_CODE64};

/// RFLAGS bits by name.
pub mod flags {
    #![allow(missing_docs)]
    pub const CF: u64 = 1;
    pub const ALWAYS: u64 = 1 << 1;
    pub const ZF: u64 = 1 << 6;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const DF: u64 = 1 << 10;
    pub const OF: u64 = 1 << 11;
    pub const IOPL: u64 = 3 << 12;
    pub const NT: u64 = 1 << 14;
    pub const RF: u64 = 1 << 16;
    pub const VM: u64 = 1 << 17;
    pub const AC: u64 = 1 << 18;
    pub const VIF: u64 = 1 << 19;
    pub const VIP: u64 = 1 << 20;
    pub const ID: u64 = 1 << 21;
}

/// All general registers, and from `rax` on the frame of the `iret` hypercall.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Context {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rax: u64,
    pub r11: u64,
    pub rcx: u64,
    /// Flags of the iret hypercall itself (VGCF_in_syscall is bit 8).
    pub iret_flags: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const _: () = assert!(size_of::<Context>() == 21 * 8);

impl Context {
    /// A kernel-mode context with a different, recognisable value in every register, events masked.
    pub fn kernel(rip: u64, rsp: u64) -> Self {
        let pattern = |n: u64| 0x5a5a_0000_c0de_0000 | n;
        Self {
            r15: pattern(15),
            r14: pattern(14),
            r13: pattern(13),
            r12: pattern(12),
            rbp: pattern(5),
            rbx: pattern(3),
            r10: pattern(10),
            r9: pattern(9),
            r8: pattern(8),
            rdi: pattern(7),
            rsi: pattern(6),
            rdx: pattern(2),
            rax: pattern(0),
            r11: pattern(11),
            rcx: pattern(1),
            iret_flags: 0,
            rip,
            cs: u64::from(KERNEL_CODE64),
            rflags: flags::ALWAYS,
            rsp,
            ss: u64::from(DATA),
        }
    }

    /// A user-mode context with events unmasked.
    pub fn user(rip: u64, rsp: u64) -> Self {
        Self {
            cs: u64::from(crate::abi::CODE64),
            rflags: flags::ALWAYS | flags::IF,
            ..Self::kernel(rip, rsp)
        }
    }

    /// The general registers other than RSP, with their names, for comparing.
    pub fn general(&self) -> [(&'static str, u64); 15] {
        [
            ("rax", self.rax),
            ("rbx", self.rbx),
            ("rcx", self.rcx),
            ("rdx", self.rdx),
            ("rsi", self.rsi),
            ("rdi", self.rdi),
            ("rbp", self.rbp),
            ("r8", self.r8),
            ("r9", self.r9),
            ("r10", self.r10),
            ("r11", self.r11),
            ("r12", self.r12),
            ("r13", self.r13),
            ("r14", self.r14),
            ("r15", self.r15),
        ]
    }
}
