//! Letting a domain reach devices: frames that are no memory, and ports. Interrupts of devices stay the control domain's.

use super::another;
use crate::device;
use crate::domain::permissions::{Full, Permissions, Ranges};
use crate::domain::{Domain, Guest};
use crate::hypercall::{Args, Outcome};
use crate::memory::{frame_table, record};
use crate::policy::ports;
use core::ops::RangeInclusive;
use frames::{Class, Mfn};
use guest_abi::Errno;
use guest_abi::domctl::{Domctl, IomemPermission, IoportPermission, IrqPermission};

const MAX_PORTS: u64 = 65_536;

/// `iomem_permission`.
pub fn iomem(g: &mut Guest<'_>, dom: &'static Domain, call: &Domctl, _: Args) -> Outcome {
    let asked: IomemPermission = call.payload();
    another(g, dom)?;
    let last = asked.nr_mfns.checked_sub(1);
    let last = last.and_then(|rest| asked.first_mfn.checked_add(rest));
    let range = asked.first_mfn..=last.ok_or(Errno::Inval)?;
    // The ends say what the range is; inside it each frame is judged again when it is mapped.
    let is_io = |mfn: u64| matches!(frame_table::class(Mfn(mfn)), Class::Io);
    if !is_io(*range.start()) || !is_io(*range.end()) {
        return Err(Errno::Inval.into());
    }
    if device::is_ring0_only(Mfn(*range.start())) || device::is_ring0_only(Mfn(*range.end())) {
        return Err(Errno::Perm.into());
    }
    change(dom, Permissions::frames, &range, asked.allow_access != 0)
}

/// `ioport_permission`.
pub fn ioport(g: &mut Guest<'_>, dom: &'static Domain, call: &Domctl, _: Args) -> Outcome {
    let asked: IoportPermission = call.payload();
    another(g, dom)?;
    let first = u64::from(asked.first_port);
    let end = first + u64::from(asked.nr_ports);
    if end <= first || end > MAX_PORTS {
        return Err(Errno::Inval.into());
    }
    let range = first..=end - 1;
    if !ports::may_be_given(&range) {
        return Err(Errno::Perm.into());
    }
    change(dom, Permissions::ports, &range, asked.allow_access != 0)
}

/// `irq_permission`: taking one away is no change, since none can be given.
pub fn irq(g: &mut Guest<'_>, dom: &'static Domain, call: &Domctl, _: Args) -> Outcome {
    let asked: IrqPermission = call.payload();
    another(g, dom)?;
    if asked.pirq >= device::pirq::MAX {
        return Err(Errno::Inval.into());
    }
    match asked.allow_access {
        0 => Ok(0),
        _ => Err(Errno::OpNotSupp.into()),
    }
}

fn change(
    dom: &Domain,
    of: fn(&mut Permissions) -> &mut Ranges,
    range: &RangeInclusive<u64>,
    allow: bool,
) -> Outcome {
    let has_any = dom.permissions.lock().is_some();
    if !has_any {
        if !allow {
            return Ok(0);
        }
        make_room(dom)?;
    }
    let mut permissions = dom.permissions.lock();
    // They stay as long as the domain.
    let Some(permissions) = permissions.as_mut() else {
        return Err(Errno::NoMem.into());
    };
    let ranges = of(permissions);
    let changed = match allow {
        true => ranges.add(range),
        false => ranges.remove(range),
    };
    changed.map_err(|Full| Errno::NoMem)?;
    if !allow {
        // What is mapped stays so until the domain itself unmaps it; ports are asked for each time.
        dom.generation
            .fetch_add(1, core::sync::atomic::Ordering::AcqRel);
    }
    Ok(0)
}

/// Makes the lists of a domain that has none yet. The frame is had before the lock: it may have to be flushed.
fn make_room(dom: &Domain) -> Result<(), Errno> {
    let made = record::place_mut(Permissions::default()).ok_or(Errno::NoMem)?;
    let mut permissions = dom.permissions.lock();
    if permissions.is_none() {
        dom.count_fixed(record::frames_of::<Permissions>());
        *permissions = Some(made);
        return Ok(());
    }
    // Another was faster.
    drop(permissions);
    // SAFETY: made above, and known to nobody.
    unsafe { record::end(made) };
    Ok(())
}
