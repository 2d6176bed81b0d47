//! Tests that need other CPUs, asked for on the command line (`smp_test=`, `crash_test=`).
//!
//! `smp_test=storm`: a CPU without a guest has all others flush without end, while a guest runs its own tests.
//!
//! `smp_test=skew`: all CPUs but CPU 0 say that their time-stamp counters are behind. They are not; so a clock that is
//! corrected by that is as much ahead.
//!
//! `smp_test=flush`: every CPU has a page of its own, which all CPUs read. Again and again its owner maps another frame
//! there, has all CPUs flush, and only then marks the old frame as dead. All do so at the same time, so that they also
//! wait for one another. A CPU that reads a dead frame used a translation that it should have forgotten. It reads before
//! its own turn, and before all begin: so it has translations to forget even if all others are done when it comes.

use crate::arch::paging::{self, bits};
use crate::arch::{apic, cpu, percpu, smp};
use crate::boot;
use crate::device::timer;
use crate::info;
use crate::layout::PAGE;
use crate::memory::{alloc, phys};
use ::cpus::MAX_CPUS;
use ::cpus::skew::Trust;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use frames::Mfn;

use super::call::{self, Call};

/// How often each CPU asks all others. An odd number, so that what a page named first is dead in the end.
const ROUNDS: u64 = 101;
/// How long all of it may take.
const LIMIT_MS: u64 = 60_000;

/// What a frame says.
const LIVE: u64 = 0x11fe;
const DEAD: u64 = 0xdead;

/// Where the pages lie: behind the CPUs' private areas.
const WINDOW: u64 = percpu::area(MAX_CPUS as u32);

/// First of the two frames of each CPU, by its number; 0 where it takes no part.
static FRAMES: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
/// CPUs that are ready to begin.
static READY: AtomicU32 = AtomicU32::new(0);
/// How many take part.
static PARTIES: AtomicU32 = AtomicU32::new(0);
/// Reads of a dead frame.
static STALE: AtomicU64 = AtomicU64::new(0);

fn window(cpu: u32) -> u64 {
    WINDOW + u64::from(cpu) * PAGE
}

/// Runs the flush test on all CPUs; ends the boot if it fails.
pub fn flush() {
    let cpus = smp::online();
    for cpu in cpus.iter() {
        let first = alloc::take(frames::DomId::RING0, 1, 64);
        let mapped = first.and_then(|first| {
            FRAMES[cpu as usize % MAX_CPUS].store(first.0, Ordering::Release);
            phys::write_u64(first.0 * PAGE, LIVE);
            let leaf = (first.0 * PAGE) | bits::RW;
            let (root, source) = (paging::root(), &mut alloc::take_ring0);
            paging::map_below(root, 4, window(cpu), leaf, bits::TABLE, source).ok()
        });
        if mapped.is_none() {
            boot::give_up(format_args!("no memory for smp_test=flush"));
        }
    }
    PARTIES.store(cpus.len(), Ordering::Release);
    let before = smp::flush::interrupts();
    let call = call::begin(cpus.without(percpu::current().id), Call::FlushTest);
    take_part();
    let missing = call.finish(LIMIT_MS);
    let stale = STALE.load(Ordering::Acquire);
    if stale != 0 || !missing.is_empty() {
        boot::give_up(format_args!(
            "smp_test=flush: {stale} stale translations were used, and {} CPUs did not finish",
            missing.len()
        ));
    }
    info!(
        "smp_test=flush: {} CPUs asked all others {ROUNDS} times each, by {} interrupts; no stale translation was used",
        cpus.len(),
        smp::flush::interrupts() - before
    );
    for cpu in cpus.iter() {
        if let Some(slot) = paging::leaf_slot(paging::root(), window(cpu)) {
            slot.store(0, Ordering::Release);
        }
        let first = FRAMES[cpu as usize % MAX_CPUS].load(Ordering::Acquire);
        (first..first + 2).for_each(|mfn| alloc::give_ring0(Mfn(mfn)));
    }
}

/// One CPU's part.
pub fn take_part() {
    let me = percpu::current().id;
    let Some(slot) = paging::leaf_slot(paging::root(), window(me)) else {
        return;
    };
    smp::flush::pretend_to_hold(true);
    let cpus = smp::online();
    let read_all = || {
        for cpu in cpus.iter() {
            let page = window(cpu) as *const u64;
            // SAFETY: mapped for the length of the test, in ring 0's root, which all CPUs run on; volatile, since the
            // frame behind it changes.
            let said = unsafe { page.read_volatile() };
            if said != LIVE {
                STALE.fetch_add(1, Ordering::AcqRel);
            }
        }
    };
    read_all();
    READY.fetch_add(1, Ordering::AcqRel);
    while READY.load(Ordering::Acquire) < PARTIES.load(Ordering::Acquire) {
        // Nobody asks for anything before all are here, and who is served here would forget what this test is about.
        core::hint::spin_loop();
    }
    let first = FRAMES[me as usize % MAX_CPUS].load(Ordering::Acquire);
    for round in 0..ROUNDS {
        read_all();
        let (old, new) = (first + round % 2, first + (round + 1) % 2);
        phys::write_u64(new * PAGE, LIVE);
        slot.swap((new * PAGE) | bits::RW, Ordering::AcqRel);
        percpu::flush_since(percpu::flush_clock());
        phys::write_u64(old * PAGE, DEAD);
    }
    smp::flush::pretend_to_hold(false);
}

