//! Control of one domain, for the control domain alone: one table from command to function, one file a group.
//!
//! A call is copied once. Commands that answer have the place of their answer checked before they do anything. What an
//! ordinary domain asks is refused before it is looked at.

mod context;
mod describe;
mod life;
mod memory;
mod permissions;
mod settings;

use crate::domain::{self, Domain, Guest};
use crate::hypercall::{Args, Outcome};
use frames::DomId;
use guest_abi::domctl::{Domctl, DomctlCommand, XEN_DOMCTL_INTERFACE_VERSION};
use guest_abi::{Errno, Wire};

pub use describe::describe;

/// How a command is served.
enum Serve {
    /// Without an answer but its result.
    Plain(fn(&mut Guest<'_>, &'static Domain, &Domctl, Args) -> Outcome),
    /// With an answer in the call's own structure.
    Answer(fn(&mut Guest<'_>, &'static Domain, &mut Domctl, Args) -> Outcome),
}

/// The commands that are about a domain there is.
fn serve(command: DomctlCommand) -> Option<Serve> {
    use Serve::{Answer, Plain};
    Some(match command {
        DomctlCommand::Destroydomain => Plain(life::destroy),
        DomctlCommand::Pausedomain => Plain(life::pause),
        DomctlCommand::Unpausedomain => Plain(life::unpause),
        DomctlCommand::Resumedomain => Plain(life::resume),
        DomctlCommand::MaxMem => Plain(life::max_mem),
        DomctlCommand::MaxVcpus => Plain(life::max_vcpus),
        DomctlCommand::Setdomainhandle => Plain(life::set_handle),
        DomctlCommand::HypercallInit => Plain(life::hypercall_init),
        DomctlCommand::Setvcpucontext => Plain(context::set),
        DomctlCommand::Getvcpucontext => Plain(context::get),
        DomctlCommand::Getvcpuinfo => Answer(describe::vcpu),
        DomctlCommand::Getpageframeinfo3 => Plain(memory::types),
        DomctlCommand::IomemPermission => Plain(permissions::iomem),
        DomctlCommand::IoportPermission => Plain(permissions::ioport),
        DomctlCommand::IrqPermission => Plain(permissions::irq),
        DomctlCommand::Setvcpuaffinity => Plain(settings::set_affinity),
        DomctlCommand::Getvcpuaffinity => Plain(settings::get_affinity),
        DomctlCommand::Setnodeaffinity => Plain(settings::set_nodes),
        DomctlCommand::Getnodeaffinity => Plain(settings::get_nodes),
        DomctlCommand::SchedulerOp => Answer(settings::scheduler),
        DomctlCommand::Settscinfo => Plain(settings::set_tsc),
        DomctlCommand::Gettscinfo => Answer(settings::get_tsc),
        DomctlCommand::SetAddressSize => Plain(settings::set_address_size),
        DomctlCommand::GetAddressSize => Answer(settings::get_address_size),
        DomctlCommand::Settimeoffset => Plain(settings::set_time_offset),
        DomctlCommand::GetCpuPolicy => Answer(settings::get_policy),
        DomctlCommand::SetCpuPolicy => Answer(settings::set_policy),
        _ => return None,
    })
}

/// `domctl(call)`.
pub fn domctl(g: &mut Guest<'_>, args: Args) -> Outcome {
    if !g.dom.privileged {
        return Err(Errno::Perm.into());
    }
    let at = args[0];
    let mut call: Domctl = g.memory().value(at)?;
    if call.interface_version != XEN_DOMCTL_INTERFACE_VERSION {
        return Err(Errno::Access.into());
    }
    let command = DomctlCommand::from_number(call.cmd);
    let served = match command {
        Some(DomctlCommand::Createdomain) => {
            g.memory().check_writable(at, Domctl::SIZE)?;
            life::create(g, &mut call, args)
        }
        Some(DomctlCommand::Getdomaininfo) => {
            g.memory().check_writable(at, Domctl::SIZE)?;
            describe::next(&mut call)
        }
        _ => {
            let dom = domain::get(DomId(call.domain)).ok_or(Errno::Srch)?;
            match command.and_then(serve).ok_or(Errno::NoSys)? {
                Serve::Plain(act) => return act(g, dom, &call, args),
                Serve::Answer(act) => {
                    g.memory().check_writable(at, Domctl::SIZE)?;
                    act(g, dom, &mut call, args)
                }
            }
        }
    }?;
    g.memory().put(at, &call)?;
    Ok(served)
}

/// The same, but not the caller's own and not one that is being destroyed: for what gives it something new.
fn another(g: &Guest<'_>, dom: &'static Domain) -> Result<(), Errno> {
    if dom.id == g.dom.id || dom.is_dying() {
        return Err(Errno::Inval);
    }
    Ok(())
}
