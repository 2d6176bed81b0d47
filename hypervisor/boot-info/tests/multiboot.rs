//! Both boot protocols, from crafted blocks and from mutated ones.

use boot_info::{
    BootError, BootInfo, FramebufferKind, MAX_COMMAND_LINE, MAX_MODULES, MULTIBOOT1_MAGIC,
    MULTIBOOT2_MAGIC, Protocol, RsdpSource, parse, strip_file_name,
};
use proptest::prelude::*;
use proptest::sample::Index;

/// Where the crafted memory begins; reading anywhere else is refused.
const BASE: u32 = 0x9000;

/// A little physical memory at [`BASE`].
#[derive(Clone, Default)]
struct Memory(Vec<u8>);

impl Memory {
    fn at(&self) -> u32 {
        BASE + self.0.len() as u32
    }

    fn put(&mut self, bytes: &[u8]) -> u32 {
        let at = self.at();
        self.0.extend_from_slice(bytes);
        at
    }

    fn words(&mut self, words: &[u32]) -> u32 {
        let at = self.at();
        words
            .iter()
            .for_each(|word| self.0.extend_from_slice(&word.to_le_bytes()));
        at
    }

    fn align(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
    }

    /// Changes some bytes, and cuts the rest off.
    fn mutate(&mut self, changes: Vec<(Index, u8)>, cut: Option<Index>) {
        for (index, byte) in changes {
            let place = index.index(self.0.len());
            self.0[place] = byte;
        }
        if let Some(cut) = cut {
            let len = cut.index(self.0.len());
            self.0.truncate(len);
        }
    }

    fn set(&mut self, offset: usize, word: u32) {
        self.0[offset..offset + 4].copy_from_slice(&word.to_le_bytes());
    }

