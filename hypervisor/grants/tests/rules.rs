//! The rules of grants, and a model that any sequence of operations must agree with.

use grants::{
    Access, ENTRIES_PER_FRAME, Entry, FIRST_ENTRIES, Frame, Grants, HANDLES_PER_FRAME,
    MAX_HANDLE_FRAMES, MAX_TABLE_FRAMES, Mapping, Status, Storage, Uses, Wanted,
};
use guest_abi::grant::{
    GNTST_BAD_GNTREF, GNTST_GENERAL_ERROR, GNTST_NO_SPACE, GTF_ACCEPT_TRANSFER, GTF_INVALID,
    GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_SUB_PAGE, GTF_TRANSITIVE, GTF_WRITING,
};
use proptest::prelude::*;

const ME: u16 = 7;

fn entry(flags: u16, domain: u16, frame: u32) -> Entry {
    Entry(u64::from(flags) | u64::from(domain) << 16 | u64::from(frame) << 32)
}

/// Gives an entry storage for its uses, if it wants any.
fn prepare(grants: &mut Grants<'_>, gref: u32) {
    let storage = match grants.wants_uses(gref) {
        None => return,
        Some(Wanted::First) => {
            Storage::First(Box::leak(Box::new([Uses::default(); FIRST_ENTRIES])))
        }
        Some(Wanted::Frame) => {
            Storage::Frame(Box::leak(Box::new([Uses::default(); ENTRIES_PER_FRAME])))
        }
    };
    assert!(grants.add_uses(gref, storage).is_ok());
}

fn handles() -> &'static mut grants::HandleFrame {
    Box::leak(Box::new([Default::default(); HANDLES_PER_FRAME]))
}

fn table() -> Grants<'static> {
    let mut grants = Grants::new(MAX_TABLE_FRAMES, MAX_HANDLE_FRAMES);
    assert!(grants.add_table_frame());
    prepare(&mut grants, 0);
    prepare(&mut grants, FIRST_ENTRIES as u32);
    grants
}

/// Begins a use and stores what it says.
fn use_it(grants: &mut Grants<'_>, gref: u32, word: &mut Entry, access: Access) {
    let begin = grants.begin(gref, *word, ME, access).unwrap();
    *word = begin.store;
    grants.commit(begin);
}

fn end(grants: &mut Grants<'_>, gref: u32, word: &mut Entry, access: Access) {
    word.0 &= !grants.end(gref, access).0;
}

#[test]
fn only_what_is_lent_to_one_can_be_used_and_only_so() {
    let grants = table();
    let general = Err(Status(GNTST_GENERAL_ERROR));
    let begin = |word, access| grants.begin(3, word, ME, access).map(|b| b.frame);
    for access in [Access::Read, Access::Write] {
        assert_eq!(begin(entry(GTF_PERMIT_ACCESS, ME, 9), access), Ok(Frame(9)));
        for flags in [
            GTF_INVALID,
            GTF_ACCEPT_TRANSFER,
            GTF_TRANSITIVE,
            GTF_PERMIT_ACCESS | GTF_SUB_PAGE,
        ] {
            assert_eq!(begin(entry(flags, ME, 9), access), general);
        }
        assert_eq!(begin(entry(GTF_PERMIT_ACCESS, ME + 1, 9), access), general);
    }
    let read_only = entry(GTF_PERMIT_ACCESS | GTF_READONLY, ME, 9);
    assert_eq!(begin(read_only, Access::Read), Ok(Frame(9)));
    assert_eq!(begin(read_only, Access::Write), general);
}

#[test]
fn references_beyond_the_table_are_bad_and_growing_makes_them_good() {
    let mut grants = table();
    let word = entry(GTF_PERMIT_ACCESS, ME, 1);
    let bad = Status(GNTST_BAD_GNTREF);
    for gref in [512, 513, u32::MAX] {
        assert_eq!(grants.place(gref), Err(bad));
        assert_eq!(grants.begin(gref, word, ME, Access::Read), Err(bad));
        assert_eq!(grants.is_in_use(gref), Err(bad));
        assert_eq!(grants.end(gref, Access::Read), Entry::NONE);
    }
    for _ in 1..MAX_TABLE_FRAMES {
        assert!(grants.add_table_frame());
    }
    assert!(!grants.add_table_frame());
    assert_eq!(grants.place(64 * 512 - 1), Ok((63, 511)));
    assert_eq!(grants.place(64 * 512), Err(bad));
}

