//! ELF64 executables for x86-64: headers read and checked once, so that what follows can rely on I3.

use crate::ImageError;
use crate::bytes::{slice, u16_at, u32_at, u64_at};

/// Where the file header's fields lie.
mod header {
    pub const CLASS: usize = 4;
    pub const DATA: usize = 5;
    pub const TYPE: usize = 0x10;
    pub const MACHINE: usize = 0x12;
    pub const ENTRY: usize = 0x18;
    pub const PROGRAM_HEADERS: usize = 0x20;
    pub const SECTION_HEADERS: usize = 0x28;
    pub const PROGRAM_HEADER_SIZE: usize = 0x36;
    pub const PROGRAM_HEADER_COUNT: usize = 0x38;
    pub const SECTION_HEADER_SIZE: usize = 0x3a;
    pub const SECTION_HEADER_COUNT: usize = 0x3c;
    pub const SECTION_NAMES: usize = 0x3e;
}

const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const TYPE_EXEC: u16 = 2;
const MACHINE_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const SHT_NOTE: u32 = 7;
const SHT_NOBITS: u32 = 8;
/// Bytes of a program header that we read; the file may have larger ones.
const PROGRAM_HEADER_LEN: u16 = 56;
/// Bytes of a section header that we read.
const SECTION_HEADER_LEN: u16 = 64;
/// The most program headers accepted. Kernels have five; comparing each with each must stay cheap.
const MAX_PROGRAM_HEADERS: u16 = 64;

/// A program header, its file part known to lie inside the file and its memory part not to wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where its bytes begin in the file.
    pub offset: u64,
    /// How many bytes the file has.
    pub file_len: u64,
    /// How many it has in memory, at least `file_len`; the rest is zero.
    pub mem_len: u64,
    /// Its physical address: where PV kernels are placed.
    pub paddr: u64,
    /// Its virtual address, which means nothing for placement (per-CPU data has zero there).
    pub vaddr: u64,
    /// 1 executable, 2 writable, 4 readable.
    pub flags: u32,
    kind: u32,
}

impl Segment {
    fn mem_end(&self) -> u64 {
        // Checked when it was read.
        self.paddr.saturating_add(self.mem_len)
    }
}

/// A checked ELF64 executable for x86-64.
#[derive(Clone, Copy, Debug)]
pub struct ElfKernel<'a> {
    file: &'a [u8],
    headers: &'a [u8],
    header_size: u16,
    entry: u64,
}

