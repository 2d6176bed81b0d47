//! The first part of a block: its literals, plain, repeated or Huffman-coded.

use super::huffman::Huffman;
use super::window::Window;
use super::{DAMAGED, EARLY, MAX_BLOCK};
use crate::ImageError;
use crate::bytes::{slice, u16_at};

/// The header of the part.
struct Header {
    kind: u8,
    streams: usize,
    /// Bytes when decoded.
    len: usize,
    /// Bytes as they are in the block, the header not counted.
    packed: usize,
    /// Bytes of the header itself.
    header: usize,
}

const PLAIN: u8 = 0;
const REPEATED: u8 = 1;
const CODED: u8 = 2;

impl Header {
    fn read(block: &[u8]) -> Option<Header> {
        let first = *block.first()?;
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(block.iter().take(5)) {
            *to = *from;
        }
        let word = u64::from_le_bytes(word);
        let (kind, format) = (first & 3, first >> 2 & 3);
        let field = |at: u32, bits: u32| (word >> at) as usize & ((1 << bits) - 1);
        Some(if kind == PLAIN || kind == REPEATED {
            let (header, len) = match format {
                1 => (2, field(4, 12)),
                3 => (3, field(4, 20)),
                _ => (1, field(3, 5)),
            };
            Header {
                kind,
                streams: 0,
                len,
                packed: if kind == PLAIN { len } else { 1 },
                header,
            }
        } else {
            let (header, bits) = match format {
                0 | 1 => (3, 10),
                2 => (4, 14),
                _ => (5, 18),
            };
            Header {
                kind,
                streams: if format == 0 { 1 } else { 4 },
                len: field(4, bits),
                packed: field(4 + bits, bits),
                header,
            }
        })
    }
}

/// Decodes a block's literals into the window's reserve. Returns the bytes read.
pub(super) fn decode(
    block: &[u8],
    window: &mut Window<'_>,
    huffman: &mut Huffman,
) -> Result<usize, ImageError> {
    let header = Header::read(block).ok_or(EARLY)?;
    if header.len > MAX_BLOCK {
        return Err(DAMAGED);
    }
    let body = slice(block, header.header as u64, header.packed as u64).ok_or(EARLY)?;
    let out = window.reserve(header.len)?;
    match header.kind {
        PLAIN => out.copy_from_slice(body),
        REPEATED => out.fill(*body.first().ok_or(EARLY)?),
        kind => {
            let code_len = if kind == CODED {
                huffman.read(body).ok_or(DAMAGED)?
            } else {
                0
            };
            if !huffman.is_known() {
                return Err(DAMAGED);
            }
            let streams = body.get(code_len..).ok_or(DAMAGED)?;
            if header.streams == 1 {
                huffman.decode(streams, out).ok_or(DAMAGED)?;
            } else {
                four_streams(streams, out, huffman).ok_or(DAMAGED)?;
            }
        }
    }
    Ok(header.header + header.packed)
}

/// Four streams behind a table of the first three's lengths, each a quarter of the output, rounded up.
fn four_streams(data: &[u8], out: &mut [u8], huffman: &Huffman) -> Option<()> {
    const TABLE: usize = 6;
    let mut rest = data.get(TABLE..)?;
    let quarter = out.len().div_ceil(4);
    let mut out = out;
    for index in 0..3 {
        let len = usize::from(u16_at(data, index * 2)?);
        let (stream, behind) = rest.split_at_checked(len)?;
        let (part, more) = out.split_at_mut_checked(quarter)?;
        huffman.decode(stream, part)?;
        (rest, out) = (behind, more);
    }
    huffman.decode(rest, out)
}
