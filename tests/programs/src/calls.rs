//! System calls that programs measure or need, each once.

use crate::sys::{self, Errno};
use core::ffi::CStr;

/// A page.
pub const PAGE: usize = 4096;

/// Numbers of system calls.
pub mod nr {
    #![allow(missing_docs)]
    pub const READ: usize = 0;
    pub const CLOSE: usize = 3;
    pub const MMAP: usize = 9;
    pub const MPROTECT: usize = 10;
    pub const MUNMAP: usize = 11;
    pub const RT_SIGACTION: usize = 13;
    pub const SCHED_YIELD: usize = 24;
    pub const PAUSE: usize = 34;
    pub const NANOSLEEP: usize = 35;
    pub const GETPID: usize = 39;
    pub const SOCKET: usize = 41;
    pub const CONNECT: usize = 42;
    pub const SOCKETPAIR: usize = 53;
    pub const FORK: usize = 57;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const GETPPID: usize = 110;
    pub const PRCTL: usize = 157;
    pub const ARCH_PRCTL: usize = 158;
    pub const MOUNT: usize = 165;
    pub const REBOOT: usize = 169;
    pub const FUTEX: usize = 202;
    pub const PIPE2: usize = 293;
}

/// A call whose arguments are plain numbers or memory that only the kernel and this program's volatile accesses touch.
fn call(number: usize, arguments: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the callers below pass numbers, pointers to constants, or pointers into buffers they own.
    unsafe { sys::call(number, arguments) }
}

/// A call that takes nothing and cannot be refused.
#[inline(always)]
pub fn plain(number: usize) {
    // SAFETY: it touches no memory.
    unsafe { sys::raw(number, [0; 6]) };
}

/// Waits for so many nanoseconds at least.
pub fn sleep(nanoseconds: u64) -> Result<(), Errno> {
    const SECOND: u64 = 1_000_000_000;
    let time = [nanoseconds / SECOND, nanoseconds % SECOND];
    call(nr::NANOSLEEP, [time.as_ptr() as usize, 0, 0, 0, 0, 0]).map(|_| ())
}

/// Waits until the machine ends.
pub fn wait_for_ever() -> ! {
    loop {
        plain(nr::PAUSE);
    }
}

/// Turns the machine off; comes back only where that is not ours to do.
pub fn power_off() {
    const MAGIC: [usize; 2] = [0xfee1_dead, 672_274_793];
    const POWER_OFF: usize = 0x4321_fedc;
    // Refused to anybody but the first program of a machine: then there is nothing to turn off.
    let _ = call(nr::REBOOT, [MAGIC[0], MAGIC[1], POWER_OFF, 0, 0, 0]);
}

/// Pages of 4 KiB only, as on every hypervisor of this kind: the bare machine's kernel would take large ones.
pub fn without_huge_pages() -> Result<(), Errno> {
    const SET_THP_DISABLE: usize = 41;
    call(nr::PRCTL, [SET_THP_DISABLE, 1, 0, 0, 0, 0]).map(|_| ())
}

/// Device files, of which an initial file system has only the console.
pub fn mount_devices() -> Result<(), Errno> {
    let kind = c"devtmpfs".as_ptr() as usize;
    let place = c"/dev".as_ptr() as usize;
    call(nr::MOUNT, [kind, place, kind, 0, 0, 0]).map(|_| ())
}

/// Closes a file.
#[inline(always)]
pub fn close(file: i32) -> Result<(), Errno> {
    call(nr::CLOSE, [file as usize, 0, 0, 0, 0, 0]).map(|_| ())
}

/// Reads some bytes; none is an error, because nobody here reads to an end.
#[inline(always)]
pub fn read(file: i32, bytes: &mut [u8]) -> Result<usize, Errno> {
    let to = bytes.as_mut_ptr() as usize;
    match call(nr::READ, [file as usize, to, bytes.len(), 0, 0, 0])? {
        0 => Err(Errno(0)),
        count => Ok(count),
    }
}

/// Opens a file for reading.
#[inline(always)]
pub fn open_to_read(name: &CStr) -> Result<i32, Errno> {
    const OPEN: usize = 2;
    call(OPEN, [name.as_ptr() as usize, 0, 0, 0, 0, 0]).map(|file| file as i32)
}

/// What may be done to pages.
#[derive(Clone, Copy)]
pub enum Access {
    /// Read.
    Read = 1,
    /// Read and written.
    Write = 3,
}

/// Whose changes a mapping shows.
#[derive(Clone, Copy)]
pub enum Sharing {
    /// Everybody's.
    Shared = 1,
    /// Its own.
    Private = 2,
}

/// Maps pages: of a file, or fresh ones where there is none.
#[inline(always)]
pub fn map(
    bytes: usize,
    access: Access,
    sharing: Sharing,
    file: Option<i32>,
) -> Result<usize, Errno> {
    const ANONYMOUS: usize = 0x20;
    let (flags, file) = match file {
        Some(file) => (sharing as usize, file as usize),
        None => (sharing as usize | ANONYMOUS, usize::MAX),
    };
    call(nr::MMAP, [0, bytes, access as usize, flags, file, 0])
}

/// Ends a mapping.
#[inline(always)]
pub fn unmap(start: usize, bytes: usize) -> Result<(), Errno> {
    call(nr::MUNMAP, [start, bytes, 0, 0, 0, 0]).map(|_| ())
}

/// Changes what may be done to pages.
#[inline(always)]
pub fn protect(start: usize, bytes: usize, access: Access) -> Result<(), Errno> {
    call(nr::MPROTECT, [start, bytes, access as usize, 0, 0, 0]).map(|_| ())
}

/// Another process from here on: 0 in it, its number here.
#[inline(always)]
pub fn fork() -> Result<usize, Errno> {
    call(nr::FORK, [0; 6])
}

/// Waits for a child's end.
#[inline(always)]
pub fn wait(child: usize) -> Result<(), Errno> {
    call(nr::WAIT4, [child, 0, 0, 0, 0, 0]).map(|_| ())
}

/// Two connected files, by `pipe` or `socketpair`.
pub fn pair(kind: Pair) -> Result<[i32; 2], Errno> {
    let mut files = [0_i32; 2];
    let place = files.as_mut_ptr() as usize;
    const UNIX: usize = 1;
    const STREAM: usize = 1;
    match kind {
        Pair::Pipe => call(nr::PIPE2, [place, 0, 0, 0, 0, 0])?,
        Pair::Socket => call(nr::SOCKETPAIR, [UNIX, STREAM, 0, place, 0, 0])?,
    };
    // SAFETY: the kernel wrote both; the compiler is told by the volatile read.
    Ok(unsafe { (&raw const files).read_volatile() })
}

/// Kinds of connected files.
#[derive(Clone, Copy)]
pub enum Pair {
    /// One direction: the first reads what the second writes.
    Pipe,
    /// Both directions, AF_UNIX.
    Socket,
}

/// Becomes another program.
pub fn exec(name: &CStr, words: &[*const u8]) -> Result<(), Errno> {
    let none: [*const u8; 1] = [core::ptr::null()];
    let arguments = [
        name.as_ptr() as usize,
        words.as_ptr() as usize,
        none.as_ptr() as usize,
    ];
    call(
        nr::EXECVE,
        [arguments[0], arguments[1], arguments[2], 0, 0, 0],
    )
    .map(|_| ())
}
