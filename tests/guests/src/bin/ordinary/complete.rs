//! That no call is left out: every operation of the interface has a row here that says where it is refused, or why there
//! is nothing to refuse. One that is new does not compile until it has one.

use guest_runtime::abi::operations::*;
use guest_runtime::abi::{DomctlCommand, SysctlCommand, errno, nr};
use guest_runtime::frames;
use guest_runtime::hypercall::call;
use guest_runtime::{check, say};

use crate::ids;

/// What an operation could do to others, and so what is tried here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Nothing: it is about the caller alone.
    Itself,
    /// The argument names a domain, at this byte.
    Names(usize),
    /// Nobody is named: it is the control domain's.
    Machine,
    /// It is tried, with what it takes, by another step.
    Elsewhere,
}
use Reach::{Elsewhere, Itself, Machine, Names};

/// Calls without operations of their own, and families.
fn of_call(call: Hypercall) -> Reach {
    use Hypercall as H;
    match call {
        H::SetTrapTable | H::SetGdt | H::StackSwitch | H::SetCallbacks | H::FpuTaskswitch => Itself,
        H::SetDebugreg | H::GetDebugreg | H::SetTimerOp | H::XenVersion | H::VmAssist => Itself,
        H::Iret | H::VcpuOp | H::SetSegmentBase | H::CallbackOp | H::Multicall => Itself,
        H::UpdateVaMapping | H::NmiOp => Itself,
        // Steps of this guest: page tables, memory, ports, grants, devices, the control calls.
        H::MmuUpdate | H::MmuextOp | H::UpdateVaMappingOtherdomain => Elsewhere,
        H::UpdateDescriptor | H::MemoryOp | H::GrantTableOp | H::EventChannelOp => Elsewhere,
        H::PhysdevOp | H::PlatformOp | H::Mca | H::SchedOp | H::ConsoleIo => Elsewhere,
        H::Domctl | H::Sysctl | H::XenoOp => Elsewhere,
        // Nobody is served these.
        H::SchedOpCompat | H::EventChannelOpCompat | H::PhysdevOpCompat | H::XsmOp => Machine,
        H::XenoprofOp | H::HvmOp | H::KexecOp | H::TmemOp | H::ArgoOp | H::XenpmuOp => Machine,
        H::DmOp | H::HypfsOp => Machine,
    }
}

fn of_memory(op: MemoryOp) -> Reach {
    use MemoryOp as M;
    match op {
        // Of a reservation the domain's number is the third field but one. Xen counts extents of the first three: zero.
        M::IncreaseReservation | M::DecreaseReservation | M::PopulatePhysmap => Elsewhere,
        // Of an exchange both halves do, by the step about memory.
        M::Exchange => Elsewhere,
        M::ClaimPages => Names(24),
        M::CurrentReservation | M::MaximumReservation | M::MaximumGpfn => Names(0),
        M::AddToPhysmap | M::RemoveFromPhysmap | M::AddToPhysmapBatch => Names(0),
        M::SetMemoryMap | M::AcquireResource | M::GetVnumainfo => Names(0),
        M::SetPodTarget | M::GetPodTarget => Names(16),
        M::AccessOp => Names(2),
        M::PagingOp | M::SharingOp => Names(2),
        M::MachphysMfnList | M::MachineMemoryMap => Machine,
        M::MaximumRamPage | M::MemoryMap | M::MachphysMapping => Itself,
        M::GetSharingFreedPages | M::GetSharingSharedPages => Itself,
        M::MachphysCompatMfnList | M::ReservedDeviceMemoryMap => Itself,
    }
}

fn of_scheduler(op: SchedOp) -> Reach {
    match op {
        SchedOp::Yield | SchedOp::Block | SchedOp::Shutdown | SchedOp::Poll => Itself,
        SchedOp::ShutdownCode | SchedOp::Watchdog => Itself,
        SchedOp::RemoteShutdown => Names(0),
        SchedOp::PinOverride => Machine,
    }
}

fn of_event(op: EventChannelOp) -> Reach {
    use EventChannelOp as E;
    match op {
        // Of these two, and of interrupts, another step asks with what they take.
        E::BindInterdomain | E::BindPirq => Elsewhere,
        E::AllocUnbound | E::Status | E::Reset => Names(0),
        E::BindVirq | E::Close | E::Send | E::BindIpi | E::BindVcpu | E::Unmask => Itself,
        E::InitControl | E::ExpandArray | E::SetPriority => Itself,
    }
}