/// The CPU that storms.
static STORMS: AtomicU32 = AtomicU32::new(u32::MAX);
/// Flushes that it asked for and that were done.
static STORM: AtomicU64 = AtomicU64::new(0);
/// Time between two of them.
const STORM_PAUSE_US: u64 = 200;

/// Has the last CPU storm: ask all others to flush again and again, whatever they do.
pub fn order_storm() {
    if let Some(last) = smp::online().without(percpu::current().id).iter().last() {
        call::leave(last, Call::Storm);
    }
}

/// This CPU storms from now on, as soon as it is back in its idle loop.
pub fn begin_storm() {
    STORMS.store(percpu::current().id, Ordering::Release);
    // So that the idle loop does not wait for an interrupt that nobody sends.
    smp::interrupt(percpu::current().id, apic::IPI_CALL);
}

/// One more gust, if this is the CPU; another follows at once.
pub fn storm() {
    let me = percpu::current().id;
    if STORMS.load(Ordering::Relaxed) != me {
        return;
    }
    percpu::flush_since(percpu::flush_clock());
    STORM.fetch_add(1, Ordering::Relaxed);
    timer::wait_us(STORM_PAUSE_US);
    smp::interrupt(me, apic::IPI_CALL);
}

/// What came of [`order_storm`], when the machine ends.
pub fn report() {
    match STORM.load(Ordering::Relaxed) {
        0 => {}
        n => info!("smp_test=storm: {n} times all CPUs flushed for one that runs no guest"),
    }
}

/// The CPU that gets stuck.
static STUCK: AtomicU32 = AtomicU32::new(u32::MAX);

/// This CPU gets stuck as soon as it is back in its idle loop.
pub fn begin_to_be_stuck() {
    let me = percpu::current().id;
    STUCK.store(me, Ordering::Release);
    smp::interrupt(me, apic::IPI_CALL);
}

/// Does not return on the CPU that is to be stuck.
pub fn be_stuck() {
    if STUCK.load(Ordering::Relaxed) == percpu::current().id {
        super::watch::works();
        turn_for_ever();
    }
}

/// Interrupts are off, and nothing comes of it.
#[inline(never)]
fn turn_for_ever() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// What [`show_time`] read.
static TIME: AtomicU64 = AtomicU64::new(0);
/// How long a CPU may take to show its time, and how much that may be off: what no exchange of counters' takes.
const SHOWING_MS: u64 = 1000;
const TOLERANCE_NS: u64 = 10_000_000;

/// Shows this CPU's time.
pub fn show_time() {
    TIME.store(timer::now_ns(), Ordering::Release);
}

/// Compares all CPUs' clocks with this one's: they are ahead by as much as their counters pretend to be behind, unless those
/// are taken to be stable. Ends the boot if not.
pub fn skew() {
    let ahead = match smp::skew::trust() {
        Trust::Always => 0,
        _ => timer::clock().scale.ns_from_ticks(smp::skew::PRETENDED),
    };
    let others = smp::online().without(percpu::current().id);
    for cpu in others.iter() {
        let before = timer::now_ns() + ahead;
        let missing = call::ask(::cpus::set::CpuSet::EMPTY.with(cpu), Call::Time, SHOWING_MS);
        let after = timer::now_ns() + ahead;
        let read = TIME.load(Ordering::Acquire);
        let right = before.saturating_sub(TOLERANCE_NS)..=after + TOLERANCE_NS;
        if !missing.is_empty() || !right.contains(&read) {
            boot::give_up(format_args!(
                "smp_test=skew: CPU {cpu} reads {read} ns, which should lie in {right:?}"
            ));
        }
    }
    info!(
        "smp_test=skew: the clocks of {} CPUs are ahead by {ahead} ns, as they should",
        others.len()
    );
}

/// The CPU that takes no NMI any more.
static DEAF: AtomicU32 = AtomicU32::new(u32::MAX);
/// That it has come to that.
static IS_DEAF: AtomicU32 = AtomicU32::new(0);

/// Makes a CPU deaf: it stays in an NMI's handler, where no other NMI reaches it.
pub fn deafen(cpu: u32) {
    DEAF.store(cpu, Ordering::Release);
    apic::send_nmi(smp::remote(cpu).apic_id.load(Ordering::Relaxed));
    timer::wait_ms(1000, || IS_DEAF.load(Ordering::Acquire) != 0);
}

/// In an NMI's handler: does not return on the CPU that is to be deaf.
pub fn play_deaf(me: u32) {
    if DEAF.load(Ordering::Acquire) == me {
        IS_DEAF.store(1, Ordering::Release);
        cpu::halt_for_ever();
    }
}
