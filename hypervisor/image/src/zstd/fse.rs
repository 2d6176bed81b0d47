//! Finite-state entropy: tables of states, each of which stands for a symbol and says how many bits lead to the next.

use super::bits::Forward;

/// One state.
#[derive(Clone, Copy)]
pub(super) struct Cell {
    /// The symbol's meaning: the least value it stands for.
    pub(super) base: u32,
    /// The next state, before the bits read are added.
    next: u16,
    /// Bits to read for the next state.
    pub(super) bits: u8,
    /// Bits to read that are added to `base`.
    pub(super) extra: u8,
}

impl Cell {
    const ZERO: Cell = Cell {
        base: 0,
        next: 0,
        bits: 0,
        extra: 0,
    };

    /// The state that `bits` lead to.
    #[inline(always)]
    pub(super) fn next(self, bits: u64) -> usize {
        usize::from(self.next).wrapping_add(bits as usize)
    }
}

/// A table of at most `N` states, a power of two.
pub(super) struct Table<const N: usize> {
    cells: [Cell; N],
    /// The number of states is two to the power of this.
    pub(super) log: u32,
    /// Whether it was made at all.
    pub(super) is_made: bool,
}

impl<const N: usize> Table<N> {
    pub(super) const fn new() -> Self {
        Table {
            cells: [Cell::ZERO; N],
            log: 0,
            is_made: false,
        }
    }

    /// The state of this number, which the table bounds by itself.
    #[inline(always)]
    pub(super) fn cell(&self, state: usize) -> Cell {
        self.cells[state & (N - 1)]
    }

    /// Makes it of a distribution: for each symbol the states it has, -1 for one that is rarer than that.
    /// `meaning` tells a symbol's base and extra bits.
    pub(super) fn make(
        &mut self,
        distribution: &Distribution,
        meaning: impl Fn(u8) -> (u32, u8),
    ) -> Option<()> {
        let size = 1usize << distribution.log;
        let cells = self.cells.get_mut(..size)?;
        let counts = distribution.counts.get(..distribution.symbols)?;
        let mut next = [0u16; Distribution::MAX_SYMBOLS];
        // The rare ones take the last states.
        let mut end = size;
        for ((symbol, count), next) in counts.iter().enumerate().zip(&mut next) {
            if *count < 0 {
                end = end.checked_sub(1)?;
                cells.get_mut(end)?.base = symbol as u32;
                *next = 1;
            } else {
                *next = *count as u16;
            }
        }
        // The others are spread over the rest, in steps that come by each state once.
        let (step, mut at) = ((size >> 1) + (size >> 3) + 3, 0);
        for (symbol, count) in counts.iter().enumerate() {
            for _ in 0..*count {
                cells.get_mut(at)?.base = symbol as u32;
                at = (at + step) & (size - 1);
                while at >= end {
                    at = (at + step) & (size - 1);
                }
            }
        }
        for cell in cells {
            let symbol = cell.base;
            let count = next.get_mut(symbol as usize)?;
            let bits = distribution.log.checked_sub(count.checked_ilog2()?)?;
            let (base, extra) = meaning(symbol as u8);
            *cell = Cell {
                base,
                // Below `size`, by the choice of `bits`.
                next: ((u32::from(*count) << bits) - size as u32) as u16,
                bits: bits as u8,
                extra,
            };
            *count += 1;
        }
        self.log = distribution.log;
        self.is_made = true;
        Some(())
    }

    /// Makes it of one symbol that is always the next.
    pub(super) fn make_constant(&mut self, (base, extra): (u32, u8)) {
        self.cells[0] = Cell {
            base,
            extra,
            ..Cell::ZERO
        };
        self.log = 0;
        self.is_made = true;
    }
}

/// How the states of a table are shared out.
pub(super) struct Distribution {
    counts: [i16; Self::MAX_SYMBOLS],
    symbols: usize,
    log: u32,
}

impl Distribution {
    /// More than any kind of symbol has.
    const MAX_SYMBOLS: usize = 256;

    /// A distribution known in advance.
    pub(super) fn known(counts: &[i8], log: u32) -> Self {
        let mut all = [0; Self::MAX_SYMBOLS];
        for (to, from) in all.iter_mut().zip(counts) {
            *to = i16::from(*from);
        }
        Distribution {
            counts: all,
            symbols: counts.len(),
            log,
        }
    }

    /// Reads one, of at most `max_symbols` symbols and `1 << max_log` states; also returns the bytes it takes.
    pub(super) fn read(data: &[u8], max_symbols: usize, max_log: u32) -> Option<(Self, usize)> {
        let mut stream = Forward::new(data);
        let log = stream.peek(4) + 5;
        stream.skip(4);
        if log > max_log {
            return None;
        }
        let mut read = Distribution {
            counts: [0; Self::MAX_SYMBOLS],
            symbols: 0,
            log,
        };
        let mut left = 1i32 << log;
        while left > 0 {
            let count = share(&mut stream, left);
            left -= count.abs();
            read.push(count, max_symbols)?;
            // After a symbol without states, two bits each say how many more of them follow.
            let mut more = if count == 0 { 3 } else { 0 };
            while more == 3 {
                more = stream.peek(2);
                stream.skip(2);
                for _ in 0..more {
                    read.push(0, max_symbols)?;
                }
            }
        }
        if left != 0 {
            return None;
        }
        let bytes = stream.bytes()?;
        Some((read, bytes))
    }

    fn push(&mut self, count: i32, max_symbols: usize) -> Option<()> {
        if self.symbols >= max_symbols {
            return None;
        }
        *self.counts.get_mut(self.symbols)? = count as i16;
        self.symbols += 1;
        Some(())
    }
}

/// One share of what is left: a number from 0 to `left + 1`, less one, in one bit less where that is enough.
fn share(stream: &mut Forward<'_>, left: i32) -> i32 {
    let most = left as u32 + 1;
    let bits = most.ilog2() + 1;
    let value = stream.peek(bits);
    let short = value & ((1 << (bits - 1)) - 1);
    let threshold = (1 << bits) - 1 - most;
    let value = if short < threshold {
        stream.skip(bits - 1);
        short
    } else {
        stream.skip(bits);
        if value >> (bits - 1) != 0 {
            value - threshold
        } else {
            value
        }
    };
    value as i32 - 1
}

/// The three tables of sequences.
pub(super) struct Tables {
    pub(super) literal_lengths: Table<512>,
    pub(super) offsets: Table<256>,
    pub(super) match_lengths: Table<512>,
    /// The last three offsets.
    pub(super) recent: [u32; 3],
}

impl Tables {
    pub(super) const fn new() -> Self {
        Tables {
            literal_lengths: Table::new(),
            offsets: Table::new(),
            match_lengths: Table::new(),
            recent: [0; 3],
        }
    }

    /// As at the beginning of a frame.
    pub(super) fn forget(&mut self) {
        self.literal_lengths.is_made = false;
        self.offsets.is_made = false;
        self.match_lengths.is_made = false;
        self.recent = [1, 4, 8];
    }
}
