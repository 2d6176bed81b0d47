//! LZMA: bytes as literals and as matches, each decision with a probability that adapts to what came before.
//!
//! A match copies from what was written before, so the output itself is the dictionary. Two places decide that nothing
//! is read before its beginning or written past a chunk's end: [`Window::copy`] and the limit of [`Window`].

use super::range::{EVEN, RangeDecoder};
use crate::ImageError;

/// States: how the last few symbols were coded. Below 7, the last was a literal.
const AFTER_LITERAL: usize = 7;
/// Rows of tables that are indexed by state or by position: a power of two, so that a mask bounds the index.
const ROWS: usize = 16;
/// Probabilities of one literal context: 256 plain ones, twice as many for literals after a match, rounded up as above.
const LITERAL: usize = 0x400;
const SHORTEST_MATCH: usize = 2;
/// Distance slots from here on have bits at even odds in the middle.
const FIRST_DIRECT_SLOT: u32 = 14;
const ALIGN_BITS: u32 = 4;

pub(super) const DAMAGED: ImageError = ImageError::CorruptPayload {
    what: "its LZMA2 stream is damaged",
};

/// Probabilities of the lengths of matches.
struct Lengths {
    choice: u16,
    choice2: u16,
    low: [[u16; 8]; ROWS],
    middle: [[u16; 8]; ROWS],
    high: [u16; 256],
}

impl Lengths {
    const fn with_odds(odds: u16) -> Self {
        Lengths {
            choice: odds,
            choice2: odds,
            low: [[odds; 8]; ROWS],
            middle: [[odds; 8]; ROWS],
            high: [odds; 256],
        }
    }

    #[inline(always)]
    fn decode(&mut self, range: &mut RangeDecoder<'_>, position: usize) -> usize {
        if !range.bit(&mut self.choice) {
            SHORTEST_MATCH + range.tree(&mut self.low[position & (ROWS - 1)])
        } else if !range.bit(&mut self.choice2) {
            SHORTEST_MATCH + 8 + range.tree(&mut self.middle[position & (ROWS - 1)])
        } else {
            SHORTEST_MATCH + 16 + range.tree(&mut self.high)
        }
    }
}

/// All adaptive probabilities, and what else lasts from chunk to chunk. About 37 KiB.
pub(crate) struct Tables {
    is_match: [[u16; ROWS]; ROWS],
    is_rep: [u16; ROWS],
    is_rep0: [u16; ROWS],
    is_rep1: [u16; ROWS],
    is_rep2: [u16; ROWS],
    is_rep0_long: [[u16; ROWS]; ROWS],
    slots: [[u16; 64]; 4],
    special: [u16; 128],
    align: [u16; 16],
    match_lengths: Lengths,
    rep_lengths: Lengths,
    literals: [[u16; LITERAL]; ROWS],
    state: usize,
    /// The last four distances, less one.
    reps: [u32; 4],
    literal_context_bits: u32,
    literal_position_mask: usize,
    position_mask: usize,
}

impl Tables {
    /// Tables fit for nothing but being reset, which the first chunk of a stream must ask for.
    pub(crate) const fn new() -> Self {
        Tables {
            is_match: [[0; ROWS]; ROWS],
            is_rep: [0; ROWS],
            is_rep0: [0; ROWS],
            is_rep1: [0; ROWS],
            is_rep2: [0; ROWS],
            is_rep0_long: [[0; ROWS]; ROWS],
            slots: [[0; 64]; 4],
            special: [0; 128],
            align: [0; 16],
            match_lengths: Lengths::with_odds(0),
            rep_lengths: Lengths::with_odds(0),
            literals: [[0; LITERAL]; ROWS],
            state: 0,
            reps: [0; 4],
            literal_context_bits: 0,
            literal_position_mask: 0,
            position_mask: 0,
        }
    }

