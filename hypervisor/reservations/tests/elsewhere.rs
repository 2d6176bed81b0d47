//! What is worked for vCPUs while others run: on their own CPU, and on another.

mod sim;

use reservations::{Extra, Kind, Next, Queue, Seat, Slot};
use sim::{Dice, arrive, rules, terms};

#[test]
fn work_on_another_cpu_is_off_the_budget_at_home_and_nobodys_there() {
    let (mut here, mut there) = ([Slot::EMPTY; 2], [Slot::EMPTY; 2]);
    let mut home = Queue::new(&mut here, rules(), 0);
    let mut other = Queue::new(&mut there, rules(), 0);
    let seat = arrive(&mut home, 1, terms(30, 100, Extra::Never));
    let hog = arrive(&mut other, 2, terms(50, 100, Extra::Never));
    let _ = home.decide(0);
    let _ = other.decide(0);

    // The other CPU works for it from 10 to 17.
    let (excused, _) = other.excused(17, 7);
    assert_eq!(excused, 7);
    let _ = home.owes(18, seat, excused).unwrap();
    assert_eq!(other.account(hog).unwrap().used(), 10);
    assert_eq!(home.account(seat).unwrap().elsewhere, 7);
    // 18 run, 7 worked for it: 5 of 30 are left.
    assert_eq!(home.period(seat).unwrap().1, 5);
    assert_eq!(home.decide(18).until, Some(23));
    // The hog has its whole slice: 10 before, and 40 from 17 on. The decision's end has moved by itself.
    assert_eq!(other.decision().until, Some(57));
    assert_eq!(other.decide(17).until, Some(57));
    assert!(home.is_balanced() && other.is_balanced());
}

#[test]
fn no_more_is_excused_than_was_charged_since_the_last_decision() {
    let mut slots = [Slot::EMPTY; 1];
    let mut queue = Queue::new(&mut slots, rules(), 0);
    let seat = arrive(&mut queue, 1, terms(50, 100, Extra::Never));
    let _ = queue.decide(0);
    let _ = queue.decide(20);
    // Calls in between, from other CPUs, take nothing away.
    let _ = queue.wake(22, seat);
    let _ = queue.owes(23, seat, 0).unwrap();
    assert_eq!(queue.excused(25, 1000).0, 5);
    assert_eq!(queue.excused(25, 1000).0, 0);
    assert_eq!(queue.excused(7, 3).0, 0, "time does not run backwards");
    assert_eq!(queue.account(seat).unwrap().used(), 20);
    assert_eq!(queue.period(seat).unwrap().1, 30);
    assert!(queue.is_balanced() && queue.is_sound());
    // Nor of a period that is over: what it had of that has lapsed, and what it overran, 45, is owed.
    let _ = queue.decide(25);
    let _ = queue.owes(103, seat, 0).unwrap();
    assert_eq!(queue.excused(103, 1000).0, 3);
    assert_eq!(queue.period(seat).unwrap(), (200, 5, 0));
    assert!(queue.is_balanced() && queue.is_sound());
}

#[test]
fn who_comes_does_not_pay_for_the_change_and_pays_for_what_was_done_for_it() {
    let mut slots = [Slot::EMPTY; 2];
    let mut queue = Queue::new(&mut slots, rules(), 0);
    let first = arrive(&mut queue, 1, terms(30, 100, Extra::Never));
    let second = arrive(&mut queue, 2, terms(30, 90, Extra::Never));
    assert_eq!(queue.decide(0).run, Some(second));
    assert_eq!(queue.begins(2, true, 0), Next::Keep);
    assert_eq!(queue.decision().until, Some(32));
    assert_eq!(queue.account(second).unwrap().used(), 0);
    // Its budget's end has the other come, who has had 4 worked for it; it pays for that itself, and the next time that
    // it runs.
    assert_eq!(queue.decide(32).run, Some(first));
    assert_eq!(queue.begins(35, true, 4), Next::Keep);
    assert_eq!(queue.decision().until, Some(35 + 26));
    let _ = queue.decide(61);
    let _ = queue.owes(62, second, 3).unwrap();
    let (one, two) = (
        queue.account(first).unwrap(),
        queue.account(second).unwrap(),
    );
    assert_eq!((one.guaranteed, one.elsewhere), (26, 4));
    assert_eq!((two.guaranteed, two.elsewhere), (30, 3));
    assert_eq!(queue.decide(90).until, Some(117));
    assert_eq!(queue.period(second).unwrap().1, 27);
    // Who has more worked for it than it has left gives way.
    assert_eq!(queue.begins(91, false, 40), Next::Decide);
    assert_eq!(queue.decide(91).run, None);
    assert!(queue.is_balanced() && queue.is_sound());
}

