//! The handshake, in every order of the CPUs' steps (crate `interleave`).
//!
//! The toy has one entry a CPU owns, which names frame `LIVE` at first, and one translation a CPU and entry. A CPU
//! follows a translation in two steps, with no request served in between, as ring 0 does: a frame that its owner has put
//! to another use by then is the disaster that H1 excludes.

use super::{Flushes, Hardware, LAGGING};
use crate::atomic::AtomicU32;
use interleave::{before_step, every_order, in_one_step};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32 as Plain};
use std::vec::Vec;

const CPUS: usize = 3;
const EMPTY: u32 = 0;
const LIVE: u32 = 1;

struct Toy {
    flushes: Flushes,
    /// Entry of each CPU: `LIVE` or `EMPTY`.
    entries: [AtomicU32; CPUS],
    /// Whether what the entry named is something else by now.
    reused: [AtomicU32; CPUS],
    /// Translations: by CPU, then by entry. A CPU's own.
    cached: [[Plain; CPUS]; CPUS],
    /// Interrupts that have not been taken.
    pending: [AtomicBool; CPUS],
    interrupts: Plain,
    /// Whether CPUs take translations in before anybody asks for them, as soon as they have flushed.
    speculates: bool,
}

impl Toy {
    fn new() -> Toy {
        Toy::at(1)
    }

    fn at(clock: u32) -> Toy {
        Toy {
            flushes: Flushes::starting_at(clock),
            entries: [const { AtomicU32::new(LIVE) }; CPUS],
            reused: [const { AtomicU32::new(0) }; CPUS],
            cached: [const { [const { Plain::new(EMPTY) }; CPUS] }; CPUS],
            pending: [const { AtomicBool::new(false) }; CPUS],
            interrupts: Plain::new(0),
            speculates: false,
        }
    }

    /// With `CPUS` that hold translations from the beginning.
    fn with_holders(holders: &[u32]) -> Toy {
        let toy = Toy::new();
        for &cpu in holders {
            toy.begin(cpu);
        }
        toy
    }

    fn begin(&self, cpu: u32) {
        self.flushes.join(cpu, 7);
        self.flushes.here(cpu, &Cpu(self));
        self.flushes.joined(cpu, 7);
    }

    fn end(&self, cpu: u32) {
        self.flushes.here(cpu, &Cpu2(self, cpu));
        self.flushes.leave(cpu);
    }

    /// CPU `cpu` uses what entry `of` names, through its translation if it has one.
    fn touch(&self, cpu: u32, of: usize) {
        let cached = &self.cached[cpu as usize][of];
        if cached.load(SeqCst) == EMPTY {
            cached.store(self.entries[of].load(SeqCst), SeqCst);
        }
        if cached.load(SeqCst) == LIVE {
            assert_eq!(self.reused[of].load(SeqCst), 0, "H1");
        }
    }

    /// Where interrupts are open. Says whether one came.
    fn window(&self, cpu: u32) -> bool {
        before_step();
        let came = self.pending[cpu as usize].swap(false, SeqCst);
        if came {
            self.flushes.serve(cpu, &Cpu2(self, cpu));
        }
        came
    }

    /// Waits for interrupts until some CPUs have put what they had to another use.
    fn idle_until_reused(&self, cpu: u32, of: &[usize]) {
        while of.iter().any(|&of| self.reused[of].load(SeqCst) == 0) {
            if !self.window(cpu) {
                interleave::wait();
            }
        }
    }

    /// CPU `cpu` takes its entry away and puts what it named to another use.
    fn reuse(&self, cpu: u32) {
        self.entries[cpu as usize].swap(EMPTY, SeqCst);
        self.flushes
            .since(cpu, self.flushes.clock(), &Cpu2(self, cpu));
        self.reused[cpu as usize].store(1, SeqCst);
    }
}

/// Before a test's threads begin: CPUs that flush hold nothing yet.
struct Cpu<'a>(&'a Toy);
impl Hardware for Cpu<'_> {
    fn flush_translations(&self) {}
    fn interrupt(&self, cpu: u32) {
        self.0.pending[cpu as usize].store(true, SeqCst);
    }
    fn wait(&self, _: u32) {
        panic!("nobody to wait for");
    }
}

