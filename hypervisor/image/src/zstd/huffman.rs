//! Huffman-coded literals: a table that each eleven bits index, and the streams it decodes.

use super::bits::Backward;
use super::fse::{Distribution, Table};

/// The longest code.
const MAX_BITS: u32 = 11;
const SIZE: usize = 1 << MAX_BITS;
/// Symbols that one refill of a stream is enough for.
const AT_ONCE: usize = (Backward::REFILLED / MAX_BITS) as usize;

/// The code in force.
pub(super) struct Huffman {
    /// By the next `bits` bits: the symbol in the low byte, its code's length in the high one.
    cells: [u16; SIZE],
    /// The length of the longest code; 0 if there is no code yet.
    bits: u32,
}

impl Huffman {
    pub(super) const fn new() -> Self {
        Huffman {
            cells: [0; SIZE],
            bits: 0,
        }
    }

    /// As at the beginning of a frame.
    pub(super) fn forget(&mut self) {
        self.bits = 0;
    }

    /// Whether there is a code.
    pub(super) fn is_known(&self) -> bool {
        self.bits != 0
    }

    /// Reads a new code; returns the bytes its description takes.
    pub(super) fn read(&mut self, data: &[u8]) -> Option<usize> {
        // A failure leaves no code that could be taken for a good one.
        self.bits = 0;
        let header = usize::from(*data.first()?);
        let mut weights = [0u8; 256];
        let (count, read) = if header < 128 {
            let packed = data.get(1..1 + header)?;
            (packed_weights(packed, &mut weights)?, 1 + header)
        } else {
            let count = header - 127;
            let bytes = data.get(1..1 + count.div_ceil(2))?;
            for (pair, byte) in weights.chunks_mut(2).zip(bytes) {
                pair.copy_from_slice(&[byte >> 4, byte & 15]);
            }
            (count, 1 + bytes.len())
        };
        self.make(&mut weights, count)?;
        Some(read)
    }

    /// Makes the table of `count` weights; the weight of one more symbol is what is missing to a power of two.
    fn make(&mut self, weights: &mut [u8; 256], count: usize) -> Option<()> {
        let mut sum = 0u32;
        for weight in weights.get(..count)? {
            if u32::from(*weight) > MAX_BITS {
                return None;
            }
            sum += 1 << weight >> 1;
        }
        let bits = sum.checked_ilog2()? + 1;
        let missing = (1u32 << bits) - sum;
        if bits > MAX_BITS || !missing.is_power_of_two() {
            return None;
        }
        *weights.get_mut(count)? = missing.ilog2() as u8 + 1;
        let weights = weights.get(..=count)?;
        // The longest codes, those of the least weight, come first.
        let mut at = 0usize;
        for weight in 1..=bits {
            let (len, cell_bits) = (1usize << (weight - 1), (bits + 1 - weight) as u16);
            for (symbol, _) in weights
                .iter()
                .enumerate()
                .filter(|(_, w)| u32::from(**w) == weight)
            {
                let cell = symbol as u16 | cell_bits << 8;
                self.cells.get_mut(at..at + len)?.fill(cell);
                at += len;
            }
        }
        self.bits = bits;
        Some(())
    }

    /// Decodes one stream to the last byte of `out`; `None` unless that uses it up exactly.
    pub(super) fn decode(&self, data: &[u8], out: &mut [u8]) -> Option<()> {
        let mut stream = Backward::new(data)?;
        let mut groups = out.chunks_exact_mut(AT_ONCE);
        for group in &mut groups {
            stream.refill();
            for place in group {
                *place = self.symbol(&mut stream);
            }
        }
        stream.refill();
        for place in groups.into_remainder() {
            *place = self.symbol(&mut stream);
        }
        stream.refill();
        stream.is_used_up().then_some(())
    }

    #[inline(always)]
    fn symbol(&self, stream: &mut Backward<'_>) -> u8 {
        let cell = self.cells[stream.peek(self.bits) as usize & (SIZE - 1)];
        stream.skip(u32::from(cell >> 8));
        cell as u8
    }
}

/// Decodes weights that are packed themselves, by two interleaved states over one stream. Returns how many.
fn packed_weights(data: &[u8], weights: &mut [u8; 256]) -> Option<usize> {
    /// States of the table, as a power of two, and symbols: weights.
    const LOG: u32 = 6;
    const SYMBOLS: usize = MAX_BITS as usize + 1;
    let (distribution, read) = Distribution::read(data, SYMBOLS, LOG)?;
    let mut table = Table::<64>::new();
    table.make(&distribution, |symbol| (u32::from(symbol), 0))?;
    let mut stream = Backward::new(data.get(read..)?)?;
    let log = table.log;
    let mut states = [stream.take(log) as usize, stream.take(log) as usize];
    let mut count = 0;
    // One weight is missing, which is not told.
    while count < weights.len() - 2 {
        stream.refill();
        let [state, other] = states;
        let cell = table.cell(state);
        *weights.get_mut(count)? = cell.base as u8;
        count += 1;
        let next = cell.next(stream.take(u32::from(cell.bits)));
        if stream.is_over() {
            // No bits for this state's next: the other one's weight is the last.
            *weights.get_mut(count)? = table.cell(other).base as u8;
            return Some(count + 1);
        }
        states = [other, next];
    }
    None
}
