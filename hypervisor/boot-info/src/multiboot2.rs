//! Multiboot 2: a block of tags, each with a type and a size, 8-byte aligned, ended by tag 0.

use crate::memory::{FirmwareRegion, MemoryMap, RegionKind};
use crate::multiboot1::framebuffer_fields;
use crate::reader::{Cursor, PhysReader};
use crate::{BootError, BootInfo, Efi, PAGE_SIZE, Protocol, RSDP_LEN, RsdpSource};
use arrayvec::ArrayString;

/// Tag types we read.
mod tag {
    pub const END: u32 = 0;
    pub const COMMAND_LINE: u32 = 1;
    pub const LOADER_NAME: u32 = 2;
    pub const MODULE: u32 = 3;
    pub const BASIC_MEMORY: u32 = 4;
    pub const MEMORY_MAP: u32 = 6;
    pub const FRAMEBUFFER: u32 = 8;
    pub const EFI32_SYSTEM_TABLE: u32 = 11;
    pub const EFI64_SYSTEM_TABLE: u32 = 12;
    pub const ACPI_OLD: u32 = 14;
    pub const ACPI_NEW: u32 = 15;
    pub const EFI_MEMORY_MAP: u32 = 17;
    pub const EFI_BOOT_SERVICES: u32 = 18;
}

/// Bytes before a tag's payload: type and size.
const TAG_HEADER: u64 = 8;
/// The largest block believed: an honest one with a symbol table has tens of KiB.
const MAX_BLOCK: u64 = 4 << 20;
/// The smallest size of a memory-map entry (both kinds) that holds the fields we read.
const MAP_ENTRY_MIN: u64 = 20;
/// As above for UEFI descriptors.
const EFI_ENTRY_MIN: u64 = 32;
/// Memory-map entries looked at.
const MAP_ENTRIES: usize = 4096;

/// One tag: its type, and where its payload lies.
#[derive(Clone, Copy)]
struct Tag {
    kind: u32,
    at: u64,
    len: u64,
}

/// The memory tags found, to be chosen among once all are seen.
#[derive(Default)]
struct MemoryTags {
    map: Option<Tag>,
    efi: Option<Tag>,
    basic: Option<Tag>,
}

pub(crate) fn parse(info_phys: u32, reader: &dyn PhysReader) -> Result<BootInfo, BootError> {
    let block = Cursor::new(reader, "multiboot2 information block");
    let base = u64::from(info_phys);
    let total = u64::from(block.u32(base)?);
    if !(16..=MAX_BLOCK).contains(&total) {
        return Err(BootError::Malformed {
            what: "its total size is impossible",
        });
    }
    let mut info = BootInfo::new(Protocol::Multiboot2);
    let mut memory = MemoryTags::default();
    let mut boot_services_live = false;
    let mut offset = 8;
    while offset + TAG_HEADER <= total {
        let kind = block.u32(base + offset)?;
        let size = u64::from(block.u32(base + offset + 4)?);
        if kind == tag::END {
            break;
        }
        if size < TAG_HEADER || offset + size > total {
            return Err(BootError::Malformed {
                what: "a tag reaches beyond the block",
            });
        }
        let tag = Tag {
            kind,
            at: base + offset + TAG_HEADER,
            len: size - TAG_HEADER,
        };
        boot_services_live |= kind == tag::EFI_BOOT_SERVICES;
        read_tag(&mut info, &mut memory, &block, tag)?;
        offset += size.next_multiple_of(8);
    }
    info.memory = memory_map(&block, &memory)?;
    info.dropped.regions = info.memory.dropped();
    if let Some(efi) = &mut info.efi {
        efi.boot_services_live = boot_services_live;
    }
    Ok(info)
}

/// Takes what one tag says. Tags of the wrong length are passed over like unknown ones.
fn read_tag(
    info: &mut BootInfo,
    memory: &mut MemoryTags,
    block: &Cursor<'_>,
    tag: Tag,
) -> Result<(), BootError> {
    match tag.kind {
        tag::COMMAND_LINE => {
            let (line, cut) = block.string::<{ crate::MAX_COMMAND_LINE }>(tag.at, tag.len)?;
            info.dropped.strings_cut += u32::from(cut);
            info.command_line.clear();
            push_printable(&mut info.command_line, line.trim_ascii_start());
        }
        tag::LOADER_NAME => {
            let (name, cut) = block.string::<{ crate::MAX_LOADER_NAME }>(tag.at, tag.len)?;
            info.dropped.strings_cut += u32::from(cut);
            info.loader_name.clear();
            push_printable(&mut info.loader_name, &name);
        }
        tag::MODULE if tag.len >= 8 => {
            let start = block.u32(tag.at)?;
            let end = block.u32(tag.at + 4)?;
            let (args, cut) = block.string(tag.at + 8, tag.len - 8)?;
            info.dropped.strings_cut += u32::from(cut);
            info.add_module(start.into(), end.into(), args);
        }
        tag::BASIC_MEMORY if tag.len >= 8 => memory.basic = Some(tag),
        tag::MEMORY_MAP if tag.len >= 8 => memory.map = Some(tag),
        tag::EFI_MEMORY_MAP if tag.len >= 8 => memory.efi = Some(tag),
        tag::FRAMEBUFFER if tag.len >= 24 => {
            // A screen is a nicety: one that cannot be understood is no reason not to boot.
            info.framebuffer = framebuffer_fields(block, tag.at, tag.at + 24).unwrap_or(None);
        }
        tag::EFI32_SYSTEM_TABLE if tag.len >= 4 && info.efi.is_none() => {
            let system_table = block.u32(tag.at)?.into();
            info.efi = Some(Efi {
                system_table,
                is_64_bit: false,
                boot_services_live: false,
            });
        }
        tag::EFI64_SYSTEM_TABLE if tag.len >= 8 => {
            let system_table = block.u64(tag.at)?;
            info.efi = Some(Efi {
                system_table,
                is_64_bit: true,
                boot_services_live: false,
            });
        }
        tag::ACPI_OLD | tag::ACPI_NEW => read_rsdp(info, block, tag)?,
        _ => {}
    }
    Ok(())
}

