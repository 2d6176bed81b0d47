//! Opening the kernel's devices, and what to do where one is missing.

use crate::{Cause, Error, Result};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

/// Opens a device to read and write.
pub(crate) fn device(path: &'static str) -> Result<File> {
    open_with(path, 0)
}

/// Opens a device whose reads do not wait.
pub(crate) fn nonblocking_device(path: &'static str) -> Result<File> {
    open_with(path, libc::O_NONBLOCK)
}

fn open_with(path: &'static str, flags: i32) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|source| missing(path, source))
}

/// The remedy where a device is missing.
fn missing(path: &'static str, source: io::Error) -> Error {
    let remedy = match path {
        "/dev/xen/privcmd" | "/dev/xen/hypercall" => {
            "this needs the control domain of a running hypervisor, and its kernel's module xen-privcmd"
        }
        "/dev/xen/evtchn" => "load the kernel's module xen-evtchn",
        "/dev/xen/gntdev" => "load the kernel's module xen-gntdev",
        _ => "this needs the control domain of a running hypervisor",
    };
    Error::new(
        "reach the hypervisor",
        None,
        Cause::Device {
            path,
            source,
            remedy,
        },
    )
}
