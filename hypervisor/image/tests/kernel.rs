//! ELF kernels that are taken: their notes and their placement, from crafted files and from mutated ones.

mod common;

use common::{
    CONTENTS, ENTRY, VIRT_BASE, elf, kernel, kernel_with, note, place, usual_headers, usual_notes,
    with_note, xen_note,
};
use image::{Container, ElfKernel, ImageError, Placement};
use proptest::prelude::*;

#[test]
fn a_kernel_is_placed_by_physical_address() {
    let file = kernel();
    assert!(matches!(Container::identify(&file), Ok(Container::Elf(_))));
    let placement = place(&file).unwrap();
    assert_eq!(
        placement,
        Placement {
            virt_base: VIRT_BASE,
            paddr_offset: 0,
            entry: ENTRY,
            first_pfn: 0x100,
            end_pfn: 0x104,
            hypercall_pfn: None,
            init_p2m: Some(0x80_0000_0000),
            mod_start_pfn: true,
        }
    );
    assert_eq!(placement.virt(0x100), Some(VIRT_BASE + 0x10_0000));
    assert_eq!(placement.virt(u64::MAX), None);
    assert_eq!(placement.pfn_of(ENTRY), Some(0x100));
    assert_eq!(placement.pfn_of(VIRT_BASE), None);

    let elf = ElfKernel::parse(&file).unwrap();
    assert_eq!(elf.entry(), 0x10_0000);
    let loads: Vec<_> = elf.loads(&placement).collect();
    assert_eq!(
        (loads[0].start, loads[0].mem_len, loads[0].data.len()),
        (0x10_0000, 0x3000, 0x100)
    );
    assert_eq!((loads[1].start, loads[1].mem_len), (0x10_3000, 0x80));
    assert_eq!(loads[0].data[255], 255);
    assert_eq!(loads.len(), 2);
}

#[test]
fn every_note_is_read_and_others_owners_are_not() {
    let file = with_note(
        [
            note(b"Linux\0", 1, &[0; 8]),
            xen_note(14, &1u32.to_le_bytes()),
            xen_note(99, &[1]),
        ]
        .concat(),
    );
    let elf = ElfKernel::parse(&file).unwrap();
    let notes = elf.xen_notes().unwrap();
    assert_eq!(notes.entry, Some(ENTRY));
    assert_eq!(
        (notes.xen_version, notes.guest_os, notes.loader),
        ("xen-3.0", "linux", "generic")
    );
    assert_eq!(notes.features, 0x8811);
    assert!(notes.lists_all_features && !notes.is_older_form);
    assert_eq!(notes.l1_mfn_valid, Some((1, 1)));
    assert_eq!(notes.hv_start_low, Some(0xffff_8000_0000_0000));
    assert!(notes.suspend_cancel && notes.mod_start_pfn);
    assert_eq!(notes.missing_feature, None);
    assert_eq!(notes.hypercall_page, None);
}

#[test]
fn a_kernel_with_a_hypercall_page_has_it_inside() {
    let page = |address: u64| place(&with_note(xen_note(2, &address.to_le_bytes())));
    assert_eq!(
        page(VIRT_BASE + 0x10_2000).unwrap().hypercall_pfn,
        Some(0x102)
    );
    for wrong in [
        VIRT_BASE + 0x10_2008,
        VIRT_BASE + 0x10_4000,
        VIRT_BASE,
        0,
        u64::MAX,
    ] {
        assert_eq!(
            page(wrong),
            Err(ImageError::BadNote {
                note: "HYPERCALL_PAGE"
            }),
            "{wrong:#x}"
        );
    }
}

#[test]
fn a_physical_offset_is_taken_off() {
    let file = with_note(xen_note(4, &0x8_0000u32.to_le_bytes()));
    let mut notes = usual_notes();
    notes.extend(xen_note(4, &0x8_0000u32.to_le_bytes()));
    assert_eq!(
        place(&file),
        Err(ImageError::BadNote { note: "ENTRY" }),
        "the entry point is no longer inside"
    );
    notes.extend(xen_note(1, &(ENTRY - 0x8_0000).to_le_bytes()));
    let placement = place(&kernel_with(&notes)).unwrap();
    assert_eq!((placement.first_pfn, placement.end_pfn), (0x80, 0x84));
    let too_much = with_note(xen_note(4, &0x20_0000u64.to_le_bytes()));
    assert_eq!(
        place(&too_much),
        Err(ImageError::BadNote {
            note: "PADDR_OFFSET"
        })
    );
}

