//! What is refused, and that a refusal changes nothing.

use super::machine::{ABSENT, BAD_DESCRIPTOR, DEVICE, Toy};
use super::{A, B, pinned_tree, ro, rw, two_domains};
use crate::table::Change;
use crate::{DomId, Entry, FrameType, Level, Mfn, Refused};

const LEVELS: [Level; 4] = [Level::L1, Level::L2, Level::L3, Level::L4];

/// The act is refused as expected and leaves everything as it was.
fn refused<T: PartialEq + std::fmt::Debug>(
    toy: &Toy,
    why: Refused,
    act: impl FnOnce(&Toy) -> Result<T, Refused>,
) {
    let before = toy.image();
    assert_eq!(act(toy), Err(why));
    assert_eq!(toy.image(), before);
}

fn map(toy: &Toy, entry: Entry) -> Result<Entry, Refused> {
    toy.tables(A)
        .update(Mfn(0), Level::L1, 9, Change::Set(entry), A)
}

#[test]
fn a_table_is_never_mapped_writable() {
    let toy = pinned_tree();
    for table in 0..4 {
        refused(&toy, Refused::Invalid, |toy| map(toy, rw(table)));
        map(&toy, ro(table)).unwrap();
        // Nor by a change of permission.
        refused(&toy, Refused::Invalid, |toy| map(toy, rw(table)));
    }
}

#[test]
fn a_page_mapped_writable_becomes_no_table() {
    let toy = pinned_tree();
    for level in LEVELS {
        refused(&toy, Refused::Invalid, |toy| {
            toy.tables(A).pin(Mfn(4), level)
        });
        if level != Level::L1 {
            let above = Mfn(level as u64 - 1);
            let link = Change::Set(rw(4));
            refused(&toy, Refused::Invalid, |toy| {
                toy.tables(A).update(above, level, 9, link, A)
            });
        }
    }
    // Read-only mappings do no harm.
    toy.tables(A).pin(Mfn(5), Level::L1).unwrap();
}

#[test]
fn a_table_that_maps_itself_writable_is_refused() {
    let toy = two_domains();
    toy.poke(0, 0, rw(0));
    refused(&toy, Refused::Invalid, |toy| {
        toy.tables(A).pin(Mfn(0), Level::L1)
    });
    toy.poke(0, 0, ro(0));
    toy.tables(A).pin(Mfn(0), Level::L1).unwrap();
    assert_eq!(toy.counts(0), (1, 2));
    toy.tables(A).unpin(Mfn(0)).unwrap();
    assert_eq!(toy.counts(0), (0, 1));
}

#[test]
fn no_table_names_itself_or_its_own_level() {
    for level in [Level::L2, Level::L3, Level::L4] {
        let toy = two_domains();
        toy.poke(0, 0, rw(0));
        refused(&toy, Refused::Invalid, |toy| {
            toy.tables(A).pin(Mfn(0), level)
        });
        // In a circle of two.
        toy.poke(0, 0, rw(1));
        toy.poke(1, 0, rw(0));
        refused(&toy, Refused::Invalid, |toy| {
            toy.tables(A).pin(Mfn(0), level)
        });
        // Once validated.
        toy.poke(0, 0, Entry(0));
        toy.poke(1, 0, Entry(0));
        toy.tables(A).pin(Mfn(0), level).unwrap();
        toy.tables(A).pin(Mfn(1), level).unwrap();
        for target in [0, 1] {
            let link = Change::Set(rw(target));
            refused(&toy, Refused::Invalid, |toy| {
                toy.tables(A).update(Mfn(0), level, 0, link, A)
            });
        }
    }
}

#[test]
fn a_table_serves_at_one_level_only() {
    let toy = pinned_tree();
    for (mfn, own) in (0..).zip(LEVELS) {
        for level in LEVELS {
            if level != own {
                refused(&toy, Refused::Invalid, |toy| {
                    toy.tables(A).pin(Mfn(mfn), level)
                });
                refused(&toy, Refused::Invalid, |toy| {
                    toy.tables(A).get_table(Mfn(mfn), level)
                });
            }
        }
        refused(&toy, Refused::Invalid, |toy| {
            toy.tables(A).get_descriptors(Mfn(mfn))
        });
    }
    // The root names an L2 where an L3 belongs.
    refused(&toy, Refused::Invalid, |toy| {
        toy.tables(A)
            .update(Mfn(3), Level::L4, 1, Change::Set(rw(1)), A)
    });
}

