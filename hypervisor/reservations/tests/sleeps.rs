//! Who goes to sleep is charged by the decision that follows, as if it had been as it fell asleep.

mod sim;

use reservations::{Arrival, Extra, Next, Queue, Seat, Slot};
use sim::{rules, terms};

/// A queue with two vCPUs of 30 in 100 from 0 on, one of which runs since then or later, while the other is down.
fn running(slots: &mut [Slot], extra: Extra, since: u64) -> (Queue<'_>, Seat, Seat) {
    let mut queue = Queue::new(slots, rules(), 0);
    let [seat, other] = [7, 8].map(|tag| {
        let arrival = Arrival {
            tag,
            domain: 1,
            sibling: None,
            origin: 0,
            terms: terms(30, 100, extra),
        };
        queue.arrive(0, arrival).unwrap()
    });
    let _ = queue.up(0, seat).unwrap();
    assert_eq!(queue.decide(since).run, Some(seat));
    (queue, seat, other)
}

#[test]
fn what_a_sleeper_ran_until_the_decision_is_taken_off_its_budget_once() {
    let mut slots = [Slot::EMPTY; 2];
    let (mut queue, seat, _) = running(&mut slots, Extra::Never, 0);
    assert_eq!(queue.block(10, seat), Ok(Next::Decide));
    assert!(queue.is_balanced() && queue.is_sound());
    assert_eq!(queue.decide(12).run, None);
    assert_eq!(queue.period(seat), Ok((100, 18, 0)));
    assert_eq!(queue.account(seat).map(|has| has.guaranteed), Ok(12));
    assert!(queue.is_balanced() && queue.is_sound());
    assert_eq!(queue.wake(20, seat), Ok(Next::Decide));
    assert_eq!(queue.decide(20).run, Some(seat));
    assert_eq!(queue.period(seat), Ok((100, 18, 0)), "its rate allows it");
}

#[test]
fn whenever_it_falls_asleep_it_has_what_it_would_have_if_it_were_charged_then() {
    for extra in [Extra::Never, Extra::ByWeight] {
        // Within its budget, at its end, beyond it; and where it comes too late to have it by the end of its period.
        let asleep = [0, 1, 29, 30, 31, 99, 100, 101, 150].map(|asleep| (0, asleep));
        for (since, asleep) in asleep
            .into_iter()
            .chain([99, 100, 101, 119].map(|asleep| (90, asleep)))
        {
            for wakes in [false, true] {
                let had = [false, true].map(|is_charged_first| {
                    let mut slots = [Slot::EMPTY; 2];
                    let (mut queue, seat, other) = running(&mut slots, extra, since);
                    if is_charged_first {
                        let _ = queue.excused(asleep, 0);
                    }
                    let _ = queue.block(asleep, seat).unwrap();
                    if wakes {
                        let _ = queue.wake(asleep + 1, seat).unwrap();
                    }
                    let _ = queue.up(asleep + 1, other).unwrap();
                    let runs = queue.decide(asleep + 2);
                    assert!(queue.is_balanced() && queue.is_sound());
                    let has = (queue.period(seat), queue.account(seat), queue.books());
                    // Who has had how much of left-over time shows in who comes next.
                    let _ = queue.wake(asleep + 3, seat).unwrap();
                    let then = [60, 130, 200].map(|later| queue.decide(asleep + later));
                    (runs, has, then)
                });
                assert_eq!(had[0], had[1], "{since} to {asleep}, {extra:?}, {wakes}");
            }
        }
    }
}
