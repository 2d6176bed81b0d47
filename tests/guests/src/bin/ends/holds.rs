//! What an attached end holds, whatever the granter does meanwhile, and that all of it is given back.

use crate::bench::{BITS, Bench, ECHO, GREF, LENT, attach, audit, detach, untouched};
use guest_runtime::abi::ends::echo_ring::{BROKEN, GOOD, REQUESTS, RESPONSES, SLOTS, STATE};
use guest_runtime::abi::event::Reset;
use guest_runtime::abi::xeno::AttachEnd;
use guest_runtime::abi::{DOMID_SELF, errno, evtchn};
use guest_runtime::hypercall::event_channel;
use guest_runtime::{check, check_eq, events, frames, page_table};
use guests::channels::{alloc_unbound, close, kind, notify};
use guests::{accepted, lending, refused};

pub fn all(bench: &Bench) {
    held(bench);
    lies(bench);
    taken_back(bench);
    closed(bench);
    many(bench);
}

/// What is attached is counted, and stays what it is.
fn held(bench: &Bench) {
    let attached = audit();
    accepted("detach", detach(DOMID_SELF as u16, bench.port));
    let detached = audit();
    check_eq!(
        "one reference",
        attached.type_references,
        detached.type_references + 1
    );
    untouched(bench);
    check_eq!("it is detached", detach(0, bench.port), -errno::EINVAL);
    accepted("unheard", notify(bench.port));
    accepted("attach again", bench.attach());
    bench.round("as before", 2);
    // The granter may write what it likes: the frame stays in use until the end has let go of it.
    let other = frames::allocate();
    lending::set(GREF, LENT | BITS, ECHO, other.mfn());
    bench.round("the frame it was", 5);
    lending::set(GREF, 0, 0, 0);
    bench.round("revoked", 5);
    accepted("detach", detach(0, bench.port));
    lending::set(GREF, LENT, ECHO, bench.ring.mfn());
}

/// Indices no ring has: the end says so, and does nothing more.
fn lies(bench: &Bench) {
    for lie in [SLOTS + 1, 1 << 31, u32::MAX, u32::MAX - SLOTS] {
        accepted("attach", bench.attach());
        bench.round("honest", 4);
        let (asked, answered) = (bench.get(REQUESTS), bench.get(RESPONSES));
        bench.put(REQUESTS, asked.wrapping_add(lie));
        accepted("a lie", notify(bench.port));
        check!(!events::clear_port(bench.port), "no event for it");
        check_eq!("no answer", bench.get(RESPONSES), answered);
        check_eq!("it is broken", bench.get(STATE), BROKEN);
        bench.put(REQUESTS, asked.wrapping_add(1));
        accepted("honest again", notify(bench.port));
        check_eq!("too late", bench.get(RESPONSES), answered);
        accepted("detach", detach(0, bench.port));
        check_eq!("no bits", lending::flags(GREF), LENT);
        bench.put(REQUESTS, asked);
    }
    // A lie that waits already when it is attached.
    let asked = bench.get(REQUESTS);
    bench.put(REQUESTS, asked.wrapping_add(SLOTS + 1));
    accepted("attach", bench.attach());
    check_eq!("broken from the start", bench.get(STATE), BROKEN);
    accepted("detach", detach(0, bench.port));
    bench.put(REQUESTS, asked);
    accepted("attach", bench.attach());
    check_eq!("good again", bench.get(STATE), GOOD);
    bench.round("honest", SLOTS);
    accepted("detach", detach(0, bench.port));
}

/// The frame is not the guest's to make a table of while it is attached, whether it has it mapped or not.
fn taken_back(bench: &Bench) {
    use guest_runtime::abi::mmuext::{PIN_L1, UNPIN};
    use guest_runtime::hypercall::mmuext;
    let table = frames::allocate();
    table.clear();
    accepted("read-only", page_table::protect(table));
    lending::set(GREF, LENT, ECHO, table.mfn());
    accepted("attach", bench.attach());
    refused("pin what is attached", mmuext(PIN_L1, table.mfn(), 0));
    accepted("detach", detach(0, bench.port));
    accepted("pin", mmuext(PIN_L1, table.mfn(), 0));
    check_eq!("attach a table", bench.attach(), -errno::EACCES);
    accepted("unpin", mmuext(UNPIN, table.mfn(), 0));
    lending::set(GREF, LENT, ECHO, bench.ring.mfn());
}

/// Closing the port, or all of them, ends the link and gives the frame back before the call returns.
fn closed(bench: &Bench) {
    accepted("attach", bench.attach());
    accepted("close", close(bench.port));
    check_eq!("closed", kind(bench.port), 0);
    check_eq!("no bits", lending::flags(GREF), LENT);
    check_eq!("send", notify(bench.port), -errno::EINVAL);
    check_eq!("none is attached", detach(0, bench.port), -errno::EINVAL);
    let Ok(port) = alloc_unbound(u64::from(ECHO)) else {
        check!(false, "another port");
        return;
    };
    check_eq!("the same number", port, bench.port);
    accepted("attach", bench.attach());
    bench.round("as ever", 1);
    let mut all = Reset {
        dom: DOMID_SELF as u16,
    };
    accepted("reset", event_channel(evtchn::RESET, &mut all));
    check_eq!("no bits", lending::flags(GREF), LENT);
    audit();
}

/// As many links as a domain may have, all to one frame, and all given back.
fn many(bench: &Bench) {
    let before = audit();
    let mut links = 0;
    let refusal = loop {
        let Ok(port) = alloc_unbound(u64::from(ECHO)) else {
            break 0;
        };
        let mut want = AttachEnd {
            port,
            ..bench.wanted()
        };
        match attach(&mut want) {
            0 => links += 1,
            error => break error,
        }
    };
    check_eq!("there is an end to it", refusal, -errno::ENOSPC);
    check!((64..300).contains(&links), "but not early");
    let during = audit();
    check_eq!(
        "each holds its reference",
        during.type_references,
        before.type_references + links
    );
    let mut all = Reset {
        dom: DOMID_SELF as u16,
    };
    accepted("reset", event_channel(evtchn::RESET, &mut all));
    check_eq!("no bits", lending::flags(GREF), LENT);
    let after = audit();
    check_eq!(
        "all references are back",
        after.type_references,
        before.type_references
    );
}
