//! The output, which is the window that matches reach back into and, at its end, where a block's literals wait.
//!
//! ```text
//!   0                at                 literals             end
//!   |  written       |  room for matches |  not yet used     |
//! ```
//!
//! Each sequence moves `at` forward by what it writes and `literals` by those it uses, so the room between them shrinks
//! by matches only. A match longer than that room would leave less output than there are literals for it: more
//! than was announced. So `at` never passes `literals`, and what is read was never overwritten.

use super::{DAMAGED, LONGER};
use crate::ImageError;

/// Bytes copied at a time.
const STEP: usize = 8;
/// Copies up to this length are done in steps here; longer ones are worth a call.
const SHORT: usize = 64;

/// The output.
pub(super) struct Window<'a> {
    out: &'a mut [u8],
    /// Where the next byte goes.
    at: usize,
    /// The next literal.
    literals: usize,
}

impl<'a> Window<'a> {
    pub(super) fn new(out: &'a mut [u8]) -> Self {
        let literals = out.len();
        Window {
            out,
            at: 0,
            literals,
        }
    }

    /// Bytes written.
    pub(super) fn written(&self) -> usize {
        self.at
    }

    /// Writes plain bytes.
    pub(super) fn append(&mut self, data: &[u8]) -> Result<(), ImageError> {
        self.next(data.len())?.copy_from_slice(data);
        Ok(())
    }

    /// Writes one byte `len` times.
    pub(super) fn fill(&mut self, byte: u8, len: usize) -> Result<(), ImageError> {
        self.next(len)?.fill(byte);
        Ok(())
    }

    fn next(&mut self, len: usize) -> Result<&mut [u8], ImageError> {
        let place = self
            .out
            .get_mut(self.at..)
            .and_then(|rest| rest.get_mut(..len))
            .ok_or(LONGER)?;
        self.at += len;
        Ok(place)
    }

    /// The place for `len` literals of a new block.
    pub(super) fn reserve(&mut self, len: usize) -> Result<&mut [u8], ImageError> {
        let start = self
            .out
            .len()
            .checked_sub(len)
            .filter(|start| *start >= self.at)
            .ok_or(LONGER)?;
        self.literals = start;
        self.out.get_mut(start..).ok_or(LONGER)
    }

    /// Moves the literals that no sequence used behind what is written.
    pub(super) fn literals_that_remain(&mut self) -> Result<(), ImageError> {
        let len = self.out.len() - self.literals;
        self.literals(len)
    }

    #[inline(always)]
    fn literals(&mut self, len: usize) -> Result<(), ImageError> {
        let end = self.literals.wrapping_add(len);
        if len > self.out.len().wrapping_sub(self.literals) {
            return Err(DAMAGED);
        }
        // Steps write beyond the end, up to a step: not into the literals.
        let is_near = self.literals.wrapping_sub(self.at) < SHORT + STEP;
        if len > SHORT || is_near || !self.steps(self.literals, len) {
            self.out.copy_within(self.literals..end, self.at);
        }
        self.at = self.at.wrapping_add(len);
        self.literals = end;
        Ok(())
    }

    /// One sequence: `literal_len` literals, then `match_len` bytes from `distance` back.
    #[inline(always)]
    pub(super) fn sequence(
        &mut self,
        literal_len: usize,
        distance: usize,
        match_len: usize,
    ) -> Result<(), ImageError> {
        self.literals(literal_len)?;
        if distance.wrapping_sub(1) >= self.at {
            return Err(DAMAGED);
        }
        let room = self.literals.wrapping_sub(self.at);
        if match_len > room {
            return Err(LONGER);
        }
        let source = self.at.wrapping_sub(distance);
        let is_far = distance >= STEP && room >= SHORT + STEP;
        if match_len > SHORT || !is_far || !self.steps(source, match_len) {
            self.copy(source, distance, match_len)?;
        }
        self.at = self.at.wrapping_add(match_len);
        Ok(())
    }

