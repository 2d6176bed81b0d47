//! zstd, as Linux kernels are packed: one frame, of blocks of at most 128 KiB, perhaps with a check sum.
//!
//! Written for this place instead of taken from a crate, for the reasons xz was: the crates that decode it keep a
//! window of their own, which for a kernel packed at the highest level is 128 MiB, and grow it as the stream asks.
//! Here the output is the window. A block's literals, which are decoded before what says where they go, are put at
//! the end of the output, where the kernel's own last bytes will be: whatever follows in a stream that keeps its
//! promise is at least as long as the literals not yet used, so that writing never overtakes them (see `window`).
//!
//! The whole of a frame is checked: its header, that each block ends with its bit streams used up to the last bit,
//! that it yields what was announced, and the check sum where there is one.

mod bits;
mod fse;
mod huffman;
mod literals;
mod sequences;
mod window;

use crate::ImageError;
use crate::bytes::{slice, u16_at, u32_at, u64_at};
use crate::xxh64::xxh64;
use fse::Tables as SequenceTables;
use huffman::Huffman;
use window::Window;

const MAGIC: usize = 4;
/// The most a block may have, packed or unpacked.
const MAX_BLOCK: usize = 128 << 10;

fn corrupt(what: &'static str) -> ImageError {
    ImageError::CorruptPayload { what }
}

const EARLY: ImageError = ImageError::CorruptPayload {
    what: "its zstd frame ends early",
};
const DAMAGED: ImageError = ImageError::CorruptPayload {
    what: "its zstd frame is damaged",
};
const LONGER: ImageError = ImageError::CorruptPayload {
    what: "it is longer than it announces",
};

/// The tables that last from block to block: about 16 KiB, all zero when new.
pub(crate) struct Tables {
    huffman: Huffman,
    sequences: SequenceTables,
}

impl Tables {
    pub(crate) const fn new() -> Self {
        Tables {
            huffman: Huffman::new(),
            sequences: SequenceTables::new(),
        }
    }
}

/// What a frame's header says.
struct Header {
    /// Where the blocks begin.
    len: usize,
    content_len: Option<u64>,
    has_check_sum: bool,
}

impl Header {
    /// Reads it. The window's size is passed over: ours is all of the output.
    fn read(file: &[u8]) -> Result<Header, ImageError> {
        let descriptor = *file.get(MAGIC).ok_or(EARLY)?;
        if descriptor & 0x08 != 0 {
            return Err(DAMAGED);
        }
        let is_single_segment = descriptor & 0x20 != 0;
        let mut at = MAGIC + 1 + usize::from(!is_single_segment);
        let dictionary_len = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let dictionary = slice(file, at as u64, dictionary_len as u64).ok_or(EARLY)?;
        if dictionary.iter().any(|byte| *byte != 0) {
            return Err(ImageError::UnsupportedCompression("zstd with a dictionary"));
        }
        at += dictionary_len;
        let (len, content_len) = match descriptor >> 6 {
            0 if !is_single_segment => (0, None),
            0 => (1, file.get(at).map(|byte| u64::from(*byte))),
            1 => (2, u16_at(file, at).map(|len| u64::from(len) + 256)),
            2 => (4, u32_at(file, at).map(u64::from)),
            _ => (8, u64_at(file, at)),
        };
        if len != 0 && content_len.is_none() {
            return Err(EARLY);
        }
        Ok(Header {
            len: at + len,
            content_len,
            has_check_sum: descriptor & 0x04 != 0,
        })
    }
}

/// Unpacks one zstd frame, which is all of `file`, into `out` and checks all there is to check. Returns the bytes
/// written.
pub(crate) fn decompress(
    file: &[u8],
    out: &mut [u8],
    tables: &mut Tables,
) -> Result<usize, ImageError> {
    let header = Header::read(file)?;
    if header
        .content_len
        .is_some_and(|len| len != out.len() as u64)
    {
        return Err(corrupt("its length disagrees"));
    }
    tables.huffman.forget();
    tables.sequences.forget();
    let mut window = Window::new(out);
    let mut at = header.len;
    loop {
        let [a, b, c] = *file
            .get(at..)
            .and_then(|rest| rest.first_chunk::<3>())
            .ok_or(EARLY)?;
        at += 3;
        let word = u32::from_le_bytes([a, b, c, 0]);
        let size = (word >> 3) as usize;
        at += block(file, at, word >> 1 & 3, size, &mut window, tables)?;
        if word & 1 != 0 {
            break;
        }
    }
    let written = window.written();
    if header.has_check_sum {
        let data = out.get(..written).unwrap_or_default();
        // The low half of the sum is kept.
        if u32_at(file, at) != Some(xxh64(data) as u32) {
            return Err(corrupt("check sum mismatch"));
        }
        at += 4;
    }
    if at != file.len() {
        return Err(corrupt("something follows its zstd frame"));
    }
    Ok(written)
}

/// One block, whose header has been read. Returns the bytes it has in the file.
fn block(
    file: &[u8],
    at: usize,
    kind: u32,
    size: usize,
    window: &mut Window<'_>,
    tables: &mut Tables,
) -> Result<usize, ImageError> {
    const RAW: u32 = 0;
    const REPEATED: u32 = 1;
    const COMPRESSED: u32 = 2;
    if size > MAX_BLOCK {
        return Err(DAMAGED);
    }
    let packed = if kind == REPEATED { 1 } else { size };
    let body = slice(file, at as u64, packed as u64).ok_or(EARLY)?;
    match kind {
        RAW => window.append(body)?,
        REPEATED => window.fill(*body.first().ok_or(EARLY)?, size)?,
        COMPRESSED => {
            let before = window.written();
            let read = literals::decode(body, window, &mut tables.huffman)?;
            let sequences = body.get(read..).ok_or(DAMAGED)?;
            sequences::execute(sequences, window, &mut tables.sequences)?;
            if window.written() - before > MAX_BLOCK {
                return Err(DAMAGED);
            }
        }
        _ => return Err(DAMAGED),
    }
    Ok(packed)
}
