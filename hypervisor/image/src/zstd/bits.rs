//! Bit streams: read from their end, as entropy-coded data is, and from their beginning, as tables are.

/// A stream whose first bit is the highest below the mark in its last byte. Reading past its beginning gives
/// meaningless bits and is found out by [`Backward::is_over`]; nothing else happens.
pub(super) struct Backward<'a> {
    data: &'a [u8],
    /// Where in `data` the eight bytes in `word` lie.
    at: usize,
    word: u64,
    /// Bits of `word`, from the top, that were taken. More than 64: too many.
    used: u32,
}

impl<'a> Backward<'a> {
    /// The bits that one [`Backward::refill`] provides at least, unless the stream ends.
    pub(super) const REFILLED: u32 = 57;

    /// `None` if there is no mark.
    pub(super) fn new(data: &'a [u8]) -> Option<Self> {
        let last = *data.last()?;
        if last == 0 {
            return None;
        }
        let mark = last.leading_zeros() + 1;
        if let Some(word) = data.last_chunk::<8>() {
            return Some(Backward {
                data,
                at: data.len() - 8,
                word: u64::from_le_bytes(*word),
                used: mark,
            });
        }
        // What is missing of eight bytes counts as taken already.
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(data) {
            *to = *from;
        }
        Some(Backward {
            data,
            at: 0,
            word: u64::from_le_bytes(word),
            used: (8 - data.len() as u32) * 8 + mark,
        })
    }

    /// Moves on so that the next [`Backward::REFILLED`] bits can be taken.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if self.used > 64 {
            return;
        }
        let back = (self.used as usize >> 3).min(self.at);
        self.at = self.at.wrapping_sub(back);
        self.used = self.used.wrapping_sub(back as u32 * 8);
        if let Some(word) = self.data.get(self.at..).and_then(|d| d.first_chunk::<8>()) {
            self.word = u64::from_le_bytes(*word);
        }
    }

    /// The next `count` bits, at most 63, as a number.
    #[inline(always)]
    pub(super) fn peek(&self, count: u32) -> u64 {
        self.word.wrapping_shl(self.used) >> 1 >> (63 - (count & 63))
    }

    /// Moves behind `count` bits.
    #[inline(always)]
    pub(super) fn skip(&mut self, count: u32) {
        self.used = self.used.wrapping_add(count);
    }

    /// [`Backward::peek`], then [`Backward::skip`].
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> u64 {
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    /// Whether more was taken than there was.
    #[inline(always)]
    pub(super) fn is_over(&self) -> bool {
        self.used > 64
    }

    /// Whether everything was taken, and no more.
    pub(super) fn is_used_up(&self) -> bool {
        self.at == 0 && self.used == 64
    }
}

/// A stream whose first bit is the lowest of its first byte.
pub(super) struct Forward<'a> {
    data: &'a [u8],
    /// In bits.
    at: usize,
}

impl<'a> Forward<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Forward { data, at: 0 }
    }

    /// The next `count` bits, at most 16; those behind the end are zero.
    pub(super) fn peek(&self, count: u32) -> u32 {
        let mut word = [0; 4];
        let from = self.data.get(self.at / 8..).unwrap_or_default();
        for (to, from) in word.iter_mut().zip(from) {
            *to = *from;
        }
        u32::from_le_bytes(word) >> (self.at % 8) & ((1 << count) - 1)
    }

    /// Moves behind `count` bits.
    pub(super) fn skip(&mut self, count: u32) {
        self.at += count as usize;
    }

    /// Bytes of which some bit was passed; `None` beyond the end.
    pub(super) fn bytes(&self) -> Option<usize> {
        let bytes = self.at.div_ceil(8);
        (bytes <= self.data.len()).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_from_its_mark_down_to_its_first_bit() {
        for len in 1..20usize {
            let mut data: alloc::vec::Vec<u8> = (0..len as u8).map(|i| i ^ 0xa5).collect();
            data[len - 1] = 0b0010_1101;
            let mut stream = Backward::new(&data).unwrap();
            assert_eq!(stream.take(5), 0b01101);
            for byte in data[..len - 1].iter().rev() {
                stream.refill();
                assert_eq!(stream.take(3), u64::from(byte >> 5));
                assert!(!stream.is_over() && !stream.is_used_up());
                assert_eq!(stream.take(5), u64::from(byte & 31));
            }
            stream.refill();
            assert!(stream.is_used_up() && !stream.is_over());
            stream.take(1);
            stream.refill();
            assert!(stream.is_over() && !stream.is_used_up());
        }
        assert!(Backward::new(&[1, 0]).is_none() && Backward::new(&[]).is_none());
    }

    #[test]
    fn a_forward_stream_ends_in_zeroes_and_says_so() {
        let mut stream = Forward::new(&[0x5a, 0xff]);
        assert_eq!(stream.peek(4), 0xa);
        stream.skip(4);
        assert_eq!(stream.peek(8), 0xf5);
        stream.skip(11);
        assert_eq!((stream.peek(4), stream.bytes()), (1, Some(2)));
        stream.skip(2);
        assert_eq!(stream.bytes(), None);
    }
}
