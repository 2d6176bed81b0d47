//! Graces in every order of the CPUs' steps (crate `interleave`).
//!
//! The toy has one record, which is found at a place. A reader finds it, works, waits for another CPU to flush, and uses it
//! again: an ended record in use by then is the disaster that graces exclude. The real handshake of the flush clock runs
//! beside, with readers and updater as holders of translations, so that each wait serves what others ask.

use super::{Grace, Graces, Hardware};
use crate::atomic::AtomicU32;
use crate::flush::{self, Flushes};
use crate::set::CpuSet;
use interleave::{before_step, every_order};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32 as Plain};

const CPUS: usize = 3;
const KNOWN: u32 = 1;

/// Where a CPU passes graces.
#[derive(Clone, Copy, PartialEq)]
enum Passing {
    /// Between two pieces of work.
    Between,
    /// Also where it waits for a flush: what this design does not do.
    InWaits,
    /// Wherever it looks whether somebody asked, before it has read the newest number: off last instead of first.
    OffLast,
}

struct Toy {
    graces: Graces,
    flushes: Flushes,
    online: CpuSet,
    passing: Passing,
    /// Whether the record is found.
    place: AtomicU32,
    /// Whether it has ended.
    ended: AtomicU32,
    /// Whether it was used after that.
    misused: Plain,
    /// Interrupts that have not been taken, for graces and for flushes.
    called: [AtomicBool; CPUS],
    flushing: [AtomicBool; CPUS],
    interrupts: Plain,
}

impl Toy {
    fn new(cpus: usize, passing: Passing) -> Toy {
        let toy = Toy {
            graces: Graces::new(),
            flushes: Flushes::new(),
            online: (0..cpus as u32).fold(CpuSet::EMPTY, CpuSet::with),
            passing,
            place: AtomicU32::new(KNOWN),
            ended: AtomicU32::new(0),
            misused: Plain::new(0),
            called: [const { AtomicBool::new(false) }; CPUS],
            flushing: [const { AtomicBool::new(false) }; CPUS],
            interrupts: Plain::new(0),
        };
        for cpu in toy.online.iter() {
            toy.flushes.join(cpu, 7);
            toy.flushes.here(cpu, &Cpu(&toy, cpu));
            toy.flushes.joined(cpu, 7);
        }
        toy
    }

    fn use_record(&self) {
        let ended = self.ended.load(SeqCst);
        self.misused.fetch_or(ended, SeqCst);
    }

    /// One piece of work: finds the record, and uses it before and after others were made to flush.
    fn work(&self, me: u32, flushes: bool) {
        if self.place.load(SeqCst) != KNOWN {
            return;
        }
        self.use_record();
        if flushes {
            self.flushes.since(me, self.flushes.clock(), &Cpu(self, me));
        }
        self.use_record();
    }

    fn pass(&self, me: u32) {
        if self.passing == Passing::OffLast {
            let its = self.graces.of(me);
            if its.asked.load(SeqCst) != 0 {
                its.passed.store(self.graces.newest.load(SeqCst), SeqCst);
                its.asked.swap(0, SeqCst);
            }
            return;
        }
        self.graces.pass(me);
    }

    /// Between two pieces of work: interrupts are let in. Says whether one came.
    fn between(&self, me: u32) -> bool {
        before_step();
        let flush = self.flushing[me as usize].swap(false, SeqCst);
        if flush {
            self.flushes.serve(me, &Cpu(self, me));
        }
        let called = self.called[me as usize].swap(false, SeqCst);
        if called {
            self.pass(me);
        }
        flush || called
    }

    /// Waits for interrupts until something is so.
    fn until(&self, me: u32, is_so: impl Fn() -> bool) {
        while !is_so() {
            if !self.between(me) {
                interleave::wait();
            }
        }
    }

    /// Makes the record unknown and begins its grace.
    fn forget(&self, me: u32) -> Grace {
        self.place.swap(0, SeqCst);
        self.graces.begin(me, self.online, &Cpu(self, me))
    }

    /// Ends the record when its grace is over.
    fn end(&self, me: u32, grace: Grace) {
        // Its own work is over.
        self.graces.pass(me);
        self.until(me, || self.graces.is_over(grace, self.online));
        self.ended.store(1, SeqCst);
    }

    /// This CPU holds no translations any more, and so is asked for no flush.
    fn stop_holding(&self, me: u32) {
        self.flushes.here(me, &Cpu(self, me));
        self.flushes.leave(me);
    }
}

/// One of a test's CPUs.
struct Cpu<'a>(&'a Toy, u32);

impl Hardware for Cpu<'_> {
    fn interrupt(&self, cpu: u32) {
        before_step();
        self.0.interrupts.fetch_add(1, SeqCst);
        self.0.called[cpu as usize].store(true, SeqCst);
    }
}

