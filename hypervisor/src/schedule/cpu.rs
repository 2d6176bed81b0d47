//! One CPU's run queue and timers, and the seats by which they know its vCPUs.
//!
//! # Invariants
//! - Q1: a vCPU has a seat with one CPU, its home, from before it is known to anybody until it is removed; it is in no other
//!   CPU's queue and has no timer elsewhere.
//! - Q2: a seat's number is the vCPU's name in the queue, and three times that, and one more, its first timer's. The tables
//!   of seats and timers are as long as the highest seat that there ever was needs. Its place in the queue is another number,
//!   the queue's own.
//! - Q3: rows stay with the CPU for good.
//! - Q4: a queue has room for as many as have seats.

use super::dues::Kept;
use super::timers::Kind;
use super::{admission, placement};
use crate::account::{self, Cause};
use crate::boot;
use crate::device::timer;
use crate::domain::{Domain, NO_CPU, Vcpu, unfinished};
use crate::memory::record;
use crate::sync::{Guard, Lock, rank};
use ::cpus::MAX_CPUS;
use ::reservations::{Arrival, Charge, Decision, Queue, Seat, Slot, Terms};
use ::sched::{SlotRows, Slots, TimerQueue, TimerRows, TimerSlot, VcpuHandle};
use boot_info::params::Cpus;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What is under a CPU's lock.
pub(super) struct CpuSched {
    /// Who runs next.
    pub queue: Queue<'static>,
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

    /// The queue's decision, when this of the time since the last is known not to be of who ran. Periods that begin with it are
    /// renewed for whose they are.
    pub fn decide(&mut self, now: u64, excused: u64) -> Decision {
        let mut paying = None;
        let Self { queue, seats, .. } = self;
        let decision = queue.decide_excusing(now, excused, |tag| {
            if let Some(vcpu) = seats.get(tag as usize).flatten() {
                paying.get_or_insert_with(account::paying);
                account::is_for_vcpu(vcpu, Cause::Timer);
            }
        });
        if let Some(before) = paying {
            account::pays_again(before);
        }
        decision
    }

    /// Says whose a seat is.
    pub fn name(&mut self, seat: VcpuHandle, vcpu: &'static Vcpu) {
        self.seats.rename(seat.0 as usize, Some(vcpu));
    }

    /// A seat is nobody's any more.
    pub fn leave(&mut self, seat: VcpuHandle) {
        self.seats.leave(seat.0 as usize);
    }

    /// Takes the lowest seat that is free, if all tables are long enough for it. The queue's is as long as there are seats
    /// taken, so that whoever has one finds a place there (Q4).
    fn take_seat(&mut self) -> Result<VcpuHandle, Lack> {
        let next = self.seats.lowest_free();
        let seat = VcpuHandle(next as u32);
        if self.seats.capacity() <= next {
            return Err(Lack::Seats);
        }
        if self.timers.capacity() <= Kind::LAST.of(seat) as usize {
            return Err(Lack::Timers);
        }
        if self.queue.capacity() <= self.seats.joined() {
            return Err(Lack::Slots);
        }
        // There is one: it was looked at.
        self.seats.join(None).ok_or(Lack::Seats)?;
        Ok(seat)
    }

    /// As [`Self::take_seat`], with a place in the queue for a new vCPU.
    fn take_place(&mut self, dom: &Domain, cpu: u32, terms: &Terms) -> Result<Home, Lack> {
        let seat = self.take_seat()?;
        let arrival = Arrival {
            tag: u64::from(seat.0),
            // To tell siblings by: no two that live at once have the same.
            domain: dom.serial as u32,
            sibling: sibling_on(dom, cpu),
            origin: dom.periods_from,
            terms: *terms,
        };
        let place = self.queue.arrive(timer::now_ns(), arrival);
        let Ok(place) = place else {
            self.leave(seat);
            return Err(Lack::Slots);
        };
        Ok(Home {
            place: AtomicU64::new(place.to_bits()),
            dues: Kept::new(terms.charge(self.queue.rules())),
            ..Home::new(cpu, seat.0)
        })
    }
}

