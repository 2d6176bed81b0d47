//! Multiboot 1: a fixed block of fields, valid as its flags say, with pointers to strings, modules and the memory map.

use crate::memory::{FirmwareRegion, MemoryMap, RegionKind};
use crate::reader::{Cursor, PhysReader};
use crate::{
    BootError, BootInfo, ColourField, Framebuffer, FramebufferKind, MAX_COMMAND_LINE, Protocol,
    strip_file_name,
};
use arrayvec::ArrayVec;

/// Which fields the loader filled.
mod flag {
    pub const MEMORY_SIZES: u32 = 1 << 0;
    pub const COMMAND_LINE: u32 = 1 << 2;
    pub const MODULES: u32 = 1 << 3;
    pub const MEMORY_MAP: u32 = 1 << 6;
    pub const LOADER_NAME: u32 = 1 << 9;
    pub const FRAMEBUFFER: u32 = 1 << 12;
}

/// Where the fields lie in the block.
mod field {
    pub const FLAGS: u64 = 0;
    pub const MEMORY_LOWER: u64 = 4;
    pub const MEMORY_UPPER: u64 = 8;
    pub const COMMAND_LINE: u64 = 16;
    pub const MODULES_COUNT: u64 = 20;
    pub const MODULES: u64 = 24;
    pub const MAP_LENGTH: u64 = 44;
    pub const MAP: u64 = 48;
    pub const LOADER_NAME: u64 = 64;
    pub const FRAMEBUFFER: u64 = 88;
}

/// Bytes in a module descriptor: start, end, string, reserved.
const MODULE_SIZE: u64 = 16;
/// Module descriptors looked at; the rest of a lying count is dropped unread.
const MODULES_LOOKED_AT: u32 = 64;
/// Bytes of memory map looked at: an honest one of 256 entries has 6 KiB.
const MAP_LOOKED_AT: u64 = 64 * 1024;
/// What a memory-map entry has after its own size field.
const MAP_ENTRY_MIN: u64 = 20;

pub(crate) fn parse(info_phys: u32, reader: &dyn PhysReader) -> Result<BootInfo, BootError> {
    let block = Cursor::new(reader, "multiboot information block");
    let base = u64::from(info_phys);
    let flags = block.u32(base + field::FLAGS)?;
    let mut info = BootInfo::new(Protocol::Multiboot1);

    info.memory = memory(&block, base, flags, reader)?;
    info.dropped.regions = info.memory.dropped();
    if flags & flag::LOADER_NAME != 0 {
        let name = block.u32(base + field::LOADER_NAME)?;
        let (name, cut) = Cursor::new(reader, "name")
            .string::<{ crate::MAX_LOADER_NAME }>(name.into(), u64::MAX)?;
        info.dropped.strings_cut += u32::from(cut);
        crate::multiboot2::push_printable(&mut info.loader_name, &name);
    }
    if flags & flag::COMMAND_LINE != 0 {
        let line = block.u32(base + field::COMMAND_LINE)?;
        let (line, cut) = arguments(reader, line, &info.loader_name)?;
        info.dropped.strings_cut += u32::from(cut);
        crate::multiboot2::push_printable(&mut info.command_line, &line);
    }
    if flags & flag::MODULES != 0 {
        modules(&mut info, &block, base, reader)?;
    }
    if flags & flag::FRAMEBUFFER != 0 {
        // A screen is a nicety: one that cannot be understood is no reason not to boot.
        info.framebuffer = framebuffer(&block, base + field::FRAMEBUFFER).unwrap_or(None);
    }
    Ok(info)
}

/// Room for a file's path before the arguments.
const LINE_WITH_PATH: usize = MAX_COMMAND_LINE + 1024;

/// Copies a command line, less the file's name, and says whether it was cut.
fn arguments(
    reader: &dyn PhysReader,
    phys: u32,
    loader_name: &str,
) -> Result<(ArrayVec<u8, MAX_COMMAND_LINE>, bool), BootError> {
    let mut args = ArrayVec::new();
    if phys == 0 {
        return Ok((args, false));
    }
    let line = Cursor::new(reader, "command line");
    let (line, mut cut) = line.string::<LINE_WITH_PATH>(phys.into(), u64::MAX)?;
    for byte in strip_file_name(&line, loader_name) {
        cut |= args.try_push(*byte).is_err();
    }
    Ok((args, cut))
}

