//! Questions and answers: before the end is attached, one and many, in a batch, and across the end of the indices.

use crate::bench::{BITS, Bench, ECHO, GREF, LENT, detach};
use guest_runtime::abi::ends::echo_ring::{REQUESTS, RESPONSES, SLOTS};
use guest_runtime::abi::{MulticallEntry, errno, evtchn, nr};
use guest_runtime::hypercall::multicall;
use guest_runtime::{check, check_eq, events};
use guests::channels::{self, notify};
use guests::{accepted, lending};

pub fn all(bench: &Bench) {
    asked_before(bench);
    rounds(bench);
}

fn asked_before(bench: &Bench) {
    events::set_port_mask(bench.port, true);
    // As many as the ring holds: more than is done in one piece.
    let index = bench.ask(SLOTS);
    accepted("unheard", notify(bench.port));
    accepted("attach", bench.attach());
    check!(bench.answered(index, SLOTS), "what was asked before");
    check!(events::clear_port(bench.port), "the event");
    check_eq!("attached twice", bench.attach(), -errno::EINVAL);
    check_eq!("it is held", lending::flags(GREF), LENT | BITS);
}

fn rounds(bench: &Bench) {
    bench.round("one question", 1);
    bench.round("all there is room for", SLOTS);
    for count in 1..=SLOTS {
        bench.round("questions", count);
    }
    accepted("nothing asked", notify(bench.port));
    check!(!events::clear_port(bench.port), "no event without work");
    // The port is an ordinary one otherwise.
    let status = channels::status(bench.port).unwrap_or_default();
    check_eq!(
        "a link to the end",
        (status.status, status.peer as u16),
        (2, ECHO)
    );
    check_eq!("to another vCPU", channels::bind_vcpu(bench.port, 0), 0);
    check_eq!(
        "to none",
        channels::bind_vcpu(bench.port, 64),
        -errno::ENOENT
    );
    bench.round("afterwards", 3);
    let index = bench.ask(SLOTS);
    let mut send = guest_runtime::abi::event::Send { port: bench.port };
    let arguments = [evtchn::SEND, &raw mut send as u64, 0, 0, 0, 0];
    let mut calls = [MulticallEntry {
        op: nr::EVENT_CHANNEL_OP,
        args: arguments,
        ..MulticallEntry::ZERO
    }; 3];
    accepted("in a batch", multicall(&mut calls));
    check!(calls.iter().all(|call| call.result == 0), "each of it");
    check!(bench.answered(index, SLOTS), "all answers");
    check!(events::clear_port(bench.port), "one event");
    // Across the end of the indices.
    accepted("detach", detach(0, bench.port));
    bench.put(REQUESTS, u32::MAX - 5);
    bench.put(RESPONSES, u32::MAX - 5);
    accepted("attach at the very end", bench.attach());
    check!(!events::clear_port(bench.port), "nothing was asked");
    for _ in 0..4 {
        bench.round("over the end", 9);
    }
}
