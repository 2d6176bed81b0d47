//! A virtual processor's state as a toolstack or a guest kernel hands it over: registers, exception table,
//! descriptor tables, roots, callbacks.

use crate::wire::wire_struct;

wire_struct! {
    /// One entry of a guest's exception table.
    pub struct TrapInfo: 16 {
        /// The exception vector.
        0x00 vector: u8,
        /// `TI_*`: the lowest privilege that may raise it by instruction, and whether events get masked.
        0x01 flags: u8,
        /// Code selector of the handler.
        0x02 cs: u16,
        /// Padding.
        0x04 _pad0: u32,
        /// Linear address of the handler; zero ends a list.
        0x08 address: u64,
    }
}

/// `TrapInfo::flags`: privilege level that may raise the vector with an `int` instruction.
pub const TI_DPL_MASK: u8 = 3;
/// `TrapInfo::flags`: mask event delivery on entry.
pub const TI_MASK_EVENTS: u8 = 4;

impl TrapInfo {
    /// The privilege level that may raise the vector with an `int` instruction.
    #[inline]
    pub const fn dpl(&self) -> u8 {
        self.flags & TI_DPL_MASK
    }

    /// Whether event delivery is masked on entry.
    #[inline]
    pub const fn masks_events(&self) -> bool {
        self.flags & TI_MASK_EVENTS != 0
    }
}

wire_struct! {
    /// The registers of a vCPU.
    pub struct CpuUserRegs: 200 {
        /// R15.
        0x00 r15: u64,
        /// R14.
        0x08 r14: u64,
        /// R13.
        0x10 r13: u64,
        /// R12.
        0x18 r12: u64,
        /// RBP.
        0x20 rbp: u64,
        /// RBX.
        0x28 rbx: u64,
        /// R11.
        0x30 r11: u64,
        /// R10.
        0x38 r10: u64,
        /// R9.
        0x40 r9: u64,
        /// R8.
        0x48 r8: u64,
        /// RAX.
        0x50 rax: u64,
        /// RCX.
        0x58 rcx: u64,
        /// RDX.
        0x60 rdx: u64,
        /// RSI.
        0x68 rsi: u64,
        /// RDI.
        0x70 rdi: u64,
        /// Private to the hypervisor.
        0x78 error_code: u32,
        /// Private to the hypervisor.
        0x7c entry_vector: u32,
        /// RIP.
        0x80 rip: u64,
        /// CS.
        0x88 cs: u16,
        /// Padding.
        0x8a _pad0: u16,
        /// The event mask at the interruption.
        0x8c saved_upcall_mask: u8,
        /// Padding.
        0x8d _pad1: [u8; 3],
        /// RFLAGS.
        0x90 rflags: u64,
        /// RSP.
        0x98 rsp: u64,
        /// SS.
        0xa0 ss: u16,
        /// Padding.
        0xa2 _pad2: [u16; 3],
        /// ES.
        0xa8 es: u16,
        /// Padding.
        0xaa _pad3: [u16; 3],
        /// DS.
        0xb0 ds: u16,
        /// Padding.
        0xb2 _pad4: [u16; 3],
        /// FS.
        0xb8 fs: u16,
        /// Padding.
        0xba _pad5: [u16; 3],
        /// GS.
        0xc0 gs: u16,
        /// Padding.
        0xc2 _pad6: [u16; 3],
    }
}

/// `VcpuGuestContext::flags`: the FPU state is valid.
pub const VGCF_I387_VALID: u64 = 1 << 0;
/// `VcpuGuestContext::flags`: the vCPU is in kernel mode.
pub const VGCF_IN_KERNEL: u64 = 1 << 2;
/// `VcpuGuestContext::flags`: the failsafe callback masks events.
pub const VGCF_FAILSAFE_DISABLES_EVENTS: u64 = 1 << 3;
/// `VcpuGuestContext::flags`: the syscall callback masks events.
pub const VGCF_SYSCALL_DISABLES_EVENTS: u64 = 1 << 4;
/// `VcpuGuestContext::flags`: the vCPU is online.
pub const VGCF_ONLINE: u64 = 1 << 5;

wire_struct! {
    /// All of a vCPU.
    ///
    /// It is larger than a page. Where the stack is small, read it in pieces out of the bytes that were copied:
    /// each field's type reads itself from its `offset_of!`.
    pub struct VcpuGuestContext: 0x1430 {
        /// FPU state as FXSAVE leaves it.
        0x0000 fpu_ctxt: [u8; 512],
        /// `VGCF_*`.
        0x0200 flags: u64,
        /// The registers.
        0x0208 user_regs: CpuUserRegs,
        /// The exception table, indexed by vector; address 0 is no handler.
        0x02d0 trap_ctxt: [TrapInfo; 256],
        /// Linear address of the local descriptor table.
        0x12d0 ldt_base: u64,
        /// Its entries.
        0x12d8 ldt_ents: u64,
        /// Frames of the descriptor table.
        0x12e0 gdt_frames: [u64; 16],
        /// Its entries.
        0x1360 gdt_ents: u64,
        /// Stack segment of the kernel.
        0x1368 kernel_ss: u64,
        /// Stack of the kernel for entries from user mode.
        0x1370 kernel_sp: u64,
        /// Control registers by number; 1 holds the root of user mode, 3 that of the kernel.
        0x1378 ctrlreg: [u64; 8],
        /// Debug registers by number.
        0x13b8 debugreg: [u64; 8],
        /// Handler of events.
        0x13f8 event_callback_eip: u64,
        /// Handler for selectors that cannot be loaded.
        0x1400 failsafe_callback_eip: u64,
        /// Handler of system calls.
        0x1408 syscall_callback_eip: u64,
        /// Assists in use, a bit for each.
        0x1410 vm_assist: u64,
        /// Base of FS.
        0x1418 fs_base: u64,
        /// Base of GS in the kernel.
        0x1420 gs_base_kernel: u64,
        /// Base of GS in user mode.
        0x1428 gs_base_user: u64,
    }
}

/// A frame number as `VcpuGuestContext::ctrlreg` holds a root.
#[inline]
pub const fn xen_pfn_to_cr3(pfn: u64) -> u64 {
    pfn << 12
}

/// The frame number of a root in `VcpuGuestContext::ctrlreg`.
#[inline]
pub const fn xen_cr3_to_pfn(cr3: u64) -> u64 {
    cr3 >> 12
}
