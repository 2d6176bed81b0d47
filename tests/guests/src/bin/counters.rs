//! Proves that events and grants are counted, each once, for whom they are: a vCPU's, its domain's, and the account of a
//! domain that is gone. All by exact numbers.
//!
//! xtask: memory=512M
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::ledger::LedgerEnded;
use guest_runtime::abi::usage::{USAGE_BESIDES, USAGE_OF_DOMAIN, Usage};
use guest_runtime::abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_runtime::abi::{DOMID_SELF, errno, nr};
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::call;
use guest_runtime::{check, check_eq, events, guest, page_table, skip};
use guests::accounts::{self, usage_of};
use guests::{accepted, channels, lending};

guest!(counters, main);

/// The caller, as a domain's number.
const SELF: u16 = DOMID_SELF as u16;
/// The control domain.
const PARENT: u16 = 0;
/// Entries of the grant table that are not in use.
const GREF: u32 = lending::FIRST;
const NOT_LENT: u32 = GREF + 1;

/// Events sent and received, grants used and lent.
fn counted(usage: &Usage) -> [u64; 4] {
    [
        usage.events_sent,
        usage.events_received,
        usage.grants_used,
        usage.grants_lent,
    ]
}

/// What `part` adds to the counters of a domain's vCPU 0, and to those of the domain.
fn added(domain: u16, part: impl FnOnce()) -> ([u64; 4], [u64; 4]) {
    let look = || [0, USAGE_OF_DOMAIN].map(|which| counted(&usage_of(domain, which)));
    let before = look();
    part();
    let after = look();
    let differs = |which: usize| core::array::from_fn(|n| after[which][n] - before[which][n]);
    (differs(0), differs(1))
}

/// Expects what `part` adds to our counters: a vCPU's, and of the domain besides so many grants lent.
fn adds(what: &str, [sent, received, used]: [u64; 3], lent: u64, part: impl FnOnce()) {
    let (vcpu, domain) = added(SELF, part);
    check_eq!(what, vcpu, [sent, received, used, 0]);
    check_eq!(what, domain, [sent, received, used, lent]);
}

fn main() {
    if !accounts::are_kept(SELF) {
        skip!("another hypervisor, which keeps no such accounts");
        return;
    }
    events_of_ours();
    events_of_the_timer();
    let pages = [(); 3].map(|()| frames::allocate());
    grants_of_ours(pages);
    with_a_child(pages);
    let [sent, received, used, _] = counted(&usage_of(SELF, USAGE_BESIDES));
    check_eq!("no vCPU's but its", [sent, received, used], [0; 3]);
}

/// A port to ourselves: what is sent is counted each time, what is received where it was not pending yet.
fn events_of_ours() {
    let ipi = channels::bind_ipi(0).expect("a port");
    adds("a port is sent on", [1, 1, 0], 0, || {
        accepted("send", channels::notify(ipi));
    });
    adds("it is pending already", [5, 0, 0], 0, || {
        for _ in 0..5 {
            accepted("send", channels::notify(ipi));
        }
    });
    adds("it was taken each time", [7, 7, 0], 0, || {
        for _ in 0..7 {
            events::clear_port(ipi);
            accepted("send", channels::notify(ipi));
        }
    });
    adds("nothing is sent", [0, 0, 0], 0, || {
        accepted("unmask", channels::unmask(ipi));
        for nobodys in [0, 900, u32::MAX] {
            check!(channels::notify(nobodys) < 0, "a port that is not in use");
        }
    });
    events::set_port_mask(ipi, true);
    events::clear_all();
    let waiting = channels::alloc_unbound(DOMID_SELF).expect("a port");
    adds("nobody is there to receive", [1, 0, 0], 0, || {
        accepted("send", channels::notify(waiting));
    });
    let mut bound = 0;
    adds("who binds is told", [0, 1, 0], 0, || {
        bound = channels::bind_interdomain(DOMID_SELF, waiting).expect("a port");
    });
    adds("between two ports of ours", [2, 2, 0], 0, || {
        events::clear_all();
        accepted("send", channels::notify(bound));
        accepted("send", channels::notify(waiting));
    });
    events::clear_all();
    for port in [waiting, bound, ipi] {
        accepted("close", channels::close(port));
    }
}

/// A timer that is due: nobody sent it.
fn events_of_the_timer() {
    let timer = channels::bind_virq(channels::VIRQ_TIMER, 0).expect("a port");
    adds("the timer, once", [0, 1, 0], 0, || {
        let soon = events::now_ns() + 100_000;
        accepted("a timer", call(nr::SET_TIMER_OP, [soon, 0, 0, 0, 0]));
        let late = soon + 1_000_000_000;
        while !events::port_pending(timer) && events::now_ns() < late {}
        check!(events::port_pending(timer), "it is due");
    });
    adds("again, while it is pending", [0, 0, 0], 0, || {
        let soon = events::now_ns();
        accepted("a timer", call(nr::SET_TIMER_OP, [soon, 0, 0, 0, 0]));
        while events::now_ns() < soon + 100_000 {
            call(nr::XEN_VERSION, [0; 5]);
        }
    });
    events::clear_all();
    accepted("close", channels::close(timer));
}

