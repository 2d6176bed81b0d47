//! The boot hand-off: one value, [`BootInfo`], that says how the machine was handed to us, whoever loaded us.
//!
//! QEMU's `-kernel` and GRUB's `multiboot` speak Multiboot 1, GRUB's `multiboot2` speaks Multiboot 2. [`parse`] reads
//! either through a [`PhysReader`], copies what is wanted, and leaves nothing that points into the loader's memory
//! except the modules themselves. Nothing later needs to know which of the two it was.
//!
//! # Invariants
//! - B1: whatever the loader left in memory, parsing ends, never panics and never reads beyond what the reader grants.
//! - B2: a memory map is sorted, free of overlaps and of empty regions, and below [`PHYSICAL_LIMIT`]; what two
//!   firmware entries disagree about has the more restrictive of the two kinds.
//! - B3: what did not fit is counted, never silently lost ([`BootInfo::dropped`]), and dropping only ever makes less
//!   memory usable.
//!
//! [`params`] holds the hypervisor's own command line, in the words server admins know.
#![no_std]
#![forbid(unsafe_code)]

mod error;
mod memory;
mod multiboot1;
mod multiboot2;
pub mod params;
mod reader;
pub mod size;

use arrayvec::{ArrayString, ArrayVec};

pub use error::BootError;
pub use memory::{
    FirmwareRegion, MAX_REGIONS, MemoryMap, PAGE_SIZE, PHYSICAL_LIMIT, Region, RegionKind,
};
pub use params::Params;
pub use reader::PhysReader;

/// What EAX holds when a Multiboot 1 loader jumps to us.
pub const MULTIBOOT1_MAGIC: u32 = 0x2bad_b002;
/// What EAX holds when a Multiboot 2 loader jumps to us.
pub const MULTIBOOT2_MAGIC: u32 = 0x36d7_6289;

/// The modules kept: a kernel, an initrd, and room for what loaders and later issues add.
pub const MAX_MODULES: usize = 8;
/// The longest command line kept, in bytes: what fits a PV guest's start-of-day page, less its terminator.
pub const MAX_COMMAND_LINE: usize = 1023;
/// The longest loader name kept, in bytes.
pub const MAX_LOADER_NAME: usize = 63;
/// The size of an ACPI 2.0 root pointer, in bytes; later revisions only append to it.
pub const RSDP_LEN: usize = 36;

/// How we were loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// QEMU `-kernel`, GRUB `multiboot`.
    Multiboot1,
    /// GRUB `multiboot2`, under BIOS or UEFI.
    Multiboot2,
}

/// A file the loader put in memory for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Physical address of the first byte. Zero is a legitimate place.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// The words after the file's name on its line, as bytes: they belong to a guest kernel and are not ours to judge.
    pub args: ArrayVec<u8, MAX_COMMAND_LINE>,
}

impl Module {
    /// Physical address just past the last byte. [`parse`] keeps only modules for which this does not wrap.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// Where the ACPI root pointer is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RsdpSource {
    /// The loader did not say: look for it in the BIOS areas (EBDA, and 0xe0000 to 0xfffff).
    BiosScan,
    /// The loader handed a copy of the structure itself, of which `len` bytes are valid (20 for ACPI 1.0, else 36).
    /// It is as the loader gave it: its checksum has not been looked at.
    Copy {
        /// The structure, zero-padded.
        bytes: [u8; RSDP_LEN],
        /// How many of `bytes` the loader gave.
        len: u8,
    },
}

/// What UEFI left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Efi {
    /// Physical address of the system table.
    pub system_table: u64,
    /// Whether the table has 64-bit pointers.
    pub is_64_bit: bool,
    /// Whether the loader left boot services running (we ask it not to).
    pub boot_services_live: bool,
}

/// One colour of a pixel: which bits of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColourField {
    /// The field's lowest bit.
    pub position: u8,
    /// The field's width in bits.
    pub size: u8,
}

/// How a framebuffer's memory is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramebufferKind {
    /// A palette, which is not kept.
    Indexed,
    /// Direct colour.
    Rgb {
        /// Red bits.
        red: ColourField,
        /// Green bits.
        green: ColourField,
        /// Blue bits.
        blue: ColourField,
    },
    /// EGA text: a character and an attribute byte each.
    Text,
}

/// The screen as the loader left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framebuffer {
    /// Physical address.
    pub address: u64,
    /// Bytes from one line to the next.
    pub pitch: u32,
    /// Pixels (characters for text) in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Bits a pixel.
    pub bits_per_pixel: u8,
    /// Layout of a pixel.
    pub kind: FramebufferKind,
}

