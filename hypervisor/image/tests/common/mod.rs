//! Images built in memory: small ELF kernels with Xen notes, and boot images around packed payloads.
#![allow(dead_code, reason = "each test file uses its own part")]

use image::{ElfKernel, ImageError, Placement};
use lzma_rust2::{CheckType, FilterType, XzOptions, XzWriter};
use std::io::Write;
use std::num::NonZeroU64;

pub const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;
pub const ENTRY: u64 = VIRT_BASE + 0x10_0010;

/// A note, as the linker would lay it out.
pub fn note(owner: &[u8], number: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [owner.len() as u32, value.len() as u32, number] {
        bytes.extend(word.to_le_bytes());
    }
    for part in [owner, value] {
        bytes.extend(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

pub fn xen_note(number: u32, value: &[u8]) -> Vec<u8> {
    note(b"Xen\0", number, value)
}

/// The notes of a kernel like today's Debian's.
pub fn usual_notes() -> Vec<u8> {
    [
        note(b"GNU\0", 3, &[7; 20]),
        xen_note(6, b"linux\0"),
        xen_note(5, b"xen-3.0\0"),
        xen_note(3, &VIRT_BASE.to_le_bytes()),
        xen_note(4, &0u64.to_le_bytes()),
        xen_note(1, &ENTRY.to_le_bytes()),
        xen_note(15, &0x80_0000_0000u64.to_le_bytes()),
        xen_note(10, b"!writable_page_tables|pae_pgdir_above_4gb"),
        xen_note(17, &0x8801u32.to_le_bytes()),
        xen_note(8, b"generic\0"),
        xen_note(13, &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
        xen_note(16, &1u32.to_le_bytes()),
        xen_note(12, &0xffff_8000_0000_0000u64.to_le_bytes()),
    ]
    .concat()
}

/// A program header.
#[derive(Clone, Copy)]
pub struct Header {
    pub kind: u32,
    pub offset: u64,
    pub vaddr: u64,
    pub paddr: u64,
    pub file_len: u64,
    pub mem_len: u64,
}

/// Where a crafted file's contents begin.
pub const CONTENTS: u64 = 0x200;

/// An ELF file with these program headers and contents.
pub fn elf(headers: &[Header], contents: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    file[0x10] = 2;
    file[0x12] = 62;
    file[0x18..0x20].copy_from_slice(&0x10_0000u64.to_le_bytes());
    file[0x20] = 64;
    file[0x36] = 56;
    file[0x38] = headers.len() as u8;
    for header in headers {
        file.extend(header.kind.to_le_bytes());
        file.extend(7u32.to_le_bytes());
        let words = [
            header.offset,
            header.vaddr,
            header.paddr,
            header.file_len,
            header.mem_len,
            0x1000,
        ];
        words
            .iter()
            .for_each(|word| file.extend(word.to_le_bytes()));
    }
    file.resize(CONTENTS as usize, 0);
    file.extend(contents);
    file
}

/// The headers of a small kernel: text, then per-CPU data at virtual address 0, then notes.
pub fn usual_headers(notes_len: usize) -> [Header; 3] {
    let text = Header {
        kind: 1,
        offset: CONTENTS + notes_len as u64,
        vaddr: VIRT_BASE + 0x10_0000,
        paddr: 0x10_0000,
        file_len: 0x100,
        mem_len: 0x3000,
    };
    let per_cpu = Header {
        vaddr: 0,
        paddr: 0x10_3000,
        file_len: 0x80,
        mem_len: 0x80,
        ..text
    };
    let notes = Header {
        kind: 4,
        offset: CONTENTS,
        file_len: notes_len as u64,
        mem_len: notes_len as u64,
        ..text
    };
    [text, per_cpu, notes]
}

/// A small kernel with these notes.
pub fn kernel_with(notes: &[u8]) -> Vec<u8> {
    let text: Vec<u8> = (0..=255).collect();
    elf(&usual_headers(notes.len()), &[notes, &text].concat())
}

pub fn kernel() -> Vec<u8> {
    kernel_with(&usual_notes())
}

/// As the initial domain is placed.
pub fn place(file: &[u8]) -> Result<Placement, ImageError> {
    let elf = ElfKernel::parse(file)?;
    let notes = elf.xen_notes()?;
    notes.check_interface()?;
    notes.check_initial_domain()?;
    elf.placement(&notes)
}

/// The usual notes with more behind them, which hold where they repeat one.
pub fn with_note(more: Vec<u8>) -> Vec<u8> {
    kernel_with(&[usual_notes(), more].concat())
}

/// A boot image around a payload, which must bring its length with it.
pub fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 0x600];
    file[0x1f1] = 2;
    file[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
    file[0x20e..0x210].copy_from_slice(&0x200u16.to_le_bytes());
    file[0x236] = 1;
    file[0x248..0x24c].copy_from_slice(&0x20u32.to_le_bytes());
    file[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    file[0x400..0x40b].copy_from_slice(b"6.1.0-test\0");
    file.resize(0x620, 0xaa);
    file.extend(payload);
    file.extend([0xcc; 40]);
    file
}

/// Packs as Linux's build does, with the length behind.
pub fn xz_payload(data: &[u8]) -> Vec<u8> {
    let mut options = XzOptions::with_preset(6);
    options.set_check_sum_type(CheckType::Crc32);
    options.prepend_pre_filter(FilterType::BcjX86, 0);
    with_len(xz(data, options), data)
}

/// As above with many blocks, other literal and position bits, and no filter.
pub fn xz_payload_in_blocks(data: &[u8], lc: u32, lp: u32, pb: u32) -> Vec<u8> {
    let mut options = XzOptions::with_preset(1);
    options.lzma_options.dict_size = 4096;
    (
        options.lzma_options.lc,
        options.lzma_options.lp,
        options.lzma_options.pb,
    ) = (lc, lp, pb);
    options.set_check_sum_type(CheckType::Crc32);
    options.set_block_size(NonZeroU64::new(10_000));
    with_len(xz(data, options), data)
}

pub fn xz(data: &[u8], options: XzOptions) -> Vec<u8> {
    let mut writer = XzWriter::new(Vec::new(), options).unwrap();
    writer.write_all(data).unwrap();
    writer.finish().unwrap()
}

fn with_len(mut packed: Vec<u8>, data: &[u8]) -> Vec<u8> {
    packed.extend((data.len() as u32).to_le_bytes());
    packed
}

/// A gzip file with every optional header field.
pub fn gzip_payload(data: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0x1e, 0, 0, 0, 0, 2, 3];
    file.extend([3, 0, b'a', b'b', b'c']);
    file.extend(b"vmlinux.bin\0comment\0");
    file.extend([0, 0]);
    file.extend(miniz_oxide::deflate::compress_to_vec(data, 6));
    file.extend(crc32(data).to_le_bytes());
    file.extend((data.len() as u32).to_le_bytes());
    file
}

/// A zstd frame with a check sum.
pub fn zstd_payload(data: &[u8]) -> Vec<u8> {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    with_len(compress_to_vec(data, CompressionLevel::Fastest), data)
}

/// A zstd frame of plain blocks only.
pub fn zstd_payload_plain(data: &[u8]) -> Vec<u8> {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    with_len(compress_to_vec(data, CompressionLevel::Uncompressed), data)
}

/// A legacy lz4 frame, in blocks of 8 MiB.
pub fn lz4_payload(data: &[u8]) -> Vec<u8> {
    let mut packed = vec![0x02, 0x21, 0x4c, 0x18];
    for block in data.chunks(8 << 20) {
        let block = lz4_flex::block::compress(block);
        packed.extend((block.len() as u32).to_le_bytes());
        packed.extend(block);
    }
    with_len(packed, data)
}

/// What a tool of the host makes of data on its standard input; `None` where the tool is not installed.
pub fn packed_by(tool: &str, words: &[&str], data: &[u8]) -> Option<Vec<u8>> {
    use std::process::{Command, Stdio};
    let mut child = Command::new(tool)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut input = child.stdin.take().unwrap();
    let copy = data.to_vec();
    let feeder = std::thread::spawn(move || input.write_all(&copy).unwrap());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert!(output.status.success(), "{tool} {words:?}");
    Some(with_len(output.stdout, data))
}

pub fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 != 0 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    })
}

