//! Numbers given to who joins, against a map.

use proptest::prelude::*;
use sched::{SlotRows, Slots};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug)]
enum Op {
    Join(u16),
    Leave(usize),
    Rename(usize, u16),
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => any::<u16>().prop_map(Op::Join),
        2 => (0..12_usize).prop_map(Op::Leave),
        1 => (0..12_usize, any::<u16>()).prop_map(|(n, who)| Op::Rename(n, who)),
    ]
}

proptest! {
    #[test]
    fn the_lowest_free_number_is_given_out_and_names_who_has_it(ops in prop::collection::vec(any_op(), 0..200)) {
        let mut row = [None; 10];
        let mut slots = Slots::new();
        prop_assert!(slots.add_row(&mut row));
        let mut model = BTreeMap::new();
        for op in ops {
            match op {
                Op::Join(who) => {
                    let free = (0..10).find(|n| !model.contains_key(n));
                    prop_assert_eq!(slots.join(who), free);
                    if let Some(n) = free {
                        model.insert(n, who);
                    }
                }
                Op::Leave(n) => prop_assert_eq!(slots.leave(n), model.remove(&n)),
                Op::Rename(n, who) => {
                    let there = model.get_mut(&n);
                    prop_assert_eq!(slots.rename(n, who), there.is_some());
                    if let Some(old) = there {
                        *old = who;
                    }
                }
            }
            prop_assert_eq!(slots.joined(), model.len());
            for n in 0..12 {
                prop_assert_eq!(slots.get(n), model.get(&n).copied());
            }
        }
    }
}

#[test]
fn a_row_more_brings_the_numbers_that_follow() {
    let per_row = SlotRows::<u64>::PER_ROW;
    let (mut first, mut second) = (vec![None; per_row], vec![Some(7); per_row]);
    let mut slots = Slots::new();
    assert_eq!((slots.capacity(), slots.join(1_u64)), (0, None));
    assert!(slots.add_row(&mut first));
    for number in 0..per_row {
        assert_eq!(slots.join(number as u64), Some(number));
    }
    assert_eq!((slots.join(1), slots.lowest_free()), (None, per_row));
    assert!(slots.add_row(&mut second));
    assert_eq!(slots.get(per_row), None, "what a row held is overwritten");
    assert_eq!(slots.join(9), Some(per_row));
    assert_eq!(slots.capacity(), 2 * per_row);
}
