//! The memory map against maps that firmware should not give, and against a model that keeps a kind for every byte.

use boot_info::{
    FirmwareRegion, MAX_REGIONS, MemoryMap, PAGE_SIZE, PHYSICAL_LIMIT, Region, RegionKind,
};
use proptest::prelude::*;

fn region(start: u64, len: u64, kind: RegionKind) -> FirmwareRegion {
    FirmwareRegion { start, len, kind }
}

fn map(regions: &[FirmwareRegion]) -> MemoryMap {
    MemoryMap::from_firmware(|visit| regions.iter().copied().for_each(&mut *visit))
}

fn listed(map: &MemoryMap) -> Vec<(u64, u64, RegionKind)> {
    map.iter()
        .map(|Region { start, end, kind }| (start, end, kind))
        .collect()
}

fn assert_normalised(map: &MemoryMap) {
    let regions = listed(map);
    for (start, end, _) in &regions {
        assert!(start < end && *end <= PHYSICAL_LIMIT, "{regions:x?}");
    }
    for pair in regions.windows(2) {
        let ((_, end, kind), (next, _, next_kind)) = (pair[0], pair[1]);
        assert!(
            end < next || (end == next && kind != next_kind),
            "{regions:x?}"
        );
    }
}

#[test]
fn an_honest_unsorted_map_comes_out_sorted_and_merged() {
    let map = map(&[
        region(0x10_0000, 0x700_0000, RegionKind::Usable),
        region(0xf_0000, 0x1_0000, RegionKind::Reserved),
        region(0, 0x9_fc00, RegionKind::Usable),
        region(0x9_fc00, 0x400, RegionKind::Reserved),
        region(0x710_0000, 0x10_0000, RegionKind::Usable),
    ]);
    assert_eq!(
        listed(&map),
        [
            (0, 0x9_fc00, RegionKind::Usable),
            (0x9_fc00, 0xa_0000, RegionKind::Reserved),
            (0xf_0000, 0x10_0000, RegionKind::Reserved),
            (0x10_0000, 0x720_0000, RegionKind::Usable),
        ]
    );
    assert_eq!(
        map.usable_frames().collect::<Vec<_>>(),
        [(0, 0x9f), (0x100, 0x7200)]
    );
    assert_eq!(map.usable_bytes(), (0x9f + 0x7100) * PAGE_SIZE);
    assert_eq!(map.ram_end_frame(), 0x7200);
    assert_eq!(map.dropped(), 0);
}

#[test]
fn where_entries_overlap_the_more_restrictive_wins_in_either_order() {
    let usable = region(0, 0x10_000, RegionKind::Usable);
    for kind in [
        RegionKind::Reserved,
        RegionKind::AcpiNvs,
        RegionKind::AcpiReclaimable,
        RegionKind::Bad,
    ] {
        let hole = region(0x4000, 0x1000, kind);
        for order in [[usable, hole], [hole, usable]] {
            assert_eq!(
                listed(&map(&order)),
                [
                    (0, 0x4000, RegionKind::Usable),
                    (0x4000, 0x5000, kind),
                    (0x5000, 0x1_0000, RegionKind::Usable)
                ]
            );
        }
    }
    let bad = map(&[
        region(0, 0x3000, RegionKind::Reserved),
        region(0x1000, 0x1000, RegionKind::Bad),
    ]);
    assert_eq!(bad.kind_at(0x1fff), Some(RegionKind::Bad));
    assert_eq!(bad.kind_at(0x2000), Some(RegionKind::Reserved));
    assert_eq!(bad.kind_at(0x3000), None);
}

#[test]
fn empty_entries_leave_no_trace() {
    let map = map(&[
        region(0x1000, 0, RegionKind::Usable),
        region(u64::MAX, 0, RegionKind::Reserved),
    ]);
    assert!(map.regions().is_empty());
    assert_eq!(map.dropped(), 0);
}

#[test]
fn usable_memory_that_wraps_around_is_a_lie_and_a_wrapping_reservation_holds_to_the_end() {
    let map = map(&[
        region(0, 0x10_0000, RegionKind::Usable),
        region(0x20_0000, u64::MAX, RegionKind::Usable),
        region(0x8_0000, u64::MAX, RegionKind::Reserved),
    ]);
    assert_eq!(
        listed(&map),
        [
            (0, 0x8_0000, RegionKind::Usable),
            (0x8_0000, PHYSICAL_LIMIT, RegionKind::Reserved)
        ]
    );
    assert_eq!(map.dropped(), 1);
}

