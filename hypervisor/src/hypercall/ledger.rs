//! `xeno_op`: what ring 0 remembers for the usage record. For the control domain.

use crate::account::anchors::{self, NotAppended};
use crate::account::area;
use crate::domain::{Domain, Guest};
use crate::hypercall::{Outcome, subject, usage};
use guest_abi::ledger::{LEDGER_OF_MACHINE, LedgerEnded, LedgerHead};
use guest_abi::xeno::XENO_INTERFACE_VERSION;
use guest_abi::{Errno, Wire};

/// Units of a call that may have to make an anchor.
const MAKE: u64 = 20;

/// Whose chain is meant; none is the machine's.
fn whose(g: &Guest<'_>, domid: u16) -> Result<Option<&'static Domain>, Errno> {
    match domid {
        LEDGER_OF_MACHINE => Ok(None),
        domid => subject(g, domid).map(Some),
    }
}

fn asked(g: &mut Guest<'_>, arg: u64) -> Result<LedgerHead, crate::hypercall::Stop> {
    let want: LedgerHead = g.memory().value(arg)?;
    if want.version != XENO_INTERFACE_VERSION {
        return Err(Errno::Inval.into());
    }
    Ok(want)
}

/// `ledger_head`: how long a chain is, and the hash of its last entry.
pub fn head(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want = asked(g, arg)?;
    let dom = whose(g, want.domid)?;
    g.memory().check_writable(arg, LedgerHead::SIZE)?;
    let (count, head) = anchors::told(dom);
    let answer = LedgerHead {
        version: XENO_INTERFACE_VERSION,
        domid: want.domid,
        serial: dom.map_or(0, |dom| dom.serial),
        count,
        head,
        ..LedgerHead::ZERO
    };
    g.memory().put(arg, &answer)?;
    Ok(0)
}

/// `ledger_append`: a chain has grown.
pub fn append(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want = asked(g, arg)?;
    let dom = whose(g, want.domid)?;
    g.charge(MAKE);
    let anchor = anchors::of(dom).map_err(|_| Errno::NoMem)?;
    let grown = anchor.lock().append(want.from, want.count, want.head);
    match grown {
        Ok(()) => Ok(0),
        Err(NotAppended::GoesBack) => Err(Errno::Exist.into()),
        Err(NotAppended::NotFromHere) => Err(Errno::XDev.into()),
    }
}

/// `ledger_ended`: the account of a domain that is gone.
pub fn ended(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want: LedgerEnded = g.memory().value(arg)?;
    if want.version != XENO_INTERFACE_VERSION {
        return Err(Errno::Inval.into());
    }
    g.memory().check_writable(arg, LedgerEnded::SIZE)?;
    let (total, found) = anchors::ended_from(want.index);
    let mut answer = LedgerEnded {
        version: XENO_INTERFACE_VERSION,
        index: want.index,
        ended: total,
        ..LedgerEnded::ZERO
    };
    let outcome = match found {
        None => Err(Errno::NoEnt.into()),
        Some((index, ended)) => {
            answer.index = index;
            answer.serial = ended.serial;
            answer.handle = ended.handle;
            answer.domid = ended.domid;
            answer.tsc_hz = area::tsc_hz();
            answer.at = ended.at;
            let used = &ended.usage;
            (answer.user, answer.kernel) = (used.user, used.kernel);
            answer.hypervisor = used.hypervisor;
            (answer.guaranteed, answer.extra) = (used.guaranteed, used.extra);
            (answer.elsewhere, answer.stolen) = (used.elsewhere, used.stolen);
            answer.switches = used.switches;
            answer.events_sent = used.events_sent;
            answer.events_received = used.events_received;
            (answer.grants_used, answer.grants_lent) = (used.grants_used, used.grants_lent);
            answer.frames_peak = ended.frames.peak();
            answer.frame_cycles = usage::halves(&ended.frames, ended.at);
            answer.overhead_peak = ended.overhead.peak();
            answer.overhead_cycles = usage::halves(&ended.overhead, ended.at);
            Ok(0)
        }
    };
    g.memory().put(arg, &answer)?;
    outcome
}
