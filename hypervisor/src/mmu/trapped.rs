//! Page-table writes that trap: a guest's kernel stores to a table it may only read, and we do it for it.
//!
//! Only the few forms compilers and kernels use, each with one memory operand whose address is the one that faulted;
//! nothing is computed from the instruction but its register and its length. Whatever the bytes were, what is checked
//! is the entry that results, so code changing under us is harmless.

use crate::arch::regs::flags;
use crate::domain::Guest;
use crate::memory::frame_table;
use crate::mmu::{device_write, tables};
use crate::policy::privileged::advance;
use arrayvec::ArrayVec;
use frames::table::Change;
use frames::{Class, Entry, FrameType, Level};

/// What an instruction asks.
enum Form {
    /// `mov r64 -> m64`, or with an immediate.
    Store(u64),
    /// `xchg r64, m64`: the old entry goes to the register.
    Exchange(u8),
    /// `(lock) and m8, imm8` at byte `n` of the entry.
    AndByte { byte: u32, mask: u8 },
    /// `(lock) btr m64, imm8`: carry is the old bit.
    ResetBit(u32),
    /// `(lock) cmpxchg m64, r64`: the value in the register, if RAX holds the old entry; else RAX gets it.
    Compare(u64),
}

struct Decoded {
    form: Form,
    len: usize,
}

/// Length of a memory operand's ModRM, SIB and displacement; `None` for a register operand.
pub(super) fn operand_len(bytes: &[u8]) -> Option<usize> {
    let modrm = *bytes.first()?;
    let (mode, rm) = (modrm >> 6, modrm & 7);
    let sib = usize::from(rm == 4);
    let displacement = match mode {
        0 if rm == 5 => 4,
        0 if rm == 4 && bytes.get(1)? & 7 == 5 => 4,
        0 => 0,
        1 => 1,
        2 => 4,
        _ => return None,
    };
    Some(1 + sib + displacement)
}

fn decode(g: &Guest<'_>, bytes: &[u8], fault: u64) -> Option<Decoded> {
    // A kernel that found one CPU has patched its lock prefixes to segment prefixes without effect.
    let locked = matches!(*bytes.first()?, 0xf0 | 0x3e);
    let mut at = usize::from(locked);
    let mut rex = 0;
    let first = *bytes.get(at)?;
    if first & 0xf0 == 0x40 {
        rex = first;
        at += 1;
    }
    let wide = rex & 8 != 0;
    let opcode = *bytes.get(at)?;
    at += 1;
    if opcode == 0x0f {
        return decode_two_byte(g, bytes, at, rex, fault);
    }
    let operand = bytes.get(at..)?;
    let end = at + operand_len(operand)?;
    let register = (*operand.first()? >> 3 & 7) | (rex & 4) << 1;
    let aligned = fault.is_multiple_of(8);
    match opcode {
        0x89 if wide && !locked && aligned => Some(Decoded {
            form: Form::Store(g.regs.general(register)),
            len: end,
        }),
        0x87 if wide && aligned => Some(Decoded {
            form: Form::Exchange(register),
            len: end,
        }),
        0xc7 if wide && !locked && aligned && register & 7 == 0 => {
            let immediate: [u8; 4] = bytes.get(end..end + 4)?.try_into().ok()?;
            let value = i64::from(i32::from_le_bytes(immediate)) as u64;
            Some(Decoded {
                form: Form::Store(value),
                len: end + 4,
            })
        }
        0x80 if register & 7 == 4 => Some(Decoded {
            form: Form::AndByte {
                byte: (fault & 7) as u32,
                mask: *bytes.get(end)?,
            },
            len: end + 1,
        }),
        _ => None,
    }
}

/// Opcodes behind 0x0f, which is at `at - 1`: `btr` and `cmpxchg`, of eight aligned bytes.
fn decode_two_byte(g: &Guest<'_>, bytes: &[u8], at: usize, rex: u8, fault: u64) -> Option<Decoded> {
    if rex & 8 == 0 || !fault.is_multiple_of(8) {
        return None;
    }
    let opcode = *bytes.get(at)?;
    let operand = bytes.get(at + 1..)?;
    let end = at + 1 + operand_len(operand)?;
    let field = *operand.first()? >> 3 & 7;
    match opcode {
        0xba if field == 6 => {
            let bit = u32::from(*bytes.get(end)?) & 63;
            Some(Decoded {
                form: Form::ResetBit(bit),
                len: end + 1,
            })
        }
        0xb1 => Some(Decoded {
            form: Form::Compare(g.regs.general(field | (rex & 4) << 1)),
            len: end,
        }),
        _ => None,
    }
}

