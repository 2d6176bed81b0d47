//! The kernel as a file: the boot module itself, or what it unpacks to.

use super::error::BuildError;
use crate::info;
use crate::layout::{DIRECT_MAP, PAGE};
use crate::memory::{alloc as frame_alloc, phys};
use alloc::boxed::Box;
use boot_info::Module;
use frames::{DomId, Mfn};
use image::{Container, Scratch};

/// The kernel's ELF file: the module itself, or what it unpacks to.
pub(super) fn kernel_file(module: &'static [u8]) -> Result<&'static [u8], BuildError> {
    match Container::identify(module)? {
        Container::Elf(file) => Ok(file),
        Container::BzImage(image) => {
            let payload = image.payload();
            let len = payload.uncompressed_len()? as u64;
            let frames = len.div_ceil(PAGE);
            let order = frames.next_power_of_two().ilog2();
            let have = frame_alloc::free_frames();
            let room =
                frame_alloc::take_raw(DomId::RING0, order, 64).ok_or(BuildError::NoRoom {
                    what: "the unpacked kernel",
                    need: frames,
                    have,
                })?;
            info!(
                "unpacking the kernel: {:?}, {} KiB",
                payload.compression(),
                len >> 10
            );
            // SAFETY: frames of ring 0's own, in nobody else's hands; contiguous in the direct map.
            let out = unsafe { phys::boot_slice_mut(room.0 * PAGE, len) };
            let mut scratch = Box::new(Scratch::new());
            payload.decompress(out, &mut scratch)?;
            Ok(out)
        }
    }
}

/// Gives back what an unpacked kernel occupied.
pub(super) fn free_kernel_file(file: &'static [u8]) {
    let first = (file.as_ptr() as u64).wrapping_sub(DIRECT_MAP) / PAGE;
    let frames = (file.len() as u64).div_ceil(PAGE).next_power_of_two();
    for m in first..first + frames {
        frame_alloc::give_ring0(Mfn(m));
    }
}

/// A module's bytes.
pub(super) fn module_bytes(module: &Module) -> &'static [u8] {
    // SAFETY: module memory was taken out of the usable map and belongs to ring 0; nobody writes it.
    unsafe { phys::boot_slice(module.start, module.len) }
}

/// Frames an unpacked kernel occupies beside its module.
pub(super) fn file_frames(file: &[u8], module: &[u8]) -> u64 {
    if core::ptr::eq(file, module) {
        0
    } else {
        (file.len() as u64).div_ceil(PAGE).next_power_of_two()
    }
}
