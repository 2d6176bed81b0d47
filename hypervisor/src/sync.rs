//! Locks, and the order in which they are taken.
//!
//! Every lock has a [`rank`], and a CPU takes locks inwards only: while it holds one, none of the same rank or of one
//! further out. Two of one rank are taken by [`lock_pair`] alone, in the order that the rank's paragraph names. So no CPUs
//! wait for one another in a circle (`cpus::order`). The table, with a sentence on why each stands where it does, is
//! `docs/locks.md`; a new lock gets a row there and in [`rank`].
//!
//! # Invariants
//! - J1: locks are taken in the order of their ranks.
//! - J2: with a lock held a CPU waits for nothing but locks further in: for no other CPU's flush or call, for no
//!   interrupt, and it does not go back to a guest ([`assert_none`] is said in each of those). Who waits for a lock has
//!   interrupts off and serves nobody, because it may hold what it found in page tables (`guest_memory` M2): the holder of
//!   that lock must not wait for it in turn.
//! - J3: what an NMI or a machine check runs takes no lock.
//!
//! A checked build (`cargo xtask build --checked`) notes what each CPU holds, and crashes with the names of both locks and
//! with who took them where J1, J2 or J3 is broken. In any other build a lock is a spin lock and nothing more. Nothing is
//! checked while there is only the boot stack, nor while a crash is reported.
//!
//! Locks wait without fairness. They are held for short pieces of work, so that this has cost nothing that was seen.

use crate::arch::percpu;
use crate::debug::crash;
use ::cpus::order::{Held, RANKS};
use core::cell::Cell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::panic::Location;
use spin::mutex::{SpinMutex, SpinMutexGuard};

/// Whether this build checks the order.
pub const CHECKED: bool = cfg!(debug_assertions);

/// A lock's place in the order.
pub trait Rank {
    /// 0 for the outermost.
    const NUMBER: u8;
}

/// The ranks, outermost first.
macro_rules! ranks {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Who stands where: outermost first.
        pub mod rank {
            /// The places as numbers.
            #[repr(u8)]
            enum Place { $($name,)* }

            $($(#[$doc])*
            pub struct $name;

            impl super::Rank for $name {
                const NUMBER: u8 = Place::$name as u8;
            })*

            /// What they are called.
            pub(super) const NAMES: &[&str] = &[$(stringify!($name),)*];
        }
    };
}

ranks! {
    /// One call to other CPUs at a time (`arch::smp::call`). Its holder waits for the others, who serve: the one
    /// exception from J2, and so the outermost.
    Call,
    /// Which life a domain is in, and which vCPUs it has.
    BringUp,
    /// A link to one of ring 0's own ends.
    EndLink,
    /// A domain's grant table.
    Grants,
    /// A domain's event channels. Pairs: the lower domain number first (`event::links`).
    Events,
    /// What a vCPU left unfinished of a validation.
    Kept,
    /// Small settings that are copied in and out: permissions, memory map, affinity, handle, anchors, who makes the books.
    Settings,
    /// A domain's count of frames grows.
    Growth,
    /// A domain's frames of small pieces.
    Pieces,
    /// Device interrupts.
    Pirq,
    /// Tables of message-signalled interrupts.
    MsiTables,
    /// Registers of interrupt controllers.
    IoApic,
    /// Addresses for devices' registers.
    DeviceMap,
    /// I/O ports that are written in pairs.
    Ports,
    /// Frames taken while booting.
    BootMemory,
    /// Which frames a domain owns.
    Owned,
    /// Free frames.
    Free,
    /// What is promised of all CPUs.
    Placement,
    /// A CPU's queue of vCPUs and timers.
    Queue,
    /// A vCPU's run state.
    RunState,
    /// A vCPU's time, where the guest reads it.
    Time,
    /// The longest sections seen.
    Sections,
    /// How often the control domain was built anew.
    Restarts,
    /// What a CPU that is being started lacks.
    Lacks,
    /// A message of the log.
    Log,
    /// The serial port.
    Console,
    /// The boot heap.
    Heap,
}

const _: () = assert!(rank::NAMES.len() <= RANKS as usize);

fn name(rank: u8) -> &'static str {
    rank::NAMES.get(usize::from(rank)).unwrap_or(&"?")
}

/// A value that one CPU at a time works with.
pub struct Lock<T, R> {
    inner: SpinMutex<T>,
    rank: PhantomData<fn() -> R>,
}

impl<T, R: Rank> Lock<T, R> {
    /// Guards a value.
    pub const fn new(value: T) -> Self {
        Lock {
            inner: SpinMutex::new(value),
            rank: PhantomData,
        }
    }

