//! The clock chip, which only the control domain reaches: its time, and a word that outlives the domain in its memory.

use guest_runtime::abi::nr;
use guest_runtime::hypercall::call;

use crate::accepted;

/// Bytes of the clock chip's memory that nobody else uses: a mark, then eight bytes.
const MARK_AT: u8 = 0x70;
const MARK: u8 = 0xa7;

/// Lets the guest's kernel use ports. Once, before the others.
pub fn open() {
    let iopl = 1u32;
    accepted(
        "I/O privilege level 1",
        call(nr::PHYSDEV_OP, [6, &raw const iopl as u64, 0, 0, 0]),
    );
}

/// Keeps a word for the next life.
pub fn keep(word: u64) {
    byte(MARK_AT, Some(MARK));
    for (i, part) in (1..).zip(word.to_le_bytes()) {
        byte(MARK_AT + i, Some(part));
    }
}

/// The word that the life before kept, once; `None` in the first.
pub fn take() -> Option<u64> {
    if byte(MARK_AT, None) != MARK {
        return None;
    }
    byte(MARK_AT, Some(0));
    let mut word = [0u8; 8];
    for (i, part) in (1..).zip(&mut word) {
        *part = byte(MARK_AT + i, None);
    }
    Some(u64::from_le_bytes(word))
}

/// The chip's seconds, in its own way to write numbers.
pub fn second() -> u8 {
    byte(0, None)
}

/// Reads a byte of the clock chip's memory, or writes it.
fn byte(index: u8, value: Option<u8>) -> u8 {
    let mut byte = value.unwrap_or(0);
    // SAFETY: the ports of the clock chip; they touch no memory.
    unsafe {
        core::arch::asm!("out 0x70, al", in("al") index, options(nomem, nostack));
        match value {
            Some(value) => {
                core::arch::asm!("out 0x71, al", in("al") value, options(nomem, nostack))
            }
            None => core::arch::asm!("in al, 0x71", out("al") byte, options(nomem, nostack)),
        }
    }
    byte
}
