//! The device's calls, and the system calls that are needed beside them.

use core::fmt;
use guest_abi::Hypercall;
use guest_abi::domid::DOMID_SELF;
use guest_abi::reserve::{SchedGet, SchedRules, SchedSet};
use guest_abi::usage::Usage;
use guest_abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use programs::privcmd::Privcmd;
use programs::sys::{self, Errno};

/// Why a verb ends.
pub enum Failure {
    /// A call that should succeed did not.
    Call(&'static str, Errno),
    /// Something is not as it should be.
    Not(&'static str),
    /// A call should have had another error; with what it had, 0 for success.
    Answer(&'static str, i32, i32),
    /// A number is not between two others.
    Number(&'static str, u128, [u128; 2]),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(what, error) => write!(f, "{what}: {error:?}"),
            Self::Not(what) => f.write_str(what),
            Self::Answer(what, error, wanted) => {
                write!(f, "{what}: error {error} where {wanted} should be")
            }
            Self::Number(name, value, [from, to]) => {
                write!(f, "{name} is {value}, not between {from} and {to}")
            }
        }
    }
}

/// `_IOWR('x', number, size)`.
pub const fn request(number: usize, size: usize) -> usize {
    3 << 30 | size << 16 | (b'x' as usize) << 8 | number
}

/// What a domain or a vCPU used.
pub const USAGE: usize = request(0x60, size_of::<Usage>());
/// What holds for reservations.
pub const SCHED_RULES: usize = request(0x61, size_of::<SchedRules>());
/// What is reserved.
pub const SCHED_GET: usize = request(0x62, size_of::<SchedGet>());
/// Reserves.
pub const SCHED_SET: usize = request(0x63, size_of::<SchedSet>());

/// The open device.
pub struct Device(i32);

impl Device {
    /// Opens it to read.
    pub fn open() -> Result<Self, Failure> {
        Self::try_open(0).map_err(|error| Failure::Call("open /dev/xeno", error))
    }

    /// Opens it in a mode: 0 to read, 2 to write too.
    pub fn try_open(mode: usize) -> Result<Self, Errno> {
        const OPEN: usize = 2;
        let name = c"/dev/xeno".as_ptr() as usize;
        // SAFETY: the kernel reads the name.
        let file = unsafe { sys::call(OPEN, [name, mode, 0, 0, 0, 0]) }?;
        Ok(Self(file as i32))
    }

    /// Its number as a file.
    pub fn file(&self) -> i32 {
        self.0
    }

    /// A call with a structure of ours.
    pub fn ask<T>(&self, request: usize, about: &mut T) -> Result<(), Errno> {
        // SAFETY: the requests above carry their structure's size, and it is ours.
        unsafe { sys::ioctl(self.0, request, &raw mut *about as usize) }.map(|_| ())
    }

    /// What a vCPU of this domain used, or all of it.
    pub fn usage(&self, vcpu: u32) -> Result<Usage, Errno> {
        let mut usage = usage_of(DOMID_SELF, vcpu);
        self.ask(USAGE, &mut usage)?;
        Ok(usage)
    }

    /// Reads what there is; how many bytes that was.
    pub fn read(&self, bytes: &mut [u8]) -> Result<usize, Errno> {
        const READ: usize = 0;
        let [to, len] = [bytes.as_mut_ptr() as usize, bytes.len()];
        // SAFETY: the kernel writes into the slice.
        unsafe { sys::call(READ, [self.0 as usize, to, len, 0, 0, 0]) }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        const CLOSE: usize = 3;
        // SAFETY: it touches no memory.
        unsafe { sys::raw(CLOSE, [self.0 as usize, 0, 0, 0, 0, 0]) };
    }
}

/// The question what a vCPU or a domain used.
pub fn usage_of(domid: u16, vcpu: u32) -> Usage {
    Usage {
        version: XENO_INTERFACE_VERSION,
        domid,
        vcpu,
        ..Usage::ZERO
    }
}

/// The hypervisor's own answer to it.
pub fn usage_by_hypercall(privcmd: &Privcmd, domid: u16, vcpu: u32) -> Result<Usage, Failure> {
    let mut usage = usage_of(domid, vcpu);
    let command = u64::from(XenoCommand::Usage.number());
    let arguments = [command, &raw mut usage as u64, 0, 0, 0];
    // SAFETY: the call reads and writes a `Usage`, which is ours.
    unsafe { privcmd.call(Hypercall::XenoOp.number(), arguments) }
        .map_err(|error| Failure::Call("usage", error))?;
    Ok(usage)
}

/// Fresh pages.
pub fn pages(count: usize) -> Result<usize, Failure> {
    const MMAP: usize = 9;
    const READ_WRITE: usize = 3;
    const PRIVATE_ANONYMOUS: usize = 0x22;
    let arguments = [
        0,
        count * PAGE,
        READ_WRITE,
        PRIVATE_ANONYMOUS,
        usize::MAX,
        0,
    ];
    // SAFETY: the kernel chooses a free place.
    unsafe { sys::call(MMAP, arguments) }.map_err(|error| Failure::Call("mmap", error))
}

/// A page.
pub const PAGE: usize = 4096;

/// Ends the mapping of a page, or makes it read-only.
pub fn change_page(page: usize, goes: bool) -> Result<(), Failure> {
    const MPROTECT: usize = 10;
    const MUNMAP: usize = 11;
    const READ: usize = 1;
    let number = if goes { MUNMAP } else { MPROTECT };
    // SAFETY: callers name pages of `pages` that no reference leads to.
    unsafe { sys::call(number, [page, PAGE, READ, 0, 0, 0]) }
        .map(|_| ())
        .map_err(|error| Failure::Call("munmap or mprotect", error))
}

/// Another process from here on: 0 in it, its number here.
pub fn fork() -> Result<usize, Failure> {
    const FORK: usize = 57;
    // SAFETY: the child goes on with a copy of this memory.
    unsafe { sys::call(FORK, [0; 6]) }.map_err(|error| Failure::Call("fork", error))
}

/// Waits for a child's end: its exit status, 255 if something killed it.
pub fn wait(child: usize) -> Result<i32, Failure> {
    const WAIT4: usize = 61;
    let mut status = 0_i32;
    let place = &raw mut status;
    // SAFETY: the kernel writes the status.
    unsafe { sys::call(WAIT4, [child, place as usize, 0, 0, 0, 0]) }
        .map_err(|error| Failure::Call("wait4", error))?;
    // SAFETY: it is ours; the kernel wrote it.
    let status = unsafe { place.read_volatile() };
    Ok(if status & 0x7f == 0 {
        status >> 8 & 0xff
    } else {
        255
    })
}

/// From here on this process is nobody in particular.
pub fn be_nobody() -> Result<(), Failure> {
    const SETUID: usize = 105;
    const NOBODY: usize = 65534;
    // SAFETY: it touches no memory.
    unsafe { sys::call(SETUID, [NOBODY, 0, 0, 0, 0, 0]) }
        .map(|_| ())
        .map_err(|error| Failure::Call("setuid", error))
}

/// Seconds since the machine started.
pub fn seconds() -> u64 {
    const CLOCK_GETTIME: usize = 228;
    const MONOTONIC: usize = 1;
    let mut time = [0_u64; 2];
    let place = &raw mut time;
    // SAFETY: the kernel writes two words.
    unsafe { sys::raw(CLOCK_GETTIME, [MONOTONIC, place as usize, 0, 0, 0, 0]) };
    // SAFETY: they are ours.
    let time = unsafe { place.read_volatile() };
    time[0]
}

/// Sleeps.
pub fn nap(milliseconds: u64) {
    const NANOSLEEP: usize = 35;
    let time = [0, milliseconds * 1_000_000];
    // SAFETY: the kernel reads two words.
    unsafe { sys::raw(NANOSLEEP, [&raw const time as usize, 0, 0, 0, 0, 0]) };
}
