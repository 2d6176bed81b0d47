//! Linux' system calls on x86-64: the number in RAX, arguments in RDI, RSI, RDX, R10, R8, R9; the answer in RAX,
//! between -4095 and -1 if refused. RCX and R11 are lost.

use core::ffi::CStr;
use core::fmt;

/// Why the kernel refused a call: its error number, positive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// No such device or address.
    pub const ENXIO: Errno = Errno(6);
    /// What came is not as agreed.
    pub const EPROTO: Errno = Errno(71);
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {}", self.0)
    }
}

/// Numbers of system calls.
pub mod number {
    /// `write(file, bytes, length)`
    pub const WRITE: usize = 1;
    /// `open(name, flags, mode)`
    pub const OPEN: usize = 2;
    /// `ioctl(file, request, argument)`
    pub const IOCTL: usize = 16;
    /// `exit_group(status)`
    pub const EXIT_GROUP: usize = 231;
}

/// A system call as it is, its answer undecoded.
///
/// # Safety
/// What the call does to this program's memory keeps Rust's rules: every pointer among the arguments is valid for
/// what the kernel does with it.
#[inline]
pub unsafe fn raw(number: usize, arguments: [usize; 6]) -> isize {
    let answer: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's contract for memory; registers are as the module's head says.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// A system call; a refusal is an error.
///
/// # Errors
/// With the kernel's error number.
///
/// # Safety
/// As [`raw`].
#[inline]
pub unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the caller's contract.
    let answer = unsafe { raw(number, arguments) };
    match answer {
        -4095..=-1 => Err(Errno(-(answer as i32))),
        _ => Ok(answer as usize),
    }
}

/// Ends the program, all of it.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: it touches no memory of ours and does not come back.
        unsafe { raw(number::EXIT_GROUP, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Writes what the kernel takes of `bytes`; how much that was.
///
/// # Errors
/// The kernel's.
pub fn write(file: i32, bytes: &[u8]) -> Result<usize, Errno> {
    let arguments = [file as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0];
    // SAFETY: the kernel reads the slice.
    unsafe { call(number::WRITE, arguments) }
}

/// Opens a file for reading and writing.
///
/// # Errors
/// The kernel's.
pub fn open(name: &CStr) -> Result<i32, Errno> {
    const READ_WRITE: usize = 2;
    const CLOSE_ON_EXEC: usize = 0o2_000_000;
    let flags = READ_WRITE | CLOSE_ON_EXEC;
    // SAFETY: the kernel reads the name up to its zero byte.
    let file = unsafe { call(number::OPEN, [name.as_ptr() as usize, flags, 0, 0, 0, 0]) }?;
    Ok(file as i32)
}

/// Asks a device for something of its own.
///
/// # Errors
/// The device's or the kernel's.
///
/// # Safety
/// `argument` is what the request takes, and whatever the device does with the memory it names, or that the argument
/// names in turn, keeps Rust's rules.
pub unsafe fn ioctl(file: i32, request: usize, argument: usize) -> Result<usize, Errno> {
    // SAFETY: the caller's contract.
    unsafe { call(number::IOCTL, [file as usize, request, argument, 0, 0, 0]) }
}
