//! What was had over time, against the sum over single ticks.

use proptest::prelude::*;
use sched::{Held, SharedHeld};

proptest! {
    #[test]
    fn the_sum_over_time_is_the_sum_over_every_tick(
        begin in 0_u64..1 << 62,
        steps in prop::collection::vec((0_u64..40, -30_i64..40), 0..60),
    ) {
        let (mut held, shared) = (Held::new(), SharedHeld::new());
        let (mut at, mut number, mut peak, mut sum) = (begin, 0_u64, 0, 0_u128);
        for (later, change) in steps {
            for _ in 0..later {
                sum += u128::from(number);
            }
            at += later;
            let change = change.max(-i64::try_from(number).unwrap());
            match u64::try_from(change) {
                Ok(more) => {
                    held.take(more, at);
                    shared.take(more, at);
                }
                Err(_) => {
                    held.give(change.unsigned_abs(), at);
                    shared.give(change.unsigned_abs(), at);
                }
            }
            number = number.checked_add_signed(change).unwrap();
            peak = peak.max(number);
            prop_assert_eq!(shared.held(), held);
            prop_assert_eq!((held.now(), held.peak()), (number, peak));
            prop_assert_eq!(held.over_time_until(at), sum);
            prop_assert_eq!(held.over_time_until(at + 9), sum + 9 * u128::from(number));
        }
    }
}

#[test]
fn a_clock_behind_counts_nothing_and_takes_nothing_back() {
    let mut held = Held::new();
    held.take(3, 100);
    held.give(1, 90);
    assert_eq!(held.over_time_until(95), 0);
    assert_eq!(held.over_time_until(110), 20);
}

#[test]
fn it_does_not_overflow_where_a_word_would() {
    let mut held = Held::new();
    held.take(1 << 40, 1);
    held.give(1 << 40, 1 + (1 << 60));
    assert_eq!(held.over_time_until(u64::MAX), 1 << 100);
}
