//! Numbers and structures of the public interface, as the guests use them.

/// Hypercall numbers.
pub mod nr {
    #![allow(missing_docs)]
    pub const SET_TRAP_TABLE: u64 = 0;
    pub const MMU_UPDATE: u64 = 1;
    pub const SET_GDT: u64 = 2;
    pub const STACK_SWITCH: u64 = 3;
    pub const FPU_TASKSWITCH: u64 = 5;
    pub const PLATFORM_OP: u64 = 7;
    pub const SET_DEBUGREG: u64 = 8;
    pub const GET_DEBUGREG: u64 = 9;
    pub const UPDATE_DESCRIPTOR: u64 = 10;
    pub const MEMORY_OP: u64 = 12;
    pub const MULTICALL: u64 = 13;
    pub const UPDATE_VA_MAPPING: u64 = 14;
    pub const SET_TIMER_OP: u64 = 15;
    pub const XEN_VERSION: u64 = 17;
    pub const CONSOLE_IO: u64 = 18;
    pub const GRANT_TABLE_OP: u64 = 20;
    pub const VM_ASSIST: u64 = 21;
    pub const IRET: u64 = 23;
    pub const VCPU_OP: u64 = 24;
    pub const SET_SEGMENT_BASE: u64 = 25;
    pub const MMUEXT_OP: u64 = 26;
    pub const XSM_OP: u64 = 27;
    pub const SCHED_OP: u64 = 29;
    pub const CALLBACK_OP: u64 = 30;
    pub const EVENT_CHANNEL_OP: u64 = 32;
    pub const PHYSDEV_OP: u64 = 33;
}

/// Error numbers, positive; a hypercall returns them negated.
pub mod errno {
    #![allow(missing_docs)]
    pub const EPERM: i64 = 1;
    pub const ENOENT: i64 = 2;
    pub const ESRCH: i64 = 3;
    pub const ENOMEM: i64 = 12;
    pub const EFAULT: i64 = 14;
    pub const EBUSY: i64 = 16;
    pub const EEXIST: i64 = 17;
    pub const EINVAL: i64 = 22;
    pub const ENOSPC: i64 = 28;
    pub const ENOSYS: i64 = 38;
    pub const EOPNOTSUPP: i64 = 95;
}

/// The domain itself, where a domain id is asked for.
pub const DOMID_SELF: u64 = 0x7ff0;
/// Owner of I/O frames.
pub const DOMID_IO: u64 = 0x7ff1;
/// Owner of the hypervisor's own shared frames.
pub const DOMID_XEN: u64 = 0x7ff2;
/// No domain.
pub const DOMID_INVALID: u64 = 0x7ff4;

/// Virtual address of pseudo-physical page 0.
pub const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;
/// First address of the range that belongs to the hypervisor.
pub const HOLE_START: u64 = 0xffff_8000_0000_0000;
/// First address after it.
pub const HOLE_END: u64 = 0xffff_8800_0000_0000;
/// The machine-to-physical table, read-only to guests.
pub const M2P: u64 = HOLE_START;

/// 64-bit code selector the hypervisor offers, as hardware holds it.
pub const CODE64: u16 = 0xe033;
/// The same with privilege level 0: what frames of kernel mode carry.
pub const KERNEL_CODE64: u16 = 0xe030;
/// Data and stack selector.
pub const DATA: u16 = 0xe02b;
/// 32-bit code selector.
pub const CODE32: u16 = 0xe023;

/// What the domain is told at its start.
#[repr(C)]
pub struct StartInfo {
    /// `xen-VERSION-PLATFORM`.
    pub magic: [u8; 32],
    /// Pages of the domain.
    pub nr_pages: u64,
    /// Machine address of shared_info.
    pub shared_info: u64,
    /// SIF_* flags.
    pub flags: u32,
    /// Not used.
    pub padding0: u32,
    /// Frame of the store's ring.
    pub store_mfn: u64,
    /// Port of the store.
    pub store_evtchn: u32,
    /// Not used.
    pub padding1: u32,
    /// The console: a frame and a port, or where the VGA description lies.
    pub console: [u64; 2],
    /// Virtual address of the root page table.
    pub pt_base: u64,
    /// Pages of the initial page tables.
    pub nr_pt_frames: u64,
    /// Virtual address of the p2m list.
    pub mfn_list: u64,
    /// Module (initrd): virtual address, or page number with SIF_MOD_START_PFN.
    pub mod_start: u64,
    /// Its length in bytes.
    pub mod_len: u64,
    /// Command line, terminated by NUL.
    pub cmd_line: [u8; 1024],
    /// First page of the p2m list if that lies at an address of its own.
    pub first_p2m_pfn: u64,
    /// Its pages and those of its tables.
    pub nr_p2m_frames: u64,
}

