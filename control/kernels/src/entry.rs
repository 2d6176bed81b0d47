//! How an unpacked kernel lies in a file of the cache.
//!
//! All numbers are little-endian. A head, padded to a page: magic, its length, its check sum; the hash of the file it
//! was made of; the placement; the extents; the check sum of each part of the data. Then the data: the pages of all
//! extents, one after the other.
//!
//! What is read back is checked as if a stranger had written it, so that nothing behind it has to care.

use crate::kernel::{Extent, Kernel, PAGE, Pages};
use image::Placement;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

/// BLAKE3 of a file: as good a name as SHA-256 of it, at a twentieth of the instructions where the CPU has no
/// instructions for that.
pub(crate) type Hash = [u8; 32];

const MAGIC: &[u8; 8] = b"xenokrn1";
/// Bytes of data under one check sum, and read at a time.
const PART: u64 = 256 << 10;
/// The longest head that is believed: 64 GiB of data or half a million extents would fit.
const MAX_HEAD: u64 = 16 << 20;

const HAS_HYPERCALL_PAGE: u64 = 1;
const HAS_INIT_P2M: u64 = 2;
const MOD_START_PFN: u64 = 4;

/// Why a file of the cache is not used.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// It cannot be read.
    File,
    /// It does not hold what it should.
    Corrupt,
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Unusable::Corrupt,
            _ => Unusable::File,
        }
    }
}

/// Writes a kernel.
pub(crate) fn write(file: &File, hash: &Hash, kernel: &Kernel) -> io::Result<()> {
    let parts = kernel.len().div_ceil(PART) as usize;
    let head_len = (head_bytes(kernel.extents().len(), parts)).next_multiple_of(PAGE);
    let mut sums = Vec::with_capacity(parts);
    let mut part = Vec::with_capacity(PART as usize);
    let mut to = head_len;
    let mut flush = |part: &mut Vec<u8>| {
        sums.push(crc32fast::hash(part));
        file.write_all_at(part, to)?;
        to += part.len() as u64;
        part.clear();
        io::Result::Ok(())
    };
    for extent in kernel.extents() {
        let end = extent.offset + extent.pages * PAGE;
        let mut from = extent.offset;
        while from < end {
            let had = part.len();
            let len = (end - from).min(PART - had as u64);
            part.resize(had + len as usize, 0);
            kernel.read(from, &mut part[had..])?;
            from += len;
            if part.len() as u64 == PART {
                flush(&mut part)?;
            }
        }
    }
    if !part.is_empty() {
        flush(&mut part)?;
    }
    // The head last: a file without it is no entry.
    let head = head(hash, kernel, &sums, head_len);
    file.write_all_at(&head, 0)?;
    (&mut &*file).flush()
}

/// Bytes of a head, without padding.
fn head_bytes(extents: usize, parts: usize) -> u64 {
    (8 + 4 + 4 + 32 + 8 * 8 + 4 + 4 + extents * 16 + parts * 4) as u64
}

fn head(hash: &Hash, kernel: &Kernel, sums: &[u32], len: u64) -> Vec<u8> {
    let placement = kernel.placement();
    let flags = placement.hypercall_pfn.map_or(0, |_| HAS_HYPERCALL_PAGE)
        | placement.init_p2m.map_or(0, |_| HAS_INIT_P2M)
        | if placement.mod_start_pfn {
            MOD_START_PFN
        } else {
            0
        };
    let mut body = Vec::new();
    body.extend(hash);
    for number in [
        placement.virt_base,
        placement.paddr_offset,
        placement.entry,
        placement.first_pfn,
        placement.end_pfn,
        placement.hypercall_pfn.unwrap_or(0),
        placement.init_p2m.unwrap_or(0),
        flags,
    ] {
        body.extend(number.to_le_bytes());
    }
    body.extend((kernel.extents().len() as u32).to_le_bytes());
    body.extend((sums.len() as u32).to_le_bytes());
    for extent in kernel.extents() {
        body.extend(extent.first_pfn.to_le_bytes());
        body.extend(extent.pages.to_le_bytes());
    }
    for sum in sums {
        body.extend(sum.to_le_bytes());
    }
    body.resize(len as usize - 16, 0);
    let mut head = MAGIC.to_vec();
    head.extend((len as u32).to_le_bytes());
    head.extend(crc32fast::hash(&body).to_le_bytes());
    head.extend(body);
    head
}

