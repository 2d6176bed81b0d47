//! The range decoder: turns bytes into binary decisions, each with an adaptive probability.
//!
//! All arithmetic here is `wrapping_` although none of it wraps on an intact stream: these lines run a thousand million
//! times during a boot, and on a damaged stream a wrapped number is only a wrong decision, which the check sum finds.

/// Below this the range is refilled with another byte.
const TOP: u32 = 1 << 24;
const PROBABILITY_BITS: u32 = 11;
/// How fast probabilities adapt.
const MOVE_BITS: u32 = 5;
/// Even odds.
pub(super) const EVEN: u16 = 1 << (PROBABILITY_BITS - 1);
/// Bytes a chunk begins with: a zero and the first code word.
const INIT_LEN: usize = 5;

/// The decoder's state over one chunk of input.
pub(super) struct RangeDecoder<'a> {
    input: &'a [u8],
    at: usize,
    range: u32,
    code: u32,
}

impl<'a> RangeDecoder<'a> {
    /// Starts a chunk; `None` if it is too short or does not begin as one must.
    pub(super) fn new(input: &'a [u8]) -> Option<Self> {
        let [0, a, b, c, d] = *input.first_chunk::<INIT_LEN>()? else {
            return None;
        };
        Some(RangeDecoder {
            input,
            at: INIT_LEN,
            range: u32::MAX,
            code: u32::from_be_bytes([a, b, c, d]),
        })
    }

    /// Whether the chunk was used up exactly, as it is by an intact stream.
    pub(super) fn finishes_cleanly(mut self) -> bool {
        self.normalize();
        self.at == self.input.len() && self.code == 0
    }

    #[inline(always)]
    fn normalize(&mut self) {
        if self.range < TOP {
            let byte = self.input.get(self.at).copied().unwrap_or(0);
            self.at = self.at.wrapping_add(1);
            self.range <<= 8;
            self.code = self.code << 8 | u32::from(byte);
        }
    }

    /// One decision.
    #[inline(always)]
    pub(super) fn bit(&mut self, probability: &mut u16) -> bool {
        self.normalize();
        let old = u32::from(*probability);
        let bound = (self.range >> PROBABILITY_BITS).wrapping_mul(old);
        // Without a branch, which no CPU could predict: all ones if the bit is 0.
        let (rest, is_zero) = self.code.overflowing_sub(bound);
        let zero = 0u32.wrapping_sub(u32::from(is_zero));
        self.range = self.range.wrapping_sub(bound);
        self.range = self
            .range
            .wrapping_add(zero & bound.wrapping_sub(self.range));
        self.code = rest.wrapping_add(zero & bound);
        // Towards 2048 for a 0, towards 31 for a 1; an arithmetic shift rounds both as the format has it.
        let away = zero & ((1 << MOVE_BITS) - 1u32).wrapping_sub(1 << PROBABILITY_BITS);
        let step = (old.wrapping_add(away) as i32 >> MOVE_BITS) as u32;
        *probability = old.wrapping_sub(step) as u16;
        !is_zero
    }

    /// As many decisions as make a leaf of the tree, which has a power of two of nodes: the first decision is the
    /// highest bit.
    #[inline(always)]
    pub(super) fn tree<const N: usize>(&mut self, tree: &mut [u16; N]) -> usize {
        let mut node = 1usize;
        while node < N {
            let bit = self.bit(&mut tree[node & (N - 1)]);
            node = node << 1 | usize::from(bit);
        }
        node.wrapping_sub(N)
    }

    /// `count` decisions of a tree that starts behind `base`, the first being the lowest bit.
    #[inline(always)]
    pub(super) fn reverse_tree<const N: usize>(
        &mut self,
        tree: &mut [u16; N],
        base: usize,
        count: u32,
    ) -> u32 {
        let mut node = 1usize;
        let mut value = 0;
        for shift in 0..count {
            let bit = self.bit(&mut tree[base.wrapping_add(node) & (N - 1)]);
            node = node << 1 | usize::from(bit);
            value |= u32::from(bit) << shift;
        }
        value
    }

    /// `count` bits at even odds, the first being the highest.
    #[inline(always)]
    pub(super) fn direct(&mut self, count: u32) -> u32 {
        let mut value = 0;
        for _ in 0..count {
            self.normalize();
            self.range >>= 1;
            let bit = self.code >= self.range;
            if bit {
                self.code = self.code.wrapping_sub(self.range);
            }
            value = value << 1 | u32::from(bit);
        }
        value
    }
}