impl<'a> ElfKernel<'a> {
    /// Reads and checks all headers.
    ///
    /// # Errors
    /// [`ImageError`] if the file is not an ELF64 executable for x86-64, is cut short or contradicts itself.
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        if !file.starts_with(b"\x7fELF") {
            return Err(ImageError::NotAKernel);
        }
        let cut = ImageError::Truncated {
            what: "the ELF header",
        };
        let class = file.get(header::CLASS).copied().ok_or(cut)?;
        let data = file.get(header::DATA).copied().ok_or(cut)?;
        if data != LITTLE_ENDIAN {
            return Err(ImageError::OtherArchitecture {
                architecture: "big-endian",
            });
        }
        let machine = u16_at(file, header::MACHINE).ok_or(cut)?;
        if machine != MACHINE_X86_64 {
            return Err(ImageError::OtherArchitecture {
                architecture: machine_name(machine),
            });
        }
        if class != CLASS_64 {
            return Err(ImageError::OtherArchitecture {
                architecture: "32-bit ELF",
            });
        }
        if u16_at(file, header::TYPE).ok_or(cut)? != TYPE_EXEC {
            return Err(ImageError::NotExecutable);
        }
        let entry = u64_at(file, header::ENTRY).ok_or(cut)?;
        let offset = u64_at(file, header::PROGRAM_HEADERS).ok_or(cut)?;
        let header_size = u16_at(file, header::PROGRAM_HEADER_SIZE).ok_or(cut)?;
        let count = u16_at(file, header::PROGRAM_HEADER_COUNT).ok_or(cut)?;
        if header_size < PROGRAM_HEADER_LEN {
            return Err(ImageError::Malformed {
                what: "its program headers are too small",
            });
        }
        if count > MAX_PROGRAM_HEADERS {
            return Err(ImageError::Malformed {
                what: "it has too many program headers",
            });
        }
        let headers = slice(file, offset, u64::from(count) * u64::from(header_size)).ok_or(
            ImageError::Truncated {
                what: "the program header table",
            },
        )?;
        let kernel = ElfKernel {
            file,
            headers,
            header_size,
            entry,
        };
        kernel.check_segments()?;
        Ok(kernel)
    }

    /// The file's entry point. A PV kernel starts elsewhere: where its note says.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// The segments to be loaded, in the file's order, empty ones left out.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        self.of_kind(PT_LOAD).filter(|segment| segment.mem_len > 0)
    }

    /// The contents of the note segments.
    pub(crate) fn notes(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.of_kind(PT_NOTE)
            .filter_map(|segment| slice(self.file, segment.offset, segment.file_len))
    }

    /// The contents of the note sections. Sections are read only for want of note segments, and one that is not
    /// wholly in the file is passed over: a stripped file may keep headers of what is gone.
    pub(crate) fn note_sections(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.sections()
            .filter(|section| section.kind == SHT_NOTE)
            .filter_map(|section| slice(self.file, section.offset, section.len))
    }

    /// The contents of the section of this name.
    pub(crate) fn section(&self, name: &[u8]) -> Option<&'a [u8]> {
        let names = u16_at(self.file, header::SECTION_NAMES)?;
        let names = self.sections().nth(usize::from(names))?;
        let names = slice(self.file, names.offset, names.len)?;
        self.sections()
            .filter(|section| section.kind != SHT_NOBITS)
            .find(|section| {
                usize::try_from(section.name)
                    .ok()
                    .and_then(|at| names.get(at..))
                    .and_then(|rest| rest.strip_prefix(name))
                    .is_some_and(|rest| rest.first() == Some(&0))
            })
            .and_then(|section| slice(self.file, section.offset, section.len))
    }

    /// The section headers; none where their table is not in the file or has entries that are too small.
    fn sections(&self) -> impl Iterator<Item = Section> + 'a {
        let table = || {
            let offset = u64_at(self.file, header::SECTION_HEADERS)?;
            let size = u16_at(self.file, header::SECTION_HEADER_SIZE)?;
            let count = u16_at(self.file, header::SECTION_HEADER_COUNT)?;
            let table = slice(self.file, offset, u64::from(count) * u64::from(size))?;
            (size >= SECTION_HEADER_LEN).then_some((table, usize::from(size)))
        };
        let (table, size) = table().unwrap_or((&[], 1));
        table.chunks_exact(size).filter_map(Section::read)
    }

    /// A segment's bytes in the file.
    pub fn data(&self, segment: &Segment) -> &'a [u8] {
        slice(self.file, segment.offset, segment.file_len).unwrap_or_default()
    }

    fn of_kind(&self, kind: u32) -> impl Iterator<Item = Segment> + '_ {
        self.headers
            .chunks_exact(usize::from(self.header_size))
            .filter_map(read_segment)
            .filter(move |segment| segment.kind == kind)
    }

    /// Establishes I3.
    fn check_segments(&self) -> Result<(), ImageError> {
        let mut loadable = 0usize;
        for kind in [PT_LOAD, PT_NOTE] {
            for segment in self.of_kind(kind) {
                if slice(self.file, segment.offset, segment.file_len).is_none() {
                    return Err(ImageError::Truncated { what: "a segment" });
                }
            }
        }
        for (index, segment) in self.segments().enumerate() {
            loadable += 1;
            if segment.file_len > segment.mem_len {
                return Err(ImageError::Malformed {
                    what: "a segment is larger in the file than in memory",
                });
            }
            if segment.paddr.checked_add(segment.mem_len).is_none() {
                return Err(ImageError::Malformed {
                    what: "a segment wraps around",
                });
            }
            let overlaps = |earlier: Segment| {
                segment.paddr < earlier.mem_end() && earlier.paddr < segment.mem_end()
            };
            if self.segments().take(index).any(overlaps) {
                return Err(ImageError::Malformed {
                    what: "two segments overlap",
                });
            }
        }
        if loadable == 0 {
            return Err(ImageError::Malformed {
                what: "it has nothing to load",
            });
        }
        Ok(())
    }
}

/// A section header, of which nothing is known.
struct Section {
    name: u32,
    kind: u32,
    offset: u64,
    len: u64,
}

impl Section {
    fn read(header: &[u8]) -> Option<Section> {
        Some(Section {
            name: u32_at(header, 0)?,
            kind: u32_at(header, 4)?,
            offset: u64_at(header, 0x18)?,
            len: u64_at(header, 0x20)?,
        })
    }
}

/// Decodes one program header; `None` only if it is shorter than the caller has already ruled out.
fn read_segment(header: &[u8]) -> Option<Segment> {
    Some(Segment {
        kind: u32_at(header, 0)?,
        flags: u32_at(header, 4)?,
        offset: u64_at(header, 8)?,
        vaddr: u64_at(header, 16)?,
        paddr: u64_at(header, 24)?,
        file_len: u64_at(header, 32)?,
        mem_len: u64_at(header, 40)?,
    })
}

fn machine_name(machine: u16) -> &'static str {
    match machine {
        3 => "32-bit x86",
        8 => "MIPS",
        20 | 21 => "PowerPC",
        22 => "S/390",
        40 => "32-bit Arm",
        183 => "64-bit Arm",
        243 => "RISC-V",
        258 => "LoongArch",
        _ => "unknown",
    }
}
