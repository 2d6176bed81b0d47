//! ELF kernels, their notes and their placement, from crafted files and from mutated ones.

mod common;

use common::{
    CONTENTS, ENTRY, Header, VIRT_BASE, bzimage, elf, kernel, kernel_with, note, usual_headers,
    usual_notes, xen_note,
};
use image::{Container, ElfKernel, ImageError, Placement};
use proptest::prelude::*;

fn place(file: &[u8]) -> Result<Placement, ImageError> {
    let elf = ElfKernel::parse(file)?;
    let notes = elf.xen_notes()?;
    notes.check_interface()?;
    notes.check_initial_domain()?;
    elf.placement(&notes)
}

/// The usual notes with more behind them, which hold where they repeat one.
fn with_note(more: Vec<u8>) -> Vec<u8> {
    kernel_with(&[usual_notes(), more].concat())
}

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
fn a_kernel_that_is_not_for_us_is_told_why() {
    let without = |number: u32| {
        // Notes of number 0 mean nothing to anybody.
        let mut notes = usual_notes();
        let mut at = 0;
        while at < notes.len() {
            let word =
                |offset: usize| u32::from_le_bytes(notes[at + offset..][..4].try_into().unwrap());
            let len = 12 + word(0).next_multiple_of(4) + word(4).next_multiple_of(4);
            if word(8) == number {
                notes[at + 8..at + 12].fill(0);
            }
            at += len as usize;
        }
        place(&kernel_with(&notes))
    };
    assert_eq!(without(1), Err(ImageError::MissingNote { note: "ENTRY" }));
    assert_eq!(without(5), Err(ImageError::OtherInterface));
    assert!(without(6).is_ok(), "the generic loader is enough");
    assert!(without(8).is_ok(), "Linux is enough");
    assert_eq!(
        without(3),
        Err(ImageError::MissingNote { note: "VIRT_BASE" }),
        "an offset means nothing without a base"
    );
    assert!(
        without(17).is_ok(),
        "a kernel that says nothing of its features may be the initial domain"
    );
    let plain = place(&kernel_with(&note(b"GNU\0", 3, &[0; 20])));
    assert_eq!(plain, Err(ImageError::NoXenNotes));
    assert_eq!(
        place(&with_note(xen_note(5, b"xen-2.0\0"))),
        Err(ImageError::OtherInterface)
    );
    let mut notes = usual_notes();
    let at = notes
        .windows(4)
        .position(|word| word == 0x8801u32.to_le_bytes())
        .unwrap();
    notes[at..at + 4].copy_from_slice(&1u32.to_le_bytes());
    assert_eq!(
        place(&kernel_with(&notes)),
        Err(ImageError::NotForInitialDomain)
    );
    notes.extend(xen_note(10, b"a|!dom0|b"));
    assert!(place(&kernel_with(&notes)).is_ok(), "by name");
    let needs = place(&with_note(xen_note(10, b"a|!warp_drive")));
    let Err(error @ ImageError::MissingFeature { .. }) = needs else {
        panic!("{needs:?}")
    };
    assert_eq!(
        error.to_string(),
        "needs the Xen feature `warp_drive`, which is not offered: use a distribution kernel"
    );
    assert_eq!(
        place(&with_note(xen_note(3, &[0; 5]))),
        Err(ImageError::BadNote { note: "VIRT_BASE" })
    );
    assert_eq!(
        place(&with_note(xen_note(5, b"xen-3.0\xff"))),
        Err(ImageError::BadNote {
            note: "XEN_VERSION"
        })
    );
}

/// A kernel whose one segment to load holds 256 bytes, and whose sections are the given ones.
fn with_sections(program_headers: &[Header], sections: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
    let text: Vec<u8> = (0..=255).collect();
    let mut file = elf(program_headers, &text);
    let mut names = b"\0.shstrtab\0".to_vec();
    let mut table = vec![0u8; 64];
    let section = |name: usize, kind: u32, offset: usize, len: usize| {
        let mut header = vec![0u8; 64];
        header[..4].copy_from_slice(&(name as u32).to_le_bytes());
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[0x18..0x20].copy_from_slice(&(offset as u64).to_le_bytes());
        header[0x20..0x28].copy_from_slice(&(len as u64).to_le_bytes());
        header
    };
    for (name, kind, contents) in sections {
        table.extend(section(names.len(), *kind, file.len(), contents.len()));
        names.extend(name.bytes().chain([0]));
        file.extend(contents);
    }
    table.extend(section(1, 3, file.len(), names.len()));
    file.extend(&names);
    let count = sections.len() as u16 + 2;
    let at = file.len() as u64;
    file[0x28..0x30].copy_from_slice(&at.to_le_bytes());
    file[0x3a..0x3c].copy_from_slice(&64u16.to_le_bytes());
    file[0x3c..0x3e].copy_from_slice(&count.to_le_bytes());
    file[0x3e..0x40].copy_from_slice(&(count - 1).to_le_bytes());
    file.extend(table);
    file
}