#[test]
fn the_bits_stand_exactly_while_it_is_used() {
    let mut grants = table();
    let mut word = entry(GTF_PERMIT_ACCESS, ME, 5);
    let bits = |word: Entry| word.flags() & (GTF_READING | GTF_WRITING);
    use_it(&mut grants, 8, &mut word, Access::Read);
    assert_eq!(bits(word), GTF_READING);
    use_it(&mut grants, 8, &mut word, Access::Write);
    use_it(&mut grants, 8, &mut word, Access::Write);
    end(&mut grants, 8, &mut word, Access::Write);
    assert_eq!(bits(word), GTF_READING | GTF_WRITING);
    end(&mut grants, 8, &mut word, Access::Write);
    assert_eq!(bits(word), GTF_READING);
    assert!(grants.is_in_use(8).unwrap() && grants.any_in_use());
    end(&mut grants, 8, &mut word, Access::Read);
    assert_eq!(word, entry(GTF_PERMIT_ACCESS, ME, 5));
    assert!(!grants.any_in_use());
}

/// The attack: the granter puts another frame into an entry that is in use.
#[test]
fn an_entry_in_use_means_the_frame_it_meant_first() {
    let mut grants = table();
    let mut word = entry(GTF_PERMIT_ACCESS, ME, 5);
    use_it(&mut grants, 0, &mut word, Access::Read);
    let other = entry(GTF_PERMIT_ACCESS, ME, 6);
    let refused = grants.begin(0, other, ME, Access::Read);
    assert_eq!(refused, Err(Status(GNTST_GENERAL_ERROR)));
    end(&mut grants, 0, &mut word, Access::Read);
    assert!(grants.begin(0, other, ME, Access::Read).is_ok());
}

/// The attack: so many uses that their count would come round to none.
#[test]
fn uses_cannot_be_counted_over_their_end() {
    let mut grants = table();
    let mut word = entry(GTF_PERMIT_ACCESS, ME, 5);
    for _ in 0..u16::MAX {
        use_it(&mut grants, 1, &mut word, Access::Write);
    }
    let more = grants.begin(1, word, ME, Access::Read);
    assert_eq!(more, Err(Status(GNTST_NO_SPACE)));
}

fn mapping(gref: u32) -> Mapping {
    Mapping {
        granter: ME,
        gref,
        frame: Frame(gref + 100),
        access: if gref & 1 == 0 {
            Access::Read
        } else {
            Access::Write
        },
        host: true,
        device: gref & 2 != 0,
        by_entry: gref & 4 != 0,
    }
}

#[test]
fn handles_are_told_apart_and_end_with_their_last_part() {
    let mut grants = Grants::new(MAX_TABLE_FRAMES, MAX_HANDLE_FRAMES);
    assert_eq!(grants.new_handle(mapping(0)), Err(Status(GNTST_NO_SPACE)));
    assert!(grants.wants_handles() && grants.add_handles(handles()));
    let all: Vec<u32> = (0..HANDLES_PER_FRAME as u32)
        .map(|gref| grants.new_handle(mapping(gref)).unwrap())
        .collect();
    assert!(grants.wants_handles());
    for (gref, handle) in all.iter().enumerate() {
        assert_eq!(grants.handle(*handle), Some(mapping(gref as u32)));
    }
    assert_eq!(grants.mappings().count(), HANDLES_PER_FRAME);
    // For the host and for devices: both parts must go.
    assert_eq!(grants.unmap(all[3], true, false), None);
    assert_eq!(grants.unmap(all[3], true, false), None);
    let ended = grants.unmap(all[3], false, true).unwrap();
    assert_eq!(
        (ended.mapping.gref, ended.mapping.access),
        (3, Access::Write)
    );
    assert_eq!(grants.handle(all[3]), None);
    assert_eq!(grants.unmap(all[3], true, true), None);
    assert_eq!(grants.unmap(all[0], false, false), None);
    assert!(grants.unmap(all[0], true, true).is_some());
    for handle in [256, 1 << 20, u32::MAX] {
        assert_eq!(grants.handle(handle), None);
        assert_eq!(grants.unmap(handle, true, true), None);
    }
    // What was given back is had again, and there is an end to it.
    assert!(grants.new_handle(mapping(1)).is_ok() && grants.new_handle(mapping(1)).is_ok());
    assert!(grants.new_handle(mapping(1)).is_err());
    for frames in 1..MAX_HANDLE_FRAMES {
        if grants.wants_directory() {
            assert!(frames == 8 && !grants.add_handles(handles()));
            grants.add_directory(Box::leak(Box::new([const { None }; MAX_HANDLE_FRAMES - 8])));
        }
        assert!(grants.add_handles(handles()));
    }
    assert!(!grants.add_handles(handles()) && !grants.wants_directory());
    let far = MAX_HANDLE_FRAMES * HANDLES_PER_FRAME - 1;
    let handle = grants.new_handle(mapping(2)).unwrap();
    assert_eq!(handle as usize, far + 1 - HANDLES_PER_FRAME);
    assert_eq!(grants.handle(handle), Some(mapping(2)));
    assert_eq!(grants.handle(far as u32 + 1), None);
}

