//! Linux's x86 boot image: a setup header that tells where in the file the compressed kernel lies.

use crate::ImageError;
use crate::bytes::{slice, u16_at, u32_at};
use crate::payload::Payload;

/// Where the header's fields lie in the file.
mod field {
    pub const SETUP_SECTS: usize = 0x1f1;
    pub const BOOT_FLAG: usize = 0x1fe;
    pub const MAGIC: usize = 0x202;
    pub const VERSION: usize = 0x206;
    pub const KERNEL_VERSION: usize = 0x20e;
    pub const XLOADFLAGS: usize = 0x236;
    pub const PAYLOAD_OFFSET: usize = 0x248;
    pub const PAYLOAD_LENGTH: usize = 0x24c;
}

const SECTOR: u64 = 512;
/// The first protocol version with the payload's place in it.
const FIRST_WITH_PAYLOAD: u16 = 0x0208;
/// The first protocol version that says whether the kernel is a 64-bit one.
const FIRST_WITH_XLOADFLAGS: u16 = 0x020c;
/// `xloadflags`: there is a 64-bit entry point.
const XLF_KERNEL_64: u16 = 1;

/// A boot image whose payload is known to lie inside it.
#[derive(Clone, Copy, Debug)]
pub struct BzImage<'a> {
    file: &'a [u8],
    version: u16,
    payload: &'a [u8],
}

impl<'a> BzImage<'a> {
    /// Reads the setup header.
    ///
    /// # Errors
    /// [`ImageError`] if the file is no bzImage, one for other processors, too old, or cut short.
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        let is_boot_image = file
            .get(field::MAGIC..)
            .is_some_and(|rest| rest.starts_with(b"HdrS"))
            && u16_at(file, field::BOOT_FLAG) == Some(0xaa55);
        if !is_boot_image {
            return Err(match other_architecture(file) {
                Some(architecture) => ImageError::OtherArchitecture { architecture },
                None => ImageError::NotAKernel,
            });
        }
        let header = ImageError::Truncated {
            what: "the setup header",
        };
        let version = u16_at(file, field::VERSION).ok_or(header)?;
        if version < FIRST_WITH_PAYLOAD {
            return Err(ImageError::OldProtocol { version });
        }
        let xloadflags = u16_at(file, field::XLOADFLAGS).ok_or(header)?;
        if version >= FIRST_WITH_XLOADFLAGS && xloadflags & XLF_KERNEL_64 == 0 {
            return Err(ImageError::OtherArchitecture {
                architecture: "32-bit x86",
            });
        }
        // Zero means four, for the sake of kernels older than this field.
        let sectors = match file.get(field::SETUP_SECTS).copied().ok_or(header)? {
            0 => 4,
            sectors => u64::from(sectors),
        };
        let offset = u64::from(u32_at(file, field::PAYLOAD_OFFSET).ok_or(header)?);
        let length = u64::from(u32_at(file, field::PAYLOAD_LENGTH).ok_or(header)?);
        if length == 0 {
            return Err(ImageError::CorruptPayload {
                what: "it is empty",
            });
        }
        let payload =
            slice(file, (sectors + 1) * SECTOR + offset, length).ok_or(ImageError::Truncated {
                what: "the payload",
            })?;
        Ok(BzImage {
            file,
            version,
            payload,
        })
    }

    /// The boot protocol's version, as `0x020f` for 2.15.
    pub fn protocol_version(&self) -> u16 {
        self.version
    }

    /// The kernel's own version, as in `uname -r` and what follows; empty if the image does not say.
    pub fn kernel_version(&self) -> &'a str {
        const LONGEST: usize = 128;
        let text = u16_at(self.file, field::KERNEL_VERSION)
            .filter(|offset| *offset != 0)
            .and_then(|offset| self.file.get(usize::from(offset) + 0x200..))
            .unwrap_or_default();
        let end = text
            .iter()
            .take(LONGEST)
            .position(|byte| *byte == 0)
            .unwrap_or(0);
        text.get(..end)
            .filter(|text| text.iter().all(|byte| matches!(byte, b' '..=b'~')))
            .and_then(|text| core::str::from_utf8(text).ok())
            .unwrap_or("")
    }

    /// The compressed kernel.
    pub fn payload(&self) -> Payload<'a> {
        Payload::new(self.payload)
    }
}

/// Names the processors of a boot image that is not x86's.
fn other_architecture(file: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, magic: &[u8]| {
        file.get(offset..)
            .is_some_and(|rest| rest.starts_with(magic))
    };
    if at(0x38, b"ARM\x64") {
        Some("64-bit Arm")
    } else if at(0x38, b"RSC\x05") || at(0x30, b"RISCV") {
        Some("RISC-V")
    } else if at(0x24, &[0x18, 0x28, 0x6f, 0x01]) {
        Some("32-bit Arm")
    } else {
        None
    }
}
