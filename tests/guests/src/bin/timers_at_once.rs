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
use guests::channels::{VIRQ_TIMER, bind_virq};

guest!(timers_at_once, main);

/// As many as a domain may have.
const VCPUS: usize = 64;
const STACK: usize = 4096;
/// Rounds.
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
/// How often one had set its timers in time, was told, was told early, and was done.
static SET: AtomicU64 = AtomicU64::new(0);
static TOLD: AtomicU64 = AtomicU64::new(0);
static EARLY: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
/// The latest that one was told, in nanoseconds after the moment.
static LATEST: AtomicU64 = AtomicU64::new(0);

fn main() {
    for id in 0..VCPUS {
        accepted("on one processor", control::set_affinity(0, id as u32, 1));
        let port = bind_virq(VIRQ_TIMER, id as u32).unwrap_or(0);
        check!(port != 0, "a timer's port");
        events::set_port_mask(port, true);
        PORTS[id].store(port, Ordering::Relaxed);
    }
    let _ = vcpu_op(vcpu::STOP_PERIODIC_TIMER, 0, &mut 0u64);
    let infos = frames::allocate();
    (1..VCPUS).for_each(|id| start(id, infos));
    for round in 1..=ROUNDS {
        MOMENT.store(events::now_ns() + AHEAD_NS, Ordering::Relaxed);
        ROUND.store(round, Ordering::Release);
        play(0);
        while DONE.load(Ordering::Acquire) < round * VCPUS as u64 {
            nap(0);
        }
    }
    let latest = LATEST.load(Ordering::Relaxed);
    say!("the last was told {latest} ns after the moment");
    let all = ROUNDS * VCPUS as u64;
    check_eq!("in time", SET.load(Ordering::Relaxed), all);
    check_eq!("told", TOLD.load(Ordering::Relaxed), all);
    check_eq!("told early", EARLY.load(Ordering::Relaxed), 0);
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
            nap(id);
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
    poll(port, moment);
    // Its time may be over before its timer is told.
    while !events::port_pending(port) && events::now_ns() < moment + AHEAD_NS {
        poll(port, moment + AHEAD_NS);
    }
    let now = events::now_ns();
    TOLD.fetch_add(u64::from(events::clear_port(port)), Ordering::Relaxed);
    EARLY.fetch_add(u64::from(now < moment), Ordering::Relaxed);
    LATEST.fetch_max(now.saturating_sub(moment), Ordering::Relaxed);
    let _ = vcpu_op(vcpu::STOP_PERIODIC_TIMER, id as u64, &mut 0u64);
    DONE.fetch_add(1, Ordering::AcqRel);
}

/// Sleeps until a port is pending, or until a time.
fn poll(port: u32, timeout: u64) {
    let ports = [port];
    let mut poll = Poll {
        ports: ports.as_ptr() as u64,
        nr_ports: 1,
        timeout,
        ..Poll::ZERO
    };
    let _ = sched_op(sched::POLL, &mut poll);
}

/// Sleeps a little: for its own port, so that what comes for others does not wake it.
fn nap(id: usize) {
    let port = PORTS[id].load(Ordering::Relaxed);
    poll(port, events::now_ns() + 1_000_000);
}
