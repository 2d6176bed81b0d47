//! The second part of a block: sequences, each so many literals and then a copy of what came before.

use super::bits::Backward;
use super::fse::{Distribution, Table, Tables};
use super::window::Window;
use super::{DAMAGED, EARLY};
use crate::ImageError;

/// One kind of symbol: how many there are, the most states a table may have, and the distribution known in advance.
struct Kind {
    symbols: usize,
    max_log: u32,
    known: &'static [i8],
    known_log: u32,
    meaning: fn(u8) -> (u32, u8),
}

const LITERAL_LENGTHS: Kind = Kind {
    symbols: 36,
    max_log: 9,
    known: &[
        4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1,
        1, 1, -1, -1, -1, -1,
    ],
    known_log: 6,
    meaning: |symbol| length(symbol, 16, 0, &LITERAL_LENGTH_BITS),
};

const OFFSETS: Kind = Kind {
    symbols: 32,
    max_log: 8,
    known: &[
        1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
    ],
    known_log: 5,
    meaning: |symbol| (1 << (symbol & 31), symbol & 31),
};

const MATCH_LENGTHS: Kind = Kind {
    symbols: 53,
    max_log: 9,
    known: &[
        1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ],
    known_log: 6,
    meaning: |symbol| length(symbol, 32, 3, &MATCH_LENGTH_BITS),
};

/// Extra bits of the symbols that stand for more than one length; each range follows the one before.
const LITERAL_LENGTH_BITS: [u8; 20] = [
    1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
];
const MATCH_LENGTH_BITS: [u8; 21] = [
    1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
];

/// A length symbol's least value and extra bits: the first `plain` symbols stand for one length each, the first of
/// them for `least`.
fn length(symbol: u8, plain: u8, least: u32, bits: &[u8]) -> (u32, u8) {
    let Some(index) = symbol.checked_sub(plain) else {
        return (u32::from(symbol) + least, 0);
    };
    let index = usize::from(index).min(bits.len() - 1);
    let before: u32 = bits.iter().take(index).map(|bits| 1 << bits).sum();
    let extra = bits.get(index).copied().unwrap_or(0);
    (u32::from(plain) + least + before, extra)
}

/// Brings a table up to date as the block says; returns what of `data` follows.
fn table<'a, const N: usize>(
    table: &mut Table<N>,
    kind: &Kind,
    mode: u8,
    data: &'a [u8],
) -> Option<&'a [u8]> {
    match mode {
        0 => {
            let known = Distribution::known(kind.known, kind.known_log);
            table.make(&known, kind.meaning)?;
            Some(data)
        }
        1 => {
            let (symbol, rest) = data.split_first()?;
            if usize::from(*symbol) >= kind.symbols {
                return None;
            }
            table.make_constant((kind.meaning)(*symbol));
            Some(rest)
        }
        2 => {
            // A failure on the way leaves no table that could be taken for a good one.
            table.is_made = false;
            let (distribution, read) = Distribution::read(data, kind.symbols, kind.max_log)?;
            table.make(&distribution, kind.meaning)?;
            data.get(read..)
        }
        _ => table.is_made.then_some(data),
    }
}

/// Reads the number of sequences; returns what of `data` follows too.
fn count(data: &[u8]) -> Option<(usize, &[u8])> {
    match *data {
        [first @ 0..128, ref rest @ ..] => Some((usize::from(first), rest)),
        [255, low, high, ref rest @ ..] => {
            Some((usize::from(u16::from_le_bytes([low, high])) + 0x7f00, rest))
        }
        [255, ..] => None,
        [first, low, ref rest @ ..] => {
            Some((usize::from(first - 128) << 8 | usize::from(low), rest))
        }
        _ => None,
    }
}

/// Carries out a block's sequences, and puts the literals that remain behind them.
pub(super) fn execute(
    data: &[u8],
    window: &mut Window<'_>,
    tables: &mut Tables,
) -> Result<(), ImageError> {
    let (count, rest) = count(data).ok_or(EARLY)?;
    if count == 0 {
        if !rest.is_empty() {
            return Err(DAMAGED);
        }
        return window.literals_that_remain();
    }
    let (modes, rest) = rest.split_first().ok_or(EARLY)?;
    if modes & 3 != 0 {
        return Err(DAMAGED);
    }
    let lengths = &mut tables.literal_lengths;
    let stream = table(lengths, &LITERAL_LENGTHS, modes >> 6, rest)
        .and_then(|rest| table(&mut tables.offsets, &OFFSETS, modes >> 4 & 3, rest))
        .and_then(|rest| {
            let lengths = &mut tables.match_lengths;
            table(lengths, &MATCH_LENGTHS, modes >> 2 & 3, rest)
        })
        .and_then(Backward::new)
        .ok_or(DAMAGED)?;
    run(stream, count, window, tables)?;
    window.literals_that_remain()
}

