//! Everybody spins. vCPU 0 sleeps a little and wakes, over and over, so that the others are preempted in the middle of
//! what they do; then it looks whether anything of one showed in another.

use core::sync::atomic::Ordering;

use guest_runtime::abi::{VcpuRunstateInfo, sched, vcpu};
use guest_runtime::entry::has_argument;
use guest_runtime::hypercall::{sched_op, vcpu_op};
use guest_runtime::{Global, check, check_eq, events};
use guests::channels::bind_ipi;

use crate::WORKERS;
use crate::block;
use crate::worker::{WRONG, WRONG_CALL, WRONG_DR6, WRONG_FIRST_FPU};

const MILLISECOND: u64 = 1_000_000;
/// How often each is to be found to have been away, and rounds each is to make meanwhile.
const AWAY: u64 = 45;
const ROUNDS: u64 = 100;

static QUIET_PORT: Global<u32> = Global::new(0);

/// A port of vCPU 0's that nobody sends on.
fn quiet_port() -> u32 {
    if QUIET_PORT.get() == 0 {
        QUIET_PORT.set(bind_ipi(0).unwrap_or(0));
    }
    QUIET_PORT.get()
}

/// Sleeps; the others run.
pub fn pause(ns: u64) {
    let mut ports = [quiet_port()];
    let mut poll = [ports.as_mut_ptr() as u64, 1, events::now_ns() + ns];
    sched_op(sched::POLL, &mut poll);
}

/// Waits until something is so, for ten seconds at most; whether it came to be.
pub fn until(mut so: impl FnMut() -> bool) -> bool {
    let end = events::now_ns() + 10_000 * MILLISECOND;
    while !so() {
        if events::now_ns() > end {
            return false;
        }
        pause(MILLISECOND / 5);
    }
    true
}

pub fn all() {
    let counts = || WORKERS.iter().enumerate().map(|(w, _)| block::kernel(w));
    let start: [(u64, u64); WORKERS.len()] = core::array::from_fn(|w| {
        let b = block::kernel(w);
        (
            b.away.load(Ordering::Relaxed),
            b.rounds.load(Ordering::Relaxed),
        )
    });
    let end = events::now_ns() + 20_000 * MILLISECOND;
    let mut pauses = 0u64;
    while events::now_ns() < end {
        let all_done = counts().zip(start).all(|(b, (away, rounds))| {
            b.away.load(Ordering::Relaxed) >= away + AWAY
                && b.rounds.load(Ordering::Relaxed) >= rounds + ROUNDS
        });
        if all_done || counts().any(|b| b.unexpected.load(Ordering::Relaxed) != 0) {
            break;
        }
        pauses += 1;
        pause(MILLISECOND / 10 * (1 + pauses % 13));
    }
    for (worker, (away, rounds)) in start.into_iter().enumerate() {
        let b = block::kernel(worker);
        check!(
            b.away.load(Ordering::Relaxed) >= away + AWAY,
            "it was preempted often"
        );
        check!(
            b.rounds.load(Ordering::Relaxed) >= rounds + ROUNDS,
            "it got on"
        );
        nothing_wrong(worker);
        run_state(WORKERS[worker]);
    }
}

/// Nothing that a worker looked at was wrong.
pub fn nothing_wrong(worker: usize) {
    let b = block::kernel(worker);
    let vector = b.unexpected.load(Ordering::Relaxed);
    if vector != 0 {
        guest_runtime::check::fail(format_args!(
            "worker {worker}: trap {} at {:#x}",
            vector - 1,
            b.unexpected_rip.load(Ordering::Relaxed)
        ));
    }
    let [what, wanted, got] = [0, 1, 2].map(|i| b.wrong[i].load(Ordering::Acquire));
    let name = match what {
        0 => {
            return check_eq!("nothing is wrong", what, 0)
                .then_some(())
                .unwrap_or(());
        }
        WRONG_DR6 => "DR6",
        WRONG_CALL => "a call",
        WRONG_FIRST_FPU => "the first vector state",
        what => WRONG.get(what as usize - 1).copied().unwrap_or("?"),
    };
    guest_runtime::check::fail(format_args!(
        "worker {worker}: {name}, wanted {wanted:x}, got {got:x}"
    ));
}

/// It ran, and it waited to run.
fn run_state(id: u64) {
    let mut info = VcpuRunstateInfo::ZERO;
    let result = vcpu_op(vcpu::GET_RUNSTATE_INFO, id, &mut info);
    check_eq!("get_runstate_info", result, 0);
    const RUNNABLE: u32 = 1;
    if has_argument("parallel") {
        check!(info.state <= RUNNABLE, "it runs or waits");
    } else {
        check_eq!("its state while vCPU 0 runs", info.state, RUNNABLE);
    }
    check!(info.time[0] > 0 && info.time[1] > 0, "it ran, and waited");
}
