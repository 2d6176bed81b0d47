//! Our own operations, which Xen does not have. So far one, for the control domain: the audit.

use crate::domain::Guest;
use crate::hypercall::{Args, Outcome, subject};
use crate::mmu::audit;
use core::sync::atomic::Ordering;
use guest_abi::xeno::{Audit, XENO_INTERFACE_VERSION, XenoCommand};
use guest_abi::{Errno, Wire};

/// `xeno_op(op, arg)`.
pub fn xeno_op(g: &mut Guest<'_>, args: Args) -> Outcome {
    if !g.dom.privileged {
        return Err(Errno::Perm.into());
    }
    let [op, arg, ..] = args;
    match XenoCommand::from_number(op as u32) {
        Some(XenoCommand::Audit) => recount(g, arg),
        None => Err(Errno::NoSys.into()),
    }
}

/// Recounts every frame. Not continued in parts: what is counted must not change meanwhile.
fn recount(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want: Audit = g.memory().value(arg)?;
    if want.version != XENO_INTERFACE_VERSION {
        return Err(Errno::Inval.into());
    }
    let about = subject(g, want.domid)?;
    g.memory().check_writable(arg, Audit::SIZE)?;
    let report = audit::run(Some(g), Some(about)).ok_or(Errno::NoMem)?;
    let totals = report.totals;
    // Long: whatever batch this is in goes on later.
    g.charge(totals.frames);
    let answer = Audit {
        version: XENO_INTERFACE_VERSION,
        domid: about.id.0,
        mismatches: report.mismatches,
        frames: totals.frames,
        free: totals.free,
        hypervisor: totals.ring0,
        domain: totals.subject_frames,
        others: totals.others,
        overhead: about.overhead.load(Ordering::Acquire),
        general_references: totals.general,
        type_references: totals.types,
        frames_by_type: totals.by_type,
        ..Audit::ZERO
    };
    g.memory().put(arg, &answer)?;
    Ok(0)
}