/// What the loader said and there was no room for. All zero on a sane machine; the boot tells it otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Modules past [`MAX_MODULES`], or with an impossible address.
    pub modules: u32,
    /// Memory-map entries that were impossible, or did not fit.
    pub regions: u32,
    /// Strings cut short at their limit.
    pub strings_cut: u32,
}

impl Dropped {
    /// Whether everything the loader said was kept.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl core::fmt::Display for Dropped {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let parts = [
            (self.modules, "modules beyond the first 8"),
            (self.regions, "entries of the memory map"),
            (self.strings_cut, "ends of command lines"),
        ];
        let mut first = true;
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{}{count} {what}", if first { "" } else { ", " })?;
            first = false;
        }
        Ok(())
    }
}

const _: () = assert!(MAX_MODULES == 8, "as `Dropped` says it");

/// The hand-off value. About 15 KiB: keep one, pass references.
#[derive(Clone, Debug)]
pub struct BootInfo {
    /// Who speaks.
    pub protocol: Protocol,
    /// The loader's name for itself; may be empty.
    pub loader_name: ArrayString<MAX_LOADER_NAME>,
    /// Our own command line, without our file's name. Bytes that are not ASCII are replaced by `?`.
    pub command_line: ArrayString<MAX_COMMAND_LINE>,
    /// The machine's memory. Modules and our own image are not yet taken out of it: see [`MemoryMap::claim`].
    pub memory: MemoryMap,
    /// The modules, in the loader's order.
    pub modules: ArrayVec<Module, MAX_MODULES>,
    /// Where to find ACPI.
    pub rsdp: RsdpSource,
    /// UEFI's system table, on a UEFI machine whose loader told us.
    pub efi: Option<Efi>,
    /// The screen, where the loader told us.
    pub framebuffer: Option<Framebuffer>,
    /// What there was no room for.
    pub dropped: Dropped,
}

impl BootInfo {
    /// An empty hand-off value for a parser to fill.
    fn new(protocol: Protocol) -> Self {
        BootInfo {
            protocol,
            loader_name: ArrayString::new(),
            command_line: ArrayString::new(),
            memory: MemoryMap::new(),
            modules: ArrayVec::new(),
            rsdp: RsdpSource::BiosScan,
            efi: None,
            framebuffer: None,
            dropped: Dropped::default(),
        }
    }

    /// Keeps a module, or counts it as dropped.
    fn add_module(&mut self, start: u64, end: u64, args: ArrayVec<u8, MAX_COMMAND_LINE>) {
        let kept = match end.checked_sub(start) {
            Some(len) if end <= PHYSICAL_LIMIT => {
                self.modules.try_push(Module { start, len, args }).is_ok()
            }
            _ => false,
        };
        if !kept {
            self.dropped.modules = self.dropped.modules.saturating_add(1);
        }
    }
}

/// Reads what the loader left, given the two registers it left (EAX and EBX).
///
/// # Errors
/// [`BootError`] when we were not loaded by a Multiboot loader, when what it left cannot be read or is not what the
/// protocol says, or when it told of no usable memory.
pub fn parse(magic: u32, info_phys: u32, reader: &dyn PhysReader) -> Result<BootInfo, BootError> {
    let info = match magic {
        MULTIBOOT1_MAGIC => multiboot1::parse(info_phys, reader),
        MULTIBOOT2_MAGIC => multiboot2::parse(info_phys, reader),
        _ => Err(BootError::NotMultiboot { magic }),
    }?;
    if info.memory.usable_bytes() == 0 {
        return Err(BootError::NoUsableMemory);
    }
    Ok(info)
}

/// Strips the file's name from a Multiboot 1 command line and leaves the arguments.
///
/// QEMU puts the file's path first in our command line and in each module's; GRUB 2 passes only what follows the
/// name; GRUB Legacy passes the name with its device. So the first word goes if the loader calls itself `qemu`, or if
/// the word can only be a file's name: no argument of ours or of Linux begins with `/` or `(`. Multiboot 2 loaders
/// pass arguments only, and nothing is stripped there.
pub fn strip_file_name<'a>(line: &'a [u8], loader_name: &str) -> &'a [u8] {
    let line = line.trim_ascii_start();
    let always = loader_name
        .get(..4)
        .is_some_and(|name| name.eq_ignore_ascii_case("qemu"));
    if !always && !line.starts_with(b"/") && !line.starts_with(b"(") {
        return line;
    }
    match line.iter().position(u8::is_ascii_whitespace) {
        Some(gap) => line.get(gap..).unwrap_or_default().trim_ascii_start(),
        None => b"",
    }
}