/// One of a test's CPUs.
struct Cpu2<'a>(&'a Toy, u32);
impl Hardware for Cpu2<'_> {
    fn flush_translations(&self) {
        before_step();
        for cached in &self.0.cached[self.1 as usize] {
            cached.store(EMPTY, SeqCst);
        }
        if self.0.speculates {
            let cached = &self.0.cached[self.1 as usize][0];
            cached.store(self.0.entries[0].load(SeqCst), SeqCst);
        }
    }
    fn interrupt(&self, cpu: u32) {
        before_step();
        self.0.interrupts.fetch_add(1, SeqCst);
        self.0.pending[cpu as usize].store(true, SeqCst);
    }
    fn wait(&self, _: u32) {
        interleave::wait();
    }
}

#[test]
fn nothing_is_reused_while_another_cpu_holds_a_translation() {
    let owner = |toy: &Toy| toy.reuse(0);
    let user = |toy: &Toy| {
        for _ in 0..2 {
            toy.touch(1, 0);
            toy.window(1);
        }
        toy.end(1);
    };
    let orders = every_order(
        || Toy::with_holders(&[0, 1]),
        &[&owner, &user],
        |toy| {
            assert_eq!(toy.reused[0].load(SeqCst), 1);
        },
    );
    assert!(orders > 100, "{orders}");
}

/// The attack: a CPU flushes of its own accord, and before it has noted when, takes a translation in again that goes
/// meanwhile. Its note must not be newer than that.
#[test]
fn a_flush_counts_from_before_it_began() {
    let fresh = || Toy {
        speculates: true,
        ..Toy::with_holders(&[0, 1])
    };
    let owner = |toy: &Toy| toy.reuse(0);
    let user = |toy: &Toy| {
        toy.flushes.here(1, &Cpu2(toy, 1));
        toy.touch(1, 0);
        toy.window(1);
        toy.touch(1, 0);
        toy.end(1);
    };
    every_order(fresh, &[&owner, &user], |toy| {
        assert_eq!(toy.reused[0].load(SeqCst), 1);
    });
}

#[test]
fn two_cpus_that_wait_for_each_other_both_go_on() {
    let act = |me: u32| {
        move |toy: &Toy| {
            toy.touch(me, 1 - me as usize);
            toy.reuse(me);
            toy.touch(me, 1 - me as usize);
            toy.window(me);
            toy.end(me);
        }
    };
    let orders = every_order(
        || Toy::with_holders(&[0, 1]),
        &[&act(0), &act(1)],
        |toy| {
            assert!(toy.reused[..2].iter().all(|r| r.load(SeqCst) == 1));
        },
    );
    assert!(orders > 100, "{orders}");
}

/// Who flushes itself before it asks is in nobody's way; who has no need to, is.
#[test]
fn two_cpus_that_only_ask_the_other_both_go_on() {
    let act = |me: u32| {
        move |toy: &Toy| {
            toy.touch(me, 1 - me as usize);
            toy.entries[me as usize].swap(EMPTY, SeqCst);
            toy.flushes.others_of(me, 7, &Cpu2(toy, me));
            toy.reused[me as usize].store(1, SeqCst);
            // Whoever still asks finds it in its idle loop.
            toy.idle_until_reused(me, &[1 - me as usize]);
            toy.touch(me, 1 - me as usize);
        }
    };
    let fresh = || Toy::with_holders(&[0, 1]);
    let orders = every_order(fresh, &[&act(0), &act(1)], |_| {});
    assert!(orders > 100, "{orders}");
}

#[test]
fn a_cpu_that_joins_meanwhile_sees_the_new_entry_or_is_asked() {
    let owner = |toy: &Toy| toy.reuse(0);
    let newcomer = |toy: &Toy| {
        toy.flushes.join(1, 7);
        // From here on its root is loaded, and translations may come.
        toy.touch(1, 0);
        toy.flushes.here(1, &Cpu2(toy, 1));
        toy.flushes.joined(1, 7);
        toy.touch(1, 0);
        toy.window(1);
        toy.end(1);
    };
    every_order(
        || Toy::with_holders(&[0]),
        &[&owner, &newcomer],
        |toy| {
            assert_eq!(toy.reused[0].load(SeqCst), 1);
        },
    );
}

#[test]
fn a_request_is_not_taken_for_one_that_was_served_before() {
    // Two CPUs ask the third, whose answer to the first may come just as the second asks.
    let ask = |me: u32| move |toy: &Toy| toy.reuse(me);
    let asked = |toy: &Toy| {
        toy.touch(2, 0);
        toy.touch(2, 1);
        toy.idle_until_reused(2, &[0, 1]);
    };
    every_order(
        || Toy::with_holders(&[2]),
        &[&ask(0), &ask(1), &asked],
        |toy| assert!(toy.reused[..2].iter().all(|r| r.load(SeqCst) == 1)),
    );
}