fn modules(
    info: &mut BootInfo,
    block: &Cursor<'_>,
    base: u64,
    reader: &dyn PhysReader,
) -> Result<(), BootError> {
    let count = block.u32(base + field::MODULES_COUNT)?;
    let list = u64::from(block.u32(base + field::MODULES)?);
    let cursor = Cursor::new(reader, "module list");
    for index in 0..count.min(MODULES_LOOKED_AT) {
        let at = list + u64::from(index) * MODULE_SIZE;
        let start = cursor.u32(at)?;
        let end = cursor.u32(at + 4)?;
        let string = cursor.u32(at + 8)?;
        let (args, cut) = arguments(reader, string, &info.loader_name)?;
        info.dropped.strings_cut += u32::from(cut);
        info.add_module(start.into(), end.into(), args);
    }
    let unread = count.saturating_sub(MODULES_LOOKED_AT);
    info.dropped.modules = info.dropped.modules.saturating_add(unread);
    Ok(())
}

/// The memory map, or what the two old size fields say when there is none.
fn memory(
    block: &Cursor<'_>,
    base: u64,
    flags: u32,
    reader: &dyn PhysReader,
) -> Result<MemoryMap, BootError> {
    if flags & flag::MEMORY_MAP != 0 {
        let length = u64::from(block.u32(base + field::MAP_LENGTH)?).min(MAP_LOOKED_AT);
        let map = u64::from(block.u32(base + field::MAP)?);
        let cursor = Cursor::new(reader, "memory map");
        cursor.u32(map)?;
        return Ok(MemoryMap::from_firmware(|visit| {
            walk_map(&cursor, map, length, visit)
        }));
    }
    if flags & flag::MEMORY_SIZES != 0 {
        let lower = block.u32(base + field::MEMORY_LOWER)?;
        let upper = block.u32(base + field::MEMORY_UPPER)?;
        return Ok(MemoryMap::from_sizes(lower, upper));
    }
    Err(BootError::NoMemoryMap)
}

/// Presents each entry. An entry's size field does not count itself; one too small to be an entry ends the map, as
/// does one that cannot be read.
fn walk_map(cursor: &Cursor<'_>, map: u64, length: u64, visit: &mut dyn FnMut(FirmwareRegion)) {
    let mut offset = 0;
    while offset + 4 + MAP_ENTRY_MIN <= length {
        let at = map + offset;
        let (Ok(size), Ok(start), Ok(len), Ok(kind)) = (
            cursor.u32(at),
            cursor.u64(at + 4),
            cursor.u64(at + 12),
            cursor.u32(at + 20),
        ) else {
            return;
        };
        if u64::from(size) < MAP_ENTRY_MIN {
            return;
        }
        visit(FirmwareRegion {
            start,
            len,
            kind: RegionKind::from_e820(kind),
        });
        offset += 4 + u64::from(size);
    }
}

/// Reads address, pitch, width, height, depth, type and colours, which both protocols lay out alike up to the colours.
fn framebuffer(block: &Cursor<'_>, at: u64) -> Result<Option<Framebuffer>, BootError> {
    framebuffer_fields(block, at, at + 22)
}

/// As both protocols have it; Multiboot 2 has two reserved bytes before the colours.
pub(crate) fn framebuffer_fields(
    block: &Cursor<'_>,
    at: u64,
    colours: u64,
) -> Result<Option<Framebuffer>, BootError> {
    let field = |offset: u64| -> Result<ColourField, BootError> {
        let [position, size] = block.bytes(colours + offset)?;
        Ok(ColourField { position, size })
    };
    let kind = match block.u8(at + 21)? {
        0 => FramebufferKind::Indexed,
        1 => FramebufferKind::Rgb {
            red: field(0)?,
            green: field(2)?,
            blue: field(4)?,
        },
        2 => FramebufferKind::Text,
        _ => return Ok(None),
    };
    Ok(Some(Framebuffer {
        address: block.u64(at)?,
        pitch: block.u32(at + 8)?,
        width: block.u32(at + 12)?,
        height: block.u32(at + 16)?,
        bits_per_pixel: block.u8(at + 20)?,
        kind,
    }))
}
