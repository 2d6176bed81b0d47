//! The filter for x86 code: calls and jumps hold absolute targets while packed, because the same target then looks the
//! same from everywhere. Undone in place, over a whole block at once.
//!
//! An operand is converted only if its highest byte is 0x00 or 0xff, so that data is mostly left alone, and only if no
//! opcode byte just before it makes it likely to be part of another instruction. `near` remembers which of the last
//! bytes were opcodes that were not converted, newest in the lowest bit.

/// Opcode and operand.
const INSTRUCTION: usize = 5;
/// By the value of `near`: how many bytes before the operand's last one to look for a sign byte, or `None` where there
/// can be no instruction.
const LOOK_BACK: [Option<u32>; 8] = [Some(0), Some(1), Some(2), None, Some(3), None, None, None];

fn is_sign_byte(byte: u8) -> bool {
    byte == 0 || byte == 0xff
}

/// Undoes the filter. `base` is the block's first address as the filter saw it.
pub(super) fn unfilter(code: &mut [u8], base: u32) {
    // The opcode last looked at, and the unconverted ones near it as seen from there.
    let mut last: Option<usize> = None;
    let mut near = 0usize;
    let mut at = 0;
    while let Some(opcode) = find_opcode(code, at) {
        let Some(operand) = code
            .get_mut(opcode + 1..)
            .and_then(|rest| rest.first_chunk_mut::<4>())
        else {
            return;
        };
        let gap = last.map_or(usize::MAX, |last| opcode - last);
        near = if gap > 3 { 0 } else { near << (gap - 1) & 7 };
        last = Some(opcode);
        at = opcode + 1;
        let Some(back) = LOOK_BACK.get(near).copied().flatten() else {
            near = near << 1 | 1;
            continue;
        };
        let [.., high] = *operand;
        let blocked = near != 0 && is_sign_byte(operand[3 - back as usize]);
        if blocked || !is_sign_byte(high) {
            near = near << 1 | 1;
            continue;
        }
        let here = base
            .wrapping_add(opcode as u32)
            .wrapping_add(INSTRUCTION as u32);
        *operand = relative(u32::from_le_bytes(*operand), here, back).to_le_bytes();
        at = opcode + INSTRUCTION;
    }
}

/// Turns an absolute target back into a distance of 25 significant bits, sign-extended.
fn relative(target: u32, here: u32, back: u32) -> u32 {
    let mut distance = target.wrapping_sub(here);
    // Where an opcode was near, the filter avoided results it could not have undone by going round once more, with the
    // lower bits inverted; so do we. Once is enough: below the bit inverted last, `!(t - h) - h` is `!t`, and the byte
    // of the target that is in question here was found to be no sign byte by the caller.
    let shift = 24 - 8 * back;
    if back != 0 && is_sign_byte((distance >> shift) as u8) {
        let inverted = distance ^ ((1 << (shift + 8)) - 1);
        distance = inverted.wrapping_sub(here);
    }
    let low = distance & 0x01ff_ffff;
    low | 0u32.wrapping_sub(low & 0x0100_0000)
}

/// The next call (0xe8) or jump (0xe9) from `from` on, eight bytes at a look.
fn find_opcode(code: &[u8], from: usize) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let rest = code.get(from..)?;
    let (words, tail) = rest.as_chunks::<8>();
    let mut skipped = 0;
    for word in words {
        let bytes = u64::from_le_bytes(*word);
        // Zero where the byte is one of the two; the lowest flag set below is then at the first such byte.
        let difference = (bytes & !ONES) ^ (ONES * 0xe8);
        let found = difference.wrapping_sub(ONES) & !difference & (ONES << 7);
        if found != 0 {
            return Some(from + skipped + found.trailing_zeros() as usize / 8);
        }
        skipped += 8;
    }
    let at = tail.iter().position(|byte| byte & 0xfe == 0xe8)?;
    Some(from + skipped + at)
}
