//! xz, as Linux kernels are packed: blocks of LZMA2, perhaps filtered for x86 code, checked by CRC-32.
//!
//! Written for this place instead of taken from a crate, because the crates that decode it keep a dictionary of their
//! own, 32 MiB here, and copy every byte out of it. Here the output is the dictionary, nothing is allocated, and the
//! code filter and the check sum run over the output where it lies.
//!
//! The container is checked throughout: both headers, every block header, the index and the footer have check sums of
//! their own, and the index must list what was decoded.

mod lzma;
mod lzma2;
mod range;
mod x86;

use crate::ImageError;
use crate::bytes::{slice, u32_at};
use crate::crc32::crc32;
pub(crate) use lzma::Tables;

const HEADER_MAGIC: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const FOOTER_MAGIC: &[u8] = b"YZ";
/// Bytes of the stream's header, and of its footer.
const STREAM_HEADER: usize = 12;
const CHECK_CRC32: u8 = 1;
const CHECK_LEN: usize = 4;
const FILTER_X86: u64 = 0x04;
const FILTER_LZMA2: u64 = 0x21;

fn corrupt(what: &'static str) -> ImageError {
    ImageError::CorruptPayload { what }
}

const HEADER: ImageError = ImageError::CorruptPayload {
    what: "an xz header is damaged",
};
const INDEX: ImageError = ImageError::CorruptPayload {
    what: "its xz index is damaged",
};

/// Position in the compressed file.
struct Input<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = slice(self.file, self.at as u64, len as u64)?;
        self.at += len;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.file.get(self.at..).unwrap_or_default()
    }

    /// A number in groups of seven bits, least significant first, at most nine of them and none of them in vain.
    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return (byte != 0 || shift == 0).then_some(value);
            }
        }
        None
    }

    /// Skips zeroes up to a multiple of four from `start`.
    fn padding(&mut self, start: usize) -> Option<()> {
        while !(self.at - start).is_multiple_of(4) {
            (self.byte()? == 0).then_some(())?;
        }
        Some(())
    }
}

/// What the index must say about the blocks, summed up.
#[derive(Default, PartialEq, Eq)]
struct Tally {
    blocks: u64,
    packed: u64,
    unpacked: u64,
    /// Makes the order count too.
    mixed: u64,
}

impl Tally {
    fn add(&mut self, packed: u64, unpacked: u64) {
        self.blocks += 1;
        self.packed = self.packed.wrapping_add(packed);
        self.unpacked = self.unpacked.wrapping_add(unpacked);
        self.mixed = self.mixed.rotate_left(9) ^ packed.wrapping_mul(3) ^ unpacked;
    }
}

/// Unpacks one xz stream into `out` and checks all there is to check. Returns the bytes written.
pub(crate) fn decompress(
    file: &[u8],
    out: &mut [u8],
    tables: &mut Tables,
) -> Result<usize, ImageError> {
    let mut input = Input { file, at: 0 };
    let flags = stream_header(&mut input)?;
    let mut tally = Tally::default();
    let mut written = 0;
    loop {
        let start = input.at;
        let size = input.byte().ok_or(corrupt("its xz stream ends early"))?;
        if size == 0 {
            index_and_footer(&mut input, start, flags, &tally)?;
            return Ok(written);
        }
        let header = block_header(&mut input, start, size)?;
        let room = out.get_mut(written..).unwrap_or_default();
        let compressed_at = input.at;
        let (read, wrote) = lzma2::decode(input.rest(), room, tables)?;
        input.at += read;
        let sizes_agree = header
            .packed
            .is_none_or(|len| len == (input.at - compressed_at) as u64)
            && header.unpacked.is_none_or(|len| len == wrote as u64);
        if !sizes_agree {
            return Err(HEADER);
        }
        let block = room.get_mut(..wrote).unwrap_or_default();
        if let Some(offset) = header.x86_offset {
            x86::unfilter(block, offset);
        }
        let unpadded = input.at - start + CHECK_LEN;
        input.padding(compressed_at).ok_or(HEADER)?;
        let check = input.take(CHECK_LEN).and_then(|check| u32_at(check, 0));
        if check != Some(crc32(block)) {
            return Err(corrupt("CRC mismatch"));
        }
        tally.add(unpadded as u64, wrote as u64);
        written += wrote;
    }
}

