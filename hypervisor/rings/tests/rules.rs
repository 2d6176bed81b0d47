//! A reader does the same as a queue, whatever the indices, and stops for good when it is lied to.

use proptest::prelude::*;
use rings::{Broken, Reader};

#[test]
fn a_claim_beyond_the_ring_breaks_it_for_good() {
    let mut reader = Reader::<32>::starting_at(u32::MAX - 3);
    assert_eq!(reader.look(28), Ok(32));
    assert_eq!(reader.look(29), Err(Broken));
    assert_eq!(reader.look(28), Err(Broken), "and stays broken");
    let mut behind = Reader::<32>::starting_at(10);
    assert_eq!(behind.look(9), Err(Broken), "a claim that goes back");
}

#[test]
fn slots_follow_each_other_across_both_ends() {
    let mut reader = Reader::<4>::starting_at(u32::MAX - 1);
    assert_eq!(reader.look(3), Err(Broken));
    let mut reader = Reader::<4>::starting_at(u32::MAX - 1);
    assert_eq!(reader.look(2), Ok(4));
    let slots: Vec<usize> = (0..4).map(|_| reader.take()).collect();
    assert_eq!(slots, [2, 3, 0, 1]);
    assert_eq!((reader.next(), reader.look(2)), (2, Ok(0)));
}

proptest! {
    /// An honest producer's entries are read once each, in order, and never more than it wrote.
    #[test]
    fn what_is_produced_is_read_once_and_in_order(
        start in any::<u32>(),
        steps in prop::collection::vec((0u32..9, 0u32..9), 1..60),
    ) {
        const SLOTS: u32 = 8;
        let mut ring = [0u32; SLOTS as usize];
        let (mut produced, mut wrote) = (start, 0u32);
        let mut reader = Reader::<SLOTS>::starting_at(start);
        let mut read = Vec::new();
        for (put, get) in steps {
            for _ in 0..put {
                if produced.wrapping_sub(reader.next()) == SLOTS {
                    break;
                }
                ring[(produced % SLOTS) as usize] = wrote;
                (produced, wrote) = (produced.wrapping_add(1), wrote + 1);
            }
            let waiting = reader.look(produced).unwrap();
            for _ in 0..get.min(waiting) {
                read.push(ring[reader.take()]);
            }
        }
        prop_assert!(read.iter().copied().eq(0..read.len() as u32));
        prop_assert_eq!(reader.look(produced), Ok(wrote - read.len() as u32));
    }

    /// Whatever is claimed, no more than a ring's slots are read for it.
    #[test]
    fn no_claim_has_more_read_than_there_is(start in any::<u32>(), claims in prop::collection::vec(any::<u32>(), 1..20)) {
        let mut reader = Reader::<16>::starting_at(start);
        let mut was_broken = false;
        for claim in claims {
            match reader.look(claim) {
                Ok(waiting) => {
                    prop_assert!(!was_broken && waiting <= 16);
                    for _ in 0..waiting {
                        prop_assert!(reader.take() < 16);
                    }
                    prop_assert_eq!(reader.next(), claim);
                }
                Err(Broken) => was_broken = true,
            }
        }
    }
}