    /// Forgets everything but the properties. Field by field: a whole new value would pass over the stack.
    pub(super) fn reset(&mut self) {
        self.is_match.as_flattened_mut().fill(EVEN);
        for row in [
            &mut self.is_rep,
            &mut self.is_rep0,
            &mut self.is_rep1,
            &mut self.is_rep2,
        ] {
            row.fill(EVEN);
        }
        self.is_rep0_long.as_flattened_mut().fill(EVEN);
        self.slots.as_flattened_mut().fill(EVEN);
        self.special.fill(EVEN);
        self.align.fill(EVEN);
        self.match_lengths = Lengths::with_odds(EVEN);
        self.rep_lengths = Lengths::with_odds(EVEN);
        self.literals.as_flattened_mut().fill(EVEN);
        self.state = 0;
        self.reps = [0; 4];
    }

    /// Takes the properties byte: `(pb * 5 + lp) * 9 + lc`, of which LZMA2 allows `lc + lp` up to 4.
    pub(super) fn set_properties(&mut self, byte: u8) -> Option<()> {
        let (lc, rest) = (u32::from(byte % 9), byte / 9);
        let (lp, pb) = (u32::from(rest % 5), u32::from(rest / 5));
        if pb > 4 || lc + lp > 4 {
            return None;
        }
        self.literal_context_bits = lc;
        self.literal_position_mask = (1 << lp) - 1;
        self.position_mask = (1 << pb) - 1;
        Some(())
    }

    /// Decodes one chunk of packed bytes: until the window is full, which must be when the chunk is used up. Both
    /// cursors are made here and stay: as locals of one function they live in registers.
    #[inline(never)]
    pub(super) fn chunk(&mut self, body: &[u8], window: Window<'_>) -> Result<(), ImageError> {
        let mut range = RangeDecoder::new(body).ok_or(DAMAGED)?;
        let Window {
            out,
            at,
            dictionary_start,
        } = window;
        let mut window = Window {
            out,
            at,
            dictionary_start,
        };
        let mut state = self.state;
        while window.at < window.out.len() {
            let position = window.position() & self.position_mask;
            let row = state & (ROWS - 1);
            if !range.bit(&mut self.is_match[row][position & (ROWS - 1)]) {
                self.literal(&mut range, &mut window, state);
                state = match state {
                    0..4 => 0,
                    4..10 => state - 3,
                    _ => state - 6,
                };
                continue;
            }
            let after_literal = state < AFTER_LITERAL;
            let len = if !range.bit(&mut self.is_rep[row]) {
                state = if after_literal { 7 } else { 10 };
                self.new_match(&mut range, position)
            } else if let Some(len) = self.repeated_match(&mut range, row, position) {
                state = if after_literal { 8 } else { 11 };
                len
            } else {
                state = if after_literal { 9 } else { 11 };
                1
            };
            window.copy(self.reps[0], len).ok_or(DAMAGED)?;
        }
        self.state = state;
        if range.finishes_cleanly() {
            Ok(())
        } else {
            Err(DAMAGED)
        }
    }

    #[inline(always)]
    fn literal(&mut self, range: &mut RangeDecoder<'_>, window: &mut Window<'_>, state: usize) {
        let before = usize::from(window.back(0));
        let context = (before >> (8 - self.literal_context_bits))
            | (window.position() & self.literal_position_mask) << self.literal_context_bits;
        let tree = &mut self.literals[context & (ROWS - 1)];
        let mut symbol = 1usize;
        if state >= AFTER_LITERAL {
            // The byte a repeated match would have given is wrong, so it predicts: follow it until it errs.
            let mut predicted = usize::from(window.back(self.reps[0])) << 1;
            let mut offset = 0x100;
            while symbol < 0x100 {
                let predicted_bit = predicted & offset;
                predicted <<= 1;
                let bit = range.bit(&mut tree[(offset + predicted_bit + symbol) & (LITERAL - 1)]);
                symbol = symbol << 1 | usize::from(bit);
                offset &= if bit { predicted_bit } else { !predicted_bit };
            }
        } else {
            while symbol < 0x100 {
                let bit = range.bit(&mut tree[symbol & (LITERAL - 1)]);
                symbol = symbol << 1 | usize::from(bit);
            }
        }
        window.put(symbol as u8);
    }