/// Copies the root pointer. Where both come, the newer is kept: the old one leads only to 32-bit tables.
fn read_rsdp(info: &mut BootInfo, block: &Cursor<'_>, tag: Tag) -> Result<(), BootError> {
    const OLD_LEN: usize = 20;
    let mut bytes = [0; RSDP_LEN];
    let have_new =
        matches!(info.rsdp, RsdpSource::Copy { len, .. } if usize::from(len) == RSDP_LEN);
    if tag.kind == tag::ACPI_NEW && tag.len >= RSDP_LEN as u64 {
        bytes = block.bytes::<RSDP_LEN>(tag.at)?;
        info.rsdp = RsdpSource::Copy {
            bytes,
            len: RSDP_LEN as u8,
        };
    } else if tag.len >= OLD_LEN as u64 && !have_new {
        let old = block.bytes::<OLD_LEN>(tag.at)?;
        bytes.iter_mut().zip(old).for_each(|(to, from)| *to = from);
        info.rsdp = RsdpSource::Copy {
            bytes,
            len: OLD_LEN as u8,
        };
    }
    Ok(())
}

/// The loader's own map if there is one, else UEFI's, else the two old size fields.
fn memory_map(block: &Cursor<'_>, tags: &MemoryTags) -> Result<MemoryMap, BootError> {
    if let Some(tag) = tags.map {
        let entry_size = u64::from(block.u32(tag.at)?);
        if entry_size < MAP_ENTRY_MIN {
            return Err(BootError::Malformed {
                what: "its memory map's entries are too small",
            });
        }
        return Ok(MemoryMap::from_firmware(|visit| {
            for at in entries(tag, entry_size) {
                let (Ok(start), Ok(len), Ok(kind)) =
                    (block.u64(at), block.u64(at + 8), block.u32(at + 16))
                else {
                    return;
                };
                visit(FirmwareRegion {
                    start,
                    len,
                    kind: RegionKind::from_e820(kind),
                });
            }
        }));
    }
    if let Some(tag) = tags.efi {
        let entry_size = u64::from(block.u32(tag.at)?);
        if entry_size < EFI_ENTRY_MIN {
            return Err(BootError::Malformed {
                what: "its UEFI memory map's entries are too small",
            });
        }
        return Ok(MemoryMap::from_firmware(|visit| {
            for at in entries(tag, entry_size) {
                let (Ok(kind), Ok(start), Ok(pages)) =
                    (block.u32(at), block.u64(at + 8), block.u64(at + 24))
                else {
                    return;
                };
                let len = pages.saturating_mul(PAGE_SIZE);
                visit(FirmwareRegion {
                    start,
                    len,
                    kind: RegionKind::from_efi(kind),
                });
            }
        }));
    }
    if let Some(tag) = tags.basic {
        let (lower, upper) = (block.u32(tag.at)?, block.u32(tag.at + 4)?);
        return Ok(MemoryMap::from_sizes(lower, upper));
    }
    Err(BootError::NoMemoryMap)
}

/// Addresses of the whole entries of a memory-map tag, whose payload begins with entry size and version.
fn entries(tag: Tag, entry_size: u64) -> impl Iterator<Item = u64> {
    let count = tag
        .len
        .saturating_sub(8)
        .checked_div(entry_size)
        .unwrap_or(0);
    (0..count)
        .take(MAP_ENTRIES)
        .map(move |index| tag.at + 8 + index * entry_size)
}

/// Appends bytes as text; what is not printable ASCII becomes `?`.
pub(crate) fn push_printable<const N: usize>(out: &mut ArrayString<N>, bytes: &[u8]) {
    for byte in bytes {
        let printable = matches!(byte, b' '..=b'~' | b'\t');
        // The caller's buffer is as long as the string it was read into.
        let _ = out.try_push(if printable { char::from(*byte) } else { '?' });
    }
}
