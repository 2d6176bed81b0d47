//! Files that are refused, each with the sentence that says why: no kernels, others' kernels, damaged ones.

mod common;

use common::{
    Header, bzimage, elf, kernel, kernel_with, note, place, usual_headers, usual_notes, with_note,
    xen_note,
};
use image::{Container, ElfKernel, ImageError};

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
