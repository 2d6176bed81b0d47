//! Two or three CPUs at once, in every order of their steps (see [`super::schedule`]).

use super::machine::Toy;
use super::naive::Ledger;
use super::schedule::every_order;
use super::{A, pinned_tree, ro, rw, two_domains};
use crate::frame::{Left, Taken};
use crate::table::Change;
use crate::{Entry, Frame, FrameType, Level, Machine, Mfn, Refused};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// A frame of A's and counters the CPUs leave their findings in.
struct One {
    frame: Frame,
    clock: AtomicU32,
    nothing_left: AtomicU32,
    newest: AtomicU32,
    mappings: AtomicU32,
}

impl One {
    fn new() -> One {
        let frame = Frame::new();
        frame.assign(A);
        let zero = || AtomicU32::new(0);
        One {
            frame,
            clock: AtomicU32::new(1),
            nothing_left: zero(),
            newest: zero(),
            mappings: zero(),
        }
    }

    fn validated(of: FrameType) -> One {
        let one = One::new();
        one.frame.get_checked(None, of).unwrap();
        one.frame.end_validation(true, 1);
        one
    }

    /// With a use besides its owner's claim.
    fn used() -> One {
        let one = One::new();
        one.frame.get(None).unwrap();
        one
    }

    /// That use, or one that came since, ends.
    fn unmap(&self) {
        self.clock.fetch_add(1, SeqCst);
        self.left(self.frame.put(self.used_until_now()));
    }

    fn now(&self) -> u32 {
        super::schedule::before_step();
        self.clock.load(SeqCst)
    }

    /// Somebody's use of the frame ends now.
    fn used_until_now(&self) -> u32 {
        let now = self.now();
        self.newest.fetch_max(now, SeqCst);
        now
    }

    fn mapped(&self, mapped: bool) {
        self.mappings.fetch_add(u32::from(mapped), SeqCst);
    }

    fn left(&self, left: Left) {
        self.nothing_left
            .fetch_add(u32::from(left == Left::Nothing), SeqCst);
    }
}

fn counts(frame: &Frame) -> (u64, u64) {
    (
        frame.snapshot().type_count(),
        frame.snapshot().general_count(),
    )
}

#[test]
fn a_frame_is_never_writable_and_a_table_at_once() {
    let writer = |one: &One| {
        if one.frame.get_writable(Some(A)).is_ok() {
            assert_eq!(one.frame.snapshot().frame_type(), FrameType::Writable);
            one.frame.put_writable(one.now());
        }
    };
    let checker = |one: &One| {
        if one.frame.get_checked(Some(A), FrameType::L1).is_ok() {
            assert_eq!(one.frame.snapshot().frame_type(), FrameType::L1);
            one.frame.end_validation(true, one.now());
            assert_eq!(one.frame.snapshot().frame_type(), FrameType::L1);
            assert_eq!(one.frame.put_type(one.now()), Left::MustDevalidate);
            one.frame.end_devalidation(one.now());
        }
    };
    let orders = every_order(One::new, &[&writer, &checker, &writer], |one| {
        assert_eq!(counts(&one.frame), (0, 1));
    });
    assert!(orders > 100, "{orders}");
}

#[test]
fn a_table_is_validated_by_one_cpu() {
    let get = |one: &One| match one.frame.get_checked(Some(A), FrameType::L2) {
        Ok(Taken::Fresh { .. }) => {
            one.left(Left::Nothing);
            one.frame.end_validation(true, 1);
        }
        Ok(Taken::Shared) => assert!(one.frame.snapshot().is_validated()),
        Err(_) => {}
    };
    every_order(One::new, &[&get, &get, &get], |one| {
        assert_eq!(one.nothing_left.load(SeqCst), 1, "one of them validated");
        assert!((1..=3).contains(&counts(&one.frame).0));
    });
}

