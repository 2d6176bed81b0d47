//! What is done to a linked ELF image before it is booted: checks, stripping, a symbol table.
//!
//! # Invariants
//! - E1: the image is an ELF64 executable for x86-64 that needs no relocation and no interpreter: nobody would
//!   apply or start them.
//! - E2: file offset minus physical address is one constant over all segments with bytes in the file. The
//!   multiboot1 address fields know a single difference; QEMU loads by them.
//! - E3: both multiboot headers lie where loaders look: the first in the first 8 KiB, the second in the
//!   first 32 KiB of the file.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, Object, ObjectSymbol, SymbolKind};

type Header = FileHeader64<LittleEndian>;
type Segment = ProgramHeader64<LittleEndian>;
const LE: LittleEndian = LittleEndian;

/// Checks what every image here must satisfy (E1).
///
/// # Errors
/// One sentence that names what is wrong.
pub fn check_static(image: &[u8]) -> Result<()> {
    let (header, segments) = parse(image)?;
    ensure!(
        header.e_type(LE) == elf::ET_EXEC,
        "the image is not a plain executable (ELF type {})",
        header.e_type(LE)
    );
    ensure!(
        header.e_machine(LE) == elf::EM_X86_64,
        "the image is not for x86-64"
    );
    for segment in segments {
        let kind = segment.p_type(LE);
        ensure!(kind != elf::PT_INTERP, "the image asks for an interpreter");
        ensure!(
            kind != elf::PT_DYNAMIC || segment.p_filesz(LE) == 0,
            "the image has a dynamic section"
        );
    }
    let sections = header
        .sections(LE, image)
        .context("the image's section table is damaged")?;
    for section in sections.iter() {
        use object::read::elf::SectionHeader;
        let relocates = matches!(
            section.sh_type(LE),
            elf::SHT_RELA | elf::SHT_REL | elf::SHT_RELR
        );
        ensure!(
            !(relocates && section.sh_size(LE) != 0),
            "the image still holds relocations, which nobody would apply"
        );
    }
    Ok(())
}

/// Checks what loaders ask of the hypervisor's image beyond [`check_static`] (E2, E3).
///
/// # Errors
/// One sentence that names what is wrong.
pub fn check_bootable(image: &[u8]) -> Result<()> {
    let (_, segments) = parse(image)?;
    let mut difference = None;
    let mut last_byte = 0;
    for segment in segments
        .iter()
        .filter(|s| s.p_type(LE) == elf::PT_LOAD && s.p_filesz(LE) != 0)
    {
        let this = segment.p_offset(LE).wrapping_sub(segment.p_paddr(LE));
        let first = *difference.get_or_insert(this);
        ensure!(
            this == first,
            "the segment at physical address {:#x} lies at file offset {:#x}, which breaks the one distance between \
             file and memory that multiboot1 can express: fix hypervisor/link.ld",
            segment.p_paddr(LE),
            segment.p_offset(LE),
        );
        last_byte = last_byte.max(segment.p_paddr(LE) + segment.p_filesz(LE));
    }
    ensure!(difference.is_some(), "the image has no loadable segment");
    // Memory without bytes in the file is cleared after everything that has some.
    for segment in segments
        .iter()
        .filter(|s| s.p_type(LE) == elf::PT_LOAD && s.p_filesz(LE) == 0)
    {
        ensure!(
            segment.p_memsz(LE) == 0 || segment.p_paddr(LE) >= last_byte,
            "the empty segment at physical address {:#x} lies before the end of the file's bytes",
            segment.p_paddr(LE),
        );
    }
    ensure!(
        find_word(image, 8 * 1024, 4, 0x1bad_b002).is_some(),
        "no multiboot1 header in the image's first 8 KiB: fix hypervisor/link.ld"
    );
    ensure!(
        find_word(image, 32 * 1024, 8, 0xe852_50d6).is_some(),
        "no multiboot2 header in the image's first 32 KiB: fix hypervisor/link.ld"
    );
    Ok(())
}

fn parse(image: &[u8]) -> Result<(&Header, &[Segment])> {
    let header = Header::parse(image).context("the linker's output is not an ELF64 image")?;
    ensure!(header.is_little_endian(), "the image is not little-endian");
    let segments = header
        .program_headers(LE, image)
        .context("the image's program headers are damaged")?;
    Ok((header, segments))
}

fn find_word(image: &[u8], limit: usize, alignment: usize, magic: u32) -> Option<usize> {
    let window = &image[..image.len().min(limit)];
    window
        .chunks(alignment)
        .position(|c| c.starts_with(&magic.to_le_bytes()))
        .map(|i| i * alignment)
}

/// The image without sections, symbols and debug information; offsets stay as they are.
///
/// # Errors
/// When it is not an ELF64 image.
pub fn strip(image: &[u8]) -> Result<Vec<u8>> {
    let (header, segments) = parse(image)?;
    let table_end =
        header.e_phoff(LE) + u64::from(header.e_phentsize(LE)) * u64::from(header.e_phnum(LE));
    let end = segments
        .iter()
        .map(|s| s.p_offset(LE) + s.p_filesz(LE))
        .chain([table_end])
        .max()
        .unwrap_or(table_end);
    let mut stripped = image
        .get(..usize::try_from(end)?)
        .context("the image is shorter than its segments say")?
        .to_vec();
    stripped[0x28..0x30].fill(0); // e_shoff
    stripped[0x3a..0x40].fill(0); // e_shentsize, e_shnum, e_shstrndx
    Ok(stripped)
}

