//! A vCPU moves to another CPU: what is free when, and under which terms it arrives.

mod sim;

use reservations::{Arrival, Extra, Queue, Seat, Slot};
use sim::{rules, terms};

/// A queue with one vCPU of 30 in 100, which has run since 0.
fn running(slots: &mut [Slot]) -> (Queue<'_>, Seat) {
    let mut queue = Queue::new(slots, rules(), 0);
    let arrival = Arrival {
        tag: 7,
        domain: 1,
        sibling: None,
        origin: 0,
        terms: terms(30, 100, Extra::Never),
    };
    let seat = queue.arrive(0, arrival).unwrap();
    let _ = queue.up(0, seat).unwrap();
    assert_eq!(queue.decide(0).run, Some(seat));
    (queue, seat)
}

#[test]
fn one_that_runs_leaves_at_its_periods_end_and_arrives_under_the_new_terms() {
    let (mut here, mut there) = ([Slot::EMPTY; 2], [Slot::EMPTY; 2]);
    let (mut queue, seat) = running(&mut here);
    let (free_at, _) = queue.leave(10, seat).unwrap();
    assert_eq!(free_at, 100, "its room is taken until then");
    assert!(queue.take_one_that_left(10).is_none());
    assert_eq!(queue.decide(30).run, None, "its slice is used up");
    assert!(queue.take_one_that_left(30).is_none());
    let _ = queue.decide(100);
    let left = queue.take_one_that_left(100).expect("its period is over");
    assert_eq!((left.tag(), left.account().guaranteed), (7, 30));

    let mut other = Queue::new(&mut there, rules(), 0);
    let less = terms(10, 50, Extra::Never);
    let (seat, _) = other.arrive_from(101, &left, less, None).unwrap();
    assert_eq!(other.terms(seat), Ok((less, None)));
    assert_eq!(other.period(seat), Ok((151, 10, 0)));
    assert!(queue.is_balanced() && queue.is_sound() && other.is_sound());
}

#[test]
fn one_that_sleeps_leaves_at_once_and_its_room_is_free_when_what_it_took_is_paid_for() {
    let mut here = [Slot::EMPTY; 2];
    let (mut queue, seat) = running(&mut here);
    let _ = queue.block(20, seat).unwrap();
    let _ = queue.decide(20);
    let (free_at, _) = queue.leave(20, seat).unwrap();
    // It took 20 and may take B of the remaining 10: (30 + B) / 100 pays for what is left after 79.
    assert_eq!(free_at, 79);
    assert!(queue.take_one_that_left(20).is_some());
    assert!(queue.wake(21, seat).is_err(), "its seat is nobody's");
}
