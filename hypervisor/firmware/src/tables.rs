//! Finding tables: the root pointer, the root table, and each table's extent and checksum.

use crate::Warn;
use crate::view::view;
use acpi::rsdp::Rsdp;
use acpi::sdt::SdtHeader;
use boot_info::{PhysReader, RSDP_LEN, RsdpSource};

/// Bytes of an ACPI 1.0 root pointer, which the first checksum covers.
const RSDP_V1: usize = 20;
const HEADER: u64 = size_of::<SdtHeader>() as u64;
/// Longest table believed. Real ones stay below one MiB.
const LONGEST: u64 = 4 << 20;
/// Most tables believed. Real machines have up to about fifty.
const MOST_TABLES: u64 = 256;

/// A table whose extent is readable and whose checksum is right.
pub(crate) struct Table {
    phys: u64,
    header: SdtHeader,
    signature: [u8; 4],
}

impl Table {
    /// Opens the table at `phys`.
    pub(crate) fn open(phys: u64, memory: &dyn PhysReader, warn: Warn<'_>) -> Option<Table> {
        let mut bytes = [0; HEADER as usize];
        let readable = phys != 0 && phys.checked_add(LONGEST).is_some();
        if !readable || !memory.read(phys, &mut bytes) {
            warn(format_args!(
                "ACPI: the table at {phys:#x} cannot be read; ignored"
            ));
            return None;
        }
        let header = view::<SdtHeader>(&bytes)?;
        let [a, b, c, d, ..] = bytes;
        let table = Table {
            phys,
            header,
            signature: [a, b, c, d],
        };
        let name = Name(table.signature);
        if !(HEADER..=LONGEST).contains(&table.len()) {
            warn(format_args!(
                "ACPI: table {name} at {phys:#x} claims a length of {} bytes; ignored",
                table.len()
            ));
            return None;
        }
        match table.sum(memory) {
            Some(0) => Some(table),
            Some(_) => {
                warn(format_args!(
                    "ACPI: table {name} at {phys:#x} has a bad checksum; ignored"
                ));
                None
            }
            None => {
                warn(format_args!(
                    "ACPI: table {name} at {phys:#x} cannot be read to its end; ignored"
                ));
                None
            }
        }
    }

    /// Length in bytes, header included.
    pub(crate) fn len(&self) -> u64 {
        u64::from(self.header.length)
    }

    /// The four letters.
    pub(crate) fn signature(&self) -> [u8; 4] {
        self.signature
    }

    /// Fills `buf` from `offset` on; false if that is not inside the table.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8], memory: &dyn PhysReader) -> bool {
        let inside = offset
            .checked_add(buf.len() as u64)
            .is_some_and(|end| end <= self.len());
        // Cannot wrap: `open` made sure of LONGEST bytes.
        inside && memory.read(self.phys.saturating_add(offset), buf)
    }

    /// Bytes at an offset.
    pub(crate) fn bytes<const N: usize>(
        &self,
        offset: u64,
        memory: &dyn PhysReader,
    ) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read(offset, &mut bytes, memory).then_some(bytes)
    }

    fn sum(&self, memory: &dyn PhysReader) -> Option<u8> {
        let mut piece = [0; 256];
        let mut sum = 0u8;
        let mut at = 0;
        while at < self.len() {
            let len = (self.len() - at).min(piece.len() as u64);
            let piece = piece.get_mut(..len as usize)?;
            if !self.read(at, piece, memory) {
                return None;
            }
            sum = piece.iter().fold(sum, |sum, &byte| sum.wrapping_add(byte));
            at += len;
        }
        Some(sum)
    }
}

/// A signature as text, whatever its bytes.
struct Name([u8; 4]);

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for byte in self.0 {
            let c = if byte.is_ascii_graphic() {
                char::from(byte)
            } else {
                '?'
            };
            write!(f, "{c}")?;
        }
        Ok(())
    }
}