#[test]
fn frames_of_others_and_of_nobody_are_refused() {
    let toy = pinned_tree();
    for mfn in [16, 22] {
        refused(&toy, Refused::NotYours, |toy| map(toy, rw(mfn)));
        refused(&toy, Refused::NotYours, |toy| map(toy, ro(mfn)));
        refused(&toy, Refused::NotYours, |toy| {
            toy.tables(A).pin(Mfn(mfn), Level::L1)
        });
        refused(&toy, Refused::NotYours, |toy| toy.tables(A).unpin(Mfn(mfn)));
        refused(&toy, Refused::NotYours, |toy| {
            toy.tables(A).get_descriptors(Mfn(mfn))
        });
        refused(&toy, Refused::NotYours, |toy| {
            toy.tables(A)
                .update(Mfn(1), Level::L2, 1, Change::Set(rw(mfn)), A)
        });
    }
    refused(&toy, Refused::NotYours, |toy| toy.tables(B).unpin(Mfn(3)));
    toy.poke(6, 300, ro(16));
    refused(&toy, Refused::NotYours, |toy| {
        toy.tables(A).pin(Mfn(6), Level::L1)
    });
}

#[test]
fn another_domains_frame_is_mapped_only_in_its_name() {
    let toy = pinned_tree();
    let foreign = |entry, owner| {
        toy.tables(A)
            .update(Mfn(0), Level::L1, 9, Change::Set(entry), owner)
    };
    foreign(rw(16), B).unwrap();
    assert_eq!(toy.counts(16), (1, 1));
    refused(&toy, Refused::NotYours, |_| foreign(rw(6), B));
    refused(&toy, Refused::NotYours, |_| foreign(rw(22), DomId::NOBODY));
    // A mapped frame outlives its owner's claim, and is given back by the unmapping.
    assert!(toy.give_up(Mfn(16)));
    assert_eq!(toy.counts(16), (1, 0));
    foreign(Entry(0), A).unwrap();
    assert_eq!(*toy.released.lock().unwrap(), [Mfn(16)]);
}

#[test]
fn device_frames_need_permission_and_hold_no_reference() {
    let toy = pinned_tree();
    map(&toy, rw(DEVICE.0)).unwrap();
    map(&toy, ro(DEVICE.0)).unwrap();
    map(&toy, rw(DEVICE.0)).unwrap();
    let forbidden = DEVICE.0 + 1;
    refused(&toy, Refused::NotYours, |toy| map(toy, rw(forbidden)));
    refused(&toy, Refused::NotYours, |toy| map(toy, ro(forbidden)));
    map(&toy, Entry(0)).unwrap();
    toy.poke(17, 0, ro(DEVICE.0));
    refused(&toy, Refused::NotYours, |toy| {
        toy.tables(B).pin(Mfn(17), Level::L1)
    });
    for level in LEVELS {
        refused(&toy, Refused::Invalid, |toy| {
            toy.tables(A).pin(DEVICE, level)
        });
    }
    refused(&toy, Refused::Invalid, |toy| toy.tables(A).unpin(DEVICE));
    refused(&toy, Refused::Invalid, |toy| {
        toy.tables(A).get_descriptors(DEVICE)
    });
}

#[test]
fn addresses_beyond_the_cpu_are_refused() {
    let toy = pinned_tree();
    for mfn in [ABSENT.0, Entry::ADDRESS >> 12] {
        refused(&toy, Refused::Invalid, |toy| map(toy, rw(mfn)));
        refused(&toy, Refused::Invalid, |toy| map(toy, ro(mfn)));
        refused(&toy, Refused::Invalid, |toy| {
            toy.tables(A).pin(Mfn(mfn), Level::L1)
        });
    }
    toy.tables(A).put_table(ABSENT, Level::L1);
    toy.tables(A).put_descriptors(ABSENT);
}