fn of_grant(op: GrantTableOp) -> Reach {
    use GrantTableOp as G;
    match op {
        // Each element has a status of its own: the step about grants looks at it.
        G::MapGrantRef | G::SetupTable | G::QuerySize | G::Copy => Elsewhere,
        G::GetVersion => Names(0),
        G::DumpTable | G::Transfer | G::GetStatusFrames => Elsewhere,
        G::UnmapGrantRef | G::UnmapAndReplace | G::SetVersion => Itself,
        G::SwapGrantRef | G::CacheFlush => Itself,
    }
}

/// Ours alone. What a domain may ask for itself once it is allowed it may not to begin with.
fn of_xeno(op: XenoCommand) -> Reach {
    use XenoCommand as X;
    match op {
        X::Audit | X::AttachEnd | X::DetachEnd | X::Books => Machine,
        X::SchedSet | X::SchedAllow | X::SchedCpu => Machine,
        X::LedgerHead | X::LedgerAppend | X::LedgerEnded => Machine,
        // A domain's own is the domain's to know.
        X::Usage | X::UsageFrame | X::SchedRules | X::SchedGet => Elsewhere,
    }
}

/// Makes a call with an argument of zeros but for the domain it names; it must be refused.
fn tried(what: &str, number: u64, operation: u64, reach: Reach, count: u64) {
    let ids = ids();
    let page = frames::allocate();
    let places: &[(usize, u16)] = match reach {
        Itself | Elsewhere => &[],
        // Xen tells every domain where the M2P is, and serves old forms of calls.
        Machine if ids.ours => &[(0, 0)],
        Machine => &[],
        Names(at) => &[(at, ids.control), (at, ids.other)],
    };
    for &(at, domain) in places {
        page.clear();
        page.write(at / 8, u64::from(domain) << (at % 8 * 8));
        let result = call(number, [operation, page.va(), count, 0, 0]);
        // Of what is not served Xen and we say so, each in its way; nothing may be done.
        let refused = (-4095..0).contains(&result);
        if !check!(refused, what)
            || (ids.ours && ![-errno::EPERM, -errno::ENOSYS, -errno::EOPNOTSUPP].contains(&result))
        {
            check!(false, "it is refused for who asks");
            say!("  hypercall {number} operation {operation} about {domain:#x} answers {result}");
        }
    }
    frames::release(page);
}

/// Step: each operation by its row.
pub fn all(_: [u64; 5]) -> i64 {
    let ours = ids().ours;
    for &operation in MemoryOp::ALL {
        let reach = of_memory(operation);
        tried(
            operation.name(),
            nr::MEMORY_OP,
            u64::from(operation.number()),
            reach,
            1,
        );
    }
    for &operation in SchedOp::ALL {
        let reach = of_scheduler(operation);
        tried(
            operation.name(),
            nr::SCHED_OP,
            u64::from(operation.number()),
            reach,
            1,
        );
    }
    for &operation in EventChannelOp::ALL {
        let reach = of_event(operation);
        tried(
            operation.name(),
            nr::EVENT_CHANNEL_OP,
            u64::from(operation.number()),
            reach,
            1,
        );
    }
    for &operation in GrantTableOp::ALL {
        let reach = of_grant(operation);
        // A list of one whose status is in it: that of get_version is the result here.
        if ours {
            tried(
                operation.name(),
                nr::GRANT_TABLE_OP,
                u64::from(operation.number()),
                reach,
                1,
            );
        }
    }
    for &hypercall in Hypercall::ALL {
        if of_call(hypercall) == Machine {
            tried(hypercall.name(), hypercall.number(), 0, Machine, 0);
        }
    }
    for &operation in XenoCommand::ALL {
        let number = u64::from(operation.number());
        tried(operation.name(), nr::XENO_OP, number, of_xeno(operation), 0);
    }
    let by_number = DomctlCommand::ALL.iter().all(|c| c.number() < 100)
        && SysctlCommand::ALL.iter().all(|c| c.number() < 40)
        && PhysdevOp::ALL.iter().all(|op| op.number() < 40);
    check!(by_number, "the steps that go by number reach every command");
    0
}
