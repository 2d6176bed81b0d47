//! The books of the machine as of one moment of each CPU, made in parts while all go on (`sched::Sold`).
//!
//! # Invariants
//! - K1: [`NUMBER`] and [`MADE`] change under the lock of [`MAKERS`], by who is allowed to there.
//! - K2: what is told of a domain as of a number holds while [`MADE`] is that number.
//! - K3: while a domain goes it is in nobody's books: [`GOING`] is not [`GONE`] from before it is found no more until what it
//!   had is [`DEPARTED`]'s. Whoever looked at domains meanwhile begins again.

use crate::account::report;
use crate::arch::smp;
use crate::domain::{Domain, table};
use crate::sync::{Lock, rank};
use ::sched::{CpuBooks, Makers, Overtaken, Sold};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU64, fence};
use frames::DomId;

/// What domains had that are gone.
pub(super) static DEPARTED: Sold = Sold::new();
/// The number of the books that CPUs are at, or go over to.
static NUMBER: AtomicU64 = AtomicU64::new(Makers::FIRST);
/// The number of the books that were made, while nobody makes others; else 0.
static MADE: AtomicU64 = AtomicU64::new(0);
static MAKERS: Lock<Makers, rank::Settings> = Lock::new(Makers::new());
/// How many domains have begun to go, and how many are gone.
static GOING: AtomicU64 = AtomicU64::new(0);
static GONE: AtomicU64 = AtomicU64::new(0);

/// The number that CPUs are at, or go over to.
pub fn number() -> u64 {
    NUMBER.load(Acquire)
}

/// The number of the books to be made.
pub fn coming() -> u64 {
    number().wrapping_add(1)
}

/// A domain is found no more from now on, until [`domain_gone`].
pub fn domain_goes() {
    GOING.fetch_add(1, AcqRel);
}

/// What it had is departed.
pub(super) fn domain_gone(sold: &Sold) {
    DEPARTED.absorb(sold);
    GONE.fetch_add(1, AcqRel);
}

/// Why a part was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// Somebody else has begun to make books.
    Overtaken,
    /// A CPU did not answer.
    NoAnswer,
}

impl From<Overtaken> for Undone {
    fn from(_: Overtaken) -> Undone {
        Undone::Overtaken
    }
}

/// A look at all domains, one after the other.
#[derive(Clone, Copy)]
pub struct Walk {
    /// Who makes it.
    pub ticket: u64,
    /// The domain with the lowest number from this on is next.
    pub next: u16,
    /// As of how many domains that had begun to go.
    going: u64,
    /// What those had that were looked at.
    pub sum: u64,
}

/// How far a walk came.
pub enum Step {
    /// There are more.
    More(Walk),
    /// That was the last. What they had.
    Done(u64),
}

/// Begins to make books, in place of whoever does.
pub fn begin() -> Result<u64, Undone> {
    let (ticket, together) = {
        let mut makers = MAKERS.lock();
        MADE.store(0, Release);
        makers.begin()
    };
    if !together {
        drop(gather(ticket)?);
    }
    Ok(ticket)
}

/// Has all CPUs go over to the next number: what each has, and the number.
pub fn go_over(ticket: u64) -> Result<(u64, impl Iterator<Item = CpuBooks>), Undone> {
    let number = {
        let mut makers = MAKERS.lock();
        let number = makers.go_over(ticket)?;
        NUMBER.store(number, Release);
        number
    };
    Ok((number, gather(ticket)?))
}

/// All CPUs come to the number: what each has. Nothing is locked.
fn gather(ticket: u64) -> Result<impl Iterator<Item = CpuBooks>, Undone> {
    let books = report::collect(smp::online()).map_err(|_| Undone::NoAnswer)?;
    MAKERS.lock().are_together(ticket)?;
    Ok(books)
}

/// The books are made.
pub fn made(ticket: u64) -> Result<(), Undone> {
    let makers = MAKERS.lock();
    makers.check(ticket)?;
    MADE.store(number(), Release);
    Ok(())
}

/// The last books, and what a domain had by then; `None` while others are made, or none were.
pub fn of(dom: &Domain) -> Option<(u64, u64)> {
    let number = MADE.load(Acquire);
    let had = dom.sold.at(number);
    // What was read lies before the second look.
    fence(Acquire);
    (number != 0 && MADE.load(Relaxed) == number).then_some((number, had))
}

/// What domains had that are gone, by the last books.
pub fn departed(number: u64) -> u64 {
    DEPARTED.at(number)
}

impl Walk {
    /// From the first domain on.
    pub fn begin(ticket: u64) -> Walk {
        // What is gone before this is read is departed when that is looked at.
        Walk {
            ticket,
            next: 0,
            going: GONE.load(Acquire),
            sum: 0,
        }
    }

    /// As a walk was left, by who was told so.
    pub fn resume(ticket: u64, next_and_going: u64, sum: u64) -> Walk {
        Walk {
            ticket,
            next: next_and_going as u16,
            going: next_and_going >> 16,
            sum,
        }
    }

    /// What is to be told for [`Self::resume`].
    pub fn place(&self) -> u64 {
        self.going << 16 | u64::from(self.next)
    }

    /// Looks at domains for as long as there is room, and at last at those that are gone.
    pub fn go_on(
        mut self,
        mut has_room: impl FnMut() -> bool,
        look: impl Fn(&Sold) -> u64,
    ) -> Result<Step, Undone> {
        MAKERS.lock().check(self.ticket)?;
        loop {
            if !has_room() {
                return Ok(Step::More(self));
            }
            let found = table::next_from(DomId(self.next));
            self.sum = self
                .sum
                .wrapping_add(look(found.map_or(&DEPARTED, |dom| &dom.sold)));
            match found {
                Some(dom) => self.next = dom.id.0.saturating_add(1),
                // One that is going is in nobody's, and one that has gone may be in both.
                None if GOING.load(Acquire) != self.going => {
                    return Ok(Step::More(Walk::begin(self.ticket)));
                }
                None => return Ok(Step::Done(self.sum)),
            }
        }
    }
}
