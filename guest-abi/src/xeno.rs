//! Our own operations, which Xen does not have: [`Hypercall::XenoOp`](crate::Hypercall::XenoOp).
//!
//! The first argument is a number of [`XenoCommand`], the second the address of its structure. Each structure begins
//! with the version of the interface that the caller was built for, so that it can grow.

use crate::wire::{operations, wire_struct};

/// The version of the interface that a caller states.
pub const XENO_INTERFACE_VERSION: u32 = 1;

operations! {
    /// Commands of [`Hypercall::XenoOp`](crate::Hypercall::XenoOp).
    pub enum XenoCommand: u32 {
        /// Recount every frame's owner, type and references. Argument: [`Audit`].
        Audit "audit" = 0,
        /// Attach an end in ring 0 to a domain's unbound port. Argument: [`AttachEnd`].
        AttachEnd "attach_end" = 8,
        /// Detach it: the port waits for the end again. Argument: [`DetachEnd`].
        DetachEnd "detach_end" = 9,
        /// What a domain or a vCPU used. Argument: [`Usage`](crate::usage::Usage).
        Usage "usage" = 16,
        /// What became of the CPUs' time. Argument: [`Books`](crate::usage::Books).
        Books "books" = 17,
        /// Where a domain's accounts can be read without a call. Argument: [`UsageFrame`](crate::usage::UsageFrame).
        UsageFrame "usage_frame" = 18,
        /// What holds for all reservations of CPU time. Argument: [`SchedRules`](crate::reserve::SchedRules).
        SchedRules "sched_rules" = 24,
        /// What CPU time a vCPU has reserved. Argument: [`SchedGet`](crate::reserve::SchedGet).
        SchedGet "sched_get" = 25,
        /// Reserves CPU time. Argument: [`SchedSet`](crate::reserve::SchedSet).
        SchedSet "sched_set" = 26,
        /// What is reserved of a CPU. Argument: [`SchedCpu`](crate::reserve::SchedCpu).
        SchedCpu "sched_cpu" = 27,
        /// What a domain may reserve for itself. Argument: [`SchedAllow`](crate::reserve::SchedAllow).
        SchedAllow "sched_allow" = 28,
        /// How long a chain of the usage record is. Argument: [`LedgerHead`](crate::ledger::LedgerHead).
        LedgerHead "ledger_head" = 32,
        /// A chain has grown. Argument: [`LedgerHead`](crate::ledger::LedgerHead).
        LedgerAppend "ledger_append" = 33,
        /// The account of a domain that is gone. Argument: [`LedgerEnded`](crate::ledger::LedgerEnded).
        LedgerEnded "ledger_ended" = 34,
    }
}

/// Kinds of use in [`Audit::frames_by_type`].
pub const AUDIT_TYPES: usize = 8;
/// Names of the kinds of use, in order; the last is not in use.
pub const AUDIT_TYPE_NAMES: [&str; AUDIT_TYPES] = [
    "untyped",
    "writable",
    "l1",
    "l2",
    "l3",
    "l4",
    "descriptors",
    "",
];

wire_struct! {
    /// Argument of [`XenoCommand::Audit`]: what there is, and whether it adds up. Only the version and the domain are
    /// read.
    pub struct Audit: 168 {
        /// In: [`XENO_INTERFACE_VERSION`].
        0x00 version: u32,
        /// In: the domain whose frames are counted by type; `DOMID_SELF` is the caller.
        0x04 domid: u16,
        /// Padding.
        0x06 _pad0: u16,
        /// Counts that are not what was counted. Anything but 0 is a fault of the hypervisor.
        0x08 mismatches: u64,
        /// Frames of memory in all.
        0x10 frames: u64,
        /// Frames nobody has.
        0x18 free: u64,
        /// Frames of the hypervisor's own, without what the audit itself took for its counters.
        0x20 hypervisor: u64,
        /// Frames of the domain.
        0x28 domain: u64,
        /// Frames of all other domains.
        0x30 others: u64,
        /// Frames of the hypervisor's that exist because of the domain and are charged to it.
        0x38 overhead: u64,
        /// References to frames, under no type.
        0x40 general_references: u64,
        /// References to frames under their type: as writable memory, tables, descriptors.
        0x48 type_references: u64,
        /// The domain's frames by what they are in use as, named by [`AUDIT_TYPE_NAMES`]; together [`Audit::domain`].
        0x50 frames_by_type: [u64; AUDIT_TYPES],
        /// Those of `overhead` that are page tables, by which the domain's vCPUs are seen from within it.
        0x90 tables: u64,
        /// Zero.
        0x98 _reserved: [u64; 2],
    }
}

/// Frames that a link to an end may have.
pub const MAX_END_PAGES: usize = 4;

wire_struct! {
    /// Argument of [`XenoCommand::AttachEnd`].
    pub struct AttachEnd: 40 {
        /// In: [`XENO_INTERFACE_VERSION`].
        0x00 version: u32,
        /// In: whose port and grants.
        0x04 domid: u16,
        /// In: the end's number, see [`crate::ends`].
        0x06 end: u16,
        /// In: the port, unbound and waiting for the end.
        0x08 port: u32,
        /// In: how many of [`AttachEnd::grefs`] count.
        0x0c nr_grefs: u32,
        /// In: grants of the domain's to the end, as many as it takes and in its order.
        0x10 grefs: [u32; MAX_END_PAGES],
        /// Out: `GNTST_*` of the grant that was refused, if one was.
        0x20 status: i16,
        /// Out: its place in the list.
        0x22 refused: u16,
        /// Padding.
        0x24 _pad0: u32,
    }
    /// Argument of [`XenoCommand::DetachEnd`].
    pub struct DetachEnd: 16 {
        /// In: [`XENO_INTERFACE_VERSION`].
        0x00 version: u32,
        /// In: whose port.
        0x04 domid: u16,
        /// Padding.
        0x06 _pad0: u16,
        /// In: the port.
        0x08 port: u32,
        /// Padding.
        0x0c _pad1: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wire;

    #[test]
    fn the_version_comes_first_so_that_the_rest_may_grow() {
        assert_eq!(Audit::FIELDS[0].name, "version");
        assert_eq!(Audit::FIELDS[0].offset, 0);
    }
}
