//! One CPU's run queue and timers, and the seats by which they know its vCPUs.
//!
//! # Invariants
//! - Q1: a vCPU has a seat with one CPU, its home, from before it is known to anybody until it is removed; it is in no other
//!   CPU's queue and has no timer elsewhere.
//! - Q2: a seat's number is the vCPU's in the queue, and three times that, and one more, its first timer's. All tables are as
//!   long as the highest seat that there ever was needs.
//! - Q3: rows stay with the CPU for good.

use super::timers::Kind;
use super::{QUANTUM_NS, SHORTEST_NS};
use crate::arch::smp;
use crate::boot;
use crate::domain::{NO_CPU, Vcpu, unfinished};
use crate::memory::record;
use crate::sync::{Guard, Lock, rank};
use ::cpus::MAX_CPUS;
use ::cpus::set::CpuSet;
use ::sched::{
    Entry, EntryRows, RunQueue, SlotRows, Slots, TimerQueue, TimerRows, TimerSlot, VcpuHandle,
};
use boot_info::params::Cpus;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What is under a CPU's lock.
pub(super) struct CpuSched {
    /// Who runs next.
    pub queue: RunQueue<'static>,
    /// The timers of those at home here, and on CPU 0 the devices'.
    pub timers: TimerQueue<'static>,
    /// Who has which seat; nobody yet, where one is still being made.
    seats: Slots<'static, Option<&'static Vcpu>>,
}

type SeatRows = SlotRows<'static, Option<&'static Vcpu>>;

impl CpuSched {
    /// Who has a seat.
    pub fn vcpu(&self, seat: VcpuHandle) -> Option<&'static Vcpu> {
        self.seats.get(seat.0 as usize).flatten()
    }

    /// Takes the lowest seat that is free, if all tables are long enough for it.
    fn take_seat(&mut self) -> Result<VcpuHandle, Lack> {
        let next = self.seats.lowest_free();
        let seat = VcpuHandle(next as u32);
        if self.seats.capacity() <= next {
            Err(Lack::Seats)
        } else if self.queue.capacity() <= next {
            Err(Lack::Entries)
        } else if self.timers.capacity() <= Kind::LAST.of(seat) as usize {
            Err(Lack::Timers)
        } else {
            self.seats.join(None).map(|_| seat).ok_or(Lack::Seats)
        }
    }
}

/// Which table is too short.
#[derive(Clone, Copy)]
enum Lack {
    Seats,
    Entries,
    Timers,
}

/// A CPU's, held.
pub(super) type Held = Guard<'static, Option<&'static mut CpuSched>, rank::Queue>;

static CPUS: [Lock<Option<&'static mut CpuSched>, rank::Queue>; MAX_CPUS] =
    [const { Lock::new(None) }; MAX_CPUS];
/// vCPUs at home with each CPU.
static SEATED: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];
/// Frames that rows have taken.
static KEPT: AtomicU64 = AtomicU64::new(0);

/// Frames of ring 0's that tables of vCPUs have taken, and keep.
pub fn kept_frames() -> u64 {
    KEPT.load(Ordering::Relaxed)
}

/// Makes a CPU's queue and timers, before anything is asked of it. False if there is no memory.
pub fn prepare(cpu: u32) -> bool {
    let timers = record::place_row(TimerSlot::EMPTY, TimerRows::PER_ROW);
    let made = timers.and_then(|timers| {
        record::place_mut(CpuSched {
            queue: RunQueue::new(&mut [], QUANTUM_NS, SHORTEST_NS),
            timers: TimerQueue::new(timers),
            seats: Slots::new(),
        })
    });
    let is_made = made.is_some();
    *of(cpu).lock() = made;
    is_made
}

pub(super) fn of(cpu: u32) -> &'static Lock<Option<&'static mut CpuSched>, rank::Queue> {
    &CPUS[cpu as usize % MAX_CPUS]
}

/// Does something with a CPU's; `None` if it has none yet.
pub(super) fn with<R>(cpu: u32, act: impl FnOnce(&mut CpuSched) -> R) -> Option<R> {
    of(cpu).lock().as_mut().map(|sched| act(sched))
}