#[test]
fn a_failed_validation_gives_back_exactly_what_it_took() {
    for level in LEVELS {
        for bad_at in [0, 1, 100, 511] {
            let toy = two_domains();
            let good = level.below().map_or(ro(5), |_| rw(4));
            for index in [0, 1, 99, 200, 510] {
                toy.poke(7, index, good);
            }
            toy.poke(7, bad_at, rw(16));
            refused(&toy, Refused::NotYours, |toy| {
                toy.tables(A).pin(Mfn(7), level)
            });
        }
    }
}

#[test]
fn a_nested_validation_that_fails_gives_back_exactly_what_it_took() {
    let toy = two_domains();
    // 3 -> 2 -> 1 -> {0, 8, 9}: the bad leaf is the last of the last.
    for (table, index, entry) in [
        (3, 0, rw(2)),
        (3, 511, rw(2)),
        (2, 5, rw(1)),
        (1, 0, rw(0)),
        (1, 1, rw(8)),
        (1, 2, rw(9)),
        (0, 0, rw(4)),
        (8, 0, ro(4)),
        (8, 1, rw(4)),
        (9, 0, rw(5)),
        (9, 511, ro(17)),
    ] {
        toy.poke(table, index, entry);
    }
    refused(&toy, Refused::NotYours, |toy| {
        toy.tables(A).pin(Mfn(3), Level::L4)
    });
    // Where a part was in use before, it stays so.
    toy.tables(A).pin(Mfn(8), Level::L1).unwrap();
    refused(&toy, Refused::NotYours, |toy| {
        toy.tables(A).pin(Mfn(3), Level::L4)
    });
    toy.poke(9, 511, ro(5));
    toy.tables(A).pin(Mfn(3), Level::L4).unwrap();
    // 8 is pinned and linked; 4 is mapped by 0 and 8.
    assert_eq!((toy.counts(8), toy.counts(4)), ((2, 1), (2, 2)));
}

#[test]
fn what_is_being_validated_is_busy() {
    let toy = pinned_tree();
    toy.frame(9).get_checked(Some(A), FrameType::L1).unwrap();
    refused(&toy, Refused::Busy, |toy| {
        toy.tables(A).pin(Mfn(9), Level::L1)
    });
    refused(&toy, Refused::Busy, |toy| {
        toy.tables(A)
            .update(Mfn(1), Level::L2, 9, Change::Set(rw(9)), A)
    });
    refused(&toy, Refused::Invalid, |toy| map(toy, rw(9)));
}

#[test]
fn pinning_twice_and_unpinning_twice_are_refused() {
    let toy = pinned_tree();
    refused(&toy, Refused::Invalid, |toy| {
        toy.tables(A).pin(Mfn(3), Level::L4)
    });
    refused(&toy, Refused::Invalid, |toy| toy.tables(A).unpin(Mfn(2)));
    toy.tables(A).unpin(Mfn(3)).unwrap();
    refused(&toy, Refused::Invalid, |toy| toy.tables(A).unpin(Mfn(3)));
}

#[test]
fn bad_descriptors_are_refused() {
    let toy = two_domains();
    toy.poke(6, 0, Entry(BAD_DESCRIPTOR));
    refused(&toy, Refused::Invalid, |toy| {
        toy.tables(A).get_descriptors(Mfn(6))
    });
    toy.poke(6, 0, Entry(0));
    toy.tables(A).get_descriptors(Mfn(6)).unwrap();
    toy.tables(A).get_descriptors(Mfn(6)).unwrap();
    assert_eq!(toy.counts(6), (2, 1));
    refused(&toy, Refused::Invalid, |toy| {
        toy.tables(A).pin(Mfn(6), Level::L1)
    });
    toy.poke(0, 0, rw(6));
    refused(&toy, Refused::Invalid, |toy| {
        toy.tables(A).pin(Mfn(0), Level::L1)
    });
}
