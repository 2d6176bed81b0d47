//! What is kept of a vCPU's charges is what its queue says, whatever is done to it and when.

mod sim;

use proptest::prelude::*;
use reservations::{Arrival, Charge, Dues, Extra, Queue, Rules, Seat, Slot, Terms};
use sim::Dice;

const MS: u64 = 1_000_000;
const VCPUS: usize = 4;

fn rules() -> Rules {
    Rules::new(1_000_000_000, 20_000, MS, 0).unwrap()
}

/// Some terms, of which two may cost the same.
fn terms(dice: &mut Dice) -> Terms {
    let (slice, period) = match dice.below(6) {
        0 => (0, 1000 * MS),
        1 => (8 * MS, 80 * MS),
        2 => (16 * MS, 160 * MS),
        3 => (MS / 2, 4 * MS),
        4 => (20 * MS, 100 * MS),
        _ => (MS, 40 * MS),
    };
    let weight = 1 + dice.below(500) as u16;
    Terms::new(&rules(), slice, period, Extra::ByWeight, weight).unwrap()
}

/// A vCPU, the queue it is in, and what is kept beside it.
struct Vcpu {
    cpu: usize,
    seat: Seat,
    dues: Dues,
}

/// What is in force, and the most of that and what is to come, by the queue alone.
fn said(queue: &Queue<'_>, now: u64, seat: Seat) -> (Charge, Charge, Charge) {
    let (in_force, coming) = queue.promised(now, seat).unwrap();
    let in_force = in_force.charge(&rules());
    let coming = coming.map_or(Charge::NOTHING, |(terms, _)| terms.charge(&rules()));
    let granted = queue.granted(seat).unwrap().charge(&rules());
    (granted, in_force, in_force.at_least(coming))
}

/// Does anything that is done to queues; how often a period ended sooner than was told, and what was kept told it.
fn live(seed: u64, steps: u32) -> u32 {
    let mut dice = Dice(seed);
    let mut storage = [[Slot::EMPTY; VCPUS]; 2];
    let [first, second] = &mut storage;
    let mut queues = [
        Queue::new(first, rules(), 0),
        Queue::new(second, rules(), 0),
    ];
    let (mut now, mut sooner) = (0, 0);
    let mut vcpus: Vec<_> = (0..VCPUS as u64)
        .map(|tag| {
            let terms = terms(&mut dice);
            let arrival = Arrival {
                tag,
                domain: 7,
                sibling: None,
                origin: 0,
                terms,
            };
            let seat = queues[0].arrive(0, arrival).unwrap();
            let _ = queues[0].up(0, seat).unwrap();
            let dues = Dues::new(terms.charge(&rules()));
            Vcpu { cpu: 0, seat, dues }
        })
        .collect();
    for _ in 0..steps {
        now += match dice.below(4) {
            0 => 0,
            1 => dice.below(50_000),
            2 => dice.below(2 * MS),
            _ => dice.below(9 * MS),
        };
        let vcpu = &mut vcpus[dice.below(VCPUS as u64) as usize];
        let (queue, seat) = (&mut queues[vcpu.cpu], vcpu.seat);
        match dice.below(12) {
            0..=2 => {
                let to = terms(&mut dice);
                // A CPU's clock may be behind that which the queue was told the time by.
                let here = now - dice.below(20_000).min(now);
                let until = queue.change_one(here, seat, to).unwrap();
                let (in_force, _) = queue.terms(seat).unwrap();
                let (has, will) = (in_force.charge(&rules()), to.charge(&rules()));
                vcpu.dues = Dues::changing(has, will, until);
            }
            3 | 4 => drop(queue.block(now, seat).unwrap()),
            5 | 6 => drop(queue.wake(now, seat).unwrap()),
            7 => drop(queue.pause(now, seat).unwrap()),
            8 => drop(queue.unpause(now, seat).unwrap()),
            9 => drop(queue.yield_now(now, seat).unwrap()),
            10 => drop(queue.owes(now, seat, dice.below(MS)).unwrap()),
            _ => {
                // Whoever moves is in nobody's hand, and has there what it was granted.
                let to = queue.granted(seat).unwrap();
                let (carried, _) = queue.carry_off(now, seat).unwrap();
                vcpu.cpu = 1 - vcpu.cpu;
                let queue = &mut queues[vcpu.cpu];
                vcpu.seat = queue.arrive_from(now, &carried, to, None).unwrap().0;
                vcpu.dues = Dues::new(to.charge(&rules()));
            }
        }
        for queue in &mut queues {
            if dice.below(3) != 0 {
                let _ = queue.decide(now);
            }
        }
        for at in [
            now - dice.below(20_000).min(now),
            now,
            now + dice.below(10 * MS),
        ] {
            for Vcpu { cpu, seat, dues } in &vcpus {
                let (queue, seat) = (&queues[*cpu], *seat);
                let comes = || queue.comes(seat).unwrap();
                let kept = (
                    dues.granted(),
                    dues.in_force(at, comes),
                    dues.most(at, comes),
                );
                assert_eq!(kept, said(queue, at, seat), "seed {seed} at {at}");
                let untold = dues.in_force(at, || true);
                sooner += u32::from(untold != kept.1);
                assert_eq!(Dues::from_words(dues.words()), *dues);
            }
        }
    }
    sooner
}

proptest! {
    #[test]
    fn what_is_kept_is_what_the_queue_says(seed in any::<u64>()) {
        let _ = live(seed, 400);
    }
}

#[test]
fn the_queue_is_asked_because_periods_end_sooner_than_was_told() {
    assert_ne!((0..20).map(|seed| live(seed, 400)).sum::<u32>(), 0);
}

#[test]
fn the_queue_is_not_asked_where_it_does_not_matter() {
    let never = || panic!("it is asked");
    let charge = |slice| {
        let terms = Terms::new(&rules(), slice, 10 * MS, Extra::Never, 256).unwrap();
        terms.charge(&rules())
    };
    let (little, much) = (charge(MS), charge(2 * MS));
    let dues = Dues::new(little);
    assert_eq!(
        (dues.in_force(0, never), dues.most(0, never)),
        (little, little)
    );
    // The same again; then more, of which the most is known.
    let same = Dues::changing(little, little, 9);
    assert_eq!(
        (same.in_force(6, never), same.most(6, never)),
        (little, little)
    );
    let more = Dues::changing(little, much, 9);
    assert_eq!(
        (more.in_force(8, || true), more.most(8, never)),
        (little, much)
    );
    assert_eq!((more.in_force(9, never), more.most(9, never)), (much, much));
    let less = Dues::changing(much, little, 20);
    assert_eq!(
        (less.in_force(19, || true), less.most(19, || true)),
        (much, much)
    );
    assert_eq!(
        (less.in_force(19, || false), less.most(19, || false)),
        (little, little)
    );
}
