//! Periods that begin while it changes nothing end no decision, and nobody can tell: beside each queue goes one that is asked at
//! every beginning of a period.

mod sim;

use std::collections::BTreeSet;

use reservations::{
    Arrival, Decision, Extra, Kind, Next, Placement, Queue, Seat, Slot, State, Terms,
};
use sim::{Dice, rules, storage, terms};

/// A queue whose decisions are made when they end or are asked for, at once.
struct Cpu<'a> {
    queue: Queue<'a>,
    seats: Vec<Seat>,
    decision: Decision,
    decided_at: u64,
    decisions: u64,
}

impl<'a> Cpu<'a> {
    fn new(slots: &'a mut [Slot]) -> Self {
        let mut queue = Queue::new(slots, rules(), 0);
        let decision = queue.decide(0);
        Self {
            queue,
            seats: Vec::new(),
            decision,
            decided_at: 0,
            decisions: 0,
        }
    }

    fn arrive(&mut self, tag: u64, domain: u32, origin: u64, terms: Terms) {
        let arrival = Arrival {
            tag,
            domain,
            sibling: None,
            origin,
            terms,
        };
        self.seats.push(self.queue.arrive(0, arrival).unwrap());
    }

    fn act(&mut self, now: u64, act: impl FnOnce(&mut Queue<'a>, Seat) -> Next, whom: usize) {
        if act(&mut self.queue, self.seats[whom]) == Next::Decide {
            self.decide(now);
        }
        // Its end may have moved.
        self.decision = self.queue.decision();
    }

    fn decide(&mut self, now: u64) {
        loop {
            self.decision = self.queue.decide(now);
            self.decided_at = now;
            self.decisions += 1;
            if self.decision.until.is_none_or(|until| until > now) {
                return;
            }
        }
    }

    /// When somebody's period begins who waits for it, whether anything depends on it or not.
    fn next_period(&self, now: u64) -> Option<u64> {
        let waits = |seat: &&Seat| {
            let state = self.queue.state(**seat).unwrap();
            matches!(state, State::Running | State::Runnable)
        };
        let periods = self
            .seats
            .iter()
            .filter(waits)
            .map(|seat| self.queue.period(*seat).unwrap());
        let begins = periods
            .filter(|&(_, budget, _)| budget == 0)
            .map(|(end, ..)| end);
        begins.filter(|&begin| begin > now).min()
    }

    fn passes(&mut self, now: u64) {
        if self.queue.expire(now) == Next::Decide {
            self.decide(now);
        }
    }

    /// What can be told from outside of who runs, and of each vCPU.
    fn shown(&self) -> String {
        let of = |seat: &Seat| {
            let account = self.queue.account(*seat).unwrap();
            (account.missed, self.queue.state(*seat).unwrap())
        };
        let all: Vec<_> = self.seats.iter().map(of).collect();
        let Decision { run, kind, .. } = self.decision;
        format!("{run:?} {kind:?} {all:?}")
    }

    /// What each got, when the time until now is charged.
    fn told(&mut self, now: u64) -> String {
        let seats = self.seats.clone();
        let mut all = Vec::new();
        for seat in seats {
            let _ = self.queue.owes(now, seat, 0).unwrap();
            let queue = &self.queue;
            let (account, period) = (queue.account(seat).unwrap(), queue.period(seat).unwrap());
            all.push((account, period, queue.terms(seat).unwrap()));
        }
        format!("{all:?}")
    }
}

/// Reservations that fill a CPU, each in periods from where it likes; some are alike, so that deadlines can be equal.
fn some_terms(dice: &mut Dice) -> Vec<(Terms, u64)> {
    let (_, mut books) = storage(1, 0);
    let mut placement = Placement::new(&mut books, rules());
    assert!(placement.set_online(0, true));
    let mut all = Vec::new();
    for _ in 0..40 {
        let period = [40, 60, 100, 120, 300, 700][dice.below(6) as usize];
        let slice = 3 + dice.below(period / 10);
        let extra = match dice.one_in(4) {
            true => Extra::ByWeight,
            false => Extra::Never,
        };
        let terms = terms(slice, period, extra);
        if placement.admit(0, &terms, |_| true, |_| true).is_ok() {
            all.push((terms, dice.below(period / 10) * 10));
        }
    }
    all
}

fn something_happens(dice: &mut Dice, now: u64, cpus: &mut [Cpu<'_>; 2]) {
    let whom = dice.below(cpus[0].seats.len() as u64) as usize;
    // What is excused is of the time since the last decision of both.
    let ticks = dice.below(4).min(now - cpus[1].decided_at);
    let what = dice.below(16);
    let new = terms(3 + dice.below(5), 100 + dice.below(3) * 50, Extra::Never);
    let runs = cpus[0].decision.run == Some(cpus[0].seats[whom]);
    for cpu in cpus {
        let act = |queue: &mut Queue<'_>, seat| match what {
            0..5 => queue.wake(now, seat).unwrap(),
            5 | 6 if runs => queue.block(now, seat).unwrap(),
            7 => queue.pause(now, seat).unwrap(),
            8 | 9 => queue.unpause(now, seat).unwrap(),
            10 if runs => queue.yield_now(now, seat).unwrap(),
            11 => queue.owes(now, seat, ticks).unwrap(),
            12 => queue.excused(now, ticks).1,
            13 if ticks == 0 => {
                let small = queue.terms(seat).unwrap().0.slice() >= new.slice();
                match small && queue.granted(seat).unwrap().period() <= new.period() {
                    true => queue.change(now, seat, new).unwrap().1,
                    false => Next::Keep,
                }
            }
            _ => Next::Keep,
        };
        cpu.act(now, act, whom);
    }
}

/// The CPU does not notice what is due until long after. What began before the end of the decision had been noticed.
fn is_stuck(dice: &mut Dice, now: u64, cpus: &mut [Cpu<'_>; 2]) -> u64 {
    let late = now + dice.below(500);
    let ends = cpus[0].decision.until.unwrap_or(late);
    let mut at = now;
    while let Some(begins) = cpus[1].next_period(at).filter(|at| *at < ends.min(late)) {
        cpus[1].decide(begins);
        at = begins;
    }
    cpus.iter_mut().for_each(|cpu| cpu.passes(late));
    late
}

#[test]
fn nobody_can_tell_that_periods_which_change_nothing_end_no_decision() {
    let mut saved = 0;
    for seed in 0..100 {
        println!("story {seed}");
        let mut dice = Dice(seed);
        let all = some_terms(&mut dice);
        let mut slots = [vec![Slot::EMPTY; all.len()], vec![Slot::EMPTY; all.len()]];
        let [first, second] = &mut slots;
        let mut cpus = [Cpu::new(first), Cpu::new(second)];
        for cpu in &mut cpus {
            for (tag, (terms, origin)) in all.iter().enumerate() {
                cpu.arrive(tag as u64, tag as u32 % 5, *origin, *terms);
                cpu.act(0, |queue, seat| queue.up(0, seat).unwrap(), tag);
            }
        }
        let mut now = 0;
        let mut happens = 0;
        // Some stories are quiet, some are storms.
        let pace = [5, 40, 400][dice.below(3) as usize];
        while now < 5_000 {
            let [lazy, eager] = &cpus;
            let times = [
                lazy.decision.until,
                eager.decision.until,
                eager.next_period(now),
            ];
            let next = times
                .into_iter()
                .flatten()
                .min()
                .map_or(happens, |next| next.min(happens));
            now = next.max(now);
            if now != 0 && Some(now) == eager.next_period(now - 1) {
                cpus[1].decide(now);
            }
            cpus.iter_mut().for_each(|cpu| cpu.passes(now));
            if now == happens {
                something_happens(&mut dice, now, &mut cpus);
                if dice.one_in(20) {
                    now = is_stuck(&mut dice, now, &mut cpus);
                }
                happens = now + 1 + dice.below(pace);
            }
            let [lazy, eager] = &mut cpus;
            assert_eq!(lazy.shown(), eager.shown(), "at {now}");
            if dice.one_in(5) {
                assert_eq!(lazy.told(now), eager.told(now), "at {now}");
                assert_eq!(lazy.queue.books(), eager.queue.books());
            }
            assert!(lazy.queue.is_sound() && lazy.queue.is_balanced());
        }
        assert!(cpus[0].decisions <= cpus[1].decisions);
        saved += cpus[1].decisions - cpus[0].decisions;
    }
    // It is about something.
    assert!(saved > 1_000, "{saved}");
}

#[test]
fn a_period_that_changes_nothing_ends_no_decision_unless_others_began_before_it() {
    for seed in 0..100 {
        let mut dice = Dice(seed);
        let all = some_terms(&mut dice);
        let mut slots = vec![Slot::EMPTY; all.len()];
        let mut cpu = Cpu::new(&mut slots);
        for (tag, (terms, origin)) in all.iter().enumerate() {
            cpu.arrive(tag as u64, tag as u32, *origin, *terms);
            cpu.act(0, |queue, seat| queue.up(0, seat).unwrap(), tag);
        }
        let mut began_at = vec![0; all.len()];
        let mut last = 0;
        while let Some(now) = cpu.decision.until.filter(|&now| now < 20_000) {
            let before = cpu.decision;
            // Alone in everything, it is: then others' periods are what ends that.
            let is_alone = cpu.queue.budget_ends().is_some();
            cpu.passes(now);
            let mut began = BTreeSet::new();
            for (who, seat) in cpu.seats.iter().enumerate() {
                let ends = cpu.queue.period(*seat).unwrap().0;
                if began_at[who] != ends {
                    began_at[who] = ends;
                    began.insert(who);
                }
            }
            let is_the_same = before.run == cpu.decision.run && before.kind == cpu.decision.kind;
            let is_reserved = before.kind == Kind::Guaranteed;
            let mine = before
                .run
                .map(|run| cpu.seats.iter().position(|&seat| seat == run));
            let is_its_own = mine.flatten().is_some_and(|who| began.contains(&who));
            if is_the_same && is_reserved && !is_alone && !is_its_own && last != now {
                assert!(began.len() >= 4, "{began:?} began at {now}, seed {seed}");
            }
            last = now;
        }
    }
}

#[test]
fn who_is_to_leave_or_to_have_other_terms_does_so_as_its_period_begins() {
    for leaves in [false, true] {
        let mut slots = [Slot::EMPTY; 2];
        let mut cpu = Cpu::new(&mut slots);
        for (tag, slice) in [(0, 10), (1, 50)] {
            cpu.arrive(tag, tag as u32, 0, terms(slice, 100 + tag, Extra::Never));
            cpu.act(0, |queue, seat| queue.up(0, seat).unwrap(), tag as usize);
        }
        // The first is done with its slice, and the other sleeps until its own is the later.
        cpu.passes(10);
        cpu.act(10, |queue, seat| queue.block(10, seat).unwrap(), 1);
        cpu.act(60, |queue, seat| queue.wake(60, seat).unwrap(), 1);
        assert_eq!((cpu.decision.tag, cpu.decision.until), (1, Some(110)));
        let other = terms(20, 200, Extra::Never);
        cpu.act(
            70,
            |queue, seat| match leaves {
                true => queue.leave(70, seat).unwrap().1,
                false => queue.change(70, seat, other).unwrap().1,
            },
            0,
        );
        assert_eq!((cpu.decision.tag, cpu.decision.until), (1, Some(100)));
        cpu.passes(100);
        match leaves {
            true => assert!(cpu.queue.take_one_that_left(100).is_some()),
            false => assert_eq!(cpu.queue.terms(cpu.seats[0]).unwrap(), (other, None)),
        }
        assert_eq!(cpu.decision.tag, 1);
    }
}

#[test]
fn who_runs_is_told_for_whom_periods_are_renewed_as_it_is_done() {
    let mut slots = [Slot::EMPTY; 3];
    let mut cpu = Cpu::new(&mut slots);
    for tag in 0..3 {
        cpu.arrive(tag, tag as u32, 0, terms(10, 100 + tag, Extra::Never));
        cpu.act(0, |queue, seat| queue.up(0, seat).unwrap(), tag as usize);
    }
    // Two are done; the third sleeps, and has its slice when the others' periods begin.
    cpu.passes(10);
    cpu.passes(20);
    cpu.act(20, |queue, seat| queue.block(20, seat).unwrap(), 2);
    cpu.act(95, |queue, seat| queue.wake(95, seat).unwrap(), 2);
    assert_eq!((cpu.decision.tag, cpu.decision.until), (2, Some(105)));
    let mut told = Vec::new();
    let decision = cpu.queue.decide_excusing(105, 0, |tag| told.push(tag));
    assert_eq!((decision.tag, told), (0, vec![0, 1]));
    // What ends a decision is nothing that was put off.
    let decision = cpu
        .queue
        .decide_excusing(125, 0, |tag| panic!("{tag} is renewed"));
    let until = decision.until.unwrap();
    let _ = cpu
        .queue
        .decide_excusing(until, 0, |tag| panic!("{tag} is renewed"));
}

#[test]
fn however_many_periods_begin_meanwhile_one_decision_renews_them() {
    let mut slots = vec![Slot::EMPTY; 200];
    let mut cpu = Cpu::new(&mut slots);
    // A long slice, and many who begin a tick apart meanwhile and have to wait for it.
    cpu.arrive(0, 0, 0, terms(5_000, 10_000, Extra::Never));
    cpu.act(0, |queue, seat| queue.up(0, seat).unwrap(), 0);
    for tag in 1..150 {
        let at = tag * 20;
        cpu.arrive(tag, tag as u32, at, terms(3, 50_000, Extra::Never));
        cpu.act(at, |queue, seat| queue.up(at, seat).unwrap(), tag as usize);
    }
    let mut beside = 0;
    while let Some(now) = cpu.decision.until.filter(|&now| now < 1_000_000) {
        let decisions = cpu.decisions;
        let ran = cpu.decision.run;
        cpu.passes(now);
        assert_eq!(cpu.decisions, decisions + 1, "in parts at {now}");
        beside += u64::from(ran == cpu.decision.run);
    }
    // 149 periods begin beside the long one's in each of 20 times 50,000 ticks.
    assert!((1..1_500).contains(&beside), "{beside}");
}

#[test]
fn what_is_put_off_and_what_is_due_are_renewed_by_one_count_and_the_rest_is_late() {
    let mut slots = vec![Slot::EMPTY; 14];
    let mut cpu = Cpu::new(&mut slots);
    // Seven begin, a tick apart, before the end of what the last one has, and six as it ends.
    for tag in 0..13 {
        let period = 4_990 + tag.min(7) + if tag < 7 { 0 } else { 3 };
        cpu.arrive(tag, tag as u32, 0, terms(3, period, Extra::Never));
        cpu.act(0, |queue, seat| queue.up(0, seat).unwrap(), tag as usize);
    }
    while let Some(now) = cpu.decision.until.filter(|&now| now < 4_000) {
        cpu.passes(now);
    }
    cpu.arrive(13, 13, 0, terms(1_000, 4_950, Extra::Never));
    cpu.act(4_000, |queue, seat| queue.up(4_000, seat).unwrap(), 13);
    assert_eq!((cpu.decision.tag, cpu.decision.until), (13, Some(5_000)));
    let mut told = Vec::new();
    let decision = cpu.queue.decide_excusing(5_000, 0, |tag| told.push(tag));
    assert_eq!(told, (0..7).collect::<Vec<_>>());
    let begun = |queue: &Queue<'_>, seats: &[Seat]| {
        let ends = seats[..13]
            .iter()
            .map(|seat| queue.period(*seat).unwrap().0);
        ends.filter(|&end| end > 5_000).count()
    };
    // Eight in one call, not seven and then eight more.
    assert_eq!(begun(&cpu.queue, &cpu.seats), 8);
    assert_eq!(decision.until, Some(5_000), "the rest comes at once");
    // What is left was not put off: no part that follows is told to anybody, nor is it counted from before.
    let decision = cpu
        .queue
        .decide_excusing(5_000, 0, |tag| panic!("{tag} was not put off"));
    assert_eq!(begun(&cpu.queue, &cpu.seats), 13);
    assert!(decision.until > Some(5_000) && cpu.queue.is_sound());
}