fn run(
    mut stream: Backward<'_>,
    count: usize,
    window: &mut Window<'_>,
    tables: &mut Tables,
) -> Result<(), ImageError> {
    /// Bits for the three next states, at most.
    const STATES: u32 = 9 + 9 + 8;
    let mut recent = tables.recent;
    let mut literal_state = stream.take(tables.literal_lengths.log) as usize;
    let mut offset_state = stream.take(tables.offsets.log) as usize;
    let mut match_state = stream.take(tables.match_lengths.log) as usize;
    for left in (0..count).rev() {
        stream.refill();
        let literal = tables.literal_lengths.cell(literal_state);
        let offset = tables.offsets.cell(offset_state);
        let matched = tables.match_lengths.cell(match_state);
        let extra = |bits: u8| u32::from(bits);
        let all = extra(literal.extra) + extra(offset.extra) + extra(matched.extra);
        let offset_value = offset
            .base
            .wrapping_add(stream.take(extra(offset.extra)) as u32);
        // Rarely are there more bits than one refill provides.
        let is_long = all > Backward::REFILLED - STATES;
        if is_long {
            stream.refill();
        }
        let match_len = matched.base as usize + stream.take(extra(matched.extra)) as usize;
        let literal_len = literal.base as usize + stream.take(extra(literal.extra)) as usize;
        if is_long {
            stream.refill();
        }
        if left != 0 {
            literal_state = literal.next(stream.take(u32::from(literal.bits)));
            match_state = matched.next(stream.take(u32::from(matched.bits)));
            offset_state = offset.next(stream.take(u32::from(offset.bits)));
        }
        if stream.is_over() {
            return Err(DAMAGED);
        }
        let distance = distance(offset_value, literal_len == 0, &mut recent);
        window.sequence(literal_len, distance as usize, match_len)?;
    }
    stream.refill();
    if !stream.is_used_up() {
        return Err(DAMAGED);
    }
    tables.recent = recent;
    Ok(())
}

/// The distance that an offset's value stands for: the values 1 to 3 name recent ones, the next ones where no literals
/// come before. Zero, which no match has, where the value makes no sense.
#[inline(always)]
fn distance(value: u32, no_literals: bool, recent: &mut [u32; 3]) -> u32 {
    let [first, second, third] = *recent;
    if value > 3 {
        *recent = [value.wrapping_sub(3), first, second];
    } else {
        match value.wrapping_add(u32::from(no_literals)) {
            1 => {}
            2 => *recent = [second, first, third],
            3 => *recent = [third, first, second],
            _ => *recent = [first.wrapping_sub(1), first, second],
        }
    }
    recent[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_symbols_cover_every_length_once() {
        for (kind, least, plain) in [(&LITERAL_LENGTHS, 0, 16), (&MATCH_LENGTHS, 3, 32)] {
            let mut next = least;
            for symbol in 0..kind.symbols as u8 {
                let (base, extra) = (kind.meaning)(symbol);
                assert_eq!(base, next, "symbol {symbol}");
                assert_eq!(extra == 0, symbol < plain);
                next = base + (1 << extra);
            }
            assert_eq!(next, least + 0x2_0000);
        }
    }

    #[test]
    fn known_distributions_share_out_all_states() {
        for kind in [&LITERAL_LENGTHS, &OFFSETS, &MATCH_LENGTHS] {
            let sum: u32 = kind.known.iter().map(|c| u32::from(c.unsigned_abs())).sum();
            assert_eq!(sum, 1 << kind.known_log);
            assert!(kind.known.len() <= kind.symbols);
        }
    }

    #[test]
    fn recent_offsets_are_used_and_renewed() {
        let mut recent = [1, 4, 8];
        assert_eq!(distance(1, false, &mut recent), 1);
        assert_eq!(distance(2, false, &mut recent), 4);
        assert_eq!(recent, [4, 1, 8]);
        assert_eq!(distance(3, false, &mut recent), 8);
        assert_eq!(recent, [8, 4, 1]);
        assert_eq!(distance(13, true, &mut recent), 10);
        assert_eq!(recent, [10, 8, 4]);
        assert_eq!(distance(1, true, &mut recent), 8);
        assert_eq!(recent, [8, 10, 4]);
        assert_eq!(distance(2, true, &mut recent), 4);
        assert_eq!(recent, [4, 8, 10]);
        assert_eq!(distance(3, true, &mut recent), 3);
        assert_eq!(recent, [3, 4, 8]);
        assert_eq!(distance(3, true, &mut [1, 4, 8]), 0);
    }
}
