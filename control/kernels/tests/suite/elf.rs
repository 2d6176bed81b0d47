//! A small kernel for the tests: an ELF file with two segments, one of them odd, and notes.

/// Where the kernel's first segment goes, in bytes.
pub const FIRST: u64 = 0x10_0000;
/// Where its second does, with zeroes behind it; it is not at a page's start.
pub const SECOND: u64 = 0x10_8010;
/// Bytes of the second in memory, of which the file has the first part.
pub const SECOND_LEN: u64 = 0x5000;
pub const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;
pub const ENTRY: u64 = VIRT_BASE + FIRST + 0x40;
pub const INIT_P2M: u64 = 0x80_0000_0000;

/// What the kernel's segments hold in the file.
pub fn segments() -> (Vec<u8>, Vec<u8>) {
    let bytes = |len: u32, seed: u32| (0..len).map(|i| (i * 7 + seed) as u8 | 1).collect();
    (bytes(0x3000, 1), bytes(0x1234, 99))
}

/// How the kernel differs from the usual one.
#[derive(Clone, Copy, Default)]
pub struct Kind {
    /// It wants a page of hypercall stubs.
    pub hypercall_page: bool,
    /// It does without a place of its own for the frame list, and takes the initrd mapped.
    pub plain: bool,
}

/// An ELF file with two segments and notes.
pub fn elf(kind: Kind) -> Vec<u8> {
    let (first, second) = segments();
    let mut notes = Vec::new();
    let mut note = |number: u32, value: &[u8]| {
        notes.extend(4u32.to_le_bytes());
        notes.extend((value.len() as u32).to_le_bytes());
        notes.extend(number.to_le_bytes());
        notes.extend(b"Xen\0");
        notes.extend(value);
        notes.resize(notes.len().next_multiple_of(4), 0);
    };
    note(1, &ENTRY.to_le_bytes());
    if kind.hypercall_page {
        note(2, &(VIRT_BASE + FIRST + 0x2000).to_le_bytes());
    }
    note(3, &VIRT_BASE.to_le_bytes());
    note(4, &0u64.to_le_bytes());
    note(5, b"xen-3.0\0");
    note(6, b"linux\0");
    note(8, b"generic\0");
    if !kind.plain {
        note(15, &INIT_P2M.to_le_bytes());
        note(16, &1u64.to_le_bytes());
    }
    let head = 64 + 3 * 56;
    let at = |n: usize| (head + [0, first.len(), first.len() + second.len()][n]) as u64;
    let mut file = vec![0; 64];
    file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x10, &2u16.to_le_bytes());
    put(0x12, &62u16.to_le_bytes());
    put(0x14, &1u32.to_le_bytes());
    put(0x20, &64u64.to_le_bytes());
    put(0x34, &64u16.to_le_bytes());
    put(0x36, &56u16.to_le_bytes());
    put(0x38, &3u16.to_le_bytes());
    let mut header = |kind: u32, offset: u64, paddr: u64, len: u64, mem_len: u64| {
        file.extend(kind.to_le_bytes());
        file.extend(7u32.to_le_bytes());
        for word in [offset, VIRT_BASE + paddr, paddr, len, mem_len, 0x1000] {
            file.extend(word.to_le_bytes());
        }
    };
    let len = first.len() as u64;
    header(1, at(0), FIRST, len, len);
    header(1, at(1), SECOND, second.len() as u64, SECOND_LEN);
    header(4, at(2), 0, notes.len() as u64, notes.len() as u64);
    file.extend(first);
    file.extend(second);
    file.extend(notes);
    file
}