    /// A match at a new distance: its length, and the distance into `reps`.
    #[inline(always)]
    fn new_match(&mut self, range: &mut RangeDecoder<'_>, position: usize) -> usize {
        let [first, second, third, _] = self.reps;
        let len = self.match_lengths.decode(range, position);
        let slot_row = (len - SHORTEST_MATCH).min(3);
        let slot = range.tree(&mut self.slots[slot_row]) as u32;
        let distance = if slot < 4 {
            slot
        } else {
            let bits = (slot >> 1) - 1;
            let high = 2 | slot & 1;
            if slot < FIRST_DIRECT_SLOT {
                let high = high << bits;
                high + range.reverse_tree(&mut self.special, high.wrapping_sub(slot) as usize, bits)
            } else {
                let middle = range.direct(bits - ALIGN_BITS);
                let low = range.reverse_tree(&mut self.align, 0, ALIGN_BITS);
                (high << bits)
                    .wrapping_add(middle << ALIGN_BITS)
                    .wrapping_add(low)
            }
        };
        self.reps = [distance, first, second, third];
        len
    }

    /// A match at one of the last distances, which becomes the last: its length, or `None` for a single byte.
    #[inline(always)]
    fn repeated_match(
        &mut self,
        range: &mut RangeDecoder<'_>,
        row: usize,
        position: usize,
    ) -> Option<usize> {
        if !range.bit(&mut self.is_rep0[row]) {
            if !range.bit(&mut self.is_rep0_long[row][position & (ROWS - 1)]) {
                return None;
            }
        } else {
            let [first, second, third, fourth] = self.reps;
            self.reps = if !range.bit(&mut self.is_rep1[row]) {
                [second, first, third, fourth]
            } else if !range.bit(&mut self.is_rep2[row]) {
                [third, first, second, fourth]
            } else {
                [fourth, first, second, third]
            };
        }
        Some(self.rep_lengths.decode(range, position))
    }
}

/// The output up to the end of the current chunk, and how far back matches may reach.
pub(super) struct Window<'a> {
    /// The output; its end is the chunk's.
    pub(super) out: &'a mut [u8],
    /// Where the next byte goes.
    pub(super) at: usize,
    /// The first byte a match may reach back to.
    pub(super) dictionary_start: usize,
}

impl Window<'_> {
    /// Position since the dictionary began.
    #[inline(always)]
    fn position(&self) -> usize {
        self.at.wrapping_sub(self.dictionary_start)
    }

    /// The byte `distance` before the last one; zero where there is none.
    #[inline(always)]
    fn back(&self, distance: u32) -> u8 {
        let distance = distance as usize;
        if distance < self.position() {
            self.out
                .get(self.at.wrapping_sub(distance).wrapping_sub(1))
                .copied()
                .unwrap_or(0)
        } else {
            0
        }
    }

    #[inline(always)]
    fn put(&mut self, byte: u8) {
        if let Some(place) = self.out.get_mut(self.at) {
            *place = byte;
        }
        self.at = self.at.wrapping_add(1);
    }

    /// Copies a match. `None` if it reaches back beyond the dictionary or runs past the chunk.
    #[inline(always)]
    fn copy(&mut self, distance: u32, len: usize) -> Option<()> {
        let distance = distance as usize;
        if distance >= self.position() {
            return None;
        }
        let (before, after) = self.out.split_at_mut_checked(self.at)?;
        let after = after.get_mut(..len)?;
        let source = before.get(before.len().wrapping_sub(distance).wrapping_sub(1)..)?;
        if source.len() >= len {
            after.copy_from_slice(source.get(..len)?);
        } else {
            // The match overlaps itself: what it has copied repeats.
            for (place, byte) in after.iter_mut().zip(source.iter().cycle()) {
                *place = *byte;
            }
        }
        self.at = self.at.wrapping_add(len);
        Some(())
    }
}
