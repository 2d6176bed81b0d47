//! The frame word alone: owners, counts, flags, stamps.

use super::{A, B};
use crate::frame::{Denied, Left, Taken};
use crate::word::{GENERAL_LIMIT, GENERAL_MASK, TYPES_MAX};
use crate::{DomId, Frame, FrameType, Level};

fn owned() -> Frame {
    let frame = Frame::new();
    assert!(frame.assign(A));
    frame
}

#[test]
fn a_new_frame_is_nobodys_and_dead() {
    let snap = Frame::new().snapshot();
    assert_eq!(
        (snap.owner(), snap.is_alive(), snap.is_allocated()),
        (DomId::NOBODY, false, false)
    );
}

#[test]
fn an_assigned_frame_is_claimed_once() {
    let frame = owned();
    assert!(!frame.assign(B));
    let snap = frame.snapshot();
    assert_eq!(
        (snap.owner(), snap.general_count(), snap.is_allocated()),
        (A, 1, true)
    );
}

#[test]
fn nobody_takes_a_reference_on_a_dead_frame() {
    let frame = Frame::new();
    for who in [None, Some(A), Some(DomId::NOBODY)] {
        assert_eq!(frame.get(who), Err(Denied::NotYours));
        assert_eq!(frame.get_writable(who), Err(Denied::NotYours));
        assert_eq!(frame.get_checked(who, FrameType::L1), Err(Denied::NotYours));
        assert!(frame.get_if_valid(who, FrameType::L1).is_err());
    }
    assert_eq!(frame.get_for_demotion(), Err(Denied::NotYours));
    assert_eq!(frame.snapshot(), Frame::new().snapshot());
}

#[test]
fn nobody_takes_a_reference_on_an_address_without_memory() {
    let frame = Frame::new();
    frame.mark_io();
    assert!(frame.is_io());
    assert_eq!(frame.get(None), Err(Denied::NotYours));
    assert!(!frame.assign(A));
}

#[test]
fn only_the_owner_takes_references() {
    let frame = owned();
    assert_eq!(frame.get(Some(B)), Err(Denied::NotYours));
    assert_eq!(frame.get_writable(Some(B)), Err(Denied::NotYours));
    assert_eq!(
        frame.get_checked(Some(B), FrameType::L2),
        Err(Denied::NotYours)
    );
    assert_eq!(frame.get(Some(A)), Ok(()));
    assert_eq!(frame.get(None), Ok(()));
}

#[test]
fn a_type_changes_only_while_its_count_is_zero() {
    let frame = owned();
    frame.get_writable(None).unwrap();
    assert_eq!(frame.get_checked(None, FrameType::L1), Err(Denied::InUse));
    frame.put_type(5);
    assert_eq!(
        frame.get_checked(None, FrameType::L1),
        Ok(Taken::Fresh {
            stamp: 5,
            same: false
        })
    );
    assert_eq!(frame.get_writable(None), Err(Denied::InUse));
    assert_eq!(frame.get_checked(None, FrameType::L2), Err(Denied::InUse));
    assert_eq!(
        frame.get_checked(None, FrameType::Descriptors),
        Err(Denied::InUse)
    );
}

#[test]
fn others_find_a_frame_busy_until_its_validation_ends() {
    let frame = owned();
    frame.get_checked(None, FrameType::L1).unwrap();
    assert_eq!(frame.get_checked(None, FrameType::L1), Err(Denied::Busy));
    assert_eq!(frame.get_if_valid(None, FrameType::L1), Err(Denied::InUse));
    assert!(!frame.snapshot().is_validated());
    assert_eq!(frame.end_validation(true, 1), Left::InUse);
    assert!(frame.snapshot().is_validated());
    assert_eq!(frame.get_checked(None, FrameType::L1), Ok(Taken::Shared));
    assert_eq!(frame.get_if_valid(None, FrameType::L1), Ok(()));
    assert_eq!(frame.snapshot().type_count(), 3);
}

