//! What a disk was told, in order: the log that the emulator's `blklogwrites` keeps, in the format of Linux's `dm-log-writes`.
//!
//! ```text
//!   a sector: magic, version, number of entries (u64 each), bytes of a sector (u32)
//!   and for each entry a sector: first sector, sectors, flags, 0 (u64 each); then what was written, unless it is a discard
//! ```
//!
//! # Invariants
//! - L1: an entry is believed only if all of it is there: the emulator is killed while it writes.

use anyhow::{Context as _, Result, ensure};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;

/// Flags of an entry.
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// Pieces in which a disk may have taken only some of what it was not yet made to keep; file systems take for granted that
/// their blocks are whole.
const PIECE: usize = 4096;

/// A disk's log.
pub struct Log {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// All that was written before is kept from here on.
    Flush,
    /// So many bytes of the log, from here, were written there.
    Write { at: usize, from: usize, len: usize },
    /// Nothing that is looked at changed.
    Other,
}

impl Log {
    /// Takes a log apart, up to where it is no longer whole (L1).
    ///
    /// # Errors
    /// When it is no log.
    pub fn read(bytes: Vec<u8>) -> Result<Self> {
        let start = (number(&bytes, 0), number(&bytes, 8));
        ensure!(
            start == (Some(MAGIC), Some(VERSION)),
            "the log of a disk's writes does not begin as one"
        );
        let sector = number(&bytes, 24).map(|word| word & 0xffff_ffff);
        let sector = usize::try_from(sector.context("the log ends in its head")?)?;
        ensure!(
            sector.is_power_of_two() && (512..=4096).contains(&sector),
            "the log's sectors have {sector} bytes"
        );
        let (mut entries, mut place) = (Vec::new(), sector);
        while let Some((entry, next)) = entry(&bytes, place, sector) {
            entries.push(entry);
            place = next;
        }
        Ok(Self { bytes, entries })
    }

    /// The entries that are flushes, in order.
    pub fn flushes(&self) -> Vec<usize> {
        let all = self.entries.iter().enumerate();
        all.filter(|(_, entry)| **entry == Entry::Flush)
            .map(|(number, _)| number)
            .collect()
    }

    /// How many writes there are from an entry on, up to the next flush.
    pub fn writes_from(&self, first: usize) -> usize {
        let until = self.entries.iter().skip(first);
        until
            .take_while(|entry| **entry != Entry::Flush)
            .filter(|entry| matches!(entry, Entry::Write { .. }))
            .count()
    }

    /// Does to an image what the entries say that are before `end`.
    ///
    /// # Errors
    /// When one is beyond the image.
    pub fn replay(&self, image: &mut [u8], entries: std::ops::Range<usize>) -> Result<()> {
        self.apply(image, entries, |_| true)
    }

    /// Does to an image some of what was written from an entry on up to the next flush: what a disk may have kept that was
    /// not made to. `chance` says of each piece whether it was kept.
    ///
    /// # Errors
    /// When an entry is beyond the image.
    pub fn replay_some(
        &self,
        image: &mut [u8],
        first: usize,
        mut chance: impl FnMut() -> bool,
    ) -> Result<()> {
        let flushes = self.flushes().into_iter().find(|flush| *flush >= first);
        let end = flushes.unwrap_or(self.entries.len());
        self.apply(image, first..end, |_| chance())
    }

    fn apply(
        &self,
        image: &mut [u8],
        entries: std::ops::Range<usize>,
        mut kept: impl FnMut(usize) -> bool,
    ) -> Result<()> {
        for entry in self.entries.get(entries).unwrap_or_default() {
            let Entry::Write { at, from, len } = *entry else {
                continue;
            };
            let written = self.bytes.get(from..from + len).unwrap_or_default();
            let place = image
                .get_mut(at..at + len)
                .context("something was written behind the disk's end")?;
            let mut done = 0;
            while done < len {
                // To the next boundary on the disk.
                let piece = (PIECE - (at + done) % PIECE).min(len - done);
                if kept(at + done) {
                    place[done..done + piece].copy_from_slice(&written[done..done + piece]);
                }
                done += piece;
            }
        }
        Ok(())
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// The entry at a place of the log and where the next one is, if all of it is there.
fn entry(bytes: &[u8], place: usize, sector: usize) -> Option<(Entry, usize)> {
    let [first, count, flags] = [0, 8, 16].map(|field| number(bytes, place + field));
    let (first, count, flags) = (first?, count?, flags?);
    let from = place.checked_add(sector)?;
    if flags & DISCARD != 0 {
        return Some((Entry::Other, from));
    }
    if count == 0 {
        // A head of nothing but zeros was not written yet.
        return (flags & FLUSH != 0).then_some((Entry::Flush, from));
    }
    let len = usize::try_from(count).ok()?.checked_mul(sector)?;
    let at = usize::try_from(first).ok()?.checked_mul(sector)?;
    let next = from.checked_add(len)?;
    (next <= bytes.len()).then_some((Entry::Write { at, from, len }, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTOR: usize = 512;

    fn head(numbers: [u64; 4]) -> Vec<u8> {
        let mut sector: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        sector.resize(SECTOR, 0);
        sector
    }

    fn write(first: u64, count: u64, letter: u8) -> Vec<u8> {
        let mut bytes = head([first, count, 0, 0]);
        bytes.resize(bytes.len() + SECTOR * count as usize, letter);
        bytes
    }

    fn log() -> Vec<u8> {
        [
            head([MAGIC, VERSION, 5, SECTOR as u64]),
            write(1, 2, b'a'),
            head([0, 0, FLUSH, 0]),
            head([2, 1, DISCARD, 0]),
            write(2, 16, b'b'),
            head([0, 0, FLUSH, 0]),
            write(0, 1, b'c'),
        ]
        .concat()
    }

    fn sectors(image: &[u8]) -> String {
        let firsts = image.chunks(SECTOR).map(|sector| sector[0]);
        firsts
            .map(|letter| if letter == 0 { '.' } else { char::from(letter) })
            .collect()
    }

    #[test]
    fn what_was_flushed_is_replayed_in_order() {
        let log = Log::read(log()).unwrap();
        assert_eq!(log.flushes(), [1, 4]);
        let mut image = vec![0; 20 * SECTOR];
        log.replay(&mut image, 0..1).unwrap();
        assert_eq!(sectors(&image), ".aa.................");
        log.replay(&mut image, 0..4).unwrap();
        assert_eq!(sectors(&image), ".abbbbbbbbbbbbbbbb..");
        assert!(log.replay(&mut vec![0; SECTOR], 0..4).is_err());
    }

    #[test]
    fn of_what_was_not_flushed_any_block_may_be_there() {
        let log = Log::read(log()).unwrap();
        let mut image = vec![0; 20 * SECTOR];
        // Blocks of eight sectors: 2 to 7, 8 to 15, 16 and 17.
        let mut kept = [true, false, true].into_iter();
        log.replay_some(&mut image, 2, || kept.next().unwrap())
            .unwrap();
        assert_eq!(sectors(&image), "..bbbbbb........bb..");
        assert_eq!(log.writes_from(2), 1);
        assert_eq!(log.writes_from(5), 1);
    }

    #[test]
    fn an_entry_that_is_not_whole_ends_the_log() {
        let mut torn = log();
        torn.truncate(torn.len() - 1);
        assert_eq!(Log::read(torn).unwrap().entries.len(), 5);
        let mut hole = log();
        hole.extend([0; 3 * SECTOR]);
        assert_eq!(Log::read(hole).unwrap().entries.len(), 6);
        assert!(Log::read(vec![0; 4096]).is_err());
    }
}