#[derive(Clone, Debug)]
enum Op {
    Map(u32, bool, bool),
    Unmap(usize, bool, bool),
    Rewrite(u32, u16, u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..4u32, any::<bool>(), any::<bool>()).prop_map(|(g, w, d)| Op::Map(g, w, d)),
        4 => (any::<usize>(), any::<bool>(), any::<bool>()).prop_map(|(h, a, b)| Op::Unmap(h, a, b)),
        1 => (0..4u32, prop_oneof![Just(0u16), Just(1), Just(5)], 0..3u32)
            .prop_map(|(g, f, frame)| Op::Rewrite(g, f, frame)),
    ]
}

proptest! {
    /// Every mapping in force holds one reference; the bits follow the uses, whatever the granter writes beside them.
    #[test]
    fn references_and_bits_follow_the_mappings(ops in prop::collection::vec(op(), 0..200)) {
        let mut grants = table();
        grants.add_handles(handles());
        let mut words = [entry(GTF_PERMIT_ACCESS, ME, 1); 4];
        let mut in_force: Vec<(u32, Mapping)> = Vec::new();
        let mut references = 0i64;
        for op in ops {
            match op {
                Op::Map(gref, writes, device) => {
                    let access = if writes { Access::Write } else { Access::Read };
                    let word = &mut words[gref as usize];
                    if let Ok(begin) = grants.begin(gref, *word, ME, access) {
                        *word = begin.store;
                        grants.commit(begin);
                        references += 1;
                        let mapping = Mapping {
                            granter: ME, gref, frame: begin.frame, access, host: true, device, by_entry: false,
                        };
                        in_force.push((grants.new_handle(mapping).unwrap(), mapping));
                    }
                }
                Op::Unmap(pick, host, device) if !in_force.is_empty() => {
                    let at = pick % in_force.len();
                    let (handle, mapping) = &mut in_force[at];
                    let ended = grants.unmap(*handle, host, device);
                    mapping.host &= !host;
                    mapping.device &= !device;
                    prop_assert_eq!(ended.is_some(), !mapping.host && !mapping.device);
                    if let Some(ended) = ended {
                        references -= 1;
                        let Mapping { gref, access, .. } = ended.mapping;
                        words[gref as usize].0 &= !grants.end(gref, access).0;
                        in_force.remove(at);
                    }
                }
                Op::Unmap(..) => {}
                Op::Rewrite(gref, flags, frame) => {
                    let keep = words[gref as usize].0 & u64::from(GTF_READING | GTF_WRITING);
                    words[gref as usize] = Entry(entry(flags, ME, frame).0 | keep);
                }
            }
            prop_assert_eq!(references, in_force.len() as i64);
            prop_assert_eq!(grants.mappings().count(), in_force.len());
            for (gref, word) in words.iter().enumerate() {
                let mut of_it = in_force.iter().filter(|(_, m)| m.gref as usize == gref);
                let used = of_it.clone().next().is_some();
                let written = of_it.any(|(_, m)| m.access == Access::Write);
                prop_assert_eq!(word.flags() & GTF_READING != 0, used);
                prop_assert_eq!(word.flags() & GTF_WRITING != 0, written);
                let frames: Vec<_> = in_force
                    .iter()
                    .filter(|(_, m)| m.gref as usize == gref)
                    .map(|(_, m)| m.frame)
                    .collect();
                prop_assert!(frames.windows(2).all(|pair| pair[0] == pair[1]));
            }
        }
    }
}