#[test]
fn the_last_drop_of_a_table_excludes_a_new_reference() {
    let drop = |one: &One| match one.frame.put_type(one.now()) {
        Left::MustDevalidate => {
            assert_eq!(one.frame.snapshot().type_count(), 1, "locked");
            assert!(one.frame.get_if_valid(None, FrameType::L1).is_err());
            one.frame.end_devalidation(one.now());
        }
        left => assert_eq!(left, Left::InUse),
    };
    let take = |one: &One| {
        if one.frame.get_if_valid(Some(A), FrameType::L1).is_ok() {
            assert!(
                one.frame.snapshot().is_validated(),
                "a held table stays validated"
            );
            drop(one);
        }
    };
    let fresh = || One::validated(FrameType::L1);
    every_order(fresh, &[&drop, &take, &take], |one| {
        assert_eq!(counts(&one.frame), (0, 1))
    });
}

#[test]
fn a_frame_can_be_taken_only_after_its_devalidation() {
    let fresh = || {
        let one = One::validated(FrameType::L1);
        assert_eq!(one.frame.put_type(1), Left::MustDevalidate);
        one.clock.store(5, SeqCst);
        one
    };
    let end = |one: &One| one.left(one.frame.end_devalidation(one.used_until_now()));
    let take = |one: &One| {
        if let Ok(taken) = one.frame.get_checked(Some(A), FrameType::L2) {
            assert_eq!(
                taken,
                Taken::Fresh {
                    stamp: 5,
                    same: false
                }
            );
        }
    };
    every_order(fresh, &[&end, &take], |one| {
        assert!(counts(&one.frame).0 <= 1)
    });
}

#[test]
fn exactly_one_of_the_last_drops_gives_the_frame_back() {
    let fresh = || {
        let one = One::new();
        one.frame.get(None).unwrap();
        one.frame.get_writable(None).unwrap();
        one
    };
    let give_up = |one: &One| {
        if one.frame.disown() {
            one.left(one.frame.put(one.used_until_now()));
        }
    };
    let unmap_ro = |one: &One| one.left(one.frame.put(one.used_until_now()));
    let unmap_rw = |one: &One| one.left(one.frame.put_writable(one.used_until_now()));
    every_order(fresh, &[&give_up, &unmap_ro, &unmap_rw], |one| {
        assert_eq!(one.nothing_left.load(SeqCst), 1);
        assert!(!one.frame.snapshot().is_alive());
    });
    every_order(fresh, &[&give_up, &give_up, &unmap_ro], |one| {
        assert_eq!(counts(&one.frame), (1, 0));
    });
}

