//! Writes to a device's page that the guest may only read, because a message table is in it.
//!
//! The table is ring 0's: what is written to it is dropped. Other registers may share the page; writes to them are
//! carried out, in the forms compilers use for them: a plain move of 1, 2, 4 or 8 bytes.

use crate::device::msi;
use crate::domain::Guest;
use crate::mmu::trapped::{instruction, operand_len};
use crate::policy::privileged::advance;
use frames::Mfn;

struct Move {
    bytes: u8,
    value: u64,
    len: usize,
}

fn decode(g: &Guest<'_>, code: &[u8]) -> Option<Move> {
    let mut at = 0;
    let narrow = *code.first()? == 0x66;
    at += usize::from(narrow);
    let mut rex = 0;
    let first = *code.get(at)?;
    if first & 0xf0 == 0x40 {
        rex = first;
        at += 1;
    }
    let opcode = *code.get(at)?;
    let operand = code.get(at + 1..)?;
    let end = at + 1 + operand_len(operand)?;
    let bytes = match opcode {
        0x88 | 0xc6 => 1,
        0x89 | 0xc7 if rex & 8 != 0 => 8,
        0x89 | 0xc7 if narrow => 2,
        0x89 | 0xc7 => 4,
        _ => return None,
    };
    let register = (*operand.first()? >> 3 & 7) | (rex & 4) << 1;
    if opcode < 0xc0 {
        // Without a prefix four of the byte registers are upper halves of others.
        let value = if bytes == 1 && rex == 0 && register >= 4 {
            g.regs.general(register & 3) >> 8
        } else {
            g.regs.general(register)
        };
        return Some(Move {
            bytes,
            value,
            len: end,
        });
    }
    if register & 7 != 0 {
        return None;
    }
    let immediate = usize::from(bytes.min(4));
    let mut word = [0u8; 8];
    let given = code.get(end..end + immediate)?;
    word.get_mut(..immediate)?.copy_from_slice(given);
    let value = u64::from_le_bytes(word);
    // Eight bytes are written with a sign-extended immediate.
    let value = if bytes == 8 {
        i64::from(value as u32 as i32) as u64
    } else {
        value
    };
    Some(Move {
        bytes,
        value,
        len: end + immediate,
    })
}

/// Tries to carry out the instruction that faulted on `fault`, which a leaf maps to `frame` read-only. False: the fault
/// is the guest's.
pub fn try_write(g: &mut Guest<'_>, frame: Mfn, fault: u64) -> bool {
    if !msi::is_table(frame) {
        return false;
    }
    let Some(decoded) = decode(g, &instruction(g)) else {
        return false;
    };
    // The address that faulted is the operand's first byte: it crosses no page, or the guest asked for two faults.
    let Move { bytes, value, len } = decoded;
    if !fault.is_multiple_of(u64::from(bytes)) {
        return false;
    }
    msi::guest_write(frame, fault & 4095, bytes, value);
    advance(g, len);
    true
}
