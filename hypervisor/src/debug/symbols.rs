//! Names of ring 0's functions, from a table that the build makes and the loader hands over as a module.
//!
//! ```text
//! "XSYM0001"  u32 count  u32 bytes of names
//! count x { u64 address, u32 offset of the name, u32 size in bytes (0: up to the next) }   sorted by address
//! names, each ended by a NUL
//! ```
//! All little-endian. The table is checked once, as a whole, and then trusted; one that fails the check costs a
//! warning and the names.

use crate::warn;
use spin::Once;

const MAGIC: &[u8; 8] = b"XSYM0001";
const HEADER: usize = 16;
const ENTRY: usize = 16;
/// Names longer than this are cut: a report's line should stay readable.
const LONGEST_NAME: usize = 160;

struct Table {
    entries: &'static [u8],
    names: &'static [u8],
}

struct Entry {
    address: u64,
    name: u32,
    size: u32,
}

static TABLE: Once<Table> = Once::new();

/// Takes the table, if it is one.
pub fn init(bytes: &'static [u8]) {
    match check(bytes) {
        Ok(table) => {
            TABLE.call_once(|| table);
        }
        Err(why) => warn!(
            "the symbol module {why}; addresses stay without names, rebuild it with the hypervisor"
        ),
    }
}

fn check(bytes: &'static [u8]) -> Result<Table, &'static str> {
    let header = bytes.get(..HEADER).ok_or("is shorter than its header")?;
    if !header.starts_with(MAGIC) {
        return Err("is not a symbol table");
    }
    let count = word(header, 8).ok_or("is cut short")? as usize;
    let names_len = word(header, 12).ok_or("is cut short")? as usize;
    let entries_end = count
        .checked_mul(ENTRY)
        .and_then(|len| len.checked_add(HEADER))
        .ok_or("claims too many entries")?;
    let names_end = entries_end
        .checked_add(names_len)
        .ok_or("claims too many names")?;
    let table = Table {
        entries: bytes.get(HEADER..entries_end).ok_or("is cut short")?,
        names: bytes.get(entries_end..names_end).ok_or("is cut short")?,
    };
    let mut last = 0;
    for i in 0..count {
        let entry = table.entry(i).ok_or("is cut short")?;
        if entry.address < last {
            return Err("is not sorted");
        }
        last = entry.address;
        table.name(entry.name).ok_or("has a bad name")?;
    }
    Ok(table)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let (word, _) = bytes.get(at..)?.split_first_chunk()?;
    Some(u32::from_le_bytes(*word))
}

impl Table {
    fn len(&self) -> usize {
        self.entries.len() / ENTRY
    }

    fn entry(&self, index: usize) -> Option<Entry> {
        let (address, rest) = self
            .entries
            .get(index.checked_mul(ENTRY)?..)?
            .split_first_chunk()?;
        Some(Entry {
            address: u64::from_le_bytes(*address),
            name: word(rest, 0)?,
            size: word(rest, 4)?,
        })
    }

    fn name(&self, offset: u32) -> Option<&'static str> {
        let bytes = self.names.get(offset as usize..)?;
        let end = bytes.iter().position(|&byte| byte == 0)?;
        let mut name = core::str::from_utf8(bytes.get(..end)?).ok()?;
        if name.len() > LONGEST_NAME {
            name = name.get(..name.floor_char_boundary(LONGEST_NAME))?;
        }
        Some(name)
    }
}

/// The function an address lies in and how far from its beginning.
pub fn lookup(address: u64) -> Option<(&'static str, u64)> {
    let table = TABLE.get()?;
    let (mut low, mut high) = (0, table.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if table.entry(middle)?.address <= address {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let entry = table.entry(low.checked_sub(1)?)?;
    let offset = address - entry.address;
    let inside = entry.size == 0 || offset < u64::from(entry.size);
    inside.then_some((table.name(entry.name)?, offset))
}