    /// Copies `len` bytes to `at`, and up to a step more, from a place at least a step before it or behind what is
    /// written. False if there is not that much to read or no room, which callers have ruled out or handle.
    #[inline(always)]
    fn steps(&mut self, source: usize, len: usize) -> bool {
        let mut done = 0;
        while done < len {
            let from = self
                .out
                .get(source.wrapping_add(done)..)
                .and_then(|out| out.first_chunk::<STEP>())
                .copied();
            let to = self
                .out
                .get_mut(self.at.wrapping_add(done)..)
                .and_then(|out| out.first_chunk_mut::<STEP>());
            let (Some(from), Some(to)) = (from, to) else {
                return false;
            };
            *to = from;
            done = done.wrapping_add(STEP);
        }
        true
    }

    /// Any other match: `source` is `at - distance`.
    #[inline(never)]
    fn copy(&mut self, source: usize, distance: usize, len: usize) -> Result<(), ImageError> {
        let (before, after) = self.out.split_at_mut_checked(self.at).ok_or(DAMAGED)?;
        let source = before.get(source..).ok_or(DAMAGED)?;
        let after = after.get_mut(..len).ok_or(LONGER)?;
        if distance >= len {
            after.copy_from_slice(source.get(..len).ok_or(DAMAGED)?);
        } else if let [byte] = *source {
            after.fill(byte);
        } else {
            // The match overlaps itself: what it has copied repeats, twice as much with each step.
            let (first, _) = after.split_at_mut_checked(distance).ok_or(DAMAGED)?;
            first.copy_from_slice(source);
            let mut done = distance;
            while done < len {
                let more = done.min(len - done);
                after.copy_within(..more, done);
                done += more;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Every length and distance gives what copying byte by byte gives, and touches nothing else.
    #[test]
    fn a_match_copies_byte_by_byte_whatever_the_way() {
        for distance in 1..100usize {
            for len in 0..140usize {
                for room in [len, len + 1, len + 7, len + 80] {
                    let mut out: Vec<u8> = (0..100 + room + 40).map(|i| (i * 7) as u8).collect();
                    let mut wanted = out.clone();
                    let mut window = Window::new(&mut out);
                    window.at = 100;
                    window.literals = 100 + room;
                    window.sequence(0, distance, len).unwrap();
                    assert_eq!(window.written(), 100 + len);
                    for i in 100..100 + len {
                        wanted[i] = wanted[i - distance];
                    }
                    assert_eq!(out[..100 + len], wanted[..100 + len], "{distance} {len}");
                    assert_eq!(out[100 + room..], wanted[100 + room..], "{distance} {len}");
                }
            }
        }
    }

    #[test]
    fn literals_move_down_over_themselves() {
        for gap in 0..90usize {
            for len in 0..100usize {
                let mut out: Vec<u8> = (0..10 + gap + 100).map(|i| (i * 3) as u8).collect();
                let before = out.clone();
                let mut window = Window::new(&mut out);
                window.at = 10;
                window.literals = 10 + gap;
                window.sequence(len, 1, 0).unwrap();
                let from = 10 + gap;
                assert_eq!(out[10..10 + len], before[from..from + len], "{gap} {len}");
                let rest = from + len;
                assert_eq!(out[rest..], before[rest..], "{gap} {len}");
            }
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let mut out = [0u8; 64];
        let mut window = Window::new(&mut out);
        assert!(window.sequence(0, 1, 1).is_err(), "nothing was written yet");
        window.append(&[1; 16]).unwrap();
        window.reserve(16).unwrap();
        assert!(window.sequence(17, 1, 0).is_err(), "17 of 16 literals");
        assert!(window.sequence(0, 17, 3).is_err() && window.sequence(0, 0, 3).is_err());
        assert!(
            window.sequence(0, 1, 33).is_err(),
            "literals would have no room"
        );
        assert!(window.sequence(0, 1, 32).is_ok());
        assert!(window.literals_that_remain().is_ok());
        assert_eq!(window.written(), 64);
        assert!(window.append(&[1]).is_err() && window.reserve(1).is_err());
    }
}
