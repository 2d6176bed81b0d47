//! LZMA2: a stream of chunks, plain or packed, each of which says what it starts anew: the dictionary, the
//! probabilities, the properties.

use super::corrupt;
use super::lzma::{DAMAGED, Tables, Window};
use crate::ImageError;

const EARLY: ImageError = ImageError::CorruptPayload {
    what: "its xz stream ends early",
};

/// Decodes chunks up to the end mark. Returns the bytes read and the bytes written.
pub(super) fn decode(
    input: &[u8],
    out: &mut [u8],
    tables: &mut Tables,
) -> Result<(usize, usize), ImageError> {
    let mut read = 0;
    let mut written = 0;
    let mut dictionary_start = None;
    let mut have_properties = false;
    loop {
        let chunk = input.get(read..).unwrap_or_default();
        let control = *chunk.first().ok_or(EARLY)?;
        if control == 0 {
            return Ok((read + 1, written));
        }
        let header = Chunk::read(chunk, control)?;
        if header.resets_dictionary {
            dictionary_start = Some(written);
            have_properties = false;
        }
        let dictionary_start = dictionary_start.ok_or(DAMAGED)?;
        let end = written + header.unpacked;
        let out = out
            .get_mut(..end)
            .ok_or(corrupt("it is longer than it announces"))?;
        let body = chunk
            .get(header.len..)
            .and_then(|body| body.get(..header.packed))
            .ok_or(EARLY)?;
        if header.is_plain {
            out.get_mut(written..).ok_or(DAMAGED)?.copy_from_slice(body);
        } else {
            if let Some(properties) = header.properties {
                tables.set_properties(properties).ok_or(DAMAGED)?;
                have_properties = true;
            }
            if !have_properties {
                return Err(DAMAGED);
            }
            if header.resets_state {
                tables.reset();
            }
            let window = Window {
                out,
                at: written,
                dictionary_start,
            };
            tables.chunk(body, window)?;
        }
        read += header.len + header.packed;
        written = end;
    }
}

/// A chunk's header.
struct Chunk {
    len: usize,
    packed: usize,
    unpacked: usize,
    is_plain: bool,
    resets_dictionary: bool,
    resets_state: bool,
    properties: Option<u8>,
}

impl Chunk {
    fn read(bytes: &[u8], control: u8) -> Result<Self, ImageError> {
        let size = |at: usize| -> Result<usize, ImageError> {
            let pair = bytes
                .get(at..)
                .and_then(|rest| rest.first_chunk::<2>())
                .ok_or(EARLY)?;
            Ok(usize::from(u16::from_be_bytes(*pair)))
        };
        if control < 0x80 {
            // 1 is plain bytes with a new dictionary, 2 without; there are no others.
            if control > 2 {
                return Err(DAMAGED);
            }
            let len = size(1)? + 1;
            return Ok(Chunk {
                len: 3,
                packed: len,
                unpacked: len,
                is_plain: true,
                resets_dictionary: control == 1,
                resets_state: false,
                properties: None,
            });
        }
        let has_properties = control >= 0xc0;
        let properties = if has_properties {
            Some(*bytes.get(5).ok_or(EARLY)?)
        } else {
            None
        };
        Ok(Chunk {
            len: if has_properties { 6 } else { 5 },
            packed: size(3)? + 1,
            unpacked: (usize::from(control & 0x1f) << 16) + size(1)? + 1,
            is_plain: false,
            resets_dictionary: control >= 0xe0,
            resets_state: control >= 0xa0,
            properties,
        })
    }
}
