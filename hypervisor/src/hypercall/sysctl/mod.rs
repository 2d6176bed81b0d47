//! Control of the machine, for the control domain alone: one table from command to function, one file a group.
//!
//! A call is copied once, and the place of its answer checked before anything else is done.

mod console;
mod domains;
mod machine;

use crate::domain::Guest;
use crate::hypercall::{Args, Outcome};
use guest_abi::sysctl::{Sysctl, SysctlCommand, XEN_SYSCTL_INTERFACE_VERSION};
use guest_abi::{Errno, Wire};

pub use machine::tsc_khz;

/// What serves a command.
type Serve = fn(&mut Guest<'_>, &mut Sysctl) -> Outcome;

fn serve(command: SysctlCommand) -> Option<Serve> {
    Some(match command {
        SysctlCommand::Readconsole => console::read,
        SysctlCommand::DebugKeys => console::keys,
        SysctlCommand::Availheap => machine::free_memory,
        SysctlCommand::Cputopoinfo => machine::cpu_topology,
        SysctlCommand::Numainfo => machine::nodes,
        SysctlCommand::CpupoolOp => machine::pools,
        SysctlCommand::Getcpuinfo => machine::idle_times,
        SysctlCommand::GetCpuLevellingCaps => machine::levelling,
        SysctlCommand::GetCpuFeatureset => machine::features,
        SysctlCommand::GetCpuPolicy => machine::policy,
        SysctlCommand::Physinfo => machine::physinfo,
        SysctlCommand::SchedId => machine::sched_id,
        SysctlCommand::Getdomaininfolist => domains::list,
        _ => return None,
    })
}

/// `sysctl(call)`.
pub fn sysctl(g: &mut Guest<'_>, args: Args) -> Outcome {
    if !g.dom.privileged {
        return Err(Errno::Perm.into());
    }
    let at = args[0];
    let mut call: Sysctl = g.memory().value(at)?;
    if call.interface_version != XEN_SYSCTL_INTERFACE_VERSION {
        return Err(Errno::Access.into());
    }
    let served = SysctlCommand::from_number(call.cmd).and_then(serve);
    let act = served.ok_or(Errno::NoSys)?;
    g.memory().check_writable(at, Sysctl::SIZE)?;
    let result = act(g, &mut call)?;
    g.memory().put(at, &call)?;
    Ok(result)
}