#[test]
fn left_over_time_that_was_not_ones_own_is_not_weighed() {
    let mut slots = [Slot::EMPTY; 2];
    let mut queue = Queue::new(&mut slots, rules(), 0);
    let quantum = rules().quantum();
    let one = arrive(&mut queue, 1, terms(0, 100, Extra::ByWeight));
    let other = arrive(&mut queue, 2, terms(0, 100, Extra::ByWeight));
    let (mut now, mut worked, mut turns) = (0, 0, 0);
    for _ in 0..100 {
        let decision = queue.decide(now);
        now = decision.until.unwrap();
        if decision.run == Some(one) {
            // Half of each of its turns is for somebody who is not here.
            worked += queue.excused(now, quantum / 2).0;
            turns += 1;
        }
    }
    assert!((60..70).contains(&turns), "two of three: {turns}");
    let used = |seat| queue.account(seat).unwrap().used();
    assert!(used(one).abs_diff(used(other)) <= quantum);
    assert_eq!(used(one) + used(other) + worked, now);
    assert!(queue.is_balanced() && queue.is_sound());
}

#[test]
fn interrupts_for_others_take_nothing_from_a_slice() {
    for seed in 0..50 {
        let mut dice = Dice(seed);
        let mut slots = [Slot::EMPTY; 3];
        let mut queue = Queue::new(&mut slots, rules(), 0);
        let seats = [
            arrive(&mut queue, 1, terms(30, 100, Extra::Never)),
            arrive(&mut queue, 2, terms(40, 120, Extra::Never)),
        ];
        let guest = arrive(&mut queue, 3, terms(0, 100, Extra::ByWeight));
        // What each has really had of the CPU, less interrupts and changes.
        let mut own = [0; 3];
        let mut on: Option<usize> = None;
        let (mut now, mut began) = (0, 0);
        while now < 12_000 {
            let decision = queue.decide(now);
            let next = decision.run.map(|_| decision.tag as usize - 1);
            if next != on {
                now += dice.below(2);
                let _ = queue.begins(now, true, 0);
                began = now;
            }
            on = next;
            let end = queue.decision().until.unwrap_or(now + 50);
            let stop = end.min(now + 1 + dice.below(30)).max(now);
            // A few ticks of it are an interrupt for somebody else.
            let interrupt = dice.below(3).min(stop - began.max(now));
            if let Some(who) = on {
                own[who] += stop - now - interrupt;
                assert_eq!(queue.excused(stop, interrupt).0, interrupt, "seed {seed}");
            }
            now = stop;
            assert!(queue.is_balanced() && queue.is_sound(), "seed {seed}");
        }
        for (who, seat) in seats.into_iter().chain([guest]).enumerate() {
            let account = queue.account(seat).unwrap();
            assert_eq!(account.used(), own[who], "vCPU {who}, seed {seed}");
            assert_eq!(account.missed, 0);
        }
        // Whole periods, but for the one that goes on: to the tick, for no decision is late.
        assert!(
            own[0].abs_diff(30 * now / 100) <= 30,
            "{own:?}, seed {seed}"
        );
        assert!(
            own[1].abs_diff(40 * now / 120) <= 40,
            "{own:?}, seed {seed}"
        );
        assert!(own[2] > 0);
    }
}

#[test]
fn who_has_others_work_for_it_everywhere_gets_its_rate_and_no_more() {
    for seed in 0..50 {
        let mut dice = Dice(seed);
        let (mut here, mut there) = ([Slot::EMPTY; 3], [Slot::EMPTY; 3]);
        let mut home = Queue::new(&mut here, rules(), 0);
        let mut other = Queue::new(&mut there, rules(), 0);
        let seat = arrive(&mut home, 1, terms(30, 100, Extra::Never));
        arrive(&mut home, 2, terms(20, 80, Extra::ByWeight));
        arrive(&mut other, 3, terms(50, 100, Extra::ByWeight));
        let _ = (home.decide(0), other.decide(0));
        let mut now = 0;
        while now < 20_000 {
            now += dice.below(9);
            let (excused, _) = other.excused(now, dice.below(3));
            let _ = home.owes(now, seat, excused).unwrap();
            let _ = home.decide(now);
            let _ = other.decide(now);
            assert!(home.is_balanced() && other.is_balanced(), "seed {seed}");
            assert!(home.is_sound() && other.is_sound(), "seed {seed}");
        }
        let account = home.account(seat).unwrap();
        // What is worked for it is not stopped by an empty budget: its own running makes up for it. Decisions are up to
        // nine ticks apart, and a debt is paid from the periods that follow.
        let most = 30 * now / 100 + 2 * 30 + 3 * 9;
        assert!(
            account.used() <= most,
            "{account:?} > {most} at {now}, seed {seed}"
        );
        assert!(account.elsewhere > 1_000, "there was work");
        let idle_there = other.books().idle;
        assert_eq!(
            (home.books().by_others, idle_there),
            (other.books().for_others, 0)
        );
    }
}