/// Reads a kernel back, if the file holds one that was made of a file with this hash, whole and unchanged (K2).
pub(crate) fn read(file: File, hash: &Hash) -> Result<Kernel, Unusable> {
    let mut start = [0; 16];
    file.read_exact_at(&mut start, 0)?;
    let mut reader = Reader(&start);
    let magic = reader.take::<8>()?;
    let len = u64::from(reader.u32()?);
    let sum = reader.u32()?;
    if &magic != MAGIC || len <= 16 || len > MAX_HEAD || !len.is_multiple_of(PAGE) {
        return Err(Unusable::Corrupt);
    }
    let mut body = vec![0; len as usize - 16];
    file.read_exact_at(&mut body, 16)?;
    if crc32fast::hash(&body) != sum {
        return Err(Unusable::Corrupt);
    }
    let mut reader = Reader(&body);
    if reader.take::<32>()? != *hash {
        return Err(Unusable::Corrupt);
    }
    let placement = read_placement(&mut reader)?;
    let (extents, sums) = (reader.u32()?, reader.u32()?);
    let (extents, data_len) = read_extents(&mut reader, extents, len, &placement)?;
    if data_len.div_ceil(PART) != u64::from(sums) {
        return Err(Unusable::Corrupt);
    }
    check_data(&file, len, data_len, &mut reader)?;
    Ok(Kernel::new(placement, extents, Pages::File(file)))
}

fn read_placement(reader: &mut Reader<'_>) -> Result<Placement, Unusable> {
    let mut number = || reader.u64();
    let (virt_base, paddr_offset, entry) = (number()?, number()?, number()?);
    let (first_pfn, end_pfn) = (number()?, number()?);
    let (hypercall_pfn, init_p2m, flags) = (number()?, number()?, number()?);
    let has = |flag| flags & flag != 0;
    if first_pfn > end_pfn || end_pfn > image::MAX_KERNEL_LEN / PAGE {
        return Err(Unusable::Corrupt);
    }
    Ok(Placement {
        virt_base,
        paddr_offset,
        entry,
        first_pfn,
        end_pfn,
        hypercall_pfn: has(HAS_HYPERCALL_PAGE).then_some(hypercall_pfn),
        init_p2m: has(HAS_INIT_P2M).then_some(init_p2m),
        mod_start_pfn: has(MOD_START_PFN),
    })
}

/// The extents, in order, apart and inside the kernel; and the bytes they have.
fn read_extents(
    reader: &mut Reader<'_>,
    count: u32,
    data: u64,
    placement: &Placement,
) -> Result<(Vec<Extent>, u64), Unusable> {
    let mut extents = Vec::new();
    let mut offset = data;
    let mut behind = placement.first_pfn;
    for _ in 0..count {
        let (first_pfn, pages) = (reader.u64()?, reader.u64()?);
        let end = first_pfn.checked_add(pages).ok_or(Unusable::Corrupt)?;
        if first_pfn < behind || pages == 0 || end > placement.end_pfn {
            return Err(Unusable::Corrupt);
        }
        behind = end;
        extents.push(Extent {
            first_pfn,
            pages,
            offset,
        });
        // Bounded by the end of the kernel.
        offset += pages * PAGE;
    }
    Ok((extents, offset - data))
}

fn check_data(file: &File, start: u64, len: u64, sums: &mut Reader<'_>) -> Result<(), Unusable> {
    let mut part = vec![0; PART.min(len) as usize];
    let mut done = 0;
    while done < len {
        let now = (len - done).min(PART) as usize;
        file.read_exact_at(&mut part[..now], start + done)?;
        if crc32fast::hash(&part[..now]) != sums.u32()? {
            return Err(Unusable::Corrupt);
        }
        done += now as u64;
    }
    Ok(())
}

/// What is left to be read of a head.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unusable> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Unusable::Corrupt)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u32(&mut self) -> Result<u32, Unusable> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Unusable> {
        self.take().map(u64::from_le_bytes)
    }
}
