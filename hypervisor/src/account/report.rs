//! The books, in the log, and whether they add up: the last words of a run.

use crate::account::{self, books};
use crate::arch::smp::CpuSet;
use crate::arch::smp::call::{self, Call};
use crate::arch::{percpu, smp};
use crate::device::timer;
use crate::domain::{Domain, all};
use crate::{error, info};
use ::cpus::MAX_CPUS;
use ::sched::{CpuBooks, Usage};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

/// How long the other CPUs have to show their books.
const BOOKS_MS: u64 = 2000;

/// Has CPUs show their books as of now. Answers those that did not. No lock may be held.
fn show(cpus: CpuSet) -> CpuSet {
    let me = percpu::current().id;
    let missing = call::ask(cpus.without(me), Call::Books, BOOKS_MS);
    if cpus.contains(me) {
        account::show_books();
    }
    missing
}

/// The books of CPUs, as of now. A number for an error: of a CPU that did not answer. No lock may be held.
pub fn collect(cpus: CpuSet) -> Result<impl Iterator<Item = CpuBooks>, u32> {
    if let Some(cpu) = show(cpus).iter().next() {
        return Err(cpu);
    }
    let shown = (0..MAX_CPUS as u32).filter(move |cpu| cpus.contains(*cpu));
    Ok(shown.map(|cpu| smp::remote(cpu).books.look().0))
}

/// Logs the books of all CPUs and accounts, and whether they add up.
pub fn say() {
    account::works();
    account::is_for_nobody();
    smp::test::report();
    let cpus = smp::online();
    let missing = show(cpus);
    let mut sold = 0_u64;
    for cpu in cpus.iter() {
        if missing.contains(cpu) {
            error!("CPU {cpu} did not show its books");
            continue;
        }
        let (books, is_right) = smp::remote(cpu).books.look();
        sold = sold.wrapping_add(books.sold);
        info!(
            "CPU {cpu}: {} cycles idle, {} the machine's own, {} for domains, {} in all; the books {}",
            books.idle,
            books.machine,
            books.sold,
            books.last.wrapping_sub(books.first),
            if is_right {
                "balance"
            } else {
                "DO NOT BALANCE"
            }
        );
    }
    say_machines(all_books(cpus));
    let mut held = account::departed();
    let mut noted = books::DEPARTED.all();
    let now = timer::counter();
    for dom in all() {
        say_domain(dom);
        held.add(&account::usage_of(dom, now));
        noted = noted.wrapping_add(dom.sold.all());
    }
    let gone = account::departed().used();
    let is_right = held.used() == sold && noted == sold && held.is_whole();
    info!(
        "accounts: {} cycles of domains that are there, {gone} of others, {sold} given by CPUs; the accounts {}",
        held.used().wrapping_sub(gone),
        if is_right { "add up" } else { "DO NOT ADD UP" }
    );
}

/// CPUs' cycles when the first guest was about to run: all, idle, the machine's own.
static BEFORE_GUESTS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// Notes what CPUs had used when the first guest is about to run: start-up is nobody's. No lock may be held.
pub fn guests_begin() {
    let cpus = smp::online();
    show(cpus);
    for (place, cycles) in BEFORE_GUESTS.iter().zip(all_books(cpus)) {
        place.store(cycles, Relaxed);
    }
}

/// Cycles of CPUs as they showed them last: all, idle, the machine's own.
fn all_books(cpus: CpuSet) -> [u64; 3] {
    cpus.iter().fold([0_u64; 3], |sum, cpu| {
        let books = smp::remote(cpu).books.look().0;
        let elapsed = books.last.wrapping_sub(books.first);
        let more = [elapsed, books.idle, books.machine];
        core::array::from_fn(|n| sum[n].wrapping_add(more[n]))
    })
}

/// Logs how much of the work since guests run was for nobody in particular.
fn say_machines(now: [u64; 3]) {
    let since = |n: usize| now[n].wrapping_sub(BEFORE_GUESTS[n].load(Relaxed));
    let [all, idle, machine] = core::array::from_fn(since);
    let busy = all.saturating_sub(idle).max(1);
    let millionths = u128::from(machine) * 1_000_000 / u128::from(busy);
    info!(
        "since guests run: {all} cycles, {idle} idle, {machine} the machine's own: {millionths} millionths of the work"
    );
}

fn say_domain(dom: &Domain) {
    for vcpu in dom.vcpus() {
        let who = format_args!("domain {} vCPU {}", dom.id.0, vcpu.id);
        say_usage(who, &vcpu.account.usage(timer::counter()));
    }
    let own = dom.account.usage();
    if own != Usage::ZERO {
        say_usage(format_args!("domain {} besides", dom.id.0), &own);
    }
}

fn say_usage(who: core::fmt::Arguments<'_>, usage: &Usage) {
    let [call, fault, interrupt, timer, device, switch] = usage.hypervisor;
    info!(
        "{who}: {} cycles user, {} kernel, {} hypervisor ({call} calls, {fault} faults, {interrupt} interrupts, \
         {timer} timers, {device} devices, {switch} switches), {} waiting, {} times on a CPU",
        usage.user,
        usage.kernel,
        usage.hypervisor_sum(),
        usage.stolen,
        usage.switches
    );
}