fn text_at(paddr: u64) -> Header {
    Header {
        paddr,
        offset: CONTENTS,
        ..usual_headers(0)[0]
    }
}

const OLDER: &[u8] = b"GUEST_OS=linux,XEN_VER=xen-3.0,VIRT_BASE=0xffffffff80000000,\
    VIRT_ENTRY=0xffffffff80100010,HYPERCALL_PAGE=0x101,FEATURES=!writable_page_tables,LOADER=generic\0";

#[test]
fn notes_may_stand_in_sections_alone() {
    let file = with_sections(
        &[text_at(0x10_0000)],
        &[(".text", 1, vec![1; 16]), (".note.Xen", 7, usual_notes())],
    );
    assert_eq!(
        place(&file).unwrap(),
        Placement {
            end_pfn: 0x103,
            ..place(&kernel()).unwrap()
        }
    );
}

#[test]
fn a_kernel_of_before_the_notes_is_placed_by_its_section() {
    // Kernels of that time are linked with the virtual address for the physical one.
    let file = with_sections(
        &[text_at(VIRT_BASE + 0x10_0000)],
        &[
            ("__xen_guest.not", 1, vec![1; 16]),
            ("__xen_guest", 1, OLDER.to_vec()),
        ],
    );
    let placement = place(&file).unwrap();
    assert_eq!((placement.first_pfn, placement.end_pfn), (0x100, 0x103));
    assert_eq!(
        (placement.entry, placement.paddr_offset),
        (ENTRY, VIRT_BASE)
    );
    assert_eq!(placement.hypercall_pfn, Some(0x101));
    assert_eq!((placement.init_p2m, placement.mod_start_pfn), (None, false));
    // With an offset of its own.
    let explicit = [b"ELF_PADDR_OFFSET=0x0,", OLDER].concat();
    let file = with_sections(&[text_at(0x10_0000)], &[("__xen_guest", 1, explicit)]);
    assert_eq!(place(&file).unwrap().first_pfn, 0x100);
}

