//! vCPUs that poll, events that end that, and turns in which they are woken, in every order of their steps (O1 to O4).

use super::{AT_ONCE, Fate, Polled, Pollers, Vcpus, bit, each, word_of};
use crate::atomic::{AtomicU32, AtomicU64};
use crate::{MAX_VCPUS, Port, VcpuId};
use interleave::{before_step, every_order, in_one_step, wait};
use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;

/// A domain's vCPUs, a bit each, and its ports.
struct Toy {
    pollers: Pollers,
    polled: [Polled; MAX_VCPUS],
    asleep: AtomicU64,
    /// Those during whose polls a port that they poll became pending: they do not sleep on.
    owed: AtomicU64,
    /// Those whose timers are set.
    timers: AtomicU64,
    /// Those that have no timers any more.
    removed: AtomicU64,
    /// Ports that are pending, a bit each.
    pending: AtomicU64,
    /// Threads that are done.
    done: AtomicU32,
}

/// One call into ring 0, and how many it woke.
struct Section<'t> {
    toy: &'t Toy,
    woken: Cell<u32>,
}

impl Vcpus for Section<'_> {
    fn polled(&self, vcpu: VcpuId) -> Option<&Polled> {
        self.toy.polled.get(usize::from(vcpu.0))
    }
    fn wake(&self, vcpu: VcpuId) {
        self.woken.set(self.woken.get() + 1);
        self.toy.wake(vcpu);
    }
    fn wake_soon(&self, vcpu: VcpuId) -> bool {
        if self.toy.removed.load(SeqCst) & bit(vcpu) != 0 {
            return false;
        }
        let before = self.toy.timers.fetch_or(bit(vcpu), SeqCst);
        assert_eq!(before, 0, "two timers");
        true
    }
}

fn port(number: u32) -> Port {
    Port::from_claim(number).unwrap()
}

impl Toy {
    fn new() -> Toy {
        let zero = || AtomicU64::new(0);
        Toy {
            pollers: Pollers::new(),
            polled: [const { Polled::new() }; MAX_VCPUS],
            asleep: zero(),
            owed: zero(),
            timers: zero(),
            removed: zero(),
            pending: zero(),
            done: AtomicU32::new(0),
        }
    }

    /// So many vCPUs poll several ports, and sleep.
    fn with_asleep(count: u16) -> Toy {
        let toy = Toy::new();
        for id in 0..count {
            assert_eq!(toy.poll(VcpuId(id), None), Fate::Sleeps);
        }
        toy
    }

    fn wake(&self, vcpu: VcpuId) {
        in_one_step(|| self.owed.fetch_and(!bit(vcpu), SeqCst));
        self.asleep.fetch_and(!bit(vcpu), SeqCst);
    }

    /// As the hypercall does it; its guest looks at a port only.
    fn poll(&self, vcpu: VcpuId, polls: Option<Port>) -> Fate {
        let sleep = || {
            self.asleep.fetch_or(bit(vcpu), SeqCst);
        };
        // What it was owed before it got.
        in_one_step(|| self.owed.fetch_and(!bit(vcpu), SeqCst));
        let is_ready = || polls.is_some_and(|p| self.pending.load(SeqCst) & 1 << p.get() != 0);
        let polled = &self.polled[usize::from(vcpu.0)];
        let fate = self.pollers.poll(vcpu, polled, polls, sleep, is_ready);
        if fate == Fate::Ended {
            self.wake(vcpu);
        }
        fate
    }

    /// A vCPU that was woken runs, and polls no more.
    fn runs(&self, vcpu: VcpuId) {
        self.pollers.end(vcpu, &self.polled[usize::from(vcpu.0)]);
    }

    /// A vCPU is woken, by whatever, and runs, and polls once more.
    fn polls_again(&self, vcpu: VcpuId) {
        self.wake(vcpu);
        self.runs(vcpu);
        let _ = self.poll(vcpu, None);
    }