/// Something like machine code: calls and jumps near and far, close together and apart, among other bytes.
pub fn code(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut code = Vec::new();
    while code.len() < len {
        let random = next();
        match random % 8 {
            0 | 1 => {
                code.push(0xe8 + (random >> 8 & 1) as u8);
                let far = (random >> 16) as u32 & 0x1ff_ffff;
                let signed = if random >> 60 & 1 == 0 {
                    far >> 1
                } else {
                    far | 0xff00_0000
                };
                code.extend(signed.to_le_bytes());
            }
            2 => code.extend(
                [0xe8, 0xe9, 0xe8, 0xff, 0, 0xe8]
                    .iter()
                    .take((random >> 8) as usize % 7),
            ),
            3 => code.extend([0; 9]),
            4 => code.extend([0xff, 0, 0xff].iter().take((random >> 8) as usize % 4)),
            5 if code.len() > 64 => {
                let from = (random >> 8) as usize % (code.len() - 40);
                let piece: Vec<u8> = code[from..from + (random >> 40) as usize % 40].to_vec();
                code.extend(piece);
            }
            _ => code.extend(
                (random >> 8)
                    .to_le_bytes()
                    .iter()
                    .take((random >> 4) as usize % 8),
            ),
        }
    }
    code.truncate(len);
    code
}
