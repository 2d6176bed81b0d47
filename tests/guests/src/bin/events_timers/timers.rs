//! Time and timers: never back, never early, and whoever waits is woken.

use guest_runtime::abi::{errno, nr, sched, vcpu};
use guest_runtime::hypercall::{call, sched_op, vcpu_op};
use guest_runtime::{check, check_eq, events};
use guests::accepted;
use guests::channels::{VIRQ_TIMER, bind_ipi, bind_virq, close, notify};

const MILLISECOND: u64 = 1_000_000;
/// How late a timer may be under emulation on a busy machine.
const LATENESS: u64 = 2000 * MILLISECOND;

pub fn all() {
    monotonic();
    wall_clock();
    let Ok(port) = bind_virq(VIRQ_TIMER, 0) else {
        return guest_runtime::check::fail(format_args!("bind_virq"));
    };
    start(port);
    singleshot(port);
    past(port);
    cancelled(port);
    replaced(port);
    timer_op(port);
    blocking(port);
    polling(port);
    start(port);
    events::set_port_mask(port, true);
    accepted("close", close(port));
}

fn start(port: u32) {
    events::disable();
    accepted("stop the timer", stop());
    events::clear_all();
    events::reset_counts();
    events::set_port_mask(port, false);
}

fn set_flags(at_ns: u64, flags: u64) -> i64 {
    vcpu_op(vcpu::SET_SINGLESHOT_TIMER, 0, &mut [at_ns, flags])
}

fn set(at_ns: u64) -> i64 {
    set_flags(at_ns, 0)
}

fn stop() -> i64 {
    vcpu_op(vcpu::STOP_SINGLESHOT_TIMER, 0, &mut 0u64)
}

fn monotonic() {
    let mut last = events::now_ns();
    let mut backward = 0;
    for round in 0..20_000u32 {
        if round % 64 == 0 {
            guest_runtime::hypercall::version(); // The hypervisor may update the time now.
        }
        let now = events::now_ns();
        backward += u32::from(now < last);
        last = now;
    }
    check_eq!("times that went back", backward, 0);
    let time = events::time_of(events::vcpu_address());
    check!(
        time.tsc_to_system_mul != 0 && time.version & 1 == 0,
        "time is valid"
    );
}

fn wall_clock() {
    let shared = events::shared();
    // SAFETY: part of the shared page; volatile, as the hypervisor writes it.
    let read = |field: *const u32| unsafe { field.read_volatile() };
    check_eq!(
        "the wall clock's version is even",
        read(&raw const shared.wc_version) % 2,
        0
    );
    check!(
        read(&raw const shared.wc_sec) > 1_000_000_000,
        "the wall clock is set"
    );
    check!(
        read(&raw const shared.wc_nsec) < 1_000_000_000,
        "its nanoseconds are less than a second"
    );
}

/// Waits by looking, with events masked, until the port is pending.
fn watch(port: u32) -> u64 {
    loop {
        let now = events::now_ns();
        if events::port_pending(port) {
            return events::now_ns();
        }
        if now > watchdog() {
            return u64::MAX;
        }
        guest_runtime::hypercall::version();
    }
}

fn watchdog() -> u64 {
    static END: guest_runtime::Global<u64> = guest_runtime::Global::new(0);
    if END.get() == 0 {
        END.set(events::now_ns() + 30_000 * MILLISECOND);
    }
    END.get()
}

/// It fires at its time: pending not before, and not much later.
fn singleshot(port: u32) {
    for delay in [
        MILLISECOND / 10,
        MILLISECOND,
        5 * MILLISECOND,
        20 * MILLISECOND,
    ] {
        start(port);
        let at = events::now_ns() + delay;
        accepted("set", set(at));
        let early = events::port_pending(port) && events::now_ns() < at;
        let seen = watch(port);
        check!(!early && seen >= at, "a timer is not early");
        check!(seen < at + LATENESS, "a timer is not very late");
        events::enable();
        check_eq!("it is delivered once", events::count(port), 1);
    }
}

/// A time that has passed fires at once.
fn past(port: u32) {
    for at in [1, events::now_ns() / 2, events::now_ns()] {
        start(port);
        accepted("set in the past", set(at));
        check!(watch(port) < events::now_ns() + LATENESS, "it fires");
    }
    start(port);
    const ETIME: i64 = 62;
    let result = set_flags(1, 1);
    check!(
        result == -ETIME || (result == 0 && watch(port) != u64::MAX),
        "a past time that must be future"
    );
}

