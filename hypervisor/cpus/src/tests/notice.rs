//! A vCPU that sleeps and wakes while two CPUs send to it, in every order of their steps.

use super::Notice;
use crate::atomic::AtomicU32;
use interleave::{every_order, wait};
use std::sync::atomic::Ordering::SeqCst;

/// A vCPU as its senders see it.
struct Toy {
    notice: Notice,
    /// Something waits for it.
    pending: AtomicU32,
    asleep: AtomicU32,
    /// Interrupts that its CPU has not taken.
    interrupted: AtomicU32,
    /// Senders that are done.
    done: AtomicU32,
}

impl Toy {
    fn new() -> Toy {
        let zero = || AtomicU32::new(0);
        Toy {
            notice: Notice::new(),
            pending: zero(),
            asleep: zero(),
            interrupted: zero(),
            done: zero(),
        }
    }

    /// As `events::raise`: who finds it pending leaves the rest to who set it.
    fn send(&self) {
        if self.pending.swap(1, SeqCst) == 0 && self.notice.give() {
            self.asleep.store(0, SeqCst);
            self.interrupted.store(1, SeqCst);
        }
        self.done.fetch_add(1, SeqCst);
    }

    fn is_over(&self, senders: u32) -> bool {
        self.done.load(SeqCst) == senders && self.pending.load(SeqCst) == 0
    }

    /// The vCPU blocks: said to sleep, then looked at again.
    fn sleep(&self, senders: u32) {
        self.asleep.store(1, SeqCst);
        self.notice.take();
        if self.pending.load(SeqCst) != 0 {
            self.asleep.store(0, SeqCst);
        }
        while self.asleep.load(SeqCst) != 0 && !self.is_over(senders) {
            wait();
        }
    }

    /// The way out of ring 0: delivers what waits.
    fn leave(&self) {
        self.notice.take();
        if self.pending.load(SeqCst) != 0 {
            self.pending.swap(0, SeqCst);
        }
    }

    /// The guest runs until an interrupt comes.
    fn run(&self, senders: u32) {
        while self.interrupted.swap(0, SeqCst) == 0 && !self.is_over(senders) {
            wait();
        }
    }
}

/// Runs `vcpu` until everything sent was seen; who waits for ever has missed something.
fn nothing_is_missed(vcpu: impl Fn(&Toy, u32) + Sync) {
    let send = |toy: &Toy| toy.send();
    for senders in 1..=2u32 {
        let until_seen = |toy: &Toy| {
            while !toy.is_over(senders) {
                vcpu(toy, senders);
            }
        };
        let acts: [interleave::Act<'_, Toy>; 3] = [&until_seen, &send, &send];
        let acts = &acts[..=senders as usize];
        let orders = every_order(Toy::new, acts, |toy| {
            assert_eq!(toy.pending.load(SeqCst), 0);
        });
        assert!(orders > 10, "{orders}");
    }
}

#[test]
fn no_event_finds_a_vcpu_asleep_and_leaves_it_so() {
    nothing_is_missed(|toy, senders| {
        toy.sleep(senders);
        toy.leave();
    });
}

#[test]
fn no_event_is_missed_by_a_vcpu_that_runs_on() {
    nothing_is_missed(|toy, senders| {
        toy.leave();
        toy.run(senders);
    });
}

/// The attack: the guest sees the event by itself, in its own memory, and sleeps with the notice of it still standing.
#[test]
fn a_notice_of_what_the_guest_saw_itself_does_not_hide_the_next() {
    nothing_is_missed(|toy, senders| {
        toy.pending.swap(0, SeqCst);
        toy.sleep(senders);
        toy.leave();
    });
}

#[test]
fn a_vcpu_is_told_once_until_it_looks() {
    let notice = Notice::new();
    assert!(notice.give());
    assert!(!notice.give());
    notice.take();
    assert!(notice.give());
    notice.take();
    notice.take();
    assert!(notice.give());
}
