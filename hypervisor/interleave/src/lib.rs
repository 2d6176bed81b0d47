//! For the host tests of crates whose data several CPUs change at once: runs two or three threads step by step in every
//! order with at most a few switches away from a thread that could have gone on. A step is one operation on one of the
//! atomics here, which stand for those of `core` in such tests.
//!
//! Threads are real, but only the one whose turn it is runs; orders are enumerated depth first. Memory is sequentially
//! consistent here, which x86 is for locked operations: where plain loads and stores matter, the code under test must
//! argue for itself.

#![forbid(unsafe_code)]

mod atomic;

pub use atomic::{AtomicU32, AtomicU64};

use std::cell::RefCell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::vec::Vec;

/// Switches away from a thread that could have gone on: races known to kernels need one or two.
const PREEMPTIONS_OF_TWO: usize = 3;
const PREEMPTIONS_OF_MORE: usize = 2;
/// Turns after which threads that wait for one another are taken to wait for ever.
const FOR_EVER: usize = 10_000;

std::thread_local! {
    static ME: RefCell<Option<(Arc<Baton>, usize)>> = const { RefCell::new(None) };
}

/// Called before each step; a thread that is in no schedule goes on at once.
pub fn before_step() {
    ME.with_borrow(|me| {
        if let Some((baton, id)) = me {
            baton.pass(*id, false);
        }
    });
}

/// Called where a thread can do nothing but wait for the others: the next one goes on.
///
/// # Panics
/// When all have waited for so long that they will wait for ever.
pub fn wait() {
    ME.with_borrow(|me| {
        if let Some((baton, id)) = me {
            baton.wait(*id);
        }
    });
}

/// Does something as part of the step before: no other thread runs meanwhile.
pub fn in_one_step<T>(act: impl FnOnce() -> T) -> T {
    let me = ME.take();
    let outcome = act();
    ME.set(me);
    outcome
}

struct Turns {
    turn: usize,
    done: Vec<bool>,
    preemptions: usize,
    /// How often a thread had to wait.
    waits: usize,
    /// Choices taken, and how many there were.
    path: Vec<(usize, usize)>,
    /// Choices to repeat.
    prefix: Vec<usize>,
}

impl Turns {
    fn choose(&mut self, options: &[usize]) -> usize {
        let at = self.path.len();
        let choice = self.prefix.get(at).copied().unwrap_or(0);
        self.path.push((choice, options.len()));
        options[choice]
    }
}

struct Baton {
    turns: Mutex<Turns>,
    moved: Condvar,
}

impl Baton {
    /// Decides who goes next, and waits until it is `me` again (unless `me` is done).
    fn pass(&self, me: usize, done: bool) {
        let mut turns = self.turns.lock().unwrap();
        turns.done[me] = done;
        let others = (0..turns.done.len()).filter(|&id| id != me && !turns.done[id]);
        let mut options: Vec<usize> = others.collect();
        if !done {
            let few = turns.done.len() <= 2;
            if turns.preemptions
                == if few {
                    PREEMPTIONS_OF_TWO
                } else {
                    PREEMPTIONS_OF_MORE
                }
            {
                options.clear();
            }
            options.insert(0, me);
        }
        if options.is_empty() {
            return;
        }
        let next = turns.choose(&options);
        turns.preemptions += usize::from(!done && next != me);
        turns.turn = next;
        if next != me {
            self.moved.notify_all();
            if !done {
                self.until_turn_of(me, turns);
            }
        }
    }

    fn until_turn_of(&self, me: usize, turns: MutexGuard<'_, Turns>) {
        drop(
            self.moved
                .wait_while(turns, |turns| turns.turn != me)
                .unwrap(),
        );
    }

    /// Gives the turn to the next thread that is not done. No choice and no preemption: it would only lengthen the wait.
    fn wait(&self, me: usize) {
        let mut turns = self.turns.lock().unwrap();
        turns.waits += 1;
        let waits = turns.waits;
        let count = turns.done.len();
        let next = (1..count)
            .map(|step| (me + step) % count)
            .find(|&id| !turns.done[id]);
        if let Some(next) = next.filter(|_| waits < FOR_EVER) {
            turns.turn = next;
            self.moved.notify_all();
            self.until_turn_of(me, turns);
            return;
        }
        drop(turns);
        assert!(
            waits < FOR_EVER,
            "the threads wait for one another for ever"
        );
    }
}

/// What one thread does to the shared state.
pub type Act<'a, S> = &'a (dyn Fn(&S) + Sync);

/// Runs `acts` on a fresh state in every order, and `check` after each. Returns how many orders there were.
///
/// # Panics
/// When one of them does, or `check`.
pub fn every_order<S: Sync>(
    fresh: impl Fn() -> S,
    acts: &[Act<'_, S>],
    check: impl Fn(&S),
) -> usize {
    let mut prefix = Vec::new();
    let mut orders = 0;
    loop {
        let state = fresh();
        let path = one_order(&state, acts, prefix);
        check(&state);
        orders += 1;
        let Some(last) = path.iter().rposition(|&(choice, of)| choice + 1 < of) else {
            return orders;
        };
        prefix = path[..last].iter().map(|&(choice, _)| choice).collect();
        prefix.push(path[last].0 + 1);
    }
}

fn one_order<S: Sync>(state: &S, acts: &[Act<'_, S>], prefix: Vec<usize>) -> Vec<(usize, usize)> {
    let all: Vec<usize> = (0..acts.len()).collect();
    let mut turns = Turns {
        turn: 0,
        done: all.iter().map(|_| false).collect(),
        preemptions: 0,
        waits: 0,
        path: Vec::new(),
        prefix,
    };
    turns.turn = turns.choose(&all);
    let baton = Arc::new(Baton {
        turns: Mutex::new(turns),
        moved: Condvar::new(),
    });
    std::thread::scope(|scope| {
        for (id, act) in acts.iter().enumerate() {
            let baton = baton.clone();
            scope.spawn(move || {
                let turns = baton.turns.lock().unwrap();
                drop(
                    baton
                        .moved
                        .wait_while(turns, |turns| turns.turn != id)
                        .unwrap(),
                );
                ME.set(Some((baton.clone(), id)));
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(state)));
                ME.set(None);
                // A thread that failed must still hand on the baton, or the others wait for ever.
                baton.pass(id, true);
                if let Err(cause) = outcome {
                    std::panic::resume_unwind(cause);
                }
            });
        }
    });
    let turns = baton.turns.lock().unwrap();
    turns.path.clone()
}