#[test]
fn one_alone_that_runs_beyond_its_budget_says_when_that_is_over() {
    let mut slots = [Slot::EMPTY; 2];
    let mut queue = Queue::new(&mut slots, rules(), 0);
    let alone = arrive(&mut queue, 1, terms(30, 100, Extra::ByWeight));
    let decision = queue.decide(0);
    assert_eq!(
        (decision.kind, decision.until),
        (Kind::Guaranteed, Some(100))
    );
    assert_eq!(queue.budget_ends(), Some(30));
    let _ = queue.decide(12);
    assert_eq!(queue.budget_ends(), Some(30));
    let _ = queue.decide(100);
    let account = queue.account(alone).unwrap();
    assert_eq!((account.guaranteed, account.extra), (30, 70));
    assert_eq!(queue.budget_ends(), Some(130));
    // With somebody beside it, the decision ends there and nothing is cut.
    arrive(&mut queue, 2, terms(0, 100, Extra::ByWeight));
    assert_eq!(queue.decide(100).until, Some(130));
    assert_eq!(queue.budget_ends(), None);
}

#[test]
fn what_is_coming_is_told_with_its_time_and_a_seat_survives_as_a_number() {
    let mut slots = [Slot::EMPTY; 1];
    let mut queue = Queue::new(&mut slots, rules(), 0);
    let (now, then) = (terms(30, 100, Extra::Never), terms(40, 90, Extra::Never));
    let seat = arrive(&mut queue, 1, now);
    assert_eq!(Seat::from_bits(seat.to_bits()), seat);
    assert_eq!(queue.coming(seat), Ok(None));
    let (at, _) = queue.change(10, seat, then).unwrap();
    assert_eq!(queue.coming(seat), Ok(Some((then, at))));
    let _ = queue.decide(at);
    assert_eq!(queue.coming(seat), Ok(None));
    assert_eq!(queue.terms(seat), Ok((then, None)));
    let _ = queue.remove(at, seat).unwrap();
    assert!(queue.coming(Seat::from_bits(seat.to_bits())).is_err());
}

#[test]
fn the_quantum_changes_for_turns_to_come_and_nothing_else_does() {
    let mut slots = [Slot::EMPTY; 2];
    let mut queue = Queue::new(&mut slots, rules(), 0);
    arrive(&mut queue, 1, terms(0, 100, Extra::ByWeight));
    arrive(&mut queue, 2, terms(0, 100, Extra::ByWeight));
    assert_eq!(queue.decide(0).until, Some(rules().quantum()));
    let longer = rules().with_quantum(rules().quantum() * 3).unwrap();
    assert!(queue.set_quantum(longer));
    assert_eq!(queue.decide(0).until, Some(rules().quantum()));
    let end = rules().quantum();
    assert_eq!(queue.decide(end).until, Some(end + longer.quantum()));
    let other = reservations::Rules::new(1_000_000, 4, rules().quantum(), 0).unwrap();
    assert!(!queue.set_quantum(other));
    assert_eq!(queue.rules(), &longer);
}

#[test]
fn who_wakes_having_had_less_ends_the_turn_soon_and_its_end_is_for_its_sake() {
    let mut slots = [Slot::EMPTY; 3];
    let mut queue = Queue::new(&mut slots, rules(), 0);
    let quantum = rules().quantum();
    let sleeper = arrive(&mut queue, 5, terms(0, 100, Extra::ByWeight));
    let _ = queue.block(0, sleeper).unwrap();
    let hog = arrive(&mut queue, 6, terms(0, 100, Extra::ByWeight));
    let other = arrive(&mut queue, 7, terms(0, 100, Extra::ByWeight));
    assert_eq!(queue.decide(0).until, Some(quantum));
    assert_eq!(queue.decision().run, Some(hog));
    // The other has its turn; the hog has had a quantum more than the sleeper will be counted.
    assert_eq!(queue.decide(quantum).run, Some(other));
    let _ = queue.decide(2 * quantum);
    assert_eq!(queue.decision().run, Some(hog));
    let began = 2 * quantum;
    assert_eq!(queue.ends_for(began + quantum), None);
    assert_eq!(queue.wake(began + 1, sleeper), Ok(Next::Decide));
    let decision = queue.decide(began + 1);
    let end = began + rules().shortest_turn();
    assert_eq!((decision.run, decision.until), (Some(hog), Some(end)));
    assert_eq!(
        (queue.ends_for(end - 1), queue.ends_for(end)),
        (None, Some(5))
    );
    assert_eq!(queue.decide(end).run, Some(sleeper));
    assert_eq!(queue.ends_for(end + quantum), None);
    // It has had its turn: it cuts none before the others have had theirs.
    let _ = queue.decide(end + quantum);
    let _ = queue.block(end + quantum, sleeper).unwrap();
    let until = queue.decide(end + quantum).until;
    let _ = queue.wake(end + quantum + 1, sleeper).unwrap();
    assert_eq!(queue.decide(end + quantum + 1).until, until);
    assert!(queue.is_sound() && queue.is_balanced());
}
