//! Frames of a domain's that are no part of its allotment, for the control domain to map.

use crate::domain::Guest;
use crate::hypercall::{Args, Outcome, Stop, grant, is_self, subject};
use guest_abi::Errno;
use guest_abi::memory::{
    XENMEM_RESOURCE_GRANT_TABLE, XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED, XenMemAcquireResource,
    XenVnumaTopologyInfo,
};

/// Units of work that a new frame of a table is, with its storage.
const GROW_UNITS: u64 = 8;

/// `acquire_resource`: frames of another domain's grant table, which grows if it has to.
pub(super) fn acquire(g: &mut Guest<'_>, args: Args) -> Outcome {
    let arg = args[1];
    let mut want: XenMemAcquireResource = g.memory().value(arg)?;
    if want._pad != 0 {
        return Err(Errno::Inval.into());
    }
    if is_self(g, want.domid) || !g.dom.privileged {
        return Err(Errno::Perm.into());
    }
    let dom = subject(g, want.domid)?;
    if want.kind != XENMEM_RESOURCE_GRANT_TABLE {
        return Err(Errno::OpNotSupp.into());
    }
    if want.id != XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED {
        return Err(Errno::Inval.into());
    }
    let most = dom.grants.lock().max_frames();
    if want.frame_list == 0 {
        want.nr_frames = most as u32;
        g.memory().put(arg, &want)?;
        return Ok(0);
    }
    let end = want.frame.checked_add(u64::from(want.nr_frames));
    if want.nr_frames == 0 || end.is_none_or(|end| end > most) {
        return Err(Errno::Inval.into());
    }
    g.memory()
        .check_writable(want.frame_list, want.nr_frames as usize * 8)?;
    for n in 0..u64::from(want.nr_frames) {
        let index = (want.frame + n) as usize;
        let before = dom.grants.lock().table_frames();
        let frame = grant::table_frame(dom, index).ok_or(Errno::NoMem)?;
        let grown = dom.grants.lock().table_frames() - before;
        g.charge(grown * GROW_UNITS);
        if !g.spend() {
            // What has grown stays: the call made again comes further.
            return Err(Stop::Again(args));
        }
        g.memory().put(want.frame_list + n * 8, &frame.0)?;
    }
    Ok(0)
}

/// `get_vnumainfo`: no domain has virtual nodes.
pub(super) fn virtual_nodes(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want: XenVnumaTopologyInfo = g.memory().value(arg)?;
    subject(g, want.domid)?;
    Err(Errno::OpNotSupp.into())
}