/// Checks the stream header and returns its two flag bytes.
fn stream_header(input: &mut Input<'_>) -> Result<[u8; 2], ImageError> {
    let header = input.take(STREAM_HEADER).ok_or(HEADER)?;
    let flags = header.get(6..8).ok_or(HEADER)?;
    if !header.starts_with(HEADER_MAGIC) || u32_at(header, 8) != Some(crc32(flags)) {
        return Err(HEADER);
    }
    match *flags {
        [0, CHECK_CRC32] => Ok([0, CHECK_CRC32]),
        // Linux packs kernels with this check only, because its own decoder knows no other.
        _ => Err(ImageError::UnsupportedCompression(
            "xz with a check other than CRC-32",
        )),
    }
}

struct BlockHeader {
    packed: Option<u64>,
    unpacked: Option<u64>,
    x86_offset: Option<u32>,
}

/// Reads a block's header, whose size byte has been read already.
fn block_header(input: &mut Input<'_>, start: usize, size: u8) -> Result<BlockHeader, ImageError> {
    let len = usize::from(size) * 4;
    let header = slice(input.file, start as u64, len as u64).ok_or(HEADER)?;
    let checked = u32_at(input.file, start + len);
    if checked != Some(crc32(header)) {
        return Err(HEADER);
    }
    let mut fields = Input {
        file: header,
        at: 1,
    };
    let flags = fields.byte().ok_or(HEADER)?;
    if flags & 0x3c != 0 {
        return Err(HEADER);
    }
    let mut size = |present: bool| -> Result<Option<u64>, ImageError> {
        if present {
            fields.number().map(Some).ok_or(HEADER)
        } else {
            Ok(None)
        }
    };
    let packed = size(flags & 0x40 != 0)?;
    let unpacked = size(flags & 0x80 != 0)?;
    let x86_offset = filters(&mut fields, flags & 3)?;
    if fields.rest().iter().any(|byte| *byte != 0) {
        return Err(HEADER);
    }
    input.at = start + len + 4;
    Ok(BlockHeader {
        packed,
        unpacked,
        x86_offset,
    })
}

/// Reads the filters: LZMA2 last, perhaps the x86 filter before it, whose start offset is returned.
fn filters(fields: &mut Input<'_>, last: u8) -> Result<Option<u32>, ImageError> {
    let mut x86_offset = None;
    for index in 0..=last {
        let filter = fields.number().ok_or(HEADER)?;
        let len = fields
            .number()
            .and_then(|len| usize::try_from(len).ok())
            .ok_or(HEADER)?;
        let properties = fields.take(len).ok_or(HEADER)?;
        match filter {
            // The property is the dictionary's size. Ours is all of the output, so any will do.
            FILTER_LZMA2 if index == last && len == 1 => {}
            FILTER_X86 if index != last && x86_offset.is_none() => {
                x86_offset = Some(u32_at(properties, 0).unwrap_or(0));
            }
            _ => {
                return Err(ImageError::UnsupportedCompression(
                    "xz with other filters than x86 and LZMA2",
                ));
            }
        }
    }
    Ok(x86_offset)
}

/// Checks the index, whose first byte has been read already, against what was decoded, and the footer against both.
fn index_and_footer(
    input: &mut Input<'_>,
    start: usize,
    flags: [u8; 2],
    decoded: &Tally,
) -> Result<(), ImageError> {
    let count = input.number().ok_or(INDEX)?;
    if count != decoded.blocks {
        return Err(INDEX);
    }
    let mut listed = Tally::default();
    for _ in 0..count {
        let packed = input.number().ok_or(INDEX)?;
        let unpacked = input.number().ok_or(INDEX)?;
        listed.add(packed, unpacked);
    }
    input.padding(start).ok_or(INDEX)?;
    let index = input.file.get(start..input.at).unwrap_or_default();
    let check = input.take(4).and_then(|check| u32_at(check, 0));
    if listed != *decoded || check != Some(crc32(index)) {
        return Err(INDEX);
    }
    let index_len = input.at - start;
    let footer = input.take(STREAM_HEADER).ok_or(INDEX)?;
    let body = footer.get(4..10).unwrap_or_default();
    let back = u32_at(body, 0).map(|words| (u64::from(words) + 1) * 4);
    let agrees = u32_at(footer, 0) == Some(crc32(body))
        && back == Some(index_len as u64)
        && body.ends_with(&flags)
        && footer.ends_with(FOOTER_MAGIC);
    if agrees { Ok(()) } else { Err(INDEX) }
}