    /// Waits until nobody else has it.
    #[inline(always)]
    #[track_caller]
    pub fn lock(&self) -> Guard<'_, T, R> {
        note::<R>(Held::take);
        Guard {
            inner: self.inner.lock(),
            _held: Noted(PhantomData),
        }
    }

    /// Takes it unless another has it. Where the order allows it only, since whoever tries will try again.
    #[inline(always)]
    #[track_caller]
    pub fn try_lock(&self) -> Option<Guard<'_, T, R>> {
        let inner = self.inner.try_lock()?;
        note::<R>(Held::take);
        Some(Guard {
            inner,
            _held: Noted(PhantomData),
        })
    }
}

impl<T: Default, R: Rank> Default for Lock<T, R> {
    fn default() -> Self {
        Lock::new(T::default())
    }
}

/// Takes two locks of one rank, in the order that the caller names (J1).
#[inline(always)]
#[track_caller]
pub fn lock_pair<'a, T, R: Rank>(
    first: &'a Lock<T, R>,
    second: &'a Lock<T, R>,
) -> (Guard<'a, T, R>, Guard<'a, T, R>) {
    let first = first.lock();
    note::<R>(Held::take_second);
    let second = Guard {
        inner: second.inner.lock(),
        _held: Noted(PhantomData),
    };
    (first, second)
}

/// The value of a [`Lock`] that this CPU has.
pub struct Guard<'a, T, R: Rank> {
    inner: SpinMutexGuard<'a, T>,
    _held: Noted<R>,
}

impl<T, R: Rank> Deref for Guard<'_, T, R> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T, R: Rank> DerefMut for Guard<'_, T, R> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// That the CPU has a lock of this rank is noted.
struct Noted<R: Rank>(PhantomData<fn() -> R>);

impl<R: Rank> Drop for Noted<R> {
    #[inline(always)]
    fn drop(&mut self) {
        if CHECKED && let Some(here) = here() {
            here.held.set(here.held.get().give(R::NUMBER));
        }
    }
}

/// What this CPU holds, and who took it: of use to a checked build only.
#[derive(Default)]
pub struct OnThisCpu {
    held: Cell<Held>,
    /// By rank, who took the last one of it.
    takers: [Cell<Option<&'static Location<'static>>>; if CHECKED { RANKS as usize } else { 0 }],
}

/// This CPU's, where order is looked at.
fn here() -> Option<&'static OnThisCpu> {
    if crash::in_progress() {
        return None;
    }
    percpu::number().map(|_| &percpu::current().locks)
}

/// Notes that this CPU is about to wait for a lock, if it may.
#[inline(always)]
#[track_caller]
fn note<R: Rank>(take: fn(Held, u8) -> Result<Held, u8>) {
    if CHECKED {
        note_checked(R::NUMBER, take, Location::caller());
    }
}

fn note_checked(
    rank: u8,
    take: fn(Held, u8) -> Result<Held, u8>,
    taker: &'static Location<'static>,
) {
    let Some(here) = here() else {
        return;
    };
    if percpu::is_on_deaf_stack() {
        panic!(
            "locks: {} is taken at {taker} by what an NMI or a machine check runs",
            name(rank)
        );
    }
    match take(here.held.get(), rank) {
        Ok(held) => here.held.set(held),
        Err(inner) => panic!(
            "locks: {} is taken at {taker} while {} is held, taken at {}",
            name(rank),
            name(inner),
            here.taker(inner)
        ),
    }
    if let Some(place) = here.takers.get(usize::from(rank)) {
        place.set(Some(taker));
    }
}

/// This CPU holds nothing, where `what` is about to happen (J2).
#[inline(always)]
#[track_caller]
pub fn assert_none(what: &str) {
    if CHECKED && let Some(here) = here() {
        here.assert_none(here.held.get(), what);
    }
}

/// As [`assert_none`], where another CPU's flush is about to be waited for: who waits for [`rank::Call`] serves, so that its
/// holder may.
#[inline(always)]
#[track_caller]
pub fn assert_none_but_call(what: &str) {
    if CHECKED && let Some(here) = here() {
        here.assert_none(here.held.get().give(rank::Call::NUMBER), what);
    }
}

impl OnThisCpu {
    #[track_caller]
    fn assert_none(&self, held: Held, what: &str) {
        if let Some(inner) = held.innermost() {
            panic!(
                "locks: {what} at {} while {} is held, taken at {}",
                Location::caller(),
                name(inner),
                self.taker(inner)
            );
        }
    }

    fn taker(&self, rank: u8) -> &'static Location<'static> {
        let taken = self.takers.get(usize::from(rank)).and_then(Cell::get);
        taken.unwrap_or(Location::caller())
    }
}
