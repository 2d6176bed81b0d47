//! The run queue against a model with a plain list (S1 to S4).

use std::collections::VecDeque;

use proptest::prelude::*;
use sched::{AddError, Decision, Entry, EntryRows, Next, Reservation, RunQueue, State, VcpuHandle};

const VCPUS: u32 = 5;
const QUANTUM_NS: u64 = 100;
const SHORTEST_NS: u64 = 30;

#[derive(Clone, Copy, Debug)]
enum Op {
    Add(u32),
    Remove(u32),
    Wake(u32),
    Block(u32),
    Up(u32),
    Down(u32),
    Pause(u32),
    Unpause(u32),
    Yield(u32),
    Tick,
    Decide,
}

fn any_op() -> impl Strategy<Value = Op> {
    let vcpu = 0..VCPUS + 1;
    prop_oneof![
        2 => vcpu.clone().prop_map(Op::Add),
        1 => vcpu.clone().prop_map(Op::Remove),
        4 => vcpu.clone().prop_map(Op::Wake),
        4 => vcpu.clone().prop_map(Op::Block),
        3 => vcpu.clone().prop_map(Op::Up),
        1 => vcpu.clone().prop_map(Op::Down),
        2 => vcpu.clone().prop_map(Op::Pause),
        3 => vcpu.clone().prop_map(Op::Unpause),
        2 => vcpu.prop_map(Op::Yield),
        3 => Just(Op::Tick),
        6 => Just(Op::Decide),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Vcpu {
    down: bool,
    blocked: bool,
    paused: u32,
}

impl Vcpu {
    fn ready(self) -> bool {
        !self.down && !self.blocked && self.paused == 0
    }
}

#[derive(Default)]
struct Model {
    vcpus: [Option<Vcpu>; VCPUS as usize],
    list: VecDeque<u32>,
    current: Option<u32>,
    turn_began_ns: u64,
    turn_ends_ns: u64,
}

impl Model {
    fn change(&mut self, vcpu: u32, apply: impl FnOnce(&mut Vcpu)) {
        let Some(Some(state)) = self.vcpus.get_mut(vcpu as usize) else {
            return;
        };
        apply(state);
        let here = self.current == Some(vcpu) || self.list.contains(&vcpu);
        if state.ready() && !here {
            self.list.push_back(vcpu);
        } else if !state.ready() {
            self.forget(vcpu);
        }
    }

    fn forget(&mut self, vcpu: u32) {
        self.list.retain(|&waiting| waiting != vcpu);
        if self.current == Some(vcpu) {
            self.current = None;
        }
    }

    fn decide(&mut self, now_ns: u64) -> Decision {
        let turn_is_over = now_ns >= self.turn_ends_ns && !self.list.is_empty();
        if self.current.is_none() || turn_is_over {
            self.list.extend(self.current.take());
            self.current = self.list.pop_front();
            self.turn_began_ns = now_ns;
            self.turn_ends_ns = now_ns + QUANTUM_NS;
        }
        self.decision()
    }

    fn decision(&self) -> Decision {
        let somebody_waits = self.current.is_some() && !self.list.is_empty();
        Decision {
            run: self.current.map(VcpuHandle),
            until_ns: somebody_waits.then_some(self.turn_ends_ns),
        }
    }

    fn state(&self, vcpu: u32) -> Option<State> {
        let state = self.vcpus.get(vcpu as usize).copied().flatten()?;
        Some(if self.current == Some(vcpu) {
            State::Running
        } else if state.ready() {
            State::Runnable
        } else if state.blocked && !state.down {
            State::Blocked
        } else {
            State::Offline
        })
    }
}

fn apply(queue: &mut RunQueue<'_>, model: &mut Model, op: Op, now_ns: u64) -> Next {
    match op {
        Op::Add(vcpu) => {
            let expected = match model.vcpus.get_mut(vcpu as usize) {
                None => Err(AddError::OutOfRange),
                Some(Some(_)) => Err(AddError::AlreadyHere),
                Some(slot) => {
                    *slot = Some(Vcpu {
                        down: true,
                        blocked: false,
                        paused: 0,
                    });
                    Ok(())
                }
            };
            assert_eq!(
                queue.add(VcpuHandle(vcpu), Reservation::BEST_EFFORT),
                expected
            );
            Next::Keep
        }
        Op::Remove(vcpu) => {
            model.forget(vcpu);
            if let Some(slot) = model.vcpus.get_mut(vcpu as usize) {
                *slot = None;
            }
            queue.remove(VcpuHandle(vcpu), now_ns)
        }
        Op::Wake(vcpu) => {
            let waited = model.list.contains(&vcpu);
            model.change(vcpu, |state| state.blocked = false);
            if model.current.is_some() && !waited && model.list.contains(&vcpu) {
                let end_ns = model.turn_began_ns + SHORTEST_NS;
                model.turn_ends_ns = model.turn_ends_ns.min(end_ns);
            }
            queue.wake(VcpuHandle(vcpu), now_ns)
        }
        Op::Block(vcpu) => {
            model.change(vcpu, |state| state.blocked = true);
            queue.block(VcpuHandle(vcpu), now_ns)
        }
        Op::Up(vcpu) => {
            model.change(vcpu, |state| (state.down, state.blocked) = (false, false));
            queue.up(VcpuHandle(vcpu), now_ns)
        }
        Op::Down(vcpu) => {
            model.change(vcpu, |state| state.down = true);
            queue.down(VcpuHandle(vcpu), now_ns)
        }
        Op::Pause(vcpu) => {
            model.change(vcpu, |state| state.paused += 1);
            queue.pause(VcpuHandle(vcpu), now_ns)
        }
        Op::Unpause(vcpu) => {
            model.change(vcpu, |state| state.paused = state.paused.saturating_sub(1));
            queue.unpause(VcpuHandle(vcpu), now_ns)
        }
        Op::Yield(vcpu) => {
            if model.current == Some(vcpu) {
                model.turn_ends_ns = model.turn_ends_ns.min(now_ns);
            }
            queue.yield_now(VcpuHandle(vcpu), now_ns)
        }
        Op::Tick => queue.tick(now_ns),
        Op::Decide => {
            assert_eq!(queue.decide(now_ns), model.decide(now_ns));
            Next::Keep
        }
    }
}

proptest! {
    #[test]
    fn queue_and_model_agree_after_any_operations(
        ops in prop::collection::vec((any_op(), prop_oneof![3 => 0_u64..20, 1 => 0_u64..150]), 0..200),
    ) {
        let mut storage = [Entry::EMPTY; VCPUS as usize];
        let mut queue = RunQueue::new(&mut storage, QUANTUM_NS, SHORTEST_NS);
        let mut model = Model::default();
        let (mut now_ns, mut in_force, mut owed) = (0, Decision { run: None, until_ns: None }, false);
        for (op, later_ns) in ops {
            now_ns += later_ns;
            owed |= apply(&mut queue, &mut model, op, now_ns) == Next::Decide;
            if matches!(op, Op::Decide) {
                (in_force, owed) = (model.decision(), false);
            }
            for vcpu in 0..VCPUS {
                prop_assert_eq!(queue.state(VcpuHandle(vcpu)), model.state(vcpu), "vcpu {}", vcpu);
            }
            prop_assert_eq!(queue.current(), model.current.map(VcpuHandle));
            // S1: nobody is left waiting because a call did not ask for a decision. What runs is ready,
            // and if somebody waits there is a time at which that ends.
            if !owed {
                prop_assert_eq!(in_force.run, model.current.map(VcpuHandle));
                prop_assert!(model.list.is_empty() || in_force.until_ns.is_some(), "{:?}", op);
            }
        }
    }

    /// S3: whoever stays runnable runs within one turn of each of the others.
    #[test]
    fn a_woken_vcpu_runs_within_a_turn_of_each_other(
        others in 0..VCPUS, yields in prop::collection::vec(any::<bool>(), 0..20), asleep_ns in 0_u64..500,
    ) {
        let mut storage = [Entry::EMPTY; VCPUS as usize + 1];
        let mut queue = RunQueue::new(&mut storage, QUANTUM_NS, SHORTEST_NS);
        let mut now_ns = 0;
        let sleeper = VcpuHandle(VCPUS);
        for vcpu in (0..others).map(VcpuHandle).chain([sleeper]) {
            prop_assert_eq!(queue.add(vcpu, Reservation::BEST_EFFORT), Ok(()));
            let _ = queue.up(vcpu, now_ns);
        }
        let _ = queue.block(sleeper, now_ns);
        for yields in yields {
            let decision = queue.decide(now_ns);
            if let (Some(vcpu), true) = (decision.run, yields) {
                let _ = queue.yield_now(vcpu, now_ns);
            }
            now_ns = decision.until_ns.unwrap_or(now_ns);
        }
        now_ns += asleep_ns;
        let woken_ns = now_ns;
        let _ = queue.wake(sleeper, now_ns);
        loop {
            let decision = queue.decide(now_ns);
            if decision.run == Some(sleeper) {
                break;
            }
            now_ns = decision.until_ns.expect("the sleeper waits");
        }
        prop_assert!(now_ns - woken_ns <= u64::from(others) * QUANTUM_NS);
    }

    /// S3: over whole rounds everybody who stays runnable gets the same.
    #[test]
    fn turns_are_equal(vcpus in 1..=VCPUS, rounds in 1_u64..20) {
        let mut storage = [Entry::EMPTY; VCPUS as usize];
        let mut queue = RunQueue::new(&mut storage, QUANTUM_NS, SHORTEST_NS);
        for vcpu in (0..vcpus).map(VcpuHandle) {
            prop_assert_eq!(queue.add(vcpu, Reservation::BEST_EFFORT), Ok(()));
            let _ = queue.up(vcpu, 0);
        }
        let mut ran_ns = [0; VCPUS as usize];
        let end_ns = rounds * u64::from(vcpus) * QUANTUM_NS;
        let mut now_ns = 0;
        while now_ns < end_ns {
            let decision = queue.decide(now_ns);
            let until_ns = decision.until_ns.unwrap_or(end_ns);
            ran_ns[decision.run.expect("all are runnable").0 as usize] += until_ns - now_ns;
            now_ns = until_ns;
        }
        prop_assert!(ran_ns[..vcpus as usize].iter().all(|&ns| ns == rounds * QUANTUM_NS), "{ran_ns:?}");
    }
}

#[test]
fn a_lone_vcpu_is_left_alone_until_another_wakes() {
    let mut storage = [Entry::EMPTY; 2];
    let mut queue = RunQueue::new(&mut storage, QUANTUM_NS, SHORTEST_NS);
    let (lone, other) = (VcpuHandle(0), VcpuHandle(1));
    assert_eq!(
        queue.decide(0),
        Decision {
            run: None,
            until_ns: None
        }
    );
    for vcpu in [lone, other] {
        assert_eq!(queue.add(vcpu, Reservation::BEST_EFFORT), Ok(()));
    }
    assert_eq!(queue.up(lone, 0), Next::Decide);
    assert_eq!(
        queue.decide(0),
        Decision {
            run: Some(lone),
            until_ns: None
        }
    );
    assert_eq!(queue.tick(1000), Next::Keep);
    assert_eq!(queue.yield_now(lone, 1000), Next::Keep);
    assert_eq!(queue.up(other, 1000), Next::Decide);
    // Its own turn was over long ago.
    assert_eq!(
        queue.decide(1000),
        Decision {
            run: Some(other),
            until_ns: Some(1100)
        }
    );
    assert_eq!(queue.block(other, 1050), Next::Decide);
    assert_eq!(
        queue.wake(other, 1050),
        Next::Keep,
        "it has its place, and a decision is owed already"
    );
    assert_eq!(
        queue.decide(1050),
        Decision {
            run: Some(lone),
            until_ns: Some(1150)
        }
    );
}

#[test]
fn yielding_ends_a_turn_at_once_if_somebody_waits() {
    let mut storage = [Entry::EMPTY; 2];
    let mut queue = RunQueue::new(&mut storage, QUANTUM_NS, SHORTEST_NS);
    let [first, second] = [0, 1].map(VcpuHandle);
    for vcpu in [first, second] {
        assert_eq!(queue.add(vcpu, Reservation::BEST_EFFORT), Ok(()));
        let _ = queue.up(vcpu, 0);
    }
    assert_eq!(
        queue.decide(0),
        Decision {
            run: Some(first),
            until_ns: Some(100)
        }
    );
    assert_eq!(queue.yield_now(second, 10), Next::Keep, "it does not run");
    assert_eq!(queue.yield_now(first, 10), Next::Decide);
    assert_eq!(
        queue.decide(10),
        Decision {
            run: Some(second),
            until_ns: Some(110)
        }
    );
    assert_eq!(queue.tick(109), Next::Keep);
    assert_eq!(queue.tick(110), Next::Decide);
}

#[test]
fn a_reservation_is_kept_with_its_vcpu() {
    let mut storage = [Entry::EMPTY; 2];
    let mut queue = RunQueue::new(&mut storage, QUANTUM_NS, SHORTEST_NS);
    let vcpu = VcpuHandle(1);
    let promised = Reservation {
        slice_ns: 10,
        period_ns: 40,
        extra: sched::Extra::Never,
    };
    assert!(!queue.set_reservation(vcpu, promised));
    assert_eq!(queue.add(vcpu, Reservation::BEST_EFFORT), Ok(()));
    assert!(queue.set_reservation(vcpu, promised));
    assert_eq!(queue.reservation(vcpu), Some(promised));
    let _ = queue.remove(vcpu, 0);
    assert_eq!(queue.reservation(vcpu), None);
}

#[test]
fn a_handle_that_cannot_be_is_refused() {
    let mut queue = RunQueue::new(&mut [], QUANTUM_NS, SHORTEST_NS);
    let refused = Err(AddError::OutOfRange);
    assert_eq!(queue.add(VcpuHandle(0), Reservation::BEST_EFFORT), refused);
    assert_eq!(
        queue.add(VcpuHandle(u32::MAX), Reservation::BEST_EFFORT),
        refused
    );
    assert_eq!(queue.wake(VcpuHandle(u32::MAX), 0), Next::Keep);
}

#[test]
fn a_sleeper_that_wakes_waits_for_the_shortest_turn_of_who_runs_and_overtakes_nobody() {
    let mut storage = [Entry::EMPTY; 3];
    let mut queue = RunQueue::new(&mut storage, QUANTUM_NS, SHORTEST_NS);
    let [spins, waits, sleeps] = [0, 1, 2].map(VcpuHandle);
    for vcpu in [spins, waits, sleeps] {
        assert_eq!(queue.add(vcpu, Reservation::BEST_EFFORT), Ok(()));
        let _ = queue.up(vcpu, 0);
    }
    let _ = queue.block(sleeps, 0);
    assert_eq!(queue.decide(0).until_ns, Some(QUANTUM_NS));
    assert_eq!(queue.wake(sleeps, 10), Next::Decide);
    assert_eq!(
        queue.decide(10),
        Decision {
            run: Some(spins),
            until_ns: Some(SHORTEST_NS)
        }
    );
    assert_eq!(queue.turn_ends_ns(), Some(SHORTEST_NS));
    // A second wake-up cuts nothing more.
    assert_eq!(queue.wake(sleeps, 20), Next::Keep);
    assert_eq!(queue.tick(SHORTEST_NS), Next::Decide);
    assert_eq!(queue.turn_cut_for(), Some(sleeps), "its doing is that end");
    assert_eq!(queue.decide(SHORTEST_NS).run, Some(waits));
    assert_eq!(queue.turn_cut_for(), None, "and not the next");
    let later = SHORTEST_NS + QUANTUM_NS;
    assert_eq!(queue.decide(later).run, Some(sleeps));
}

#[test]
fn the_end_of_a_turn_is_nobodys_doing_who_is_there_no_more() {
    let mut storage = [Entry::EMPTY; 2];
    let mut queue = RunQueue::new(&mut storage, QUANTUM_NS, SHORTEST_NS);
    let [spins, sleeps] = [0, 1].map(VcpuHandle);
    for vcpu in [spins, sleeps] {
        assert_eq!(queue.add(vcpu, Reservation::BEST_EFFORT), Ok(()));
        let _ = queue.up(vcpu, 0);
    }
    let _ = queue.block(sleeps, 0);
    assert_eq!(queue.decide(0).run, Some(spins));
    assert_eq!(queue.turn_cut_for(), None);
    let _ = queue.wake(sleeps, 10);
    assert_eq!(queue.turn_cut_for(), Some(sleeps));
    let _ = queue.remove(sleeps, 20);
    assert_eq!(queue.turn_cut_for(), None);
}

#[test]
fn vcpus_of_a_row_that_was_added_take_their_turns() {
    let mut first = vec![Entry::EMPTY; EntryRows::PER_ROW];
    let mut second = vec![Entry::EMPTY; EntryRows::PER_ROW];
    let mut queue = RunQueue::new(&mut first, QUANTUM_NS, SHORTEST_NS);
    let last = VcpuHandle(2 * EntryRows::PER_ROW as u32 - 1);
    let beyond = queue.add(last, Reservation::BEST_EFFORT);
    assert_eq!(beyond, Err(AddError::OutOfRange));
    assert!(queue.add_row(&mut second));
    let both = [VcpuHandle(0), last];
    for vcpu in both {
        assert_eq!(queue.add(vcpu, Reservation::BEST_EFFORT), Ok(()));
        let _ = queue.up(vcpu, 0);
    }
    let mut now = 0;
    for turn in 0..6 {
        assert_eq!(queue.decide(now).run, Some(both[turn % 2]));
        now += QUANTUM_NS;
    }
}