    fn read(&self, phys: u64, buf: &mut [u8]) -> bool {
        let start = phys.checked_sub(BASE.into()).map(|start| start as usize);
        match start.and_then(|start| self.0.get(start..start.checked_add(buf.len())?)) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    fn parse(&self, magic: u32) -> Result<BootInfo, BootError> {
        parse(magic, BASE, &|phys, buf: &mut [u8]| self.read(phys, buf))
    }
}

/// A Multiboot 1 block as QEMU leaves it.
fn multiboot1() -> Memory {
    let mut memory = Memory(vec![0; 128]);
    let name = memory.put(b"qemu\0");
    let line = memory.put(b"/tmp/hv.elf console=com1 loglvl=all\0");
    let kernel = memory.put(b"/boot/vmlinuz console=hvc0 quiet\0");
    let initrd = memory.put(b"initrd\0");
    let modules = memory.words(&[0x80_0000, 0x90_0000, kernel, 0, 0, 0x1234, initrd, 0]);
    let map = memory.words(&[20, 0, 0, 0x9_fc00, 0, 1]);
    // An entry longer than it needs to be: the next is behind its own length.
    memory.words(&[24, 0x10_0000, 0, 0x7f0_0000, 0, 1, 0xdead]);
    memory.words(&[20, 0xfffc_0000, 0, 0x4_0000, 0, 2]);
    let length = memory.at() - map;
    for (offset, word) in [
        (0, 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9),
        (4, 640),
        (8, 0x1_0000),
        (16, line),
        (20, 2),
        (24, modules),
        (44, length),
        (48, map),
        (64, name),
    ] {
        memory.set(offset, word);
    }
    memory
}

/// A Multiboot 2 block made of the given tags.
fn multiboot2(tags: &[(u32, Vec<u8>)]) -> Memory {
    let mut memory = Memory(vec![0; 8]);
    for (kind, payload) in tags {
        memory.words(&[*kind, 8 + payload.len() as u32]);
        memory.put(payload);
        memory.align();
    }
    memory.words(&[0, 8]);
    let total = memory.0.len() as u32;
    memory.set(0, total);
    memory
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn map_tag() -> (u32, Vec<u8>) {
    (
        6,
        bytes(&[
            24, 0, 0x10_0000, 0, 0x700_0000, 0, 1, 0, 0, 0, 0x9_f000, 0, 1, 0,
        ]),
    )
}

fn module_tag(start: u32, end: u32, args: &[u8]) -> (u32, Vec<u8>) {
    (3, [bytes(&[start, end]), args.to_vec()].concat())
}

#[test]
fn another_magic_number_is_refused_by_name() {
    let error = multiboot1().parse(0x1234).unwrap_err();
    assert_eq!(error, BootError::NotMultiboot { magic: 0x1234 });
    assert!(error.to_string().contains("multiboot"));
}

#[test]
fn qemus_block_is_read_and_file_names_are_stripped() {
    let info = multiboot1().parse(MULTIBOOT1_MAGIC).unwrap();
    assert_eq!(info.protocol, Protocol::Multiboot1);
    assert_eq!(info.loader_name.as_str(), "qemu");
    assert_eq!(info.command_line.as_str(), "console=com1 loglvl=all");
    assert_eq!(info.modules.len(), 2);
    assert_eq!(
        (info.modules[0].start, info.modules[0].len),
        (0x80_0000, 0x10_0000)
    );
    assert_eq!(info.modules[0].args.as_slice(), b"console=hvc0 quiet");
    assert_eq!((info.modules[1].start, info.modules[1].end()), (0, 0x1234));
    assert!(info.modules[1].args.is_empty());
    assert_eq!(info.rsdp, RsdpSource::BiosScan);
    assert_eq!(info.memory.usable_bytes(), 0x9_f000 + 0x7f0_0000);
    assert_eq!(info.memory.regions().len(), 3);
    assert!(info.dropped.is_empty());
}

#[test]
fn without_a_map_the_old_size_fields_serve() {
    let mut memory = multiboot1();
    memory.set(0, 1);
    let info = memory.parse(MULTIBOOT1_MAGIC).unwrap();
    assert_eq!(info.memory.usable_bytes(), (640 + 0x1_0000) * 1024);
    memory.set(0, 1 << 2);
    assert_eq!(
        memory.parse(MULTIBOOT1_MAGIC).unwrap_err(),
        BootError::NoMemoryMap
    );
}

#[test]
fn a_map_of_no_memory_is_told() {
    let mut memory = multiboot1();
    memory.set(44, 0);
    assert_eq!(
        memory.parse(MULTIBOOT1_MAGIC).unwrap_err(),
        BootError::NoUsableMemory
    );
}

#[test]
fn an_entry_of_size_zero_ends_the_map_instead_of_looping() {
    let mut memory = multiboot1();
    let map = u32::from_le_bytes(memory.0[48..52].try_into().unwrap());
    memory.set((map - BASE) as usize + 24, 0);
    assert_eq!(
        memory
            .parse(MULTIBOOT1_MAGIC)
            .unwrap()
            .memory
            .usable_bytes(),
        0x9_f000
    );
}

#[test]
fn a_pointer_to_nowhere_names_what_it_pointed_to() {
    for (offset, what) in [
        (16, "command line"),
        (24, "module list"),
        (48, "memory map"),
        (64, "name"),
    ] {
        let mut memory = multiboot1();
        memory.set(offset, 0xffff_fff0);
        let error = memory.parse(MULTIBOOT1_MAGIC).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn more_modules_than_there_is_room_for_are_counted() {
    let mut memory = multiboot1();
    let modules = memory.words(&[0x1000, 0x2000, 0, 0].repeat(MAX_MODULES + 3));
    memory.set(20, MAX_MODULES as u32 + 3);
    memory.set(24, modules);
    let info = memory.parse(MULTIBOOT1_MAGIC).unwrap();
    assert_eq!((info.modules.len(), info.dropped.modules), (MAX_MODULES, 3));
    let backwards = memory.words(&[0x2000, 0x1000, 0, 0]);
    memory.set(20, 1);
    memory.set(24, backwards);
    let info = memory.parse(MULTIBOOT1_MAGIC).unwrap();
    assert_eq!((info.modules.len(), info.dropped.modules), (0, 1));
}

#[test]
fn a_file_name_is_stripped_only_where_there_is_one() {
    let strip = |line: &'static str, loader| {
        std::str::from_utf8(strip_file_name(line.as_bytes(), loader)).unwrap()
    };
    assert_eq!(strip("hv.elf a b", "qemu"), "a b");
    assert_eq!(strip("hv.elf", "qemu"), "");
    assert_eq!(strip("a b", "GRUB 2.06"), "a b");
    assert_eq!(strip("/boot/hv.elf a b", "GRUB 2.06"), "a b");
    assert_eq!(strip("(hd0,0)/boot/hv.elf  a", "GNU GRUB 0.97"), "a");
    assert_eq!(strip("", ""), "");
    assert_eq!(strip("a", "é"), "a");
}

#[test]
fn grubs_block_is_read_and_the_new_root_pointer_preferred() {
    let old = (14, b"RSD PTR old pointer ".to_vec());
    let new = (15, b"RSD PTR new pointer with sixteen mor".to_vec());
    for order in [[old.clone(), new.clone()], [new.clone(), old.clone()]] {
        let mut tags = vec![
            (1, b" console=com1 \xff\0".to_vec()),
            (2, b"GRUB 2.06\0".to_vec()),
            module_tag(0, 0x1000, b"/not/a/name quiet\0"),
            module_tag(0x2000, 0x2000, b"\0"),
            (12, bytes(&[0x1000, 1])),
            (18, vec![]),
            (
                8,
                [
                    bytes(&[0xfd00_0000, 0, 4096, 1024, 768]),
                    vec![32, 1, 0, 0, 16, 8, 8, 8, 0, 8],
                ]
                .concat(),
            ),
            (99, vec![1, 2, 3]),
            map_tag(),
        ];
        tags.extend(order);
        let info = multiboot2(&tags).parse(MULTIBOOT2_MAGIC).unwrap();
        assert_eq!(info.protocol, Protocol::Multiboot2);
        assert_eq!(info.command_line.as_str(), "console=com1 ?");
        assert_eq!(info.loader_name.as_str(), "GRUB 2.06");
        assert_eq!(info.modules[0].args.as_slice(), b"/not/a/name quiet");
        assert_eq!((info.modules.len(), info.modules[1].len), (2, 0));
        let efi = info.efi.unwrap();
        assert_eq!(
            (efi.system_table, efi.is_64_bit, efi.boot_services_live),
            (0x1_0000_1000, true, true)
        );
        let RsdpSource::Copy { bytes, len: 36 } = info.rsdp else {
            panic!("{:?}", info.rsdp)
        };
        assert_eq!(&bytes[..], b"RSD PTR new pointer with sixteen mor");
        let screen = info.framebuffer.unwrap();
        assert_eq!(
            (screen.address, screen.pitch, screen.width, screen.height),
            (0xfd00_0000, 4096, 1024, 768)
        );
        let FramebufferKind::Rgb { red, blue, .. } = screen.kind else {
            panic!("{screen:?}")
        };
        assert_eq!((red.position, red.size, blue.position), (16, 8, 0));
        assert_eq!(info.memory.usable_bytes(), 0x700_0000 + 0x9_f000);
        assert!(info.dropped.is_empty());
    }
}

#[test]
fn an_old_root_pointer_alone_is_kept_with_its_length() {
    let info = multiboot2(&[map_tag(), (14, b"RSD PTR old pointer ".to_vec())])
        .parse(MULTIBOOT2_MAGIC)
        .unwrap();
    let RsdpSource::Copy { bytes, len: 20 } = info.rsdp else {
        panic!("{:?}", info.rsdp)
    };
    assert_eq!(&bytes[..20], b"RSD PTR old pointer ");
    assert_eq!(&bytes[20..], [0; 16]);
}

#[test]
fn uefis_map_serves_where_the_loaders_is_missing() {
    let efi = (
        17,
        bytes(&[48, 1, 7, 0, 0x10_0000, 0, 0, 0, 0x100, 0, 0, 0, 0, 0]),
    );
    let info = multiboot2(std::slice::from_ref(&efi))
        .parse(MULTIBOOT2_MAGIC)
        .unwrap();
    assert_eq!(info.memory.usable_bytes(), 0x10_0000);
    let info = multiboot2(&[efi, map_tag()])
        .parse(MULTIBOOT2_MAGIC)
        .unwrap();
    assert_eq!(info.memory.usable_bytes(), 0x700_0000 + 0x9_f000);
    let basic = multiboot2(&[(4, bytes(&[640, 1024]))])
        .parse(MULTIBOOT2_MAGIC)
        .unwrap();
    assert_eq!(basic.memory.usable_bytes(), (640 + 1024) * 1024);
}

#[test]
fn a_tag_that_reaches_beyond_the_block_is_refused() {
    let mut memory = multiboot2(&[map_tag()]);
    memory.set(12, 0x1000);
    assert!(matches!(
        memory.parse(MULTIBOOT2_MAGIC),
        Err(BootError::Malformed { .. })
    ));
    memory.set(12, 4);
    assert!(matches!(
        memory.parse(MULTIBOOT2_MAGIC),
        Err(BootError::Malformed { .. })
    ));
    assert_eq!(
        multiboot2(&[]).parse(MULTIBOOT2_MAGIC).unwrap_err(),
        BootError::NoMemoryMap
    );
}

#[test]
fn a_long_command_line_is_cut_and_the_cut_is_counted() {
    let info = multiboot2(&[map_tag(), (1, vec![b'x'; 5000])])
        .parse(MULTIBOOT2_MAGIC)
        .unwrap();
    assert_eq!(info.command_line.len(), MAX_COMMAND_LINE);
    assert_eq!(info.dropped.strings_cut, 1);
}

fn assert_sane(info: &BootInfo) {
    let regions = info.memory.regions();
    assert!(
        regions
            .iter()
            .all(|region| region.start < region.end && region.end <= boot_info::PHYSICAL_LIMIT)
    );
    assert!(regions.windows(2).all(|pair| pair[0].end <= pair[1].start));
    assert!(
        info.modules
            .iter()
            .all(|module| module.start.checked_add(module.len).is_some())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_mutated_multiboot1_block_is_read_sanely_or_refused(
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..12),
        cut in prop::option::of(any::<Index>()),
    ) {
        let mut memory = multiboot1();
        memory.mutate(changes, cut);
        if let Ok(info) = memory.parse(MULTIBOOT1_MAGIC) {
            assert_sane(&info);
        }
    }

    #[test]
    fn a_mutated_multiboot2_block_is_read_sanely_or_refused(
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..12),
        cut in prop::option::of(any::<Index>()),
    ) {
        let mut memory = multiboot2(&[
            (1, b"console=com1\0".to_vec()),
            module_tag(0, 0x1000, b"quiet\0"),
            (8, vec![1; 32]),
            map_tag(),
            (17, bytes(&[48, 1, 7, 0, 0x10_0000, 0, 0, 0, 0x100, 0, 0, 0, 0, 0])),
            (15, vec![7; 36]),
        ]);
        memory.mutate(changes, cut);
        if let Ok(info) = memory.parse(MULTIBOOT2_MAGIC) {
            assert_sane(&info);
        }
    }

    #[test]
    fn any_command_line_is_read_with_at_most_one_warning_a_word(line in "\\PC{0,80}") {
        let mut warnings = 0;
        boot_info::Params::parse(&line, &mut |_| warnings += 1);
        prop_assert!(warnings <= line.split_ascii_whitespace().count());
    }

    #[test]
    fn any_value_for_any_word_is_taken_or_told(
        word in prop::sample::select(vec![
            "console", "com1", "com2", "dom0_mem", "noreboot", "loglvl", "isolate", "smap", "exit_port", "tsc", "dom0_crash",
            "crash_test",
        ]),
        value in "[a-zA-Z0-9,:/.x-]{0,24}",
    ) {
        let mut warnings = 0;
        boot_info::Params::parse(&format!("{word}={value}"), &mut |_| warnings += 1);
        prop_assert!(warnings <= 1);
    }
}
