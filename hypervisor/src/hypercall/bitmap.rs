//! Sets of CPUs and of memory nodes in a caller's memory: a bit for each, in bytes.

use crate::domain::Guest;
use ::cpus::MAX_CPUS;
use ::cpus::set::CpuSet;
use guest_abi::Errno;
use guest_abi::domctl::Bitmap;

/// Bytes that a set of CPUs has at most.
const BYTES: usize = MAX_CPUS / 8;

/// Says whether a set could be written now, touching nothing.
pub fn check_writable(g: &Guest<'_>, to: &Bitmap) -> Result<(), Errno> {
    g.memory().check_writable(to.bitmap, room(to))?;
    Ok(())
}

/// Bytes of a caller's memory that a set is written to.
fn room(to: &Bitmap) -> usize {
    (to.nr_bits as usize).div_ceil(8).min(BYTES * 16)
}

/// Writes a set, as far as there is room; bits of no CPU are zero.
pub fn write(g: &Guest<'_>, to: &Bitmap, set: CpuSet) -> Result<(), Errno> {
    let mut bytes = [0u8; BYTES];
    for cpu in set.iter().filter(|cpu| *cpu < to.nr_bits) {
        bytes[cpu as usize / 8] |= 1 << (cpu % 8);
    }
    let room = room(to);
    let len = room.min(BYTES);
    g.memory().write(to.bitmap, &bytes[..len])?;
    // What lies beyond any CPU of ours is cleared, within reason.
    let rest = room - len;
    for chunk in 0..rest.div_ceil(BYTES) {
        let at = to.bitmap.wrapping_add((len + chunk * BYTES) as u64);
        let part = (rest - chunk * BYTES).min(BYTES);
        g.memory().write(at, &[0; BYTES][..part])?;
    }
    Ok(())
}

/// Reads a set; bits of CPUs that there cannot be are dropped.
pub fn read(g: &Guest<'_>, from: &Bitmap) -> Result<CpuSet, Errno> {
    let mut bytes = [0u8; BYTES];
    let len = (from.nr_bits as usize).div_ceil(8).min(BYTES);
    g.memory().read(from.bitmap, &mut bytes[..len])?;
    let bits = (from.nr_bits as usize).min(MAX_CPUS) as u32;
    let is_set = |cpu: &u32| bytes[*cpu as usize / 8] >> (cpu % 8) & 1 == 1;
    Ok((0..bits).filter(is_set).fold(CpuSet::EMPTY, CpuSet::with))
}