/// The place of any vCPU of a domain that is at home with a CPU. Under the CPU's lock.
pub(super) fn sibling_on(dom: &Domain, cpu: u32) -> Option<Seat> {
    let sibling = dom.vcpus().find(|vcpu| vcpu.home.cpu() == cpu);
    sibling.map(|vcpu| vcpu.home.place())
}

/// Which table is too short.
#[derive(Clone, Copy)]
enum Lack {
    Seats,
    Timers,
    Slots,
}

/// A CPU's, held.
pub(super) type Held = Guard<'static, Option<&'static mut CpuSched>, rank::Queue>;

static CPUS: [Lock<Option<&'static mut CpuSched>, rank::Queue>; MAX_CPUS] =
    [const { Lock::new(None) }; MAX_CPUS];
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
            queue: Queue::new(&mut [], placement::of_command_line(), timer::now_ns()),
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

/// With whom a vCPU is at home, and with whom it wants to be.
pub struct Home {
    cpu: AtomicU32,
    seat: AtomicU32,
    /// Its place in the queue.
    place: AtomicU64,
    /// A seat that is taken for it with another CPU (`moves`), or [`NO_WISH`].
    wants: AtomicU64,
    /// Cycles that were worked for it while it did not run, which its queue has not been told.
    owed: AtomicU64,
    /// What it is charged there.
    pub(super) dues: Kept,
}

const NO_WISH: u64 = u64::MAX;

impl Home {
    const fn new(cpu: u32, seat: u32) -> Home {
        Home {
            cpu: AtomicU32::new(cpu),
            seat: AtomicU32::new(seat),
            place: AtomicU64::new(0),
            wants: AtomicU64::new(NO_WISH),
            owed: AtomicU64::new(0),
            dues: Kept::new(Charge::NOTHING),
        }
    }

    /// So many cycles were worked for it, by whatever CPU: its queue is told when it runs again.
    #[inline]
    pub fn owe(&self, cycles: u64) {
        if cycles != 0 {
            self.owed.fetch_add(cycles, Ordering::Relaxed);
        }
    }

    /// What its queue is to be told.
    #[inline]
    pub(super) fn take_owed(&self) -> u64 {
        match self.owed.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.owed.swap(0, Ordering::Relaxed),
        }
    }

    fn from_word(word: u64) -> Option<Home> {
        (word != NO_WISH).then(|| Home::new((word >> 32) as u32, word as u32))
    }

    /// Whether it wants to be with another.
    #[inline]
    pub(super) fn wants_another(&self) -> bool {
        self.wants.load(Ordering::SeqCst) != NO_WISH
    }

    fn as_wish(&self) -> u64 {
        u64::from(self.cpu()) << 32 | u64::from(self.seat().0)
    }

    /// It wants to be with another, having wanted nothing. Under its affinity.
    pub(super) fn want(&self, other: &Home) {
        self.wants.store(other.as_wish(), Ordering::SeqCst);
    }

    /// It wants nothing any more; answers what it wanted.
    pub(super) fn take_wish(&self) -> Option<Home> {
        Home::from_word(self.wants.swap(NO_WISH, Ordering::SeqCst))
    }

    /// It is with another, and has this place in its queue. Under both CPUs' locks.
    pub(super) fn is_now(&self, other: &Home, place: Seat) {
        self.seat.store(other.seat().0, Ordering::Relaxed);
        self.place.store(place.to_bits(), Ordering::Relaxed);
        self.cpu.store(other.cpu(), Ordering::Release);
    }

    /// The CPU; [`NO_CPU`] for one that was removed.
    pub fn cpu(&self) -> u32 {
        self.cpu.load(Ordering::Acquire)
    }

    /// The seat, good while the CPU's lock is held.
    pub(super) fn seat(&self) -> VcpuHandle {
        VcpuHandle(self.seat.load(Ordering::Relaxed))
    }

    /// Its place in the queue, good while the CPU's lock is held.
    pub(super) fn place(&self) -> Seat {
        Seat::from_bits(self.place.load(Ordering::Relaxed))
    }

    /// Has none any more. Under the CPU's lock.
    fn end(&self) {
        self.cpu.store(NO_CPU, Ordering::SeqCst);
    }
}

