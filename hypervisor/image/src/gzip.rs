//! gzip: a header, a deflate stream, a CRC and a length. The stream is `miniz_oxide`'s business.

use crate::ImageError;
use crate::bytes::{u16_at, u32_at};
use crate::crc32::crc32;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress as inflate, inflate_flags};

/// Header flags.
mod flag {
    pub const HEADER_CRC: u8 = 1 << 1;
    pub const EXTRA: u8 = 1 << 2;
    pub const NAME: u8 = 1 << 3;
    pub const COMMENT: u8 = 1 << 4;
    pub const RESERVED: u8 = 0xe0;
}

const DEFLATE: u8 = 8;
const FIXED_HEADER: usize = 10;

fn corrupt(what: &'static str) -> ImageError {
    ImageError::CorruptPayload { what }
}

/// Unpacks one gzip member into `out` and checks CRC and length. Returns the bytes written.
pub(crate) fn decompress(
    file: &[u8],
    out: &mut [u8],
    state: &mut DecompressorOxide,
) -> Result<usize, ImageError> {
    let start = header_len(file).ok_or(corrupt("its gzip header is malformed"))?;
    let stream = file.get(start..).unwrap_or_default();
    state.init();
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, read, written) = inflate(state, stream, out, 0, flags);
    match status {
        TINFLStatus::Done => {}
        TINFLStatus::HasMoreOutput => return Err(corrupt("it is longer than it announces")),
        TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => {
            return Err(corrupt("its gzip stream ends early"));
        }
        _ => return Err(corrupt("its gzip stream is damaged")),
    }
    let trailer = stream.get(read..).unwrap_or_default();
    let data = out.get(..written).unwrap_or_default();
    if u32_at(trailer, 0) != Some(crc32(data)) {
        return Err(corrupt("CRC mismatch"));
    }
    if u32_at(trailer, 4) != u32::try_from(written).ok() {
        return Err(corrupt("its length disagrees"));
    }
    Ok(written)
}

/// Where the deflate stream begins.
fn header_len(file: &[u8]) -> Option<usize> {
    let [0x1f, 0x8b, DEFLATE, flags, ..] = *file else {
        return None;
    };
    if flags & flag::RESERVED != 0 {
        return None;
    }
    let mut at = FIXED_HEADER;
    if flags & flag::EXTRA != 0 {
        at += 2 + usize::from(u16_at(file, at)?);
    }
    for string in [flag::NAME, flag::COMMENT] {
        if flags & string != 0 {
            at += file.get(at..)?.iter().position(|byte| *byte == 0)? + 1;
        }
    }
    if flags & flag::HEADER_CRC != 0 {
        at += 2;
    }
    (at <= file.len()).then_some(at)
}
