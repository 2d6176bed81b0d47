//! Alarms that are looked for in rounds of steps (R1, R2 of `rounds`).

use clock::{NEVER, Rounds};
use proptest::prelude::*;

const OWNERS: usize = 7;
const PAUSE_NS: u64 = 10;

#[derive(Clone, Debug)]
enum Act {
    Set(usize, u64),
    Clear(usize),
    /// So much time goes by, in which the timer fires as often as it is set.
    Wait(u64),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..OWNERS, 0_u64..200).prop_map(|(owner, wait)| Act::Set(owner, wait)),
        1 => (0..OWNERS).prop_map(Act::Clear),
        3 => (0_u64..100).prop_map(Act::Wait),
    ]
}

/// The machine: alarms, rounds of steps of so many owners, the timer.
struct Machine {
    rounds: Rounds,
    due: [u64; OWNERS],
    step: usize,
    now: u64,
    timer: u64,
    /// Steps in a row without an alarm that was found or moved since.
    longest_step: usize,
}

impl Machine {
    fn set(&mut self, owner: usize, at: u64) {
        self.due[owner] = at;
        if at != NEVER {
            self.rounds.sets(at);
            self.timer = self.timer.min(at);
        }
    }

    fn look(&mut self) {
        if let Some(from) = self.rounds.begin_step(self.now) {
            let from = from as usize;
            let to = (from + self.step).min(OWNERS);
            self.longest_step = self.longest_step.max(to - from);
            for owner in from..to {
                if self.due[owner] <= self.now {
                    self.due[owner] = NEVER;
                } else if self.due[owner] != NEVER {
                    self.rounds.sets(self.due[owner]);
                }
            }
            self.rounds.end_step((to < OWNERS).then_some(to as u64));
        }
        if let Some(next) = self.rounds.next_ns(self.now, PAUSE_NS) {
            self.timer = self.timer.min(next);
        }
    }

    fn wait(&mut self, ns: u64) {
        let until = self.now + ns;
        while self.timer <= until {
            self.now = self.now.max(self.timer);
            self.timer = NEVER;
            self.look();
        }
        self.now = until;
    }
}

proptest! {
    #[test]
    fn whoever_is_due_is_found_within_two_rounds_and_nobody_before(
        step in 1..OWNERS + 1, acts in prop::collection::vec(any_act(), 1..60),
    ) {
        let mut machine = Machine {
            rounds: Rounds::new(), due: [NEVER; OWNERS], step, now: 0, timer: NEVER, longest_step: 0,
        };
        // One that was passed when it came due is found by the next round.
        let two_rounds = 2 * PAUSE_NS * (OWNERS.div_ceil(step) as u64 + 1);
        let mut wanted = [NEVER; OWNERS];
        for act in acts {
            match act {
                Act::Set(owner, wait) => {
                    let at = machine.now + wait;
                    machine.set(owner, at);
                    wanted[owner] = at;
                }
                Act::Clear(owner) => {
                    machine.set(owner, NEVER);
                    wanted[owner] = NEVER;
                }
                Act::Wait(ns) => machine.wait(ns),
            }
            for (wanted, due) in wanted.iter_mut().zip(&machine.due) {
                let found = *due == NEVER;
                if *wanted == NEVER {
                    prop_assert!(found);
                } else if found {
                    prop_assert!(*wanted <= machine.now, "found before its time");
                    *wanted = NEVER;
                } else {
                    prop_assert!(machine.now <= *wanted + two_rounds, "missed");
                    prop_assert!(machine.timer <= (*wanted).max(machine.now + PAUSE_NS), "no timer is set for it");
                }
            }
        }
        prop_assert!(machine.longest_step <= step);
    }
}

#[test]
fn an_alarm_that_is_moved_costs_one_round_at_its_old_time() {
    let rounds = Rounds::new();
    rounds.sets(10);
    rounds.sets(500);
    assert_eq!(rounds.begin_step(9), None);
    assert_eq!(rounds.begin_step(10), Some(0));
    rounds.sets(500);
    rounds.end_step(None);
    assert_eq!(rounds.begin_step(499), None);
    assert_eq!(rounds.next_ns(11, PAUSE_NS), Some(500));
}

#[test]
fn what_is_set_behind_the_back_of_a_round_is_not_lost() {
    let rounds = Rounds::new();
    rounds.sets(10);
    assert_eq!(rounds.begin_step(10), Some(0));
    rounds.end_step(Some(4));
    // Of an owner that was passed.
    rounds.sets(12);
    assert_eq!(rounds.begin_step(20), Some(4));
    rounds.end_step(None);
    assert_eq!(rounds.next_ns(20, PAUSE_NS), Some(12));
}
