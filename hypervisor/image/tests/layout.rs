//! What a guest looks like when it starts: everything apart, everything mapped where it should be, and nothing else.

use guest_abi::start_info::SIF_MOD_START_PFN;
use image::{LIST_ENTRIES_PER_PAGE, Layout, LayoutError, Placement, Rings};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const PAGE: u64 = 4096;

/// Linux's placement.
fn linux() -> Placement {
    Placement {
        virt_base: 0xffff_ffff_8000_0000,
        paddr_offset: 0,
        entry: 0xffff_ffff_8307_91c0,
        first_pfn: 0x1000,
        end_pfn: 0x4a00,
        hypercall_pfn: None,
        init_p2m: Some(0x80_0000_0000),
        mod_start_pfn: true,
    }
}

/// The tables as memory: by page, entries by index, each with where it leads and whether it may be written through.
type Memory = BTreeMap<u64, BTreeMap<u64, (u64, bool)>>;

fn tables(layout: &Layout) -> Memory {
    let mut memory = Memory::new();
    layout.links(|link| {
        assert!(link.index < 512);
        let entry = (link.to, link.writable);
        let before = memory
            .entry(link.table)
            .or_default()
            .insert(link.index, entry);
        assert_eq!(before, None, "an entry is told once");
    });
    memory
}

/// Walks as the CPU does.
fn walk(memory: &Memory, root: u64, address: u64) -> Option<(u64, bool)> {
    let mut page = root;
    let mut writable = true;
    for shift in [39, 30, 21, 12] {
        let (to, may_write) = *memory.get(&page)?.get(&(address >> shift & 511))?;
        page = to;
        writable &= may_write;
    }
    Some((page, writable))
}

/// Every leaf there is.
fn leaves(memory: &Memory, root: u64) -> usize {
    let mut level = vec![root];
    for _ in 0..4 {
        level = level
            .iter()
            .flat_map(|page| memory.get(page).into_iter().flatten())
            .map(|(_, (to, _))| *to)
            .collect();
    }
    level.len()
}

fn check(layout: &Layout) {
    let memory = tables(layout);
    let root = layout.root();
    let tables = layout.tables();
    for pfn in 0..layout.mapped_end {
        let is_table = (tables.first..tables.end()).contains(&pfn);
        assert_eq!(
            walk(&memory, root, layout.virt(pfn)),
            Some((pfn, !is_table))
        );
    }
    let mut mapped = layout.mapped_end;
    if let Some(base) = layout.kernel.init_p2m {
        mapped += layout.list.pages;
        for page in 0..layout.list.pages {
            let found = walk(&memory, root, base + page * PAGE);
            assert_eq!(found, Some((layout.list.first + page, true)));
        }
    }
    assert_eq!(
        leaves(&memory, root) as u64,
        mapped,
        "nothing else is mapped"
    );
    // Tables are where the guest is told that they are.
    let list_tables = layout.list_tables();
    for page in memory.keys() {
        let of_list = list_tables.is_some_and(|run| (run.first..run.end()).contains(page));
        assert!((tables.first..tables.end()).contains(page) || of_list);
    }
    check_apart(layout);
}

/// Nothing lies on top of anything else, or beyond the end.
fn check_apart(layout: &Layout) {
    let mut taken = BTreeSet::new();
    let mut take = |first: u64, pages: u64| {
        for pfn in first..first + pages {
            assert!(taken.insert(pfn), "page {pfn} is taken twice");
            assert!(pfn < layout.end && layout.end <= layout.pages);
        }
    };
    take(
        layout.kernel.first_pfn,
        layout.kernel.end_pfn - layout.kernel.first_pfn,
    );
    take(layout.initrd.first, layout.initrd.pages);
    take(layout.list.first, layout.list.pages);
    take(layout.start_info, 1);
    take(layout.stack, 1);
    take(layout.tables().first, layout.tables().pages);
    if let Some((store, console)) = layout.rings {
        take(store, 1);
        take(console, 1);
    }
    if let Some(run) = layout.list_tables() {
        take(run.first, run.pages);
    }
    assert!(layout.stack < layout.mapped_end && layout.start_info < layout.mapped_end);
    assert!(layout.list.pages * LIST_ENTRIES_PER_PAGE >= layout.pages);
}

