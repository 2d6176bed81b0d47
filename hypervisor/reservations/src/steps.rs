//! T9, counted: what calls cost in a queue of thousands, whatever happened before.

extern crate std;

use std::vec;
use std::vec::Vec;

use crate::renewals::DUE_AT_ONCE;
use crate::{Arrival, Extra, Queue, Rules, Seat, Slot, Terms};

const VCPUS: usize = 4096;
const LOG: u64 = 12;
/// A server is moved in three heaps at most, each by at most log n + 1 steps up and as many down.
const ONE_MOVE: u64 = 3 * 2 * (LOG + 1);

fn steps(queue: &Queue<'_>) -> u64 {
    queue.ready.steps + queue.waiting.steps + queue.extra.steps
}

#[test]
fn calls_cost_at_most_a_few_times_log_n_steps() {
    let rules = Rules::new(1_000_000_000, 10, 1_000, 0).unwrap();
    let mut slots = vec![Slot::EMPTY; VCPUS];
    let mut queue = Queue::new(&mut slots, rules, 0);
    let mut dice = 1_u64;
    let mut below = |end: u64| {
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % end
    };
    let mut seats: Vec<Seat> = Vec::new();
    for tag in 0..VCPUS as u64 {
        let period = 1_000_000 + below(1_000) * 100;
        let terms = Terms::new(&rules, 200, period, Extra::ByWeight, 256).unwrap();
        let arrival = Arrival {
            tag,
            domain: (tag / 64) as u32,
            sibling: seats.last().copied(),
            origin: 0,
            terms,
        };
        let seat = queue.arrive(0, arrival).unwrap();
        let _ = queue.up(0, seat).unwrap();
        seats.push(seat);
    }
    let (mut now, mut worst_call, mut worst_decision) = (0, 0, 0);
    for _ in 0..60_000 {
        now += below(300);
        let seat = seats[below(VCPUS as u64) as usize];
        let before = steps(&queue);
        match below(6) {
            0 | 1 => drop(queue.wake(now, seat)),
            2 => drop(queue.block(now, seat)),
            3 => drop(queue.pause(now, seat)),
            4 => drop(queue.unpause(now, seat)),
            _ => drop(queue.yield_now(now, seat)),
        }
        worst_call = worst_call.max(steps(&queue) - before);
        let before = steps(&queue);
        let _ = queue.decide(now);
        worst_decision = worst_decision.max(steps(&queue) - before);
    }
    assert!(queue.is_sound() && queue.is_balanced());
    // Charging who ran, ending its period, and the vCPU that is spoken of.
    assert!(worst_call <= 5 * ONE_MOVE, "{worst_call}");
    let most = u64::from(DUE_AT_ONCE + 4) * ONE_MOVE;
    assert!(worst_decision <= most, "{worst_decision}");
    // The count counts: this queue is not one in which nothing moves.
    assert!(worst_call > LOG && worst_decision > LOG);
}
