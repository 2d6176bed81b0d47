//! Claims about work that helpers take away for a while.

use super::{A, B};
use crate::DomId;
use crate::lent::Lent;
use proptest::prelude::*;
use std::vec::Vec;

/// A piece of work: its number, and whose tables it is on.
type Work = (u32, DomId);

fn dom(work: &Work) -> DomId {
    work.1
}

#[test]
fn what_is_away_is_one_s_own_still() {
    let mut kept = Lent::default();
    assert_eq!(kept.keep((1, A)), None);
    assert_eq!(kept.lend(A, |_| true), Some((1, A)));
    // It is neither to be had by the owner nor by another helper, and the owner is not done.
    assert!(kept.is_any() && kept.is_away(A) && !kept.is_away(B));
    assert_eq!((kept.take(), kept.lend(A, |_| true)), (None, None));
    assert_eq!(kept.bring_back(Some((1, A))), None);
    assert!(!kept.is_away(A));
    assert_eq!(kept.take(), Some((1, A)));
    assert!(!kept.is_any());
}

#[test]
fn what_is_unwanted_when_it_comes_back_is_the_helper_s_to_give_up() {
    for replaced in [false, true] {
        let mut kept = Lent::default();
        kept.keep((1, A));
        kept.lend(A, |_| true);
        if replaced {
            assert_eq!(kept.keep((2, B)), None);
        } else {
            assert_eq!(kept.give_up(dom, |whose| whose == A), None);
            assert!(!kept.is_any());
        }
        assert_eq!(kept.lend(B, |_| true), None, "one helper at a time");
        assert_eq!(kept.bring_back(Some((1, A))), Some((1, A)));
        assert_eq!(kept.take(), replaced.then_some((2, B)));
    }
}

#[test]
fn only_work_on_that_domain_s_tables_is_given_up() {
    let mut kept = Lent::default();
    kept.keep((1, A));
    assert_eq!(kept.give_up(dom, |whose| whose == B), None);
    kept.lend(A, |_| true);
    assert_eq!(kept.give_up(dom, |whose| whose == B), None);
    assert!(kept.is_any());
    assert_eq!(kept.bring_back(Some((1, A))), None);
    assert_eq!(kept.give_up(dom, |whose| whose == A), Some((1, A)));
}

#[test]
fn work_that_came_to_nothing_is_found_out_by_its_owner() {
    let mut kept = Lent::default();
    kept.keep((1, A));
    kept.lend(A, |_| true);
    assert_eq!(kept.bring_back(None), None);
    assert!(!kept.is_any());
}

proptest! {
    #[test]
    fn no_piece_of_work_is_lost_or_in_two_places(steps in prop::collection::vec(0..5u8, 0..100)) {
        let (mut kept, mut made, mut ended) = (Lent::default(), 0u32, Vec::new());
        let mut helper: Option<Work> = None;
        for step in steps {
            match step {
                0 => {
                    made += 1;
                    let on = if made % 2 == 0 { A } else { B };
                    ended.extend(kept.keep((made, on)));
                }
                1 => ended.extend(kept.take()),
                2 => ended.extend(kept.give_up(dom, |whose| whose == A)),
                3 if helper.is_none() => helper = kept.lend(A, |work| work.1 == A),
                _ => {
                    if let Some(work) = helper.take() {
                        ended.extend(kept.bring_back(Some(work)));
                    }
                }
            }
            let mut all: Vec<u32> = ended.iter().map(|w: &Work| w.0).collect();
            all.extend(kept.here().map(|w| w.0));
            all.extend(helper.map(|w| w.0));
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(1..=made));
            prop_assert_eq!(helper.is_some(), kept.is_away(A));
        }
    }
}
