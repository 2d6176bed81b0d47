//! lz4, as Linux kernels are packed: the legacy frame, which is a magic number and then blocks of at most 8 MiB, each
//! behind its packed length, up to the end of the file. A block's contents are `lz4_flex`'s business: it decodes into
//! the slice it is given, without memory of its own.
//!
//! The format has no check sum: damage that leaves a decodable stream of the right length is not found here.

use crate::ImageError;
use crate::bytes::{slice, u32_at};

const MAGIC: u32 = 0x184c_2102;
/// What every block but the last unpacks to.
const BLOCK: usize = 8 << 20;

fn corrupt(what: &'static str) -> ImageError {
    ImageError::CorruptPayload { what }
}

/// Unpacks one legacy frame, which is all of `file`, into `out`. Returns the bytes written.
pub(crate) fn decompress(file: &[u8], out: &mut [u8]) -> Result<usize, ImageError> {
    let early = corrupt("its lz4 frame ends early");
    let (mut at, mut written) = (4, 0);
    let mut last = false;
    while at < file.len() {
        let len = u32_at(file, at).ok_or(early)?;
        at += 4;
        // Frames may be put behind each other.
        if len == MAGIC {
            last = false;
            continue;
        }
        if last {
            return Err(corrupt("a short lz4 block is followed by another"));
        }
        let block = slice(file, at as u64, u64::from(len)).ok_or(early)?;
        at += block.len();
        let room = out.get_mut(written..).unwrap_or_default();
        let room_len = room.len().min(BLOCK);
        let room = room.get_mut(..room_len).unwrap_or_default();
        let unpacked = lz4_flex::block::decompress_into(block, room).map_err(|error| {
            use lz4_flex::block::DecompressError::OutputTooSmall;
            match error {
                OutputTooSmall { .. } if room_len < BLOCK => {
                    corrupt("it is longer than it announces")
                }
                _ => corrupt("its lz4 frame is damaged"),
            }
        })?;
        last = unpacked < BLOCK;
        written += unpacked;
    }
    Ok(written)
}
