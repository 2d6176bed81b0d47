//! Proves that whoever is told that a domain stands still can believe it: a child's vCPUs count without end on processors
//! of their own, and from the moment that `pausedomain` has answered none of them gets further; their registers, read then,
//! are those of the loop that they were stopped in and agree with what they have written, and they go on from there. A
//! destroyed child counts no further either.
//!
//! xtask: parallel=4
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::{VcpuGuestContext, errno};
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::entry::number;
use guest_runtime::{
    Global, check, check_eq, child, control, events, guest, instructions, link, say,
};
use guests::balance;
use guests::racers::{self, Racer};

guest!(still, main);

/// vCPUs of the child that count; its first sleeps.
const COUNTERS: usize = 3;
/// Pauses, unless the command line has `pauses=`, and the sleeps between two of them: at most so many nanoseconds.
const PAUSES: u64 = 1000;
const MOST_RUN: u64 = 60_000;
/// Each how many pauses the registers are read.
const LOOK_EACH: u64 = 4;
/// Words of a cache line: each counter has one of its own.
const LINE: usize = 8;
/// Time-stamp counter ticks that a counter which went on would be seen in.
const WATCHED: u64 = 20_000;

static CONTEXT: Global<VcpuGuestContext> = Global::new(VcpuGuestContext::ZERO);

#[cfg(target_os = "none")]
core::arch::global_asm!(
    ".pushsection .text.still, \"ax\", @progbits",
    ".global still_begin",
    "still_begin:",
    "xor eax, eax",
    "2: inc rax",
    "mov [rdi], rax",
    "jmp 2b",
    ".global still_end",
    "still_end:",
    ".popsection",
);

unsafe extern "C" {
    #[link_name = "still_begin"]
    fn count(at: u64) -> !;
    #[link_name = "still_end"]
    static END: u8;
}

fn place(counter: usize) -> usize {
    link::FREE + LINE * counter
}

/// Step: starts the counters.
fn start(_: [u64; 5]) -> i64 {
    racers::start(COUNTERS, |racer: &mut Racer| {
        if let Some(link) = child::link() {
            // SAFETY: counts in a word of the shared page, for ever.
            unsafe { count(link.address + 8 * place(racer.number) as u64) }
        }
    });
    racers::begin();
    0
}

fn main() {
    // The first time makes what is made once and kept.
    a_child(PAUSES / 20);
    let before = balance::frames();
    a_child(number("pauses", PAUSES));
    check_eq!("frames are whose they were", balance::frames(), before);
}

fn a_child(times: u64) {
    let plan = Plan {
        vcpus: COUNTERS as u32 + 1,
        ..Plan::SMALL
    };
    let Some(mut child) = builder::running(plan) else {
        return;
    };
    check_eq!("the counters", child.call(start, [0; 5]), 0);
    let all_count = child.wait_until(|child| counts(child).iter().all(|count| *count > 0));
    check!(all_count, "they count");
    if all_count {
        pauses(&child, times);
    }
    ends(child);
}

fn counts(child: &Child) -> [u64; COUNTERS] {
    let link = child.link();
    core::array::from_fn(|counter| link.get(place(counter)))
}

fn watch() {
    let end = instructions::rdtsc() + WATCHED;
    while instructions::rdtsc() < end {
        core::hint::spin_loop();
    }
}

fn pauses(child: &Child, times: u64) {
    let (mut moved, mut astray, mut unlike, mut runs) = (0, 0, 0, 0);
    let mut last = counts(child);
    for pause in 0..times {
        child::wait(&[], events::now_ns() + pause.wrapping_mul(7919) % MOST_RUN);
        check_silently("pause", child.pause());
        let stopped = counts(child);
        runs += stopped
            .iter()
            .zip(last)
            .filter(|(now, then)| *now != then)
            .count() as u64;
        watch();
        moved += u64::from(counts(child) != stopped);
        if pause % LOOK_EACH == 0 {
            for (counter, count) in stopped.into_iter().enumerate() {
                let [rip, rax] = registers(child, counter as u32 + 1);
                astray += u64::from(!in_loop(rip));
                // Between the one instruction and the other it is ahead by one.
                unlike += u64::from(rax != count && rax != count + 1);
            }
        }
        last = counts(child);
        moved += u64::from(last != stopped);
        check_silently("unpause", child.run());
    }
    say!("{times} pauses, before which counters had moved {runs} times");
    check_eq!("pauses after which a counter moved", moved, 0);
    check_eq!("vCPUs that were elsewhere than in their loop", astray, 0);
    check_eq!("registers that are not what was written", unlike, 0);
    check!(runs > times / 4, "they went on in between");
}

/// A thousand of them are one check.
fn check_silently(what: &str, result: i64) {
    if result != 0 {
        check_eq!(what, result, 0);
    }
}

fn in_loop(rip: u64) -> bool {
    (count as *const () as u64..&raw const END as u64).contains(&rip)
}

/// RIP and RAX of a vCPU.
fn registers(child: &Child, vcpu: u32) -> [u64; 2] {
    // SAFETY: one vCPU, one call at a time: nobody else refers to it.
    let context = unsafe { &mut *CONTEXT.as_ptr() };
    check_silently("its state", control::get_context(child.id, vcpu, context));
    [context.user_regs.rip, context.user_regs.rax]
}

/// Destroys it while it counts in a page that stays ours for as long as it is mapped.
fn ends(mut child: Child) {
    let link = child.link();
    let id = child.id;
    check_eq!("destroy", control::destroy(id), 0);
    let seen: [u64; COUNTERS] = core::array::from_fn(|counter| link.get(place(counter)));
    watch();
    let later: [u64; COUNTERS] = core::array::from_fn(|counter| link.get(place(counter)));
    check_eq!("what a destroyed child counts", later, seen);
    child.let_go();
    check!(builder::is_gone_soon(id), "it is gone");
    check_eq!("nobody", control::info(id).err(), Some(-errno::ESRCH));
}
