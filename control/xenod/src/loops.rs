//! Loop devices: files as block devices, as the stock back end wants them.
//!
//! # Invariants
//! - L1: each loop device of ours carries a mark that says which disk of which guest it is, so that one that a killed
//!   daemon left behind is found and let go.
//! - L2: the kernel's calls for loop devices, which have structures of their own, are in this module only.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::ioctl::{self, NoArg, Opcode, Updater};
use xeno_api::Access;

use crate::disk::Identity;

const LOOP_CLR_FD: Opcode = 0x4c01;
const LOOP_GET_STATUS64: Opcode = 0x4c05;
const LOOP_CONFIGURE: Opcode = 0x4c0a;
const LOOP_CTL_GET_FREE: Opcode = 0x4c82;

const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// Bytes of a mark, with its terminating NUL.
const MARK_BYTES: usize = 64;
/// How often somebody else may be faster in taking the free device.
const TRIES: usize = 16;

/// `struct loop_info64` of the kernel.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; MARK_BYTES],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of the kernel.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const _: () = {
    assert!(size_of::<Info>() == 232);
    assert!(size_of::<Config>() == 304);
};

/// What is behind a loop device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its file or block device.
    pub behind: Identity,
    /// Its mark.
    pub mark: String,
    /// It can only be read.
    pub read_only: bool,
}

/// A loop device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// Its path in `/dev`.
    pub path: PathBuf,
    /// Its number as a block device.
    pub number: u64,
}

const EMPTY: Info = Info {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; MARK_BYTES],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// Asks what is behind the loop device that is open here.
///
/// # Errors
/// When it is not a loop device, or nothing is behind it.
pub fn status(device: &File) -> io::Result<Status> {
    let mut info = EMPTY;
    // SAFETY: LOOP_GET_STATUS64 writes one `struct loop_info64`, whose layout `Info` has (its size is asserted).
    unsafe {
        ioctl::ioctl(device, Updater::<LOOP_GET_STATUS64, Info>::new(&mut info))?;
    }
    let length = info
        .file_name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(MARK_BYTES);
    let mark = info.file_name.get(..length).unwrap_or_default();
    Ok(Status {
        // The kernel says the number of the block device behind it, or 0.
        behind: match info.rdevice {
            0 => Identity::File {
                device: info.device,
                inode: info.inode,
            },
            number => Identity::of_block(number),
        },
        mark: String::from_utf8_lossy(mark).into_owned(),
        read_only: info.flags & LO_FLAGS_READ_ONLY != 0,
    })
}

/// Makes a block device of a file. `mark` is how it is found again, at most 63 bytes.
///
/// # Errors
/// When the kernel has no loop devices, or refuses.
pub fn attach(file: &File, mode: Access, mark: &str) -> io::Result<Loop> {
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    let mut last = io::Error::other("somebody else takes every free loop device");
    for _ in 0..TRIES {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument and answers a number.
        let number = unsafe { ioctl::ioctl(&control, FreeNumber)? };
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = open_soon(&path, mode)?;
        match configure(&device, file.as_raw_fd(), mode, mark) {
            Ok(()) => {
                let number = rustix::fs::fstat(&device)?.st_rdev;
                return Ok(Loop { path, number });
            }
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// The device's node appears a moment after the device.
fn open_soon(path: &Path, mode: Access) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(mode == Access::ReadWrite);
    for _ in 0..100 {
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            outcome => return outcome,
        }
    }
    options.open(path)
}

fn configure(device: &File, file: RawFd, mode: Access, mark: &str) -> io::Result<()> {
    let mut info = EMPTY;
    // The page cache of the control domain would hold everything twice; where the file system cannot do without, the
    // kernel goes through it all the same.
    info.flags = LO_FLAGS_DIRECT_IO;
    if mode == Access::ReadOnly {
        info.flags |= LO_FLAGS_READ_ONLY;
    }
    for (to, from) in info
        .file_name
        .iter_mut()
        .take(MARK_BYTES - 1)
        .zip(mark.bytes())
    {
        *to = from;
    }
    let mut config = Config {
        fd: u32::try_from(file).map_err(io::Error::other)?,
        block_size: 0,
        info,
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, whose layout `Config` has (its size is asserted); the
    // descriptor in it is open for the length of the call.
    unsafe {
        ioctl::ioctl(device, Updater::<LOOP_CONFIGURE, Config>::new(&mut config))?;
    }
    Ok(())
}

/// All loop devices with a file behind them whose mark begins with `prefix`.
///
/// # Errors
/// When they cannot be listed.
pub fn marked(prefix: &str) -> io::Result<Vec<(Loop, Status)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/sys/block")? {
        let name = entry?.file_name();
        let path = Path::new("/dev").join(&name);
        if !name.to_string_lossy().starts_with("loop") {
            continue;
        }
        let Ok(device) = File::open(&path) else {
            continue;
        };
        if let Ok(status) = status(&device)
            && status.mark.starts_with(prefix)
        {
            let number = rustix::fs::fstat(&device)?.st_rdev;
            found.push((Loop { path, number }, status));
        }
    }
    Ok(found)
}

/// Lets go of the file behind a loop device: at once, or when the last who has the device open closes it.
///
/// # Errors
/// When the kernel refuses.
pub fn detach(path: &Path) -> io::Result<()> {
    let device = File::open(path)?;
    // SAFETY: LOOP_CLR_FD takes no argument.
    match unsafe { ioctl::ioctl(&device, NoArg::<LOOP_CLR_FD>::new()) } {
        Ok(()) | Err(rustix::io::Errno::NXIO) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// `LOOP_CTL_GET_FREE`, whose answer is what the call returns.
struct FreeNumber;

// SAFETY: the call takes no argument, and its result is a plain number.
unsafe impl ioctl::Ioctl for FreeNumber {
    type Output = i32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        out: ioctl::IoctlOutput,
        _: *mut std::ffi::c_void,
    ) -> rustix::io::Result<i32> {
        Ok(out)
    }
}
