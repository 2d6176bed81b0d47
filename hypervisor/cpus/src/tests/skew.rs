//! Claims about counters that are apart.

use super::{Bounds, Exchange, Found, Skew, Trust};
use proptest::prelude::*;
use std::vec::Vec;

/// An exchange of `gone` ticks in which the other counter, `skew` ahead, was read after `at` of them.
fn exchange(ours: u64, gone: u64, at: u64, skew: i64) -> Exchange {
    Exchange {
        before: ours,
        theirs: ours.wrapping_add(at % (gone + 1)).wrapping_add_signed(skew),
        after: ours.wrapping_add(gone),
    }
}

fn all(exchanges: impl IntoIterator<Item = Exchange>) -> Option<Bounds> {
    exchanges
        .into_iter()
        .map(|e| e.bounds())
        .reduce(Bounds::and)
}

proptest! {
    #[test]
    fn the_true_offset_lies_within_the_error_of_many_exchanges(
        skew in -1i64 << 50..1 << 50,
        each in prop::collection::vec((any::<u64>(), 0..1u64 << 40, any::<u64>()), 1..20),
    ) {
        let exchanges: Vec<_> = each.iter().map(|&(ours, gone, at)| exchange(ours, gone, at, skew)).collect();
        let found = all(exchanges).and_then(Bounds::skew).expect("one offset explains all");
        prop_assert!((found.ticks - skew).unsigned_abs() <= found.error, "{found:?}");
        let narrowest = each.iter().map(|e| e.1).min().unwrap_or(0);
        prop_assert!(found.error <= narrowest.div_ceil(2));
    }

    #[test]
    fn counters_that_are_one_are_found_so(each in prop::collection::vec((any::<u64>(), 0..1u64 << 40, any::<u64>()), 1..20)) {
        let found = Found::from(all(each.into_iter().map(|(ours, gone, at)| exchange(ours, gone, at, 0))));
        prop_assert!(found.is_same(), "{found:?}");
        for trust in [Trust::Measured, Trust::Always, Trust::Never] {
            prop_assert_eq!(found.correction(trust), 0);
        }
    }

    #[test]
    fn one_that_is_off_by_more_than_an_exchange_takes_is_found(ours: u64, gone in 0..1u64 << 40, at: u64, more in 1..1i64 << 40, ahead: bool) {
        let skew = (gone as i64 + more) * if ahead { 1 } else { -1 };
        let found = Found::from(all([exchange(ours, gone, at, skew)]));
        let Found::Apart(known) = found else {
            panic!("{found:?}");
        };
        prop_assert_eq!(found.correction(Trust::Measured), known.ticks);
        prop_assert_eq!(found.correction(Trust::Never), known.ticks);
        prop_assert_eq!(found.correction(Trust::Always), 0);
    }

    #[test]
    fn no_exchange_overflows(each in prop::collection::vec(any::<[u64; 3]>(), 0..5)) {
        let exchanges = each.iter().map(|&[before, theirs, after]| Exchange { before, theirs, after });
        let _ = Found::from(all(exchanges)).correction(Trust::Measured);
    }
}

#[test]
fn a_counter_of_another_rate_is_adrift() {
    // Two exchanges of no length, a thousand ticks apart, in which the other counted ten more.
    let drifting = [exchange(1000, 0, 0, 0), exchange(2000, 0, 0, 10)];
    let found = Found::from(all(drifting));
    assert_eq!(found, Found::Adrift);
    assert_eq!(found.correction(Trust::Measured), 0);
    // And stays so, whatever comes after.
    let more = drifting.into_iter().chain([exchange(3000, 500, 100, 0)]);
    assert_eq!(Found::from(all(more)), Found::Adrift);
}

#[test]
fn a_cpu_that_did_not_answer_is_not_taken_for_the_same() {
    assert_eq!(Found::from(None), Found::Nothing);
    assert!(!Found::Nothing.is_same() && !Found::Adrift.is_same());
}

#[test]
fn an_offset_as_large_as_its_error_is_none() {
    let skew = |ticks, error| Skew { ticks, error };
    assert!(skew(-4, 4).is_none() && !skew(5, 4).is_none());
}

#[test]
fn counters_are_stable_if_both_the_cpu_and_the_check_say_so_or_somebody_vouches_for_them() {
    for (invariant, same) in [(false, false), (false, true), (true, false), (true, true)] {
        assert_eq!(
            Trust::Measured.is_stable(invariant, same),
            invariant && same
        );
        assert!(Trust::Always.is_stable(invariant, same));
        assert!(!Trust::Never.is_stable(invariant, same));
    }
}
