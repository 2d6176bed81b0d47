//! Numbers against a set, and in every order of two or three CPUs' steps.

use super::Numbers;
use crate::atomic::AtomicU32;
use interleave::every_order;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::SeqCst;

const WORDS: usize = 3;
const END: u32 = 64 * WORDS as u32 - 5;

#[derive(Clone, Debug)]
enum Op {
    Take(u32),
    Lowest(u32, u32),
    Next,
    Give(u32),
}

fn any_op() -> impl Strategy<Value = Op> {
    let number = 0..END + 10;
    prop_oneof![
        1 => number.clone().prop_map(Op::Take),
        1 => (number.clone(), 0..END).prop_map(|(from, end)| Op::Lowest(from, end)),
        4 => Just(Op::Next),
        3 => number.prop_map(Op::Give),
    ]
}

proptest! {
    #[test]
    fn numbers_are_a_set_and_go_round(ops in prop::collection::vec(any_op(), 0..600)) {
        let (numbers, mut model, mut last) = (Numbers::<WORDS>::new(), BTreeSet::new(), 0);
        for op in ops {
            match op {
                Op::Take(number) => {
                    let expected = number < 64 * WORDS as u32 && model.insert(number);
                    prop_assert_eq!(numbers.take(number), expected);
                }
                Op::Lowest(from, end) => {
                    let expected = (from..end).find(|number| !model.contains(number));
                    prop_assert_eq!(numbers.take_lowest(from..end), expected);
                    model.extend(expected);
                }
                Op::Next => {
                    let mut all = (last + 1..END).chain(1..(last + 1).min(END));
                    let expected = all.find(|number| !model.contains(number));
                    prop_assert_eq!(numbers.take_next(1..END), expected);
                    last = expected.unwrap_or(last);
                    model.extend(expected);
                }
                Op::Give(number) => {
                    // Only who has one gives it back.
                    if model.remove(&number) {
                        numbers.give(number);
                    }
                }
            }
            let listed = std::iter::successors(numbers.next_taken(0), |n| numbers.next_taken(n + 1));
            prop_assert!(listed.eq(model.iter().copied()));
        }
    }
}

/// Numbers, and a holder's mark for each.
struct Toy {
    numbers: Numbers<1>,
    holders: [AtomicU32; 4],
    taken: AtomicU32,
}

impl Toy {
    fn new() -> Toy {
        Toy {
            numbers: Numbers::new(),
            holders: [const { AtomicU32::new(0) }; 4],
            taken: AtomicU32::new(0),
        }
    }

    fn has(&self, number: u32) {
        let others = self.holders[number as usize].swap(1, SeqCst);
        assert_eq!(others, 0, "{number} is somebody else's");
        self.taken.fetch_add(1, SeqCst);
    }

    fn lets_go(&self, number: u32) {
        self.holders[number as usize].store(0, SeqCst);
        self.numbers.give(number);
    }
}

#[test]
fn two_that_take_a_number_get_different_ones() {
    let next = |toy: &Toy| toy.has(toy.numbers.take_next(1..4).unwrap());
    let lowest = |toy: &Toy| toy.has(toy.numbers.take_lowest(0..4).unwrap());
    for acts in [
        [&next as interleave::Act<'_, Toy>, &next, &next],
        [&lowest, &lowest, &lowest],
        [&next, &lowest, &lowest],
    ] {
        every_order(Toy::new, &acts, |toy| {
            assert_eq!(toy.taken.load(SeqCst), 3);
        });
    }
}

#[test]
fn one_of_those_that_ask_for_a_number_gets_it() {
    let ask = |toy: &Toy| {
        if toy.numbers.take(2) {
            toy.has(2);
        }
    };
    let next = |toy: &Toy| toy.has(toy.numbers.take_next(2..4).unwrap());
    every_order(Toy::new, &[&ask, &ask, &ask], |toy| {
        assert_eq!(toy.taken.load(SeqCst), 1);
    });
    every_order(Toy::new, &[&ask, &next, &ask], |toy| {
        assert!((1..=2).contains(&toy.taken.load(SeqCst)));
    });
}

#[test]
fn a_number_given_back_is_anothers_only_then() {
    let come_and_go = |toy: &Toy| {
        if toy.numbers.take(2) {
            toy.has(2);
            toy.lets_go(2);
        }
    };
    every_order(
        Toy::new,
        &[&come_and_go, &come_and_go, &come_and_go],
        |toy| {
            assert!(toy.taken.load(SeqCst) >= 1);
            assert_eq!(toy.numbers.next_taken(0), None);
        },
    );
}