/// With whom a vCPU is at home.
pub struct Home {
    cpu: AtomicU32,
    seat: AtomicU32,
}

impl Home {
    /// The CPU; [`NO_CPU`] for one that was removed.
    pub fn cpu(&self) -> u32 {
        self.cpu.load(Ordering::Acquire)
    }

    /// The seat, good while the CPU's lock is held.
    pub(super) fn seat(&self) -> VcpuHandle {
        VcpuHandle(self.seat.load(Ordering::Relaxed))
    }

    /// Has none any more. Under the CPU's lock.
    fn end(&self) {
        self.cpu.store(NO_CPU, Ordering::Release);
    }
}

/// Whether vCPUs run on a CPU.
pub fn runs_vcpus(cpu: u32) -> bool {
    cpu == 0 || boot::params().cpus == Cpus::All
}

/// Where a new vCPU is to be at home: of the CPUs that run any, the one with the fewest, the lowest of those; the control
/// domain's go round, so that each has a CPU that the others begin on last.
fn choose(privileged: bool, id: u32) -> u32 {
    let runs = smp::online().iter().filter(|cpu| runs_vcpus(*cpu));
    let runs = runs.fold(CpuSet::EMPTY, CpuSet::with);
    let seated = |cpu: &u32| SEATED[*cpu as usize % MAX_CPUS].load(Ordering::Relaxed);
    let chosen = match privileged {
        true => runs.iter().nth((id % runs.len().max(1)) as usize),
        false => runs.iter().min_by_key(seated),
    };
    // Before the others are started, and without a local APIC's table, there is this one.
    chosen.unwrap_or(0)
}

/// A seat for a vCPU that is to be made, with room for it in every table; `None` if there are too many or no memory is left.
pub fn take(privileged: bool, id: u32) -> Option<Home> {
    let cpu = choose(privileged, id);
    loop {
        let lack = match with(cpu, CpuSched::take_seat)? {
            Ok(seat) => {
                SEATED[cpu as usize % MAX_CPUS].fetch_add(1, Ordering::Relaxed);
                return Some(Home {
                    cpu: AtomicU32::new(cpu),
                    seat: AtomicU32::new(seat.0),
                });
            }
            Err(lack) => lack,
        };
        // The frame is taken before the lock is: what is fresh may have to be flushed.
        let added = match lack {
            Lack::Seats => {
                let row = new_row(None, SeatRows::PER_ROW)?;
                with(cpu, |s| s.seats.add_row(row))
            }
            Lack::Entries => {
                let row = new_row(Entry::EMPTY, EntryRows::PER_ROW)?;
                with(cpu, |s| s.queue.add_row(row))
            }
            Lack::Timers => {
                let row = new_row(TimerSlot::EMPTY, TimerRows::PER_ROW)?;
                with(cpu, |s| s.timers.add_row(row))
            }
        };
        if added != Some(true) {
            return None;
        }
    }
}

/// Says whose a vCPU's seat is: its own.
pub(super) fn name(vcpu: &'static Vcpu) {
    let seat = vcpu.home.seat().0 as usize;
    with(vcpu.home.cpu(), |s| s.seats.rename(seat, Some(vcpu)));
}

/// Gives a seat back, and does something before it is anybody else's.
pub(super) fn give(home: &Home, before: impl FnOnce(&mut CpuSched, VcpuHandle)) {
    let (cpu, seat) = (home.cpu(), home.seat());
    with(cpu, |s| {
        before(s, seat);
        s.seats.leave(seat.0 as usize);
        home.end();
    });
    SEATED[cpu as usize % MAX_CPUS].fetch_sub(1, Ordering::Relaxed);
}

/// Gives the seat of a vCPU back that came to nothing.
pub fn give_unused(home: &Home) {
    give(home, |_, _| {});
}

/// A frame as a row of a table; counted as kept. Where a call asks for it interrupts are let in first: nothing is locked that
/// an interrupt's handler takes.
pub fn new_row<T: Copy>(value: T, count: usize) -> Option<&'static mut [T]> {
    unfinished::breathe();
    let row = record::place_row(value, count);
    KEPT.fetch_add(u64::from(row.is_some()), Ordering::Relaxed);
    row
}