#[test]
fn notes_come_before_note_sections_and_those_before_the_older_section() {
    let base = |value: u64| xen_note(3, &value.to_le_bytes());
    let notes = [usual_notes(), base(0xffff_ffff_4000_0000)].concat();
    let sections = [("__xen_guest", 1, OLDER.to_vec()), (".notes", 7, notes)];
    let file = with_sections(&[text_at(0x10_0000)], &sections);
    let elf = ElfKernel::parse(&file).unwrap();
    assert_eq!(
        elf.xen_notes().unwrap().virt_base,
        Some(0xffff_ffff_4000_0000)
    );
    // Another's notes in sections do not hide it.
    let sections = [
        (".notes", 7, note(b"GNU\0", 3, &[0; 20])),
        ("__xen_guest", 1, OLDER.to_vec()),
    ];
    let file = with_sections(&[text_at(0x10_0000)], &sections);
    let elf = ElfKernel::parse(&file).unwrap();
    assert!(elf.xen_notes().unwrap().is_older_form);
    // A section without bytes in the file says nothing.
    let file = with_sections(&[text_at(0x10_0000)], &[("__xen_guest", 8, OLDER.to_vec())]);
    let elf = ElfKernel::parse(&file).unwrap();
    assert_eq!(elf.xen_notes(), Err(ImageError::NoXenNotes));
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

#[test]
fn files_that_are_no_kernels_are_told_apart() {
    assert!(matches!(
        Container::identify(b""),
        Err(ImageError::NotAKernel)
    ));
    assert!(matches!(
        Container::identify(&[0x5a; 4096]),
        Err(ImageError::NotAKernel)
    ));
    assert!(matches!(
        Container::identify(&bzimage(&[0; 64])[..0x20c]),
        Err(ImageError::Truncated { .. })
    ));
    assert!(matches!(
        Container::identify(&bzimage(&[0; 64])[..0x630]),
        Err(ImageError::Truncated {
            what: "the payload"
        })
    ));
    let mut arm = vec![0; 4096];
    arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
    assert!(matches!(
        Container::identify(&arm),
        Err(ImageError::OtherArchitecture {
            architecture: "64-bit Arm"
        })
    ));
    let mut old = bzimage(&[0; 64]);
    old[0x206] = 7;
    assert!(matches!(
        Container::identify(&old),
        Err(ImageError::OldProtocol { version: 0x0207 })
    ));
    let mut narrow = bzimage(&[0; 64]);
    narrow[0x236] = 0;
    assert!(matches!(
        Container::identify(&narrow),
        Err(ImageError::OtherArchitecture { .. })
    ));
}

#[test]
fn elf_files_for_others_are_told_apart() {
    let changed = |place: usize, byte: u8| {
        let mut file = kernel();
        file[place] = byte;
        ElfKernel::parse(&file).unwrap_err()
    };
    assert_eq!(
        changed(0x12, 183),
        ImageError::OtherArchitecture {
            architecture: "64-bit Arm"
        }
    );
    assert_eq!(
        changed(4, 1),
        ImageError::OtherArchitecture {
            architecture: "32-bit ELF"
        }
    );
    assert_eq!(
        changed(5, 2),
        ImageError::OtherArchitecture {
            architecture: "big-endian"
        }
    );
    assert_eq!(changed(0x10, 3), ImageError::NotExecutable);
    assert_eq!(
        changed(0x36, 55),
        ImageError::Malformed {
            what: "its program headers are too small"
        }
    );
    assert_eq!(
        changed(0x39, 1),
        ImageError::Malformed {
            what: "it has too many program headers"
        }
    );
    assert_eq!(
        changed(0x38, 0),
        ImageError::Malformed {
            what: "it has nothing to load"
        }
    );
    assert_eq!(
        changed(0x27, 0x80),
        ImageError::Truncated {
            what: "the program header table"
        }
    );
}

#[test]
fn a_truncated_elf_is_refused_at_every_length() {
    let file = kernel();
    for len in 4..file.len() {
        assert!(
            matches!(
                ElfKernel::parse(&file[..len]),
                Err(ImageError::Truncated { .. })
            ),
            "{len}"
        );
    }
}

#[test]
fn segments_that_contradict_themselves_or_each_other_are_refused() {
    let notes = usual_notes();
    let contents = [notes.clone(), vec![0; 0x100]].concat();
    let refused = |change: &dyn Fn(&mut [Header; 3])| {
        let mut headers = usual_headers(notes.len());
        change(&mut headers);
        place(&elf(&headers, &contents)).unwrap_err()
    };
    let malformed = |what| ImageError::Malformed { what };
    assert_eq!(
        refused(&|headers| headers[1].paddr = 0x10_2fff),
        malformed("two segments overlap")
    );
    assert_eq!(
        refused(&|headers| headers[1].paddr = 0x0f_ff81),
        malformed("two segments overlap")
    );
    assert_eq!(
        refused(&|headers| headers[1].paddr = u64::MAX - 0x40),
        malformed("a segment wraps around")
    );
    assert_eq!(
        refused(&|headers| headers[0].mem_len = 0x80),
        malformed("a segment is larger in the file than in memory")
    );
    assert_eq!(
        refused(&|headers| headers[0].offset = u64::MAX),
        ImageError::Truncated { what: "a segment" }
    );
    assert_eq!(
        refused(&|headers| headers[2].file_len = u64::MAX),
        ImageError::Truncated { what: "a segment" }
    );
    assert!(matches!(
        refused(&|headers| headers[1].paddr = 1 << 30),
        ImageError::TooLarge { .. }
    ));
    assert!(matches!(
        refused(&|headers| headers[1].mem_len = 1 << 40),
        ImageError::TooLarge { .. }
    ));
}

#[test]
fn every_error_is_one_sentence_with_a_remedy() {
    for error in [
        ImageError::NotAKernel,
        ImageError::Truncated { what: "a segment" },
        ImageError::OtherArchitecture {
            architecture: "RISC-V",
        },
        ImageError::OldProtocol { version: 0x0207 },
        ImageError::UnsupportedCompression("zstd"),
        ImageError::CorruptPayload {
            what: "CRC mismatch",
        },
        ImageError::TooLarge { len: 1 },
        ImageError::NotExecutable,
        ImageError::Malformed {
            what: "two segments overlap",
        },
        ImageError::NoXenNotes,
        ImageError::MissingNote { note: "ENTRY" },
        ImageError::BadNote { note: "ENTRY" },
        ImageError::OtherInterface,
        ImageError::NotForInitialDomain,
    ] {
        let sentence = error.to_string();
        assert!(
            !sentence.starts_with(char::is_uppercase) && sentence.contains(": "),
            "{sentence}"
        );
        assert!(
            !sentence.ends_with('.') && !sentence.contains('\n') && !sentence.contains("  "),
            "{sentence}"
        );
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
    fn mutated_sections_never_hurt(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        in_header in prop::collection::vec((0x28usize..0x40, any::<u8>()), 0..3),
        older in any::<bool>(),
    ) {
        let said = if older { ("__xen_guest", 1, OLDER.to_vec()) } else { ("n", 7, usual_notes()) };
        let mut file = with_sections(&[text_at(0x10_0000)], &[said]);
        let start = CONTENTS as usize + 256;
        for (index, byte) in changes {
            let place = start + index.index(file.len() - start);
            file[place] = byte;
        }
        for (place, byte) in in_header {
            file[place] = byte;
        }
        if let Ok(placement) = place(&file) {
            prop_assert!(placement.pfn_of(placement.entry).is_some());
        }
    }

    #[test]
    fn any_notes_at_all_never_hurt(notes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = place(&kernel_with(&notes));
        let _ = place(&with_note(notes));
    }
}