/// The attack: a sibling maps a frame between the look that finds it unmapped and the moment it is taken. The domain then
/// keeps it, and has another in exchange: more than it may have.
#[test]
fn a_frame_is_exchanged_or_mapped_never_both() {
    let exchange = |one: &One| {
        if one.frame.take_sole(A).is_ok() {
            one.left(Left::Nothing);
            one.frame.give_up(one.used_until_now());
        }
    };
    let map_ro = |one: &One| one.mapped(one.frame.get(Some(A)).is_ok());
    let map_rw = |one: &One| one.mapped(one.frame.get_writable(Some(A)).is_ok());
    let pin = |one: &One| one.mapped(one.frame.get_checked(Some(A), FrameType::L1).is_ok());
    let maps: [super::schedule::Act<'_, One>; 3] = [&map_ro, &map_rw, &pin];
    for map in maps {
        let seen = std::cell::Cell::new([false; 2]);
        every_order(One::new, &[&exchange, map, &exchange], |one| {
            let exchanged = one.nothing_left.load(SeqCst);
            let mapped = one.mappings.load(SeqCst) == 1;
            assert_eq!(exchanged, u32::from(!mapped));
            assert_eq!(one.frame.snapshot().is_alive(), mapped);
            assert_eq!(one.frame.snapshot().is_allocated(), mapped);
            let mut both = seen.get();
            both[usize::from(mapped)] = true;
            seen.set(both);
        });
        assert_eq!(seen.get(), [true; 2], "exchanged, and mapped");
    }
}

#[test]
fn a_frame_that_comes_back_to_its_owner_is_whole() {
    let try_in_vain = |one: &One| {
        if one.frame.take_sole(A).is_ok() {
            one.frame.put_back();
        }
    };
    let map_and_unmap = |one: &One| {
        if one.frame.get_writable(Some(A)).is_ok() {
            one.left(one.frame.put_writable(one.now()));
        }
    };
    let acts: [super::schedule::Act<'_, One>; 3] = [&try_in_vain, &map_and_unmap, &try_in_vain];
    every_order(One::new, &acts, |one| {
        assert_eq!(counts(&one.frame), (0, 1));
        assert!(one.frame.snapshot().is_allocated());
        assert_eq!(one.nothing_left.load(SeqCst), 0);
    });
}

/// The attack: a CPU reads the clock, is held up, and is the last to drop; meanwhile another's mapping came and
/// went at a later time.
#[test]
fn the_stamp_is_no_older_than_any_use_that_ended() {
    let fresh = || {
        let one = One::new();
        one.frame.get_writable(None).unwrap();
        one
    };
    let unmap = |one: &One| one.left(one.frame.put_writable(one.used_until_now()));
    let map_and_unmap = |one: &One| {
        one.frame.get_writable(None).unwrap();
        one.clock.fetch_add(1, SeqCst);
        one.left(one.frame.put_writable(one.used_until_now()));
    };
    let orders = every_order(fresh, &[&unmap, &map_and_unmap], |one| {
        assert_eq!(one.frame.stamp(), one.newest.load(SeqCst));
    });
    assert!(orders > 10, "{orders}");
}

#[test]
fn the_stamp_of_a_given_back_frame_is_no_older_than_any_use() {
    let map_and_unmap = |one: &One| {
        if one.frame.get(Some(A)).is_ok() {
            one.unmap();
        }
    };
    let give_up = |one: &One| {
        assert!(one.frame.disown());
        one.left(one.frame.put(one.used_until_now()));
    };
    every_order(One::used, &[&One::unmap, &map_and_unmap, &give_up], |one| {
        assert_eq!(one.nothing_left.load(SeqCst), 1);
        assert_eq!(one.frame.stamp(), one.newest.load(SeqCst));
    });
}

#[test]
fn the_stamp_of_an_exchanged_frame_is_no_older_than_any_use() {
    let exchange = |one: &One| {
        if one.frame.take_sole(A).is_ok() {
            one.clock.fetch_add(1, SeqCst);
            one.frame.give_up(one.used_until_now());
            one.left(Left::Nothing);
        }
    };
    let taken = std::cell::Cell::new(0);
    every_order(One::used, &[&One::unmap, &exchange], |one| {
        if one.nothing_left.load(SeqCst) != 0 {
            taken.set(taken.get() + 1);
            assert_eq!(one.frame.stamp(), one.newest.load(SeqCst));
        }
    });
    assert!(taken.get() > 0);
}

#[test]
fn no_writer_goes_on_before_the_former_use_is_flushed() {
    let fresh = || {
        let toy = pinned_tree();
        toy.tables(A).pin(Mfn(9), Level::L1).unwrap();
        toy.tables(A).unpin(Mfn(9)).unwrap();
        toy
    };
    let map = |index| {
        move |toy: &Toy| {
            let stamp = toy.frame(9).stamp();
            toy.tables(A)
                .update(Mfn(0), Level::L1, index, Change::Set(rw(9)), A)
                .unwrap();
            assert!(toy.flushed_at() > stamp, "F5");
        }
    };
    every_order(fresh, &[&map(7), &map(8)], |toy| {
        assert_eq!(toy.counts(9), (2, 1))
    });
}

/// The attack: a mapping of a frame that is the domain's no more loses its write permission on one CPU and goes on
/// another. Whoever converts the reference after the entry has changed comes too late.
#[test]
fn a_mapping_may_go_while_it_loses_its_write_permission() {
    let fresh = || {
        let toy = pinned_tree();
        toy.give_up(Mfn(4));
        toy
    };
    let update = |change| {
        move |toy: &Toy| {
            toy.tables(A)
                .update(Mfn(0), Level::L1, 0, change, A)
                .unwrap();
        }
    };
    let protect = update(Change::And(!Entry::WRITABLE));
    let remove = update(Change::Set(Entry(0)));
    every_order(fresh, &[&protect, &remove], |toy| {
        assert_eq!(toy.peek(0, 0), Entry(0));
        assert_eq!(*toy.released.lock().unwrap(), [Mfn(4)]);
    });
    let allow = update(Change::Set(rw(5)));
    let protect_too = update(Change::SetKeepAd(ro(4)));
    let protect_if = update(Change::Replace {
        expected: rw(4),
        new: ro(4),
    });
    for other in [
        &allow as super::schedule::Act<'_, Toy>,
        &protect_too,
        &protect,
        &protect_if,
    ] {
        every_order(pinned_tree, &[&protect, other], |toy| {
            Ledger::of_pinned_tree().check(toy);
        });
    }
}

#[test]
fn racing_updates_of_one_entry_leave_one_reference() {
    let update = |entry| {
        move |toy: &Toy| {
            toy.tables(A)
                .update(Mfn(0), Level::L1, 0, Change::Set(entry), A)
                .unwrap();
        }
    };
    let values = [rw(4), ro(4), ro(6), Entry(0)];
    for (at, one) in values.into_iter().enumerate() {
        for other in &values[at..] {
            every_order(pinned_tree, &[&update(one), &update(*other)], |toy| {
                Ledger::of_pinned_tree().check(toy);
            });
        }
    }
}

#[test]
fn a_page_becomes_a_table_or_is_mapped_writable() {
    let fresh = || {
        let toy = pinned_tree();
        // The two paths differ in what they hold; tables other than the tree are pinned.
        toy.poke(8, 0, rw(9));
        toy
    };
    let pin = |toy: &Toy| {
        let _ = toy.tables(A).pin(Mfn(8), Level::L1);
    };
    let map = |toy: &Toy| {
        let _ = toy
            .tables(A)
            .update(Mfn(0), Level::L1, 3, Change::Set(rw(8)), A);
    };
    every_order(fresh, &[&pin, &map], |toy| {
        let mut ledger = Ledger::of_pinned_tree();
        if toy.at(8).is_pinned() {
            assert_eq!(toy.peek(0, 3), Entry(0));
            ledger.pins.insert(8, Level::L1);
        }
        assert!(
            toy.at(8).is_pinned() || toy.peek(0, 3) == rw(8),
            "one of them succeeded"
        );
        ledger.check(toy);
    });
}

/// The attack: between the look at a pinned table's level and the clearing of its pin, others unpin it and pin it
/// as something else. Its entry holds a general reference as a leaf, a type reference as a link.
#[test]
fn an_unpin_drops_what_the_pin_it_cleared_held() {
    let fresh = || {
        let toy = two_domains();
        toy.poke(0, 0, ro(1));
        toy.tables(A).pin(Mfn(0), Level::L1).unwrap();
        toy
    };
    let unpin = |toy: &Toy| {
        let _ = toy.tables(A).unpin(Mfn(0));
    };
    let change = |toy: &Toy| {
        if toy.tables(A).unpin(Mfn(0)).is_ok() {
            let _ = toy.tables(A).pin(Mfn(0), Level::L2);
        }
    };
    every_order(fresh, &[&unpin, &change], |toy| {
        let mut ledger = Ledger::of_two_domains();
        if toy.at(0).is_pinned() {
            ledger.pins.insert(0, Level::L2);
        }
        ledger.check(toy);
    });
}

#[test]
fn linking_and_pinning_at_once_validate_once() {
    let fresh = || {
        let toy = pinned_tree();
        toy.poke(8, 0, rw(9));
        toy
    };
    let pin = |toy: &Toy| {
        let pinned = toy.tables(A).pin(Mfn(8), Level::L1);
        assert!(matches!(pinned, Ok(()) | Err(Refused::Busy)));
    };
    let link = |toy: &Toy| {
        let _ = toy
            .tables(A)
            .update(Mfn(1), Level::L2, 1, Change::Set(rw(8)), A);
        let _ = toy
            .tables(A)
            .update(Mfn(1), Level::L2, 1, Change::Set(Entry(0)), A);
    };
    every_order(fresh, &[&pin, &link], |toy| {
        let mut ledger = Ledger::of_pinned_tree();
        if toy.at(8).is_pinned() {
            ledger.pins.insert(8, Level::L1);
        }
        ledger.check(toy);
        assert!(toy.flush_clock() > 0);
    });
}
