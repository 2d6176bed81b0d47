//! Claims about the order of locks.

use crate::order::{Held, RANKS};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

proptest! {
    #[test]
    fn a_lock_is_taken_inside_all_that_are_held_or_not_at_all(
        steps in prop::collection::vec((0..RANKS, any::<bool>()), 0..100),
    ) {
        let (mut held, mut model) = (Held::NONE, Vec::new());
        for (rank, take) in steps {
            if take {
                let innermost = model.iter().copied().max();
                match held.take(rank) {
                    Ok(more) => {
                        prop_assert!(innermost.is_none_or(|inner| inner < rank));
                        model.push(rank);
                        held = more;
                    }
                    Err(inner) => {
                        prop_assert_eq!(Some(inner), innermost);
                        prop_assert!(inner >= rank);
                    }
                }
            } else if let Some(at) = model.iter().position(|&r| r == rank) {
                model.remove(at);
                held = held.give(rank);
            }
            prop_assert_eq!(held.innermost(), model.iter().copied().max());
        }
        for rank in model {
            held = held.give(rank);
        }
        prop_assert_eq!(held, Held::NONE);
    }
}

#[test]
fn a_pair_is_two_of_one_rank_right_after_each_other() {
    let one = Held::NONE.take(3).unwrap();
    assert_eq!(one.take(3), Err(3));
    let two = one.take_second(3).unwrap();
    // No third, neither as one nor as a pair's second.
    assert_eq!(two.take(3), Err(3));
    assert_eq!(two.take_second(3), Err(3));
    assert_eq!(two.take_second(4), Err(3));
    assert!(two.take(4).is_ok());
    // With something inside, the second comes too late.
    assert_eq!(one.take(5).unwrap().take_second(3), Err(5));
    assert_eq!(Held::NONE.take_second(3), Err(3));
}

#[test]
fn a_pair_is_held_until_both_are_given_back() {
    let pair = Held::NONE.take(3).unwrap().take_second(3).unwrap();
    let one = pair.give(3);
    assert_eq!(one.innermost(), Some(3));
    assert_eq!(one.take(3), Err(3));
    assert_eq!(one.give(3), Held::NONE);
}

/// Locks of each rank in the test below, which are told apart by number: pairs are taken in that order.
const OF_EACH: usize = 2;
const SOME_RANKS: u8 = 4;

#[derive(Clone, Debug)]
struct Cpu {
    held: Held,
    has: Vec<(u8, usize)>,
    wants: Option<(u8, usize)>,
}

proptest! {
    #[test]
    fn cpus_that_keep_the_order_never_wait_in_a_circle(
        steps in prop::collection::vec((0usize..3, 0u8..5, 0..SOME_RANKS, 0..OF_EACH), 0..200),
    ) {
        let idle = Cpu { held: Held::NONE, has: Vec::new(), wants: None };
        let mut cpus = vec![idle; 3];
        let owner = |cpus: &[Cpu], lock| cpus.iter().position(|cpu: &Cpu| cpu.has.contains(&lock));
        for (me, what, rank, number) in steps {
            let lock = match cpus[me].wants {
                // It waits: all it can do is to try again.
                Some(lock) => lock,
                None if what == 0 => {
                    if !cpus[me].has.is_empty() {
                        let at = number % cpus[me].has.len();
                        let (rank, _) = cpus[me].has.remove(at);
                        cpus[me].held = cpus[me].held.give(rank);
                    }
                    continue;
                }
                None => {
                    let first = cpus[me].has.iter().find(|(r, _)| *r == rank).map(|(_, n)| *n);
                    let allowed = match first {
                        Some(first) if first < number => cpus[me].held.take_second(rank),
                        _ => cpus[me].held.take(rank),
                    };
                    let Ok(held) = allowed else { continue };
                    // Noted before it waits, as ring 0 does.
                    cpus[me].held = held;
                    (rank, number)
                }
            };
            match owner(&cpus, lock) {
                None => {
                    cpus[me].has.push(lock);
                    cpus[me].wants = None;
                }
                Some(_) => cpus[me].wants = Some(lock),
            }
            let (mut at, mut links) = (me, 0);
            while let Some(other) = cpus[at].wants.and_then(|lock| owner(&cpus, lock)) {
                at = other;
                links += 1;
                prop_assert!(links <= cpus.len(), "a circle");
            }
        }
    }
}
