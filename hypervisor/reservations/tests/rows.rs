//! A queue's storage comes in rows, while vCPUs are in it.

mod sim;

use reservations::{Arrival, Extra, Full, Queue, Seat, Slot};
use sim::{rules, terms};

fn arrive(queue: &mut Queue<'_>, now: u64, tag: u64) -> Result<Seat, Full> {
    let arrival = Arrival {
        tag,
        domain: 1,
        sibling: None,
        origin: 0,
        terms: terms(3, 300, Extra::ByWeight),
    };
    queue.arrive(now, arrival)
}

#[test]
fn a_row_more_moves_nobody() {
    let per_row = Queue::PER_ROW;
    let mut first = vec![Slot::EMPTY; per_row];
    let mut second = vec![Slot::EMPTY; 3];
    let mut third = vec![Slot::EMPTY; per_row];
    let mut queue = Queue::new(&mut [], rules(), 0);
    assert_eq!(arrive(&mut queue, 0, 0), Err(Full));
    assert!(queue.add_row(&mut first));
    let mut seats = Vec::new();
    for tag in 0..per_row as u64 {
        let seat = arrive(&mut queue, 0, tag).unwrap();
        let _ = queue.up(0, seat).unwrap();
        seats.push(seat);
    }
    assert_eq!(arrive(&mut queue, 0, 99), Err(Full));
    let before = queue.decide(0);
    let periods: Vec<_> = seats.iter().map(|&seat| queue.period(seat)).collect();

    assert!(queue.add_row(&mut second));
    assert_eq!(queue.decision(), before);
    let same: Vec<_> = seats.iter().map(|&seat| queue.period(seat)).collect();
    assert_eq!(same, periods);
    for (tag, &seat) in seats.iter().enumerate() {
        assert_eq!(queue.tag(seat), Ok(tag as u64));
    }
    for tag in 0..3 {
        let seat = arrive(&mut queue, 1, 100 + tag).unwrap();
        let _ = queue.up(1, seat).unwrap();
        assert_eq!(queue.tag(seat), Ok(100 + tag));
    }
    assert_eq!(queue.capacity(), per_row + 3);
    assert_eq!(arrive(&mut queue, 1, 99), Err(Full));
    assert!(queue.is_sound() && queue.is_balanced());

    // Behind one that is not full there is no more.
    assert!(!queue.add_row(&mut third));
    assert_eq!(arrive(&mut queue, 1, 99), Err(Full));
}

#[test]
fn slots_are_given_again_and_old_seats_stay_nobodys() {
    let mut row = vec![Slot::EMPTY; 2];
    let mut queue = Queue::new(&mut [], rules(), 0);
    assert!(queue.add_row(&mut row));
    let mut old = Vec::new();
    for tag in 0..100 {
        let seat = arrive(&mut queue, tag, tag).unwrap();
        assert!(old.iter().all(|&seat| queue.tag(seat).is_err()));
        let _ = queue.remove(tag, seat).unwrap();
        old.push(seat);
    }
}
