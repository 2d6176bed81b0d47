//! Hypercalls: their numbers, the hypercall page, and the multicall entry.
//!
//! A guest kernel executes `syscall` with the number in RAX and up to five arguments in RDI, RSI, RDX, R10
//! and R8; the result comes back in RAX. Older kernels jump into a page of stubs that do the same.

use crate::wire::{operations, wire_struct};

operations! {
    /// The hypercalls of the public interface, and ours.
    ///
    /// That a number is here does not mean it is served: the dispatcher decides.
    pub enum Hypercall: u64 {
        /// Registers exception handlers. Arguments: array of `TrapInfo`.
        SetTrapTable "set_trap_table" = 0,
        /// Checked updates of page tables. Arguments: array of `MmuUpdate`, count, done, domains.
        MmuUpdate "mmu_update" = 1,
        /// Installs a descriptor table. Arguments: list of frames, entries.
        SetGdt "set_gdt" = 2,
        /// Sets the kernel's stack for entries from user mode. Arguments: SS, RSP.
        StackSwitch "stack_switch" = 3,
        /// Registers callbacks, in the old form.
        SetCallbacks "set_callbacks" = 4,
        /// Sets or clears the virtual task-switched flag. Argument: set.
        FpuTaskswitch "fpu_taskswitch" = 5,
        /// `SchedOp` in its old form.
        SchedOpCompat "sched_op_compat" = 6,
        /// Operations on the machine. Argument: a `PlatformOp`.
        PlatformOp "platform_op" = 7,
        /// Writes a debug register. Arguments: number, value.
        SetDebugreg "set_debugreg" = 8,
        /// Reads a debug register. Argument: number.
        GetDebugreg "get_debugreg" = 9,
        /// Writes one segment descriptor. Arguments: machine address, descriptor.
        UpdateDescriptor "update_descriptor" = 10,
        /// Memory reservation and maps. Arguments: operation, its structure.
        MemoryOp "memory_op" = 12,
        /// Several calls in one. Arguments: array of `MulticallEntry`, count.
        Multicall "multicall" = 13,
        /// Sets the page-table entry of an address. Arguments: address, entry, flags.
        UpdateVaMapping "update_va_mapping" = 14,
        /// Sets the virtual timer. Argument: system time in nanoseconds.
        SetTimerOp "set_timer_op" = 15,
        /// `EventChannelOp` in its old form.
        EventChannelOpCompat "event_channel_op_compat" = 16,
        /// Who we are. Arguments: operation, its structure.
        XenVersion "xen_version" = 17,
        /// The machine's console. Arguments: operation, count, buffer.
        ConsoleIo "console_io" = 18,
        /// `PhysdevOp` in its old form.
        PhysdevOpCompat "physdev_op_compat" = 19,
        /// Grant tables. Arguments: operation, array of its structure, count.
        GrantTableOp "grant_table_op" = 20,
        /// Switches an assist on or off. Arguments: command, assist.
        VmAssist "vm_assist" = 21,
        /// As `UpdateVaMapping` with another owner of the frame. Arguments: address, entry, flags, domain.
        UpdateVaMappingOtherdomain "update_va_mapping_otherdomain" = 22,
        /// Returns from an exception or to user mode. The arguments lie on the kernel's stack.
        Iret "iret" = 23,
        /// Operations on a virtual processor. Arguments: operation, vCPU, its structure.
        VcpuOp "vcpu_op" = 24,
        /// Sets a segment base. Arguments: which, base.
        SetSegmentBase "set_segment_base" = 25,
        /// Extended page-table operations. Arguments: array of `MmuextOp`, count, done, domain.
        MmuextOp "mmuext_op" = 26,
        /// Security modules. We have none.
        XsmOp "xsm_op" = 27,
        /// NMI callback. Arguments: operation, its structure.
        NmiOp "nmi_op" = 28,
        /// Yield, block, shut down. Arguments: operation, its structure; the start-info frame on suspend.
        SchedOp "sched_op" = 29,
        /// Registers callbacks. Arguments: operation, its structure.
        CallbackOp "callback_op" = 30,
        /// Profiling. Not offered.
        XenoprofOp "xenoprof_op" = 31,
        /// Event channels. Arguments: operation, its structure.
        EventChannelOp "event_channel_op" = 32,
        /// Physical devices and interrupts. Arguments: operation, its structure.
        PhysdevOp "physdev_op" = 33,
        /// Fully virtualized guests. Not offered.
        HvmOp "hvm_op" = 34,
        /// Control of the whole system. Argument: its structure.
        Sysctl "sysctl" = 35,
        /// Control of a domain. Argument: its structure.
        Domctl "domctl" = 36,
        /// Loading a kernel to run after a crash. Not offered.
        KexecOp "kexec_op" = 37,
        /// Transcendent memory. Gone from the interface.
        TmemOp "tmem_op" = 38,
        /// Messages between domains. Not offered.
        ArgoOp "argo_op" = 39,
        /// Performance counters. Arguments: operation, its structure.
        XenpmuOp "xenpmu_op" = 40,
        /// Device models. Not offered.
        DmOp "dm_op" = 41,
        /// The hypervisor's parameter tree. Not offered.
        HypfsOp "hypfs_op" = 42,
        /// Machine checks, the first of the architecture's own numbers. Argument: its structure.
        Mca "arch_0" = 48,
        /// Our own operations, which the public interface does not know. The number is above everything the
        /// interface uses and below the end of the hypercall page. Arguments: operation, its structure.
        XenoOp "xeno_op" = 64,
    }
}

/// Stubs in the hypercall page.
pub const HYPERCALL_PAGE_STUBS: usize = 128;
/// Bytes from one stub to the next.
pub const HYPERCALL_PAGE_STUB_BYTES: usize = 32;

const _: () = {
    assert!(HYPERCALL_PAGE_STUBS * HYPERCALL_PAGE_STUB_BYTES == 4096);
    assert!((Hypercall::XenoOp as usize) < HYPERCALL_PAGE_STUBS);
};

wire_struct! {
    /// One call of a [`Hypercall::Multicall`].
    pub struct MulticallEntry: 64 {
        /// The hypercall's number.
        0x00 op: u64,
        /// Out: the result, as the single call would have left it in RAX.
        0x08 result: u64,
        /// The arguments, as many as the call takes.
        0x10 args: [u64; 6],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_finds_its_call() {
        for &call in Hypercall::ALL {
            assert_eq!(Hypercall::from_number(call.number()), Some(call));
        }
    }

    #[test]
    fn a_number_nobody_has_is_none() {
        for number in [11, 43, 47, 49, 63, 65, u64::MAX, 1 << 32] {
            assert_eq!(Hypercall::from_number(number), None);
        }
    }
}