#[test]
fn taking_a_table_apart_tells_every_mapping_once_and_gives_all_storage_back() {
    let mut grants = Grants::new(MAX_TABLE_FRAMES, MAX_HANDLE_FRAMES);
    for _ in 0..2 {
        assert!(grants.add_table_frame());
        assert!(grants.add_handles(handles()));
    }
    for gref in [0, 100, 600] {
        prepare(&mut grants, gref);
    }
    let mapping = |gref| Mapping {
        granter: ME,
        gref,
        frame: Frame(gref + 7),
        access: Access::Read,
        host: true,
        device: false,
        by_entry: false,
    };
    let taken: Vec<_> = (0..300)
        .map(|n| grants.new_handle(mapping(n)).unwrap())
        .collect();
    assert!(grants.unmap(taken[5], true, false).is_some());
    let mut told = Vec::new();
    let mut frames = 0;
    grants.retire();
    loop {
        if let Some(ended) = grants.end_one() {
            told.push(ended.mapping.gref);
        } else if grants.take_handles().is_some() {
            frames += 1;
        } else {
            break;
        }
    }
    told.sort_unstable();
    assert_eq!(told, (0..300).filter(|n| *n != 5).collect::<Vec<_>>());
    assert_eq!((frames, grants.mappings().count()), (2, 0));
    assert!(grants.new_handle(mapping(1)).is_err());
    assert!(!grants.add_handles(handles()) && !grants.add_table_frame());
    assert!(grants.take_directory().is_none());
    assert!(matches!(grants.take_uses(), Some(Storage::Frame(_))));
    assert!(matches!(grants.take_uses(), Some(Storage::Frame(_))));
    assert!(matches!(grants.take_uses(), Some(Storage::First(_))));
    assert!(grants.take_uses().is_none());
    assert!(grants.take_table_frame() && grants.take_table_frame());
    assert!(!grants.take_table_frame());
    assert_eq!(grants.nr_frames(), 0);
}

/// A domain that dies takes its table with it; who still has something of it mapped gives it back as ever.
#[test]
fn a_use_that_outlives_the_table_ends_without_a_trace() {
    let mut grants = table();
    let mut word = entry(GTF_PERMIT_ACCESS, ME, 5);
    use_it(&mut grants, 8, &mut word, Access::Write);
    grants.retire();
    while grants.take_uses().is_some() {}
    assert_eq!(grants.end(8, Access::Write), Entry::NONE);
    assert!(grants.take_table_frame());
    assert_eq!(grants.end(8, Access::Write), Entry::NONE);
    assert_eq!(grants.is_in_use(8), Err(Status(GNTST_BAD_GNTREF)));
    assert!(grants.begin(8, word, ME, Access::Read).is_err());
}

#[test]
fn neither_table_nor_handles_grow_beyond_what_the_domain_may_have() {
    let mut grants = Grants::new(2, 1);
    assert!(grants.add_table_frame() && grants.add_table_frame());
    assert!(!grants.add_table_frame());
    assert!(grants.add_handles(handles()) && !grants.add_handles(handles()));
    for _ in 0..HANDLES_PER_FRAME {
        assert!(grants.new_handle(mapping(0)).is_ok());
    }
    assert_eq!(grants.new_handle(mapping(0)), Err(Status(GNTST_NO_SPACE)));
    assert_eq!((grants.max_frames(), grants.nr_frames()), (2, 2));
}

/// Most entries are never used, so storage comes when one first is: for the first few by itself, for others by the frame.
#[test]
fn an_entry_without_storage_for_its_uses_is_not_in_use_and_cannot_be_used() {
    let mut grants = Grants::new(2, 1);
    let word = entry(GTF_PERMIT_ACCESS, ME, 5);
    assert_eq!(grants.wants_uses(0), None, "there is no such entry");
    assert!(grants.add_table_frame() && grants.add_table_frame());
    for (gref, wanted) in [
        (0, Wanted::First),
        (63, Wanted::First),
        (64, Wanted::Frame),
        (1023, Wanted::Frame),
    ] {
        assert_eq!(grants.wants_uses(gref), Some(wanted));
        assert_eq!(grants.is_in_use(gref), Ok(false));
        let refused = grants.begin(gref, word, ME, Access::Read);
        assert_eq!(refused, Err(Status(GNTST_NO_SPACE)));
        // What lends nothing is no reason to take memory.
        let nothing = grants.begin(gref, Entry::NONE, ME, Access::Read);
        assert_eq!(nothing, Err(Status(GNTST_GENERAL_ERROR)));
    }
    prepare(&mut grants, 63);
    assert_eq!(grants.wants_uses(0), None);
    assert_eq!(grants.wants_uses(64), Some(Wanted::Frame));
    prepare(&mut grants, 1023);
    assert_eq!(grants.wants_uses(512), None);
    assert_eq!(grants.wants_uses(64), Some(Wanted::Frame));
    let mut words = [word; 2];
    use_it(&mut grants, 63, &mut words[0], Access::Write);
    use_it(&mut grants, 1023, &mut words[1], Access::Read);
    let in_use = [0, 63, 512, 1023].map(|gref| grants.is_in_use(gref));
    assert_eq!(in_use, [Ok(false), Ok(true), Ok(false), Ok(true)]);
    grants.retire();
    let late = Box::leak(Box::new([Uses::default(); ENTRIES_PER_FRAME]));
    assert!(grants.add_uses(64, Storage::Frame(late)).is_err());
}
