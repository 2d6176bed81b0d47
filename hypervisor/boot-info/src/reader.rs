//! Reading physical memory by value. The parsers never hold a slice of the loader's memory: they ask for bytes at an
//! address and get a copy or a refusal.

use crate::BootError;
use arrayvec::ArrayVec;

/// Access to physical memory at boot.
pub trait PhysReader {
    /// Copies `buf.len()` bytes from physical address `phys`. Returns `false`, and may leave anything in `buf`, if any
    /// of them is out of reach.
    fn read(&self, phys: u64, buf: &mut [u8]) -> bool;
}

impl<F: Fn(u64, &mut [u8]) -> bool> PhysReader for F {
    fn read(&self, phys: u64, buf: &mut [u8]) -> bool {
        self(phys, buf)
    }
}

/// Typed little-endian reads over a [`PhysReader`], which name what was being read when they fail.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    reader: &'a dyn PhysReader,
    what: &'static str,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(reader: &'a dyn PhysReader, what: &'static str) -> Self {
        Cursor { reader, what }
    }

    pub(crate) fn bytes<const N: usize>(&self, phys: u64) -> Result<[u8; N], BootError> {
        let mut buf = [0; N];
        let in_range = phys.checked_add(N as u64).is_some();
        if in_range && self.reader.read(phys, &mut buf) {
            Ok(buf)
        } else {
            Err(BootError::Unreadable {
                what: self.what,
                phys,
            })
        }
    }

    pub(crate) fn u8(&self, phys: u64) -> Result<u8, BootError> {
        self.bytes::<1>(phys).map(|[byte]| byte)
    }

    pub(crate) fn u32(&self, phys: u64) -> Result<u32, BootError> {
        self.bytes(phys).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&self, phys: u64) -> Result<u64, BootError> {
        self.bytes(phys).map(u64::from_le_bytes)
    }

    /// Copies a string that ends at a NUL or, at the latest, after `limit` bytes. The flag says whether it was cut
    /// because `out` was full.
    pub(crate) fn string<const N: usize>(
        &self,
        phys: u64,
        limit: u64,
    ) -> Result<(ArrayVec<u8, N>, bool), BootError> {
        let mut out = ArrayVec::new();
        for offset in 0..limit {
            let byte = self.u8(phys.saturating_add(offset))?;
            if byte == 0 {
                break;
            }
            if out.try_push(byte).is_err() {
                return Ok((out, true));
            }
        }
        Ok((out, false))
    }
}