#[test]
fn nobody_is_asked_who_holds_nothing_or_has_flushed() {
    let toy = Toy::with_holders(&[0, 1]);
    let old = toy.flushes.clock();
    toy.flushes.here(0, &Cpu2(&toy, 0));
    toy.flushes.here(1, &Cpu2(&toy, 1));
    toy.flushes.since(0, old, &Cpu2(&toy, 0));
    toy.end(1);
    toy.flushes.since(0, toy.flushes.clock(), &Cpu2(&toy, 0));
    assert_eq!(toy.interrupts.load(SeqCst), 0);
}

#[test]
fn a_domains_flush_asks_only_cpus_with_that_domain() {
    let toy = Toy::with_holders(&[0, 1]);
    toy.flushes.join(2, 9);
    toy.flushes.joined(2, 9);
    let asked: Vec<u32> = in_one_step(|| {
        struct Note<'a>(&'a Toy, std::cell::RefCell<Vec<u32>>);
        impl Hardware for Note<'_> {
            fn flush_translations(&self) {}
            fn interrupt(&self, cpu: u32) {
                self.1.borrow_mut().push(cpu);
                self.0.flushes.serve(cpu, &Cpu2(self.0, cpu));
            }
            fn wait(&self, cpu: u32) {
                panic!("{cpu} has answered");
            }
        }
        let note = Note(&toy, std::cell::RefCell::default());
        toy.flushes.others_of(0, 7, &note);
        note.1.into_inner()
    });
    assert_eq!(asked, [1]);
}

#[test]
fn who_flushes_is_told_for_whom_and_when_that_is_over() {
    let toy = Toy::with_holders(&[0, 1]);
    let said = in_one_step(|| {
        struct Asks<'a>(&'a Toy, &'a std::cell::RefCell<Vec<u32>>);
        struct Serves<'a>(&'a std::cell::RefCell<Vec<u32>>);
        impl Hardware for Asks<'_> {
            fn flush_translations(&self) {}
            fn interrupt(&self, cpu: u32) {
                assert!(self.0.flushes.serve(cpu, &Serves(self.1)));
            }
            fn wait(&self, cpu: u32) {
                panic!("{cpu} has answered");
            }
            fn asks_for(&self) -> u32 {
                77
            }
        }
        impl Hardware for Serves<'_> {
            fn flush_translations(&self) {
                self.0.borrow_mut().push(0);
            }
            fn interrupt(&self, cpu: u32) {
                panic!("{cpu} is asked by who serves");
            }
            fn wait(&self, _: u32) {}
            fn serves(&self, whom: u32) {
                self.0.borrow_mut().push(whom);
            }
            fn served(&self) {
                self.0.borrow_mut().push(1);
            }
        }
        let said = std::cell::RefCell::default();
        toy.flushes
            .since(0, toy.flushes.clock(), &Asks(&toy, &said));
        said.into_inner()
    });
    assert_eq!(said, [77, 0, 1]);
}

#[test]
fn a_holder_that_never_flushes_is_asked_before_the_clock_comes_round() {
    let toy = Toy::at(LAGGING - 2);
    toy.begin(0);
    assert!(!toy.pending[0].load(SeqCst));
    // CPU 1's flush is the one at a multiple, and CPU 0's was two ticks ago: not yet.
    toy.flushes.here(1, &Cpu2(&toy, 1));
    assert!(!toy.pending[0].load(SeqCst));
    toy.flushes.clock.store(2 * LAGGING - 1, SeqCst);
    toy.flushes.here(1, &Cpu2(&toy, 1));
    assert!(toy.pending[0].load(SeqCst), "H4");
}

#[test]
fn readings_are_compared_across_the_wrap() {
    let toy = Toy::at(u32::MAX - 1);
    toy.begin(0);
    let stamp = toy.flushes.clock();
    assert!(toy.flushes.is_stale(0, stamp));
    toy.flushes.here(0, &Cpu2(&toy, 0));
    assert_eq!(toy.flushes.clock(), 0);
    assert!(!toy.flushes.is_stale(0, stamp));
    assert!(toy.flushes.is_stale(0, 0));
}
