//! Who begins has not the CPU at once, and does not pay for that: the end of its decision counts on it.

mod sim;

use reservations::{Extra, Next, Queue, Rules, Slot, Terms};
use sim::{Dice, arrive};

#[test]
fn a_budgets_end_is_noticed_once_though_coming_takes_time_that_is_not_paid_for() {
    const SLICE: u64 = 1_000_000;
    const NOTICED: u64 = 500;
    let rules = Rules::new(1_000_000_000, 20_000, SLICE, 0).unwrap();
    let terms = Terms::new(&rules, SLICE, 10 * SLICE, Extra::Never, 256).unwrap();
    // What takes longer than is counted on is noticed twice.
    for (comes_in, is_long) in [(0, false), (900, false), (2_000, false), (5_000, true)] {
        let mut slots = [Slot::EMPTY; 4];
        let mut queue = Queue::new(&mut slots, rules, 0);
        for tag in 0..4 {
            arrive(&mut queue, tag, terms);
        }
        let (mut now, mut again, mut turns) = (0, 0, 0);
        let mut decision = queue.decide(now);
        while turns < 400 {
            // The change itself, and then the way to its guest, which another pays for.
            let mut not_its_own = 0;
            if decision.run.is_some() {
                now += 700;
                assert_eq!(queue.begins(now, true, 0), Next::Keep);
                not_its_own = comes_in;
            }
            let ran = decision.run;
            loop {
                // Which takes a little to be noticed, too.
                now = queue.decision().until.unwrap() + NOTICED;
                decision = queue.decide_excusing(now, not_its_own, |_| ());
                not_its_own = 0;
                if ran.is_none() || decision.run != ran {
                    break;
                }
                // It is still learned how long that takes.
                again += u64::from(turns > 100);
            }
            turns += 1;
            let account =
                ran.map(|seat| (queue.account(seat).unwrap(), queue.period(seat).unwrap()));
            if let Some((account, (_, _, debt))) = account {
                assert!(account.missed == 0 && debt <= NOTICED, "{account:?} {debt}");
            }
        }
        assert_eq!(again != 0, is_long, "{again} of {turns}, {comes_in}");
        assert!(queue.is_balanced() && queue.is_sound());
    }
}

#[test]
fn who_comes_sooner_than_the_one_before_overruns_by_a_tenth_of_b_at_most() {
    const SLICE: u64 = 1_000_000;
    let rules = Rules::new(1_000_000_000, 20_000, SLICE, 0).unwrap();
    let terms = Terms::new(&rules, SLICE, 10 * SLICE, Extra::Never, 256).unwrap();
    let mut dice = Dice(7);
    let mut slots = [Slot::EMPTY; 4];
    let mut queue = Queue::new(&mut slots, rules, 0);
    let seats: Vec<_> = (0..4).map(|tag| arrive(&mut queue, tag, terms)).collect();
    let (mut now, mut worst) = (0, 0);
    let mut decision = queue.decide(now);
    for _ in 0..2_000 {
        let mut not_its_own = 0;
        if decision.run.is_some() {
            let _ = queue.begins(now, true, 0);
            not_its_own = dice.below(6_000);
        }
        now = queue.decision().until.unwrap();
        let ran = decision.run;
        decision = queue.decide_excusing(now, not_its_own, |_| ());
        if let Some(ran) = ran {
            worst = worst.max(queue.period(ran).unwrap().2);
        }
    }
    assert!(worst <= rules.section() / 10, "{worst}");
    // In whole periods nobody has more by more than that, nor less.
    let periods = now / (10 * SLICE);
    for seat in seats {
        let used = queue.account(seat).unwrap().used();
        let whole = (periods - 1) * SLICE..=(periods + 1) * SLICE + worst;
        assert!(whole.contains(&used), "{used} in {periods} periods");
    }
}