/// The domain is privileged.
pub const SIF_PRIVILEGED: u32 = 1;
/// The domain is the initial one.
pub const SIF_INITDOMAIN: u32 = 2;
/// `mod_start` is a page number.
pub const SIF_MOD_START_PFN: u32 = 8;

/// Time of a vCPU: nanoseconds from a TSC value.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct VcpuTimeInfo {
    /// Odd while being changed.
    pub version: u32,
    /// Not used.
    pub pad0: u32,
    /// TSC at the last update.
    pub tsc_timestamp: u64,
    /// Nanoseconds since the machine started, at the last update.
    pub system_time: u64,
    /// Nanoseconds a tick, as a fraction of 2^32.
    pub tsc_to_system_mul: u32,
    /// Shift of the TSC difference before the multiplication.
    pub tsc_shift: i8,
    /// Bit 0: the TSCs are stable.
    pub flags: u8,
    /// Not used.
    pub pad1: [u8; 2],
}

/// What the hypervisor and one vCPU share.
#[repr(C)]
pub struct VcpuInfo {
    /// An event is pending.
    pub upcall_pending: u8,
    /// Events are not to be delivered.
    pub upcall_mask: u8,
    /// Not used.
    pub pad0: [u8; 6],
    /// Which words of the pending bitmap to look at.
    pub pending_sel: u64,
    /// Address of the last page fault.
    pub cr2: u64,
    /// Not used.
    pub pad1: u64,
    /// The vCPU's time.
    pub time: VcpuTimeInfo,
}

/// What the hypervisor and the domain share: one page.
#[repr(C)]
pub struct SharedInfo {
    /// The first 32 vCPUs.
    pub vcpu_info: [VcpuInfo; 32],
    /// Pending ports.
    pub evtchn_pending: [u64; 64],
    /// Masked ports.
    pub evtchn_mask: [u64; 64],
    /// Wall clock's version, odd while being changed.
    pub wc_version: u32,
    /// Wall clock seconds at system time 0, low half.
    pub wc_sec: u32,
    /// And nanoseconds.
    pub wc_nsec: u32,
    /// High half of the seconds.
    pub wc_sec_hi: u32,
    /// max_pfn, pfn_to_mfn_frame_list_list, nmi_reason, p2m_cr3, p2m_vaddr, p2m_generation.
    pub arch: [u64; 6],
}

const _: () = {
    assert!(core::mem::offset_of!(StartInfo, cmd_line) == 128);
    assert!(core::mem::offset_of!(StartInfo, nr_p2m_frames) == 1160);
    assert!(size_of::<VcpuInfo>() == 64);
    assert!(core::mem::offset_of!(SharedInfo, evtchn_mask) == 0xa00);
    assert!(core::mem::offset_of!(SharedInfo, arch) == 0xc10);
};

/// One entry of a trap table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TrapInfo {
    /// Vector.
    pub vector: u8,
    /// Bits 0-1: least privileged ring that may raise it by software; bit 2: mask events.
    pub flags: u8,
    /// Code selector of the handler.
    pub cs: u16,
    /// Handler; 0 ends the table.
    pub address: u64,
}

/// Bit of [`TrapInfo::flags`]: events are masked on delivery.
pub const TRAP_MASKS_EVENTS: u8 = 4;

/// One request of mmu_update.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MmuUpdate {
    /// Machine address of the entry, and a command in the low bits.
    pub ptr: u64,
    /// New contents.
    pub val: u64,
}

