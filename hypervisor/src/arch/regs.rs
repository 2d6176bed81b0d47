//! The register frame that entry code builds on a CPU's private stack.

/// Registers at an exit from a guest, or at an exception in ring 0. The layout is that of `entry.s`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Regs {
    /// From a guest: the root to load on the way out, 0 for none. From ring 0: the CR3 found.
    pub exit_cr3: u64,
    /// From a guest: the time stamp of the entry. From ring 0: where the hardware frame lies.
    pub entry_tsc: u64,
    /// General registers.
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rax: u64,
    /// Vector, or [`VEC_SYSCALL`] and its siblings.
    pub vector: u64,
    /// Hardware error code, 0 where the vector has none.
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const _: () = {
    assert!(size_of::<Regs>() == 192);
    assert!(core::mem::offset_of!(Regs, rdi) == 96);
    assert!(core::mem::offset_of!(Regs, rax) == 128);
    assert!(core::mem::offset_of!(Regs, rip) == 152);
    assert!(core::mem::offset_of!(Regs, ss) == 184);
};

/// `syscall` from 64-bit code.
pub const VEC_SYSCALL: u64 = 0x100;
/// `sysenter` from 32-bit code.
pub const VEC_SYSENTER: u64 = 0x101;
/// `syscall` from 32-bit code.
pub const VEC_SYSCALL32: u64 = 0x102;

/// Bits of RFLAGS by the manual's names.
pub mod flags {
    /// Carry.
    pub const CF: u64 = 1 << 0;
    /// Reads as one.
    pub const ALWAYS: u64 = 1 << 1;
    /// Trap (single step).
    pub const TF: u64 = 1 << 8;
    /// Interrupts enabled.
    pub const IF: u64 = 1 << 9;
    /// Direction.
    pub const DF: u64 = 1 << 10;
    /// I/O privilege level.
    pub const IOPL: u64 = 3 << IOPL_SHIFT;
    pub const IOPL_SHIFT: u32 = 12;
    /// Nested task.
    pub const NT: u64 = 1 << 14;
    /// Resume.
    pub const RF: u64 = 1 << 16;
    /// Virtual-8086.
    pub const VM: u64 = 1 << 17;
    /// Alignment check.
    pub const AC: u64 = 1 << 18;
    /// Virtual interrupt flag and its pending bit.
    pub const VIF_VIP: u64 = 3 << 19;
}

impl Regs {
    /// General register by its number in instruction encodings (0 = RAX, 4 = RSP, ... 15 = R15).
    pub fn general(&self, number: u8) -> u64 {
        match number & 15 {
            0 => self.rax,
            1 => self.rcx,
            2 => self.rdx,
            3 => self.rbx,
            4 => self.rsp,
            5 => self.rbp,
            6 => self.rsi,
            7 => self.rdi,
            8 => self.r8,
            9 => self.r9,
            10 => self.r10,
            11 => self.r11,
            12 => self.r12,
            13 => self.r13,
            14 => self.r14,
            _ => self.r15,
        }
    }

    /// As [`Self::general`], to write.
    pub fn general_mut(&mut self, number: u8) -> &mut u64 {
        match number & 15 {
            0 => &mut self.rax,
            1 => &mut self.rcx,
            2 => &mut self.rdx,
            3 => &mut self.rbx,
            4 => &mut self.rsp,
            5 => &mut self.rbp,
            6 => &mut self.rsi,
            7 => &mut self.rdi,
            8 => &mut self.r8,
            9 => &mut self.r9,
            10 => &mut self.r10,
            11 => &mut self.r11,
            12 => &mut self.r12,
            13 => &mut self.r13,
            14 => &mut self.r14,
            _ => &mut self.r15,
        }
    }
}
