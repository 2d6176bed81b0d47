//! A decision that is made in parts, and one that is moved between two of them.

mod sim;

use reservations::{Arrival, Extra, Queue, Seat, Slot};
use sim::{rules, terms};

#[test]
fn one_that_a_part_of_a_decision_chose_is_moved_before_it_runs() {
    let mut slots = [Slot::EMPTY; 12];
    let mut queue = Queue::new(&mut slots, rules(), 0);
    let seats: Vec<Seat> = (0..12)
        .map(|tag| {
            let arrival = Arrival {
                tag,
                domain: 1,
                sibling: None,
                origin: 0,
                terms: terms(5, 100, Extra::Never),
            };
            let seat = queue.arrive(0, arrival).unwrap();
            let _ = queue.up(0, seat).unwrap();
            seat
        })
        .collect();
    // All have had theirs by 60, and all begin anew at 100: in parts.
    for now in (0..100).step_by(5) {
        let _ = queue.decide(now);
    }
    let part = queue.decide(100);
    assert_eq!(part.until, Some(100), "there is more to be renewed");
    let chosen = part.run.expect("somebody is chosen already");
    assert!(seats.contains(&chosen));
    // It is on no CPU yet; it is paused, and moved.
    let _ = queue.pause(100, chosen).unwrap();
    let (carried, _) = queue.carry_off(100, chosen).unwrap();
    let mut others = [Slot::EMPTY; 1];
    let mut other = Queue::new(&mut others, rules(), 0);
    let arrived = other.arrive_from(100, &carried, terms(5, 100, Extra::Never), None);
    let (there, _) = arrived.unwrap();
    let _ = other.unpause(100, there).unwrap();
    assert_eq!(other.decide(100).run, Some(there));
    // Here the decision goes on without it, and the others have theirs.
    let mut ran = Vec::new();
    for now in (100..200).step_by(5) {
        while queue.decide(now).until == Some(now) {}
        ran.extend(queue.decision().run);
    }
    ran.sort();
    ran.dedup();
    assert_eq!(ran.len(), seats.len() - 1);
    assert!(!ran.contains(&chosen));
    assert!(queue.is_balanced() && queue.is_sound());
    assert!(other.is_balanced() && other.is_sound());
}
