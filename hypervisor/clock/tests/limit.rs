//! Claims about what may happen only so often.

use clock::AtMost;

#[test]
fn the_first_ones_may_and_the_next_may_not() {
    let mut limit = AtMost::<3>::within(60);
    assert!(limit.take(0) && limit.take(0) && limit.take(59));
    assert!(!limit.take(59));
}

#[test]
fn a_refusal_does_not_count() {
    let mut limit = AtMost::<1>::within(10);
    assert!(limit.take(5));
    assert!((6..15).all(|now| !limit.take(now)));
    assert!(limit.take(15));
}

#[test]
fn what_lies_a_window_back_is_forgotten_one_by_one() {
    let mut limit = AtMost::<2>::within(10);
    assert!(limit.take(0) && limit.take(8));
    assert!(limit.take(10), "the first is ten back");
    assert!(!limit.take(17));
    assert!(limit.take(18), "the second is ten back");
}

#[test]
fn no_window_holds_more_than_the_limit() {
    let mut limit = AtMost::<3>::within(100);
    let taken: Vec<u64> = (0..1000).filter(|now| limit.take(*now)).collect();
    assert!(taken.windows(4).all(|w| w[3] - w[0] >= 100));
    assert_eq!(taken.len(), 30);
}

#[test]
fn a_clock_that_goes_back_gives_nothing_away() {
    let mut limit = AtMost::<1>::within(10);
    assert!(limit.take(100));
    assert!(!limit.take(5));
    assert!(!AtMost::<0>::within(10).take(5), "never is never");
}
