//! The compressed kernel inside a boot image, and unpacking it in place.
//!
//! The output is the whole kernel in one slice, so every byte a decoder may look back at is already there: no window
//! is allocated or copied, which is what makes a 32 MiB dictionary free.

use crate::bytes::u32_at;
use crate::{ImageError, gzip, lz4, xz, zstd};
use miniz_oxide::inflate::core::DecompressorOxide;

/// The most an unpacked kernel may have, as a file and in memory. Linux needs all of it below one page of level-2
/// entries, which maps as much.
pub const MAX_KERNEL_LEN: u64 = 1 << 30;

/// How a payload is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Debian's choice, with a filter for x86 code.
    Xz,
    /// The kernel's default.
    Gzip,
    /// What newer distributions choose, Debian's 6.12 among them.
    Zstd,
    /// In the legacy frame, the one kernels use.
    Lz4,
    /// Something we name but do not unpack.
    Unsupported(&'static str),
}

impl Compression {
    /// Tells the format by its first bytes.
    fn detect(payload: &[u8]) -> Self {
        const FORMATS: [(&[u8], Compression); 8] = [
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
            (&[0x1f, 0x8b], Compression::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
            (&[0x02, 0x21, 0x4c, 0x18], Compression::Lz4),
            (
                &[0x04, 0x22, 0x4d, 0x18],
                Compression::Unsupported("lz4 in its newer frame"),
            ),
            (b"BZh", Compression::Unsupported("bzip2")),
            (&[0x5d, 0, 0], Compression::Unsupported("lzma")),
            (&[0x89, b'L', b'Z', b'O'], Compression::Unsupported("lzo")),
        ];
        FORMATS
            .iter()
            .find(|(magic, _)| payload.starts_with(magic))
            .map_or(
                Compression::Unsupported("an unknown format"),
                |(_, format)| *format,
            )
    }
}

/// The decoders' tables, about 70 KiB: for a static or a heap, not for a small stack. All zero when new, so a static
/// takes no room in the hypervisor's file.
pub struct Scratch {
    lzma: xz::Tables,
    zstd: zstd::Tables,
    inflate: Option<DecompressorOxide>,
}

impl Scratch {
    /// Fresh tables. They may be used for any number of payloads.
    pub const fn new() -> Self {
        Scratch {
            lzma: xz::Tables::new(),
            zstd: zstd::Tables::new(),
            inflate: None,
        }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// A compressed kernel.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    bytes: &'a [u8],
    compression: Compression,
}

impl<'a> Payload<'a> {
    /// Takes a payload as it stands in a boot image: with its uncompressed length in its last four bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Payload {
            bytes,
            compression: Compression::detect(bytes),
        }
    }

    /// How it is packed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Its length as it stands, in bytes.
    pub fn compressed_len(&self) -> usize {
        self.bytes.len()
    }

    /// The room it needs unpacked, in bytes: what it announces, which unpacking will hold it to.
    ///
    /// # Errors
    /// [`ImageError::TooLarge`] if it announces more than any kernel can have, [`ImageError::CorruptPayload`] if it
    /// announces nothing.
    pub fn uncompressed_len(&self) -> Result<usize, ImageError> {
        let announced = self
            .bytes
            .len()
            .checked_sub(4)
            .and_then(|at| u32_at(self.bytes, at));
        match announced.map(u64::from) {
            None | Some(0) => Err(ImageError::CorruptPayload {
                what: "it announces no length",
            }),
            Some(len) if len > MAX_KERNEL_LEN => Err(ImageError::TooLarge { len }),
            Some(len) => usize::try_from(len).map_err(|_| ImageError::TooLarge { len }),
        }
    }

    /// Unpacks into the beginning of `out`, which must have room for [`Payload::uncompressed_len`] bytes, and returns
    /// that length. On an error `out` holds nothing of use.
    ///
    /// # Errors
    /// [`ImageError::UnsupportedCompression`], [`ImageError::TooLarge`] if `out` is too small, and
    /// [`ImageError::CorruptPayload`] for anything the format's own checks find (I2).
    pub fn decompress(&self, out: &mut [u8], scratch: &mut Scratch) -> Result<usize, ImageError> {
        if let Compression::Unsupported(name) = self.compression {
            return Err(ImageError::UnsupportedCompression(name));
        }
        let len = self.uncompressed_len()?;
        let out = out
            .get_mut(..len)
            .ok_or(ImageError::TooLarge { len: len as u64 })?;
        // Except in gzip, the length stands behind the stream and is no part of it.
        let stream = self.bytes.get(..self.bytes.len().saturating_sub(4));
        let stream = stream.unwrap_or_default();
        let written = match self.compression {
            Compression::Gzip => {
                let state = scratch.inflate.get_or_insert_with(DecompressorOxide::new);
                gzip::decompress(self.bytes, out, state)?
            }
            Compression::Zstd => zstd::decompress(stream, out, &mut scratch.zstd)?,
            Compression::Lz4 => lz4::decompress(stream, out)?,
            _ => xz::decompress(stream, out, &mut scratch.lzma)?,
        };
        if written != len {
            return Err(ImageError::CorruptPayload {
                what: "it is shorter than it announces",
            });
        }
        Ok(len)
    }
}