#[test]
fn the_last_reference_to_a_table_is_kept_until_it_is_devalidated() {
    let frame = owned();
    frame.get_checked(None, FrameType::L1).unwrap();
    frame.end_validation(true, 1);
    assert_eq!(frame.put_type(9), Left::MustDevalidate);
    assert_eq!(frame.snapshot().type_count(), 1);
    assert_eq!(frame.get_checked(None, FrameType::L1), Err(Denied::Busy));
    assert_eq!(frame.get_writable(None), Err(Denied::InUse));
    assert_eq!(frame.end_devalidation(10), Left::InUse);
    assert_eq!(frame.stamp(), 10);
    assert_eq!(
        frame.get_checked(None, FrameType::L1),
        Ok(Taken::Fresh {
            stamp: 10,
            same: true
        })
    );
}

#[test]
fn a_failed_validation_leaves_no_type_reference() {
    let frame = owned();
    frame.get_checked(None, FrameType::L1).unwrap();
    assert_eq!(frame.end_validation(false, 3), Left::InUse);
    assert_eq!((frame.snapshot().type_count(), frame.stamp()), (0, 3));
}

#[test]
fn exactly_the_last_drop_finds_nothing_left() {
    let frame = owned();
    frame.get_writable(None).unwrap();
    frame.get(None).unwrap();
    assert!(frame.disown());
    assert!(!frame.disown());
    assert_eq!(frame.put(1), Left::InUse);
    assert_eq!(frame.put(2), Left::InUse);
    assert_eq!(frame.put_type(3), Left::Nothing);
    assert_eq!(frame.stamp(), 3);
    assert_eq!(frame.get(None), Err(Denied::NotYours));
    frame.retire();
    assert_eq!(frame.snapshot().owner(), DomId::NOBODY);
    assert!(frame.assign(B));
}

#[test]
fn a_claim_dropped_without_disowning_is_stamped_all_the_same() {
    let frame = owned();
    assert_eq!(frame.put(8), Left::Nothing);
    assert_eq!(frame.stamp(), 8);
}

#[test]
fn a_stamp_only_moves_forward() {
    let frame = owned();
    for now in [5, 4, 6, 6, 3] {
        frame.get_writable(None).unwrap();
        frame.put_writable(now);
    }
    assert_eq!(frame.stamp(), 6);
}

#[test]
fn a_stamp_moves_forward_through_zero() {
    let frame = owned();
    for now in [u32::MAX / 2, u32::MAX - 1, 2, u32::MAX] {
        frame.get_writable(None).unwrap();
        frame.put_writable(now);
    }
    assert_eq!(frame.stamp(), 2);
}

#[test]
fn a_stamp_long_past_is_replaced_whatever_its_number() {
    let frame = owned();
    for now in [5, 0x9000_0000] {
        frame.get_writable(None).unwrap();
        frame.put_writable(now);
    }
    assert_eq!(frame.stamp(), 0x9000_0000);
}

#[test]
fn every_writer_is_told_to_flush_until_one_has() {
    let frame = owned();
    frame.get_checked(None, FrameType::L1).unwrap();
    frame.end_validation(false, 4);
    let fresh = Ok(Taken::Fresh {
        stamp: 4,
        same: false,
    });
    assert_eq!(frame.get_writable(None), fresh);
    assert_eq!(frame.get_writable(None), fresh);
    frame.settle();
    assert_eq!(frame.get_writable(None), Ok(Taken::Shared));
}

#[test]
fn a_frame_written_before_is_written_again_without_a_flush() {
    let frame = owned();
    frame.get_writable(None).unwrap();
    frame.put_writable(4);
    assert_eq!(
        frame.get_writable(None),
        Ok(Taken::Fresh {
            stamp: 4,
            same: true
        })
    );
    assert_eq!(frame.get_writable(None), Ok(Taken::Shared));
}

#[test]
fn a_settled_writable_frame_is_no_validated_table() {
    let frame = owned();
    frame.get_writable(None).unwrap();
    frame.settle();
    assert!(!frame.snapshot().is_validated());
    frame.put_writable(1);
    frame.get_checked(None, FrameType::L1).unwrap();
    assert!(!frame.snapshot().is_validated());
    assert_eq!(frame.get_if_valid(None, FrameType::L1), Err(Denied::InUse));
}

