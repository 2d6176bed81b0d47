//! Reading the time, through the page of code that the kernel gives each program (the vDSO).

use crate::measure::{self, ROUNDS};
use core::ffi::CStr;
use programs::{Arguments, complain};

/// The kind of the auxiliary value that says where the vDSO is.
const AT_SYSINFO_EHDR: usize = 33;
/// Program headers and tags of dynamic sections, as the ELF specification numbers them.
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;

type ClockGettime = extern "C" fn(clock: usize, time: *mut [u64; 2]) -> isize;

/// Measures a reading of the monotonic clock.
pub fn all(arguments: &Arguments) {
    const MONOTONIC: usize = 1;
    let Some(read) = find(arguments) else {
        complain!("micro: this kernel gives no clock_gettime in its vDSO");
        return;
    };
    let mut time = [0; 2];
    let result = measure::least("clock_gettime", ROUNDS, 1, || {
        read(MONOTONIC, &raw mut time);
        Ok(())
    });
    debug_assert!(result.is_ok());
}

/// The vDSO's `clock_gettime`.
fn find(arguments: &Arguments) -> Option<ClockGettime> {
    let base = base(arguments)?;
    // SAFETY: the kernel's own image, mapped and complete for as long as the program lives, in the layout of ELF:
    // offsets are those of the file header, program headers, dynamic tags and symbols.
    unsafe {
        let headers = base + word(base + 32) as usize;
        let (size, count) = (half(base + 54), half(base + 56));
        let header = |n: usize| headers + n * size;
        let mut bias = None;
        let mut dynamic = None;
        for n in 0..count {
            match int(header(n)) {
                PT_LOAD if bias.is_none() => {
                    let (offset, address) = (word(header(n) + 8), word(header(n) + 16));
                    bias = Some(
                        base.wrapping_add(offset as usize)
                            .wrapping_sub(address as usize),
                    );
                }
                PT_DYNAMIC => dynamic = Some(base + word(header(n) + 8) as usize),
                _ => {}
            }
        }
        let (bias, mut tag) = (bias?, dynamic?);
        let (mut hash, mut names, mut symbols) = (None, None, None);
        while word(tag) != 0 {
            let value = Some(bias.wrapping_add(word(tag + 8) as usize));
            match word(tag) {
                DT_HASH => hash = value,
                DT_STRTAB => names = value,
                DT_SYMTAB => symbols = value,
                _ => {}
            }
            tag += 16;
        }
        let (names, symbols) = (names?, symbols?);
        // The second word of the hash table is the number of symbols.
        let symbol = (0..int(hash? + 4) as usize)
            .map(|n| symbols + n * 24)
            .find(|symbol| {
                let name = names + int(*symbol) as usize;
                CStr::from_ptr(name as *const _) == c"__vdso_clock_gettime"
            })?;
        let address = bias.wrapping_add(word(symbol + 8) as usize);
        Some(core::mem::transmute::<usize, ClockGettime>(address))
    }
}

/// Where the vDSO's image begins: an auxiliary value behind the environment.
fn base(arguments: &Arguments) -> Option<usize> {
    let mut at = arguments.environment().cast::<usize>();
    // SAFETY: the kernel put the environment, a null pointer and pairs of kind and value there; kind 0 ends them.
    unsafe {
        while at.read() != 0 {
            at = at.add(1);
        }
        at = at.add(1);
        while at.read() != 0 {
            if at.read() == AT_SYSINFO_EHDR {
                return Some(at.add(1).read());
            }
            at = at.add(2);
        }
    }
    None
}

/// # Safety
/// Eight readable bytes lie there.
unsafe fn word(at: usize) -> u64 {
    // SAFETY: the caller's contract.
    unsafe { (at as *const u64).read_unaligned() }
}

/// # Safety
/// Four readable bytes lie there.
unsafe fn int(at: usize) -> u32 {
    // SAFETY: the caller's contract.
    unsafe { (at as *const u32).read_unaligned() }
}

/// # Safety
/// Two readable bytes lie there.
unsafe fn half(at: usize) -> usize {
    // SAFETY: the caller's contract.
    usize::from(unsafe { (at as *const u16).read_unaligned() })
}