/// The functions of an image as ring 0 reads them for its backtraces.
///
/// `"XSYM0001"`, then two little-endian 32-bit words (number of symbols, bytes of names), then for each symbol
/// in order of address: 64-bit address, 32-bit offset of its name, 32-bit size; then the names, each ended by a
/// zero byte.
///
/// # Errors
/// When the image cannot be read or a number does not fit.
pub fn symbol_table(image: &[u8]) -> Result<Vec<u8>> {
    let file = object::File::parse(image).context("the image's symbols cannot be read")?;
    let mut functions: BTreeMap<u64, (u64, String)> = BTreeMap::new();
    for symbol in file
        .symbols()
        .filter(|s| s.kind() == SymbolKind::Text && s.is_definition() && s.address() != 0)
    {
        let Ok(name) = symbol.name() else { continue };
        if name.is_empty() || name.starts_with(".L") || name.starts_with('$') {
            continue;
        }
        // Two names for one address: the one with a size, else the first, is the function.
        let known = functions.get(&symbol.address()).map(|(size, _)| *size);
        if known.is_none_or(|size| size < symbol.size()) {
            functions.insert(symbol.address(), (symbol.size(), readable(name)));
        }
    }
    let mut entries = Vec::new();
    let mut names = Vec::new();
    for (address, (size, name)) in &functions {
        entries.extend_from_slice(&address.to_le_bytes());
        entries.extend_from_slice(&u32::try_from(names.len())?.to_le_bytes());
        entries.extend_from_slice(&u32::try_from(*size)?.to_le_bytes());
        names.extend_from_slice(name.as_bytes());
        names.push(0);
    }
    let mut table = b"XSYM0001".to_vec();
    table.extend_from_slice(&u32::try_from(functions.len())?.to_le_bytes());
    table.extend_from_slice(&u32::try_from(names.len())?.to_le_bytes());
    table.extend_from_slice(&entries);
    table.extend_from_slice(&names);
    Ok(table)
}

/// A Rust symbol as its author wrote it, without the compiler's hash.
fn readable(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// The shared libraries that a program or library names as needed.
///
/// # Errors
/// When it is no ELF64 file, or its dynamic section is damaged.
pub fn needed_libraries(program: &[u8]) -> Result<Vec<String>> {
    let header = Header::parse(program).context("it is not an ELF64 file")?;
    let sections = header
        .sections(LE, program)
        .context("its section table is damaged")?;
    let Some((entries, link)) = sections
        .dynamic(LE, program)
        .context("its dynamic section is damaged")?
    else {
        return Ok(Vec::new());
    };
    let strings = sections
        .strings(LE, program, link)
        .context("its dynamic strings are damaged")?;
    let mut needed = Vec::new();
    for entry in entries {
        if entry.d_tag.get(LE) == u64::from(elf::DT_NEEDED) {
            let name = strings
                .get(u32::try_from(entry.d_val.get(LE))?)
                .map_err(|()| anyhow::anyhow!("a needed library has no name"))?;
            needed.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(needed)
}

/// Whether this is an x86-64 program that starts without a dynamic linker.
pub fn needs_no_libraries(program: &[u8]) -> bool {
    let Ok((header, segments)) = parse(program) else {
        return false;
    };
    header.e_machine(LE) == elf::EM_X86_64
        && segments.iter().all(|s| s.p_type(LE) != elf::PT_INTERP)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minimal ELF64 executable with one segment per `(offset, physical address, file size, memory size)`.
    fn image(segments: &[(u64, u64, u64, u64)]) -> Vec<u8> {
        let mut image = vec![0_u8; 0x3000];
        image[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
        image[0x10..0x12].copy_from_slice(&2_u16.to_le_bytes());
        image[0x12..0x14].copy_from_slice(&62_u16.to_le_bytes());
        image[0x14] = 1;
        image[0x20..0x28].copy_from_slice(&64_u64.to_le_bytes());
        image[0x34..0x36].copy_from_slice(&64_u16.to_le_bytes());
        image[0x36..0x38].copy_from_slice(&56_u16.to_le_bytes());
        image[0x38..0x3a].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_le_bytes());
        for (i, (offset, physical, file, memory)) in segments.iter().enumerate() {
            let at = 64 + i * 56;
            image[at..at + 4].copy_from_slice(&1_u32.to_le_bytes());
            for (field, value) in [(8, offset), (24, physical), (32, file), (40, memory)] {
                image[at + field..at + field + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
        image[0x1000..0x1004].copy_from_slice(&0x1bad_b002_u32.to_le_bytes());
        image[0x1040..0x1044].copy_from_slice(&0xe852_50d6_u32.to_le_bytes());
        image
    }

    #[test]
    fn segments_at_one_distance_are_bootable() {
        let good = image(&[
            (0x1000, 0x20_0000, 0x1000, 0x1000),
            (0x2000, 0x20_1000, 0x1000, 0x9000),
        ]);
        check_static(&good).unwrap();
        check_bootable(&good).unwrap();
    }

    #[test]
    fn a_segment_at_another_distance_is_refused() {
        let bad = image(&[
            (0x1000, 0x20_0000, 0x1000, 0x1000),
            (0x2000, 0x20_2000, 0x1000, 0x1000),
        ]);
        assert!(check_bootable(&bad).is_err());
    }

    #[test]
    fn an_image_without_multiboot_headers_is_refused() {
        let mut bad = image(&[(0x1000, 0x20_0000, 0x1000, 0x1000)]);
        bad[0x1000..0x1100].fill(0);
        assert!(check_bootable(&bad).is_err());
    }

    #[test]
    fn stripping_keeps_every_segment_in_place() {
        let whole = image(&[(0x1000, 0x20_0000, 0x800, 0x800)]);
        let stripped = strip(&whole).unwrap();
        assert_eq!(stripped.len(), 0x1800);
        assert_eq!(stripped[0x1000..], whole[0x1000..0x1800]);
    }
}