/// Commands in the low bits of [`MmuUpdate::ptr`].
pub mod mmu {
    #![allow(missing_docs)]
    pub const NORMAL: u64 = 0;
    pub const MACHPHYS: u64 = 1;
    pub const PRESERVE_AD: u64 = 2;
}

/// One request of mmuext_op.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MmuExtOp {
    /// Command.
    pub cmd: u32,
    /// Not used.
    pub pad: u32,
    /// Frame or linear address.
    pub arg1: u64,
    /// Count or pointer.
    pub arg2: u64,
}

/// Commands of mmuext_op.
pub mod mmuext {
    #![allow(missing_docs)]
    pub const PIN_L1: u32 = 0;
    pub const PIN_L2: u32 = 1;
    pub const PIN_L3: u32 = 2;
    pub const PIN_L4: u32 = 3;
    pub const UNPIN: u32 = 4;
    pub const NEW_BASEPTR: u32 = 5;
    pub const TLB_FLUSH_LOCAL: u32 = 6;
    pub const INVLPG_LOCAL: u32 = 7;
    pub const TLB_FLUSH_MULTI: u32 = 8;
    pub const INVLPG_MULTI: u32 = 9;
    pub const TLB_FLUSH_ALL: u32 = 10;
    pub const SET_LDT: u32 = 13;
    pub const NEW_USER_BASEPTR: u32 = 15;
}

/// One call of a multicall.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MulticallEntry {
    /// Hypercall number.
    pub op: u64,
    /// Its result, written by the hypervisor.
    pub result: i64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// Types of callbacks.
pub mod callback {
    #![allow(missing_docs)]
    pub const EVENT: u16 = 0;
    pub const FAILSAFE: u16 = 1;
    pub const SYSCALL: u16 = 2;
    pub const NMI: u16 = 4;
    pub const SYSENTER: u16 = 5;
    pub const SYSCALL32: u16 = 7;
}

/// Argument of callback_op.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CallbackRegister {
    /// What is registered: [`callback`].
    pub kind: u16,
    /// Bit 0: events are masked on delivery.
    pub flags: u16,
    /// Not used.
    pub pad: u32,
    /// The callback.
    pub address: u64,
}

/// Operations on event channels.
pub mod evtchn {
    #![allow(missing_docs)]
    pub const BIND_INTERDOMAIN: u64 = 0;
    pub const BIND_VIRQ: u64 = 1;
    pub const CLOSE: u64 = 3;
    pub const SEND: u64 = 4;
    pub const STATUS: u64 = 5;
    pub const ALLOC_UNBOUND: u64 = 6;
    pub const BIND_IPI: u64 = 7;
    pub const BIND_VCPU: u64 = 8;
    pub const UNMASK: u64 = 9;
    pub const RESET: u64 = 10;
    pub const INIT_CONTROL: u64 = 11;
    pub const EXPAND_ARRAY: u64 = 12;
    pub const SET_PRIORITY: u64 = 13;
}

/// Operations of sched_op.
pub mod sched {
    #![allow(missing_docs)]
    pub const YIELD: u64 = 0;
    pub const BLOCK: u64 = 1;
    pub const SHUTDOWN: u64 = 2;
    pub const POLL: u64 = 3;
}

/// Operations of vcpu_op.
pub mod vcpu {
    #![allow(missing_docs)]
    pub const INITIALISE: u64 = 0;
    pub const UP: u64 = 1;
    pub const DOWN: u64 = 2;
    pub const IS_UP: u64 = 3;
    pub const GET_RUNSTATE_INFO: u64 = 4;
    pub const REGISTER_RUNSTATE_MEMORY_AREA: u64 = 5;
    pub const STOP_PERIODIC_TIMER: u64 = 7;
    pub const SET_SINGLESHOT_TIMER: u64 = 8;
    pub const STOP_SINGLESHOT_TIMER: u64 = 9;
    pub const REGISTER_VCPU_INFO: u64 = 10;
}

/// Bases of set_segment_base.
pub mod segment_base {
    #![allow(missing_docs)]
    pub const FS: u64 = 0;
    pub const GS_USER: u64 = 1;
    pub const GS_KERNEL: u64 = 2;
    pub const GS_USER_SELECTOR: u64 = 3;
}