#[test]
fn a_pin_is_set_and_cleared_once() {
    let frame = owned();
    frame.get_checked(None, FrameType::L3).unwrap();
    frame.end_validation(true, 1);
    assert_eq!(frame.clear_pinned(A), Err(Denied::InUse));
    assert!(frame.set_pinned());
    assert!(!frame.set_pinned());
    assert_eq!(frame.clear_pinned(B), Err(Denied::NotYours));
    assert_eq!(frame.clear_pinned(A), Ok(Level::L3));
    assert_eq!(frame.clear_pinned(A), Err(Denied::InUse));
}

#[test]
fn general_references_end_at_their_limit() {
    let frame = Frame::with_general_count(A, GENERAL_LIMIT - 1);
    frame.get(None).unwrap();
    let full = frame.snapshot();
    assert_eq!(frame.get(None), Err(Denied::TooMany));
    assert_eq!(frame.get_writable(None), Err(Denied::TooMany));
    assert_eq!(frame.get_checked(None, FrameType::L1), Err(Denied::TooMany));
    assert_eq!(frame.snapshot(), full);
}

#[test]
fn type_references_end_at_their_limit() {
    let frame = owned();
    for _ in 0..TYPES_MAX {
        frame.get_writable(None).unwrap();
    }
    assert_eq!(frame.get_writable(None), Err(Denied::TooMany));
    frame.put_writable(1);
    frame.get_writable(None).unwrap();
}

#[test]
fn table_references_end_at_their_limit() {
    let frame = owned();
    frame.get_checked(None, FrameType::L1).unwrap();
    frame.end_validation(true, 1);
    for _ in 1..TYPES_MAX {
        frame.get_if_valid(None, FrameType::L1).unwrap();
    }
    assert_eq!(
        frame.get_if_valid(None, FrameType::L1),
        Err(Denied::TooMany)
    );
    assert_eq!(frame.get_checked(None, FrameType::L1), Err(Denied::TooMany));
}

/// The attack: demotions raise the general count past its field, into the type count.
#[test]
fn demotions_never_overflow_the_general_count() {
    let frame = Frame::with_general_count(A, GENERAL_LIMIT - 1);
    // As many writable mappings as there may be, then all of them demoted; and again, until refused.
    let mut refused = 0;
    for _ in 0..3 {
        let mut taken = 0;
        while taken < TYPES_MAX && frame.get_writable(None).is_ok() {
            taken += 1;
        }
        refused += u64::from(taken == 0);
        for left in (0..taken).rev() {
            frame.get_for_demotion().unwrap();
            frame.put_writable(1);
            if left % 4096 == 0 {
                assert_eq!(frame.snapshot().type_count(), left);
            }
        }
    }
    assert_eq!(refused, 2);
    assert!(frame.snapshot().general_count() + 4096 <= GENERAL_MASK);
}

#[test]
fn joining_other_writers_is_asked_in_fewer_steps_with_the_same_answer() {
    use crate::word::{
        ALLOCATED, PINNED, TYPES_ONE, VALID, joins_writable, owner_bits, type_bits, with_type,
    };
    let types = [0, 1, 2, TYPES_MAX - 1, TYPES_MAX].map(|count| count * TYPES_ONE);
    let generals = [0, 1, GENERAL_LIMIT - 1, GENERAL_LIMIT, GENERAL_MASK];
    let uses = (0..8).map(|bits| type_bits(FrameType::from_bits(bits)));
    let mut joined = 0;
    for used in uses {
        for (owner, flags) in [A, B, DomId::NOBODY, DomId::IO]
            .into_iter()
            .flat_map(|owner| [0, VALID, VALID | ALLOCATED, PINNED].map(|flags| (owner, flags)))
        {
            for (count, general) in types
                .into_iter()
                .flat_map(|count| generals.map(|general| (count, general)))
            {
                let word = owner_bits(owner) | used | flags | count | general;
                let long = with_type(word, Some(A), FrameType::Writable);
                let shared = word & VALID != 0 && count != 0 && long.is_ok();
                assert_eq!(joins_writable(word, A), shared, "{word:#x}");
                if shared {
                    assert_eq!(long, Ok(word + TYPES_ONE), "{word:#x}");
                    joined += 1;
                }
            }
        }
    }
    assert!(joined > 0);
}