/// What we lend ourselves: each use has who uses and who lends.
fn grants_of_ours([lent, window, own]: [Page; 3]) {
    lending::lend(GREF, PARENT, lent.mfn(), false);
    adds("mapped three times", [0, 0, 3], 3, || {
        for _ in 0..3 {
            let handle = lending::map_at(window.va(), SELF_NUMBER, GREF, false).expect("mapped");
            accepted("unmap", lending::unmap(window.va(), handle));
        }
    });
    adds("copied from, and to", [0, 0, 2], 2, || {
        accepted("from", lending::copy_from(SELF_NUMBER, GREF, own, 64));
        accepted("to", lending::copy_to(SELF_NUMBER, GREF, own, 64));
    });
    adds("nothing that is not lent", [0, 0, 0], 0, || {
        let mapped = lending::map_at(window.va(), SELF_NUMBER, NOT_LENT, false);
        check!(mapped.is_err(), "an entry that lends nothing");
        check!(
            lending::copy_from(SELF_NUMBER, NOT_LENT, own, 64) < 0,
            "no more than that"
        );
    });
    page_table::unprotect(window);
    check_eq!("and is in use no more", lending::take_back(GREF) & 0x18, 0);
}

/// The number that we have.
const SELF_NUMBER: u16 = PARENT;

/// Step: lends a new page: to whom.
fn lends([to, ..]: [u64; 5]) -> i64 {
    lending::lend(GREF, to as u16, frames::allocate().mfn(), false);
    0
}

/// Step: opens a port: to whom. Answers it.
fn opens([to, ..]: [u64; 5]) -> i64 {
    channels::alloc_unbound(to).map_or_else(|error| error, i64::from)
}

/// Step: sends on a port so often: port, times. Answers how many more our counters say by then.
fn sends([port, times, ..]: [u64; 5]) -> i64 {
    let (vcpu, domain) = added(SELF, || {
        for _ in 0..times {
            accepted("send", channels::notify(port as u32));
        }
    });
    match vcpu[2] == 0 && domain == vcpu {
        true => (vcpu[0] + (vcpu[1] << 32)) as i64,
        false => -errno::EINVAL,
    }
}

/// Between two domains: each has its side, to the end.
fn with_a_child([_, window, own]: [Page; 3]) {
    let Some(mut child) = builder::running(Plan::SMALL) else {
        return;
    };
    let id = child.id;
    check_eq!("it lends", child.call(lends, [0; 5]), 0);
    let port = child.call(opens, [0; 5]) as u32;
    let before = counted(&usage_of(id, USAGE_OF_DOMAIN));
    adds("its grants, used by us", [0, 0, 3], 0, || {
        let handle = lending::map_at(window.va(), id, GREF, false).expect("mapped");
        accepted("unmap", lending::unmap(window.va(), handle));
        accepted("from", lending::copy_from(id, GREF, own, 8));
        accepted("to", lending::copy_to(id, GREF, own, 8));
    });
    page_table::unprotect(window);
    let mut ours = 0;
    adds("we bind to its port", [0, 1, 0], 0, || {
        ours = channels::bind_interdomain(u64::from(id), port).expect("a port");
    });
    events::clear_port(ours);
    adds("we send to it", [4, 0, 0], 0, || {
        for _ in 0..4 {
            accepted("send", channels::notify(ours));
        }
    });
    let after = counted(&usage_of(id, USAGE_OF_DOMAIN));
    let differs: [u64; 4] = core::array::from_fn(|n| after[n] - before[n]);
    check_eq!("what it received, and lent", differs, [0, 1, 0, 3]);
    let sent = child.call(sends, [u64::from(port), 6, 0, 0, 0]);
    check_eq!("it sends, and receives nothing", sent, 6);
    check!(events::clear_port(ours), "which came here");
    ends(child, ours);
}

/// The account of a domain that is gone has it all.
fn ends(child: Child, ours: u32) {
    let id = child.id;
    check_eq!("pause", child.pause(), 0);
    accepted("close", channels::close(ours));
    let last = counted(&usage_of(id, USAGE_OF_DOMAIN));
    let (_, before) = ended(u64::MAX);
    check!(child.destroy_and_wait(), "the child is gone");
    let (answer, gone) = ended(before.ended);
    check_eq!("it is told of", (answer, gone.domid), (0, id));
    let told = [
        gone.events_sent,
        gone.events_received,
        gone.grants_used,
        gone.grants_lent,
    ];
    check_eq!("with what it had", told, last);
    check!(last[0] >= 6 && last[3] >= 3, "which was something");
}

fn ended(index: u64) -> (i64, LedgerEnded) {
    let mut ended = LedgerEnded {
        version: XENO_INTERFACE_VERSION,
        index,
        ..LedgerEnded::ZERO
    };
    let operation = u64::from(XenoCommand::LedgerEnded.number());
    let answer = call(nr::XENO_OP, [operation, &raw mut ended as u64, 0, 0, 0]);
    (answer, ended)
}