#[test]
fn nothing_reaches_beyond_52_bits() {
    let map = map(&[
        region(PHYSICAL_LIMIT - 0x1000, 0x2000, RegionKind::Usable),
        region(PHYSICAL_LIMIT + 0x1000, 0x1000, RegionKind::Usable),
    ]);
    assert_eq!(
        listed(&map),
        [(PHYSICAL_LIMIT - 0x1000, PHYSICAL_LIMIT, RegionKind::Usable)]
    );
    assert_eq!(map.dropped(), 1);
}

#[test]
fn a_claim_takes_whole_pages_of_usable_memory_and_of_nothing_else() {
    let mut map = map(&[
        region(0, 0x10_000, RegionKind::Usable),
        region(0x10_000, 0x1000, RegionKind::AcpiNvs),
    ]);
    map.claim(0x1800, 0x2001);
    map.claim(0xf800, 0x10_800);
    map.claim(5, 5);
    assert_eq!(
        listed(&map),
        [
            (0, 0x1000, RegionKind::Usable),
            (0x1000, 0x3000, RegionKind::Claimed),
            (0x3000, 0xf000, RegionKind::Usable),
            (0xf000, 0x1_0000, RegionKind::Claimed),
            (0x1_0000, 0x1_1000, RegionKind::AcpiNvs),
        ]
    );
    map.claim(0, u64::MAX);
    assert_eq!(map.usable_bytes(), 0);
    assert_normalised(&map);
}

#[test]
fn a_page_that_is_only_partly_usable_is_not_used() {
    let map = map(&[
        region(0x800, 0x2000, RegionKind::Usable),
        region(0x5001, 0xffe, RegionKind::Usable),
    ]);
    assert_eq!(map.usable_frames().collect::<Vec<_>>(), [(1, 2)]);
}

#[test]
fn a_full_map_gives_up_usable_memory_and_never_a_reservation_within_it() {
    let mut regions = vec![region(0, 1 << 40, RegionKind::Usable)];
    let holes = 2 * MAX_REGIONS as u64;
    regions.extend((1..=holes).map(|index| region(index << 24, 0x1000, RegionKind::Reserved)));
    let map = map(&regions);
    assert!(map.dropped() > 0);
    assert_normalised(&map);
    for index in 1..=holes {
        assert_ne!(
            map.kind_at(index << 24),
            Some(RegionKind::Usable),
            "{index}"
        );
    }
    assert!(map.usable_bytes() > 1 << 39, "the largest part is kept");
}

const KINDS: [RegionKind; 6] = [
    RegionKind::Usable,
    RegionKind::Claimed,
    RegionKind::AcpiReclaimable,
    RegionKind::AcpiNvs,
    RegionKind::Reserved,
    RegionKind::Bad,
];

proptest! {
    #[test]
    fn any_small_map_agrees_with_the_model_byte_for_byte(
        entries in prop::collection::vec((0u64..64, 0u64..24, 0usize..KINDS.len()), 0..24),
    ) {
        let regions: Vec<_> = entries.iter().map(|(start, len, kind)| region(*start, *len, KINDS[*kind])).collect();
        let map = map(&regions);
        assert_normalised(&map);
        prop_assert_eq!(map.dropped(), 0);
        for byte in 0..96 {
            let expected = regions
                .iter()
                .filter(|region| (region.start..region.start + region.len).contains(&byte))
                .map(|region| region.kind)
                .max();
            prop_assert_eq!(map.kind_at(byte), expected, "byte {}", byte);
        }
    }

    #[test]
    fn any_map_at_all_comes_out_normalised_and_believes_every_reservation(
        entries in prop::collection::vec((any::<u64>(), any::<u64>(), 0u32..7, 0u32..64), 0..600),
        claims in prop::collection::vec((any::<u64>(), any::<u64>()), 0..4),
    ) {
        let regions: Vec<_> = entries
            .iter()
            .map(|(start, len, kind, shift)| region(start >> shift, len >> shift, RegionKind::from_e820(*kind)))
            .collect();
        let mut map = map(&regions);
        assert_normalised(&map);
        for region in &regions {
            let usable = map.kind_at(region.start) == Some(RegionKind::Usable);
            prop_assert!(!usable || region.kind == RegionKind::Usable || region.len == 0);
        }
        for (start, end) in claims {
            map.claim(start, end);
            assert_normalised(&map);
            prop_assert!(start >= end || map.kind_at(start) != Some(RegionKind::Usable));
        }
    }
}
