//! Anchors of chains, and the last of a series, against their models.

use proptest::prelude::*;
use sched::{Anchor, LastOf, NotAppended};

#[test]
fn a_chain_only_grows_and_only_from_where_it_is() {
    let mut anchor = Anchor::NONE;
    assert_eq!(anchor.append(0, 0, [1; 32]), Err(NotAppended::GoesBack));
    assert_eq!(anchor.append(1, 5, [1; 32]), Err(NotAppended::NotFromHere));
    // The first that is told of may be any number: those before were told of before the machine started.
    assert_eq!(anchor.append(0, 5, [1; 32]), Ok(()));
    for count in [0, 4, 5] {
        assert_eq!(anchor.append(5, count, [2; 32]), Err(NotAppended::GoesBack));
    }
    assert_eq!(anchor.append(4, 6, [2; 32]), Err(NotAppended::NotFromHere));
    assert_eq!(anchor.told(), (5, [1; 32]));
    assert_eq!(anchor.append(5, u64::MAX, [3; 32]), Ok(()));
    assert_eq!(
        anchor.append(u64::MAX, u64::MAX, [4; 32]),
        Err(NotAppended::GoesBack)
    );
}

proptest! {
    #[test]
    fn no_sequence_of_calls_makes_an_anchor_fall_or_changes_a_head_at_a_length(
        calls in prop::collection::vec((0u64..12, 0u64..12, any::<u8>()), 0..60)
    ) {
        let mut anchor = Anchor::NONE;
        for (from, count, byte) in calls {
            let before = anchor.told();
            let done = anchor.append(from, count, [byte; 32]);
            let after = anchor.told();
            match done {
                Ok(()) => {
                    prop_assert!(after.0 > before.0 && from == before.0);
                    prop_assert_eq!(after, (count, [byte; 32]));
                }
                Err(_) => prop_assert_eq!(after, before),
            }
        }
    }

    #[test]
    fn the_last_of_a_series_are_told_under_their_numbers(pushed in 0u64..40, from in 0u64..50) {
        let mut last = LastOf::<u64, 7>::new();
        for value in 0..pushed {
            last.push(value * 3);
        }
        prop_assert_eq!(last.total(), pushed);
        let wanted = from.max(pushed.saturating_sub(7));
        let told = last.from(from).map(|(number, value)| (number, *value));
        prop_assert_eq!(told, (wanted < pushed).then_some((wanted, wanted * 3)));
    }
}
