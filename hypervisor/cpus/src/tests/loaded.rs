//! Loading and standing still, in every order of the CPUs' steps (crate `interleave`).
//!
//! The toy has one vCPU and its queue. What a lock excludes is one step here. A CPU touches the vCPU's state in two steps;
//! whoever finds it still touches it, too: both at once is the disaster.

use super::{NOWHERE, is_still, leave, take};
use crate::atomic::AtomicU32;
use interleave::{before_step, every_order, in_one_step};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::SeqCst;

struct Toy {
    /// Pauses in force; changed and looked at under the queue's lock.
    paused: AtomicU32,
    loaded_on: AtomicU32,
    /// Whether somebody touches its state.
    touched: AtomicU32,
    /// Whether it was found still.
    found: AtomicU32,
}

impl Toy {
    fn new() -> Toy {
        Toy {
            paused: AtomicU32::new(0),
            loaded_on: AtomicU32::new(NOWHERE),
            touched: AtomicU32::new(0),
            found: AtomicU32::new(0),
        }
    }

    /// Something done under the lock of the queue.
    fn locked<T>(&self, act: impl FnOnce() -> T) -> T {
        before_step();
        in_one_step(act)
    }

    fn touch(&self) {
        assert_eq!(
            self.touched.swap(1, SeqCst),
            0,
            "two have its state in hand"
        );
        self.touched.store(0, SeqCst);
    }

    /// One decision and what follows, on a CPU that has the vCPU loaded or not.
    fn decide(&self, me: u32, takes_late: bool) {
        let chosen = self.locked(|| {
            let chosen = self.paused.load(SeqCst) == 0;
            chosen && (takes_late || take(&self.loaded_on, me))
        });
        let had = self.loaded_on.load(SeqCst) == me;
        if chosen && takes_late {
            take(&self.loaded_on, me);
        }
        if chosen || had {
            self.touch();
        }
        if !chosen && had {
            leave(&self.loaded_on);
        }
    }
}

fn paused_and_looked_at(takes_late: bool) -> usize {
    let runner = |toy: &Toy| {
        for _ in 0..3 {
            toy.decide(1, takes_late);
        }
        // It is off at the latest when all pauses are in force.
        while toy.found.load(SeqCst) == 0 {
            toy.decide(1, takes_late);
            interleave::wait();
        }
    };
    let control = |toy: &Toy| {
        toy.locked(|| toy.paused.fetch_add(1, SeqCst));
        while !is_still(&toy.loaded_on) {
            interleave::wait();
        }
        toy.touch();
        toy.found.store(1, SeqCst);
        toy.locked(|| toy.paused.fetch_sub(1, SeqCst));
    };
    every_order(Toy::new, &[&runner, &control], |toy| {
        assert_eq!(toy.found.load(SeqCst), 1);
    })
}

#[test]
fn what_stands_still_is_in_nobodys_hands() {
    let orders = paused_and_looked_at(false);
    assert!(orders > 100, "{orders}");
}

/// Taken after the lock is released, a vCPU may be paused and found nowhere in between: the test above sees it.
#[test]
fn what_is_chosen_is_taken_under_the_same_lock() {
    let outcome = catch_unwind(AssertUnwindSafe(|| paused_and_looked_at(true)));
    assert!(outcome.is_err(), "no order in which both had it");
}

#[test]
fn a_vcpu_is_on_one_cpu_at_a_time() {
    let word = AtomicU32::new(NOWHERE);
    assert!(is_still(&word) && take(&word, 3) && !is_still(&word));
    assert!(take(&word, 3), "it is there already");
    assert!(!take(&word, 4));
    leave(&word);
    assert!(take(&word, 4));
}
