//! The sleep type for "off", read out of the DSDT's byte code without interpreting it.
//!
//! Firmware states it as a constant package, `Name (_S5, Package () { a, b, ... })`, which compiles to the same few
//! bytes everywhere. A machine that computes it is not known; there the answer is `None`.

/// What the two sleep registers want, three bits each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SleepType {
    /// For the first register.
    pub a: u8,
    /// For the second.
    pub b: u8,
}

const NAME_OP: u8 = 0x08;
const ROOT_CHAR: u8 = b'\\';
const PACKAGE_OP: u8 = 0x12;
const ZERO_OP: u8 = 0x00;
const ONE_OP: u8 = 0x01;
const BYTE_PREFIX: u8 = 0x0a;
const WORD_PREFIX: u8 = 0x0b;
const DWORD_PREFIX: u8 = 0x0c;
const ONES_OP: u8 = 0xff;
const NAME: &[u8; 4] = b"_S5_";
/// Where byte code begins in a table.
const HEADER: u64 = 36;
/// Bytes before the name that are looked at, and bytes after it that the package's beginning takes at most:
/// operator, four bytes of length, a count, two elements of five bytes.
const BEFORE: usize = 2;
const AFTER: usize = 1 + 4 + 1 + 2 * 5;

/// Looks for the package in a table that `read(offset, buffer)` copies from; it answers false beyond the end.
pub fn find_s5(read: &mut dyn FnMut(u64, &mut [u8]) -> bool) -> Option<SleepType> {
    // Four bytes at each offset, from a piece that overlaps the next by what a match needs.
    const PIECE: usize = 256;
    let mut piece = [0; PIECE];
    let mut base = HEADER - BEFORE as u64;
    loop {
        let len = fill(base, &mut piece, read);
        let bytes = piece.get(..len)?;
        let found = bytes
            .windows(BEFORE + NAME.len())
            .enumerate()
            .filter(|(_, window)| window.ends_with(NAME) && is_definition(window))
            .find_map(|(at, _)| {
                let mut after = [0; AFTER];
                let start = base.checked_add((at + BEFORE + NAME.len()) as u64)?;
                let len = fill(start, &mut after, read);
                package(after.get(..len)?)
            });
        if found.is_some() || len < PIECE {
            return found;
        }
        base = base.checked_add((PIECE - (BEFORE + NAME.len() - 1)) as u64)?;
    }
}

/// Fills as much of `buf` as there is, and says how much.
fn fill(offset: u64, buf: &mut [u8], read: &mut dyn FnMut(u64, &mut [u8]) -> bool) -> usize {
    if read(offset, buf) {
        return buf.len();
    }
    // The end is near: byte by byte.
    let mut len = 0;
    for byte in buf.iter_mut() {
        if !read(
            offset.saturating_add(len as u64),
            core::slice::from_mut(byte),
        ) {
            break;
        }
        len += 1;
    }
    len
}

/// Whether the bytes before the name define it, at the root or in the scope at hand.
fn is_definition(window: &[u8]) -> bool {
    matches!(window, [_, NAME_OP, ..] | [NAME_OP, ROOT_CHAR, ..])
}

/// The first two elements of the package that `bytes` begin with. One element serves both registers.
fn package(bytes: &[u8]) -> Option<SleepType> {
    let (&PACKAGE_OP, rest) = bytes.split_first()? else {
        return None;
    };
    // The top two bits of a package's length say how many bytes follow its first.
    let more = usize::from(*rest.first()? >> 6);
    let (&count, mut elements) = rest.get(1 + more..)?.split_first()?;
    let a = element(&mut elements)?;
    let b = if count > 1 {
        element(&mut elements)?
    } else {
        a
    };
    (count > 0).then_some(SleepType { a: a & 7, b: b & 7 })
}

/// Low byte of the constant that `bytes` begin with.
fn element(bytes: &mut &[u8]) -> Option<u8> {
    let (&prefix, rest) = bytes.split_first()?;
    let (value, width) = match prefix {
        ZERO_OP => (0, 0),
        ONE_OP => (1, 0),
        ONES_OP => (0xff, 0),
        BYTE_PREFIX => (*rest.first()?, 1),
        WORD_PREFIX => (*rest.first()?, 2),
        DWORD_PREFIX => (*rest.first()?, 4),
        _ => return None,
    };
    *bytes = rest.get(width..)?;
    Some(value)
}