#[test]
fn linux_finds_itself_as_the_interface_has_it() {
    let pages = 192 << 8;
    let layout = Layout::plan(linux(), 2_000_000, pages, Rings::StoreAndConsole).unwrap();
    check(&layout);
    assert_eq!(layout.start_info, 0x4a00);
    assert_eq!(layout.rings, Some((0x4a01, 0x4a02)));
    assert_eq!(layout.root(), 0x4a03);
    let memory = tables(&layout);
    // Linux takes its first tables from the one second-level table of its mapping.
    let l3 = memory[&layout.root()][&511].0;
    assert_eq!(memory[&l3].len(), 1);
    let info = layout.start_info();
    assert_eq!(info.nr_pages, pages);
    assert_eq!(info.pt_base, 0xffff_ffff_84a0_3000);
    assert_eq!(info.mfn_list, 0x80_0000_0000);
    assert_eq!(info.first_p2m_pfn, layout.list.first);
    assert_eq!(info.nr_p2m_frames, 96 + 3);
    assert_eq!(
        (info.mod_start, info.mod_len),
        (layout.initrd.first, 2_000_000)
    );
    assert_eq!(info.flags, SIF_MOD_START_PFN);
}

#[test]
fn without_an_initrd_the_guest_is_told_of_none() {
    let layout = Layout::plan(linux(), 0, 40_000, Rings::None).unwrap();
    let info = layout.start_info();
    assert_eq!((info.mod_start, info.mod_len, info.flags), (0, 0, 0));
    assert_eq!(layout.rings, None);
}

#[test]
fn what_is_needed_is_enough() {
    for rings in [Rings::None, Rings::StoreAndConsole] {
        for initrd in [0, 1, 50 << 20, 3 << 30] {
            let Err(LayoutError::TooFewPages { need, have: 1000 }) =
                Layout::plan(linux(), initrd, 1000, rings)
            else {
                panic!("1000 pages are too few");
            };
            assert!(Layout::plan(linux(), initrd, need, rings).is_ok());
            assert!(Layout::plan(linux(), initrd, need - 1, rings).is_err());
        }
    }
}

#[test]
fn a_large_guest_is_laid_out_as_well() {
    let layout = Layout::plan(linux(), 1 << 30, 16 << 18, Rings::StoreAndConsole).unwrap();
    check(&layout);
    assert_eq!(layout.list.pages, 8192);
}

#[test]
fn absurd_sizes_are_refused_and_nothing_wraps() {
    for (initrd, pages) in [(u64::MAX, 1000), (0, u64::MAX), (1 << 60, 1 << 52)] {
        assert!(Layout::plan(linux(), initrd, pages, Rings::None).is_err());
    }
    let mut mapped = linux();
    mapped.mod_start_pfn = false;
    assert!(Layout::plan(mapped, u64::MAX, 100_000, Rings::None).is_err());
}

prop_compose! {
    fn placements()(
        base in prop::sample::select(vec![
            0, 0x1000, 0x3f_f000, 0x40_0000, 0x7fff_f000, 0x7f_ffff_f000, 0x80_0000_0000,
            0xffff_8800_0000_0000, 0xffff_ffff_0000_0000, 0xffff_ffff_8000_0000,
        ]),
        first_pfn in 0u64..600,
        kernel_pages in 1u64..700,
        list_at in prop::option::of(prop::sample::select(vec![
            0u64, 0x60_0000, 0x100_0000, 0x4000_0000, 0x7f_ffff_f000, 0x80_0000_0000,
            0xffff_8800_0000_0000, 0xffff_ffff_c000_0000, 0xffff_ffff_ffff_f000,
        ])),
        mod_start_pfn in any::<bool>(),
    ) -> Placement {
        Placement {
            virt_base: base,
            paddr_offset: 0,
            entry: base + first_pfn * PAGE,
            first_pfn,
            end_pfn: first_pfn + kernel_pages,
            hypercall_pfn: None,
            init_p2m: list_at,
            mod_start_pfn,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_can_be_laid_out_is_laid_out_right(
        placement in placements(),
        initrd in 0u64..(3 << 20),
        pages in 2000u64..8000,
        with_rings in any::<bool>(),
    ) {
        let rings = if with_rings { Rings::StoreAndConsole } else { Rings::None };
        if let Ok(layout) = Layout::plan(placement, initrd, pages, rings) {
            check(&layout);
        }
    }
}
