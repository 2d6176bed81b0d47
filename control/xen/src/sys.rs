//! The system calls, and all there is of raw memory beside [`crate::Mapping`].
//!
//! Nothing here knows what a call means; each function keeps one promise about memory, which its callers rely on.

use std::ffi::c_ulong;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// Maps `len` bytes of a device from `offset`.
///
/// # Errors
/// The kernel's.
pub(crate) fn map(
    device: BorrowedFd<'_>,
    len: usize,
    offset: u64,
    writable: bool,
) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
    let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: a new mapping at a place of the kernel's choice touches nothing that is there.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            protection,
            libc::MAP_SHARED,
            device.as_raw_fd(),
            offset,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Unmaps what [`map`] mapped.
///
/// # Safety
/// It is one whole mapping of the caller's own, and nothing refers to it any more.
pub(crate) unsafe fn unmap(base: NonNull<u8>, len: usize) {
    // SAFETY: the caller's promise. It can fail only for arguments that were never mapped.
    unsafe { libc::munmap(base.as_ptr().cast(), len) };
}

/// Makes a control call of a device.
///
/// # Errors
/// The kernel's, or the hypervisor's through it.
///
/// # Safety
/// `argument` is what `request` of this device takes, and what the call writes through it keeps Rust's rules.
pub(crate) unsafe fn ioctl(
    device: BorrowedFd<'_>,
    request: c_ulong,
    argument: *mut libc::c_void,
) -> io::Result<i64> {
    // By its number rather than the C library's function, which returns an int: a hypercall's result may be longer.
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_ioctl, device.as_raw_fd(), request, argument) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Reads from a file at an offset into raw memory; returns how many bytes.
///
/// # Errors
/// The kernel's.
///
/// # Safety
/// `len` bytes at `to` may be written, and nothing but the kernel and atomics touch them.
pub(crate) unsafe fn read_at(
    file: &File,
    to: NonNull<u8>,
    len: usize,
    offset: u64,
) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the caller's promise.
    let got = unsafe { libc::pread(file.as_raw_fd(), to.as_ptr().cast(), len, offset) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// An empty file in memory of `len` bytes, for the fake hypervisor's frames.
#[cfg(feature = "fake")]
pub(crate) fn memory_file(len: u64) -> io::Result<File> {
    use std::os::fd::FromRawFd;
    // SAFETY: the name is a C string; the call touches no other memory.
    let fd = unsafe { libc::memfd_create(c"frames".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(len)?;
    Ok(file)
}

/// Maps pages of a file one after the other, in the order given. [`unmap`] unmaps them all.
#[cfg(feature = "fake")]
pub(crate) fn map_pages(file: &File, pages: &[u64], writable: bool) -> io::Result<NonNull<u8>> {
    use crate::PAGE;
    use std::os::fd::AsFd;
    let len = pages.len() * PAGE;
    let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
    // The whole range first, so that what goes over it belongs to one caller.
    let base = map(file.as_fd(), len, 0, writable)?;
    for (i, page) in pages.iter().enumerate() {
        // SAFETY: within the range that was just mapped, whose address nobody knows yet.
        let at = unsafe {
            libc::mmap(
                base.as_ptr().add(i * PAGE).cast(),
                PAGE,
                protection,
                libc::MAP_SHARED | libc::MAP_FIXED,
                file.as_raw_fd(),
                libc::off_t::try_from(page * PAGE as u64).unwrap_or(-1),
            )
        };
        if at == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            // SAFETY: all of it is ours, and nobody knows of it.
            unsafe { unmap(base, len) };
            return Err(error);
        }
    }
    Ok(base)
}