fn cancelled(port: u32) {
    start(port);
    accepted("set", set(events::now_ns() + 3 * MILLISECOND));
    accepted("stop", stop());
    accepted("stop again", stop());
    wait(8 * MILLISECOND);
    check!(!events::port_pending(port), "a stopped timer does not fire");
    accepted("set in a century", set(1 << 62));
    wait(2 * MILLISECOND);
    check!(!events::port_pending(port), "a century has not gone by");
}

fn wait(ns: u64) {
    let until = events::now_ns() + ns;
    while events::now_ns() < until {
        guest_runtime::hypercall::version();
    }
}

/// There is one timer: setting it again moves it.
fn replaced(port: u32) {
    start(port);
    let now = events::now_ns();
    accepted("set", set(now + 2 * MILLISECOND));
    accepted("set later", set(now + 15 * MILLISECOND));
    check!(
        watch(port) >= now + 15 * MILLISECOND,
        "the later time counts"
    );
    start(port);
    let now = events::now_ns();
    accepted("set far", set(now + 100_000 * MILLISECOND));
    accepted("set nearer", set(now + 2 * MILLISECOND));
    check!(watch(port) < now + LATENESS, "the nearer time counts");
}

/// The older call for the same purpose.
fn timer_op(port: u32) {
    start(port);
    let at = events::now_ns() + 2 * MILLISECOND;
    let result = call(nr::SET_TIMER_OP, [at, 0, 0, 0, 0]);
    if result == -errno::ENOSYS {
        return guest_runtime::skip!("no set_timer_op here");
    }
    accepted("set_timer_op", result);
    check!(watch(port) >= at, "set_timer_op is not early");
    accepted("set_timer_op of none", call(nr::SET_TIMER_OP, [0; 5]));
}

/// Blocking unmasks events and returns after one was delivered.
fn blocking(port: u32) {
    for round in 1..=5u64 {
        start(port);
        let at = events::now_ns() + round * MILLISECOND;
        accepted("set", set(at));
        accepted("block", call(nr::SCHED_OP, [sched::BLOCK, 0, 0, 0, 0]));
        check_eq!(
            "the event came before it returned",
            (events::count(port), events::mask()),
            (1, 0)
        );
        check!(events::now_ns() >= at, "it did not return early");
    }
    // Something is pending already: it does not sleep.
    start(port);
    let Ok(own) = bind_ipi(0) else { return };
    events::set_port_mask(own, false);
    accepted("send", notify(own));
    accepted("block", call(nr::SCHED_OP, [sched::BLOCK, 0, 0, 0, 0]));
    check_eq!("what was pending came", events::count(own), 1);
    events::disable();
    accepted("close", close(own));
    events::set_port_mask(own, true);
}

/// Polling waits for a port that may be masked, or for a time.
fn polling(port: u32) {
    start(port);
    events::set_port_mask(port, true);
    let mut ports = [port];
    let poll = |ports: &mut [u32], until: u64| {
        sched_op(
            sched::POLL,
            &mut [ports.as_mut_ptr() as u64, ports.len() as u64, until],
        )
    };
    let at = events::now_ns() + 4 * MILLISECOND;
    accepted("poll with a timeout", poll(&mut ports, at));
    check!(events::now_ns() >= at, "a poll times out, and not early");
    let at = events::now_ns() + 3 * MILLISECOND;
    accepted("set", set(at));
    accepted(
        "poll of a masked port",
        poll(&mut ports, at + 10_000 * MILLISECOND),
    );
    check!(
        events::port_pending(port) && events::now_ns() < at + LATENESS,
        "a masked port wakes a poll"
    );
    let before = events::now_ns();
    accepted(
        "poll of what is pending",
        poll(&mut ports, before + 10_000 * MILLISECOND),
    );
    check!(events::now_ns() < before + LATENESS, "it does not wait");
    events::clear_port(port);
    check_eq!(
        "events stay masked",
        (events::upcalls(), events::mask()),
        (0, 1)
    );
    check!(poll(&mut [0xffff_fff0], 1) < 0, "a poll of what is no port");
}