impl flush::Hardware for Cpu<'_> {
    fn flush_translations(&self) {}
    fn interrupt(&self, cpu: u32) {
        before_step();
        self.0.flushing[cpu as usize].store(true, SeqCst);
    }
    fn wait(&self, _: u32) {
        if self.0.passing == Passing::InWaits {
            self.0.pass(self.1);
        }
        interleave::wait();
    }
}

/// A reader that waits for the updater to flush in the middle of its work. How many orders there were, and in how many a
/// record was in use that had ended.
fn raced(passing: Passing) -> (usize, u32) {
    let misused = Plain::new(0);
    let reader = |toy: &Toy| {
        toy.work(1, true);
        toy.until(1, || toy.ended.load(SeqCst) == 1);
        toy.work(1, false);
    };
    let updater = |toy: &Toy| {
        let grace = toy.forget(0);
        toy.end(0, grace);
        toy.stop_holding(0);
    };
    let orders = every_order(
        || Toy::new(2, passing),
        &[&reader, &updater],
        |toy| {
            assert_eq!(toy.ended.load(SeqCst), 1);
            misused.fetch_add(toy.misused.load(SeqCst), SeqCst);
        },
    );
    (orders, misused.load(SeqCst))
}

#[test]
fn no_record_ends_while_a_reader_that_found_it_is_at_work() {
    let (orders, misused) = raced(Passing::Between);
    assert_eq!(misused, 0, "of {orders}");
    assert!(orders > 1000, "{orders}");
}

/// The same with a CPU that takes the wait for a flush for a place between two pieces of work: the test above sees it.
#[test]
fn a_wait_for_a_flush_is_no_grace() {
    let (orders, misused) = raced(Passing::InWaits);
    assert!(misused > 0, "in none of {orders} orders");
}

/// Two readers, one of which never finds anything to flush, while a third CPU ends the record.
#[test]
fn every_cpu_is_waited_for() {
    let reader = |me: u32| {
        move |toy: &Toy| {
            toy.work(me, false);
            toy.between(me);
            toy.work(me, false);
            toy.until(me, || toy.ended.load(SeqCst) == 1);
        }
    };
    let updater = |toy: &Toy| {
        let grace = toy.forget(0);
        toy.end(0, grace);
    };
    let orders = every_order(
        || Toy::new(3, Passing::Between),
        &[&reader(1), &reader(2), &updater],
        |toy| {
            assert_eq!((toy.ended.load(SeqCst), toy.misused.load(SeqCst)), (1, 0));
        },
    );
    assert!(orders > 1000, "{orders}");
}

/// Both CPUs begin graces at the same time, and both see theirs end: who waits passes what the other began.
fn both_begin(passing: Passing) -> usize {
    let act = |me: u32| {
        move |toy: &Toy| {
            let grace = toy.graces.begin(me, toy.online, &Cpu(toy, me));
            toy.pass(me);
            toy.until(me, || toy.graces.is_over(grace, toy.online));
            toy.place.fetch_add(1, SeqCst);
            toy.until(me, || toy.place.load(SeqCst) == KNOWN + 2);
        }
    };
    every_order(|| Toy::new(2, passing), &[&act(0), &act(1)], |_| {})
}

#[test]
fn two_that_wait_for_each_other_both_go_on() {
    let orders = both_begin(Passing::Between);
    assert!(orders > 100, "{orders}");
}

/// The attack on the order within [`Graces::pass`]: a grace that begins between the look and the note is forgotten, and
/// whoever began it waits for ever.
#[test]
fn a_request_is_taken_off_before_the_newest_is_read() {
    let outcome = catch_unwind(AssertUnwindSafe(|| both_begin(Passing::OffLast)));
    assert!(outcome.is_err(), "no order in which a grace was forgotten");
}

#[test]
fn a_cpu_is_interrupted_once_for_many_graces_and_passes_all() {
    let toy = Toy::new(3, Passing::Between);
    let begin = |me| toy.graces.begin(me, toy.online, &Cpu(&toy, me));
    let (first, second) = (begin(0), begin(0));
    assert!(first < second && second < Grace::NEVER);
    // CPUs 1 and 2; and once the third begins one, CPU 0, which was asked already.
    assert_eq!(toy.interrupts.load(SeqCst), 2);
    for cpu in 0..3 {
        assert!(!toy.graces.is_over(first, toy.online));
        assert!(toy.graces.pass(cpu));
        assert!(!toy.graces.pass(cpu), "nobody asked again");
    }
    assert!(toy.graces.is_over(first, toy.online) && toy.graces.is_over(second, toy.online));
    assert!(!toy.graces.is_over(Grace::NEVER, toy.online));
    assert!(
        !toy.graces
            .is_over(Grace::from_word(second.word() + 1), toy.online)
    );
}

#[test]
fn alone_a_cpu_waits_for_itself_only() {
    let toy = Toy::new(1, Passing::Between);
    let grace = toy.forget(0);
    assert!(!toy.graces.is_over(grace, toy.online));
    toy.graces.pass(0);
    assert!(toy.graces.is_over(grace, toy.online));
    assert_eq!(toy.interrupts.load(SeqCst), 0);
}
