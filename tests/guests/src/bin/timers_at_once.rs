//! Has all timers of as many vCPUs as a domain may have be due at one moment on one processor: those that they set, those that
//! end their polls, and those that tick. Proves that each is told, and none early. How long ring 0 lets nobody in for it
//! `cargo xtask bench sections` shows.
//!
//! xtask: hv=dom0_max_vcpus=64
//! xtask: seconds=120
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use guest_runtime::abi::{CODE64, DATA, Poll, VGCF_IN_KERNEL, VcpuGuestContext, nr, sched, vcpu};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{call, sched_op, vcpu_op};
use guest_runtime::{Global, check, check_eq, control, events, guest, page_table, say};
use guests::accepted;
use guests::channels::{VIRQ_TIMER, bind_ipi, bind_virq, notify};

guest!(timers_at_once, main);

/// As many as a domain may have.
const VCPUS: usize = 64;
const STACK: usize = 4096;
/// Rounds of each game.
const ROUNDS: u64 = 4;
/// How far ahead the moment is: all have set their timers by then.
const AHEAD_NS: u64 = 40_000_000;

#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Stack([u8; STACK]);

static STACKS: Global<[Stack; VCPUS]> = Global::new([Stack([0; STACK]); VCPUS]);
static CONTEXT: Global<VcpuGuestContext> = Global::new(VcpuGuestContext::ZERO);

/// Each one's timer's port.
static PORTS: [AtomicU32; VCPUS] = [const { AtomicU32::new(0) }; VCPUS];
/// The round, and the moment it is about.
static ROUND: AtomicU64 = AtomicU64::new(0);
static MOMENT: AtomicU64 = AtomicU64::new(0);
/// Ports that each polls: its own; or with more than one any event wakes all of them.
static POLLED: AtomicU32 = AtomicU32::new(1);
/// How often one had set its timers in time, was told, was told early, and was done.
static SET: AtomicU64 = AtomicU64::new(0);
static TOLD: AtomicU64 = AtomicU64::new(0);
static EARLY: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
/// The latest that one was told, in nanoseconds after the moment.
static LATEST: AtomicU64 = AtomicU64::new(0);

fn main() {
    for (id, place) in PORTS.iter().enumerate() {
        accepted("on one processor", control::set_affinity(0, id as u32, 1));
        let port = bind_virq(VIRQ_TIMER, id as u32).unwrap_or(0);
        check!(port != 0, "a timer's port");
        events::set_port_mask(port, true);
        place.store(port, Ordering::Relaxed);
    }
    let _ = vcpu_op(vcpu::STOP_PERIODIC_TIMER, 0, &mut 0u64);
    let infos = frames::allocate();
    (1..VCPUS).for_each(|id| start(id, infos));
    for (polled, what) in [(1, "each its own port"), (2, "all of them two")] {
        POLLED.store(polled, Ordering::Relaxed);
        LATEST.store(0, Ordering::Relaxed);
        for _ in 0..ROUNDS {
            MOMENT.store(events::now_ns() + AHEAD_NS, Ordering::Relaxed);
            let round = ROUND.fetch_add(1, Ordering::AcqRel) + 1;
            play(0);
            while DONE.load(Ordering::Acquire) < round * VCPUS as u64 {
                nap();
            }
        }
        let latest = LATEST.load(Ordering::Relaxed);
        say!("{what}: the last was told {latest} ns after the moment");
    }
    one_event_for_all();
    let all = 2 * ROUNDS * VCPUS as u64;
    check_eq!("in time", SET.load(Ordering::Relaxed), all);
    check_eq!("told", TOLD.load(Ordering::Relaxed), all);
    check_eq!("told early", EARLY.load(Ordering::Relaxed), 0);
}

/// An event for one that all others poll for, asleep.
fn one_event_for_all() {
    let port = bind_ipi(0).unwrap_or(0);
    events::set_port_mask(port, true);
    for _ in 0..ROUNDS {
        // They nap again, for any event.
        nap();
        events::clear_port(port);
        check_eq!("an event", notify(port), 0);
        check!(events::port_pending(port), "is there");
    }
}

/// Starts a vCPU, which is told of nothing while it runs.
fn start(id: usize, infos: Page) {
    let offset = 64 * id as u64;
    infos.write(offset as usize / 8, 0x100);
    let mut place = [infos.mfn(), offset];
    let result = vcpu_op(vcpu::REGISTER_VCPU_INFO, id as u64, &mut place);
    accepted("its info", result);
    let mut c = VcpuGuestContext::ZERO;
    c.flags = VGCF_IN_KERNEL;
    c.user_regs.rip = run as *const () as u64;
    // As behind a call.
    c.user_regs.rsp = STACKS.as_ptr() as u64 + ((id + 1) * STACK) as u64 - 8;
    c.user_regs.rdi = id as u64;
    (c.user_regs.cs, c.user_regs.ss) = (CODE64, DATA & !3);
    c.kernel_ss = u64::from(DATA);
    c.kernel_sp = c.user_regs.rsp + 8;
    c.ctrlreg[3] = page_table::root().maddr();
    CONTEXT.set(c);
    // SAFETY: the hypervisor reads it during the call and nobody keeps a reference.
    let context = unsafe { &mut *CONTEXT.as_ptr() };
    accepted("initialise", vcpu_op(vcpu::INITIALISE, id as u64, context));
    accepted("up", call(nr::VCPU_OP, [vcpu::UP, id as u64, 0, 0, 0]));
}

/// Entered by VCPUOP_up; RDI is the vCPU's number.
extern "C" fn run(id: usize) -> ! {
    let mut round = 0;
    loop {
        while ROUND.load(Ordering::Acquire) == round {
            nap();
        }
        round += 1;
        play(id);
    }
}

/// Sets all its timers to the moment, sleeps until it is told, and looks.
fn play(id: usize) {
    let moment = MOMENT.load(Ordering::Relaxed);
    let port = PORTS[id].load(Ordering::Relaxed);
    events::clear_port(port);
    // The first tick is a period from when that is asked for.
    let mut period = moment.saturating_sub(events::now_ns());
    let _ = vcpu_op(vcpu::SET_PERIODIC_TIMER, id as u64, &mut period);
    call(nr::SET_TIMER_OP, [moment, 0, 0, 0, 0]);
    let in_time = events::now_ns() < moment;
    SET.fetch_add(u64::from(in_time), Ordering::Relaxed);
    poll(
        &[port; 2][..POLLED.load(Ordering::Relaxed) as usize],
        moment,
    );
    // Whoever polls several may be woken by what is another's.
    while !events::port_pending(port) && events::now_ns() < moment + AHEAD_NS {
        poll(&[port], moment + AHEAD_NS);
    }
    let now = events::now_ns();
    TOLD.fetch_add(u64::from(events::clear_port(port)), Ordering::Relaxed);
    EARLY.fetch_add(u64::from(now < moment), Ordering::Relaxed);
    LATEST.fetch_max(now.saturating_sub(moment), Ordering::Relaxed);
    let _ = vcpu_op(vcpu::STOP_PERIODIC_TIMER, id as u64, &mut 0u64);
    DONE.fetch_add(1, Ordering::AcqRel);
}

/// Sleeps until one of some ports is pending, or until a time.
fn poll(ports: &[u32], timeout: u64) {
    let mut poll = Poll {
        ports: ports.as_ptr() as u64,
        nr_ports: ports.len() as u32,
        timeout,
        ..Poll::ZERO
    };
    let _ = sched_op(sched::POLL, &mut poll);
}

fn nap() {
    poll(&[], events::now_ns() + 1_000_000);
}
