//! Delivery: when the flags are set, when the upcall comes, and that nothing comes twice or too early.

use guest_runtime::abi::{MmuextOp, nr};
use guest_runtime::{check, check_eq, events, hypercall};
use guests::accepted;
use guests::channels::{bind_ipi, close, notify, unmask};

pub fn all() {
    let Ok(port) = bind_ipi(0) else {
        return guest_runtime::check::fail(format_args!("bind_ipi"));
    };
    start(port);
    masked_port(port);
    masked_events(port);
    at_once(port);
    by_any_hypercall(port);
    several(port);
    events::disable();
    events::set_port_mask(port, true);
    accepted("close", close(port));
    events::clear_all();
}

/// Nothing pending, events masked, the port unmasked.
fn start(port: u32) {
    events::disable();
    events::clear_all();
    events::reset_counts();
    events::set_port_mask(port, false);
}

fn selected(port: u32) -> bool {
    events::selector() >> (port / 64) & 1 != 0
}

/// A masked port becomes pending, and no more; unmasking it by hypercall finishes the delivery.
fn masked_port(port: u32) {
    events::set_port_mask(port, true);
    accepted("send", notify(port));
    check!(events::port_pending(port), "a masked port is pending");
    check_eq!(
        "nothing else is",
        (selected(port), events::is_pending()),
        (false, false)
    );
    accepted("send again", notify(port));
    accepted("unmask", unmask(port));
    check!(!events::port_masked(port), "the mask bit is clear");
    check_eq!(
        "now all is pending",
        (selected(port), events::is_pending()),
        (true, true)
    );
    check_eq!("but events are masked", events::upcalls(), 0);
    events::enable();
    check_eq!(
        "delivered once",
        (events::upcalls(), events::count(port)),
        (1, 1)
    );
    check_eq!("and the mask is clear after the handler", events::mask(), 0);
    accepted("unmask of what is not pending", unmask(port));
    check_eq!("brings nothing", events::upcalls(), 1);
    start(port);
}

/// With events masked everything becomes pending, once; the upcall waits.
fn masked_events(port: u32) {
    for _ in 0..3 {
        accepted("send", notify(port));
    }
    check_eq!(
        "all is pending",
        (
            events::port_pending(port),
            selected(port),
            events::is_pending()
        ),
        (true, true, true)
    );
    for _ in 0..3 {
        hypercall::version();
    }
    check_eq!("no upcall while masked", events::upcalls(), 0);
    events::enable();
    check_eq!(
        "three sends are one event",
        (events::upcalls(), events::count(port)),
        (1, 1)
    );
    start(port);
}

/// With nothing masked the upcall comes before the sending call returns.
fn at_once(port: u32) {
    events::enable();
    for wanted in 1..=3 {
        accepted("send", notify(port));
        check_eq!(
            "delivered before the call returns",
            events::count(port),
            wanted
        );
        check_eq!("events are unmasked again", events::mask(), 0);
    }
    start(port);
}

/// A hypercall and its name.
type Call = (&'static str, fn() -> i64);

/// A plain store unmasks; whatever hypercall comes next delivers, even one that fails.
fn by_any_hypercall(port: u32) {
    let calls: [Call; 6] = [
        ("xen_version", hypercall::version),
        ("an unknown number", || hypercall::call(99, [0; 5])),
        ("a bad pointer", || {
            hypercall::call(nr::MULTICALL, [8, 1, 0, 0, 0])
        }),
        ("yield", || hypercall::call(nr::SCHED_OP, [0; 5])),
        ("mmuext_op", || {
            hypercall::mmuext_batch(&[MmuextOp {
                cmd: 6,
                ..Default::default()
            }])
            .0
        }),
        ("multicall", || {
            hypercall::multicall(&mut [Default::default()])
        }),
    ];
    for (what, call) in calls {
        start(port);
        accepted("send", notify(port));
        events::set_mask(0);
        call();
        check_eq!(what, events::count(port), 1);
    }
    // And by an emulated instruction.
    start(port);
    accepted("send", notify(port));
    events::set_mask(0);
    guest_runtime::instructions::cpuid(0, 0);
    check_eq!("forced cpuid", events::count(port), 1);
    start(port);
}

/// Ports of different words, some masked: those that may come, come.
fn several(port: u32) {
    let mut ports = [port; 4];
    for slot in &mut ports[1..] {
        *slot = bind_ipi(0).unwrap_or(0);
        events::set_port_mask(*slot, false);
    }
    events::set_port_mask(ports[2], true);
    for port in ports {
        accepted("send", notify(port));
    }
    events::enable();
    check_eq!("one upcall for all", events::upcalls(), 1);
    check_eq!(
        "each once, but not the masked one",
        ports.map(events::count),
        [1, 1, 0, 1]
    );
    check!(
        events::port_pending(ports[2]),
        "the masked one is still pending"
    );
    for port in &ports[1..] {
        accepted("close", close(*port));
        events::set_port_mask(*port, true);
    }
    start(port);
}