    /// Does what wakes at most so many.
    fn section(&self, most: u32, act: impl FnOnce(&Section<'_>)) {
        let section = Section {
            toy: self,
            woken: Cell::new(0),
        };
        act(&section);
        let woken = section.woken.get();
        assert!(woken <= most, "{woken} at once");
    }

    /// As `event::raise` and `event::tell`.
    fn raise(&self, port: Port) {
        // The step that sets it pending, with whose polls that ends kept in mind.
        before_step();
        let newly_pending = in_one_step(|| {
            let polling = each(self.pollers.polling.load(SeqCst));
            let polling = polling.filter(|v| self.polled[usize::from(v.0)].is_ended_by(port));
            let owed = polling.fold(0, |owed, vcpu| owed | bit(vcpu));
            self.owed.fetch_or(owed, SeqCst);
            self.pending.fetch_or(1 << port.get(), SeqCst) & 1 << port.get() == 0
        });
        assert!(newly_pending);
        self.section(1, |section| self.pollers.wake(section, port));
    }

    /// The timer interrupt: says whether one was set.
    fn turn(&self) -> bool {
        let is_due = self.timers.swap(0, SeqCst) != 0;
        if is_due {
            self.section(AT_ONCE, |section| self.pollers.take_turn(section));
        }
        is_due
    }

    fn is_done(&self) {
        self.done.fetch_add(1, SeqCst);
    }

    /// Turns as they are due, until so many threads are done and none is due.
    fn turns(&self, threads: u32) {
        loop {
            let done = self.done.load(SeqCst) == threads;
            if !self.turn() {
                if done {
                    return;
                }
                wait();
            }
        }
    }

    /// When nobody is at work: who waits for a turn gets it, and who sleeps on does so rightly.
    fn nobody_is_forgotten(&self) {
        let told = self.pollers.told.load(SeqCst);
        let timers = self.timers.load(SeqCst);
        assert_eq!(told != 0, timers.is_power_of_two(), "{told:b} {timers:b}");
        assert!(told != 0 || timers == 0);
        let turns = (0..).take_while(|_| self.turn()).count() as u32;
        assert_eq!(turns, told.count_ones().div_ceil(AT_ONCE));
        assert_eq!(self.pollers.told.load(SeqCst), 0);
        let asleep = self.asleep.load(SeqCst);
        let polling = self.pollers.polling.load(SeqCst);
        assert_eq!(
            asleep & !polling,
            0,
            "their polls have ended, and they sleep"
        );
        let owed = self.owed.load(SeqCst);
        assert_eq!(asleep & owed, 0, "an event was raised, and they sleep");
        let pending = each(self.pending.load(SeqCst)).map(|p| word_of(Some(port(p.0.into()))));
        for word in pending {
            let is_for_it = |v: VcpuId| self.polled[usize::from(v.0)].0.load(SeqCst) == word;
            assert!(
                !each(asleep).any(is_for_it),
                "an event waits for who sleeps"
            );
        }
    }
}

const A: VcpuId = VcpuId(0);

#[test]
fn nobody_sleeps_on_whose_event_a_sibling_took() {
    for polls in [None, Some(port(1))] {
        let fates = Cell::new([0; 2]);
        let poll = |toy: &Toy| {
            let _ = toy.poll(A, polls);
        };
        let raise = |toy: &Toy| toy.raise(port(1));
        let sibling = |toy: &Toy| {
            toy.pending.fetch_and(!2, SeqCst);
        };
        every_order(Toy::new, &[&poll, &raise, &sibling], |toy| {
            toy.nobody_is_forgotten();
            let mut all = fates.get();
            all[usize::from(toy.asleep.load(SeqCst) == 0)] += 1;
            fates.set(all);
        });
        let [asleep, awake] = fates.get();
        assert!(asleep > 0 && awake > 10, "{asleep} {awake}");
    }
}

#[test]
fn an_event_for_another_port_wakes_nobody() {
    let poll = |toy: &Toy| {
        assert_eq!(toy.poll(A, Some(port(2))), Fate::Sleeps);
    };
    let raise = |toy: &Toy| toy.raise(port(1));
    every_order(Toy::new, &[&poll, &raise], |toy| {
        toy.nobody_is_forgotten();
        assert_eq!(toy.asleep.load(SeqCst), bit(A));
    });
}

/// The time of a poll is over on one CPU while an event ends it, and the vCPU polls again on a third.
#[test]
fn a_poll_that_ends_twice_does_not_end_the_next() {
    let fresh = || Toy::with_asleep(1);
    let time_over = |toy: &Toy| {
        toy.runs(A);
        toy.wake(A);
    };
    let raise = |toy: &Toy| toy.raise(port(1));
    let again = |toy: &Toy| {
        while toy.asleep.load(SeqCst) & bit(A) != 0 {
            wait();
        }
        toy.runs(A);
        let _ = toy.poll(A, Some(port(2)));
    };
    let slept = Cell::new(0);
    every_order(fresh, &[&time_over, &raise, &again], |toy| {
        toy.nobody_is_forgotten();
        slept.set(slept.get() + toy.asleep.load(SeqCst));
    });
    assert!(slept.get() > 0);
}

#[test]
fn one_event_wakes_all_in_few_and_short_turns() {
    let toy = Toy::with_asleep(MAX_VCPUS as u16);
    toy.raise(port(1));
    assert_eq!(toy.asleep.load(SeqCst), u64::MAX << 1);
    assert_eq!(toy.timers.load(SeqCst), 2);
    toy.nobody_is_forgotten();
    assert_eq!(toy.asleep.load(SeqCst), 0);
}

/// Those that remain are told by the next turn, whether that comes before the second event, in it, or after it.
#[test]
fn no_turn_is_missing_and_none_is_two() {
    const COUNT: u16 = 7;
    let fresh = || Toy::with_asleep(COUNT);
    let first = |toy: &Toy| toy.raise(port(1));
    let second = |toy: &Toy| {
        // They were woken by what else there is: nobody's bit is there, or some are.
        in_one_step(|| [1, 2, 6].map(|id| toy.polls_again(VcpuId(id))));
        toy.raise(port(2));
    };
    let turns = |toy: &Toy| {
        toy.turn();
        toy.turn();
    };
    every_order(fresh, &[&first, &second], Toy::nobody_is_forgotten);
    every_order(fresh, &[&first, &turns], Toy::nobody_is_forgotten);
    every_order(fresh, &[&first, &second, &turns], Toy::nobody_is_forgotten);
}

/// The attack: who is woken by a turn polls again, and has that ended by another event, before the turn is over.
#[test]
fn who_polls_again_during_a_turn_is_not_forgotten() {
    let fresh = || {
        let toy = Toy::with_asleep(3);
        toy.raise(port(1));
        toy
    };
    let turns = |toy: &Toy| toy.turns(1);
    let again = |toy: &Toy| {
        let these = [1, 2].map(VcpuId);
        while toy.asleep.load(SeqCst) & bit(these[1]) != 0 {
            wait();
        }
        in_one_step(|| [A, these[0], these[1]].map(|vcpu| toy.polls_again(vcpu)));
        toy.raise(port(2));
        toy.is_done();
    };
    let orders = every_order(fresh, &[&turns, &again], Toy::nobody_is_forgotten);
    assert!(orders > 100, "{orders}");
}

/// The vCPU whose timer would be set was removed, and another event comes meanwhile.
#[test]
fn who_was_removed_stops_no_turns() {
    for removed in [0b010, 0b110] {
        turns_go_on_without(removed);
    }
}

fn turns_go_on_without(removed: u64) {
    let fresh = || {
        let toy = Toy::with_asleep(3);
        toy.removed.fetch_or(removed, SeqCst);
        toy
    };
    let first = |toy: &Toy| toy.raise(port(1));
    let second = |toy: &Toy| {
        in_one_step(|| [4, 5].map(|id| toy.polls_again(VcpuId(id))));
        toy.raise(port(2));
    };
    let check = |toy: &Toy| {
        // Nobody wakes who was removed, which does not sleep either.
        toy.asleep.fetch_and(!toy.removed.load(SeqCst), SeqCst);
        toy.nobody_is_forgotten();
    };
    every_order(fresh, &[&first, &second], check);
    let turns = |toy: &Toy| {
        let _ = toy.turn();
    };
    every_order(fresh, &[&first, &second, &turns], check);
}