#[test]
fn addresses_that_are_not_the_guests_are_refused() {
    let note_for =
        |number: u32, value: u64| place(&with_note(xen_note(number, &value.to_le_bytes())));
    for base in [
        0xffff_8000_0000_0000u64,
        0xffff_87ff_c000_0000,
        0x0000_8000_0000_0000,
        VIRT_BASE + 0x800,
    ] {
        assert!(note_for(3, base).is_err(), "{base:#x}");
    }
    for list in [
        0xffff_8000_0000_0000u64,
        0x80_0000_0008,
        0xffff_0000_0000_0000,
    ] {
        assert_eq!(
            note_for(15, list),
            Err(ImageError::BadNote { note: "INIT_P2M" }),
            "{list:#x}"
        );
    }
    for entry in [0, VIRT_BASE, VIRT_BASE + 0x10_4000, u64::MAX] {
        assert_eq!(
            note_for(1, entry),
            Err(ImageError::BadNote { note: "ENTRY" }),
            "{entry:#x}"
        );
    }
}

#[test]
fn a_kernel_may_begin_at_page_0_and_have_its_base_at_address_0() {
    let mut notes = usual_notes();
    notes.extend(xen_note(3, &0u32.to_le_bytes()));
    notes.extend(xen_note(1, &0x10u32.to_le_bytes()));
    let mut headers = usual_headers(notes.len());
    headers[0].paddr = 0;
    headers[1].paddr = 0x2ff8;
    headers[0].mem_len = 0x2ff8;
    let text: Vec<u8> = (0..=255).collect();
    let placement = place(&elf(&headers, &[notes, text].concat())).unwrap();
    assert_eq!((placement.first_pfn, placement.end_pfn), (0, 4));
    assert_eq!((placement.virt_base, placement.entry), (0, 0x10));
}

#[test]
fn an_entry_point_without_a_note_is_the_files() {
    let mut notes = usual_notes();
    let entry = notes
        .windows(8)
        .position(|w| w == ENTRY.to_le_bytes())
        .unwrap();
    notes[entry - 8] = 0;
    let mut file = kernel_with(&notes);
    assert_eq!(place(&file), Err(ImageError::MissingNote { note: "ENTRY" }));
    file[0x18..0x20].copy_from_slice(&(ENTRY + 8).to_le_bytes());
    assert_eq!(place(&file).unwrap().entry, ENTRY + 8);
}

#[test]
fn numbers_of_every_width_are_read() {
    let place_with = |value: &[u8]| place(&with_note(xen_note(16, value))).map(|p| p.mod_start_pfn);
    for value in [&[1][..], &[1, 0], &[1, 0, 0, 0], &[1, 0, 0, 0, 0, 0, 0, 0]] {
        assert_eq!(place_with(value), Ok(true));
    }
    assert_eq!(place_with(&[0, 0]), Ok(false));
    for value in [&[][..], &[1; 3], &[1; 16]] {
        let note = "MOD_START_PFN";
        assert_eq!(place_with(value), Err(ImageError::BadNote { note }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_mutated_kernel_is_refused_or_placed_within_its_own_bounds(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut file = kernel();
        // The text at the end means nothing to the parsers.
        let interesting = CONTENTS as usize + usual_notes().len();
        for (index, byte) in changes {
            let place = index.index(interesting);
            file[place] = byte;
        }
        if let Some(cut) = cut {
            let len = cut.index(file.len());
            file.truncate(len);
        }
        if let Ok(placement) = place(&file) {
            prop_assert!(placement.first_pfn < placement.end_pfn && placement.end_pfn <= 1 << 18);
            prop_assert!(placement.pfn_of(placement.entry).is_some());
            for load in ElfKernel::parse(&file).unwrap().loads(&placement) {
                prop_assert!(load.data.len() as u64 <= load.mem_len);
                prop_assert!(load.start >> 12 >= placement.first_pfn);
                prop_assert!((load.start + load.mem_len).div_ceil(4096) <= placement.end_pfn);
            }
        }
    }

    #[test]
    fn any_notes_at_all_never_hurt(notes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = place(&kernel_with(&notes));
        let _ = place(&with_note(notes));
    }
}
