//! Our own operations, which Xen does not have: the audit, attaching ends in ring 0, who used what, and reservations of
//! CPU time. All but questions for a domain's own usage and time, and wishes for its own time within what it is allowed, are
//! for the control domain.

use crate::domain::{Guest, exposed_area, park};
use crate::ends;
use crate::hypercall::{Args, Outcome, Stop, books, ledger, reserve, subject, usage};
use crate::mmu::audit;
use core::sync::atomic::Ordering;
use guest_abi::grant::GNTST_OKAY;
use guest_abi::xeno::{AttachEnd, Audit, DetachEnd, XENO_INTERFACE_VERSION, XenoCommand};
use guest_abi::{Errno, Wire};

/// `xeno_op(op, arg)`.
pub fn xeno_op(g: &mut Guest<'_>, args: Args) -> Outcome {
    let [op, arg, ..] = args;
    let command = XenoCommand::from_number(op as u32);
    let of_its_own = matches!(
        command,
        Some(
            XenoCommand::Usage
                | XenoCommand::UsageFrame
                | XenoCommand::SchedRules
                | XenoCommand::SchedGet
                | XenoCommand::SchedSet
        )
    );
    if !g.dom.privileged && !of_its_own {
        return Err(Errno::Perm.into());
    }
    match command {
        Some(XenoCommand::Usage) => usage::usage(g, arg),
        Some(XenoCommand::Books) => books::books(g, arg),
        Some(XenoCommand::UsageFrame) => usage::usage_frame(g, arg),
        Some(XenoCommand::LedgerHead) => ledger::head(g, arg),
        Some(XenoCommand::LedgerAppend) => ledger::append(g, arg),
        Some(XenoCommand::LedgerEnded) => ledger::ended(g, arg),
        Some(XenoCommand::Audit) => recount(g, args),
        Some(XenoCommand::AttachEnd) => attach_end(g, args),
        Some(XenoCommand::DetachEnd) => detach_end(g, arg),
        Some(XenoCommand::SchedRules) => reserve::rules(g, arg),
        Some(XenoCommand::SchedGet) => reserve::get(g, arg),
        Some(XenoCommand::SchedSet) => reserve::set(g, args),
        Some(XenoCommand::SchedCpu) => reserve::cpu(g, arg),
        Some(XenoCommand::SchedAllow) => reserve::allow(g, arg),
        None if op as u32 == SERVE_END => serve_end(g, args),
        None if matches!(op as u32, books::BEFORE | books::AFTER) => books::go_on(g, args),
        None => Err(Errno::NoSys.into()),
    }
}

/// What attaching an end goes on as when it was attached: what waited in the ring is done in parts.
const SERVE_END: u32 = 1 << 31 | XenoCommand::AttachEnd as u32;

/// Recounts every frame. Not continued in parts: what is counted must not change meanwhile.
fn recount(g: &mut Guest<'_>, args: Args) -> Outcome {
    // Before anything is looked up.
    if !park::all_but(g.vcpu) {
        return Err(Stop::Again(args));
    }
    let outcome = recount_parked(g, args[1]);
    park::go_on();
    outcome
}

fn recount_parked(g: &mut Guest<'_>, arg: u64) -> Outcome {
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
        tables: exposed_area::tables(about.exposed_l3),
        general_references: totals.general,
        type_references: totals.types,
        frames_by_type: totals.by_type,
        ..Audit::ZERO
    };
    g.memory().put(arg, &answer)?;
    Ok(0)
}

/// Attaches an end in ring 0 to a port and grants of a domain's.
fn attach_end(g: &mut Guest<'_>, args: Args) -> Outcome {
    let arg = args[1];
    let mut want: AttachEnd = g.memory().value(arg)?;
    if want.version != XENO_INTERFACE_VERSION {
        return Err(Errno::Inval.into());
    }
    let dom = subject(g, want.domid)?;
    let grefs = want.grefs.get(..want.nr_grefs as usize);
    let grefs = grefs.ok_or(Errno::Inval)?;
    g.memory().check_writable(arg, AttachEnd::SIZE)?;
    let refused = match ends::attach(dom, want.end, want.port, grefs) {
        Ok(told) => {
            want.status = GNTST_OKAY;
            g.memory().put(arg, &want)?;
            return served(g, told, args);
        }
        Err(refused) => refused,
    };
    Err(match refused {
        ends::Refused::NoEnd => Errno::NoDev,
        ends::Refused::WrongPages | ends::Refused::Port => Errno::Inval,
        ends::Refused::NoRoom => Errno::NoSpc,
        ends::Refused::Grant(at, status) => {
            (want.refused, want.status) = (at, status.0);
            g.memory().put(arg, &want)?;
            Errno::Access
        }
    }
    .into())
}

/// Goes on with what waited in the ring of an end that was just attached.
fn serve_end(g: &mut Guest<'_>, args: Args) -> Outcome {
    let want: AttachEnd = g.memory().value(args[1])?;
    let told = ends::event_on(subject(g, want.domid)?, want.port);
    served(g, told, args)
}

fn served(g: &mut Guest<'_>, told: ends::Told, args: Args) -> Outcome {
    g.charge(u64::from(told.units));
    if told.more {
        let [_, arg, a, b, c] = args;
        return Err(Stop::Again([u64::from(SERVE_END), arg, a, b, c]));
    }
    Ok(0)
}

/// Detaches an end: its port waits for it again.
fn detach_end(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want: DetachEnd = g.memory().value(arg)?;
    if want.version != XENO_INTERFACE_VERSION {
        return Err(Errno::Inval.into());
    }
    match ends::detach(subject(g, want.domid)?, want.port) {
        true => Ok(0),
        false => Err(Errno::Inval.into()),
    }
}
