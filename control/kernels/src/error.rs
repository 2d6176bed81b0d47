//! Why a file cannot be a guest's kernel.

use image::ImageError;
use std::io;
use std::path::PathBuf;

/// Why a file cannot be a guest's kernel: names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// It cannot be read.
    #[error("the kernel {} cannot be read: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, a device, or something else that is no file.
    #[error("the kernel {} is not a regular file: name a vmlinuz", .path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// It is larger than any kernel.
    #[error("the kernel {} has {len} bytes, more than any kernel: name a vmlinuz", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        len: u64,
    },
    /// It is no kernel, or none for us.
    #[error("the kernel {} {source}", .path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ImageError,
    },
}
