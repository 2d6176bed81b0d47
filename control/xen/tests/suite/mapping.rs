//! Bytes go where they should, and nowhere else.

use crate::domain_with;
use proptest::prelude::*;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use xen::{Access, Hypervisor, PAGE};

/// Pages of the mapping under test.
const PAGES: u64 = 3;
const LEN: usize = PAGES as usize * PAGE;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_written_is_read_and_its_surroundings_stay(
        offset in 0..LEN,
        len in 0..2 * PAGE,
        zeroed in 0..2 * PAGE,
    ) {
        let (fake, domain, mut frames) = domain_with(PAGES);
        // Not in the order they lie in memory.
        frames.reverse();
        let mapping = fake.map_frames(domain, &frames, Access::Write).unwrap();
        let mut model: Vec<u8> = (0..LEN).map(|i| (i % 249) as u8).collect();
        mapping.write(0, &model);
        let len = len.min(LEN - offset);
        let written: Vec<u8> = (0..len).map(|i| 255 - (i % 241) as u8).collect();
        mapping.write(offset, &written);
        model[offset..offset + len].copy_from_slice(&written);
        let mut part = vec![0; len];
        mapping.read(offset, &mut part);
        prop_assert!(part == written);
        let zeroed = zeroed.min(LEN - offset);
        mapping.zero(offset, zeroed);
        model[offset..offset + zeroed].fill(0);
        let mut all = vec![0; LEN];
        mapping.read(0, &mut all);
        prop_assert!(all == model);
        // And seen from the other side, page by page.
        for (page, frame) in frames.iter().enumerate() {
            let mut bytes = vec![0; PAGE];
            fake.read_frame(*frame, 0, &mut bytes);
            prop_assert!(bytes == model[page * PAGE..(page + 1) * PAGE]);
        }
    }
}

#[test]
fn nothing_beyond_the_end_or_against_its_protection_is_touched() {
    let (fake, domain, frames) = domain_with(1);
    let mapping = fake.map_frames(domain, &frames, Access::Write).unwrap();
    let fails = |act: &dyn Fn()| catch_unwind(AssertUnwindSafe(act)).is_err();
    assert!(fails(&|| mapping.write(PAGE - 1, &[0; 2])));
    assert!(fails(&|| mapping.read(usize::MAX, &mut [0; 2])));
    assert!(fails(&|| mapping.zero(1, PAGE)));
    assert!(fails(&|| assert_eq!(mapping.load(PAGE - 3), 0)));
    assert!(fails(&|| assert_eq!(mapping.load(2), 0)));
    assert!(fails(&|| mapping.store(PAGE, 1)));
    let read_only = fake.map_frames(domain, &frames, Access::Read).unwrap();
    mapping.store(8, 7);
    assert_eq!(read_only.load(8), 7);
    assert!(fails(&|| read_only.store(8, 1)));
    assert!(fails(&|| read_only.write(8, &[1])));
}

#[test]
fn a_file_is_read_straight_in_and_one_that_is_too_short_is_told() {
    let (fake, domain, frames) = domain_with(2);
    let mapping = fake.map_frames(domain, &frames, Access::Write).unwrap();
    let path = std::env::temp_dir().join(format!("xeno-xen-test-{}", std::process::id()));
    let bytes: Vec<u8> = (0..5000).map(|i| (i % 247) as u8).collect();
    std::fs::File::create(&path)
        .and_then(|mut file| file.write_all(&bytes))
        .unwrap();
    let file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    mapping.read_file(10, &file, 5, 4995).unwrap();
    let mut seen = vec![0; 4995];
    mapping.read(10, &mut seen);
    assert!(seen == bytes[5..]);
    let error = mapping.read_file(0, &file, 5, 4996).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}
