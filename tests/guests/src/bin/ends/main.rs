//! Talks to the echo end in ring 0, and attacks it: every wrong way of attaching it, indices out of range, ports closed
//! and grants taken back while it is attached. Nothing stays held, and what is held is counted.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod bench;
mod holds;
mod refusals;
mod rounds;

use bench::{Bench, ECHO, GREF, LENT, attach};
use guest_runtime::abi::errno;
use guest_runtime::abi::xeno::AttachEnd;
use guest_runtime::{check, frames, guest, skip};
use guests::channels::alloc_unbound;
use guests::{accepted, lending};

guest!(ends, main);

fn main() {
    let mut nothing = AttachEnd::ZERO;
    if attach(&mut nothing) == -errno::ENOSYS {
        skip!("another hypervisor, which has no ends");
        return;
    }
    let Ok(port) = alloc_unbound(u64::from(ECHO)) else {
        check!(false, "a port for the end");
        return;
    };
    let bench = Bench {
        ring: frames::allocate(),
        port,
    };
    bench.ring.clear();
    lending::set(GREF, LENT, ECHO, bench.ring.mfn());
    refusals::all(&bench);
    rounds::all(&bench);
    holds::all(&bench);
    // The last one is left to whoever takes the domain apart.
    lending::set(GREF, LENT, ECHO, bench.ring.mfn());
    let Ok(port) = alloc_unbound(u64::from(ECHO)) else {
        return;
    };
    accepted("attached for good", Bench { port, ..bench }.attach());
}