/// Whether vCPUs run on a CPU.
pub fn runs_vcpus(cpu: u32) -> bool {
    cpu == 0 || boot::params().cpus == Cpus::All
}

/// A seat for a vCPU of a domain that is to be made, on a CPU that has room for what it is promised, with room for it in
/// every table; `None` if there are too many or no memory is left.
pub fn take(dom: &Domain, id: u32) -> Option<Home> {
    let (cpu, terms) = admission::admit(dom, id)?;
    let seated = with_room(cpu, |s| s.take_place(dom, cpu, &terms));
    if seated.is_none() {
        // It took nothing.
        placement::give_back(None, || Some((cpu, terms, 0)));
    }
    seated
}

/// A seat with a CPU for a vCPU that is to move there; `None` if no memory is left.
pub(super) fn take_to_move(cpu: u32) -> Option<Home> {
    let seat = with_room(cpu, CpuSched::take_seat)?;
    Some(Home::new(cpu, seat.0))
}

/// Does something that needs room in a CPU's tables, which get what they lack; `None` if there is none.
fn with_room<T>(cpu: u32, act: impl Fn(&mut CpuSched) -> Result<T, Lack>) -> Option<T> {
    loop {
        let lack = match with(cpu, &act)? {
            Ok(done) => return Some(done),
            Err(lack) => lack,
        };
        // The frame is taken before the lock is: what is fresh may have to be flushed.
        let added = match lack {
            Lack::Seats => {
                let row = new_row(None, SeatRows::PER_ROW)?;
                with(cpu, |s| s.seats.add_row(row))
            }
            Lack::Timers => {
                let row = new_row(TimerSlot::EMPTY, TimerRows::PER_ROW)?;
                with(cpu, |s| s.timers.add_row(row))
            }
            Lack::Slots => {
                let row = new_row(Slot::EMPTY, Queue::PER_ROW)?;
                with(cpu, |s| s.queue.add_row(row))
            }
        };
        if added != Some(true) {
            return None;
        }
    }
}

/// Says whose a vCPU's seat is: its own.
pub(super) fn name(vcpu: &'static Vcpu) {
    with(vcpu.home.cpu(), |s| s.name(vcpu.home.seat(), vcpu));
}

/// Gives a seat back, with what was promised to who had it: a vCPU, if it was known to anybody.
pub(super) fn give(home: &Home, whose: Option<&Vcpu>) {
    placement::give_back(whose, || {
        // It moves no more: that takes the placement's lock.
        let cpu = home.cpu();
        with(cpu, |s| {
            let granted = s.queue.granted(home.place());
            let removed = s.queue.remove(timer::now_ns(), home.place());
            for kind in Kind::ALL {
                s.timers.cancel(kind.of(home.seat()));
            }
            s.leave(home.seat());
            home.end();
            // Whoever calls decides anew anyhow.
            let (_, paid_for_at, _) = removed.ok()?;
            Some((cpu, granted.ok()?, paid_for_at))
        })?
    });
}

/// Gives a seat back that nobody has sat on.
pub(super) fn give_seat(home: &Home) {
    with(home.cpu(), |s| s.leave(home.seat()));
}

/// Gives the seat of a vCPU back that came to nothing.
pub fn give_unused(home: &Home) {
    give(home, None);
}

/// A frame as a row of a table; counted as kept. Where a call asks for it interrupts are let in first: nothing is locked that
/// an interrupt's handler takes.
pub fn new_row<T: Copy>(value: T, count: usize) -> Option<&'static mut [T]> {
    unfinished::breathe();
    let row = record::place_row(value, count);
    KEPT.fetch_add(u64::from(row.is_some()), Ordering::Relaxed);
    row
}
