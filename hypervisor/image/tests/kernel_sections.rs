//! Kernels that say what they are in sections: notes without a program header, and the form of before the notes.

mod common;

use common::{
    CONTENTS, ENTRY, Header, VIRT_BASE, elf, kernel, note, place, usual_headers, usual_notes,
    xen_note,
};
use image::{ElfKernel, ImageError, Placement};
use proptest::prelude::*;

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

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
}