/// Tries to carry out the instruction that faulted on `fault` with a write to a read-only mapping. False: the fault is
/// the guest's.
pub fn try_write(g: &mut Guest<'_>, fault: u64) -> bool {
    let memory = g.memory();
    let Some((_, _, leaf)) = memory.leaf(fault) else {
        return false;
    };
    if !leaf.is_present() || leaf.is_writable() {
        return false;
    }
    let table = leaf.mfn();
    let Class::Ram(frame) = frame_table::class(table) else {
        return device_write::try_write(g, table, fault);
    };
    if frame.get_if_valid(Some(g.dom.id), FrameType::L1).is_err() {
        return false;
    }
    let done = write_entry(g, table, fault);
    tables(g.dom.id).put_table(table, Level::L1);
    done
}

/// The bytes of the instruction that faulted, as far as they can be read: at most 15.
pub(super) fn instruction(g: &Guest<'_>) -> ArrayVec<u8, 15> {
    let mut bytes = [0u8; 15];
    let on_page = (4096 - (g.regs.rip & 4095)) as usize;
    let memory = g.memory();
    let have = if memory.read(g.regs.rip, &mut bytes).is_ok() {
        15
    } else if on_page < 15 && memory.read(g.regs.rip, &mut bytes[..on_page]).is_ok() {
        on_page
    } else {
        0
    };
    bytes.into_iter().take(have).collect()
}

fn write_entry(g: &mut Guest<'_>, table: frames::Mfn, fault: u64) -> bool {
    let Some(decoded) = decode(g, &instruction(g), fault) else {
        return false;
    };
    let change = match decoded.form {
        Form::Store(value) => Change::Set(Entry(value)),
        Form::Exchange(register) => Change::Set(Entry(g.regs.general(register))),
        Form::AndByte { byte, mask } => Change::And(!(u64::from(!mask) << (byte * 8))),
        Form::ResetBit(bit) => Change::And(!(1 << bit)),
        Form::Compare(value) => Change::Replace {
            expected: Entry(g.regs.rax),
            new: Entry(value),
        },
    };
    let index = (fault & 4095) as usize / 8;
    let dom = g.dom.id;
    let Ok(old) = tables(dom).update_here(table, Level::L1, index, change, dom) else {
        return false;
    };
    match decoded.form {
        Form::Exchange(register) => *g.regs.general_mut(register) = old.0,
        Form::ResetBit(bit) => {
            g.regs.rflags &= !flags::CF;
            g.regs.rflags |= old.0 >> bit & 1;
        }
        Form::AndByte { byte, mask } => set_logic_flags(g, (old.0 >> (byte * 8)) as u8 & mask),
        Form::Compare(_) => {
            set_difference_flags(g, g.regs.rax, old.0);
            g.regs.rax = old.0;
        }
        Form::Store(_) => {}
    }
    advance(g, decoded.len);
    true
}

const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const OF: u64 = 1 << 11;

/// Flags after `left` was compared with `right`.
fn set_difference_flags(g: &mut Guest<'_>, left: u64, right: u64) {
    let (result, borrow) = left.overflowing_sub(right);
    let overflow = ((left ^ right) & (left ^ result)) >> 63 != 0;
    let even = (result as u8).count_ones().is_multiple_of(2);
    let r = &mut g.regs.rflags;
    *r &= !(flags::CF | PF | AF | ZF | SF | OF);
    for (flag, set) in [
        (flags::CF, borrow),
        (PF, even),
        (AF, (left ^ right ^ result) & 0x10 != 0),
        (ZF, result == 0),
        (SF, result >> 63 != 0),
        (OF, overflow),
    ] {
        if set {
            *r |= flag;
        }
    }
}

/// Flags after a byte-wide AND.
fn set_logic_flags(g: &mut Guest<'_>, result: u8) {
    let r = &mut g.regs.rflags;
    *r &= !(flags::CF | PF | ZF | SF | OF);
    if result == 0 {
        *r |= ZF;
    }
    if result & 0x80 != 0 {
        *r |= SF;
    }
    if result.count_ones().is_multiple_of(2) {
        *r |= PF;
    }
}