/// The root table: where the others are.
pub(crate) struct Root {
    table: Table,
    /// Bytes of an address in it.
    width: u64,
}

impl Root {
    /// Finds the root pointer where the loader said, and the root table it names.
    pub(crate) fn find(
        source: &RsdpSource,
        memory: &dyn PhysReader,
        warn: Warn<'_>,
    ) -> Option<Root> {
        let pointer = match source {
            RsdpSource::Copy { bytes, len } => checked_pointer(bytes, usize::from(*len)),
            RsdpSource::BiosScan => None,
        };
        // A loader's bad copy may hide a good original.
        let rsdp = pointer.or_else(|| scan(memory))?;
        // The crate's accessor panics on a first-revision pointer, which has no such field.
        let long = if rsdp.revision() >= 2 {
            rsdp.xsdt_address()
        } else {
            0
        };
        if long != 0
            && let Some(table) = Table::open(long, memory, warn)
            && table.signature() == *b"XSDT"
        {
            return Some(Root { table, width: 8 });
        }
        let table = Table::open(u64::from(rsdp.rsdt_address()), memory, warn)?;
        (table.signature() == *b"RSDT").then_some(Root { table, width: 4 })
    }

    /// Tables it names.
    pub(crate) fn count(&self) -> u64 {
        (self.table.len().saturating_sub(HEADER) / self.width).min(MOST_TABLES)
    }

    /// The table in place `index`.
    pub(crate) fn table(
        &self,
        index: u64,
        memory: &dyn PhysReader,
        warn: Warn<'_>,
    ) -> Option<Table> {
        let offset = HEADER.checked_add(index.checked_mul(self.width)?)?;
        let phys = if self.width == 8 {
            u64::from_le_bytes(self.table.bytes(offset, memory)?)
        } else {
            u64::from(u32::from_le_bytes(self.table.bytes(offset, memory)?))
        };
        Table::open(phys, memory, warn)
    }
}

/// The root pointer in `bytes`, of which `len` were given, if its checksums are right.
fn checked_pointer(bytes: &[u8; RSDP_LEN], len: usize) -> Option<Rsdp> {
    if !bytes.starts_with(b"RSD PTR ") || !sums_to_zero(bytes.get(..RSDP_V1)?) {
        return None;
    }
    let mut bytes = *bytes;
    let rsdp = view::<Rsdp>(&bytes)?;
    let extended = rsdp.revision() >= 2 && len >= RSDP_LEN && sums_to_zero(&bytes);
    if extended {
        return Some(rsdp);
    }
    // The second half is missing or wrong: go by the first alone.
    bytes.iter_mut().skip(RSDP_V1).for_each(|byte| *byte = 0);
    view(&bytes)
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)) == 0
}

/// Looks for the root pointer where a BIOS puts it: the first KiB of its extended data area, then its ROM.
fn scan(memory: &dyn PhysReader) -> Option<Rsdp> {
    let mut segment = [0; 2];
    let ebda = memory
        .read(0x40e, &mut segment)
        .then(|| u64::from(u16::from_le_bytes(segment)) << 4)
        .filter(|start| (0x400..0xa_0000).contains(start))
        .map(|start| (start, start + 0x400));
    let rom = (0xe_0000, 0x10_0000);
    ebda.into_iter().chain([rom]).find_map(|(start, end)| {
        (start..end).step_by(16).find_map(|phys| {
            let mut head = [0; 8];
            if !memory.read(phys, &mut head) || &head != b"RSD PTR " {
                return None;
            }
            let mut bytes = [0; RSDP_LEN];
            let len = if memory.read(phys, &mut bytes) {
                RSDP_LEN
            } else {
                RSDP_V1
            };
            if len == RSDP_V1 && !memory.read(phys, bytes.get_mut(..RSDP_V1)?) {
                return None;
            }
            checked_pointer(&bytes, len)
        })
    })
}
